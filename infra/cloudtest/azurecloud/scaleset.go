package azurecloud

import (
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) scaleSetKinds() map[string]*books {
	return map[string]*books{"azure-native:compute:VirtualMachineScaleSet": {
		kind: kindScaleSet, path: []string{"vmScaleSetName"}, rule: machineRule(), located: true, mostTags: 50,
		put: putScaleSet, remove: c.removeScaleSet,
	}}
}

// putScaleSet checks a set that makes no machines itself, to which machines are added.
func putScaleSet(_ *cloud.Call, it, old *item) error {
	in := it.in
	mode := cloud.Str(in, "orchestrationMode")
	if err := oneOf("orchestrationMode", mode, "Uniform", "Flexible"); err != nil {
		return err
	}
	_, profile := in["virtualMachineProfile"]
	_, sku := in["sku"]
	if !strings.EqualFold(mode, "Flexible") || profile || sku {
		return notEmulated("scale sets that make machines: orchestrationMode must be Flexible, without " +
			"virtualMachineProfile and sku")
	}
	if cloud.Bool(in, "singlePlacementGroup", false) {
		return invalidParameter("singlePlacementGroup", "singlePlacementGroup must be false for a scale set with the "+
			"Flexible orchestration mode.")
	}
	if !cloud.Known(in, "platformFaultDomainCount") {
		return invalidParameter("platformFaultDomainCount", "platformFaultDomainCount must be specified for a scale "+
			"set with the Flexible orchestration mode.")
	}
	zones, domains := cloud.Strs(in, "zones"), cloud.Int(in, "platformFaultDomainCount")
	if len(zones) > 0 && domains != 1 && domains != 5 || domains < 1 || domains > 5 {
		return invalidParameter("platformFaultDomainCount", "The value %d of platformFaultDomainCount is not "+
			"supported; with zones it is 1 (or 5 in one zone), without 1 to 3.", domains)
	}
	if err := mayZones(kindScaleSet, it.name, it.location, zones, 3); err != nil {
		return err
	}
	if old != nil {
		switch {
		case cloud.Int(old.in, "platformFaultDomainCount") != domains:
			return notAllowed("platformFaultDomainCount")
		case !subset(cloud.Strs(old.in, "zones"), zones):
			return notAllowed("zones") // zones can be added
		}
	} else {
		it.out["uniqueId"] = resource.NewStringProperty(newGUID())
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

func subset(few, many []string) bool {
	return !slices.ContainsFunc(few, func(s string) bool { return !slices.Contains(many, s) })
}

func (c *Cloud) removeScaleSet(it *item) error {
	for _, vm := range c.users(it.id, kindVM) {
		return conflict("OperationNotAllowed", "Virtual Machine Scale Set '%s' cannot be deleted because it still has "+
			"VM %s.", it.name, vm.id)
	}
	return nil
}

// mayJoin checks a machine's place in a scale set; c.mu is held.
func (c *Cloud) mayJoin(vm *item, zones []string) error {
	id := cloud.Str(cloud.Obj(vm.in, "virtualMachineScaleSet"), "id")
	if id == "" {
		return nil
	}
	set, err := c.refer(kindScaleSet, id, "virtualMachineScaleSet.id", vm)
	if err != nil {
		return err
	}
	of := cloud.Strs(set.in, "zones")
	if !subset(zones, of) || len(zones) == 0 && len(of) > 0 {
		return badRequest("BadRequest", "The zones [%s] of VM %s are not among the zones [%s] of virtual machine "+
			"scale set %s.",
			strings.Join(zones, ","), vm.name, strings.Join(of, ","), set.name)
	}
	return nil
}
