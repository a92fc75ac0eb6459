package awscloud

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// modificationPause is how long EBS refuses a second change of a volume.
const modificationPause = 6 * time.Hour

// volume is what EBS remembers of one beyond its inputs.
type volume struct {
	instance, device string
	modified         time.Time
}

func (c *Cloud) storageKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{
		"aws:ebs/volume:Volume": c.kindOf(books{
			kind: "volume", check: checkVolume, create: c.createVolume, update: c.updateVolume,
			remove: c.removeVolume,
			replace: []string{"availabilityZone", "encrypted", "kmsKeyId", "snapshotId", "outpostArn",
				"multiAttachEnabled"},
		}),
		"aws:ec2/volumeAttachment:VolumeAttachment": c.attachmentKind(),
		"aws:ec2/placementGroup:PlacementGroup": c.kindOf(books{
			kind: "placement", check: checkPlacement, create: c.createPlacement, remove: c.removePlacement,
			replace: []string{"name", "strategy", "partitionCount", "spreadLevel"},
			auto:    &cloud.AutoName{Property: "name", MaxLength: 255},
		}),
		"aws:ec2/keyPair:KeyPair": c.kindOf(books{
			kind: "keypair", create: c.createKeyPair, replace: []string{"keyName", "keyNamePrefix", "publicKey"},
			auto: &cloud.AutoName{Property: "keyName", MaxLength: 255, Unless: []string{"keyNamePrefix"}},
		}),
	}
}

func checkVolume(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(oneOf(in, "type", "standard", "io1", "io2", "gp2", "gp3", "sc1", "st1"),
		between(in, "throughput", 125, 2000))
	if !given(in, "size") && !given(in, "snapshotId") {
		problems = append(problems, cloud.Problemf("size", "one of `size,snapshot_id` must be specified"))
	}
	typ := cloud.Str(in, "type")
	if given(in, "throughput") && typ != "gp3" && typ != "" {
		problems = append(problems, cloud.Problemf("throughput", "'throughput' must not be set when 'type' is '%s'",
			typ))
	}
	if (typ == "io1" || typ == "io2") && !given(in, "iops") {
		problems = append(problems, cloud.Problemf("iops", "'iops' must be set when 'type' is '%s'", typ))
	}
	if given(in, "iops") && slices.Contains([]string{"gp2", "standard", "sc1", "st1"}, typ) {
		problems = append(problems, cloud.Problemf("iops", "'iops' must not be set when 'type' is '%s'", typ))
	}
	return problems
}

// mayVolume checks size and performance.
func mayVolume(doing, op, typ string, gib, iops, throughput int) error {
	least := map[string]int{"io1": 4, "io2": 4, "sc1": 125, "st1": 125}[typ]
	if gib < max(least, 1) || gib > 65536 {
		return ec2Error(doing, op, "InvalidParameterValue", "Volume of %dGiB is invalid for volume type %s", gib, typ)
	}
	if typ == "gp3" {
		if iops != 0 && (iops < 3000 || iops > 80000 || iops > max(3000, 500*gib)) {
			return ec2Error(doing, op, "InvalidParameterCombination",
				"The iops to volume size ratio or the iops of %d is out of range for gp3 (3000 to 80000, at most 500 "+
					""+
					""+
					"per GiB)", iops)
		}
		if throughput > max(iops, 3000)/4 {
			return ec2Error(doing, op, "InvalidParameterValue",
				"Throughput (MiBps) to iops ratio of %f is too high; maximum is 0.25 MiBps per iops",
				float64(throughput)/float64(max(iops, 3000)))
		}
	}
	return nil
}

func (c *Cloud) createVolume(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating EBS Volume", "CreateVolume"
	in, region := call.Inputs, region(call)
	if z := cloud.Str(in, "availabilityZone"); !slices.Contains(zones(region), z) {
		return "", nil, ec2Error(doing, op, "InvalidZone.NotFound", "The zone '%s' does not exist.", z)
	}
	if s := cloud.Str(in, "snapshotId"); s != "" {
		return "", nil, ec2Error(doing, op, "InvalidSnapshot.NotFound", "The snapshot '%s' does not exist.", s)
	}
	typ := cloud.Str(in, "type")
	if typ == "" {
		typ = "gp2"
	}
	gib := cloud.Int(in, "size")
	if err := mayVolume(doing, op, typ, gib, cloud.Int(in, "iops"), cloud.Int(in, "throughput")); err != nil {
		return "", nil, err
	}
	id := newID("vol")
	if err := c.compute.CreateDisk(call.Ctx, id, gib); err != nil {
		return "", nil, fmt.Errorf("creating EBS Volume: %w", err)
	}
	out := map[string]any{"arn": c.arn("ec2", region, "volume/"+id), "type": typ,
		"createTime": c.now().UTC().Format(time.RFC3339)}
	if typ == "gp3" {
		out["iops"], out["throughput"] = max(cloud.Int(in, "iops"), 3000), max(cloud.Int(in, "throughput"), 125)
	}
	return id, out, nil
}

// volumeOf is EBS's memory of a volume, made at first use; c.mu is held.
func volumeOf(it *item) *volume {
	v, ok := it.extra.(*volume)
	if !ok {
		v = &volume{}
		it.extra = v
	}
	return v
}

func (c *Cloud) updateVolume(call *cloud.Call, it *item) error {
	doing, op := "updating EBS Volume ("+it.id+")", "ModifyVolume"
	if !changed(call, "size", "type", "iops", "throughput") {
		return nil
	}
	before, after := cloud.Int(it.in, "size"), cloud.Int(call.Inputs, "size")
	v := volumeOf(it)
	switch {
	case after < before:
		return ec2Error(doing, op, "InvalidParameterValue", "New size cannot be smaller than existing size")
	case !v.modified.IsZero() && c.now().Before(v.modified.Add(modificationPause)):
		return ec2Error(doing, op, "VolumeModificationRateExceeded",
			"You've reached the maximum modification rate per volume limit. Wait at least 6 hours between "+
				"modifications per EBS volume.")
	}
	typ := cloud.Str(call.Inputs, "type")
	if typ == "" {
		typ = "gp2"
	}
	if err := mayVolume(doing, op, typ, after, cloud.Int(call.Inputs, "iops"),
		cloud.Int(call.Inputs, "throughput")); err != nil {
		return err
	}
	if after > before {
		if err := c.compute.GrowDisk(call.Ctx, it.id, after); err != nil {
			return fmt.Errorf("%s: %w", doing, err)
		}
	}
	v.modified = c.now()
	return nil
}

func (c *Cloud) removeVolume(call *cloud.Call, it *item) error {
	if v := volumeOf(it); v.instance != "" {
		return ec2Error("deleting EBS Volume ("+it.id+")", "DeleteVolume", "VolumeInUse",
			"Volume %s is currently attached to %s", it.id, v.instance)
	}
	if err := c.compute.DeleteDisk(call.Ctx, it.id); err != nil {
		return fmt.Errorf("deleting EBS Volume (%s): %w", it.id, err)
	}
	return nil
}

// deviceName is what EC2 takes as the name of an attachment's device.
var deviceName = regexp.MustCompile(`^(/dev/(sd[a-z][1-9]?\d?|xvd[a-z]{1,2}|hd[a-z]))|(xvd[a-z]{1,2})$`)

// attachmentKind is not of the books alone: attaching and detaching touch the machine, without c.mu held.
func (c *Cloud) attachmentKind() *cloud.Kind {
	k := c.kindOf(books{
		kind: "volumeattachment", create: c.createAttachment,
		replace: []string{"deviceName", "instanceId", "volumeId"},
	})
	create := k.Create
	k.Create = func(call *cloud.Call) (string, resource.PropertyMap, error) {
		id, out, err := create(call)
		if err != nil {
			return "", nil, err
		}
		volume, instance := cloud.Str(call.Inputs, "volumeId"), cloud.Str(call.Inputs, "instanceId")
		if err := c.compute.AttachDisk(call.Ctx, instance, volume, volumeLinks(volume)); err != nil {
			c.mu.Lock()
			delete(c.items, key{"volumeattachment", id})
			c.detached(volume)
			c.mu.Unlock()
			return "", nil, fmt.Errorf("attaching EBS Volume (%s) to EC2 Instance (%s): %w", volume, instance, err)
		}
		return id, out, nil
	}
	k.Delete = c.deleteAttachment
	return k
}

// volumeLinks are where udev shows an EBS volume on an instance with NVMe.
func volumeLinks(id string) []string {
	return []string{"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + strings.ReplaceAll(id, "-", "")}
}

func (c *Cloud) createAttachment(call *cloud.Call) (string, map[string]any, error) {
	in, region := call.Inputs, region(call)
	volumeID, instanceID, device := cloud.Str(in, "volumeId"), cloud.Str(in, "instanceId"),
		cloud.Str(in, "deviceName")
	doing, op := fmt.Sprintf("attaching EBS Volume (%s) to EC2 Instance (%s)", volumeID, instanceID), "AttachVolume"
	v, i := c.get(region, "volume", volumeID), c.get(region, "instance", instanceID)
	switch {
	case i == nil || i.extra.(*machine).terminated:
		return "", nil, ec2Error(doing, op, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist",
			instanceID)
	case v == nil:
		return "", nil, ec2Error(doing, op, "InvalidVolume.NotFound", "The volume '%s' does not exist.", volumeID)
	case v.str("availabilityZone") != i.str("availabilityZone"):
		return "", nil, ec2Error(doing, op, "InvalidVolume.ZoneMismatch",
			"The volume '%s' is not in the same availability zone as instance '%s'", volumeID, instanceID)
	case volumeOf(v).instance != "":
		return "", nil, ec2Error(doing, op, "VolumeInUse", "%s is already attached to an instance", volumeID)
	case !deviceName.MatchString(device):
		return "", nil, ec2Error(doing, op, "InvalidParameterValue",
			"Value (%s) for parameter device is invalid. %s is not a valid EBS device name.", device, device)
	}
	used := device == i.extra.(*machine).image.rootDevice
	for _, o := range c.all("volume") {
		used = used || volumeOf(o).instance == instanceID && volumeOf(o).device == device
	}
	if used {
		return "", nil, ec2Error(doing, op, "InvalidParameterValue",
			"Invalid value '%s' for unixDevice. Attachment point %s is already in use", device, device)
	}
	*volumeOf(v) = volume{instance: instanceID, device: device, modified: volumeOf(v).modified}
	return "vai-" + randomHex(5), nil, nil
}

// detached notes that a volume is free; c.mu is held.
func (c *Cloud) detached(volumeID string) {
	if v := c.items[key{"volume", volumeID}]; v != nil {
		volumeOf(v).instance, volumeOf(v).device = "", ""
	}
}

func (c *Cloud) deleteAttachment(call *cloud.Call) error {
	c.mu.Lock()
	it := c.items[key{"volumeattachment", call.ID}]
	if it == nil {
		c.mu.Unlock()
		return nil
	}
	volumeID, instanceID := it.str("volumeId"), it.str("instanceId")
	v, i := c.items[key{"volume", volumeID}], c.items[key{"instance", instanceID}]
	attached := v != nil && volumeOf(v).instance == instanceID && i != nil && !i.extra.(*machine).terminated
	c.mu.Unlock()
	if attached && !cloud.Bool(it.in, "skipDestroy", false) {
		if err := c.detach(call, it, volumeID, instanceID); err != nil {
			return err
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.items, key{"volumeattachment", call.ID})
	return nil
}

func (c *Cloud) detach(call *cloud.Call, it *item, volumeID, instanceID string) error {
	doing := fmt.Sprintf("detaching EBS Volume (%s) from EC2 Instance (%s)", volumeID, instanceID)
	if cloud.Bool(it.in, "stopInstanceBeforeDetaching", false) {
		if err := c.stop(call.Ctx, instanceID); err != nil {
			return fmt.Errorf("%s: stopping it: %w", doing, err)
		}
	}
	if err := c.compute.DetachDisk(call.Ctx, instanceID, volumeID); err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.detached(volumeID)
	return nil
}

func checkPlacement(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(oneOf(in, "strategy", "cluster", "partition", "spread"),
		oneOf(in, "spreadLevel", "host", "rack"))
	if given(in, "partitionCount") && cloud.Known(in, "strategy") && cloud.Str(in, "strategy") != "partition" {
		problems = append(problems, cloud.Problemf("partitionCount",
			"`partition_count` can only be set when `strategy = \"partition\"`"))
	}
	return problems
}

func (c *Cloud) createPlacement(call *cloud.Call) (string, map[string]any, error) {
	name := cloud.Str(call.Inputs, "name")
	if c.placement(region(call), name) != nil {
		return "", nil, ec2Error("creating EC2 Placement Group ("+name+")", "CreatePlacementGroup",
			"InvalidPlacementGroup.Duplicate",
			"The Placement Group '%s' already exists.", name)
	}
	return name, map[string]any{"arn": c.arn("ec2", region(call), "placement-group/"+name),
		"placementGroupId": newID("pg")}, nil
}

func (c *Cloud) placement(region, name string) *item {
	return c.get(region, "placement", name)
}

func (c *Cloud) removePlacement(_ *cloud.Call, it *item) error {
	if c.find("instance", func(o *item) bool {
		return o.str("placementGroup") == it.id &&
			!o.extra.(*machine).terminated
	}) != nil {
		return ec2Error("deleting EC2 Placement Group ("+it.id+")", "DeletePlacementGroup",
			"InvalidPlacementGroup.InUse",
			"The placement group '%s' is in use and may not be deleted.", it.id)
	}
	return nil
}

func (c *Cloud) createKeyPair(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "importing EC2 Key Pair", "ImportKeyPair"
	name, public := cloud.Str(call.Inputs, "keyName"), cloud.Str(call.Inputs, "publicKey")
	if p := cloud.Str(call.Inputs, "keyNamePrefix"); p != "" {
		name = p + uniqueSuffix()
	}
	kind, _, ok := strings.Cut(strings.TrimSpace(public), " ")
	if !ok || kind != "ssh-rsa" && kind != "ssh-ed25519" {
		return "", nil, ec2Error(doing+" ("+name+")", op, "InvalidKey.Format",
			"Key is not in valid OpenSSH public key format")
	}
	if c.get(region(call), "keypair", name) != nil {
		return "", nil, ec2Error(doing+" ("+name+")", op, "InvalidKeyPair.Duplicate", "The keypair already exists")
	}
	return name, map[string]any{
		"arn": c.arn("ec2", region(call), "key-pair/"+name), "keyName": name, "keyPairId": newID("key"),
		"keyType": strings.TrimPrefix(kind, "ssh-"),
	}, nil
}
