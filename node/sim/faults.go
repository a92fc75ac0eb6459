package sim

import (
	"fmt"
	"slices"
	"strings"

	"hypercache/node/journal"
	"hypercache/node/replica"
	"hypercache/node/topology"
)

// faults injects what goes wrong until the end of the stormy part of a run.
type faults struct {
	w       *world
	until   int64
	stopped bool
	doubt   bool  // nodes err about who is down
	pause   int64 // mean time between faults
	kinds   []fault
	rotten  map[*node]bool // rot on its disk that has not been found yet
	storm   int64          // until when no other storm may begin, nor links be mended by chance
}

// fault is one kind of fault, weight times as frequent as others.
type fault struct {
	name   string
	weight int
	strike func(*faults)
}

var allFaults = []fault{
	{"kill", 2, (*faults).kill}, {"killMidWrite", 2, (*faults).killMidWrite}, {"killMany", 1, (*faults).killMany},
	{"powerLoss", 2, (*faults).powerLoss}, {"powerMidWrite", 1, (*faults).powerMidWrite}, {"rot", 2, (*faults).rot},
	{"wipe", 1, (*faults).wipe}, {"partition", 1, (*faults).partition}, {"isolate", 2, (*faults).isolate},
	{"oneWay", 1, (*faults).oneWay}, {"healLinks", 2, (*faults).mend}, {"pauseNode", 1, (*faults).pauseNode},
	{"slowDisk", 1, (*faults).slowDisk}, {"clockJump", 1, (*faults).clockJump}, {"breakStream", 1, (*faults).breakStream},
	{"compact", 1, (*faults).compact}, {"join", 2, (*faults).join}, {"drain", 2, (*faults).drain},
	{"restart", 1, (*faults).restart}, {"leader", 1, (*faults).leader}, {"shortLog", 2, (*faults).shortLog},
	{"pauseLeader", 1, (*faults).pauseLeader}, {"leapfrog", 2, (*faults).leapfrog}, {"forgotten", 3, (*faults).forgotten},
	{"swap", 1, (*faults).swap}, {"ioErrors", 2, (*faults).ioErrors}, {"fullDisk", 1, (*faults).fullDisk},
	{"lostSync", 1, (*faults).lostSync}, {"starve", 1, (*faults).starve},
	{"figureEight", 1, (*faults).figureEight}, {"unsettled", 1, (*faults).unsettled},
}

func (f *faults) build(w *world) {
	f.w = w
	f.until = w.Now + w.Between(4*second, 14*second)
	f.pause = w.Between(60*millisecond, 900*millisecond)
	f.rotten = map[*node]bool{}
	f.doubt = w.Chance(0.3)
	// Each run has its own mix: some faults do their harm only when others are rare.
	density := []float64{0.15, 0.4, 0.8}[w.RNG.IntN(3)]
	for _, k := range allFaults {
		for range k.weight {
			if len(w.opts.Mix) == 0 && w.Chance(density) || slices.Contains(w.opts.Mix, k.name) {
				f.kinds = append(f.kinds, k)
			}
		}
	}
	f.kinds = append(f.kinds, fault{"healLinks", 1, (*faults).mend})
	w.After(w.Between(second, 3*second), f.next)
}

func (f *faults) next() {
	if f.stopped {
		return
	}
	f.kinds[f.w.RNG.IntN(len(f.kinds))].strike(f)
	f.w.After(f.w.Between(f.pause/4, 2*f.pause), f.next)
}

func (f *faults) any() *node { return f.w.nodes[f.w.RNG.IntN(len(f.w.nodes))] }

// victim is often the primary of a busy group, or the topology's leader.
func (f *faults) victim() *node {
	switch r := f.w.RNG.IntN(4); {
	case r == 0 && f.w.raft.leader != nil:
		return f.w.raft.leader
	case r < 3:
		if n := f.primary(); n != nil {
			return n
		}
	}
	return f.any()
}

func (f *faults) primary() *node {
	return f.w.node(f.w.raft.state().Groups[f.w.groups[f.w.RNG.IntN(min(3, len(f.w.groups)))]].Primary)
}

// soon runs fn after lo to hi, unless the storm is over by then.
func (f *faults) soon(lo, hi int64, fn func()) {
	f.w.After(f.w.Between(lo, hi), func() {
		if !f.stopped {
			fn()
		}
	})
}

func (f *faults) kill() { f.killNode(f.victim()) }

func (f *faults) killNode(n *node) {
	if n.ready {
		f.w.count.Crashes++
		f.w.Tracef("kill %s", n.id)
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
	life := n.life
	f.w.After(d, func() {
		if !n.alive && n.life == life && n.wanted {
			n.start()
		}
	})
}

// killMidWrite ends a process before some operation of its disk to come: in a write, a rewrite, a recovery.
func (f *faults) killMidWrite() {
	if n := f.victim(); n.ready && !n.sick() {
		n.crashIn, n.crashPower = 1+f.w.RNG.IntN(30), false
		if f.w.Chance(0.4) {
			n.rewrite()
		}
	}
}

func (f *faults) killMany() {
	for _, n := range f.w.nodes {
		if f.w.Chance(0.7) {
			f.killNode(n)
		}
	}
}

// spare tells whether the voters of every group still are majorities without n, and Raft's without its disk if that
// goes too.
func (f *faults) spare(n *node, disk bool) bool {
	if disk && !f.w.raft.spare(n) || n.unnoted() {
		return false
	}
	st := f.w.raft.state()
	for _, id := range f.w.groups {
		g := &st.Groups[id]
		if g.Term == 0 {
			return false
		}
		for _, set := range [][]string{g.Replicas, g.Next} {
			if slices.Contains(set, n.id) && 2*f.voters(id, set, n) <= len(set) {
				return false
			}
		}
	}
	return true
}

// voters counts those of a set, but for n, who have everything that they ever acknowledged.
func (f *faults) voters(g uint16, set []string, n *node) (count int) {
	for _, id := range set {
		m := f.w.node(id)
		if m == n || f.rotten[m] || m.sick() || !m.wanted {
			continue
		}
		if m.ready && m.votes(g) || !m.ready && m.voter[g] {
			count++
		}
	}
	return count
}

func (f *faults) powerLoss() {
	n := f.victim()
	if n.ready && (n.policy == journal.Always && !f.rotten[n] || f.spare(n, false)) {
		f.w.Tracef("power loss at %s", n.id)
		n.crash(true)
		f.restartLater(n)
	}
}

func (f *faults) powerMidWrite() {
	n := f.victim()
	if n.ready && n.policy == journal.Always && !f.rotten[n] && !n.sick() {
		n.crashIn, n.crashPower = 1+f.w.RNG.IntN(30), true
	}
}

// rot flips a bit on the disk of a node whose loss can be borne, and starts it again soon, so that it is found.
func (f *faults) rot() {
	w, n := f.w, f.victim()
	if !n.ready || f.rotten[n] || !f.spare(n, true) || f.draining() {
		return
	}
	var names []string
	for _, name := range n.disk.Files() {
		if !strings.HasSuffix(name, ".lock") && !strings.Contains(name, "temp-") {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return
	}
	name := names[w.RNG.IntN(len(names))]
	if w.opts.TrustChecksums {
		name = "data/appendonlydir/appendonly.aof.1.incr.aof"
	}
	data, err := n.disk.ReadFile(name)
	if err != nil || len(data) == 0 {
		return
	}
	off := w.RNG.Int64N(int64(len(data)))
	if w.opts.TrustChecksums {
		if forgeRecord(n, name, data) {
			f.rotten[n] = true
			f.killNode(n)
			delete(f.rotten, n)
		}
		return
	}
	if !n.disk.Flip(name, off, 1<<w.RNG.IntN(8)) {
		return
	}
	w.count.Rots++
	w.Tracef("rot at %s: %s offset %d of %d", n.id, name, off, len(data))
	f.rotten[n] = true
	life := n.life
	w.After(w.Between(0, second), func() {
		if n.life == life && n.ready && !f.stopped {
			w.count.Crashes++
			n.crash(false)
			clear(n.voter[:])
			w.After(w.Between(millisecond, 500*millisecond), func() {
				if !n.alive && n.wanted {
					n.start()
				}
			})
		}
	})
}

// wipe takes a node's disk.
func (f *faults) wipe() {
	n := f.any()
	if !n.ready || !n.cluster || !f.spare(n, true) || f.draining() {
		return
	}
	n.crash(false)
	n.wipe()
	f.restartLater(n)
}

func (f *faults) partition() {
	f.w.count.Partitions++
	side := f.w.RNG.Uint64()
	for i := range f.w.nodes {
		for j := range f.w.nodes {
			f.w.net.cut[i][j] = i != j && side>>i&1 != side>>j&1
		}
	}
	f.w.Tracef("partition %b", side&(1<<len(f.w.nodes)-1))
	f.healLater()
}

func (f *faults) isolate() {
	f.cutOff(f.victim())
	f.healLater()
}

func (f *faults) cutOff(n *node) {
	f.w.count.Partitions++
	f.w.Tracef("cut off %s", n.id)
	for j := range f.w.nodes {
		if j != n.index {
			f.w.net.cut[n.index][j], f.w.net.cut[j][n.index] = true, true
		}
	}
}

func (f *faults) oneWay() {
	a, b := f.any(), f.victim()
	if a == b {
		return
	}
	f.w.count.OneWay++
	f.w.Tracef("one way: %s does not hear %s", b.id, a.id)
	f.w.net.cut[a.index][b.index] = true
	f.healLater()
}

func (f *faults) healLater() {
	d := f.w.Between(50*millisecond, 4*second)
	f.w.After(d, f.healLinks)
}

func (f *faults) healLinks() { f.w.net.healLinks() }

func (f *faults) mend() {
	if f.w.Now >= f.storm {
		f.healLinks()
	}
}

func (f *faults) pauseNode() { f.hold(f.victim()) }

func (f *faults) hold(n *node) {
	d := f.w.Between(50*millisecond, 3*second)
	if !n.ready || n.pausedUntil > f.w.Now {
		return
	}
	f.w.count.Pauses++
	f.w.Tracef("pause %s for %d ms", n.id, d/millisecond)
	n.pausedUntil = f.w.Now + d
	if f.w.opts.ClockStops {
		n.stopped += d
	}
}

// pauseLeader stops a primary for so long that it is replaced meanwhile.
func (f *faults) pauseLeader() {
	if n := f.primary(); n != nil {
		f.hold(n)
	}
}

func (f *faults) slowDisk() {
	n := f.any()
	f.w.count.SlowDisks++
	n.slow = f.w.Between(5*millisecond, 400*millisecond)
	f.w.After(f.w.Between(100*millisecond, 3*second), func() { n.slow = 0 })
}

// clockJump sets a wall clock. What depends on monotonic clocks does not see that; tickers may fire in a burst.
func (f *faults) clockJump() {
	n := f.victim()
	if !n.ready || n.pausedUntil > f.w.Now {
		return
	}
	f.w.count.ClockJumps++
	for range f.w.RNG.IntN(20) {
		var b replica.Batch[*end]
		if n.d.Tick(&b); !n.ready {
			return
		}
	}
}

func (f *faults) breakStream() {
	a, b := f.victim(), f.any()
	if e := f.w.net.streams[[2]int{a.index, b.index}]; e != nil {
		f.w.net.sever(e)
	}
}

func (f *faults) compact() {
	if n := f.victim(); n.ready && n.pausedUntil <= f.w.Now {
		n.rewrite()
	}
}

// join starts a node that is no member.
func (f *faults) join() {
	for _, n := range f.w.nodes {
		if !n.wanted {
			f.w.count.Joins++
			f.w.Tracef("%s joins", n.id)
			if n.life > 0 && f.w.Chance(0.5) && f.w.raft.state().Members[n.id].Status == topology.Removed {
				n.wipe()
			}
			n.start()
			return
		}
	}
}

// drain takes a member out for good; its process stops when it holds nothing any more.
func (f *faults) drain() {
	st, up := f.w.raft.state(), 0
	for _, m := range st.Members {
		if m.Status == topology.Up {
			up++
		}
	}
	n := f.victim()
	if up <= max(3, f.w.rf) || !n.ready || len(f.w.raft.gone)+len(f.rotten) > 0 || st.Members[n.id].Status != topology.Up {
		return
	}
	f.w.count.Drains++
	f.w.Tracef("drain %s", n.id)
	f.ask(func(g *reign, st *topology.State) topology.Command { return st.Drain(n.id) })
	f.watchDrain(n)
}

// draining tells whether a member is on its way out: with a voter leaving and another one's disk gone, Raft could be left
// with half of its voters.
func (f *faults) draining() bool {
	for _, m := range f.w.raft.state().Members {
		if m.Status == topology.Draining {
			return true
		}
	}
	return false
}

// watchDrain lets the process go once the node is out.
func (f *faults) watchDrain(n *node) {
	f.w.After(100*millisecond, func() {
		switch f.w.raft.state().Members[n.id].Status {
		case topology.Removed:
			if _, in := f.w.raft.servers[n.id]; !in && n.ready && f.w.raft.state().Members[n.id].Run == n.run {
				f.w.count.Drained++
				f.w.Tracef("%s is drained", n.id)
				n.d.Release()
				n.wanted = false
				if n.ready {
					n.stop()
				}
				return
			}
		case topology.Up:
			return // the wish did not get through
		}
		f.watchDrain(n)
	})
}

// restart is a SIGTERM: the primaries are handed over, the journal is closed, a new process comes.
func (f *faults) restart() {
	n := f.victim()
	if !n.ready || f.w.raft.state().Members[n.id].Status != topology.Up {
		return
	}
	f.w.count.Stops++
	f.ask(func(g *reign, st *topology.State) topology.Command { return st.Leave(n.id) })
	life := n.life
	f.w.After(f.w.Between(0, 800*millisecond), func() {
		if n.ready && n.life == life && n.wanted {
			if n.stop(); !n.alive {
				f.restartLater(n)
			}
		}
	})
}

// starve cuts those off from their primaries who are to get a group from them; nobody else.
func (f *faults) starve() {
	w, st := f.w, f.w.raft.state()
	for _, id := range w.groups {
		g := &st.Groups[id]
		p := w.node(g.Primary)
		for _, n := range w.nodes {
			if p != nil && n != p && (g.Learner == n.id || slices.Contains(g.Next, n.id) && !slices.Contains(g.Replicas, n.id)) {
				w.count.Partitions++
				w.Tracef("%s gets nothing from %s", n.id, p.id)
				w.net.cut[p.index][n.index], w.net.cut[n.index][p.index] = true, true
			}
		}
	}
	f.healLater()
}

// ask has the leader of the topology commit a wish, if there is one.
func (f *faults) ask(wish func(*reign, *topology.State) topology.Command) {
	n := f.w.raft.leader
	if n == nil || n.reign == nil {
		return
	}
	g := n.reign
	if c := wish(g, f.w.raft.states[n.applied]); !c.Empty() {
		g.commit(c, func(topology.Outcome, bool) {})
	}
}

// leader ends the leadership of the topology, whatever it has under way.
func (f *faults) leader() {
	if r := &f.w.raft; r.leader != nil {
		r.depose("loses its leadership")
	}
}

// swap, with the rule off, replaces replicas without the joint configuration.
func (f *faults) swap() {
	r := &f.w.raft
	if !f.w.opts.SwapAtOnce || r.leader == nil {
		return
	}
	id := f.w.groups[f.w.RNG.IntN(min(3, len(f.w.groups)))]
	st := *r.state()
	g := st.Groups[id]
	if g.Primary == "" || len(g.Replicas) < 3 || g.Next != nil || g.Learner != "" {
		return
	}
	in := []string{g.Primary}
	if f.w.Chance(0.5) {
		in, g.Primary = nil, ""
		g.Term++
	}
	for _, n := range f.w.nodes {
		if n.ready && st.Members[n.id].Status == topology.Up && !slices.Contains(g.Replicas, n.id) {
			in = append(in, n.id)
		}
	}
	for _, m := range g.Replicas {
		if m != r.state().Groups[id].Primary {
			in = append(in, m)
		}
	}
	st.Epoch++
	g.Replicas, g.Epoch = in[:len(g.Replicas)], st.Epoch
	st.Groups[id] = g
	r.push(&st)
}

// forgeRecord changes a record of the journal and gives it the checksums of what it is now, as if nobody checked them.
func forgeRecord(n *node, name string, data []byte) bool {
	salt, ok := saltOf(data)
	if !ok {
		return false
	}
	mark := []byte("\r\n$1\r\n0\r\n")
	for off := 0; off < len(data); {
		line := slices.Index(data[off:], '\n')
		if line < 0 {
			return false
		}
		var group, term, seq uint64
		var kind string
		var length int
		head := string(data[off : off+line])
		k, _ := fmt.Sscanf(head, "#HC:1 %d %d %d %s %d", &group, &term, &seq, &kind, &length)
		body := off + line + 1
		if k == 5 && kind == "E" && body+length <= len(data) && n.w.Chance(0.3) {
			record := slices.Clone(data[body : body+length])
			if at := strings.Index(string(record), string(mark)); at >= 0 {
				record[at+len(mark)-3] = '1' // the append goes to another list
				return n.overwrite(name, off, salt, head, record)
			}
		}
		off = body
		if k == 5 {
			off += length
		}
	}
	return false
}
