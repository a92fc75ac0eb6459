package member

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

// Status is what gossip believes about a member.
type Status string

// The states of a member.
const (
	Alive   Status = "alive"
	Leaving Status = "leaving"
	Left    Status = "left"
	Failed  Status = "failed"
)

// Tags are what a node tells everybody about itself.
type Tags struct {
	RPCAddr  string // host:port of the internal port
	RESPAddr string // host:port for Redis clients
	HTTPAddr string // host:port for HTTP
	Zone     string
	Version  string
	TLS      bool // Redis clients and HTTP need TLS
}

// Member is one node as gossip knows it.
type Member struct {
	ID         string
	Addr       string // IP address of the gossip listener
	RPCAddr    string
	RESPAddr   string
	HTTPAddr   string
	GossipAddr string // host:port
	Zone       string
	Version    string
	TLS        bool
	Status     Status
	Tags       map[string]string // as they travel; Observer marks nodes that never hold data
}

// Observer says that the node only looks on (a debugging session): it must
// never become part of the topology.
func (m Member) Observer() bool { return m.Tags[tagObserver] != "" }

// Options describe one gossip node.
type Options struct {
	NodeID        string // unique in the cluster; at most 63 bytes
	BindAddr      string // IP address; empty means all
	GossipPort    int    // TCP and UDP; 0 takes a free one (tests)
	AdvertiseAddr string // IP address or name that others use; a name is resolved when starting. Empty: the bind address
	Tags          Tags
	Observer      bool   // announce that this node never holds data
	Cluster       string // gossip label: nodes of other clusters are not heard. Empty: none
	EncryptKey    []byte // 16, 24 or 32 bytes; nil gossips in clear
	KeyringFile   string // where rotated keys are kept; empty keeps them in memory
	SnapshotPath  string // remembers members over a restart; empty does not
	Seeds         []string
	RPCAuthKey    string                      // see ServeRPC
	OnLeave       func(context.Context) error // what `serf leave` does; nil refuses it
	Logger        *slog.Logger                // nil discards

	// ReclaimAfter is how long an id must have been dead before it may come back on
	// another address; 0 means 5 s. Shorter lets replaced machines in sooner,
	// and lets an impostor take over a name sooner.
	ReclaimAfter time.Duration

	transport memberlist.Transport // nil: sockets; simulations put a network in memory here
}

const (
	tagHost     = "addr"
	tagRPC      = "rpc"
	tagRESP     = "resp"
	tagHTTP     = "http"
	tagZone     = "zone"
	tagVersion  = "ver"
	tagTLS      = "tls"
	tagObserver = "observer"

	defaultReclaim   = 5 * time.Second
	eventBuffer      = 1024
	firstRetry       = 200 * time.Millisecond
	slowestRetry     = 5 * time.Second
	settledInterval  = 30 * time.Second
	insistInterval   = 3 * time.Second
	insistFor        = time.Minute
	forgetWait       = 30 * time.Second // longer than gossip takes to find a failure
	resolveTimeout   = 3 * time.Second
	dialTimeout      = 4 * time.Second
	leaveGrace       = time.Second
	broadcastTimeout = 3 * time.Second
)

// Node is this process' place in the gossip. Create one with New, then Start it
// once, and Close it in the end.
type Node struct {
	opts   Options
	log    *slog.Logger
	lines  *logTap
	events chan serf.Event
	serf   *serf.Serf

	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
	failed chan struct{}
	seek   context.Context // ends with Leave: who left must not join again
	settle context.CancelFunc
	sought chan struct{} // closed when seeking is over

	mu       sync.Mutex
	watchers []func([]Member)
	streams  map[*eventStream]struct{}
	tagMu    sync.Mutex    // one change of tags at a time
	changed  chan struct{} // capacity 1: there is something to tell watchers
}

// New checks the options. Nothing is opened before Start.
func New(o Options) (*Node, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.ReclaimAfter == 0 {
		o.ReclaimAfter = defaultReclaim
	}
	if o.NodeID == "" {
		return nil, errors.New("member: a node id is required")
	}
	n := &Node{
		opts:    o,
		log:     o.Logger,
		lines:   newLogTap(o.Logger),
		events:  make(chan serf.Event, eventBuffer),
		failed:  make(chan struct{}),
		streams: map[*eventStream]struct{}{},
		changed: make(chan struct{}, 1),
		sought:  make(chan struct{}),
	}
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.seek, n.settle = context.WithCancel(n.ctx)
	return n, nil
}

// Start opens the gossip port and begins to look for seeds; it does not wait for
// them. It blocks only while an advertised name does not resolve yet, until ctx
// ends. After an error the Node is spent.
func (n *Node) Start(ctx context.Context) error {
	advertise, err := n.resolveAdvertise(ctx)
	if err != nil {
		return fmt.Errorf("resolve advertise address: %w", err)
	}
	conf, err := n.serfConfig(advertise)
	if err != nil {
		return err
	}
	s, err := serf.Create(conf)
	if err != nil {
		// Serf keeps goroutines that wait for the event channel; give them a reader.
		n.wg.Go(n.drainEvents)
		return fmt.Errorf("start gossip on %s: %w", net.JoinHostPort(n.opts.BindAddr, strconv.Itoa(n.opts.GossipPort)), err)
	}
	n.serf = s
	n.wg.Go(n.drainEvents)
	n.wg.Go(n.tellWatchers)
	n.wg.Go(func() {
		defer close(n.sought)
		n.seekSeeds()
	})
	n.wg.Go(n.watchSerf)
	return nil
}

func (n *Node) serfConfig(advertise string) (*serf.Config, error) {
	o := n.opts
	conf := serf.DefaultConfig()
	conf.Init()
	conf.NodeName = o.NodeID
	conf.Tags = encodeTags(o)
	conf.EventCh = n.events
	conf.Logger = n.lines.logger()
	conf.LogOutput = nil
	conf.SnapshotPath = o.SnapshotPath
	conf.BroadcastTimeout = broadcastTimeout
	conf.LeavePropagateDelay = leaveGrace
	// The loser of Serf's vote on a name shuts itself down. A node that comes back
	// on a new address within seconds of its death would lose against its own
	// ghost, so conflicts are only logged here: the peer handshake settles who
	// an id belongs to.
	conf.EnableNameConflictResolution = false
	// A member that is away for a day is still the topology's business.
	conf.ReconnectTimeout = 24 * time.Hour

	ml := memberlist.DefaultLANConfig()
	ml.BindAddr = "0.0.0.0"
	if o.BindAddr != "" {
		ml.BindAddr = o.BindAddr
	}
	ml.BindPort = o.GossipPort
	ml.AdvertisePort = o.GossipPort
	if o.GossipPort != 0 {
		ml.AdvertiseAddr = advertise
	}
	// A join cannot be cancelled, so this bounds how long Close may take.
	ml.TCPTimeout = dialTimeout
	ml.Label = o.Cluster
	ml.DeadNodeReclaimTime = o.ReclaimAfter
	ml.Transport = o.transport
	ml.Logger = conf.Logger
	ml.LogOutput = nil
	if err := setKeys(conf, ml, o); err != nil {
		return nil, fmt.Errorf("load gossip keys: %w", err)
	}
	conf.MemberlistConfig = ml
	return conf, nil
}

// resolveAdvertise turns the advertised name into the IP address that gossip
// needs. Container names resolve only once the network knows them.
func (n *Node) resolveAdvertise(ctx context.Context) (string, error) {
	host := n.opts.AdvertiseAddr
	if host == "" || net.ParseIP(host) != nil {
		return host, nil
	}
	for wait := firstRetry; ; wait = min(2*wait, slowestRetry) {
		ip, err := lookup(ctx, host)
		if err == nil {
			return ip, nil
		}
		n.log.Warn("advertised name does not resolve yet", "name", host, "error", err, "retry_in", wait)
		if !pause(ctx, n.ctx, wait) {
			return "", errors.Join(err, ctx.Err())
		}
	}
}

// lookup resolves a name, IPv4 first, as the gossip port binds to IPv4 by default.
func lookup(ctx context.Context, host string) (string, error) {
	if ip := net.ParseIP(host); ip != nil {
		return ip.String(), nil
	}
	ctx, cancel := context.WithTimeout(ctx, resolveTimeout)
	defer cancel()
	ips, err := net.DefaultResolver.LookupIP(ctx, "ip", host)
	if err != nil {
		return "", err
	}
	for _, ip := range ips {
		if ip.To4() != nil {
			return ip.String(), nil
		}
	}
	if len(ips) == 0 {
		return "", fmt.Errorf("%s has no address", host)
	}
	return ips[0].String(), nil
}

// pause waits unless one of the contexts ends first.
func pause(a, b context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-a.Done():
	case <-b.Done():
	}
	return false
}

// Members lists everybody, sorted by id, this node included.
func (n *Node) Members() []Member {
	if n.serf == nil {
		return nil
	}
	raw := n.serf.Members()
	out := make([]Member, 0, len(raw))
	for _, m := range raw {
		out = append(out, decodeMember(m))
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out
}

// Local is this node as others see it.
func (n *Node) Local() Member { return decodeMember(n.serf.LocalMember()) }

// OnChange calls fn after every change with all members. Calls come one at a time
// from one goroutine of the Node and may lump changes together; gossip itself
// never waits for fn. Register before Start to miss nothing.
func (n *Node) OnChange(fn func([]Member)) {
	n.mu.Lock()
	n.watchers = append(n.watchers, fn)
	n.mu.Unlock()
	n.touch()
}

// Failed is closed if gossip stopped by itself, which needs a restart of the node.
func (n *Node) Failed() <-chan struct{} { return n.failed }

// Leave tells everybody that this node goes for good, and waits until they know
// or ctx ends. Only a drained node should: others stop waiting for one that
// left. Close still has to follow.
func (n *Node) Leave(ctx context.Context) error {
	if n.serf == nil {
		return nil
	}
	n.settle()
	select {
	case <-n.sought: // a join under way would bring this node back
	case <-ctx.Done():
		return fmt.Errorf("leave gossip: %w", ctx.Err())
	}
	done := make(chan error, 1)
	n.wg.Go(func() { done <- n.serf.Leave() })
	select {
	case err := <-done:
		if err != nil {
			return fmt.Errorf("leave gossip: %w", err)
		}
		return nil
	case <-ctx.Done():
		return fmt.Errorf("leave gossip: %w", ctx.Err())
	}
}

// Forget tells everybody that a node which failed has left for good, so that nobody goes on trying to reach it. It only
// tidies the view of gossip, and waits until that has found the failure, for forgetWait at most: Serf takes a node that it
// is told about before for one that is leaving, and would go on doing so if the node came back.
func (n *Node) Forget(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, forgetWait)
	defer cancel()
	look := time.NewTicker(time.Second)
	defer look.Stop()
	for {
		members := n.serf.Members()
		at := slices.IndexFunc(members, func(m serf.Member) bool { return m.Name == id })
		switch {
		case at < 0 || members[at].Status == serf.StatusLeft:
			return nil
		case members[at].Status == serf.StatusFailed:
			if err := n.serf.RemoveFailedNode(id); err != nil {
				return fmt.Errorf("forget %s: %w", id, err)
			}
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("forget %s: it has not failed yet: %w", id, ctx.Err())
		case <-look.C:
		}
	}
}

// Close stops gossip at once. Without Leave before it, others see a failure and
// expect the node back.
func (n *Node) Close() error {
	n.lines.closing.Store(true)
	var err error
	if n.serf != nil {
		// Before cancel: Serf may still have events to hand to drainEvents.
		err = n.serf.Shutdown()
	}
	n.cancel()
	n.wg.Wait()
	n.lines.close()
	if err != nil {
		return fmt.Errorf("stop gossip: %w", err)
	}
	return nil
}

// drainEvents reads Serf's channel for as long as Serf may write to it: a full
// channel stops gossip itself.
func (n *Node) drainEvents() {
	for {
		select {
		case e := <-n.events:
			n.dispatch(e)
		case <-n.ctx.Done():
			return
		}
	}
}

func (n *Node) dispatch(e serf.Event) {
	if _, ok := e.(serf.MemberEvent); ok {
		n.touch()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for s := range n.streams {
		s.offer(e)
	}
}

func (n *Node) touch() {
	select {
	case n.changed <- struct{}{}:
	default: // a call is due already and will see this change too
	}
}

func (n *Node) tellWatchers() {
	for {
		select {
		case <-n.changed:
		case <-n.ctx.Done():
			return
		}
		n.mu.Lock()
		watchers := slices.Clone(n.watchers)
		n.mu.Unlock()
		if len(watchers) == 0 {
			continue
		}
		members := n.Members()
		for _, fn := range watchers {
			fn(members)
		}
	}
}

func (n *Node) watchSerf() {
	select {
	case <-n.serf.ShutdownCh():
		if !n.lines.closing.Load() {
			n.log.Error("gossip stopped by itself")
			close(n.failed)
		}
	case <-n.ctx.Done():
	}
}

// seekSeeds joins through every seed that is not an alive member yet: quickly
// while there are some, and every half a minute afterwards, which also heals a
// cluster that a long network cut left in two. In its first minutes the node also
// repeats itself to others: one that came back on a new address was not believed
// while its old self counted as alive, and nothing else would tell them again
// soon.
func (n *Node) seekSeeds() {
	wait, quiet := firstRetry, false
	insist := time.Now().Add(n.opts.ReclaimAfter + insistFor)
	for {
		missing, err := n.joinMissing()
		if n.seek.Err() != nil {
			return
		}
		switch {
		case len(missing) == 0:
			wait, quiet = firstRetry, false
			interval := settledInterval
			if time.Now().Before(insist) {
				interval = insistInterval
				n.repeatSelf()
			}
			if !pause(n.seek, n.seek, interval) {
				return
			}
			continue
		case !quiet:
			n.log.Info("waiting for seeds", "missing", missing, "error", err)
			quiet = wait >= slowestRetry
		}
		if !pause(n.seek, n.seek, wait) {
			return
		}
		wait = min(2*wait, slowestRetry)
	}
}

// joinMissing tries the seeds that are not among the alive and returns those it
// could not reach.
func (n *Node) joinMissing() (missing []string, err error) {
	alive := map[string]bool{}
	for _, m := range n.Members() {
		if m.Status == Alive {
			alive[m.GossipAddr] = true
		}
	}
	for _, seed := range n.opts.Seeds {
		if n.seek.Err() != nil {
			return nil, nil
		}
		host, port, splitErr := net.SplitHostPort(seed)
		if splitErr != nil {
			return n.opts.Seeds, fmt.Errorf("seed %q: %w", seed, splitErr)
		}
		ip, lookupErr := lookup(n.ctx, host)
		if lookupErr != nil {
			missing, err = append(missing, seed), lookupErr
			continue
		}
		addr := net.JoinHostPort(ip, port)
		if alive[addr] {
			continue
		}
		if _, joinErr := n.serf.Join([]string{addr}, true); joinErr != nil {
			missing, err = append(missing, seed), joinErr
		}
	}
	return missing, err
}

// repeatSelf exchanges the full state with one other alive member.
func (n *Node) repeatSelf() {
	var others []string
	for _, m := range n.Members() {
		if m.Status == Alive && m.ID != n.opts.NodeID {
			others = append(others, m.GossipAddr)
		}
	}
	if len(others) == 0 {
		return
	}
	if _, err := n.serf.Join([]string{others[rand.IntN(len(others))]}, true); err != nil {
		n.log.Debug("could not repeat the join", "error", err)
	}
}

// encodeTags packs the addresses so that they fit 512 bytes: the host is written
// once, and a service on the same host carries only its port.
func encodeTags(o Options) map[string]string {
	host := o.AdvertiseAddr
	pack := func(addr string) string {
		h, p, err := net.SplitHostPort(addr)
		if err == nil && h == host {
			return p
		}
		return addr
	}
	all := map[string]string{
		tagHost: host, tagRPC: pack(o.Tags.RPCAddr), tagRESP: pack(o.Tags.RESPAddr), tagHTTP: pack(o.Tags.HTTPAddr),
		tagZone: o.Tags.Zone, tagVersion: o.Tags.Version,
	}
	if o.Tags.TLS {
		all[tagTLS] = "1"
	}
	if o.Observer {
		all[tagObserver] = "1"
	}
	maps.DeleteFunc(all, func(_, v string) bool { return v == "" })
	return all
}

func decodeMember(m serf.Member) Member {
	host := m.Tags[tagHost]
	if host == "" {
		host = m.Addr.String()
	}
	unpack := func(v string) string {
		if v == "" || strings.Contains(v, ":") {
			return v
		}
		return net.JoinHostPort(host, v)
	}
	out := Member{
		ID: m.Name, Addr: m.Addr.String(),
		RPCAddr: unpack(m.Tags[tagRPC]), RESPAddr: unpack(m.Tags[tagRESP]), HTTPAddr: unpack(m.Tags[tagHTTP]),
		GossipAddr: net.JoinHostPort(m.Addr.String(), strconv.Itoa(int(m.Port))),
		Zone:       m.Tags[tagZone], Version: m.Tags[tagVersion], TLS: m.Tags[tagTLS] != "",
		Tags: maps.Clone(m.Tags),
	}
	switch m.Status {
	case serf.StatusAlive:
		out.Status = Alive
	case serf.StatusLeaving:
		out.Status = Leaving
	case serf.StatusLeft:
		out.Status = Left
	default:
		out.Status = Failed
	}
	return out
}

// holdsKey says whether the ring has the key.
func holdsKey(ring *memberlist.Keyring, key []byte) bool {
	return slices.ContainsFunc(ring.GetKeys(), func(k []byte) bool { return bytes.Equal(k, key) })
}
