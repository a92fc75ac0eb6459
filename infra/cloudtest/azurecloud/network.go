package azurecloud

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// vnet is what only networks know: their name below.
type vnet struct{ network string }

// subnet is what only subnets know.
type subnet struct {
	name string // below
	cidr netip.Prefix
}

func (c *Cloud) networkKinds() map[string]*books {
	return map[string]*books{
		"azure-native:network:VirtualNetwork": {
			kind: kindVNet, path: []string{"virtualNetworkName"}, rule: networkRule(2), located: true, mostTags: 50,
			replace: []string{"location"}, refilter: true,
			put: c.putVNet, made: c.makeVNet, changed: c.changeVNet, remove: c.removeVNet, undo: c.undoVNet,
		},
		"azure-native:network:Subnet": {
			kind: kindSubnet, path: []string{"virtualNetworkName", "subnetName"}, rule: networkRule(1), refilter: true,
			put: c.putSubnet, made: c.makeSubnet, remove: c.removeSubnet, undo: c.undoSubnet,
		},
	}
}

// cidr reads an address range; Azure takes only those whose host part is zero.
func cidr(what, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil || !p.Addr().Is4():
		return p, badRequest("InvalidCIDRNotation", "The address prefix %s for %s has an invalid CIDR notation. For "+
			"IPv4 it is like 10.0.0.0/16.", text, what)
	case p != p.Masked():
		return p, badRequest("InvalidCIDRNotation", "The address prefix %s for %s has an invalid CIDR notation. For "+
			"the given prefix length, the address prefix should be %s.", text, what, p.Masked())
	}
	return p, nil
}

func (c *Cloud) putVNet(_ *cloud.Call, it, old *item) error {
	ranges, err := spaceOf(it)
	if err != nil {
		return err
	}
	if old != nil {
		for _, s := range c.subnetsOf(it.id) {
			if !inside(ranges, s.extra.(subnet).cidr) {
				return badRequest("InUsePrefixCannotBeDeleted", "IpPrefix of %s on Vnet %s has active allocations and "+
					"cannot be deleted.",
					s.extra.(subnet).cidr, it.name)
			}
		}
		if before, err := spaceOf(old); err == nil && before[0] != ranges[0] {
			return notEmulated("change the address range of a network, %s to %s", before[0], ranges[0])
		}
		return nil
	}
	it.extra = vnet{network: newName(it.name)}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	it.out["resourceGuid"] = resource.NewStringProperty(newGUID())
	for _, in := range cloud.Objs(it.in, "subnets") { // made with it: check them before there is anything
		if _, err := c.subnetDraft(it, in); err != nil {
			return err
		}
	}
	return nil
}

// newName is a name for something below: readable, and never used before.
func newName(name string) string {
	plain := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' || r >= 'A' && r <= 'Z' {
			return r
		}
		return '-'
	}, name)
	return fmt.Sprintf("%s-%x", strings.Trim(plain, "-"), random(3))
}

// spaceOf are a network's address ranges.
func spaceOf(it *item) ([]netip.Prefix, error) {
	texts := cloud.Strs(cloud.Obj(it.in, "addressSpace"), "addressPrefixes")
	if len(texts) == 0 {
		return nil, badRequest("InvalidRequestFormat", "AddressSpace of virtual network %s has no addressPrefixes.",
			it.name)
	}
	if len(texts) > 1 {
		return nil, notEmulated("networks with more than one address range")
	}
	p, err := cidr("virtual network "+it.name, texts[0])
	if err == nil && (p.Bits() < 2 || p.Bits() > 29) {
		err = badRequest("InvalidCIDRNotation", "The address prefix %s is not between /2 and /29.", p)
	}
	return []netip.Prefix{p}, err
}

func inside(ranges []netip.Prefix, p netip.Prefix) bool {
	return slices.ContainsFunc(ranges, func(r netip.Prefix) bool {
		return r.Bits() <= p.Bits() &&
			r.Contains(p.Addr())
	})
}

// subnetsOf are a network's, those being deleted too; c.mu is held.
func (c *Cloud) subnetsOf(network string) []*item {
	return slices.DeleteFunc(c.all(kindSubnet), func(s *item) bool { return !within(s.id, network) })
}

func (c *Cloud) makeVNet(ctx context.Context, it *item) error {
	ranges, err := spaceOf(it)
	if err != nil {
		return err
	}
	network := it.extra.(vnet).network
	if err := c.compute.CreateNetwork(ctx, network, ranges[0]); err != nil {
		return fmt.Errorf("create network: %w", err)
	}
	return c.inlineSubnets(ctx, it)
}

// inlineSubnets makes the subnets of a network's own list like that list. Without a list the subnets stay, as the
// provider arranges.
func (c *Cloud) inlineSubnets(ctx context.Context, it *item) error {
	if _, ok := it.in["subnets"]; !ok {
		return nil
	}
	wanted := map[string]resource.PropertyMap{}
	for _, in := range cloud.Objs(it.in, "subnets") {
		wanted[lower(cloud.Str(in, "name"))] = in
	}
	c.mu.Lock()
	there := c.subnetsOf(it.id)
	c.mu.Unlock()
	b := c.books[kindSubnet]
	for _, s := range there {
		if _, ok := wanted[lower(s.name)]; !ok {
			if err := c.erase(ctx, b, s.id); err != nil {
				return err
			}
		}
	}
	for _, in := range wanted {
		if err := c.inlineSubnet(ctx, it, in); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cloud) inlineSubnet(ctx context.Context, network *item, in resource.PropertyMap) error {
	b := c.books[kindSubnet]
	inputs := in.Copy()
	delete(inputs, "name")
	inputs["resourceGroupName"] = resource.NewStringProperty(network.group())
	inputs["virtualNetworkName"] = resource.NewStringProperty(network.name)
	inputs["subnetName"] = in["name"]
	call := &cloud.Call{Ctx: ctx, Token: b.token, Name: network.pulumi,
		ID: network.id + "/subnets/" + cloud.Str(in, "name"), Inputs: inputs}
	c.mu.Lock()
	there := c.get(kindSubnet, call.ID)
	c.mu.Unlock()
	var err error
	if there == nil {
		_, _, err = c.create(b, call)
	} else {
		_, err = c.update(b, call)
	}
	return err
}

func (c *Cloud) changeVNet(ctx context.Context, it, _ *item) error { return c.inlineSubnets(ctx, it) }

func (c *Cloud) removeVNet(it *item) error {
	for _, s := range c.subnetsOf(it.id) {
		if err := c.removeSubnet(s); err != nil {
			return err
		}
	}
	return nil
}

func (c *Cloud) undoVNet(ctx context.Context, it *item) error {
	c.mu.Lock()
	subnets := c.subnetsOf(it.id)
	c.mu.Unlock()
	for _, s := range subnets {
		if err := c.erase(ctx, c.books[kindSubnet], s.id); err != nil {
			return err
		}
	}
	if err := c.compute.DeleteNetwork(ctx, it.extra.(vnet).network); err != nil {
		return fmt.Errorf("delete network: %w", err)
	}
	return nil
}

// subnetDraft reads a subnet's range and compares it with the network and its other subnets; c.mu is held.
func (c *Cloud) subnetDraft(network *item, in resource.PropertyMap) (netip.Prefix, error) {
	name := cloud.Str(in, "subnetName")
	if name == "" {
		name = cloud.Str(in, "name")
	}
	texts := cloud.Strs(in, "addressPrefixes")
	if one := cloud.Str(in, "addressPrefix"); one != "" {
		texts = append(texts, one)
	}
	if len(texts) != 1 {
		return netip.Prefix{}, badRequest("InvalidRequestFormat", "Subnet %s must have exactly one of addressPrefix "+
			"and addressPrefixes, with one range.", name)
	}
	p, err := cidr("subnet "+name, texts[0])
	if err != nil {
		return p, err
	}
	if p.Bits() > 29 {
		return p, badRequest("InvalidCIDRNotation", "The address prefix %s of subnet %s is smaller than /29.", p, name)
	}
	space, err := spaceOf(network)
	if err != nil {
		return p, err
	}
	if !inside(space, p) {
		return p, badRequest("NetcfgSubnetRangeOutsideVnet", "Subnet '%s' is not valid because its IP address range "+
			"is outside the IP address range of virtual network '%s'.", name, network.name)
	}
	for _, s := range c.subnetsOf(network.id) {
		if other := s.extra.(subnet).cidr; !strings.EqualFold(s.name, name) && other.Overlaps(p) {
			return p, badRequest("NetcfgSubnetRangesOverlap", "Subnet '%s' is not valid because its IP address range "+
				"overlaps with that of an existing subnet in virtual network '%s'.", name, network.name)
		}
	}
	return p, nil
}

func (c *Cloud) putSubnet(_ *cloud.Call, it, old *item) error {
	network := c.get(kindVNet, parentID(it.id, 1))
	if network == nil {
		network = c.items[lower(parentID(it.id, 1))] // made together with it
	}
	p, err := c.subnetDraft(network, it.in)
	if err != nil {
		return err
	}
	if err := c.subnetParts(network, it); err != nil {
		return err
	}
	it.location = "" // it is where its network is
	if old != nil {
		if before := old.extra.(subnet); before.cidr != p {
			return notEmulated("change the range of a subnet, %s to %s", before.cidr, p)
		}
		return nil
	}
	it.extra = subnet{name: newName(it.name), cidr: p}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

// subnetParts checks what a subnet refers to; c.mu is held.
func (c *Cloud) subnetParts(network, it *item) error {
	at := &item{id: it.id, location: network.location}
	for _, part := range []struct{ input, kind string }{{"networkSecurityGroup", kindFirewall},
		{"natGateway", kindNAT}} {
		if id := cloud.Str(cloud.Obj(it.in, part.input), "id"); id != "" {
			if _, err := c.refer(part.kind, id, part.input+".id", at); err != nil {
				return err
			}
		}
	}
	if cloud.Str(cloud.Obj(it.in, "routeTable"), "id") != "" {
		return notEmulated("route tables")
	}
	for _, e := range cloud.Objs(it.in, "serviceEndpoints") {
		err := oneOf("subnet "+it.name+": service of a service endpoint", cloud.Str(e, "service"), "Microsoft.Storage",
			"Microsoft.Storage.Global",
			"Microsoft.KeyVault", "Microsoft.Sql", "Microsoft.AzureCosmosDB", "Microsoft.ServiceBus",
			"Microsoft.EventHub", "Microsoft.Web",
			"Microsoft.AzureActiveDirectory", "Microsoft.ContainerRegistry", "Microsoft.CognitiveServices")
		if err != nil {
			return err
		}
	}
	for _, p := range []string{"privateEndpointNetworkPolicies", "privateLinkServiceNetworkPolicies"} {
		if err := oneOf(p, cloud.Str(it.in, p), "Enabled", "Disabled", "NetworkSecurityGroupEnabled",
			"RouteTableEnabled"); err != nil {
			return err
		}
	}
	return nil
}

// hasEndpoint reports whether the subnet has a way of its own to a service, such as Microsoft.Storage.
func (it *item) hasEndpoint(service string) bool {
	return slices.ContainsFunc(cloud.Objs(it.in, "serviceEndpoints"), func(e resource.PropertyMap) bool {
		s := cloud.Str(e, "service")
		return strings.EqualFold(s, service) || strings.EqualFold(s, service+".Global")
	})
}

func (c *Cloud) makeSubnet(ctx context.Context, it *item) error {
	c.mu.Lock()
	network := c.items[lower(parentID(it.id, 1))].extra.(vnet).network
	c.mu.Unlock()
	s := it.extra.(subnet)
	if err := c.compute.CreateSubnet(ctx, network, s.name, s.cidr); err != nil {
		return fmt.Errorf("create subnet: %w", err)
	}
	return nil
}

func (c *Cloud) removeSubnet(it *item) error {
	for _, u := range c.users(it.id, kindNIC, kindBalancer) {
		return badRequest("InUseSubnetCannotBeDeleted", "Subnet %s is in use by %s and cannot be deleted. In order to "+
			"delete the subnet, delete all the resources within the subnet. See aka.ms/deletesubnet.", it.name, u.id)
	}
	return nil
}

func (c *Cloud) undoSubnet(ctx context.Context, it *item) error {
	c.mu.Lock()
	network := c.items[lower(parentID(it.id, 1))].extra.(vnet).network
	c.mu.Unlock()
	if err := c.compute.DeleteSubnet(ctx, network, it.extra.(subnet).name); err != nil {
		return fmt.Errorf("delete subnet: %w", err)
	}
	return nil
}

// reserved are a subnet's first four addresses and its last.
const reserved = 4

// mayAddress checks that something may have an address of a subnet; c.mu is held. But is the user whose own address
// does not count.
func (c *Cloud) mayAddress(s *item, text, but string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || !a.Is4() {
		return a, badRequest("InvalidIPAddressFormat", "The private IP address '%s' is not an IPv4 address.", text)
	}
	p := s.extra.(subnet).cidr
	if !p.Contains(a) {
		return a, badRequest("PrivateIPAddressNotInSubnet", "Private static IP address %s does not belong to the "+
			"range of subnet prefix %s.", a, p)
	}
	if isReserved(p, a) {
		return a, badRequest("PrivateIPAddressInReservedRange", "Private static IP address %s falls within reserved "+
			"IP range of subnet prefix %s.", a, p)
	}
	if user := c.takenBy(s, a, but); user != "" {
		return a, badRequest("PrivateIPAddressInUse", "IP configuration uses the private IP address %s which is "+
			"already in use by %s.", a, user)
	}
	return a, nil
}

func isReserved(p netip.Prefix, a netip.Addr) bool {
	first := p.Addr()
	for range reserved {
		if a == first {
			return true
		}
		first = first.Next()
	}
	return !p.Contains(a.Next())
}

// takenBy says who has an address; c.mu is held.
func (c *Cloud) takenBy(s *item, a netip.Addr, but string) string {
	for _, kind := range []string{kindNIC, kindBalancer} {
		for _, it := range c.all(kind) {
			if !strings.EqualFold(it.id, but) && it.addresses(s.id)[a] {
				return it.id
			}
		}
	}
	return ""
}

// freeAddress is the lowest that is free, or none; c.mu is held.
func (c *Cloud) freeAddress(s *item, but string) (netip.Addr, bool) {
	p := s.extra.(subnet).cidr
	for a := p.Addr(); p.Contains(a); a = a.Next() {
		if !isReserved(p, a) && c.takenBy(s, a, but) == "" {
			return a, true
		}
	}
	return netip.Addr{}, false
}

// addresses are those of a subnet that an interface or a balancer has.
func (it *item) addresses(subnet string) map[netip.Addr]bool {
	has := map[netip.Addr]bool{}
	for _, list := range []string{"ipConfigurations", "frontendIPConfigurations"} {
		for _, conf := range cloud.Objs(it.out, list) {
			a, err := netip.ParseAddr(cloud.Str(conf, "privateIPAddress"))
			if err == nil && strings.EqualFold(cloud.Str(cloud.Obj(conf, "subnet"), "id"), subnet) {
				has[a] = true
			}
		}
	}
	return has
}
