package rdb

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"slices"
)

// Value is one value in a form that depends on no encoding.
type Value struct {
	Type Type
	// Items are the string; the elements; the members; fields and values in turn.
	Items [][]byte
	// Scores belong to the members of a sorted set, one each.
	Scores []float64
	// Stream is the content of a stream.
	Stream *StreamValue
}

// Unique says that no field, member, or name of a group or consumer comes twice.
func (v *Value) Unique() bool {
	step := 1
	switch v.Type {
	case Hash:
		step = 2
	case Set, ZSet:
	case Stream:
		return v.Stream.unique()
	default:
		return true
	}
	seen := make(map[string]struct{}, len(v.Items)/step)
	for i := 0; i < len(v.Items); i += step {
		seen[string(v.Items[i])] = struct{}{}
	}
	return len(seen) == len(v.Items)/step
}

// StreamValue is a whole stream.
type StreamValue struct {
	Entries []StreamEntry
	State   StreamState
	Groups  []StreamGroup
}

func (s *StreamValue) unique() bool {
	groups := make(map[string]struct{}, len(s.Groups))
	for i := range s.Groups {
		g := &s.Groups[i]
		groups[string(g.Name)] = struct{}{}
		names := make(map[string]struct{}, len(g.Consumers))
		for _, c := range g.Consumers {
			names[string(c.Name)] = struct{}{}
		}
		if len(names) < len(g.Consumers) {
			return false
		}
	}
	return len(groups) == len(s.Groups)
}

// Empty says that the value is a collection without content, which no Redis keeps. A stream may be empty.
func (v *Value) Empty() bool { return len(v.Items) == 0 && v.Type != Stream }

// Collector is a Sink that gathers each value; Done, if set, gets it with its key.
type Collector struct {
	Discard
	Value Value
	// Done may keep what it is given.
	Done func(k *Key, v *Value) error
	key  *Key
}

// Begin starts a value.
func (c *Collector) Begin(k *Key) error {
	c.key, c.Value = k, Value{Type: k.Type}
	if k.Type == Stream {
		c.Value.Stream = &StreamValue{}
	}
	return nil
}

func (c *Collector) take(items ...[]byte) error {
	for _, b := range items {
		c.Value.Items = append(c.Value.Items, append([]byte{}, b...))
	}
	return nil
}

// String, Element, Member, Field, Scored and those of streams add to the value.
func (c *Collector) String(b []byte) error           { return c.take(b) }
func (c *Collector) Element(b []byte) error          { return c.take(b) }
func (c *Collector) Member(b []byte) error           { return c.take(b) }
func (c *Collector) Field(field, value []byte) error { return c.take(field, value) }

// Scored adds a member with its score.
func (c *Collector) Scored(member []byte, score float64) error {
	c.Value.Scores = append(c.Value.Scores, score)
	return c.take(member)
}

// StreamEntry adds an entry.
func (c *Collector) StreamEntry(e *StreamEntry) error {
	if e.ID == (StreamID{}) || len(e.Fields) == 0 {
		return fmt.Errorf("%w: the entry %v has no field, or no ID", errStream, e.ID)
	}
	s := c.Value.Stream
	fields := make([][]byte, 0, len(e.Fields))
	for _, f := range e.Fields {
		fields = append(fields, append([]byte{}, f...))
	}
	s.Entries = append(s.Entries, StreamEntry{e.ID, fields})
	return nil
}

// StreamState notes the state.
func (c *Collector) StreamState(st *StreamState) error {
	s := c.Value.Stream
	s.State = *st
	if len(s.Entries) > 0 {
		s.State.FirstID = s.Entries[0].ID
	}
	for i := 1; i < len(s.Entries); i++ {
		if !s.Entries[i-1].ID.Less(s.Entries[i].ID) {
			return fmt.Errorf("%w: entries are out of order", errStream)
		}
	}
	if n := len(s.Entries); uint64(n) != st.Length || n > 0 && st.LastID.Less(s.Entries[n-1].ID) {
		return fmt.Errorf("%w: %d entries, %d announced, the last one %v", errStream, n, st.Length, st.LastID)
	}
	if st.Added < st.Length || st.Added > math.MaxInt64 {
		return fmt.Errorf("%w: %d entries of %d ever added", errStream, st.Length, st.Added)
	}
	return nil
}

// StreamGroup adds a group.
func (c *Collector) StreamGroup(g *StreamGroup) error {
	c.Value.Stream.Groups = append(c.Value.Stream.Groups, *g)
	return nil
}

// End calls Done.
func (c *Collector) End() error {
	if c.Done == nil {
		return nil
	}
	return c.Done(c.key, &c.Value)
}

func search(p []StreamPending, id StreamID) (int, bool) {
	return slices.BinarySearchFunc(p, id, func(p StreamPending, id StreamID) int {
		switch {
		case p.ID.Less(id):
			return -1
		case id.Less(p.ID):
			return 1
		}
		return 0
	})
}

// A payload, as DUMP gives it, is a value's type and content, the version of the format (2 bytes) and the checksum (8).
const footer = 10

// ErrPayload says that a payload is of an unknown version or damaged.
var ErrPayload = errors.New("payload has an unknown version or a wrong checksum")

// Verify checks a payload's footer, for a reader of versions up to the one that is written, and returns the value alone.
func Verify(payload []byte) ([]byte, error) {
	n := len(payload) - footer
	if n < 0 || binary.LittleEndian.Uint16(payload[n:]) > Version ||
		binary.LittleEndian.Uint64(payload[n+2:]) != checksum(0, payload[:n+2]) {
		return nil, ErrPayload
	}
	return payload[:n], nil
}

// Seal appends the footer to a value, its type and content, that begins at b[start].
func Seal(b []byte, start int) []byte {
	b = binary.LittleEndian.AppendUint16(b, Version)
	return binary.LittleEndian.AppendUint64(b, checksum(0, b[start:]))
}

// ReadValue reads one value as Verify returns it. Key.Name is empty.
func ReadValue(value []byte, sink Sink) error {
	r := &Reader{s: &source{r: bytes.NewReader(nil), buf: value}, sink: sink}
	r.reset()
	if err := r.readValue(len(value)); err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Reader) readValue(size int) error {
	kind, err := r.s.byte()
	if err != nil {
		return err
	}
	if kind == typeModule || kind == typeModule2 {
		return r.module(kind)
	}
	r.version = Version
	if err := r.known(kind); err != nil {
		return err
	}
	if err := r.value(kind); err != nil {
		return err
	}
	if r.s.offset() != int64(size) {
		return errors.New("bytes behind the value")
	}
	return nil
}
