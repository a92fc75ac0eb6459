package azure

import (
	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// spread registers the scale set that keeps VMs of one zone on different hardware, and returns its id, or nil if the stack does not
// want it. It makes no VMs; ours say that they belong to it. One fault domain is Azure's word for as many as there are, and
// the only count that it allows together with zones. It spans all of them, because it cannot leave one later.
func (b *builder) spread() (pulumi.StringInput, error) {
	if !b.Config.VM.Spread {
		return nil, nil
	}
	set, err := compute.NewVirtualMachineScaleSet(b.ctx, "spread", &compute.VirtualMachineScaleSetArgs{
		ResourceGroupName: b.group, VmScaleSetName: pulumi.String(b.name("spread")), Location: b.region(), Tags: b.tags("spread"),
		OrchestrationMode: pulumi.String(string(compute.OrchestrationModeFlexible)), PlatformFaultDomainCount: pulumi.Int(1),
		SinglePlacementGroup: pulumi.Bool(false), Zones: allZones(),
	}, b.child())
	if err != nil {
		return nil, err
	}
	return set.ID().ToStringOutput(), nil
}
