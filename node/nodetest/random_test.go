package nodetest

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/command/golden/oracle"
	"hypercache/node/command/golden/random"
)

// TestNodesAgreeWithRedisOnRandomCommands sends random commands to a lone node, and to three nodes in turn, in pieces of a
// pipeline, and compares every reply and the final state with a redis-server in cluster mode that has all slots.
// HYPERCACHE_DIFFERENTIAL lengthens each run ("60s"); HYPERCACHE_SEED repeats one.
func TestNodesAgreeWithRedisOnRandomCommands(t *testing.T) {
	for name, nodes := range map[string]int{"lone": 1, "cluster": 3} {
		t.Run(name, func(t *testing.T) {
			limit, seed := differential(t, 3*time.Second)
			redis := clusterOfOne(t)
			var conns []*oracle.Conn
			for _, n := range Start(t, nodes, nil).Nodes() {
				nc, err := n.Dial()
				if err != nil {
					t.Fatal(err)
				}
				conns = append(conns, oracle.NewConn(nc))
			}
			rng := rand.New(rand.NewPCG(seed, 0))
			compared := 0
			for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); {
				compared += compareNodes(t, rng, redis, conns, 2+rng.IntN(2))
			}
			t.Logf("%d commands compared", compared)
		})
	}
}

// clusterOfOne is a redis-server in cluster mode with all slots.
func clusterOfOne(t *testing.T) *oracle.Conn {
	t.Helper()
	return clusterServer(t).Client(t)
}

func clusterServer(t *testing.T) *oracle.Server {
	t.Helper()
	srv := oracle.Serve(t, t.TempDir(), "--cluster-enabled", "yes")
	c := srv.Client(t)
	say(t, c, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	Await(t, func() bool { return bytes.Contains(say(t, c, "CLUSTER", "INFO"), []byte("cluster_state:ok")) },
		func() string { return "redis-server's cluster of one is not ready" })
	return srv
}

func say(t *testing.T, c *oracle.Conn, args ...string) []byte {
	t.Helper()
	b, err := c.Do(args...)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// alike says whether a command means the same to one server and to a cluster of ours: cursors of SCAN name a shard, and SORT
// follows patterns that stay in the slot, which Redis Cluster never does.
func alike(args [][]byte) bool {
	switch strings.ToUpper(string(args[0])) {
	case "SCAN":
		return false
	case "SORT", "SORT_RO":
		for _, a := range args[1:] {
			if w := strings.ToUpper(string(a)); w == "BY" || w == "GET" {
				return false
			}
		}
	}
	return true
}

// compareNodes is one run over an empty keyspace in RESP proto.
func compareNodes(t *testing.T, rng *rand.Rand, redis *oracle.Conn, nodes []*oracle.Conn, proto int) (compared int) {
	for _, c := range append([]*oracle.Conn{redis}, nodes...) {
		say(t, c, "HELLO", strconv.Itoa(proto))
	}
	say(t, redis, "CONFIG", "SET", "hz", "500") // waits end in time
	for _, c := range []*oracle.Conn{redis, nodes[0]} {
		say(t, c, "FLUSHALL")
	}
	for range 20 {
		var sent, piece [][][]byte
		for n := 1 + rng.IntN(20); len(piece) < n; {
			args := random.Request(rng)
			if !alike(args) {
				continue
			}
			if random.Sorts(args) {
				sent = append(sent, random.ClearErrno)
			}
			sent, piece = append(sent, args), append(piece, args)
		}
		want, err := redis.Pipeline(sent)
		if err != nil {
			t.Fatal(err)
		}
		got, err := nodes[rng.IntN(len(nodes))].Pipeline(piece)
		if err != nil {
			t.Fatalf("%v after %.2000q", err, piece)
		}
		at := 0
		for i, args := range piece {
			if random.Sorts(args) {
				at++
			}
			if err := random.Compare(args, want[at], got[i]); err != nil {
				t.Errorf("%q: %v\nbehind %.2000q", args, err, piece[:i])
				return compared
			}
			at++
			compared++
		}
	}
	state := random.Dump(func(args ...string) []byte { return say(t, redis, args...) })
	for i, c := range nodes {
		if got := random.Dump(func(args ...string) []byte { return say(t, c, args...) }); got != state {
			t.Errorf("state differs at node %d:\n%s\nredis-server:\n%s", i, got, state)
		}
	}
	return compared
}
