package store

import (
	"hash/maphash"
	"math"
	"math/bits"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"hypercache/node/ring"
)

// Options configure a DB. The zero value is an unbounded DB that evicts nothing.
type Options struct {
	MaxMemory int64  // bytes of data (see DB.Used) from which OverLimit answers true; 0 = unbounded
	Policy    Policy // what EvictionSample proposes
	Limits    Limits // zero = DefaultLimits
	// Seed makes the order of entries and the samples reproducible, for tests: keys are then hashed with xxhash, which
	// an attacker can make collide. 0 = random, and keys are hashed with hash/maphash, whose key stays secret.
	Seed uint64
}

// DB is the keyspace of one node. Its methods are safe for concurrent use; its shards are not.
type DB struct {
	heap   *pageHeap
	grains grainHeaps
	used   atomic.Int64 // what the shards have reported
	exact  atomic.Int64 // from here on they report every change
	max    atomic.Int64
	policy atomic.Uint32
	limits atomic.Pointer[Limits]
	graves [ring.Groups / 64]atomic.Uint64 // a bit for each shard with something to reclaim
	frozen atomic.Bool                     // nothing expires
	ops    atomic.Uint64                   // of the heaps, as of the last Tidy
	seed   maphash.Seed
	fixed  uint64 // Options.Seed
	shards [ring.Groups]Shard
}

// New returns an empty DB. It takes memory from the system when the first keys come.
func New(o Options) *DB {
	db := &DB{heap: newPageHeap(), seed: maphash.MakeSeed(), fixed: o.Seed}
	db.SetMaxMemory(o.MaxMemory)
	db.policy.Store(uint32(o.Policy))
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	db.SetLimits(o.Limits)
	for i := range db.shards {
		s := &db.shards[i]
		s.db, s.id = db, i
		s.slab = slab{heap: db.heap, grains: db.grains.of(i), limit: maxPages}
		s.parts = slab{heap: db.heap, grains: db.grains.of(i), limit: maxPages}
		s.dice = db.hash([]byte{byte(i)}) | 1
	}
	return db
}

// Shard returns the shard of a group, 0 to 255. The caller holds the group's lock while it uses it.
func (db *DB) Shard(group int) *Shard { return &db.shards[group] }

// Used returns the bytes that the data takes: entries and the parts of collections with their headers and rounding, the
// index, the expiry heaps, the mappings of big values, and what was deleted and waits for Shard.Reclaim. Free blocks that
// wait for reuse are not in it; Reserved has them. Far from the limit it lags by up to 4 KiB for each shard; within
// exactWithin of it, it knows every change of every shard that was changed or reclaimed since it came so close.
func (db *DB) Used() int64 { return db.used.Load() }

// Unfreed returns a shard in which something deleted waits for Shard.Reclaim and counts as used until then. It reports false if there
// is none. Safe from any goroutine.
func (db *DB) Unfreed() (shard int, ok bool) {
	for i := range db.graves {
		if b := db.graves[i].Load(); b != 0 {
			return i*64 + bits.TrailingZeros64(b), true
		}
	}
	return 0, false
}

// Reserved returns the bytes of memory that the shards hold, free blocks included.
func (db *DB) Reserved() int64 {
	n := db.heap.inUse.Load()
	for i := range db.grains {
		n += db.grains[i].held()
	}
	return n
}

const (
	quietOps  = 100 // blocks and pages taken or freed between two calls of Tidy in a store at rest
	tidyRuns  = 32  // given back with one lock hold: some 50 µs
	tidyChunk = 1
)

// Tidy gives pages of free memory that are resident to the kernel, if the shards took and freed hardly any memory since the
// last call, and reports whether that is so. What is busy would soon take them again, at the price of a page fault each.
// A caller is to come about once a second. It needs no lock.
func (db *DB) Tidy() (quiet bool) {
	ops := db.heap.count()
	for i := range db.grains {
		ops += db.grains[i].count()
	}
	if last := db.ops.Swap(ops); ops-last > quietOps {
		return false
	}
	for db.heap.tidy(tidyChunk) {
	}
	for i := range db.grains {
		for db.grains[i].tidy(tidyRuns) {
		}
	}
	return true
}

// MaxMemory returns the limit in bytes, 0 for none.
func (db *DB) MaxMemory() int64 { return db.max.Load() }

// exactWithin is the distance to the limit from which on every change counts at once. What a shard has not told yet when
// the data comes so close, it tells on the way: a shard lags by 4 KiB at most.
const exactWithin = 4 * ring.Groups * pageSize

// SetMaxMemory changes the limit; the store itself evicts nothing. What the shards have not reported yet is known once
// each was changed, or Reclaim was called.
func (db *DB) SetMaxMemory(n int64) {
	exact := int64(math.MaxInt64)
	if n > 0 {
		exact = max(n-exactWithin, 0)
	}
	db.exact.Store(exact)
	db.max.Store(n)
}

// Policy returns the eviction policy.
func (db *DB) Policy() Policy { return Policy(db.policy.Load()) }

// SetPolicy changes the eviction policy. The access clocks of entries keep their bits, which LRU and LFU read
// differently; they become meaningful again with the next access, as in Redis.
func (db *DB) SetPolicy(p Policy) { db.policy.Store(uint32(p)) }

// Limits returns the limits that hold.
func (db *DB) Limits() Limits { return *db.limits.Load() }

// Limits returns the limits that hold.
func (s *Shard) Limits() Limits { return s.db.Limits() }

// SetLimits changes the limits, from the next change of each collection on.
func (db *DB) SetLimits(l Limits) { db.limits.Store(&l) }

// OverLimit reports whether the data takes more than the limit.
func (db *DB) OverLimit() bool {
	limit := db.max.Load()
	return limit > 0 && db.used.Load() > limit
}

// Close gives all memory back to the system at once. No shard and nothing that aliases one may be used afterwards; a
// DB that lives as long as its process needs no Close.
func (db *DB) Close() {
	for i := range db.shards {
		s := &db.shards[i]
		for s.Flush(); s.Reclaim(1 << 20); {
		}
	}
	for i := range db.grains {
		db.grains[i].close()
	}
	db.heap.close()
}

func (db *DB) hash(key []byte) uint64 {
	if db.fixed == 0 {
		return maphash.Bytes(db.seed, key)
	}
	hi, lo := bits.Mul64(xxhash.Sum64(key)^db.fixed, 0x9e3779b97f4a7c15)
	return hi ^ lo
}
