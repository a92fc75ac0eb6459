package awscloud

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// targets are the ways that a route may lead, as inputs of a route.
func targets() []string {
	return []string{"gatewayId", "natGatewayId", "networkInterfaceId", "vpcEndpointId", "transitGatewayId",
		"vpcPeeringConnectionId",
		"egressOnlyGatewayId", "localGatewayId", "carrierGatewayId", "coreNetworkArn"}
}

func (c *Cloud) gatewayKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{
		"aws:ec2/internetGateway:InternetGateway": c.kindOf(books{
			kind: "igw", create: c.createInternetGateway, update: c.updateInternetGateway,
			remove: c.removeInternetGateway,
		}),
		"aws:ec2/routeTable:RouteTable": c.kindOf(books{
			kind: "table", check: checkRouteTable, create: c.createRouteTable, update: c.updateRouteTable,
			remove:  c.removeRouteTable,
			replace: []string{"vpcId"},
		}),
		"aws:ec2/route:Route": c.kindOf(books{
			kind: "route", check: checkRoute, create: c.createRoute, update: c.updateRoute,
			replace: []string{"routeTableId", "destinationCidrBlock", "destinationIpv6CidrBlock",
				"destinationPrefixListId"},
		}),
		"aws:ec2/routeTableAssociation:RouteTableAssociation": c.kindOf(books{
			kind: "association", check: checkAssociation, create: c.createAssociation, update: c.updateAssociation,
			replace: []string{"subnetId", "gatewayId"},
		}),
		"aws:ec2/eip:Eip": c.kindOf(books{
			kind: "eip", check: checkEip, create: c.createEip, update: c.updateEip, remove: c.removeEip,
			replace: []string{"address", "domain", "vpc", "customerOwnedIpv4Pool", "publicIpv4Pool",
				"networkBorderGroup"},
		}),
		"aws:ec2/eipAssociation:EipAssociation": c.kindOf(books{
			kind: "eipassociation", check: checkEipAssociation, create: c.createEipAssociation,
			remove: c.removeEipAssociation,
			replace: []string{"allocationId", "allowReassociation", "instanceId", "networkInterfaceId",
				"privateIpAddress", "publicIp"},
		}),
		"aws:ec2/natGateway:NatGateway": c.kindOf(books{
			kind: "nat", check: checkNat, create: c.createNat, remove: c.removeNat,
			replace: []string{"allocationId", "connectivityType", "privateIp", "subnetId"},
		}),
	}
}

func (c *Cloud) createInternetGateway(call *cloud.Call) (string, map[string]any, error) {
	if vpc := cloud.Str(call.Inputs, "vpcId"); vpc != "" {
		if err := c.mayAttachInternet(region(call), vpc); err != nil {
			return "", nil, err
		}
	}
	id := newID("igw")
	return id, map[string]any{"arn": c.arn("ec2", region(call), "internet-gateway/"+id), "ownerId": c.account}, nil
}

func (c *Cloud) mayAttachInternet(region, vpc string) error {
	const doing, op = "attaching EC2 Internet Gateway", "AttachInternetGateway"
	if c.get(region, "vpc", vpc) == nil {
		return ec2Error(doing, op, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	if other := c.find("igw", func(it *item) bool { return it.str("vpcId") == vpc }); other != nil {
		return ec2Error(doing, op, "InvalidParameterValue", "Network %s already has an internet gateway attached",
			vpc)
	}
	return nil
}

func (c *Cloud) updateInternetGateway(call *cloud.Call, it *item) error {
	vpc := cloud.Str(call.Inputs, "vpcId")
	if !changed(call, "vpcId") {
		return nil
	}
	if err := c.removeInternetGateway(call, it); err != nil || vpc == "" {
		return err
	}
	return c.mayAttachInternet(it.region, vpc)
}

// removeInternetGateway refuses while the network has public addresses mapped.
func (c *Cloud) removeInternetGateway(_ *cloud.Call, it *item) error {
	vpc := cloud.Str(it.in, "vpcId")
	held := c.find("eni", func(o *item) bool { e := o.extra.(*eni); return vpc != "" && e.vpc == vpc && e.public })
	if held != nil {
		return ec2Error("detaching EC2 Internet Gateway ("+it.id+") from VPC ("+vpc+")", "DetachInternetGateway",
			"DependencyViolation",
			"Network %s has some mapped public address(es). Please unmap those public address(es) before detaching "+
				"the gateway.", vpc)
	}
	return nil
}

func checkRouteTable(call *cloud.Call) []cloud.Problem {
	var problems []cloud.Problem
	for i, r := range cloud.Objs(call.Inputs, "routes") {
		for _, p := range slices.Concat(checkCIDR(r, "cidrBlock", 0, 32), oneTarget(r)) {
			p.Property = fmt.Sprintf("routes[%d].%s", i, p.Property)
			problems = append(problems, p)
		}
	}
	return problems
}

// oneTarget demands exactly one way of a route.
func oneTarget(r resource.PropertyMap) []cloud.Problem {
	n := 0
	for _, t := range targets() {
		if given(r, t) {
			n++
		}
	}
	if n != 1 {
		return []cloud.Problem{cloud.Problemf("gatewayId", "exactly one target (%s) must be given, have %d",
			strings.Join(targets(), ", "), n)}
	}
	return nil
}

func (c *Cloud) createRouteTable(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating EC2 Route Table", "CreateRouteTable"
	vpc := cloud.Str(call.Inputs, "vpcId")
	if c.get(region(call), "vpc", vpc) == nil {
		return "", nil, ec2Error(doing, op, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	for _, r := range cloud.Objs(call.Inputs, "routes") {
		if err := c.mayRoute(region(call), vpc, r); err != nil {
			return "", nil, err
		}
	}
	id := newID("rtb")
	return id, map[string]any{"arn": c.arn("ec2", region(call), "route-table/"+id), "ownerId": c.account}, nil
}

func (c *Cloud) updateRouteTable(call *cloud.Call, it *item) error {
	for _, r := range cloud.Objs(call.Inputs, "routes") {
		if err := c.mayRoute(it.region, it.str("vpcId"), r); err != nil {
			return err
		}
	}
	return nil
}

// mayRoute checks where a route leads; c.mu is held.
func (c *Cloud) mayRoute(region, vpc string, r resource.PropertyMap) error {
	const doing, op = "creating Route", "CreateRoute"
	if id := cloud.Str(r, "gatewayId"); id != "" && id != "local" {
		igw := c.get(region, "igw", id)
		if igw == nil {
			return ec2Error(doing, op, "InvalidGatewayID.NotFound", "The gateway ID '%s' does not exist", id)
		}
		if igw.str("vpcId") != vpc {
			return ec2Error(doing, op, "InvalidParameterValue",
				"route table and network gateway %s belong to different networks", id)
		}
	}
	if id := cloud.Str(r, "natGatewayId"); id != "" {
		nat := c.get(region, "nat", id)
		if nat == nil {
			return ec2Error(doing, op, "InvalidNatGatewayID.NotFound", "The natGateway ID '%s' does not exist", id)
		}
		if s := c.get(region, "subnet", nat.str("subnetId")); s == nil || s.str("vpcId") != vpc {
			return ec2Error(doing, op, "InvalidParameterValue",
				"route table and natGateway %s belong to different networks", id)
		}
	}
	if id := cloud.Str(r, "networkInterfaceId"); id != "" && c.get(region, "eni", id) == nil {
		return ec2Error(doing, op, "InvalidNetworkInterfaceID.NotFound",
			"The networkInterface ID '%s' does not exist", id)
	}
	return nil
}

func (c *Cloud) removeRouteTable(_ *cloud.Call, it *item) error {
	if c.find("association", func(o *item) bool { return o.str("routeTableId") == it.id }) != nil {
		return ec2Error("deleting EC2 Route Table ("+it.id+")", "DeleteRouteTable", "DependencyViolation",
			"The routeTable '%s' has dependencies and cannot be deleted.", it.id)
	}
	for _, r := range c.all("route") {
		if r.str("routeTableId") == it.id {
			delete(c.items, key{"route", r.id})
		}
	}
	return nil
}

func checkRoute(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(checkCIDR(in, "destinationCidrBlock", 0, 32), oneTarget(in))
	n := 0
	for _, d := range []string{"destinationCidrBlock", "destinationIpv6CidrBlock", "destinationPrefixListId"} {
		if given(in, d) {
			n++
		}
	}
	if n != 1 {
		problems = append(problems, cloud.Problemf("destinationCidrBlock",
			"exactly one destination must be given, have %d", n))
	}
	return problems
}

func (c *Cloud) createRoute(call *cloud.Call) (string, map[string]any, error) {
	in := call.Inputs
	table := c.get(region(call), "table", cloud.Str(in, "routeTableId"))
	if table == nil {
		return "", nil, ec2Error("creating Route", "CreateRoute", "InvalidRouteTableID.NotFound",
			"The routeTable ID '%s' does not exist", cloud.Str(in, "routeTableId"))
	}
	destination := cloud.Str(in, "destinationCidrBlock")
	taken := slices.ContainsFunc(c.routes(table),
		func(r resource.PropertyMap) bool { return routeDestination(r) == destination })
	if taken && destination != "" {
		return "", nil, ec2Error("creating Route in Route Table ("+table.id+") with destination ("+destination+")",
			"CreateRoute", "RouteAlreadyExists",
			"The route identified by %s already exists.", destination)
	}
	if err := c.mayRoute(table.region, table.str("vpcId"), in); err != nil {
		return "", nil, err
	}
	return "r-" + table.id + randomHex(5), map[string]any{"state": "active", "origin": "CreateRoute"}, nil
}

func (c *Cloud) updateRoute(call *cloud.Call, it *item) error {
	table := c.get(it.region, "table", it.str("routeTableId"))
	if table == nil {
		return ec2Error("updating Route", "ReplaceRoute", "InvalidRouteTableID.NotFound",
			"The routeTable ID '%s' does not exist", it.str("routeTableId"))
	}
	return c.mayRoute(it.region, table.str("vpcId"), call.Inputs)
}

func routeDestination(r resource.PropertyMap) string {
	if s := cloud.Str(r, "destinationCidrBlock"); s != "" {
		return s
	}
	return cloud.Str(r, "cidrBlock")
}

// routes are a table's, inline and single ones; c.mu is held.
func (c *Cloud) routes(table *item) []resource.PropertyMap {
	list := cloud.Objs(table.in, "routes")
	for _, r := range c.all("route") {
		if r.str("routeTableId") == table.id {
			list = append(list, r.in)
		}
	}
	return list
}

// route is the most specific route of a table to an address, nil if there is none; c.mu is held.
func (c *Cloud) route(table *item, to netip.Addr) resource.PropertyMap {
	var best resource.PropertyMap
	bits := -1
	for _, r := range c.routes(table) {
		if p, ok := prefix(routeDestination(r)); ok && p.Contains(to) && p.Bits() > bits {
			best, bits = r, p.Bits()
		}
	}
	return best
}

// tableOf is the route table that a subnet goes by: its own, or its network's main one; c.mu is held.
func (c *Cloud) tableOf(subnet *item) *item {
	a := c.find("association", func(it *item) bool { return it.str("subnetId") == subnet.id })
	if a != nil {
		if t := c.get(subnet.region, "table", a.str("routeTableId")); t != nil {
			return t
		}
	}
	return c.mainTable(subnet.str("vpcId"))
}

func checkAssociation(call *cloud.Call) []cloud.Problem {
	if given(call.Inputs, "subnetId") == given(call.Inputs, "gatewayId") {
		return []cloud.Problem{cloud.Problemf("subnetId", "exactly one of `gateway_id,subnet_id` must be specified")}
	}
	return nil
}

func (c *Cloud) createAssociation(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating Route Table Association", "AssociateRouteTable"
	in, region := call.Inputs, region(call)
	table, subnet := c.get(region, "table", cloud.Str(in, "routeTableId")),
		c.get(region, "subnet", cloud.Str(in, "subnetId"))
	switch {
	case table == nil:
		return "", nil, ec2Error(doing, op, "InvalidRouteTableID.NotFound", "The routeTable ID '%s' does not exist",
			cloud.Str(in, "routeTableId"))
	case given(in, "gatewayId"):
		return "rtbassoc-0" + randomHex(8), nil, nil
	case subnet == nil:
		return "", nil, ec2Error(doing, op, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist",
			cloud.Str(in, "subnetId"))
	case subnet.str("vpcId") != table.str("vpcId"):
		return "", nil, ec2Error(doing, op, "InvalidParameterValue",
			"Route table %s and subnet %s belong to different networks", table.id, subnet.id)
	case c.find("association", func(it *item) bool { return it.str("subnetId") == subnet.id }) != nil:
		return "", nil, ec2Error(doing, op, "Resource.AlreadyAssociated",
			"the specified association for route table %s conflicts with an existing association", table.id)
	}
	return "rtbassoc-0" + randomHex(8), nil, nil
}

func (c *Cloud) updateAssociation(call *cloud.Call, it *item) error {
	if id := cloud.Str(call.Inputs, "routeTableId"); c.get(it.region, "table", id) == nil {
		return ec2Error("updating Route Table Association ("+it.id+")", "ReplaceRouteTableAssociation",
			"InvalidRouteTableID.NotFound",
			"The routeTable ID '%s' does not exist", id)
	}
	return nil
}

func checkEip(call *cloud.Call) []cloud.Problem {
	return slices.Concat(conflict(call.Inputs, "instance", "networkInterface"),
		oneOf(call.Inputs, "domain", "vpc", "standard"))
}

func (c *Cloud) createEip(call *cloud.Call) (string, map[string]any, error) {
	c.seq++
	id, ip := newID("eipalloc"), publicAddress(c.seq)
	if instance := cloud.Str(call.Inputs, "instance"); instance != "" {
		if err := c.mapPublic(region(call), instance, ip.String()); err != nil {
			return "", nil, err
		}
	}
	return id, map[string]any{
		"arn": c.arn("ec2", region(call), "elastic-ip/"+id), "allocationId": id, "publicIp": ip.String(),
		"domain": "vpc",
		"publicDns": "ec2-" + strings.ReplaceAll(ip.String(), ".", "-") + "." + region(call) +
			".compute.amazonaws.com",
		"publicIpv4Pool": "amazon", "networkBorderGroup": region(call),
	}, nil
}

// publicAddress is one of the addresses that are for documentation and testing, never of the real internet.
func publicAddress(n int) netip.Addr {
	return netip.AddrFrom4([4]byte{198, 18 + byte(n>>16&1), byte(n >> 8), byte(n)})
}

// mapPublic gives an instance a public address, or with an empty one takes it; c.mu is held.
func (c *Cloud) mapPublic(region, instance, address string) error {
	const doing, op = "associating EC2 EIP", "AssociateAddress"
	it := c.get(region, "instance", instance)
	if it == nil || it.extra.(*machine).terminated {
		return ec2Error(doing, op, "InvalidInstanceID.NotFound", "The instance ID '%s' does not exist", instance)
	}
	for _, e := range c.enis(instance) {
		if address != "" && c.find("igw", func(o *item) bool { return o.str("vpcId") == e.vpc }) == nil {
			return ec2Error(doing, op, "Gateway.NotAttached", "Network %s is not attached to any internet gateway",
				e.vpc)
		}
		e.public = address != ""
	}
	it.out["publicIp"] = resource.NewStringProperty(address)
	return nil
}

func checkEipAssociation(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	if given(in, "allocationId") == given(in, "publicIp") {
		return []cloud.Problem{cloud.Problemf("allocationId",
			"exactly one of `allocation_id,public_ip` must be specified")}
	}
	return conflict(in, "instanceId", "networkInterfaceId")
}

func (c *Cloud) createEipAssociation(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating EC2 EIP Association", "AssociateAddress"
	in := call.Inputs
	eip := c.find("eip", func(it *item) bool {
		return it.region == region(call) && (it.id == cloud.Str(in, "allocationId") ||
			it.str("publicIp") == cloud.Str(in, "publicIp"))
	})
	if eip == nil {
		return "", nil, ec2Error(doing, op, "InvalidAllocationID.NotFound", "The allocation ID '%s' does not exist",
			cloud.Str(in, "allocationId"))
	}
	if user := c.eipUser(eip.id); user != "" {
		return "", nil, ec2Error(doing, op, "Resource.AlreadyAssociated",
			"resource %s is already associated with %s", eip.id, user)
	}
	if c.find("eipassociation", func(it *item) bool { return it.str("allocationId") == eip.id }) != nil &&
		given(in, "allowReassociation") && !cloud.Bool(in, "allowReassociation", true) {
		return "", nil, ec2Error(doing, op, "Resource.AlreadyAssociated", "resource %s is already associated", eip.id)
	}
	if err := c.mapPublic(eip.region, cloud.Str(in, "instanceId"), eip.str("publicIp")); err != nil {
		return "", nil, err
	}
	return newID("eipassoc"), map[string]any{"allocationId": eip.id, "publicIp": eip.str("publicIp")}, nil
}

func (c *Cloud) removeEipAssociation(_ *cloud.Call, it *item) error {
	_ = c.mapPublic(it.region, it.str("instanceId"), "") // an instance that is gone has no address to lose
	return nil
}

func (c *Cloud) updateEip(call *cloud.Call, it *item) error {
	if !changed(call, "instance") {
		return nil
	}
	if old := cloud.Str(it.in, "instance"); old != "" {
		_ = c.mapPublic(it.region, old, "") // an instance that is gone has no address to lose
	}
	if id := cloud.Str(call.Inputs, "instance"); id != "" {
		return c.mapPublic(it.region, id, it.str("publicIp"))
	}
	return nil
}

func (c *Cloud) removeEip(_ *cloud.Call, it *item) error {
	if held := c.eipUser(it.id); held != "" {
		return apiError("deleting EC2 EIP ("+it.id+")", "EC2", "DisassociateAddress", 400, "AuthFailure",
			"You do not have permission to access the specified resource. (%s uses it)", held)
	}
	if a := c.find("eipassociation", func(o *item) bool { return o.str("allocationId") == it.id }); a != nil {
		return ec2Error("deleting EC2 EIP ("+it.id+")", "ReleaseAddress", "InvalidIPAddress.InUse",
			"Address %s is in use. (%s)", it.str("publicIp"), a.id)
	}
	if id := cloud.Str(it.in, "instance"); id != "" {
		_ = c.mapPublic(it.region, id, "") // an instance that is gone has no address to lose
	}
	return nil
}

// eipUser is the gateway or balancer that has the address for good; c.mu is held.
func (c *Cloud) eipUser(id string) string {
	for _, kind := range []string{"nat", "balancer"} {
		user := c.find(kind, func(it *item) bool {
			uses := it.str("allocationId") == id
			for _, m := range cloud.Objs(it.in, "subnetMappings") {
				uses = uses || cloud.Str(m, "allocationId") == id
			}
			return uses
		})
		if user != nil {
			return user.id
		}
	}
	return ""
}

func checkNat(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := oneOf(in, "connectivityType", "public", "private")
	private := cloud.Str(in, "connectivityType") == "private"
	if private && given(in, "allocationId") {
		problems = append(problems, cloud.Problemf("allocationId",
			"`allocation_id` is not supported with connectivity_type = \"private\""))
	}
	return problems
}

func (c *Cloud) createNat(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating EC2 NAT Gateway", "CreateNatGateway"
	in, region := call.Inputs, region(call)
	subnet := c.get(region, "subnet", cloud.Str(in, "subnetId"))
	if subnet == nil {
		return "", nil, ec2Error(doing, op, "InvalidSubnetID.NotFound", "The subnet ID '%s' does not exist",
			cloud.Str(in, "subnetId"))
	}
	id, public := newID("nat"), ""
	if cloud.Str(in, "connectivityType") != "private" {
		allocation := cloud.Str(in, "allocationId")
		eip := c.get(region, "eip", allocation)
		switch {
		case allocation == "":
			return "", nil, ec2Error(doing, op, "MissingParameter",
				"The request must include the AllocationId parameter. Add the required parameter and retry the "+
					"request.")
		case eip == nil:
			return "", nil, ec2Error(doing, op, "InvalidAllocationID.NotFound",
				"Elastic IP address could not be found")
		case c.eipUser(allocation) != "":
			return "", nil, ec2Error(doing, op, "Resource.AlreadyAssociated",
				"resource %s is already associated with network-interface of %s", allocation, c.eipUser(allocation))
		case c.find("igw", func(it *item) bool { return it.str("vpcId") == subnet.str("vpcId") }) == nil:
			return "", nil, fmt.Errorf("waiting for EC2 NAT Gateway (%s) create: unexpected state 'failed', wanted "+
				"target 'available'. last error: Gateway.NotAttached: Network %s has no Internet gateway attached",
				id, subnet.str("vpcId"))
		}
		public = eip.str("publicIp")
	}
	e, code, err := c.reserve(subnet, cloud.Str(in, "privateIp"), id, nil)
	if err != nil {
		return "", nil, ec2Error(doing, op, code, "%s", err)
	}
	e.extra.(*eni).public = public != ""
	e.extra.(*eni).groups = nil // a gateway has no security group
	return id, map[string]any{
		"publicIp": public, "privateIp": e.extra.(*eni).address.String(), "networkInterfaceId": e.id,
		"associationId": newID("eipassoc"), "connectivityType": "public",
	}, nil
}

func (c *Cloud) removeNat(_ *cloud.Call, it *item) error {
	c.release(it.id)
	return nil
}
