package store

import (
	"fmt"
	"math/bits"
	"slices"
	"sync"
	"sync/atomic"
	"unsafe"
)

const (
	pageSize   = 4096
	chunkPages = 1024           // 4 MiB: one mapping; giving a larger one back takes the kernel a millisecond
	maxRun     = 256            // pages; a longer run has a mapping of its own
	runBins    = maxRun + 2     // by length; the last one takes every run beyond maxRun
	noPage     = ^uint32(0)     // end of a bin's list
	dirtyLimit = chunkPages / 4 // freed pages of a chunk after which they are given back to the kernel
	dirtyRun   = 16             // pages; shorter free runs are not worth a system call
)

// addr is an address in memory from mapMemory, kept as a number so that the garbage collector has nothing to follow.
// Such memory never moves and stays mapped until its owner frees it.
type addr uintptr

// ptr returns the address as a pointer. It goes through memory because the direct conversion is reserved for
// addresses in Go's heap.
func (a addr) ptr() unsafe.Pointer { return *(*unsafe.Pointer)(unsafe.Pointer(&a)) }

// pageHeap hands out runs of pages to all shards of a DB. It maps chunks of 4 MiB, keeps the free runs in bins by
// length, joins neighbours when they are freed, and gives memory back to the kernel. It is safe for concurrent use.
type pageHeap struct {
	mu     sync.Mutex
	chunks []*chunk // by id; nil where a chunk was unmapped
	order  []*chunk // by address, to find the chunk of an address
	bins   [runBins]uint32
	filled [(runBins + 63) / 64]uint64 // which bins are not empty
	empty  int                         // chunks without a page in use
	inUse  atomic.Int64                // bytes handed out
	ops    uint64                      // calls of alloc and release
}

// chunk is one mapping. A free run stores its length at its first and its last page, and its links at its first.
type chunk struct {
	mem    []byte
	base   addr
	id     uint32
	free   int // pages
	dirty  int // an upper bound of free pages that the kernel still backs
	isFree [chunkPages / 64]uint64
	run    [chunkPages]uint16
	next   [chunkPages]uint32
	prev   [chunkPages]uint32
}

func newPageHeap() *pageHeap {
	h := &pageHeap{}
	for i := range h.bins {
		h.bins[i] = noPage
	}
	return h
}

// alloc returns n pages, n >= 1. Their content is undefined. It panics when the kernel refuses memory, as Go's own
// allocator does.
func (h *pageHeap) alloc(n int) addr {
	h.inUse.Add(int64(n) * pageSize)
	if n > maxRun {
		return addr(uintptr(unsafe.Pointer(unsafe.SliceData(mustMap(n)))))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops++
	bin := h.binWith(n)
	if bin < 0 {
		h.addChunk()
		bin = runBins - 1
	}
	id := h.bins[bin]
	c, p := h.chunks[id/chunkPages], int(id%chunkPages)
	length := c.runAt(p)
	h.unlink(c, p, length)
	if length > n {
		h.link(c, p+n, length-n)
	}
	if c.free == chunkPages {
		h.empty--
	}
	c.mark(p, n, false)
	c.free -= n
	c.dirty = min(c.dirty, c.free)
	return c.base + addr(p*pageSize)
}

// release takes back the n pages that alloc(n) returned, and tells how many pages the kernel had to take back for it.
func (h *pageHeap) release(a addr, n int) (given int) {
	h.inUse.Add(-int64(n) * pageSize)
	if n > maxRun {
		unmapMemory(unsafe.Slice((*byte)(a.ptr()), n*pageSize))
		return n
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops++
	at, _ := slices.BinarySearchFunc(h.order, a, func(c *chunk, a addr) int {
		switch {
		case c.base+chunkPages*pageSize <= a:
			return -1
		case c.base > a:
			return 1
		}
		return 0
	})
	c := h.order[at]
	p := int(a-c.base) / pageSize
	c.mark(p, n, true)
	c.free += n
	c.dirty += n
	first, length := p, n
	if p > 0 && c.freeAt(p-1) {
		before := c.runAt(p - 1)
		first -= before
		length += before
		h.unlink(c, first, before)
	}
	if end := p + n; end < chunkPages && c.freeAt(end) {
		after := c.runAt(end)
		h.unlink(c, end, after)
		length += after
	}
	h.link(c, first, length)
	return h.giveBack(c)
}

// giveBack returns memory of c to the kernel once enough of it is unused: all of it if a second chunk is empty, since
// one is kept against thrashing.
func (h *pageHeap) giveBack(c *chunk) (given int) {
	dirty := c.dirty
	if c.free == chunkPages {
		if h.empty > 0 {
			h.dropChunk(c)
			return dirty
		}
		h.empty++
	} else if dirty < dirtyLimit {
		return 0
	}
	c.giveBack(dirtyRun)
	return dirty
}

// giveBack gives the free runs of at least so many pages to the kernel.
func (c *chunk) giveBack(least int) {
	c.dirty = 0
	for p := 0; p < chunkPages; {
		if !c.freeAt(p) {
			p++
			continue
		}
		n := c.runAt(p)
		if n >= least {
			releaseMemory(c.mem[p*pageSize : (p+n)*pageSize])
		}
		p += n
	}
}

// tidy gives the free pages of up to budget chunks to the kernel, and reports whether more wait.
func (h *pageHeap) tidy(budget int) (more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.order {
		if c.dirty == 0 {
			continue
		}
		if budget == 0 {
			return true
		}
		budget--
		c.giveBack(1)
	}
	return false
}

func (h *pageHeap) addChunk() {
	mem := mustMap(chunkPages)
	c := &chunk{mem: mem, base: addr(uintptr(unsafe.Pointer(unsafe.SliceData(mem)))), free: chunkPages}
	id := slices.Index(h.chunks, nil)
	if id < 0 {
		id = len(h.chunks)
		h.chunks = append(h.chunks, nil)
	}
	c.id, h.chunks[id] = uint32(id), c
	at, _ := slices.BinarySearchFunc(h.order, c.base, func(c *chunk, a addr) int {
		if c.base < a {
			return -1
		}
		return 1
	})
	h.order = slices.Insert(h.order, at, c)
	c.mark(0, chunkPages, true)
	h.link(c, 0, chunkPages)
	h.empty++
}

func (h *pageHeap) dropChunk(c *chunk) {
	h.unlink(c, 0, chunkPages)
	h.chunks[c.id] = nil
	at := slices.Index(h.order, c)
	h.order = slices.Delete(h.order, at, at+1)
	unmapMemory(c.mem)
}

// close gives every chunk back. Nothing that was handed out may be used afterwards.
func (h *pageHeap) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, c := range h.order {
		unmapMemory(c.mem)
	}
	h.chunks, h.order, h.empty = nil, nil, 0
	h.filled = [len(h.filled)]uint64{}
	for i := range h.bins {
		h.bins[i] = noPage
	}
}

// binWith returns the first filled bin whose runs are at least n pages long, -1 if there is none.
func (h *pageHeap) binWith(n int) int { return nextBit(h.filled[:], n) }

// nextBit returns the place of the first bit from n on that is set, -1 if there is none.
func nextBit(words []uint64, n int) int {
	for w := n / 64; w < len(words); w++ {
		word := words[w]
		if w == n/64 {
			word &= ^uint64(0) << (n % 64)
		}
		if word != 0 {
			return w*64 + bits.TrailingZeros64(word)
		}
	}
	return -1
}

func (h *pageHeap) link(c *chunk, p, n int) {
	c.run[p], c.run[p+n-1] = uint16(n), uint16(n)
	bin := min(n, runBins-1)
	id, head := c.id*chunkPages+uint32(p), h.bins[bin]
	c.next[p], c.prev[p] = head, noPage
	if head != noPage {
		h.chunks[head/chunkPages].prev[head%chunkPages] = id
	}
	h.bins[bin] = id
	h.filled[bin/64] |= 1 << (bin % 64)
}

func (h *pageHeap) unlink(c *chunk, p, n int) {
	bin := min(n, runBins-1)
	next, prev := c.next[p], c.prev[p]
	if next != noPage {
		h.chunks[next/chunkPages].prev[next%chunkPages] = prev
	}
	if prev != noPage {
		h.chunks[prev/chunkPages].next[prev%chunkPages] = next
		return
	}
	h.bins[bin] = next
	if next == noPage {
		h.filled[bin/64] &^= 1 << (bin % 64)
	}
}

func (c *chunk) freeAt(p int) bool { return c.isFree[p/64]>>(p%64)&1 != 0 }

// runAt returns the length of the free run that begins or ends at page p.
func (c *chunk) runAt(p int) int { return int(c.run[p]) }

func (c *chunk) mark(p, n int, free bool) {
	for ; n > 0; p, n = p+1, n-1 {
		if free {
			c.isFree[p/64] |= 1 << (p % 64)
		} else {
			c.isFree[p/64] &^= 1 << (p % 64)
		}
	}
}

func mustMap(pages int) []byte {
	mem, err := mapMemory(pages * pageSize)
	if err != nil {
		panic(fmt.Sprintf("store: out of memory: map %d pages: %v", pages, err))
	}
	return mem
}

func mustMapAligned(bytes int) addr {
	a, err := mapAligned(bytes)
	if err != nil {
		panic(fmt.Sprintf("store: out of memory: map %d bytes: %v", bytes, err))
	}
	return a
}

func (h *pageHeap) count() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ops
}
