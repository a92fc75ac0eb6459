package store

// Elements is the value of a key of type List, with indexes from 0.
type Elements struct{ c collection }

// Elements returns the handle of an entry whose Type is List.
func (r Ref) Elements() Elements { return Elements{r.collection()} }

// NewList stores an empty list under key, in place of whatever is there and without an expiry.
func (s *Shard) NewList(key []byte) Elements { return Elements{s.build(key, List, emptyPacked)} }

// Len returns the number of elements.
func (l *Elements) Len() int { return l.c.count() }

// At returns the element at index i, which is in the list.
func (l *Elements) At(i int) []byte { return l.c.s.text(l.c.unit(listLayout, i)) }

// Insert puts an element before index i, 0 to Len.
func (l *Elements) Insert(i int, element []byte) {
	l.put(i, 0, element)
	l.c.done()
}

// Set replaces the element at index i, which is in the list.
func (l *Elements) Set(i int, element []byte) {
	l.put(i, 1, element)
	l.c.done()
}

// put puts an element in place of the next del, 0 or 1, from index i on.
func (l *Elements) put(i, del int, element []byte) {
	c, s := &l.c, l.c.s
	if c.form() == formPacked {
		if len(element) <= listPacking.bytes && l.putPacked(i, del, element) {
			return
		}
		s.held = append(s.held[:0], element...)
		element = s.held
		l.grow()
	}
	t := c.tree(0, listLayout)
	p, at := t.seek(i + del)
	_, data := s.leaf(p.leaf)
	off := offsetOf(data, 1, at-del)
	s.scratch = s.appendInline(s.scratch[:0], element, listLayout.inline, 0)
	n := 0
	if del > 0 {
		n = elementSize(data[off:])
		s.freeOutside(data[off:])
	}
	t.splice(&p, off, n, s.scratch, 1-del)
}

func (l *Elements) putPacked(i, del int, element []byte) bool {
	c, s := &l.c, l.c.s
	units, data := c.packed()
	off := len(data)
	if i < units {
		off = offsetOf(data, 1, i)
	}
	n := 0
	if del > 0 {
		n = elementSize(data[off:])
	}
	s.scratch = appendElement(s.scratch[:0], element)
	if !listPacking.fits(units+1-del, len(data)+len(s.scratch)-n) {
		return false
	}
	c.splicePacked(off, n, s.scratch, 1-del)
	return true
}

// grow moves the packed elements to a tree.
func (l *Elements) grow() {
	c, s := &l.c, l.c.s
	var head [treeBytes]byte
	t := tree{s, head[:], listLayout}
	t.plant()
	_, data := c.packed()
	var buf [intText]byte
	for off := 0; off < len(data); off += elementSize(data[off:]) {
		p, _ := t.seek(t.len())
		_, leaf := s.leaf(p.leaf)
		s.scratch = s.appendInline(s.scratch[:0], s.textAt(data[off:], buf[:0]), listLayout.inline, 0)
		t.splice(&p, len(leaf), 0, s.scratch, 1)
	}
	c.replace(formTree, head[:])
}

// Remove removes n elements from index i on, all of which are in the list.
func (l *Elements) Remove(i, n int) {
	c := &l.c
	if n == 0 {
		return
	}
	if c.form() == formTree {
		c.tree(0, listLayout).removeRange(i, n)
	} else {
		_, data := c.packed()
		off := offsetOf(data, 1, i)
		c.splicePacked(off, offsetOf(data[off:], 1, n), nil, -n)
	}
	c.done()
}

// Each calls fn with the elements from index i on, upwards with step 1 and downwards with step -1, until it returns
// false. fn must not change the shard.
func (l *Elements) Each(i, step int, fn func(i int, element []byte) bool) {
	l.c.walk(0, listLayout, i, step, func(i int, unit []byte) bool { return fn(i, l.c.s.text(unit)) })
}
