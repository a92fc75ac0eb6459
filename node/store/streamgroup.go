package store

import (
	"cmp"
	"slices"
	"unsafe"
)

// StreamGroup is a consumer group of a stream. A group, its consumers and what its methods return are valid until the
// shard is changed by anything but the stream, its groups and their consumers.
type StreamGroup struct {
	// Last is the last ID delivered to the group.
	Last StreamID
	// Read is how many entries of the stream come up to Last, -1 when that is unknown.
	Read int64

	name      string
	o         *streamObject
	pending   ordered[delivery]
	consumers []*StreamConsumer // by name
	seats     []*StreamConsumer // by number, nil where nobody sits
}

// delivery is an entry that a consumer got and has not acknowledged. It names the consumer by its seat, so that the list
// of them has no pointers.
type delivery struct {
	time, count int64
	seat        uint32
}

// StreamConsumer is a consumer of a group.
type StreamConsumer struct {
	// Seen is when the consumer was last active, in unix ms; 0 is unknown.
	Seen int64

	name    string
	seat    uint32
	pending ordered[struct{}]
}

// Delivery is an entry that was delivered and is not acknowledged.
type Delivery struct {
	ID       StreamID
	Time     int64 // of the last delivery, in unix ms
	Count    int64 // of deliveries
	Consumer *StreamConsumer
}

func (g *StreamGroup) clone(o *streamObject) *StreamGroup {
	c := *g
	c.o = o
	c.pending = g.pending.clone(func(d delivery) delivery { return d })
	c.consumers, c.seats = nil, make([]*StreamConsumer, len(g.seats))
	size := g.size() + c.pending.bytes()
	for _, old := range g.consumers {
		consumer := *old
		consumer.pending = old.pending.clone(func(v struct{}) struct{} { return v })
		c.consumers = append(c.consumers, &consumer)
		c.seats[consumer.seat] = &consumer
		size += consumer.size() + consumer.pending.bytes()
	}
	o.account(size)
	return &c
}

// size is the memory of a group without its deliveries and consumers.
func (g *StreamGroup) size() int64 { return int64(unsafe.Sizeof(*g)) + int64(len(g.name)) + 8 }

// size is the memory of a consumer without its deliveries.
func (c *StreamConsumer) size() int64 { return int64(unsafe.Sizeof(*c)) + int64(len(c.name)) + 16 }

func compareName(name string, b []byte) int { return cmp.Compare(name, string(b)) }

// Groups returns the groups in order of their names. The caller does not modify it.
func (t *Entries) Groups() []*StreamGroup { return t.o.groups }

func (o *streamObject) findGroup(name []byte) (int, bool) {
	return slices.BinarySearchFunc(o.groups, name, func(g *StreamGroup, name []byte) int { return compareName(g.name, name) })
}

// Group returns the group with this name, nil when there is none.
func (t *Entries) Group(name []byte) *StreamGroup {
	if i, ok := t.o.findGroup(name); ok {
		return t.o.groups[i]
	}
	return nil
}

// NewGroup adds a group; there must be none with the name.
func (t *Entries) NewGroup(name []byte, last StreamID, read int64) *StreamGroup {
	i, _ := t.o.findGroup(name)
	g := &StreamGroup{name: string(name), o: t.o, Last: last, Read: read}
	t.o.groups = slices.Insert(t.o.groups, i, g)
	t.o.account(g.size())
	return g
}

// RemoveGroup removes a group with all that belongs to it.
func (t *Entries) RemoveGroup(g *StreamGroup) {
	size := g.size() + g.pending.bytes()
	for _, c := range g.consumers {
		size += c.size() + c.pending.bytes()
	}
	i, _ := t.o.findGroup([]byte(g.name))
	t.o.groups = slices.Delete(t.o.groups, i, i+1)
	t.o.account(-size)
}

// Name returns the group's name.
func (g *StreamGroup) Name() string { return g.name }

// Pending returns the number of deliveries that are not acknowledged.
func (g *StreamGroup) Pending() int { return g.pending.n }

// Consumers returns the consumers in order of their names. The caller does not modify it.
func (g *StreamGroup) Consumers() []*StreamConsumer { return g.consumers }

func (g *StreamGroup) findConsumer(name []byte) (int, bool) {
	return slices.BinarySearchFunc(g.consumers, name, func(c *StreamConsumer, name []byte) int { return compareName(c.name, name) })
}

// Consumer returns the consumer with this name, nil when there is none.
func (g *StreamGroup) Consumer(name []byte) *StreamConsumer {
	if i, ok := g.findConsumer(name); ok {
		return g.consumers[i]
	}
	return nil
}

// NewConsumer adds a consumer; there must be none with the name.
func (g *StreamGroup) NewConsumer(name []byte, seen int64) *StreamConsumer {
	i, _ := g.findConsumer(name)
	seat := len(g.seats)
	if len(g.consumers) < seat {
		seat = slices.Index(g.seats, nil)
	} else {
		g.seats = append(g.seats, nil)
	}
	c := &StreamConsumer{name: string(name), Seen: seen, seat: uint32(seat)}
	g.seats[seat] = c
	g.consumers = slices.Insert(g.consumers, i, c)
	g.o.account(c.size())
	return c
}

// RemoveConsumer removes a consumer and what is delivered to it.
func (g *StreamGroup) RemoveConsumer(c *StreamConsumer) {
	for {
		id, ok := c.From(StreamID{})
		if !ok {
			break
		}
		g.Forget(id)
	}
	i, _ := g.findConsumer([]byte(c.name))
	g.consumers = slices.Delete(g.consumers, i, i+1)
	g.seats[c.seat] = nil
	g.o.account(-c.size() - c.pending.bytes())
}

// Find returns the delivery of an entry.
func (g *StreamGroup) Find(id StreamID) (Delivery, bool) {
	d, ok := g.From(id)
	return d, ok && d.ID == id
}

// From returns the first delivery of an entry at or behind id.
func (g *StreamGroup) From(id StreamID) (Delivery, bool) {
	return g.delivery(g.pending.at(g.pending.seek(id)))
}

// LastPending returns the last delivery.
func (g *StreamGroup) LastPending() (Delivery, bool) { return g.delivery(g.pending.last()) }

func (g *StreamGroup) delivery(it *item[delivery]) (Delivery, bool) {
	if it == nil {
		return Delivery{}, false
	}
	return Delivery{it.id, it.v.time, it.v.count, g.seats[it.v.seat]}, true
}

// Deliver notes a delivery, in place of one of the same entry.
func (g *StreamGroup) Deliver(d Delivery) {
	v := delivery{d.Time, d.Count, d.Consumer.seat}
	if it := g.pending.find(d.ID); it != nil {
		old := it.v.seat
		it.v = v
		if old == v.seat {
			return
		}
		g.seats[old].drop(g.o, d.ID)
	} else {
		before := g.pending.bytes()
		g.pending.insert(d.ID, v)
		g.o.account(g.pending.bytes() - before)
	}
	before := d.Consumer.pending.bytes()
	d.Consumer.pending.insert(d.ID, struct{}{})
	g.o.account(d.Consumer.pending.bytes() - before)
}

// Forget removes a delivery and reports whether there was one.
func (g *StreamGroup) Forget(id StreamID) bool {
	p := g.pending.seek(id)
	it := g.pending.at(p)
	if it == nil || it.id != id {
		return false
	}
	g.seats[it.v.seat].drop(g.o, id)
	before := g.pending.bytes()
	g.pending.remove(p)
	g.o.account(g.pending.bytes() - before)
	return true
}

// Name returns the consumer's name.
func (c *StreamConsumer) Name() string { return c.name }

// Pending returns the number of deliveries to the consumer that are not acknowledged.
func (c *StreamConsumer) Pending() int { return c.pending.n }

// From returns the first entry at or behind id that is delivered to the consumer.
func (c *StreamConsumer) From(id StreamID) (StreamID, bool) {
	it := c.pending.at(c.pending.seek(id))
	if it == nil {
		return StreamID{}, false
	}
	return it.id, true
}

func (c *StreamConsumer) drop(o *streamObject, id StreamID) {
	before := c.pending.bytes()
	c.pending.remove(c.pending.seek(id))
	o.account(c.pending.bytes() - before)
}
