package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"path/filepath"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/cache"
	"hypercache/node/clock"
	"hypercache/node/command"
	"hypercache/node/config"
	"hypercache/node/httpapi"
	"hypercache/node/journal"
	"hypercache/node/member"
	"hypercache/node/peer"
	"hypercache/node/replica"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
	"hypercache/node/topology"
)

type driver = replica.Driver[*peer.Stream]

// Server is one node. New opens it, Run serves until its context ends and closes it.
type Server struct {
	cfg     config.Config
	log     *slog.Logger
	started time.Time
	version string

	journal   *journal.Journal // nil without persistence
	placed    atomic.Bool      // the driver knows which groups this node holds
	importing atomic.Bool      // libraries of an import are not in the topology yet
	settled   atomic.Bool      // it was ready once: a change of voters later does not take it out of service
	rewrite   chan struct{}    // asks for a rewrite of the journal
	db        *store.DB
	clock     *clock.Clock
	driver    *driver
	cache     *cache.Cache
	net       *peer.Net
	topology  *topology.Topology
	gossip    *member.Node
	resp      *resp.Server
	http      *httpapi.Server
	params    *command.Config
	secret    []byte

	incarnation uint64
	past        *topology.Past // what the directory showed of earlier processes
	peering     peer.Options
	restored    *restored
	view        atomic.Pointer[command.ClusterView]
	draining    atomic.Bool
	stalled     atomic.Bool   // the disk does not answer, and the node plays dead
	routed      atomic.Uint64 // epoch of the topology by which commands are routed

	failovers atomic.Uint64
	usage     usage
	moves     moves
	led       [ring.Groups]string // who was primary last; topologyChanged alone uses it
	fatal     chan error

	built   chan struct{} // closed when New is done: other nodes' calls may come before
	members atomic.Pointer[[]member.Member]
	peersMu sync.Mutex // orders updates of the list of peers
}

// Version is what the build says it is; set with -ldflags "-X hypercache/node/server.Version=…".
var Version = "0.1.0"

// New opens a node: it locks and recovers the data directory, and takes every port, so that what can't work shows here.
// Nothing is served before Run. After an error nothing is left open.
func New(cfg config.Config, log *slog.Logger) (*Server, error) {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	if err := cfg.Identify(); err != nil {
		return nil, err
	}
	log = log.With("node", cfg.Server.NodeID)
	for _, w := range cfg.Warnings() {
		log.Warn(w)
	}
	s := &Server{cfg: cfg, log: log, started: time.Now(), version: Version, fatal: make(chan error, 1), rewrite: make(chan struct{}, 1), built: make(chan struct{}), incarnation: newIncarnation()}
	s.members.Store(&[]member.Member{})
	if err := s.open(); err != nil {
		s.close() // nothing was served: what the journal has is on the disk, and an error of its own is noted in it
		return nil, err
	}
	close(s.built)
	return s, nil
}

func (s *Server) open() error {
	var err error
	if s.secret, err = s.cfg.Cluster.Secret(); err != nil {
		return err
	}
	passwords, err := s.cfg.Auth.Passwords()
	if err != nil {
		return err
	}
	policy, err := store.ParsePolicy(s.cfg.Cache.EvictionPolicy)
	if err != nil {
		return err
	}
	// Before the journal is opened, which writes: the directory may be somebody else's.
	if s.past, err = topology.ReadPast(s.topologyDir(), s.id()); err != nil {
		return err
	}
	if s.peering, err = s.peerOptions(); err != nil {
		return err
	}
	memories, err := s.recall()
	if err != nil {
		return err
	}
	s.db = store.New(store.Options{MaxMemory: int64(s.cfg.Cache.MaxMemory), Policy: policy})
	if s.restored, err = s.recover(); err != nil {
		return err
	}
	if err := s.doubt(memories); err != nil {
		return err
	}
	s.clock = clock.New(clock.Options{Members: s.clockMembers, Freeze: s.db.Freeze, Logger: s.log})
	// One processor is left to the kernel's network work, to replication, to the garbage collector and to whoever else
	// runs here: with a loop on every processor they push each other off.
	loops := max(runtime.GOMAXPROCS(0)-1, 1)
	o := cache.Options{
		Self: s.id(), DB: s.db, Server: s, Wait: s.cfg.Cluster.AckTimeout, Samples: s.cfg.Cache.EvictionSamples,
		ScriptLimit: s.cfg.Cache.ScriptLimit, Loops: loops, Logger: s.log, Clock: s.clock, Promised: s.promised(), Quorum: s.cfg.Cluster.Reads == "quorum", Libraries: s,
		Users: cache.UserOptions{Passwords: passwords, Keeper: s},
		Down:  func(node string) bool { return s.net.Down(node) },
	}
	if s.cfg.Cluster.WriteAcks == "one" {
		o.Isolated = s.isolated
	}
	s.cache = cache.New(o)
	s.driver = replica.NewDriver[*peer.Stream](s.driverOptions(), &s.restored.groups)
	s.cache.Attach(s.driver)
	if err := s.openPeers(); err != nil {
		return err
	}
	s.params = s.parameters()
	if err := s.openClients(loops); err != nil {
		return err
	}
	s.importing.Store(has(s.cfg.Persistence.DataDir, functionsFile))
	return s.openCluster()
}

func (s *Server) id() string { return s.cfg.Server.NodeID }

// promised is how many replicas have a write when its reply is sent.
func (s *Server) promised() int {
	switch rf := s.cfg.Cluster.ReplicationFactor; s.cfg.Cluster.WriteAcks {
	case "one":
		return 0
	case "all":
		return rf - 1
	default:
		return rf / 2
	}
}

func (s *Server) driverOptions() replica.Options {
	o := replica.Options{
		Self: s.id(), Machine: s.cache, Lease: s.cfg.Cluster.Lease, Logger: s.log,
		NoLease: s.cfg.Cluster.Reads == "quorum", MaxStaleness: s.cfg.Cluster.MaxStaleness,
		Fatal: s.fails,
	}
	if s.journal != nil {
		o.Journal = s.journal
	}
	switch s.cfg.Cluster.WriteAcks {
	case "one":
		o.Acks = replica.AcksOne
	case "all":
		o.Acks = replica.AcksAll
	}
	return o
}

// fails ends Run with the first error that it is called with.
func (s *Server) fails(err error) {
	select {
	case s.fatal <- err:
	default: // it ends already
	}
}

func (s *Server) peerOptions() (peer.Options, error) {
	server, client, err := s.interNodeTLS()
	return peer.Options{
		Self:   peer.Identity{NodeID: s.id(), Incarnation: s.incarnation},
		Secret: s.secret, Cluster: s.past.Cluster, Server: server, Client: client,
		HeartbeatEvery: s.cfg.Cluster.HeartbeatInterval, SuspectAfter: s.cfg.Cluster.SuspectAfter, Logger: s.log,
	}, err
}

func (s *Server) openPeers() error {
	ln, err := net.Listen("tcp", s.cfg.Network.RPCAddr())
	if err != nil {
		return fmt.Errorf("listen for other nodes (network.rpc_port): %w", err)
	}
	s.peering.Clock = s.clock
	s.net = peer.New(ln, s.handler(), s.peering)
	return nil
}

func (s *Server) openClients(loops int) error {
	var cert *tls.Config
	var err error
	if s.cfg.Network.TLSEnabled {
		if cert, err = clientTLS(s.cfg.Network); err != nil {
			return err
		}
	}
	s.resp, err = resp.NewServer(resp.ServerOptions{
		Addr: s.cfg.Network.RESPAddr(), TLS: cert, Handler: s.cache,
		Limits: resp.Limits{
			MaxBulk: int(s.cfg.Cache.MaxValueBytes), MaxQueryBuffer: int(s.cfg.Limits.MaxQueryBuffer),
			MaxOutputHard: int(s.cfg.Limits.MaxOutputBuffer),
		},
		MaxClients: s.cfg.Limits.MaxClients, IdleTimeout: s.cfg.Limits.IdleTimeout, Loops: loops, Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("listen for Redis clients (network.resp_port): %w", err)
	}
	s.http, err = httpapi.New(httpapi.Options{
		Addr: s.cfg.Network.HTTPAddr(), TLS: cert, Backend: backend{s}, Secret: s.secret,
		MaxConns: s.cfg.Limits.HTTPMaxConns, MaxValue: int64(s.cfg.Cache.MaxValueBytes), Logger: s.log,
	})
	if err != nil {
		return fmt.Errorf("listen for HTTP (network.http_port): %w", err)
	}
	return nil
}

func (s *Server) openCluster() error {
	var err error
	s.topology, err = topology.Open(topology.Options{
		NodeID: s.id(), DataDir: s.topologyDir(), Bound: s.net.SetCluster, Fatal: s.fails,
		Self: topology.Member{
			Addr: s.advertised(s.cfg.Network.RPCPort), Zone: s.cfg.Cluster.Zone,
			RESPAddr: s.advertised(s.cfg.Network.RESPPort), HTTPAddr: s.advertised(s.cfg.Network.HTTPPort),
			GossipAddr: s.advertised(s.cfg.Network.GossipPort),
		},
		Stream: topology.Stream(s.net.RaftListener(), s.net.DialRaft), Resolve: s.resolve, Network: s.net,
		BootstrapExpect: s.expect(), RF: s.cfg.Cluster.ReplicationFactor, Was: s.past.State(), Logger: s.log,
		Timing: topology.Timing{MaxMoves: s.cfg.Cluster.MaxMoves},
	})
	if err != nil {
		return err
	}
	key, err := s.cfg.Cluster.GossipKey()
	if err != nil {
		return err
	}
	o := member.Options{
		NodeID: s.id(), BindAddr: s.cfg.Network.GossipBindAddr, GossipPort: s.cfg.Network.GossipPort,
		AdvertiseAddr: s.cfg.Network.AdvertiseAddr, Cluster: s.cfg.Cluster.Name, EncryptKey: key,
		Tags: member.Tags{
			RPCAddr: s.advertised(s.cfg.Network.RPCPort), RESPAddr: s.advertised(s.cfg.Network.RESPPort),
			HTTPAddr: s.advertised(s.cfg.Network.HTTPPort), Zone: s.cfg.Cluster.Zone, Version: s.version,
			TLS: s.cfg.Network.TLSEnabled,
		},
		Seeds: s.cfg.Cluster.Seeds, RPCAuthKey: s.cfg.Cluster.RPCAuthKey, OnLeave: s.Drain, Logger: s.log,
	}
	if s.cfg.Persistence.Enabled {
		o.SnapshotPath = filepath.Join(s.cfg.Persistence.DataDir, "gossip.snapshot")
		if len(key) > 0 {
			o.KeyringFile = filepath.Join(s.cfg.Persistence.DataDir, "gossip.keyring")
		}
	}
	if s.gossip, err = member.New(o); err != nil {
		return err
	}
	s.gossip.OnChange(s.membersChanged)
	return nil
}

func (s *Server) topologyDir() string { return filepath.Join(s.cfg.Persistence.DataDir, "topology") }

func (s *Server) advertised(port int) string { return s.cfg.Network.Advertised(port) }

// expect is how many nodes found a cluster together: -1, never, for a node whose only seed is another node, since that
// one has a cluster or will found it. With more seeds the count protects: so many nodes must have met.
func (s *Server) expect() int {
	seeds := s.cfg.Cluster.Seeds
	if s.cfg.Cluster.BootstrapExpect > 0 || len(seeds) != 1 || s.isSelf(seeds[0]) {
		return s.cfg.Cluster.Expect()
	}
	return -1
}

// isSelf tells that a gossip address is this node's own: as it advertises itself, or by any address of this machine.
func (s *Server) isSelf(addr string) bool {
	if addr == s.advertised(s.cfg.Network.GossipPort) {
		return true
	}
	host, port := splitAddr(addr)
	if port != s.cfg.Network.GossipPort {
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err != nil {
		return false
	}
	own, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, a := range own {
		if n, ok := a.(*net.IPNet); ok && slices.Contains(ips, n.IP.String()) {
			return true
		}
	}
	return false
}

// Run serves until ctx ends, then hands the primaries over and closes everything. ready is called, if not nil, once
// the node serves its share for the first time.
func (s *Server) Run(ctx context.Context, ready func()) error {
	work, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	failed := make(chan error, 4)
	serve := func(name string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil && work.Err() == nil {
				failed <- fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	wg.Go(func() { s.clock.Run(work) })
	wg.Go(func() { s.cache.Run(work) })
	wg.Go(func() { s.tidyLoop(work) })
	wg.Go(func() { s.stallLoop(work) })
	cancel := s.topology.Subscribe(s.topologyChanged)
	defer cancel()
	if err := s.gossip.Start(ctx); err != nil {
		s.shutdown(false)
		return err
	}
	serve("serve RESP", func() error { return s.resp.Serve(work) })
	serve("serve HTTP", func() error { return s.http.Serve(work) })
	serve("serve RPC", func() error { return s.gossip.ServeRPC(s.net.RPCListener()) })
	if s.journal != nil {
		wg.Go(func() { s.rewriteLoop(work) })
	}
	if s.importing.Load() {
		serve("import functions", func() error { return s.importFunctions(work) })
	}
	if ready != nil {
		wg.Go(func() { s.announce(work, ready) })
	}
	s.log.Info("serving", "version", s.version, "resp", s.cfg.Network.RESPAddr(), "http", s.cfg.Network.HTTPAddr(),
		"gossip", s.cfg.Network.GossipAddr(), "rpc", s.cfg.Network.RPCAddr(), "keys", s.restored.keys)

	var err error
	select {
	case <-ctx.Done():
		s.log.Info("stopping")
	case err = <-s.fatal:
	case err = <-failed:
	case <-s.gossip.Failed():
		err = errors.New("gossip stopped by itself")
	}
	s.shutdown(err == nil)
	return err
}

// shutdown closes in the order in which parts depend on each other: primaries are handed over while clients are still
// served and other nodes still reached; then clients go, then gossip, so that nobody is sent here; then the topology,
// whose Raft uses the streams; then the streams, whose handlers write the journal; the journal last.
func (s *Server) shutdown(graceful bool) {
	s.draining.Store(true)
	if graceful {
		s.handOver()
	}
	s.close()
	s.log.Info("stopped")
}

func (s *Server) close() {
	note := func(what string, err error) {
		if err != nil {
			s.log.Warn("close "+what, "error", err)
		}
	}
	if s.resp != nil {
		note("RESP", s.resp.Close())
	}
	if s.http != nil {
		note("HTTP", s.http.Close())
	}
	if s.gossip != nil {
		note("gossip", s.gossip.Close())
	}
	if s.topology != nil {
		note("topology", s.topology.Close())
	}
	if s.net != nil {
		note("peers", s.net.Close())
	}
	if s.journal != nil {
		note("journal", s.journal.Close(true))
	}
}

// announce calls ready once the node serves its share.
func (s *Server) announce(ctx context.Context, ready func()) {
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for {
		if ok, _ := s.Ready(); ok {
			s.log.Info("ready")
			ready()
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// Ready tells whether the node serves its share, and if not, why.
func (s *Server) Ready() (bool, []string) {
	var why []string
	if s.draining.Load() {
		why = append(why, "the node is stopping or drained")
	}
	if s.stalled.Load() {
		why = append(why, "the disk does not finish a write: the others have this node's part until it does")
	}
	p := s.topology.Ready(s.id())
	switch {
	case !p.Leader:
		why = append(why, "no leader of the topology is known")
	case !p.Member:
		why = append(why, "the node is not a member of the cluster yet")
	case !p.Assigned:
		why = append(why, "slots are not assigned yet")
	case p.Fragile && !s.settled.Load():
		why = append(why, "the topology could not survive the loss of a node yet: it has fewer than 3 voters")
	case s.importing.Load():
		why = append(why, "the imported libraries of functions are not in the topology yet")
	case p.Electing > 0:
		why = append(why, fmt.Sprintf("%d groups on this node have no primary", p.Electing))
	}
	if len(why) == 0 && !s.clock.Steady() && time.Since(s.started) < clockWait {
		why = append(why, "the clock has not been compared with the cluster's yet")
	}
	if n, one := s.lagging(); n > 0 && len(why) == 0 {
		why = append(why, fmt.Sprintf("%d groups on this node do not follow their primary yet (%s)", n, one))
	}
	if len(why) == 0 {
		s.settled.Store(true)
	}
	return len(why) == 0, why
}

// clockWait is how long after its start a node that could serve waits for its clock. Clocks of which no majority agrees must
// not keep a cluster from serving; nothing expires then.
const clockWait = 10 * time.Second

// Sees tells whether another node answers this one.
func (s *Server) Sees(id string) bool { return !s.net.Down(id) }

// LeadsTopology tells whether this node decides on the topology at present.
func (s *Server) LeadsTopology() bool { return s.topology.IsLeader() }

// Drain moves everything off this node and takes it out of the cluster; it keeps running until it is stopped.
func (s *Server) Drain(ctx context.Context) error {
	if err := s.topology.Drain(ctx, s.id()); err != nil {
		return err
	}
	s.draining.Store(true)
	s.driver.Release()
	s.cache.FlushReplies()
	return s.gossip.Leave(ctx)
}

// Remove takes a dead member out of the cluster, and out of the gossip, so that it is no longer waited for.
func (s *Server) Remove(ctx context.Context, node string) error {
	if err := s.topology.Remove(ctx, node); err != nil {
		return err
	}
	if err := s.gossip.Forget(ctx, node); err != nil {
		s.log.Warn("gossip keeps a removed node until it forgets it by itself", "peer", node, "error", err)
	}
	return nil
}

func newIncarnation() uint64 { return rand.Uint64() | 1 }
