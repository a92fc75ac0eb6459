package nodetest

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/node/config"
	"hypercache/node/server"
)

// Cluster is a number of nodes in this process.
type Cluster struct {
	t      testing.TB
	prefix string // of the nodes' ids
	dir    string
	nodes  []*Node
	base   config.Config
}

// Node is one of them.
type Node struct {
	ID     string
	Config config.Config
	Log    *Log // if set before Start, what the node logs goes there

	c      *Cluster
	srv    *server.Server
	cancel context.CancelFunc
	done   chan error
}

// Patient is how long tests wait for what takes milliseconds on a quiet machine.
const Patient = 60 * time.Second

// Start runs n nodes that found a cluster together, and waits until all serve. change may adjust their configuration.
func Start(t testing.TB, n int, change func(*config.Config)) *Cluster {
	t.Helper()
	return start(t, "n", n, change)
}

func start(t testing.TB, prefix string, n int, change func(*config.Config)) *Cluster {
	t.Helper()
	c := &Cluster{t: t, prefix: prefix, dir: t.TempDir()}
	secret := filepath.Join(c.dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret for tests only"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.base = config.Default()
	c.base.Cluster.SecretFile = secret
	c.base.Cluster.Name = fmt.Sprintf("test-%d-%d", os.Getpid(), time.Now().UnixNano())
	c.base.Cluster.SuspectAfter = 2 * time.Second // machines that run tests are busy
	c.base.Cluster.Linger = 0                     // clients of tests know what they stop
	c.base.Cluster.MaxMoves = 64                  // nobody measures latencies here
	if change != nil {
		change(&c.base)
	}
	for range n {
		c.add()
	}
	if n > 1 {
		for _, node := range c.nodes {
			node.Config.Cluster.Seeds = c.seeds()
			node.Config.Cluster.BootstrapExpect = n
		}
	}
	for _, node := range c.nodes {
		node.Start()
	}
	t.Cleanup(c.StopAll)
	c.AwaitReady()
	return c
}

func (c *Cluster) seeds() (list []string) {
	for _, n := range c.nodes[:min(len(c.nodes), 3)] {
		list = append(list, n.Config.Network.GossipAddr())
	}
	return list
}

func (c *Cluster) add() *Node {
	c.t.Helper()
	n := &Node{ID: c.prefix + strconv.Itoa(len(c.nodes)), Config: c.base, c: c}
	n.Config.Server.NodeID = n.ID
	w := &n.Config.Network
	w.RESPBindAddr, w.HTTPBindAddr, w.GossipBindAddr, w.RPCBindAddr, w.AdvertiseAddr = "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1", "127.0.0.1"
	w.RESPPort, w.HTTPPort, w.GossipPort, w.RPCPort = freePort(c.t), freePort(c.t), freePort(c.t), freePort(c.t)
	n.Config.Persistence.DataDir = filepath.Join(c.dir, n.ID)
	c.nodes = append(c.nodes, n)
	return n
}

// Add starts one more node that joins the cluster.
func (c *Cluster) Add() *Node {
	c.t.Helper()
	seeds := c.seeds()
	n := c.add()
	n.Config.Cluster.Seeds = seeds
	n.Start()
	return n
}

// Ports are used once in a process, since one that is free now is not bound yet, and processes that run at the same time
// seldom have the same range.
const (
	firstPort  = 10000
	portRange  = 4000
	portRanges = 5
)

var handedOut = struct {
	mu    sync.Mutex
	ports map[int]bool
}{ports: map[int]bool{}}

// take reserves a port; false if it was handed out before.
func take(port int) bool {
	handedOut.mu.Lock()
	defer handedOut.mu.Unlock()
	if len(handedOut.ports) > portRange*3/4 {
		clear(handedOut.ports) // of clusters that are long gone
	}
	if handedOut.ports[port] {
		return false
	}
	handedOut.ports[port] = true
	return true
}

// freePort finds a port that is free for TCP and UDP, below those that the kernel gives to outgoing connections: a node
// that restarts needs the same one again.
func freePort(t testing.TB) int {
	t.Helper()
	for range 200 {
		port := firstPort + os.Getpid()%portRanges*portRange + rand.IntN(portRange)
		if !take(port) {
			continue
		}
		addr := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
		ln, err := net.Listen("tcp", addr)
		if err != nil {
			continue
		}
		pc, err := net.ListenPacket("udp", addr)
		_ = ln.Close()
		if err != nil {
			continue
		}
		_ = pc.Close()
		return port
	}
	t.Fatal("no port is free for both TCP and UDP")
	return 0
}

// Nodes returns all nodes, running or not.
func (c *Cluster) Nodes() []*Node { return c.nodes }

// AwaitReady waits until every running node serves its share.
func (c *Cluster) AwaitReady() {
	c.t.Helper()
	for _, n := range c.nodes {
		if n.srv != nil {
			n.AwaitReady()
		}
	}
}

// Start runs the node.
func (n *Node) Start() {
	n.c.t.Helper()
	log := testLogger(n.c.t)
	if n.Log != nil {
		log = n.Log.Logger()
	}
	srv, err := server.New(n.Config, log)
	if err != nil {
		n.c.t.Fatalf("open %s: %v", n.ID, err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.srv, n.cancel, n.done = srv, cancel, make(chan error, 1)
	go func() { n.done <- srv.Run(ctx, nil) }() // ends with Stop, which the cluster's cleanup calls
}

// Stop ends the node as SIGTERM does, and waits.
func (n *Node) Stop() {
	n.c.t.Helper()
	if n.srv == nil {
		return
	}
	n.cancel()
	select {
	case err := <-n.done:
		if err != nil {
			n.c.t.Errorf("%s ended with %v", n.ID, err)
		}
	case <-time.After(Patient):
		n.c.t.Errorf("%s did not stop", n.ID)
	}
	n.srv = nil
}

// Server is the running node itself.
func (n *Node) Server() *server.Server { return n.srv }

// AwaitReady waits until the node serves its share.
func (n *Node) AwaitReady() {
	n.c.t.Helper()
	var why []string
	Await(n.c.t, func() bool {
		var ok bool
		ok, why = n.srv.Ready()
		return ok
	}, func() string { return fmt.Sprintf("%s is not ready: %v", n.ID, why) })
}

// Client connects to the node, with retries off.
func (n *Node) Client() *redis.Client {
	r := redis.NewClient(&redis.Options{
		Addr: n.Config.Network.RESPAddr(), MaxRetries: -1, ReadTimeout: Patient, WriteTimeout: Patient, DisableIdentity: true,
	})
	n.c.t.Cleanup(func() { _ = r.Close() })
	return r
}

// Dial opens a connection for RESP.
func (n *Node) Dial() (net.Conn, error) {
	return net.DialTimeout("tcp", n.Config.Network.RESPAddr(), Patient)
}

// Await polls until ok, and fails the test with what says after Patient.
func Await(t testing.TB, ok func() bool, says func() string) {
	t.Helper()
	limit := time.After(Patient)
	// Many conditions read the whole topology, which is work for the nodes that are to get on with what is awaited.
	for pause := 5 * time.Millisecond; !ok(); pause = min(pause*5/4, 100*time.Millisecond) {
		select {
		case <-time.After(pause):
		case <-limit:
			t.Fatal(says())
		}
	}
}

// testLogger logs to the test's output when -v asks for it.
func testLogger(t testing.TB) *slog.Logger {
	if !testing.Verbose() {
		return nil
	}
	return slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelInfo}))
}
