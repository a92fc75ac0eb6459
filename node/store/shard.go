package store

// Shard holds the entries of one slot group. It is not safe for concurrent use: the caller holds the group's lock.
// Keys and values given to it are copied in, and may alias its own memory (Set(key, ref.Value(), 0) is fine).
type Shard struct {
	db       *DB
	slab     slab // entries
	index    index
	expiry   expiry
	count    int
	id       int    // Shard's argument
	reported int64  // the part of Bytes that db.used knows of
	changes  uint64 // of the shard's memory; tells handles that they are stale
	now      int64  // unix ms, as last heard
	dice     uint64

	parts   slab // blocks of collections; nothing moves them
	graves  graveyard
	objects objects
	charged int64 // bytes of objects

	// Buffers of one operation, and texts that were handed out.
	sought, scratch, held, texts []byte
}

// Len returns the number of entries, expired ones that were not deleted yet included.
func (s *Shard) Len() int { return s.count }

// Expires returns the number of entries with an expiry.
func (s *Shard) Expires() int { return s.expiry.n }

// Bytes returns the shard's part of DB.Used, exactly.
func (s *Shard) Bytes() int64 { return s.slab.live + s.parts.live + s.charged + s.graves.live }

// SetClock tells the time (unix ms) that the following writes count as access. Find and Expired tell it too, so only
// who writes without ever looking (a replica that applies effects) needs it.
func (s *Shard) SetClock(now int64) { s.now = now }

// Find returns the entry with this key and notes the access. An entry whose expiry is at or before now (unix ms) is not
// found; it stays until Delete. While DB.Freeze is on, none has expired.
func (s *Shard) Find(key []byte, now int64) (Ref, bool) {
	s.now = now
	b, where, ok := s.find(key, s.db.hash(key))
	if !ok {
		return Ref{}, false
	}
	if at := b.expireAt(); at != 0 && at <= now && !s.db.frozen.Load() {
		return Ref{}, false
	}
	s.touch(b)
	return Ref{b, s, where}, true
}

// Peek returns the entry with this key, expired or not, without noting an access.
func (s *Shard) Peek(key []byte) (Ref, bool) {
	b, at, ok := s.find(key, s.db.hash(key))
	return Ref{b, s, at}, ok
}

// Touch notes an access to an entry that Peek found.
func (s *Shard) Touch(r Ref) { s.touch(r.b) }

// Set stores value as a String under key, with an expiry in unix ms (0 = none) that replaces the one before.
func (s *Shard) Set(key, value []byte, expireAt int64) {
	h := s.db.hash(key)
	want := shape{len(key), len(value), expireAt != 0}
	b, at, ok := s.find(key, h)
	if !ok {
		ref, b := s.slab.alloc(want.size())
		b.init(want, s.fresh())
		off := want.header()
		copy(b.bytes(off, len(key)), key)
		copy(b.bytes(off+len(key), len(value)), value)
		s.insert(h, ref)
		s.count++
		if expireAt != 0 {
			b.setExpireAt(expireAt)
			s.track(ref, expireAt)
		}
		s.settle()
		return
	}
	s.drop(b)
	old := at.b.refs[at.i]
	have, _ := b.shape()
	moved := have.header() != want.header() || capacityFor(want.size()) != s.slab.capacity(old)
	if moved {
		b = s.move(at, want, want.size())
	} else {
		b.setLens(want)
	}
	off := want.header() + want.klen
	copy(b.bytes(off, want.vlen), value)
	b.setKind(String, false)
	s.setExpiry(b, at.b.refs[at.i], have.ttl, expireAt)
	if !s.db.Policy().LFU() {
		b.setClock(s.fresh())
	}
	if moved {
		s.release(old)
	}
	s.settle()
}

// Append adds suffix to the value of key and returns the new length in bytes. A key that does not exist is created as
// Set does; an expiry is kept. Many small appends copy the value a bounded number of times per doubling.
func (s *Shard) Append(key, suffix []byte) (newLen int) {
	b, at, ok := s.find(key, s.db.hash(key))
	if !ok {
		s.Set(key, suffix, 0)
		return len(suffix)
	}
	have, _ := b.shape()
	return s.write(at, have.vlen, suffix)
}

// SetRange writes data at byte off of the value of key and returns the new length in bytes. A gap is filled with
// zeros, a key that does not exist is created, an expiry is kept. Without data nothing changes.
func (s *Shard) SetRange(key []byte, off int, data []byte) (newLen int) {
	h := s.db.hash(key)
	b, at, ok := s.find(key, h)
	if len(data) == 0 {
		if !ok {
			return 0
		}
		have, _ := b.shape()
		return have.vlen
	}
	if !ok {
		s.Set(key, nil, 0)
		_, at, _ = s.find(key, h)
	}
	return s.write(at, off, data)
}

// write puts data at off of the value at this place and marks it raw.
func (s *Shard) write(at place, off int, data []byte) (newLen int) {
	old := at.b.refs[at.i]
	b := s.slab.at(old)
	have, _ := b.shape()
	want := have
	want.vlen = max(have.vlen, off+len(data))
	moved := have.header() != want.header() || want.size() > s.slab.capacity(old)
	if moved {
		b = s.move(at, want, want.size()+slack(want.size()))
	} else {
		b.setLens(want)
	}
	start := want.header() + want.klen
	if moved {
		copy(b.bytes(start, have.vlen), s.slab.at(old).value())
	}
	if off > have.vlen {
		clear(b.bytes(start+have.vlen, off-have.vlen))
	}
	copy(b.bytes(start+off, len(data)), data)
	b.setKind(String, true)
	s.touch(b)
	if moved {
		s.release(old)
	}
	s.settle()
	return want.vlen
}

// slack returns the bytes to add to a value that grows, so that growing again seldom moves it.
func slack(size int) int {
	if size <= maxBlock {
		return 0 // the steps of the size classes are slack enough
	}
	return size / 4
}

// SetExpire sets the expiry of key in unix ms, 0 to remove it. It reports whether the key exists.
func (s *Shard) SetExpire(key []byte, expireAt int64) bool {
	b, at, ok := s.find(key, s.db.hash(key))
	if !ok {
		return false
	}
	old := at.b.refs[at.i]
	have, _ := b.shape()
	if have.ttl == (expireAt != 0) {
		s.setExpiry(b, old, have.ttl, expireAt)
		return true
	}
	want := have
	want.ttl = expireAt != 0
	kind, raw := Type(b.flags()&typeMask), b.raw()
	value := b.value()
	b = s.move(at, want, want.size())
	copy(b.bytes(want.header()+want.klen, want.vlen), value)
	b.setKind(kind, raw)
	s.setExpiry(b, at.b.refs[at.i], have.ttl, expireAt)
	s.release(old)
	s.settle()
	return true
}

// Delete removes key and reports whether it was there.
func (s *Shard) Delete(key []byte) bool {
	h := s.db.hash(key)
	b, at, ok := s.find(key, h)
	if !ok {
		return false
	}
	s.drop(b)
	ref := at.b.refs[at.i]
	if b.flags()&flagTTL != 0 {
		s.untrack(b.heapPos())
	}
	s.remove(h, at)
	s.count--
	s.release(ref)
	s.settle()
	return true
}

// Flush removes all entries and returns their number. Of their memory it gives some back; the rest waits for Reclaim.
func (s *Shard) Flush() (n int) {
	n = s.count
	s.buryAll()
	s.changes++
	s.Reclaim(reclaimWithFlush)
	return n
}

// move gives the entry at this place a new block of at least size bytes with its key, clock and, if it had one and
// keeps it, its expiry. The value is the caller's, and so is the old block, which arguments may still alias.
func (s *Shard) move(at place, want shape, size int) block {
	old := s.slab.at(at.b.refs[at.i])
	ref, b := s.slab.alloc(size)
	b.init(want, old.clock())
	copy(b.bytes(want.header(), want.klen), old.key())
	if want.ttl && old.flags()&flagTTL != 0 {
		b.setExpireAt(old.expireAt())
		pos := old.heapPos()
		b.setHeapPos(pos)
		s.expiry.item(pos).ref = ref
	} else if old.flags()&flagTTL != 0 {
		s.untrack(old.heapPos())
	}
	at.b.refs[at.i] = ref
	return b
}

// setExpiry stores the expiry of an entry whose header has room for it if it needs any. had tells whether the heap
// knows the entry.
func (s *Shard) setExpiry(b block, ref uint32, had bool, expireAt int64) {
	if expireAt == 0 {
		return // move has taken it out of the heap
	}
	b.setExpireAt(expireAt)
	if had {
		s.retrack(b.heapPos(), expireAt)
	} else {
		s.track(ref, expireAt)
	}
}

// release frees a block that no place refers to any more.
func (s *Shard) release(ref uint32) {
	class := s.slab.free(ref)
	if class >= 0 && s.count > 0 && s.slab.sparse(class) {
		s.compact(class)
	}
}

// settle ends a change of the shard.
func (s *Shard) settle() {
	s.changes++
	if s.graves.pending() {
		s.reclaim(reclaimWithChange)
		s.showGraves()
	}
	s.account()
}

// account reports the memory in use to the DB: by pages, so that shards seldom write to the same word, but exactly where
// the limit is near. Otherwise a write that finds the DB over its limit would evict, and evict again, with nothing to show
// for it until a shard has lost a page.
func (s *Shard) account() {
	n := s.Bytes()
	d := n - s.reported
	if d == 0 || d < pageSize && d > -pageSize && n != 0 && s.db.used.Load()+d <= s.db.exact.Load() {
		return
	}
	s.db.used.Add(d)
	s.reported = n
}
