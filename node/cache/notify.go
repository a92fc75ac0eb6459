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

// interested returns where the running command notes what it does to keys, nil if nobody wants to know.
func (p *part) interested() *command.Events {
	if p.sleepers.all.Len() == 0 && p.interest.Load() == 0 {
		return nil
	}
	p.events.Reset()
	return &p.events
}

// after hands out what the command did. The group's lock is held, so that what happened to one key is told in order.
func (c *Cache) after(p *part, o *op, fx *command.Effects) {
	if p.ctx.Events == nil || p.interest.Load() == 0 {
		return
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
