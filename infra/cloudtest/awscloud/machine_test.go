package awscloud

import (
	"encoding/base64"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
	"hypercache/infra/cloudtest/fabric"
)

func TestAnInstanceIsAMachineWithItsData(t *testing.T) {
	a := open(t).network()
	r := a.make(instanceKind, "node",
		a.node(m{"userDataBase64": base64.StdEncoding.EncodeToString([]byte("#cloud-config\n"))}))
	vm, ok := a.memory.Machine(r.ID)
	if !ok || string(vm.UserData) != "#cloud-config\n" || vm.Address != netip.MustParseAddr("10.0.1.10") ||
		vm.InstanceID != r.ID ||
		vm.Resolver.String() != "169.254.169.253" {
		t.Errorf("machine %+v", vm)
	}
	if r.Out("privateIp") != "10.0.1.10" || r.Out("availabilityZone") != home+"a" ||
		r.Out("privateDns") != "ip-10-0-1-10.eu-central-1.compute.internal" {
		t.Errorf("outputs %v", r.Outputs)
	}
	if ids := a.cloud.InstanceIDs(); ids["node-1"] != r.ID {
		t.Errorf("ids %v", ids)
	}
}

func TestLaunchesAreRefusedAsEC2Does(t *testing.T) {
	a := open(t).network()
	a.make(vpcType, "other", m{"cidrBlock": "10.9.0.0/16"})
	a.make(groupType, "foreign", m{"vpcId": a.id("other")})
	a.make(instanceKind, "node", a.node(nil))
	arm, err := a.Invoke("aws:ssm/getParameter:getParameter",
		m{"name": "/aws/service/debian/release/12/latest/arm64"})
	if err != nil {
		t.Fatal(err)
	}
	big := base64.StdEncoding.EncodeToString(make([]byte, maxUserData+1))
	many := []string{"1", "2", "3", "4", "5", "6"}
	for words, change := range map[string]m{
		"InvalidAMIID.NotFound":                   {"ami": "ami-0123456789abcdef0"},
		"InvalidAMIID.Malformed":                  {"ami": "debian"},
		"for InstanceType":                        {"instanceType": "t9.huge"},
		"does not match the architecture":         {"ami": cloud.Str(arm, "insecureValue")},
		"InvalidSubnetID.NotFound":                {"subnetId": "subnet-1"},
		"does not match the availability zone":    {"availabilityZone": home + "b"},
		"InvalidGroup.NotFound":                   {"vpcSecurityGroupIds": []string{"sg-1"}},
		"belong to different networks":            {"vpcSecurityGroupIds": []string{a.id("foreign")}},
		"SecurityGroupsPerInterfaceLimitExceeded": {"vpcSecurityGroupIds": many},
		"InvalidIPAddress.InUse":                  {"privateIp": "10.0.1.10"},
		"reserved address range":                  {"privateIp": "10.0.1.3"},
		"does not fall within":                    {"privateIp": "10.0.1.70"},
		"User data is limited to 16384 bytes":     {"userDataBase64": big},
		"InvalidKeyPair.NotFound":                 {"keyName": "nobody"},
		"Invalid IAM Instance Profile name":       {"iamInstanceProfile": "nobody"},
		"InvalidPlacementGroup.Unknown":           {"placementGroup": "nowhere"},
		"expect size >= 8GB":                      {"rootBlockDevice": m{"volumeSize": 4}},
		"conflicts with userDataBase64":           {"userData": "x", "userDataBase64": "eA=="},
		"base64-encoded":                          {"userDataBase64": "not base64!"},
		"metadataOptions.httpTokens":              {"metadataOptions": m{"httpTokens": "always"}},
		"metadataOptions.httpPutResponseHopLimit": {"metadataOptions": m{"httpPutResponseHopLimit": 65}},
		"did you mean \"instanceType\"":           {"instanceTyp": "t3.small"},
	} {
		fresh := m{"privateIp": "10.0.1.11"}
		a.refuse(instanceKind, a.node(driver.With(fresh, change)), words)
	}
	a.refuse(instanceKind, a.node(m{"privateIp": "10.0.1.63"}), "reserved address range")
	a.make(instanceKind, "largest", a.node(m{"privateIp": "10.0.1.62",
		"userDataBase64": base64.StdEncoding.EncodeToString(make([]byte, maxUserData))}))
}

func TestEveryAddressIsTakenOnceAndNoneIsReserved(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c, err := New(Options{})
		if err != nil {
			t.Fatal(err)
		}
		subnet := c.implicit("subnet", "subnet-1", home, "s",
			map[string]any{"cidrBlock": "10.0.0.0/28", "vpcId": "vpc-1"})
		c.implicit("group", "sg-1", home, "default", map[string]any{"vpcId": "vpc-1"})
		taken := map[string]bool{}
		for range rapid.IntRange(1, 24).Draw(t, "launches") {
			wanted := ""
			if n := rapid.IntRange(-4, 15).Draw(t, "host"); n >= 0 {
				wanted = fmt.Sprintf("10.0.0.%d", n)
			}
			it, _, err := c.reserve(subnet, wanted, "x", nil)
			if err != nil {
				continue
			}
			got := it.extra.(*eni).address.String()
			reserved := slices.Contains([]string{"10.0.0.0", "10.0.0.1", "10.0.0.2", "10.0.0.3", "10.0.0.15"}, got)
			if taken[got] || reserved || wanted != "" && got != wanted {
				t.Fatalf("asked for %q and got %s, after %v", wanted, got, taken)
			}
			taken[got] = true
		}
	})
}

func TestAMachineThatDoesNotBootLeavesNothing(t *testing.T) {
	a := open(t).network()
	a.memory.Boot = func(fabric.Machine) error { return errors.New("no power") }
	a.refuse(instanceKind, a.node(nil), "no power")
	if ids := a.cloud.InstanceIDs(); len(ids) > 0 {
		t.Errorf("instances %v", ids)
	}
}

func TestAChangeOfDataInPlaceRestartsTheSameInstance(t *testing.T) {
	a := open(t).network()
	r := a.make(instanceKind, "node", a.node(m{"userData": "one"}))
	id := r.ID
	if _, plan, err := a.Apply("node", a.node(m{"userData": "two"})); err != nil || plan != driver.Update {
		t.Fatal(plan, err)
	}
	if vm, _ := a.memory.Machine(id); vm.InstanceID != id || a.memory.Boots(id) != 2 {
		t.Errorf("%d boots of %s: cloud-init must take it for the same instance", a.memory.Boots(id), vm.InstanceID)
	}
}

func TestATerminatedInstanceIsGoneForPulumi(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	a.make(volumeKind, "disk", m{"availabilityZone": home + "a", "size": 10})
	a.make(attachType, "attach", m{"deviceName": "/dev/sdf", "instanceId": a.id("node"), "volumeId": a.id("disk")})
	if err := a.cloud.TerminateInstance(t.Context(), "node-1"); err != nil {
		t.Fatal(err)
	}
	if found, err := a.Refresh("node"); err != nil || found {
		t.Errorf("refresh finds it: %v, %v", found, err)
	}
	again := a.make(instanceKind, "node", a.node(nil))
	if err := a.Delete("attach"); err != nil {
		t.Error(err)
	}
	a.make(attachType, "attach", m{"deviceName": "/dev/sdf", "instanceId": again.ID, "volumeId": a.id("disk")})
}

func TestTerminationProtectionHolds(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(m{"disableApiTermination": true}))
	wants(t, a.Delete("node"), "OperationNotPermitted")
	if _, _, err := a.Apply("node", a.node(nil)); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete("node"); err != nil {
		t.Error(err)
	}
}

func TestAVolumeAttachesOnceAndInItsZone(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	a.make(instanceKind, "second", a.node(m{"privateIp": "10.0.1.11"}))
	a.make(volumeKind, "disk", m{"availabilityZone": home + "a", "size": 10})
	a.make(volumeKind, "more", m{"availabilityZone": home + "a", "size": 10})
	a.make(volumeKind, "far", m{"availabilityZone": home + "b", "size": 10})
	attach := m{"deviceName": "/dev/sdf", "instanceId": a.id("node"), "volumeId": a.id("disk")}
	a.refuse(attachType, driver.With(attach, m{"volumeId": a.id("far")}), "InvalidVolume.ZoneMismatch")
	a.refuse(attachType, driver.With(attach, m{"volumeId": "vol-1"}), "InvalidVolume.NotFound")
	a.refuse(attachType, driver.With(attach, m{"instanceId": "i-1"}), "InvalidInstanceID.NotFound")
	a.refuse(attachType, driver.With(attach, m{"deviceName": "/dev/xvda"}), "already in use")
	a.refuse(attachType, driver.With(attach, m{"deviceName": "disk1"}), "not a valid EBS device name")
	a.make(attachType, "attach", attach)
	link := "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_" + strings.ReplaceAll(a.id("disk"), "-", "")
	if links := a.memory.Links(a.id("disk")); !slices.Equal(links, []string{link}) {
		t.Errorf("links %v, want %s", links, link)
	}
	a.refuse(attachType, driver.With(attach, m{"instanceId": a.id("second")}), "VolumeInUse")
	a.refuse(attachType, driver.With(attach, m{"volumeId": a.id("more")}), "already in use")
	wants(t, a.Delete("disk"), "VolumeInUse")
}

func TestDetachingStopsTheInstanceFirstIfAskedTo(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	a.make(volumeKind, "disk", m{"availabilityZone": home + "a", "size": 10})
	a.make(attachType, "attach", m{
		"deviceName": "/dev/sdf", "instanceId": a.id("node"), "volumeId": a.id("disk"),
		"stopInstanceBeforeDetaching": true,
	})
	if err := a.Delete("attach"); err != nil {
		t.Fatal(err)
	}
	if running, err := a.memory.Running(t.Context(), a.id("node")); err != nil || running ||
		a.memory.Links(a.id("disk")) != nil {
		t.Errorf("running %v (%v), links %v", running, err, a.memory.Links(a.id("disk")))
	}
	if _, err := a.Refresh("node"); err != nil || a.Get("node").Out("instanceState") != "stopped" {
		t.Errorf("state %q, %v", a.Get("node").Out("instanceState"), err)
	}
}

func TestAVolumeGrowsOnceInSixHoursAndNeverShrinks(t *testing.T) {
	a := open(t)
	disk := func(gib int) m { return m{"availabilityZone": home + "a", "size": gib, "type": "gp3"} }
	a.make(volumeKind, "disk", disk(10))
	if _, _, err := a.Apply("disk", disk(20)); err != nil || a.memory.GiB(a.id("disk")) != 20 {
		t.Fatal(err, a.memory.GiB(a.id("disk")))
	}
	_, _, err := a.Apply("disk", disk(30))
	wants(t, err, "VolumeModificationRateExceeded")
	a.clock.add(7 * time.Hour)
	_, _, err = a.Apply("disk", disk(5))
	wants(t, err, "New size cannot be smaller")
	if _, _, err := a.Apply("disk", disk(30)); err != nil {
		t.Error(err)
	}
}

func TestVolumesAreRefusedAsEBSDoes(t *testing.T) {
	a := open(t)
	disk := m{"availabilityZone": home + "a", "size": 10, "type": "gp3"}
	for words, change := range map[string]m{
		"InvalidZone.NotFound": {"availabilityZone": home + "x"}, "one of `size,snapshot_id`": {"size": nil},
		"expected type to be one of":   {"type": "gp9"},
		"'throughput' must not be set": {"type": "gp2", "throughput": 125}, "'iops' must be set": {"type": "io2"},
		"ratio":                    {"throughput": 1000},
		"InvalidSnapshot.NotFound": {"snapshotId": "snap-1"}, "is invalid for volume type st1": {"type": "st1"},
		"'iops' must not be set": {"type": "gp2", "iops": 3000},
	} {
		a.refuse(volumeKind, driver.With(disk, change), words)
	}
}

func TestPlacementGroupsLimitWhereInstancesGo(t *testing.T) {
	a := open(t).network()
	a.make(placementType, "spread", m{"strategy": "spread"})
	a.make(placementType, "cluster", m{"strategy": "cluster"})
	for i := range spreadPerZone {
		a.make(instanceKind, fmt.Sprintf("n%d", i),
			a.node(m{"privateIp": fmt.Sprintf("10.0.1.%d", 10+i), "placementGroup": a.id("spread")}))
	}
	a.refuse(instanceKind, a.node(m{"privateIp": "10.0.1.30", "placementGroup": a.id("spread")}),
		"InsufficientInstanceCapacity")
	a.refuse(instanceKind, a.node(m{"privateIp": "10.0.1.30", "placementGroup": a.id("cluster")}),
		"may not be used with instances of type")
	wants(t, a.Delete("spread"), "InvalidPlacementGroup.InUse")
	a.refuse(placementType, m{"strategy": "scatter"}, "expected strategy to be one of")
	a.refuse(placementType, m{"strategy": "spread", "partitionCount": 2}, "partition_count")
}

func TestKeysAreOpenSSH(t *testing.T) {
	a := open(t).network()
	a.refuse(keyType, m{"publicKey": "secret"}, "InvalidKey.Format")
	a.make(keyType, "key", m{"keyName": "k", "publicKey": "ssh-ed25519 AAAA me"})
	a.refuse(keyType, m{"keyName": "k", "publicKey": "ssh-ed25519 AAAA me"}, "InvalidKeyPair.Duplicate")
	a.make(instanceKind, "node", a.node(m{"keyName": "k"}))
}
