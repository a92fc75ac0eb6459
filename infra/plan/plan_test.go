package plan

import (
	"fmt"
	"reflect"
	"testing"

	"pgregory.net/rapid"

	"hypercache/infra/config"
)

func stackOf(nodes, offset int, zones ...string) config.Config {
	return config.Config{Cloud: "local", NodeCount: nodes, PortOffset: offset, Zones: zones}
}

func build(t interface{ Fatal(...any) }, c config.Config, stack string) Plan {
	p, err := Build(c, stack)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func drawStack(t *rapid.T) config.Config {
	zones := rapid.SliceOfNDistinct(rapid.StringMatching(`[a-z]{1,8}`), 1, 5, rapid.ID).Draw(t, "zones")
	return stackOf(rapid.IntRange(1, config.MaxNodes).Draw(t, "nodes"),
		rapid.IntRange(0, config.MaxPortOffset).Draw(t, "offset"), zones...)
}

func TestThreeNodesHaveTheGuidesPorts(t *testing.T) {
	p := build(t, stackOf(3, 0, "a", "b", "c"), "local")
	for i, n := range p.Nodes {
		want := Node{
			Index: i, Name: fmt.Sprintf("node-%d", i+1), Zone: string(rune('a' + i)), Address: "127.0.0.1",
			Ports: Ports{RESP: 8080 + i, HTTP: 9080 + i, Gossip: 7946 + i, RPC: 7373 + i},
		}
		if n != want {
			t.Errorf("got %+v, want %+v", n, want)
		}
	}
	if want := []string{"127.0.0.1:7946", "127.0.0.1:7947", "127.0.0.1:7948"}; !reflect.DeepEqual(p.Seeds, want) {
		t.Errorf("seeds %v, want %v", p.Seeds, want)
	}
	if p.BootstrapExpect != 3 || p.Cluster != "hypercache-local" || p.Connect() != "redis-cli -h 127.0.0.1 -p 8080" {
		t.Errorf("got expect %d, cluster %q, connect %q", p.BootstrapExpect, p.Cluster, p.Connect())
	}
}

func TestTheFirewallTableIsTheGuides(t *testing.T) {
	want := []Rule{
		{"resp", "tcp", 8080, 8082, FromClients}, {"http", "tcp", 9080, 9082, FromClients},
		{"gossip-tcp", "tcp", 7946, 7948, FromCluster}, {"gossip-udp", "udp", 7946, 7948, FromCluster},
		{"rpc", "tcp", 7373, 7375, FromCluster}, {"ssh", "tcp", 22, 22, FromOperators},
	}
	if got := build(t, stackOf(3, 0, "a"), "local").Rules; !reflect.DeepEqual(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestGrowingChangesNoExistingNode(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawStack(t)
		if c.NodeCount < firstVoters {
			c.NodeCount = firstVoters
		}
		small := build(t, c, "s")
		c.NodeCount = rapid.IntRange(c.NodeCount, config.MaxNodes).Draw(t, "grown")
		big := build(t, c, "s")
		if !reflect.DeepEqual(small.Nodes, big.Nodes[:len(small.Nodes)]) || !reflect.DeepEqual(small.Seeds, big.Seeds) ||
			small.BootstrapExpect != big.BootstrapExpect || small.Cluster != big.Cluster {
			t.Fatalf("growing changed what existing nodes are told:\n%+v\n%+v", small, big)
		}
	})
}

func TestNoTwoListenersShareAPort(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		seen := map[int]string{}
		for _, n := range build(t, drawStack(t), "s").Nodes {
			for what, port := range map[string]int{"resp": n.RESP, "http": n.HTTP, "gossip": n.Gossip, "rpc": n.RPC} {
				if other, ok := seen[port]; ok || port < 1 || port > 65535 {
					t.Fatalf("%s of %s has port %d, and so has %q", what, n.Name, port, other)
				}
				seen[port] = what + " of " + n.Name
			}
		}
	})
}

func TestZonesDifferByOneNodeAtMost(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawStack(t)
		count := map[string]int{}
		for _, n := range build(t, c, "s").Nodes {
			count[n.Zone]++
		}
		low, high := c.NodeCount, 0
		for _, z := range c.Zones {
			low, high = min(low, count[z]), max(high, count[z])
		}
		if high-low > 1 {
			t.Fatalf("nodes per zone: %v", count)
		}
	})
}

func TestEveryListenerHasItsRule(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := build(t, drawStack(t), "s")
		open := func(port int, protocol string, from Source) bool {
			for _, r := range p.Rules {
				if r.Protocol == protocol && r.Source == from && r.FirstPort <= port && port <= r.LastPort {
					return true
				}
			}
			return false
		}
		for _, n := range p.Nodes {
			if !open(n.RESP, "tcp", FromClients) || !open(n.HTTP, "tcp", FromClients) || !open(n.RPC, "tcp", FromCluster) ||
				!open(n.Gossip, "tcp", FromCluster) || !open(n.Gossip, "udp", FromCluster) {
				t.Fatalf("%+v is not reachable by %v", n, p.Rules)
			}
			if open(n.Gossip, "tcp", FromClients) || open(n.RPC, "tcp", FromClients) {
				t.Fatalf("%+v: an internal port is open to clients by %v", n, p.Rules)
			}
		}
	})
}
