package azurecloud

import (
	"context"
	"fmt"
	"net/http"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// disk is what only disks know.
type disk struct {
	name string // below; empty for the disk that a system is on
	gib  int
	zone string
	sku  string
}

// diskKindsOf are the kinds of storage that disks can be on.
func diskSKUs() []string {
	return []string{"Standard_LRS", "Premium_LRS", "StandardSSD_LRS", "UltraSSD_LRS", "Premium_ZRS", "StandardSSD_ZRS",
		"PremiumV2_LRS"}
}

const biggestDisk = 32767

func (c *Cloud) diskKinds() map[string]*books {
	disks := machineRule()
	disks.most = 80
	return map[string]*books{"azure-native:compute:Disk": {
		kind: kindDisk, path: []string{"diskName"}, rule: disks, located: true, mostTags: 50,
		put: c.putDisk, made: c.makeDisk, changed: c.changeDisk, remove: c.removeDisk, undo: c.undoDisk,
		read: c.readDisk,
	}}
}

func (c *Cloud) putDisk(_ *cloud.Call, it, old *item) error {
	in := it.in
	option := cloud.Str(cloud.Obj(in, "creationData"), "createOption")
	if err := oneOf("creationData.createOption", option, "Empty", "Attach", "FromImage", "Import", "Copy", "Restore",
		"Upload", "CopyStart"); err != nil {
		return err
	}
	if !strings.EqualFold(option, "Empty") {
		return notEmulated("disks made by %s", option)
	}
	d := disk{gib: cloud.Int(in, "diskSizeGB"), sku: cloud.Str(cloud.Obj(in, "sku"), "name")}
	if d.sku == "" {
		d.sku = "Standard_LRS"
	}
	if err := oneOf("sku.name", d.sku, diskSKUs()...); err != nil {
		return err
	}
	if err := oneOf("networkAccessPolicy", cloud.Str(in, "networkAccessPolicy"), "AllowAll", "AllowPrivate",
		"DenyAll"); err != nil {
		return err
	}
	if err := oneOf("publicNetworkAccess", cloud.Str(in, "publicNetworkAccess"), "Enabled", "Disabled"); err != nil {
		return err
	}
	if d.gib < 1 || d.gib > biggestDisk {
		return invalidParameter("diskSizeGB", "The value '%d' of parameter 'disk.diskSizeGb' is out of range. The "+
			"value must be between '1' and '%d', inclusive.",
			d.gib, biggestDisk)
	}
	zones := cloud.Strs(in, "zones")
	if err := mayZones(kindDisk, it.name, it.location, zones, 1); err != nil {
		return err
	}
	if len(zones) == 1 {
		d.zone = zones[0]
	}
	if d.zone != "" && strings.HasSuffix(d.sku, "_ZRS") {
		return badRequest("BadRequest", "Disk %s of type %s is in all zones and cannot be in zone '%s'.", it.name,
			d.sku, d.zone)
	}
	if old != nil {
		d.name = old.extra.(disk).name
		if err := c.mayChangeDisk(it, d, old); err != nil {
			return err
		}
	} else {
		d.name = newName(it.name)
		it.out["uniqueId"] = resource.NewStringProperty(newGUID())
		it.out["timeCreated"] = resource.NewStringProperty(c.stamp())
	}
	it.extra = d
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	it.out["diskSizeBytes"] = resource.NewNumberProperty(float64(d.gib) * (1 << 30))
	return nil
}

// notAllowed is the compute service's answer to a change that it cannot make.
func notAllowed(property string) error {
	return conflict("PropertyChangeNotAllowed", "Changing property '%s' is not allowed.", property)
}

// mayChangeDisk refuses a change that a disk does not take; c.mu is held.
func (c *Cloud) mayChangeDisk(it *item, d disk, old *item) error {
	before := old.extra.(disk)
	vm := c.ownerOf(it.id)
	switch {
	case before.zone != d.zone:
		return notAllowed("zones")
	case d.gib < before.gib:
		return badRequest("ResizeDiskError", "Disk %s: the new size %d GB is smaller than the current size %d GB. "+
			"Disks only grow.", it.name, d.gib, before.gib)
	case before.sku != d.sku && vm != nil:
		return conflict("OperationNotAllowed", "The type of disk %s cannot be changed while it is attached to the "+
			"running VM %s.", it.name, vm.id)
	}
	return nil
}

// ownerOf is the machine that has a disk; c.mu is held.
func (c *Cloud) ownerOf(id string) *item {
	for _, vm := range c.all(kindVM) {
		if vm.extra.(*machine).has(id) {
			return vm
		}
	}
	return nil
}

func (c *Cloud) makeDisk(ctx context.Context, it *item) error {
	d := it.extra.(disk)
	if err := c.compute.CreateDisk(ctx, d.name, d.gib); err != nil {
		return fmt.Errorf("create disk: %w", err)
	}
	return nil
}

func (c *Cloud) changeDisk(ctx context.Context, it, old *item) error {
	d := it.extra.(disk)
	if d.gib == old.extra.(disk).gib || d.name == "" {
		return nil
	}
	if err := c.compute.GrowDisk(ctx, d.name, d.gib); err != nil {
		return fmt.Errorf("grow disk: %w", err)
	}
	return nil
}

func (c *Cloud) removeDisk(it *item) error {
	if vm := c.ownerOf(it.id); vm != nil {
		return refuse(http.StatusConflict, "OperationNotAllowed", "Disk %s is attached to VM %s.", it.name, vm.id)
	}
	return nil
}

func (c *Cloud) undoDisk(ctx context.Context, it *item) error {
	d := it.extra.(disk)
	if d.name == "" {
		return nil
	}
	if err := c.compute.DeleteDisk(ctx, d.name); err != nil {
		return fmt.Errorf("delete disk: %w", err)
	}
	return nil
}

func (c *Cloud) readDisk(it *item) resource.PropertyMap {
	out := resource.PropertyMap{"diskState": resource.NewStringProperty("Unattached")}
	if vm := c.ownerOf(it.id); vm != nil {
		out["diskState"], out["managedBy"] = resource.NewStringProperty("Attached"), resource.NewStringProperty(vm.id)
	}
	return out
}
