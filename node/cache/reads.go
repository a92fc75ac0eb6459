package cache

import (
	"context"
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// How new what a read returns must be. At the primary it is the newest there is: by a lease, or confirmed by a majority
// in a round that began after the value was captured (Options.Quorum, LevelQuorum). A connection that sent READONLY is
// answered from this node's own copy, if that is known to be new enough (replica.Group.Stale), and only with what is
// committed; order is then that of the copy: what the client has just written elsewhere may be missing.

// Level says how new what a read returns must be.
type Level uint8

// The levels of a single read.
const (
	LevelDefault Level = iota // as the node is configured
	LevelQuorum               // confirmed by a majority after it was captured
	LevelStale                // from this node's copy, if that is new enough and committed; else as LevelDefault
)

// acceptsStale says that the connection's reads may be answered by a replica. Clients that cache what they read are told
// of changes by the primary, which must know what they have. Such a read keeps no order with what the connection has under
// way elsewhere, since it may miss even what was acknowledged.
func (k *conn) acceptsStale(c *Cache) bool {
	return k.client.ReadOnly() && k.client.Tracking() == nil && !c.leaving.Load() && !c.obs.pause.paused(false, k.now)
}

// redirected says that the connection is told MOVED rather than have its commands forwarded: it asked for that with READONLY,
// or it asked for the map of slots and will have to ask again, since this node is about to stop.
func (k *conn) redirected(c *Cache) bool {
	return k.client.ReadOnly() || c.leaving.Load() && k.client.ClusterAware()
}

// Leave makes the node send cluster clients to the primaries, where it answers or forwards as long as it stays: it is about
// to stop, and has no primaries any more.
func (c *Cache) Leave() { c.leaving.Store(true) }

// replicable says that a replica may run the command: it reads keys, changes nothing and never waits.
func replicable(spec *command.Spec) bool {
	const other = command.FlagWrite | command.FlagBlocking | command.FlagMayReplicate
	return spec.Flags&command.FlagReadonly != 0 && spec.Flags&other == 0 && !spec.Script &&
		(spec.Scope == command.ScopeKey || spec.Scope == command.ScopeScatter)
}

// fromCopy answers the op into w from this node's copy of the group. It returns false, with w as it was, if the copy is
// not known to be new enough, or if this is the primary and can answer with the newest.
func (c *Cache) fromCopy(o *op, w *resp.Writer, now int64, r *round) bool {
	t := time.Now()
	if !replicable(o.spec) || !c.driver.WantStale(t) {
		return false
	}
	c.copiesRead.Store(true)
	p := &c.parts[o.group]
	p.group.Lock()
	defer p.group.Unlock()
	seq := max(p.depends(o), p.blur)
	if p.busy.Load() != nil || p.group.Leased(t) || !p.group.Stale(seq, t) {
		return false
	}
	mark := len(w.Buf)
	x := &p.ctx
	x.Events, x.Block, x.Waited, x.NoBlock = nil, command.Block{}, false, true
	x.Spec, x.Args, x.Shard, x.Now, x.W, x.FX, x.RNG, x.Policy = o.spec, o.args, p.shard, p.time.Unix(now), w, nil, r.rng, c.db.Policy()
	if o.part {
		x.RunPart()
	} else {
		x.Run()
	}
	x.Args, x.W = nil, nil
	if !p.group.Stale(seq, time.Now()) { // it took its time
		w.Buf = w.Buf[:mark]
		return false
	}
	c.count(w.Buf[mark:])
	r.reads.stale++
	return true
}

// applied notes the newest record that touched each slot of a copy, while copies are read. Otherwise it notes for the whole
// group that nothing may be read before that record is committed, which costs nothing.
func (c *Cache) applied(p *part, effects []byte) {
	seq := p.group.Head().Seq // or a later one of the same message
	if !c.copiesRead.Load() || !command.EffectKeys(effects, func(key []byte) { p.slotSeq[ring.Slot(key)%uint16(len(p.slotSeq))] = seq }) {
		p.blur = seq
	}
}

// readCounts are reads by how they were answered.
type readCounts struct{ lease, quorum, stale uint64 }

// read counts one that this primary answered.
func (n *readCounts) read(o *op) {
	if o.round > 0 {
		n.quorum++
	} else {
		n.lease++
	}
}

func (c *Cache) countReads(n *readCounts) {
	if *n == (readCounts{}) {
		return
	}
	c.Stats.ReadsLease.Add(n.lease)
	c.Stats.ReadsQuorum.Add(n.quorum)
	c.Stats.ReadsStale.Add(n.stale)
	*n = readCounts{}
}

// held says that the reply to the op, which depends on the record seq, must wait.
func (p *part) held(o *op, seq uint64) bool { return o.round > 0 || p.group.Held(seq) }

// releaseConfirmed lets replies go whose round is confirmed, or has them wait for what they saw to be committed.
func (p *part) releaseConfirmed(seq uint64) {
	q := &p.confirming
	for w := q.front(); w != nil && w.round <= p.group.Confirmed(); w = q.front() {
		first := q.pop()
		if first.seq > seq && p.group.Held(first.seq) {
			p.waiting.push(first)
		} else {
			first.done()
		}
	}
}

// failConfirming tells those who wait for a round that there will be none: this is not the primary any more. They are not
// run again, since what their connection sent after them has run.
func (c *Cache) failConfirming(p *part) {
	for w := p.confirming.front(); w != nil; w = p.confirming.front() {
		c.Stats.Unanswered.Add(1)
		first := p.confirming.pop()
		first.fail()
	}
}

// DoAt is Do with a level of its own for a read.
func (c *Cache) DoAt(ctx context.Context, level Level, args ...[]byte) ([]byte, error) {
	return c.do(ctx, level, args)
}

// at sets the level of a command's parts.
func (l Level) at(ops []op) []op {
	for i := range ops {
		ops[i].quorum, ops[i].stale = l == LevelQuorum, l == LevelStale
	}
	return ops
}
