package store

import (
	"math/bits"
	"unsafe"
)

const (
	unit      = 8                          // bytes; every block begins at a multiple of it
	pageUnits = pageSize / unit            // 512
	maxBlock  = 8192                       // bytes; a larger entry gets pages of its own
	maxSmall  = 480                        // bytes; a larger block is no part of a span
	maxSpan   = 8                          // pages
	bigBit    = uint32(1) << 31            // of a reference: the rest is an index into slab.bigs
	maxPages  = uint32(bigBit) / pageUnits // pages that references can name: 16 GiB of blocks in one shard
)

const (
	sizes   = 64 // that blocks are rounded to
	classes = 31 // of them those up to maxSmall, which have spans
	// smallSpan marks, in a span's kind, the short spans that a class begins with: parts of pages.
	smallSpan = classes
	// smallBlocks is how many blocks a class has in short spans before it takes long ones.
	smallBlocks = 64
)

// sizeClasses: multiples of 8 bytes up to 128, then eight steps to each doubling, so that rounding wastes 7 bytes or
// 12.5 % at most.
var (
	classSize   [sizes]int
	spanBytes   [2 * classes]int // by kind: of a span, whole pages unless it is a short one
	spanCount   [2 * classes]int // by kind: blocks of a span
	classBySize = buildClasses()
)

func buildClasses() (by [maxBlock/unit + 1]uint8) {
	n, step := 0, unit
	for size := unit; size <= maxBlock; size += step {
		classSize[n] = size
		if n < classes {
			spanBytes[n], spanCount[n] = longSpan(size)
			spanBytes[n+smallSpan], spanCount[n+smallSpan] = shortSpan(size)
		}
		n++
		if size >= 128 && bits.OnesCount(uint(size)) == 1 {
			step = size / 8
		}
	}
	class := 0
	for u := range by {
		for classSize[class] < u*unit {
			class++
		}
		by[u] = uint8(class)
	}
	return by
}

// longSpan returns the smallest span of pages that leaves at most 1/32 of it unused.
func longSpan(size int) (bytes, count int) {
	for bytes = pageSize; bytes < maxSpan*pageSize; bytes += pageSize {
		if bytes%size*32 <= bytes {
			break
		}
	}
	return bytes, bytes / size
}

// shortSpan returns the smallest span of at least four blocks that leaves at most 1/16 of it unused. A shard with few entries
// has few blocks in each of many classes, so that pages for each would be most of its memory; one with many has long
// spans, whose own cost is less.
func shortSpan(size int) (bytes, count int) {
	for count = 4; ; count++ {
		bytes = (count*size + grain - 1) / grain * grain
		if count = bytes / size; (bytes-count*size)*16 <= bytes {
			return bytes, count
		}
	}
}

func classOf(size int) int { return int(classBySize[(size+unit-1)/unit]) }

// slab allocates the blocks of one shard. A reference is the block's unit in the shard's own page numbering, or
// bigBit and an index.
type slab struct {
	heap    *pageHeap
	grains  *grainHeap
	limit   uint32              // local pages at most; blocks beyond it become big ones
	pages   []addr              // local page -> memory
	spans   []span              // local page -> the span that begins there, or how far back it begins
	idle    [maxSpan + 1]uint32 // free local page numbers, by length of the run, linked by span.next; number + 1
	classes *[classes]class
	bigs    []big  // blocks beyond maxSmall
	idleBig uint32 // free entries of bigs, linked; index + 1
	live    int64  // bytes of blocks and of pages taken with takePages
}

// span is a run of pages cut into blocks of one class.
type span struct {
	free       uint16 // first free block: its unit + 1, the next one's is stored in the block
	bump       uint16 // units from here on were never handed out
	used       uint16 // blocks
	kind       uint8  // its class, and smallSpan
	back       uint8  // pages back to the beginning of the span
	next, prev uint32 // in its class's list of spans with room; page + 1
}

func (s *span) class() int { return int(s.kind) % classes }

// full says that every block is handed out.
func (s *span) full() bool { return int(s.used) == spanCount[s.kind%(2*classes)] }

type class struct {
	room  uint32 // first span with a free block; page + 1
	spans uint32
	all   uint32 // blocks of its spans
	used  uint32 // blocks handed out
}

// big says where a block beyond maxSmall is, in 42 bits, and how large it is: in pages if they are whole, else in grains. The
// block of a free entry has no size; where it would be is the next free one.
type big uint64

const (
	bigBase  = 42 // bits
	bigPages = big(1) << 63
)

func (g big) base() addr { return addr(g&(1<<bigBase-1)) * grain }
func (g big) free() bool { return g>>bigBase == 0 }

func (g big) size() int {
	n := int(g &^ bigPages >> bigBase)
	if g&bigPages != 0 {
		return n * pageSize
	}
	return n * grain
}

// capacityFor returns the bytes of the block that alloc(size) makes.
func capacityFor(size int) int {
	if size <= maxBlock {
		return classSize[classOf(size)]
	}
	return (size + pageSize - 1) / pageSize * pageSize
}

// alloc returns a block of at least size bytes with undefined content. It never moves another block.
func (a *slab) alloc(size int) (ref uint32, b block) {
	if size > maxSmall {
		return a.allocBig(size)
	}
	cl := classOf(size)
	if a.classes == nil {
		a.classes = new([classes]class)
	}
	c := &a.classes[cl]
	if c.room == 0 && !a.addSpan(cl) {
		return a.allocBig(size)
	}
	page := c.room - 1
	sp := &a.spans[page]
	off := uint32(sp.bump)
	if sp.free != 0 {
		off = uint32(sp.free - 1)
		b = block{unsafe.Add(a.pages[page].ptr(), off*unit)}
		sp.free = uint16(b.u16(2))
	} else {
		b = block{unsafe.Add(a.pages[page].ptr(), off*unit)}
		sp.bump += uint16(classSize[cl] / unit)
	}
	sp.used++
	c.used++
	if sp.full() {
		a.unlink(c, page)
	}
	a.live += int64(classSize[cl])
	return page*pageUnits + off, b
}

// at returns the block that ref names.
func (a *slab) at(ref uint32) block {
	if ref&bigBit != 0 {
		return block{a.bigs[ref&^bigBit].base().ptr()}
	}
	return block{unsafe.Add(a.pages[ref/pageUnits].ptr(), ref%pageUnits*unit)}
}

// capacity returns the bytes of ref's block.
func (a *slab) capacity(ref uint32) int {
	if ref&bigBit != 0 {
		return a.bigs[ref&^bigBit].size()
	}
	return classSize[a.spans[a.spanOf(ref)].class()]
}

// free takes ref's block back. It returns the block's class, -1 for a big one.
func (a *slab) free(ref uint32) int {
	if ref&bigBit != 0 {
		a.freeBig(ref &^ bigBit)
		return -1
	}
	page := a.spanOf(ref)
	cl := a.spans[page].class()
	c := &a.classes[cl]
	if a.spans[page].full() {
		a.link(c, page)
	}
	a.punch(page, ref)
	if a.spans[page].used == 0 {
		a.dropSpan(page)
	}
	return cl
}

// punch makes the block ref of the span at page a free one.
func (a *slab) punch(page, ref uint32) {
	sp := &a.spans[page]
	a.at(ref).putU32(0, uint32(sp.free)<<16)
	sp.free = uint16(ref-page*pageUnits) + 1
	sp.used--
	cl := sp.class()
	a.classes[cl].used--
	a.live -= int64(classSize[cl])
}

// takePages returns pages for the shard's own structures.
func (a *slab) takePages(n int) addr {
	a.live += int64(n) * pageSize
	return a.heap.alloc(n)
}

func (a *slab) givePages(p addr, n int) {
	a.live -= int64(n) * pageSize
	a.heap.release(p, n)
}

// take returns memory for the shard's own structures: a page, or some grains.
func (a *slab) take(bytes int) addr {
	if bytes == pageSize {
		return a.takePages(1)
	}
	a.live += int64(bytes)
	return a.grains.alloc(bytes)
}

func (a *slab) give(p addr, bytes int) {
	if bytes == pageSize {
		a.givePages(p, 1)
		return
	}
	a.live -= int64(bytes)
	a.grains.release(p, bytes)
}

func (a *slab) spanOf(ref uint32) uint32 {
	page := ref / pageUnits
	return page - uint32(a.spans[page].back)
}

// addSpan gives class cl a span with room, false if references cannot name more pages.
func (a *slab) addSpan(cl int) bool {
	kind := cl
	if a.classes[cl].all < smallBlocks {
		kind += smallSpan
	}
	n := pagesOf(spanBytes[kind])
	page := a.idle[n] - 1
	if a.idle[n] != 0 {
		a.idle[n] = a.spans[page].next
	} else {
		page = uint32(len(a.pages))
		if page+uint32(n) > a.limit {
			return false
		}
		for range n {
			a.pages, a.spans = append(a.pages, 0), append(a.spans, span{})
		}
	}
	var base addr
	if kind < smallSpan {
		base = a.heap.alloc(n)
	} else {
		base = a.grains.alloc(spanBytes[kind])
	}
	for i := range n {
		a.pages[page+uint32(i)] = base + addr(i*pageSize)
		a.spans[page+uint32(i)] = span{kind: uint8(kind), back: uint8(i)}
	}
	a.classes[cl].spans++
	a.classes[cl].all += uint32(spanCount[kind])
	a.link(&a.classes[cl], page)
	return true
}

// dropSpan gives an empty span that is in its class's list back to the page heap.
func (a *slab) dropSpan(page uint32) {
	c := &a.classes[a.spans[page].class()]
	a.unlink(c, page)
	a.releaseSpan(page)
}

func (a *slab) releaseSpan(page uint32) {
	kind, c := a.spans[page].kind, &a.classes[a.spans[page].class()]
	n := pagesOf(spanBytes[kind])
	c.spans--
	c.all -= uint32(spanCount[kind])
	a.freeSpan(page)
	for i := range uint32(n) {
		a.pages[page+i] = 0
	}
	a.spans[page].next = a.idle[n]
	a.idle[n] = page + 1
}

// freeSpan gives the memory of the span at page back, and tells how many pages the kernel had to take back for it.
func (a *slab) freeSpan(page uint32) (given int) {
	kind := a.spans[page].kind
	if kind < smallSpan {
		return a.heap.release(a.pages[page], pagesOf(spanBytes[kind]))
	}
	return a.grains.release(a.pages[page], spanBytes[kind])
}

func pagesOf(bytes int) int { return (bytes + pageSize - 1) / pageSize }

func (a *slab) link(c *class, page uint32) {
	sp := &a.spans[page]
	sp.next, sp.prev = c.room, 0
	if c.room != 0 {
		a.spans[c.room-1].prev = page + 1
	}
	c.room = page + 1
}

func (a *slab) unlink(c *class, page uint32) {
	sp := &a.spans[page]
	if sp.next != 0 {
		a.spans[sp.next-1].prev = sp.prev
	}
	if sp.prev != 0 {
		a.spans[sp.prev-1].next = sp.next
	} else {
		c.room = sp.next
	}
}

func (a *slab) allocBig(size int) (uint32, block) {
	i := a.idleBig - 1
	if a.idleBig != 0 {
		a.idleBig = uint32(a.bigs[i])
	} else {
		i = uint32(len(a.bigs))
		a.bigs = append(a.bigs, 0)
	}
	var base addr
	if size = capacityFor(size); size%pageSize == 0 {
		n := size / pageSize
		base = a.takePages(n)
		a.bigs[i] = big(base/grain) | big(n)<<bigBase | bigPages
	} else {
		n := (size + grain - 1) / grain
		base = a.grains.alloc(n * grain)
		a.bigs[i] = big(base/grain) | big(n)<<bigBase
		a.live += int64(n) * grain
	}
	return i | bigBit, block{base.ptr()}
}

func (a *slab) freeBig(i uint32) {
	a.live -= int64(a.bigs[i].size())
	a.releaseBig(a.bigs[i])
	a.bigs[i] = big(a.idleBig)
	a.idleBig = i + 1
}

// releaseBig tells how many pages the kernel had to take back.
func (a *slab) releaseBig(g big) (given int) {
	if g&bigPages != 0 {
		return a.heap.release(g.base(), g.size()/pageSize)
	}
	return a.grains.release(g.base(), g.size())
}
