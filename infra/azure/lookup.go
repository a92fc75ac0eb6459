package azure

import (
	"errors"
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi-azure-native-sdk/authorization/v2"
	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
)

// account is where the operator's credentials lead.
type account struct{ subscription, tenant string }

// lookUp asks Azure what the program must know before it registers anything.
func lookUp(ctx *pulumi.Context, args Args) (account, error) {
	who, err := authorization.GetClientConfig(ctx)
	if err != nil {
		return account{}, fmt.Errorf("ask Azure whose subscription this is: %w; `az login` and `az account set`, or ARM_CLIENT_ID, "+
			"ARM_CLIENT_SECRET, ARM_TENANT_ID and ARM_SUBSCRIPTION_ID, say so", err)
	}
	a := account{subscription: who.SubscriptionId, tenant: who.TenantId}
	if args.Config.Network.ID == "" {
		return a, nil
	}
	return a, existing(ctx, a, args.Config.Network)
}

var (
	networkID = regexp.MustCompile(
		`(?i)^/subscriptions/([^/]+)/resourceGroups/([^/]+)/providers/Microsoft\.Network/virtualNetworks/([^/]+)$`)
	subnetID = regexp.MustCompile(`(?i)^(.+)/subnets/([^/]+)$`)
)

// existing compares what the stack says about a network that is there with what Azure says.
func existing(ctx *pulumi.Context, a account, n config.Network) error {
	vnet := networkID.FindStringSubmatch(n.ID)
	var problems []string
	fail := func(format string, args ...any) { problems = append(problems, fmt.Sprintf(format, args...)) }
	switch {
	case vnet == nil:
		fail("networkId: %q is not the resource id of a VNet, like /subscriptions/…/resourceGroups/…/providers/"+
			"Microsoft.Network/virtualNetworks/NAME", n.ID)
	case !strings.EqualFold(vnet[1], a.subscription):
		fail("networkId: is in subscription %s and the credentials lead to %s; VMs and their network share one", vnet[1], a.subscription)
	}
	if len(n.SubnetIDs) == 0 || len(n.SubnetCIDRs) == 0 {
		fail("subnetIds: name the subnet of the network, and its range in subnetCidrs")
	} else if parts := subnetID.FindStringSubmatch(n.SubnetIDs[0]); parts == nil || !strings.EqualFold(parts[1], n.ID) {
		fail("subnetIds: %q is not networkId followed by /subnets/NAME", n.SubnetIDs[0])
	}
	if len(problems) > 0 {
		return &config.Error{Problems: problems}
	}
	return errors.Join(vnetIs(ctx, vnet, n), subnetIs(ctx, vnet, n))
}

func vnetIs(ctx *pulumi.Context, vnet []string, n config.Network) error {
	found, err := aznet.LookupVirtualNetwork(ctx, &aznet.LookupVirtualNetworkArgs{
		ResourceGroupName: vnet[2], VirtualNetworkName: vnet[3],
	})
	if err != nil {
		return fmt.Errorf("look up networkId %s: %w", n.ID, err)
	}
	if found.Location != nil && plainRegion(*found.Location) != n.Region {
		return &config.Error{Problems: []string{fmt.Sprintf("networkId: the network is in %s and region is %s; they must be the same",
			plainRegion(*found.Location), n.Region)}}
	}
	return nil
}

// plainRegion turns a region's display name, which some answers have, into its name.
func plainRegion(s string) string { return strings.ToLower(strings.ReplaceAll(s, " ", "")) }

func subnetIs(ctx *pulumi.Context, vnet []string, n config.Network) error {
	name := subnetID.FindStringSubmatch(n.SubnetIDs[0])[2]
	found, err := aznet.LookupSubnet(ctx, &aznet.LookupSubnetArgs{
		ResourceGroupName: vnet[2], VirtualNetworkName: vnet[3], SubnetName: name,
	})
	if err != nil {
		return fmt.Errorf("look up subnetIds %s: %w", n.SubnetIDs[0], err)
	}
	ranges := found.AddressPrefixes
	if found.AddressPrefix != nil {
		ranges = append(ranges, *found.AddressPrefix)
	}
	same := func(r string) bool { p, err := netip.ParsePrefix(r); return err == nil && p == n.SubnetCIDRs[0] }
	if !slices.ContainsFunc(ranges, same) {
		return &config.Error{Problems: []string{fmt.Sprintf("subnetCidrs: %s is not the range of %s, which is %s", n.SubnetCIDRs[0], name,
			strings.Join(ranges, ", "))}}
	}
	return nil
}
