package store

import (
	"math"
	"math/rand/v2"
)

// SortedSet is the value of a key of type ZSet: members in order of (score, member), ranks from 0.
type SortedSet struct{ c collection }

// SortedSet returns the handle of an entry whose Type is ZSet.
func (r Ref) SortedSet() SortedSet { return SortedSet{r.collection()} }

// NewSortedSet stores an empty sorted set under key, in place of whatever is there and without an expiry.
func (s *Shard) NewSortedSet(key []byte) SortedSet { return SortedSet{s.build(key, ZSet, emptyPacked)} }

// Len returns the number of members.
func (z *SortedSet) Len() int { return z.c.count() }

// Score returns the score of a member.
func (z *SortedSet) Score(member []byte) (score float64, ok bool) {
	unit, ok := z.c.find(scoreLayout, member)
	if !ok {
		return 0, false
	}
	return unitScore(unit), true
}

func unitScore(unit []byte) float64 { return scoreAt(unit[elementSize(unit):]) }

// Set gives a member its score, which is no NaN, and reports whether the member is new.
func (z *SortedSet) Set(member []byte, score float64) (added bool) {
	if math.IsNaN(score) {
		panic("store: the score is not a number")
	}
	limits := z.c.s.db.limits.Load()
	large := len(member) > limits.ZSetValue
	added = z.set(member, score)
	if added && (large || z.c.count() > limits.ZSetEntries) {
		z.c.markLarge()
	}
	z.c.done()
	return added
}

func (z *SortedSet) set(member []byte, score float64) (added bool) {
	c, s := &z.c, z.c.s
	if c.form() == formPacked {
		if len(member) <= zsetPacking.bytes {
			if added, ok := z.setPacked(member, score); ok {
				return added
			}
		}
		s.held = append(s.held[:0], member...)
		member = s.held
		z.grow()
	}
	return z.trees().set(member, score)
}

// setPacked is set in the packed form. It does nothing and reports false if the set becomes too large for it.
func (z *SortedSet) setPacked(member []byte, score float64) (added, ok bool) {
	c, s := &z.c, z.c.s
	units, data := c.packed()
	q := s.probe(member, most)
	off, found := s.lookup(data, 2, &q)
	s.scratch = appendScore(append(s.scratch[:0], q.enc...), score)
	size := len(data) + len(s.scratch)
	if found {
		old := unitSize(data[off:], 2)
		if size -= old; !zsetPacking.fits(units, size) {
			return false, false
		}
		c.splicePacked(off, old, nil, -1)
		_, data = c.packed()
	} else if !zsetPacking.fits(units+1, size) {
		return false, false
	}
	_, at := partition(data, 2, func(unit []byte) bool { return !s.above(unit, score, s.textAt(s.scratch, nil)) })
	c.splicePacked(at, 0, s.scratch, 1)
	return !found, true
}

// grow moves the packed units to trees.
func (z *SortedSet) grow() {
	c := &z.c
	var heads [2 * treeBytes]byte
	t := scoreTrees{tree{c.s, heads[:treeBytes], scoreLayout}, tree{c.s, heads[treeBytes:], orderLayout}}
	t.members.plant()
	t.order.plant()
	_, data := c.packed()
	var buf [intText]byte
	for off := 0; off < len(data); off += unitSize(data[off:], 2) {
		t.set(c.s.textAt(data[off:], buf[:0]), unitScore(data[off:]))
	}
	c.replace(formTree, heads[:])
}

// scoreTrees are the two trees of a large sorted set. A unit is in both; a block outside belongs to members.
type scoreTrees struct{ members, order tree }

func (z *SortedSet) trees() scoreTrees {
	return scoreTrees{z.c.tree(0, scoreLayout), z.c.tree(1, orderLayout)}
}

func (t scoreTrees) set(member []byte, score float64) (added bool) {
	s := t.members.s
	q := s.probe(member, scoreLayout.inline)
	p, off, found := t.members.find(&q)
	_, data := s.leaf(p.leaf)
	if !found {
		w := appendScore(s.appendInline(s.scratch[:0], member, scoreLayout.inline, q.hash), score)
		s.scratch = w
		t.order.enter(w, s.textAt(w, nil), score)
		t.members.splice(&p, len(data), 0, w, 1)
		return true
	}
	name := elementSize(data[off:])
	old := scoreAt(data[off+name:])
	if old == score && math.Signbit(old) == math.Signbit(score) {
		return false
	}
	w := appendScore(append(s.scratch[:0], data[off:off+name]...), score)
	s.scratch = w
	text := s.textAt(w, nil)
	t.order.leave(old, text)
	t.order.enter(w, text, score)
	t.members.splice(&p, off+name, elementSize(data[off+name:]), w[name:], 0)
	return false
}

func (t scoreTrees) remove(member []byte) bool {
	s := t.members.s
	q := s.probe(member, scoreLayout.inline)
	p, off, ok := t.members.find(&q)
	if !ok {
		return false
	}
	_, data := s.leaf(p.leaf)
	t.order.leave(unitScore(data[off:]), member)
	n := unitSize(data[off:], 2)
	s.freeOutside(data[off:])
	t.members.splice(&p, off, n, nil, -1)
	return true
}

// Remove removes a member and reports whether it was there.
func (z *SortedSet) Remove(member []byte) (ok bool) {
	if z.c.form() != formTree {
		return z.c.removeUnit(scoreLayout, member)
	}
	ok = z.trees().remove(member)
	z.c.done()
	return ok
}

// Rank returns how many members come before this one.
func (z *SortedSet) Rank(member []byte) (rank int, ok bool) {
	c := &z.c
	if c.form() == formTree {
		unit, ok := c.find(scoreLayout, member)
		if !ok {
			return 0, false
		}
		order := c.tree(1, orderLayout)
		p, at, _ := order.place(unitScore(unit), member)
		return order.rank(&p) + at - 1, true
	}
	_, data := c.packed()
	q := c.s.probe(member, most)
	for off := 0; off < len(data); off += unitSize(data[off:], 2) {
		if c.s.matches(data[off:], &q) {
			return rank, true
		}
		rank++
	}
	return 0, false
}

// Search returns how many members before is true for, in O(log n) calls. It must be true for a first part of the order
// and false for the rest.
func (z *SortedSet) Search(before func(member []byte, score float64) bool) int {
	c := &z.c
	test := func(unit []byte) bool { return before(c.s.text(unit), unitScore(unit)) }
	if c.form() == formTree {
		return c.tree(1, orderLayout).search(test)
	}
	_, data := c.packed()
	n, _ := partition(data, 2, test)
	return n
}

// Each calls fn with the members from rank on, upwards with step 1 and downwards with step -1, until it returns false.
// fn must not change the shard.
func (z *SortedSet) Each(rank, step int, fn func(member []byte, score float64) bool) {
	z.c.walk(1, orderLayout, rank, step, func(_ int, unit []byte) bool {
		return fn(z.c.s.text(unit), unitScore(unit))
	})
}

// Scan is Shard.Scan over members: members that stay are seen at least once, small sets whole in one call. A cursor is
// below 1<<48.
func (z *SortedSet) Scan(cursor uint64, count int, fn func(member []byte, score float64)) (next uint64) {
	return z.c.scan(scoreLayout, cursor, count, func(unit []byte) { fn(z.c.s.text(unit), unitScore(unit)) })
}

// Random returns a member, every one with the same chance. The set must not be empty.
func (z *SortedSet) Random(rng *rand.Rand) (member []byte, score float64) {
	unit := z.c.unit(scoreLayout, rng.IntN(z.Len()))
	return z.c.s.text(unit), unitScore(unit)
}

// MarkLarge makes the encoding skiplist for good, as it is in the sorted set that this one is restored from.
func (z *SortedSet) MarkLarge() { z.c.markLarge() }
