package command

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"hypercache/node/command/golden/random"
)

// TestHyperLogLogsAreRedisBytes compares the values after additions and merges of random sizes, and the counts of copies,
// since Redis writes into what it counts.
func TestHyperLogLogsAreRedisBytes(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(31, 32))
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	keys := []string{"{k}1", "{k}2", "{k}3", "{k}4"}
	var requests [][]string
	for range 40 {
		requests = append(requests, append([]string{"DEL"}, keys...))
		for range 30 {
			key := random.Pick(rng, keys)
			if rng.IntN(5) == 0 {
				requests = append(requests, []string{"PFMERGE", key, random.Pick(rng, keys), random.Pick(rng, keys)}, []string{"GET", key})
				continue
			}
			words := []string{"PFADD", key}
			for range rng.IntN(1 << rng.IntN(13)) {
				words = append(words, fmt.Sprint(rng.Uint64N(1<<(4+rng.Uint64N(40)))))
			}
			requests = append(requests, words, []string{"GET", key}, []string{"COPY", key, "{k}copy", "REPLACE"},
				[]string{"PFCOUNT", "{k}copy"}, []string{"PFCOUNT", "{k}copy"}, []string{"PFCOUNT", keys[0], keys[1]},
				[]string{"PFDEBUG", "ENCODING", key}, []string{"OBJECT", "ENCODING", key})
		}
		requests = append(requests, []string{"PFDEBUG", "DECODE", keys[0]}, []string{"PFDEBUG", "GETREG", keys[0]}, []string{"GET", keys[0]})
	}
	dense := 0
	for i, want := range pipeline(t, redis, requests) {
		got := h.exec(self, bytesOf(requests[i]))
		if string(got) != string(want) {
			t.Fatalf("%.200q after %.200q: got %.1000q, redis-server says %.1000q", requests[i], requests[max(0, i-1):i], got, want)
		}
		if string(got) == "+dense\r\n" {
			dense++
		}
	}
	if dense < 10 {
		t.Errorf("only %d values were dense", dense)
	}
	h.checkReplica()
}

// TestLargeCountsAreRedisCounts goes where every register is set.
func TestLargeCountsAreRedisCounts(t *testing.T) {
	redis := startRedis(t)
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	var requests [][]string
	for i := range 300 {
		words := []string{"PFADD", "{k}1"}
		for j := range 1000 {
			words = append(words, fmt.Sprint(i, ":", j))
		}
		requests = append(requests, words)
		if i%20 == 0 {
			requests = append(requests, []string{"GET", "{k}1"}, []string{"PFCOUNT", "{k}1", "none"})
		}
	}
	for i, want := range pipeline(t, redis, requests) {
		if got := h.exec(self, bytesOf(requests[i])); string(got) != string(want) {
			t.Fatalf("%.50q: got %.100q, redis-server says %.100q", requests[i], got, want)
		}
	}
	h.checkReplica()
}

func TestHyperLogLogEffectsNameWhatChanged(t *testing.T) {
	h := newHarness(t, false)
	c := &Ctx{Events: &Events{}}
	for _, tt := range []struct{ command, effects, events string }{
		{"PFADD h a b a", "[PFADD h a b]", "new h, pfadd"},
		{"PFADD h a b", "", ""},
		{"PFADD h b c", "[PFADD h c]", "h, pfadd"},
		{"PFADD e", "[PFADD e]", "new e, pfadd"},
		{"PFADD e", "", ""},
		{"PFCOUNT h", "", ""},
		{"PFMERGE d h none e", "[PFMERGE d h e]", "keymiss keymiss new d, pfadd"},
		{"PFMERGE d h", "", "d, pfadd"},
		{"PFDEBUG TODENSE none", "", ""},
	} {
		c.Events.Reset()
		tryRun(h, c, strings.Fields(tt.command)...)
		if fx := strings.Join(readable(c.FX), ";"); fx != tt.effects {
			t.Errorf("%s has the effects %s, want %s", tt.command, fx, tt.effects)
		}
		if got := eventsText(c.Events); got != tt.events {
			t.Errorf("%s has the events %q, want %q", tt.command, got, tt.events)
		}
	}
	tryRun(h, c, "PFDEBUG", "TODENSE", "h")
	if c.FX.N != 1 {
		t.Errorf("TODENSE has %d effects", c.FX.N)
	}
	tryRun(h, c, "PFADD", "h", "x", "y", "z")
	h.checkReplica()
}

// TestCountingChangesNoValue is where we differ from Redis, which keeps the count in the value.
func TestCountingChangesNoValue(t *testing.T) {
	s := newShard()
	run(s, 0, nil, "PFADD", "h", "a", "b", "c")
	before := run(s, 0, nil, "GET", "h")
	if got := run(s, 0, nil, "PFCOUNT", "h"); got != ":3" {
		t.Errorf("counted %s", got)
	}
	if after := run(s, 0, nil, "GET", "h"); after != before {
		t.Errorf("PFCOUNT made %q of %q", after, before)
	}
}

func TestTheSelfTestPasses(t *testing.T) {
	if err := selfTestHLL(); err != nil {
		t.Error(err)
	}
}
