package sim

import (
	"slices"

	"hypercache/node/journal"
)

// Storms are faults in a row, made for what single ones seldom lead to: each is the history against which some rule was made.

// pair returns the primary of a busy group and one of its followers, which runs; or nil.
func (f *faults) pair() (p, n *node, replicas []string) {
	w := f.w
	g := &w.raft.state().Groups[w.groups[w.RNG.IntN(min(3, len(w.groups)))]]
	if p = w.node(g.Primary); p == nil || len(g.Replicas) < 3 {
		return nil, nil, nil
	}
	if n = w.node(g.Replicas[w.RNG.IntN(len(g.Replicas))]); n == p || !n.ready {
		return nil, nil, nil
	}
	return p, n, g.Replicas
}

// pairOff leaves a primary alone with one of its followers.
func (f *faults) pairOff(p, n *node, replicas []string) {
	f.w.count.Partitions++
	f.w.Tracef("%s with %s alone", p.id, n.id)
	for _, id := range replicas {
		if m := f.w.node(id); m != p && m != n {
			f.w.net.cut[p.index][m.index], f.w.net.cut[m.index][p.index] = true, true
		}
	}
}

// pairPart has the others go on without that primary.
func (f *faults) pairPart(p *node) {
	f.soon(0, 100*millisecond, func() {
		f.healLinks()
		f.cutOff(p)
		f.healLater()
	})
}

// shortLog lets one follower alone hold what is acknowledged, takes its power, and leaves it with those that lack it.
func (f *faults) shortLog() {
	w := f.w
	p, n, replicas := f.pair()
	if n == nil {
		return
	}
	f.pairOff(p, n, replicas)
	f.soon(20*millisecond, 300*millisecond, func() {
		switch {
		case n.ready && w.Chance(0.3) && f.spare(n, true) && !f.draining():
			n.crash(false)
			n.wipe()
			f.restartLater(n)
		case n.ready && (n.policy == journal.Always && !f.rotten[n] || f.spare(n, false)):
			n.crash(true)
			f.restartLater(n)
		default:
			f.killNode(n)
		}
		f.pairPart(p)
	})
}

// forgotten cuts a primary off and, at about the time at which a follower promises the next term or later, ends that one's
// process, perhaps takes what it knew, and leaves the two of them alone with each other.
func (f *faults) forgotten() {
	w := f.w
	id := w.groups[w.RNG.IntN(min(3, len(w.groups)))]
	g := w.raft.state().Groups[id]
	p := w.node(g.Primary)
	if p == nil || len(g.Replicas) < 3 {
		return
	}
	n := w.node(g.Replicas[w.RNG.IntN(len(g.Replicas))])
	if n == p {
		return
	}
	f.healLinks()
	f.cutOff(p)
	late := 25 * millisecond
	if w.Chance(0.3) {
		late = second
	}
	var look func(left int)
	look = func(left int) {
		if w.raft.state().Groups[id].Term > g.Term {
			f.soon(0, late, func() { f.forget(n, p) })
		} else if left > 0 {
			f.soon(millisecond, 5*millisecond, func() { look(left - 1) })
		}
	}
	look(800)
}

// forget ends n and starts it again, alone with p.
func (f *faults) forget(n, p *node) {
	w := f.w
	how := w.RNG.IntN(6)
	switch {
	case !n.ready:
		return
	case how == 0 && f.spare(n, true) && !f.draining():
		n.crash(false)
		n.wipe()
	case how == 1 && f.spare(n, false):
		n.crash(true)
	case how < 4 && f.spare(n, true) && !f.rotten[n] && !f.draining():
		n.crash(false)
		w.count.Rots++
		f.rotten[n] = n.disk.Flip("data/hypercache.promises", w.RNG.Int64N(1000), 1)
		clear(n.voter[:])
	default:
		w.count.Crashes++
		n.crash(false)
	}
	w.Tracef("%s is ended and left alone with %s", n.id, p.id)
	life := n.life
	f.healLinks()
	for _, m := range w.nodes {
		for _, x := range []*node{n, p} {
			if m != n && m != p {
				w.net.cut[x.index][m.index], w.net.cut[m.index][x.index] = true, true
			}
		}
	}
	f.soon(0, 30*millisecond, func() {
		if !n.alive && n.life == life && n.wanted {
			n.start()
		}
	})
	f.healLater()
}

// leapfrog makes two logs that end differently take turns, with a third that is slow to store either: one primary orders
// records alone, the next one too, the first one comes back and fails again (figure 8 of the Raft paper).
func (f *faults) leapfrog() {
	w := f.w
	a := f.primary()
	if a == nil {
		return
	}
	var at int64
	then := func(lo, hi int64, fn func()) {
		at += w.Between(lo, hi)
		w.After(at, func() {
			if !f.stopped {
				fn()
			}
		})
	}
	f.healLinks()
	f.cutOff(a)
	then(1200*millisecond, 1700*millisecond, func() {
		if b := f.primary(); b != nil {
			f.cutOff(b)
		}
		w.net.cut[a.index] = make([]bool, len(w.nodes))
		for i := range w.nodes {
			w.net.cut[i][a.index] = false
		}
		for _, n := range w.nodes {
			if n != a {
				n.slow = w.Between(20*millisecond, 300*millisecond)
			}
		}
	})
	then(1200*millisecond, 1700*millisecond, func() {
		f.healLinks()
		f.cutOff(a)
		for _, n := range w.nodes {
			if n != a && n.ready && w.Chance(0.3) {
				f.killNode(n)
			}
		}
	})
	then(500*millisecond, 2*second, func() {
		for _, n := range w.nodes {
			n.slow = 0
		}
		f.healLinks()
	})
}

// figureEight is leapfrog between two of five nodes, so that the third of the group stores nothing until the first one comes back: it
// is told records of the first one's old term then, of which some are on a majority before any of the new term is.
func (f *faults) figureEight() {
	w := f.w
	id := w.groups[w.RNG.IntN(min(3, len(w.groups)))]
	g := w.raft.state().Groups[id]
	a := w.node(g.Primary)
	if w.Now < f.storm || a == nil || !a.ready || len(g.Replicas) != 3 || g.Next != nil {
		return
	}
	f.storm = w.Now + 5*second
	f.healLinks()
	f.cutOff(a)
	f.apart(slices.DeleteFunc(slices.Clone(g.Replicas), func(m string) bool { return m == a.id }))
	f.elected(id, a, func(b *node) {
		f.soon(3*millisecond, 30*millisecond, func() { // until its first record is on its disk, alone
			if !b.ready || b.unnoted() {
				return
			}
			f.end(b)
			f.healLinks()
			f.elected(id, b, func(n *node) {
				if n == a {
					f.soon(0, 60*millisecond, func() { f.bringBack(b, a) })
				}
			})
		})
	})
}

// unsettled has one of five replicas alone hold the last records of a primary that is cut off, and so follow it. The others are told
// of those, and end before their slow disks have them; the new primary is cut off, perhaps after a read.
func (f *faults) unsettled() {
	w := f.w
	id := w.groups[w.RNG.IntN(min(3, len(w.groups)))]
	g := w.raft.state().Groups[id]
	p := w.node(g.Primary)
	if w.Now < f.storm || p == nil || !p.ready || len(g.Replicas) < 5 || g.Next != nil {
		return
	}
	a := w.node(g.Replicas[w.RNG.IntN(len(g.Replicas))])
	if a == p || !a.ready {
		return
	}
	others := slices.DeleteFunc(slices.Clone(w.nodes), func(n *node) bool { return n == p || n == a })
	f.storm = w.Now + 5*second
	f.healLinks()
	f.cutOff(p)
	w.net.cut[p.index][a.index], w.net.cut[a.index][p.index] = false, false
	f.soon(20*millisecond, 200*millisecond, func() { f.cutOff(p) })
	for _, n := range others {
		n.slow = w.Between(50*millisecond, 400*millisecond)
	}
	f.elected(id, p, func(n *node) {
		f.soon(5*millisecond, 200*millisecond, func() {
			if n == a {
				f.cutOff(a)
				for _, n := range others {
					f.killNode(n)
				}
			}
			for _, n := range others {
				n.slow = 0
			}
			f.soon(2*second, 3*second, f.healLinks)
		})
	})
}

// end is a kill after which nothing starts the process again for some seconds.
func (f *faults) end(n *node) {
	f.w.count.Crashes++
	f.w.Tracef("kill %s", n.id)
	n.crash(false)
	life := n.life
	f.w.After(5*second, func() {
		if !n.alive && n.life == life && n.wanted {
			n.start()
		}
	})
}

// apart cuts the links of nodes with each other.
func (f *faults) apart(ids []string) {
	for _, x := range ids {
		for _, y := range ids {
			if x != y {
				f.w.net.cut[f.w.node(x).index][f.w.node(y).index] = true
			}
		}
	}
}

// elected calls then, soon, with the primary that follows old in the group.
func (f *faults) elected(id uint16, old *node, then func(*node)) {
	var look func(left int)
	look = func(left int) {
		n := f.w.node(f.w.raft.state().Groups[id].Primary)
		switch {
		case n != nil && n != old && n.ready && n.parts[id].group.Primary():
			then(n)
		case left > 0:
			f.soon(millisecond, 2*millisecond, func() { look(left - 1) })
		}
	}
	look(2000)
}

// bringBack starts a node that was ended, while another one is cut off.
func (f *faults) bringBack(b, instead *node) {
	f.cutOff(instead)
	if !b.alive && b.wanted {
		b.start()
	}
	f.soon(2*second, 3*second, f.healLinks)
}
