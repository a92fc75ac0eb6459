package store

import (
	"math/rand/v2"
)

// Members is the value of a key of type Set.
type Members struct{ c collection }

// Members returns the handle of an entry whose Type is Set.
func (r Ref) Members() Members { return Members{r.collection()} }

// NewSet stores an empty set under key, in place of whatever is there and without an expiry.
func (s *Shard) NewSet(key []byte) Members { return Members{s.build(key, Set, []byte{formInts16})} }

// Len returns the number of members.
func (m *Members) Len() int { return m.c.count() }

// Has reports whether the member is in the set.
func (m *Members) Has(member []byte) bool {
	if w := intWidth(m.c.form()); w != 0 {
		v, ok := parseInt(member)
		if ok {
			_, ok = searchInts(m.c.value()[1:], w, v)
		}
		return ok
	}
	_, ok := m.c.find(setLayout, member)
	return ok
}

// Add adds a member and reports whether it is new.
func (m *Members) Add(member []byte) (added bool) {
	v, isInt := parseInt(member)
	added = m.add(member, v, isInt)
	if !isInt || added && m.c.count() > m.c.s.db.limits.Load().SetEntries {
		m.c.markLarge()
	}
	m.c.done()
	return added
}

func (m *Members) add(member []byte, v int64, isInt bool) (added bool) {
	c, s := &m.c, m.c.s
	if intWidth(c.form()) != 0 {
		if isInt {
			if added, ok := m.addInt(v); ok {
				return added
			}
		}
		s.held = append(s.held[:0], member...)
		member = s.held
		m.leaveInts()
	}
	if c.form() == formPacked {
		if len(member) <= setPacking.bytes {
			if added, ok := m.addPacked(member); ok {
				return added
			}
		}
		s.held = append(s.held[:0], member...)
		member = s.held
		c.treeFromPacked(setLayout)
	}
	return c.tree(0, setLayout).put(member, nil)
}

func (m *Members) addPacked(member []byte) (added, ok bool) {
	c, s := &m.c, m.c.s
	units, data := c.packed()
	q := s.probe(member, most)
	if _, found := s.lookup(data, 1, &q); found {
		return false, true
	}
	if !setPacking.fits(units+1, len(data)+len(q.enc)) {
		return false, false
	}
	c.splicePacked(len(data), 0, q.enc, 1)
	return true, true
}

// Remove removes a member and reports whether it was there.
func (m *Members) Remove(member []byte) bool {
	w := intWidth(m.c.form())
	if w == 0 {
		return m.c.removeUnit(setLayout, member)
	}
	v, ok := parseInt(member)
	if !ok {
		return false
	}
	at, ok := searchInts(m.c.value()[1:], w, v)
	if ok {
		m.c.splice(1+at*w, w, nil)
	}
	m.c.done()
	return ok
}

// Each calls fn with every member until it returns false: in ascending order while the set has integers only and is
// small. fn must not change the shard.
func (m *Members) Each(fn func(member []byte) bool) {
	if w := intWidth(m.c.form()); w != 0 {
		for ints := m.c.value()[1:]; len(ints) > 0; ints = ints[w:] {
			if !fn(m.c.s.intText(loadInt(ints, w))) {
				return
			}
		}
		return
	}
	m.c.each(setLayout, func(unit []byte) bool { return fn(m.c.s.text(unit)) })
}

// Scan is Shard.Scan over members: members that stay are seen at least once, small sets whole in one call. A cursor is
// below 1<<48.
func (m *Members) Scan(cursor uint64, count int, fn func(member []byte)) (next uint64) {
	if intWidth(m.c.form()) != 0 {
		m.Each(func(member []byte) bool { fn(member); return true })
		return 0
	}
	return m.c.scan(setLayout, cursor, count, func(unit []byte) { fn(m.c.s.text(unit)) })
}

// Random returns a member, every one with the same chance. The set must not be empty.
func (m *Members) Random(rng *rand.Rand) []byte {
	i := rng.IntN(m.Len())
	if w := intWidth(m.c.form()); w != 0 {
		return m.c.s.intText(loadInt(m.c.value()[1+i*w:], w))
	}
	return m.c.s.text(m.c.unit(setLayout, i))
}

// MarkLarge makes the encoding hashtable for good, as it is in the set that this one is restored from.
func (m *Members) MarkLarge() { m.c.markLarge() }
