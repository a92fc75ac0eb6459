package command

import (
	"context"
	"errors"
	"fmt"
	"net"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"hypercache/node/command/golden/oracle"
)

func dialHarness(t *testing.T, h *harness) func() *oracle.Conn {
	dial := h.listen()
	return func() *oracle.Conn {
		c, err := dial()
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return oracle.NewConn(c)
	}
}

func ask(t *testing.T, c *oracle.Conn, words ...string) string {
	t.Helper()
	b, err := c.Do(words...)
	if err != nil {
		t.Fatalf("%q: %v", words, err)
	}
	return strings.TrimSuffix(string(b), "\r\n")
}

func TestClientListHasRedisFields(t *testing.T) {
	redis := startRedis(t)
	h := newHarness(t, false)
	c := dialHarness(t, h)()
	ask(t, c, "CLIENT", "SETNAME", "me")
	ask(t, c, "CLIENT", "SETINFO", "LIB-NAME", "golib")
	ask(t, c, "CLIENT", "SETINFO", "lib-ver", "1.2")
	names := func(line string) []string {
		var out []string
		for _, m := range regexp.MustCompile(`([a-z-]+)=`).FindAllStringSubmatch(line, -1) {
			out = append(out, m[1])
		}
		return out
	}
	want := append(names(ask(t, redis, "CLIENT", "LIST")), "lib-name", "lib-ver")
	for _, command := range []string{"LIST", "INFO"} {
		line := ask(t, c, "CLIENT", command)
		if got := names(line); !slices.Equal(got, want) {
			t.Errorf("CLIENT %s has fields %q, want %q", command, got, want)
		}
		for _, part := range []string{" name=me ", " lib-name=golib lib-ver=1.2\n", " resp=2 ", " cmd=client|" + strings.ToLower(command), " flags=N "} {
			if !strings.Contains(line, part) {
				t.Errorf("CLIENT %s lacks %q: %s", command, part, line)
			}
		}
	}
	for _, bad := range [][]string{{"CLIENT", "SETINFO", "LIB-NAME", "a b"}, {"CLIENT", "SETINFO", "foo", "x"}} {
		if got := ask(t, c, bad...); got[0] != '-' {
			t.Errorf("%q: %s", bad, got)
		}
	}
}

func TestClientKill(t *testing.T) {
	h := newHarness(t, false)
	dial := dialHarness(t, h)
	self, other, third := dial(), dial(), dial()
	id := strings.TrimPrefix(ask(t, other, "CLIENT", "ID"), ":")
	for _, c := range []*oracle.Conn{self, third} {
		ask(t, c, "PING")
	}
	if got := ask(t, self, "CLIENT", "KILL", "ID", id); got != ":1" {
		t.Errorf("KILL ID: %s", got)
	}
	if _, err := other.Do("PING"); err == nil {
		t.Error("the killed connection answers")
	}
	if got := ask(t, self, "CLIENT", "KILL", third.LocalAddr().String()); got != "+OK" {
		t.Errorf("KILL addr: %s", got)
	}
	if _, err := third.Do("PING"); err == nil {
		t.Error("the killed connection answers")
	}
	if got := ask(t, self, "CLIENT", "KILL", "TYPE", "normal"); got != ":0" {
		t.Errorf("KILL TYPE normal without others: %s", got)
	}
	if got := ask(t, self, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "no"); got != ":1" {
		t.Errorf("suicide: %s", got)
	}
	if _, err := self.Do("PING"); err == nil {
		t.Error("a connection that killed itself answers")
	}
}

func TestModesOfAConnection(t *testing.T) {
	h := newHarness(t, true)
	c := h.open(7, "a", "b")
	do := func(words ...string) { h.exec(c, bytesOf(words)) }
	if c.client.ClusterAware() || c.client.ReadOnly() {
		t.Error("a new connection is aware of the cluster")
	}
	do("READONLY")
	if !c.client.ReadOnly() || !c.client.ClusterAware() {
		t.Error("READONLY does not show")
	}
	do("READWRITE")
	do("ASKING")
	if c.client.ReadOnly() || !c.client.TakeAsking() || c.client.TakeAsking() {
		t.Error("READWRITE does not end READONLY, or ASKING does not last for one command")
	}
	do("CLIENT", "NO-EVICT", "on")
	do("CLIENT", "NO-TOUCH", "on")
	do("HELLO", "3", "SETNAME", "x")
	if !c.client.NoEvict() || !c.client.NoTouch() || c.proto != 3 || c.client.Name() != "x" {
		t.Error("NO-EVICT, NO-TOUCH, HELLO do not show")
	}
	do("RESET")
	if !c.client.NoEvict() || c.client.NoTouch() || c.client.ClusterAware() || c.proto != 2 || c.client.Name() != "" {
		t.Error("RESET leaves something")
	}
	do("QUIT")
	if !c.closed {
		t.Error("QUIT does not close")
	}
}

func TestConfigSetIsAllOrNothing(t *testing.T) {
	c := NewConfig()
	var seen []string
	c.OnSet("maxmemory", func(v string) error { seen = append(seen, v); return nil })
	c.OnSet("maxmemory-policy", func(v string) error { return errors.New("not now") })
	err := c.set(bytesOf([]string{"maxmemory", "1mb", "maxmemory-policy", "allkeys-lru"}))
	const want = "CONFIG SET failed (possibly related to argument 'maxmemory-policy') - not now"
	if err == nil || err.Error() != want {
		t.Errorf("error %v, want %s", err, want)
	}
	if got := strings.Join(seen, " "); got != "1048576 0" || c.Get("maxmemory") != "0" {
		t.Errorf("hook saw %q and maxmemory is %s, want the change undone", got, c.Get("maxmemory"))
	}
	c.Put("cluster-enabled", "yes")
	if c.Get("cluster-enabled") != "yes" {
		t.Error("Put does not change a fixed parameter")
	}
}

// TestConfigTableIsRedisTable compares defaults, bounds and refusals with a live server.
func TestConfigTableIsRedisTable(t *testing.T) {
	redis := startRedis(t)
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	ours := []string{"port", "bind", "dir", "save", "cluster-enabled"} // set by how the oracle was started
	for _, p := range params {
		get := []string{"CONFIG", "GET", p.name}
		if want, got := ask(t, redis, get...), strings.TrimSuffix(string(h.exec(self, bytesOf(get))), "\r\n"); got != want && !slices.Contains(ours, p.name) {
			t.Errorf("CONFIG GET %s: got %q, redis-server says %q", p.name, got, want)
		}
		if p.immutable || p.kind == kindString {
			continue
		}
		bad := []string{"x", "-2", "1.5", "99999999999999999999"}
		if p.min > 0 {
			bad = append(bad, fmt.Sprint(p.min-1))
		}
		if p.max < 1<<40 && p.max > 0 {
			bad = append(bad, fmt.Sprint(p.max+1))
		}
		if p.name == "maxmemory" {
			bad = bad[:3] // Redis takes numbers that no int64 holds here
		}
		for _, v := range bad {
			set := []string{"CONFIG", "SET", p.name, v}
			if want, got := ask(t, redis, set...), strings.TrimSuffix(string(h.exec(self, bytesOf(set))), "\r\n"); got != want {
				t.Errorf("CONFIG SET %s %s: got %q, redis-server says %q", p.name, v, got, want)
			}
		}
	}
}

// threeNodes is a cluster as ours are: every node a primary of some ranges and a replica of others, one failed.
func threeNodes() *ClusterView {
	return &ClusterView{
		Epoch: 9, OK: true, Self: 1,
		Nodes: []ClusterNode{
			{ID: "node-1", Host: "127.0.0.1", Port: 8080, BusPort: 7373, Health: "online", Offset: 5},
			{ID: "node-2", Host: "cache-2.example", Port: 8081, BusPort: 7374, Health: "online"},
			{ID: "node-3", Host: "127.0.0.1", Port: 8082, BusPort: 7375, Health: "failed", TLS: true},
			{ID: "node-4", Host: "127.0.0.1", Port: 8083, BusPort: 7376, Health: "online"},
			{ID: "node-5", Host: "127.0.0.1", Port: 8084, BusPort: 7377, Health: "loading"},
		},
		Ranges: []ClusterRange{
			{0, 63, 0, []int{1, 2}}, {64, 127, 0, []int{1, 2}}, {128, 8191, 1, []int{3, 0}},
			{8192, 8192, 0, []int{2}}, {8193, 16383, 2, []int{0, 1}},
		},
	}
}

func clusterReply(t *testing.T, proto int, view *ClusterView, sub string) string {
	h := newHarness(t, true)
	h.view = view
	c := h.open(1, "a", "b")
	c.proto = proto
	return string(h.exec(c, bytesOf([]string{"CLUSTER", sub})))
}

func TestClusterNodesText(t *testing.T) {
	id := func(n int) string { return NodeID(fmt.Sprint("node-", n)) }
	want := id(1) + " 127.0.0.1:8080@7373 master - 0 0 9 connected 0-127 8192\n" +
		id(2) + " cache-2.example:8081@7374,cache-2.example myself,master - 0 0 9 connected 128-8191\n" +
		id(3) + " 127.0.0.1:8082@7375 master,fail - 0 0 9 disconnected 8193-16383\n" +
		id(4) + " 127.0.0.1:8083@7376 slave " + id(2) + " 0 0 9 connected\n" +
		id(5) + " 127.0.0.1:8084@7377 master - 0 0 9 connected\n"
	if got := clusterReply(t, 2, threeNodes(), "NODES"); got != fmt.Sprintf("$%d\r\n%s\r\n", len(want), want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	info := clusterReply(t, 2, threeNodes(), "INFO")
	for _, part := range []string{"cluster_state:ok\r\n", "cluster_slots_assigned:16384\r\n", "cluster_slots_ok:8193\r\n",
		"cluster_slots_fail:8191\r\n", "cluster_known_nodes:5\r\n", "cluster_size:3\r\n", "cluster_current_epoch:9\r\n"} {
		if !strings.Contains(info, part) {
			t.Errorf("CLUSTER INFO lacks %q: %q", part, info)
		}
	}
}

// TestNoClientIsSentToAReplicaThatIsDownOrAboutToBe looks at the second range: node 2's, replicated by 4 and 1.
func TestNoClientIsSentToAReplicaThatIsDownOrAboutToBe(t *testing.T) {
	for name, change := range map[string]func(*ClusterNode){
		"down": func(n *ClusterNode) { n.Health = healthFailed }, "leaving": func(n *ClusterNode) { n.Leaving = true },
	} {
		view := threeNodes()
		if got := clusterReply(t, 2, view, "SLOTS"); !strings.Contains(got, NodeID("node-4")) {
			t.Fatalf("node 4 is not there: %q", got)
		}
		change(&view.Nodes[3])
		if got := clusterReply(t, 2, view, "SLOTS"); strings.Contains(got, NodeID("node-4")) || strings.Count(got, NodeID("node-2")) != 3 {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestGoRedisReadsTheCluster lets a real client parse the replies, in both protocols.
func TestGoRedisReadsTheCluster(t *testing.T) {
	for _, proto := range []int{2, 3} {
		view := threeNodes()
		client := redis.NewClient(&redis.Options{
			Protocol: proto, DisableIdentity: true,
			Dialer: func(context.Context, string, string) (net.Conn, error) { return serveView(t, view), nil },
		})
		//lint:ignore SA1019 clients still send it
		slots, err := client.ClusterSlots(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(slots) != 4 || slots[0].Start != 0 || slots[0].End != 127 || len(slots[0].Nodes) != 2 ||
			slots[0].Nodes[0].Addr != "127.0.0.1:8080" || slots[0].Nodes[1].ID != NodeID("node-2") || slots[1].Nodes[0].Addr != "cache-2.example:8081" {
			t.Errorf("RESP%d: CLUSTER SLOTS read as %+v", proto, slots)
		}
		shards, err := client.ClusterShards(t.Context()).Result()
		if err != nil {
			t.Fatal(err)
		}
		if len(shards) != 4 || len(shards[0].Slots) != 2 || len(shards[0].Nodes) != 3 || shards[0].Nodes[0].Role != "master" ||
			shards[0].Nodes[2].TLSPort != 8082 || shards[1].Nodes[0].Hostname != "cache-2.example" || len(shards[3].Slots) != 0 {
			t.Errorf("RESP%d: CLUSTER SHARDS read as %+v", proto, shards)
		}
		if info, err := client.ClientInfo(t.Context()).Result(); err != nil || info.ID != 1 {
			t.Errorf("RESP%d: CLIENT INFO read as %+v, %v", proto, info, err)
		}
		client.Close()
	}
}

// serveView answers one connection with a view of the cluster.
func serveView(t *testing.T, view *ClusterView) net.Conn {
	near, far := net.Pipe()
	h := newHarness(t, true)
	h.view = view
	done := make(chan struct{})
	go func() {
		defer close(done)
		h.serve(far, 1)
	}()
	t.Cleanup(func() {
		near.Close()
		<-done
	})
	return near
}

func TestScanCursors(t *testing.T) {
	for _, group := range []int{0, 1, 255} {
		for _, cursor := range []uint64{0, 1, 1<<48 - 1} {
			g, c := SplitScanCursor(JoinScanCursor(group, cursor))
			if g != group || c != cursor {
				t.Errorf("group %d, cursor %d came back as %d, %d", group, cursor, g, c)
			}
		}
	}
}
