package command

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"testing"

	"hypercache/node/store"
)

// TestStreamNodeLimitsAreRedis compares what approximate trimming leaves with redis-server, under other sizes of a stream's nodes.
func TestStreamNodeLimitsAreRedis(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(1, 2))
	for _, limits := range [][2]int{{100, 4096}, {7, 4096}, {1, 0}, {0, 300}, {0, 0}, {1000, 200_000}, {1000, 64}} {
		l := store.DefaultLimits()
		l.StreamEntries, l.StreamBytes = limits[0], limits[1]
		h := newHarness(t, false)
		h.shard = store.New(store.Options{Limits: l}).Shard(0)
		self := h.open(1, "a", "b")
		requests := [][][]byte{bytesOf([]string{"FLUSHALL"}),
			bytesOf([]string{"CONFIG", "SET", "stream-node-max-entries", strconv.Itoa(limits[0]), "stream-node-max-bytes", strconv.Itoa(limits[1])})}
		skip := len(requests)
		say := func(args ...string) { requests = append(requests, bytesOf(args)) }
		for i := range 2500 {
			say("XADD", "s", fmt.Sprintf("%d-1", i+1), "field", strconv.Itoa(rng.IntN(1_000_000)))
			switch rng.IntN(60) {
			case 0:
				say("XTRIM", "s", "MAXLEN", "~", strconv.Itoa(rng.IntN(i+1)))
			case 1:
				say("XTRIM", "s", "MINID", "~", strconv.Itoa(rng.IntN(i+1)))
			case 2:
				say("XTRIM", "s", "MAXLEN", "~", strconv.Itoa(rng.IntN(i+1)), "LIMIT", strconv.Itoa(rng.IntN(200)))
			case 3:
				say("XDEL", "s", fmt.Sprintf("%d-1", rng.IntN(i+1)))
			case 4:
				say("XREVRANGE", "s", "+", "-", "COUNT", strconv.Itoa(rng.IntN(300)))
			}
		}
		say("XRANGE", "s", "-", "+")
		say("XREVRANGE", "s", "+", "-")
		say("XTRIM", "s", "MAXLEN", "~", "0")
		say("XLEN", "s")
		replies, err := redis.Pipeline(requests)
		if err != nil {
			t.Fatal(err)
		}
		for i, args := range requests[skip:] {
			if want, got := replies[skip+i], h.exec(self, args); string(got) != string(want) {
				t.Fatalf("nodes of %d entries and %d bytes, request %d %q:\n%.200q, redis-server says\n%.200q", limits[0], limits[1], i, args, got, want)
			}
		}
	}
}
