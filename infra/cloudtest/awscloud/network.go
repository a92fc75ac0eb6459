package awscloud

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) networkKinds() map[string]*cloud.Kind {
	vpc := c.kindOf(books{
		kind: "vpc", check: checkVpc, create: c.createVpc, update: c.updateVpc, remove: c.removeVpc,
		replace: []string{"cidrBlock", "ipv4IpamPoolId", "ipv4NetmaskLength"},
	})
	subnet := c.kindOf(books{
		kind: "subnet", check: checkSubnet, create: c.createSubnet, remove: c.removeSubnet,
		replace: []string{"availabilityZone", "availabilityZoneId", "cidrBlock", "ipv6Native", "outpostArn", "vpcId"},
	})
	return map[string]*cloud.Kind{"aws:ec2/vpc:Vpc": vpc, "aws:ec2/subnet:Subnet": subnet}
}

// prefix parses a CIDR block; ok is false if it is none.
func prefix(s string) (netip.Prefix, bool) {
	p, err := netip.ParsePrefix(s)
	return p, err == nil
}

// checkCIDR holds a known input against what the provider accepts: a network address of IPv4.
func checkCIDR(in resource.PropertyMap, property string, least, most int) []cloud.Problem {
	if !cloud.Known(in, property) {
		return nil
	}
	s := cloud.Str(in, property)
	p, ok := prefix(s)
	switch {
	case !ok || !p.Addr().Is4():
		return []cloud.Problem{cloud.Problemf(property,
			"%q is not a valid IPv4 CIDR block: invalid CIDR address: %s", s, s)}
	case p != p.Masked():
		return []cloud.Problem{cloud.Problemf(property, "%q is not a valid CIDR block; did you mean %q?", s,
			p.Masked())}
	case p.Bits() < least || p.Bits() > most:
		return []cloud.Problem{cloud.Problemf(property,
			"expected %q to contain a network Value with between %d and %d significant bits, got: %d", property,
			least, most, p.Bits())}
	}
	return nil
}

func checkVpc(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(checkCIDR(in, "cidrBlock", 16, 28),
		oneOf(in, "instanceTenancy", "default", "dedicated"),
		conflict(in, "cidrBlock", "ipv4NetmaskLength"))
	if !given(in, "cidrBlock") && !given(in, "ipv4IpamPoolId") {
		problems = append(problems, cloud.Problemf("cidrBlock",
			"one of `cidr_block,ipv4_ipam_pool_id` must be specified"))
	}
	return problems
}

func (c *Cloud) createVpc(call *cloud.Call) (string, map[string]any, error) {
	cidr, ok := prefix(cloud.Str(call.Inputs, "cidrBlock"))
	if !ok {
		return "", nil, ec2Error("creating EC2 VPC", "CreateVpc", "InvalidParameterValue",
			"Value () for parameter cidrBlock is invalid.")
	}
	id := newID("vpc")
	if err := c.compute.CreateNetwork(call.Ctx, id, cidr); err != nil {
		return "", nil, fmt.Errorf("creating EC2 VPC: %w", err)
	}
	region := region(call)
	c.implicit("group", newID("sg"), region, "default", map[string]any{"vpcId": id, "name": "default"})
	c.implicit("table", newID("rtb"), region, "main", map[string]any{"vpcId": id, "main": true})
	return id, map[string]any{
		"arn": c.arn("ec2", region, "vpc/"+id), "ownerId": c.account, "instanceTenancy": "default",
		"enableDnsSupport":   cloud.Bool(call.Inputs, "enableDnsSupport", true),
		"enableDnsHostnames": cloud.Bool(call.Inputs, "enableDnsHostnames", false), "dhcpOptionsId": newID("dopt"),
		"mainRouteTableId": c.mainTable(id).id, "defaultRouteTableId": c.mainTable(id).id,
		"defaultSecurityGroupId": c.defaultGroup(id).id, "defaultNetworkAclId": newID("acl"),
	}, nil
}

// implicit enters something that AWS makes by itself with another thing; c.mu is held.
func (c *Cloud) implicit(kind, id, region, name string, out map[string]any) *item {
	c.seq++
	it := &item{kind: kind, id: id, name: name, region: region, seq: c.seq, in: resource.PropertyMap{},
		out: cloud.Values(out), extra: implicit{}}
	c.items[key{kind, id}] = it
	return it
}

// implicit marks what AWS made and AWS deletes.
type implicit struct {
	adopted bool // a default group whose own rules a program took away
}

func (it *item) isImplicit() bool {
	_, is := it.extra.(implicit)
	return is
}

func (c *Cloud) mainTable(vpc string) *item {
	return c.find("table", func(it *item) bool { return it.isImplicit() && it.str("vpcId") == vpc })
}

func (c *Cloud) defaultGroup(vpc string) *item {
	return c.find("group", func(it *item) bool { return it.isImplicit() && it.str("vpcId") == vpc })
}

func (c *Cloud) updateVpc(call *cloud.Call, it *item) error {
	for _, p := range []string{"enableDnsSupport", "enableDnsHostnames"} {
		it.out[resource.PropertyKey(p)] = resource.NewBoolProperty(cloud.Bool(call.Inputs, p,
			p == "enableDnsSupport"))
	}
	return nil
}

func (c *Cloud) removeVpc(call *cloud.Call, it *item) error {
	for _, kind := range []string{"subnet", "igw", "group", "table", "endpoint"} {
		held := c.find(kind, func(o *item) bool { return o.str("vpcId") == it.id && !o.isImplicit() })
		if held != nil {
			return ec2Error("deleting EC2 VPC ("+it.id+")", "DeleteVpc", "DependencyViolation",
				"The vpc '%s' has dependencies and cannot be deleted. (%s %s is in it)", it.id, held.kind, held.id)
		}
	}
	if err := c.compute.DeleteNetwork(call.Ctx, it.id); err != nil {
		return fmt.Errorf("deleting EC2 VPC (%s): %w", it.id, err)
	}
	delete(c.items, key{"table", c.mainTable(it.id).id})
	delete(c.items, key{"group", c.defaultGroup(it.id).id})
	return nil
}

func checkSubnet(call *cloud.Call) []cloud.Problem {
	problems := slices.Concat(checkCIDR(call.Inputs, "cidrBlock", 0, 32),
		conflict(call.Inputs, "availabilityZone", "availabilityZoneId"))
	return problems
}

func (c *Cloud) createSubnet(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating EC2 Subnet", "CreateSubnet"
	in, region := call.Inputs, region(call)
	vpc := c.get(region, "vpc", cloud.Str(in, "vpcId"))
	if vpc == nil {
		return "", nil, ec2Error(doing, op, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist",
			cloud.Str(in, "vpcId"))
	}
	cidr, ok := prefix(cloud.Str(in, "cidrBlock"))
	if !ok {
		return "", nil, ec2Error(doing, op, "MissingParameter",
			"Either 'cidrBlock' or 'ipv4IpamPoolId' should be provided.")
	}
	whole, _ := prefix(vpc.str("cidrBlock"))
	if !whole.Contains(cidr.Addr()) || cidr.Bits() < whole.Bits() || cidr.Bits() > 28 {
		return "", nil, ec2Error(doing, op, "InvalidSubnet.Range", "The CIDR '%s' is invalid.", cidr)
	}
	for _, other := range c.all("subnet") {
		if p, _ := prefix(other.str("cidrBlock")); other.str("vpcId") == vpc.id && p.Overlaps(cidr) {
			return "", nil, ec2Error(doing, op, "InvalidSubnet.Conflict",
				"The CIDR '%s' conflicts with another subnet", cidr)
		}
	}
	zone := cloud.Str(in, "availabilityZone")
	if id := cloud.Str(in, "availabilityZoneId"); id != "" {
		for _, z := range zones(region) {
			if zoneID(z) == id {
				zone = z
			}
		}
	}
	switch {
	case zone == "" && cloud.Str(in, "availabilityZoneId") == "":
		zone = zones(region)[0]
	case !slices.Contains(zones(region), zone):
		return "", nil, ec2Error(doing, op, "InvalidParameterValue",
			"Value (%s) for parameter availabilityZone is invalid. Subnets can currently only be created in the "+
				"following availability zones: %s.", zone, list(zones(region)))
	}
	id := newID("subnet")
	if err := c.compute.CreateSubnet(call.Ctx, vpc.id, id, cidr); err != nil {
		return "", nil, fmt.Errorf("creating EC2 Subnet: %w", err)
	}
	return id, map[string]any{
		"arn": c.arn("ec2", region, "subnet/"+id), "ownerId": c.account, "availabilityZone": zone,
		"availabilityZoneId": zoneID(zone),
	}, nil
}

func (c *Cloud) removeSubnet(call *cloud.Call, it *item) error {
	if held := c.find("eni", func(o *item) bool { return o.extra.(*eni).subnet == it.id }); held != nil {
		return ec2Error("deleting EC2 Subnet ("+it.id+")", "DeleteSubnet", "DependencyViolation",
			"The subnet '%s' has dependencies and cannot be deleted. (%s of %s is in it)", it.id, held.id,
			held.extra.(*eni).owner)
	}
	if err := c.compute.DeleteSubnet(call.Ctx, it.str("vpcId"), it.id); err != nil {
		return fmt.Errorf("deleting EC2 Subnet (%s): %w", it.id, err)
	}
	for _, a := range c.all("association") {
		if a.str("subnetId") == it.id {
			delete(c.items, key{"association", a.id})
		}
	}
	return nil
}

// eni is a network interface: an address in a subnet that something owns.
type eni struct {
	subnet, vpc string
	address     netip.Addr
	groups      []string
	owner       string // an instance, gateway, balancer or endpoint
	public      bool   // it has a public address
}

// reserve takes an address in a subnet, the wanted one or, if that is empty, the lowest free one. The error's code
// and text are EC2's; c.mu is held.
func (c *Cloud) reserve(subnet *item, wanted, owner string, groups []string) (*item, string, error) {
	cidr, _ := prefix(subnet.str("cidrBlock"))
	if len(groups) == 0 {
		groups = []string{c.defaultGroup(subnet.str("vpcId")).id}
	}
	e := &eni{subnet: subnet.id, vpc: subnet.str("vpcId"), groups: groups, owner: owner}
	if wanted == "" {
		for a := cidr.Addr(); cidr.Contains(a); a = a.Next() {
			if c.refuseAddress(subnet, cidr, a) == nil {
				e.address = a
				break
			}
		}
		if !e.address.IsValid() {
			r := &refusedAddress{"InsufficientFreeAddressesInSubnet",
				"The specified subnet does not have enough free addresses to satisfy the request."}
			return nil, r.code, r
		}
	} else {
		a, err := netip.ParseAddr(wanted)
		if err != nil {
			return nil, "InvalidParameterValue", fmt.Errorf("invalid value for parameter address: %s", wanted)
		}
		if r := c.refuseAddress(subnet, cidr, a); r != nil {
			return nil, r.code, r
		}
		e.address = a
	}
	it := c.implicit("eni", newID("eni"), subnet.region, owner, nil)
	it.extra = e
	return it, "", nil
}

type refusedAddress struct{ code, text string }

func (r *refusedAddress) Error() string { return r.text }

// refuseAddress says why an address cannot be taken; c.mu is held.
func (c *Cloud) refuseAddress(subnet *item, cidr netip.Prefix, a netip.Addr) *refusedAddress {
	if !cidr.Contains(a) {
		return &refusedAddress{"InvalidParameterValue",
			fmt.Sprintf("Address %s does not fall within the subnet's address range", a)}
	}
	first := cidr.Addr()
	for range 4 {
		if a == first {
			return &refusedAddress{"InvalidParameterValue",
				fmt.Sprintf("Address %s is in subnet's reserved address range", a)}
		}
		first = first.Next()
	}
	if next := a.Next(); !cidr.Contains(next) {
		return &refusedAddress{"InvalidParameterValue",
			fmt.Sprintf("Address %s is in subnet's reserved address range", a)}
	}
	if c.find("eni", func(o *item) bool {
		return o.extra.(*eni).address == a &&
			o.extra.(*eni).subnet == subnet.id
	}) != nil {
		return &refusedAddress{"InvalidIPAddress.InUse", fmt.Sprintf("Address %s is in use.", a)}
	}
	return nil
}

// release frees everything that an owner holds; c.mu is held.
func (c *Cloud) release(owner string) {
	for _, it := range c.all("eni") {
		if it.extra.(*eni).owner == owner {
			delete(c.items, key{"eni", it.id})
		}
	}
}

// enis are the interfaces of an owner; c.mu is held.
func (c *Cloud) enis(owner string) []*eni {
	var list []*eni
	for _, it := range c.all("eni") {
		if e := it.extra.(*eni); e.owner == owner {
			list = append(list, e)
		}
	}
	return list
}

func list(names []string) string {
	s := ""
	for i, n := range names {
		if i > 0 {
			s += ", "
		}
		s += n
	}
	return s
}
