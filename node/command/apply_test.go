package command

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"hypercache/node/resp"
	"hypercache/node/store"
)

func newShard() *store.Shard { return store.New(store.Options{}).Shard(0) }

// run executes one command on a shard at a time in unix milliseconds.
func run(s *store.Shard, now int64, fx *Effects, words ...string) string {
	w := &resp.Writer{Proto: 2}
	args := bytesOf(words)
	spec, errText := Resolve(args)
	if errText != "" {
		return "-" + errText
	}
	(&Ctx{Spec: spec, Args: args, Shard: s, Now: now, W: w, FX: fx}).RunPart()
	return strings.TrimSuffix(string(w.Buf), "\r\n")
}

// readable is effects in one line each.
func readable(fx *Effects) (lines []string) {
	for _, cmd := range effectsOf(&harness{effects: fx.Buf}) {
		lines = append(lines, fmt.Sprintf("%s", cmd))
	}
	return lines
}

func TestEffectsAreAbsoluteAndMinimal(t *testing.T) {
	const now = 1_000_000
	tests := []struct {
		before, command string
		want            string // separated by ;
	}{
		{"", "SET k v", "[SET k v]"},
		{"", "SET k v EX 10", "[SET k v PXAT 1010000]"},
		{"", "SETEX k 10 v", "[SET k v PXAT 1010000]"},
		{"", "PSETEX k 10 v", "[SET k v PXAT 1000010]"},
		{"SET k v PX 5", "SET k w KEEPTTL", "[SET k w KEEPTTL]"},
		{"SET k v", "SET k w KEEPTTL", "[SET k w]"},
		{"SET k v", "SET k w NX", ""},
		{"", "SET k w XX GET", ""},
		{"SET k v PXAT 999999", "SET k w NX", "[DEL k];[SET k w]"},
		{"SET k v PXAT 999999", "SET k w XX", "[DEL k]"},
		{"SET k 1 PXAT 999999", "INCR k", "[DEL k];[INCRBY k 1]"},
		{"SET k v PXAT 1000000", "APPEND k x", "[DEL k];[SET k x]"},
		{"SET k v PXAT 1000001", "APPEND k x", "[APPEND k x]"},
		{"SET k v PXAT 999999", "GET k", ""},
		{"SET k v PXAT 999999", "DEL k", "[DEL k]"},
		{"SET k v", "DEL k k z", "[DEL k]"},
		{"SET k v", "GETDEL k", "[DEL k]"},
		{"SET k v", "GETEX k PX 100", "[PEXPIREAT k 1000100]"},
		{"SET k v", "GETEX k PXAT 999999", "[DEL k]"},
		{"SET k v", "GETEX k PERSIST", ""},
		{"SET k v PX 10", "GETEX k PERSIST", "[PERSIST k]"},
		{"SET k v PX 10", "PERSIST k", "[PERSIST k]"},
		{"SET k v", "EXPIRE k 10", "[PEXPIREAT k 1010000]"},
		{"SET k v", "EXPIRE k -10", "[DEL k]"},
		{"SET k v", "EXPIRE k 10 XX", ""},
		{"SET k 5", "DECRBY k 3", "[INCRBY k -3]"},
		{"SET k x", "INCR k", ""},
		{"SET k 1.5 PX 10", "INCRBYFLOAT k 1", "[SET k 2.5 KEEPTTL]"},
		{"", "INCRBYFLOAT k 1", "[SET k 1]"},
		{"SET k abc", "SETRANGE k 1 X", "[SETRANGE k 1 X]"},
		{"SET k abc", "SETRANGE k 1 ", ""},
		{"SET k v PX 10", "RENAME k z", "[RENAME k z]"},
		{"SET k v", "RENAME k k", ""},
		{"SET k v", "COPY k z", "[COPY k z REPLACE]"},
		{"", "MSET a 1 b 2", "[SET a 1];[SET b 2]"},
		{"SET b 1", "MSETNX a 1 b 2", ""},
		{"MSET a 1", "FLUSHALL", "[DEL a]"},
	}
	for _, tt := range tests {
		s := newShard()
		if tt.before != "" {
			run(s, now, nil, strings.Split(tt.before, " ")...)
		}
		fx := &Effects{}
		run(s, now, fx, strings.Split(tt.command, " ")...)
		if got := strings.Join(readable(fx), ";"); got != tt.want {
			t.Errorf("%s; %s: effects %s, want %s", tt.before, tt.command, got, tt.want)
		}
		if got := len(readable(fx)); got != fx.N {
			t.Errorf("%s: N is %d, there are %d", tt.command, fx.N, got)
		}
	}
}

func TestFlushNamesItsKeysInChunks(t *testing.T) {
	s, replica := newShard(), newShard()
	for i := range 2*flushChunk + 3 {
		run(s, 0, nil, "SET", fmt.Sprint(i), "x")
		run(replica, 0, nil, "SET", fmt.Sprint(i), "x")
	}
	run(replica, 0, nil, "SET", "other", "x")
	fx := &Effects{}
	run(s, 0, fx, "FLUSHALL")
	if fx.N != 3 || s.Len() != 0 {
		t.Errorf("%d effects and %d keys left, want 3 and 0", fx.N, s.Len())
	}
	if err := Apply(replica, fx.Buf); err != nil {
		t.Fatal(err)
	}
	if got := contents(replica); len(got) != 1 {
		t.Errorf("the replica has %q, want the other key alone", got)
	}
}

func TestEncodeEntryRestoresTheEntry(t *testing.T) {
	s, copied := newShard(), newShard()
	for i, v := range []string{"", "a", "\x00\r\n", "12345", strings.Repeat("x", 100000)} {
		run(s, 0, nil, "SET", fmt.Sprint("k", i), v)
		run(s, 0, nil, "SET", fmt.Sprint("t", i), v, "PXAT", fmt.Sprint(1000+i))
	}
	run(s, 0, nil, "SET", "", "empty key")
	fx := &Effects{}
	s.Range(func(r store.Ref) bool { EncodeEntry(fx, r, func() {}); return true })
	if err := Apply(copied, fx.Buf); err != nil {
		t.Fatal(err)
	}
	if got, want := contents(copied), contents(s); !slices.Equal(got, want) {
		t.Errorf("got %.300q, want %.300q", got, want)
	}
}

func TestApplyRefusesWhatEffectsNeverSay(t *testing.T) {
	cmd := func(words ...string) string {
		fx := &Effects{}
		fx.Strings(words...)
		return string(fx.Buf)
	}
	bad := map[string]string{
		"inline":              "SET k v\r\n",
		"empty array":         "*0\r\n",
		"null array":          "*-1\r\n",
		"name alone":          cmd("SET"),
		"read":                cmd("GET", "k"),
		"lower case":          cmd("set", "k", "v"),
		"unknown":             cmd("FLUSHALL", "x"),
		"relative time":       cmd("SET", "k", "v", "EX", "10"),
		"time zero":           cmd("SET", "k", "v", "PXAT", "0"),
		"negative time":       cmd("PEXPIREAT", "k", "-1"),
		"no number":           cmd("INCRBY", "k", "x"),
		"too many":            cmd("SET", "k", "v", "PXAT", "1", "NX"),
		"negative offset":     cmd("SETRANGE", "k", "-1", "x"),
		"offset out of range": cmd("SETRANGE", "k", "536870912", "x"),
		"rename of nothing":   cmd("RENAME", "k", "z"),
		"increment of text":   cmd("SET", "k", "x") + cmd("INCRBY", "k", "1"),
		"overflow":            cmd("SET", "k", "9223372036854775807") + cmd("INCRBY", "k", "1"),
		"leading zero":        "*2\r\n$03\r\nDEL\r\n$1\r\nk\r\n",
		"plus sign":           "*2\r\n$+3\r\nDEL\r\n$1\r\nk\r\n",
		"no carriage return":  "*2\n$3\nDEL\n$1\nk\n",
		"long bulk":           "*2\r\n$3\r\nDEL\r\n$2\r\nk\r\n",
		"short bulk":          "*2\r\n$3\r\nDEL\r\n$1\r\nkk\r\n",
		"huge bulk":           "*2\r\n$3\r\nDEL\r\n$99999999999\r\nk\r\n",
		"huge array":          "*9999999999\r\n$3\r\nDEL\r\n$1\r\nk\r\n",
		"nested":              "*2\r\n$3\r\nDEL\r\n*1\r\n$1\r\nk\r\n",
	}
	for name, b := range bad {
		if err := Apply(newShard(), []byte(b)); !errors.Is(err, ErrEffects) {
			t.Errorf("%s: %v", name, err)
		}
	}
	whole := cmd("SET", "k", "v") + cmd("DEL", "a", "b", "k")
	first := len(cmd("SET", "k", "v"))
	for n := range len(whole) {
		s := newShard()
		err := Apply(s, []byte(whole[:n]))
		if torn := n != 0 && n != first; (err != nil) != torn {
			t.Errorf("%d bytes of %d: %v", n, len(whole), err)
		}
		if n > first && s.Len() != 1 {
			t.Errorf("%d bytes of %d: a torn DEL was carried out", n, len(whole))
		}
	}
}

func FuzzApply(f *testing.F) {
	fx := &Effects{}
	fx.Strings("SET", "k", "v", "PXAT", "1000")
	fx.Strings("INCRBY", "n", "5")
	fx.Strings("APPEND", "k", "x")
	fx.Strings("SETRANGE", "k", "3", "yz")
	fx.Strings("COPY", "k", "c", "REPLACE")
	fx.Strings("RENAME", "c", "d")
	fx.Strings("DEL", "k", "d")
	f.Add(fx.Buf)
	f.Add([]byte("*9223372036854775807\r\n"))
	f.Add([]byte("*1\r\n$9223372036854775807\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if strings.Contains(string(b), "SETRANGE") && len(b) < 1<<16 && strings.ContainsAny(string(b), "123456789") {
			return // a valid offset of half a gigabyte is slow, not wrong
		}
		if err := Apply(newShard(), b); err != nil && !errors.Is(err, ErrEffects) {
			t.Errorf("%q: %v", b, err)
		}
	})
}

func TestApplyAllocatesNothing(t *testing.T) {
	s := newShard()
	fx := &Effects{}
	for _, c := range []string{"SET key value", "SET key value PXAT 99999999999999", "PEXPIREAT key 99999999999998", "SET n 5",
		"INCRBY n 7", "DEL nothing"} {
		fx.Strings(strings.Split(c, " ")...)
	}
	if err := Apply(s, fx.Buf); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(1000, func() { _ = Apply(s, fx.Buf) }); n > applyStoreAllocs(t) {
		t.Errorf("%v allocations", n)
	}
}

// applyStoreAllocs is what the store itself allocates for the same changes.
func applyStoreAllocs(t *testing.T) float64 {
	s := newShard()
	key, value, n, five, twelve := []byte("key"), []byte("value"), []byte("n"), []byte("5"), []byte("12")
	return testing.AllocsPerRun(1000, func() {
		s.Set(key, value, 0)
		s.Set(key, value, 99999999999999)
		s.SetExpire(key, 99999999999998)
		s.Set(n, five, 0)
		s.Peek(n)
		s.Set(n, twelve, 0)
		s.Delete([]byte("nothing"))
	})
}
