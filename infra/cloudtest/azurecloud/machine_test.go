package azurecloud

import (
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
	"hypercache/infra/cloudtest/fabric"
)

func TestAMachineBootsAsItsInputsSay(t *testing.T) {
	k := network(t)
	r := k.node(1)
	below, ok := k.below.Machine(k.machine("node1"))
	if !ok {
		t.Fatal("there is no machine")
	}
	if below.Address != netip.MustParseAddr("10.0.1.4") || below.Hostname != "node1" || string(below.UserData) != "#cloud-config\n" ||
		below.Resolver != netip.MustParseAddr("168.63.129.16") || below.InstanceID != r.Out("vmId") {
		t.Errorf("the machine is %+v", below)
	}
	want := []string{"/dev/disk/azure/scsi1/lun0", "/dev/disk/azure/data/by-lun/0"}
	if got := k.below.Links(k.cloud.DiskIDs()["disk1"]); !slices.Equal(got, want) {
		t.Errorf("the data disk shows at %v, want %v", got, want)
	}
	if principalOf(r) == "" || cloud.Str(cloud.Obj(cloud.Obj(r.Outputs, "storageProfile"), "osDisk"),
		"name") != "node1-os" {
		t.Errorf("outputs: %v", r.Outputs)
	}
	if found, err := k.Refresh("node1"); !found || err != nil {
		t.Fatal(found, err)
	}
	if plan, which, _ := k.Diff("node1", k.vmIn("node1", "1", "nic1", "disk1")); plan != driver.Same {
		t.Errorf("after a refresh the plan is %s %v", plan, which)
	}
}

func TestBadMachinesAreRefused(t *testing.T) {
	k := network(t)
	k.must(nicType, "nic1", k.nicIn("10.0.1.4"))
	k.must(diskType, "disk1", diskIn("disk1", "1"))
	good := k.vmIn("node1", "1", "nic1", "disk1")
	image := func(sku string) m { return with(good, "storageProfile.imageReference.sku", sku) }
	data := func(property string, v any) m {
		disk := good["storageProfile"].(m)["dataDisks"].([]any)[0].(m)
		return with(good, "storageProfile.dataDisks", []any{with(disk, property, v)})
	}
	keyed := func(property, v string) m {
		return with(good, "osProfile.linuxConfiguration.ssh.publicKeys",
			[]any{with(m{"path": keysOf("operator"), "keyData": key}, property, v)})
	}
	for name, change := range map[string]struct {
		in   m
		want string
	}{
		"unknown size": {with(good, "hardwareProfile.vmSize", "Standard_D3s_v5"),
			"The value Standard_D3s_v5 provided for the VM size is not valid"},
		"no size": {with(good, "hardwareProfile", nil), "hardwareProfile.vmSize"},
		"arm size, x64 image": {with(good, "hardwareProfile.vmSize", "Standard_D2ps_v5"),
			"CPU Architecture of 'Arm64'"},
		"x64 size, arm image":       {image("server-arm64"), "CPU Architecture"},
		"trusted launch, old image": {image("server-gen1"), "Gen1"},
		"unknown image":             {image("desktop"), "PlatformImageNotFound"},
		"unknown version": {with(good, "storageProfile.imageReference.version", "1.0.0"),
			"PlatformImageNotFound"},
		"no premium":           {with(good, "hardwareProfile.vmSize", "Standard_D2_v5"), "Premium_LRS"},
		"not base64":           {with(good, "osProfile.customData", "#cloud-config"), "Base64"},
		"too much custom data": {with(good, "osProfile.customData", custom(strings.Repeat("x", 65536))), "87380"},
		"root":                 {with(good, "osProfile.adminUsername", "root"), "not allowed"},
		"no key":               {with(good, "osProfile.linuxConfiguration.ssh", nil), "SSH"},
		"no key, no password":  {with(good, "osProfile.linuxConfiguration", nil), "adminPassword"},
		"weak password": {with(with(good, "osProfile.linuxConfiguration", nil), "osProfile.adminPassword",
			"password"), "complexity"},
		"key path": {keyed("path", keysOf("somebody")), "Destination path"},
		"key type": {keyed("keyData", "ecdsa-sha2-nistp256 "+
			"AAAAE2VjZHNhLXNoYTItbmlzdHAyNTYAAAAIbmlzdHAyNTYAAABBBA=="), "keyData is invalid"},
		"host name":            {with(good, "osProfile.computerName", "node_1"), "computerName"},
		"no profile":           {with(good, "osProfile", nil), "osProfile"},
		"zone 4":               {with(good, "zones", []string{"4"}), "AvailabilityZoneNotSupported"},
		"two zones":            {with(good, "zones", []string{"1", "2"}), "zones"},
		"disk of another zone": {with(good, "zones", []string{"2"}), "zone '1' and cannot be attached"},
		"no zone":              {with(good, "zones", nil), "cannot be attached"},
		"no interface":         {with(good, "networkProfile", nil), "at least one network interface"},
		"interface of nobody": {with(good, "networkProfile.networkInterfaces",
			[]any{m{"id": k.id("nic1") + "x"}}), "InvalidResourceReference"},
		"interface by name": {with(good, "networkProfile.networkInterfaces", []any{m{"id": "nic1"}}),
			"LinkedInvalidPropertyId"},
		"disk of nobody":        {data("managedDisk", m{"id": k.id("disk1") + "x"}), "InvalidResourceReference"},
		"lun 64":                {data("lun", 64), "lun"},
		"delete option":         {data("deleteOption", "Keep"), "Delete, Detach"},
		"caching":               {data("caching", "Some"), "ReadWrite"},
		"small OS disk":         {with(good, "storageProfile.osDisk.diskSizeGB", 10), "ResizeDiskError"},
		"unknown property":      {with(good, "osProfile.customdata", "x"), "customData"},
		"firmware without type": {with(good, "securityProfile.securityType", nil), "UEFI"},
		"no such region":        {with(good, "location", "moon"), "LocationNotAvailable"},
		"region without zones":  {with(good, "location", "westus"), "LocationNotSupportAvailabilityZones"},
		"another region":        {with(good, "location", "northeurope"), "InvalidResourceReference"},
		"name with a dash last": {with(good, "vmName", "node-"), "does not match expression"},
	} {
		k.mustNot(vmType, "node1", change.in, change.want)
		if t.Failed() {
			t.Fatalf("that was %q", name)
		}
	}
	if len(k.cloud.MachineIDs()) != 0 || slices.ContainsFunc(k.cloud.Leftovers(),
		func(s string) bool { return strings.Contains(s, "node1-os") }) {
		t.Errorf("a refused machine left something: %v", k.cloud.Leftovers())
	}
	k.must(vmType, "node1", with(good, "osProfile.customData", custom(strings.Repeat("x", 65535))))
}

func TestWhatOneMachineHasNoOtherCanHave(t *testing.T) {
	k := network(t)
	k.node(1)
	k.must(nicType, "nic9", k.nicIn("10.0.1.20"))
	k.must(diskType, "disk9", diskIn("disk9", "1"))
	k.mustNot(vmType, "node9", k.vmIn("node9", "1", "nic1", "disk9"), "409", "NicInUse")
	k.mustNot(vmType, "node9", k.vmIn("node9", "1", "nic9", "disk1"), "409", "already owned by VM")
	same := k.vmIn("node9", "1", "nic9", "disk9")
	k.mustNot(vmType, "node9", with(same, "storageProfile.osDisk.name", "node1-os"), "Only CreateOption.Attach is "+
		"supported")
	k.mustNot(vmType, "node9", with(same, "vmName", "node1"), "cannot create already existing resource")
	k.must(vmType, "node9", same)
}

func TestChangesThatAzureRefusesArePlannedAsUpdates(t *testing.T) {
	k := network(t)
	k.node(1)
	good := k.vmIn("node1", "1", "nic1", "disk1")
	for path, v := range map[string]any{
		"osProfile.customData": custom("#cloud-config\n# new\n"), "osProfile.computerName": "other",
		"osProfile.adminUsername":               "other2",
		"storageProfile.imageReference.version": "24.04.202404230", "zones": []string{"2"},
		"storageProfile.osDisk.name":                  "x",
		"osProfile.linuxConfiguration.ssh.publicKeys": []any{},
		"securityProfile.uefiSettings.vTpmEnabled":    false,
	} {
		changed := with(good, path, v)
		if plan, which, err := k.Diff("node1", changed); plan != driver.Update || err != nil {
			t.Errorf("%s: the plan is %s %v, %v; the provider plans an update", path, plan, which, err)
		}
		k.mustNotApply("node1", changed, "Status=409", "PropertyChangeNotAllowed")
	}
	k.mustNotApply("node1", with(good, "location", "northeurope"), "409", "InvalidResourceLocation")
	if plan, _, _ := k.Diff("node1", with(good, "vmName", "node2")); plan != driver.Replace {
		t.Errorf("another name: %s", plan)
	}
	boots := k.below.Boots(k.machine("node1"))
	k.apply("node1", with(good, "tags", m{"a": "b"}), driver.Update)
	if k.below.Boots(k.machine("node1")) != boots {
		t.Error("tags restarted the machine")
	}
	k.apply("node1", with(good, "hardwareProfile.vmSize", "Standard_D4s_v5"), driver.Update)
	if k.below.Boots(k.machine("node1")) != boots+1 {
		t.Error("another size did not restart the machine")
	}
	k.mustNotApply("node1", with(good, "hardwareProfile.vmSize", "Standard_D2ps_v5"), "CPU Architecture")
}

func TestDeleteOptionsSayWhatGoesAlong(t *testing.T) {
	k := network(t)
	k.node(1)
	k.mustDelete("node1")
	has := func(name string) bool {
		return slices.ContainsFunc(k.cloud.Leftovers(), func(s string) bool { return strings.HasSuffix(s, "/"+name) })
	}
	if has("node1-os") || !has("disk1") {
		t.Errorf("left is %v", k.cloud.Leftovers())
	}
	keep := with(k.vmIn("node1", "1", "nic1", "disk1"), "storageProfile.osDisk.deleteOption", nil)
	k.must(vmType, "node1", keep)
	k.mustDelete("node1")
	if !has("node1-os") {
		t.Error("an OS disk without deleteOption went; by default it stays")
	}
	k.mustNot(vmType, "node1", keep, "Disk node1-os already exists")
	all := with(k.vmIn("node1", "1", "nic1", "disk1"), "storageProfile.osDisk.name", "fresh")
	disk := all["storageProfile"].(m)["dataDisks"].([]any)[0].(m)
	all = with(all, "storageProfile.dataDisks", []any{with(disk, "deleteOption", "Delete")})
	all = with(all, "networkProfile.networkInterfaces", []any{m{"id": k.id("nic1"), "deleteOption": "Delete"}})
	k.must(vmType, "node1", all)
	k.mustDelete("node1")
	if has("disk1") || k.below.GiB("disk1") != 0 {
		t.Error("a data disk with deleteOption Delete stays")
	}
	if found, _ := k.Refresh("nic1"); found {
		t.Error("an interface with deleteOption Delete stays")
	}
}

func TestDataDisksComeAndGoWhileTheMachineRuns(t *testing.T) {
	k := network(t)
	k.node(1)
	good := k.vmIn("node1", "1", "nic1", "disk1")
	first := good["storageProfile"].(m)["dataDisks"].([]any)[0].(m)
	more := with(good, "storageProfile.dataDisks", []any{first, m{"lun": 3, "createOption": "Empty", "diskSizeGB": 4,
		"name": "scratch", "deleteOption": "Delete"}})
	k.apply("node1", more, driver.Update)
	scratch := k.cloud.DiskIDs()["scratch"]
	if links := k.below.Links(scratch); len(links) != 2 || links[0] != "/dev/disk/azure/scsi1/lun3" {
		t.Errorf("the new disk shows at %v", links)
	}
	k.apply("node1", good, driver.Update)
	if len(k.below.Links(scratch)) > 0 {
		t.Error("the disk is still attached")
	}
	k.apply("disk1", with(diskIn("disk1", "1"), "diskSizeGB", 64), driver.Update)
	if got := k.below.GiB(k.cloud.DiskIDs()["disk1"]); got != 64 {
		t.Errorf("the grown disk has %d GiB", got)
	}
	k.mustNotApply("disk1", with(diskIn("disk1", "1"), "diskSizeGB", 32), "ResizeDiskError")
	k.mustNotApply("disk1", with(diskIn("disk1", "2"), "diskSizeGB", 64), "409", "PropertyChangeNotAllowed", "zones")
	k.mustNotApply("disk1", with(with(diskIn("disk1", "1"), "diskSizeGB", 64), "sku.name", "Standard_LRS"),
		"attached to the running VM")
}

func TestBadDisksAreRefused(t *testing.T) {
	k := network(t)
	good := diskIn("disk", "1")
	k.mustNot(diskType, "disk", with(good, "diskSizeGB", 0), "out of range")
	k.mustNot(diskType, "disk", with(good, "diskSizeGB", nil), "out of range")
	k.mustNot(diskType, "disk", with(good, "sku.name", "Gold"), "Premium_LRS")
	k.mustNot(diskType, "disk", with(good, "sku.name", "Premium_ZRS"), "in all zones")
	k.mustNot(diskType, "disk", with(good, "zones", []string{"1", "2"}), "2 zones")
	k.mustNot(diskType, "disk", with(good, "creationData", nil), "creationData")
	k.mustNot(diskType, "disk", with(good, "networkAccessPolicy", "DenySome"), "DenyAll")
	k.must(diskType, "disk", good)
}

func TestAMachineThatDoesNotBootIsThereAndFailed(t *testing.T) {
	k := network(t)
	k.must(nicType, "nic1", k.nicIn("10.0.1.4"))
	k.must(diskType, "disk1", diskIn("disk1", "1"))
	k.below.Boot = func(fabric.Machine) error { return errors.New("no kernel") }
	_, err := k.Create(vmType, "node1", k.vmIn("node1", "1", "nic1", "disk1"))
	k.refused("boot", err, "no kernel")
	if !slices.ContainsFunc(k.cloud.Leftovers(), func(s string) bool {
		return strings.HasSuffix(s,
			"virtualMachines/node1")
	}) {
		t.Errorf("the failed machine is not there: %v", k.cloud.Leftovers())
	}
	if err := k.cloud.DeleteVM(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	k.below.Boot = nil
	k.must(vmType, "node1", k.vmIn("node1", "1", "nic1", "disk1"))
}

func TestARefreshSeesAMachineThatIsGone(t *testing.T) {
	k := network(t)
	first := k.node(1).Out("vmId")
	if err := k.cloud.DeleteVM(t.Context(), "node1"); err != nil {
		t.Fatal(err)
	}
	if found, err := k.Refresh("node1"); found || err != nil {
		t.Fatalf("found %v, %v", found, err)
	}
	if again := k.must(vmType, "node1", k.vmIn("node1", "1", "nic1", "disk1")); again.Out("vmId") == first {
		t.Error("the new machine has the vmId of the old one")
	}
	if k.cloud.DeleteVM(t.Context(), "nobody") == nil {
		t.Error("a machine that is not there was deleted")
	}
}

func TestScaleSetsOnlySpread(t *testing.T) {
	k := network(t)
	good := in("x", m{
		"vmScaleSetName": "spread", "orchestrationMode": "Flexible", "platformFaultDomainCount": 1,
		"singlePlacementGroup": false,
		"zones":                []string{"1", "2"},
	})
	k.mustNot(setType, "set", with(good, "platformFaultDomainCount", nil), "platformFaultDomainCount must be specified")
	k.mustNot(setType, "set", with(good, "platformFaultDomainCount", 3), "not supported")
	k.mustNot(setType, "set", with(good, "singlePlacementGroup", true), "singlePlacementGroup")
	k.mustNot(setType, "set", with(good, "orchestrationMode", "Uniform"), "Flexible")
	k.mustNot(setType, "set", with(good, "zones", []string{"0"}), "AvailabilityZoneNotSupported")
	set := k.must(setType, "set", good)
	k.must(nicType, "nic1", k.nicIn("10.0.1.4"))
	k.must(diskType, "disk1", diskIn("disk1", "1"))
	k.must(diskType, "disk3", diskIn("disk3", "3"))
	join := func(zone, disk string) m {
		return with(k.vmIn("node1", zone, "nic1", disk), "virtualMachineScaleSet", m{"id": set.ID})
	}
	k.mustNot(vmType, "node1", join("3", "disk3"), "zones")
	k.must(vmType, "node1", join("1", "disk1"))
	k.mustNotDelete("set", "OperationNotAllowed")
	k.mustNotApply("set", with(good, "zones", []string{"1"}), "PropertyChangeNotAllowed")
	k.mustDelete("node1", "set")
}

func TestNamesThatTheProgramLeavesOutAreChosen(t *testing.T) {
	k := network(t)
	r := k.must(diskType, "data", with(diskIn("x", "1"), "diskName", nil))
	if name := cloud.Str(r.Inputs, "diskName"); !strings.HasPrefix(name, "data") || len(name) <= len("data") {
		t.Errorf("the chosen name is %q", name)
	}
	r = k.must(accountType, "My-Store", with(accountIn(), "accountName", nil))
	if name := cloud.Str(r.Inputs, "accountName"); !strings.HasPrefix(name, "mystore") || len(name) > 24 {
		t.Errorf("the chosen name is %q", name)
	}
	out, err := k.Preview(vmType, "node", with(with(k.vmIn("x", "1", "subnet", "data"), "vmName", nil),
		"networkProfile", nil))
	if err != nil || !out["vmId"].IsComputed() {
		t.Errorf("a preview knows the vmId already: %v, %v", out["vmId"], err)
	}
}
