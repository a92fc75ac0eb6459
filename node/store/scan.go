package store

import (
	"math/rand/v2"
	"slices"

	"hypercache/node/ring"
)

// Scan calls fn with about count entries, at least one bucket of them, and returns the cursor to go on with, 0 at the
// end. It begins with cursor 0. What is in the shard from the first call to the last is seen at least once, whatever is
// added, deleted, moved or resized meanwhile; some may be seen twice. A cursor is below 1<<38. fn must not change the
// shard.
//
// The order is by home bucket first and by the top of the hash second, neither of which a growing index changes: a
// split or a merge between two calls only moves the border of the segment that the cursor points into, and the segment
// is then visited whole.
func (s *Shard) Scan(cursor uint64, count int, fn func(Ref)) (next uint64) {
	home, prefix := cursor>>32, cursor&(1<<32-1)
	if s.count == 0 {
		return 0
	}
	count = max(count, 1)
	for seen, visits := 0, 0; home < segmentBuckets && seen < count && visits <= count*10; visits++ {
		g := s.index.segmentOf(prefix << 32)
		seen += s.scanHome(g, home, fn)
		width := uint64(1) << (32 - g.depth)
		prefix = prefix&^(width-1) + width
		if prefix == 1<<32 {
			home, prefix = home+1, 0
		}
	}
	if home >= segmentBuckets {
		return 0
	}
	return home<<32 | prefix
}

// scanHome calls fn with the entries of a segment whose home is this bucket and returns their number.
func (s *Shard) scanHome(g *segment, home uint64, fn func(Ref)) (n int) {
	for i := range uint(g.mask) + 1 {
		b := g.bucket(uint(home) + i)
		for j, tag := range b.tags {
			if tag != 0 && s.hashOf(b.refs[j])%segmentBuckets == home {
				fn(Ref{s.slab.at(b.refs[j]), s, place{b, j}})
				n++
			}
		}
		if b.over == 0 {
			break
		}
	}
	return n
}

// Range calls fn with every entry, expired ones included, until it returns false. fn must not change the shard.
func (s *Shard) Range(fn func(Ref) bool) {
	for i := range s.index.segs {
		g := &s.index.segs[i]
		if g.base == 0 {
			continue
		}
		all := g.buckets()[:g.mask+1]
		for bi := range all {
			s.summon(&all[bi])
			for j, tag := range all[bi].tags {
				if tag != 0 && !fn(Ref{s.slab.at(all[bi].refs[j]), s, place{&all[bi], j}}) {
					return
				}
			}
		}
	}
}

// summon reads from every entry of the bucket, so that the memory sends all of them at once instead of one after another.
func (s *Shard) summon(b *bucket) {
	var sum byte
	for j, tag := range b.tags {
		if tag != 0 {
			sum |= *(*byte)(s.slab.at(b.refs[j]).p)
		}
	}
	summoned(sum)
}

//go:noinline
func summoned(byte) {}

// Random returns an entry, expired or not, every one with the same chance. It reports false if there is none.
func (s *Shard) Random(rng *rand.Rand) (Ref, bool) {
	if s.count == 0 {
		return Ref{}, false
	}
	for range 16 * segmentBuckets * bucketSlots {
		r := rng.Uint64()
		g := &s.index.segs[r>>32%uint64(len(s.index.segs))]
		if g.base == 0 {
			continue
		}
		b := g.bucket(uint(r))
		if i := r >> 6 % bucketSlots; b.tags[i] != 0 {
			return Ref{s.slab.at(b.refs[i]), s, place{b, int(i)}}, true
		}
	}
	var first Ref // nearly empty after many deletes
	s.Range(func(r Ref) bool { first = r; return false })
	return first, true
}

// SlotLen returns the number of keys in a slot of this shard's group. It looks at every key of the shard.
func (s *Shard) SlotLen(slot uint16) (n int) {
	s.Range(func(r Ref) bool {
		if ring.Slot(r.Key()) == slot {
			n++
		}
		return true
	})
	return n
}

// SlotKeys returns copies of at most limit keys in a slot. It looks at every key of the shard until it has them.
func (s *Shard) SlotKeys(slot uint16, limit int) (keys [][]byte) {
	s.Range(func(r Ref) bool {
		if len(keys) >= limit {
			return false
		}
		if k := r.Key(); ring.Slot(k) == slot {
			keys = append(keys, slices.Clone(k))
		}
		return true
	})
	return keys
}

// EvictionSample calls fn with up to n entries drawn at random (one may come twice) from those that the DB's policy lets
// go, with a score: the higher, the better a victim. Scores of different shards compare. Under noeviction fn is not
// called. fn must not change the shard.
func (s *Shard) EvictionSample(n int, rng *rand.Rand, fn func(r Ref, score uint64)) {
	policy := s.db.Policy()
	if policy == NoEviction || s.count == 0 || policy.Volatile() && s.expiry.n == 0 {
		return
	}
	for i := range n {
		var r Ref
		switch {
		case policy == VolatileTTL && i == 0:
			r = s.tracked(0) // the first to expire, or one that was
		case policy.Volatile():
			r = s.tracked(rng.IntN(s.expiry.n))
		default:
			r, _ = s.Random(rng)
		}
		fn(r, s.score(r.b, policy, rng))
	}
}

func (s *Shard) tracked(i int) Ref { return Ref{b: s.slab.at(s.expiry.item(i).ref), s: s} }

func (s *Shard) score(b block, policy Policy, rng *rand.Rand) uint64 {
	switch policy {
	case AllKeysLRU, VolatileLRU:
		return uint64(idleMillis(b.clock(), s.now))
	case AllKeysLFU, VolatileLFU:
		return uint64(255 - s.decayed(b.clock()))
	case VolatileTTL:
		return ^uint64(max(b.expireAt(), 0))
	}
	return rng.Uint64()
}
