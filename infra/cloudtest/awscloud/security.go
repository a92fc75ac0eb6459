package awscloud

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

// Limits of a new account.
const (
	rulesPerGroup      = 60
	groupsPerInterface = 5
)

func (c *Cloud) securityKinds() map[string]*cloud.Kind {
	rule := func(kind string) *cloud.Kind {
		return c.kindOf(books{
			kind: kind, check: checkRule,
			create: func(call *cloud.Call) (string, map[string]any, error) { return c.createRule(kind, call) },
			update: func(call *cloud.Call, it *item) error { return c.mayRule(kind, call, it) },
			after:  c.refilter, replace: []string{"securityGroupId"},
		})
	}
	return map[string]*cloud.Kind{
		"aws:ec2/securityGroup:SecurityGroup": c.kindOf(books{
			kind: "group", check: checkGroup, create: c.createGroup, update: c.updateGroup, remove: c.removeGroup,
			after:   c.refilter,
			replace: []string{"name", "namePrefix", "description", "vpcId"},
			auto:    &cloud.AutoName{Property: "name", MaxLength: 255, Unless: []string{"namePrefix"}},
		}),
		"aws:ec2/defaultSecurityGroup:DefaultSecurityGroup": c.kindOf(books{
			kind: "defaultgroup", check: checkGroupRules, create: c.adoptGroup, after: c.refilter,
			replace: []string{"vpcId"},
			update:  func(call *cloud.Call, it *item) error { return c.inlineRules(call, it.id) },
		}),
		"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule": rule("ingress"),
		"aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule":   rule("egress"),
	}
}

func checkGroup(call *cloud.Call) []cloud.Problem {
	var problems []cloud.Problem
	if strings.HasPrefix(cloud.Str(call.Inputs, "name"), "sg-") {
		problems = append(problems, cloud.Problemf("name", "invalid value for name (cannot begin with sg-)"))
	}
	if d, ok := call.Inputs["description"]; !ok || d.IsNull() {
		call.Inputs["description"] = resource.NewStringProperty("Managed by Pulumi")
	} else if cloud.Known(call.Inputs, "description") {
		problems = append(problems, checkDescription(cloud.Str(call.Inputs, "description"))...)
	}
	problems = append(problems, checkPrefix(call.Inputs, "namePrefix", 255)...)
	return append(problems, checkGroupRules(call)...)
}

// checkGroupRules holds a group's inline rules against what the provider accepts.
func checkGroupRules(call *cloud.Call) []cloud.Problem {
	var problems []cloud.Problem
	for _, side := range []string{"ingress", "egress"} {
		for i, r := range cloud.Objs(call.Inputs, side) {
			at := fmt.Sprintf("%s[%d]", side, i)
			for j, cidr := range cloud.Strs(r, "cidrBlocks") {
				if p, ok := prefix(cidr); !ok || p != p.Masked() {
					problems = append(problems, cloud.Problemf(fmt.Sprintf("%s.cidrBlocks[%d]", at, j),
						"%q is not a valid IPv4 CIDR block", cidr))
				}
			}
			if cloud.Str(r, "protocol") == "-1" && (cloud.Int(r, "fromPort") != 0 || cloud.Int(r, "toPort") != 0) {
				problems = append(problems, cloud.Problemf(at+".fromPort",
					"from_port (%d) and to_port (%d) must both be 0 to use the 'ALL' \"-1\" protocol!",
					cloud.Int(r, "fromPort"), cloud.Int(r, "toPort")))
			}
		}
	}
	return problems
}

// checkDescription holds a text against what EC2 accepts of descriptions.
func checkDescription(text string) []cloud.Problem {
	if len(text) > 255 {
		return []cloud.Problem{cloud.Problemf("description",
			"expected length of description to be in the range (0 - 255), got %q", text)}
	}
	for _, r := range text {
		if !(r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' ||
			strings.ContainsRune(" ._-:/()#,@[]+=&;{}!$*", r)) {
			return []cloud.Problem{cloud.Problemf("description",
				"invalid value for description (doesn't comply with restrictions "+
					`("^[0-9A-Za-z_ .:/()#,@\\[\\]+=&;\\{\\}!$*-]*$")): %q`, text)}
		}
	}
	return nil
}

func (c *Cloud) createGroup(call *cloud.Call) (string, map[string]any, error) {
	const doing, op = "creating Security Group", "CreateSecurityGroup"
	in, region := call.Inputs, region(call)
	vpc := cloud.Str(in, "vpcId")
	if vpc == "" {
		return "", nil, ec2Error(doing, op, "VPCIdNotSpecified", "No default VPC for this user")
	}
	if c.get(region, "vpc", vpc) == nil {
		return "", nil, ec2Error(doing, op, "InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	name := cloud.Str(in, "name")
	if p := cloud.Str(in, "namePrefix"); p != "" {
		name = p + uniqueSuffix()
	}
	if c.find("group", func(it *item) bool { return it.str("vpcId") == vpc && it.str("name") == name }) != nil {
		return "", nil, ec2Error(doing+" ("+name+")", op, "InvalidGroup.Duplicate",
			"The security group '%s' already exists for VPC '%s'", name, vpc)
	}
	id := newID("sg")
	if err := c.inlineRules(call, id); err != nil {
		return "", nil, err
	}
	return id, map[string]any{"arn": c.arn("ec2", region, "security-group/"+id), "ownerId": c.account,
		"name": name}, nil
}

// adoptGroup takes a network's default group into Pulumi's hands. The group then has the rules that the program
// gives, and without any lets nothing through; deleting the resource leaves the group as it is.
func (c *Cloud) adoptGroup(call *cloud.Call) (string, map[string]any, error) {
	vpc := cloud.Str(call.Inputs, "vpcId")
	if c.get(region(call), "vpc", vpc) == nil {
		return "", nil, ec2Error("reading EC2 Default Security Group", "DescribeSecurityGroups",
			"InvalidVpcID.NotFound", "The vpc ID '%s' does not exist", vpc)
	}
	g := c.defaultGroup(vpc)
	g.extra = implicit{adopted: true}
	return g.id, map[string]any{
		"arn": c.arn("ec2", region(call), "security-group/"+g.id), "ownerId": c.account, "name": "default",
		"description": "default VPC security group",
	}, c.inlineRules(call, g.id)
}

// inlineRules checks what the group's own rules name; c.mu is held.
func (c *Cloud) inlineRules(call *cloud.Call, group string) error {
	for _, side := range []string{"ingress", "egress"} {
		for _, r := range cloud.Objs(call.Inputs, side) {
			for _, source := range cloud.Strs(r, "securityGroups") {
				if source != group && c.get(region(call), "group", source) == nil {
					return ec2Error("authorizing Security Group ("+group+") "+side+" rules",
						"AuthorizeSecurityGroup", "InvalidGroup.NotFound",
						"The security group '%s' does not exist", source)
				}
			}
		}
	}
	return nil
}

// updateGroup makes inline rules the only ones, as the provider does: single rules of the same side go.
func (c *Cloud) updateGroup(call *cloud.Call, it *item) error {
	if err := c.inlineRules(call, it.id); err != nil {
		return err
	}
	for _, side := range []string{"ingress", "egress"} {
		if !changed(call, side) {
			continue
		}
		for _, r := range c.all(side) {
			if r.str("securityGroupId") == it.id {
				delete(c.items, key{side, r.id})
			}
		}
	}
	return nil
}

func (c *Cloud) removeGroup(_ *cloud.Call, it *item) error {
	doing := "deleting Security Group (" + it.id + ")"
	used := func(by string) error {
		return ec2Error(doing, "DeleteSecurityGroup", "DependencyViolation",
			"resource %s has a dependent object (%s)", it.id, by)
	}
	for _, o := range c.all("eni") {
		if e := o.extra.(*eni); slices.Contains(e.groups, it.id) {
			return used(o.id + " of " + e.owner)
		}
	}
	for _, side := range []string{"ingress", "egress"} {
		for _, r := range c.all(side) {
			if r.str("securityGroupId") != it.id && r.str("referencedSecurityGroupId") == it.id {
				return used("rule " + r.id + " of " + r.str("securityGroupId"))
			}
		}
		for _, g := range c.all("group") {
			for _, r := range cloud.Objs(g.in, side) {
				if g.id != it.id && slices.Contains(cloud.Strs(r, "securityGroups"), it.id) {
					return used("a rule of " + g.id)
				}
			}
		}
	}
	for _, side := range []string{"ingress", "egress"} {
		for _, r := range c.all(side) {
			if r.str("securityGroupId") == it.id {
				delete(c.items, key{side, r.id})
			}
		}
	}
	return nil
}

func peerInputs() []string {
	return []string{"cidrIpv4", "cidrIpv6", "prefixListId", "referencedSecurityGroupId"}
}

func checkRule(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := checkCIDR(in, "cidrIpv4", 0, 32)
	n := 0
	for _, p := range peerInputs() {
		if given(in, p) {
			n++
		}
	}
	if n != 1 {
		problems = append(problems, cloud.Problemf("cidrIpv4", "exactly one of %s must be given, have %d",
			strings.Join(peerInputs(), ", "), n))
	}
	if cloud.Known(in, "description") {
		problems = append(problems, checkDescription(cloud.Str(in, "description"))...)
	}
	low := 0
	if strings.HasPrefix(protocolName(cloud.Str(in, "ipProtocol")), "icmp") {
		low = -1
	}
	problems = slices.Concat(problems, between(in, "fromPort", low, 65535), between(in, "toPort", low, 65535))
	if p := cloud.Str(in, "ipProtocol"); p != "" &&
		!slices.Contains([]string{"tcp", "udp", "icmp", "icmpv6", "all"}, protocolName(p)) {
		problems = append(problems, cloud.Problemf("ipProtocol", "unknown protocol %q", p))
	}
	return problems
}

// protocolName is tcp, udp, icmp or all; numbers count as their protocol.
func protocolName(s string) string {
	switch s {
	case "-1", "all":
		return "all"
	case "6":
		return "tcp"
	case "17":
		return "udp"
	case "1":
		return "icmp"
	case "58":
		return "icmpv6"
	default:
		return strings.ToLower(s)
	}
}

func (c *Cloud) createRule(side string, call *cloud.Call) (string, map[string]any, error) {
	if err := c.mayRule(side, call, nil); err != nil {
		return "", nil, err
	}
	id := newID("sgr")
	return id, map[string]any{"arn": c.arn("ec2", region(call), "security-group-rule/"+id),
		"securityGroupRuleId": id}, nil
}

// mayRule checks a new rule, or a change of self; c.mu is held.
func (c *Cloud) mayRule(side string, call *cloud.Call, self *item) error {
	title := strings.ToUpper(side[:1]) + side[1:]
	doing, op := "creating VPC Security Group "+title+" Rule", "AuthorizeSecurityGroup"+title
	in, region := call.Inputs, region(call)
	group := c.get(region, "group", cloud.Str(in, "securityGroupId"))
	if group == nil {
		return ec2Error(doing, op, "InvalidGroup.NotFound", "The security group '%s' does not exist",
			cloud.Str(in, "securityGroupId"))
	}
	if id := cloud.Str(in, "referencedSecurityGroupId"); id != "" {
		other := c.get(region, "group", id)
		if other == nil {
			return ec2Error(doing, op, "InvalidGroup.NotFound", "The security group '%s' does not exist", id)
		}
		if other.str("vpcId") != group.str("vpcId") {
			return ec2Error(doing, op, "InvalidGroup.NotFound",
				"You have specified two resources that belong to different networks.")
		}
	}
	if id := cloud.Str(in, "prefixListId"); id != "" && id != s3PrefixList(region) {
		return ec2Error(doing, op, "InvalidPrefixListID.NotFound", "The prefix list ID '%s' does not exist", id)
	}
	p := protocolName(cloud.Str(in, "ipProtocol"))
	if (p == "tcp" || p == "udp") && (!given(in, "fromPort") || !given(in, "toPort") ||
		cloud.Int(in, "fromPort") > cloud.Int(in, "toPort")) {
		return ec2Error(doing, op, "InvalidParameterValue",
			"Invalid value for portRange. Must specify both from and to ports with TCP/UDP.")
	}
	count := 0
	for _, r := range c.all(side) {
		if r == self || r.str("securityGroupId") != group.id {
			continue
		}
		count++
		if ruleKey(r.in) == ruleKey(in) {
			return ec2Error(doing, op, "InvalidPermission.Duplicate",
				"the specified rule \"peer: %s, %s, from port: %d, to port: %d, ALLOW\" already exists",
				rulePeer(in), strings.ToUpper(p), cloud.Int(in, "fromPort"), cloud.Int(in, "toPort"))
		}
	}
	if count >= rulesPerGroup {
		return ec2Error(doing, op, "RulesPerSecurityGroupLimitExceeded",
			"The maximum number of rules per security group has been reached.")
	}
	return nil
}

func rulePeer(in resource.PropertyMap) string {
	for _, p := range peerInputs() {
		if s := cloud.Str(in, p); s != "" {
			return s
		}
	}
	return ""
}

func ruleKey(in resource.PropertyMap) string {
	return fmt.Sprint(rulePeer(in), protocolName(cloud.Str(in, "ipProtocol")), cloud.Int(in, "fromPort"),
		cloud.Int(in, "toPort"))
}

// rules are what a group lets through on one side, in the packet filter's form; c.mu is held.
func (c *Cloud) rules(group *item, side string) []fabric.FilterRule {
	if adopted := c.items[key{"defaultgroup", group.id}]; adopted != nil {
		group = adopted
	} else if i, is := group.extra.(implicit); is && i.adopted {
		return nil
	} else if is { // the default group: its own members in, everything out
		peers := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0")}
		if side == "ingress" {
			peers = c.members(group.id)
		}
		return []fabric.FilterRule{{Name: group.id + "-default-" + side, Protocol: "all", Peers: peers}}
	}
	var out []fabric.FilterRule
	for i, r := range cloud.Objs(group.in, side) {
		f := fabric.FilterRule{
			Name: fmt.Sprintf("%s-%s-%d", group.name, side, i), Protocol: protocolName(cloud.Str(r, "protocol")),
			FirstPort: cloud.Int(r, "fromPort"), LastPort: cloud.Int(r, "toPort"),
		}
		for _, cidr := range cloud.Strs(r, "cidrBlocks") {
			if p, ok := prefix(cidr); ok {
				f.Peers = append(f.Peers, p)
			}
		}
		for _, id := range cloud.Strs(r, "securityGroups") {
			f.Peers = append(f.Peers, c.members(id)...)
		}
		if cloud.Bool(r, "self", false) {
			f.Peers = append(f.Peers, c.members(group.id)...)
		}
		out = append(out, f)
	}
	for _, r := range c.all(side) {
		if r.str("securityGroupId") != group.id {
			continue
		}
		f := fabric.FilterRule{
			Name: r.name, Protocol: protocolName(cloud.Str(r.in, "ipProtocol")),
			FirstPort: cloud.Int(r.in, "fromPort"), LastPort: cloud.Int(r.in, "toPort"),
		}
		if p, ok := prefix(cloud.Str(r.in, "cidrIpv4")); ok {
			f.Peers = append(f.Peers, p)
		}
		if cloud.Str(r.in, "prefixListId") == s3PrefixList(group.region) {
			f.Peers = append(f.Peers, netip.PrefixFrom(s3Service().address, 16).Masked())
		}
		if id := cloud.Str(r.in, "referencedSecurityGroupId"); id != "" {
			f.Peers = append(f.Peers, c.members(id)...)
		}
		out = append(out, f)
	}
	return out
}

// members are the addresses that a group stands for as a source; c.mu is held.
func (c *Cloud) members(group string) []netip.Prefix {
	var list []netip.Prefix
	for _, it := range c.all("eni") {
		if e := it.extra.(*eni); slices.Contains(e.groups, group) {
			list = append(list, netip.PrefixFrom(e.address, 32))
		}
	}
	slices.SortFunc(list, func(a, b netip.Prefix) int { return cmp.Compare(a.String(), b.String()) })
	return list
}

// filter is what an interface's groups let through together; c.mu is held. Rules without peers, such as those from an
// empty group, let nothing through and are left out, and so is IPv6.
func (c *Cloud) filter(e *eni) fabric.Filter {
	side := func(name string) []fabric.FilterRule {
		var out []fabric.FilterRule
		for _, id := range e.groups {
			if g := c.items[key{"group", id}]; g != nil {
				out = append(out, c.rules(g, name)...)
			}
		}
		return slices.DeleteFunc(out, func(r fabric.FilterRule) bool {
			return len(r.Peers) == 0 ||
				r.Protocol == "icmpv6"
		})
	}
	return fabric.Filter{Ingress: side("ingress"), Egress: side("egress")}
}

// refilter brings every machine's packet filter up to date.
func (c *Cloud) refilter(call *cloud.Call) error { return c.setFilters(call.Ctx) }

// setFilters computes and sets all filters. It holds its own lock over both, so that of two changes at once the later
// one's view, which has both, is the one that stays.
func (c *Cloud) setFilters(ctx context.Context) error {
	c.filters.Lock()
	defer c.filters.Unlock()
	c.mu.Lock()
	filters := map[string]fabric.Filter{}
	for _, it := range c.all("instance") {
		if m := it.extra.(*machine); m.booted && !m.terminated {
			for _, e := range c.enis(it.id) {
				filters[it.id] = c.filter(e)
			}
		}
	}
	c.mu.Unlock()
	for id, f := range filters {
		if err := c.compute.SetFilter(ctx, id, f); err != nil && c.isUp(id) {
			return fmt.Errorf("set the packet filter of %s: %w", id, err)
		}
	}
	return nil
}

// isUp reports whether the instance is still there: it may go while a filter is on its way.
func (c *Cloud) isUp(id string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	it := c.items[key{"instance", id}]
	return it != nil && !it.extra.(*machine).terminated
}
