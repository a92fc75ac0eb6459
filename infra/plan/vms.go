package plan

import (
	"encoding/binary"
	"fmt"
	"math/bits"
	"net/netip"
	"slices"

	"hypercache/infra/config"
)

// Both clouds keep the first four addresses of a subnet and its last one for themselves.
const (
	firstHost = 4
	// edgeNAT and so on are the offsets of an edge subnet's fixed addresses.
	edgeNAT, edgeFrontend, edgeSecrets, edgeMonitors = firstHost, firstHost + 1, firstHost + 2, firstHost + 3
	// minSubnetBits is the smallest subnet that AWS makes.
	smallestSubnet = 28
)

// at is the address n behind the range's first.
func at(c netip.Prefix, n int) netip.Addr {
	b := c.Masked().Addr().As4()
	binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+uint32(n))
	return netip.AddrFrom4(b)
}

func size(c netip.Prefix) int { return 1 << (32 - c.Bits()) }

// frontendOffset is where a load balancer's address is in a subnet that nodes use too: the last that the cloud hands out.
func frontendOffset(c netip.Prefix) int { return size(c) - 2 }

// capacity is how many nodes fit into a subnet. The last address is the balancer's, whether there is one or not: it must
// not depend on the number of nodes.
func capacity(c netip.Prefix) int { return max(0, frontendOffset(c)-firstHost) }

// cut divides a range into equal parts, at least four, so that the parts stay what they are while zones come and go.
func cut(c netip.Prefix, parts int) []netip.Prefix {
	extra := max(2, bits.Len(uint(parts-1)))
	step := c.Bits() + extra
	var out []netip.Prefix
	for i := range parts {
		out = append(out, netip.PrefixFrom(at(c, i<<(32-step)), step))
	}
	return out
}

// vms plans a cloud's cluster of machines and returns what cannot be.
func (p *Plan) vms(c config.Config) []string {
	n := c.Network
	problems := ranges(c)
	p.Network.CIDR = n.CIDR
	p.subnets(c)
	for i, s := range p.Network.Subnets {
		nodes := (c.NodeCount - i + len(p.Network.Subnets) - 1) / len(p.Network.Subnets)
		if most := capacity(s.CIDR); nodes > most {
			problems = append(problems, fmt.Sprintf("nodeCount: %d puts %d nodes into %s, which has addresses for %d; "+
				"fewer nodes, or a larger subnetCidr", c.NodeCount, nodes, s.CIDR, most))
		}
	}
	if len(problems) > 0 {
		return problems
	}
	for i := range c.NodeCount {
		subnet := i % len(p.Network.Subnets)
		ports := Ports{RESP: RESPPort, HTTP: HTTPPort, Gossip: GossipPort, RPC: RPCPort}
		if n.PortLayout == config.GuidePorts {
			ports.RESP, ports.HTTP = RESPPort+i%guidePorts, HTTPPort+i%guidePorts
		}
		p.Nodes = append(p.Nodes, Node{
			Index: i, Name: nodeName(i), Zone: c.Zones[i%len(c.Zones)], Subnet: subnet,
			Address: at(p.Network.Subnets[subnet].CIDR, firstHost+i/len(p.Network.Subnets)).String(), Ports: ports,
		})
	}
	p.sources(n)
	p.vmRules(c)
	return nil
}

// ranges tells which of the stack's address ranges do not fit together.
func ranges(c config.Config) []string {
	n := c.Network
	var problems []string
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	inside := func(key string, r netip.Prefix) {
		if !contains(n.CIDR, r) {
			fail("%s: %s is not inside networkCidr %s", key, r, n.CIDR)
		}
	}
	if !n.CIDR.Addr().IsPrivate() || n.CIDR.Bits() < 16 || n.CIDR.Bits() > smallestSubnet {
		fail("networkCidr: %s is not a private range from /16 to /28, like 10.0.0.0/16", n.CIDR)
	}
	if n.ID != "" {
		for i, s := range n.SubnetCIDRs {
			inside("subnetCidrs", s)
			for _, other := range n.SubnetCIDRs[:i] {
				if s.Overlaps(other) {
					fail("subnetCidrs: %s and %s overlap", other, s)
				}
			}
		}
		if c.Cloud == config.AWS && len(n.SubnetIDs) != len(c.Zones) {
			fail("subnetIds: %d subnets for %d zones; a subnet of AWS is in one zone, so give one for each, in the order of zones",
				len(n.SubnetIDs), len(c.Zones))
		}
		if c.Cloud == config.Azure && len(n.SubnetIDs) > 1 {
			fail("subnetIds: %d subnets; a subnet of Azure spans zones, give one", len(n.SubnetIDs))
		}
		return problems
	}
	inside("subnetCidr", n.Subnet)
	if c.Cloud == config.Azure {
		return problems
	}
	inside("edgeCidr", n.Edge)
	if n.Subnet.Overlaps(n.Edge) {
		fail("edgeCidr: %s overlaps subnetCidr %s", n.Edge, n.Subnet)
	}
	for key, r := range map[string]netip.Prefix{"subnetCidr": n.Subnet, "edgeCidr": n.Edge} {
		if part := cut(r, len(c.Zones))[0]; part.Bits() > smallestSubnet {
			fail("%s: %s cut for %d zones gives subnets of /%d; AWS makes none smaller than /%d", key, r, len(c.Zones),
				part.Bits(), smallestSubnet)
		}
	}
	slices.Sort(problems)
	return problems
}

func contains(outer, inner netip.Prefix) bool {
	return outer.Bits() <= inner.Bits() && outer.Contains(inner.Addr())
}

// subnets lays out where nodes and gateways are.
func (p *Plan) subnets(c config.Config) {
	n := c.Network
	switch {
	case n.ID != "":
		for i, r := range n.SubnetCIDRs {
			s := Subnet{Name: fmt.Sprintf("nodes-%d", i+1), CIDR: r}
			if i < len(n.SubnetIDs) {
				s.ID = n.SubnetIDs[i]
			}
			if c.Cloud == config.AWS && i < len(c.Zones) {
				s.Zone = c.Zones[i]
			}
			p.Network.Subnets = append(p.Network.Subnets, s)
		}
	case c.Cloud == config.Azure:
		p.Network.Subnets = []Subnet{{Name: "nodes", CIDR: n.Subnet}}
	default:
		edges := cut(n.Edge, len(c.Zones))
		for i, r := range cut(n.Subnet, len(c.Zones)) {
			p.Network.Subnets = append(p.Network.Subnets, Subnet{Name: fmt.Sprintf("nodes-%d", i+1), Zone: c.Zones[i], CIDR: r})
			p.Network.Edges = append(p.Network.Edges, Edge{
				Name: fmt.Sprintf("edge-%d", i+1), Zone: c.Zones[i], CIDR: edges[i],
				NAT: at(edges[i], edgeNAT), SecretsEndpoint: at(edges[i], edgeSecrets), Monitors: at(edges[i], edgeMonitors),
			})
		}
	}
	if n.LoadBalancer {
		p.frontends()
	}
}

func (p *Plan) frontends() {
	for _, e := range p.Network.Edges {
		p.Network.Frontends = append(p.Network.Frontends, Frontend{Subnet: e.Name, Zone: e.Zone, Address: at(e.CIDR, edgeFrontend)})
	}
	if len(p.Network.Edges) > 0 {
		return
	}
	for _, s := range p.Network.Subnets {
		p.Network.Frontends = append(p.Network.Frontends, Frontend{Subnet: s.Name, Zone: s.Zone, Address: at(s.CIDR, frontendOffset(s.CIDR))})
	}
}

// sources resolves who is who.
func (p *Plan) sources(n config.Network) {
	or := func(given []netip.Prefix, otherwise ...netip.Prefix) []netip.Prefix {
		if len(given) > 0 {
			return given
		}
		return otherwise
	}
	nodes := []netip.Prefix{n.Subnet}
	if n.ID != "" {
		nodes = n.SubnetCIDRs
	}
	p.Network.Sources = map[Source][]netip.Prefix{
		FromCluster: or(n.Cluster, nodes...), FromClients: or(n.Clients, n.CIDR), FromOperators: n.Operators,
	}
	for _, f := range p.Network.Frontends {
		p.Network.Sources[FromBalancer] = append(p.Network.Sources[FromBalancer], netip.PrefixFrom(f.Address, 32))
	}
}

// vmRules is the guide's table, whatever the number of nodes, without the rows that nobody is behind.
func (p *Plan) vmRules(c config.Config) {
	first := Ports{RESP: RESPPort, HTTP: HTTPPort, Gossip: GossipPort, RPC: RPCPort}
	last := first
	if c.Network.PortLayout == config.GuidePorts {
		last.RESP, last.HTTP = RESPPort+guidePorts-1, HTTPPort+guidePorts-1
	}
	p.Rules = append(rules(first, last),
		Rule{"balancer-resp", "tcp", first.RESP, last.RESP, FromBalancer}, Rule{"balancer-http", "tcp", first.HTTP, last.HTTP, FromBalancer})
	p.Rules = slices.DeleteFunc(p.Rules, func(r Rule) bool { return len(p.Network.Sources[r.Source]) == 0 })
}
