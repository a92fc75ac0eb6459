package cache

import (
	"bytes"
	"slices"
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
)

// apartRound is how long a command that runs apart works before what it did is made durable and goes to the replicas. Then it sleeps
// for as long as all that took, since a loop whose clients have sent something gets no processor while others run, and writes to the
// journal wait for each other.
const apartRound = time.Millisecond

// maxReadsApart is how many KEYS and DEBUG DIGEST a node asks the groups for at a time, the others wait: each gathers what may be a
// large reply, and clients that give up and ask again must not pile them up.
const maxReadsApart = 2

// apart runs a command that touches every key, FLUSHALL, KEYS or DEBUG DIGEST, on a goroutine of its own and group after group: a
// million keys take the better part of a second, and the other connections of the event loop would stand still for it. Those that want
// a group wait for that one alone. The connection's later commands come behind it.
func (c *Cache) apart(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	args = slices.Clone(args)
	for i := range args {
		args[i] = bytes.Clone(args[i])
	}
	g, ops := everywhere(spec, args, w.Proto)
	for i := range ops {
		ops[i].observedBy(k)
	}
	k.order++
	t, n := k.s.Hold(), k.order
	k.detach(n)
	ok := c.work.start(func() {
		if !spec.Write {
			select {
			case c.readsApart <- struct{}{}:
				defer func() { <-c.readsApart }()
			case <-c.work.ctx.Done():
				t.Reply(errStopping)
				k.attach(n)
				return
			}
		}
		c.partsApart(g, ops, k, n)
		if g.complete(func() origin { return origin{t: t} }) {
			g.to = origin{t: t}
			g.finish()
		}
		k.attach(n)
	})
	if !ok {
		t.Reply(errStopping)
		k.attach(n)
	}
}

// partsApart starts every part: here, on its primary, or where the connection's n-th command is parked.
func (c *Cache) partsApart(g *gather, ops []op, k *conn, n uint64) {
	var w resp.Writer
	r := c.takeRound()
	defer c.giveRound(r)
	if ops[0].spec.Write {
		if size := command.FlushEffects(c.largest()); size > keptEffects {
			c.wide.Warm(size)
		}
	}
	// What came earlier and waits is parked, and so are the parts, behind it.
	ordered := !c.park.earlier(k, n)
	began := time.Now()
	for i := range ops {
		o, from := &ops[i], origin{sink: g, id: uint64(i), conn: k, n: n}
		now := c.ticks()
		if ordered && !c.obs.pause.paused(o.spec.Write, now) {
			w.Buf, w.Proto = w.Buf[:0], o.proto
			where := c.exec(o, &w, now, r, from)
			if where == done || where == elsewhere && c.forward(c.view.Load(), o, from, r) {
				if time.Since(began) > apartRound {
					c.endRound(r)
					time.Sleep(time.Since(began))
					began = time.Now()
				}
				continue
			}
		}
		c.inPlace(o, from)
	}
}

// largest is how many keys the largest group has.
func (c *Cache) largest() (keys int) {
	for i := range c.parts {
		p := &c.parts[i]
		if p.busy.Load() != nil {
			continue // its lock may be held for as long as a script may take
		}
		p.group.Lock()
		keys = max(keys, p.shard.Len())
		p.group.Unlock()
	}
	return keys
}
