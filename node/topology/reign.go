package topology

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/hashicorp/raft"

	"hypercache/node/ring"
)

// reign is one leadership of this node: the controller's volatile memory and the goroutines that carry out its plans.
// A new leadership starts with a new one, so nothing stale survives.
type reign struct {
	t      *Topology
	ctx    context.Context // ends with the leadership
	cancel context.CancelFunc
	log    *slog.Logger

	mu          sync.Mutex
	*Controller           // what it has seen and decides
	ready       bool      // everything committed before is applied
	stepped     time.Time // when step last looked
	polls       map[string]*errand
	hellos      map[string]*errand
	warned      map[string]string // node: what was last said about it
	server      bool              // a Raft configuration change is under way
	transfer    time.Time         // when leadership was last offered
}

// epochMark says which epoch was the newest at some time.
type epochMark struct {
	epoch uint64
	at    time.Time
}

// errand is a recurring call to one node.
type errand struct {
	busy bool
	next time.Time
	wait time.Duration
}

func newReign(t *Topology) *reign {
	r := &reign{
		t: t, log: t.log, Controller: newController(&t.o),
		polls: map[string]*errand{}, hellos: map[string]*errand{}, warned: map[string]string{},
	}
	r.ctx, r.cancel = context.WithCancel(t.ctx)
	t.goRun(func() {
		for t.await(t.raft.raft.Barrier(2*time.Second)) != nil {
			if r.ctx.Err() != nil || t.raft.raft.State() != raft.Leader {
				return
			}
		}
		r.mu.Lock()
		r.ready = true
		r.mu.Unlock()
		t.kick()
	})
	return r
}

// idlePace is how many ticks pass between two looks at a cluster in which nothing happens.
const idlePace = 4

// timely tells on a tick whether it is time to look: at once when a node went or came, else at the idle pace.
func (r *reign) timely(now time.Time) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if now.Sub(r.stepped) >= idlePace*r.t.o.Timing.Tick || r.busy {
		return true
	}
	for id, was := range r.down {
		if r.t.down(id) != was {
			return true
		}
	}
	return false
}

// step looks around, plans, and sets in motion what the plan says. It does not block.
func (r *reign) step() {
	st := r.t.State()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.ready || r.ctx.Err() != nil {
		return
	}
	now := time.Now()
	r.stepped = now
	if st.ClusterID == "" {
		r.found()
		return
	}
	servers, ok := r.t.servers()
	if !ok {
		return
	}
	r.observe(st, now, r.t.down)
	r.greet(st, now)
	r.poll(st, now)
	r.retarget(st, servers, now)
	r.execute(r.plan(st, servers, now))
}

// found gives a new cluster its identity and its first member.
func (r *reign) found() {
	if r.server {
		return
	}
	r.server = true
	r.t.goRun(func() {
		id := randomID()
		_, err := r.t.commit(&command{Found: &founding{ClusterID: id, RF: r.t.o.RF}, Members: []Member{r.t.self()}})
		if err != nil {
			r.log.Warn("cluster not founded", "error", err)
		} else {
			r.log.Info("cluster founded", "cluster", id)
		}
		r.serverDone()
	})
}

func (r *reign) serverDone() {
	r.mu.Lock()
	r.server = false
	r.mu.Unlock()
	r.t.kick()
}

// observe notes what changed since the last step.
func (c *Controller) observe(st *State, now time.Time, isDown func(string) bool) {
	for id, m := range st.Members {
		if m.Status == Removed {
			delete(c.down, id)
			delete(c.since, id)
			delete(c.status, id)
			delete(c.acted, id)
			continue
		}
		down := isDown(id)
		if was, known := c.down[id]; !known || was != down {
			c.down[id], c.since[id] = down, now
			switch {
			case down:
				c.log.Warn("a node is down", "peer", id)
				delete(c.status, id)
			case known:
				c.log.Info("a node is back", "peer", id)
			}
		}
	}
	for i := range st.Groups {
		if g := &st.Groups[i]; g.Epoch > c.epoch || c.groups[i].changed.IsZero() {
			c.groups[i].changed, c.groups[i].notServing = now, time.Time{}
		}
	}
	c.epoch = st.Epoch
	if now.Sub(c.mark.at) >= time.Second {
		c.settled, c.mark = c.mark.epoch, epochMark{st.Epoch, now}
	}
}

// retarget recomputes where everything belongs once membership has been unchanged for a while. Until it changes again
// the target stays, however far the moves are.
func (c *Controller) retarget(st *State, servers map[string]server, now time.Time) {
	key, members := fmt.Sprint(st.RF), []ring.Member(nil)
	for _, id := range sortedIDs(st.Members) {
		m := st.Members[id]
		if _, in := servers[id]; !in || m.Status == Removed {
			continue
		}
		key += fmt.Sprintf(" %q %q %s", id, m.Zone, m.Status)
		members = append(members, ring.Member{ID: id, Zone: m.Zone, Draining: m.Status != Up})
	}
	if key == c.targetKey {
		c.wantKey = key
		return
	}
	if key != c.wantKey {
		c.wantKey, c.wantSince = key, now
	}
	if st.Groups[0].Term != 0 && now.Sub(c.wantSince) < c.timing.Rebalance {
		return
	}
	prev := make([]ring.Placement, ring.Groups)
	for i := range st.Groups {
		g := &st.Groups[i]
		prev[i].Replicas = g.Replicas
		if g.Next != nil {
			prev[i].Replicas = g.Next
		}
	}
	c.target, c.targetKey = ring.Assign(prev, members, st.RF), key
	if n := idle(c.target, members); n > 0 {
		c.log.Warn("more nodes than the placement has use for: some hold no data and only pass commands on",
			"nodes", len(members), "without_data", n, "groups", ring.Groups, "replicas", st.RF)
	}
}

// idle counts the members that get nothing, those that are going left out.
func idle(target []ring.Placement, members []ring.Member) (n int) {
	holds := map[string]bool{}
	for i := range target {
		for _, id := range target[i].Replicas {
			holds[id] = true
		}
	}
	for _, m := range members {
		n += boolInt(!m.Draining && !holds[m.ID])
	}
	return n
}

// due starts an errand that is not under way: at most one call per node, bounded, on its own goroutine.
func (r *reign) due(m map[string]*errand, node string, now time.Time, pace time.Duration, run func() bool) {
	e := m[node]
	if e == nil {
		e = &errand{}
		m[node] = e
	}
	if e.busy || now.Before(e.next) {
		return
	}
	e.busy = true
	r.t.goRun(func() {
		ok := run()
		r.mu.Lock()
		e.busy = false
		if ok || e.wait == 0 {
			e.wait = pace
		} else {
			e.wait = min(2*e.wait, 5*time.Second)
		}
		e.next = now.Add(e.wait)
		r.mu.Unlock()
	})
}

// questions lists what is to be asked of each primary and whose answers something waits for, and notes whether anything is
// moving.
func (c *Controller) questions(st *State) (lists map[string][]uint16, hot map[string]bool) {
	lists = map[string][]uint16{}
	for i := range st.Groups {
		if g := &st.Groups[i]; g.Primary != "" {
			lists[g.Primary] = append(lists[g.Primary], uint16(i))
		}
	}
	hot, moving := awaited(st, &c.groups)
	c.busy = moving
	return lists, hot
}

// poll asks the members how their primaries are: those that something waits for at the pace of Tick, the others at that of Poll.
func (r *reign) poll(st *State, now time.Time) {
	lists, hot := r.questions(st)
	slow := max(r.t.o.Timing.Poll, time.Duration(len(st.Members))*pollSpacing)
	for id, m := range st.Members {
		if m.Status == Removed || r.down[id] {
			continue
		}
		pace := slow
		if hot[id] {
			pace = r.t.o.Timing.Tick
		}
		seen := r.status[id].digest
		r.due(r.polls, id, now, pace, func() bool {
			var ans StatusAnswer
			asked := time.Now()
			if err := r.call(id, MethodStatus, StatusCall{Groups: lists[id], Seen: seen}, &ans); err != nil {
				return true // down() decides who is down; ask on at the same pace
			}
			r.ingest(id, asked, &ans)
			return true
		})
	}
}

// pollSpacing keeps the leader of a large cluster from polling more than a thousand times a second while nothing moves.
const pollSpacing = time.Millisecond

// awaited names the members whose status something waits for, and tells whether anything is moving: the primaries of groups
// whose replicas change or that do not serve, and who may become primary where there is none.
func awaited(st *State, groups *[ring.Groups]groupView) (hot map[string]bool, moving bool) {
	hot = map[string]bool{}
	first := st.Groups[0].Term != 0 && st.Groups[0].Run == "" // nobody has been primary yet
	for i := range st.Groups {
		g := &st.Groups[i]
		switch {
		case g.Primary == "" || first:
			for _, id := range replicasOf(g) {
				hot[id] = true
			}
			moving = true
		case g.Learner != "" || g.Next != nil || !groups[i].notServing.IsZero():
			hot[g.Primary], moving = true, true
		}
	}
	return hot, moving
}

func (r *reign) ingest(node string, asked time.Time, ans *StatusAnswer) {
	st := r.t.State()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.learn(st, node, asked, ans) {
		r.t.kick()
	}
}

// learn takes over a node's answer to MethodStatus, which was asked for at the given time. It tells whether there is
// anything new in it.
func (c *Controller) learn(st *State, node string, asked time.Time, ans *StatusAnswer) bool {
	ns := nodeStatus{asked: asked, run: ans.Run, epoch: ans.Epoch, digest: ans.Digest}
	old := c.status[node]
	same := ans.Digest != 0 && ans.Digest == old.digest
	if ns.groups = old.groups; !same {
		ns.groups = make(map[uint16]GroupStatus, len(ans.Groups))
		for _, g := range ans.Groups {
			ns.groups[g.Group] = g
		}
		if len(ans.Groups) == 0 {
			ns.digest = 0 // it left out what has been forgotten here meanwhile: ask for all of it
		}
	}
	c.status[node] = ns
	if d := c.acted[node]; d.run != ns.run || d.epoch < ns.epoch {
		c.acted[node] = deed{ns.run, ns.epoch}
	}
	for i := range st.Groups {
		g, gv := &st.Groups[i], &c.groups[i]
		if g.Primary != node || !asked.After(gv.changed) || g.Epoch > c.epoch {
			continue
		}
		gs, ok := ns.groups[uint16(i)]
		switch {
		case ok && gs.Serving && gs.Term == g.Term:
			gv.notServing, gv.tries = time.Time{}, 0
		case gv.notServing.IsZero():
			gv.notServing = asked
		}
	}
	return !same || old.run != ns.run
}

// call makes one bounded call; this node answers its own Prefix calls without the network.
func (r *reign) call(node, method string, in, out any) error {
	ctx, cancel := context.WithTimeout(r.ctx, r.t.o.Timing.Call)
	defer cancel()
	return r.t.call(ctx, node, method, in, out)
}

// execute sets a plan in motion.
func (r *reign) execute(a actions) {
	if len(a.elect) > 0 {
		for _, e := range a.elect {
			r.groups[e.group].busy = true
		}
		r.t.goRun(func() { r.elect(a.elect) })
	}
	if len(a.retire) > 0 {
		r.t.goRun(func() { r.retire(a.retire) })
	}
	if len(a.changes) > 0 {
		for _, ch := range a.changes {
			r.groups[ch.Group].busy = true
		}
		r.t.goRun(func() { r.change(a.changes) })
	}
	if a.server != nil && !r.server {
		r.server = true
		r.t.goRun(func() {
			if err := r.t.changeServer(*a.server); err != nil {
				r.log.Warn("raft configuration not changed", "peer", a.server.id, "error", err)
			}
			r.serverDone()
		})
	}
	if a.transfer && time.Since(r.transfer) > time.Second {
		r.transfer = time.Now()
		r.t.goRun(func() {
			if err := r.t.await(r.t.raft.raft.LeadershipTransfer()); err != nil {
				r.log.Warn("leadership not transferred", "error", err)
			}
		})
	}
}

func (r *reign) change(changes []groupChange) {
	if _, err := r.t.commit(&command{Groups: changes}); err != nil {
		r.log.Warn("change not committed", "groups", len(changes), "error", err)
	}
	r.mu.Lock()
	for _, ch := range changes {
		r.groups[ch.Group].busy = false
	}
	r.mu.Unlock()
	r.t.kick()
}

// retire takes drained members out.
func (r *reign) retire(ids []string) {
	err := r.t.updateMembers(func(st *State) []Member {
		out := retired(st, ids)
		for _, m := range out {
			r.log.Info("node drained and removed", "peer", m.ID)
		}
		return out
	})
	if err != nil {
		r.log.Warn("drained nodes not removed", "error", err)
	}
}

// changeServer makes one change of Raft's configuration.
func (t *Topology) changeServer(c serverChange) error {
	id, addr, wait := raft.ServerID(c.id), raft.ServerAddress(c.addr), 2*time.Second
	switch c.op {
	case addNonvoter:
		return t.await(t.raft.raft.AddNonvoter(id, addr, 0, wait))
	case addVoter:
		return t.await(t.raft.raft.AddVoter(id, addr, 0, wait))
	case demote:
		return t.await(t.raft.raft.DemoteVoter(id, 0, wait))
	default:
		return t.await(t.raft.raft.RemoveServer(id, 0, wait))
	}
}

// servers reads Raft's configuration.
func (t *Topology) servers() (map[string]server, bool) {
	f := t.raft.raft.GetConfiguration()
	if f.Error() != nil {
		return nil, false
	}
	out := map[string]server{}
	for _, s := range f.Configuration().Servers {
		out[string(s.ID)] = server{voter: s.Suffrage == raft.Voter, addr: string(s.Address)}
	}
	return out, true
}
