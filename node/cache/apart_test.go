package cache

import (
	"strconv"
	"testing"

	"hypercache/node/ring"
)

// TestFlushKeepsNobodyWaiting but those who want the group that is being emptied: the event loop goes on, and what its own
// connection sends comes behind it.
func TestFlushKeepsNobodyWaiting(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	cl, other := c.client(x), c.client(x)
	for i := range 3000 {
		cl.send("SET k" + strconv.Itoa(i) + " v")
	}
	cl.receive(3000)
	busy := x.parts[ring.Groups/2].group
	busy.Lock()
	cl.send("FLUSHALL", "SET late v", "DBSIZE")
	other.want("SET "+key(0, 1)+" v", "OK") // would hang with the event loop
	cl.silent("before every group is empty")
	busy.Unlock()
	got := cl.receive(3)
	if got[0] != "OK" || got[1] != "OK" || got[2] != "1" && got[2] != "2" {
		t.Errorf("FLUSHALL, SET, DBSIZE: %q", got)
	}
	cl.want("GET late", "v")
	cl.want("FLUSHALL ASYNC", "OK")
	cl.want("DBSIZE", "0")
	cl.want("FLUSHALL NOW", "ERR syntax error")
}

// TestFlushComesBehindEarlierCommands of its connection, on whatever node they are, and before later ones.
func TestFlushComesBehindEarlierCommands(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	cl := c.client(c.nodes[0])
	for i := range 50 {
		want := []string{}
		for g := range 6 {
			cl.send("SET " + key(g, i) + " early")
			want = append(want, "OK")
		}
		cl.send("FLUSHDB")
		want = append(want, "OK")
		for g := range 3 {
			cl.send("INCR "+key(g, i), "GET "+key(g+3, i))
			want = append(want, "1", "nil")
		}
		for j, got := range cl.receive(len(want)) {
			if got != want[j] {
				t.Fatalf("round %d, reply %d: %s, want %s", i, j, got, want[j])
			}
		}
	}
}

// TestFlushWaitsForItsPlace: the connection's earlier command has no route yet.
func TestFlushWaitsForItsPlace(t *testing.T) {
	c := start(t, 1, setup{})
	cl := c.client(c.nodes[0])
	cl.send("SET k v", "FLUSHALL", "GET k")
	cl.silent("without a primary")
	c.alone()
	if got := cl.receive(3); got[0] != "OK" || got[1] != "OK" || got[2] != "nil" {
		t.Errorf("%q", got)
	}
}

// TestKeysAndDigestsKeepNobodyWaiting either, and their replies are in order and whole.
func TestKeysAndDigestsKeepNobodyWaiting(t *testing.T) {
	for _, command := range []string{"KEYS *", "DEBUG DIGEST"} {
		c := start(t, 1, setup{})
		c.alone()
		x := c.nodes[0]
		cl, other := c.client(x), c.client(x)
		cl.want("SET k v", "OK")
		cl.send(command)
		whole := cl.receive(1)[0]
		busy := x.parts[ring.Groups/2].group
		busy.Lock()
		cl.send(command, "SET k v2", "GET k")
		other.want("GET "+key(0, 1), "nil") // would hang with the event loop
		cl.silent("before every group was looked at")
		busy.Unlock()
		if got := cl.receive(3); got[0] != whole || got[1] != "OK" || got[2] != "v2" {
			t.Errorf("%s, SET, GET: %q, want %q first", command, got, whole)
		}
	}
}

// TestFewReadsRunApartAtATime: what is too much waits.
func TestFewReadsRunApartAtATime(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	for range maxReadsApart {
		x.readsApart <- struct{}{}
	}
	cl, other := c.client(x), c.client(x)
	cl.send("KEYS *")
	for range 10 {
		other.want("FLUSHALL", "OK") // no read: it does not wait, and takes as long as KEYS would
	}
	other.want("SET late v", "OK")
	<-x.readsApart
	if got := cl.receive(1); got[0] != "[late]" {
		t.Errorf("KEYS sees %q: it did not wait", got[0])
	}
}
