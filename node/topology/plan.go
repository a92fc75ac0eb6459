package topology

import (
	"slices"
	"time"

	"hypercache/node/ring"
)

// view is what the leader knows beside the state: its own observations, all volatile. plan reads it and changes nothing.
type view struct {
	self    string
	now     time.Time
	expect  int // members wanted before the first assignment
	timing  Timing
	down    map[string]bool
	since   map[string]time.Time // node: when down last changed
	status  map[string]nodeStatus
	hold    bool   // nothing moves now: it is too soon after the last step
	settled uint64 // the state's epoch of a second ago: who does not have it yet is behind
	groups  *[ring.Groups]groupView
	target  []ring.Placement  // nil: membership is not settled yet
	servers map[string]server // Raft's configuration
}

// nodeStatus is a node's last answer to MethodStatus.
type nodeStatus struct {
	asked  time.Time
	run    string
	epoch  uint64 // of the state that it has
	digest uint64 // of groups
	groups map[uint16]GroupStatus
}

// groupView is what the leader remembers about a group.
type groupView struct {
	busy       bool      // an election is under way
	changed    time.Time // when this leader saw the group's configuration change
	notServing time.Time // since when the primary says that it does not serve; zero: it serves
	retry      time.Time // no election before
	tries      int       // elections that led to no serving primary, in a row
}

type server struct {
	voter bool
	addr  string
}

// election asks for a new primary of a group, step by step as the package comment says.
type election struct {
	group    uint16
	handover bool   // the old primary is alive: fence it first, so that the heir can catch up
	prefer   string // wins among equal heads
	reason   string
}

type serverOp uint8

const (
	addNonvoter serverOp = iota + 1
	addVoter
	demote
	remove
)

type serverChange struct {
	op       serverOp
	id, addr string
}

// actions is what plan wants done. All of it can be done at the same time.
type actions struct {
	elect    []election
	changes  []groupChange
	retire   []string      // members to take out
	server   *serverChange // Raft's configuration changes one server at a time
	transfer bool          // give up the leadership: the rest of the plan needs another leader
}

// Why primaries change that could stay.
const (
	moves   = "replica moves"
	balance = "balance"
)

// maxReturns bounds the primaries moved for balance at a time: each of them stops for milliseconds.
const maxReturns = 32

// plan decides what to do next. It is pure.
func plan(st *State, v *view) actions {
	var a actions
	a.planServers(st, v)
	if st.Groups[0].Term == 0 {
		a.assign(st, v)
		return a
	}
	p := groupPlanner{st: st, v: v, a: &a, moves: v.timing.MaxMoves, returns: maxReturns}
	for i := range st.Groups {
		if g := &st.Groups[i]; g.Learner != "" || g.Next != nil {
			p.moves--
		}
	}
	for i := range st.Groups {
		p.step(uint16(i))
	}
	a.planRetirement(st, v)
	return a
}

// assign makes the first assignment, once enough members are in.
func (a *actions) assign(st *State, v *view) {
	n := 0
	for id, m := range st.Members {
		if _, ok := v.servers[id]; ok && m.Status == Up {
			n++
		}
	}
	if v.target == nil || v.groups[0].busy || n < max(1, v.expect) {
		return
	}
	for i, p := range v.target {
		if v.groups[i].busy {
			continue
		}
		a.changes = append(a.changes, groupChange{
			Group: uint16(i), Expect: st.Groups[i].Epoch, Set: Group{Term: 1, Replicas: p.Replicas},
		})
	}
}

// planRetirement removes draining members that hold nothing any more.
func (a *actions) planRetirement(st *State, v *view) {
	for _, id := range sortedIDs(st.Members) {
		if st.Members[id].Status != Draining || holdings(st, id) > 0 {
			continue
		}
		if id == v.self {
			a.transfer = a.transfer || otherVoter(v)
			continue
		}
		a.retire = append(a.retire, id)
	}
}

func otherVoter(v *view) bool {
	for id, s := range v.servers {
		if s.voter && id != v.self && !v.down[id] {
			return true
		}
	}
	return false
}

// holdings counts the groups that node has or is getting.
func holdings(st *State, node string) (n int) {
	for i := range st.Groups {
		if st.Groups[i].Holds(node) {
			n++
		}
	}
	return n
}

type groupPlanner struct {
	st      *State
	v       *view
	a       *actions
	moves   int // groups that may still begin to change
	returns int // primaries that may still be moved for balance
}

func (p *groupPlanner) step(i uint16) {
	g, gv := &p.st.Groups[i], &p.v.groups[i]
	if gv.busy {
		return
	}
	if g.Primary == "" {
		p.elect(i, election{reason: "open"})
		return
	}
	if why := p.lost(i); why != "" {
		p.elect(i, election{reason: why, prefer: p.heir(g, nil)})
		return
	}
	gs, fresh := p.fresh(i)
	m := p.st.Members[g.Primary]
	if m.Leaves() || m.Status == Draining {
		var seen *GroupStatus
		if fresh {
			seen = &gs
		}
		if heir := p.heir(g, seen); heir != "" {
			p.elect(i, election{handover: true, prefer: heir, reason: "leaving"})
			return
		}
	}
	if p.v.hold {
		return
	}
	if next, ok := p.move(i, g, gs, fresh); ok {
		p.a.changes = append(p.a.changes, groupChange{Group: i, Expect: g.Epoch, Set: next})
	}
}

// elect asks for an election unless it is too early or cannot succeed: with too few live replicas it would only take
// the primary away from those who may still reach it.
func (p *groupPlanner) elect(i uint16, e election) bool {
	g := &p.st.Groups[i]
	if p.v.now.Before(p.v.groups[i].retry) || !p.majorityLive(g.Replicas) || g.Next != nil && !p.majorityLive(g.Next) {
		return false
	}
	e.group = i
	p.a.elect = append(p.a.elect, e)
	return true
}

func (p *groupPlanner) majorityLive(ids []string) bool {
	n := 0
	for _, id := range ids {
		if !p.v.down[id] {
			n++
		}
	}
	return 2*n > len(ids)
}

// lost says why the primary of i has to be replaced, or "".
func (p *groupPlanner) lost(i uint16) string {
	g, gv := &p.st.Groups[i], &p.v.groups[i]
	if p.v.down[g.Primary] {
		return "down"
	}
	ns, ok := p.v.status[g.Primary]
	if !ok || !ns.asked.After(gv.changed) {
		return ""
	}
	if ns.run != g.Run && ns.run != "" {
		return "restarted"
	}
	if gv.notServing.IsZero() {
		return ""
	}
	limit := min(p.v.timing.NotServing<<min(gv.tries, 6), max(5*time.Second, p.v.timing.NotServing))
	if gs, ok := ns.groups[i]; !ok || gs.Epoch < g.Epoch {
		limit *= 10 // it has not learnt of its election yet
	}
	lease := time.Duration(g.LeaseMillis) * time.Millisecond
	if p.v.now.Sub(gv.notServing) > limit && p.v.now.Sub(gv.changed) > limit+lease {
		return "not serving"
	}
	return ""
}

// fresh returns the status of i by its primary, if that was given in knowledge of the present configuration.
func (p *groupPlanner) fresh(i uint16) (GroupStatus, bool) {
	g := &p.st.Groups[i]
	ns := p.v.status[g.Primary]
	gs, ok := ns.groups[i]
	return gs, ok && ns.run == g.Run && gs.Term == g.Term && gs.Epoch >= g.Epoch && gs.Serving
}

func (p *groupPlanner) target(i uint16) []string {
	if p.v.target == nil {
		return nil
	}
	return p.v.target[i].Replicas
}

// heir picks who should follow the primary: live, staying, and following closely if gs says who does; one that is behind
// only if there is no other. "": nobody.
func (p *groupPlanner) heir(g *Group, gs *GroupStatus) (heir string) {
	from := g.Replicas
	if g.Next != nil {
		from = g.Next
	}
	for _, id := range from {
		m := p.st.Members[id]
		if id == g.Primary || p.v.down[id] || m.Leaves() || m.Status != Up || gs != nil && !caughtUp(*gs, id) {
			continue
		}
		if !p.behind(id) {
			return id
		}
		if heir == "" {
			heir = id
		}
	}
	return heir
}

// behind reports whether a node answers but does not hear of changes to the topology, as with a disk that is full: it would
// not learn that it has been elected.
func (p *groupPlanner) behind(id string) bool { return p.v.status[id].epoch < p.v.settled }

func caughtUp(gs GroupStatus, id string) bool {
	return slices.ContainsFunc(gs.Peers, func(p PeerStatus) bool { return p.ID == id && p.CaughtUp })
}

// move takes the next step from the group's replicas to its target, if one is due: learner, joint, done; one replica at
// a time.
func (p *groupPlanner) move(i uint16, g *Group, gs GroupStatus, fresh bool) (Group, bool) {
	target := p.target(i)
	if target == nil {
		return Group{}, false
	}
	next := *g
	switch {
	case g.Learner != "":
		if !slices.Contains(target, g.Learner) || p.gone(g.Learner) {
			next.Learner = ""
			return next, true
		}
		if !fresh || !caughtUp(gs, g.Learner) {
			return Group{}, false
		}
		next.Next, next.Learner = p.swapped(g, target), ""
		return next, true
	case g.Next != nil:
		return p.finish(i, g, gs, fresh)
	default:
		return p.begin(i, g, target, gs, fresh)
	}
}

// gone reports whether a node is out of reach for so long that waiting for it only blocks the group.
func (p *groupPlanner) gone(id string) bool {
	return p.v.down[id] && p.v.now.Sub(p.v.since[id]) > p.v.timing.AbortAfter
}

// swapped is Replicas with the learner, and without one that the target does not want if there are enough already.
func (p *groupPlanner) swapped(g *Group, target []string) []string {
	next := slices.Clone(g.Replicas)
	if len(next) >= len(target) {
		next = slices.DeleteFunc(next, func(id string) bool { return id == p.unwanted(g, target) })
	}
	return append(next, g.Learner)
}

// unwanted picks the replica to give up: one that is down, else any but the primary.
func (p *groupPlanner) unwanted(g *Group, target []string) string {
	out := ""
	for _, id := range g.Replicas {
		if slices.Contains(target, id) {
			continue
		}
		if p.v.down[id] {
			return id
		}
		if out == "" || out == g.Primary {
			out = id
		}
	}
	return out
}

// finish ends a change of replicas: Next becomes Replicas. The primary has to be one of them before.
func (p *groupPlanner) finish(i uint16, g *Group, gs GroupStatus, fresh bool) (Group, bool) {
	next := *g
	if fresh && gs.JointReady {
		if !slices.Contains(g.Next, g.Primary) {
			if heir := p.heir(g, &gs); heir != "" {
				p.elect(i, election{handover: true, prefer: heir, reason: moves})
			}
			return Group{}, false
		}
		next.Replicas, next.Next = g.Next, nil
		return next, true
	}
	for _, id := range g.Next {
		// Going back is as safe as going on: whatever was committed meanwhile is on a majority of both sets.
		if !slices.Contains(g.Replicas, id) && p.gone(id) && slices.Contains(g.Replicas, g.Primary) {
			next.Next = nil
			return next, true
		}
	}
	return Group{}, false
}

// begin starts the next change of a group that is at rest.
func (p *groupPlanner) begin(i uint16, g *Group, target []string, gs GroupStatus, fresh bool) (Group, bool) {
	next := *g
	for _, id := range target {
		if slices.Contains(g.Replicas, id) {
			continue
		}
		if p.v.down[id] || p.moves <= 0 {
			return Group{}, false
		}
		p.moves--
		next.Learner = id
		return next, true
	}
	if out := p.unwanted(g, target); out != "" {
		if p.moves <= 0 {
			return Group{}, false
		}
		p.moves--
		next.Next = slices.DeleteFunc(slices.Clone(g.Replicas), func(id string) bool { return id == out })
		return next, true
	}
	if !slices.Equal(g.Replicas, target) {
		next.Replicas = slices.Clone(target)
		return next, true
	}
	p.giveBack(i, g, gs, fresh)
	return Group{}, false
}

// giveBack moves the primary to the preferred replica once that has been up for a while.
func (p *groupPlanner) giveBack(i uint16, g *Group, gs GroupStatus, fresh bool) {
	to := g.Replicas[0]
	m := p.st.Members[to]
	if to == g.Primary || p.returns <= 0 || !fresh || !caughtUp(gs, to) || p.v.down[to] || p.behind(to) || m.Leaves() || m.Status != Up ||
		p.v.now.Sub(p.v.since[to]) < p.v.timing.PrimaryReturn {
		return
	}
	if p.elect(i, election{handover: true, prefer: to, reason: balance}) {
		p.returns--
	}
}
