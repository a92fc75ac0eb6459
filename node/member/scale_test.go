package member

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/hashicorp/memberlist"
)

var (
	scaleFlag = flag.Int("scale", 10, "TestGossipAtScale: up to how many nodes; 1000 takes minutes and gigabytes")
	fromFlag  = flag.Int("from", 3, "TestGossipAtScale: from how many nodes on")
)

// network is a network in memory: packets and streams arrive at once, and what each node sends is counted.
type network struct {
	mu    sync.Mutex
	nodes map[string]*memTransport
	lossy atomic.Bool // all packets are lost, and not counted
}

// traffic counts what left a node. Packets are UDP payloads, stream bytes TCP payloads of both directions of the streams that
// the node opened.
type traffic struct{ packets, packetBytes, streams, streamBytes, largest atomic.Int64 }

type memTransport struct {
	net     *network
	addr    *net.UDPAddr
	packets chan *memberlist.Packet
	streams chan net.Conn
	dead    atomic.Bool
	traffic
}

func (n *network) transport(i int) *memTransport {
	ip := net.IPv4(10, 0, byte(i>>8), byte(i))
	t := &memTransport{
		net: n, addr: &net.UDPAddr{IP: ip, Port: 7946},
		packets: make(chan *memberlist.Packet, 1024), streams: make(chan net.Conn, 64),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.nodes[t.addr.String()] = t
	return t
}

func (n *network) to(addr string) *memTransport {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.nodes[addr]
}

func (t *memTransport) FinalAdvertiseAddr(string, int) (net.IP, int, error) {
	return t.addr.IP, t.addr.Port, nil
}

func (t *memTransport) WriteTo(b []byte, addr string) (time.Time, error) {
	now := time.Now()
	if t.net.lossy.Load() {
		return now, nil
	}
	t.traffic.packets.Add(1)
	t.packetBytes.Add(int64(len(b)))
	if n := int64(len(b)); n > t.largest.Load() {
		t.largest.Store(n)
	}
	to := t.net.to(addr)
	if to == nil || to.dead.Load() || t.dead.Load() {
		return now, nil // UDP
	}
	select {
	case to.packets <- &memberlist.Packet{Buf: slices.Clone(b), From: t.addr, Timestamp: now}:
	default: // a full socket buffer
	}
	return now, nil
}

func (t *memTransport) PacketCh() <-chan *memberlist.Packet { return t.packets }
func (t *memTransport) StreamCh() <-chan net.Conn           { return t.streams }
func (t *memTransport) Shutdown() error                     { return nil }

func (t *memTransport) DialTimeout(addr string, _ time.Duration) (net.Conn, error) {
	to := t.net.to(addr)
	if to == nil || to.dead.Load() || t.dead.Load() {
		return nil, errors.New("no route to host")
	}
	t.traffic.streams.Add(1)
	here, there := net.Pipe()
	select {
	case to.streams <- addressed{there, t.addr}:
		return &counted{addressed{here, to.addr}, &t.streamBytes}, nil
	default:
		return nil, errors.New("connection refused")
	}
}

type addressed struct {
	net.Conn
	remote *net.UDPAddr
}

func (c addressed) RemoteAddr() net.Addr {
	return &net.TCPAddr{IP: c.remote.IP, Port: c.remote.Port}
}

type counted struct {
	addressed
	bytes *atomic.Int64
}

func (c *counted) Read(p []byte) (int, error) {
	n, err := c.addressed.Read(p)
	c.bytes.Add(int64(n))
	return n, err
}

func (c *counted) Write(p []byte) (int, error) {
	n, err := c.addressed.Write(p)
	c.bytes.Add(int64(n))
	return n, err
}

// gossipers are n nodes on a network in memory. They run as in the product but for what follows a process' start, the
// repetitions of seekSeeds, which end here with settle.
type gossipers struct {
	nodes      []*Node
	transports []*memTransport
}

func gossip(t *testing.T, n int) *gossipers {
	t.Helper()
	w := &network{nodes: map[string]*memTransport{}}
	g := &gossipers{}
	// A thousand nodes that tell each other of a thousand joins are minutes of computing. They learn of each other by
	// exchanges instead, and what they would say goes nowhere; the probes find each other over streams meanwhile.
	quick := n >= 1000
	w.lossy.Store(quick)
	for i := range n {
		tr := w.transport(i)
		ip := tr.addr.IP.String()
		o := Options{
			NodeID: fmt.Sprintf("hypercache-prod-%03d", i), BindAddr: ip, AdvertiseAddr: ip, GossipPort: tr.addr.Port, Cluster: "production",
			EncryptKey: bytes.Repeat([]byte{7}, 32), transport: tr,
			Tags: Tags{RPCAddr: ip + ":7373", RESPAddr: ip + ":8080", HTTPAddr: ip + ":9080", Zone: fmt.Sprintf("eu-central-1%c", 'a'+i%3), Version: "v1.0.0"},
		}
		if i > 0 {
			o.Seeds = []string{g.transports[0].addr.String()}
		}
		node, err := New(o)
		if err != nil {
			t.Fatal(err)
		}
		if err := node.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		g.nodes, g.transports = append(g.nodes, node), append(g.transports, tr)
		if !quick {
			time.Sleep(20 * time.Millisecond)
		}
		node.settle()
	}
	if quick {
		for range 2 { // only the second time is everybody there
			for _, node := range g.nodes[1:] {
				if _, err := node.serf.Join([]string{g.transports[0].addr.String()}, true); err != nil {
					t.Fatal(err)
				}
			}
		}
		time.Sleep(170 * time.Second)
		w.lossy.Store(false)
	}
	return g
}

// until waits, in virtual time, and returns how long it took.
func until(t *testing.T, what string, bound time.Duration, ok func() bool) time.Duration {
	t.Helper()
	begin := time.Now()
	for !ok() {
		if time.Since(begin) > bound {
			t.Fatalf("%v of virtual time were not enough: %s", bound, what)
		}
		time.Sleep(100 * time.Millisecond)
	}
	return time.Since(begin)
}

type rates struct {
	packets, packetBytes, streamBytes float64 // per second and node
	largest                           int64
	streams                           float64 // per hour and node
}

// over measures for d.
func (g *gossipers) over(d time.Duration) (r rates) {
	sum := func() (p, b, s, sb int64) {
		for _, t := range g.transports {
			p, b, s, sb = p+t.traffic.packets.Load(), b+t.packetBytes.Load(), s+t.traffic.streams.Load(), sb+t.streamBytes.Load()
			r.largest = max(r.largest, t.largest.Load())
		}
		return p, b, s, sb
	}
	p0, b0, s0, sb0 := sum()
	time.Sleep(d)
	p, b, s, sb := sum()
	per := 1 / (d.Seconds() * float64(len(g.nodes)))
	r.packets, r.packetBytes, r.streamBytes = float64(p-p0)*per, float64(b-b0)*per, float64(sb-sb0)*per
	r.streams = float64(s-s0) * per * 3600
	return r
}

// TestGossipAtScale: gossip costs a node little however many there are, no packet is larger than the network takes, and a
// death is known everywhere within half a minute. With -v it prints the table of docs/reliability.md.
func TestGossipAtScale(t *testing.T) {
	t.Log("| nodes | joined in | packets/s | bytes/s UDP | exchanges/h | bytes/s TCP | largest packet | one dies: packets/s | bytes/s UDP | first, median, last know after |")
	for _, n := range []int{3, 10, 30, 100, 300, 1000} {
		if n < *fromFlag || n > *scaleFlag {
			continue
		}
		synctest.Test(t, func(t *testing.T) { measureGossip(t, n) })
	}
}

func measureGossip(t *testing.T, n int) {
	began := time.Now()
	g := gossip(t, n)
	defer func() {
		for i, node := range g.nodes {
			g.transports[i].dead.Store(true)
			_ = node.Close()
		}
		time.Sleep(time.Minute) // probes under way run into their deadlines
	}()
	until(t, "everybody knows everybody", 5*time.Minute, func() bool {
		return !slices.ContainsFunc(g.nodes, func(node *Node) bool { return node.serf.NumNodes() < n })
	})
	joined := time.Since(began)
	time.Sleep(time.Minute) // what the joins said is said
	window := 3 * time.Minute
	if n >= 1000 {
		window = time.Minute // there are enough of them for an average
	}
	idle := g.over(window)

	g.transports[n-1].dead.Store(true)
	dead := g.nodes[n-1].opts.NodeID
	died := time.Now()
	known := make([]time.Duration, 0, n-1)
	waiting := slices.Clone(g.nodes[:n-1])
	var loud rates
	done := make(chan struct{})
	go func() {
		defer close(done)
		loud = g.over(30 * time.Second)
	}()
	until(t, "everybody knows of the death", 2*time.Minute, func() bool {
		waiting = slices.DeleteFunc(waiting, func(node *Node) bool {
			ok := node.serf.Stats()["failed"] == "1"
			if ok {
				known = append(known, time.Since(died))
			}
			return ok
		})
		return len(waiting) == 0
	})
	<-done
	last := known[len(known)-1]
	t.Logf("| %d | %.1f s | %.1f | %.0f | %.0f | %.0f | %d | %.1f | %.0f | %.1f, %.1f, %.1f s |", n, joined.Seconds(), idle.packets, idle.packetBytes,
		idle.streams, idle.streamBytes, loud.largest, loud.packets, loud.packetBytes, known[0].Seconds(), known[len(known)/2].Seconds(), last.Seconds())
	if last > 30*time.Second {
		t.Errorf("%d nodes: the last one learns of the death of %s after %v", n, dead, last)
	}
	if loud.largest > 1472 {
		t.Errorf("%d nodes: a packet of %d bytes does not fit an Ethernet frame", n, loud.largest)
	}
	if idle.packets > 10 {
		t.Errorf("%d nodes: %.1f packets a second from a node while nothing happens", n, idle.packets)
	}
}
