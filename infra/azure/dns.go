package azure

import (
	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// everyNode is the name that stands for all of them.
const everyNode = "cluster"

// dns registers a private zone with a name for each node and one for all, if the stack wants it, and returns the names.
func (b *builder) dns(net network) (pulumi.StringArray, error) {
	domain := b.Config.Network.DNSZone
	if domain == "" {
		return nil, nil
	}
	zone, err := aznet.NewPrivateZone(b.ctx, "zone", &aznet.PrivateZoneArgs{
		ResourceGroupName: b.group, PrivateZoneName: pulumi.String(domain), Location: pulumi.String("Global"), Tags: b.tags("zone"),
	}, b.child())
	if err != nil {
		return nil, err
	}
	_, err = aznet.NewVirtualNetworkLink(b.ctx, "zone-link", &aznet.VirtualNetworkLinkArgs{
		ResourceGroupName: b.group, PrivateZoneName: zone.Name, VirtualNetworkLinkName: pulumi.String(b.name("link")),
		Location: pulumi.String("Global"), RegistrationEnabled: pulumi.Bool(false),
		VirtualNetwork: aznet.SubResourceArgs{Id: net.vnet.ToStringOutput()}, Tags: b.tags("link"),
	}, b.child())
	if err != nil {
		return nil, err
	}
	var names pulumi.StringArray
	var all []string
	for _, n := range b.Plan.Nodes {
		if err := b.record(zone, n.Name+"-name", n.Name, n.Address); err != nil {
			return nil, err
		}
		all, names = append(all, n.Address), append(names, pulumi.String(n.Name+"."+domain))
	}
	return append(names, pulumi.String(everyNode+"."+domain)), b.record(zone, "cluster-name", everyNode, all...)
}

func (b *builder) record(zone *aznet.PrivateZone, child, name string, addresses ...string) error {
	var records aznet.ARecordArray
	for _, a := range addresses {
		records = append(records, aznet.ARecordArgs{Ipv4Address: pulumi.String(a)})
	}
	_, err := aznet.NewPrivateRecordSet(b.ctx, child, &aznet.PrivateRecordSetArgs{
		ResourceGroupName: b.group, PrivateZoneName: zone.Name, RecordType: pulumi.String("A"), RelativeRecordSetName: pulumi.String(name),
		Ttl: pulumi.Float64(60), ARecords: records,
	}, b.child())
	return err
}
