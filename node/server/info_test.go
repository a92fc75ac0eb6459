package server

import (
	"log/slog"
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
	} {
		args = append(args, []byte(word))
	}
	spec, _ := command.Resolve(args)
	w := &resp.Writer{}
	(&command.ConnCtx{Spec: spec, Args: args, W: w, Server: s}).Run()
	want := store.Limits{HashEntries: 1, HashValue: 2, SetEntries: 3, ZSetEntries: 4, ZSetValue: 5, ListSize: -5}
	if got := s.db.Limits(); got != want {
		t.Errorf("%+v after %s, want %+v", got, w.Buf, want)
	}
}
