package azure

import (
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"path"
	"strings"

	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	aznet "github.com/pulumi/pulumi-azure-native-sdk/network/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// admin is the user that Azure insists on. The service's own user is hypercache.
const admin = "hypercache-admin"

// replacing are the properties that Azure cannot change on a VM that exists. The provider does not know and would try. Azure could
// change the size, if the hardware below happens to have room for the new one; a new VM does not depend on that. The list is
// no longer than what this program changes: a property that somebody else touched must not cost a VM.
func replacing() []string {
	return []string{
		"vmName", "location", "zones", "virtualMachineScaleSet", "hardwareProfile.vmSize",
		"osProfile.customData", "osProfile.computerName", "osProfile.adminUsername", "osProfile.linuxConfiguration.ssh",
		"storageProfile.imageReference",
	}
}

// machine is what one VM is made from.
type machine struct {
	disk     *compute.Disk
	nic      *aznet.NetworkInterface
	userData pulumi.StringInput
	gate     pulumi.Resource
}

func (b *builder) vm(n plan.Node, a around, m machine) (*compute.VirtualMachine, error) {
	args := &compute.VirtualMachineArgs{
		ResourceGroupName: b.group, VmName: pulumi.String(b.vmName(n)), Location: b.region(), Tags: b.tags(n.Name),
		Zones:              pulumi.StringArray{pulumi.String(n.Zone)},
		HardwareProfile:    compute.HardwareProfileArgs{VmSize: pulumi.String(b.size())},
		Identity:           compute.VirtualMachineIdentityArgs{Type: compute.ResourceIdentityTypeSystemAssigned},
		OsProfile:          b.osProfile(n, m.userData),
		SecurityProfile:    b.security(),
		DiagnosticsProfile: compute.DiagnosticsProfileArgs{BootDiagnostics: compute.BootDiagnosticsArgs{Enabled: pulumi.Bool(true)}},
		StorageProfile:     b.disks(n, m.disk),
		NetworkProfile: compute.NetworkProfileArgs{NetworkInterfaces: compute.NetworkInterfaceReferenceArray{
			compute.NetworkInterfaceReferenceArgs{
				Id: m.nic.ID(), Primary: pulumi.Bool(true), DeleteOption: pulumi.String(string(compute.DeleteOptionsDetach)),
			},
		}},
	}
	if a.spread != nil {
		args.VirtualMachineScaleSet = compute.SubResourceArgs{Id: a.spread}
	}
	first := append([]pulumi.Resource{m.gate}, a.program.upload...)
	return compute.NewVirtualMachine(b.ctx, n.Name+"-vm", args, b.child(), pulumi.DependsOn(append(first, a.secrets.stored...)),
		pulumi.DeleteBeforeReplace(true), pulumi.ReplaceOnChanges(replacing()))
}

func (b *builder) osProfile(n plan.Node, userData pulumi.StringInput) compute.OSProfileArgs {
	return compute.OSProfileArgs{
		ComputerName: pulumi.String(n.Name), AdminUsername: pulumi.String(admin), CustomData: userData.ToStringOutput(),
		LinuxConfiguration: compute.LinuxConfigurationArgs{
			DisablePasswordAuthentication: pulumi.Bool(true),
			Ssh: compute.SshConfigurationArgs{PublicKeys: compute.SshPublicKeyTypeArray{compute.SshPublicKeyTypeArgs{
				Path: pulumi.String(path.Join("/home", admin, ".ssh/authorized_keys")), KeyData: pulumi.String(b.sshKey()),
			}}},
		},
	}
}

// sshKey is the stack's, or one that lets nobody in: Azure makes no VM without a key or a password.
func (b *builder) sshKey() string {
	if b.Config.VM.SSHPublicKey != "" {
		return b.Config.VM.SSHPublicKey
	}
	return nobodysKey()
}

// nobodysKey is an Ed25519 public key that is the hash of a sentence. To find its private half, somebody would have to take a
// discrete logarithm.
func nobodysKey() string {
	const kind = "ssh-ed25519"
	point := sha256.Sum256([]byte("hypercache: nobody logs in with this key"))
	var wire []byte
	for _, part := range [][]byte{[]byte(kind), point[:]} {
		wire = binary.BigEndian.AppendUint32(wire, uint32(len(part)))
		wire = append(wire, part...)
	}
	return kind + " " + base64.StdEncoding.EncodeToString(wire) + " nobody"
}

// security has the firmware check what boots, where the processors allow it: those of arm64 sizes do not all.
func (b *builder) security() compute.SecurityProfilePtrInput {
	if b.Config.VM.Architecture == "arm64" {
		return nil
	}
	return compute.SecurityProfileArgs{
		SecurityType: pulumi.String(string(compute.SecurityTypesTrustedLaunch)),
		UefiSettings: compute.UefiSettingsArgs{SecureBootEnabled: pulumi.Bool(true), VTpmEnabled: pulumi.Bool(true)},
	}
}

// disks has the OS disk go with the VM and the data disk stay.
func (b *builder) disks(n plan.Node, data *compute.Disk) compute.StorageProfileArgs {
	i := b.image()
	return compute.StorageProfileArgs{
		ImageReference: compute.ImageReferenceArgs{
			Publisher: pulumi.String(i.publisher), Offer: pulumi.String(i.offer), Sku: pulumi.String(i.sku), Version: pulumi.String(i.version),
		},
		OsDisk: compute.OSDiskArgs{
			Name: pulumi.String(b.name(n.Name + "-os")), CreateOption: pulumi.String("FromImage"), Caching: compute.CachingTypesReadWrite,
			DeleteOption: pulumi.String(string(compute.DiskDeleteOptionTypesDelete)),
			ManagedDisk:  compute.ManagedDiskParametersArgs{StorageAccountType: pulumi.String(premiumDisk)},
		},
		DataDisks: compute.DataDiskArray{compute.DataDiskArgs{
			Lun: pulumi.Int(dataLUN), CreateOption: pulumi.String("Attach"), Caching: compute.CachingTypesNone,
			DeleteOption: pulumi.String(string(compute.DiskDeleteOptionTypesDetach)),
			ManagedDisk:  compute.ManagedDiskParametersArgs{Id: data.ID()},
		}},
	}
}

func (b *builder) size() string {
	if b.Config.VM.Size != "" {
		return b.Config.VM.Size
	}
	return config.DefaultSize(config.Azure, b.Config.VM.Architecture)
}

type image struct{ publisher, offer, sku, version string }

// image is what VMs run. The version latest is resolved when a VM is made; that a newer one came out since changes nothing.
func (b *builder) image() image {
	if p := strings.Split(b.Config.VM.ImageID, ":"); len(p) == 4 {
		return image{p[0], p[1], p[2], p[3]}
	}
	return map[string]image{
		"ubuntu-24.04amd64": {"Canonical", "ubuntu-24_04-lts", "server", "latest"},
		"ubuntu-24.04arm64": {"Canonical", "ubuntu-24_04-lts", "server-arm64", "latest"},
		"debian-12amd64":    {"Debian", "debian-12", "12-gen2", "latest"},
		"debian-12arm64":    {"Debian", "debian-12", "12-arm64", "latest"},
	}[b.Config.VM.OS+b.Config.VM.Architecture]
}
