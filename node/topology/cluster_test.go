package topology

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/raft"

	"hypercache/node/ring"
)

// patience bounds every wait on a condition; a loaded machine gets all of it.
const patience = 30 * time.Second

// fabric is an in-process network of fake nodes: real Raft over loopback TCP, and replicas that are only the model of
// one: a promise and a head per group.
type fabric struct {
	t  *testing.T
	mu sync.Mutex
	// nodes that run, by id; a node that is not here is down
	nodes map[string]*fakeNode
	disks map[string]*fakeDisk
	acked [ring.Groups]Position
}

// fakeDisk is what survives a restart.
type fakeDisk struct {
	dir    string
	fails  atomic.Pointer[error] // unless nil, what comes of writes of Raft's log
	ended  atomic.Pointer[error] // what Options.Fatal was told first
	groups [ring.Groups]fakeReplica
}

type fakeReplica struct {
	promised uint64
	head     Position
	unclean  bool // not a voter
}

type fakeNode struct {
	f    *fabric
	id   string
	disk *fakeDisk
	top  *Topology
	mute bool // its replicas do not serve
}

type tcpStream struct{ net.Listener }

func (s tcpStream) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return net.DialTimeout("tcp", string(addr), timeout)
}

func newFabric(t *testing.T) *fabric {
	f := &fabric{t: t, nodes: map[string]*fakeNode{}, disks: map[string]*fakeDisk{}}
	t.Cleanup(func() {
		for _, id := range f.ids() {
			f.kill(id)
		}
	})
	return f
}

func (f *fabric) ids() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return sortedIDs(f.nodes)
}

func (f *fabric) node(id string) *fakeNode {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.nodes[id]
}

func testTiming() Timing {
	return Timing{
		Tick: 20 * time.Millisecond, Poll: 50 * time.Millisecond, Call: 2 * time.Second, PrimaryReturn: 300 * time.Millisecond,
		Rebalance: 100 * time.Millisecond, VoterDelay: 100 * time.Millisecond, MaxMoves: 64,
		NotServing: 500 * time.Millisecond,
	}
}

// start starts a node, on the disk that an earlier one of its id left.
func (f *fabric) start(id string, expect int) *fakeNode {
	f.t.Helper()
	f.mu.Lock()
	disk := f.disks[id]
	if disk == nil {
		disk = &fakeDisk{dir: filepath.Join(f.t.TempDir(), id)}
		f.disks[id] = disk
	}
	f.mu.Unlock()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.t.Fatal(err)
	}
	n := &fakeNode{f: f, id: id, disk: disk}
	var log *slog.Logger
	if os.Getenv("TOPOLOGY_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("on", id)
	}
	f.mu.Lock()
	f.nodes[id] = n
	f.mu.Unlock()
	wrap := func(s raft.LogStore) raft.LogStore { return &faultyLog{LogStore: s, disk: disk} }
	top, err := Open(Options{
		wrapLog: wrap, Fatal: func(err error) { disk.ended.CompareAndSwap(nil, &err) },
		NodeID: id, DataDir: disk.dir, Stream: tcpStream{l}, Network: n, BootstrapExpect: expect, RF: 3, Timing: testTiming(),
		Self: Member{Zone: "z" + id[len(id)-1:]}, Logger: log,
	})
	if err != nil {
		f.t.Fatal(err)
	}
	f.mu.Lock()
	n.top = top
	f.mu.Unlock()
	return n
}

// meet lets the nodes discover each other.
func (f *fabric) meet(ids ...string) {
	var ms []Member
	for _, id := range ids {
		if n := f.node(id); n != nil {
			ms = append(ms, n.top.self())
		}
	}
	for _, id := range ids {
		if n := f.node(id); n != nil {
			n.top.Discovered(ms)
		}
	}
}

// kill stops a node without warning the others.
func (f *fabric) kill(id string) {
	f.mu.Lock()
	n := f.nodes[id]
	delete(f.nodes, id)
	f.mu.Unlock()
	if n != nil && n.top != nil {
		if err := n.top.Close(); err != nil {
			f.t.Errorf("close %s: %v", id, err)
		}
	}
}

// Down implements Network.
func (n *fakeNode) Down(id string) bool { return n.f.node(id) == nil }

// Call implements Network.
func (n *fakeNode) Call(ctx context.Context, node, method string, payload []byte) ([]byte, error) {
	to := n.f.node(node)
	n.f.mu.Lock()
	alive := n.f.nodes[n.id] == n
	ready := to != nil && to.top != nil
	n.f.mu.Unlock()
	if !alive || !ready {
		return nil, errors.New("connection refused")
	}
	switch method {
	case MethodFence:
		var c FenceCall
		if err := Decode(payload, &c); err != nil {
			return nil, err
		}
		return Encode(to.fence(c)), nil
	case MethodStatus:
		var c StatusCall
		if err := Decode(payload, &c); err != nil {
			return nil, err
		}
		return Encode(to.status(c)), nil
	}
	return to.top.Handle(ctx, n.id, method, payload)
}

func (n *fakeNode) fence(c FenceCall) FenceAnswer {
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	a := FenceAnswer{Run: n.top.Run()}
	for _, q := range c.Groups {
		g := &n.disk.groups[q.Group]
		ok := g.promised <= q.Term
		if ok {
			g.promised = q.Term
		}
		if g.head.Less(q.WaitFor) {
			g.head = q.WaitFor // the old primary's tail arrives
		}
		a.Groups = append(a.Groups, FenceReply{
			Group: q.Group, OK: ok, Promised: g.promised, HeadTerm: g.head.Term, HeadSeq: g.head.Seq, Voter: !g.unclean, LeaseMillis: 100,
		})
	}
	return a
}

func (n *fakeNode) status(c StatusCall) StatusAnswer {
	st := n.top.State()
	n.f.mu.Lock()
	defer n.f.mu.Unlock()
	a := StatusAnswer{Run: n.top.Run(), Epoch: n.top.State().Epoch}
	for _, i := range c.Groups {
		g := &st.Groups[i]
		s := GroupStatus{Group: i, Epoch: g.Epoch, Term: g.Term}
		s.Serving = !n.mute && g.Primary == n.id && g.Run == n.top.Run() && n.disk.groups[i].promised == g.Term
		s.JointReady = s.Serving && g.Next != nil
		for _, id := range append(replicasOf(g), g.Learner) {
			if id == "" || id == n.id || n.f.nodes[id] == nil {
				continue
			}
			// Whoever is alive follows at once.
			n.f.nodes[id].disk.groups[i].head = n.disk.groups[i].head
			s.Peers = append(s.Peers, PeerStatus{ID: id, CaughtUp: true})
		}
		a.Groups = append(a.Groups, s)
	}
	return a
}

// write appends to a group as its primary would: acknowledged once a majority of live replicas that promised no higher
// term (of Replicas, and of Next) has it. It reports whether it was.
func (f *fabric) write(st *State, i uint16) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	g := &st.Groups[i]
	p := f.nodes[g.Primary]
	if p == nil || p.disk.groups[i].promised != g.Term || p.top.Run() != g.Run {
		return false
	}
	head := Position{g.Term, p.disk.groups[i].head.Seq + 1}
	has := func(id string) bool {
		n := f.nodes[id]
		return n != nil && n.disk.groups[i].promised <= g.Term
	}
	if !majority(g.Replicas, has) || g.Next != nil && !majority(g.Next, has) {
		return false
	}
	for _, id := range replicasOf(g) {
		if has(id) {
			f.nodes[id].disk.groups[i].head = head
		}
	}
	if f.acked[i].Less(head) {
		f.acked[i] = head
	}
	return true
}

// checkNothingLost asserts that every primary has all that was acknowledged.
func (f *fabric) checkNothingLost(st *State) {
	f.t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range st.Groups {
		p := f.nodes[st.Groups[i].Primary]
		if p == nil {
			f.t.Fatalf("group %d: primary %q is not alive", i, st.Groups[i].Primary)
		}
		if h := p.disk.groups[i].head; h.Less(f.acked[i]) {
			f.t.Fatalf("group %d: primary %s is at %v, acknowledged is %v", i, p.id, h, f.acked[i])
		}
	}
}

// eventually waits for cond.
func (f *fabric) eventually(what string, cond func() bool) {
	f.t.Helper()
	deadline := time.Now().Add(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			for _, id := range f.ids() {
				n := f.node(id)
				st := n.top.State()
				f.t.Logf("%s: leader %q epoch %d members %v group0 %+v", id, n.top.Leader(), st.Epoch, st.Members, st.Groups[0])
			}
			f.t.Fatalf("timed out: %s", what)
		}
		<-tick.C
	}
}

// served reports whether node sees every group with a live primary of the running process, at rest, with rf replicas.
func (f *fabric) served(id string, rf int) bool {
	n := f.node(id)
	if n == nil {
		return false
	}
	st := n.top.State()
	for i := range st.Groups {
		g := &st.Groups[i]
		p := f.node(g.Primary)
		if p == nil || p.top.Run() != g.Run || len(g.Replicas) != rf || g.Next != nil || g.Learner != "" {
			return false
		}
	}
	return true
}

// settled is served, by members ids exactly, with every primary where the placement wants it.
func (f *fabric) settled(id string, rf int, ids ...string) bool {
	if !f.served(id, rf) {
		return false
	}
	st := f.node(id).top.State()
	holds := map[string]bool{}
	for i := range st.Groups {
		g := &st.Groups[i]
		if g.Primary != g.Replicas[0] {
			return false
		}
		for _, r := range g.Replicas {
			holds[r] = true
		}
	}
	return slices.Equal(sortedIDs(holds), ids)
}

func (f *fabric) leader() string {
	for _, id := range f.ids() {
		if f.node(id).top.IsLeader() {
			return id
		}
	}
	return ""
}

// three starts and settles a cluster of n1, n2, n3.
func (f *fabric) three() []string {
	f.t.Helper()
	ids := []string{"n1", "n2", "n3"}
	for _, id := range ids {
		f.start(id, 3)
	}
	f.meet(ids...)
	for _, id := range ids {
		f.eventually(id+" settles", func() bool { return f.settled(id, 3, ids...) })
	}
	f.eventually("three voters", func() bool { return f.voters() == 3 })
	return ids
}

func (f *fabric) voters() (n int) {
	l := f.leader()
	if l == "" {
		return 0
	}
	servers, _ := f.node(l).top.servers()
	for _, s := range servers {
		n += boolInt(s.voter)
	}
	return n
}

func (f *fabric) writeAll(id string) {
	f.t.Helper()
	st := f.node(id).top.State()
	for i := range st.Groups {
		if !f.write(st, uint16(i)) {
			f.t.Fatalf("group %d takes no write: %+v", i, st.Groups[i])
		}
	}
}

func TestALoneNodeServesAtOnce(t *testing.T) {
	f := newFabric(t)
	begin := time.Now()
	n := f.start("n1", 1)
	f.eventually("serves", func() bool { return f.served("n1", 1) })
	t.Logf("from Open to all primaries: %v", time.Since(begin))
	if p := n.top.Ready("n1"); !p.Ready() || p.Primaries != ring.Groups {
		t.Errorf("progress %+v", p)
	}
	if err := n.top.Drain(t.Context(), "n1"); !errors.Is(err, ErrLastNode) {
		t.Errorf("drain of the last node: %v", err)
	}
	if err := n.top.Handover(t.Context(), "n1"); err != nil {
		t.Errorf("handover with nobody there: %v", err)
	}
	f.kill("n1")
	begin = time.Now()
	f.start("n1", 1)
	f.eventually("serves again, in a new term", func() bool {
		return f.served("n1", 1) && f.node("n1").top.State().Groups[0].Term == 2
	})
	t.Logf("from restart to all primaries: %v", time.Since(begin))
}

func TestThreeNodesFoundOneClusterAndSurviveADeadPrimary(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	victim := ids[0]
	if victim == f.leader() {
		victim = ids[1]
	}
	begin := time.Now()
	f.kill(victim)
	l := f.leader()
	f.eventually("failover", func() bool { return f.served(l, 3) })
	t.Logf("dead primary, live leader: %v", time.Since(begin))
	st := f.node(l).top.State()
	f.checkNothingLost(st)
	if _, in := st.Members[victim]; !in || st.Members[victim].Status != Up {
		t.Error("a crash was taken for a departure")
	}
	f.writeAll(l)
	f.start(victim, 3)
	f.meet(ids...)
	f.eventually("primaries return", func() bool { return f.settled(l, 3, ids...) })
	f.checkNothingLost(f.node(l).top.State())
}

func TestNothingIsCommittedWhileNothingChanges(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	top := f.node(f.leader()).top
	r := top.reign.Load()
	asked := func(id string) time.Time {
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.status[id].asked
	}
	index := top.raft.raft.LastIndex()
	for range 10 { // polls of every node
		for _, id := range ids {
			last := asked(id)
			f.eventually("another poll", func() bool { return asked(id).After(last) })
		}
	}
	if now := top.raft.raft.LastIndex(); now != index {
		t.Errorf("the log grew from %d to %d", index, now)
	}
}

func TestAStateIsRestoredFromItsSnapshot(t *testing.T) {
	f := newFabric(t)
	n := f.start("n1", 1)
	f.eventually("serves", func() bool { return f.served("n1", 1) })
	if err := n.top.raft.raft.Snapshot().Error(); err != nil {
		t.Fatal(err)
	}
	want := n.top.State()
	f.kill("n1")
	f.start("n1", 1)
	f.eventually("serves again", func() bool { return f.served("n1", 1) })
	if st := f.node("n1").top.State(); st.ClusterID != want.ClusterID || st.Epoch <= want.Epoch || st.Groups[5].Term != 2 {
		t.Errorf("epoch %d, term %d", st.Epoch, st.Groups[5].Term)
	}
}

func TestADirectoryOfAnotherNodeIsRefused(t *testing.T) {
	f := newFabric(t)
	f.start("n1", 1)
	f.eventually("the identity is kept", func() bool { return f.node("n1").top.cluster() != "" })
	f.kill("n1")
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	top, err := Open(Options{NodeID: "n2", DataDir: f.disks["n1"].dir, Stream: tcpStream{l}, Network: &fakeNode{f: f, id: "n2"}})
	if err == nil {
		t.Errorf("opened; close: %v", top.Close())
	}
}

func TestADeadLeaderThatHeldPrimariesIsReplaced(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n2")
	l := f.leader()
	other := ids[(slices.Index(ids, l)+1)%3]
	begin := time.Now()
	f.kill(l)
	f.eventually("failover", func() bool { return f.served(other, 3) })
	t.Logf("dead leader with primaries: %v", time.Since(begin))
	f.checkNothingLost(f.node(other).top.State())
}

func TestARestartedPrimaryIsElectedAnew(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	for _, id := range ids {
		f.kill(id)
		f.start(id, 3)
		f.meet(ids...)
		f.eventually("served by running processes", func() bool { return f.served(id, 3) })
	}
	f.checkNothingLost(f.node("n3").top.State())
}

func TestAPrimaryThatDoesNotServeIsReplaced(t *testing.T) {
	f := newFabric(t)
	f.three()
	f.mu.Lock()
	f.nodes["n2"].mute = true
	f.mu.Unlock()
	f.eventually("n2 loses its primaries", func() bool { return f.node("n1").top.Ready("n2").Primaries == 0 })
}

func TestHandoverMovesPrimariesAndLeadership(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	for _, id := range []string{f.leader(), ids[2]} {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		begin := time.Now()
		if err := f.node(id).top.Handover(ctx, id); err != nil {
			t.Fatal(err)
		}
		t.Logf("handover of %s: %v", id, time.Since(begin))
		cancel()
		other := ids[(slices.Index(ids, id)+1)%3]
		f.eventually("no primaries left", func() bool {
			p := f.node(other).top.Ready(id)
			return p.Primaries == 0 && p.Electing == 0 && p.Replicas == ring.Groups
		})
		f.eventually("leadership moved", func() bool { l := f.leader(); return l != "" && l != id })
		f.checkNothingLost(f.node(other).top.State())
		f.kill(id)
		f.start(id, 3)
		f.meet(ids...)
		f.eventually("all is back", func() bool { return f.settled(other, 3, ids...) })
	}
}

func TestNodesJoinAndDrain(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	for _, id := range []string{"n4", "n5"} {
		f.start(id, 3)
		ids = append(ids, id)
		f.meet(ids...)
		begin := time.Now()
		f.eventually(id+" holds its share", func() bool { return f.settled("n1", 3, ids...) })
		t.Logf("join of %s: %v", id, time.Since(begin))
		f.checkNothingLost(f.node("n1").top.State())
	}
	f.eventually("five voters", func() bool { return f.voters() == 5 })
	victim := f.leader()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	begin := time.Now()
	if err := f.node("n5").top.Drain(ctx, victim); err != nil {
		t.Fatal(err)
	}
	t.Logf("drain of the leader: %v", time.Since(begin))
	ids = slices.DeleteFunc(ids, func(id string) bool { return id == victim })
	f.eventually("the others hold everything", func() bool { return f.settled(ids[0], 3, ids...) })
	f.checkNothingLost(f.node(ids[0]).top.State())
	f.eventually("three voters", func() bool {
		l := f.leader()
		if l == "" || l == victim {
			return false
		}
		servers, _ := f.node(l).top.servers()
		_, in := servers[victim]
		return !in && f.voters() == 3
	})
	f.meet(append(ids, victim)...)
	if err := f.node(ids[0]).top.Drain(ctx, "nobody"); !errors.Is(err, ErrUnknownNode) {
		t.Errorf("drain of a stranger: %v", err)
	}
	f.eventually("the victim is removed everywhere", func() bool {
		return f.node(ids[0]).top.State().Members[victim].Status == Removed
	})
}

func TestALoneNodeGrowsToThreeReplicas(t *testing.T) {
	f := newFabric(t)
	f.start("n1", 1)
	f.eventually("serves", func() bool { return f.served("n1", 1) })
	f.writeAll("n1")
	ids := []string{"n1"}
	for _, id := range []string{"n2", "n3"} {
		f.start(id, -1)
		ids = append(ids, id)
		f.meet(ids...)
		f.eventually(id+" joins", func() bool { return f.settled("n1", len(ids), ids...) })
	}
	f.eventually("three voters", func() bool { return f.voters() == 3 })
	f.checkNothingLost(f.node("n1").top.State())
}

func TestTwoClustersThatMeetStayApart(t *testing.T) {
	f := newFabric(t)
	f.start("a1", 1)
	f.start("b1", 1)
	for _, id := range []string{"a1", "b1"} {
		f.eventually(id, func() bool { return f.served(id, 1) })
	}
	f.meet("a1", "b1")
	for _, id := range []string{"a1", "b1"} {
		top := f.node(id).top
		f.eventually("the refusal is logged", func() bool {
			r := top.reign.Load()
			if r == nil {
				return false
			}
			r.mu.Lock()
			defer r.mu.Unlock()
			return len(r.warned) == 1
		})
		if n := len(top.State().Members); n != 1 {
			t.Errorf("%s has %d members", id, n)
		}
	}
	if a, b := f.node("a1").top.State().ClusterID, f.node("b1").top.State().ClusterID; a == b {
		t.Error("the same cluster id twice")
	}
}

func TestAWholeClusterComesBackFromDisk(t *testing.T) {
	for _, unclean := range []bool{false, true} {
		t.Run(fmt.Sprintf("unclean=%v", unclean), func(t *testing.T) {
			f := newFabric(t)
			ids := f.three()
			f.writeAll("n1")
			cluster := f.node("n1").top.State().ClusterID
			for _, id := range ids {
				f.kill(id)
				if unclean {
					for i := range f.disks[id].groups {
						f.disks[id].groups[i].unclean = true
					}
				}
			}
			for _, id := range ids {
				f.start(id, 3)
			}
			f.meet(ids...)
			f.eventually("all is back", func() bool { return f.settled("n2", 3, ids...) })
			st := f.node("n2").top.State()
			if st.ClusterID != cluster {
				t.Error("another cluster id")
			}
			f.checkNothingLost(st)
		})
	}
}

func TestANodeThatLostItsDiskComesBackAsANewServer(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	l := f.leader()
	victim := ids[(slices.Index(ids, l)+1)%3]
	f.kill(victim)
	f.eventually("failover", func() bool { return f.served(l, 3) })
	f.mu.Lock()
	delete(f.disks, victim)
	f.mu.Unlock()
	f.start(victim, 3)
	f.meet(ids...)
	f.eventually("it knows the state", func() bool { return f.settled(victim, 3, ids...) })
	f.eventually("three voters", func() bool { return f.voters() == 3 })
}

func TestSubscribersSeeStatesInOrder(t *testing.T) {
	f := newFabric(t)
	n := f.start("n1", 1)
	var mu sync.Mutex
	var epochs []uint64
	cancel := n.top.Subscribe(func(st *State) {
		mu.Lock()
		defer mu.Unlock()
		epochs = append(epochs, st.Epoch)
	})
	defer cancel()
	f.eventually("the last state is seen", func() bool {
		mu.Lock()
		defer mu.Unlock()
		return f.served("n1", 1) && len(epochs) > 0 && epochs[len(epochs)-1] == n.top.State().Epoch
	})
	mu.Lock()
	defer mu.Unlock()
	if !slices.IsSorted(epochs) {
		t.Errorf("out of order: %v", epochs)
	}
}

// TestARestartedNodeActsOnNoHistory: a subscriber gives up the groups that a state has moved away from its node, so it
// must not be shown the states that Raft goes through again.
func TestARestartedNodeActsOnNoHistory(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		t.Run(fmt.Sprintf("snapshot=%v", snapshot), func(t *testing.T) {
			f := newFabric(t)
			ids := f.three()
			last := f.node("n2").top.State().Epoch
			if last < 4 {
				t.Fatalf("only %d states: nothing to go through", last)
			}
			if snapshot {
				leader := f.node(f.leader()).top.raft.raft
				for _, id := range ids {
					f.eventually("a snapshot of "+id, func() bool {
						_ = leader.Barrier(patience).Error() // Raft takes none while the newest applied entry is a configuration
						return f.node(id).top.raft.raft.Snapshot().Error() == nil
					})
				}
			}
			for _, id := range ids {
				f.kill(id)
			}
			var mu sync.Mutex
			seen := map[string][]uint64{}
			for _, id := range ids {
				n := f.start(id, 3)
				defer n.top.Subscribe(func(st *State) {
					mu.Lock()
					defer mu.Unlock()
					if st.ClusterID != "" {
						seen[id] = append(seen[id], st.Epoch)
					}
				})()
			}
			f.meet(ids...)
			f.eventually("everybody is told", func() bool {
				mu.Lock()
				defer mu.Unlock()
				return len(seen) == 3 && f.settled("n1", 3, ids...)
			})
			mu.Lock()
			defer mu.Unlock()
			for id, epochs := range seen {
				if epochs[0] < last {
					t.Errorf("%s, which had acted on epoch %d, is shown %v after its restart", id, last, epochs)
				}
			}
		})
	}
}
