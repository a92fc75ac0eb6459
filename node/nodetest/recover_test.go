package nodetest

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
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
