package store

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"slices"
)

// Handles of collections (Fields, Elements, Members, SortedSet) follow one rule: a handle is valid until its shard is changed by
// anything but the handle's own methods, and what a method returns aliases the shard's memory until the next change,
// those by the handle included. Arguments are copied in. An empty collection must not stay: whoever takes out the last
// element deletes the key.

// Limits say up to where OBJECT ENCODING reports the compact encoding of a collection, by the names of Redis' parameters.
// They decide what is reported and nothing else.
type Limits struct {
	HashEntries, HashValue int // hash-max-listpack-entries, hash-max-listpack-value (bytes)
	SetEntries             int // set-max-intset-entries
	ZSetEntries, ZSetValue int // zset-max-listpack-entries, zset-max-listpack-value (bytes)
	ListSize               int // list-max-listpack-size: elements, or -1 to -5 for 4 to 64 KiB a node
}

// DefaultLimits are Redis' defaults.
func DefaultLimits() Limits {
	return Limits{HashEntries: 512, HashValue: 64, SetEntries: 512, ZSetEntries: 128, ZSetValue: 64, ListSize: -2}
}

// objects are the collections of a shard; an entry's value is the index of its object.
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

// create stores an empty collection under key in place of whatever is there, without an expiry.
func (s *Shard) create(key []byte, t Type, v any) {
	var ref [4]byte
	binary.LittleEndian.PutUint32(ref[:], s.objects.add(v))
	s.Set(key, ref[:], 0)
	b, _, _ := s.find(key, s.db.hash(key))
	b.setKind(t, false)
}

// drop frees what belongs to the entry beyond its block.
func (s *Shard) drop(b block) {
	if t := Type(b.flags() & typeMask); t != String && t != None {
		s.objects.remove(binary.LittleEndian.Uint32(b.value()))
	}
}

func (r Ref) object() any { return r.s.objects.list[binary.LittleEndian.Uint32(r.b.value())] }

// Rename gives the entry of from, its expiry included, the key to, in place of whatever to holds. It reports whether from
// exists. Both keys equal is no change.
func (s *Shard) Rename(from, to []byte) bool {
	r, ok := s.Peek(from)
	if !ok || string(from) == string(to) {
		return ok
	}
	if r.Type() == String {
		s.Set(to, r.Value(), r.ExpireAt())
		return s.Delete(from)
	}
	t, v, at := r.Type(), r.object(), r.ExpireAt()
	i := binary.LittleEndian.Uint32(r.b.value())
	s.objects.list[i] = nil // Delete gives the index back, not the object
	s.Delete(from)
	s.create(to, t, v)
	s.SetExpire(to, at)
	return true
}

// Copy gives to a copy of the entry of from, its expiry included, in place of whatever to holds. It reports whether from
// exists.
func (s *Shard) Copy(from, to []byte) bool {
	r, ok := s.Peek(from)
	if !ok || string(from) == string(to) {
		return ok
	}
	if r.Type() == String {
		s.Set(to, r.Value(), r.ExpireAt())
		return true
	}
	t, v, at := r.Type(), r.object().(interface{ clone() any }).clone(), r.ExpireAt()
	s.create(to, t, v)
	s.SetExpire(to, at)
	return true
}

type hashObject map[string][]byte

func (o hashObject) clone() any {
	c := hashObject{}
	for k, v := range o {
		c[k] = slices.Clone(v)
	}
	return c
}

// Fields is the value of a key of type Hash.
type Fields struct{ o hashObject }

// Fields returns the handle of an entry whose Type is Hash.
func (r Ref) Fields() Fields { return Fields{r.object().(hashObject)} }

// NewHash stores an empty hash under key, in place of whatever is there and without an expiry.
func (s *Shard) NewHash(key []byte) Fields {
	o := hashObject{}
	s.create(key, Hash, o)
	return Fields{o}
}

// Len returns the number of fields.
func (h *Fields) Len() int { return len(h.o) }

// Get returns the value of a field.
func (h *Fields) Get(field []byte) (value []byte, ok bool) {
	value, ok = h.o[string(field)]
	return value, ok
}

// Set stores a field and reports whether it is new.
func (h *Fields) Set(field, value []byte) (added bool) {
	_, have := h.o[string(field)]
	h.o[string(field)] = append([]byte{}, value...)
	return !have
}

// Delete removes a field and reports whether it was there.
func (h *Fields) Delete(field []byte) bool {
	_, have := h.o[string(field)]
	delete(h.o, string(field))
	return have
}

// Each calls fn with every field until it returns false. fn must not change the shard.
func (h *Fields) Each(fn func(field, value []byte) bool) {
	for _, k := range sortedKeys(h.o) {
		if !fn([]byte(k), h.o[k]) {
			return
		}
	}
}

// Scan is Shard.Scan over fields: fields that stay are seen at least once, small hashes whole in one call.
func (h *Fields) Scan(cursor uint64, count int, fn func(field, value []byte)) (next uint64) {
	h.Each(func(f, v []byte) bool { fn(f, v); return true })
	return 0
}

// Random returns a field, every one with about the same chance. The hash must not be empty.
func (h *Fields) Random(rng *rand.Rand) (field, value []byte) {
	keys := sortedKeys(h.o)
	k := keys[rng.IntN(len(keys))]
	return []byte(k), h.o[k]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

type setObject map[string]struct{}

func (o setObject) clone() any {
	c := setObject{}
	for k := range o {
		c[k] = struct{}{}
	}
	return c
}

// Members is the value of a key of type Set.
type Members struct{ o setObject }

// Members returns the handle of an entry whose Type is Set.
func (r Ref) Members() Members { return Members{r.object().(setObject)} }

// NewSet stores an empty set under key, in place of whatever is there and without an expiry.
func (s *Shard) NewSet(key []byte) Members {
	o := setObject{}
	s.create(key, Set, o)
	return Members{o}
}

// Len returns the number of members.
func (m *Members) Len() int { return len(m.o) }

// Has reports whether the member is in the set.
func (m *Members) Has(member []byte) bool {
	_, ok := m.o[string(member)]
	return ok
}

// Add adds a member and reports whether it is new.
func (m *Members) Add(member []byte) bool {
	n := len(m.o)
	m.o[string(member)] = struct{}{}
	return len(m.o) > n
}

// Remove removes a member and reports whether it was there.
func (m *Members) Remove(member []byte) bool {
	n := len(m.o)
	delete(m.o, string(member))
	return len(m.o) < n
}

// Each calls fn with every member until it returns false. fn must not change the shard.
func (m *Members) Each(fn func(member []byte) bool) {
	for _, k := range sortedKeys(m.o) {
		if !fn([]byte(k)) {
			return
		}
	}
}

// Scan is Shard.Scan over members: members that stay are seen at least once, small sets whole in one call.
func (m *Members) Scan(cursor uint64, count int, fn func(member []byte)) (next uint64) {
	m.Each(func(k []byte) bool { fn(k); return true })
	return 0
}

// Random returns a member, every one with about the same chance. The set must not be empty.
func (m *Members) Random(rng *rand.Rand) []byte {
	keys := sortedKeys(m.o)
	return []byte(keys[rng.IntN(len(keys))])
}

type scored struct {
	member string
	score  float64
}

type zsetObject struct {
	scores map[string]float64
	order  []scored
}

func (o *zsetObject) clone() any {
	c := &zsetObject{scores: map[string]float64{}, order: slices.Clone(o.order)}
	for k, v := range o.scores {
		c.scores[k] = v
	}
	return c
}

// SortedSet is the value of a key of type ZSet: members in order of (score, member), ranks from 0.
type SortedSet struct{ o *zsetObject }

// SortedSet returns the handle of an entry whose Type is ZSet.
func (r Ref) SortedSet() SortedSet { return SortedSet{r.object().(*zsetObject)} }

// NewSortedSet stores an empty sorted set under key, in place of whatever is there and without an expiry.
func (s *Shard) NewSortedSet(key []byte) SortedSet {
	o := &zsetObject{scores: map[string]float64{}}
	s.create(key, ZSet, o)
	return SortedSet{o}
}

// Len returns the number of members.
func (z *SortedSet) Len() int { return len(z.o.order) }

// Score returns the score of a member.
func (z *SortedSet) Score(member []byte) (score float64, ok bool) {
	score, ok = z.o.scores[string(member)]
	return score, ok
}

func (o *zsetObject) at(member string, score float64) int {
	i, _ := slices.BinarySearchFunc(o.order, scored{member, score}, func(a, b scored) int {
		switch {
		case a.score < b.score:
			return -1
		case a.score > b.score:
			return 1
		case a.member < b.member:
			return -1
		case a.member > b.member:
			return 1
		}
		return 0
	})
	return i
}

// Set gives a member its score, which is no NaN, and reports whether the member is new.
func (z *SortedSet) Set(member []byte, score float64) (added bool) {
	if math.IsNaN(score) {
		panic("store: the score is not a number")
	}
	had := z.Remove(member)
	i := z.o.at(string(member), score)
	z.o.order = slices.Insert(z.o.order, i, scored{string(member), score})
	z.o.scores[string(member)] = score
	return !had
}

// Remove removes a member and reports whether it was there.
func (z *SortedSet) Remove(member []byte) bool {
	score, ok := z.o.scores[string(member)]
	if !ok {
		return false
	}
	i := z.o.at(string(member), score)
	z.o.order = slices.Delete(z.o.order, i, i+1)
	delete(z.o.scores, string(member))
	return true
}

// Rank returns how many members come before this one.
func (z *SortedSet) Rank(member []byte) (rank int, ok bool) {
	score, ok := z.o.scores[string(member)]
	if !ok {
		return 0, false
	}
	return z.o.at(string(member), score), true
}

// Search returns how many members before is true for, in O(log n) calls. It must be true for a first part of the order
// and false for the rest.
func (z *SortedSet) Search(before func(member []byte, score float64) bool) int {
	i, _ := slices.BinarySearchFunc(z.o.order, 0, func(e scored, _ int) int {
		if before([]byte(e.member), e.score) {
			return -1
		}
		return 1
	})
	return i
}

// Each calls fn with the members from rank on, upwards with step 1 and downwards with step -1, until it returns false.
// fn must not change the shard.
func (z *SortedSet) Each(rank, step int, fn func(member []byte, score float64) bool) {
	for i := rank; i >= 0 && i < len(z.o.order); i += step {
		if e := z.o.order[i]; !fn([]byte(e.member), e.score) {
			return
		}
	}
}

// Scan is Shard.Scan over members: members that stay are seen at least once, small sets whole in one call.
func (z *SortedSet) Scan(cursor uint64, count int, fn func(member []byte, score float64)) (next uint64) {
	z.Each(0, 1, func(m []byte, score float64) bool { fn(m, score); return true })
	return 0
}

// Random returns a member, every one with the same chance. The set must not be empty.
func (z *SortedSet) Random(rng *rand.Rand) (member []byte, score float64) {
	e := z.o.order[rng.IntN(len(z.o.order))]
	return []byte(e.member), e.score
}

type listObject struct{ elements [][]byte }

func (o *listObject) clone() any {
	c := &listObject{}
	for _, e := range o.elements {
		c.elements = append(c.elements, slices.Clone(e))
	}
	return c
}

// Elements is the value of a key of type List, with indexes from 0.
type Elements struct{ o *listObject }

// Elements returns the handle of an entry whose Type is List.
func (r Ref) Elements() Elements { return Elements{r.object().(*listObject)} }

// NewList stores an empty list under key, in place of whatever is there and without an expiry.
func (s *Shard) NewList(key []byte) Elements {
	o := &listObject{}
	s.create(key, List, o)
	return Elements{o}
}

// Len returns the number of elements.
func (l *Elements) Len() int { return len(l.o.elements) }

// At returns the element at index i, which is in the list.
func (l *Elements) At(i int) []byte { return l.o.elements[i] }

// Insert puts an element before index i, 0 to Len.
func (l *Elements) Insert(i int, element []byte) {
	l.o.elements = slices.Insert(l.o.elements, i, append([]byte{}, element...))
}

// Set replaces the element at index i, which is in the list.
func (l *Elements) Set(i int, element []byte) { l.o.elements[i] = append([]byte{}, element...) }

// Remove removes n elements from index i on, all of which are in the list.
func (l *Elements) Remove(i, n int) { l.o.elements = slices.Delete(l.o.elements, i, i+n) }

// Each calls fn with the elements from index i on, upwards with step 1 and downwards with step -1, until it returns
// false. fn must not change the shard.
func (l *Elements) Each(i, step int, fn func(i int, element []byte) bool) {
	for ; i >= 0 && i < len(l.o.elements); i += step {
		if !fn(i, l.o.elements[i]) {
			return
		}
	}
}
