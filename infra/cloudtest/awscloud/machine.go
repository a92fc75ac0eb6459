package awscloud

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

// maxUserData is how much user data EC2 takes, before base64.
const maxUserData = 16384

// spreadPerZone is how many instances a spread placement group takes in a zone.
const spreadPerZone = 7

// machine is what EC2 remembers of an instance beyond its inputs.
type machine struct {
	image      image
	launched   time.Time
	booted     bool // the machine below exists
	stopped    bool
	terminated bool
	tokens     imdsTokens
	access     string // the access key of its role's credentials
}

func (c *Cloud) machineKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{"aws:ec2/instance:Instance": {
		Check: checkInstance, Create: c.createInstance, Read: c.readInstance, Update: c.updateInstance,
		Delete: c.deleteInstance,
		Replace: []string{
			"ami", "associatePublicIpAddress", "availabilityZone", "cpuCoreCount", "cpuOptions",
			"cpuThreadsPerCore", "ebsBlockDevices",
			"enablePrimaryIpv6", "enclaveOptions", "ephemeralBlockDevices", "hibernation", "hostId",
			"hostResourceGroupArn", "instanceMarketOptions", "ipv6Addresses",
			"keyName", "networkInterfaces", "placementGroup", "placementPartitionNumber", "privateIp",
			"rootBlockDevice.deviceName",
			"rootBlockDevice.encrypted", "rootBlockDevice.kmsKeyId", "securityGroups", "subnetId", "tenancy",
		},
		ReplaceIf: func(call *cloud.Call, path string) bool {
			return (path == "userData" || path == "userDataBase64") &&
				cloud.Bool(call.Inputs, "userDataReplaceOnChange", false)
		},
	}}
}

func checkInstance(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(conflict(in, "userData", "userDataBase64"),
		conflict(in, "networkInterfaces", "subnetId"),
		conflict(in, "networkInterfaces", "privateIp"), conflict(in, "networkInterfaces", "vpcSecurityGroupIds"),
		conflict(in, "networkInterfaces", "associatePublicIpAddress"),
		oneOf(in, "tenancy", "default", "dedicated", "host"),
		oneOf(in, "instanceInitiatedShutdownBehavior", "stop", "terminate"))
	if !given(in, "launchTemplate") {
		for _, p := range []string{"ami", "instanceType"} {
			if !given(in, p) {
				problems = append(problems, cloud.Problemf(p, "one of `%s,launch_template` must be specified", p))
			}
		}
	}
	if cloud.Known(in, "userDataBase64") {
		if _, err := cloud.Decode64(in, "userDataBase64"); err != nil {
			problems = append(problems, cloud.Problemf("userDataBase64",
				"expected \"user_data_base64\" to be a base64-encoded string"))
		}
	}
	if ip := cloud.Str(in, "privateIp"); cloud.Known(in, "privateIp") {
		if a, err := netip.ParseAddr(ip); err != nil || !a.Is4() {
			problems = append(problems, cloud.Problemf("privateIp",
				"expected private_ip to contain a valid IPv4 address, got: %s", ip))
		}
	}
	within := func(property string, found []cloud.Problem) {
		for _, p := range found {
			problems = append(problems, cloud.Problem{Property: property + "." + p.Property, Reason: p.Reason})
		}
	}
	meta := cloud.Obj(in, "metadataOptions")
	within("metadataOptions", slices.Concat(oneOf(meta, "httpTokens", "optional", "required"),
		oneOf(meta, "httpEndpoint", "enabled", "disabled"),
		oneOf(meta, "instanceMetadataTags", "enabled", "disabled"), between(meta, "httpPutResponseHopLimit", 1, 64)))
	root := cloud.Obj(in, "rootBlockDevice")
	within("rootBlockDevice", oneOf(root, "volumeType", "standard", "io1", "io2", "gp2", "gp3", "sc1", "st1"))
	if given(root, "throughput") && cloud.Known(root, "volumeType") && cloud.Str(root, "volumeType") != "gp3" {
		problems = append(problems, cloud.Problemf("rootBlockDevice.throughput",
			"`throughput` is supported for volume_type gp3 only"))
	}
	return problems
}

// userData is what the machine gets, as bytes.
func userData(in resource.PropertyMap) []byte {
	if s := cloud.Str(in, "userDataBase64"); s != "" {
		data, _ := base64.StdEncoding.DecodeString(s) // checked when it was planned
		return data
	}
	s := cloud.Str(in, "userData")
	if data, err := base64.StdEncoding.DecodeString(s); err == nil && s != "" {
		return data // the provider does not encode twice
	}
	return []byte(s)
}

// launch is everything about a new instance that was found out while checking it.
type launch struct {
	region        string
	image         image
	typ           instanceType
	subnet        *item
	groups        []string
	public        bool
	profile       *item
	rootGiB       int
	root          resource.PropertyMap
	userData      []byte
	doing, op     string
	metadata      resource.PropertyMap
	id            string
	address       netip.Addr
	interfaceID   string
	instanceClass string
}

func (l *launch) refuse(code, format string, args ...any) error {
	return ec2Error(l.doing, l.op, code, format, args...)
}

// plan checks a launch as RunInstances does; c.mu is held.
func (c *Cloud) plan(call *cloud.Call) (*launch, error) {
	in := call.Inputs
	l := &launch{region: region(call), doing: "creating EC2 Instance", op: "RunInstances",
		instanceClass: cloud.Str(in, "instanceType")}
	steps := []func(*launch, resource.PropertyMap) error{c.planImage, c.planPlace, c.planGroups, c.planProfile,
		c.planPlacement, planData}
	for _, step := range steps {
		if err := step(l, in); err != nil {
			return nil, err
		}
	}
	return l, nil
}

func (c *Cloud) planImage(l *launch, in resource.PropertyMap) error {
	ami := cloud.Str(in, "ami")
	var ok bool
	if l.image, ok = findImage(l.region, ami); !ok {
		if !strings.HasPrefix(ami, "ami-") {
			return l.refuse("InvalidAMIID.Malformed", "Invalid id: \"%s\" (expecting \"ami-...\")", ami)
		}
		return l.refuse("InvalidAMIID.NotFound", "The image id '[%s]' does not exist", ami)
	}
	if l.typ, ok = instanceTypes[l.instanceClass]; !ok {
		return l.refuse("InvalidParameterValue", "Invalid value '%s' for InstanceType.", l.instanceClass)
	}
	if l.typ.arch != l.image.arch {
		return l.refuse("InvalidParameterValue",
			"The architecture '%s' of the specified instance type does not match the architecture '%s' of the "+
				"specified AMI. "+
				"Specify an instance type and an AMI that have matching architectures, and try again.", l.typ.arch,
			l.image.arch)
	}
	l.root, l.rootGiB = cloud.Obj(in, "rootBlockDevice"), l.image.rootGiB
	if n := cloud.Int(cloud.Obj(in, "rootBlockDevice"), "volumeSize"); n != 0 {
		if n < l.image.rootGiB {
			return l.refuse("InvalidBlockDeviceMapping",
				"Volume of size %dGB is smaller than snapshot 'snap-%s', expect size >= %dGB",
				n, strings.TrimPrefix(l.image.id(l.region), "ami-"), l.image.rootGiB)
		}
		l.rootGiB = n
	}
	if name := cloud.Str(in, "keyName"); name != "" && c.get(l.region, "keypair", name) == nil {
		return l.refuse("InvalidKeyPair.NotFound", "The key pair '%s' does not exist", name)
	}
	return nil
}

func (c *Cloud) planPlace(l *launch, in resource.PropertyMap) error {
	id := cloud.Str(in, "subnetId")
	if id == "" {
		return l.refuse("VPCIdNotSpecified",
			"No default VPC for this user. GroupName is only supported for EC2-Classic and default VPC.")
	}
	if l.subnet = c.get(l.region, "subnet", id); l.subnet == nil {
		return l.refuse("InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist", id)
	}
	zone := l.subnet.str("availabilityZone")
	if z := cloud.Str(in, "availabilityZone"); z != "" && z != zone {
		return l.refuse("InvalidParameterValue",
			"The availability zone '%s' does not match the availability zone '%s' of subnet '%s'", z, zone, id)
	}
	if !offered(l.instanceClass, zone) {
		return l.refuse("Unsupported",
			"Your requested instance type (%s) is not supported in your requested Availability Zone (%s). "+
				"Please retry your request by not specifying an Availability Zone or choosing another one.",
			l.instanceClass, zone)
	}
	l.public = cloud.Bool(in, "associatePublicIpAddress", cloud.Bool(l.subnet.in, "mapPublicIpOnLaunch", false))
	return nil
}

func (c *Cloud) planGroups(l *launch, in resource.PropertyMap) error {
	l.groups = cloud.Strs(in, "vpcSecurityGroupIds")
	return c.mayGroups(l.doing, l.op, l.subnet, l.groups)
}

// mayGroups checks the groups of an interface in a subnet; c.mu is held.
func (c *Cloud) mayGroups(doing, op string, subnet *item, groups []string) error {
	if len(groups) > groupsPerInterface {
		return ec2Error(doing, op, "SecurityGroupsPerInterfaceLimitExceeded",
			"The maximum number of security groups per interface has been reached.")
	}
	for _, id := range groups {
		g := c.get(subnet.region, "group", id)
		if g == nil {
			return ec2Error(doing, op, "InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		if g.str("vpcId") != subnet.str("vpcId") {
			return ec2Error(doing, op, "InvalidParameter",
				"Security group %s and subnet %s belong to different networks.", id, subnet.id)
		}
	}
	return nil
}

func (c *Cloud) planProfile(l *launch, in resource.PropertyMap) error {
	name := cloud.Str(in, "iamInstanceProfile")
	if name == "" {
		return nil
	}
	if l.profile = c.items[key{"profile", name}]; l.profile == nil {
		return l.refuse("InvalidParameterValue",
			"Value (%s) for parameter iamInstanceProfile.name is invalid. Invalid IAM Instance Profile name", name)
	}
	if cloud.Str(l.profile.in, "role") == "" {
		return l.refuse("InvalidParameterValue", "IAM Instance Profile \"%s\" has no associated IAM Roles",
			l.profile.str("arn"))
	}
	return nil
}

func (c *Cloud) planPlacement(l *launch, in resource.PropertyMap) error {
	name := cloud.Str(in, "placementGroup")
	if name == "" {
		return nil
	}
	group := c.placement(l.region, name)
	if group == nil {
		return l.refuse("InvalidPlacementGroup.Unknown", "The Placement Group '%s' is unknown.", name)
	}
	zone, here := l.subnet.str("availabilityZone"), 0
	for _, o := range c.all("instance") {
		if o.str("placementGroup") != name || o.extra.(*machine).terminated {
			continue
		}
		if o.str("availabilityZone") == zone {
			here++
		} else if group.str("strategy") == "cluster" {
			return l.refuse("InvalidPlacementGroup.InUse",
				"The placement group '%s' spans one Availability Zone, and has instances in %s", name,
				o.str("availabilityZone"))
		}
	}
	if group.str("strategy") == "cluster" && l.typ.burstable {
		return l.refuse("InvalidParameterCombination",
			"Placement groups may not be used with instances of type '%s'.", l.instanceClass)
	}
	if group.str("strategy") == "spread" && here >= spreadPerZone {
		return l.refuse("InsufficientInstanceCapacity",
			"A spread placement group has at most %d running instances per Availability Zone", spreadPerZone)
	}
	return nil
}

func planData(l *launch, in resource.PropertyMap) error {
	l.userData = userData(in)
	if len(l.userData) > maxUserData {
		return l.refuse("InvalidParameterValue", "User data is limited to %d bytes", maxUserData)
	}
	l.metadata = metadataOptions(in)
	return nil
}

// metadataOptions are the inputs with EC2's defaults.
func metadataOptions(in resource.PropertyMap) resource.PropertyMap {
	out := cloud.Values(map[string]any{
		"httpEndpoint": "enabled", "httpTokens": "optional", "httpPutResponseHopLimit": 1,
		"instanceMetadataTags": "disabled", "httpProtocolIpv6": "disabled",
	})
	maps.Copy(out, cloud.Obj(in, "metadataOptions"))
	return out
}

func (c *Cloud) createInstance(call *cloud.Call) (string, resource.PropertyMap, error) {
	c.mu.Lock()
	l, err := c.plan(call)
	if err != nil {
		c.mu.Unlock()
		return "", nil, err
	}
	l.id = newID("i")
	e, code, err := c.reserve(l.subnet, cloud.Str(call.Inputs, "privateIp"), l.id, l.groups)
	if err != nil {
		c.mu.Unlock()
		return "", nil, l.refuse(code, "%s", err)
	}
	e.extra.(*eni).public = l.public
	l.address, l.interfaceID = e.extra.(*eni).address, e.id
	it := c.add("instance", l.id, call, c.instanceOutputs(l, e.extra.(*eni)))
	it.extra = &machine{image: l.image, launched: c.now()}
	out, filter := maps.Clone(it.out), c.filter(e.extra.(*eni))
	c.mu.Unlock()

	m := fabric.Machine{
		ID: l.id, Hostname: "ip-" + strings.ReplaceAll(l.address.String(), ".", "-"),
		Network: l.subnet.str("vpcId"), Subnet: l.subnet.id,
		Address: l.address, UserData: l.userData, InstanceID: l.id,
		Resolver: netip.AddrFrom4([4]byte{169, 254, 169, 253}),
		Resolve:  c.resolver(l.id), Metadata: c.metadata(l.id), Services: c.services(l.id),
		IsService: c.isService(l.id),
		Filter:    filter,
	}
	if err := c.boot(call.Ctx, m); err != nil {
		return "", nil, fmt.Errorf("waiting for EC2 Instance (%s) create: %w", l.id, err)
	}
	return l.id, out, nil
}

// boot starts the machine below an instance; if that fails, nothing of the instance stays. The others know its
// address before it runs, and once more after, in case that its own rules changed while it came up.
func (c *Cloud) boot(ctx context.Context, m fabric.Machine) error {
	err := c.setFilters(ctx)
	if err == nil {
		err = c.compute.CreateMachine(ctx, m)
	}
	c.mu.Lock()
	if err != nil {
		c.release(m.ID)
		delete(c.items, key{"instance", m.ID})
	} else if it := c.items[key{"instance", m.ID}]; it != nil {
		it.extra.(*machine).booted = true
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.setFilters(ctx)
}

func (c *Cloud) instanceOutputs(l *launch, e *eni) map[string]any {
	public, publicDNS := "", ""
	if l.public {
		public = publicAddress(c.seq + 1<<15).String()
		publicDNS = "ec2-" + strings.ReplaceAll(public, ".", "-") + "." + l.region + ".compute.amazonaws.com"
	}
	return map[string]any{
		"arn": c.arn("ec2", l.region, "instance/"+l.id), "availabilityZone": l.subnet.str("availabilityZone"),
		"instanceState":             "running",
		"primaryNetworkInterfaceId": l.interfaceID, "privateIp": e.address.String(),
		"privateDns": privateName(e.address, l.region),
		"publicIp":   public, "publicDns": publicDNS, "associatePublicIpAddress": l.public,
		"vpcSecurityGroupIds": e.groups,
		"tenancy":             "default", "metadataOptions": l.metadata, "sourceDestCheck": true,
		"rootBlockDevice": rootDevice(l, newID("vol")),
	}
}

// rootDevice is the root volume as EC2 describes it: the image's, with what the program asks for.
func rootDevice(l *launch, id string) resource.PropertyMap {
	out := cloud.Values(map[string]any{
		"deviceName": l.image.rootDevice, "deleteOnTermination": true, "encrypted": false, "volumeType": "gp2",
	})
	maps.Copy(out, l.root)
	out["volumeId"], out["volumeSize"] = resource.NewStringProperty(id),
		resource.NewNumberProperty(float64(l.rootGiB))
	return out
}

// privateName is the name that AWS gives to an address in a network.
func privateName(a netip.Addr, region string) string {
	domain := region + ".compute.internal"
	if region == "us-east-1" {
		domain = "ec2.internal"
	}
	return "ip-" + strings.ReplaceAll(a.String(), ".", "-") + "." + domain
}

func (c *Cloud) readInstance(call *cloud.Call) (resource.PropertyMap, bool, error) {
	c.mu.Lock()
	it := c.items[key{"instance", call.ID}]
	if it == nil || it.extra.(*machine).terminated {
		c.mu.Unlock()
		return nil, false, nil
	}
	out := maps.Clone(it.in)
	maps.Copy(out, it.out)
	if e := c.enis(it.id); len(e) > 0 {
		out["vpcSecurityGroupIds"] = cloud.Value(e[0].groups)
	}
	c.mu.Unlock()
	state := "stopped"
	if running, err := c.compute.Running(call.Ctx, call.ID); err == nil && running {
		state = "running"
	}
	out["instanceState"] = resource.NewStringProperty(state)
	return out, true, nil
}

func (c *Cloud) updateInstance(call *cloud.Call) (resource.PropertyMap, error) {
	c.mu.Lock()
	it := c.items[key{"instance", call.ID}]
	if it == nil || it.extra.(*machine).terminated {
		c.mu.Unlock()
		return nil, ec2Error("updating EC2 Instance ("+call.ID+")", "ModifyInstanceAttribute",
			"InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", call.ID)
	}
	err := c.modify(call, it)
	out := maps.Clone(it.out)
	c.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if changed(call, "instanceType", "userData", "userDataBase64") {
		// AWS changes these on a stopped instance only. It then boots as the same instance: cloud-init does not run
		// the data again.
		if err := c.stop(call.Ctx, call.ID); err != nil {
			return nil, fmt.Errorf("updating EC2 Instance (%s): stopping: %w", call.ID, err)
		}
		if err := c.start(call.Ctx, call.ID); err != nil {
			return nil, fmt.Errorf("updating EC2 Instance (%s): starting: %w", call.ID, err)
		}
	}
	return out, c.refilter(call)
}

// modify takes over what changes in place; c.mu is held.
func (c *Cloud) modify(call *cloud.Call, it *item) error {
	l := &launch{
		region: it.region, doing: "updating EC2 Instance (" + it.id + ")", op: "ModifyInstanceAttribute",
		instanceClass: cloud.Str(call.Inputs, "instanceType"),
		subnet:        c.items[key{"subnet", it.str("subnetId")}],
	}
	steps := []func(*launch, resource.PropertyMap) error{c.planImage, c.planGroups, c.planProfile, planData}
	for _, step := range steps {
		if err := step(l, call.Inputs); err != nil {
			return err
		}
	}
	if len(l.groups) > 0 {
		for _, e := range c.enis(it.id) {
			e.groups = l.groups
		}
		it.out["vpcSecurityGroupIds"] = cloud.Value(l.groups)
	}
	if changed(call, "iamInstanceProfile") {
		it.extra.(*machine).access = ""
	}
	before := cloud.Obj(it.out, "rootBlockDevice")
	if l.rootGiB < cloud.Int(before, "volumeSize") {
		return ec2Error(l.doing, "ModifyVolume", "InvalidParameterValue",
			"New size cannot be smaller than existing size")
	}
	it.out["rootBlockDevice"] = resource.NewObjectProperty(rootDevice(l, cloud.Str(before, "volumeId")))
	it.out["metadataOptions"] = resource.NewObjectProperty(l.metadata)
	c.settle(it, call)
	return nil
}

func (c *Cloud) stop(ctx context.Context, id string) error {
	if err := c.compute.StopMachine(ctx, id); err != nil {
		return err
	}
	c.setStopped(id, true)
	return nil
}

func (c *Cloud) start(ctx context.Context, id string) error {
	if err := c.compute.StartMachine(ctx, id); err != nil {
		return err
	}
	c.setStopped(id, false)
	return nil
}

func (c *Cloud) setStopped(id string, stopped bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if it := c.items[key{"instance", id}]; it != nil {
		it.extra.(*machine).stopped = stopped
	}
}

func (c *Cloud) deleteInstance(call *cloud.Call) error {
	doing := "terminating EC2 Instance (" + call.ID + ")"
	c.mu.Lock()
	it := c.items[key{"instance", call.ID}]
	if it == nil || it.extra.(*machine).terminated {
		delete(c.items, key{"instance", call.ID})
		c.mu.Unlock()
		return nil
	}
	protected := cloud.Bool(it.in, "disableApiTermination", false)
	c.mu.Unlock()
	if protected {
		return ec2Error(doing, "TerminateInstances", "OperationNotPermitted",
			"The instance '%s' may not be terminated. Modify its 'disableApiTermination' instance attribute and try "+
				"again.", call.ID)
	}
	if err := c.compute.DeleteMachine(call.Ctx, call.ID); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	c.mu.Lock()
	c.terminated(it)
	delete(c.items, key{"instance", call.ID})
	c.mu.Unlock()
	return c.setFilters(call.Ctx)
}

// terminated notes that an instance is gone: its address and volumes are free; c.mu is held.
func (c *Cloud) terminated(it *item) {
	it.extra.(*machine).terminated = true
	for _, a := range c.all("eipassociation") {
		if a.str("instanceId") == it.id {
			delete(c.items, key{"eipassociation", a.id})
		}
	}
	c.release(it.id)
	for _, v := range c.all("volume") {
		if volumeOf(v).instance == it.id {
			c.detached(v.id)
		}
	}
}
