package store

import "unsafe"

// Image is a copy of a shard as it was at one moment, to be read while the shard goes on. Whoever wants a group's content needs
// its lock for the copy only, which moves whole runs of memory, in the order of addresses, where a walk over the entries reads
// two random places for each. Blocks refer to each other by page numbers of their slab, so a copy of the pages is good as it is.
//
// It keeps its memory for the next shard. It is not safe for concurrent use.
type Image struct {
	shard Shard
	mem   []byte // mapped
	used  int
	seg   int // Next goes on there
	slot  uint16
}

// Fit makes room for an image of size bytes, and some more since the shard may grow before Take. That way the lock is not held for it.
func (m *Image) Fit(size int64) {
	n := int(size+size/8+pageSize-1) / pageSize
	if n*pageSize <= len(m.mem) {
		return
	}
	m.Close()
	m.mem = mustMap(n)
	for at := 0; at < len(m.mem); at += pageSize {
		m.mem[at] = 1 // the kernel gives the page now, not under the lock
	}
}

// ImageSize returns the bytes that an image of the shard takes at most: of an Image's own memory, and of Go's heap.
func (s *Shard) ImageSize() (own, heap int64) {
	for _, a := range []*slab{&s.slab, &s.parts} {
		own += int64(len(a.pages)) * pageSize
		for _, b := range a.bigs {
			if !b.free() {
				own += int64(b.size())
			}
		}
	}
	return own + int64(len(s.index.segs))*pageSize, s.charged
}

// Take copies the shard, with clones of its streams, which are on Go's heap. It takes about a millisecond for 4 MiB.
func (m *Image) Take(s *Shard) {
	m.shard, m.seg, m.slot = Shard{}, 0, 0
	if own, _ := s.ImageSize(); own > int64(len(m.mem)) {
		m.Fit(own)
	}
	m.used = 0
	to := &m.shard
	to.db, to.count, to.now = s.db, s.count, s.now
	m.slab(&to.slab, &s.slab)
	m.slab(&to.parts, &s.parts)
	to.index.segs = make([]segment, len(s.index.segs))
	for i, g := range s.index.segs {
		if g.base != 0 {
			g.base = m.copy(g.base, g.bytes())
		}
		to.index.segs[i] = g
	}
	to.objects.list = make([]any, len(s.objects.list))
	for i, v := range s.objects.list {
		if v != nil {
			to.objects.list[i] = v.(cloner).clone()
		}
	}
}

// slab copies the blocks of a, as far as they were ever handed out.
func (m *Image) slab(to, a *slab) {
	to.pages, to.spans, to.bigs = make([]addr, len(a.pages)), make([]span, len(a.spans)), make([]big, len(a.bigs))
	copy(to.spans, a.spans)
	for p, base := range a.pages {
		sp := &a.spans[p]
		if base == 0 || sp.back != 0 {
			continue
		}
		copied := m.copy(base, int(sp.bump)*unit)
		for i := range pagesOf(spanBytes[sp.kind]) {
			to.pages[p+i] = copied + addr(i*pageSize)
		}
	}
	for i, b := range a.bigs {
		if !b.free() {
			b = b&^(1<<bigBase-1) | big(m.copy(b.base(), b.size())/grain)
		}
		to.bigs[i] = b
	}
}

func (m *Image) copy(from addr, n int) addr {
	to := m.mem[m.used : m.used+n]
	copy(to, unsafe.Slice((*byte)(from.ptr()), n))
	m.used += (n + grain - 1) / grain * grain
	return addr(uintptr(unsafe.Pointer(unsafe.SliceData(to))))
}

// Range calls fn with every entry of the copied shard, expired ones included, until it returns false. A Ref is valid until the
// next Take; it must not be written to.
func (m *Image) Range(fn func(Ref) bool) { m.shard.Range(fn) }

// Next calls fn with the entries of some more of the copied shard, a few at a time, and reports whether there may be others.
// From one Take to the next it comes by all of them.
func (m *Image) Next(fn func(Ref)) bool {
	for ; m.seg < len(m.shard.index.segs); m.seg, m.slot = m.seg+1, 0 {
		g := &m.shard.index.segs[m.seg]
		if g.base == 0 || m.slot > uint16(g.mask) {
			continue
		}
		b := &g.buckets()[m.slot]
		for j, tag := range b.tags {
			if tag != 0 {
				fn(Ref{m.shard.slab.at(b.refs[j]), &m.shard, place{b, j}})
			}
		}
		m.slot++
		return true
	}
	return false
}

// Close gives the memory back.
func (m *Image) Close() {
	if m.mem != nil {
		unmapMemory(m.mem)
	}
	m.mem, m.used, m.shard = nil, 0, Shard{}
}
