package cache

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"hypercache/node/journal"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// held is what the node's data takes, exactly.
func (x *node) held() (n int64) {
	for i := range x.parts {
		p := &x.parts[i]
		p.group.Lock()
		n += p.shard.Bytes()
		p.group.Unlock()
	}
	return n
}

func TestAWriteEvictsWhatItNeeds(t *testing.T) {
	const limit = 8 << 20
	c := start(t, 1, setup{memory: limit, policy: store.AllKeysLRU})
	c.alone()
	x, k := c.nodes[0], c.client(c.nodes[0])
	rng := rand.New(rand.NewPCG(3, 4))
	value := strings.Repeat("v", 300)
	set := func(i int) { k.want(fmt.Sprintf("SET k%d %s", i, value[:1+rng.IntN(len(value))]), "OK") }
	i := 0
	for ; x.Stats.Evicted.Load() == 0; i++ {
		set(i)
	}
	first := x.Stats.Evicted.Load()
	const writes, indexPage = 5000, 4096 / 150 // keys of a value of the mean size
	for range writes {
		before := x.Stats.Evicted.Load()
		set(i)
		i++
		// A part of an index may come with a key, of a page at most: that is made up for by this write and, behind it, by Run.
		if n := x.Stats.Evicted.Load() - before; n > evictionTries+indexPage {
			t.Fatalf("one write of %d bytes at most evicted %d keys", len(value), n)
		}
		if held := x.held(); held > limit+32<<10 {
			t.Fatalf("%d bytes are held, %d over the limit", held, held-limit)
		}
	}
	if n := x.Stats.Evicted.Load() - first; n > writes*12/10 { // the indexes of small groups grow and shrink
		t.Errorf("%d writes evicted %d keys of their size", writes, n)
	}
	if held := x.held(); held < limit*98/100 {
		t.Errorf("%d of %d bytes are held", held, limit)
	}
}

// A value that takes the room of thousands of others waits until they are gone: the node neither grows beyond its limit, nor
// keeps those waiting who share its loop.
func TestLargeValuesDoNotPassTheLimit(t *testing.T) {
	const limit, large = 8 << 20, 512 << 10
	c := start(t, 1, setup{memory: limit, policy: store.AllKeysLRU})
	c.alone()
	x, k := c.nodes[0], c.client(c.nodes[0])
	for i := 0; x.Stats.Evicted.Load() == 0; i++ {
		k.want(fmt.Sprintf("SET small%d v", i), "OK")
	}
	value := strings.Repeat("V", large)
	for i := range 10 {
		k.want(fmt.Sprintf("SET large%d %s", i, value), "OK")
		if held := x.held(); held > limit+large+64<<10 {
			t.Fatalf("after %d values of %d bytes, %d are held, the limit is %d", i+1, large, held, limit)
		}
		k.want("GET large"+fmt.Sprint(i), value)
	}
}

// What an evicted collection leaves counts as used until it is freed. Nothing else may go because of it.
func TestALargeVictimIsOneVictim(t *testing.T) {
	c := start(t, 1, setup{policy: store.AllKeysLRU})
	c.alone()
	x, k := c.nodes[0], c.client(c.nodes[0])
	value := strings.Repeat("v", 300) // each has a block of its own
	for i := range 20_000 {
		k.want(fmt.Sprintf("HSET large f%d %s", i, value), "1")
	}
	x.db.SetMaxMemory(x.held() / 2)
	for i := range 500 {
		k.want(fmt.Sprintf("SET k%d v", i), "OK")
	}
	if n := x.Stats.Evicted.Load(); n != 1 {
		t.Errorf("%d keys were evicted, where the large one would do", n)
	}
}

// What DEL leaves counts as used until it is freed, too: neither is a write refused for it, nor another key evicted.
func TestADeletedCollectionMakesRoomAtOnce(t *testing.T) {
	for _, policy := range []store.Policy{store.NoEviction, store.AllKeysLRU} {
		c := start(t, 1, setup{policy: policy, quiet: true})
		c.alone()
		x, k := c.nodes[0], c.client(c.nodes[0])
		value := strings.Repeat("v", 300)
		for i := range 20_000 {
			k.want(fmt.Sprintf("HSET large f%d %s", i, value), "1")
		}
		x.db.SetMaxMemory(x.held() + 4096)
		k.want("SET first v", "OK")
		k.want("DEL large", "1")
		for i := range 200 {
			k.want(fmt.Sprintf("SET k%d %s", i, value), "OK")
		}
		if n := x.Stats.Evicted.Load(); n != 0 {
			t.Errorf("policy %v: %d keys were evicted after a large one had been deleted", policy, n)
		}
	}
}

// A full disk takes no more DELs: each would be kept in memory until the journal fails for good.
func TestNothingIsDeletedForAFullDisk(t *testing.T) {
	c := start(t, 1, setup{disk: true, policy: store.AllKeysLRU, quiet: true})
	c.alone()
	x, k := c.nodes[0], c.client(c.nodes[0])
	r := newRound()
	for i := range 1000 {
		k.want(fmt.Sprintf("SET k%d v PX 1", i), "OK")
	}
	x.j.set(journal.ErrDiskFull, nil)
	c.client(x).send("SET k v")
	x.db.SetMaxMemory(1)
	before := x.j.count()
	for range 50 {
		x.sweeping.on = true
		x.sweep(time.Now().Add(time.Second), r)
		x.makeRoom(time.Now().Add(time.Second), r)
		k.want("SET k v", errDiskFull)
	}
	if n := x.j.count() - before; n != 0 || x.Stats.Evicted.Load() != 0 {
		t.Errorf("%d records were written, %d keys evicted", n, x.Stats.Evicted.Load())
	}
	x.j.set(nil, nil)
}

// One group's flood of expired keys is deleted in the passes of one tick, with the other groups in between.
func TestAGroupThatExpiresMuchIsDoneInOneTick(t *testing.T) {
	c := start(t, 1, setup{quiet: true})
	c.alone()
	x, k := c.nodes[0], c.client(c.nodes[0])
	const n = 5000
	for i := range n {
		k.want(fmt.Sprintf("SET {tag}%d v PXAT 1", i), "OK")
	}
	r := newRound()
	x.sweeping.on = true
	passes := 0
	for x.sweep(time.Now().Add(time.Minute), r) {
		if passes++; passes > n {
			t.Fatal("it never ends")
		}
	}
	if got := x.Stats.Expired.Load(); got != n {
		t.Errorf("%d of %d keys expired", got, n)
	}
	if least := n / (expireRounds * expireBatch); passes < least {
		t.Errorf("%d passes: the others had no turn", passes)
	}
}

// A slice ends with its time, also where nothing has expired: to look at what soon will takes its time, too.
func TestASliceOfTheSweepEndsWithItsTime(t *testing.T) {
	c := start(t, 1, setup{quiet: true})
	c.alone()
	x, r := c.nodes[0], newRound()
	x.sweeping.on = true
	slices := 1
	for ; x.sweep(time.Now().Add(-time.Second), r); slices++ {
		if x.sweeping.at > slices {
			t.Fatalf("%d groups in %d slices that had no time", x.sweeping.at, slices)
		}
	}
	if slices < ring.Groups || x.sweeping.on {
		t.Errorf("%d slices for %d groups, done: %v", slices, ring.Groups, !x.sweeping.on)
	}
}

func (s *cacheServer) SetActiveExpire(on bool) { s.of.SetActiveExpire(on) }

// TestTheSweepCanBeSwitchedOff: expired keys stay then until somebody asks for them.
func TestTheSweepCanBeSwitchedOff(t *testing.T) {
	c := start(t, 1, setup{quiet: true})
	c.alone()
	x := c.nodes[0]
	cl := c.client(x)
	expired := func(from, to int) {
		for i := from; i < to; i++ {
			cl.want(fmt.Sprintf("SET k%d v PXAT 1", i), "OK")
		}
	}
	sweep := func() {
		r := earlyRound()
		x.tick(x.ticks())
		for x.sweep(time.Now().Add(time.Minute), r) {
		}
		x.endRound(r)
	}
	cl.want("DEBUG SET-ACTIVE-EXPIRE 0", "OK")
	expired(0, 10)
	sweep()
	if keys, _, _ := x.Keyspace(); keys != 10 {
		t.Errorf("%d keys are left", keys)
	}
	cl.want("GET k3", "nil")
	cl.want("DEBUG SET-ACTIVE-EXPIRE 1", "OK")
	sweep()
	if keys, _, _ := x.Keyspace(); keys != 0 {
		t.Errorf("%d keys are left", keys)
	}
	cl.want("DEBUG SET-ACTIVE-EXPIRE on", "ERR DEBUG SET-ACTIVE-EXPIRE takes 0 or 1, not 'on'")
}
