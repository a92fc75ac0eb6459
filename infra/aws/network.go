package aws

import (
	"fmt"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// anywhere is where a route leads that leads out.
const anywhere = "0.0.0.0/0"

// network is what nodes are connected to.
type network struct {
	vpc       pulumi.StringInput
	subnets   map[string]pulumi.StringInput // ids, by the plan's names of subnets and edges
	firewall  *ec2.SecurityGroup
	addresses []*ec2.Eip           // of the nodes in their order; nil where they have none
	publics   []pulumi.StringInput // the same as text
	ready     []pulumi.Resource    // what must be there before a node boots, or it could not reach what it needs
}

func (b *builder) network() (network, error) {
	net := network{subnets: map[string]pulumi.StringInput{}}
	if own(b.Config) {
		if err := b.ownNetwork(&net); err != nil {
			return network{}, err
		}
	} else {
		net.vpc = pulumi.String(b.Config.Network.ID)
		for _, s := range b.Plan.Network.Subnets {
			net.subnets[s.Name] = pulumi.String(s.ID)
		}
	}
	if err := b.firewall(&net); err != nil {
		return network{}, err
	}
	if !b.Config.Network.Public {
		return net, nil
	}
	for _, n := range b.Plan.Nodes {
		ip, err := b.publicAddress(n.Name + "-ip")
		if err != nil {
			return network{}, err
		}
		net.addresses = append(net.addresses, ip)
		net.publics = append(net.publics, ip.PublicIp)
	}
	return net, nil
}

func (b *builder) ownNetwork(net *network) error {
	vpc, err := ec2.NewVpc(b.ctx, "network", &ec2.VpcArgs{
		CidrBlock: pulumi.String(b.Plan.Network.CIDR.String()), Tags: b.tags("network"),
		EnableDnsSupport: pulumi.Bool(true), EnableDnsHostnames: pulumi.Bool(true),
	}, b.child())
	if err != nil {
		return err
	}
	net.vpc = vpc.ID()
	// What is made in the network without naming a group gets this one. Without rules it lets nothing in or out.
	_, err = ec2.NewDefaultSecurityGroup(b.ctx, "network-default-group", &ec2.DefaultSecurityGroupArgs{
		VpcId: vpc.ID(), Tags: b.tags("nothing-passes"),
	}, b.child())
	if err != nil {
		return err
	}
	if err := b.subnets(net); err != nil {
		return err
	}
	var out *ec2.InternetGateway
	if !sealed(b.Config) {
		out, err = ec2.NewInternetGateway(b.ctx, "gateway", &ec2.InternetGatewayArgs{VpcId: vpc.ID(), Tags: b.tags("gateway")}, b.child())
		if err != nil {
			return err
		}
	}
	gateways, err := b.nat(net, out)
	if err != nil {
		return err
	}
	tables, err := b.nodeRoutes(net, out, gateways)
	if err != nil {
		return err
	}
	return b.endpoints(net, tables)
}

// subnets registers those of nodes and edges. None gives out public addresses by itself.
func (b *builder) subnets(net *network) error {
	add := func(name, zone, cidr string) error {
		s, err := ec2.NewSubnet(b.ctx, name, &ec2.SubnetArgs{
			VpcId: net.vpc, AvailabilityZone: pulumi.String(zone), CidrBlock: pulumi.String(cidr), Tags: b.tags(name),
			MapPublicIpOnLaunch: pulumi.Bool(false),
		}, b.child())
		if err == nil {
			net.subnets[name] = s.ID()
		}
		return err
	}
	for _, s := range b.Plan.Network.Subnets {
		if err := add(s.Name, s.Zone, s.CIDR.String()); err != nil {
			return err
		}
	}
	for _, e := range b.Plan.Network.Edges {
		if err := add(e.Name, e.Zone, e.CIDR.String()); err != nil {
			return err
		}
	}
	return nil
}

// nat registers the edges' way out, and the gateways through which nodes without public addresses go, one for each edge that has one.
func (b *builder) nat(net *network, out *ec2.InternetGateway) ([]*ec2.NatGateway, error) {
	table, err := b.routeTable(net, "edge-routes")
	if err != nil {
		return nil, err
	}
	var first []pulumi.Resource
	for _, e := range b.Plan.Network.Edges {
		a, err := b.associate(net, e.Name, table)
		if err != nil {
			return nil, err
		}
		first = append(first, a)
	}
	if out == nil {
		return nil, nil
	}
	route, err := b.route("edge-way-out", &ec2.RouteArgs{RouteTableId: table.ID(), GatewayId: out.ID()})
	if err != nil {
		return nil, err
	}
	first = append(first, route)
	var gateways []*ec2.NatGateway
	for i, e := range b.Plan.Network.Edges[:b.natCount()] {
		gateway, err := b.natGateway(net, fmt.Sprintf("nat-%d", i+1), e, first)
		if err != nil {
			return nil, err
		}
		gateways = append(gateways, gateway)
	}
	return gateways, nil
}

func (b *builder) natCount() int {
	switch n := b.Config.Network; {
	case n.Public || n.NAT == config.NATNone:
		return 0
	case n.NAT == config.NATByZone:
		return len(b.Plan.Network.Edges)
	}
	return 1
}

func (b *builder) natGateway(net *network, name string, e plan.Edge, first []pulumi.Resource) (*ec2.NatGateway, error) {
	ip, err := b.publicAddress(name + "-ip")
	if err != nil {
		return nil, err
	}
	return ec2.NewNatGateway(b.ctx, name, &ec2.NatGatewayArgs{
		SubnetId: net.subnets[e.Name], AllocationId: ip.ID(), PrivateIp: pulumi.String(e.NAT.String()),
		ConnectivityType: pulumi.String("public"), Tags: b.tags(name),
	}, b.child(), pulumi.DependsOn(first))
}

// nodeRoutes registers a table for each subnet of nodes, with the way out that the stack wants.
func (b *builder) nodeRoutes(net *network, out *ec2.InternetGateway, gateways []*ec2.NatGateway) ([]*ec2.RouteTable, error) {
	var tables []*ec2.RouteTable
	for i, s := range b.Plan.Network.Subnets {
		table, err := b.routeTable(net, s.Name+"-routes")
		if err != nil {
			return nil, err
		}
		association, err := b.associate(net, s.Name, table)
		if err != nil {
			return nil, err
		}
		tables, net.ready = append(tables, table), append(net.ready, association)
		way := &ec2.RouteArgs{RouteTableId: table.ID()}
		switch {
		case b.Config.Network.Public:
			way.GatewayId = out.ID()
		case len(gateways) > 0:
			way.NatGatewayId = gateways[i%len(gateways)].ID()
		default:
			continue
		}
		route, err := b.route(s.Name+"-way-out", way)
		if err != nil {
			return nil, err
		}
		net.ready = append(net.ready, route)
	}
	return tables, nil
}

func (b *builder) routeTable(net *network, name string) (*ec2.RouteTable, error) {
	return ec2.NewRouteTable(b.ctx, name, &ec2.RouteTableArgs{VpcId: net.vpc, Tags: b.tags(name)}, b.child())
}

func (b *builder) associate(net *network, subnet string, table *ec2.RouteTable) (*ec2.RouteTableAssociation, error) {
	return ec2.NewRouteTableAssociation(b.ctx, subnet+"-association", &ec2.RouteTableAssociationArgs{
		SubnetId: net.subnets[subnet], RouteTableId: table.ID(),
	}, b.child())
}

// route leads out. It is deleted before another takes its place, because a table has one route to a destination.
func (b *builder) route(name string, to *ec2.RouteArgs) (*ec2.Route, error) {
	to.DestinationCidrBlock = pulumi.String(anywhere)
	return ec2.NewRoute(b.ctx, name, to, b.child(), pulumi.DeleteBeforeReplace(true))
}

// publicAddress registers one that stays the same whatever uses it.
func (b *builder) publicAddress(name string) (*ec2.Eip, error) {
	return ec2.NewEip(b.ctx, name, &ec2.EipArgs{Domain: pulumi.String("vpc"), Tags: b.tags(name)}, b.child())
}
