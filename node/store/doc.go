// Package store is the keyspace of one node: 256 shards, one per slot group, each used under its group's lock.
//
// It owns the memory of keys and values: entries live in slabs outside Go's heap, at 18 bytes over key and value (42 with
// an expiry), so that the garbage collector has nothing to look at. Hashes, sets, sorted sets and lists are there too, used
// through handles. It owns the index over the entries, the order in which they expire, their access clocks, and the account
// of the bytes in use.
//
// It refuses to decide: it deletes nothing by itself. Expired entries are not found but stay until Delete, because only a
// primary may expire and evict, and the deletion has to travel to the replicas; Expired and EvictionSample name the
// candidates. It takes no locks for its shards, reads no clock and starts no goroutine.
//
// It leaves to others which group a key belongs to, what commands mean, the limits on the sizes of keys and values, and
// when to evict (OverLimit).
//
// DESIGN.md has the layout, the invariants, what was rejected, and the commands behind the figures.
package store
