package store

import (
	"math/bits"
	"sync"
	"unsafe"
)

const (
	grain       = 64 // bytes; a run begins and ends at multiples of it
	arenaBytes  = chunkPages * pageSize
	arenaGrains = arenaBytes / grain
	exactRuns   = maxBlock / grain // bins of one length each, then one for each doubling
	grainBins   = exactRuns + 12
	pageGrains  = pageSize / grain
	blockGrains = 512 / grain // of a block at least: smaller runs are short spans and first segments of an index
	arenaDirty  = 64          // pages of an empty arena that may stay resident
)

// grainHeap hands out what is too small for pages of its own to several shards: blocks of 512 bytes to 8 KiB and the
// first spans of a size class. Where every shard has a few of each size, spans for one shard would be mostly free
// blocks. It is best fit with neighbours joined at once; the lists of free runs are in the runs. It is safe for
// concurrent use.
//
// Tidy gives whole pages inside free runs to the kernel. Such runs are clean, and taken only if no other one is as short.
type grainHeap struct {
	mu     sync.Mutex
	dirty  bins
	clean  bins
	given  int64  // bytes inside clean runs
	ops    uint64 // calls of alloc and release
	arenas []addr // arena.index names its place
	top    *arena // what no run was ever cut from is at its end; nil at first
	empty  *arena // the one empty arena that is kept
}

// bins are lists of free runs by length. Any run of a bin beyond exactRuns is long enough for any block.
type bins struct {
	first  [grainBins]addr
	filled [(grainBins + 63) / 64]uint64
}

// arena is the head of a mapping of 4 MiB, aligned to its size so that an address leads to it.
type arena struct {
	edges   [arenaGrains / 64]uint64 // the first and the last grain of each free run
	used    int32                    // grains handed out
	end     int32                    // grains behind were never cut, or joined again
	touched int32                    // grains up to here may be resident
	index   int32
}

const arenaHead = (int32(unsafe.Sizeof(arena{})) + grain - 1) / grain // grains

// freeRun is written at the beginning of a free run. Its length is at the end of the run too.
type freeRun struct {
	next, prev addr
	n          int32
	clean      bool
}

func arenaOf(a addr) *arena        { return (*arena)((a &^ (arenaBytes - 1)).ptr()) }
func (r *arena) base() addr        { return addr(uintptr(unsafe.Pointer(r))) }
func (r *arena) at(p int32) addr   { return r.base() + addr(p)*grain }
func (r *arena) edge(p int32) bool { return r.edges[p/64]>>(p%64)&1 != 0 }
func (a addr) run() *freeRun       { return (*freeRun)(a.ptr()) }
func tail(end addr) *int32         { return (*int32)((end - 4).ptr()) }
func grainOf(a addr) int32         { return int32(a % arenaBytes / grain) }

// inside returns the whole pages of a free run, between what is written at its ends.
func inside(a addr, n int32) (from, to addr) {
	from = (a + addr(unsafe.Sizeof(freeRun{})) + pageSize - 1) &^ (pageSize - 1)
	to = (a + addr(n)*grain - 4) &^ (pageSize - 1)
	return from, max(from, to)
}

func binOf(n int32) int {
	if n <= exactRuns {
		return int(n - 1)
	}
	return min(exactRuns+bits.Len32(uint32(n/exactRuns))-1, grainBins-1)
}

// alloc returns n bytes, a multiple of grain, up to maxBlock. Their content is undefined.
func (h *grainHeap) alloc(bytes int) addr {
	n := int32(bytes / grain)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops++
	set, bin := h.fit(n)
	if bin == grainBins {
		return h.cut(n)
	}
	a := set.first[bin]
	r := arenaOf(a)
	length, isClean := a.run().n, a.run().clean
	h.unlink(r, a)
	if length > n {
		h.link(r, a+addr(n)*grain, length-n, isClean)
	}
	h.use(r, n)
	return a
}

// fit returns the bin with the shortest run that n grains are to be taken from, grainBins if there is none. What is left
// of the run must be of use: a block's worth, since what is smaller can't fill what blocks would leave.
func (h *grainHeap) fit(n int32) (set *bins, bin int) {
	least := int(n - 1)
	if n >= blockGrains && h.dirty.first[least] == 0 && h.clean.first[least] == 0 {
		least += blockGrains
	}
	dirty, clean := h.dirty.atLeast(least), h.clean.atLeast(least)
	if clean < dirty {
		return &h.clean, clean
	}
	return &h.dirty, dirty
}

// cut takes n grains from the end of the top arena, or of a new one.
func (h *grainHeap) cut(n int32) addr {
	if h.top == nil || h.top.end+n > arenaGrains {
		if r := h.top; r != nil && r.end < arenaGrains {
			h.link(r, r.at(r.end), arenaGrains-r.end, false)
			r.end, r.touched = arenaGrains, arenaGrains
		}
		h.top = h.addArena()
	}
	r := h.top
	a := r.at(r.end)
	r.end += n
	r.touched = max(r.touched, r.end)
	h.use(r, n)
	return a
}

func (h *grainHeap) use(r *arena, n int32) {
	if h.empty == r {
		h.empty = nil
	}
	r.used += n
}

// release takes back what alloc(bytes) returned, and tells how many pages the kernel had to take back for it.
func (h *grainHeap) release(a addr, bytes int) (given int) {
	n := int32(bytes / grain)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ops++
	r := arenaOf(a)
	r.used -= n
	if p := grainOf(a); r.edge(p - 1) {
		before := *tail(a)
		a -= addr(before) * grain
		n += before
		h.unlink(r, a)
	}
	if p := grainOf(a) + n; p < r.end && r.edge(p) {
		n += r.at(p).run().n
		h.unlink(r, r.at(p))
	}
	if r == h.top && grainOf(a)+n == r.end {
		r.end -= n
	} else {
		h.link(r, a, n, false)
	}
	if r.used == 0 {
		return h.drop(r)
	}
	return 0
}

// drop gives an arena without blocks back, unless no other empty one is kept.
func (h *grainHeap) drop(r *arena) (given int) {
	old := h.empty
	h.empty = r
	if old != nil {
		if old == h.top {
			h.empty, old = old, r
		}
		h.unlink(old, old.at(arenaHead))
		given += int(old.touched) / pageGrains
		h.unmap(old)
	}
	r = h.empty
	if r.touched > arenaDirty*pageGrains {
		given += int(r.touched) / pageGrains
		h.giveEmpty()
	}
	return given
}

// giveEmpty gives the pages of the empty arena to the kernel, but for its head.
func (h *grainHeap) giveEmpty() {
	r := h.empty
	if r == h.top {
		h.giveEnd(r)
		return
	}
	a := r.at(arenaHead)
	if !a.run().clean {
		h.unlink(r, a)
		h.give(r, a, arenaGrains-arenaHead)
	}
}

// giveEnd gives the pages behind the last run of the top arena to the kernel.
func (h *grainHeap) giveEnd(r *arena) {
	from := (r.at(r.end) + pageSize - 1) &^ (pageSize - 1)
	if to := r.base() + (addr(r.touched)*grain+pageSize-1)&^(pageSize-1); from < to {
		releaseMemory(unsafe.Slice((*byte)(from.ptr()), to-from))
	}
	r.touched = r.end
}

// give links a free run as a clean one.
func (h *grainHeap) give(r *arena, a addr, n int32) {
	if from, to := inside(a, n); from < to {
		releaseMemory(unsafe.Slice((*byte)(from.ptr()), to-from))
	}
	h.link(r, a, n, true)
}

// tidy gives pages inside up to budget free runs to the kernel and reports whether more wait.
func (h *grainHeap) tidy(budget int) (more bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for ; budget > 0; budget-- {
		bin := h.dirty.atLeast(pageGrains) // shorter runs have no page inside
		if bin == grainBins {
			if h.top != nil {
				h.giveEnd(h.top)
			}
			return false
		}
		a := h.dirty.first[bin]
		r, n := arenaOf(a), a.run().n
		h.unlink(r, a)
		h.give(r, a, n)
	}
	return true
}

func (h *grainHeap) addArena() *arena {
	if r := h.empty; r != nil {
		if a := r.at(arenaHead); a.run().clean {
			r.touched = arenaHead
		}
		h.unlink(r, r.at(arenaHead))
		r.end = arenaHead
		return r
	}
	a := mustMapAligned(arenaBytes)
	r := (*arena)(a.ptr())
	r.end, r.touched, r.index = arenaHead, arenaHead, int32(len(h.arenas))
	h.arenas = append(h.arenas, a)
	return r
}

func (h *grainHeap) unmap(r *arena) {
	last := len(h.arenas) - 1
	moved := h.arenas[last]
	h.arenas[r.index] = moved
	arenaOf(moved).index = r.index
	h.arenas = h.arenas[:last]
	unmapAligned(r.base(), arenaBytes)
}

// close gives every arena back.
func (h *grainHeap) close() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.arenas {
		unmapAligned(a, arenaBytes)
	}
	h.dirty, h.clean, h.given, h.arenas, h.top, h.empty = bins{}, bins{}, 0, nil, nil, nil
}

// held returns the bytes of the arenas with blocks that may be resident.
func (h *grainHeap) held() (n int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, a := range h.arenas {
		if r := arenaOf(a); r.used > 0 {
			n += int64(r.touched) * grain
		}
	}
	if h.empty != nil && h.empty != h.top {
		if a := h.empty.at(arenaHead); a.run().clean {
			from, to := inside(a, a.run().n)
			n += int64(to - from) // of given, but not of n
		}
	}
	return n - h.given
}

func (h *grainHeap) link(r *arena, a addr, n int32, clean bool) {
	set := &h.dirty
	if clean {
		set = &h.clean
		from, to := inside(a, n)
		h.given += int64(to - from)
	}
	bin := binOf(n)
	head := set.first[bin]
	*a.run() = freeRun{next: head, n: n, clean: clean}
	*tail(a + addr(n)*grain) = n
	if head != 0 {
		head.run().prev = a
	}
	set.first[bin] = a
	set.filled[bin/64] |= 1 << (bin % 64)
	p := grainOf(a)
	r.edges[p/64] |= 1 << (p % 64)
	p += n - 1
	r.edges[p/64] |= 1 << (p % 64)
}

func (h *grainHeap) unlink(r *arena, a addr) {
	run := *a.run()
	set := &h.dirty
	if run.clean {
		set = &h.clean
		from, to := inside(a, run.n)
		h.given -= int64(to - from)
	}
	if run.next != 0 {
		run.next.run().prev = run.prev
	}
	if run.prev != 0 {
		run.prev.run().next = run.next
	} else {
		bin := binOf(run.n)
		set.first[bin] = run.next
		if run.next == 0 {
			set.filled[bin/64] &^= 1 << (bin % 64)
		}
	}
	p := grainOf(a)
	r.edges[p/64] &^= 1 << (p % 64)
	p += run.n - 1
	r.edges[p/64] &^= 1 << (p % 64)
}

// atLeast returns the first filled bin from bin on, grainBins if there is none.
func (b *bins) atLeast(bin int) int {
	if n := nextBit(b.filled[:], bin); n >= 0 {
		return n
	}
	return grainBins
}

// grainHeaps are shared by the shards, each by a quarter of them, so that few wait for each other.
type grainHeaps [4]grainHeap

func (hs *grainHeaps) of(shard int) *grainHeap { return &hs[shard%len(hs)] }

func (h *grainHeap) count() uint64 {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.ops
}
