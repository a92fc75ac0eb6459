package store

import (
	"math/bits"
	"unsafe"
)

const (
	unit      = 8                          // bytes; every block begins at a multiple of it
	pageUnits = pageSize / unit            // 512
	maxBlock  = 8192                       // bytes; a larger entry gets pages of its own
	maxSpan   = 8                          // pages
	keptBlock = 256                        // bytes; empty spans of larger blocks are not kept, which few uses would pay for
	bigBit    = uint32(1) << 31            // of a reference: the rest is an index into slab.bigs
	maxPages  = uint32(bigBit) / pageUnits // pages that references can name: 16 GiB of blocks in one shard
)

const (
	classes = 64
	// smallSpan marks, in a span's kind, the short spans that a class begins with.
	smallSpan = classes
	// smallBlocks is how many blocks a class has in short spans before it takes long ones.
	smallBlocks = 24
)

// sizeClasses: multiples of 8 bytes up to 128, then eight steps to each doubling, so that rounding wastes 7 bytes or
// 12.5 % at most.
var (
	classSize   [classes]int
	spanPages   [2 * classes]int // by kind: pages of a span
	spanCount   [2 * classes]int // by kind: blocks of a span
	classBySize = buildClasses()
)

func buildClasses() (by [maxBlock/unit + 1]uint8) {
	n, step := 0, unit
	for size := unit; size <= maxBlock; size += step {
		classSize[n] = size
		spanPages[n], spanCount[n] = spanFor(size, 2, 32)
		spanPages[n+smallSpan], spanCount[n+smallSpan] = spanFor(size, 1, 8)
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

// spanFor returns the smallest span that holds least blocks of size and leaves at most 1/waste of it unused. A shard with few
// collections has a few blocks in each of many classes, so that a long span for each would be most of its memory; one with
// many has long spans, which waste less.
func spanFor(size, least, waste int) (pages, count int) {
	for pages = 1; pages <= maxSpan; pages++ {
		count = pages * pageSize / size
		if rest := pages*pageSize - count*size; count >= least && rest*waste <= pages*pageSize {
			return pages, count
		}
	}
	return maxSpan, maxSpan * pageSize / size
}

func classOf(size int) int { return int(classBySize[(size+unit-1)/unit]) }

// slab allocates the blocks of one shard. A reference is the block's unit in the shard's own page numbering, or
// bigBit and an index.
type slab struct {
	heap    *pageHeap
	limit   uint32              // local pages at most; blocks beyond it become big ones
	pages   []addr              // local page -> memory
	spans   []span              // local page -> the span that begins there, or how far back it begins
	idle    [maxSpan + 1]uint32 // free local page numbers, by length of the run, linked by span.next; number + 1
	classes *[classes]class
	kept    uint32 // the empty span that is not given back, against thrashing, while no other one becomes empty; page + 1
	bigs    []big
	idleBig uint32 // free entries of bigs, linked by big.pages; index + 1
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

type big struct {
	base  addr
	pages uint32
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
	if size > maxBlock {
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
		return block{a.bigs[ref&^bigBit].base.ptr()}
	}
	return block{unsafe.Add(a.pages[ref/pageUnits].ptr(), ref%pageUnits*unit)}
}

// capacity returns the bytes of ref's block.
func (a *slab) capacity(ref uint32) int {
	if ref&bigBit != 0 {
		return int(a.bigs[ref&^bigBit].pages) * pageSize
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
		if c.spans > 1 || classSize[cl] > keptBlock {
			a.dropSpan(page)
		} else {
			a.keep(page)
		}
	}
	return cl
}

// keep leaves the empty span at page where it is and gives back the one that was kept before. One for all classes: a
// collection that grows leaves an empty span in each class that it passes through.
func (a *slab) keep(page uint32) {
	if a.kept != page+1 {
		a.trim()
		a.kept = page + 1
	}
}

// trim gives back the empty span that is kept.
func (a *slab) trim() {
	if a.kept != 0 && a.spans[a.kept-1].used == 0 {
		a.dropSpan(a.kept - 1)
	}
	a.kept = 0
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
	n := spanPages[kind]
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
	base := a.heap.alloc(n)
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
	n := spanPages[kind]
	if a.kept == page+1 {
		a.kept = 0
	}
	c.spans--
	c.all -= uint32(spanCount[kind])
	a.heap.release(a.pages[page], n)
	for i := range uint32(n) {
		a.pages[page+i] = 0
	}
	a.spans[page].next = a.idle[n]
	a.idle[n] = page + 1
}

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
	n := (size + pageSize - 1) / pageSize
	i := a.idleBig - 1
	if a.idleBig != 0 {
		a.idleBig = a.bigs[i].pages
	} else {
		i = uint32(len(a.bigs))
		a.bigs = append(a.bigs, big{})
	}
	a.bigs[i] = big{base: a.takePages(n), pages: uint32(n)}
	return i | bigBit, block{a.bigs[i].base.ptr()}
}

func (a *slab) freeBig(i uint32) {
	a.givePages(a.bigs[i].base, int(a.bigs[i].pages))
	a.bigs[i] = big{pages: a.idleBig}
	a.idleBig = i + 1
}
