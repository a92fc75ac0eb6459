package command

import (
	"strconv"

	"hypercache/node/store"
)

func hashCommands() []binding {
	return []binding{
		{name: "hdel", scope: ScopeKey, run: runHDel, effect: true},
		{name: "hexists", scope: ScopeKey, run: runHExists},
		{name: "hget", scope: ScopeKey, run: runHGet},
		{name: "hgetall", scope: ScopeKey, run: func(c *Ctx) { c.hashAll(true, true) }},
		{name: "hincrby", scope: ScopeKey, run: runHIncrBy, effect: true},
		{name: "hincrbyfloat", scope: ScopeKey, run: runHIncrByFloat},
		{name: "hkeys", scope: ScopeKey, run: func(c *Ctx) { c.hashAll(true, false) }},
		{name: "hlen", scope: ScopeKey, run: runHLen},
		{name: "hmget", scope: ScopeKey, run: runHMGet},
		{name: "hmset", scope: ScopeKey, run: func(c *Ctx) { c.hashSet(true) }},
		{name: "hrandfield", scope: ScopeKey, run: runHRandField},
		{name: "hscan", scope: ScopeKey, run: runHScan},
		{name: "hset", scope: ScopeKey, run: func(c *Ctx) { c.hashSet(false) }, effect: true},
		{name: "hsetnx", scope: ScopeKey, run: runHSetNX},
		{name: "hstrlen", scope: ScopeKey, run: runHStrlen},
		{name: "hvals", scope: ScopeKey, run: func(c *Ctx) { c.hashAll(false, true) }},
	}
}

// readHash finds a hash; without one, h is nil. ok is false when the reply is written.
func (c *Ctx) readHash(key []byte) (h *store.Fields, ok bool) {
	r, found, ok := c.readAs(key, store.Hash)
	if !found || !ok {
		return nil, ok
	}
	f := r.Fields()
	return &f, true
}

// hashOrNew finds a hash to write to, or makes one. ok is false when the reply is written.
func (c *Ctx) hashOrNew(key []byte) (h store.Fields, ok bool) {
	r, found, ok := c.writeAs(key, store.Hash)
	switch {
	case !ok:
		return h, false
	case found:
		return r.Fields(), true
	}
	h = c.Shard.NewHash(key)
	c.notify(ClassNew, "new", key)
	return h, true
}

// hashSet is HSET and HMSET.
func (c *Ctx) hashSet(replyOK bool) {
	if len(c.Args)%2 != 0 {
		c.W.Error(ArityError(c.Spec))
		return
	}
	key := c.Args[1]
	h, ok := c.hashOrNew(key)
	if !ok {
		return
	}
	added := int64(0)
	for i := 2; i < len(c.Args); i += 2 {
		if h.Set(c.Args[i], c.Args[i+1]) {
			added++
		}
	}
	c.splitEffect("HSET", key, c.Args[2:])
	c.changed(key)
	c.notify(ClassHash, "hset", key)
	if replyOK {
		c.W.OK()
		return
	}
	c.W.Int(added)
}

func runHSetNX(c *Ctx) {
	key := c.Args[1]
	h, ok := c.hashOrNew(key)
	if !ok {
		return
	}
	if _, have := h.Get(c.Args[2]); have {
		c.W.Int(0)
		return
	}
	c.hashStore(&h, c.Args[3], "hset")
	c.W.Int(1)
}

// hashStore gives the field Args[2] its value, with the effect and the event.
func (c *Ctx) hashStore(h *store.Fields, value []byte, event string) {
	key, field := c.Args[1], c.Args[2]
	h.Set(field, value)
	if c.FX != nil {
		c.FX.Command(nameHSet, key, field, value)
	}
	c.changed(key)
	c.notify(ClassHash, event, key)
}

var (
	nameHSet    = []byte("HSET")
	nameHIncrBy = []byte("HINCRBY")
)

func runHIncrBy(c *Ctx) {
	by, ok := c.intArg(3)
	if !ok {
		return
	}
	key, field := c.Args[1], c.Args[2]
	h, ok := c.hashOrNew(key)
	if !ok {
		return
	}
	var old int64
	if value, have := h.Get(field); have {
		if old, ok = parseInt(value); !ok {
			c.W.Error("ERR hash value is not an integer")
			return
		}
	}
	if addOverflows(old, by) {
		c.W.Error("ERR increment or decrement would overflow")
		return
	}
	h.Set(field, strconv.AppendInt(c.scratch[:0], old+by, 10))
	if c.FX != nil {
		c.FX.Command(nameHIncrBy, key, field, c.Args[3])
	}
	c.changed(key)
	c.notify(ClassHash, "hincrby", key)
	c.W.Int(old + by)
}

// runHIncrByFloat has HSET as its effect: sums in other processors' floating point might differ.
func runHIncrByFloat(c *Ctx) {
	switch by, ok := parseLongDouble(c.Args[3]); {
	case !ok:
		c.W.Error(errNotFloat)
		return
	case by.IsInf():
		c.W.Error("ERR value is NaN or Infinity")
		return
	}
	h, ok := c.hashOrNew(c.Args[1])
	if !ok {
		return
	}
	old, have := h.Get(c.Args[2])
	if !have {
		old = []byte("0")
	}
	sum, errText := addLongDouble(old, c.Args[3])
	if errText == errNotFloat {
		errText = "ERR hash value is not a float"
	}
	if errText != "" {
		c.W.Error(errText)
		return
	}
	c.hashStore(&h, sum, "hincrbyfloat")
	c.W.Bulk(sum)
}

func runHGet(c *Ctx) {
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	c.hashValue(h, c.Args[2])
}

// hashValue writes the value of a field, or null.
func (c *Ctx) hashValue(h *store.Fields, field []byte) {
	if h != nil {
		if value, have := h.Get(field); have {
			c.W.Bulk(value)
			return
		}
	}
	c.W.Null()
}

func runHMGet(c *Ctx) {
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	c.W.Array(len(c.Args) - 2)
	for _, field := range c.Args[2:] {
		c.hashValue(h, field)
	}
}

// hashAll is HGETALL, HKEYS and HVALS.
func (c *Ctx) hashAll(fields, values bool) {
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if h != nil {
		n = h.Len()
	}
	if fields && values {
		c.W.Map(n)
	} else {
		c.W.Array(n)
	}
	if n > 0 {
		h.Each(func(field, value []byte) bool {
			c.hashEntry(field, value, fields, values)
			return true
		})
	}
}

func (c *Ctx) hashEntry(field, value []byte, withField, withValue bool) {
	if withField {
		c.W.Bulk(field)
	}
	if withValue {
		c.W.Bulk(value)
	}
}

func runHLen(c *Ctx) {
	h, ok := c.readHash(c.Args[1])
	switch {
	case !ok:
	case h == nil:
		c.W.Int(0)
	default:
		c.W.Int(int64(h.Len()))
	}
}

func runHStrlen(c *Ctx) {
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	n := 0
	if h != nil {
		value, _ := h.Get(c.Args[2])
		n = len(value)
	}
	c.W.Int(int64(n))
}

func runHExists(c *Ctx) {
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	have := false
	if h != nil {
		_, have = h.Get(c.Args[2])
	}
	c.replyBit(have)
}

// replyBit writes 1 or 0, in RESP3 too.
func (c *Ctx) replyBit(b bool) {
	if b {
		c.W.Int(1)
		return
	}
	c.W.Int(0)
}

func runHDel(c *Ctx) {
	key := c.Args[1]
	r, found, ok := c.writeAs(key, store.Hash)
	if !ok {
		return
	}
	gone, empty := int64(0), false
	if found {
		h := r.Fields()
		for _, field := range c.Args[2:] {
			if h.Delete(field) {
				gone++
			}
		}
		empty = h.Len() == 0
	}
	if gone > 0 {
		c.splitEffect("HDEL", key, c.Args[2:])
		c.changed(key)
		c.notify(ClassHash, "hdel", key)
		if empty {
			c.drop(key)
		}
	}
	c.W.Int(gone)
}

func runHScan(c *Ctx) {
	cursor, ok := ParseScanCursor(c.Args[2])
	if !ok {
		c.W.Error(ErrInvalidCursor)
		return
	}
	h, ok := c.readHash(c.Args[1])
	if !ok {
		return
	}
	if h == nil {
		c.emptyScan()
		return
	}
	s, ok := c.parseScan(3)
	if !ok {
		return
	}
	next := h.Scan(cursor, s.count, func(field, value []byte) {
		if s.matches(field) {
			s.add(field)
			s.add(value)
		}
	})
	c.replyScan(next, &s)
}
