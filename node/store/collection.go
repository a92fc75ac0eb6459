package store

import "encoding/binary"

// Handles of collections (Fields, Elements, Members, SortedSet) follow one rule: a handle is valid until its shard is changed by
// anything but the handle's own methods, and what a method returns aliases the shard's memory until the next change,
// those by the handle included. Arguments are copied in. An empty collection must not stay: whoever takes out the last
// element deletes the key.

// Limits are numbers of Redis' under the names of its parameters. The first six say up to where OBJECT ENCODING reports the compact
// encoding of a collection, and decide nothing else.
type Limits struct {
	HashEntries, HashValue int // hash-max-listpack-entries, hash-max-listpack-value (bytes)
	SetEntries             int // set-max-intset-entries
	ZSetEntries, ZSetValue int // zset-max-listpack-entries, zset-max-listpack-value (bytes)
	ListSize               int // list-max-listpack-size: elements, or -1 to -5 for 4 to 64 KiB a node

	// A node of a stream that has so many entries or bytes of Redis' encoding takes no further entry: what approximate trimming
	// removes at once (stream-node-max-entries, stream-node-max-bytes). 0 is unlimited entries, and maxNodeBytes.
	StreamEntries, StreamBytes int

	// How much rarer an access counts the more there were, and after how many minutes one is forgotten, 0 for never, under the LFU
	// policies (lfu-log-factor, lfu-decay-time).
	LFULogFactor, LFUDecay int
}

// DefaultLimits are Redis' defaults.
func DefaultLimits() Limits {
	return Limits{HashEntries: 512, HashValue: 64, SetEntries: 512, ZSetEntries: 128, ZSetValue: 64, ListSize: -2,
		StreamEntries: 100, StreamBytes: 4096, LFULogFactor: 10, LFUDecay: 1}
}

// A collection's value in its entry is a byte that says the form, with the flag large if OBJECT ENCODING has left the
// compact encoding for good, and then
//
//	packed  units 2 and the units, without a gap
//	treed   the heads of its trees: one, two for a sorted set
//	ints…   integers of 2, 4 or 8 bytes, ascending: sets only
//
// What a form costs decides when to leave it, not what is reported.
const (
	formPacked = iota
	formTree
	formInts16
	formInts32
	formInts64
	formMask  = 0x07
	flagLarge = 0x80

	packedHeader = 3
)

// packing says up to where a kind of collection stays packed: few units in many bytes, or many in few.
type packing struct{ units, bytes, fewBytes int }

var (
	hashPacking = packing{512, 4 << 10, 4 << 10}
	setPacking  = packing{128, 4 << 10, 2 << 10}
	zsetPacking = packing{128, 10 << 10, 2 << 10} // large ones have their members twice
	listPacking = packing{2048, 4 << 10, 4 << 10}
)

// most is the size of the largest packing: no longer string is packed.
const most = 10 << 10

func (k packing) fits(units, bytes int) bool {
	return bytes <= k.fewBytes || units <= k.units && bytes <= k.bytes
}

// collection is what all handles have in common: the way to the entry.
type collection struct {
	s    *Shard
	at   place
	hash uint64
	seen uint64 // s.changes when at was right
}

// collection returns the way to r's entry.
func (r Ref) collection() collection {
	h := r.s.db.hash(r.b.key())
	at := r.at
	if at.b == nil {
		_, at, _ = r.s.find(r.b.key(), h)
	}
	return collection{r.s, at, h, r.s.changes}
}

// build stores value under key as a t, in place of whatever is there, without an expiry.
func (s *Shard) build(key []byte, t Type, value []byte) collection {
	s.Set(key, value, 0)
	h := s.db.hash(key)
	b, at, _ := s.find(key, h)
	b.setKind(t, false)
	return collection{s, at, h, s.changes}
}

var emptyPacked = []byte{formPacked, 0, 0}

// ref returns the entry's reference. Should others have changed the shard, it looks for the entry first.
func (c *collection) ref() uint32 {
	if c.seen != c.s.changes {
		c.at = c.s.findHash(c.hash)
		c.seen = c.s.changes
	}
	return c.at.b.refs[c.at.i]
}

func (c *collection) value() []byte { return c.s.slab.at(c.ref()).value() }

// done ends a change of the collection.
func (c *collection) done() {
	if cap(c.s.held) > maxBlock {
		c.s.held = nil
	}
	c.s.settle()
	c.seen = c.s.changes
}

// resize gives the value n bytes, keeps those that are in both, and returns it.
func (c *collection) resize(n int) []byte {
	s, old := c.s, c.ref()
	b := s.slab.at(old)
	have, _ := b.shape()
	want := have
	want.vlen = n
	room, need := s.slab.capacity(old), capacityFor(want.size())
	if have.header() == want.header() && need <= room && need*4 > room*3 {
		b.setLens(want)
		return b.value()
	}
	kind := Type(b.flags() & typeMask)
	nb := s.move(c.at, want, want.size())
	nb.setKind(kind, false)
	copy(nb.value(), b.value())
	s.release(old)
	return c.value()
}

// splice replaces del bytes at off of the value by ins, which is not in the slab.
func (c *collection) splice(off, del int, ins []byte) {
	v := c.value()
	n, by := len(v), len(ins)-del
	if by > 0 {
		v = c.resize(n + by)
	}
	copy(v[off+len(ins):], v[off+del:n])
	copy(v[off:], ins)
	if by < 0 {
		c.resize(n + by)
	}
}

func (c *collection) form() int { return int(c.value()[0] & formMask) }

// replace makes the value form and rest, which is not in the slab. The flag stays.
func (c *collection) replace(form byte, rest []byte) {
	v := c.resize(1 + len(rest))
	v[0] = v[0]&^formMask | form
	copy(v[1:], rest)
}

// markLarge notes that the compact encoding has been left.
func (c *collection) markLarge() { c.value()[0] |= flagLarge }

// tree returns the i-th tree of a collection in that form.
func (c *collection) tree(i int, l *layout) tree {
	return tree{c.s, c.value()[1+i*treeBytes : 1+(i+1)*treeBytes], l}
}

// packed returns the units of a collection in that form and their number.
func (c *collection) packed() (units int, data []byte) {
	v := c.value()
	return int(binary.LittleEndian.Uint16(v[1:])), v[packedHeader:]
}

// splicePacked is splice among the units of the packed form, whose number changes by dn.
func (c *collection) splicePacked(off, del int, ins []byte, dn int) {
	c.splice(packedHeader+off, del, ins)
	v := c.value()[1:]
	binary.LittleEndian.PutUint16(v, uint16(int(binary.LittleEndian.Uint16(v))+dn))
}

// count returns the number of units.
func (c *collection) count() int {
	v := c.value()
	switch form := int(v[0] & formMask); form {
	case formPacked:
		return int(binary.LittleEndian.Uint16(v[1:]))
	case formTree:
		return int(binary.LittleEndian.Uint32(v[5:]))
	default:
		return (len(v) - 1) / intWidth(form)
	}
}

// each calls fn with the units until it returns false.
func (c *collection) each(l *layout, fn func(unit []byte) bool) {
	leaf := func(data []byte) bool {
		for off := 0; off < len(data); off += unitSize(data[off:], l.arity) {
			if !fn(data[off:]) {
				return false
			}
		}
		return true
	}
	if c.form() == formTree {
		c.tree(0, l).each(leaf)
		return
	}
	_, data := c.packed()
	leaf(data)
}

// find returns the unit whose first element is text.
func (c *collection) find(l *layout, text []byte) (unit []byte, ok bool) {
	if c.form() == formTree {
		return c.tree(0, l).get(text)
	}
	_, data := c.packed()
	q := c.s.probe(text, most)
	off, ok := c.s.lookup(data, l.arity, &q)
	return data[off:], ok
}

// unit returns unit i, which exists, in the order of each.
func (c *collection) unit(l *layout, i int) []byte {
	if c.form() == formTree {
		t := c.tree(0, l)
		p, off := t.unit(i)
		_, data := c.s.leaf(p.leaf)
		return data[off:]
	}
	_, data := c.packed()
	return data[offsetOf(data, l.arity, i):]
}

// scan calls fn with about count units from cursor on, with all of them unless they are in a tree.
func (c *collection) scan(l *layout, cursor uint64, count int, fn func(unit []byte)) (next uint64) {
	if c.form() == formTree {
		return c.tree(0, l).scan(cursor, max(count, 1), fn)
	}
	c.each(l, func(unit []byte) bool { fn(unit); return true })
	return 0
}

// walk calls fn with the units of tree i from index at on, upwards with step 1 and downwards with -1, until it returns
// false.
func (c *collection) walk(i int, l *layout, at, step int, fn func(i int, unit []byte) bool) {
	if at < 0 || at >= c.count() {
		return
	}
	if c.form() != formTree {
		_, data := c.packed()
		walkUnits(data, l.arity, at, step, at, fn)
		return
	}
	t := c.tree(i, l)
	p, in := t.seek(at + 1)
	for in--; ; {
		n, data := c.s.leaf(p.leaf)
		if in < 0 {
			in = n - 1
		}
		if !walkUnits(data, l.arity, in, step, at, fn) {
			return
		}
		if step > 0 {
			at += n - in
			in = 0
		} else {
			at -= in + 1
			in = -1
		}
		if !t.next(&p, step) {
			return
		}
	}
}

// walkUnits calls fn with the units of data from unit in on, which it calls at.
func walkUnits(data []byte, arity, in, step, at int, fn func(i int, unit []byte) bool) bool {
	if step > 0 {
		for off := offsetOf(data, arity, in); off < len(data); off += unitSize(data[off:], arity) {
			if !fn(at, data[off:]) {
				return false
			}
			at++
		}
		return true
	}
	var buf [512]uint16
	all := offsets(buf[:0], data, arity)
	for ; in >= 0; in-- {
		if !fn(at, data[all[in]:]) {
			return false
		}
		at--
	}
	return true
}

// layouts returns the layouts of the trees of a type.
func layouts(t Type) []*layout { return layoutsByType[t] }

var layoutsByType = [...][]*layout{
	List: {listLayout}, Set: {setLayout}, ZSet: {scoreLayout, orderLayout}, Hash: {hashLayout}, Stream: nil,
}

// drop takes what belongs to the entry beyond its block out of use.
func (s *Shard) drop(b block) {
	switch t := Type(b.flags() & typeMask); t {
	case String, None:
	case Stream:
		s.dropObject(b.value())
	default:
		if v := b.value(); v[0]&formMask == formTree {
			for i, l := range layouts(t) {
				head := tree{s, v[1+i*treeBytes : 1+(i+1)*treeBytes], l}
				s.bury(head.root(), head.height(), l)
			}
		}
	}
}

// Rename gives the entry of from, its expiry included, the key to, in place of whatever to holds. It reports whether from
// exists. Both keys equal is no change.
func (s *Shard) Rename(from, to []byte) bool {
	r, ok := s.Peek(from)
	if !ok || string(from) == string(to) {
		return ok
	}
	t := r.Type()
	s.Set(to, r.Value(), r.ExpireAt())
	if t != String {
		b, _, _ := s.find(to, s.db.hash(to))
		b.setKind(t, false)
		b, _, _ = s.find(from, s.db.hash(from))
		b.setKind(String, false) // nothing beyond its block is its own any more
	}
	return s.Delete(from)
}

// Copy gives to a copy of the entry of from, its expiry included, in place of whatever to holds. It reports whether from
// exists.
func (s *Shard) Copy(from, to []byte) bool {
	r, ok := s.Peek(from)
	if !ok || string(from) == string(to) {
		return ok
	}
	t, at := r.Type(), r.ExpireAt()
	s.Set(to, r.Value(), at)
	if t == String {
		return true
	}
	b, _, _ := s.find(to, s.db.hash(to))
	b.setKind(t, false)
	switch v := b.value(); {
	case t == Stream:
		s.copyObject(v)
	case v[0]&formMask == formTree:
		moved := map[uint32]uint32{}
		for i, l := range layouts(t) {
			head := tree{s, v[1+i*treeBytes : 1+(i+1)*treeBytes], l}
			head.setRoot(s.cloneNode(head.root(), head.height(), l, moved))
		}
	}
	s.settle()
	return true
}
