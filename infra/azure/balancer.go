package azure

import (
	"fmt"

	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
)

// balancer is the internal load balancer; the zero value is none.
type balancer struct {
	pool pulumi.StringPtrInput // id of what nodes' interfaces belong to
}

// The names of the balancer's parts.
const (
	frontendName = "clients"
	poolName     = "nodes"
	probeName    = "ready"
)

// balancer registers one address before RESP and HTTP of all nodes that are ready, if the stack wants it.
func (b *builder) balancer(net network) (balancer, error) {
	if len(b.Plan.Network.Frontends) == 0 {
		return balancer{}, nil
	}
	name := b.name("balancer")
	self := b.id("Microsoft.Network/loadBalancers", name)
	lb, err := aznet.NewLoadBalancer(b.ctx, "balancer", &aznet.LoadBalancerArgs{
		ResourceGroupName: b.group, LoadBalancerName: pulumi.String(name), Location: b.region(), Tags: b.tags("balancer"),
		Sku: aznet.LoadBalancerSkuArgs{Name: pulumi.String("Standard"), Tier: pulumi.String("Regional")},
		FrontendIPConfigurations: aznet.FrontendIPConfigurationArray{aznet.FrontendIPConfigurationArgs{
			Name: pulumi.String(frontendName), Subnet: aznet.SubnetTypeArgs{Id: net.subnet}, Zones: allZones(),
			PrivateIPAddress:          pulumi.String(b.Plan.Network.Frontends[0].Address.String()),
			PrivateIPAllocationMethod: pulumi.String("Static"), PrivateIPAddressVersion: pulumi.String("IPv4"),
		}},
		BackendAddressPools: aznet.BackendAddressPoolArray{aznet.BackendAddressPoolArgs{Name: pulumi.String(poolName)}},
		Probes: aznet.ProbeArray{aznet.ProbeArgs{
			Name: pulumi.String(probeName), Protocol: pulumi.String("Http"), Port: pulumi.Int(plan.HTTPPort),
			RequestPath: pulumi.String("/ready"), IntervalInSeconds: pulumi.Int(5), NumberOfProbes: pulumi.Int(1), ProbeThreshold: pulumi.Int(2),
		}},
		LoadBalancingRules: aznet.LoadBalancingRuleArray{forward(self, "resp", plan.RESPPort), forward(self, "http", plan.HTTPPort)},
	}, b.child())
	if err != nil {
		return balancer{}, err
	}
	return balancer{pool: pulumi.Sprintf("%s/backendAddressPools/%s", lb.ID(), poolName)}, nil
}

// forward hands a port on to the nodes that answer the probe. Both ports ask the same: a node that is not ready serves neither.
func forward(balancer, name string, port int) aznet.LoadBalancingRuleArgs {
	part := func(kind, name string) aznet.SubResourceArgs {
		return aznet.SubResourceArgs{Id: pulumi.String(fmt.Sprintf("%s/%s/%s", balancer, kind, name))}
	}
	return aznet.LoadBalancingRuleArgs{
		Name: pulumi.String(name), Protocol: pulumi.String("Tcp"), FrontendPort: pulumi.Int(port), BackendPort: pulumi.Int(port),
		FrontendIPConfiguration: part("frontendIPConfigurations", frontendName),
		BackendAddressPool:      part("backendAddressPools", poolName), Probe: part("probes", probeName),
		// A client that is silent for longer is told so, and does not wait for an answer from a connection that is gone.
		IdleTimeoutInMinutes: pulumi.Int(30), EnableTcpReset: pulumi.Bool(true), EnableFloatingIP: pulumi.Bool(false),
		LoadDistribution: pulumi.String("Default"),
	}
}
