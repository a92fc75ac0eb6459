package command

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"
)

// TestNodesOfStreamsEndWhereRedisEndsThem grows long streams of words of all sizes, and compares what depends on the nodes: the
// radix tree in XINFO STREAM, and what approximate trimming leaves.
func TestNodesOfStreamsEndWhereRedisEndsThem(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(11, 12))
	word := func() string {
		switch rng.IntN(4) {
		case 0:
			return randomString(rng, "abcxyz\x00\xff", 80)
		case 1:
			return strconv.FormatInt(int64(rng.Uint64()>>rng.IntN(64)), 10)
		case 2:
			return strconv.FormatInt(-int64(rng.Uint64()>>(1+rng.IntN(63))), 10)
		}
		return randomString(rng, "0123456789-", 22)
	}
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	var requests [][]string
	for round := range 12 {
		key := "s" + strconv.Itoa(round)
		ms := uint64(1)
		for i := range 1200 {
			ms += rng.Uint64() >> (20 + rng.IntN(44))
			switch rng.IntN(60) {
			case 0:
				requests = append(requests, []string{"XTRIM", key, "MAXLEN", "~", strconv.Itoa(rng.IntN(i + 1))})
			case 1:
				requests = append(requests, []string{"XTRIM", key, "MINID", "~", strconv.FormatUint(ms-ms/16, 10)})
			case 2:
				requests = append(requests, []string{"XTRIM", key, "MAXLEN", strconv.Itoa(i)})
			case 3:
				requests = append(requests, []string{"XINFO", "STREAM", key})
			case 4:
				requests = append(requests, []string{"XREVRANGE", key, "+", "-", "COUNT", strconv.Itoa(rng.IntN(300))})
			}
			add := []string{"XADD", key, fmt.Sprintf("%d-%d", ms, i+1)}
			if round%3 == 0 {
				add = append(add, "MAXLEN", "~", "500")
				add[2], add[3], add[4], add[5] = add[3], add[4], add[5], add[2]
			}
			for f := range 1 + round%2 + rng.IntN(8)/7 {
				add = append(add, "field"+strconv.Itoa(f), word())
			}
			requests = append(requests, add)
			if rng.IntN(3) == 0 {
				requests = append(requests, []string{"XDEL", key, fmt.Sprintf("%d-%d", ms, i+1)})
			}
		}
		requests = append(requests, []string{"XINFO", "STREAM", key}, []string{"XRANGE", key, "-", "+"})
	}
	for i, want := range pipeline(t, redis, requests) {
		if got := h.exec(self, bytesOf(requests[i])); string(got) != string(want) {
			t.Fatalf("request %d, %.200q: got %.600q, redis-server says %.600q", i, requests[i], got, want)
		}
	}
	h.checkReplica()
}
