package cache

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strings"
	"testing"

	"hypercache/node/command"
)

// hotRound is a round that chooses alike in every run.
func hotRound() *round { return &round{rng: rand.New(rand.NewPCG(1, 2))} }

// asked sends a group n commands of a key spread over span ms, as exec does.
func asked(h *hotKeys, r *round, key string, n int, from, span int64) {
	get := command.Lookup([]byte("get"))
	for i := range n {
		now := from + span*int64(i)/int64(n)
		if h.skip--; h.skip < 0 {
			h.saw(&op{spec: get, args: [][]byte{[]byte("GET"), []byte(key)}}, now, r)
		}
	}
}

func TestRateOfAHotKeyIsEstimatedAndForgotten(t *testing.T) {
	const rate, begin = 5000, 1_700_000_000_000
	h, r := &hotKeys{}, hotRound()
	near := func(at int64, want float64) {
		t.Helper()
		list := h.report(at, 1)
		if len(list) != 1 || math.Abs(list[0].Rate-want) > want*0.15 || string(list[0].Key) != "k" || list[0].Excess != 0 {
			t.Errorf("%d s on: %+v, want %v a second", (at-begin)/1000, list, want)
		}
	}
	asked(h, r, "k", rate*5, begin, 5_000)
	near(begin+5_000, rate)
	asked(h, r, "k", rate*60, begin+5_000, 60_000)
	near(begin+65_000, rate)
	near(begin+95_000, rate/math.E)
	if list := h.report(begin+65_000+20*hotSpan, 1); len(list) != 0 {
		t.Errorf("after ten minutes without it: %+v", list)
	}
	later := int64(begin + 65_000 + 2*hotRebase*hotSpan)
	asked(h, r, "k", rate*300, later, 300_000)
	near(later+300_000, rate)
}

func TestKeysAreFoundAmongManyOthersWithinTheExcessTold(t *testing.T) {
	h, r := &hotKeys{}, hotRound()
	const begin = int64(1_700_000_000_000)
	at := begin
	for i := range 40_000 { // each second 2000 of a first key and 1000 of a second, among 8000 of others
		asked(h, r, fmt.Sprint("cold", i%20_000), 8, at, 1)
		asked(h, r, "first", 2, at, 1)
		asked(h, r, "second", 1, at, 1)
		at++
	}
	list := h.report(at, 3)
	if len(list) < 2 || string(list[0].Key) != "first" || string(list[1].Key) != "second" {
		t.Fatalf("%+v", list)
	}
	for i, want := range []float64{2000, 1000} {
		if k := list[i]; k.Rate-k.Excess > want*1.25 || k.Rate < want*0.8 {
			t.Errorf("%s: %.0f, maybe %.0f less; it is %.0f", k.Key, k.Rate, k.Excess, want)
		}
	}
	if len(h.list) > hotPerGroup {
		t.Errorf("%d keys are noted", len(h.list))
	}
}

func TestTwoKeysInTurnAreBothSeen(t *testing.T) {
	h, r := &hotKeys{}, hotRound()
	for i := range 20_000 {
		asked(h, r, []string{"a", "b"}[i%2], 1, 1_700_000_000_000+int64(i), 1)
	}
	list := h.report(1_700_000_020_000, 10)
	if len(list) != 2 || math.Abs(list[0].Rate-list[1].Rate) > 0.2*list[0].Rate {
		t.Errorf("%+v", list)
	}
}

func TestLongKeysAreNotKept(t *testing.T) {
	h, r := &hotKeys{}, hotRound()
	asked(h, r, strings.Repeat("x", maxHotKey+1), 1000, 1_700_000_000_000, 1000)
	if len(h.list) != 0 {
		t.Errorf("%d keys are noted", len(h.list))
	}
}

func TestHOTKEYSListsTheKeysOfAllNodesThroughEachOfThem(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	var want [4]string
	for i := range want {
		want[i] = key(i%2, i)
	}
	k := c.client(c.nodes[0])
	for i, name := range want {
		k.do("MSET " + name + " v")
		for range []int{4800, 1600, 400, 20}[i] {
			k.do("GET " + name)
		}
	}
	for _, n := range c.nodes {
		reply := c.client(n).do("HOTKEYS COUNT 3")
		at := 0
		for _, name := range want[:3] {
			next := strings.Index(reply[at:], name)
			if next < 0 {
				t.Fatalf("%s: %q, in this order %q", n.id, reply, want)
			}
			at += next
		}
	}
	for _, bad := range []string{"HOTKEYS COUNT 0", "HOTKEYS COUNT x", "HOTKEYS COUNT 1001", "HOTKEYS COUNT", "HOTKEYS NUMBER 1"} {
		if reply := k.do(bad); !strings.HasPrefix(strings.TrimPrefix(reply, "-"), "ERR") {
			t.Errorf("%s: %s", bad, reply)
		}
	}
}

// BenchmarkHotKeys is what a command pays for being counted.
func BenchmarkHotKeys(b *testing.B) {
	get := command.Lookup([]byte("get"))
	var keys [1000]*op
	for i := range keys {
		keys[i] = &op{spec: get, args: [][]byte{[]byte("GET"), fmt.Appendf(nil, "key:%d", i)}}
	}
	h, r := &hotKeys{}, hotRound()
	for i := range b.N {
		if h.skip--; h.skip < 0 {
			h.saw(keys[i%1000], 1_700_000_000_000+int64(i>>10), r)
		}
	}
}
