package azurecloud

import (
	"fmt"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) gatewayKinds() map[string]*books {
	return map[string]*books{
		"azure-native:network:PublicIPAddress": {
			kind: kindPublicIP, path: []string{"publicIpAddressName"}, rule: networkRule(1), located: true,
			mostTags: 50,
			replace:  []string{"location", "publicIPAddressVersion", "publicIPPrefix", "sku"}, put: c.putPublicIP,
			remove: c.removePublicIP,
		},
		"azure-native:network:NatGateway": {
			kind: kindNAT, path: []string{"natGatewayName"}, rule: networkRule(1), located: true, mostTags: 50,
			put: c.putNAT, remove: c.removeNAT,
		},
	}
}

func (c *Cloud) putPublicIP(_ *cloud.Call, it, old *item) error {
	in := it.in
	sku := cloud.Obj(in, "sku")
	if err := oneOf("sku.name", cloud.Str(sku, "name"), "Basic", "Standard", "StandardV2"); err != nil {
		return err
	}
	if !strings.EqualFold(cloud.Str(sku, "name"), "Standard") { // Basic is also what it is without any
		return badRequest("IPv4BasicSkuPublicIpCountLimitReached", "Cannot create more than 0 IPv4 Basic SKU public "+
			"IP addresses for this subscription in this region.")
	}
	if err := oneOf("publicIPAllocationMethod", cloud.Str(in, "publicIPAllocationMethod"), "Static",
		"Dynamic"); err != nil {
		return err
	}
	if !strings.EqualFold(cloud.Str(in, "publicIPAllocationMethod"), "Static") {
		return badRequest("PublicIpWithSkuMustBeStatic", "Standard sku publicIp %s must have AllocationMethod set to "+
			"Static.", it.id)
	}
	if v := cloud.Str(in, "publicIPAddressVersion"); v != "" && !strings.EqualFold(v, "IPv4") {
		return notEmulated("public addresses of version %s", v)
	}
	zones := cloud.Strs(in, "zones")
	if err := mayZones(kindPublicIP, it.name, it.location, zones, 3); err != nil {
		return err
	}
	if old != nil && strings.Join(cloud.Strs(old.in, "zones"), ",") != strings.Join(zones, ",") {
		return badRequest("ResourceAvailabilityZonesCannotBeModified", "Resource %s has an existing availability zone "+
			"constraint %s and the request has availability zone constraint %s, which do not match. Zones cannot be "+
			"added/updated/removed once the resource is created.",
			it.id, strings.Join(cloud.Strs(old.in, "zones"), ", "), strings.Join(zones, ", "))
	}
	if old == nil {
		n := c.seq + 1
		it.out["ipAddress"] = resource.NewStringProperty(fmt.Sprintf("20.61.%d.%d", n/250%250, n%250+1))
		it.out["resourceGuid"] = resource.NewStringProperty(newGUID())
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

// publicIPUser is what has a public address; c.mu is held.
func (c *Cloud) publicIPUser(id string) *item {
	for _, u := range c.users(id, kindNIC, kindNAT, kindBalancer) {
		return u
	}
	return nil
}

// referPublicIP is a public address that nothing else has; c.mu is held.
func (c *Cloud) referPublicIP(id, path string, from *item) error {
	ip, err := c.refer(kindPublicIP, id, path, from)
	if err != nil {
		return err
	}
	for _, u := range c.users(ip.id, kindNIC, kindNAT, kindBalancer) {
		if !strings.EqualFold(u.id, from.id) {
			return badRequest("PublicIPAddressInUse", "Resource %s is referencing public IP address %s that is "+
				"already allocated to resource %s.",
				from.id, ip.id, u.id)
		}
	}
	return nil
}

func (c *Cloud) removePublicIP(it *item) error {
	if u := c.publicIPUser(it.id); u != nil {
		return badRequest("PublicIPAddressCannotBeDeleted", "Public IP address %s can not be deleted since it is "+
			"still allocated to resource %s. In order to delete the public IP, disassociate/detach the Public IP "+
			"address from the resource. To learn how to do this, see aka.ms/deletepublicip.", it.id, u.id)
	}
	return nil
}

func (c *Cloud) putNAT(_ *cloud.Call, it, old *item) error {
	if !strings.EqualFold(cloud.Str(cloud.Obj(it.in, "sku"), "name"), "Standard") {
		return badRequest("NatGatewaySkuNotSpecified", "Nat Gateway %s: sku.name must be Standard.", it.id)
	}
	if n := cloud.Int(it.in, "idleTimeoutInMinutes"); n != 0 && (n < 4 || n > 120) {
		return badRequest("InvalidIdleTimeout", "Nat Gateway %s: idleTimeoutInMinutes %d is not between 4 and 120.",
			it.id, n)
	}
	zones := cloud.Strs(it.in, "zones")
	if err := mayZones(kindNAT, it.name, it.location, zones, 1); err != nil {
		return err
	}
	if old != nil && strings.Join(cloud.Strs(old.in, "zones"), ",") != strings.Join(zones, ",") {
		return badRequest("ResourceAvailabilityZonesCannotBeModified", "Zones of Nat Gateway %s cannot be changed "+
			"once it is created.", it.id)
	}
	if len(cloud.List(it.in, "publicIpPrefixes")) > 0 {
		return notEmulated("prefixes of public addresses")
	}
	for _, ip := range cloud.Objs(it.in, "publicIpAddresses") {
		if err := c.referPublicIP(cloud.Str(ip, "id"), "publicIpAddresses.id", it); err != nil {
			return err
		}
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

func (c *Cloud) removeNAT(it *item) error {
	for _, u := range c.users(it.id, kindSubnet) {
		return badRequest("InUseNatGatewayCannotBeDeleted", "Nat Gateway %s cannot be deleted because it is in use by "+
			"subnet %s.", it.id, u.id)
	}
	return nil
}
