package nodetest

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/node/config"
)

// awaitLine waits for a line in what a node logs.
func awaitLine(t *testing.T, l *Log, text string) {
	t.Helper()
	Await(t, func() bool { return l.Count(text) > 0 }, func() string { return "no line about " + text + ":\n" + l.String() })
}

// copyDir replaces a directory by a copy of another.
func copyDir(t *testing.T, to, from string) {
	t.Helper()
	if err := os.RemoveAll(to); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(to, os.DirFS(from)); err != nil {
		t.Fatal(err)
	}
}

// TestADirectoryOfAnotherClusterIsRefused gives a node the directory that its namesake in another cluster has.
func TestADirectoryOfAnotherClusterIsRefused(t *testing.T) {
	name := func(c *config.Config) { c.Cluster.Name = "the same" }
	a := Start(t, 3, name)
	b := Start(t, 1, func(c *config.Config) { name(c); c.Cluster.SecretFile = a.base.Cluster.SecretFile })
	ours, theirs := a.Nodes()[0].Fill("ours", 300), b.Nodes()[0].Fill("theirs", 300)
	b.StopAll()
	victim := a.Nodes()[0]
	victim.Stop()
	own := victim.Config.Persistence.DataDir + ".own"
	if err := os.Rename(victim.Config.Persistence.DataDir, own); err != nil {
		t.Fatal(err)
	}
	copyDir(t, victim.Config.Persistence.DataDir, b.Nodes()[0].Config.Persistence.DataDir)
	before := victim.inspect()
	seen := &Log{}
	victim.Log = seen
	victim.Start()
	awaitLine(t, seen, "belongs to another cluster")
	a.Nodes()[1].AwaitReady()
	a.Nodes()[1].Holds(ours)
	more := a.Nodes()[2].Fill("more", 300)
	if Share(victim.Topology(), "n1") > 0 {
		t.Error("the node took over the cluster's topology")
	}
	victim.Stop()
	if after := victim.inspect(); after.Keys != before.Keys || after.ClusterID != before.ClusterID || after.Keys != len(theirs) {
		t.Errorf("the other cluster's data: %d keys of %s before, %d of %s after", before.Keys, before.ClusterID, after.Keys, after.ClusterID)
	}
	copyDir(t, victim.Config.Persistence.DataDir, own)
	victim.Start()
	a.AwaitReady()
	victim.Holds(ours)
	victim.Holds(more)
}

// TestASecondNodeWithTheSameIDHarmsNobody runs it on a directory of its own.
func TestASecondNodeWithTheSameIDHarmsNobody(t *testing.T) {
	c := Start(t, 3, nil)
	load := c.Load(1, c.Nodes()...)
	first := c.Nodes()[0]
	was := first.Topology()
	seeds := c.seeds()
	twin, seen := c.add(), &Log{}
	twin.ID, twin.Log = "twin", seen
	twin.Config.Server.NodeID = first.ID
	twin.Config.Cluster.Seeds = seeds
	twin.Start()
	awaitLine(t, seen, "another running node has this node's id (server.node_id)")
	load.Flow(300)
	if ok, _ := twin.srv.Ready(); ok {
		t.Error("the second node serves")
	}
	if n := twin.Keys(); n > 0 {
		t.Errorf("the second node got %d keys", n)
	}
	for _, n := range c.Nodes()[:3] {
		n.AwaitReady()
	}
	now := first.Topology()
	for i := range now.Groups {
		if now.Groups[i].Term != was.Groups[i].Term {
			t.Fatalf("group %d had another election", i)
		}
	}
	// The second one keeps the first one's failure from nobody: the others still notice it.
	load.Without(first, func() {
		first.Stop()
		load.Flow(50)
		twin.Stop()
		first.Start()
		first.AwaitReady()
	})
	load.Check(c.Nodes()[1])
}

// TestSeedsThatDoNotResolveAreWaitedFor with a clear line, and without founding a cluster.
func TestSeedsThatDoNotResolveAreWaitedFor(t *testing.T) {
	c := Start(t, 1, nil)
	seen := &Log{}
	n := c.add()
	n.Log = seen
	n.Config.Cluster.Seeds = []string{"no-such-name.localhost.invalid:7946"}
	n.Start()
	awaitLine(t, seen, "waiting for seeds")
	if !strings.Contains(seen.String(), "no-such-name.localhost.invalid:7946") {
		t.Errorf("the line does not name the seed:\n%s", seen.String())
	}
	code, body, err := n.HTTP(http.MethodGet, "/ready", nil)
	var answer struct {
		Reasons []string `json:"reasons"`
	}
	if err != nil || code != http.StatusServiceUnavailable || json.Unmarshal(body, &answer) != nil || len(answer.Reasons) == 0 {
		t.Errorf("/ready: %d %s, %v", code, body, err)
	}
	if _, err := os.Stat(filepath.Join(n.Config.Persistence.DataDir, "topology", "identity.json")); err == nil {
		t.Error("the node has founded a cluster of its own")
	}
	c.Nodes()[0].AwaitReady()
}
