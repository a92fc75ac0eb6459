package awscloud

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) balancerKinds() map[string]*cloud.Kind {
	named := &cloud.AutoName{Property: "name", MaxLength: 32, Unless: []string{"namePrefix"}}
	return map[string]*cloud.Kind{
		"aws:lb/loadBalancer:LoadBalancer": c.kindOf(books{
			kind: "balancer", check: checkBalancer, create: c.createBalancer, update: c.updateBalancer,
			remove: c.removeBalancer, auto: named,
			replace: []string{"name", "namePrefix", "internal", "loadBalancerType", "customerOwnedIpv4Pool",
				"subnetMappings.privateIpv4Address",
				"subnetMappings.allocationId", "subnetMappings.ipv6Address"},
			replaceIf: replaceBalancer,
		}),
		"aws:lb/targetGroup:TargetGroup": c.kindOf(books{
			kind: "target", check: checkTargetGroup, create: c.createTargetGroup, remove: c.removeTargetGroup,
			auto: named,
			replace: []string{"name", "namePrefix", "port", "protocol", "protocolVersion", "targetType", "vpcId",
				"ipAddressType"},
		}),
		"aws:lb/targetGroupAttachment:TargetGroupAttachment": c.kindOf(books{
			kind: "registration", create: c.createRegistration,
			replace: []string{"targetGroupArn", "targetId", "port", "availabilityZone"},
		}),
		"aws:lb/listener:Listener": c.kindOf(books{
			kind: "listener", check: checkListener, create: c.createListener, update: c.updateListener,
			replace: []string{"loadBalancerArn"},
		}),
	}
}

func lbError(doing, op string, code, format string, args ...any) error {
	return apiError(doing, "Elastic Load Balancing v2", op, 400, code, format, args...)
}

// balancerName is what names of balancers and target groups look like.
var balancerName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9-]{0,30}[A-Za-z0-9])?$`)

func checkBalancerName(call *cloud.Call) []cloud.Problem {
	if found := checkPrefix(call.Inputs, "namePrefix", 32); found != nil {
		return found
	}
	n := cloud.Str(call.Inputs, "name")
	if cloud.Known(call.Inputs, "name") && (!balancerName.MatchString(n) || strings.HasPrefix(n, "internal-")) {
		return []cloud.Problem{cloud.Problemf("name",
			"%q must have at most 32 letters, digits and hyphens, and neither begin nor end with a hyphen nor begin "+
				"with internal-", n)}
	}
	return nil
}

func checkBalancer(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(checkBalancerName(call),
		oneOf(in, "loadBalancerType", "application", "gateway", "network"), conflict(in, "subnets", "subnetMappings"))
	if !given(in, "subnets") && !given(in, "subnetMappings") {
		problems = append(problems, cloud.Problemf("subnets", "one of `subnet_mapping,subnets` must be specified"))
	}
	for i, m := range cloud.Objs(in, "subnetMappings") {
		if a, err := netip.ParseAddr(cloud.Str(m, "privateIpv4Address")); cloud.Known(m, "privateIpv4Address") &&
			(err != nil || !a.Is4()) {
			problems = append(problems, cloud.Problemf(fmt.Sprintf("subnetMappings[%d].privateIpv4Address", i),
				"expected a valid IPv4 address, got: %s", cloud.Str(m, "privateIpv4Address")))
		}
	}
	return problems
}

func balancerType(call *cloud.Call) string {
	if t := cloud.Str(call.Inputs, "loadBalancerType"); t != "" {
		return t
	}
	return "application"
}

// replaceBalancer says which further changes replace: a network balancer neither loses subnets nor gets its first
// security group.
func replaceBalancer(call *cloud.Call, path string) bool {
	if balancerType(call) != "network" {
		return false
	}
	if path == "securityGroups" {
		return len(cloud.List(call.OldInputs, "securityGroups")) == 0 ||
			len(cloud.List(call.Inputs, "securityGroups")) == 0
	}
	if path != "subnets" && path != "subnetMappings.subnetId" {
		return false
	}
	have := cloud.Strs(call.Inputs, "subnets")
	for _, m := range cloud.Objs(call.Inputs, "subnetMappings") {
		have = append(have, cloud.Str(m, "subnetId"))
	}
	before := cloud.Strs(call.OldInputs, "subnets")
	for _, m := range cloud.Objs(call.OldInputs, "subnetMappings") {
		before = append(before, cloud.Str(m, "subnetId"))
	}
	return slices.ContainsFunc(before, func(s string) bool { return !slices.Contains(have, s) })
}

func (c *Cloud) createBalancer(call *cloud.Call) (string, map[string]any, error) {
	in, region := call.Inputs, region(call)
	name := iamName(in)
	doing := "creating ELBv2 " + balancerType(call) + " Load Balancer (" + name + ")"
	if c.find("balancer", func(it *item) bool { return it.region == region && it.str("name") == name }) != nil {
		return "", nil, lbError(doing, "CreateLoadBalancer", "DuplicateLoadBalancerName",
			"A load balancer with the same name '%s' exists, but with different settings", name)
	}
	short := map[string]string{"application": "app", "network": "net", "gateway": "gwy"}[balancerType(call)]
	suffix := short + "/" + name + "/" + randomHex(8)
	id := c.arn("elasticloadbalancing", region, "loadbalancer/"+suffix)
	vpc, err := c.placeBalancer(call, id, doing)
	if err != nil {
		c.release(id)
		return "", nil, err
	}
	host := name + "-" + randomHex(8)
	if cloud.Bool(in, "internal", false) {
		host = "internal-" + host
	}
	domain := host + "." + region + ".elb.amazonaws.com"
	if balancerType(call) == "network" {
		domain = strings.TrimPrefix(host, "internal-") + ".elb." + region + ".amazonaws.com"
	}
	return id, map[string]any{
		"arn": id, "arnSuffix": suffix, "name": name, "vpcId": vpc, "dnsName": domain, "zoneId": "Z" +
			strings.ToUpper(randomHex(6)), "internal": cloud.Bool(in, "internal", false),
	}, nil
}

// placeBalancer takes the balancer's addresses and returns its network; c.mu is held.
func (c *Cloud) placeBalancer(call *cloud.Call, id, doing string) (string, error) {
	in, region, op := call.Inputs, region(call), "CreateLoadBalancer"
	internal, vpc := cloud.Bool(in, "internal", false), ""
	mappings := cloud.Objs(in, "subnetMappings")
	for _, s := range cloud.Strs(in, "subnets") {
		mappings = append(mappings, cloud.Values(map[string]any{"subnetId": s}))
	}
	var inZones []string
	for _, m := range mappings {
		subnet := c.get(region, "subnet", cloud.Str(m, "subnetId"))
		if subnet == nil {
			return "", lbError(doing, op, "SubnetNotFound", "The subnet ID '%s' does not exist",
				cloud.Str(m, "subnetId"))
		}
		if vpc != "" && subnet.str("vpcId") != vpc {
			return "", lbError(doing, op, "InvalidConfigurationRequest", "The subnets are in different VPCs")
		}
		vpc = subnet.str("vpcId")
		zone := subnet.str("availabilityZone")
		if slices.Contains(inZones, zone) {
			return "", lbError(doing, op, "InvalidConfigurationRequest",
				"A load balancer cannot be attached to multiple subnets in the same Availability Zone")
		}
		inZones = append(inZones, zone)
		wanted := cloud.Str(m, "privateIpv4Address")
		if wanted != "" && (balancerType(call) != "network" || !internal) {
			return "", lbError(doing, op, "InvalidConfigurationRequest",
				"You can specify a private IPv4 address for internal network load balancers only")
		}
		groups := cloud.Strs(in, "securityGroups")
		if err := c.mayGroups(doing, op, subnet, groups); err != nil {
			return "", err
		}
		it, _, err := c.reserve(subnet, wanted, id, groups)
		if err != nil {
			return "", lbError(doing, op, "InvalidSubnet", "%s", err)
		}
		it.extra.(*eni).public = !internal
		if len(groups) == 0 && balancerType(call) == "network" {
			it.extra.(*eni).groups = nil
		}
	}
	switch {
	case balancerType(call) == "application" && len(inZones) < 2:
		return "", lbError(doing, op, "ValidationError",
			"At least two subnets in two different Availability Zones must be specified")
	case !internal && c.find("igw", func(it *item) bool { return it.str("vpcId") == vpc }) == nil:
		return "", lbError(doing, op, "InvalidSubnet", "VPC %s has no internet gateway", vpc)
	}
	return vpc, nil
}

// updateBalancer places it anew where its subnets or groups change.
func (c *Cloud) updateBalancer(call *cloud.Call, it *item) error {
	if !changed(call, "subnets", "subnetMappings", "securityGroups") {
		return nil
	}
	before := map[key]*item{}
	for _, e := range c.all("eni") {
		if e.extra.(*eni).owner == it.id {
			before[key{"eni", e.id}] = e
		}
	}
	c.release(it.id)
	if _, err := c.placeBalancer(call, it.id, "modifying ELBv2 Load Balancer ("+it.id+")"); err != nil {
		c.release(it.id)
		for k, e := range before {
			c.items[k] = e
		}
		return err
	}
	return nil
}

// removeBalancer takes its listeners along, as AWS does.
func (c *Cloud) removeBalancer(_ *cloud.Call, it *item) error {
	if cloud.Bool(it.in, "enableDeletionProtection", false) {
		return lbError("deleting ELBv2 Load Balancer ("+it.id+")", "DeleteLoadBalancer", "OperationNotPermitted",
			"Load balancer '%s' cannot be deleted because deletion protection is enabled", it.id)
	}
	for _, l := range c.all("listener") {
		if l.str("loadBalancerArn") == it.id {
			delete(c.items, key{"listener", l.id})
		}
	}
	c.release(it.id)
	return nil
}

func checkTargetGroup(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(checkBalancerName(call), between(in, "port", 1, 65535),
		oneOf(in, "targetType", "instance", "ip", "lambda", "alb"),
		oneOf(in, "protocol", "GENEVE", "HTTP", "HTTPS", "TCP", "TCP_UDP", "TLS", "UDP"),
		between(in, "deregistrationDelay", 0, 3600))
	if cloud.Str(in, "targetType") != "lambda" {
		for _, p := range []string{"port", "protocol", "vpcId"} {
			if !given(in, p) {
				problems = append(problems, cloud.Problemf(p,
					"attribute %q must be specified when \"target_type\" is %q", p, cloud.Str(in, "targetType")))
			}
		}
	}
	health := cloud.Obj(in, "healthCheck")
	for _, p := range slices.Concat(between(health, "interval", 5, 300), between(health, "timeout", 2, 120),
		between(health, "healthyThreshold", 2, 10),
		between(health, "unhealthyThreshold", 2, 10), oneOf(health, "protocol", "HTTP", "HTTPS", "TCP")) {
		p.Property = "healthCheck." + p.Property
		problems = append(problems, p)
	}
	if cloud.Str(health, "protocol") == "TCP" && (given(health, "path") || given(health, "matcher")) {
		problems = append(problems, cloud.Problemf("healthCheck.path",
			"attribute \"health_check.path\" cannot be specified when \"health_check.protocol\" is \"TCP\""))
	}
	return problems
}

func (c *Cloud) createTargetGroup(call *cloud.Call) (string, map[string]any, error) {
	in, region := call.Inputs, region(call)
	name := iamName(in)
	doing := "creating ELBv2 Target Group (" + name + ")"
	if vpc := cloud.Str(in, "vpcId"); vpc != "" && c.get(region, "vpc", vpc) == nil {
		return "", nil, lbError(doing, "CreateTargetGroup", "ValidationError", "The VPC ID '%s' is not found", vpc)
	}
	if c.find("target", func(it *item) bool { return it.region == region && it.str("name") == name }) != nil {
		return "", nil, lbError(doing, "CreateTargetGroup", "DuplicateTargetGroupName",
			"A target group with the same name '%s' exists, but with different settings", name)
	}
	suffix := "targetgroup/" + name + "/" + randomHex(8)
	id := c.arn("elasticloadbalancing", region, suffix)
	return id, map[string]any{"arn": id, "arnSuffix": suffix, "name": name, "targetType": "instance"}, nil
}

func (c *Cloud) removeTargetGroup(_ *cloud.Call, it *item) error {
	if c.find("listener", func(l *item) bool { return slices.Contains(forwards(l), it.id) }) != nil {
		return lbError("deleting ELBv2 Target Group ("+it.id+")", "DeleteTargetGroup", "ResourceInUse",
			"Target group '%s' is currently in use by a listener or a rule", it.id)
	}
	for _, r := range c.all("registration") {
		if r.str("targetGroupArn") == it.id {
			delete(c.items, key{"registration", r.id})
		}
	}
	return nil
}

// forwards are the target groups that a listener sends to.
func forwards(listener *item) []string {
	var arns []string
	for _, a := range cloud.Objs(listener.in, "defaultActions") {
		if arn := cloud.Str(a, "targetGroupArn"); arn != "" {
			arns = append(arns, arn)
		}
		for _, t := range cloud.Objs(cloud.Obj(a, "forward"), "targetGroups") {
			arns = append(arns, cloud.Str(t, "arn"))
		}
	}
	return arns
}

func (c *Cloud) createRegistration(call *cloud.Call) (string, map[string]any, error) {
	in, region, op := call.Inputs, region(call), "RegisterTargets"
	target := cloud.Str(in, "targetId")
	doing := "registering ELBv2 Target Group (" + cloud.Str(in, "targetGroupArn") + ") target"
	group := c.get(region, "target", cloud.Str(in, "targetGroupArn"))
	if group == nil {
		return "", nil, lbError(doing, op, "TargetGroupNotFound", "Target groups '%s' not found",
			cloud.Str(in, "targetGroupArn"))
	}
	vpc := c.items[key{"vpc", group.str("vpcId")}]
	switch group.str("targetType") {
	case "ip":
		a, err := netip.ParseAddr(target)
		whole, _ := prefix(vpc.str("cidrBlock"))
		if err != nil {
			return "", nil, lbError(doing, op, "ValidationError", "The IP address '%s' is not a valid IPv4 address",
				target)
		}
		if outside := cloud.Str(in, "availabilityZone") == "all"; whole.Contains(a) == outside || !a.IsPrivate() {
			return "", nil, lbError(doing, op, "ValidationError",
				"The IP address '%s' must be within the VPC's address range, or private and registered with the "+
					"availability zone \"all\"", target)
		}
	case "instance":
		it := c.get(region, "instance", target)
		if it == nil || it.extra.(*machine).terminated {
			return "", nil, lbError(doing, op, "InvalidTarget",
				"The following targets are not in a running state and cannot be registered: '%s'", target)
		}
		if n := c.networkOf(it); n == nil || n.id != vpc.id {
			return "", nil, lbError(doing, op, "InvalidTarget",
				"The following targets are not within the target group's VPC: '%s'", target)
		}
	}
	return group.id + "-" + randomHex(10), nil, nil
}

func checkListener(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(between(in, "port", 1, 65535),
		oneOf(in, "protocol", "HTTP", "HTTPS", "TCP", "TLS", "UDP", "TCP_UDP"))
	for i, a := range cloud.Objs(in, "defaultActions") {
		for _, p := range oneOf(a, "type", "forward", "redirect", "fixed-response", "authenticate-cognito",
			"authenticate-oidc") {
			p.Property = fmt.Sprintf("defaultActions[%d].%s", i, p.Property)
			problems = append(problems, p)
		}
		if cloud.Str(a, "type") == "forward" && !given(a, "targetGroupArn") && !given(a, "forward") {
			problems = append(problems, cloud.Problemf(fmt.Sprintf("defaultActions[%d].targetGroupArn", i),
				"either \"target_group_arn\" or \"forward\" must be specified when \"type\" is \"forward\""))
		}
	}
	return problems
}

func (c *Cloud) createListener(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating ELBv2 Listener", "CreateListener"
	in, region := call.Inputs, region(call)
	b := c.get(region, "balancer", cloud.Str(in, "loadBalancerArn"))
	if b == nil {
		return "", nil, lbError(doing, op, "LoadBalancerNotFound", "Load balancer '%s' not found",
			cloud.Str(in, "loadBalancerArn"))
	}
	port := cloud.Int(in, "port")
	if c.find("listener", func(l *item) bool {
		return l.str("loadBalancerArn") == b.id &&
			cloud.Int(l.in, "port") == port
	}) != nil {
		return "", nil, lbError(doing, op, "DuplicateListener",
			"A listener already exists on this port for this load balancer '%s'", b.id)
	}
	id := strings.Replace(b.id, ":loadbalancer/", ":listener/", 1) + "/" + randomHex(8)
	return id, map[string]any{"arn": id}, c.mayForward(call, b, doing, op)
}

func (c *Cloud) updateListener(call *cloud.Call, it *item) error {
	return c.mayForward(call, c.items[key{"balancer", it.str("loadBalancerArn")}],
		"modifying ELBv2 Listener ("+it.id+")", "ModifyListener")
}

// mayForward checks that a listener and its targets fit together; c.mu is held.
func (c *Cloud) mayForward(call *cloud.Call, b *item, doing, op string) error {
	network := b.str("loadBalancerType") == "network"
	protocol := cloud.Str(call.Inputs, "protocol")
	fits := map[bool][]string{true: {"TCP", "TLS", "UDP", "TCP_UDP"}, false: {"HTTP", "HTTPS"}}[network]
	if !slices.Contains(fits, protocol) {
		return lbError(doing, op, "UnsupportedProtocol",
			"Protocol '%s' is none of a load balancer of this type: %s", protocol, list(fits))
	}
	for _, arn := range forwards(&item{in: call.Inputs}) {
		t := c.get(b.region, "target", arn)
		switch {
		case t == nil:
			return lbError(doing, op, "TargetGroupNotFound", "Target groups '%s' not found", arn)
		case t.str("vpcId") != b.str("vpcId"):
			return lbError(doing, op, "InvalidConfigurationRequest",
				"The target group %s is in another VPC than the load balancer", arn)
		case !slices.Contains(fits, t.str("protocol")) || network && protocol != t.str("protocol") &&
			protocol != "TLS":
			return lbError(doing, op, "InvalidConfigurationRequest",
				"Listener protocol '%s' is not supported with a target group with the protocol '%s'", protocol,
				t.str("protocol"))
		}
	}
	return nil
}
