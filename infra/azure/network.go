package azure

import (
	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
)

// network is what nodes are connected to.
type network struct {
	vnet, subnet pulumi.StringInput // resource ids
	firewall     *aznet.NetworkSecurityGroup
	addresses    []*aznet.PublicIPAddress // of the nodes in their order; nil where they have none
	publics      []pulumi.StringInput     // the same as text
}

func (b *builder) network() (network, error) {
	firewall, err := b.firewall()
	if err != nil {
		return network{}, err
	}
	net := network{firewall: firewall}
	if b.own() {
		err = b.ownNetwork(&net)
	} else {
		net.vnet, net.subnet = pulumi.String(b.Config.Network.ID), pulumi.String(b.Plan.Network.Subnets[0].ID)
	}
	if err != nil || !b.Config.Network.Public {
		return net, err
	}
	for _, n := range b.Plan.Nodes {
		ip, err := b.publicAddress(n.Name + "-ip")
		if err != nil {
			return network{}, err
		}
		net.addresses = append(net.addresses, ip)
		net.publics = append(net.publics, ip.IpAddress.Elem())
	}
	return net, nil
}

// ownNetwork registers VNet and subnet. The subnet is a resource of its own and not a part of the VNet's inputs: Azure knows
// one list of subnets, and two writers of it undo each other.
func (b *builder) ownNetwork(net *network) error {
	vnet, err := aznet.NewVirtualNetwork(b.ctx, "network", &aznet.VirtualNetworkArgs{
		ResourceGroupName: b.group, VirtualNetworkName: pulumi.String(b.name("network")), Location: b.region(), Tags: b.tags("network"),
		AddressSpace: aznet.AddressSpaceArgs{AddressPrefixes: pulumi.ToStringArray([]string{b.Plan.Network.CIDR.String()})},
	}, b.child())
	if err != nil {
		return err
	}
	nat, err := b.nat()
	if err != nil {
		return err
	}
	s := b.Plan.Network.Subnets[0]
	subnet, err := aznet.NewSubnet(b.ctx, s.Name, &aznet.SubnetArgs{
		ResourceGroupName: b.group, VirtualNetworkName: vnet.Name, SubnetName: pulumi.String(s.Name),
		AddressPrefix: pulumi.String(s.CIDR.String()),
		// The interfaces have the group too. Here as well, because many organizations refuse a subnet without one.
		NetworkSecurityGroup: aznet.NetworkSecurityGroupTypeArgs{Id: net.firewall.ID()},
		NatGateway:           nat,
		// A vault that lets in one subnet knows its traffic by the endpoint, and without a way out there is no other.
		ServiceEndpoints: aznet.ServiceEndpointPropertiesFormatArray{
			aznet.ServiceEndpointPropertiesFormatArgs{Service: pulumi.String("Microsoft.KeyVault")},
			aznet.ServiceEndpointPropertiesFormatArgs{Service: pulumi.String("Microsoft.Storage")},
		},
	}, b.child())
	if err != nil {
		return err
	}
	net.vnet, net.subnet = vnet.ID().ToStringOutput(), subnet.ID().ToStringOutput()
	return nil
}

// nat registers the gateway through which nodes without public addresses reach out, if there is one.
func (b *builder) nat() (aznet.SubResourcePtrInput, error) {
	if b.Config.Network.NAT == config.NATNone || b.Config.Network.Public {
		return nil, nil
	}
	ip, err := b.publicAddress("nat-ip")
	if err != nil {
		return nil, err
	}
	gateway, err := aznet.NewNatGateway(b.ctx, "nat", &aznet.NatGatewayArgs{
		ResourceGroupName: b.group, NatGatewayName: pulumi.String(b.name("nat")), Location: b.region(), Tags: b.tags("nat"),
		Sku:               aznet.NatGatewaySkuArgs{Name: pulumi.String("Standard")},
		PublicIpAddresses: aznet.SubResourceArray{aznet.SubResourceArgs{Id: ip.ID()}},
	}, b.child())
	if err != nil {
		return nil, err
	}
	return aznet.SubResourceArgs{Id: gateway.ID()}, nil
}

// publicAddress registers one that stays the same. It is in all zones, whatever the zone of its user: an address cannot move.
func (b *builder) publicAddress(part string) (*aznet.PublicIPAddress, error) {
	return aznet.NewPublicIPAddress(b.ctx, part, &aznet.PublicIPAddressArgs{
		ResourceGroupName: b.group, PublicIpAddressName: pulumi.String(b.name(part)), Location: b.region(), Tags: b.tags(part),
		Sku:                      aznet.PublicIPAddressSkuArgs{Name: pulumi.String("Standard"), Tier: pulumi.String("Regional")},
		PublicIPAllocationMethod: pulumi.String("Static"), PublicIPAddressVersion: pulumi.String("IPv4"), Zones: allZones(),
	}, b.child())
}
