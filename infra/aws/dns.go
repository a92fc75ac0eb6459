package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/route53"
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
	zone, err := route53.NewZone(b.ctx, "zone", &route53.ZoneArgs{
		Name: pulumi.String(domain), Comment: pulumi.String("Nodes of " + b.Plan.Cluster), Tags: b.tags("zone"),
		Vpcs: route53.ZoneVpcArray{route53.ZoneVpcArgs{VpcId: net.vpc, VpcRegion: pulumi.String(b.Config.Network.Region)}},
	}, b.child())
	if err != nil {
		return nil, err
	}
	var names pulumi.StringArray
	var all []string
	for _, n := range b.Plan.Nodes {
		if err := b.record(zone, n.Name+"-name", n.Name+"."+domain, n.Address); err != nil {
			return nil, err
		}
		all, names = append(all, n.Address), append(names, pulumi.String(n.Name+"."+domain))
	}
	return append(names, pulumi.String(everyNode+"."+domain)), b.record(zone, "cluster-name", everyNode+"."+domain, all...)
}

func (b *builder) record(zone *route53.Zone, child, name string, addresses ...string) error {
	_, err := route53.NewRecord(b.ctx, child, &route53.RecordArgs{
		ZoneId: zone.ID(), Name: pulumi.String(name), Type: pulumi.String("A"), Ttl: pulumi.Int(60),
		Records: pulumi.ToStringArray(addresses),
	}, b.child())
	return err
}
