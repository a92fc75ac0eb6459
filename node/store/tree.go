package store

import (
	"encoding/binary"
	"slices"
	"sync"
	"unsafe"
)

// tree is the large form of a collection: a counted B+tree whose leaves are packed units (element.go). Hashes and sets are
// ordered by the hash of the field or member (dict.go), sorted sets have a second tree by score (order.go), and lists are
// in the order of their elements, so one structure gives lookups, ranks, positions, cursors and chances.
//
// Nodes are blocks of Shard.parts. A tree has no way up and no links between leaves: an operation keeps the path that it
// came by. A tree value is made for one operation from its nine bytes in the entry's value:
//
//	root 4 | units 4 | height 1, 0 for a leaf
type tree struct {
	s    *Shard
	head []byte
	l    *layout
}

// layout says how the tree of one kind of collection is cut.
type layout struct {
	arity  int
	bytes  int  // of a leaf's units, about
	units  int  // of a leaf
	inline int  // bytes of an element; a longer string goes outside
	fork   int  // branches of a node, up to maxBranches
	owner  bool // of the blocks that its elements are in
	hashed bool // ordered by hash; leaves are unordered then
}

var (
	hashLayout  = &layout{arity: 2, bytes: 1000, units: 96, inline: 256, fork: maxBranches, owner: true, hashed: true}
	setLayout   = &layout{arity: 1, bytes: 1000, units: 96, inline: 256, fork: maxBranches, owner: true, hashed: true}
	scoreLayout = &layout{arity: 2, bytes: 1000, units: 96, inline: 24, fork: maxBranches, owner: true, hashed: true} // member to score
	orderLayout = &layout{arity: 2, bytes: 1000, units: 96, inline: 24, fork: maxBranches}                            // shares the blocks of the former
	listLayout  = &layout{arity: 1, bytes: 4088, units: 512, inline: 1000, fork: maxBranches, owner: true}
)

const (
	treeBytes   = 9
	leafHeader  = 4  // units 2, bytes 2
	nodeHeader  = 8  // branches 2, unused 6
	branchBytes = 16 // size of a branch
	maxBranches = 63 // of a node, which is 1,016 bytes then
	maxHeight   = 12 // nodes are a quarter full at least: 16^12 leaves
)

// branch leads to one child. key is at most the key of every unit in the child, and at least that of every unit before
// it; the first branch of a node bounds nothing.
type branch struct {
	key   uint64
	count uint32 // units
	ref   uint32
}

// path is the way to a leaf.
type path struct {
	n     int // inner nodes, from the root on
	steps [maxHeight]step
	leaf  uint32
}

type step struct {
	ref uint32
	i   int // branch taken
}

func (t tree) root() uint32     { return binary.LittleEndian.Uint32(t.head) }
func (t tree) len() int         { return int(binary.LittleEndian.Uint32(t.head[4:])) }
func (t tree) height() int      { return int(t.head[8]) }
func (t tree) setRoot(r uint32) { binary.LittleEndian.PutUint32(t.head, r) }
func (t tree) add(n int)        { binary.LittleEndian.PutUint32(t.head[4:], uint32(t.len()+n)) }

// branches returns the branches of the inner node ref.
func (s *Shard) branches(ref uint32) []branch {
	b := s.parts.at(ref)
	return unsafe.Slice((*branch)(unsafe.Add(b.p, nodeHeader)), b.u16(0))
}

// leaf returns the number of units of a leaf and the units.
func (s *Shard) leaf(ref uint32) (count int, data []byte) {
	b := s.parts.at(ref)
	return b.u16(0), b.bytes(leafHeader, b.u16(2))
}

// plant makes the tree an empty one.
func (t tree) plant() {
	clear(t.head)
	ref, b := t.s.parts.alloc(leafHeader)
	b.putU32(0, 0)
	t.setRoot(ref)
}

// first returns the path to the first leaf.
func (t tree) first() (p path) {
	ref := t.root()
	for range t.height() {
		p.push(ref, 0)
		ref = t.s.branches(ref)[0].ref
	}
	p.leaf = ref
	return p
}

func (p *path) push(ref uint32, i int) {
	p.steps[p.n] = step{ref, i}
	p.n++
}

// seek returns the path to the leaf with unit i and the unit's index there. Between two leaves it takes the first one, so
// that i may be the number of units.
func (t tree) seek(i int) (p path, at int) {
	ref := t.root()
	for range t.height() {
		all := t.s.branches(ref)
		j := 0
		for ; j < len(all)-1 && i > int(all[j].count); j++ {
			i -= int(all[j].count)
		}
		p.push(ref, j)
		ref = all[j].ref
	}
	p.leaf = ref
	return p, i
}

// unit returns the path to the leaf that holds unit i, which exists, and where it lies there.
func (t tree) unit(i int) (p path, off int) {
	p, at := t.seek(i + 1)
	_, data := t.s.leaf(p.leaf)
	return p, offsetOf(data, t.l.arity, at-1)
}

// rank returns how many units are in the leaves before the path's.
func (t tree) rank(p *path) (n int) {
	for _, st := range p.steps[:p.n] {
		for _, b := range t.s.branches(st.ref)[:st.i] {
			n += int(b.count)
		}
	}
	return n
}

// next moves the path to the leaf behind (by 1) or before (by -1). It reports false at the end.
func (t tree) next(p *path, by int) bool {
	for n := p.n - 1; n >= 0; n-- {
		all := t.s.branches(p.steps[n].ref)
		i := p.steps[n].i + by
		if i < 0 || i >= len(all) {
			continue
		}
		p.steps[n].i = i
		ref := all[i].ref
		for n++; n < p.n; n++ {
			all = t.s.branches(ref)
			i = 0
			if by < 0 {
				i = len(all) - 1
			}
			p.steps[n] = step{ref, i}
			ref = all[i].ref
		}
		p.leaf = ref
		return true
	}
	return false
}

// each calls fn with the leaves in order until it returns false.
func (t tree) each(fn func(data []byte) bool) {
	p := t.first()
	for {
		_, data := t.s.leaf(p.leaf)
		if !fn(data) || !t.next(&p, 1) {
			return
		}
	}
}

// splice replaces del bytes at off of the path's leaf by ins, which changes the number of units by dn. The path and what
// aliases the leaf are invalid afterwards; ins is not in the tree's memory.
func (t tree) splice(p *path, off, del int, ins []byte, dn int) {
	t.add(dn)
	for _, st := range p.steps[:p.n] {
		b := &t.s.branches(st.ref)[st.i]
		b.count = uint32(int(b.count) + dn)
	}
	count, data := t.s.leaf(p.leaf)
	used := len(data) + len(ins) - del
	if count+dn >= 2 && (used > t.l.bytes || count+dn > t.l.units) {
		t.divide(p, count+dn, off, del, ins)
		return
	}
	data = t.resizeLeaf(p, max(used, len(data)))
	copy(data[off+len(ins):used], data[off+del:])
	copy(data[off:], ins)
	t.resizeLeaf(p, used)
	t.s.parts.at(p.leaf).putU32(0, uint32(count+dn)|uint32(used)<<16)
	switch {
	case used == 0:
		t.prune(p)
	case used < t.l.bytes/4 && (count+dn)*4 < t.l.units && dn <= 0:
		t.join(p)
	}
}

// resizeLeaf gives the path's leaf room for n bytes of units and returns the room. Fewer bytes than before make the block
// smaller when that saves a quarter.
func (t tree) resizeLeaf(p *path, n int) []byte {
	a := &t.s.parts
	have, want := a.capacity(p.leaf), capacityFor(leafHeader+n)
	if want <= have && want*4 > have*3 {
		return a.at(p.leaf).bytes(leafHeader, n)
	}
	old := a.at(p.leaf)
	ref, b := a.alloc(leafHeader + n)
	copy(b.bytes(0, leafHeader+n), old.bytes(0, min(have, leafHeader+n)))
	a.free(p.leaf)
	p.leaf = ref
	t.redirect(p, p.n, ref)
	return b.bytes(leafHeader, n)
}

// redirect tells who leads to the node at a level of the path (p.n is the leaf's) that it is now ref.
func (t tree) redirect(p *path, level int, ref uint32) {
	if level == 0 {
		t.setRoot(ref)
		return
	}
	st := p.steps[level-1]
	t.s.branches(st.ref)[st.i].ref = ref
	if level < p.n {
		p.steps[level].ref = ref
	}
}

// divide is splice for a leaf that becomes too large: its units go to it and to a new leaf behind it.
func (t tree) divide(p *path, count, off, del int, ins []byte) {
	desk := desks.Get().(*desk)
	defer desks.Put(desk)
	_, data := t.s.leaf(p.leaf)
	w := append(desk.work[:0], data[:off]...)
	w = append(w, ins...)
	w = append(w, data[off+del:]...)
	desk.work = w
	var cut, left int
	var key uint64
	if t.l.hashed {
		w, cut, left, key = t.s.partition(desk, t.l.arity)
	} else {
		cut, left = t.cut(p, w, off, off+del == len(data), len(ins), count)
		if t.l == orderLayout {
			key = scoreKey(scoreAt(w[cut+elementSize(w[cut:]):]))
		}
	}
	copy(t.resizeLeaf(p, cut), w[:cut])
	t.s.parts.at(p.leaf).putU32(0, uint32(left)|uint32(cut)<<16)
	ref, b := t.s.parts.alloc(leafHeader + len(w) - cut)
	b.putU32(0, uint32(count-left)|uint32(len(w)-cut)<<16)
	copy(b.bytes(leafHeader, len(w)-cut), w[cut:])
	t.sprout(p, p.n, branch{key, uint32(count - left), ref})
}

// desk is room to divide a leaf at. Leaves of a kilobyte in all of 256 shards would make it a megabyte if each had its own.
type desk struct {
	work, sorted []byte
	units        []hashedUnit
}

var desks = sync.Pool{New: func() any { return new(desk) }}

// cut returns where to divide the units w of a leaf that an insertion at off made too large, and how many come before. At
// the ends of the tree the leaf stays full, since queues and logs grow there.
func (t tree) cut(p *path, w []byte, off int, atEnd bool, added, count int) (cut, left int) {
	switch {
	case added > 0 && atEnd && t.outermost(p, false):
		if at := offsetOf(w, t.l.arity, count-1); at == off {
			return off, count - 1
		}
	case added > 0 && off == 0 && t.outermost(p, true):
		if n := unitSize(w, t.l.arity); n == added {
			return n, 1
		}
	}
	for cut*2 < len(w) && left < count-1 {
		cut += unitSize(w[cut:], t.l.arity)
		left++
	}
	return cut, left
}

// outermost reports whether the path's leaf is the tree's first or its last one.
func (t tree) outermost(p *path, first bool) bool {
	for _, st := range p.steps[:p.n] {
		if first && st.i != 0 || !first && st.i != len(t.s.branches(st.ref))-1 {
			return false
		}
	}
	return true
}

// sprout adds nb behind the node at a level of the path, whose units it has taken over.
func (t tree) sprout(p *path, level int, nb branch) {
	if level == 0 {
		old := branch{0, uint32(t.len()) - nb.count, t.root()}
		ref, _ := t.s.newNode([]branch{old, nb})
		t.setRoot(ref)
		t.head[8]++
		return
	}
	st := p.steps[level-1]
	all := t.s.branches(st.ref)
	all[st.i].count -= nb.count
	var fork [maxBranches + 1]branch
	w := append(append(append(fork[:0], all[:st.i+1]...), nb), all[st.i+1:]...)
	if len(w) <= t.l.fork {
		t.setBranches(p, level-1, w)
		return
	}
	half := len(w) / 2
	if st.i == len(all)-1 && t.outermost(p, false) {
		half = len(w) - 1
	}
	right, n := t.s.newNode(w[half:])
	key := w[half].key
	t.setBranches(p, level-1, w[:half])
	t.sprout(p, level-1, branch{key, n, right})
}

// newNode makes an inner node and returns the number of its units.
func (s *Shard) newNode(all []branch) (ref, count uint32) {
	ref, b := s.parts.alloc(nodeHeader + len(all)*branchBytes)
	b.putU32(0, uint32(len(all)))
	copy(s.branches(ref), all)
	for _, c := range all {
		count += c.count
	}
	return ref, count
}

// setBranches gives the inner node at a level of the path other branches, not in its own memory.
func (t tree) setBranches(p *path, level int, all []branch) {
	a := &t.s.parts
	ref := p.steps[level].ref
	have, want := a.capacity(ref), capacityFor(nodeHeader+len(all)*branchBytes)
	if want <= have && want*4 > have*3 {
		a.at(ref).putU32(0, uint32(len(all)))
		copy(t.s.branches(ref), all)
		return
	}
	a.free(ref)
	ref, _ = t.s.newNode(all)
	t.redirect(p, level, ref)
}

// prune takes the path's leaf, which has become empty, out of the tree. The last leaf stays.
func (t tree) prune(p *path) {
	if p.n > 0 {
		t.s.parts.free(p.leaf)
		t.unlink(p, p.n-1, p.steps[p.n-1].i)
	}
}

// unlink takes branch i out of the inner node at a level of the path.
func (t tree) unlink(p *path, level, i int) {
	ref := p.steps[level].ref
	all := t.s.branches(ref)
	switch {
	case len(all) == 1 && level == 0:
		t.s.parts.free(ref)
		t.plant()
	case len(all) == 1:
		t.s.parts.free(ref)
		t.unlink(p, level-1, p.steps[level-1].i)
	case len(all) == 2 && level == 0:
		t.setRoot(all[1-i].ref)
		t.head[8]--
		t.s.parts.free(ref)
		t.lower()
	default:
		var fork [maxBranches]branch
		w := append(append(fork[:0], all[:i]...), all[i+1:]...)
		t.setBranches(p, level, w)
		if level > 0 && len(w) < t.l.fork/4 {
			t.joinNodes(p, level)
		}
	}
}

// lower takes away roots with one branch.
func (t tree) lower() {
	for t.height() > 0 {
		ref := t.root()
		all := t.s.branches(ref)
		if len(all) > 1 {
			return
		}
		t.setRoot(all[0].ref)
		t.head[8]--
		t.s.parts.free(ref)
	}
}

// join moves the units of the path's leaf and of a neighbour into one leaf if they fill three quarters of it at most.
func (t tree) join(p *path) {
	if p.n == 0 {
		return
	}
	st := &p.steps[p.n-1]
	all := t.s.branches(st.ref)
	for _, left := range [2]int{st.i - 1, st.i} {
		if left < 0 || left+1 >= len(all) {
			continue
		}
		ln, ld := t.s.leaf(all[left].ref)
		rn, rd := t.s.leaf(all[left+1].ref)
		if len(ld)+len(rd) > t.l.bytes*3/4 || ln+rn > t.l.units*3/4 {
			continue
		}
		st.i, p.leaf = left, all[left].ref
		used := len(ld) + len(rd)
		copy(t.resizeLeaf(p, used)[len(ld):], rd)
		t.s.parts.at(p.leaf).putU32(0, uint32(ln+rn)|uint32(used)<<16)
		all[left].count += all[left+1].count
		t.s.parts.free(all[left+1].ref)
		t.unlink(p, p.n-1, left+1)
		return
	}
}

// joinNodes is join for the inner node at a level of the path.
func (t tree) joinNodes(p *path, level int) {
	st := &p.steps[level-1]
	all := t.s.branches(st.ref)
	for _, left := range [2]int{st.i - 1, st.i} {
		if left < 0 || left+1 >= len(all) {
			continue
		}
		l, r := t.s.branches(all[left].ref), t.s.branches(all[left+1].ref)
		if len(l)+len(r) > t.l.fork*3/4 {
			continue
		}
		var fork [maxBranches]branch
		w := append(append(fork[:0], l...), r...)
		w[len(l)].key = all[left+1].key // what the first branch's own key no longer says
		st.i = left
		p.steps[level] = step{all[left].ref, 0}
		t.setBranches(p, level, w)
		all[left].count += all[left+1].count
		t.s.parts.free(all[left+1].ref)
		t.unlink(p, level-1, left+1)
		return
	}
}

// removeRange takes out n units from unit i on, all of which exist: whole subtrees at once, which reclaim frees later.
func (t tree) removeRange(i, n int) {
	for n > 0 {
		if n == t.len() {
			t.s.bury(t.root(), t.height(), t.l)
			t.plant()
			return
		}
		n -= t.removeSome(i, n)
	}
}

// removeSome removes a first part of the range, and returns how many units.
func (t tree) removeSome(i, n int) int {
	var p path
	ref := t.root()
	for h := t.height(); h > 0; h-- {
		all := t.s.branches(ref)
		j := 0
		for ; i >= int(all[j].count); j++ {
			i -= int(all[j].count)
		}
		p.push(ref, j)
		if c := all[j]; i == 0 && int(c.count) <= n {
			t.add(-int(c.count))
			for _, st := range p.steps[:p.n-1] {
				t.s.branches(st.ref)[st.i].count -= c.count
			}
			t.s.bury(c.ref, h-1, t.l)
			t.unlink(&p, p.n-1, j)
			return int(c.count)
		}
		ref = all[j].ref
	}
	p.leaf = ref
	count, data := t.s.leaf(ref)
	n = min(n, count-i)
	off := offsetOf(data, t.l.arity, i)
	size := offsetOf(data[off:], t.l.arity, n)
	if t.l.owner {
		t.s.freeUnits(data[off : off+size])
	}
	t.splice(&p, off, size, nil, -n)
	return n
}

// cloneNode copies a subtree. moved is where the blocks outside went, by their reference.
func (s *Shard) cloneNode(ref uint32, height int, l *layout, moved map[uint32]uint32) uint32 {
	if height > 0 {
		all := slices.Clone(s.branches(ref))
		for i := range all {
			all[i].ref = s.cloneNode(all[i].ref, height-1, l, moved)
		}
		to, _ := s.newNode(all)
		return to
	}
	_, data := s.leaf(ref)
	to, b := s.parts.alloc(leafHeader + len(data))
	copy(b.bytes(0, leafHeader+len(data)), s.parts.at(ref).bytes(0, leafHeader+len(data)))
	data = b.bytes(leafHeader, len(data))
	for off := 0; off < len(data); off += elementSize(data[off:]) {
		p := data[off:]
		if p[0] != elemOutside {
			continue
		}
		old := outsideRef(p)
		if l.owner {
			moved[old] = s.newOutside(s.outside(old))
		}
		binary.LittleEndian.PutUint32(p[1:], moved[old])
	}
	return to
}

var _ = [1]struct{}{}[unsafe.Sizeof(branch{})-branchBytes]
