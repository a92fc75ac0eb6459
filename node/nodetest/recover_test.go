package nodetest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hypercache/node/recovery"
)

// loseTopology removes Raft's files of a stopped node, and what tells which cluster it belongs to.
func (n *Node) loseTopology() {
	n.c.t.Helper()
	if err := os.RemoveAll(filepath.Join(n.Config.Persistence.DataDir, "topology")); err != nil {
		n.c.t.Fatal(err)
	}
}

// inspect makes the node's inspection, by way of the file that a person carries around.
func (n *Node) inspect() *recovery.Inspection {
	n.c.t.Helper()
	in, err := recovery.Inspect(n.Config)
	if err == nil {
		var b []byte
		if b, err = json.Marshal(in); err == nil {
			in, err = recovery.ReadInspection(b)
		}
	}
	if err != nil {
		n.c.t.Fatalf("inspect %s: %v", n.ID, err)
	}
	return in
}

// recoverTopology goes through the three steps on nodes, and starts them.
func recoverTopology(t *testing.T, accept bool, nodes ...*Node) *recovery.Plan {
	t.Helper()
	var list []*recovery.Inspection
	for _, n := range nodes {
		list = append(list, n.inspect())
	}
	plan, notes, err := recovery.NewPlan(list, recovery.Choices{AcceptLoss: accept, ClusterID: "recovered", Now: time.Now()})
	t.Logf("notes: %q", notes)
	if err != nil {
		var loss *recovery.LossError
		if errors.As(err, &loss) {
			t.Logf("losses: %v", loss.Losses)
		}
		t.Fatalf("plan: %v", err)
	}
	applyPlan(t, plan, nodes...)
	for _, n := range nodes {
		n.Start()
	}
	for _, n := range nodes {
		n.AwaitReady()
	}
	return plan
}

func applyPlan(t *testing.T, plan *recovery.Plan, nodes ...*Node) {
	t.Helper()
	for _, n := range nodes {
		if _, err := recovery.Apply(n.Config, plan, nil); err != nil {
			t.Fatalf("apply on %s: %v", n.ID, err)
		}
		if aside, err := recovery.Apply(n.Config, plan, nil); err != nil || aside != "" {
			t.Errorf("apply on %s once more: %q, %v", n.ID, aside, err)
		}
	}
}

// TestTheTopologyIsRecoveredWithEveryAcknowledgedWrite loses Raft's files of a majority of the voters, or of all nodes.
func TestTheTopologyIsRecoveredWithEveryAcknowledgedWrite(t *testing.T) {
	for _, tt := range []struct {
		name        string
		nodes, lose int
	}{
		{"two of three", 3, 2}, {"all of three", 3, 3}, {"three of five", 5, 3}, {"all of five", 5, 5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := Start(t, tt.nodes, nil)
			nodes := c.Nodes()
			load := c.Load(2, nodes...)
			load.Flow(50)
			load.Stop()
			before := nodes[0].Topology()
			c.StopAll()
			for _, n := range nodes[:tt.lose] {
				n.loseTopology()
			}
			plan := recoverTopology(t, false, nodes...)
			if (plan.Source == "") != (tt.lose == tt.nodes) {
				t.Errorf("the topology was taken from %q", plan.Source)
			}
			load.Check(nodes[tt.nodes-1])
			c.AwaitSettled(nodes[0], 3)
			after := nodes[0].Topology()
			for i := range after.Groups {
				if after.Groups[i].Term <= before.Groups[i].Term {
					t.Fatalf("group %d: term %d after %d", i, after.Groups[i].Term, before.Groups[i].Term)
				}
			}
			more := nodes[0].Fill("more", 200) // and it is a cluster as any other: it survives a restart of everybody
			c.StopAll()
			c.StartAll()
			nodes[1].Holds(more)
			load.Check(nodes[0])
		})
	}
}

// TestANodeThatWasLeftOutIsRefusedWithItsOldState recovers two of three nodes, one of them with an empty disk, and then starts
// the third one with all it had.
func TestANodeThatWasLeftOutIsRefusedWithItsOldState(t *testing.T) {
	c := Start(t, 3, nil)
	nodes := c.Nodes()
	keys := nodes[0].Fill("k", 500)
	c.StopAll()
	left := nodes[2]
	nodes[0].loseTopology()
	nodes[1].Wipe()

	list := []*recovery.Inspection{nodes[0].inspect(), nodes[1].inspect()}
	if _, _, err := recovery.NewPlan(list, recovery.Choices{ClusterID: "recovered", Now: time.Now()}); !errors.As(err, new(*recovery.LossError)) {
		t.Fatalf("one copy of three is enough without a word: %v", err)
	}
	plan := recoverTopology(t, true, nodes[:2]...)
	if len(plan.Accepted) == 0 {
		t.Error("the plan does not say what was accepted")
	}
	nodes[0].Holds(keys) // the stop was clean, so the one copy has everything
	c.AwaitSettled(nodes[0], 2)

	if _, err := recovery.Apply(left.Config, plan, nil); err == nil || !strings.Contains(err.Error(), "not in the plan") {
		t.Errorf("apply on a node that is not in the plan: %v", err)
	}
	untouched := left.inspect()
	here, there := &Log{}, &Log{}
	nodes[0].Stop()
	nodes[0].Log, left.Log = here, there
	nodes[0].Start()
	left.Start()
	for _, l := range []*Log{here, there} {
		Await(t, func() bool { return l.Count("another cluster") > 0 }, func() string { return "nothing about the other cluster in the log:\n" + l.String() })
	}
	nodes[0].AwaitReady()
	more := nodes[0].Fill("more", 500)
	if ok, why := left.srv.Ready(); ok {
		t.Errorf("the node that was left out serves: %v", why)
	}
	if Share(nodes[0].Topology(), left.ID) > 0 {
		t.Error("the node that was left out holds data of the new cluster")
	}
	left.Stop()
	now := left.inspect()
	for i := range now.Groups {
		if now.Groups[i].Seq != untouched.Groups[i].Seq || now.Groups[i].Keys != untouched.Groups[i].Keys || now.Groups[i].Term != untouched.Groups[i].Term {
			t.Fatalf("group %d of the node that was left out changed from %+v to %+v", i, untouched.Groups[i], now.Groups[i])
		}
	}
	nodes[1].Holds(keys)
	nodes[1].Holds(more)

	left.Wipe() // and with an empty directory it is welcome
	left.Start()
	c.AwaitReady()
	c.AwaitSettled(nodes[0], 3)
	left.Holds(keys)
}

// TestADiskIsLostBesideTheTopology loses Raft's files of all nodes, and one node's journal too.
func TestADiskIsLostBesideTheTopology(t *testing.T) {
	for _, n := range []int{3, 5} {
		c := Start(t, n, nil)
		nodes := c.Nodes()
		load := c.Load(1, nodes...)
		load.Flow(50)
		load.Stop()
		c.StopAll()
		for _, n := range nodes {
			n.loseTopology()
		}
		nodes[1].Wipe()
		recoverTopology(t, false, nodes...)
		load.Check(nodes[1])
		c.AwaitSettled(nodes[0], 3)
		load.Check(nodes[1])
	}
}

// TestALoneNodeIsRecovered has nobody else who could know more.
func TestALoneNodeIsRecovered(t *testing.T) {
	c := Start(t, 1, nil)
	n := c.Nodes()[0]
	keys := n.Fill("k", 300)
	c.StopAll()
	if err := os.Remove(filepath.Join(n.Config.Persistence.DataDir, "topology", "raft.db")); err != nil {
		t.Fatal(err)
	}
	recoverTopology(t, true, n)
	n.Holds(keys)
}
