package store

const usageSample = 8 // children of a node that are looked at, above the level of the leaves' parents

// MemoryUsage returns the bytes that the entry takes: its block, its slot of the index at the usual fill, its place in
// the expiry heap, and the blocks of a collection, of which it looks at some thousand at most and estimates the rest.
func (r Ref) MemoryUsage() int64 {
	s := r.s
	c := r.collection()
	n := int64(s.slab.capacity(c.ref())) + pageSize/segmentMax
	if r.b.flags()&flagTTL != 0 {
		n += pageSize / pageItems
	}
	switch t, v := r.Type(), r.Value(); {
	case t == String:
	case t == Stream:
		n += objectBytes(r.object())
	case v[0]&formMask == formTree:
		for i, l := range layouts(t) {
			head := c.tree(i, l)
			n += s.usage(head.root(), head.height(), l)
		}
	}
	return n
}

// usage returns the bytes of a subtree.
func (s *Shard) usage(ref uint32, height int, l *layout) int64 {
	n := int64(s.parts.capacity(ref))
	if height == 0 {
		if l.owner {
			n += s.usageOutside(ref)
		}
		return n
	}
	all := s.branches(ref)
	step := 1
	if height > 1 {
		step = max(1, len(all)/usageSample)
	}
	var sum, seen, units int64
	for i, b := range all {
		units += int64(b.count)
		if i%step == 0 {
			sum += s.usage(b.ref, height-1, l)
			seen += int64(b.count)
		}
	}
	if seen == units {
		return n + sum
	}
	return n + int64(float64(sum)*float64(units)/float64(seen))
}

func (s *Shard) usageOutside(ref uint32) (n int64) {
	_, data := s.leaf(ref)
	for off := 0; off < len(data); off += elementSize(data[off:]) {
		if data[off] == elemOutside {
			n += int64(s.parts.capacity(outsideRef(data[off:])))
		}
	}
	return n
}
