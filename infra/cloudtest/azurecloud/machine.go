package azurecloud

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

// machine is what the compute service remembers of a VM beyond its inputs.
type machine struct {
	name      string // below
	host      string // what it calls itself
	guid      string // vmId: another one for every VM, whatever its name
	nic       string // the interface's id
	principal string // the identity's; empty without
	osDisk    string // the disk's id
	disks     []attached
	fresh     []string // disks that are made along with it
	up        bool     // the machine below exists
	made      time.Time
}

// attached is a data disk in its place.
type attached struct {
	lun    int
	disk   string // the id
	delete bool   // goes with the machine
}

// has reports whether the machine has a disk.
func (m *machine) has(disk string) bool {
	return strings.EqualFold(m.osDisk, disk) || slices.ContainsFunc(m.disks,
		func(a attached) bool { return strings.EqualFold(a.disk, disk) })
}

// links are where a data disk shows up, by Azure's older and newer device rules.
func (a attached) links() []string {
	return []string{fmt.Sprintf("/dev/disk/azure/scsi1/lun%d", a.lun),
		fmt.Sprintf("/dev/disk/azure/data/by-lun/%d", a.lun)}
}

func (c *Cloud) machineKinds() map[string]*books {
	return map[string]*books{"azure-native:compute:VirtualMachine": {
		kind: kindVM, path: []string{"vmName"}, rule: machineRule(), located: true, mostTags: 50, keep: true,
		refilter: true,
		put:      c.putVM, made: c.boot, changed: c.changeVM, undo: c.undoVM,
	}}
}

// immutable are the inputs that the compute service refuses to change, although the provider plans an update.
func immutable() []string {
	return []string{
		"availabilitySet", "evictionPolicy", "osProfile.adminPassword", "osProfile.adminUsername",
		"osProfile.computerName", "osProfile.customData",
		"osProfile.linuxConfiguration.disablePasswordAuthentication", "osProfile.linuxConfiguration.ssh", "plan",
		"priority",
		"securityProfile.securityType", "securityProfile.uefiSettings", "storageProfile.imageReference",
		"storageProfile.osDisk.createOption",
		"storageProfile.osDisk.diskSizeGB", "storageProfile.osDisk.managedDisk", "storageProfile.osDisk.name",
		"virtualMachineScaleSet", "zones",
	}
}

// at is the value at a path of names with dots.
func at(in resource.PropertyMap, path string) resource.PropertyValue {
	name, rest, more := strings.Cut(path, ".")
	v := in[resource.PropertyKey(name)]
	if !more {
		return v
	}
	if !v.IsObject() {
		return resource.NewNullProperty()
	}
	return at(v.ObjectValue(), rest)
}

// mayChangeVM compares what cannot change. Secrets are never read back, so leaving them out changes nothing.
func mayChangeVM(it, old *item) error {
	for _, path := range immutable() {
		before, after := at(old.in, path), at(it.in, path)
		unsaid := after.IsNull() && strings.HasPrefix(path, "osProfile.")
		if !unsaid && !before.DeepEquals(after) {
			return notAllowed(path)
		}
	}
	if !at(old.in, "networkProfile.networkInterfaces").DeepEquals(at(it.in, "networkProfile.networkInterfaces")) {
		now, before := nicOf(it), nicOf(old)
		if !strings.EqualFold(now, before) {
			return conflict("OperationNotAllowed", "Network interfaces of VM %s cannot be added or removed while it "+
				"is running: %s and %s.", it.name, before, now)
		}
	}
	return nil
}

// nicOf is the first interface's id.
func nicOf(it *item) string {
	for _, n := range cloud.Objs(cloud.Obj(it.in, "networkProfile"), "networkInterfaces") {
		return cloud.Str(n, "id")
	}
	return ""
}

// putVM checks a machine as the compute service does before it begins; c.mu is held.
func (c *Cloud) putVM(_ *cloud.Call, it, old *item) error {
	m := &machine{name: newName(it.name), guid: newGUID(), made: c.now()}
	if old != nil {
		if err := mayChangeVM(it, old); err != nil {
			return err
		}
		same := *old.extra.(*machine)
		m = &same
		m.fresh = nil
	}
	p := &vmPlan{c: c, it: it, old: old, m: m, in: it.in}
	for _, step := range []func() error{p.hardware, p.zones, p.system, p.security, p.profile, p.network, p.osDisk,
		p.dataDisks, p.identity} {
		if err := step(); err != nil {
			return err
		}
	}
	p.commit()
	return nil
}

// userData is what the machine boots with, decoded.
func userData(in resource.PropertyMap) []byte {
	data, _ := base64.StdEncoding.DecodeString(cloud.Str(cloud.Obj(in, "osProfile"), "customData")) // checked before
	return data
}

// boot starts the machine below. If that fails the VM is there and failed, as in Azure.
func (c *Cloud) boot(ctx context.Context, it *item) error {
	c.mu.Lock()
	m := it.extra.(*machine)
	nic := c.items[lower(m.nic)]
	s, address, _ := c.attachmentOf(nic)
	network := c.items[lower(parentID(s.id, 1))]
	below := fabric.Machine{
		ID: m.name, Hostname: m.host, Network: network.extra.(vnet).network, Subnet: s.extra.(subnet).name,
		Address:  address,
		UserData: userData(it.in), InstanceID: m.guid, Resolver: probeAddress(), Resolve: c.resolver(it.id),
		Metadata: c.metadata(it.id, m.guid),
		Services: c.services(it.id, m.guid), IsService: c.isService, Filter: c.filter(nic),
	}
	var disks []cloud.Attachment
	for _, a := range m.disks {
		disks = append(disks, cloud.Attachment{Disk: c.items[lower(a.disk)].extra.(disk).name, Links: a.links()})
	}
	c.mu.Unlock()
	err := c.makeFresh(ctx, m)
	if err == nil {
		if err = c.compute.CreateMachine(ctx, below, disks...); err != nil {
			c.clearAway(ctx, m.name)
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err != nil {
		it.out["provisioningState"] = resource.NewStringProperty("Failed")
		return fmt.Errorf("create virtual machine %s: %w", it.name, err)
	}
	m.up = true
	return nil
}

// clearing is how long taking away a machine that did not boot may last.
const clearing = time.Minute

// clearAway removes what is left below of a machine that did not boot, which may be nothing. Its disks and its address
// are free then.
func (c *Cloud) clearAway(ctx context.Context, name string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), clearing)
	defer cancel()
	if err := c.compute.DeleteMachine(ctx, name); err != nil {
		c.log.Debug("nothing left of a machine that did not boot", "machine", name, "error", err)
	}
}

// makeFresh makes the disks that come with a machine.
func (c *Cloud) makeFresh(ctx context.Context, m *machine) error {
	for _, id := range m.fresh {
		c.mu.Lock()
		it := c.items[lower(id)]
		c.mu.Unlock()
		if err := c.makeDisk(ctx, it); err != nil {
			return err
		}
	}
	return nil
}

// changeVM plugs disks in and out, and restarts the machine if it has another size.
func (c *Cloud) changeVM(ctx context.Context, it, old *item) error {
	m, before := it.extra.(*machine), old.extra.(*machine)
	if err := c.makeFresh(ctx, m); err != nil {
		return err
	}
	for _, a := range before.disks {
		if slices.ContainsFunc(m.disks, func(b attached) bool { return a.disk == b.disk && a.lun == b.lun }) {
			continue
		}
		if err := c.compute.DetachDisk(ctx, m.name, c.diskBelow(a.disk)); err != nil {
			return fmt.Errorf("detach disk %s: %w", a.disk, err)
		}
	}
	for _, a := range m.disks {
		if slices.ContainsFunc(before.disks, func(b attached) bool { return a.disk == b.disk && a.lun == b.lun }) {
			continue
		}
		if err := c.compute.AttachDisk(ctx, m.name, c.diskBelow(a.disk), a.links()); err != nil {
			return fmt.Errorf("attach disk %s: %w", a.disk, err)
		}
	}
	size := func(i *item) string { return lower(cloud.Str(cloud.Obj(i.in, "hardwareProfile"), "vmSize")) }
	if size(it) == size(old) {
		return nil
	}
	if err := c.compute.RebootMachine(ctx, m.name); err != nil {
		return fmt.Errorf("restart %s with its new size: %w", it.name, err)
	}
	return nil
}

func (c *Cloud) diskBelow(id string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	if it := c.items[lower(id)]; it != nil {
		return it.extra.(disk).name
	}
	return ""
}

// undoVM shuts a machine down and takes it away with what goes along: the OS disk, data disks and the interface, each
// if its deleteOption says so.
func (c *Cloud) undoVM(ctx context.Context, it *item) error {
	c.mu.Lock()
	m := it.extra.(*machine)
	name, up := m.name, m.up
	c.mu.Unlock()
	if up {
		if err := c.compute.DeleteMachine(ctx, name); err != nil {
			return fmt.Errorf("delete virtual machine %s: %w", it.name, err)
		}
	}
	c.mu.Lock()
	m.up = false
	delete(c.principals, m.principal)
	goes := c.goesAlong(it)
	m.osDisk, m.disks, m.nic = "", nil, ""
	c.mu.Unlock()
	for _, other := range goes {
		if err := c.erase(ctx, c.books[other.kind], other.id); err != nil {
			return err
		}
	}
	return nil
}

// goesAlong are the things that are deleted with a machine; c.mu is held.
func (c *Cloud) goesAlong(it *item) []*item {
	m := it.extra.(*machine)
	var ids []string
	if strings.EqualFold(cloud.Str(cloud.Obj(cloud.Obj(it.in, "storageProfile"), "osDisk"), "deleteOption"), "Delete") {
		ids = append(ids, m.osDisk)
	}
	for _, a := range m.disks {
		if a.delete {
			ids = append(ids, a.disk)
		}
	}
	for _, n := range cloud.Objs(cloud.Obj(it.in, "networkProfile"), "networkInterfaces") {
		if strings.EqualFold(cloud.Str(n, "deleteOption"), "Delete") {
			ids = append(ids, cloud.Str(n, "id"))
		}
	}
	var list []*item
	for _, id := range ids {
		if other := c.items[lower(id)]; other != nil {
			list = append(list, other)
		}
	}
	return list
}
