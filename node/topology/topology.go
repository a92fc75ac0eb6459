package topology

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/raft"
)

// applyTimeout bounds the wait for Raft to accept a command; the commit itself ends with the leadership at the latest.
const applyTimeout = 2 * time.Second

// Topology is this node's part in the cluster's configuration. Its methods are safe for concurrent use.
type Topology struct {
	o    Options
	log  *slog.Logger
	fsm  *fsm
	raft *consensus

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	kicks   chan struct{} // wakes run; holds one
	changes chan struct{} // wakes dispatch; holds one

	memberMu sync.Mutex // serializes this node's read-and-commit of members
	reign    atomic.Pointer[reign]
	replayed atomic.Bool // the state is at least as new as the one that this node acted on before it was restarted
	unheard  *State      // what subscribers are told before
	told     told
	trimming atomic.Bool // the log is being compacted

	mu         sync.Mutex
	closed     bool
	running    sync.WaitGroup
	subs       []*subscriber
	discovered map[string]Member
	identity   identity
	fresh      bool // no Raft state yet
	grant      grant
	asking     time.Time // no new round of asking for grants before
}

type subscriber struct {
	fn   func(*State)
	seen *State
	gone atomic.Bool
}

// Open starts the node's part: it reads the Raft state in DataDir, founds or waits for a cluster, and returns at once.
func Open(o Options) (*Topology, error) {
	if err := o.complete(); err != nil {
		return nil, err
	}
	if err := os.MkdirAll(o.DataDir, 0o750); err != nil {
		return nil, fmt.Errorf("open topology: %w", err)
	}
	id, err := readIdentity(o.DataDir)
	if err != nil {
		return nil, err
	}
	if err := id.check(o.DataDir, o.NodeID); err != nil {
		return nil, fmt.Errorf("open topology: %w", err)
	}
	id.NodeID = o.NodeID
	if err := id.started(o.DataDir, o.Self.Run, o.Was); err != nil {
		return nil, fmt.Errorf("open topology: %w", err)
	}
	t := &Topology{
		o: o, log: o.Logger, identity: id, discovered: map[string]Member{},
		kicks: make(chan struct{}, 1), changes: make(chan struct{}, 1), unheard: emptyState(),
	}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	t.fsm = newFSM(func() { wake(t.changes); wake(t.kicks) })
	if t.raft, err = openConsensus(&t.o, t.fsm, t.addressOf); err != nil {
		t.cancel()
		return nil, fmt.Errorf("open topology: %w", err)
	}
	t.fresh = t.raft.fresh
	if t.fresh && id.ClusterID == "" && (o.BootstrapExpect == 0 || o.BootstrapExpect == 1) {
		if err := t.foundHere(); err != nil {
			return nil, errors.Join(err, t.Close())
		}
	}
	t.goRun(t.run)
	t.goRun(t.dispatch)
	return t, nil
}

func (o *Options) complete() error {
	if o.NodeID == "" || o.DataDir == "" || o.Stream == nil || o.Network == nil {
		return errors.New("open topology: NodeID, DataDir, Stream and Network are required")
	}
	o.Self.ID, o.Self.Status, o.Self.Leaving = o.NodeID, Up, ""
	if o.Self.Run == "" {
		o.Self.Run = randomID()
	}
	if o.Self.Addr == "" {
		o.Self.Addr = o.Stream.Addr().String()
	}
	if o.RF <= 0 {
		o.RF = 3
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Timing.complete()
	return nil
}

func (tm *Timing) complete() {
	tm.Heartbeat = cmp.Or(tm.Heartbeat, 500*time.Millisecond)
	tm.LeaderLease = min(cmp.Or(tm.LeaderLease, tm.Heartbeat/2), tm.Heartbeat)
	tm.Commit = cmp.Or(tm.Commit, 150*time.Millisecond)
	tm.Tick = cmp.Or(tm.Tick, 50*time.Millisecond)
	tm.Call = cmp.Or(tm.Call, 500*time.Millisecond)
	tm.Poll = cmp.Or(tm.Poll, 200*time.Millisecond)
	tm.FenceGrace = cmp.Or(tm.FenceGrace, 100*time.Millisecond)
	tm.NotServing = cmp.Or(tm.NotServing, 300*time.Millisecond)
	tm.PrimaryReturn = cmp.Or(tm.PrimaryReturn, 5*time.Second)
	tm.Rebalance = cmp.Or(tm.Rebalance, 500*time.Millisecond)
	tm.VoterDelay = cmp.Or(tm.VoterDelay, 2*time.Second)
	tm.AbortAfter = cmp.Or(tm.AbortAfter, 5*time.Second)
	tm.MaxMoves = cmp.Or(tm.MaxMoves, 16)
}

func randomID() string {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

func (t *Topology) kick() { wake(t.kicks) }

// goRun runs fn on a goroutine that Close waits for. After Close it does nothing.
func (t *Topology) goRun(fn func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.running.Go(fn)
	}
}

// Close stops the controller and Raft, and closes the stream. It hands nothing over: see Handover.
func (t *Topology) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return nil
	}
	t.closed = true
	t.mu.Unlock()
	t.cancel()
	err := t.raft.close() // before waiting: it ends whatever waits for a commit
	t.running.Wait()
	if err != nil {
		return fmt.Errorf("close topology: %w", err)
	}
	return nil
}

// run is the control loop: lead while Raft says so, else see whether there is a cluster to be founded.
func (t *Topology) run() {
	tick := time.NewTicker(t.o.Timing.Tick)
	defer tick.Stop()
	var r *reign
	var term uint64
	leader, kicked, watching := "", true, true
	for {
		leader = t.noteLeader(leader)
		leads := t.raft.raft.State() == raft.Leader
		if r != nil && (!leads || t.raft.raft.CurrentTerm() != term) {
			r.cancel()
			r = nil
		}
		if leads && r == nil {
			term, r = t.raft.raft.CurrentTerm(), newReign(t)
		}
		t.reign.Store(r)
		t.trim()
		switch {
		case r == nil:
			t.tryFounding()
		case kicked || r.timely(time.Now()):
			r.step()
		}
		if watch := r != nil || t.mayFound(); watch != watching {
			watching = watch // others have nothing to look at: what concerns them comes as a kick
			tick.Reset(t.o.Timing.Tick << (2 * boolInt(!watch)))
		}
		select {
		case <-t.ctx.Done():
			if r != nil {
				r.cancel()
			}
			return
		case <-t.raft.notify:
			kicked = true
		case <-t.kicks:
			kicked = true
		case <-tick.C:
			kicked = false
		}
	}
}

// noteLeader says once when somebody else leads, or nobody does any more.
func (t *Topology) noteLeader(was string) string {
	now := t.Leader()
	switch {
	case now == was:
	case now != "":
		t.log.Info("topology has a leader", "leader", now)
	default:
		t.log.Warn("topology has no leader: nothing about it can change until there is one", "before", was)
	}
	return now
}

// replayEvery is how often is looked whether the log has been replayed; see isReplayed.
const replayEvery = 100 * time.Millisecond

// dispatch tells the subscribers, and keeps the identity file up to date.
func (t *Topology) dispatch() {
	look := time.NewTicker(replayEvery)
	defer look.Stop()
	for {
		select {
		case <-t.ctx.Done():
			return
		case <-t.changes:
		case <-look.C:
		}
		st := t.State()
		if st.ClusterID != "" {
			if err := t.bind(st.ClusterID); err != nil {
				t.log.Error("cluster identity not kept", "error", err)
			}
		}
		if t.isReplayed() {
			look.Stop()
		} else {
			st = t.unheard
		}
		t.mu.Lock()
		subs := append([]*subscriber(nil), t.subs...)
		t.mu.Unlock()
		for _, s := range subs {
			if s.seen != st && !s.gone.Load() {
				s.seen = st
				s.fn(st)
			}
		}
		t.told.note(st.Epoch)
	}
}

// isReplayed tells whether the state is one to act on. After a restart Raft goes through the log once more, and its early states
// are history: a subscriber that gave up a group because it once had moved away would lose what came back since. What this
// node acted on before was committed, so it is in the log that it started with; entries of that log that a leader has cut off
// were not. Only dispatch calls it.
func (t *Topology) isReplayed() bool {
	if t.replayed.Load() {
		return true
	}
	applied := t.fsm.index.Load() // before the log is looked at, which may be cut and grow again meanwhile
	target, err := t.raft.lastCommand(min(t.raft.last, t.raft.raft.LastIndex()))
	if err != nil {
		t.log.Error("cannot tell how far the topology has to be replayed", "error", err)
		return false
	}
	if applied >= target {
		t.replayed.Store(true)
	}
	return t.replayed.Load()
}

// State returns the newest state applied here. Never nil; empty until a leader was heard of.
func (t *Topology) State() *State { return t.fsm.state.Load() }

// Run returns the incarnation of this process.
func (t *Topology) Run() string { return t.o.Self.Run }

func (t *Topology) self() Member { return t.o.Self }

func (t *Topology) down(id string) bool { return id != t.o.NodeID && t.o.Network.Down(id) }

// Subscribe calls fn with the present state and then after every change, in order, leaving out states that a newer one
// has replaced meanwhile. Calls never overlap, also between subscribers: fn must not block for long.
// After cancel no new call begins.
func (t *Topology) Subscribe(fn func(*State)) (cancel func()) {
	s := &subscriber{fn: fn}
	t.mu.Lock()
	t.subs = append(t.subs, s)
	t.mu.Unlock()
	wake(t.changes)
	return func() {
		s.gone.Store(true)
		t.mu.Lock()
		defer t.mu.Unlock()
		for i := range t.subs {
			if t.subs[i] == s {
				t.subs = append(t.subs[:i:i], t.subs[i+1:]...)
				return
			}
		}
	}
}

// Leader returns the id of the Raft leader as far as known here, or "".
func (t *Topology) Leader() string {
	_, id := t.raft.raft.LeaderWithID()
	return string(id)
}

// IsLeader reports whether this node leads.
func (t *Topology) IsLeader() bool { return t.raft.raft.State() == raft.Leader }

// Discovered tells which nodes gossip knows of, this one included. The list replaces the one before.
func (t *Topology) Discovered(members []Member) {
	list := make(map[string]Member, len(members))
	for _, m := range members {
		if m.ID != "" {
			list[m.ID] = m
		}
	}
	t.mu.Lock()
	t.discovered = list
	t.mu.Unlock()
	t.kick()
}

// addressOf finds a node's present address: its owner's word, then gossip's, then the committed one.
func (t *Topology) addressOf(id string) (string, bool) {
	if t.o.Resolve != nil {
		if addr, ok := t.o.Resolve(id); ok && addr != "" {
			return addr, true
		}
	}
	t.mu.Lock()
	m := t.discovered[id]
	t.mu.Unlock()
	if m.Addr == "" {
		m = t.State().Members[id]
	}
	return m.Addr, m.Addr != ""
}

// Ready reports how far node is.
func (t *Topology) Ready(node string) Progress {
	st := t.State()
	m, ok := st.Members[node]
	p := Progress{Leader: t.Leader() != "", Member: ok && m.Status != Removed, Assigned: true}
	if servers, ok := t.servers(); ok {
		v := view{servers: servers}
		p.Fragile = Fragile(st, v.voters())
	}
	for i := range st.Groups {
		g := &st.Groups[i]
		p.Assigned = p.Assigned && g.Term > 0
		if !g.Holds(node) {
			continue
		}
		p.Replicas++
		p.Electing += boolInt(g.Primary == "")
		p.Primaries += boolInt(g.Primary == node)
		p.Moving += boolInt(g.Next != nil || g.Learner != "")
	}
	return p
}

// commit brings a command through Raft. When it returns, the command is applied here.
func (t *Topology) commit(c *command) (applied, error) {
	c.Version = c.version()
	b, err := json.Marshal(c)
	if err != nil {
		return applied{}, fmt.Errorf("encode command: %w", err)
	}
	f := t.raft.raft.Apply(b, applyTimeout)
	if err := t.await(f); err != nil {
		return applied{}, fmt.Errorf("commit: %w", err)
	}
	res, ok := f.Response().(applied)
	if !ok {
		return applied{}, fmt.Errorf("commit: unexpected answer %T", f.Response())
	}
	if res.err != nil {
		return applied{}, fmt.Errorf("commit: %w", res.err)
	}
	t.spread()
	return res, nil
}

// spread lets the followers learn at once what is committed: Raft tells them with the next entry, or after
// Timing.Commit, which is long so that an idle cluster is quiet.
func (t *Topology) spread() {
	t.goRun(func() { _ = t.await(t.raft.raft.Barrier(applyTimeout)) }) // a leader that lost its place spreads nothing
}

// await waits for a Raft future, or for Close: Raft forgets futures whose entry was committed but not applied when it
// shuts down, and their Error then blocks for ever.
func (t *Topology) await(f raft.Future) error {
	done := make(chan error, 1)
	go func() { done <- f.Error() }() // owned by Raft; outlives Close only if Raft forgot the future
	select {
	case err := <-done:
		return err
	case <-t.ctx.Done():
		return ErrClosed
	}
}

// updateMembers commits what change makes of the present members. Changes on this node do not overlap.
func (t *Topology) updateMembers(change func(*State) []Member) error {
	t.memberMu.Lock()
	defer t.memberMu.Unlock()
	members := change(t.State())
	if len(members) == 0 {
		return nil
	}
	_, err := t.commit(&command{Members: members})
	return err
}

// call makes a call. One of our own methods on this node does not need the network, which may not be up yet.
func (t *Topology) call(ctx context.Context, node, method string, in, out any) error {
	var b []byte
	var err error
	if node == t.o.NodeID && strings.HasPrefix(method, Prefix) {
		b, err = t.Handle(ctx, node, method, Encode(in))
	} else {
		b, err = t.o.Network.Call(ctx, node, method, Encode(in))
	}
	if err != nil {
		return err
	}
	return Decode(b, out)
}
