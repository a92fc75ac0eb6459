package topology

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/raft"

	"hypercache/node/ring"
)

var (
	scaleFlag = flag.Int("scale", 10, "TestTopologyTrafficAtScale: up to how many nodes; 300 takes gigabytes, 1000 more than 17 of them")
	fromFlag  = flag.Int("from", 3, "TestTopologyTrafficAtScale: from how many nodes on")
)

// wires is a network in memory for Raft's streams; what passes is counted.
type wires struct {
	mu    sync.Mutex
	nodes map[string]*wire
}

// wire is one node's end: a listener, and counters of what it wrote and read, in bytes and in writes, on connections that it
// dialled or accepted. Calls of the controller are counted apart.
type wire struct {
	w                       *wires
	addr                    wireAddr
	in                      chan net.Conn
	done                    chan struct{}
	once                    sync.Once
	mu                      sync.Mutex
	conns                   []net.Conn
	out, writes, back       atomic.Int64
	calls, callOut, callsIn atomic.Int64
}

type wireAddr string

func (wireAddr) Network() string  { return "memory" }
func (a wireAddr) String() string { return string(a) }

func (w *wires) listen(id string) *wire {
	l := &wire{w: w, addr: wireAddr(id + ":7373"), in: make(chan net.Conn, 64), done: make(chan struct{})}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.nodes[l.addr.String()] = l
	return l
}

func (l *wire) Accept() (net.Conn, error) {
	select {
	case c := <-l.in:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *wire) Close() error   { l.once.Do(func() { close(l.done) }); return nil }
func (l *wire) Addr() net.Addr { return l.addr }

func (l *wire) end(c net.Conn) net.Conn {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.conns = append(l.conns, c)
	return &metered{c, l}
}

// cut ends every connection, as the end of a process does.
func (l *wire) cut() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.conns {
		_ = c.Close()
	}
}

func (l *wire) dial(addr string, _ time.Duration) (net.Conn, error) {
	l.w.mu.Lock()
	to := l.w.nodes[addr]
	l.w.mu.Unlock()
	if to == nil {
		return nil, errors.New("no route to host")
	}
	here, there := net.Pipe()
	select {
	case to.in <- to.end(there):
		return l.end(here), nil
	case <-to.done:
		return nil, syscall.ECONNREFUSED
	}
}

type metered struct {
	net.Conn
	l *wire
}

func (c *metered) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	c.l.out.Add(int64(n))
	c.l.writes.Add(1)
	return n, err
}

func (c *metered) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	c.l.back.Add(int64(n))
	return n, err
}

// caller is a fakeNode whose calls are counted, and which leaves out what the controller has seen, as the server does.
type caller struct {
	*fakeNode
	wire *wire
}

func (c *caller) Call(ctx context.Context, node, method string, payload []byte) ([]byte, error) {
	ans, err := c.fakeNode.Call(ctx, node, method, payload)
	if err == nil && method == MethodStatus {
		var q StatusCall
		var a StatusAnswer
		if err := errors.Join(Decode(payload, &q), Decode(ans, &a)); err != nil {
			return nil, err
		}
		a.Sum(q.Seen)
		ans = Encode(a)
	}
	// call.go of node/peer frames a call with 18 bytes and its method, an answer with 14.
	c.wire.calls.Add(1)
	c.wire.callOut.Add(int64(len(payload) + len(method) + 18))
	c.wire.callsIn.Add(int64(len(ans) + 14))
	return ans, err
}

// scaleCluster is n nodes of which the first voters vote, founded in one go.
type scaleCluster struct {
	*fabric
	wires *wires
	ids   []string
}

func scaleID(i int) string { return fmt.Sprintf("hypercache-prod-%03d", i) }

func scaleMember(i int, run string) Member {
	ip := fmt.Sprintf("10.0.%d.%d", 1+i>>8, i&255)
	return Member{
		ID: scaleID(i), Addr: ip + ":7373", Zone: fmt.Sprintf("eu-central-1%c", 'a'+i%3), RESPAddr: ip + ":8080", HTTPAddr: ip + ":9080",
		GossipAddr: ip + ":7946", Status: Up, Run: run,
	}
}

func (c *scaleCluster) start(i, n int) *fakeNode {
	c.t.Helper()
	id := scaleID(i)
	disk := c.disks[id]
	if disk == nil {
		disk = &fakeDisk{dir: filepath.Join(c.t.TempDir(), id)}
		c.disks[id] = disk
	}
	node := &fakeNode{f: c.fabric, id: id, disk: disk}
	self := scaleMember(i, "")
	self.Addr = "" // the wire's
	wire := c.wires.listen(id)
	var log *slog.Logger
	if os.Getenv("TOPOLOGY_LOG") != "" {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil)).With("on", id)
	}
	top, err := Open(Options{
		NodeID: id, DataDir: disk.dir, Stream: Stream(wire, wire.dial), Network: &caller{node, wire}, BootstrapExpect: n, RF: 3, Self: self, Logger: log,
	})
	if err != nil {
		c.t.Fatal(err)
	}
	c.mu.Lock()
	node.top = top
	c.nodes[id] = node
	c.mu.Unlock()
	return node
}

func foundScale(t *testing.T, n int) *scaleCluster {
	t.Helper()
	c := &scaleCluster{fabric: newFabric(t), wires: &wires{nodes: map[string]*wire{}}}
	var conf raft.Configuration
	voters := min(n-1+n%2, maxVoters)
	for i := range n {
		s := raft.Server{ID: raft.ServerID(scaleID(i)), Address: raft.ServerAddress(scaleID(i) + ":7373"), Suffrage: raft.Nonvoter}
		if i < voters {
			s.Suffrage = raft.Voter
		}
		conf.Servers = append(conf.Servers, s)
	}
	var members []Member
	for i := range n {
		node := c.start(i, n)
		c.ids = append(c.ids, node.id)
		members = append(members, node.top.self())
		node.top.raft.transport.blank.Store(false) // it is in Raft's configuration from the beginning
	}
	for i := range voters {
		if err := c.node(scaleID(i)).top.raft.raft.BootstrapCluster(conf).Error(); err != nil {
			t.Fatal(err)
		}
	}
	c.eventually("a leader founds", func() bool { l := c.leader(); return l != "" && c.node(l).top.State().ClusterID != "" })
	if _, err := c.node(c.leader()).top.commit(&command{Members: members}); err != nil {
		t.Fatal(err)
	}
	c.eventually("everybody serves", func() bool { return c.served(c.leader(), 3) })
	c.heard()
	return c
}

func (c *scaleCluster) kill(id string) {
	c.fabric.kill(id)
	c.wireOf(id).cut()
}

// heard waits until all nodes have the leader's state.
func (c *scaleCluster) heard() {
	c.t.Helper()
	c.eventually("everybody knows", func() bool {
		l := c.leader()
		if l == "" {
			return false
		}
		want := c.node(l).top.State().Epoch
		for _, id := range c.ids {
			if n := c.node(id); n != nil && n.top.State().Epoch != want {
				return false
			}
		}
		return true
	})
}

// flow is what one node sent and got: Raft's bytes and writes, and the controller's calls.
type flow struct{ out, writes, back, calls, callOut, callsIn float64 }

func (l *wire) flow() flow {
	return flow{float64(l.out.Load()), float64(l.writes.Load()), float64(l.back.Load()), float64(l.calls.Load()), float64(l.callOut.Load()), float64(l.callsIn.Load())}
}

func (f flow) since(b flow, d time.Duration) flow {
	s := d.Seconds()
	return flow{(f.out - b.out) / s, (f.writes - b.writes) / s, (f.back - b.back) / s, (f.calls - b.calls) / s, (f.callOut - b.callOut) / s, (f.callsIn - b.callsIn) / s}
}

func (c *scaleCluster) wireOf(id string) *wire { return c.wires.nodes[id+":7373"] }

func cpuTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// TestTopologyTrafficAtScale counts what Raft and the controller send: idle, for a node that joins and for one that dies. With -v
// it prints the table of docs/reliability.md.
func TestTopologyTrafficAtScale(t *testing.T) {
	t.Log("| nodes | state | idle, leader: Raft out, in, messages/s | polls/s, bytes out, in | a follower: out, in | CPU of all nodes | a join: leader sends | settles in | a death: leader sends | served again after |")
	for _, n := range []int{3, 10, 30, 100, 300, 1000} {
		if n < *fromFlag || n > *scaleFlag {
			continue
		}
		synctest.Test(t, func(t *testing.T) { measureTopology(t, n) })
	}
}

func measureTopology(t *testing.T, n int) {
	c := foundScale(t, n)
	defer func() {
		for _, id := range c.fabric.ids() {
			c.kill(id)
		}
	}()
	const window = 10 * time.Second
	time.Sleep(window) // voters and primaries settle
	leader := c.leader()
	follower := c.ids[len(c.ids)-1]
	if follower == leader {
		follower = c.ids[0]
	}
	l0, f0, cpu := c.wireOf(leader).flow(), c.wireOf(follower).flow(), cpuTime()
	time.Sleep(window)
	idle, quiet := c.wireOf(leader).flow().since(l0, window), c.wireOf(follower).flow().since(f0, window)
	load := (cpuTime() - cpu).Seconds() / window.Seconds()
	size, err := json.Marshal(c.node(leader).top.State())
	if err != nil {
		t.Fatal(err)
	}

	cost := func(what string, done func() bool) (bytes float64, took time.Duration) {
		begin, before := time.Now(), c.wireOf(leader).flow()
		c.eventually(what, done)
		took = time.Since(begin)
		after := c.wireOf(leader).flow()
		return after.out - before.out - idle.out*took.Seconds(), took
	}
	newcomer := c.start(n, -1)
	var seen []Member
	for _, id := range append(c.ids, newcomer.id) {
		seen = append(seen, c.node(id).top.self())
	}
	c.node(leader).top.Discovered(seen)
	joined, joinTook := cost("the newcomer has its share", func() bool {
		top := c.node(leader).top
		return top.State().Members[newcomer.id].ID != "" && newcomer.top.State().Epoch == top.State().Epoch &&
			(top.Ready(newcomer.id).Replicas > 0 || 3*ring.Groups/(n+1) == 0) && c.served(leader, 3)
	})
	time.Sleep(window) // the rest of the moves, and primaries that return

	victim := ""
	for i := range c.node(leader).top.State().Groups {
		if p := c.node(leader).top.State().Groups[i].Primary; p != leader {
			victim = p
			break
		}
	}
	c.kill(victim)
	died, diedTook := cost("no group waits for the dead", func() bool {
		st := c.node(leader).top.State()
		for i := range st.Groups {
			if st.Groups[i].Primary == victim || st.Groups[i].Primary == "" {
				return false
			}
		}
		return true
	})
	if now := c.leader(); now != leader {
		t.Errorf("%d nodes: the leadership went from %s to %s", n, leader, now)
	}
	t.Logf("| %d | %d | %.0f, %.0f, %.0f | %.0f, %.0f, %.0f | %.0f, %.0f | %.1f %% | %.0f | %.1f s | %.0f | %.2f s |", n, len(size), idle.out, idle.back,
		idle.writes, idle.calls, idle.callOut, idle.callsIn, quiet.out, quiet.back, 100*load, joined, joinTook.Seconds(), died, diedTook.Seconds())
	// Raft says something to a follower about 18 times a second. Ten more would mean that it repeats itself.
	if perPeer := idle.writes / float64(n-1); perPeer > 28 {
		t.Errorf("%d nodes: the idle leader sends each follower %.0f messages a second", n, perPeer)
	}
}

// TestStateStaysSmall: the state is one snapshot, one pointer, and must be cheap to send to a node that joins.
func TestStateStaysSmall(t *testing.T) {
	for _, n := range []int{3, 30, 100, 300, 1000} {
		st := emptyState()
		st.ClusterID, st.RF, st.Epoch = randomID(), 3, 123456
		var ms []ring.Member
		for i := range n {
			m := scaleMember(i, randomID())
			st.Members[m.ID] = m
			ms = append(ms, ring.Member{ID: m.ID, Zone: m.Zone})
		}
		for i, p := range ring.Assign(nil, ms, 3) {
			st.Groups[i] = Group{Epoch: 123456, Term: 12, Primary: p.Replicas[0], Run: st.Members[p.Replicas[0]].Run, Replicas: p.Replicas}
		}
		b, err := json.Marshal(snapshotFile{commandVersion, st})
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d members: a snapshot of %d bytes", n, len(b))
		if limit := 64<<10 + 300*n; len(b) > limit {
			t.Errorf("%d members: a snapshot of %d bytes, more than %d", n, len(b), limit)
		}
	}
}
