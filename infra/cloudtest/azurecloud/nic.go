package azurecloud

import (
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) nicKinds() map[string]*books {
	return map[string]*books{"azure-native:network:NetworkInterface": {
		kind: kindNIC, path: []string{"networkInterfaceName"}, rule: networkRule(1), located: true, mostTags: 50,
		refilter: true,
		put:      c.putNIC, remove: c.removeNIC, read: c.readNIC,
	}}
}

// primary is an interface's first address, as it was given out.
func primary(nic *item) resource.PropertyMap {
	for _, conf := range cloud.Objs(nic.out, "ipConfigurations") {
		return conf
	}
	return resource.PropertyMap{}
}

func (c *Cloud) putNIC(_ *cloud.Call, it, old *item) error {
	confs := cloud.Objs(it.in, "ipConfigurations")
	if len(confs) != 1 {
		if len(confs) == 0 {
			return badRequest("NetworkInterfaceMustHaveAtLeastOneIpConfiguration", "Network interface %s must have at "+
				"least one IP configuration.", it.id)
		}
		return notEmulated("interfaces with more than one address")
	}
	conf := confs[0].Copy()
	if cloud.Str(conf, "name") == "" {
		return badRequest("InvalidRequestFormat", "Network interface %s: the IP configuration has no name.", it.id)
	}
	s, err := c.refer(kindSubnet, cloud.Str(cloud.Obj(conf, "subnet"), "id"), "ipConfigurations.subnet.id", it)
	if err != nil {
		return err
	}
	if network := c.items[lower(parentID(s.id, 1))]; network.location != it.location {
		return badRequest("InvalidResourceReference", "Resource %s referenced by resource %s was not found. Please "+
			"make sure that the referenced resource exists, and that both resources are in the same "+
			"region.", s.id, it.id)
	}
	if err := c.nicParts(it, conf); err != nil {
		return err
	}
	address, err := c.chooseAddress(s, conf, it.id)
	if err != nil {
		return err
	}
	if old != nil {
		if err := c.mayChangeNIC(it, old, address, s); err != nil {
			return err
		}
	} else {
		b := random(3)
		it.out["macAddress"] = resource.NewStringProperty(fmt.Sprintf("60-45-BD-%02X-%02X-%02X", b[0], b[1], b[2]))
	}
	conf["privateIPAddress"] = resource.NewStringProperty(address)
	conf["id"] = resource.NewStringProperty(it.id + "/ipConfigurations/" + cloud.Str(conf, "name"))
	it.out["ipConfigurations"] = cloud.Value([]resource.PropertyValue{resource.NewObjectProperty(conf)})
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

// nicParts checks what an interface refers to; c.mu is held.
func (c *Cloud) nicParts(it *item, conf resource.PropertyMap) error {
	if id := cloud.Str(cloud.Obj(it.in, "networkSecurityGroup"), "id"); id != "" {
		if _, err := c.refer(kindFirewall, id, "networkSecurityGroup.id", it); err != nil {
			return err
		}
	}
	if id := cloud.Str(cloud.Obj(conf, "publicIPAddress"), "id"); id != "" {
		if err := c.referPublicIP(id, "ipConfigurations.publicIPAddress.id", it); err != nil {
			return err
		}
	}
	for _, p := range cloud.Objs(conf, "loadBalancerBackendAddressPools") {
		id := cloud.Str(p, "id")
		lb, ok := c.poolIn(id)
		if !ok || lb.location != it.location {
			return badRequest("InvalidResourceReference", "Resource %s referenced by resource %s was not found. "+
				"Please make sure that the referenced resource exists, and that both resources are in the same "+
				"region.", id, it.id)
		}
	}
	return nil
}

// mayChangeNIC refuses what cannot change while a machine runs on an interface; c.mu is held.
func (c *Cloud) mayChangeNIC(it, old *item, address string, s *item) error {
	vm := c.userOfNIC(it.id)
	if vm == nil {
		return nil
	}
	before := primary(old)
	if cloud.Str(before, "privateIPAddress") != address || !strings.EqualFold(cloud.Str(cloud.Obj(before, "subnet"),
		"id"), s.id) {
		return notEmulated("change the address of interface %s under the running machine %s", it.name, vm.name)
	}
	if cloud.Bool(it.in, "enableAcceleratedNetworking", false) != cloud.Bool(old.in, "enableAcceleratedNetworking",
		false) {
		return conflict("OperationNotAllowed", "Accelerated networking of network interface %s cannot be changed "+
			"while the virtual machine %s is running. Deallocate it first.", it.id, vm.id)
	}
	return nil
}

// userOfNIC is the machine that has an interface; c.mu is held.
func (c *Cloud) userOfNIC(id string) *item {
	for _, vm := range c.all(kindVM) {
		if m := vm.extra.(*machine); strings.EqualFold(m.nic, id) {
			return vm
		}
	}
	return nil
}

func (c *Cloud) removeNIC(it *item) error {
	if vm := c.userOfNIC(it.id); vm != nil {
		return badRequest("NicInUse", "Network Interface %s is used by existing resource %s. In order to delete the "+
			"network interface, it must be dissociated from the resource. To learn more, see "+
			"aka.ms/deletenic.", it.id, vm.id)
	}
	return nil
}

func (c *Cloud) readNIC(it *item) resource.PropertyMap {
	out := resource.PropertyMap{}
	if vm := c.userOfNIC(it.id); vm != nil {
		out["virtualMachine"] = cloud.Value(map[string]any{"id": vm.id})
	}
	return out
}
