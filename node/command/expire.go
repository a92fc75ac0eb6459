package command

import "math"

func expireCommands() []binding {
	return []binding{
		{name: "expire", scope: ScopeKey, run: func(c *Ctx) { c.expire(c.Now, 1000) }},
		{name: "pexpire", scope: ScopeKey, run: func(c *Ctx) { c.expire(c.Now, 1) }},
		{name: "expireat", scope: ScopeKey, run: func(c *Ctx) { c.expire(0, 1000) }},
		{name: "pexpireat", scope: ScopeKey, run: func(c *Ctx) { c.expire(0, 1) }},
		{name: "ttl", scope: ScopeKey, run: func(c *Ctx) { c.ttl(c.Now, true) }},
		{name: "pttl", scope: ScopeKey, run: func(c *Ctx) { c.ttl(c.Now, false) }},
		{name: "expiretime", scope: ScopeKey, run: func(c *Ctx) { c.ttl(0, true) }},
		{name: "pexpiretime", scope: ScopeKey, run: func(c *Ctx) { c.ttl(0, false) }},
		{name: "persist", scope: ScopeKey, run: runPersist},
	}
}

// expireCondition says when EXPIRE and its kin may change an expiry.
type expireCondition struct{ nx, xx, gt, lt bool }

func (c *Ctx) parseExpireCondition() (e expireCondition, ok bool) {
	for _, arg := range c.Args[3:] {
		switch {
		case option(arg, "nx"):
			e.nx = true
		case option(arg, "xx"):
			e.xx = true
		case option(arg, "gt"):
			e.gt = true
		case option(arg, "lt"):
			e.lt = true
		default:
			c.W.Error("ERR Unsupported option " + cstring(arg, len(arg)))
			return e, false
		}
	}
	if e.nx && (e.xx || e.gt || e.lt) {
		c.W.Error("ERR NX and XX, GT or LT options at the same time are not compatible")
		return e, false
	}
	if e.gt && e.lt {
		c.W.Error("ERR GT and LT options at the same time are not compatible")
		return e, false
	}
	return e, true
}

// allows compares a new expiry with the present one, where 0 is "never", the longest of all.
func (e expireCondition) allows(now, present int64) bool {
	switch {
	case e.nx && present != 0, e.xx && present == 0:
		return false
	case e.gt && (present == 0 || now <= present):
		return false
	case e.lt && present != 0 && now >= present:
		return false
	}
	return true
}

// expire sets an expiry of base + Args[2]*unit milliseconds.
func (c *Ctx) expire(base, unit int64) {
	condition, ok := c.parseExpireCondition()
	if !ok {
		return
	}
	at, ok := c.intArg(2)
	if !ok {
		return
	}
	if at > math.MaxInt64/unit || at < math.MinInt64/unit || at*unit > math.MaxInt64-base {
		c.W.Error(expireTimeError(c.Spec))
		return
	}
	at = at*unit + base
	key := c.Args[1]
	r, found := c.findWrite(key)
	if !found || !condition.allows(at, r.ExpireAt()) {
		c.W.Int(0)
		return
	}
	if at <= c.Now {
		c.deleteKey(key)
	} else {
		c.setExpiry(key, at)
	}
	c.W.Int(1)
}

func (c *Ctx) setExpiry(key []byte, at int64) {
	c.Shard.SetExpire(key, at)
	c.FX.expireAt(key, at)
	c.changed(key)
	c.notify(ClassGeneric, "expire", key)
}

func (c *Ctx) clearExpiry(key []byte) {
	c.Shard.SetExpire(key, 0)
	c.FX.persist(key)
	c.changed(key)
	c.notify(ClassGeneric, "persist", key)
}

// ttl replies with the expiry relative to base.
func (c *Ctx) ttl(base int64, seconds bool) {
	r, ok := c.peek(c.Args[1])
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", c.Args[1])
		c.W.Int(-2)
		return
	}
	at := r.ExpireAt()
	if at == 0 {
		c.W.Int(-1)
		return
	}
	left := at - base
	if base != 0 {
		left = max(left, 0) // it should be gone, and no clock can be trusted to say so (store.DB.Freeze)
	}
	if seconds {
		left = roundSeconds(left)
	}
	c.W.Int(left)
}

// roundSeconds rounds a time that is not negative half up.
func roundSeconds(ms int64) int64 { return int64((uint64(ms) + 500) / 1000) }

func runPersist(c *Ctx) {
	key := c.Args[1]
	r, found := c.findWrite(key)
	if !found || r.ExpireAt() == 0 {
		c.W.Int(0)
		return
	}
	c.clearExpiry(key)
	c.W.Int(1)
}
