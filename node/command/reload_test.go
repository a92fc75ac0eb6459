package command

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden/random"
	"hypercache/node/resp"
	"hypercache/node/store"
)

// reloads asks a harness for all pieces and returns the last reply and how many there were.
func (h *harness) reloads(self *testConn, name string) (reply string, pieces int) {
	for cursor := "0"; ; {
		reply = string(h.exec(self, bytesOf([]string{"DEBUG", name, cursor})))
		pieces++
		if reply[0] != ':' || reply == ":0\r\n" {
			return reply, pieces
		}
		cursor = strings.TrimSpace(reply[1:])
	}
}

// TestRandomValuesSurviveTheDisk, in both forms.
func TestRandomValuesSurviveTheDisk(t *testing.T) {
	rng := rand.New(rand.NewPCG(21, 22))
	for range 20 {
		h := newHarness(t, false)
		self := h.open(1, "a", "b")
		for range 500 {
			h.exec(self, random.Request(rng))
		}
		h.exec(self, bytesOf(strings.Fields("XGROUP CREATE stream g 0 MKSTREAM")))
		h.exec(self, bytesOf(strings.Fields("XADD stream 5-1 f v")))
		h.exec(self, bytesOf(strings.Fields("XREADGROUP GROUP g c STREAMS stream >")))
		for _, name := range []string{"RELOAD", "LOADAOF"} {
			if got, _ := h.reloads(self, name); got != ":0\r\n" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
}

// TestPiecesOfAReloadAreSmall and together have every key, but for those that expired.
func TestPiecesOfAReloadAreSmall(t *testing.T) {
	for size, most := range map[int]int{1: reloadKeys + 4*reloadStep, 100_000: 4 * reloadStep} {
		h := newHarness(t, false)
		self := h.open(1, "a", "b")
		value := strings.Repeat("v", size)
		const keys = 300
		for i := range keys {
			h.exec(self, bytesOf([]string{"SET", "k" + strconv.Itoa(i), value}))
		}
		h.exec(self, bytesOf([]string{"SET", "expired", "v", "PXAT", "1"}))
		seen := map[string]bool{}
		look := reloadPart("TEST", func(entries []store.Ref, into *store.Shard) error {
			if len(entries) > most {
				t.Errorf("a piece of %d keys of %d bytes", len(entries), size)
			}
			for _, r := range entries {
				seen[string(r.Key())] = true
			}
			return throughRDB(entries, into)
		})
		pieces := 0
		for cursor := "0"; pieces == 0 || cursor != "0"; pieces++ {
			c := Ctx{Args: bytesOf([]string{"DEBUG", "TEST", cursor}), Shard: h.shard, Now: h.now(), W: &resp.Writer{Proto: 2}}
			look(&c)
			cursor = strings.TrimSpace(string(c.W.Buf[1:]))
		}
		if len(seen) != keys || seen["expired"] {
			t.Errorf("%d of %d keys were looked at, the expired one: %t", len(seen), keys, seen["expired"])
		}
		if pieces < keys/most {
			t.Errorf("%d pieces", pieces)
		}
	}
}

// TestAReloadNamesTheKeyThatComesBackDifferent and says what about it is.
func TestAReloadNamesTheKeyThatComesBackDifferent(t *testing.T) {
	for _, tt := range []struct {
		lose func(into *store.Shard)
		want string
	}{
		{func(*store.Shard) {}, ""},
		{func(s *store.Shard) { s.Delete([]byte("b")) }, `key "b" came back different: it is missing`},
		{func(s *store.Shard) {
			l := s.NewList([]byte("b"))
			l.Insert(0, []byte("x"))
		}, `key "b" came back different: its type was string and is list`},
		{func(s *store.Shard) { s.SetExpire([]byte("b"), 77) },
			`key "b" came back different: it expired at 0 and does at 77 (unix ms, 0 for never)`},
		{func(s *store.Shard) { s.Set([]byte("b"), []byte("2"), 0) }, `key "b" came back different: its DIGEST-VALUE was `},
		{func(s *store.Shard) {
			r, _ := s.Peek([]byte("c"))
			st := r.Stream()
			st.NewGroup([]byte("g"), store.StreamID{}, 0)
		}, `key "c" came back different: its entries are the same, its last id or its groups are not`},
	} {
		for name, way := range map[string]passage{"RDB": throughRDB, "log": throughLog} {
			h := newHarness(t, false)
			self := h.open(1, "a", "b")
			for _, line := range []string{"SET a 1", "SET b 1", "XADD c 1-1 f v"} {
				h.exec(self, bytesOf(strings.Fields(line)))
			}
			var entries []store.Ref
			h.shard.Range(func(r store.Ref) bool { entries = append(entries, r); return true })
			err := survive(entries, func(entries []store.Ref, into *store.Shard) error {
				err := way(entries, into)
				tt.lose(into)
				return err
			})
			got := fmt.Sprint(err)
			if tt.want == "" && err != nil || !strings.HasPrefix(got, tt.want) {
				t.Errorf("%s: %s, want %s", name, got, tt.want)
			}
		}
	}
}
