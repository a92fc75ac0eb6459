package store

import (
	"math/rand/v2"
)

// Fields is the value of a key of type Hash.
type Fields struct{ c collection }

// Fields returns the handle of an entry whose Type is Hash.
func (r Ref) Fields() Fields { return Fields{r.collection()} }

// NewHash stores an empty hash under key, in place of whatever is there and without an expiry.
func (s *Shard) NewHash(key []byte) Fields { return Fields{s.build(key, Hash, emptyPacked)} }

// Len returns the number of fields.
func (h *Fields) Len() int { return h.c.count() }

// Get returns the value of a field.
func (h *Fields) Get(field []byte) (value []byte, ok bool) {
	unit, ok := h.c.find(hashLayout, field)
	if !ok {
		return nil, false
	}
	return h.c.s.text(unit[elementSize(unit):]), true
}

// pair returns the two strings of a unit.
func (c *collection) pair(unit []byte) (field, value []byte) {
	return c.s.text(unit), c.s.text(unit[elementSize(unit):])
}

// Set stores a field and reports whether it is new. A field that is not keeps its place among those of a small hash.
func (h *Fields) Set(field, value []byte) (added bool) {
	limits := h.c.s.db.limits.Load()
	large := max(len(field), len(value)) > limits.HashValue
	added = h.set(field, value)
	if large || added && h.c.count() > limits.HashEntries {
		h.c.markLarge()
	}
	h.c.done()
	return added
}

func (h *Fields) set(field, value []byte) (added bool) {
	c := &h.c
	if c.form() == formPacked {
		if len(field)+len(value) <= hashPacking.bytes {
			if added, ok := h.setPacked(field, value); ok {
				return added
			}
		}
		s := c.s
		s.held = append(append(s.held[:0], field...), value...) // they may be in the value that is replaced
		field, value = s.held[:len(field)], s.held[len(field):]
		c.treeFromPacked(hashLayout)
	}
	return c.tree(0, hashLayout).put(field, value)
}

// setPacked is set in the packed form. It does nothing and reports false if the hash becomes too large for it.
func (h *Fields) setPacked(field, value []byte) (added, ok bool) {
	c, s := &h.c, h.c.s
	units, data := c.packed()
	q := s.probe(field, most)
	off, found := s.lookup(data, 2, &q)
	w := s.scratch[:0]
	del := 0
	if found {
		off += elementSize(data[off:])
		del = elementSize(data[off:])
	} else {
		off = len(data)
		w = append(w, q.enc...)
		units++
	}
	w = appendElement(w, value)
	s.scratch = w
	if !hashPacking.fits(units, len(data)+len(w)-del) {
		return false, false
	}
	dn := 0
	if !found {
		dn = 1
	}
	c.splicePacked(off, del, w, dn)
	return !found, true
}

// treeFromPacked moves the units of the packed form to a tree.
func (c *collection) treeFromPacked(l *layout) {
	var head [treeBytes]byte
	t := tree{c.s, head[:], l}
	t.plant()
	_, data := c.packed()
	var a, b [intText]byte
	for off := 0; off < len(data); off += unitSize(data[off:], l.arity) {
		text := c.s.textAt(data[off:], a[:0])
		var value []byte
		if l.arity == 2 {
			value = c.s.textAt(data[off+elementSize(data[off:]):], b[:0])
		}
		t.put(text, value)
	}
	c.replace(formTree, head[:])
}

// Delete removes a field and reports whether it was there.
func (h *Fields) Delete(field []byte) bool { return h.c.removeUnit(hashLayout, field) }

// removeUnit takes the unit of text out of a hash or a set, not of integers.
func (c *collection) removeUnit(l *layout, text []byte) (ok bool) {
	if c.form() == formTree {
		ok = c.tree(0, l).remove(text)
	} else {
		_, data := c.packed()
		q := c.s.probe(text, most)
		var off int
		if off, ok = c.s.lookup(data, l.arity, &q); ok {
			c.splicePacked(off, unitSize(data[off:], l.arity), nil, -1)
		}
	}
	c.done()
	return ok
}

// Each calls fn with every field until it returns false: in the order in which they were added while the hash is small.
// fn must not change the shard.
func (h *Fields) Each(fn func(field, value []byte) bool) {
	h.c.each(hashLayout, func(unit []byte) bool { return fn(h.c.pair(unit)) })
}

// Scan is Shard.Scan over fields: fields that stay are seen at least once, small hashes whole in one call. A cursor is
// below 1<<48.
func (h *Fields) Scan(cursor uint64, count int, fn func(field, value []byte)) (next uint64) {
	return h.c.scan(hashLayout, cursor, count, func(unit []byte) { fn(h.c.pair(unit)) })
}

// Random returns a field, every one with the same chance. The hash must not be empty.
func (h *Fields) Random(rng *rand.Rand) (field, value []byte) {
	return h.c.pair(h.c.unit(hashLayout, rng.IntN(h.Len())))
}

// MarkLarge makes the encoding hashtable for good, as it is in the hash that this one is restored from.
func (h *Fields) MarkLarge() { h.c.markLarge() }
