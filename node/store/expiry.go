package store

// expiry is a heap of the entries that have an expiry, ordered by a lower bound of it, four children to a node, in
// pages. An entry knows its position, so that it can be taken out at once: the heap never holds more than the live
// entries. Moving an expiry later, which SET … EX on a live key does all the time, leaves the bound as it is; expired
// corrects it when its time has come.
type expiry struct {
	pages []addr
	n     int
}

// heapItem is an entry and the lower bound of its expiry in units of 1,024 ms.
type heapItem struct {
	due uint32
	ref uint32
}

const (
	heapArity     = 4
	pageItems     = pageSize / 8
	dueShift      = 10
	repairsPerKey = 16   // work that expired may do per key that it may report …
	repairsSpare  = 1024 // … and on top of that
)

// dueOf rounds at down to the heap's units. They last until the year 2106; what expires later waits at the end.
func dueOf(at int64) uint32 { return uint32(min(max(at, 0)>>dueShift, 1<<32-1)) }

func (x *expiry) item(i int) *heapItem {
	return &(*[pageItems]heapItem)(x.pages[i/pageItems].ptr())[i%pageItems]
}

// set stores it at position i and tells its entry.
func (s *Shard) setItem(i int, it heapItem) {
	*s.expiry.item(i) = it
	s.slab.at(it.ref).setHeapPos(i)
}

// track adds an entry whose header has room for the position.
func (s *Shard) track(ref uint32, at int64) {
	x := &s.expiry
	if x.n == len(x.pages)*pageItems {
		x.pages = append(x.pages, s.slab.takePages(1))
	}
	x.n++
	s.siftUp(x.n-1, heapItem{dueOf(at), ref})
}

// retrack follows a change of the expiry of the entry at position i to at.
func (s *Shard) retrack(i int, at int64) {
	it := *s.expiry.item(i)
	if due := dueOf(at); due < it.due {
		it.due = due
		s.siftUp(i, it)
	}
}

// untrack takes the entry at position i out.
func (s *Shard) untrack(i int) {
	x := &s.expiry
	x.n--
	if last := *x.item(x.n); i < x.n {
		if i > 0 && last.due < x.item((i-1)/heapArity).due {
			s.siftUp(i, last)
		} else {
			s.siftDown(i, last)
		}
	}
	// Half a page of slack keeps a count that swings around a page's end from taking and giving that page.
	if p := len(x.pages) - 1; x.n == 0 || x.n < p*pageItems-pageItems/2 {
		s.slab.givePages(x.pages[p], 1)
		x.pages = x.pages[:p]
	}
}

func (s *Shard) siftUp(i int, it heapItem) {
	for i > 0 {
		up := (i - 1) / heapArity
		parent := *s.expiry.item(up)
		if parent.due <= it.due {
			break
		}
		s.setItem(i, parent)
		i = up
	}
	s.setItem(i, it)
}

func (s *Shard) siftDown(i int, it heapItem) {
	x := &s.expiry
	for {
		least, child := -1, heapItem{}
		for c := i*heapArity + 1; c <= i*heapArity+heapArity && c < x.n; c++ {
			if ci := *x.item(c); least < 0 || ci.due < child.due {
				least, child = c, ci
			}
		}
		if least < 0 || it.due <= child.due {
			break
		}
		s.setItem(i, child)
		i = least
	}
	s.setItem(i, it)
}

// repair brings entries whose bound is too early to their place until the first one is right or not due at now. It
// moves at most budget entries.
func (s *Shard) repair(now uint32, budget int) {
	for x := &s.expiry; x.n > 0 && budget > 0; budget-- {
		it := *x.item(0)
		due := dueOf(s.slab.at(it.ref).expireAt())
		if it.due > now || it.due == due {
			return
		}
		it.due = due
		s.siftDown(0, it)
	}
}

// search is one walk over the part of the heap that may have expired.
type search struct {
	s      *Shard
	now    int64
	due    uint32
	left   int // keys to report
	budget int // entries to look at
	fn     func(key []byte)
}

func (w *search) visit(i int) {
	x := &w.s.expiry
	if i >= x.n || w.left == 0 || w.budget == 0 {
		return
	}
	it := *x.item(i)
	if it.due > w.due {
		return
	}
	w.budget--
	if b := w.s.slab.at(it.ref); b.expireAt() <= w.now {
		w.left--
		w.fn(b.key())
	}
	for c := i*heapArity + 1; c <= i*heapArity+heapArity; c++ {
		w.visit(c)
	}
}

// Expired calls fn with keys whose expiry is at or before now (unix ms), at most limit of them. fn must not change the
// shard, and key is valid until the next change; the caller deletes the keys afterwards and calls again while it gets
// some. The work of one call is bounded by limit: after many expiries were moved later, a call may report fewer keys
// than have expired, and the next ones report the rest. Where more than a thousand keys expire within the same 1,024 ms, some may be
// reported up to that much later, since those that have not expired yet are looked at, too.
func (s *Shard) Expired(now int64, limit int, fn func(key []byte)) {
	s.now = now
	if s.expiry.n == 0 || limit <= 0 || s.db.frozen.Load() {
		return
	}
	budget := repairsSpare + min(limit, 1<<20)*repairsPerKey
	s.repair(dueOf(now), budget)
	if s.expiry.item(0).due > dueOf(now) {
		return
	}
	w := search{s: s, now: now, due: dueOf(now), left: limit, budget: budget, fn: fn}
	w.visit(0)
}
