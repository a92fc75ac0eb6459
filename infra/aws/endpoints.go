package aws

import (
	"net/netip"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/vpc"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// endpoints registers the ways to AWS's own stores that do not lead out. The one to S3 costs nothing, so nodes always have it; the
// others are paid by the hour and there only where nothing else leads to them.
func (b *builder) endpoints(net *network, tables []*ec2.RouteTable) error {
	var ids pulumi.StringArray
	for _, t := range tables {
		ids = append(ids, t.ID())
	}
	store, err := ec2.NewVpcEndpoint(b.ctx, "store-endpoint", &ec2.VpcEndpointArgs{
		VpcId: net.vpc, ServiceName: b.service("s3"), VpcEndpointType: pulumi.String("Gateway"), RouteTableIds: ids,
		Tags: b.tags("store-endpoint"),
	}, b.child())
	if err != nil {
		return err
	}
	net.ready = append(net.ready, store)
	if !sealed(b.Config) {
		return nil
	}
	group, err := b.endpointGroup(net)
	if err != nil {
		return err
	}
	err = b.endpoint(net, group, "secrets-endpoint", "secretsmanager", func(e plan.Edge) netip.Addr { return e.SecretsEndpoint })
	if err != nil || b.Config.VM.AlarmEmail == "" {
		return err
	}
	return b.endpoint(net, group, "metrics-endpoint", "monitoring", func(e plan.Edge) netip.Addr { return e.Monitors })
}

func (b *builder) service(name string) pulumi.String {
	return pulumi.String("com.amazonaws." + b.Config.Network.Region + "." + name)
}

// endpoint registers one with the plan's address in each edge, under the service's own name for all in the network.
func (b *builder) endpoint(net *network, group *ec2.SecurityGroup, name, service string, address func(plan.Edge) netip.Addr) error {
	var ids pulumi.StringArray
	var places ec2.VpcEndpointSubnetConfigurationArray
	for _, e := range b.Plan.Network.Edges {
		id := net.subnets[e.Name].ToStringOutput()
		ids = append(ids, id)
		places = append(places, ec2.VpcEndpointSubnetConfigurationArgs{SubnetId: id, Ipv4: pulumi.String(address(e).String())})
	}
	endpoint, err := ec2.NewVpcEndpoint(b.ctx, name, &ec2.VpcEndpointArgs{
		VpcId: net.vpc, ServiceName: b.service(service), VpcEndpointType: pulumi.String("Interface"), PrivateDnsEnabled: pulumi.Bool(true),
		SubnetIds: ids, SubnetConfigurations: places, SecurityGroupIds: pulumi.StringArray{group.ID()}, Tags: b.tags(name),
	}, b.child())
	net.ready = append(net.ready, endpoint)
	return err
}

// endpointGroup lets nodes call endpoints, and endpoints nobody.
func (b *builder) endpointGroup(net *network) (*ec2.SecurityGroup, error) {
	group, err := ec2.NewSecurityGroup(b.ctx, "endpoints", &ec2.SecurityGroupArgs{
		Name: pulumi.String(b.name("endpoints")), Description: pulumi.String("What nodes of " + b.Plan.Cluster + " call in AWS"),
		VpcId: net.vpc, Tags: b.tags("endpoints"),
	}, b.child())
	if err != nil {
		return nil, err
	}
	for _, s := range b.Plan.Network.Subnets {
		rule, err := vpc.NewSecurityGroupIngressRule(b.ctx, "endpoints-from-"+s.Name, &vpc.SecurityGroupIngressRuleArgs{
			SecurityGroupId: group.ID(), IpProtocol: pulumi.String("tcp"), FromPort: pulumi.Int(443), ToPort: pulumi.Int(443),
			CidrIpv4: pulumi.String(s.CIDR.String()), Description: pulumi.String("https"), Tags: b.tags("endpoints-from-" + s.Name),
		}, b.child())
		if err != nil {
			return nil, err
		}
		net.ready = append(net.ready, rule)
	}
	return group, nil
}
