// Package plan decides what a cluster looks like before anything of it exists.
//
// Build is pure, and it is the only place that knows names, zones, addresses, ports and the firewall table; the clouds
// translate its result and decide nothing. What plan promises them: a node's part never depends on how many nodes come
// after the third, so a cluster grows and shrinks without a change to the nodes that stay, and every address is known at
// planning time, so no node's configuration waits for another node to exist.
package plan

import (
	"fmt"
	"net"
	"strconv"

	"hypercache/infra/config"
)

// The guide's ports, which every layout starts from.
const (
	RESPPort   = 8080
	HTTPPort   = 9080
	GossipPort = 7946
	RPCPort    = 7373
)

// firstVoters is how many nodes form the first cluster and are named as seeds: enough to lose one.
const firstVoters = 3

// Plan is a whole cluster.
type Plan struct {
	Cluster         string // name that keeps clusters on one network apart
	Nodes           []Node
	Seeds           []string // gossip addresses of the first nodes, the same for every node
	BootstrapExpect int      // how many nodes form the first cluster
	Rules           []Rule   // everything that may reach a node, and nothing else
}

// Node is one machine's part.
type Node struct {
	Index   int
	Name    string // also server.node_id
	Zone    string
	Address string // private address, where other nodes and local clients reach it
	Ports
}

// Ports are what a node listens on. All are TCP; Gossip is UDP as well.
type Ports struct{ RESP, HTTP, Gossip, RPC int }

// RESPAddr is the node's Redis endpoint, host:port.
func (n Node) RESPAddr() string { return join(n.Address, n.RESP) }

// HTTPAddr is the node's HTTP endpoint, host:port.
func (n Node) HTTPAddr() string { return join(n.Address, n.HTTP) }

// GossipAddr is where other nodes find the node, host:port.
func (n Node) GossipAddr() string { return join(n.Address, n.Gossip) }

func join(host string, port int) string { return net.JoinHostPort(host, strconv.Itoa(port)) }

// Source says who a rule lets in. The clouds turn it into address ranges.
type Source string

// The three kinds of callers.
const (
	FromCluster   Source = "cluster"   // the nodes themselves
	FromClients   Source = "clients"   // the stack's client networks
	FromOperators Source = "operators" // the stack's operator networks; with none configured the rule is left out
)

// Rule is one row of the firewall table: FirstPort to LastPort, both included, over Protocol ("tcp" or "udp").
type Rule struct {
	Name                string
	Protocol            string
	FirstPort, LastPort int
	Source              Source
}

// Build plans the local cloud's cluster. stack is part of the cluster's name. Nodes share the loopback address, so each has
// ports of its own, counting on from the guide's.
func Build(c config.Config, stack string) Plan {
	p := Plan{Cluster: "hypercache-" + stack, BootstrapExpect: min(firstVoters, c.NodeCount)}
	for i := range c.NodeCount {
		shift := c.PortOffset + i
		p.Nodes = append(p.Nodes, Node{
			Index: i, Name: fmt.Sprintf("node-%d", i+1), Zone: c.Zones[i%len(c.Zones)], Address: "127.0.0.1",
			Ports: Ports{RESP: RESPPort + shift, HTTP: HTTPPort + shift, Gossip: GossipPort + shift, RPC: RPCPort + shift},
		})
	}
	for _, n := range p.Nodes[:p.BootstrapExpect] {
		p.Seeds = append(p.Seeds, n.GossipAddr())
	}
	p.Rules = rules(p.Nodes)
	return p
}

// rules opens the span of ports that the nodes use, no port more.
func rules(nodes []Node) []Rule {
	span := func(name, protocol string, from Source, port func(Node) int) Rule {
		r := Rule{Name: name, Protocol: protocol, Source: from, FirstPort: port(nodes[0]), LastPort: port(nodes[0])}
		for _, n := range nodes {
			r.FirstPort, r.LastPort = min(r.FirstPort, port(n)), max(r.LastPort, port(n))
		}
		return r
	}
	gossip := func(n Node) int { return n.Gossip }
	return []Rule{
		span("resp", "tcp", FromClients, func(n Node) int { return n.RESP }),
		span("http", "tcp", FromClients, func(n Node) int { return n.HTTP }),
		span("gossip-tcp", "tcp", FromCluster, gossip),
		span("gossip-udp", "udp", FromCluster, gossip),
		span("rpc", "tcp", FromCluster, func(n Node) int { return n.RPC }),
		{Name: "ssh", Protocol: "tcp", Source: FromOperators, FirstPort: 22, LastPort: 22},
	}
}

// Connect is a command line that talks to the cluster.
func (p Plan) Connect() string {
	return fmt.Sprintf("redis-cli -h %s -p %d", p.Nodes[0].Address, p.Nodes[0].RESP)
}
