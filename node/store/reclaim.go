package store

// What a delete, an overwrite or a flush takes out at once may be millions of blocks. They wait here, and count as used,
// until reclaim has freed them: a little with each change of the shard, the rest in calls of Reclaim.

const (
	reclaimWithChange = 32 // blocks that a change frees
	reclaimWithFlush  = 4096
	pagesCost         = 8 // blocks that giving pages back counts as,
	kernelCost        = 4 // and each page that the kernel has to take back for it, which may be all of a mapping
)

// graveyard is what waits to be freed.
type graveyard struct {
	trees []grave
	slabs []deadSlab
	pages []addr // single pages of a flushed index and heap
	live  int64  // bytes of slabs and pages
}

// grave is a subtree of Shard.parts that nothing leads to.
type grave struct {
	ref    uint32
	height int
	owner  bool
}

// deadSlab is a slab all of whose blocks are free for good, up to a page and a big block that are done.
type deadSlab struct {
	slab
	page, big int
}

// bury gives a subtree to reclaim.
func (s *Shard) bury(ref uint32, height int, l *layout) {
	s.graves.trees = append(s.graves.trees, grave{ref, height, l.owner})
}

// pending reports whether anything waits.
func (g *graveyard) pending() bool { return len(g.trees)+len(g.slabs)+len(g.pages) > 0 }

// Reclaim frees up to about budget blocks of collections that were deleted, overwritten or flushed, and reports whether
// more wait. A thousand blocks take about 0.1 ms. Every change of the shard frees a few too; a background tick does the
// rest. It invalidates nothing.
func (s *Shard) Reclaim(budget int) (more bool) {
	if s.graves.pending() {
		s.reclaim(budget)
		s.showGraves()
	}
	s.account() // also what was too little to tell while the limit was far
	return s.graves.pending()
}

// showGraves tells the DB whether the shard has any.
func (s *Shard) showGraves() {
	w, bit := &s.db.graves[s.id/64], uint64(1)<<(s.id%64)
	switch pending := s.graves.pending(); {
	case pending == (w.Load()&bit != 0):
	case pending:
		w.Or(bit)
	default:
		w.And(^bit)
	}
}

func (s *Shard) reclaim(budget int) {
	g := &s.graves
	for budget > 0 && len(g.trees) > 0 {
		budget -= s.dig()
	}
	for ; budget > 0 && len(g.pages) > 0; budget -= pagesCost {
		last := len(g.pages) - 1
		budget -= kernelCost * s.db.heap.release(g.pages[last], 1)
		g.pages = g.pages[:last]
		g.live -= pageSize
	}
	for budget > 0 && len(g.slabs) > 0 {
		last := len(g.slabs) - 1
		d := &g.slabs[last]
		before := d.live
		done := d.releaseSome(&budget)
		g.live -= before - d.live
		if done {
			g.slabs = g.slabs[:last]
		}
	}
	if !g.pending() {
		*g = graveyard{}
	}
}

// dig frees one node of the last grave, with what is outside of it, and returns the number of blocks.
func (s *Shard) dig() (blocks int) {
	g := &s.graves
	last := len(g.trees) - 1
	t := g.trees[last]
	if t.height == 0 {
		if t.owner {
			_, data := s.leaf(t.ref)
			blocks = s.freeUnits(data)
		}
		s.parts.free(t.ref)
		g.trees = g.trees[:last]
		return blocks + 1
	}
	all := s.branches(t.ref)
	if len(all) == 0 {
		s.parts.free(t.ref)
		g.trees = g.trees[:last]
		return 1
	}
	s.parts.at(t.ref).putU32(0, uint32(len(all)-1))
	g.trees = append(g.trees, grave{all[len(all)-1].ref, t.height - 1, t.owner})
	return 1
}

// releaseSome gives pages back and reports whether it is done.
func (d *deadSlab) releaseSome(budget *int) bool {
	for ; d.page < len(d.pages) && *budget > 0; d.page++ {
		if sp := &d.spans[d.page]; d.pages[d.page] != 0 && sp.back == 0 {
			*budget -= pagesCost
			d.live -= int64(sp.used) * int64(classSize[sp.class()])
			*budget -= kernelCost * d.freeSpan(uint32(d.page))
		}
	}
	for ; d.big < len(d.bigs) && *budget > 0; d.big++ {
		if b := d.bigs[d.big]; !b.free() {
			*budget--
			if b&bigPages != 0 {
				*budget -= pagesCost - 1
			}
			d.live -= int64(b.size())
			*budget -= kernelCost * d.releaseBig(b)
		}
	}
	return d.page == len(d.pages) && d.big == len(d.bigs)
}

// buryAll takes everything out of the shard.
func (s *Shard) buryAll() {
	g := &s.graves
	g.trees = nil // their blocks go with their slab
	pages := 0
	for i := range s.index.segs {
		switch seg := s.index.segs[i]; {
		case seg.base == 0:
		case seg.bytes() == pageSize:
			g.pages = append(g.pages, seg.base)
			pages++
		default:
			s.slab.give(seg.base, seg.bytes())
		}
	}
	g.pages = append(g.pages, s.expiry.pages...)
	pages += len(s.expiry.pages)
	g.live += s.slab.live + s.parts.live
	s.slab.live -= int64(pages) * pageSize
	for _, a := range []*slab{&s.slab, &s.parts} {
		if len(a.pages)+len(a.bigs) > 0 {
			g.slabs = append(g.slabs, deadSlab{slab: *a})
		}
		*a = slab{heap: a.heap, grains: a.grains, limit: a.limit}
	}
	s.index, s.expiry, s.objects, s.charged, s.count = index{}, expiry{}, objects{}, 0, 0
}
