package sim

import (
	"slices"

	"hypercache/node/replica"
)

// faults injects what goes wrong until the end of the stormy part of a run.
type faults struct {
	w       *world
	until   int64
	stopped bool
	pause   int64 // mean time between faults
	nextID  uint64
	hole    *node // the one follower that a change of replicas leaves to the primary; see jointHole
	ambush  bool  // cut the next primary off before it says a word
	kinds   []func(*faults)
}

func (f *faults) build(w *world) {
	f.w = w
	f.until = w.Now + w.Between(2*second, 6*second)
	f.pause = w.Between(15*millisecond, 500*millisecond)
	all := []func(*faults){
		(*faults).crash, (*faults).crash, (*faults).powerLoss, (*faults).partition, (*faults).isolatePrimary,
		(*faults).oneWay, (*faults).pauseNode, (*faults).slowDisk, (*faults).clockJump, (*faults).trim,
		(*faults).breakSession, (*faults).spurious, (*faults).handover, (*faults).controller, (*faults).change,
		(*faults).change, (*faults).isolateController, (*faults).healLinks, (*faults).healLinks,
		(*faults).crashMany, (*faults).crashMany, (*faults).crashFenced, (*faults).churn, (*faults).churn,
		(*faults).recoverAlone, (*faults).shortLog, (*faults).shortLog, (*faults).leapfrog, (*faults).leapfrog,
		(*faults).changeUnderFire, (*faults).changeUnderFire, (*faults).jointHole, (*faults).jointHole,
	}
	// Each run has its own mix: some faults do their harm only when others are rare.
	density := []float64{0.1, 0.3, 0.8}[w.RNG.IntN(3)]
	for _, k := range all {
		if w.Chance(density) {
			f.kinds = append(f.kinds, k)
		}
	}
	f.kinds = append(f.kinds, (*faults).healLinks)
	w.After(w.Between(0, second), f.next)
}

func (f *faults) next() {
	if f.stopped {
		return
	}
	f.kinds[f.w.RNG.IntN(len(f.kinds))](f)
	f.w.After(f.w.Between(f.pause/4, 2*f.pause), f.next)
}

func (f *faults) any() *node { return f.w.nodes[f.w.RNG.IntN(len(f.w.nodes))] }

// victim is often the primary.
func (f *faults) victim() *node {
	if p := f.w.node(f.w.top.reg.Primary); p != nil && f.w.Chance(0.5) {
		return p
	}
	return f.any()
}

func (f *faults) crash() {
	if n := f.victim(); n.alive {
		f.w.count.Crashes++
		n.crash(false)
		f.restartLater(n)
	}
}

func (f *faults) restartLater(n *node) {
	d := f.w.Between(20*millisecond, 1500*millisecond)
	switch f.w.RNG.IntN(10) {
	case 0:
		d = 5 * second
	case 1, 2, 3:
		d = f.w.Between(millisecond, 20*millisecond)
	}
	f.restartAfter(n, d)
}

func (f *faults) restartAfter(n *node, d int64) {
	life := n.life
	f.w.After(d, func() {
		if !n.alive && n.life == life {
			n.start()
		}
	})
}

// crashMany kills several processes at one moment: what was only in memory is gone everywhere.
// Their disks may have been slow before.
func (f *faults) crashMany() {
	slow := int64(0)
	if f.w.Chance(0.6) {
		slow = f.w.Between(5*millisecond, 200*millisecond)
	}
	for _, n := range f.w.nodes {
		n.slow = slow
	}
	f.w.After(slow+f.w.Between(0, slow+1), func() {
		for _, n := range f.w.nodes {
			n.slow = 0
			if n.alive && f.w.Chance(0.8) && !f.stopped {
				f.w.count.Crashes++
				n.crash(false)
				f.restartLater(n)
			}
		}
	})
}

// crashFenced opens a term that the primary and one follower it still reaches hear of only through the fence, and
// restarts that follower around its promise.
func (f *faults) crashFenced() {
	p, n := f.w.node(f.w.top.reg.Primary), f.any()
	if p == nil || n == p || f.w.top.downTill > f.w.Now {
		return
	}
	f.w.count.Partitions++
	for i := range f.w.nodes {
		for j := range f.w.nodes {
			pair := (i == p.index || i == n.index) && (j == p.index || j == n.index)
			f.w.net.cut[i][j] = i != j && !pair
		}
	}
	f.w.net.ctlCut[p.index] = true
	f.spurious()
	f.w.After(f.w.Between(0, 200*millisecond), func() {
		if n.alive && !f.stopped {
			f.w.count.Crashes++
			n.crash(false)
			f.w.net.ctlCut[n.index] = true
			f.restartAfter(n, f.w.Between(0, 20*millisecond))
		}
	})
	f.healLater()
}

// isolate cuts one node off, and nothing else.
func (f *faults) isolate(n *node) {
	f.healLinks()
	f.w.count.Partitions++
	for j := range f.w.nodes {
		if j != n.index {
			f.w.net.cut[n.index][j], f.w.net.cut[j][n.index] = true, true
		}
	}
	f.w.net.ctlCut[n.index] = true
}

// churn opens terms in quick succession, each with another node cut off: logs that differ at their ends take turns.
func (f *faults) churn() {
	if f.w.Chance(0.5) {
		f.slowDisk()
	}
	var at int64
	for range 3 + f.w.RNG.IntN(6) {
		f.w.After(at, func() {
			if !f.stopped {
				f.isolate(f.victim())
				f.spurious()
			}
		})
		at += f.w.Between(10*millisecond, 150*millisecond)
	}
	f.w.After(at, f.healLinks)
}

// leapfrog makes two logs that end differently take turns, with a third that is slow to store either: one primary
// orders records alone, the next one too, the first one comes back and fails again (figure 8 of the Raft paper).
func (f *faults) leapfrog() {
	a := f.w.node(f.w.top.reg.Primary)
	if a == nil || f.w.top.downTill > f.w.Now {
		return
	}
	var at int64
	then := func(lo, hi int64, fn func()) {
		at += f.w.Between(lo, hi)
		f.w.After(at, func() {
			if !f.stopped {
				fn()
			}
		})
	}
	f.isolate(a)
	then(5*millisecond, 60*millisecond, func() { f.ambush = true; f.spurious() })
	then(60*millisecond, 250*millisecond, func() {
		f.ambush = false
		for _, n := range f.w.nodes {
			if n != a {
				n.slow = f.w.Between(20*millisecond, 300*millisecond)
			}
		}
		f.spurious()
	})
	restart := f.w.Chance(0.5)
	then(20*millisecond, 250*millisecond, func() {
		for _, n := range f.w.nodes {
			if restart && n.alive && n.slow > 0 { // those that store late lose what they only had in memory
				f.w.count.Crashes++
				n.crash(false)
				f.restartAfter(n, f.w.Between(0, 20*millisecond))
			}
		}
		f.isolate(a)
		f.spurious()
	})
	then(100*millisecond, 500*millisecond, func() {
		for _, n := range f.w.nodes {
			n.slow = 0
		}
		f.healLinks()
	})
}

// jointHole replaces the primary and leaves it, while that is under way, with one follower that holds what it commits.
// Afterwards those are alone that lack it.
func (f *faults) jointHole() {
	p, n := f.w.node(f.w.top.reg.Primary), f.any()
	if p == nil || n == p || !slices.Contains(f.w.top.reg.Replicas, n.name) || !f.w.top.change(p.name) {
		return
	}
	f.hole = n
	f.healLinks()
	f.leaveWith(p, n, f.w.top.reg.Learner)
	f.w.After(second, func() { f.hole = nil })
}

// leaveWith cuts p off from all but n and one more.
func (f *faults) leaveWith(p, n *node, more string) {
	f.w.count.Partitions++
	for j, m := range f.w.nodes {
		f.w.net.cut[p.index][j] = m != p && m != n && m.name != more
	}
}

// changed is told that the topology went on from the learner.
func (f *faults) changed() {
	n, p := f.hole, f.w.node(f.w.top.reg.Primary)
	if n == nil || f.stopped {
		return
	}
	f.hole = nil
	old := f.w.top.reg.Replicas
	if p == nil || !slices.Contains(old, p.name) { // without the joint step the primary is out already
		for i, m := range f.w.nodes {
			f.w.net.ctlCut[i] = m == n || !slices.Contains(old, m.name)
			for j := range f.w.nodes {
				f.w.net.cut[i][j] = i != j && (m == n) != (f.w.nodes[j] == n) && slices.Contains(old, m.name)
			}
		}
	} else {
		f.leaveWith(p, n, "")
	}
	f.w.After(f.w.Between(50*millisecond, 400*millisecond), func() {
		if !f.stopped {
			f.isolate(n)
			f.healLater()
		}
	})
}

// elected is told who was elected before anybody else is.
func (f *faults) elected(n *node) {
	if f.ambush && !f.stopped {
		f.ambush = false
		f.isolate(n)
		f.w.net.ctlCut[n.index] = false
		f.w.After(20*millisecond+2*f.w.net.maxDelay, func() { f.w.net.ctlCut[n.index] = !f.stopped })
	}
}

// shortLog lets one follower alone hold what is acknowledged, takes its power, and leaves it with those that lack it.
func (f *faults) shortLog() {
	p, n := f.w.node(f.w.top.reg.Primary), f.any()
	if p == nil || n == p || !n.alive {
		return
	}
	f.healLinks()
	f.w.count.Partitions++
	for j := range f.w.nodes {
		if j != p.index && j != n.index {
			f.w.net.cut[p.index][j] = true
		}
	}
	f.w.After(f.w.Between(20*millisecond, 300*millisecond), func() {
		if f.stopped || !n.alive || !n.always && !f.spare(n) {
			f.healLinks()
			return
		}
		f.w.count.PowerLosses++
		n.crash(true)
		f.restartAfter(n, f.w.Between(0, 20*millisecond))
		f.w.After(f.w.Between(0, 100*millisecond), func() {
			if !f.stopped {
				f.isolate(p)
				f.spurious()
				f.healLater()
			}
		})
	})
}

// changeUnderFire starts a change of replicas and cuts nodes off while it runs.
func (f *faults) changeUnderFire() {
	f.change()
	var at int64
	for range 1 + f.w.RNG.IntN(5) {
		at += f.w.Between(5*millisecond, 150*millisecond)
		f.w.After(at, func() {
			if f.stopped {
				return
			}
			f.isolate(f.victim())
			if f.w.Chance(0.4) {
				f.spurious()
			}
		})
	}
	f.w.After(at+f.w.Between(0, 200*millisecond), f.healLinks)
}

// recoverAlone takes the power of one node and, once it is back, the primary's process.
func (f *faults) recoverAlone() {
	n := f.any()
	if !n.alive || !n.always && !f.spare(n) {
		return
	}
	f.w.count.PowerLosses++
	n.crash(true)
	d := f.w.Between(0, 30*millisecond)
	f.restartAfter(n, d)
	f.w.After(d+f.w.Between(0, 100*millisecond), func() {
		if p := f.w.node(f.w.top.reg.Primary); p != nil && p.alive && !f.stopped {
			f.w.count.Crashes++
			p.crash(false)
			f.restartLater(p)
		}
	})
}

// powerLoss hits as many as may lose their tail while a majority of valid voters remains.
func (f *faults) powerLoss() {
	n := f.victim()
	if !n.alive || !n.always && !f.spare(n) {
		return
	}
	f.w.count.PowerLosses++
	n.crash(true)
	f.restartLater(n)
}

// spare says whether the voters of Replicas and of Next still are majorities without n.
func (f *faults) spare(n *node) bool {
	reg := &f.w.top.reg
	for _, set := range [][]string{reg.Replicas, reg.Next} {
		voters := 0
		for _, name := range set {
			m := f.w.node(name)
			if m != n && (m.alive && m.core.Voter() || !m.alive && m.voter && !m.damaged) {
				voters++
			}
		}
		if slices.Contains(set, n.name) && voters <= len(set)/2 {
			return false
		}
	}
	return true
}

// wipe removes a replica's records after it left the group, as a driver may do; its promise stays.
func (f *faults) wipe(n *node) {
	if n.alive {
		n.crash(false)
		f.restartLater(n)
	}
	n.written, n.synced, n.damaged, n.damagedSynced, n.voter, n.floor = nil, nil, false, false, false, 0
}

func (f *faults) partition() {
	f.w.count.Partitions++
	side := f.w.RNG.Uint64()
	for i := range f.w.nodes {
		for j := range f.w.nodes {
			f.w.net.cut[i][j] = i != j && side>>i&1 != side>>j&1
		}
		f.w.net.ctlCut[i] = f.w.Chance(0.5) && side>>i&1 == 1
	}
	f.healLater()
}

func (f *faults) isolatePrimary() {
	p := f.w.node(f.w.top.reg.Primary)
	if p == nil {
		return
	}
	f.w.count.Partitions++
	for j := range f.w.nodes {
		if j != p.index && f.w.Chance(0.8) {
			f.w.net.cut[p.index][j], f.w.net.cut[j][p.index] = true, true
		}
	}
	f.w.net.ctlCut[p.index] = f.w.Chance(0.7)
	f.healLater()
}

func (f *faults) oneWay() {
	f.w.count.OneWay++
	f.w.net.cut[f.any().index][f.victim().index] = true
	f.healLater()
}

func (f *faults) healLater() {
	f.w.After(f.w.Between(50*millisecond, 2*second), f.healLinks)
}

func (f *faults) healLinks() {
	for i := range f.w.net.cut {
		clear(f.w.net.cut[i])
	}
	clear(f.w.net.ctlCut)
}

func (f *faults) isolateController() {
	for i := range f.w.net.ctlCut {
		f.w.net.ctlCut[i] = f.w.Chance(0.4)
	}
	f.healLater()
}

func (f *faults) pauseNode() {
	f.w.count.Pauses++
	f.victim().pausedUntil = f.w.Now + f.w.Between(50*millisecond, 2*second)
}

func (f *faults) slowDisk() {
	f.w.count.SlowDisks++
	n := f.any()
	n.slow = f.w.Between(5*millisecond, 300*millisecond)
	f.w.After(f.w.Between(100*millisecond, 3*second), func() { n.slow = 0 })
}

// clockJump: the core has no clock; a jump shows as a burst of ticks, as a clock that was set forward would cause.
func (f *faults) clockJump() {
	f.w.count.ClockJumps++
	n := f.victim()
	for range f.w.RNG.IntN(30) {
		n.step(&replica.Event{Kind: replica.Tick})
	}
}

func (f *faults) trim() {
	f.w.count.Trims++
	if n := f.victim(); n.alive && len(n.log) > 0 {
		n.setFloor(uint64(len(n.log)) + 1 - uint64(f.w.RNG.IntN(min(len(n.log), 30))))
	}
}

func (f *faults) breakSession() {
	f.w.count.Breaks++
	if a, b := f.victim(), f.any(); a != b {
		f.w.net.close(a, b)
	}
}

func (f *faults) spurious() {
	if f.w.top.reg.Primary != "" && f.w.top.downTill <= f.w.Now {
		f.w.count.SpuriousElections++
		f.w.top.open("suspicion", "")
	}
}

func (f *faults) handover() {
	if f.w.top.reg.Primary != "" && f.w.top.downTill <= f.w.Now {
		f.w.count.Handovers++
		f.w.top.open("handover", f.any().name)
	}
}

func (f *faults) controller() {
	f.w.count.ControllerCrashes++
	f.w.top.crash(f.w.Between(0, second))
}

func (f *faults) change() {
	t := &f.w.top
	switch r := t.reg.Replicas; {
	case f.w.Chance(0.2):
		t.shrink(r[f.w.RNG.IntN(len(r))])
	case len(r) < 5 && f.w.Chance(0.3):
		t.change("")
	default:
		t.change(r[f.w.RNG.IntN(len(r))])
	}
}
