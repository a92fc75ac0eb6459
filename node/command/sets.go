package command

import (
	"bytes"

	"hypercache/node/store"
)

func setCommands() []binding {
	return []binding{
		{name: "sadd", scope: ScopeKey, run: runSAdd, effect: true},
		{name: "scard", scope: ScopeKey, run: runSCard},
		{name: "sdiff", scope: ScopeKey, run: func(c *Ctx) { c.setReply(setDifference) }},
		{name: "sdiffstore", scope: ScopeKey, run: func(c *Ctx) { c.setStore(setDifference) }, effect: true},
		{name: "sinter", scope: ScopeKey, run: func(c *Ctx) { c.setReply(setIntersection) }},
		{name: "sintercard", scope: ScopeKey, run: runSInterCard, keys: countedKeys(1)},
		{name: "sinterstore", scope: ScopeKey, run: func(c *Ctx) { c.setStore(setIntersection) }, effect: true},
		{name: "sismember", scope: ScopeKey, run: runSIsMember},
		{name: "smembers", scope: ScopeKey, run: runSMembers},
		{name: "smismember", scope: ScopeKey, run: runSMIsMember},
		{name: "smove", scope: ScopeKey, run: runSMove, effect: true},
		{name: "spop", scope: ScopeKey, run: runSPop},
		{name: "srandmember", scope: ScopeKey, run: runSRandMember},
		{name: "srem", scope: ScopeKey, run: runSRem, effect: true},
		{name: "sscan", scope: ScopeKey, run: runSScan},
		{name: "sunion", scope: ScopeKey, run: func(c *Ctx) { c.setReply(setUnion) }},
		{name: "sunionstore", scope: ScopeKey, run: func(c *Ctx) { c.setStore(setUnion) }, effect: true},
	}
}

// readSet finds a set; without one, m is nil. ok is false when the reply is written.
func (c *Ctx) readSet(key []byte) (m *store.Members, ok bool) {
	r, found, ok := c.readAs(key, store.Set)
	if !found || !ok {
		return nil, ok
	}
	set := r.Members()
	return &set, true
}

// setOrNew finds a set to write to, or makes one. ok is false when the reply is written.
func (c *Ctx) setOrNew(key []byte) (m store.Members, ok bool) {
	r, found, ok := c.writeAs(key, store.Set)
	switch {
	case !ok:
		return m, false
	case found:
		return r.Members(), true
	}
	m = c.Shard.NewSet(key)
	c.notify(ClassNew, "new", key)
	return m, true
}

func runSAdd(c *Ctx) {
	key := c.Args[1]
	m, ok := c.setOrNew(key)
	if !ok {
		return
	}
	added := int64(0)
	for _, member := range c.Args[2:] {
		if m.Add(member) {
			added++
		}
	}
	if added > 0 {
		c.splitEffect("SADD", key, c.Args[2:])
		c.changed(key)
		c.notify(ClassSet, "sadd", key)
	}
	c.W.Int(added)
}

func runSRem(c *Ctx) {
	key := c.Args[1]
	r, found, ok := c.writeAs(key, store.Set)
	if !ok {
		return
	}
	gone, empty := int64(0), false
	if found {
		m := r.Members()
		for _, member := range c.Args[2:] {
			if m.Remove(member) {
				gone++
			}
		}
		empty = m.Len() == 0
	}
	if gone > 0 {
		c.splitEffect("SREM", key, c.Args[2:])
		c.changed(key)
		c.notify(ClassSet, "srem", key)
		if empty {
			c.drop(key)
		}
	}
	c.W.Int(gone)
}

func runSCard(c *Ctx) {
	m, ok := c.readSet(c.Args[1])
	switch {
	case !ok:
	case m == nil:
		c.W.Int(0)
	default:
		c.W.Int(int64(m.Len()))
	}
}

func runSIsMember(c *Ctx) {
	if m, ok := c.readSet(c.Args[1]); ok {
		c.replyBit(m != nil && m.Has(c.Args[2]))
	}
}

func runSMIsMember(c *Ctx) {
	m, ok := c.readSet(c.Args[1])
	if !ok {
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, member := range c.Args[2:] {
		c.replyBit(m != nil && m.Has(member))
	}
}

func runSMembers(c *Ctx) {
	m, ok := c.readSet(c.Args[1])
	switch {
	case !ok:
	case m == nil:
		c.W.Set(0)
	default:
		c.W.Set(m.Len())
		c.writeMembers(m)
	}
}

func (c *Ctx) writeMembers(m *store.Members) {
	m.Each(func(member []byte) bool {
		c.W.Bulk(member)
		return true
	})
}

// runSMove looks both keys up before it takes a handle: an expired one that is deleted would invalidate it.
func runSMove(c *Ctx) {
	from, to, member := c.Args[1], c.Args[2], c.Args[3]
	_, found := c.findWrite(from)
	target, taken := c.findWrite(to)
	if !found {
		c.W.Int(0)
		return
	}
	source, _ := c.Shard.Peek(from)
	if !c.isType(source, store.Set) || taken && !c.isType(target, store.Set) {
		return
	}
	m := source.Members()
	if bytes.Equal(from, to) {
		c.replyBit(m.Has(member))
		return
	}
	if !m.Remove(member) {
		c.W.Int(0)
		return
	}
	c.notify(ClassSet, "srem", from)
	if m.Len() == 0 {
		c.drop(from)
	}
	dst, _ := c.setOrNew(to)
	c.changed(from)
	if dst.Add(member) {
		c.changed(to)
		c.notify(ClassSet, "sadd", to)
	}
	if c.FX != nil {
		c.FX.Command(nameSMove, from, to, member)
	}
	c.W.Int(1)
}

var (
	nameSMove = []byte("SMOVE")
	nameSRem  = []byte("SREM")
)

func runSScan(c *Ctx) {
	cursor, ok := ParseScanCursor(c.Args[2])
	if !ok {
		c.W.Error(ErrInvalidCursor)
		return
	}
	m, ok := c.readSet(c.Args[1])
	if !ok {
		return
	}
	if m == nil {
		c.emptyScan()
		return
	}
	s, ok := c.parseScan(3)
	if !ok {
		return
	}
	next := m.Scan(cursor, s.count, func(member []byte) {
		if s.matches(member) {
			s.add(member)
		}
	})
	c.replyScan(next, &s)
}
