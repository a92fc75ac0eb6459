package command

import (
	"slices"
	"strings"
	"testing"

	"hypercache/node/store"
)

func TestABracketOfEffectsIsAppliedAsItsContent(t *testing.T) {
	fx := &Effects{}
	fx.Strings("SET", "a", "1")
	if fx.Bracket(); fx.N != 1 || string(fx.Buf[:2]) != "*3" {
		t.Errorf("one effect alone is bracketed: %q", fx.Buf)
	}
	fx.Strings("RENAME", "a", "b")
	fx.Strings("INCRBY", "b", "2")
	fx.Bracket()
	const begin, end = "*1\r\n$5\r\nMULTI\r\n", "*1\r\n$4\r\nEXEC\r\n"
	if got := string(fx.Buf); got[:len(begin)] != begin || got[len(got)-len(end):] != end {
		t.Errorf("no bracket: %q", got)
	}
	s := store.New(store.Options{}).Shard(0)
	if err := Apply(s, fx.Buf); err != nil {
		t.Fatal(err)
	}
	if r, ok := s.Peek([]byte("b")); !ok || string(r.Value()) != "3" || s.Len() != 1 {
		t.Errorf("after the effects: %q", contents(s))
	}
	var keys []string
	if !EffectKeys(fx.Buf, func(key []byte) { keys = append(keys, string(key)) }) || !slices.Equal(keys, []string{"a", "a", "b", "b"}) {
		t.Errorf("the effects change %q", keys)
	}
	for _, bad := range []string{"*1\r\n$4\r\nPING\r\n", "*2\r\n$3\r\nGE", "*1\r\n$8\r\nFLUSHALL\r\n", "x"} {
		if EffectKeys([]byte(bad), func([]byte) {}) {
			t.Errorf("%q: it is known what it changes", bad)
		}
	}
}

func TestWATCHCountsWhatEffectsWriteAndNotWhatTheyRead(t *testing.T) {
	for line, want := range map[string]string{
		"BITOP NOT a b": "a", "COPY a b REPLACE": "b", "PFMERGE a b c": "a", "SINTERSTORE a b c": "a", "ZUNIONSTORE a 2 b c": "a",
		"RENAME a b": "a b", "SET a 1": "a", "XACK a g 1-1": "", "XGROUP SETID a g 0": "", "XGROUP CREATE a g 0 ENTRIESREAD 0": "",
		"XGROUP CREATE a g 0 MKSTREAM": "a", "XSETID a 1-1": "", "XADD a 1-1 f v": "a",
	} {
		fx := &Effects{}
		fx.Command(bytesOf(strings.Fields(line))...)
		var keys []string
		if ok := EffectKeys(fx.Buf, func(key []byte) { keys = append(keys, string(key)) }); !ok || strings.Join(keys, " ") != want {
			t.Errorf("%s: %q, %v", line, keys, ok)
		}
	}
}
