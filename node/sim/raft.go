package sim

import (
	"fmt"
	"slices"
	"time"

	"hypercache/node/topology"
)

// raft models the topology's Raft group; the package comment says how. What it commits is applied by the real state
// machine, and who leads it runs the real controller.
type raft struct {
	w       *world
	states  []*topology.State // after every command that was committed
	servers topology.Servers
	gone    map[*node]bool // voters whose disk was lost: their vote counts nowhere
	leader  *node
	term    int
	since   int64              // when the leader last reached a majority
	vacant  int64              // since when there is no leader
	orphans []topology.Command // what deposed leaders had under way
	founded bool
}

// leaderLease and electionTime are Raft's clocks with the product's settings.
const (
	leaderLease  = 250 * millisecond
	electionTime = 500 * millisecond
	callTimeout  = 500 * millisecond
)

func (r *raft) build(w *world, size int) {
	r.w = w
	r.servers, r.gone = topology.Servers{}, map[*node]bool{}
	r.states = []*topology.State{{Members: map[string]topology.Member{}}}
	for _, n := range w.nodes[:size] {
		r.servers[n.id] = len(r.servers) < []int{1, 1, 1, 3, 3, 5, 5, 5, 5, 5}[size]
		n.cluster = true
	}
	for _, n := range w.nodes[size:] {
		n.wanted = false
	}
	w.After(0, r.found)
}

// found makes a cluster whose members are the nodes that run.
func (r *raft) found() {
	for _, n := range r.w.nodes {
		if !n.ready {
			continue
		}
		if !r.founded {
			r.apply(topology.Found("c", r.w.rf, n.member()))
			r.founded = true
			continue
		}
		r.apply(r.state().Welcome(n.member()))
	}
	r.w.After(0, r.tick)
}

func (n *node) member() topology.Member {
	return topology.Member{ID: n.id, Addr: n.id, Zone: n.zone, Status: topology.Up, Run: n.run}
}

func (r *raft) state() *topology.State { return r.states[len(r.states)-1] }

// apply commits a command: from here on it is part of the log.
func (r *raft) apply(c topology.Command) topology.Outcome {
	st, out := r.state().Apply(c)
	if st != r.state() {
		r.w.count.Commands++
		r.push(st)
	}
	return out
}

func (r *raft) push(st *topology.State) {
	if r.w.opts.Trace != nil {
		old := r.state()
		for _, g := range r.w.groups {
			if old.Groups[g].Epoch != st.Groups[g].Epoch {
				r.w.Tracef("topology %d: group %d: %+v", st.Epoch, g, st.Groups[g])
			}
		}
		for id, m := range st.Members {
			if old.Members[id] != m {
				r.w.Tracef("topology %d: member %+v", st.Epoch, m)
			}
		}
	}
	for _, g := range r.w.groups {
		if a, b := &r.state().Groups[g], &st.Groups[g]; a.Primary == "" && b.Primary != "" {
			r.w.count.Elections++
		} else if a.Next != nil && b.Next == nil {
			r.w.count.Moves++
		}
		if a, b := &r.state().Groups[g], &st.Groups[g]; !sameMembers(a.Replicas, b.Replicas) {
			r.w.check.placed(g, b.Replicas)
		}
	}
	r.states = append(r.states, st)
	r.spread()
}

func sameMembers(a, b []string) bool {
	return slices.Equal(slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b)))
}

// spread tells the followers of the leader what is committed.
func (r *raft) spread() {
	index := len(r.states) - 1
	for _, n := range r.w.nodes {
		if _, in := r.servers[n.id]; !in || !n.ready || !n.cluster || r.leader == nil || n.applied == index && n.view != nil {
			continue
		}
		if n == r.leader {
			n.later(0, func() { n.learn(index) })
		} else if r.w.net.works(r.leader, n) && r.w.net.works(n, r.leader) {
			n.later(r.w.net.delay(r.leader, n)+r.w.Between(0, 2*millisecond), func() { n.learn(index) })
		}
	}
}

// reaches tells whether n can reach a majority of the voters, itself included.
func (r *raft) reaches(n *node) bool {
	voters, reached := 0, 0
	for id, voter := range r.servers {
		if !voter {
			continue
		}
		voters++
		m := r.w.node(id)
		if m.ready && m.cluster && !r.gone[m] && r.w.net.both(n, m) {
			reached++
		}
	}
	return 2*reached > voters
}

// lost is told that a server's disk is gone.
func (r *raft) lost(n *node) {
	if _, in := r.servers[n.id]; in {
		r.gone[n] = true
	}
}

// spare tells whether the voters that have their disks are a majority without n.
func (r *raft) spare(n *node) bool {
	voters, whole := 0, 0
	for id, voter := range r.servers {
		if voter {
			voters++
			if m := r.w.node(id); m != n && !r.gone[m] && !r.w.faults.rotten[m] && m.wanted {
				whole++
			}
		}
	}
	return 2*whole > voters
}

// tick is Raft's life: leaders lose their majority, others win one.
func (r *raft) tick() {
	w := r.w
	switch n := r.leader; {
	case n == nil:
		r.elect()
	case !n.ready || n.reign == nil:
		r.depose("is gone")
	case r.reaches(n):
		r.since = w.Now
	case w.Now-r.since > leaderLease:
		r.depose("reaches no majority")
	}
	r.spread()
	w.After(w.Between(20*millisecond, 80*millisecond), r.tick)
}

func (r *raft) depose(why string) {
	r.w.Tracef("raft: %s %s", r.leader.id, why)
	if n := r.leader; n.reign != nil {
		// It may go on in the belief that it leads, but for commits, until it notices.
		old := n.reign
		n.later(r.w.Between(0, leaderLease), func() {
			if n.reign == old {
				n.reign = nil
			}
		})
	}
	r.leader, r.vacant = nil, r.w.Now
}

func (r *raft) elect() {
	w := r.w
	if w.Now-r.vacant < electionTime {
		return
	}
	var able []*node
	for _, n := range w.nodes {
		if r.servers[n.id] && n.ready && n.cluster && !r.gone[n] && n.pausedUntil <= w.Now && n.reign == nil && r.reaches(n) {
			able = append(able, n)
		}
	}
	if len(able) == 0 || w.Chance(0.5) {
		return
	}
	n := able[w.RNG.IntN(len(able))]
	r.lead(n)
}

func (r *raft) lead(n *node) {
	w := r.w
	r.leader, r.since = n, w.Now
	r.term++
	w.count.Leaders++
	w.Tracef("raft: %s leads term %d", n.id, r.term)
	for _, c := range r.orphans {
		if w.Chance(0.5) {
			r.apply(c)
		}
	}
	r.orphans = nil
	n.reign = newReign(n, r.term)
	n.learn(len(r.states) - 1)
	reign := n.reign
	n.later(w.net.delay(n, n)+w.Between(millisecond, 20*millisecond), func() { reign.tick() })
}

// reign is one leadership: the real controller with what carries out its plans.
type reign struct {
	r        *raft
	n        *node
	term     int
	c        *topology.Controller
	polls    map[string]*errand
	hellos   map[string]*errand
	serving  bool // a change of Raft's configuration is under way
	transfer int64
}

type errand struct {
	busy bool
	next int64
}

func newReign(n *node, term int) *reign {
	return &reign{
		r: &n.w.raft, n: n, term: term, polls: map[string]*errand{}, hellos: map[string]*errand{},
		c: topology.NewController(topology.Options{NodeID: n.id, BootstrapExpect: 1}, n.w.groups),
	}
}

// now is the controller's time.
func (g *reign) now() time.Time { return g.n.clock() }

func (g *reign) on() bool { return g.n.reign == g && g.n.alive }

// commit brings a command through the log; done is told whether that is known to have worked.
func (g *reign) commit(c topology.Command, done func(topology.Outcome, bool)) {
	r, n, w := g.r, g.n, g.r.w
	n.later(2*w.Between(50, w.net.maxDelay)+w.Between(millisecond, 4*millisecond), func() {
		if r.leader == n && r.term == g.term && r.reaches(n) {
			done(r.apply(c), true)
			return
		}
		if w.Chance(0.4) {
			r.orphans = append(r.orphans, c)
		}
		n.later(w.Between(0, electionTime), func() { done(topology.Outcome{}, false) })
	})
}

// tick is one round of the controller.
func (g *reign) tick() {
	if !g.on() {
		return
	}
	w, st := g.r.w, g.r.states[g.n.applied]
	g.greet(st)
	g.poll(st)
	down := map[string]bool{} // in the order of the nodes: whoever asks goes through a map
	for _, m := range w.nodes {
		errs := m != g.n && w.faults.doubt && !w.faults.stopped && w.Chance(0.02)
		down[m.id] = w.net.down(g.n, m) != errs
	}
	g.execute(st, g.c.Step(st, g.r.servers, g.now(), func(id string) bool { return down[id] }))
	g.n.later(50*millisecond, g.tick)
}

func (g *reign) execute(st *topology.State, p topology.Plan) {
	if p.Elections != nil {
		g.hold(p.Elections)
	}
	if !p.Changes.Empty() {
		g.commit(p.Changes, func(topology.Outcome, bool) { g.c.Changed(p.Changes) })
	}
	if !p.Retire.Empty() {
		g.commit(p.Retire, func(topology.Outcome, bool) {})
	}
	if p.Server != nil && !g.serving {
		g.serving = true
		g.change(*p.Server, func() { g.serving = false })
	}
	if p.Transfer && g.r.w.Now > g.transfer {
		g.transfer = g.r.w.Now + second
		g.r.handOver(g)
	}
}

// change makes one change of Raft's configuration.
func (g *reign) change(c topology.ServerChange, done func()) {
	r, n := g.r, g.n
	n.later(r.w.Between(2*millisecond, 20*millisecond), func() {
		if r.leader == n && r.term == g.term && r.reaches(n) {
			r.w.Tracef("raft: server %+v", c)
			if m := r.w.node(c.ID); c.Remove {
				delete(r.servers, c.ID)
				delete(r.gone, m)
			} else {
				r.servers[c.ID] = c.Voter
			}
			r.spread()
		}
		done()
	})
}

// handOver gives the leadership to another voter at once.
func (r *raft) handOver(g *reign) {
	if r.leader != g.n {
		return
	}
	for _, n := range r.w.nodes {
		if n != g.n && r.servers[n.id] && n.ready && n.cluster && !r.gone[n] && n.reign == nil && n.pausedUntil <= r.w.Now && r.reaches(n) {
			g.n.reign = nil
			r.lead(n)
			return
		}
	}
}

// hold runs elections: the steps of the topology's package comment.
func (g *reign) hold(e *topology.Elections) {
	over := func() { e.Held(g.r.states[g.n.applied], g.now()) }
	open := e.Open(g.r.states[g.n.applied])
	next := func() {
		g.ask(e.First(), e, false, func() {
			g.ask(e.Others(), e, true, func() { g.close(e, over) })
		})
	}
	if open.Empty() {
		next()
		return
	}
	g.commit(open, func(out topology.Outcome, ok bool) {
		if !ok || !g.on() || !e.Opened(out) {
			over()
			return
		}
		g.n.learn(len(g.r.states) - 1)
		next()
	})
}

func (g *reign) close(e *topology.Elections, over func()) {
	if !g.on() {
		return
	}
	c, losses := e.Close(g.r.states[g.n.applied])
	if losses > 0 { // every replica has answered; whether anything is lost, the checks tell
		g.r.w.count.Accepted += losses
		if g.r.w.opts.NoLoss && g.r.w.Now > 4*second {
			g.r.w.Fail(accepted, "%s: in %d groups", g.n.id, losses)
		}
		g.r.w.Tracef("%s accepts a possible loss in %d groups", g.n.id, losses)
	}
	if c.Empty() {
		over()
		return
	}
	g.commit(c, func(_ topology.Outcome, ok bool) {
		if ok {
			g.n.learn(len(g.r.states) - 1)
		}
		over()
	})
}

// ask makes the calls of a fence and goes on when every node that is not down has answered; or, with grace, a little
// after there are answers enough.
func (g *reign) ask(calls map[string]*topology.FenceCall, e *topology.Elections, grace bool, then func()) {
	w := g.r.w
	owes, over, soon := map[string]bool{}, false, false
	next := func() {
		if !over && g.on() {
			over = true
			then()
		}
	}
	awaited := func() bool {
		for id := range owes {
			if !w.net.down(g.n, w.node(id)) {
				return true
			}
		}
		return false
	}
	for _, id := range sorted(calls) {
		m, q := w.node(id), calls[id]
		owes[id] = true
		w.net.call(g.n, m, callTimeout, func(reply func(any)) { m.fence(g.n.id, q, reply) }, func(ans any, ok bool) {
			if over || !g.on() {
				return
			}
			if ok {
				e.Answer(id, ans.(*topology.FenceAnswer))
				if w.opts.ElectMinority {
					forge(e, calls, ans.(*topology.FenceAnswer))
				}
			}
			delete(owes, id)
			if !awaited() {
				next()
			} else if grace && !soon && e.Decided() {
				soon = true
				g.n.later(100*millisecond, next)
			}
		})
	}
	g.n.later(callTimeout, next)
	var look func()
	look = func() { // one may go down before it has answered
		if !awaited() {
			next()
		} else if !over && g.on() {
			g.n.later(50*millisecond, look)
		}
	}
	g.n.later(0, look)
}

// forge answers for those who have not: as if one answer were enough.
func forge(e *topology.Elections, calls map[string]*topology.FenceCall, seen *topology.FenceAnswer) {
	for _, id := range sorted(calls) {
		a := &topology.FenceAnswer{Run: "nobody"}
		for _, f := range calls[id].Groups {
			if slices.ContainsFunc(seen.Groups, func(r topology.FenceReply) bool { return r.Group == f.Group && r.OK }) {
				a.Groups = append(a.Groups, topology.FenceReply{Group: f.Group, OK: true, Promised: f.Term, Voter: true})
			}
		}
		e.Forge(id, a)
	}
}

// poll asks the members how their primaries are.
func (g *reign) poll(st *topology.State) {
	w := g.r.w
	lists, often := g.c.Questions(st)
	pace := 200 * millisecond
	if often {
		pace = 50 * millisecond
	}
	for _, id := range sorted(st.Members) {
		m := w.node(id)
		if st.Members[id].Status == topology.Removed || w.net.down(g.n, m) || !due(g.polls, id, w.Now) {
			continue
		}
		e, asked := g.polls[id], g.now()
		q := topology.StatusCall{Groups: lists[id], Seen: g.c.Seen(id)}
		w.net.call(g.n, m, callTimeout, func(reply func(any)) {
			if m.view != nil {
				reply(m.status(q))
			}
		}, func(ans any, ok bool) {
			e.busy, e.next = false, w.Now+pace
			if ok && g.on() {
				g.c.Learn(g.r.states[g.n.applied], id, asked, ans.(*topology.StatusAnswer))
			}
		})
	}
}

// due begins an errand unless one is under way or it is too early.
func due(m map[string]*errand, id string, now int64) bool {
	if m[id] == nil {
		m[id] = &errand{}
	}
	e := m[id]
	if e.busy || now < e.next {
		return false
	}
	e.busy = true
	return true
}

type hello struct {
	member  topology.Member
	cluster bool
}

// greet says hello to nodes that are not members yet, and to members that are another process now.
func (g *reign) greet(st *topology.State) {
	w := g.r.w
	for _, m := range w.nodes {
		old, known := st.Members[m.id]
		run := g.c.Runs(m.id)
		same := known && old.Status != topology.Removed && (run == "" || run == old.Run) && (!m.alive || m.run == old.Run)
		if same || !m.alive || w.net.down(g.n, m) || !due(g.hellos, m.id, w.Now) {
			continue
		}
		e := g.hellos[m.id]
		w.net.call(g.n, m, callTimeout, func(reply func(any)) { reply(hello{m.member(), m.cluster}) }, func(ans any, ok bool) {
			e.busy, e.next = false, w.Now+second
			if ok && g.on() {
				g.welcome(m, ans.(hello))
			}
		})
	}
}

// welcome takes a node in. One that has lost its disk leaves Raft first, so that its old vote is not counted.
func (g *reign) welcome(m *node, h hello) {
	st := g.r.states[g.n.applied]
	old, known := st.Members[m.id]
	if known && old.Status == topology.Removed && old.Run == h.member.Run {
		return
	}
	join := func() {
		g.r.w.net.call(g.n, m, callTimeout, func(reply func(any)) { m.cluster = true; reply(true) }, func(_ any, ok bool) {
			if ok && g.on() {
				g.commit(g.r.states[g.n.applied].Welcome(h.member), func(topology.Outcome, bool) {})
			}
		})
	}
	switch {
	case h.cluster:
		g.commit(st.Welcome(h.member), func(topology.Outcome, bool) {})
	case known && old.Status != topology.Removed && old.Run != h.member.Run && m != g.n:
		if _, in := g.r.servers[m.id]; in {
			g.change(topology.ServerChange{ID: m.id, Remove: true}, func() {
				if _, in := g.r.servers[m.id]; !in && g.on() {
					join()
				}
			})
			return
		}
		join()
	default:
		join()
	}
}

func (r *raft) describe() string {
	s := "leader none"
	if r.leader != nil {
		s = "leader " + r.leader.id
	}
	return s + fmt.Sprintf(" servers %v", r.servers)
}
