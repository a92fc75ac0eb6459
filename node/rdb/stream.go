package rdb

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// StreamID names an entry of a stream.
type StreamID struct{ Ms, Seq uint64 }

// Less reports whether a comes before b.
func (a StreamID) Less(b StreamID) bool { return a.Ms < b.Ms || a.Ms == b.Ms && a.Seq < b.Seq }

func (a StreamID) String() string { return fmt.Sprintf("%d-%d", a.Ms, a.Seq) }

// StreamEntry is an entry: fields and values in turn.
type StreamEntry struct {
	ID     StreamID
	Fields [][]byte
}

// StreamState is what a stream knows about its entries, those that are gone included.
type StreamState struct {
	Length     uint64
	LastID     StreamID
	FirstID    StreamID // 0-0 if it is empty
	MaxDeleted StreamID
	Added      uint64 // ever
}

// EntriesReadUnknown is the Read of a group that cannot tell.
const EntriesReadUnknown = -1

// StreamGroup is a consumer group.
type StreamGroup struct {
	Name      []byte
	LastID    StreamID
	Read      int64 // entries ever delivered, or EntriesReadUnknown
	Consumers []StreamConsumer
	// Pending are the entries that were delivered and not acknowledged, in order of their IDs.
	Pending []StreamPending
}

// StreamConsumer is a member of a group. Times are in unix milliseconds.
type StreamConsumer struct {
	Name     []byte
	SeenAt   int64
	ActiveAt int64 // since Redis 7.2; else as SeenAt
}

// StreamPending is one delivery.
type StreamPending struct {
	ID          StreamID
	Consumer    int // index in StreamGroup.Consumers
	DeliveredAt int64
	Deliveries  uint64
}

var errStream = errors.New("stream is corrupt")

func (r *Reader) stream(kind byte) error {
	if err := r.repeat(r.streamNode); err != nil {
		return err
	}
	st, err := r.streamState(kind)
	if err != nil {
		return err
	}
	if err := r.sink.StreamState(&st); err != nil {
		return err
	}
	return r.repeat(func() error {
		g, err := r.streamGroup(kind)
		if err != nil {
			return err
		}
		return r.sink.StreamGroup(g)
	})
}

func (r *Reader) streamID() (id StreamID, err error) {
	if id.Ms, err = r.s.count(); err != nil {
		return id, err
	}
	id.Seq, err = r.s.count()
	return id, err
}

func (r *Reader) rawID() (id StreamID, err error) {
	var b [16]byte
	err = r.s.full(b[:])
	return idOf(b[:]), err
}

func idOf(b []byte) StreamID {
	return StreamID{binary.BigEndian.Uint64(b), binary.BigEndian.Uint64(b[8:])}
}

func (r *Reader) streamState(kind byte) (st StreamState, err error) {
	if st.Length, err = r.s.count(); err != nil {
		return st, err
	}
	if st.LastID, err = r.streamID(); err != nil {
		return st, err
	}
	if kind == typeStream {
		// An older Redis kept no count: the present length is the best guess, as in Redis 7.
		st.Added = st.Length
		return st, nil
	}
	if st.FirstID, err = r.streamID(); err != nil {
		return st, err
	}
	if st.MaxDeleted, err = r.streamID(); err != nil {
		return st, err
	}
	st.Added, err = r.s.count()
	return st, err
}

// Flags of an entry in a node.
const (
	entryDeleted    = 1
	entrySameFields = 2
)

// streamNode reads the ID that the entries of a node count from, and its listpack: entries, deleted entries, the fields of
// the first entry, then the entries themselves.
func (r *Reader) streamNode() (err error) {
	if r.a, err = r.s.string(r.a[:0]); err != nil {
		return err
	}
	if len(r.a) != 16 {
		return errStream
	}
	base := idOf(r.a)
	return r.packed(listpack, func(p *packed) error {
		n := &node{p: p, base: base}
		if err := n.head(); err != nil {
			return err
		}
		for {
			e, err := n.entry()
			if err != nil {
				return err
			}
			if e == nil {
				return n.check()
			}
			if err := r.sink.StreamEntry(e); err != nil {
				return err
			}
		}
	})
}

// node is a listpack of a stream.
type node struct {
	p             *packed
	base          StreamID
	live, deleted int64 // entries, as the head says
	fields        [][]byte
	e             StreamEntry
	arena         []byte // digits of integers among the fields and values
}

// word is an element that stays valid.
func (n *node) word() ([]byte, error) {
	e, err := n.p.more()
	if err != nil {
		return nil, err
	}
	if len(e) > 0 && len(e) <= 20 && &e[0] == &n.p.digits[0] {
		at := len(n.arena)
		n.arena = append(n.arena, e...)
		e = n.arena[at:len(n.arena):len(n.arena)]
	}
	return e, nil
}

func (n *node) head() (err error) {
	if n.live, err = n.p.integer(); err != nil {
		return err
	}
	if n.deleted, err = n.p.integer(); err != nil {
		return err
	}
	count, err := n.p.integer()
	if err != nil {
		return err
	}
	for ; count > 0; count-- {
		f, err := n.word()
		if err != nil {
			return err
		}
		n.fields = append(n.fields, f)
	}
	end, err := n.p.integer()
	if err != nil || end != 0 || n.live < 0 || n.deleted < 0 {
		return errStream
	}
	n.arena = n.arena[len(n.arena):]
	return nil
}

// entry returns the next entry that was not deleted, nil at the end.
func (n *node) entry() (*StreamEntry, error) {
	for len(n.p.b) > 0 {
		flags, err := n.p.integer()
		if err != nil {
			return nil, err
		}
		if err := n.one(flags); err != nil {
			return nil, err
		}
		if flags&entryDeleted != 0 {
			n.deleted--
			continue
		}
		n.live--
		return &n.e, nil
	}
	return nil, nil
}

func (n *node) one(flags int64) error {
	ms, err := n.p.integer()
	if err != nil {
		return err
	}
	seq, err := n.p.integer()
	if err != nil {
		return err
	}
	n.e.ID = StreamID{n.base.Ms + uint64(ms), n.base.Seq + uint64(seq)}
	n.e.Fields, n.arena = n.e.Fields[:0], n.arena[:0]
	parts := int64(len(n.fields))
	words := parts + 3
	if flags&entrySameFields == 0 {
		if parts, err = n.p.integer(); err != nil {
			return err
		}
		words = 2*parts + 4
	}
	for i := int64(0); i < parts; i++ {
		var field []byte
		if flags&entrySameFields != 0 {
			field = n.fields[i]
		} else if field, err = n.word(); err != nil {
			return err
		}
		value, err := n.word()
		if err != nil {
			return err
		}
		n.e.Fields = append(n.e.Fields, field, value)
	}
	if count, err := n.p.integer(); err != nil || count != words {
		return errStream
	}
	return nil
}

func (n *node) check() error {
	if n.live != 0 || n.deleted != 0 || n.p.count >= 0 && n.p.count != n.p.taken {
		return errStream
	}
	return nil
}

func (r *Reader) streamGroup(kind byte) (*StreamGroup, error) {
	g := &StreamGroup{Read: EntriesReadUnknown}
	var err error
	if g.Name, err = r.s.string(nil); err != nil {
		return nil, err
	}
	if g.LastID, err = r.streamID(); err != nil {
		return nil, err
	}
	if kind != typeStream {
		n, err := r.s.count()
		if err != nil {
			return nil, err
		}
		g.Read = int64(n)
	}
	if err := r.repeat(func() error { return r.pending(g) }); err != nil {
		return nil, err
	}
	if err := r.repeat(func() error { return r.consumer(kind, g) }); err != nil {
		return nil, err
	}
	for _, p := range g.Pending {
		if p.Consumer < 0 {
			return nil, fmt.Errorf("%w: the pending entry %v has no consumer", errStream, p.ID)
		}
	}
	return g, nil
}

func (r *Reader) pending(g *StreamGroup) error {
	p := StreamPending{Consumer: -1}
	var err error
	if p.ID, err = r.rawID(); err != nil {
		return err
	}
	at, err := r.s.uint64()
	if err != nil {
		return err
	}
	p.DeliveredAt = int64(at)
	if p.Deliveries, err = r.s.count(); err != nil {
		return err
	}
	if n := len(g.Pending); n > 0 && !g.Pending[n-1].ID.Less(p.ID) {
		return fmt.Errorf("%w: pending entries are out of order", errStream)
	}
	g.Pending = append(g.Pending, p)
	return nil
}

func (r *Reader) consumer(kind byte, g *StreamGroup) error {
	var c StreamConsumer
	var err error
	if c.Name, err = r.s.string(nil); err != nil {
		return err
	}
	at, err := r.s.uint64()
	if err != nil {
		return err
	}
	c.SeenAt, c.ActiveAt = int64(at), int64(at)
	if kind == typeStream3 {
		if at, err = r.s.uint64(); err != nil {
			return err
		}
		c.ActiveAt = int64(at)
	}
	if len(g.Consumers) == math.MaxInt32 {
		return errStream
	}
	me := len(g.Consumers)
	g.Consumers = append(g.Consumers, c)
	return r.repeat(func() error {
		id, err := r.rawID()
		if err != nil {
			return err
		}
		i, found := search(g.Pending, id)
		if !found || g.Pending[i].Consumer >= 0 {
			return fmt.Errorf("%w: %v is not pending for the consumer %q", errStream, id, g.Consumers[me].Name)
		}
		g.Pending[i].Consumer = me
		return nil
	})
}
