package topology

import (
	"context"
	"errors"
	"fmt"
	"time"
)

type helloAnswer struct {
	Member  Member `json:"member"`
	Cluster string `json:"cluster"`         // "": it belongs to none
	Blank   bool   `json:"blank,omitempty"` // it takes no part in Raft until it is told to join; see transport
}

type joinCall struct {
	Cluster string `json:"cluster"`
}

type nodeCall struct {
	Node string `json:"node"`
}

// nodeAnswer answers drain, handover and remove, how far the leader is, and changes of libraries and users.
type nodeAnswer struct {
	Done   bool   `json:"done"`
	Left   int    `json:"left"`             // groups
	Code   string `json:"code,omitempty"`   // why not
	Leader string `json:"leader,omitempty"` // with codeNotLeader: who is, as far as known
	// Of a change of libraries or users: the epoch that has it and how many users it deleted, or why it was refused.
	Epoch   uint64 `json:"epoch,omitempty"`
	Deleted int    `json:"deleted,omitempty"`
	Problem string `json:"problem,omitempty"`
	Name    octets `json:"name,omitempty"`
}

const (
	codeNotLeader = "not-leader"
	codeUnknown   = "unknown-node"
	codeLast      = "last-node"
	codeAlive     = "alive"
	codeNeeded    = "needed" // by as many groups as Left says
)

// Handle answers a call from node from whose method begins with Prefix.
func (t *Topology) Handle(ctx context.Context, from, method string, payload []byte) ([]byte, error) {
	if t.ctx.Err() != nil {
		return nil, ErrClosed
	}
	switch method {
	case methodHello:
		return Encode(helloAnswer{Member: t.self(), Cluster: t.cluster(), Blank: t.raft.transport.blank.Load()}), nil
	case methodGrant:
		return Encode(t.handleGrant(from)), nil
	case methodJoin:
		var c joinCall
		if err := Decode(payload, &c); err != nil {
			return nil, err
		}
		if err := t.bind(c.Cluster); err != nil {
			t.log.Warn("refused to join a cluster", "cluster", c.Cluster, "leader", from, "error", err)
			return nil, err
		}
		t.raft.transport.blank.Store(false)
		return Encode(struct{}{}), nil
	case methodDrain, methodHandover, methodRemove:
		var c nodeCall
		if err := Decode(payload, &c); err != nil {
			return nil, err
		}
		ans, err := t.leave(method, c.Node)
		if err != nil {
			return nil, err
		}
		return Encode(ans), nil
	case methodLibraries:
		var c LibraryChange
		return t.handleChange(payload, &command{Libraries: &c}, &c)
	case methodUsers:
		var c UserChange
		return t.handleChange(payload, &command{Users: &c}, &c)
	case methodReached:
		var c reachedCall
		if err := Decode(payload, &c); err != nil {
			return nil, err
		}
		return Encode(struct{}{}), t.told.await(ctx, c.Epoch)
	}
	return nil, fmt.Errorf("topology: unknown method %q", method)
}

// greet says hello to nodes that are not members yet, and to members that seem to have changed.
func (r *reign) greet(st *State, now time.Time) {
	r.t.mu.Lock()
	known := make(map[string]Member, len(r.t.discovered))
	for id, m := range r.t.discovered {
		known[id] = m
	}
	r.t.mu.Unlock()
	known[r.t.o.NodeID] = r.t.self()
	for id, m := range st.Members {
		if _, ok := known[id]; !ok && m.Status != Removed {
			known[id] = Member{ID: id}
		}
	}
	for id, seen := range known {
		m, member := st.Members[id]
		if member && m.Status != Removed && !differs(m, seen, r.status[id].run) || r.t.down(id) {
			continue
		}
		r.due(r.hellos, id, now, time.Second, func() bool { return r.hello(id) })
	}
}

// differs reports whether what was seen of a member is not what the state says. Nothing seen is no difference.
func differs(m, seen Member, run string) bool {
	return seen.Addr != "" && seen.Addr != m.Addr || seen.RESPAddr != "" && seen.RESPAddr != m.RESPAddr ||
		seen.HTTPAddr != "" && seen.HTTPAddr != m.HTTPAddr || seen.GossipAddr != "" && seen.GossipAddr != m.GossipAddr ||
		seen.Zone != "" && seen.Zone != m.Zone || run != "" && run != m.Run || seen.Run != "" && seen.Run != m.Run
}

// hello asks a node who it is, and makes or keeps it a member if it is one of ours or nobody's.
func (r *reign) hello(id string) bool {
	var ans helloAnswer
	if err := r.call(id, methodHello, struct{}{}, &ans); err != nil || ans.Member.ID != id {
		r.warnOnce(id, "node does not answer properly", "error", err, "id", ans.Member.ID)
		return false
	}
	st := r.t.State()
	old, known := st.Members[id]
	switch {
	case ans.Cluster != "" && ans.Cluster != st.ClusterID:
		r.warnOnce(id, "node belongs to another cluster: not taken in", "cluster", ans.Cluster, "ours", st.ClusterID)
		return false
	case known && old.Status == Removed && old.Run == ans.Member.Run:
		return true // drained, not restarted: it is on its way out
	case ans.Cluster == "" || ans.Blank:
		if known && old.Run != ans.Member.Run && id != r.t.o.NodeID && !r.forget(id) {
			return false
		}
		if err := r.call(id, methodJoin, joinCall{st.ClusterID}, &struct{}{}); err != nil {
			r.warnOnce(id, "node does not join", "error", err)
			return false
		}
	}
	err := r.t.updateMembers(func(st *State) []Member {
		return []Member{welcomed(st, ans.Member)}
	})
	if err != nil {
		r.log.Warn("member not committed", "peer", id, "error", err)
		return false
	}
	r.log.Info("member", "peer", id, "addr", ans.Member.Addr, "zone", ans.Member.Zone, "known", known)
	return true
}

// forget takes a member that has lost its disk out of Raft's configuration: its log and its vote are gone, so it has to
// come back as a new server.
func (r *reign) forget(id string) bool {
	r.log.Warn("member has lost its data: it starts over", "peer", id)
	if err := r.t.changeServer(serverChange{op: remove, id: id}); err != nil {
		r.log.Warn("raft configuration not changed", "peer", id, "error", err)
		return false
	}
	return true
}

// warnOnce logs a message about a node unless it was the last one about it.
func (r *reign) warnOnce(id, msg string, args ...any) {
	r.mu.Lock()
	repeated := r.warned[id] == msg
	r.warned[id] = msg
	r.mu.Unlock()
	if !repeated {
		r.log.Warn(msg, append([]any{"peer", id}, args...)...)
	}
}

// leave is the leader's side of Drain and Handover: it notes the wish, once, and answers how much is left to do.
func (t *Topology) leave(method, id string) (nodeAnswer, error) {
	r := t.reign.Load()
	if r == nil || !t.IsLeader() {
		return nodeAnswer{Code: codeNotLeader, Leader: t.Leader()}, nil
	}
	r.mu.Lock()
	ready := r.ready
	r.mu.Unlock()
	st := t.State()
	m, ok := st.Members[id]
	switch {
	case !ready:
		return nodeAnswer{Code: codeNotLeader}, nil
	case !ok:
		return nodeAnswer{Code: codeUnknown}, nil
	case m.Status == Removed:
		return nodeAnswer{Done: true}, nil
	case method == methodDrain:
		return t.drainStep(id)
	case method == methodRemove:
		return t.removeStep(st, id)
	}
	return t.handoverStep(id)
}

// removeStep drains a member that is down. Groups that could not go on without it would keep it for ever, so it is not
// touched while there are any.
func (t *Topology) removeStep(st *State, id string) (nodeAnswer, error) {
	if st.Members[id].Status == Up {
		if !t.down(id) {
			return nodeAnswer{Code: codeAlive}, nil
		}
		if n := t.needing(st, id); n > 0 {
			return nodeAnswer{Code: codeNeeded, Left: n}, nil
		}
	}
	return t.drainStep(id)
}

// needing counts the groups of id that have no live majority.
func (t *Topology) needing(st *State, id string) (n int) {
	live := func(r string) bool { return r != id && !t.down(r) }
	for i := range st.Groups {
		if g := &st.Groups[i]; g.Holds(id) && (!majority(g.Replicas, live) || g.Next != nil && !majority(g.Next, live)) {
			n++
		}
	}
	return n
}

func (t *Topology) drainStep(id string) (nodeAnswer, error) {
	last := false
	err := t.updateMembers(func(st *State) (change []Member) {
		change, last = drained(st, id)
		return change
	})
	if err != nil {
		return nodeAnswer{}, err
	}
	if last {
		return nodeAnswer{Code: codeLast}, nil
	}
	return nodeAnswer{Left: holdings(t.State(), id)}, nil
}

func (t *Topology) handoverStep(id string) (nodeAnswer, error) {
	err := t.updateMembers(func(st *State) []Member { return leaving(st, id) })
	if err != nil {
		return nodeAnswer{}, err
	}
	st, left := t.State(), 0
	for i := range st.Groups {
		left += boolInt(t.owes(st, &st.Groups[i], id))
	}
	if left == 0 && id == t.o.NodeID {
		t.stepDown()
	}
	return nodeAnswer{Done: left == 0, Left: left}, nil
}

// owes reports whether the group's primary has yet to move away from id, and can.
func (t *Topology) owes(st *State, g *Group, id string) bool {
	if g.Primary != id && (g.Primary != "" || !g.Holds(id)) {
		return false
	}
	for _, o := range replicasOf(g) {
		if m := st.Members[o]; o != id && !t.down(o) && !m.Leaves() && m.Status == Up {
			return majority(g.Replicas, func(r string) bool { return !t.down(r) })
		}
	}
	return false
}

// stepDown hands the leadership to another voter, if there is one.
func (t *Topology) stepDown() {
	servers, ok := t.servers()
	if !ok || !otherVoter(&view{self: t.o.NodeID, servers: servers, down: nil}) {
		return
	}
	if err := t.await(t.raft.raft.LeadershipTransfer()); err != nil {
		t.log.Warn("leadership not transferred", "error", err)
	}
}

// Drain makes a member give up everything it holds and takes it out of the cluster. It returns when that is done; ctx
// bounds the waiting, not the drain, which goes on. Any node can be asked. ErrLastNode, ErrUnknownNode, ErrNoLeader.
func (t *Topology) Drain(ctx context.Context, node string) error {
	if err := t.wish(ctx, methodDrain, node); err != nil {
		return fmt.Errorf("drain %s: %w", node, err)
	}
	return nil
}

// Remove takes a member that is down, and is not expected to come back, out of the cluster: its replicas are made anew
// on others from the copies that are left. It waits as Drain does. A process of that node that comes back all the same
// joins as a new member. ErrAlive, ErrNeeded, ErrLastNode, ErrUnknownNode, ErrNoLeader; nothing was changed then.
func (t *Topology) Remove(ctx context.Context, node string) error {
	if err := t.wish(ctx, methodRemove, node); err != nil {
		return fmt.Errorf("remove %s: %w", node, err)
	}
	return nil
}

// Handover moves the primaries of a member that is about to stop to other replicas; it keeps its placement. Groups
// without another live replica stay. If the member leads the Raft group, the leadership is handed over too. The member
// gets primaries again when its process has been replaced, not before.
func (t *Topology) Handover(ctx context.Context, node string) error {
	if err := t.wish(ctx, methodHandover, node); err != nil {
		return fmt.Errorf("hand over %s: %w", node, err)
	}
	return nil
}

// wish tells the leader, whoever that is at the moment, again and again until it says that it is done.
func (t *Topology) wish(ctx context.Context, method, node string) error {
	tick := time.NewTicker(t.o.Timing.Tick)
	defer tick.Stop()
	reached := false
	for {
		ans, err := t.askLeader(ctx, method, nodeCall{node})
		reached = reached || err == nil
		if errors.Is(err, ErrNoLeader) && method == methodHandover && t.outvoted() {
			return ErrNoLeader
		}
		if err == nil {
			switch {
			case ans.Done:
				return nil
			case ans.Code == codeUnknown:
				return ErrUnknownNode
			case ans.Code == codeLast:
				return ErrLastNode
			case ans.Code == codeAlive:
				return ErrAlive
			case ans.Code == codeNeeded:
				return fmt.Errorf("%w in %d groups: start more of the nodes that hold them", ErrNeeded, ans.Left)
			}
		}
		select {
		case <-ctx.Done():
			if !reached {
				return fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
			}
			return fmt.Errorf("%d groups left: %w", ans.Left, ctx.Err())
		case <-t.ctx.Done():
			return ErrClosed
		case <-tick.C:
		}
	}
}

// outvoted reports whether a majority of the voters is down, so that nobody can lead and waiting is vain.
func (t *Topology) outvoted() bool {
	servers, ok := t.servers()
	voters, down := 0, 0
	for id, s := range servers {
		if s.voter {
			voters++
			down += boolInt(t.down(id))
		}
	}
	return ok && 2*down >= voters
}

// askLeader makes one call to the leader. A node that was removed hears no more from Raft, so the members it knows are
// asked, too. ErrNoLeader, and ErrUnknownOutcome where somebody was asked who did not answer.
func (t *Topology) askLeader(ctx context.Context, method string, in any) (nodeAnswer, error) {
	tried, none := map[string]bool{}, ErrNoLeader
	todo := append([]string{t.Leader()}, sortedIDs(t.State().Members)...)
	for len(todo) > 0 {
		id := todo[0]
		todo = todo[1:]
		if id == "" || tried[id] || t.down(id) {
			continue
		}
		tried[id] = true
		var ans nodeAnswer
		cctx, cancel := context.WithTimeout(ctx, applyTimeout+t.o.Timing.Call)
		err := t.call(cctx, id, method, in, &ans)
		cancel()
		if err == nil && ans.Code != codeNotLeader {
			return ans, nil
		}
		var unsent interface{ NotSent() bool }
		if err != nil && (!errors.As(err, &unsent) || !unsent.NotSent()) {
			none = fmt.Errorf("%w: %w", ErrNoLeader, ErrUnknownOutcome)
		}
		todo = append([]string{ans.Leader}, todo...)
	}
	return nodeAnswer{}, none
}
