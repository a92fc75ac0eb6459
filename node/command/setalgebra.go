package command

import (
	"cmp"
	"slices"
	"strings"

	"hypercache/node/store"
)

// setOperation calls fn with every member of the result until it returns false. A set that does not exist is nil.
type setOperation func(sets []*store.Members, fn func(member []byte) bool)

// setOperands finds the sets of an operation. A write deletes all expired ones of its keys first, since that invalidates
// handles. ok is false when the reply is written.
func (c *Ctx) setOperands(keys [][]byte) (sets []*store.Members, ok bool) {
	if c.Spec.Write {
		for _, key := range keys {
			c.findWrite(key)
		}
	}
	sets = make([]*store.Members, len(keys))
	for i, key := range keys {
		if sets[i], ok = c.readSet(key); !ok {
			return nil, false
		}
	}
	return sets, true
}

// setIntersection goes through the smallest set and asks the others, smaller ones first.
func setIntersection(sets []*store.Members, fn func(member []byte) bool) {
	if slices.Contains(sets, nil) {
		return
	}
	slices.SortStableFunc(sets, func(a, b *store.Members) int { return cmp.Compare(a.Len(), b.Len()) })
	sets[0].Each(func(member []byte) bool {
		for _, other := range sets[1:] {
			if !other.Has(member) {
				return true
			}
		}
		return fn(member)
	})
}

// probedSets is up to how many sets setUnion asks each whether it had the member before, instead of keeping a list.
const probedSets = 4

func setUnion(sets []*store.Members, fn func(member []byte) bool) {
	sets = slices.DeleteFunc(sets, func(m *store.Members) bool { return m == nil })
	var seen map[string]struct{}
	if len(sets) > probedSets {
		seen = map[string]struct{}{}
	}
	more := true
	for i, m := range sets {
		m.Each(func(member []byte) bool {
			if seen == nil && anyHas(sets[:i], member) {
				return true
			}
			if seen != nil {
				n := len(seen)
				if seen[string(member)] = struct{}{}; len(seen) == n {
					return true
				}
			}
			more = fn(member)
			return more
		})
		if !more {
			return
		}
	}
}

func anyHas(sets []*store.Members, member []byte) bool {
	for _, m := range sets {
		if m != nil && m.Has(member) {
			return true
		}
	}
	return false
}

func setDifference(sets []*store.Members, fn func(member []byte) bool) {
	if sets[0] == nil {
		return
	}
	sets[0].Each(func(member []byte) bool { return anyHas(sets[1:], member) || fn(member) })
}

// setReply is SINTER, SUNION and SDIFF.
func (c *Ctx) setReply(op setOperation) {
	sets, ok := c.setOperands(c.Args[1:])
	if !ok {
		return
	}
	var body []byte
	n := 0
	op(sets, func(member []byte) bool {
		body = appendBulk(body, member)
		n++
		return true
	})
	c.W.Set(n)
	c.W.Raw(body)
}

// wordList is a list of byte strings in one piece of memory.
type wordList struct {
	arena []byte
	ends  []int
}

func (w *wordList) add(b []byte) {
	w.arena = append(w.arena, b...)
	w.ends = append(w.ends, len(w.arena))
}

// list is valid until the next add.
func (w *wordList) list() [][]byte {
	all, start := make([][]byte, 0, len(w.ends)), 0
	for _, end := range w.ends {
		all = append(all, w.arena[start:end:end])
		start = end
	}
	return all
}

// setStore is SINTERSTORE, SUNIONSTORE and SDIFFSTORE. The result is copied first: the destination may be an operand.
func (c *Ctx) setStore(op setOperation) {
	key := c.Args[1]
	c.findWrite(key)
	sets, ok := c.setOperands(c.Args[2:])
	if !ok {
		return
	}
	var result wordList
	op(sets, func(member []byte) bool {
		result.add(member)
		return true
	})
	_, had := c.Shard.Peek(key)
	n := len(result.ends)
	if n == 0 {
		if had {
			c.deleteKey(key)
		}
		c.W.Int(0)
		return
	}
	members := result.list()
	m := c.Shard.NewSet(key)
	for _, member := range members {
		m.Add(member)
	}
	if len(c.Args) <= effectWords {
		c.repeat()
	} else {
		c.FX.Del(key)
		c.splitEffect("SADD", key, members)
	}
	if !had {
		c.notify(ClassNew, "new", key)
	}
	c.changed(key)
	c.notify(ClassSet, c.Spec.Name, key)
	c.W.Int(int64(n))
}

// repeat records the command itself as its effect.
func (c *Ctx) repeat() {
	if c.FX == nil {
		return
	}
	name := strings.ToUpper(c.Spec.Name)
	c.FX.Buf = appendHeader(c.FX.Buf, '*', len(c.Args))
	c.FX.Buf = appendHeader(c.FX.Buf, '$', len(name))
	c.FX.Buf = append(append(c.FX.Buf, name...), '\r', '\n')
	for _, arg := range c.Args[1:] {
		c.FX.Buf = appendBulk(c.FX.Buf, arg)
	}
	c.FX.N++
}

func runSInterCard(c *Ctx) {
	n, ok := parseInt(c.Args[1])
	if !ok || n < 1 {
		c.W.Error("ERR numkeys should be greater than 0")
		return
	}
	if n > int64(len(c.Args)-2) {
		c.W.Error("ERR Number of keys can't be greater than number of args")
		return
	}
	limit := int64(0)
	for i := int(n) + 2; i < len(c.Args); i += 2 {
		if !option(c.Args[i], "limit") || i+1 == len(c.Args) {
			c.W.Error(errSyntax)
			return
		}
		if limit, ok = parseInt(c.Args[i+1]); !ok || limit < 0 {
			c.W.Error("ERR LIMIT can't be negative")
			return
		}
	}
	sets, ok := c.setOperands(c.Args[2 : n+2])
	if !ok {
		return
	}
	count := int64(0)
	setIntersection(sets, func([]byte) bool {
		count++
		return count != limit
	})
	c.W.Int(count)
}
