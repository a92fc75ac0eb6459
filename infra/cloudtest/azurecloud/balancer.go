package azurecloud

import (
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) balancerKinds() map[string]*books {
	return map[string]*books{"azure-native:network:LoadBalancer": {
		kind: kindBalancer, path: []string{"loadBalancerName"}, rule: networkRule(1), located: true, mostTags: 50,
		put: c.putBalancer,
	}}
}

// balancerParts are the lists of a balancer whose members have names and ids.
func balancerParts() []string {
	return []string{"frontendIPConfigurations", "backendAddressPools", "probes", "loadBalancingRules", "outboundRules",
		"inboundNatRules"}
}

func (c *Cloud) putBalancer(_ *cloud.Call, it, _ *item) error {
	sku := cloud.Obj(it.in, "sku")
	if !strings.EqualFold(cloud.Str(sku, "name"), "Standard") {
		return badRequest("BasicSkuLoadBalancerRetired", "Load balancer %s: sku.name must be Standard; Basic is no "+
			"longer made.", it.id)
	}
	if err := oneOf("sku.tier", cloud.Str(sku, "tier"), "Regional", "Global"); err != nil {
		return err
	}
	for _, list := range balancerParts() {
		if err := nameParts(it, list); err != nil {
			return err
		}
	}
	if err := c.frontends(it); err != nil {
		return err
	}
	for _, p := range cloud.Objs(it.in, "probes") {
		if err := mayProbe(p); err != nil {
			return err
		}
	}
	used := map[string]bool{}
	for _, r := range cloud.Objs(it.in, "loadBalancingRules") {
		if err := mayForward(it, r, used); err != nil {
			return err
		}
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

// nameParts gives the members of a list their ids, which other things refer to.
func nameParts(it *item, list string) error {
	var out []resource.PropertyValue
	seen := map[string]bool{}
	for _, p := range cloud.Objs(it.in, list) {
		name := cloud.Str(p, "name")
		if name == "" || seen[lower(name)] {
			return badRequest("InvalidRequestFormat", "Load balancer %s: a member of %s has no name, or one that is "+
				"there twice: '%s'.", it.name, list, name)
		}
		seen[lower(name)] = true
		p = p.Copy()
		p["id"] = resource.NewStringProperty(it.id + "/" + list + "/" + name)
		out = append(out, resource.NewObjectProperty(p))
	}
	if out != nil {
		it.out[resource.PropertyKey(list)] = resource.NewArrayProperty(out)
	} else {
		delete(it.out, resource.PropertyKey(list))
	}
	return nil
}

// frontends checks the balancer's addresses and gives out those that are not chosen; c.mu is held.
func (c *Cloud) frontends(it *item) error {
	for i, f := range cloud.Objs(it.out, "frontendIPConfigurations") {
		if ip := cloud.Str(cloud.Obj(f, "publicIPAddress"), "id"); ip != "" {
			if err := c.referPublicIP(ip, "frontendIPConfigurations.publicIPAddress.id", it); err != nil {
				return err
			}
			continue
		}
		id := cloud.Str(cloud.Obj(f, "subnet"), "id")
		s, err := c.refer(kindSubnet, id, "frontendIPConfigurations.subnet.id", it)
		if err != nil {
			return err
		}
		if err := mayZones(kindBalancer, it.name, it.location, cloud.Strs(f, "zones"), 3); err != nil {
			return err
		}
		address, err := c.chooseAddress(s, f, it.id)
		if err != nil {
			return err
		}
		f["privateIPAddress"] = resource.NewStringProperty(address)
		cloud.List(it.out, "frontendIPConfigurations")[i] = resource.NewObjectProperty(f)
	}
	return nil
}

// chooseAddress is the address of an interface or frontend: the one that is asked for, if it is static, or the lowest
// free one; c.mu is held.
func (c *Cloud) chooseAddress(s *item, conf resource.PropertyMap, owner string) (string, error) {
	method, wanted := cloud.Str(conf, "privateIPAllocationMethod"), cloud.Str(conf, "privateIPAddress")
	if err := oneOf("privateIPAllocationMethod", method, "Static", "Dynamic"); err != nil {
		return "", err
	}
	if v := cloud.Str(conf, "privateIPAddressVersion"); v != "" && !strings.EqualFold(v, "IPv4") {
		return "", notEmulated("addresses of version %s", v)
	}
	if strings.EqualFold(method, "Static") {
		if wanted == "" {
			return "", badRequest("PrivateIPAddressNotSpecified", "IP configuration %s of %s has a Static allocation "+
				"and no privateIPAddress.",
				cloud.Str(conf, "name"), owner)
		}
		a, err := c.mayAddress(s, wanted, owner)
		return a.String(), err
	}
	if now := c.items[lower(owner)]; now != nil { // it keeps the one it has
		for a := range now.addresses(s.id) {
			return a.String(), nil
		}
	}
	a, ok := c.freeAddress(s, owner)
	if !ok {
		return "", badRequest("SubnetIsFull", "Subnet %s with address prefix %s does not have enough capacity for 1 "+
			"IP addresses.", s.name, s.extra.(subnet).cidr)
	}
	return a.String(), nil
}

func mayProbe(p resource.PropertyMap) error {
	name, kind := cloud.Str(p, "name"), lower(cloud.Str(p, "protocol"))
	if err := oneOf("probe "+name+": protocol", kind, "Http", "Https", "Tcp"); err != nil {
		return err
	}
	every := cloud.Int(p, "intervalInSeconds")
	switch path := cloud.Str(p, "requestPath"); {
	case kind == "tcp" && path != "", kind != "tcp" && path == "":
		return badRequest("InvalidRequestFormat", "Probe %s: requestPath must be set for Http and Https and not for "+
			"Tcp.", name)
	case every != 0 && every < 5:
		return badRequest("InvalidProbeInterval", "Probe %s: intervalInSeconds %d is less than 5.", name, every)
	case cloud.Int(p, "port") < 1 || cloud.Int(p, "port") > 65535:
		return badRequest("InvalidPort", "Probe %s: port %d is not between 1 and 65535.", name, cloud.Int(p, "port"))
	}
	return nil
}

// mayForward checks a rule: its parts are the balancer's own, and no two rules share a frontend's port.
func mayForward(it *item, r resource.PropertyMap, used map[string]bool) error {
	name := cloud.Str(r, "name")
	if err := oneOf("rule "+name+": protocol", cloud.Str(r, "protocol"), "Tcp", "Udp", "All"); err != nil {
		return err
	}
	if err := oneOf("rule "+name+": loadDistribution", cloud.Str(r, "loadDistribution"), "Default", "SourceIP",
		"SourceIPProtocol"); err != nil {
		return err
	}
	parts := map[string]string{
		"frontendIPConfiguration": "frontendIPConfigurations", "backendAddressPool": "backendAddressPools",
		"probe": "probes",
	}
	for property, list := range parts {
		id := cloud.Str(cloud.Obj(r, property), "id")
		if id == "" && property == "frontendIPConfiguration" {
			return badRequest("InvalidRequestFormat", "Load balancing rule %s has no frontendIPConfiguration.", name)
		}
		known := slices.ContainsFunc(cloud.Objs(it.out, list),
			func(p resource.PropertyMap) bool { return strings.EqualFold(cloud.Str(p, "id"), id) })
		if id != "" && !known {
			return badRequest("InvalidResourceReference", "Resource %s referenced by resource %s was not found. "+
				"Please make sure that the referenced resource exists, and that both resources are in the same "+
				"region.", id, it.id+"/loadBalancingRules/"+name)
		}
	}
	if n := cloud.Int(r, "idleTimeoutInMinutes"); n != 0 && (n < 4 || n > 100) {
		return badRequest("InvalidIdleTimeout", "Load balancing rule %s: idleTimeoutInMinutes %d is not between 4 and "+
			"100.", name, n)
	}
	front := lower(cloud.Str(cloud.Obj(r, "frontendIPConfiguration"), "id")) + lower(cloud.Str(r,
		"protocol")) + r["frontendPort"].String()
	if used[front] {
		return badRequest("RulesUseSameFrontendPortProtocolAndFrontendIpConfiguration", "Load balancing rule %s uses "+
			"a frontend, port and protocol that another rule uses.", name)
	}
	used[front] = true
	return nil
}

// poolIn reports whether an id is that of a balancer's pool; c.mu is held.
func (c *Cloud) poolIn(id string) (*item, bool) {
	at := strings.Index(lower(id), "/backendaddresspools/")
	if at < 0 {
		return nil, false
	}
	lb := c.get(kindBalancer, id[:at])
	if lb == nil {
		return nil, false
	}
	return lb, slices.ContainsFunc(cloud.Objs(lb.out, "backendAddressPools"), func(p resource.PropertyMap) bool {
		return strings.EqualFold(cloud.Str(p, "id"), id)
	})
}
