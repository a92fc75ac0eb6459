package aws

import (
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/vpc"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// firewall registers the nodes' security group. Every rule is a resource of its own, with one range: a group with rules inside is
// a second writer of the same list, and the two undo each other.
func (b *builder) firewall(net *network) error {
	group, err := ec2.NewSecurityGroup(b.ctx, "firewall", &ec2.SecurityGroupArgs{
		Name: pulumi.String(b.name("firewall")), Description: pulumi.String("What may reach nodes of " + b.Plan.Cluster),
		VpcId: net.vpc, Tags: b.tags("firewall"),
	}, b.child())
	if err != nil {
		return err
	}
	net.firewall = group
	for _, r := range rows(b.Plan) {
		rule, err := vpc.NewSecurityGroupIngressRule(b.ctx, r.child, &vpc.SecurityGroupIngressRuleArgs{
			SecurityGroupId: group.ID(), IpProtocol: pulumi.String(r.Protocol),
			FromPort: pulumi.Int(r.FirstPort), ToPort: pulumi.Int(r.LastPort),
			CidrIpv4: pulumi.String(r.from), Description: pulumi.String(r.Name), Tags: b.tags(r.child),
		}, b.child())
		if err != nil {
			return err
		}
		net.ready = append(net.ready, rule)
	}
	// A group of AWS lets nothing out unless a rule says so. Where nodes get to is decided by routes.
	out, err := vpc.NewSecurityGroupEgressRule(b.ctx, "rule-out", &vpc.SecurityGroupEgressRuleArgs{
		SecurityGroupId: group.ID(), IpProtocol: pulumi.String("-1"), CidrIpv4: pulumi.String(anywhere),
		Description: pulumi.String("everything"), Tags: b.tags("rule-out"),
	}, b.child())
	net.ready = append(net.ready, out)
	return err
}

// row is a rule for one range.
type row struct {
	plan.Rule
	child, from string
}

// rows are the plan's table with a row for each range, each once: AWS takes no repetition, and of rules for the same ports (the
// balancer's and the clients') it takes the second for one.
func rows(p plan.Plan) []row {
	type key struct {
		protocol    string
		first, last int
		from        string
	}
	seen := map[key]bool{}
	var out []row
	for _, r := range p.Rules {
		for _, from := range p.Network.Sources[r.Source] {
			k := key{r.Protocol, r.FirstPort, r.LastPort, from.String()}
			if seen[k] {
				continue
			}
			seen[k] = true
			child := "rule-" + r.Name + "-" + strings.ReplaceAll(k.from, "/", "-")
			out = append(out, row{Rule: r, child: child, from: k.from})
		}
	}
	return out
}
