package store

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

const (
	firstMask      = 3 // of an index
	maskBits       = 2 // by which a first segment grows
	bucketSlots    = 12
	segmentBuckets = pageSize / 64
	segmentMax     = segmentBuckets * bucketSlots * 7 / 8 // entries; more split the segment
	mergeMax       = segmentMax / 2                       // entries of two halves that become one segment again
	maxDepth       = 24
)

// bucket is one cache line: twelve entries, each a tag of eight hash bits (0 = no entry) and a reference. over counts
// the entries that went past this bucket because it was full, so a lookup knows when to stop.
type bucket struct {
	tags [bucketSlots]uint8
	over uint16
	_    uint16
	refs [bucketSlots]uint32
}

type buckets [segmentBuckets]bucket

// segment is one page of buckets, for all hashes with one prefix of depth bits. The only segment of an index may have
// fewer, 4 or 16: a page for each of 256 shards would be most of what few keys take.
type segment struct {
	base  addr // 0: not in use, then prev links the free ones
	count uint16
	depth uint8
	mask  uint8  // buckets - 1
	prev  uint32 // index + 1
}

// most returns the number of entries from which on the segment grows or splits.
func (g *segment) most() uint16 { return (uint16(g.mask) + 1) * bucketSlots * 7 / 8 }

// fewest returns the number of entries up to which the segment shrinks if it can: half of what it then has room for.
func (g *segment) fewest() uint16 { return g.most() >> maskBits / 2 }

func (g *segment) bytes() int { return (int(g.mask) + 1) * int(unsafe.Sizeof(bucket{})) }

// bucket returns the bucket where hashes with this home begin, or another one behind it.
func (g *segment) bucket(home uint) *bucket {
	return &g.buckets()[home&uint(g.mask)%segmentBuckets]
}

func (g *segment) buckets() *buckets { return (*buckets)(g.base.ptr()) }

// index finds an entry's reference by its hash: extendible hashing over pages. The top bits of the hash choose the
// segment by way of dir, the lowest six its home bucket, the eight above those are the tag. It knows no keys; where it
// needs the hash of an entry, hashOf reads the key.
type index struct {
	dir     []uint32 // 1<<depth indexes into segs; none while there are no entries
	segs    []segment
	idle    uint32 // segs not in use
	depth   uint8
	deepest int // segments whose depth is the directory's
}

// place is where an entry's reference is stored.
type place struct {
	b *bucket
	i int
}

func tagOf(h uint64) uint8 {
	if t := uint8(h >> 6); t != 0 {
		return t
	}
	return 1
}

const (
	lowBits  = 0x7f7f7f7f7f7f7f7f
	eachByte = 0x0101010101010101
)

// zeroBytes sets the top bit of each byte of x that is zero, and no other bit.
func zeroBytes(x uint64) uint64 { return ^((x&lowBits + lowBits) | x | lowBits) }

// match returns a bit set of the slots whose tag is tag: bit 8i+7 of lo for slot i, of hi for slot i+8.
func (b *bucket) match(tag uint8) (lo, hi uint64) {
	pattern := uint64(tag) * eachByte
	lo = zeroBytes(binary.LittleEndian.Uint64(b.tags[:8]) ^ pattern)
	hi = zeroBytes(uint64(binary.LittleEndian.Uint32(b.tags[8:]))^pattern&0xffffffff) & 0xffffffff
	return lo, hi
}

func (x *index) segmentOf(h uint64) *segment { return &x.segs[x.dir[h>>(64-x.depth)]] }

// find returns the place of the entry with this key, whose hash is h.
func (s *Shard) find(key []byte, h uint64) (block, place, bool) {
	if s.count == 0 {
		return block{}, place{}, false
	}
	g := s.index.segmentOf(h)
	all, mask := g.buckets(), uint(g.mask)
	tag := tagOf(h)
	for n, home := uint(0), uint(h); n <= mask; n++ {
		b := &all[(home+n)&mask%segmentBuckets]
		lo, hi := b.match(tag)
		for ; lo != 0; lo &= lo - 1 {
			i := bits.TrailingZeros64(lo) / 8
			if e := s.slab.at(b.refs[i]); e.equals(key) {
				return e, place{b, i}, true
			}
		}
		for ; hi != 0; hi &= hi - 1 {
			i := bits.TrailingZeros64(hi)/8 + 8
			if e := s.slab.at(b.refs[i%bucketSlots]); e.equals(key) {
				return e, place{b, i}, true
			}
		}
		if b.over == 0 {
			break
		}
	}
	return block{}, place{}, false
}

// findRef returns the place that holds ref, an entry with hash h that exists.
func (x *index) findRef(ref uint32, h uint64) place {
	g := x.segmentOf(h)
	for n, home := uint(0), uint(h); n < segmentBuckets; n++ {
		b := g.bucket(home + n)
		for i, r := range b.refs {
			if r == ref && b.tags[i] != 0 {
				return place{b, i}
			}
		}
	}
	panic("store: entry without an index slot")
}

// findHash returns the place of the entry with hash h, which exists.
func (s *Shard) findHash(h uint64) place {
	if s.count > 0 {
		g := s.index.segmentOf(h)
		for n, home := uint(0), uint(h); n < segmentBuckets; n++ {
			b := g.bucket(home + n)
			for i, tag := range b.tags {
				if tag == tagOf(h) && s.hashOf(b.refs[i]) == h {
					return place{b, i}
				}
			}
		}
	}
	panic("store: a handle is used after its key was deleted")
}

// put adds an entry that is known to be new to the segment, which has room.
func (g *segment) put(h uint64, ref uint32) {
	for home := uint(h); ; home++ {
		b := g.bucket(home)
		lo, hi := b.match(0)
		var i int
		switch {
		case lo != 0:
			i = bits.TrailingZeros64(lo) / 8
		case hi != 0:
			i = bits.TrailingZeros64(hi)/8 + 8
		default:
			b.over++
			continue
		}
		b.tags[i], b.refs[i] = tagOf(h), ref
		g.count++
		return
	}
}

// insert adds an entry that is known to be new.
func (s *Shard) insert(h uint64, ref uint32) {
	if len(s.index.dir) == 0 {
		s.index.dir = append(s.index.dir, s.newSegment(0, firstMask))
		s.index.deepest = 1
	}
	for {
		g := s.index.segmentOf(h)
		if g.count < g.most() {
			g.put(h, ref)
			return
		}
		if g.mask < segmentBuckets-1 {
			s.resizeSegment((g.mask+1)<<maskBits - 1)
			continue
		}
		if g.depth == maxDepth {
			panic("store: index is full") // 2^24 segments: more than references can name, unless the hash is broken
		}
		s.split(h)
	}
}

// remove takes the entry with hash h out of its place and joins its segment with its sibling if both became small.
func (s *Shard) remove(h uint64, at place) {
	g := s.index.segmentOf(h)
	for home := uint(h); ; home++ {
		b := g.bucket(home)
		if b == at.b {
			break
		}
		b.over--
	}
	at.b.tags[at.i] = 0
	g.count--
	if g.count == 0 && g.depth == 0 {
		s.freeSegment(s.index.dir[0])
		s.index.dir, s.index.deepest = s.index.dir[:0], 0
		return
	}
	for g.count <= mergeMax && g.depth > 0 && s.merge(h) {
		g = s.index.segmentOf(h)
	}
	for g.depth == 0 && g.mask > firstMask && g.count <= g.fewest() {
		s.resizeSegment(g.mask >> maskBits)
		g = s.index.segmentOf(h)
	}
}

// resizeSegment gives the only segment another number of buckets.
func (s *Shard) resizeSegment(mask uint8) {
	x := &s.index
	old := x.dir[0]
	x.dir[0] = s.newSegment(0, mask)
	from, to := &x.segs[old], &x.segs[x.dir[0]]
	for bi := range uint(from.mask) + 1 {
		b := from.bucket(bi)
		for i, tag := range b.tags {
			if tag != 0 {
				to.put(s.hashOf(b.refs[i]), b.refs[i])
			}
		}
	}
	s.freeSegment(old)
}

func (s *Shard) newSegment(depth, mask uint8) uint32 {
	x := &s.index
	i := x.idle - 1
	if x.idle != 0 {
		x.idle = x.segs[i].prev
	} else {
		i = uint32(len(x.segs))
		x.segs = append(x.segs, segment{})
	}
	g := segment{depth: depth, mask: mask}
	g.base = s.slab.take(g.bytes())
	clear(g.buckets()[:mask+1])
	x.segs[i] = g
	return i
}

func (s *Shard) freeSegment(i uint32) {
	g := s.index.segs[i]
	s.slab.give(g.base, g.bytes())
	s.index.segs[i] = segment{prev: s.index.idle}
	s.index.idle = i + 1
}

// split divides the segment of h in two by one more bit of the hash: at most 672 entries move, whatever the size of
// the shard.
func (s *Shard) split(h uint64) {
	x := &s.index
	if g := x.segmentOf(h); g.depth == x.depth {
		x.double()
	}
	left := x.dir[h>>(64-x.depth)]
	depth := x.segs[left].depth + 1
	right := s.newSegment(depth, segmentBuckets-1)
	l, r := &x.segs[left], &x.segs[right]
	old := *l.buckets()
	*l.buckets() = buckets{}
	l.depth, l.count = depth, 0
	for bi := range old {
		b := &old[bi]
		for i, tag := range b.tags {
			if tag == 0 {
				continue
			}
			eh := s.hashOf(b.refs[i])
			if eh>>(64-depth)&1 == 0 {
				l.put(eh, b.refs[i])
			} else {
				r.put(eh, b.refs[i])
			}
		}
	}
	if depth == x.depth {
		x.deepest += 2
	}
	first, n := x.rangeOf(h, depth-1)
	for i := first + n/2; i < first+n; i++ {
		x.dir[i] = right
	}
}

// merge joins the segment of h with its sibling if both together are small. It reports whether it did.
func (s *Shard) merge(h uint64) bool {
	x := &s.index
	mine := x.dir[h>>(64-x.depth)]
	depth := x.segs[mine].depth
	first, n := x.rangeOf(h, depth-1)
	l, r := x.dir[first], x.dir[first+n-1]
	if x.segs[l].depth != depth || x.segs[r].depth != depth || x.segs[l].count+x.segs[r].count > mergeMax {
		return false
	}
	from := x.segs[r].buckets()
	for bi := range from {
		for i, tag := range from[bi].tags {
			if tag != 0 {
				ref := from[bi].refs[i]
				x.segs[l].put(s.hashOf(ref), ref)
			}
		}
	}
	x.segs[l].depth--
	s.freeSegment(r)
	for i := first; i < first+n; i++ {
		x.dir[i] = l
	}
	if depth == x.depth {
		x.deepest -= 2
		x.halve()
	}
	return true
}

// rangeOf returns the part of the directory that belongs to the prefix of depth bits of h.
func (x *index) rangeOf(h uint64, depth uint8) (first, n int) {
	shift := x.depth - depth
	return int(h>>(64-depth)) << shift, 1 << shift
}

// double gives every entry of the directory two places.
func (x *index) double() {
	n := len(x.dir)
	x.dir = append(x.dir, x.dir...)
	for i := n - 1; i >= 0; i-- {
		x.dir[2*i], x.dir[2*i+1] = x.dir[i], x.dir[i]
	}
	x.depth++
	x.deepest = 0
}

// halve undoes double as long as no segment needs the last bit.
func (x *index) halve() {
	for x.deepest == 0 && x.depth > 0 {
		for i := range len(x.dir) / 2 {
			x.dir[i] = x.dir[2*i]
		}
		x.dir = x.dir[:len(x.dir)/2]
		x.depth--
		for i := range x.segs {
			if x.segs[i].base != 0 && x.segs[i].depth == x.depth {
				x.deepest++
			}
		}
	}
}

// hashOf returns the hash of the key of ref's entry.
func (s *Shard) hashOf(ref uint32) uint64 { return s.db.hash(s.slab.at(ref).key()) }

// Size of the layout that the text above promises.
var _ = [1]struct{}{}[unsafe.Sizeof(buckets{})-pageSize]
