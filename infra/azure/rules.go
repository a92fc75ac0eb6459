package azure

import (
	"fmt"
	"slices"
	"strings"

	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

const (
	firstPriority = 100
	// lastPriority is the least urgent that Azure gives to rules of ours. Its own follow, and would let in everything from
	// the network.
	lastPriority = 4096
	// balancerTag stands for the addresses that probes come from.
	balancerTag = "AzureLoadBalancer"
)

// firewall registers the network security group, with all rules inside: Azure changes them in one step then.
func (b *builder) firewall() (*aznet.NetworkSecurityGroup, error) {
	rules := inbound(b.Plan)
	if sealed(b.Config) {
		rules = append(rules, outbound()...)
	}
	return aznet.NewNetworkSecurityGroup(b.ctx, "firewall", &aznet.NetworkSecurityGroupArgs{
		ResourceGroupName: b.group, NetworkSecurityGroupName: pulumi.String(b.name("firewall")), Location: b.region(),
		SecurityRules: rules, Tags: b.tags("firewall"),
	}, b.child())
}

// inbound is the plan's table and a last row that refuses everything else.
func inbound(p plan.Plan) aznet.SecurityRuleTypeArray {
	var rules aznet.SecurityRuleTypeArray
	for i, r := range p.Rules {
		rule := aznet.SecurityRuleTypeArgs{
			Name: pulumi.String(r.Name), Priority: pulumi.Int(firstPriority + i),
			Direction: pulumi.String("Inbound"), Access: pulumi.String("Allow"), Protocol: pulumi.String(protocol(r.Protocol)),
			SourcePortRange: pulumi.String("*"), DestinationAddressPrefix: pulumi.String("*"),
			DestinationPortRange: pulumi.String(portRange(r)),
		}
		if r.Source == plan.FromBalancer {
			rule.SourceAddressPrefix = pulumi.String(balancerTag)
		} else {
			rule.SourceAddressPrefixes = ranges(p, r.Source)
		}
		rules = append(rules, rule)
	}
	return append(rules, refusal("refuse-all-else", "Inbound", "*", "*", lastPriority))
}

// ranges are a source's, each once: Azure takes no repetition.
func ranges(p plan.Plan, from plan.Source) pulumi.StringArray {
	var seen []string
	for _, r := range p.Network.Sources[from] {
		if !slices.Contains(seen, r.String()) {
			seen = append(seen, r.String())
		}
	}
	return pulumi.ToStringArray(seen)
}

func protocol(p string) string { return strings.ToUpper(p[:1]) + p[1:] }

func portRange(r plan.Rule) string {
	if r.FirstPort == r.LastPort {
		return fmt.Sprint(r.FirstPort)
	}
	return fmt.Sprintf("%d-%d", r.FirstPort, r.LastPort)
}

// outbound is for nodes without a way out. A subnet without a NAT gateway may still be given one by Azure, with an address that
// nobody chose; this shuts it, except towards the stores that nodes need.
func outbound() aznet.SecurityRuleTypeArray {
	var rules aznet.SecurityRuleTypeArray
	for i, tag := range []string{"Storage", "AzureKeyVault"} {
		rules = append(rules, aznet.SecurityRuleTypeArgs{
			Name: pulumi.String("to-" + strings.ToLower(tag)), Priority: pulumi.Int(firstPriority + i),
			Direction: pulumi.String("Outbound"), Access: pulumi.String("Allow"), Protocol: pulumi.String("Tcp"),
			SourcePortRange: pulumi.String("*"), SourceAddressPrefix: pulumi.String("*"),
			DestinationAddressPrefix: pulumi.String(tag), DestinationPortRange: pulumi.String("443"),
		})
	}
	return append(rules, refusal("refuse-internet", "Outbound", "*", "Internet", lastPriority))
}

func refusal(name, direction, from, to string, priority int) aznet.SecurityRuleTypeArgs {
	return aznet.SecurityRuleTypeArgs{
		Name: pulumi.String(name), Priority: pulumi.Int(priority),
		Direction: pulumi.String(direction), Access: pulumi.String("Deny"), Protocol: pulumi.String("*"),
		SourcePortRange: pulumi.String("*"), SourceAddressPrefix: pulumi.String(from),
		DestinationAddressPrefix: pulumi.String(to), DestinationPortRange: pulumi.String("*"),
	}
}
