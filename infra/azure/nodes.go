package azure

import (
	"regexp"

	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/payload"
	"hypercache/infra/plan"
	"hypercache/infra/rollout"
	"hypercache/provisioning/cloudinit"
)

// around is what nodes are made into.
type around struct {
	net      network
	balancer balancer
	program  program
	secrets  secrets
	spread   pulumi.StringInput // the scale set's id; nil without one
}

// dataLUN is where the data disk is plugged in.
const dataLUN = 0

// dataDevices are the names under which that disk shows up, with Azure's older and its newer device rules.
var dataDevices = []string{"/dev/disk/azure/scsi1/lun0", "/dev/disk/azure/data/by-lun/0"}

// nodes registers every node, each behind the one before, and returns their VMs.
func (b *builder) nodes(a around) ([]*compute.VirtualMachine, error) {
	roll, err := rollout.New(b.ctx, b.parent, rollout.Args{
		Config: b.Config, Plan: b.Plan, Secret: a.secrets.cluster, Public: a.net.publics,
	})
	if err != nil {
		return nil, err
	}
	var vms []*compute.VirtualMachine
	for _, n := range b.Plan.Nodes {
		vm, err := b.node(n, roll, a)
		if err != nil {
			return nil, err
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

func (b *builder) node(n plan.Node, roll *rollout.Rollout, a around) (*compute.VirtualMachine, error) {
	disk, err := b.dataDisk(n)
	if err != nil {
		return nil, err
	}
	nic, err := b.nic(n, a)
	if err != nil {
		return nil, err
	}
	userData := b.userData(n)
	trigger := userData.ApplyT(func(data string) string { return b.trigger(n, data) }).(pulumi.StringOutput)
	gate, err := roll.Before(n, trigger)
	if err != nil {
		return nil, err
	}
	vm, err := b.vm(n, a, machine{disk: disk, nic: nic, userData: userData, gate: gate})
	if err != nil {
		return nil, err
	}
	rights, err := b.rights(n, vm, a)
	if err != nil {
		return nil, err
	}
	// VmId is new with every VM; the resource id would be the same again.
	return vm, roll.After(n, trigger, vm.VmId, append(rights, vm)...)
}

func (b *builder) vmName(n plan.Node) string { return b.name(n.Name) }

func (b *builder) vmID(n plan.Node) string {
	return b.id("Microsoft.Compute/virtualMachines", b.vmName(n))
}

// userData is what the node's VM boots with, in base64. It hangs on nothing but the random suffix of the stores' names.
func (b *builder) userData(n plan.Node) pulumi.StringOutput {
	return b.store.ApplyT(func(store string) (string, error) {
		m := cloudinit.Machine{
			Cloud: b.Config.Cloud, Region: b.Config.Network.Region, Hostname: n.Name, Config: b.load.Configs[n.Index],
			Binary: b.binary(store), Secrets: b.where(store), DataDevices: dataDevices,
		}
		if b.Config.VM.AlarmEmail != "" {
			m.Metric = &cloudinit.Metric{Namespace: metricNamespace, Node: n.Name, ResourceID: b.vmID(n)}
		}
		return payload.UserData(m)
	}).(pulumi.StringOutput)
}

// trigger changes whenever the VM will be replaced; everything in replacing must be in it.
func (b *builder) trigger(n plan.Node, userData string) string {
	i := b.image()
	spread := ""
	if b.Config.VM.Spread {
		spread = "spread"
	}
	return payload.Trigger(userData, b.size(), i.publisher, i.offer, i.sku, i.version, b.sshKey(), n.Zone, spread, b.Config.Network.Region)
}

// dataDisk registers a node's disk, which outlives its VMs. Its name has the zone in it, so that a node that moves to another zone
// gets a new disk before the old one goes, which is in use until then. It grows in place.
func (b *builder) dataDisk(n plan.Node) (*compute.Disk, error) {
	part := n.Name + "-data"
	return compute.NewDisk(b.ctx, part, &compute.DiskArgs{
		ResourceGroupName: b.group, DiskName: pulumi.String(b.name(part) + "-zone-" + n.Zone), Location: b.region(), Tags: b.tags(part),
		Zones: pulumi.StringArray{pulumi.String(n.Zone)}, Sku: compute.DiskSkuArgs{Name: pulumi.String(premiumDisk)},
		CreationData: compute.CreationDataArgs{CreateOption: pulumi.String("Empty")}, DiskSizeGB: pulumi.Int(b.Config.VM.DataDiskGB),
		// Nobody downloads it; backups and restores do not go this way.
		NetworkAccessPolicy: pulumi.String("DenyAll"), PublicNetworkAccess: pulumi.String("Disabled"),
	}, b.child(), pulumi.Protect(b.Config.VM.ProtectData), pulumi.RetainOnDelete(b.Config.VM.KeepData),
		pulumi.DeleteBeforeReplace(false), pulumi.ReplaceOnChanges([]string{"diskName", "zones"}))
}

const premiumDisk = "Premium_LRS"

// accelerated are the sizes of which all have accelerated networking and expect it.
var accelerated = regexp.MustCompile(`^Standard_[DE]\d+(-\d+)?[a-z]*_v[5-9]$`)

// nic registers a node's network interface with its planned address. It stays when the VM is replaced. Acceleration is decided when
// it is made: Azure changes that only while the VM is off, and all interfaces would change before the first VM does.
func (b *builder) nic(n plan.Node, a around) (*aznet.NetworkInterface, error) {
	part := n.Name + "-nic"
	address := aznet.NetworkInterfaceIPConfigurationArgs{
		Name: pulumi.String("primary"), Primary: pulumi.Bool(true), Subnet: aznet.SubnetTypeArgs{Id: a.net.subnet},
		PrivateIPAddress: pulumi.String(n.Address), PrivateIPAllocationMethod: pulumi.String("Static"),
		PrivateIPAddressVersion: pulumi.String("IPv4"),
	}
	if a.net.addresses != nil {
		address.PublicIPAddress = aznet.PublicIPAddressTypeArgs{Id: a.net.addresses[n.Index].ID()}
	}
	if a.balancer.pool != nil {
		address.LoadBalancerBackendAddressPools = aznet.BackendAddressPoolArray{aznet.BackendAddressPoolArgs{Id: a.balancer.pool}}
	}
	return aznet.NewNetworkInterface(b.ctx, part, &aznet.NetworkInterfaceArgs{
		ResourceGroupName: b.group, NetworkInterfaceName: pulumi.String(b.name(part)), Location: b.region(), Tags: b.tags(part),
		NetworkSecurityGroup: aznet.NetworkSecurityGroupTypeArgs{Id: a.net.firewall.ID()},
		IpConfigurations:     aznet.NetworkInterfaceIPConfigurationArray{address},

		EnableAcceleratedNetworking: pulumi.Bool(accelerated.MatchString(b.size())),
	}, b.child(), pulumi.IgnoreChanges([]string{"enableAcceleratedNetworking"}))
}
