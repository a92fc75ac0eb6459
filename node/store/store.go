package store

import (
	"hash/maphash"
	"math/bits"
	"sync/atomic"

	"github.com/cespare/xxhash/v2"

	"hypercache/node/ring"
)

// Options configure a DB. The zero value is an unbounded DB that evicts nothing.
type Options struct {
	MaxMemory int64  // bytes of data (see DB.Used) from which OverLimit answers true; 0 = unbounded
	Policy    Policy // what EvictionSample proposes
	Limits    Limits // what Ref.Encoding reports by; zero = DefaultLimits
	// Seed makes the order of entries and the samples reproducible, for tests: keys are then hashed with xxhash, which
	// an attacker can make collide. 0 = random, and keys are hashed with hash/maphash, whose key stays secret.
	Seed uint64
}

// DB is the keyspace of one node. Its methods are safe for concurrent use; its shards are not.
type DB struct {
	heap   *pageHeap
	used   atomic.Int64
	max    atomic.Int64
	policy atomic.Uint32
	limits atomic.Pointer[Limits]
	frozen atomic.Bool // nothing expires
	seed   maphash.Seed
	fixed  uint64 // Options.Seed
	shards [ring.Groups]Shard
}

// New returns an empty DB. It takes memory from the system when the first keys come.
func New(o Options) *DB {
	db := &DB{heap: newPageHeap(), seed: maphash.MakeSeed(), fixed: o.Seed}
	db.max.Store(o.MaxMemory)
	db.policy.Store(uint32(o.Policy))
	if o.Limits == (Limits{}) {
		o.Limits = DefaultLimits()
	}
	db.SetLimits(o.Limits)
	for i := range db.shards {
		s := &db.shards[i]
		s.db = db
		s.slab = slab{heap: db.heap, limit: maxPages}
		s.parts = slab{heap: db.heap, limit: maxPages}
		s.dice = db.hash([]byte{byte(i)}) | 1
	}
	return db
}

// Shard returns the shard of a group, 0 to 255. The caller holds the group's lock while it uses it.
func (db *DB) Shard(group int) *Shard { return &db.shards[group] }

// Used returns the bytes that the data takes: entries and the parts of collections with their headers and rounding, the
// index, the expiry heaps, the mappings of big values, and what was deleted and waits for Shard.Reclaim. Free blocks that
// wait for reuse are not in it; Reserved has them. It lags by up to 4 KiB for each shard.
func (db *DB) Used() int64 { return db.used.Load() }

// Reserved returns the bytes of memory that the shards hold, free blocks included.
func (db *DB) Reserved() int64 { return db.heap.inUse.Load() }

// MaxMemory returns the limit in bytes, 0 for none.
func (db *DB) MaxMemory() int64 { return db.max.Load() }

// SetMaxMemory changes the limit; the store itself evicts nothing.
func (db *DB) SetMaxMemory(n int64) { db.max.Store(n) }

// Policy returns the eviction policy.
func (db *DB) Policy() Policy { return Policy(db.policy.Load()) }

// SetPolicy changes the eviction policy. The access clocks of entries keep their bits, which LRU and LFU read
// differently; they become meaningful again with the next access, as in Redis.
func (db *DB) SetPolicy(p Policy) { db.policy.Store(uint32(p)) }

// Limits returns what encodings are reported by.
func (db *DB) Limits() Limits { return *db.limits.Load() }

// SetLimits changes what encodings are reported by, from the next change of each collection on.
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
	db.heap.close()
}

func (db *DB) hash(key []byte) uint64 {
	if db.fixed == 0 {
		return maphash.Bytes(db.seed, key)
	}
	hi, lo := bits.Mul64(xxhash.Sum64(key)^db.fixed, 0x9e3779b97f4a7c15)
	return hi ^ lo
}
