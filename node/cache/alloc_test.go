package cache

import (
	"strconv"
	"testing"

	"hypercache/node/store"
)

// A command that runs here, or is forwarded, must not cost the garbage collector anything.
func TestCommandsDoNotAllocate(t *testing.T) {
	c := start(t, 2, setup{quiet: true})
	c.alone()
	c.nodes[1].mute.Store(true)
	k := c.client(c.nodes[0])
	near := key(0, 0)
	k.want("SET "+near+" value", "OK")
	get := []byte("*2\r\n$3\r\nGET\r\n$" + string(rune('0'+len(near))) + "\r\n" + near + "\r\n")
	set := []byte("*3\r\n$3\r\nSET\r\n$" + string(rune('0'+len(near))) + "\r\n" + near + "\r\n$5\r\nvalue\r\n")
	for name, cmd := range map[string][]byte{"GET": get, "SET": set} {
		n := testing.AllocsPerRun(2000, func() {
			_ = k.s.Feed(cmd)
			k.s.Sent(len(k.s.Output()))
		})
		if n >= 1 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}

// A rewrite of the journal encodes every key.
func TestASnapshotDoesNotAllocateForEachKey(t *testing.T) {
	const keys = 1000
	db := store.New(store.Options{Seed: 1})
	t.Cleanup(db.Close)
	shard := db.Shard(0)
	for i := range keys {
		shard.Set(strconv.AppendInt(nil, int64(i), 10), []byte("value"), 0)
	}
	s := Snapshot{shard: shard}
	t.Cleanup(s.Close)
	n := testing.AllocsPerRun(20, func() {
		s.Size()
		s.Fit()
		s.Take()
		for s.Next(func([]byte) {}) {
		}
	})
	if n > keys/10 {
		t.Errorf("%v allocations for %d keys", n, keys)
	}
}
