package sim

import (
	"math/rand/v2"

	"hypercache/node/replica"
	"hypercache/node/replica/sim/virtual"
)

// staleReaders read from whatever node they happen to meet, primary or not, what is committed and not older than bound.
// Every node asks its primary how old its content is. They have chance of their own, but what they send takes that of the
// network.
type staleReaders struct {
	w     *world
	rng   *rand.Rand
	bound int64
	acks  [keys][]acknowledged
}

// acknowledged is when a client heard of an append.
type acknowledged struct {
	at int64
	id uint32
}

func (s *staleReaders) build(w *world, seed uint64) {
	s.w = w
	if !w.opts.StaleReads {
		return
	}
	s.rng = rand.New(rand.NewPCG(seed, 0x7374616c65))
	s.bound = []int64{50, 200, 1000}[s.rng.IntN(3)] * millisecond
	for _, n := range w.nodes {
		w.After(s.between(0, 50*millisecond), func() { s.ask(n) })
	}
	w.After(s.between(0, 50*millisecond), s.next)
	w.After(s.between(0, second), s.strand)
}

// strand cuts a primary off together with one that follows it and never counts, or not enough, while the others elect
// another: what it says to that one must not be taken for the present.
func (s *staleReaders) strand() {
	w, reg := s.w, &s.w.top.reg
	if w.faults.stopped {
		return
	}
	w.After(s.between(second/4, 2*second), s.strand)
	p := w.node(reg.Primary)
	with := reg.Learner
	if with == "" && len(reg.Replicas) > 3 {
		with = reg.Replicas[s.rng.IntN(len(reg.Replicas))]
	}
	n := w.node(with)
	if p == nil || n == nil || p == n {
		return
	}
	w.count.Partitions++
	for i, a := range w.nodes {
		for j, b := range w.nodes {
			w.net.cut[i][j] = (a == p || a == n) != (b == p || b == n)
		}
	}
	w.net.ctlCut[p.index], w.net.ctlCut[n.index] = true, true
	w.faults.spurious()
	w.After(s.between(s.bound, s.bound+second), w.faults.healLinks)
}

func (s *staleReaders) between(lo, hi int64) int64 { return lo + s.rng.Int64N(hi-lo+1) }

// ask is what a driver does again and again. The stamp is the node's own clock, which here is that of all.
func (s *staleReaders) ask(n *node) {
	w := s.w
	if n.alive && n.pausedUntil <= w.Now && n.core.Role() == replica.Follower {
		w.net.send(message{from: n, to: w.node(n.core.Leader()), ev: replica.Event{
			Kind: replica.Asked, From: n.name, Stamp: uint64(w.Now),
		}})
	}
	w.After(s.between(s.bound/16, s.bound/4), func() { s.ask(n) })
}

func (s *staleReaders) told(n *node, a *replica.Action) {
	s.w.net.send(message{from: n, to: s.w.node(a.To), ev: replica.Event{
		Kind: replica.Told, From: n.name, Stamp: a.Stamp, Seq: a.Seq,
	}})
}

// arrived breaks the rule that the stamp is from before the question, if told so.
func (s *staleReaders) arrived(ev *replica.Event) {
	if ev.Kind == replica.Told && s.w.opts.StampOnArrival {
		ev.Stamp = uint64(s.w.Now)
	}
}

func (s *staleReaders) acked(op *operation) {
	s.acks[op.key] = append(s.acks[op.key], acknowledged{s.w.Now, op.id})
}

func (s *staleReaders) next() {
	w := s.w
	if w.faults.stopped {
		return
	}
	n := w.nodes[s.rng.IntN(len(w.nodes))]
	if n.alive && n.pausedUntil <= w.Now {
		s.read(n, uint8(s.rng.IntN(keys)))
	}
	w.After(s.between(0, 4*millisecond), s.next)
}

// read is the driver's part: it answers from memory if that is committed and new enough.
func (s *staleReaders) read(n *node, key uint8) {
	w, at := s.w, int64(n.core.FreshAt())
	var newest uint64
	for i := len(n.log) - 1; i >= 0 && newest == 0; i-- {
		if e := n.log[i]; e.id != 0 && e.key == key {
			newest = e.seq
		}
	}
	if w.opts.ReadUncommitted {
		newest = 0
	}
	if at == 0 || w.Now-at > s.bound || !n.core.Readable(newest) {
		w.count.StaleRefused++
		return
	}
	w.count.StaleReads++
	s.check(n, key, n.lists[key])
}

// check compares a list with all that clients were ever told: it is a beginning of the one list there is, and lacks
// nothing that was acknowledged longer than bound ago.
func (s *staleReaders) check(n *node, key uint8, list []uint32) {
	w, h := s.w, &s.w.load.history[key]
	if !h.Agrees(list) {
		w.Fail(virtual.DirtyRead, "key %d: %s shows %v, a read returned %v", key, n.name, list, h.Longest)
		return
	}
	for _, id := range list[min(len(list), len(h.Longest)):] {
		if _, ok := w.check.place[id]; !ok && !w.opts.ClientsOnly {
			w.Fail(virtual.DirtyRead, "key %d: %s shows append %d, which nobody has committed", key, n.name, id)
			return
		}
	}
	h.Extend(list)
	for _, a := range s.acks[key] {
		if a.at >= w.Now-s.bound {
			break
		}
		if !h.In(a.id, list) {
			w.Fail(tooOld, "key %d: %s lacks append %d, acknowledged %d ms ago, bound %d ms", key, n.name, a.id,
				(w.Now-a.at)/millisecond, s.bound/millisecond)
			return
		}
	}
}
