package store

import (
	"fmt"
	"testing"

	"hypercache/node/ring"
)

// fataler is what *testing.T and *rapid.T have in common.
type fataler interface {
	Helper()
	Fatalf(format string, args ...any)
}

// check verifies every invariant of a shard's structures.
func check(t fataler, s *Shard) {
	t.Helper()
	if err := inspect(s); err != nil {
		t.Fatalf("broken invariant: %v", err)
	}
}

func inspect(s *Shard) error {
	refs, err := inspectIndex(s)
	if err != nil {
		return err
	}
	if len(refs) != s.count {
		return fmt.Errorf("index holds %d entries, shard counts %d", len(refs), s.count)
	}
	if err := inspectHeap(s, refs); err != nil {
		return err
	}
	pages := int64(len(s.expiry.pages)) * pageSize
	for i := range s.index.segs {
		if s.index.segs[i].base != 0 {
			pages += int64(s.index.segs[i].bytes())
		}
	}
	for ref := range refs {
		if f, _ := s.slab.at(ref).shape(); f.size() > s.slab.capacity(ref) {
			return fmt.Errorf("entry %x outgrew its block", ref)
		}
	}
	if err := inspectSlab(&s.slab, refs, pages); err != nil {
		return err
	}
	parts, err := inspectCollections(s, refs)
	if err != nil {
		return err
	}
	return inspectSlab(&s.parts, parts, 0)
}

func inspectIndex(s *Shard) (map[uint32]bool, error) {
	refs := map[uint32]bool{}
	x := &s.index
	if len(x.dir) != 0 && len(x.dir) != 1<<x.depth {
		return nil, fmt.Errorf("directory of %d at depth %d", len(x.dir), x.depth)
	}
	deepest := 0
	for i := 0; i < len(x.dir); {
		g := &x.segs[x.dir[i]]
		width := 1 << (x.depth - g.depth)
		if g.depth == x.depth {
			deepest++
		}
		for j := range width {
			if x.dir[i+j] != x.dir[i] {
				return nil, fmt.Errorf("segment %d does not fill its range", x.dir[i])
			}
		}
		all, n := g.buckets()[:g.mask+1], 0
		if g.depth > 0 && g.mask != segmentBuckets-1 || g.depth == 0 && g.mask > firstMask && g.count <= g.fewest() {
			return nil, fmt.Errorf("segment %d of depth %d has %d buckets", x.dir[i], g.depth, len(all))
		}
		var over [segmentBuckets]int
		for bi := range all {
			for k, tag := range all[bi].tags {
				if tag == 0 {
					continue
				}
				n++
				ref := all[bi].refs[k]
				h := s.hashOf(ref)
				if refs[ref] || tagOf(h) != tag || h>>(64-g.depth) != uint64(i)>>(x.depth-g.depth) {
					return nil, fmt.Errorf("entry %x is twice or in a wrong place", ref)
				}
				refs[ref] = true
				for home := int(h) & int(g.mask); home != bi; home = (home + 1) & int(g.mask) {
					over[home]++
				}
			}
		}
		for bi := range all {
			if over[bi] != int(all[bi].over) {
				return nil, fmt.Errorf("bucket %d counts %d passers, has %d", bi, all[bi].over, over[bi])
			}
		}
		if n != int(g.count) {
			return nil, fmt.Errorf("segment counts %d, has %d", g.count, n)
		}
		i += width
	}
	if deepest != x.deepest {
		return nil, fmt.Errorf("deepest %d, is %d", x.deepest, deepest)
	}
	return refs, nil
}

func inspectHeap(s *Shard, refs map[uint32]bool) error {
	ttl := 0
	for ref := range refs {
		if s.slab.at(ref).flags()&flagTTL != 0 {
			ttl++
		}
	}
	if ttl != s.expiry.n {
		return fmt.Errorf("heap of %d for %d entries with an expiry", s.expiry.n, ttl)
	}
	for i := range s.expiry.n {
		it := *s.expiry.item(i)
		b := s.slab.at(it.ref)
		if !refs[it.ref] || b.flags()&flagTTL == 0 || b.heapPos() != i {
			return fmt.Errorf("heap item %d does not belong to its entry", i)
		}
		if it.due > dueOf(b.expireAt()) {
			return fmt.Errorf("heap item %d is due after its entry expires", i)
		}
		if i > 0 && s.expiry.item((i-1)/heapArity).due > it.due {
			return fmt.Errorf("heap item %d before its parent", i)
		}
	}
	return nil
}

// inspectSlab verifies a slab whose blocks in use are refs and that has handed out so many bytes of pages.
func inspectSlab(a *slab, refs map[uint32]bool, pages int64) error {
	used := map[uint32]int{}
	live := pages
	for ref := range refs {
		live += int64(a.capacity(ref))
		if ref&bigBit == 0 {
			used[a.spanOf(ref)]++
		}
	}
	if live != a.live {
		return fmt.Errorf("%d bytes live, counted %d", live, a.live)
	}
	var spans, all, blocks [classes]uint32
	room := map[uint32]bool{}
	for cl := range classes {
		if a.classes == nil {
			break
		}
		for at := a.classes[cl].room; at != 0; at = a.spans[at-1].next {
			room[at-1] = true
		}
	}
	for page := range a.pages {
		sp := &a.spans[page]
		if a.pages[page] == 0 || sp.back != 0 {
			continue
		}
		spans[sp.class()]++
		all[sp.class()] += uint32(spanCount[sp.kind])
		blocks[sp.class()] += uint32(sp.used)
		if int(sp.used) != used[uint32(page)] {
			return fmt.Errorf("span %d counts %d blocks, has %d", page, sp.used, used[uint32(page)])
		}
		if room[uint32(page)] != (int(sp.used) < spanCount[sp.kind]) {
			return fmt.Errorf("span %d is in the wrong list", page)
		}
	}
	for cl := range spans {
		if a.classes == nil {
			break
		}
		if c := a.classes[cl]; c.spans != spans[cl] || c.all != all[cl] || c.used != blocks[cl] {
			return fmt.Errorf("class %d counts %d spans, %d of %d blocks, has %d, %d of %d", cl, c.spans, c.used, c.all, spans[cl], blocks[cl], all[cl])
		}
	}
	return nil
}

func newDB(t testing.TB, o Options) *DB {
	db := New(o)
	t.Cleanup(db.Close)
	return db
}

func exactUsed(db *DB) (n int64) {
	for g := range ring.Groups {
		n += db.Shard(g).Bytes()
	}
	return n
}
