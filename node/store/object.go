package store

import "encoding/binary"

// objects are values on Go's heap: what other files of this package build for a type that the slabs don't hold, streams.
// An entry's value is the index of its object. An object may have these methods:
//
//	clone() any      for Copy
//	Bytes() int64    what it has told Shard.charge in all; the store takes it back when the object goes
type objects struct {
	list []any
	idle []uint32
}

func (o *objects) add(v any) uint32 {
	if n := len(o.idle); n > 0 {
		i := o.idle[n-1]
		o.idle = o.idle[:n-1]
		o.list[i] = v
		return i
	}
	o.list = append(o.list, v)
	return uint32(len(o.list) - 1)
}

func (o *objects) remove(i uint32) {
	o.list[i] = nil
	o.idle = append(o.idle, i)
}

// cloner is what objects are: clone returns a copy that shares nothing that changes, and for which nothing was charged.
type cloner interface{ clone() any }

// create stores v under key as a t, in place of whatever is there and without an expiry.
func (s *Shard) create(key []byte, t Type, v any) {
	var ref [4]byte
	binary.LittleEndian.PutUint32(ref[:], s.objects.add(v))
	s.build(key, t, ref[:])
}

// object returns the object of an entry that create made.
func (r Ref) object() any { return r.s.objects.list[binary.LittleEndian.Uint32(r.b.value())] }

// charge counts n more bytes of Go's heap as used, fewer if n is negative.
func (s *Shard) charge(n int64) {
	s.charged += n
	s.account()
}

func objectBytes(v any) int64 {
	if o, ok := v.(interface{ Bytes() int64 }); ok {
		return o.Bytes()
	}
	return 0
}

func (s *Shard) dropObject(value []byte) {
	i := binary.LittleEndian.Uint32(value)
	s.charge(-objectBytes(s.objects.list[i]))
	s.objects.remove(i)
}

// copyObject makes value, a copy of an entry's, name an object of its own. The clone has charged nothing yet.
func (s *Shard) copyObject(value []byte) {
	v := s.objects.list[binary.LittleEndian.Uint32(value)].(cloner).clone()
	s.charge(objectBytes(v))
	binary.LittleEndian.PutUint32(value, s.objects.add(v))
}
