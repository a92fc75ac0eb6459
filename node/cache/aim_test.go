package cache

import (
	"fmt"
	"testing"
	"time"

	"hypercache/node/ring"
)

// TestClusterClientsAreToldThatASlotHasMoved moves everything off a node. Who has asked it for nothing but its own keys is told to go;
// who asks any node for any key, or has not asked for enough to tell, is served as before.
func TestClusterClientsAreToldThatASlotHasMoved(t *testing.T) {
	c := start(t, 2, setup{})
	a, b := c.nodes[0], c.nodes[1]
	both := func(int) []string { return []string{"a", "b"} }
	c.assign(func(g int) string { return c.nodes[g%2].id }, both)
	cluster, plain, late, fresh := c.client(a), c.client(a), c.client(a), c.client(a)
	for g := range 25 { // bits, with two nodes
		cluster.want("GET "+key(2*g, 0), "nil")
		plain.want("GET "+key(2*g, 0), "nil")
		plain.want("GET "+key(2*g+1, 0), "nil")
		late.want("GET "+key(0, g), "nil") // one group, again and again
	}
	cluster.want("SET "+key(0, 0)+" v", "OK")
	c.assign(func(int) string { return b.id }, both)
	moved := func(key string) string { return fmt.Sprintf("MOVED %d 10.0.0.1:b", ring.Slot([]byte(key))) }
	cluster.want("GET "+key(0, 0), moved(key(0, 0)))
	cluster.want("SET "+key(2, 0)+" v", moved(key(2, 0)))
	cluster.want("MULTI", "OK")
	cluster.want("GET "+key(0, 0), "QUEUED")
	cluster.want("EXEC", moved(key(0, 0)))
	for name, k := range map[string]*client{"plain": plain, "with one group": late, "new": fresh} {
		if got := k.do("GET " + key(0, 0)); got != "v" {
			t.Errorf("a client that is %s got %s", name, got)
		}
	}
	// A map of the time before the groups came to this node is no cluster client's.
	v := *a.view.Load()
	for g := range v.left {
		v.left[g] = time.Now().Add(-staleMap - time.Second)
	}
	a.view.Store(&v)
	cluster.want("GET "+key(0, 0), "v")
	for g := range v.left {
		v.left[g] = time.Now()
	}
	a.view.Store(&v)
	cluster.want("GET "+key(0, 0), "v")
}

// TestANodeThatStopsSendsWhoCanFollow is about a node without primaries that is about to stop: who asked it for the map of slots,
// even if only once, is sent on, and it answers reads from its copies no more.
func TestANodeThatStopsSendsWhoCanFollow(t *testing.T) {
	c := start(t, 3, setup{stale: 5 * time.Second})
	c.led(c.nodes[0])
	b := c.nodes[1]
	reader, mapped, plain := c.client(b), c.client(b), c.client(b)
	reader.want("SET k v", "OK")
	reader.want("READONLY", "OK")
	copied(t, reader, b, "GET k", "v")
	mapped.want("READWRITE", "OK") // says as much as CLUSTER SLOTS, which this cluster of the test has not
	mapped.want("GET k", "v")
	there := fmt.Sprintf("MOVED %d 10.0.0.1:a", ring.Slot([]byte("k")))
	before := b.Stats.Moved.Load()
	b.Leave()
	reader.want("GET k", there)
	mapped.want("GET k", there)
	plain.want("GET k", "v")
	if n := b.Stats.Moved.Load() - before; n != 2 {
		t.Errorf("%d commands were counted as moved, want 2", n)
	}
}

// TestANodeThatHadEverythingTakesNobodyForAClusterClient is about a lone node that gets company: its clients had no other node to ask.
func TestANodeThatHadEverythingTakesNobodyForAClusterClient(t *testing.T) {
	c := start(t, 2, setup{})
	c.led(c.nodes[0])
	k := c.client(c.nodes[0])
	for g := range ring.Groups {
		k.want("GET "+key(g, 0), "nil")
	}
	both := func(int) []string { return []string{"a", "b"} }
	c.assign(func(g int) string { return c.nodes[g%2].id }, both) // as far as it can tell, k may not have heard of it yet
	for g := range ring.Groups {
		k.want("GET "+key(g, 0), "nil")
	}
}

// TestWhatJustLeftSpeaksForNobody has a client ask for 25 groups of a node that has a half of all, which would be enough if it had not
// had three quarters a moment ago.
func TestWhatJustLeftSpeaksForNobody(t *testing.T) {
	c := start(t, 2, setup{})
	assign := func(leads func(g int) int) {
		c.even()
		c.assign(func(g int) string { return c.nodes[leads(g)].id }, func(int) []string { return []string{"a", "b"} })
	}
	threeQuarters, half := func(g int) int { return min(g%4/3, 1) }, func(g int) int { return g % 2 }
	none := func(int) int { return 1 }
	assign(threeQuarters)
	assign(half)
	k := c.client(c.nodes[0])
	for g := range 25 {
		k.want("GET "+key(2*g, 0), "nil")
	}
	assign(none)
	k.want("GET "+key(0, 0), "nil")

	// When the moment has passed, they do.
	assign(threeQuarters)
	assign(half)
	v := *c.nodes[0].view.Load()
	for g := range v.left {
		v.left[g] = time.Now().Add(-staleMap - time.Second)
	}
	c.nodes[0].view.Store(&v)
	c.nodes[0].Reckon()
	for g := range 25 {
		k.want("GET "+key(2*g, 0), "nil")
	}
	assign(none)
	k.want("GET "+key(0, 0), fmt.Sprintf("MOVED %d 10.0.0.1:b", ring.Slot([]byte(key(0, 0)))))
}

func TestTheLessANodeHasTheMoreItLearnsFromBeingAsked(t *testing.T) {
	for own, want := range map[int]int{0: 257, 1: 4, 26: 8, 51: 11, 85: 16, 86: 16, 128: 25, 171: 43, 255: 4428, 256: 257} {
		if got := enough(own); got != want {
			t.Errorf("with %d groups of all, %d are enough, want %d", own, got, want)
		}
	}
}
