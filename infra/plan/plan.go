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
	"net/netip"
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

// guidePorts is how many RESP and HTTP ports the guide's layout deals to the nodes in turn.
const guidePorts = 3

// firstVoters is how many nodes form the first cluster and are named as seeds: enough to lose one.
const firstVoters = 3

// Plan is a whole cluster.
type Plan struct {
	Cluster         string // name that keeps clusters on one network apart, and begins the name of everything in a cloud
	Nodes           []Node
	Seeds           []string // gossip addresses of the first nodes, the same for every node
	BootstrapExpect int      // how many nodes form the first cluster
	Rules           []Rule   // everything that may reach a node, and nothing else
	Network         Network  // zero on the local cloud
}

// Network is the address plan of a cloud.
type Network struct {
	CIDR    netip.Prefix
	Subnets []Subnet // where nodes are: one for each zone on AWS, one on Azure
	// Edges are subnets for what is no node, one for each zone; only AWS has them, and only in a network of the stack's own.
	Edges []Edge
	// Frontends are the load balancer's fixed addresses: one for each zone on AWS, one on Azure. None without a balancer.
	Frontends []Frontend
	// Sources are the ranges behind the rules' sources.
	Sources map[Source][]netip.Prefix
}

// Subnet is a range that nodes get their addresses from.
type Subnet struct {
	Name string
	Zone string // empty: it spans all
	CIDR netip.Prefix
	ID   string // of one that exists already
}

// Edge is a zone's subnet for gateways, balancers and endpoints, all with fixed addresses, because a cloud that chose one
// could take what a node is planned to have.
type Edge struct {
	Name, Zone                     string
	CIDR                           netip.Prefix
	NAT, SecretsEndpoint, Monitors netip.Addr
}

// Frontend is an address of the load balancer. Subnet is the name of a Subnet or an Edge.
type Frontend struct {
	Subnet, Zone string
	Address      netip.Addr
}

// Node is one machine's part.
type Node struct {
	Index   int
	Name    string // also server.node_id
	Zone    string
	Subnet  int    // index into Network.Subnets
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

// The kinds of callers.
const (
	FromCluster   Source = "cluster"   // the nodes themselves
	FromClients   Source = "clients"   // the stack's client networks
	FromOperators Source = "operators" // the stack's operator networks; with none configured the rule is left out
	FromBalancer  Source = "balancer"  // the load balancer's probes; without a balancer the rules are left out
)

// Rule is one row of the firewall table: FirstPort to LastPort, both included, over Protocol ("tcp" or "udp").
type Rule struct {
	Name                string
	Protocol            string
	FirstPort, LastPort int
	Source              Source
}

// Build plans a cluster. stack is part of its name. Its error is a *config.Error that lists everything that cannot be: ranges
// that overlap, more nodes than addresses.
func Build(c config.Config, stack string) (Plan, error) {
	p := Plan{Cluster: "hypercache-" + stack, BootstrapExpect: min(firstVoters, c.NodeCount)}
	var problems []string
	if c.Cloud == config.AWS || c.Cloud == config.Azure {
		problems = p.vms(c)
	} else {
		p.processes(c)
	}
	if len(problems) > 0 {
		return Plan{}, &config.Error{Problems: problems}
	}
	for _, n := range p.Nodes[:p.BootstrapExpect] {
		p.Seeds = append(p.Seeds, n.GossipAddr())
	}
	return p, nil
}

// processes plans the local cloud. Nodes share the loopback address, so each has ports of its own, counting on from the guide's.
func (p *Plan) processes(c config.Config) {
	for i := range c.NodeCount {
		shift := c.PortOffset + i
		p.Nodes = append(p.Nodes, Node{
			Index: i, Name: nodeName(i), Zone: c.Zones[i%len(c.Zones)], Address: "127.0.0.1",
			Ports: Ports{RESP: RESPPort + shift, HTTP: HTTPPort + shift, Gossip: GossipPort + shift, RPC: RPCPort + shift},
		})
	}
	first, last := p.Nodes[0].Ports, p.Nodes[len(p.Nodes)-1].Ports
	p.Rules = rules(first, last)
}

func nodeName(i int) string { return fmt.Sprintf("node-%d", i+1) }

// rules opens the ports from first's to last's, no port more.
func rules(first, last Ports) []Rule {
	return []Rule{
		{"resp", "tcp", first.RESP, last.RESP, FromClients},
		{"http", "tcp", first.HTTP, last.HTTP, FromClients},
		{"gossip-tcp", "tcp", first.Gossip, last.Gossip, FromCluster},
		{"gossip-udp", "udp", first.Gossip, last.Gossip, FromCluster},
		{"rpc", "tcp", first.RPC, last.RPC, FromCluster},
		{"ssh", "tcp", 22, 22, FromOperators},
	}
}

// Connect is a command line that talks to the cluster.
func (p Plan) Connect() string {
	return fmt.Sprintf("redis-cli -h %s -p %d", p.Nodes[0].Address, p.Nodes[0].RESP)
}
