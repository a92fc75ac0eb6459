package command

import (
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"hypercache/node/command/golden/oracle"
	"hypercache/node/command/golden/random"
)

// TestRandomCommandsAgreeWithRedis runs random commands here and on a real redis-server, and compares every reply, the
// final states, the replica that had the effects alone, and a redis-server that loads the effects as its log.
// HYPERCACHE_DIFFERENTIAL lengthens the run ("60s"); HYPERCACHE_SEED repeats one.
func TestRandomCommandsAgreeWithRedis(t *testing.T) {
	limit := 5 * time.Second
	if s := os.Getenv("HYPERCACHE_DIFFERENTIAL"); s != "" {
		var err error
		if limit, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HYPERCACHE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HYPERCACHE_SEED=%d", seed)
	redis, loaded := startRedis(t), startRedis(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	compared := 0
	for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); {
		compared += compareRun(t, rng, redis, loaded, 2+rng.IntN(2))
	}
	t.Logf("%d commands compared", compared)
}

// compareRun is one run of random commands over an empty keyspace in RESP proto.
func compareRun(t *testing.T, rng *rand.Rand, redis, loaded *oracle.Conn, proto int) (compared int) {
	const length = 400
	h := newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []*oracle.Conn{redis, loaded} {
		must(c.Do("HELLO", strconv.Itoa(proto)))
		must(c.Do("FLUSHALL"))
		must(c.Do("CONFIG", "SET", "hz", "500")) // waits end in time
	}
	self.proto = proto
	requests := make([][][]byte, length)
	for i := range requests {
		requests[i] = random.Request(rng)
	}
	var sent [][][]byte
	for _, args := range requests {
		if random.Sorts(args) {
			sent = append(sent, random.ClearErrno)
		}
		sent = append(sent, args)
	}
	replies, err := redis.Pipeline(sent)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for i, args := range requests {
		if random.Sorts(args) {
			at++
		}
		want := replies[at]
		at++
		got := h.exec(self, args)
		if err := random.Compare(args, want, got); err != nil {
			t.Errorf("%q: %v\nafter %.150q", args, err, requests[max(0, i-12):i])
			return compared
		}
		compared++
	}
	effects := effectsOf(h)
	if replies, err = loaded.Pipeline(effects); err != nil {
		t.Fatal(err)
	}
	for i, reply := range replies {
		if reply[0] == '-' {
			t.Errorf("redis-server refuses the effect %q: %s", effects[i], reply)
		}
	}
	want := random.Dump(func(args ...string) []byte { return must(redis.Do(args...)) })
	if got := random.Dump(func(args ...string) []byte { return h.exec(self, bytesOf(args)) }); got != want {
		t.Errorf("state differs:\n%s\nredis-server:\n%s", got, want)
	}
	if got := random.Dump(func(args ...string) []byte { return must(loaded.Do(args...)) }); got != want {
		t.Errorf("state after loading the effects differs:\n%s\nredis-server:\n%s", got, want)
	}
	h.checkReplica()
	return compared
}

func bytesOf(words []string) [][]byte {
	var b [][]byte
	for _, w := range words {
		b = append(b, []byte(w))
	}
	return b
}
