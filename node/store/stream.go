package store

import (
	"math"
	"slices"
	"unsafe"
)

// streamObject is a stream: nodes of up to 100 entries in order, and consumer groups in order of their names. What the
// garbage collector sees of the entries is one pointer for each node.
type streamObject struct {
	StreamState
	nodes  ordered[streamNode]
	n      int // entries that are not deleted
	groups []*StreamGroup
	shard  *Shard
	bytes  int64
}

// StreamState is what a stream remembers beside its entries.
type StreamState struct {
	Last       StreamID // of the last entry ever added, or what XSETID says
	MaxDeleted StreamID // the largest of an entry that was deleted and not trimmed
	Added      int64    // entries ever added
}

// Entries is the value of a key of type Stream. Other than the other collections a stream may stay when it is empty.
type Entries struct{ o *streamObject }

// Stream returns the handle of an entry whose Type is Stream.
func (r Ref) Stream() Entries { return Entries{r.object().(*streamObject)} }

// NewStream stores an empty stream under key, in place of whatever is there and without an expiry.
func (s *Shard) NewStream(key []byte) Entries {
	o := &streamObject{shard: s}
	s.create(key, Stream, o)
	o.account(int64(unsafe.Sizeof(*o)))
	return Entries{o}
}

// account notes that the stream takes d bytes more.
func (o *streamObject) account(d int64) {
	o.bytes += d
	o.shard.charge(d)
}

// Bytes returns what the stream has charged.
func (o *streamObject) Bytes() int64 { return o.bytes }

func (o *streamObject) clone() any {
	c := *o
	c.nodes = o.nodes.clone(func(n streamNode) streamNode {
		n.buf = slices.Clone(n.buf)
		return n
	})
	c.bytes = 0
	size := int64(unsafe.Sizeof(c)) + c.nodes.bytes()
	for p := (spot{}); c.nodes.at(p) != nil; p = c.nodes.next(p) {
		size += int64(cap(c.nodes.at(p).v.buf))
	}
	c.account(size)
	c.groups = nil
	for _, g := range o.groups {
		c.groups = append(c.groups, g.clone(&c))
	}
	o.shard.charge(-c.bytes) // copyObject charges a clone
	return &c
}

// Bytes returns the memory that the stream takes beyond its key.
func (t *Entries) Bytes() int64 { return t.o.bytes }

// Len returns the number of entries.
func (t *Entries) Len() int { return t.o.n }

// State returns what the stream remembers beside its entries.
func (t *Entries) State() StreamState { return t.o.StreamState }

// SetState replaces it. Last must not come before an entry, nor Added be less than Len.
func (t *Entries) SetState(s StreamState) { t.o.StreamState = s }

// Nodes returns the number of nodes, which Redis calls the keys of its radix tree.
func (t *Entries) Nodes() int { return t.o.nodes.n }

// TreeNodes returns how many nodes the radix tree has that Redis would keep the nodes under, by their IDs of 16 bytes.
func (t *Entries) TreeNodes() int {
	var tree treeCount
	for p := (spot{}); t.o.nodes.at(p) != nil; p = t.o.nodes.next(p) {
		tree.add(t.o.nodes.at(p).id)
	}
	return tree.nodes()
}

// Add appends an entry of fields and values in turn, at least one of each. Its ID must come after Last.
func (t *Entries) Add(id StreamID, words [][]byte) {
	o := t.o
	if id.Compare(o.Last) <= 0 {
		panic("store: the entry does not come after those of the stream")
	}
	size := 0
	for _, w := range words {
		size += len(w)
	}
	before := o.nodes.bytes()
	tail := o.nodes.last()
	if tail == nil || tail.v.full(size, o.shard.db.limits.Load()) {
		if tail != nil {
			before += int64(cap(tail.v.buf))
			tail.v.seal()
			before -= int64(cap(tail.v.buf))
		}
		tail = o.nodes.insert(id, streamNode{})
		tail.v.begin(words)
	} else {
		before += int64(cap(tail.v.buf))
	}
	tail.v.add(tail.id, id, words)
	o.n++
	o.Last = id
	if o.Added < math.MaxInt64 {
		o.Added++
	}
	o.account(o.nodes.bytes() + int64(cap(tail.v.buf)) - before)
}

// nodeOf returns the place of the node that may hold id: the last one that begins at or before it, or else the first.
func (o *streamObject) nodeOf(id StreamID) spot {
	p := o.nodes.seek(id)
	if n := o.nodes.at(p); n != nil && n.id == id {
		return p
	}
	if prev := o.nodes.prev(p); o.nodes.at(prev) != nil {
		return prev
	}
	return p
}

// Has says whether there is an entry with this ID.
func (t *Entries) Has(id StreamID) bool {
	var e StreamEntry
	n := t.o.nodes.at(t.o.nodeOf(id))
	return n != nil && n.v.find(n.id, id, &e)
}

// Delete deletes an entry and reports whether it was there. MaxDeleted follows.
func (t *Entries) Delete(id StreamID) bool {
	o := t.o
	p := o.nodeOf(id)
	n := o.nodes.at(p)
	var e StreamEntry
	if n == nil || !n.v.find(n.id, id, &e) {
		return false
	}
	n.v.kill(&e)
	o.n--
	if n.v.live == 0 {
		o.dropNode(p)
	}
	if id.Compare(o.MaxDeleted) > 0 {
		o.MaxDeleted = id
	}
	return true
}

// dropNode removes a node with all that is in it.
func (o *streamObject) dropNode(p spot) {
	n := o.nodes.at(p)
	before := o.nodes.bytes() + int64(cap(n.v.buf))
	o.n -= int(n.v.live)
	o.nodes.remove(p)
	o.account(o.nodes.bytes() - before)
}

// StreamTrim says which entries at the beginning of a stream are too many.
type StreamTrim struct {
	MaxLen int64 // how many may stay, not negative
	ByID   bool  // MinID counts instead
	MinID  StreamID
	Approx bool  // take only whole nodes
	Limit  int64 // take at most so many entries, 0 for no limit
}

// Trim removes entries at the beginning and returns how many.
func (t *Entries) Trim(trim StreamTrim) (removed int) {
	o := t.o
	before := o.n
	for {
		n := o.nodes.first()
		if n == nil || !trim.ByID && int64(o.n) <= trim.MaxLen {
			break
		}
		live := int64(n.v.live)
		if trim.Limit > 0 && int64(before-o.n)+live > trim.Limit {
			break
		}
		whole := int64(o.n)-live >= trim.MaxLen
		if trim.ByID {
			whole = n.v.last(n.id).Compare(trim.MinID) < 0
		}
		if !whole {
			if !trim.Approx {
				o.trimNode(n, trim)
			}
			break
		}
		o.dropNode(spot{})
	}
	return before - o.n
}

// trimNode marks the entries of the first node that are too many.
func (o *streamObject) trimNode(n *item[streamNode], trim StreamTrim) {
	var e StreamEntry
	for w := n.v.walk(n.id); w.next(&e); {
		if trim.ByID && e.ID.Compare(trim.MinID) >= 0 || !trim.ByID && int64(o.n) <= trim.MaxLen {
			return
		}
		if !e.dead {
			n.v.kill(&e)
			o.n--
		}
	}
}

// Each calls fn with the entries from one ID to another, both included, until it returns false. fn must not change the
// shard.
func (t *Entries) Each(from, to StreamID, fn func(e *StreamEntry) bool) {
	var e StreamEntry
	for p := t.o.nodeOf(from); t.o.nodes.at(p) != nil; p = t.o.nodes.next(p) {
		n := t.o.nodes.at(p)
		for w := n.v.walk(n.id); w.next(&e); {
			if e.ID.Compare(to) > 0 {
				return
			}
			if !e.dead && e.ID.Compare(from) >= 0 && !fn(&e) {
				return
			}
		}
	}
}

// EachBack is Each from the end: it begins with to, or what comes before it, and goes back until from.
func (t *Entries) EachBack(from, to StreamID, fn func(e *StreamEntry) bool) {
	var e StreamEntry
	var usual [100]int // on the stack; a larger stream-node-max-entries takes the heap
	for p := t.o.nodeOf(to); t.o.nodes.at(p) != nil; p = t.o.nodes.prev(p) {
		n := t.o.nodes.at(p)
		left := usual[:0] // bytes of the node from each entry on
		w := n.v.walk(n.id)
		for more := true; more && len(w.rest) > 0; {
			left = append(left, len(w.rest))
			more = w.next(&e)
		}
		for _, rest := range slices.Backward(left) {
			w.rest = n.v.buf[len(n.v.buf)-rest:]
			w.next(&e)
			if e.ID.Compare(from) < 0 {
				return
			}
			if !e.dead && e.ID.Compare(to) <= 0 && !fn(&e) {
				return
			}
		}
	}
}

// First returns the ID of the first entry, 0-0 when there is none.
func (t *Entries) First() (id StreamID) {
	t.Each(StreamID{}, MaxStreamID, func(e *StreamEntry) bool { id = e.ID; return false })
	return id
}

// Top returns the ID of the last entry, 0-0 when there is none; State().Last may come after it.
func (t *Entries) Top() (id StreamID) {
	t.EachBack(StreamID{}, MaxStreamID, func(e *StreamEntry) bool { id = e.ID; return false })
	return id
}
