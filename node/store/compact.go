package store

// Blocks of one class live in spans, and deletes leave holes in all of them: a keyspace whose values change their size
// would keep the spans of the old size half empty. So once a third of a class's blocks are free, the entries of its
// emptiest span (of a few looked at) move to the holes of the others and its pages go back. That costs at most two
// moves per freed block and bounds what free blocks waste to half of what is used.

const (
	compactSpans = 4 // a class with fewer spans is left alone
	compactLooks = 8 // spans looked at
)

// sparse reports whether compact pays for the class.
func (a *slab) sparse(cl int) bool {
	c := &a.classes[cl]
	if c.spans < compactSpans {
		return false
	}
	return (c.all-c.used)*3 > c.all
}

// sparsest returns the emptiest of the first spans with room, and how many more have room.
func (a *slab) sparsest(cl int) (page uint32, others int) {
	page = a.classes[cl].room - 1
	n := 0
	for at := a.classes[cl].room; at != 0 && n < compactLooks; at = a.spans[at-1].next {
		if a.spans[at-1].used < a.spans[page].used {
			page = at - 1
		}
		n++
	}
	return page, n - 1
}

// compact empties one span of the class.
func (s *Shard) compact(cl int) {
	page, others := s.slab.sparsest(cl)
	if others == 0 {
		return
	}
	a := &s.slab
	c := &a.classes[cl]
	a.unlink(c, page)
	units := classSize[cl] / unit
	for off := 0; off < int(a.spans[page].bump); off += units {
		ref := page*pageUnits + uint32(off)
		b := a.at(ref)
		if b.flags() == 0 {
			continue
		}
		if c.room == 0 {
			a.link(c, page) // the others are full: what is left stays
			return
		}
		s.relocate(ref, b, cl)
	}
	a.releaseSpan(page)
}

// relocate moves an entry to another block of its class.
func (s *Shard) relocate(ref uint32, b block, cl int) {
	h := s.db.hash(b.key())
	at := s.index.findRef(ref, h)
	size := classSize[cl]
	to, nb := s.slab.alloc(size)
	copy(nb.bytes(0, size), b.bytes(0, size))
	at.b.refs[at.i] = to
	if nb.flags()&flagTTL != 0 {
		s.expiry.item(nb.heapPos()).ref = to
	}
	s.slab.punch(s.slab.spanOf(ref), ref)
}
