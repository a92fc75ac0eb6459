package peer

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Handler receives what other nodes send. Frame and BatchEnd are called by the stream's reader, one at a time for a
// stream; they must not wait for the network, since the stream stands still meanwhile.
type Handler struct {
	// Frame handles one frame of the Replica, Forward or Bus class. Body is valid until it returns.
	Frame func(s *Stream, typ byte, body []byte)
	// BatchEnd is called when no further complete frame has been read yet: the moment to flush and to commit.
	BatchEnd func(s *Stream)
	// Opened and Closed bracket a stream of the Replica, Forward or Bus class.
	Opened, Closed func(s *Stream)
	// Call answers a request. It may wait, within ctx; each call has a goroutine of its own.
	Call func(ctx context.Context, from, method string, payload []byte) ([]byte, error)

	frame func(s *Stream, typ byte, body []byte)
}

// Options configure a Net. Zero durations take the defaults named.
type Options struct {
	Self Identity
	// Secret is what every node of the cluster has; it authenticates both sides of every connection.
	Secret []byte
	// Cluster is the cluster that the node belongs to, "" if none yet; see SetCluster.
	Cluster string
	// Server and Client encrypt connections between nodes when both are set.
	Server, Client *tls.Config
	// HeartbeatEvery is the time between heartbeats to each node (100 ms).
	HeartbeatEvery time.Duration
	// SuspectAfter without an answer makes a node count as down (1 s). A shorter time finds failures sooner and takes
	// a busy node for a dead one more often.
	SuspectAfter time.Duration
	// Clock, if not nil, has its reports carried on the answers to heartbeats.
	Clock  Clock
	Logger *slog.Logger
}

// Clock tells other nodes about this node's clocks, and hears about theirs. Its methods are called for every heartbeat, from
// any goroutine, and must not block.
type Clock interface {
	// Report appends at most 64 bytes to b.
	Report(b []byte) []byte
	// Heard takes what another node's Report wrote as answer to a question sent a round trip ago.
	Heard(node string, report []byte, trip time.Duration)
}

// Net is this node's end of all streams to other nodes. Its methods are safe for concurrent use.
type Net struct {
	opt     Options
	log     *slog.Logger
	handler Handler
	ln      net.Listener
	rpc     *queueListener
	raft    *queueListener
	calls   callTable
	slots   chan struct{} // bounds the calls being answered
	greets  chan struct{} // bounds the connections that have not proved themselves yet

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu      sync.Mutex
	links   map[string]*link
	inbound map[*Stream]struct{}
	said    map[string]time.Time // who was refused, when that was last logged
	rafts   map[net.Conn]struct{}
	muted   atomic.Bool
	cluster atomic.Pointer[clusterTag]
	byID    atomic.Pointer[map[string]*link] // what links was, for readers without the lock
}

const (
	maxCalls   = 256
	maxInbound = 4096 // streams accepted, or inboundPerPeer for each node known, if that is more
	maxGreets  = 512
	// inboundPerPeer: a node dials four streams; after a cut it dials them anew while the old ones still stand here.
	inboundPerPeer = 16
	dialTimeout    = 2 * time.Second
)

// New starts to accept on ln, which it owns from then on.
func New(ln net.Listener, h Handler, opt Options) *Net {
	if opt.HeartbeatEvery == 0 {
		opt.HeartbeatEvery = 100 * time.Millisecond
	}
	if opt.SuspectAfter == 0 {
		opt.SuspectAfter = time.Second
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n := &Net{
		opt: opt, log: opt.Logger, handler: h, ln: ln,
		rpc: newQueueListener(ln.Addr()), raft: newQueueListener(ln.Addr()),
		slots: make(chan struct{}, maxCalls), greets: make(chan struct{}, maxGreets),
		ctx: ctx, cancel: cancel,
		links: map[string]*link{}, inbound: map[*Stream]struct{}{}, rafts: map[net.Conn]struct{}{}, said: map[string]time.Time{},
	}
	n.byID.Store(&map[string]*link{})
	tag := tagOf(opt.Cluster)
	n.cluster.Store(&tag)
	n.handler.frame = n.frame
	n.wg.Go(n.acceptLoop)
	return n
}

// RPCListener gives the connections that are not from other nodes: Serf's RPC clients.
func (n *Net) RPCListener() net.Listener { return n.rpc }

// RaftListener gives the authenticated connections of other nodes' Raft transports.
func (n *Net) RaftListener() net.Listener { return n.raft }

// DialRaft connects to the Raft transport of the node at addr. It fails while the node is muted.
func (n *Net) DialRaft(addr string, timeout time.Duration) (net.Conn, error) {
	if n.muted.Load() {
		return nil, errMuted
	}
	c, _, err := n.dial(n.ctx, addr, raftClass, timeout)
	if err != nil {
		return nil, err
	}
	r := &raftConn{Conn: c, net: n}
	n.mu.Lock()
	n.rafts[r] = struct{}{}
	n.mu.Unlock()
	if n.muted.Load() {
		_ = r.Close() // Mute may have looked before it was there
	}
	return r, nil
}

var errMuted = errors.New("this node is muted: its disk does not answer")

// raftConn is a connection to another node's Raft transport.
type raftConn struct {
	net.Conn
	net *Net
}

func (c *raftConn) Close() error {
	c.net.mu.Lock()
	delete(c.net.rafts, c)
	c.net.mu.Unlock()
	return c.Conn.Close()
}

// Mute makes the node look dead, or alive again: it neither sends nor answers heartbeats, and its Raft reaches nobody, so that others
// elect another leader and other primaries. Streams stay, and calls are answered: what it has may be asked for. For a node
// that cannot do its part and does not know for how long.
func (n *Net) Mute(on bool) {
	if n.muted.Swap(on) == on || !on {
		return
	}
	n.mu.Lock()
	open := slices.Collect(maps.Keys(n.rafts))
	n.mu.Unlock()
	for _, c := range open {
		_ = c.Close()
	}
}

// SetPeers says which nodes exist and where, by id; itself may be among them. Streams to nodes that are gone from it
// are closed, those to new ones opened.
func (n *Net) SetPeers(addrs map[string]string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.ctx.Err() != nil {
		return
	}
	for id, l := range n.links {
		if addr, ok := addrs[id]; !ok || addr != l.addr {
			l.cancel()
			delete(n.links, id)
		}
	}
	for id, addr := range addrs {
		if n.links[id] == nil && id != n.opt.Self.NodeID {
			n.links[id] = n.openLink(id, addr)
		}
	}
	snapshot := maps.Clone(n.links)
	n.byID.Store(&snapshot)
}

// refusal tells a node that must not be heard from a connection that failed.
func refusal(err error) bool {
	return errors.Is(err, ErrSecret) || errors.Is(err, errTwin) || errors.Is(err, ErrCluster) || errors.Is(err, errClass)
}

// news tells whether something about who was not said in the last minute: other nodes try again several times a second.
func (n *Net) news(who string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	now := time.Now()
	if last, ok := n.said[who]; ok && now.Sub(last) < time.Minute {
		return false
	}
	if len(n.said) > 1024 {
		clear(n.said)
	}
	n.said[who] = now
	return true
}

func (n *Net) link(id string) *link { return (*n.byID.Load())[id] }

// Stream returns the standing outbound stream of class to the node, or nil.
func (n *Net) Stream(id string, class Class) *Stream {
	l := n.link(id)
	if l == nil {
		return nil
	}
	return l.streams[class].Load()
}

// Down tells that the node does not answer: no heartbeat for SuspectAfter, or its host refuses connections.
// A node that is unknown is down; this node never is.
func (n *Net) Down(id string) bool {
	if id == n.opt.Self.NodeID {
		return false
	}
	l := n.link(id)
	return l == nil || l.refused.Load() || time.Since(l.answeredAt()) > n.opt.SuspectAfter
}

// Acked returns when the newest heartbeat that the node has answered was sent: the time from which on a lease that
// the node grants with its answer counts. The zero time means none.
func (n *Net) Acked(id string) time.Time {
	if l := n.link(id); l != nil {
		return fromNano(l.acked.Load())
	}
	return time.Time{}
}

// Heard returns when the node's own heartbeat last arrived here. The zero time means never.
func (n *Net) Heard(id string) time.Time {
	if l := n.link(id); l != nil {
		return fromNano(l.heard.Load())
	}
	return time.Time{}
}

// Close stops accepting and dialing, closes every stream and waits for its goroutines.
func (n *Net) Close() error {
	n.mu.Lock()
	n.cancel()
	inbound := maps.Clone(n.inbound)
	n.mu.Unlock()
	err := n.ln.Close()
	for s := range inbound {
		s.Close()
	}
	_ = n.rpc.Close()
	_ = n.raft.Close()
	n.wg.Wait()
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

func (n *Net) acceptLoop() {
	backoff := time.Millisecond
	for {
		c, err := n.ln.Accept()
		if n.ctx.Err() != nil {
			if err == nil {
				_ = c.Close()
			}
			return
		}
		if err != nil {
			n.log.Warn("accept on the internal port", "error", err)
			select {
			case <-time.After(backoff):
			case <-n.ctx.Done():
				return
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = time.Millisecond
		select {
		case n.greets <- struct{}{}:
		default:
			_ = c.Close()
			continue
		}
		n.wg.Go(func() {
			if s := n.greet(c); s != nil {
				n.run(s)
				n.mu.Lock()
				delete(n.inbound, s)
				n.mu.Unlock()
			}
		})
	}
}

// greet finds out who is calling, and hands the connection to whom it is for. Streams it returns.
func (n *Net) greet(c net.Conn) *Stream {
	defer func() { <-n.greets }()
	// Close must not wait for somebody who connects and says nothing.
	stop := context.AfterFunc(n.ctx, func() { _ = c.Close() })
	defer stop()
	if err := c.SetDeadline(time.Now().Add(handshakeTimeout)); err != nil {
		_ = c.Close()
		return nil
	}
	return n.serve(c)
}

// serve tells by the first byte who is calling.
func (n *Net) serve(c net.Conn) *Stream {
	pc := &peekConn{Conn: c}
	first, err := pc.peek()
	if err != nil {
		_ = c.Close()
		return nil
	}
	if first == 0x16 && n.opt.Server != nil {
		tc := tls.Server(pc, n.opt.Server)
		pc = &peekConn{Conn: tc}
		if first, err = pc.peek(); err != nil {
			if n.news("from " + hostOf(c)) {
				n.log.Warn("TLS handshake on the internal port", "from", c.RemoteAddr().String(), "error", err)
			}
			_ = c.Close()
			return nil
		}
	} else if n.opt.Server != nil && first == magic[0] {
		if n.news("from " + hostOf(c)) {
			n.log.Warn("refused a node without TLS: cluster.inter_node_tls is on here", "from", c.RemoteAddr().String())
		}
		_ = c.Close()
		return nil
	}
	if first != magic[0] {
		_ = c.SetDeadline(time.Time{})
		n.rpc.offer(pc)
		return nil
	}
	return n.servePeer(pc)
}

func hostOf(c net.Conn) string {
	host, _, _ := net.SplitHostPort(c.RemoteAddr().String())
	return host
}

func (n *Net) servePeer(c *peekConn) *Stream {
	if err := c.expectMagic(); err != nil {
		_ = c.Close()
		return nil
	}
	class, id, err := acceptHandshake(c, n.self(), n.opt.Secret, n.taken)
	if err != nil {
		switch {
		case !refusal(err) || !n.news("from "+hostOf(c)):
		case errors.Is(err, ErrSecret):
			n.log.Warn("refused a node: cluster secrets differ", "from", c.RemoteAddr().String())
		default:
			n.log.Warn("refused a node", "from", c.RemoteAddr().String(), "error", err)
		}
		_ = c.Close()
		return nil
	}
	if class == raftClass {
		n.raft.offer(c.plain())
		return nil
	}
	s := newStream(c.plain(), class, id, false)
	if !n.addInbound(s) {
		s.Close()
		return nil
	}
	return s
}

func (n *Net) addInbound(s *Stream) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.cluster.Load().foreign(s.Peer.cluster) { // SetCluster came in the middle of the handshake
		return false
	}
	if n.ctx.Err() != nil || len(n.inbound) >= max(maxInbound, inboundPerPeer*len(n.links)) {
		return false
	}
	n.inbound[s] = struct{}{}
	return true
}

// run reads the stream until it ends; its writer ends with it.
func (n *Net) run(s *Stream) {
	n.wg.Go(s.writeLoop)
	if s.Class != Control && n.handler.Opened != nil {
		n.handler.Opened(s)
	}
	err := s.readLoop(Handler{frame: n.frame, BatchEnd: n.batchEnd})
	s.fail(err)
	if s.Class != Control && n.handler.Closed != nil {
		n.handler.Closed(s)
	}
}

func (n *Net) batchEnd(s *Stream) {
	if s.Class == Control {
		s.Flush()
		return
	}
	n.handler.BatchEnd(s)
}

func (n *Net) frame(s *Stream, typ byte, body []byte) {
	switch {
	case typ == framePing:
	case s.Class == Control:
		n.control(s, typ, body)
	default:
		n.handler.Frame(s, typ, body)
	}
}

func (n *Net) dial(ctx context.Context, addr string, class Class, timeout time.Duration) (net.Conn, Identity, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	d := net.Dialer{}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, Identity{}, err
	}
	raw := c
	stop := context.AfterFunc(ctx, func() { _ = raw.Close() })
	defer stop()
	if n.opt.Client != nil {
		cfg := n.opt.Client.Clone()
		if cfg.ServerName == "" {
			cfg.ServerName, _, _ = net.SplitHostPort(addr)
		}
		tc := tls.Client(c, cfg)
		if err := tc.HandshakeContext(ctx); err != nil {
			_ = c.Close()
			return nil, Identity{}, fmt.Errorf("%w with %s: %w", errTLS, addr, err)
		}
		c = tc
	}
	id, err := dialHandshake(c, class, n.self(), n.opt.Secret)
	if err != nil {
		_ = c.Close()
		return nil, Identity{}, err
	}
	if !stop() {
		_ = c.Close()
		return nil, Identity{}, fmt.Errorf("dial %s: %w", addr, ctx.Err())
	}
	return c, id, nil
}

func fromNano(v int64) time.Time {
	if v == 0 {
		return time.Time{}
	}
	return epoch.Add(time.Duration(v))
}

// epoch anchors times kept in atomics to the monotonic clock, which a wall clock step does not move.
var epoch = time.Now()

func sinceEpoch() int64 { return max(int64(time.Since(epoch)), 1) }
