package store

import (
	"cmp"
	"slices"
)

// Trees of hashes, sets and the members of sorted sets are in the order of 48 bits of a hash of the first element of each
// unit. A split puts a border between two different hashes, so all units of one hash are in one leaf, and the position of
// a unit in the order never changes while it stays: a cursor is the hash to go on from.

const hashShift = 16

// hashProbe returns the hash of a probe's element.
func (s *Shard) hashProbe(q *probe) uint64 {
	if q.outside {
		return s.db.hash(q.text) >> hashShift
	}
	return s.db.hash(q.enc) >> hashShift
}

// hashElement returns the hash of the element that p begins with.
func (s *Shard) hashElement(p []byte) uint64 {
	if p[0] == elemOutside {
		return s.db.hash(s.textAt(p, nil)) >> hashShift
	}
	return s.db.hash(p[:elementSize(p)]) >> hashShift
}

// locate returns the path to the leaf whose range has the hash.
func (t tree) locate(h uint64) (p path) {
	ref := t.root()
	for range t.height() {
		all := t.s.branches(ref)
		i := lastFrom(all, h)
		p.push(ref, i)
		ref = all[i].ref
	}
	p.leaf = ref
	return p
}

// lastFrom returns the last branch whose key is at most key, 0 if there is none.
func lastFrom(all []branch, key uint64) int {
	lo, hi := 1, len(all)
	for lo < hi {
		if mid := int(uint(lo+hi) / 2); all[mid].key <= key {
			lo = mid + 1
		} else {
			hi = mid
		}
	}
	return lo - 1
}

// find returns the place of the probe's unit.
func (t tree) find(q *probe) (p path, off int, ok bool) {
	q.hash = t.s.hashProbe(q)
	p = t.locate(q.hash)
	_, data := t.s.leaf(p.leaf)
	off, ok = t.s.lookup(data, t.l.arity, q)
	return p, off, ok
}

// get returns the unit of text.
func (t tree) get(text []byte) (unit []byte, ok bool) {
	q := t.s.probe(text, t.l.inline)
	p, off, ok := t.find(&q)
	if !ok {
		return nil, false
	}
	_, data := t.s.leaf(p.leaf)
	return data[off:], true
}

// put stores text, with value behind it in a hash, and reports whether text is new.
func (t tree) put(text, value []byte) (added bool) {
	s := t.s
	q := s.probe(text, t.l.inline)
	p, off, ok := t.find(&q)
	_, data := s.leaf(p.leaf)
	w := s.scratch[:0]
	if !ok {
		w = s.appendInline(w, text, t.l.inline, q.hash)
	}
	if t.l.arity == 2 {
		w = s.appendInline(w, value, t.l.inline, 0)
	}
	s.scratch = w
	switch {
	case !ok:
		t.splice(&p, len(data), 0, w, 1)
	case t.l.arity == 2:
		off += elementSize(data[off:])
		n := elementSize(data[off:])
		s.freeOutside(data[off:])
		t.splice(&p, off, n, w, 0)
	}
	return !ok
}

// remove takes the unit of text out.
func (t tree) remove(text []byte) bool {
	q := t.s.probe(text, t.l.inline)
	p, off, ok := t.find(&q)
	if !ok {
		return false
	}
	_, data := t.s.leaf(p.leaf)
	n := unitSize(data[off:], t.l.arity)
	t.s.freeUnits(data[off : off+n])
	t.splice(&p, off, n, nil, -1)
	return true
}

// scan calls fn with the units from the leaf of cursor on, whole leaves until there were count, and returns the cursor of
// the next leaf, 0 at the end.
func (t tree) scan(cursor uint64, count int, fn func(unit []byte)) (next uint64) {
	p := t.locate(cursor)
	for seen := 0; ; {
		n, data := t.s.leaf(p.leaf)
		for off := 0; off < len(data); off += unitSize(data[off:], t.l.arity) {
			fn(data[off:])
		}
		if !t.next(&p, 1) {
			return 0
		}
		if seen += n; seen >= count {
			return t.border(&p)
		}
	}
}

// border returns the key from which on units belong to the path's leaf, which is not the first one.
func (t tree) border(p *path) uint64 {
	n := p.n - 1
	for p.steps[n].i == 0 {
		n--
	}
	return t.s.branches(p.steps[n].ref)[p.steps[n].i].key
}

// hashedUnit is a unit of a leaf that is divided.
type hashedUnit struct {
	hash      uint64
	off, size int
}

// partition sorts the units of the desk's work by hash and returns them with the place to divide them, the units before it
// and the first hash behind it.
func (s *Shard) partition(d *desk, arity int) (sorted []byte, cut, left int, key uint64) {
	w, all := d.work, d.units[:0]
	for off := 0; off < len(w); {
		n := unitSize(w[off:], arity)
		all = append(all, hashedUnit{s.hashElement(w[off:]), off, n})
		off += n
	}
	slices.SortFunc(all, func(a, b hashedUnit) int { return cmp.Compare(a.hash, b.hash) })
	sorted = d.sorted[:0]
	for i, u := range all {
		if i > 0 && u.hash != all[i-1].hash && cut*2 < len(w) {
			cut, left, key = len(sorted), i, u.hash
		}
		sorted = append(sorted, w[u.off:u.off+u.size]...)
	}
	d.units, d.sorted = all, sorted
	if left == 0 {
		panic("store: equal hashes fill a leaf") // of 48 bits each: the hash is broken
	}
	return sorted, cut, left, key
}
