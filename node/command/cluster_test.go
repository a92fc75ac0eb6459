package command

import (
	"strings"
	"testing"

	"hypercache/node/command/golden"
	"hypercache/node/ring"
)

func TestCLUSTERREPLICASListsTheNodesThatReplicateAPrimary(t *testing.T) {
	h := newHarness(t, true)
	h.view = &ClusterView{Epoch: 7, OK: true, Self: 1, Nodes: []ClusterNode{
		{ID: "n1", Host: "10.0.1.4", Port: 8080, BusPort: 7373, Health: "online"},
		{ID: "n2", Host: "10.0.1.5", Port: 8081, BusPort: 7373, Health: "online"},
		{ID: "n3", Host: "node-3", Port: 8082, BusPort: 7373, Health: healthFailed},
		{ID: "n4", Host: "10.0.1.7", Port: 8080, BusPort: 7373, Health: "online"},
	}, Ranges: []ClusterRange{
		{First: 0, Last: 99, Primary: 0, Replicas: []int{2, 1}}, {First: 100, Last: ring.Slots - 1, Primary: 1, Replicas: []int{0}},
	}}
	self := h.open(1, "a", "b")
	ask := func(words ...string) string {
		return string(h.exec(self, bytesOf(append([]string{"CLUSTER"}, words...))))
	}
	for _, name := range []string{"REPLICAS", "SLAVES"} {
		lines := golden.Elements([]byte(ask(name, NodeID("n1"))))
		if len(lines) != 2 {
			t.Fatalf("%s: %q", name, lines)
		}
		for i, want := range []string{
			NodeID("n2") + " 10.0.1.5:8081@7373 myself,slave " + NodeID("n1") + " 0 0 7 connected",
			NodeID("n3") + " node-3:8082@7373,node-3 slave,fail " + NodeID("n1") + " 0 0 7 disconnected",
		} {
			if got := bulkText(lines[i]); got != want {
				t.Errorf("%s: %q, want %q", name, got, want)
			}
		}
		if got := ask(name, NodeID("n3")); got != "-ERR The specified node is not a master\r\n" {
			t.Errorf("%s of a replica: %q", name, got)
		}
		if got := ask(name, "nobody"); got != "-ERR Unknown node nobody\r\n" {
			t.Errorf("%s of nobody: %q", name, got)
		}
	}
	for node, want := range map[string]string{"n1": ":0\r\n", "n3": ":1\r\n"} {
		if got := ask("COUNT-FAILURE-REPORTS", NodeID(node)); got != want {
			t.Errorf("failure reports of %s: %q", node, got)
		}
	}
	if nodes := ask("NODES"); strings.Count(nodes, " master - ") != 2 || !strings.Contains(nodes, " 0-99\n") || !strings.Contains(nodes, "myself,master - ") {
		t.Errorf("CLUSTER NODES: %q", nodes)
	}
}
