package store

import (
	"bytes"
	"math"
)

// The second tree of a sorted set has the same units, member and score, in order of (score, member). A branch's key says
// the score only, so where scores are equal the first unit of a child is looked at.

// scoreKey maps scores to integers in the same order.
func scoreKey(f float64) uint64 {
	if f == 0 {
		return 1 << 63 // -0 too
	}
	b := math.Float64bits(f)
	if b>>63 != 0 {
		return ^b
	}
	return b | 1<<63
}

// firstUnit returns the first unit under a node.
func (s *Shard) firstUnit(ref uint32, height int) []byte {
	for ; height > 0; height-- {
		ref = s.branches(ref)[0].ref
	}
	_, data := s.leaf(ref)
	return data
}

// descend returns the path to the leaf where the units end that before is true for, their number in that leaf and their
// bytes there. from may narrow the children of a node to look at, as [lo, hi): before is true for the first unit of
// child lo and false for that of hi.
func (t tree) descend(before func(unit []byte) bool, from func(all []branch) (lo, hi int)) (p path, at, off int) {
	ref := t.root()
	for h := t.height(); h > 0; h-- {
		all := t.s.branches(ref)
		lo, hi := from(all)
		for hi-lo > 1 {
			if mid := int(uint(lo+hi) / 2); before(t.s.firstUnit(all[mid].ref, h-1)) {
				lo = mid
			} else {
				hi = mid
			}
		}
		p.push(ref, lo)
		ref = all[lo].ref
	}
	p.leaf = ref
	_, data := t.s.leaf(ref)
	at, off = partition(data, t.l.arity, before)
	return p, at, off
}

// partition returns how many units of data before is true for, and their bytes.
func partition(data []byte, arity int, before func(unit []byte) bool) (n, off int) {
	var buf [128]uint16
	all := offsets(buf[:0], data, arity)
	lo, hi := 0, len(all)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); before(data[all[mid]:]) {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	if lo == len(all) {
		return lo, len(data)
	}
	return lo, int(all[lo])
}

// place returns where (score, member) is or belongs.
func (t tree) place(score float64, member []byte) (p path, at, off int) {
	key := scoreKey(score)
	return t.descend(func(unit []byte) bool { return !t.s.above(unit, score, member) }, func(all []branch) (lo, hi int) {
		hi = lastFrom(all, key) + 1
		if key > 0 {
			lo = lastFrom(all, key-1)
		}
		return lo, hi
	})
}

// above reports whether the unit p comes after (score, member).
func (s *Shard) above(p []byte, score float64, member []byte) bool {
	at := scoreAt(p[elementSize(p):])
	if at != score {
		return at > score
	}
	var buf [intText]byte
	return bytes.Compare(s.textAt(p, buf[:0]), member) > 0
}

// search returns how many units before is true for.
func (t tree) search(before func(unit []byte) bool) int {
	p, at, _ := t.descend(before, func(all []branch) (lo, hi int) { return 0, len(all) })
	return t.rank(&p) + at
}

// enter adds a unit whose member is text and which is not in the tree.
func (t tree) enter(unit, text []byte, score float64) {
	p, _, off := t.place(score, text)
	t.splice(&p, off, 0, unit, 1)
}

// leave takes out the unit (score, member), which is in the tree.
func (t tree) leave(score float64, member []byte) {
	p, at, _ := t.place(score, member)
	_, data := t.s.leaf(p.leaf)
	off := offsetOf(data, t.l.arity, at-1)
	t.splice(&p, off, unitSize(data[off:], t.l.arity), nil, -1)
}
