package replica

import (
	"math/rand/v2"
	"time"

	"hypercache/node/journal"
)

// PeerUp says that s is the ordered stream for what this node sends to the peer's replicas.
func (d *Driver[S]) PeerUp(peer string, s S) *Receiver[S] {
	d.mu.Lock()
	old := d.peers[peer]
	d.peers[peer] = &outbound[S]{stream: s, up: true}
	d.mu.Unlock()
	r := &Receiver[S]{d: d, peer: peer, s: s}
	d.unqueue(peer, old, &r.batch)
	for i := range d.groups {
		g := &d.groups[i]
		g.Lock()
		g.linkUp(peer, s, &r.batch)
		g.Unlock()
	}
	r.BatchEnd()
	return r
}

func (g *Group[S]) linkUp(peer string, s S, b *Batch[S]) {
	if g.bulk != nil && g.bulk.peer == peer {
		g.dropBulk()
	}
	for i := range g.links {
		if g.links[i].peer == peer {
			g.links[i].stream, g.links[i].up = s, true
			g.ev = Event{Kind: PeerUp, Peer: peer}
			g.step(b)
			return
		}
	}
	g.links = append(g.links, groupLink[S]{peer: peer, stream: s, up: true})
	g.ev = Event{Kind: PeerUp, Peer: peer}
	g.step(b)
}

// PeerDown says that the stream has ended.
func (d *Driver[S]) PeerDown(peer string, s S) {
	d.mu.Lock()
	out := d.peers[peer]
	if out != nil && out.stream == s {
		delete(d.peers, peer)
	} else {
		out = nil
	}
	d.mu.Unlock()
	var b Batch[S]
	d.unqueue(peer, out, &b)
	for i := range d.groups {
		g := &d.groups[i]
		g.Lock()
		for j := range g.links {
			if l := &g.links[j]; l.peer == peer && l.stream == s && l.up {
				l.up = false
				if g.bulk != nil && g.bulk.peer == peer {
					g.dropBulk()
				}
				g.ev = Event{Kind: PeerDown, Peer: peer}
				g.step(&b)
			}
		}
		g.Unlock()
	}
	_ = d.EndBatch(&b)
}

// Accepted says that the peer opened s for what its primaries send here.
func (d *Driver[S]) Accepted(peer string, s S) *Receiver[S] {
	d.mu.Lock()
	d.inbound[peer] = s
	d.mu.Unlock()
	return &Receiver[S]{d: d, peer: peer, s: s}
}

// Ended says that such a stream has ended.
func (d *Driver[S]) Ended(peer string, s S) {
	d.mu.Lock()
	if d.inbound[peer] == s {
		delete(d.inbound, peer)
	}
	d.mu.Unlock()
}

// Assignment is what the topology committed for one group.
type Assignment struct {
	Group  uint16
	Config Config
	// LeaseWait is how long a new primary must wait before it serves.
	LeaseWait time.Duration
	// Holds tells that this node has a place in the group. Content of a group that it does not hold is dropped.
	Holds bool
}

// Configure takes over committed configurations; those that a group has seen already change nothing.
func (d *Driver[S]) Configure(list []Assignment) {
	var b Batch[S]
	for i := range list {
		a := &list[i]
		g := &d.groups[a.Group]
		if a.Config.Epoch <= g.epoch.Load() {
			continue // nearly all of them, and commands may have their locks
		}
		g.Lock()
		if a.Config.Epoch > g.epoch.Load() {
			g.configure(a, &b)
		}
		g.Unlock()
	}
	_ = d.EndBatch(&b)
}

func (g *Group[S]) configure(a *Assignment, b *Batch[S]) {
	g.epoch.Store(a.Config.Epoch)
	c := &a.Config
	if g.released = !a.Holds; g.released {
		g.drop(b)
		g.callOff(b)
		return
	}
	solo := len(c.Replicas) == 1 && c.Replicas[0] == g.d.opt.Self && len(c.Next) == 0 && c.Learner == ""
	if g.solo && !solo {
		// Alone, nobody waited for Stored: say now what the journal has, and remember no record before this one.
		if g.d.opt.Journal == nil || g.lastPos <= g.d.stored.Load() || g.d.commit(g.lastPos) == nil {
			g.ev = Event{Kind: Stored, At: g.st.Head()}
			g.step(b)
		}
		g.tail.reset(g.st.Head().Seq + 1)
		g.st.SetFloor(g.tail.first)
	}
	if c.Learner != g.st.Config().Learner {
		g.overrun = false
	}
	newTerm := c.Term > g.st.Term() || g.st.Role() != Primary
	g.solo = false
	g.ev = Event{Kind: Configure, Config: *c}
	if newTerm && c.Primary == g.d.opt.Self && a.LeaseWait > 0 {
		g.notBefore = g.d.opt.Now().Add(a.LeaseWait)
	}
	g.step(b)
	g.callOff(b)
	if solo {
		// The first record of the term is committed once stored; nobody else is waited for.
		g.ev = Event{Kind: Stored, At: g.st.Head()}
		if g.d.opt.Journal != nil && g.lastPos > g.d.stored.Load() && g.d.commit(g.lastPos) != nil {
			return
		}
		g.step(b)
		if g.st.Round() > g.st.ConfirmedRound() { // replies wait for those that have gone
			g.ev = Event{Kind: Confirm}
			g.step(b)
		}
		g.solo = g.st.Role() == Primary
		g.d.opt.Machine.Changed(g.ID)
	}
}

// Release drops the content of every group, once the topology has taken this node out: it may not hear of the last
// configurations any more, since it does not follow the topology's log from then on.
func (d *Driver[S]) Release() {
	var b Batch[S]
	for i := range d.groups {
		g := &d.groups[i]
		g.Lock()
		if g.st.Role() != Primary {
			g.released = true
			g.drop(&b)
		}
		g.Unlock()
	}
	_ = d.EndBatch(&b)
}

// drop gives up the content of a group that has moved to other nodes. What was promised stays promised.
func (g *Group[S]) drop(b *Batch[S]) {
	if g.st.Head().Seq == 0 && g.st.Role() == None && !g.st.Hollow() && !g.st.Installing() {
		g.serving, g.solo = false, false
		return
	}
	g.clear(b)
	g.record(journal.Record{Group: g.ID, Kind: journal.SyncEnd}, b)
	b.touched[g.ID/64] &^= 1 << (g.ID % 64)
	g.d.opt.Machine.Changed(g.ID)
}

// clear makes the replica an empty one without a vote. The journal marks the group as incomplete until a SyncEnd.
func (g *Group[S]) clear(b *Batch[S]) {
	g.serving, g.solo = false, false
	g.leaseUntil, g.sure, g.again = time.Time{}, time.Time{}, false
	g.dropBulk()
	m := g.d.opt.Machine
	m.Lost(g.ID)
	g.record(journal.Record{Group: g.ID, Kind: journal.SyncBegin}, b)
	m.Clear(g.ID, func(effects []byte) {
		g.record(journal.Record{Group: g.ID, Kind: journal.Effects, Data: effects}, b)
	})
	b.touched[g.ID/64] &^= 1 << (g.ID % 64)
	g.st = New(g.d.opt.Self, Restored{Promised: g.st.Promised(), Incarnation: rand.Uint64() | 1})
	g.st.Break(g.d.opt.Rules)
	g.commit = 0
	g.tail.reset(1)
	for _, l := range g.links {
		if l.up {
			g.ev = Event{Kind: PeerUp, Peer: l.peer}
			g.step(b)
		}
	}
}

// FenceResult is a replica's answer to a fence.
type FenceResult struct {
	OK       bool
	Promised uint64
	Head     Position
	Voter    bool
	// Lease is how long an older primary may still rely on what this replica granted.
	Lease time.Duration
}

// Fencing is one fence of a batch.
type Fencing struct {
	Group uint16
	Term  uint64
	First bool // the group never had a primary
}

// Fence promises the terms, all with one write, and returns what each replica holds, in the order of list.
func (d *Driver[S]) Fence(from string, list []Fencing) ([]FenceResult, error) {
	var b Batch[S]
	out := make([]FenceResult, len(list))
	for i, f := range list {
		g := &d.groups[f.Group]
		g.Lock()
		g.fence(from, f, &out[i], &b)
		g.Unlock()
	}
	if err := d.EndBatch(&b); err != nil {
		return nil, err
	}
	return out, nil
}

func (g *Group[S]) fence(from string, f Fencing, out *FenceResult, b *Batch[S]) {
	wasPrimary := g.st.Role() == Primary
	if g.solo {
		g.solo = false
		if g.d.opt.Journal == nil || g.lastPos <= g.d.stored.Load() || g.d.commit(g.lastPos) == nil {
			g.ev = Event{Kind: Stored, At: g.st.Head()}
			g.step(b)
		}
	}
	g.ev = Event{Kind: Fence, From: from, Term: f.Term, First: f.First}
	g.acts = g.st.Step(&g.ev, g.acts[:0])
	for i := range g.acts {
		if a := &g.acts[i]; a.Kind == FenceReply {
			out.OK, out.Promised, out.Head, out.Voter = a.OK, a.Term, a.Head, a.Voter
		}
	}
	g.carryOut(b)
	if out.OK && g.durable.Load() < f.Term {
		b.promise(g.ID, f.Term) // made by an earlier fence, whose write may still be under way
	}
	if wasPrimary {
		// It has stepped down: nobody relies on its lease any more. One that it was itself waiting out may still hold.
		if left := g.notBefore.Sub(g.d.opt.Now()); !g.notBefore.IsZero() && left > 0 {
			out.Lease = left
		}
		return
	}
	if left := g.d.opt.Lease - g.d.opt.Now().Sub(g.granted); !g.granted.IsZero() && !f.First && left > 0 {
		out.Lease = left
	}
}

// Status describes the replica of one group. Serving is told as the topology understands it: a primary that waits out
// a lease counts.
func (d *Driver[S]) Status(group uint16) Status {
	g := &d.groups[group]
	g.Lock()
	defer g.Unlock()
	return g.st.Status(nil)
}
