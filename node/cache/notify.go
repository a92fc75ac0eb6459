package cache

import (
	"sync/atomic"

	"hypercache/node/command"
	"hypercache/node/tracking"
)

// Who is interested in what commands do to keys, a bit each in part.interest.
const (
	interestNotify   = 1 << iota // keyspace notifications
	interestTracking             // clients that cache keys
)

// happenings is the part of a group that is only used while somebody wants to know what happens to its keys. All but
// interest is under the group's lock.
type happenings struct {
	interest atomic.Uint32
	events   command.Events
	keys     []int
	absent   []bool // which of the running write's keys were absent before it
}

func (c *Cache) setInterest(bit uint32, on bool) {
	for i := range c.parts {
		if on {
			c.parts[i].interest.Or(bit)
		} else {
			c.parts[i].interest.And(^bit)
		}
	}
}

// Notify sets which keyspace events are published by this node, for the groups that it is primary of.
func (c *Cache) Notify(classes command.Class) {
	if classes&(command.NotifyKeyspace|command.NotifyKeyevent) == 0 {
		classes = 0
	}
	c.obs.notify.Store(uint32(classes))
	c.setInterest(interestNotify, classes != 0)
}

func (c *Cache) notifies(class command.Class) bool {
	return command.Class(c.obs.notify.Load())&class != 0
}

// before prepares a command whose events somebody wants. It returns true: after must follow.
func (c *Cache) before(p *part, o *op, now int64) bool {
	p.events.Reset()
	p.ctx.Events = &p.events
	p.keys = command.Keys(o.spec, o.args, p.keys[:0])
	p.absent = p.absent[:0]
	if o.spec.Write && c.notifies(command.ClassNew) {
		for _, at := range p.keys {
			p.absent = append(p.absent, !p.has(o.args[at], now))
		}
	}
	return true
}

func (p *part) has(key []byte, now int64) bool {
	r, ok := p.shard.Peek(key)
	if !ok {
		return false
	}
	at := r.ExpireAt()
	return at == 0 || at > now
}

// after hands out what the command did. The group's lock is held, so that what happened to one key is told in order.
func (c *Cache) after(p *part, o *op, fx *command.Effects, now int64) {
	p.ctx.Events = nil
	if c.notifies(command.ClassNew) {
		for i, was := range p.absent {
			if key := o.args[p.keys[i]]; was && p.has(key, now) {
				c.publish(command.ClassNew, "new", key)
			}
		}
	}
	if c.notifies(command.ClassKeyMiss) && command.MissesNotify(o.spec) {
		for _, at := range p.keys {
			if !p.has(o.args[at], now) {
				c.publish(command.ClassKeyMiss, "keymiss", o.args[at])
			}
		}
	}
	for i := range p.events.List {
		if e := &p.events.List[i]; e.Name != "" {
			c.publish(e.Class, e.Name, e.Key)
		}
	}
	if p.interest.Load()&interestTracking != 0 {
		c.invalidate(p, o, fx)
	}
}

// vanished says that a key was removed on the primary's own account.
func (c *Cache) vanished(p *part, class command.Class, event string, key []byte) {
	if p.interest.Load() == 0 {
		return
	}
	c.publish(class, event, key)
	if p.interest.Load()&interestTracking != 0 {
		c.obs.tracker.Changed(key, tracking.Writer{})
	}
}

// publish sends a keyspace notification if its class is wanted.
func (c *Cache) publish(class command.Class, event string, key []byte) {
	if !c.notifies(class) {
		return
	}
	c.obs.bus.Event(c.notifies(command.NotifyKeyspace), c.notifies(command.NotifyKeyevent), event, key)
}
