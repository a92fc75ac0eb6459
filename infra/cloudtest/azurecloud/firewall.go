package azurecloud

import (
	"context"
	"fmt"
	"net/netip"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

func (c *Cloud) firewallKinds() map[string]*books {
	return map[string]*books{"azure-native:network:NetworkSecurityGroup": {
		kind: kindFirewall, path: []string{"networkSecurityGroupName"}, rule: networkRule(1), located: true,
		mostTags: 50, refilter: true,
		put: c.putFirewall, remove: c.removeFirewall,
	}}
}

func (c *Cloud) putFirewall(_ *cloud.Call, it, old *item) error {
	if _, given := it.in["securityRules"]; !given && old != nil {
		// The provider reads rules back that the program does not list, for they may be resources of their own.
		it.in["securityRules"] = old.in["securityRules"]
	}
	in := cloud.Objs(it.in, "securityRules")
	rules, err := parseRules(in)
	if err != nil {
		return err
	}
	it.extra = rules
	var out []resource.PropertyValue
	for _, r := range in {
		r = r.Copy()
		r["id"] = resource.NewStringProperty(it.id + "/securityRules/" + cloud.Str(r, "name"))
		r["provisioningState"] = resource.NewStringProperty("Succeeded")
		out = append(out, resource.NewObjectProperty(r))
	}
	it.out["securityRules"] = resource.NewArrayProperty(out)
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

func (c *Cloud) removeFirewall(it *item) error {
	for _, u := range c.users(it.id, kindSubnet, kindNIC) {
		return badRequest("InUseNetworkSecurityGroupCannotBeDeleted", "Network security group %s cannot be deleted "+
			"because it is in use by the following resources: %s. In order to delete the Network security group, "+
			"remove the association with the resource(s). To learn how to do this, see aka.ms/deletensg.", it.id, u.id)
	}
	return nil
}

// rulesOn are the rules of the group that a subnet or an interface has; ok is false without one. c.mu is held.
func (c *Cloud) rulesOn(it *item) (id string, rules []rule, ok bool) {
	id = cloud.Str(cloud.Obj(it.in, "networkSecurityGroup"), "id")
	if g := c.items[lower(id)]; g != nil {
		return lower(id), g.extra.([]rule), true
	}
	return "", nil, false
}

// attachmentOf is where an interface is: its subnet, its address there, and what the network's tags stand for; c.mu is
// held.
func (c *Cloud) attachmentOf(nic *item) (s *item, address netip.Addr, around space) {
	conf := primary(nic)
	s = c.items[lower(cloud.Str(cloud.Obj(conf, "subnet"), "id"))]
	address, _ = netip.ParseAddr(cloud.Str(conf, "privateIPAddress"))
	if s != nil {
		if network := c.items[lower(parentID(s.id, 1))]; network != nil {
			ranges, _ := spaceOf(network) // checked when it was made
			around = ranges
		}
	}
	return s, address, around
}

// filter is what an interface lets through: on the way in the subnet's group decides first, on the way out the
// interface's, and where there is none everything passes. A public address without any group lets nothing in from
// outside. c.mu is held.
func (c *Cloud) filter(nic *item) fabric.Filter {
	s, address, around := c.attachmentOf(nic)
	if s == nil {
		return fabric.Filter{}
	}
	outerID, outer, hasOuter := c.rulesOn(s)
	innerID, inner, hasInner := c.rulesOn(nic)
	side := func(inbound bool) []fabric.FilterRule {
		open := []fabric.FilterRule{{Name: "no security group", Protocol: "all", Peers: around.resolve(tagAny)}}
		switch {
		case !hasOuter && !hasInner && inbound && cloud.Str(cloud.Obj(primary(nic), "publicIPAddress"), "id") != "":
			open[0].Peers = append(around.resolve(tagNetwork), around.resolve(tagBalancer)...)
			return open
		case !hasOuter && !hasInner:
			return open
		case !hasOuter, outerID == innerID:
			return translate(inner, inbound, address, around)
		case !hasInner:
			return translate(outer, inbound, address, around)
		case inbound:
			return both(translate(outer, true, address, around), translate(inner, true, address, around))
		}
		return both(translate(inner, false, address, around), translate(outer, false, address, around))
	}
	return fabric.Filter{Ingress: side(true), Egress: side(false)}
}

// mayLeave reports whether the groups on an interface and its subnet let it talk to a service of Azure's; c.mu is held.
func (c *Cloud) mayLeave(nic *item, to service) bool {
	s, address, around := c.attachmentOf(nic)
	if s == nil {
		return false
	}
	p := packet{protocol: "tcp", port: 443, self: address, peer: to.address, tags: to.tags}
	for _, it := range []*item{nic, s} {
		if _, rules, ok := c.rulesOn(it); ok && !permits(rules, p, around) {
			return false
		}
	}
	return true
}

// setFilters computes and sets the filters of all machines. It holds its own lock over both, so that of two changes at
// once the later one's view, which has both, is the one that stays.
func (c *Cloud) setFilters(ctx context.Context) error {
	c.filters.Lock()
	defer c.filters.Unlock()
	c.mu.Lock()
	filters := map[string]fabric.Filter{}
	for _, vm := range c.all(kindVM) {
		if m := vm.extra.(*machine); m.up && !vm.gone {
			if nic := c.items[lower(m.nic)]; nic != nil {
				filters[m.name] = c.filter(nic)
			}
		}
	}
	c.mu.Unlock()
	for name, f := range filters {
		if err := c.compute.SetFilter(ctx, name, f); err != nil && c.isUp(name) {
			return fmt.Errorf("set the packet filter of %s: %w", name, err)
		}
	}
	return nil
}

// isUp reports whether a machine is still there: it may go while a filter is on its way.
func (c *Cloud) isUp(name string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, vm := range c.all(kindVM) {
		if m := vm.extra.(*machine); m.name == name {
			return m.up && !vm.gone
		}
	}
	return false
}

// RemoveRule takes a rule out of a security group behind Pulumi's back. group is the group's name or Pulumi's for it.
func (c *Cloud) RemoveRule(ctx context.Context, group, name string) error {
	c.mu.Lock()
	it := c.named(kindFirewall, group)
	if it == nil {
		c.mu.Unlock()
		return fmt.Errorf("there is no security group %q", group)
	}
	in := it.in.Copy()
	var left []resource.PropertyValue
	for _, r := range cloud.Objs(in, "securityRules") {
		if !strings.EqualFold(cloud.Str(r, "name"), name) {
			left = append(left, resource.NewObjectProperty(r))
		}
	}
	if len(left) == len(cloud.Objs(in, "securityRules")) {
		c.mu.Unlock()
		return fmt.Errorf("security group %q has no rule %q", group, name)
	}
	in["securityRules"] = resource.NewArrayProperty(left)
	next := *it
	next.in, next.out = in, it.out.Copy()
	err := c.putFirewall(nil, &next, it)
	if err == nil {
		*it = next
	}
	c.mu.Unlock()
	if err != nil {
		return err
	}
	return c.setFilters(ctx)
}
