package cache

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"hypercache/node/command"
	"hypercache/node/journal"
	"hypercache/node/peer"
	"hypercache/node/pubsub"
	"hypercache/node/replica"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
	"hypercache/node/tracking"
)

type noServer struct{ command.Server }

func (noServer) ClusterEnabled() bool { return true }

// cacheServer is noServer with its cache's bus.
type cacheServer struct {
	noServer
	of       *Cache
	mu       sync.Mutex
	config   *command.Config
	sessions map[uint64]*resp.Session
}

func (s *cacheServer) Bus() *pubsub.Bus           { return s.of.Bus() }
func (s *cacheServer) Config() *command.Config    { return s.config }
func (s *cacheServer) Tracker() *tracking.Tracker { return s.of.Tracker() }
func (s *cacheServer) Subscriber(id uint64) *pubsub.Subscriber {
	s.mu.Lock()
	defer s.mu.Unlock()
	return SubscriberOf(s.sessions[id])
}
func (s *cacheServer) Pause(d time.Duration, w bool) { s.of.Pause(d, w) }
func (s *cacheServer) Unpause()                      { s.of.Unpause() }
func (s *cacheServer) Record() *command.Record       { return s.of.Record() }
func (s *cacheServer) PubSub() *pubsub.Registry      { return s.of.PubSub() }

// disk is a journal that can be full, or stall.
type disk struct {
	mu    sync.Mutex
	pos   int64
	fail  error
	stall chan struct{} // Commit waits for it
}

func (j *disk) Append(journal.Record) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.pos++
	return j.pos
}

func (j *disk) Commit(int64) error {
	j.mu.Lock()
	stall, fail := j.stall, j.fail
	j.mu.Unlock()
	if stall != nil {
		<-stall
	}
	return fail
}

// count is how many records there are.
func (j *disk) count() int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.pos
}

func (j *disk) set(fail error, stall chan struct{}) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.fail, j.stall = fail, stall
}

func (j *disk) SetPromises(map[uint16]uint64) error { return nil }
func (j *disk) Complete(...uint16) error            { return nil }

// node is a cache with a real store, driver and streams; the test takes the topology's part.
type node struct {
	*Cache
	id   string
	db   *store.DB
	net  *peer.Net
	addr string
	j    *disk
	// mute makes it swallow forwarded commands, which are counted.
	mute      atomic.Bool
	swallowed atomic.Int32
	mu        sync.Mutex
	asking    []*Inbound
}

type cluster struct {
	t     *testing.T
	nodes []*node
	epoch uint64
	term  uint64
	sess  uint64
}

type setup struct {
	wait   time.Duration
	acks   replica.Acks
	memory int64
	policy store.Policy
	disk   bool
	quiet  bool // Run is not started
	down   func(node string) bool
	quorum bool
	stale  time.Duration
	keeper LibraryKeeper
}

func start(t *testing.T, n int, o setup) *cluster {
	t.Helper()
	if o.wait == 0 {
		o.wait = 20 * time.Second
	}
	c := &cluster{t: t}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	addrs := map[string]string{}
	for i := range n {
		x := &node{id: string(rune('a' + i)), j: &disk{}, db: store.New(store.Options{MaxMemory: o.memory, Policy: o.policy})}
		srv := &cacheServer{config: command.NewConfig(), sessions: map[uint64]*resp.Session{}}
		x.Cache = New(Options{Self: x.id, DB: x.db, Server: srv, Wait: o.wait, Down: o.down, Quorum: o.quorum, Libraries: o.keeper})
		srv.of = x.Cache
		var restored [ring.Groups]replica.Restored
		for g := range restored {
			restored[g].Incarnation = uint64(i + 1)
		}
		opt := replica.Options{Self: x.id, Machine: x.Cache, Acks: o.acks, NoLease: o.quorum, MaxStaleness: o.stale}
		if o.disk {
			opt.Journal = x.j
		}
		x.Attach(replica.NewDriver[stream](opt, &restored))
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		x.addr = ln.Addr().String()
		addrs[x.id] = x.addr
		x.net = peer.New(ln, x.handler(), peer.Options{
			Self: peer.Identity{NodeID: x.id, Incarnation: uint64(i + 1)}, HeartbeatEvery: 20 * time.Millisecond, SuspectAfter: time.Minute,
		})
		c.nodes = append(c.nodes, x)
		if !o.quiet {
			wg.Go(func() { x.Run(ctx) })
		}
	}
	t.Cleanup(func() {
		cancel()
		wg.Wait()
		for _, x := range c.nodes {
			_ = x.net.Close()
		}
	})
	for _, x := range c.nodes {
		x.net.SetPeers(addrs)
	}
	for _, x := range c.nodes {
		for id := range addrs {
			if id != x.id {
				r := x.remote(id)
				eventually(t, "streams", func() bool {
					r.mu.Lock()
					defer r.mu.Unlock()
					return r.stream != nil && x.net.Stream(id, peer.Replica) != nil && x.Bus().Connected(id)
				})
			}
		}
	}
	return c
}

type (
	asks   struct{}
	busOut struct{}
	busIn  struct{}
)

// handler does what the server does.
func (x *node) handler() peer.Handler {
	return peer.Handler{
		Call: func(context.Context, string, string, []byte) ([]byte, error) { return nil, nil },
		Opened: func(s *peer.Stream) {
			switch {
			case s.Class == peer.Replica && s.Outbound:
				s.User = x.driver.PeerUp(s.Peer.NodeID, s)
			case s.Class == peer.Replica:
				s.User = x.driver.Accepted(s.Peer.NodeID, s)
			case s.Class == peer.Bus && s.Outbound:
				s.User = busOut{}
				x.Bus().Up(s.Peer.NodeID, s)
			case s.Class == peer.Bus:
				s.User = busIn{}
				x.Bus().Accepted(s.Peer.NodeID)
			case s.Outbound:
				s.User = asks{}
				x.Connected(s)
			default:
				in := x.Accept(s)
				s.User = in
				x.mu.Lock()
				x.asking = append(x.asking, in)
				x.mu.Unlock()
			}
		},
		Closed: func(s *peer.Stream) {
			switch {
			case s.Class == peer.Replica && s.Outbound:
				x.driver.PeerDown(s.Peer.NodeID, s)
			case s.Class == peer.Replica:
				x.driver.Ended(s.Peer.NodeID, s)
			case s.Class == peer.Bus && s.Outbound:
				x.Bus().Down(s.Peer.NodeID, s)
			case s.Class == peer.Bus:
				x.Bus().Ended(s.Peer.NodeID)
			case s.Outbound:
				x.Disconnected(s)
			default:
				s.User.(*Inbound).Ended()
			}
		},
		Frame: func(s *peer.Stream, typ byte, body []byte) {
			var err error
			switch u := s.User.(type) {
			case *replica.Receiver[stream]:
				err = u.Frame(typ, body)
			case *Inbound:
				if x.mute.Load() {
					x.swallowed.Add(1)
				} else {
					err = u.Frame(typ, body)
				}
			case busOut:
				err = x.Bus().Acked(s.Peer.NodeID, s, typ, body)
			case busIn:
				err = x.Bus().Frame(s.Peer.NodeID, s, typ, body)
			case asks:
				err = x.Answered(s, typ, body)
			}
			if err != nil {
				s.Close()
			}
		},
		BatchEnd: func(s *peer.Stream) {
			switch u := s.User.(type) {
			case *replica.Receiver[stream]:
				u.BatchEnd()
				x.FlushReplies()
			case *Inbound:
				u.BatchEnd()
			case busIn:
				x.FlushReplies()
			}
		},
	}
}

// assign gives every group the primary and the replicas that the functions name, in a new term; another primary where
// the one that was named lacks records, as an election would.
func (c *cluster) assign(primary func(g int) string, replicas func(g int) []string) {
	c.t.Helper()
	c.epoch++
	c.term++
	var list []replica.Assignment
	var route [ring.Groups]string
	var terms [ring.Groups]uint64
	heads := c.fence()
	for g := range ring.Groups {
		route[g], terms[g] = primary(g), c.term
		for _, id := range replicas(g) {
			if heads[route[g]][g].Head.Less(heads[id][g].Head) {
				route[g] = id
			}
		}
		list = append(list, replica.Assignment{Group: uint16(g), Config: replica.Config{
			Epoch: c.epoch, Term: c.term, Primary: route[g], Replicas: replicas(g),
		}})
	}
	addr := map[string]string{}
	for _, x := range c.nodes {
		addr[x.id] = "10.0.0.1:" + x.id
	}
	for _, x := range c.nodes {
		mine := append([]replica.Assignment(nil), list...)
		for i := range mine {
			mine[i].Holds = strings.Contains(strings.Join(mine[i].Config.Replicas, ""), x.id)
		}
		x.driver.Configure(mine)
		x.Reigns(&terms)
		x.Route(c.epoch, route, addr)
		x.FlushReplies()
	}
}

// fence opens the term and returns what each node has of each group.
func (c *cluster) fence() map[string][]replica.FenceResult {
	heads := map[string][]replica.FenceResult{"c": make([]replica.FenceResult, ring.Groups)}
	var list []replica.Fencing
	for g := range ring.Groups {
		list = append(list, replica.Fencing{Group: uint16(g), Term: c.term, First: c.term == 1})
	}
	for _, x := range c.nodes {
		out, err := x.driver.Fence("test", list)
		if err != nil {
			c.t.Fatal(err)
		}
		heads[x.id] = out
	}
	return heads
}

// alone makes each node the only replica of its share, group by group in turn.
func (c *cluster) alone() {
	who := func(g int) string { return c.nodes[g%len(c.nodes)].id }
	c.assign(who, func(g int) []string { return []string{who(g)} })
}

// led makes one node primary of everything, all nodes replicas.
func (c *cluster) led(by *node) {
	var all []string
	for _, x := range c.nodes {
		all = append(all, x.id)
	}
	c.assign(func(int) string { return by.id }, func(int) []string { return all })
}

// lacksNothing tells that no node has records that by lacks.
func (c *cluster) lacksNothing(by *node) bool {
	head := func(x *node, g int) replica.Position {
		p := &x.parts[g]
		p.group.Lock()
		defer p.group.Unlock()
		return p.group.Head()
	}
	for g := range ring.Groups {
		for _, x := range c.nodes {
			if head(by, g).Less(head(x, g)) {
				return false
			}
		}
	}
	return true
}

// even waits until all nodes have the same records, so that whoever is to be the primary of a group next can: assign takes another one
// where that one lacks something.
func (c *cluster) even() {
	c.t.Helper()
	eventually(c.t, "all nodes have the same", func() bool {
		return !slices.ContainsFunc(c.nodes, func(x *node) bool { return !c.lacksNothing(x) })
	})
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

// client is a connection; its goroutine is the test's.
type client struct {
	t    *testing.T
	x    *node
	s    *resp.Session
	wake chan struct{}
	got  []byte
}

func (c *cluster) client(x *node) *client {
	c.sess++
	k := &client{t: c.t, x: x, wake: make(chan struct{}, 1)}
	k.s = resp.NewSession(x.Cache, resp.Limits{MaxHeld: 1 << 20, MaxOutput: 1 << 30}, resp.ConnInfo{ID: c.sess}, func() {
		select {
		case k.wake <- struct{}{}:
		default:
		}
	})
	srv := x.Cache.opt.Server.(*cacheServer)
	srv.mu.Lock()
	srv.sessions[c.sess] = k.s
	srv.mu.Unlock()
	return k
}

// send feeds commands, words separated by spaces.
func (k *client) send(lines ...string) {
	k.t.Helper()
	var b []byte
	for _, l := range lines {
		words := strings.Fields(l)
		b = fmt.Appendf(b, "*%d\r\n", len(words))
		for _, w := range words {
			b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(w), w)
		}
	}
	if err := k.s.Feed(b); err != nil {
		k.t.Fatal(err)
	}
	k.take()
}

func (k *client) take() {
	for {
		out := k.s.Output()
		if len(out) == 0 {
			if !k.s.Stalled() || k.s.Paused() {
				return
			}
			_ = k.s.Resume()
			continue
		}
		k.got = append(k.got, out...)
		k.s.Sent(len(out))
	}
}

// receive waits for n replies and returns them as text.
func (k *client) receive(n int) []string {
	k.t.Helper()
	limit := time.After(30 * time.Second)
	var out []string
	for {
		for len(out) < n {
			text, size := parse(k.got)
			if size == 0 {
				break
			}
			out = append(out, text)
			k.got = k.got[size:]
		}
		if len(out) == n {
			return out
		}
		select {
		case <-k.wake:
			k.take()
		case <-limit:
			k.t.Fatalf("%d of %d replies: %q", len(out), n, out[max(len(out)-3, 0):])
		}
	}
}

func (k *client) do(line string) string {
	k.t.Helper()
	k.send(line)
	return k.receive(1)[0]
}

func (k *client) want(line, reply string) {
	k.t.Helper()
	if got := k.do(line); got != reply {
		k.t.Errorf("%s: %s, want %s", line, got, reply)
	}
}

// silent checks that nothing more has come.
func (k *client) silent(when string) {
	k.t.Helper()
	k.take()
	if len(k.got) > 0 {
		k.t.Errorf("%s: %q has left", when, k.got)
	}
}

// parse turns one reply into text: nil, numbers and strings as they are, arrays in brackets.
func parse(b []byte) (string, int) {
	end := bytes.Index(b, []byte("\r\n"))
	if end < 0 {
		return "", 0
	}
	line, at := string(b[1:end]), end+2
	switch b[0] {
	case '_':
		return "nil", at
	case '$':
		n, _ := strconv.Atoi(line)
		if n < 0 {
			return "nil", at
		}
		if len(b) < at+n+2 {
			return "", 0
		}
		return string(b[at : at+n]), at + n + 2
	case '*', '>':
		n, _ := strconv.Atoi(line)
		if n < 0 {
			return "nil", at
		}
		var all []string
		for range n {
			e, size := parse(b[at:])
			if size == 0 {
				return "", 0
			}
			all = append(all, e)
			at += size
		}
		return "[" + strings.Join(all, " ") + "]", at
	}
	return line, at
}

// key returns a key of the group.
func key(group int, n int) string {
	for i := 0; ; i++ {
		k := fmt.Sprintf("k%d:%d", n, i)
		if int(ring.GroupOf(ring.Slot([]byte(k)))) == group {
			return k
		}
	}
}
