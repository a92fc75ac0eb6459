package store

import (
	"bytes"
	"fmt"
)

// treeCheck walks the trees of one shard.
type treeCheck struct {
	s     *Shard
	parts map[uint32]bool // blocks seen
	l     *layout
	units [][]byte // of one tree, in its order
}

// inspectCollections verifies every collection and returns all blocks that belong to one, the dead ones included.
func inspectCollections(s *Shard, entries map[uint32]bool) (map[uint32]bool, error) {
	c := &treeCheck{s: s, parts: map[uint32]bool{}}
	for ref := range entries {
		b := s.slab.at(ref)
		t := Type(b.flags() & typeMask)
		if t == String || t == Stream {
			continue
		}
		if err := c.collection(t, b.value()); err != nil {
			return nil, fmt.Errorf("%v %q: %w", t, b.key(), err)
		}
	}
	for _, g := range s.graves.trees {
		c.l = &layout{owner: g.owner, arity: 1}
		if err := c.dead(g.ref, g.height); err != nil {
			return nil, err
		}
	}
	return c.parts, nil
}

func (c *treeCheck) collection(t Type, v []byte) error {
	form := int(v[0] & formMask)
	switch {
	case form == formPacked:
		n := 0
		data, arity := v[packedHeader:], layouts(t)[0].arity
		for off := 0; off < len(data); off += unitSize(data[off:], arity) {
			n++
		}
		if want := int(v[1]) | int(v[2])<<8; n != want {
			return fmt.Errorf("%d packed units, counted %d", n, want)
		}
		return nil
	case form != formTree:
		w := intWidth(form)
		for ints := v[1:]; len(ints) > w; ints = ints[w:] {
			if loadInt(ints, w) >= loadInt(ints[w:], w) {
				return fmt.Errorf("integers out of order")
			}
		}
		return nil
	}
	var trees [][][]byte
	for i, l := range layouts(t) {
		tr := tree{c.s, v[1+i*treeBytes : 1+(i+1)*treeBytes], l}
		c.l, c.units = l, nil
		n, err := c.node(tr.root(), tr.height(), 0, ^uint64(0), true)
		if err != nil {
			return err
		}
		if n != tr.len() {
			return fmt.Errorf("tree %d has %d units, counts %d", i, n, tr.len())
		}
		trees = append(trees, c.units)
	}
	if t == ZSet {
		return c.sameUnits(trees[0], trees[1])
	}
	return nil
}

// sameUnits verifies the order of b and that a has the same units.
func (c *treeCheck) sameUnits(a, b [][]byte) error {
	have := map[string]bool{}
	for _, u := range a {
		have[string(u)] = true
	}
	for i, u := range b {
		if !have[string(u)] {
			return fmt.Errorf("unit %x is in one tree only", u)
		}
		if i > 0 && !c.s.above(u, unitScore(b[i-1]), c.s.text(b[i-1])) {
			return fmt.Errorf("unit %d is out of order", i)
		}
	}
	if len(a) != len(b) {
		return fmt.Errorf("trees of %d and %d units", len(a), len(b))
	}
	return nil
}

func (c *treeCheck) claim(ref uint32) error {
	if c.parts[ref] {
		return fmt.Errorf("block %x is used twice", ref)
	}
	c.parts[ref] = true
	return nil
}

// node verifies a subtree whose keys are in [lo, hi] and returns its units.
func (c *treeCheck) node(ref uint32, height int, lo, hi uint64, root bool) (int, error) {
	if err := c.claim(ref); err != nil {
		return 0, err
	}
	if height == 0 {
		return c.leaf(ref, lo, hi, root)
	}
	all, sum := c.s.branches(ref), 0
	if len(all) == 0 || len(all) > maxBranches || root && len(all) < 2 {
		return 0, fmt.Errorf("node with %d branches", len(all))
	}
	for i, b := range all {
		from, to := lo, hi
		if i > 0 {
			from = b.key
		}
		if i+1 < len(all) {
			to = all[i+1].key
		}
		n, err := c.node(b.ref, height-1, from, to, false)
		if err != nil {
			return 0, err
		}
		if n != int(b.count) {
			return 0, fmt.Errorf("branch counts %d units, has %d", b.count, n)
		}
		sum += n
	}
	return sum, nil
}

func (c *treeCheck) leaf(ref uint32, lo, hi uint64, root bool) (int, error) {
	count, data := c.s.leaf(ref)
	if count == 0 && !root {
		return 0, fmt.Errorf("empty leaf")
	}
	if leafHeader+len(data) > c.s.parts.capacity(ref) {
		return 0, fmt.Errorf("leaf %x outgrew its block", ref)
	}
	n := 0
	for off := 0; off < len(data); n++ {
		u := data[off : off+unitSize(data[off:], c.l.arity)]
		off += len(u)
		c.units = append(c.units, bytes.Clone(u))
		if err := c.key(u, lo, hi); err != nil {
			return 0, err
		}
		if c.l.owner {
			if err := c.outside(u); err != nil {
				return 0, err
			}
		}
	}
	if n != count {
		return 0, fmt.Errorf("leaf counts %d units, has %d", count, n)
	}
	return n, nil
}

func (c *treeCheck) key(u []byte, lo, hi uint64) error {
	var k uint64
	switch {
	case c.l.hashed:
		k = c.s.hashElement(u)
		if k == hi {
			return fmt.Errorf("hash %x is at the border", k)
		}
	case c.l == orderLayout:
		k = scoreKey(unitScore(u))
	default:
		return nil
	}
	if k < lo || k > hi {
		return fmt.Errorf("key %x is not in [%x, %x]", k, lo, hi)
	}
	return nil
}

func (c *treeCheck) outside(u []byte) error {
	for off := 0; off < len(u); off += elementSize(u[off:]) {
		if u[off] == elemOutside {
			if err := c.claim(outsideRef(u[off:])); err != nil {
				return err
			}
		}
	}
	return nil
}

func (c *treeCheck) dead(ref uint32, height int) error {
	if err := c.claim(ref); err != nil {
		return err
	}
	if height == 0 {
		_, data := c.s.leaf(ref)
		if c.l.owner {
			return c.outside(data)
		}
		return nil
	}
	for _, b := range c.s.branches(ref) {
		if err := c.dead(b.ref, height-1); err != nil {
			return err
		}
	}
	return nil
}
