package awscloud

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

// service is one of AWS's own that machines call.
type service struct {
	name string // as in com.amazonaws.REGION.NAME and NAME.REGION.amazonaws.com
	// address stands for the service's public addresses: what matters is that it is none of the network's.
	address netip.Addr
}

func s3Service() service {
	return service{"s3", netip.AddrFrom4([4]byte{52, 219, 170, 2})}
}

// called are the services that answer, gateway and interface endpoints or not.
func called() []service {
	return []service{s3Service(), {"secretsmanager", netip.AddrFrom4([4]byte{52, 94, 140, 3})},
		{"monitoring", netip.AddrFrom4([4]byte{52, 94, 140, 4})}}
}

// interfaceServices are those that an interface endpoint can be made for.
func interfaceServices() []string {
	return []string{"s3", "secretsmanager", "monitoring", "ssm", "ssmmessages", "ec2messages", "ec2", "sts", "logs",
		"kms"}
}

// s3PrefixList is the list of S3's address ranges that rules may name.
func s3PrefixList(region string) string { return "pl-" + (image{name: "s3"}).id(region)[5:13] }

func (c *Cloud) endpointKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{"aws:ec2/vpcEndpoint:VpcEndpoint": c.kindOf(books{
		kind: "endpoint", check: checkEndpoint, create: c.createEndpoint, update: c.updateEndpoint, after: c.refilter,
		remove:  func(_ *cloud.Call, it *item) error { c.release(it.id); return nil },
		replace: []string{"serviceName", "serviceRegion", "vpcEndpointType", "vpcId"},
	})}
}

func checkEndpoint(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(checkJSON(in, "policy"),
		oneOf(in, "vpcEndpointType", "Gateway", "GatewayLoadBalancer", "Interface", "Resource", "ServiceNetwork"),
		oneOf(in, "ipAddressType", "ipv4", "dualstack", "ipv6"))
	if !given(in, "serviceName") {
		problems = append(problems, cloud.Problemf("serviceName",
			"one of `service_name,resource_configuration_arn,service_network_arn` must be specified"))
	}
	return problems
}

func endpointType(in resource.PropertyMap) string {
	if t := cloud.Str(in, "vpcEndpointType"); t != "" {
		return t
	}
	return "Gateway"
}

func (c *Cloud) createEndpoint(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating EC2 VPC Endpoint", "CreateVpcEndpoint"
	in, region := call.Inputs, region(call)
	vpc, name := c.get(region, "vpc", cloud.Str(in, "vpcId")), cloud.Str(in, "serviceName")
	if vpc == nil {
		return "", nil, ec2Error(doing, op, "InvalidVpcId.NotFound", "The Vpc Id %s does not exist",
			cloud.Str(in, "vpcId"))
	}
	id := newID("vpce")
	short := strings.TrimPrefix(name, "com.amazonaws."+region+".")
	known := interfaceServices()
	if endpointType(in) == "Gateway" {
		known = []string{"s3", "dynamodb"}
	}
	if !slices.Contains(known, short) || short == name {
		return "", nil, ec2Error(doing+" ("+name+")", op, "InvalidServiceName",
			"The Vpc Endpoint Service '%s' does not exist (as a service of type %s in %s)", name, endpointType(in),
			region)
	}
	out := map[string]any{
		"arn": c.arn("ec2", region, "vpc-endpoint/"+id), "ownerId": c.account, "state": "available",
		"requesterManaged": false,
		"vpcEndpointType":  endpointType(in), "privateDnsEnabled": cloud.Bool(in, "privateDnsEnabled", false),
	}
	if endpointType(in) == "Gateway" {
		out["prefixListId"] = s3PrefixList(region)
		return id, out, c.mayGateway(in, vpc, "", doing, op)
	}
	interfaces, err := c.placeEndpoint(in, vpc, id, doing, op)
	out["networkInterfaceIds"] = interfaces
	host := short + "." + region
	out["dnsEntries"] = []resource.PropertyValue{cloud.Value(map[string]any{"dnsName": id + "." + host +
		".vpce.amazonaws.com", "hostedZoneId": "Z" + strings.ToUpper(randomHex(6))})}
	return id, out, err
}

// mayGateway checks a gateway endpoint's route tables; c.mu is held.
func (c *Cloud) mayGateway(in resource.PropertyMap, vpc *item, self, doing, op string) error {
	for _, id := range cloud.Strs(in, "routeTableIds") {
		t := c.get(vpc.region, "table", id)
		if t == nil || t.str("vpcId") != vpc.id {
			return ec2Error(doing, op, "InvalidRouteTableId.NotFound", "The route table %s does not exist in %s",
				id, vpc.id)
		}
		other := c.find("endpoint", func(o *item) bool {
			return o.id != self && o.str("serviceName") == cloud.Str(in, "serviceName") &&
				slices.Contains(cloud.Strs(o.in, "routeTableIds"), id)
		})
		if other != nil {
			return ec2Error(doing, op, "RouteAlreadyExists",
				"route table %s already has a route with destination-prefix-list-id %s", id, s3PrefixList(vpc.region))
		}
	}
	return nil
}

// placeEndpoint takes an address for an interface endpoint in each of its subnets; c.mu is held.
func (c *Cloud) placeEndpoint(in resource.PropertyMap, vpc *item, id, doing, op string) (ids []string, err error) {
	if cloud.Bool(in, "privateDnsEnabled", false) {
		if !c.hasNames(vpc) {
			return nil, ec2Error(doing, op, "InvalidParameter",
				"Enabling private DNS requires both enableDnsSupport and enableDnsHostnames VPC attributes set to "+
					"true for %s", vpc.id)
		}
		other := c.find("endpoint", func(o *item) bool {
			return o.id != id && o.str("vpcId") == vpc.id && o.str("serviceName") == cloud.Str(in, "serviceName") &&
				cloud.Bool(o.in, "privateDnsEnabled", false)
		})
		if other != nil {
			return nil, ec2Error(doing, op, "InvalidParameter",
				"private-dns-enabled cannot be set because there is already a conflicting DNS domain for %s in the "+
					"VPC %s",
				cloud.Str(in, "serviceName"), vpc.id)
		}
	}
	wanted := map[string]string{}
	for _, s := range cloud.Objs(in, "subnetConfigurations") {
		wanted[cloud.Str(s, "subnetId")] = cloud.Str(s, "ipv4")
	}
	var inZones []string
	var made []*item
	defer func() {
		if err != nil {
			for _, it := range made {
				delete(c.items, key{"eni", it.id})
			}
		}
	}()
	for _, s := range cloud.Strs(in, "subnetIds") {
		subnet := c.get(vpc.region, "subnet", s)
		if subnet == nil || subnet.str("vpcId") != vpc.id {
			return nil, ec2Error(doing, op, "InvalidSubnetId.NotFound", "The subnet ID '%s' does not exist", s)
		}
		zone := subnet.str("availabilityZone")
		if slices.Contains(inZones, zone) {
			return nil, ec2Error(doing, op, "DuplicateSubnetsInSameZone",
				"Found another VPC endpoint subnet in the availability zone of %s", s)
		}
		inZones = append(inZones, zone)
		groups := cloud.Strs(in, "securityGroupIds")
		if err := c.mayGroups(doing, op, subnet, groups); err != nil {
			return nil, err
		}
		it, code, err := c.reserve(subnet, wanted[s], id, groups)
		if err != nil {
			return nil, ec2Error(doing, op, code, "%s", err)
		}
		made = append(made, it)
		ids = append(ids, it.id)
	}
	for s := range wanted {
		if !slices.Contains(cloud.Strs(in, "subnetIds"), s) {
			return nil, ec2Error(doing, op, "InvalidParameter",
				"Subnet configuration for %s, which is none of the endpoint's subnets", s)
		}
	}
	return ids, nil
}

func (c *Cloud) updateEndpoint(call *cloud.Call, it *item) error {
	doing, op := "modifying EC2 VPC Endpoint ("+it.id+")", "ModifyVpcEndpoint"
	vpc := c.items[key{"vpc", it.str("vpcId")}]
	if endpointType(it.in) == "Gateway" {
		return c.mayGateway(call.Inputs, vpc, it.id, doing, op)
	}
	before := map[key]*item{}
	for _, e := range c.all("eni") {
		if e.extra.(*eni).owner == it.id {
			before[key{"eni", e.id}] = e
		}
	}
	c.release(it.id)
	ids, err := c.placeEndpoint(call.Inputs, vpc, it.id, doing, op)
	if err != nil {
		for k, e := range before {
			c.items[k] = e
		}
		return err
	}
	it.out["networkInterfaceIds"] = cloud.Value(ids)
	return nil
}

// hasNames reports whether a network resolves names and gives them; c.mu is held.
func (c *Cloud) hasNames(vpc *item) bool {
	return vpc.flag("enableDnsSupport") && vpc.flag("enableDnsHostnames")
}

// lets reports whether rules of a filter let a TCP connection to or from an address and port through.
func lets(rules []fabric.FilterRule, peer netip.Addr, port int) bool {
	return slices.ContainsFunc(rules, func(r fabric.FilterRule) bool {
		return (r.Protocol == "all" || r.Protocol == "tcp" && r.FirstPort <= port && port <= r.LastPort) &&
			slices.ContainsFunc(r.Peers, func(p netip.Prefix) bool { return p.Contains(peer) })
	})
}

// reach finds the way from an instance to a service. Without one it says what is in the way; with an endpoint on it,
// that is returned, since its policy counts; c.mu is held.
func (c *Cloud) reach(instance *item, s service) (endpoint *item, obstacle string) {
	enis := c.enis(instance.id)
	subnet := c.items[key{"subnet", instance.str("subnetId")}]
	if len(enis) == 0 || subnet == nil {
		return nil, "the instance has no interface"
	}
	from := enis[0]
	egress := c.filter(from).Egress
	ofService := func(o *item, typ string) bool {
		return o.str("vpcId") == from.vpc && endpointType(o.in) == typ &&
			o.str("serviceName") == "com.amazonaws."+instance.region+"."+s.name
	}
	// With private DNS the service's name means the endpoint, whatever else there is.
	private := c.find("endpoint", func(o *item) bool {
		return ofService(o, "Interface") && cloud.Bool(o.in, "privateDnsEnabled", false)
	})
	if private != nil {
		return private, c.reachInterface(from, egress, private)
	}
	if !lets(egress, s.address, 443) {
		return nil, "no egress rule of its security groups lets TCP 443 to " + s.address.String() + " (" + s.name +
			") out"
	}
	table := c.tableOf(subnet)
	gateway := c.find("endpoint", func(o *item) bool {
		return ofService(o, "Gateway") && slices.Contains(cloud.Strs(o.in, "routeTableIds"), table.id)
	})
	if gateway != nil {
		return gateway, ""
	}
	return nil, c.reachPublic(from, table, s.address)
}

func (c *Cloud) reachInterface(from *eni, egress []fabric.FilterRule, endpoint *item) string {
	targets := c.enis(endpoint.id)
	if len(targets) == 0 {
		return endpoint.id + " is in no subnet"
	}
	for _, to := range targets { // the name stands for all of them, so all must answer
		switch {
		case !lets(egress, to.address, 443):
			return "no egress rule of its security groups lets TCP 443 to " + to.address.String() + " (" +
				endpoint.id + ") out"
		case !lets(c.filter(to).Ingress, from.address, 443):
			return "no ingress rule of the security groups of " + endpoint.id + " lets TCP 443 from " +
				from.address.String() + " in"
		}
	}
	return ""
}

// reachPublic follows the route to a public address.
func (c *Cloud) reachPublic(from *eni, table *item, to netip.Addr) string {
	r := c.route(table, to)
	switch {
	case r == nil:
		return "route table " + table.id + " has no route to " + to.String()
	case c.items[key{"igw", cloud.Str(r, "gatewayId")}] != nil:
		if !from.public {
			return "the route leads to an internet gateway, but the instance has no public address"
		}
		return ""
	case cloud.Str(r, "natGatewayId") != "":
		nat := c.items[key{"nat", cloud.Str(r, "natGatewayId")}]
		if nat == nil {
			return "the route to " + to.String() + " is a black hole: its NAT gateway is gone"
		}
		subnet := c.items[key{"subnet", nat.str("subnetId")}]
		out := c.route(c.tableOf(subnet), to)
		if nat.str("publicIp") == "" || out == nil || c.items[key{"igw", cloud.Str(out, "gatewayId")}] == nil {
			return nat.id + " has no way to the internet: its subnet has no route to an internet gateway, or it is " +
				"private"
		}
		return ""
	default:
		return "the route to " + to.String() + " leads to nothing that is there"
	}
}
