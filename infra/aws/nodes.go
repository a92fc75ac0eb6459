package aws

import (
	"strings"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ebs"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/lb"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/payload"
	"hypercache/infra/plan"
	"hypercache/infra/rollout"
	"hypercache/provisioning/cloudinit"
)

// around is what nodes are made into.
type around struct {
	net     network
	store   store
	secrets secrets
	profile profile
	targets []target
	image   pulumi.StringInput
	access  access
}

// ready is what must be there before a node boots.
func (a around) ready() []pulumi.Resource {
	var all []pulumi.Resource
	for _, some := range [][]pulumi.Resource{a.net.ready, a.store.upload, a.secrets.stored, a.profile.ready, a.access.ready} {
		all = append(all, some...)
	}
	return all
}

// dataDevice is where AWS is asked to plug the data disk in. Current hardware calls it otherwise; see dataDevices.
const dataDevice = "/dev/sdf"

// dataDevices are the names under which a volume shows up: by its id as an NVMe device, which cannot be mistaken for another one,
// and on hardware without NVMe by where it is plugged in.
func dataDevices(volume string) []string {
	return []string{
		"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + strings.ReplaceAll(volume, "-", ""), dataDevice, "/dev/xvdf",
	}
}

// nodes registers every node, each behind the one before, and returns their VMs.
func (b *builder) nodes(a around) ([]*ec2.Instance, error) {
	roll, err := rollout.New(b.ctx, b.parent, rollout.Args{
		Config: b.Config, Plan: b.Plan, Secret: a.secrets.value, Public: a.net.publics,
	})
	if err != nil {
		return nil, err
	}
	var vms []*ec2.Instance
	for _, n := range b.Plan.Nodes {
		vm, err := b.node(n, roll, a)
		if err != nil {
			return nil, err
		}
		vms = append(vms, vm)
	}
	return vms, nil
}

func (b *builder) node(n plan.Node, roll *rollout.Rollout, a around) (*ec2.Instance, error) {
	disk, err := b.dataDisk(n)
	if err != nil {
		return nil, err
	}
	subnet := a.net.subnets[b.Plan.Network.Subnets[n.Subnet].Name]
	userData := b.userData(n, disk.ID(), a)
	trigger := pulumi.All(userData, a.image, subnet).ApplyT(func(v []any) string {
		// The node's address and zone, and the disk, are in the user data.
		return payload.Trigger(text(v[0]), text(v[1]), text(v[2]), size(b.Config), a.access.keyName, a.access.spread)
	}).(pulumi.StringOutput)
	gate, err := roll.Before(n, trigger)
	if err != nil {
		return nil, err
	}
	vm, err := b.vm(n, subnet, userData, a, gate)
	if err != nil {
		return nil, err
	}
	attached, err := b.attach(n, vm, disk, a)
	if err != nil {
		return nil, err
	}
	return vm, roll.After(n, trigger, vm.ID(), append(attached, vm)...)
}

// dataDisk registers a node's disk, which outlives its VMs and grows in place.
func (b *builder) dataDisk(n plan.Node) (*ebs.Volume, error) {
	part := n.Name + "-data"
	tags := b.tags(part)
	tags[tagData] = pulumi.String(b.Plan.Cluster)
	return ebs.NewVolume(b.ctx, part, &ebs.VolumeArgs{
		AvailabilityZone: pulumi.String(n.Zone), Size: pulumi.Int(b.Config.VM.DataDiskGB), Type: pulumi.String("gp3"),
		Encrypted: pulumi.Bool(true), Tags: tags,
	}, b.child(), pulumi.Protect(b.Config.VM.ProtectData), pulumi.RetainOnDelete(b.Config.VM.KeepData))
}

// vm registers the instance. The old one is deleted before the new one is made, because both want one address and one disk.
func (b *builder) vm(
	n plan.Node, subnet pulumi.StringInput, userData pulumi.StringOutput, a around, gate pulumi.Resource,
) (*ec2.Instance, error) {
	args := &ec2.InstanceArgs{
		Ami: a.image.ToStringOutput(), InstanceType: pulumi.String(size(b.Config)),
		SubnetId: subnet.ToStringOutput(), PrivateIp: pulumi.String(n.Address),
		VpcSecurityGroupIds: pulumi.StringArray{a.net.firewall.ID()}, IamInstanceProfile: a.profile.name,
		UserDataBase64: userData, UserDataReplaceOnChange: pulumi.Bool(true), // AWS would restart the VM, which reads it once
		MetadataOptions: ec2.InstanceMetadataOptionsArgs{ // the VM's credentials are to be had with a token only, and in the VM only
			HttpEndpoint: pulumi.String("enabled"), HttpTokens: pulumi.String("required"), HttpPutResponseHopLimit: pulumi.Int(1),
		},
		RootBlockDevice: ec2.InstanceRootBlockDeviceArgs{
			VolumeType: pulumi.String("gp3"), Encrypted: pulumi.Bool(true), DeleteOnTermination: pulumi.Bool(true),
			Tags: b.tags(n.Name + "-os"),
		},
		EbsOptimized: pulumi.Bool(b.site.ebsOptimized), Tags: b.tags(n.Name),
	}
	if a.access.keyName != "" {
		args.KeyName = pulumi.String(a.access.keyName)
	}
	if a.access.spread != "" {
		args.PlacementGroup = pulumi.String(a.access.spread)
	}
	return ec2.NewInstance(b.ctx, n.Name+"-vm", args, b.child(), pulumi.DependsOn(append(a.ready(), gate)),
		pulumi.DeleteBeforeReplace(true))
}

// attach registers what joins a VM to its disk, its public address and the load balancer.
func (b *builder) attach(n plan.Node, vm *ec2.Instance, disk *ebs.Volume, a around) ([]pulumi.Resource, error) {
	volume, err := ec2.NewVolumeAttachment(b.ctx, n.Name+"-data-attachment", &ec2.VolumeAttachmentArgs{
		DeviceName: pulumi.String(dataDevice), InstanceId: vm.ID(), VolumeId: disk.ID(),
		StopInstanceBeforeDetaching: pulumi.Bool(true), // so that the node hands over and the file system is whole
	}, b.child(), pulumi.DeleteBeforeReplace(true))
	if err != nil {
		return nil, err
	}
	out := []pulumi.Resource{volume}
	if a.net.addresses != nil {
		ip, err := ec2.NewEipAssociation(b.ctx, n.Name+"-ip-association", &ec2.EipAssociationArgs{
			AllocationId: a.net.addresses[n.Index].ID(), InstanceId: vm.ID(),
		}, b.child(), pulumi.DeleteBeforeReplace(true))
		if err != nil {
			return nil, err
		}
		out = append(out, ip)
	}
	for _, t := range a.targets {
		target, err := lb.NewTargetGroupAttachment(b.ctx, n.Name+"-"+t.name+"-target", &lb.TargetGroupAttachmentArgs{
			TargetGroupArn: t.group.Arn, TargetId: vm.ID(), Port: pulumi.Int(t.port),
		}, b.child(), pulumi.DeleteBeforeReplace(true))
		if err != nil {
			return nil, err
		}
		out = append(out, target)
	}
	return out, nil
}

// boot is what only AWS knows of a VM before it exists.
type boot struct{ volume, bucket, gossipKey, clusterSecret, password string }

// userData is what the node's VM boots with, in base64.
func (b *builder) userData(n plan.Node, volume pulumi.StringInput, a around) pulumi.StringOutput {
	bucket := a.store.bucket
	if bucket == nil {
		bucket = pulumi.String("")
	}
	s := a.secrets
	return pulumi.All(volume, bucket, s.gossipKey, s.clusterSecret, s.password).ApplyT(func(v []any) (string, error) {
		return payload.UserData(b.machine(n, boot{text(v[0]), text(v[1]), text(v[2]), text(v[3]), text(v[4])}))
	}).(pulumi.StringOutput)
}

func (b *builder) machine(n plan.Node, at boot) cloudinit.Machine {
	m := cloudinit.Machine{
		Cloud: b.Config.Cloud, Region: b.Config.Network.Region, Hostname: n.Name, Config: b.load.Configs[n.Index],
		Binary: b.binary(at.bucket), DataDevices: dataDevices(at.volume),
		Secrets: cloudinit.Secrets{GossipKey: at.gossipKey, ClusterSecret: at.clusterSecret, Password: at.password},
	}
	if b.Config.VM.AlarmEmail != "" {
		m.Metric = &cloudinit.Metric{Namespace: b.metricNamespace(), Node: n.Name}
	}
	return m
}

// bootable renders every node's user data with ids as long as real ones. What is wrong with it, its length above all, would otherwise
// show when half of the cluster's surroundings exist.
func bootable(args Args, load payload.Payload) error {
	b := &builder{Args: args, load: load}
	arn := func(name string) string {
		return "arn:aws:secretsmanager:" + args.Config.Network.Region + ":123456789012:secret:" +
			b.prefix(name, longestSecretPrefix) + "20060102150405000000000001-AbCdEf"
	}
	at := boot{
		volume: "vol-0123456789abcdef0", bucket: strings.ToLower(b.prefix("program", longestBucketPrefix)) + "20060102150405000000000001",
		gossipKey: arn(gossipKey), clusterSecret: arn(clusterSecret),
	}
	if args.Config.Password {
		at.password = arn(password)
	}
	for _, n := range args.Plan.Nodes {
		if _, err := payload.UserData(b.machine(n, at)); err != nil {
			return err
		}
	}
	return nil
}
