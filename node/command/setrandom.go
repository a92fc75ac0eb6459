package command

import (
	"bytes"

	"hypercache/node/store"
)

func runSPop(c *Ctx) {
	if len(c.Args) > 2 {
		c.spopCount()
		return
	}
	key := c.Args[1]
	r, found, ok := c.writeAs(key, store.Set)
	if !ok {
		return
	}
	if !found {
		c.W.Null()
		return
	}
	m := r.Members()
	member := bytes.Clone(m.Random(c.random()))
	m.Remove(member)
	c.notify(ClassSet, "spop", key)
	if c.FX != nil {
		c.FX.Command(nameSRem, key, member)
	}
	c.W.Bulk(member)
	if m.Len() == 0 {
		c.drop(key)
	}
	c.changed(key)
}

// spopCount is SPOP with a count.
func (c *Ctx) spopCount() {
	if len(c.Args) > 3 {
		c.W.Error(errSyntax)
		return
	}
	n, ok := parseInt(c.Args[2])
	if !ok || n < 0 {
		c.W.Error("ERR value is out of range, must be positive")
		return
	}
	key := c.Args[1]
	r, found, ok := c.writeAs(key, store.Set)
	if !ok {
		return
	}
	if !found || n == 0 {
		c.W.Set(0)
		return
	}
	m := r.Members()
	c.notify(ClassSet, "spop", key)
	if n >= int64(m.Len()) {
		c.W.Set(m.Len())
		c.writeMembers(&m)
		c.FX.Del(key)
		c.drop(key)
	} else {
		gone := c.takeMembers(&m, int(n))
		c.W.Set(len(gone))
		for _, member := range gone {
			c.W.Bulk(member)
		}
		c.splitEffect("SREM", key, gone)
	}
	c.changed(key)
}

// takeMembers removes n random members, fewer than there are, and returns them.
func (c *Ctx) takeMembers(m *store.Members, n int) [][]byte {
	gone := make([][]byte, 0, n)
	if !dense(n, m.Len()) {
		for range n {
			member := bytes.Clone(m.Random(c.random()))
			m.Remove(member)
			gone = append(gone, member)
		}
		return gone
	}
	s := chooser{n, m.Len()}
	m.Each(func(member []byte) bool {
		if s.take(c.random()) {
			gone = append(gone, bytes.Clone(member))
		}
		return s.need > 0
	})
	for _, member := range gone {
		m.Remove(member)
	}
	return gone
}

func runSRandMember(c *Ctx) {
	if len(c.Args) == 2 {
		m, ok := c.readSet(c.Args[1])
		switch {
		case !ok:
		case m == nil:
			c.W.Null()
		default:
			c.W.Bulk(m.Random(c.random()))
		}
		return
	}
	if len(c.Args) > 3 {
		c.W.Error(errSyntax)
		return
	}
	n, ok := c.randomCount(2)
	if !ok {
		return
	}
	m, ok := c.readSet(c.Args[1])
	switch {
	case !ok:
	case m == nil || n == 0:
		c.W.Array(0)
	case n < 0:
		c.repeatedMembers(m, -n)
	default:
		c.distinctMembers(m, int(min(n, int64(m.Len()))))
	}
}

func (c *Ctx) repeatedMembers(m *store.Members, n int64) {
	if n > maxRepeats {
		c.W.Error(errTooMany)
		return
	}
	mark := len(c.W.Buf)
	c.W.Array(int(n))
	for range n {
		c.W.Bulk(m.Random(c.random()))
		if len(c.W.Buf)-mark > maxSampleBytes {
			c.W.Buf = c.W.Buf[:mark]
			c.W.Error(errTooMany)
			return
		}
	}
}

func (c *Ctx) distinctMembers(m *store.Members, n int) {
	c.W.Array(n)
	if dense(n, m.Len()) {
		s := chooser{n, m.Len()}
		m.Each(func(member []byte) bool {
			if s.take(c.random()) {
				c.W.Bulk(member)
			}
			return s.need > 0
		})
		return
	}
	seen := make(map[string]struct{}, n)
	for len(seen) < n {
		member := m.Random(c.random())
		if _, have := seen[string(member)]; !have {
			seen[string(member)] = struct{}{}
			c.W.Bulk(member)
		}
	}
}
