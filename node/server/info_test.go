package server

import (
	"log/slog"
	"strings"
	"testing"

	"hypercache/node/cache"
	"hypercache/node/command"
	"hypercache/node/config"
	"hypercache/node/resp"
	"hypercache/node/store"
)

func TestConfigSetReachesTheLimitsOfEncodings(t *testing.T) {
	s := &Server{cfg: config.Default(), log: slog.New(slog.DiscardHandler), db: store.New(store.Options{})}
	defer s.db.Close()
	s.cache = cache.New(cache.Options{DB: s.db, Server: s})
	s.params = s.parameters()
	args := [][]byte{[]byte("CONFIG"), []byte("SET")}
	for _, word := range []string{
		"hash-max-ziplist-entries", "1", "hash-max-listpack-value", "2", "set-max-intset-entries", "3",
		"zset-max-listpack-entries", "4", "zset-max-ziplist-value", "5", "list-max-listpack-size", "-5",
		"stream-node-max-entries", "6", "stream-node-max-bytes", "7", "lfu-log-factor", "8", "lfu-decay-time", "9",
	} {
		args = append(args, []byte(word))
	}
	spec, _ := command.Resolve(args)
	w := &resp.Writer{}
	(&command.ConnCtx{Spec: spec, Args: args, W: w, Server: s}).Run()
	want := store.Limits{HashEntries: 1, HashValue: 2, SetEntries: 3, ZSetEntries: 4, ZSetValue: 5, ListSize: -5,
		StreamEntries: 6, StreamBytes: 7, LFULogFactor: 8, LFUDecay: 9}
	if got := s.db.Limits(); got != want {
		t.Errorf("%+v after %s, want %+v", got, w.Buf, want)
	}
}

// A parameter that something else decides takes the value that it has, and no other.
func TestConfigSetRefusesWhatItCannotDo(t *testing.T) {
	s := &Server{cfg: config.Default(), log: slog.New(slog.DiscardHandler), db: store.New(store.Options{})}
	defer s.db.Close()
	s.cache = cache.New(cache.Options{DB: s.db, Server: s})
	s.params = s.parameters()
	say := func(words ...string) string {
		var args [][]byte
		for _, word := range words {
			args = append(args, []byte(word))
		}
		spec, _ := command.Resolve(args)
		w := &resp.Writer{}
		(&command.ConnCtx{Spec: spec, Args: args, W: w, Server: s}).Run()
		return string(w.Buf)
	}
	for name, other := range map[string]string{"min-replicas-to-write": "1", "save": "900 1", "protected-mode": "yes",
		"appendfsync": "always", "loglevel": "debug", "cluster-announce-ip": "192.0.2.1"} {
		now := s.params.Get(name)
		if got := say("CONFIG", "SET", name, now); got != "+OK\r\n" {
			t.Errorf("CONFIG SET %s %q, as it is: %s", name, now, got)
		}
		got := say("CONFIG", "SET", "hash-max-listpack-entries", "77", name, other)
		if !strings.HasPrefix(got, "-ERR CONFIG SET failed (possibly related to argument '"+name+"') - it is ") || s.params.Get(name) != now {
			t.Errorf("CONFIG SET %s %q: %s, and CONFIG GET says %q", name, other, got, s.params.Get(name))
		}
		if s.db.Limits().HashEntries != 512 {
			t.Errorf("CONFIG SET %s was refused, and another parameter set with it was not", name)
		}
	}
}
