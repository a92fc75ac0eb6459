package store

import (
	"math/rand/v2"
	"slices"

	"hypercache/node/ring"
)

type Options struct {
	MaxMemory int64
	Policy    Policy
	Seed      uint64
}

type DB struct {
	shards [ring.Groups]Shard
	max    int64
	policy Policy
}

func New(o Options) *DB {
	db := &DB{max: o.MaxMemory, policy: o.Policy}
	for i := range db.shards {
		db.shards[i].m = map[string]*entry{}
	}
	return db
}
func (db *DB) Shard(group int) *Shard { return &db.shards[group] }
func (db *DB) Used() (n int64) {
	for i := range db.shards {
		n += db.shards[i].Bytes()
	}
	return n
}
func (db *DB) SetMaxMemory(n int64) { db.max = n }
func (db *DB) MaxMemory() int64     { return db.max }
func (db *DB) SetPolicy(p Policy)   { db.policy = p }
func (db *DB) Policy() Policy       { return db.policy }
func (db *DB) OverLimit() bool      { return db.max > 0 && db.Used() > db.max }

type entry struct {
	key, val []byte
	at       int64
	raw      bool
}
type Shard struct {
	m map[string]*entry
}
type Ref struct{ e *entry }

func (r Ref) Key() []byte     { return r.e.key }
func (r Ref) Value() []byte   { return r.e.val }
func (r Ref) Type() Type      { return String }
func (r Ref) ExpireAt() int64 { return r.e.at }
func (r Ref) Encoding() string {
	switch {
	case r.e.raw:
		return "raw"
	case isCanonicalInt(r.e.val):
		return "int"
	case len(r.e.val) <= 44:
		return "embstr"
	}
	return "raw"
}
func (r Ref) IdleSeconds(now int64) int64 { return 0 }
func (r Ref) Freq() int                   { return 0 }

func (s *Shard) Find(key []byte, now int64) (Ref, bool) {
	e, ok := s.m[string(key)]
	if !ok || e.at != 0 && e.at <= now {
		return Ref{}, false
	}
	return Ref{e}, true
}
func (s *Shard) Peek(key []byte) (Ref, bool) { e, ok := s.m[string(key)]; return Ref{e}, ok }
func (s *Shard) Touch(Ref)                   {}
func (s *Shard) Set(key, value []byte, expireAt int64) {
	s.m[string(key)] = &entry{key: slices.Clone(key), val: slices.Clone(value), at: expireAt}
}
func (s *Shard) Append(key, suffix []byte) int {
	e := s.m[string(key)]
	if e == nil {
		s.Set(key, suffix, 0)
		return len(suffix)
	}
	e.val, e.raw = append(e.val, suffix...), true
	return len(e.val)
}
func (s *Shard) SetRange(key []byte, off int, data []byte) int {
	e := s.m[string(key)]
	if len(data) == 0 {
		if e == nil {
			return 0
		}
		return len(e.val)
	}
	if e == nil {
		s.Set(key, nil, 0)
		e = s.m[string(key)]
	}
	e.raw = true
	if n := off + len(data); n > len(e.val) {
		e.val = append(e.val, make([]byte, n-len(e.val))...)
	}
	copy(e.val[off:], data)
	return len(e.val)
}
func (s *Shard) SetExpire(key []byte, at int64) bool {
	e := s.m[string(key)]
	if e != nil {
		e.at = at
	}
	return e != nil
}
func (s *Shard) Delete(key []byte) bool {
	_, ok := s.m[string(key)]
	delete(s.m, string(key))
	return ok
}
func (s *Shard) Flush() int { n := len(s.m); clear(s.m); return n }
func (s *Shard) Len() int   { return len(s.m) }
func (s *Shard) Expires() (n int) {
	for _, e := range s.m {
		if e.at != 0 {
			n++
		}
	}
	return n
}
func (s *Shard) Bytes() (n int64) {
	for _, e := range s.m {
		n += int64(len(e.key) + len(e.val) + 100)
	}
	return n
}
func (s *Shard) Scan(cursor uint64, count int, fn func(Ref)) uint64 {
	for _, e := range s.m {
		fn(Ref{e})
	}
	return 0
}
func (s *Shard) Range(fn func(Ref) bool) {
	for _, e := range s.m {
		if !fn(Ref{e}) {
			return
		}
	}
}
func (s *Shard) Random(rng *rand.Rand) (Ref, bool) {
	for _, e := range s.m {
		return Ref{e}, true
	}
	return Ref{}, false
}
func (s *Shard) Expired(now int64, max int, fn func(key []byte)) {
	for _, e := range s.m {
		if e.at != 0 && e.at <= now && max > 0 {
			max--
			fn(e.key)
		}
	}
}
func (s *Shard) SlotLen(slot uint16) (n int) { return len(s.SlotKeys(slot, 1<<62)) }
func (s *Shard) SlotKeys(slot uint16, max int) (keys [][]byte) {
	for _, e := range s.m {
		if len(keys) < max && ring.Slot(e.key) == slot {
			keys = append(keys, slices.Clone(e.key))
		}
	}
	return keys
}
func (s *Shard) EvictionSample(n int, rng *rand.Rand, fn func(r Ref, score uint64)) {
	for _, e := range s.m {
		if n--; n < 0 {
			return
		}
		fn(Ref{e}, rng.Uint64())
	}
}
