package store

import (
	"fmt"
	"testing"

	"hypercache/node/ring"
)

// A collection passes through many size classes while it grows. What it leaves behind in each must not outweigh it.
// How many elements each hash splits into blocks of which size depends on the seed, and with it what is left between them.
func TestFewCollectionsHoldLittleMoreMemoryThanTheyUse(t *testing.T) {
	var used, reserved int64
	for seed := range uint64(4) {
		db := newDB(t, Options{Seed: seed + 1})
		for k := range ring.Groups {
			h := db.Shard(k).NewHash([]byte("large"))
			for i := range 600 {
				h.Set(fmt.Appendf(nil, "field:%010d", i*7919), fmt.Appendf(nil, "value:%010d", i))
			}
		}
		used, reserved = used+exactUsed(db), reserved+db.Reserved()
	}
	if reserved > used*11/10 {
		t.Errorf("%d bytes used, %d reserved", used, reserved)
	}
}

// One key in each of 256 shards takes no page in each.
func TestFewKeysTakeFewPages(t *testing.T) {
	db := newDB(t, Options{})
	for g := range ring.Groups {
		db.Shard(g).Set([]byte("key"), []byte("value"), 0)
	}
	if used, reserved := exactUsed(db), db.Reserved(); used > ring.Groups*300 || reserved > ring.Groups*600 {
		t.Errorf("%d bytes used, %d reserved", used, reserved)
	}
}

func TestTidyGivesWhatWasDeletedBackOnceNothingHappens(t *testing.T) {
	db := newDB(t, Options{})
	for i := range 200_000 {
		k := fmt.Appendf(nil, "%d", i)
		shardOf(db, k).Set(k, make([]byte, []int{20, 800}[i%2]), 0)
	}
	for i := range 200_000 {
		if k := fmt.Appendf(nil, "%d", i); i%10 > 1 {
			shardOf(db, k).Delete(k)
		}
	}
	if db.Tidy() {
		t.Error("a store that was just filled is quiet")
	}
	before, held := resident(), db.Reserved()
	if !db.Tidy() {
		t.Error("a store at rest is not quiet")
	}
	if now := db.Reserved(); now > held*3/4 {
		t.Errorf("%d bytes reserved, then %d, for %d used", held, now, db.Used())
	}
	if now := resident(); before > 0 && now > before-10<<20 {
		t.Errorf("%d bytes resident, then %d", before, now)
	}
	for g := range ring.Groups {
		check(t, db.Shard(g))
	}
}

func TestTheDBKnowsWhereSomethingWaitsToBeFreed(t *testing.T) {
	db := newDB(t, Options{})
	fill := func(g int) {
		h := db.Shard(g).NewHash([]byte("large"))
		for i := range 20_000 {
			h.Set(fmt.Appendf(nil, "f%d", i), make([]byte, 300))
		}
		db.Shard(g).Delete([]byte("large"))
	}
	if g, ok := db.Unfreed(); ok {
		t.Errorf("shard %d of an empty DB", g)
	}
	fill(70)
	fill(200)
	for _, want := range []int{70, 200} {
		for range 1000 {
			if g, ok := db.Unfreed(); !ok || g != want {
				t.Fatalf("shard %d, %v, want %d", g, ok, want)
			}
			if !db.Shard(want).Reclaim(1000) {
				break
			}
		}
	}
	fill(3)
	for range 3000 { // changes free, too
		db.Shard(3).Set([]byte("k"), []byte("v"), 0)
	}
	if g, ok := db.Unfreed(); ok {
		t.Errorf("shard %d after all was freed", g)
	}
}
