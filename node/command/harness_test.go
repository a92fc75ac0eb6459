package command

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"hypercache/node/pubsub"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
	"hypercache/node/tracking"
)

// harness is a node with one shard: the least that can serve the commands over TCP. Every effect is applied to a second
// shard, the replica.
type harness struct {
	t       *testing.T
	cluster bool
	config  *Config
	bus     *pubsub.Bus
	pubsub  *pubsub.Registry
	tracker *tracking.Tracker
	record  *Record
	now     func() int64

	mu      sync.Mutex
	shard   *store.Shard
	replica *store.Shard
	clients []*Client
	conns   map[uint64]net.Conn
	effects []byte // all of them, when keep is set
	keep    bool
	events  *Events // nil when the test does not want them
	logged  []string
	view    *ClusterView // nil for a cluster of one
}

func newHarness(t *testing.T, cluster bool) *harness {
	registry, tracker := pubsub.NewRegistry(Match), tracking.New(func(bool) {})
	bus := pubsub.NewBus(registry, tracker)
	tracker.Connect(bus)
	return &harness{
		record: NewRecord(), pubsub: registry, bus: bus, tracker: tracker,
		t: t, cluster: cluster, config: NewConfig(), now: func() int64 { return time.Now().UnixMilli() },
		shard: store.New(store.Options{}).Shard(0), replica: store.New(store.Options{}).Shard(0),
		conns: map[uint64]net.Conn{},
	}
}

// listen serves on an ephemeral port until the test ends.
func (h *harness) listen() func() (net.Conn, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		h.t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for id := uint64(1); ; id++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { h.serve(c, id) })
		}
	})
	h.t.Cleanup(func() {
		l.Close()
		h.mu.Lock()
		for _, c := range h.conns {
			c.Close()
		}
		h.mu.Unlock()
		wg.Wait()
	})
	return func() (net.Conn, error) { return net.Dial("tcp", l.Addr().String()) }
}

// testConn is one connection's Conn.
type testConn struct {
	client *Client
	sub    *pubsub.Subscriber
	proto  int
	closed bool
}

func (c *testConn) Client() *Client                             { return c.client }
func (c *testConn) SetProto(proto int)                          { c.proto = proto }
func (c *testConn) CloseAfterReply()                            { c.closed = true }
func (c *testConn) Monitor()                                    {}
func (c *testConn) SetReply(ReplyMode)                          {}
func (c *testConn) WaitReplicas(int, time.Duration) (int, bool) { return 0, true }
func (c *testConn) TakePushes()                                 {}
func (c *testConn) LoggedIn() bool                              { return true }
func (c *testConn) PasswordLess() bool                          { return true }
func (c *testConn) UserExists(name []byte) bool                 { return string(name) == defaultUser }
func (c *testConn) Login(user, _, _ []byte) bool                { return string(user) == defaultUser }
func (c *testConn) Announce()                                   {}
func (c *testConn) Reset()                                      { c.client.SetTracking(nil) }
func (c *testConn) Subscriber() *pubsub.Subscriber {
	if c.sub == nil {
		c.sub = pubsub.NewSubscriber(func([]byte) bool { return true })
	}
	return c.sub
}

func (h *harness) open(id uint64, addr, laddr string) *testConn {
	c := &testConn{client: NewClient(id, addr, laddr, -1, h.now()), proto: 2}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.clients = append(h.clients, c.client)
	return c
}

func (h *harness) serve(nc net.Conn, id uint64) {
	c := h.open(id, nc.RemoteAddr().String(), nc.LocalAddr().String())
	h.mu.Lock()
	h.conns[id] = nc
	h.mu.Unlock()
	defer func() {
		nc.Close()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.conns, id)
		h.clients = slices.DeleteFunc(h.clients, func(cl *Client) bool { return cl == c.client })
	}()
	r := bufio.NewReader(nc)
	for !c.closed {
		args, err := readCommand(r)
		if err != nil {
			return
		}
		if _, err := nc.Write(h.exec(c, args)); err != nil {
			return
		}
	}
}

func readCommand(r *bufio.Reader) ([][]byte, error) {
	number := func(kind byte) (int, error) {
		line, err := r.ReadString('\n')
		if err != nil || line[0] != kind {
			return 0, errors.Join(err, fmt.Errorf("bad line %q", line))
		}
		return strconv.Atoi(strings.TrimRight(line[1:], "\r\n"))
	}
	n, err := number('*')
	if err != nil {
		return nil, err
	}
	args := make([][]byte, n)
	for i := range args {
		size, err := number('$')
		if err != nil {
			return nil, err
		}
		args[i] = make([]byte, size+2)
		if _, err := io.ReadFull(r, args[i]); err != nil {
			return nil, err
		}
		args[i] = args[i][:size]
	}
	return args, nil
}

// exec runs one command and returns its reply.
func (h *harness) exec(c *testConn, args [][]byte) []byte {
	w := &resp.Writer{Proto: c.proto}
	spec, errText := Resolve(args)
	if spec == nil || errText != "" {
		w.Error(errText)
		return w.Buf
	}
	if spec.Scope == ScopeConn {
		(&ConnCtx{Spec: spec, Args: args, W: w, Conn: c, Server: h, Now: h.now()}).Run()
		return w.Buf
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if spec.Scope == ScopeKey && h.cluster {
		keys := Keys(spec, args, nil)
		for _, k := range keys {
			if ring.Slot(args[k]) != ring.Slot(args[keys[0]]) {
				w.Error(ErrCrossSlot)
				return w.Buf
			}
		}
	}
	fx := &Effects{}
	ctx := &Ctx{Spec: spec, Args: args, Shard: h.shard, Now: h.now(), W: w, FX: fx, Events: h.events}
	if spec.Scope == ScopeKey {
		ctx.Run()
	} else {
		ctx.RunPart()
	}
	if ctx.Block.Asked {
		w.NullArray() // nobody else is there to end the wait
	}
	if !spec.Write && fx.N > 0 {
		h.t.Errorf("%q is no write and has effects %q", args, fx.Buf)
	}
	if h.keep {
		h.effects = append(h.effects, fx.Buf...)
	}
	if err := Apply(h.replica, fx.Buf); err != nil {
		h.t.Errorf("%.200q: %v in %.200q", args, err, fx.Buf)
	}
	return w.Buf
}

func (h *harness) EachClient(yield func(*Client) bool) {
	h.mu.Lock()
	clients := slices.Clone(h.clients)
	h.mu.Unlock()
	for _, c := range clients {
		if !yield(c) {
			return
		}
	}
}

func (h *harness) KillClient(id uint64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if c := h.conns[id]; c != nil {
		c.Close()
		h.clients = slices.DeleteFunc(h.clients, func(cl *Client) bool { return cl.id == id }) // at once, as the server does
	}
}

func (h *harness) UnixMicro() int64 { return h.now() * 1000 }

func (h *harness) UnblockClient(uint64, bool) bool { return false }

func (h *harness) Info(section string, add func(field, value string)) {
	if section == "cluster" {
		enabled := "0"
		if h.cluster {
			enabled = "1"
		}
		add("cluster_enabled", enabled)
	}
}
func (h *harness) Config() *Config            { return h.config }
func (h *harness) ResetStats()                {}
func (h *harness) SetActiveExpire(bool)       {}
func (h *harness) Log(message string)         { h.logged = append(h.logged, message) }
func (h *harness) RewriteLog() string         { return "" }
func (h *harness) Bus() *pubsub.Bus           { return h.bus }
func (h *harness) Tracker() *tracking.Tracker { return h.tracker }
func (h *harness) Subscriber(id uint64) *pubsub.Subscriber {
	return nil
}
func (h *harness) Pause(time.Duration, bool) {}
func (h *harness) Unpause()                  {}
func (h *harness) Record() *Record           { return h.record }
func (h *harness) PubSub() *pubsub.Registry {
	return h.pubsub
}
func (h *harness) ClusterEnabled() bool { return h.cluster }
func (h *harness) Cluster() *ClusterView {
	if h.view != nil {
		return h.view
	}
	return &ClusterView{Epoch: 1, OK: true, Nodes: []ClusterNode{{ID: "n1", Host: "127.0.0.1", Port: 8080, BusPort: 7373,
		Health: "online"}}, Ranges: []ClusterRange{{Last: ring.Slots - 1}}}
}
func (h *harness) CountKeysInSlot(slot uint16) int { return len(h.KeysInSlot(slot, 1<<30)) }
func (h *harness) KeysInSlot(slot uint16, max int) (keys [][]byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.shard.Range(func(r store.Ref) bool {
		if len(keys) < max && ring.Slot(r.Key()) == slot {
			keys = append(keys, bytes.Clone(r.Key()))
		}
		return true
	})
	return keys
}

func (h *harness) writer() *resp.Writer { return &resp.Writer{Proto: 2} }

// contents is a shard as text, in order of key.
func contents(s *store.Shard) []string {
	var out []string
	s.Range(func(r store.Ref) bool {
		out = append(out, fmt.Sprintf("%q=%s@%d", r.Key(), contentsOf(r), r.ExpireAt()))
		return true
	})
	slices.Sort(out)
	return out
}

// contentsOf is a value as text, the same for equal values.
func contentsOf(r store.Ref) string {
	var out []string
	switch r.Type() {
	case store.Hash:
		f := r.Fields()
		f.Each(func(field, value []byte) bool { out = append(out, fmt.Sprintf("%q:%q", field, value)); return true })
		slices.Sort(out)
	case store.Set:
		m := r.Members()
		m.Each(func(member []byte) bool { out = append(out, fmt.Sprintf("%q", member)); return true })
		slices.Sort(out)
	case store.ZSet:
		z := r.SortedSet()
		z.Each(0, 1, func(member []byte, score float64) bool {
			out = append(out, fmt.Sprintf("%q:%v", member, score))
			return true
		})
	case store.List:
		l := r.Elements()
		l.Each(0, 1, func(_ int, e []byte) bool { out = append(out, fmt.Sprintf("%q", e)); return true })
	case store.Stream:
		out = streamContents(r.Stream())
	default:
		return fmt.Sprintf("%q", r.Value())
	}
	return fmt.Sprint(r.Type(), out)
}

// effectsOf is every effect so far, as commands.
func effectsOf(h *harness) (commands [][][]byte) {
	r := bufio.NewReader(bytes.NewReader(h.effects))
	for {
		args, err := readCommand(r)
		if err != nil {
			return commands
		}
		commands = append(commands, args)
	}
}

func (h *harness) checkReplica() {
	h.t.Helper()
	if p, r := contents(h.shard), contents(h.replica); !slices.Equal(p, r) {
		h.t.Errorf("replica differs after the effects:\nprimary %q\nreplica %q", p, r)
	}
}
