package cache

import (
	"hypercache/node/command"
	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/tracking"
)

// origins is what those who cache keys have to know of a command's client.
type origins struct {
	reads bool   // it will cache what it reads
	by    uint64 // its number, if it wants to be spared its own writes
	from  string // the node that it is connected to, "" for this one
}

func (o *op) observedBy(k *conn) {
	if k != nil && k.watch.on {
		o.reads, o.by = k.watch.reads, k.watch.noLoop
	}
}

func (o *origins) flags() (f byte) {
	if o.reads {
		f |= flagReads
	}
	if o.by != 0 {
		f |= flagBy
	}
	return f
}

// Tracker knows the clients that cache keys.
func (c *Cache) Tracker() *tracking.Tracker { return c.obs.tracker }

// SubscriberOf returns what messages to a session go through; nil for none.
func SubscriberOf(s *resp.Session) *pubsub.Subscriber {
	if s == nil {
		return nil
	}
	return s.User.(*conn).watch.sub
}

// track notes, before the command runs, what its client will cache.
func (c *Cache) track(k *conn, t *tracking.Client, spec *command.Spec, args [][]byte) {
	if t.Options().NoLoop {
		k.watch.noLoop = t.ID
	}
	wanted := k.client.TakeCaching(spec)
	if !wanted || t.Options().BCast || spec.Flags&command.FlagReadonly == 0 || spec.Scope == command.ScopeConn {
		return
	}
	k.watch.reads = true
	v := c.view.Load()
	for _, at := range command.Keys(spec, args, nil) {
		primary := v.primary[ring.GroupOf(ring.Slot(args[at]))]
		c.obs.tracker.Reading(t, args[at], primary, primary == c.opt.Self)
	}
}

// readingFor notes, before the command runs, what another node's client will cache.
func (c *Cache) readingFor(o *op) {
	if o.tx != nil {
		for _, q := range o.tx.commands {
			for _, at := range command.Keys(q.spec, q.args, nil) {
				c.obs.tracker.ReadingFor(o.from, q.args[at])
			}
		}
		return
	}
	for _, at := range command.Keys(o.spec, o.args, nil) {
		c.obs.tracker.ReadingFor(o.from, o.args[at])
	}
}

// invalidate tells those who cache what a command changed. A command that has effects and names no key that it changed
// counts as having changed all of its keys: better a needless invalidation than a missed one.
func (c *Cache) invalidate(p *part, o *op, fx *command.Effects) {
	by := tracking.Writer{Node: o.from, Client: o.by}
	named := false
	for i := range p.events.List {
		e := &p.events.List[i]
		switch {
		case e.Name != "":
			continue
		case e.Key == nil:
			c.obs.tracker.Emptied(int(o.group))
		default:
			c.obs.tracker.Changed(e.Key, by)
		}
		named = true
	}
	if named || !o.spec.Write || fx != nil && fx.N == 0 {
		return
	}
	if o.spec.Scope == command.ScopeCluster {
		c.obs.tracker.Emptied(int(o.group))
		return
	}
	for _, at := range command.Keys(o.spec, o.args, nil) {
		c.obs.tracker.Changed(o.args[at], by)
	}
}

// Reigns says in which term each group is. It is called before Route, in order. What clients cache of a group in a new
// term is invalid: the new primary does not know who has it.
func (c *Cache) Reigns(terms *[ring.Groups]uint64) {
	for g, term := range terms {
		if c.obs.reigns[g] != term {
			c.obs.reigns[g] = term
			c.obs.tracker.Moved(g)
		}
	}
}
