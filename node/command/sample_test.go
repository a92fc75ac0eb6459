package command

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden"
)

// texts are the elements of an array of bulk strings.
func texts(t *testing.T, reply []byte) []string {
	t.Helper()
	var out []string
	for _, e := range golden.Elements(reply) {
		_, body, ok := strings.Cut(string(e), "\r\n")
		if !ok || e[0] != '$' {
			t.Fatalf("no bulk string: %q", e)
		}
		out = append(out, strings.TrimSuffix(body, "\r\n"))
	}
	return out
}

// sampled is a harness with a set and a hash of n elements, 0 to n-1.
func sampled(t *testing.T, n int) (h *harness, do func(line string) []byte) {
	h = newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	do = func(line string) []byte { return h.exec(self, bytesOf(strings.Fields(line))) }
	for i := range n {
		do(fmt.Sprintf("SADD set %d", i))
		do(fmt.Sprintf("HSET hash %d v%d", i, i))
	}
	return h, do
}

func distinct(list []string) int {
	list = slices.Clone(list)
	slices.Sort(list)
	return len(slices.Compact(list))
}

func TestSamplesHoldDistinctElementsAndEveryOneHasItsChance(t *testing.T) {
	_, do := sampled(t, 20)
	for _, request := range []string{"SRANDMEMBER set 3", "SRANDMEMBER set 15", "HRANDFIELD hash 3", "HRANDFIELD hash 15"} {
		n, _ := strconv.Atoi(strings.Fields(request)[2])
		seen := map[string]int{}
		for range 1000 {
			got := texts(t, do(request))
			if len(got) != n || distinct(got) != n {
				t.Fatalf("%s: %q", request, got)
			}
			for _, e := range got {
				seen[e]++
			}
		}
		want := 1000 * n / 20
		for i := range 20 {
			if k := seen[strconv.Itoa(i)]; k < want*2/3 || k > want*4/3 {
				t.Errorf("%s: %d came %d times in 1000, not about %d", request, i, k, want)
			}
		}
	}
}

func TestSamplesWithRepetitionHaveTheAskedLength(t *testing.T) {
	_, do := sampled(t, 5)
	for _, request := range []string{"SRANDMEMBER set -50", "HRANDFIELD hash -50"} {
		if got := texts(t, do(request)); len(got) != 50 || distinct(got) != 5 {
			t.Errorf("%s: %q", request, got)
		}
	}
	got := texts(t, do("HRANDFIELD hash -50 WITHVALUES"))
	if len(got) != 100 {
		t.Fatalf("%q", got)
	}
	for i := 0; i < len(got); i += 2 {
		if got[i+1] != "v"+got[i] {
			t.Errorf("the field %s came with %s", got[i], got[i+1])
		}
	}
}

func TestSamplesAreBounded(t *testing.T) {
	h, do := sampled(t, 3)
	do("HSET big f v")
	if got := do("SRANDMEMBER set -9223372036854775807"); string(got) != "-"+errTooMany+"\r\n" {
		t.Errorf("%.60q", got)
	}
	self := h.open(2, "a", "b")
	h.exec(self, [][]byte{[]byte("HSET"), []byte("big"), []byte("f"), make([]byte, 1<<20)})
	if got := do("HRANDFIELD big -1000 WITHVALUES"); string(got) != "-"+errTooMany+"\r\n" {
		t.Errorf("%.60q", got)
	}
}

func TestPoppedMembersAreGoneHereAndOnTheReplica(t *testing.T) {
	for _, request := range []string{"SPOP set", "SPOP set 1", "SPOP set 3", "SPOP set 9", "SPOP set 50"} {
		h, do := sampled(t, 20)
		left := map[string]bool{}
		for i := range 20 {
			left[strconv.Itoa(i)] = true
		}
		for len(left) > 0 {
			var popped []string
			if reply := do(request); reply[0] == '$' {
				popped = texts(t, append([]byte("*1\r\n"), reply...))
			} else {
				popped = texts(t, reply)
			}
			if len(popped) == 0 {
				t.Fatalf("%s: nothing came while %d members are left", request, len(left))
			}
			for _, member := range popped {
				if !left[member] {
					t.Fatalf("%s: %s came, which is no member", request, member)
				}
				delete(left, member)
			}
			if got := string(do("SCARD set")); got != fmt.Sprintf(":%d\r\n", len(left)) {
				t.Fatalf("%s: SCARD %q, want %d", request, got, len(left))
			}
			h.checkReplica()
		}
		if got := string(do("EXISTS set")); got != ":0\r\n" {
			t.Errorf("%s: the empty set stays", request)
		}
		for _, effect := range effectsOf(h) {
			if name := string(effect[0]); name == "SPOP" {
				t.Errorf("the effect %q depends on chance", effect)
			}
		}
	}
}

func TestLongWritesHaveShortEffects(t *testing.T) {
	h := newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	many := func(words ...string) {
		for i := range 5000 {
			words = append(words, strconv.Itoa(i))
		}
		if reply := h.exec(self, bytesOf(words)); reply[0] == '-' {
			t.Fatalf("%s: %s", words[0], reply)
		}
		h.checkReplica()
	}
	many("SADD", "s")
	many("HSET", "h")
	many("SUNIONSTORE", "d", "s", "s")
	many("HDEL", "h", "x", "y")
	many("SREM", "s", "x")
	many("SADD", "s")
	for _, effect := range effectsOf(h) {
		if len(effect) > 1000 {
			t.Errorf("%s has %d words", effect[0], len(effect))
		}
	}
}
