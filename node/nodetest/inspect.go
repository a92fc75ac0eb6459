package nodetest

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"hypercache/node/httpapi"
)

// HTTP makes a request to the node's HTTP port. path is sent as it is.
func (n *Node) HTTP(method, path string, body []byte) (code int, answer []byte, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, "http://"+n.Config.Network.HTTPAddr()+path, bytes.NewReader(body))
	if err != nil {
		return 0, nil, err
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err = io.ReadAll(res.Body)
	return res.StatusCode, answer, err
}

// Topology is the committed map of groups as the node knows it.
func (n *Node) Topology() (t httpapi.Topology) {
	n.c.t.Helper()
	_, body, err := n.HTTP(http.MethodGet, "/api/cluster/topology", nil)
	if err == nil {
		err = json.Unmarshal(body, &t)
	}
	if err != nil {
		n.c.t.Fatalf("topology of %s: %v", n.ID, err)
	}
	return t
}

// Keys is how many keys the node itself has in memory, as primary or as replica.
func (n *Node) Keys() int {
	primary, replica := n.srv.Holds()
	return primary + replica
}

// AwaitKeys waits until the node has so many keys in memory.
func (n *Node) AwaitKeys(want int) {
	n.c.t.Helper()
	var have int
	Await(n.c.t, func() bool { have = n.Keys(); return have == want }, func() string {
		return fmt.Sprintf("%s holds %d keys, not %d", n.ID, have, want)
	})
}

// AwaitSettled waits until every group has want replicas, a primary among them, and no replica on its way.
func (c *Cluster) AwaitSettled(by *Node, want int) {
	c.t.Helper()
	why := ""
	Await(c.t, func() bool {
		t := by.Topology()
		why = ""
		for _, g := range t.Groups {
			if len(g.Replicas) != want || g.Learner != "" || len(g.Next) > 0 || g.Primary == "" {
				why = fmt.Sprintf("group %d: %+v", g.Group, g)
				return false
			}
		}
		return len(t.Groups) > 0
	}, func() string { return "the cluster does not settle: " + why })
}

// Share counts the groups that a node holds, as the topology says.
func Share(t httpapi.Topology, id string) (n int) {
	for _, g := range t.Groups {
		for _, r := range g.Replicas {
			if r == id {
				n++
			}
		}
	}
	return n
}

// Drain moves everything off the node and takes it out of the cluster; it goes on running.
func (n *Node) Drain() {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	if err := n.srv.Drain(ctx); err != nil {
		n.c.t.Fatalf("drain %s: %v", n.ID, err)
	}
}

// Wipe gives a stopped node an empty disk.
func (n *Node) Wipe() {
	n.c.t.Helper()
	if err := os.RemoveAll(n.Config.Persistence.DataDir); err != nil {
		n.c.t.Fatal(err)
	}
}

// AwaitDown waits until the other running nodes have noticed that the node is gone.
func (n *Node) AwaitDown() {
	n.c.t.Helper()
	for _, other := range n.c.nodes {
		if other == n || other.srv == nil {
			continue
		}
		Await(n.c.t, func() bool { return !other.srv.Sees(n.ID) }, func() string {
			return fmt.Sprintf("%s does not notice that %s is gone", other.ID, n.ID)
		})
	}
}

// Leader is the running node that leads the topology.
func (c *Cluster) Leader() *Node {
	c.t.Helper()
	var leader *Node
	Await(c.t, func() bool {
		for _, n := range c.nodes {
			if n.srv != nil && n.srv.LeadsTopology() {
				leader = n
				return true
			}
		}
		return false
	}, func() string { return "nobody leads" })
	return leader
}

// Other is a node that is not this one.
func (c *Cluster) Other(than *Node) *Node {
	for _, n := range c.nodes {
		if n != than {
			return n
		}
	}
	c.t.Fatalf("%s has no company", than.ID)
	return nil
}

// StopAll ends all nodes at the same time, as an operator does who stops the cluster.
func (c *Cluster) StopAll() {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, n := range c.nodes {
		wg.Go(n.Stop)
	}
	wg.Wait()
}

// StartAll starts all nodes and waits until they serve. It returns how long that took.
func (c *Cluster) StartAll() time.Duration {
	c.t.Helper()
	began := time.Now()
	for _, n := range c.nodes {
		n.Start()
	}
	c.AwaitReady()
	return time.Since(began)
}

// Log collects what nodes log.
type Log struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write implements io.Writer.
func (l *Log) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.Write(p)
}

// Count is how many lines contain text.
func (l *Log) Count(text string) (n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, line := range strings.Split(l.buf.String(), "\n") {
		if strings.Contains(line, text) {
			n++
		}
	}
	return n
}

// String is everything so far.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.buf.String()
}

// Logger logs to l.
func (l *Log) Logger() *slog.Logger {
	return slog.New(slog.NewTextHandler(l, &slog.HandlerOptions{Level: slog.LevelInfo}))
}
