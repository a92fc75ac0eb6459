package azurecloud

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

// rule is one security rule, taken apart. Those of a group are in the order of their priorities: the first that matches
// decides.
type rule struct {
	name     string
	priority int
	inbound  bool
	allow    bool
	protocol string // tcp, udp, icmp, esp, ah or *
	ports    []span // of the destination
	from, to []string
}

// span is a range of ports, both ends included.
type span struct{ first, last int }

// every is all ports.
func every() []span { return []span{{0, 65535}} }

// The tags of Azure's default rules, in lower case.
const (
	tagAny      = "*"
	tagNetwork  = "virtualnetwork"
	tagInternet = "internet"
	tagBalancer = "azureloadbalancer"
)

// probeAddress is where probes of load balancers, name service and the platform itself are.
func probeAddress() netip.Addr { return netip.AddrFrom4([4]byte{168, 63, 129, 16}) }

// defaultRules are those that every group ends with.
func defaultRules() []rule {
	any := []string{"*"}
	return []rule{
		{"AllowVnetInBound", 65000, true, true, "*", every(), []string{"VirtualNetwork"}, []string{"VirtualNetwork"}},
		{"AllowAzureLoadBalancerInBound", 65001, true, true, "*", every(), []string{"AzureLoadBalancer"}, any},
		{"DenyAllInBound", 65500, true, false, "*", every(), any, any},
		{"AllowVnetOutBound", 65000, false, true, "*", every(), []string{"VirtualNetwork"}, []string{"VirtualNetwork"}},
		{"AllowInternetOutBound", 65001, false, true, "*", every(), any, []string{"Internet"}},
		{"DenyAllOutBound", 65500, false, false, "*", every(), any, any},
	}
}

// parseRules reads the rules of a group, in order and with the default ones behind, or says what Azure refuses.
func parseRules(in []resource.PropertyMap) ([]rule, error) {
	var rules []rule
	for _, p := range in {
		r, err := parseRule(p)
		if err != nil {
			return nil, err
		}
		for _, other := range rules {
			if strings.EqualFold(other.name, r.name) {
				return nil, badRequest("DuplicateResourceName", "There are two security rules of the name %s.", r.name)
			}
			if other.priority == r.priority && other.inbound == r.inbound {
				return nil, badRequest("SecurityRuleConflict", "Security rule %s conflicts with rule %s. Rules cannot "+
					"have the same Priority and Direction.", r.name, other.name)
			}
		}
		rules = append(rules, r)
	}
	rules = append(rules, defaultRules()...)
	slices.SortStableFunc(rules, func(a, b rule) int { return a.priority - b.priority })
	return rules, nil
}

func parseRule(in resource.PropertyMap) (rule, error) {
	r := rule{name: cloud.Str(in, "name"), priority: cloud.Int(in, "priority"),
		protocol: lower(cloud.Str(in, "protocol"))}
	if p := networkRule(1).problems("", r.name); len(p) > 0 {
		return r, badRequest("InvalidResourceName", "Security rule name %s is invalid: %s", r.name, p[0].Reason)
	}
	if r.priority < 100 || r.priority > 4096 {
		return r, badRequest("SecurityRuleInvalidPriority", "Security rule %s has invalid Priority. Value provided: "+
			"%d. Allowed range 100-4096.", r.name, r.priority)
	}
	for _, e := range []struct {
		property string
		values   []string
	}{
		{"protocol", []string{"*", "Tcp", "Udp", "Icmp", "Esp", "Ah"}}, {"access", []string{"Allow", "Deny"}},
		{"direction", []string{"Inbound", "Outbound"}},
	} {
		if err := oneOf("security rule "+r.name+": "+e.property, cloud.Str(in, e.property), e.values...); err != nil {
			return r, err
		}
	}
	r.allow, r.inbound = strings.EqualFold(cloud.Str(in, "access"), "Allow"), strings.EqualFold(cloud.Str(in,
		"direction"), "Inbound")
	var err error
	if r.from, err = peersOf(r.name, in, "sourceAddressPrefix", "sourceAddressPrefixes",
		"sourceApplicationSecurityGroups"); err != nil {
		return r, err
	}
	if r.to, err = peersOf(r.name, in, "destinationAddressPrefix", "destinationAddressPrefixes",
		"destinationApplicationSecurityGroups"); err != nil {
		return r, err
	}
	sources, err := portsOf(r.name, in, "sourcePortRange", "sourcePortRanges")
	if err != nil {
		return r, err
	}
	if !slices.Equal(sources, every()) {
		return r, notEmulated("security rule %s: source ports other than *", r.name)
	}
	r.ports, err = portsOf(r.name, in, "destinationPortRange", "destinationPortRanges")
	return r, err
}

// either are the values of an input that can be given as one or as a list.
func either(name string, in resource.PropertyMap, one, many string) ([]string, error) {
	single, list := cloud.Str(in, one), cloud.Strs(in, many)
	switch {
	case single != "" && len(list) > 0:
		return nil, badRequest("SecurityRuleParameterConflict", "Security rule %s has values for both %s and %s.",
			name, one, many)
	case single != "":
		return []string{single}, nil
	case len(list) > 0:
		return list, nil
	}
	return nil, badRequest("SecurityRuleParameterNotSpecified", "Security rule %s must specify either %s or %s.", name,
		one, many)
}

func peersOf(name string, in resource.PropertyMap, one, many, groups string) ([]string, error) {
	if len(cloud.List(in, groups)) > 0 {
		return nil, notEmulated("security rule %s: application security groups", name)
	}
	list, err := either(name, in, one, many)
	if err != nil {
		return nil, err
	}
	seen := map[string]bool{}
	for _, p := range list {
		switch {
		case seen[lower(p)]:
			return nil, badRequest("SecurityRuleParameterContainsDuplicateValue", "Security rule %s: %s has '%s' "+
				"twice.", name, many, p)
		case validPeer(p) && (len(cloud.List(in, many)) == 0 || isPrefix(p)):
		case validPeer(p):
			return nil, badRequest("SecurityRuleParameterContainsUnsupportedValue", "Security rule %s: %s cannot "+
				"specify VIRTUALNETWORK, INTERNET, AZURELOADBALANCER, '*' or system tags. Unsupported value used: "+
				"%s.", name, many, p)
		default:
			return nil, badRequest("SecurityRuleInvalidAddressPrefix", "Security rule %s has invalid Address prefix. "+
				"Value provided: %s.", name, p)
		}
		seen[lower(p)] = true
	}
	return list, nil
}

// asPrefix reads a range or a single address.
func asPrefix(s string) (netip.Prefix, bool) {
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), true
	}
	p, err := netip.ParsePrefix(s)
	return p, err == nil && p == p.Masked()
}

func isPrefix(s string) bool { _, ok := asPrefix(s); return ok }

// serviceTags are the names of Azure's own address ranges that matter here; each may have a region behind a dot.
func serviceTags() []string {
	return []string{
		"AzureActiveDirectory", "AzureBackup", "AzureCloud", "AzureKeyVault", "AzureMonitor", "AzurePlatformDNS",
		"AzurePlatformIMDS",
		"AzureResourceManager", "GatewayManager", "Sql", "Storage",
	}
}

func validPeer(p string) bool {
	switch lower(p) {
	case tagAny, "any", tagNetwork, tagInternet, tagBalancer:
		return true
	}
	tag, _, _ := strings.Cut(p, ".")
	return isPrefix(p) || slices.ContainsFunc(serviceTags(), func(t string) bool { return strings.EqualFold(t, tag) })
}

func portsOf(name string, in resource.PropertyMap, one, many string) ([]span, error) {
	list, err := either(name, in, one, many)
	if err != nil {
		return nil, err
	}
	var out []span
	for _, text := range list {
		if text == "*" {
			out = append(out, every()...)
			continue
		}
		a, b, isRange := strings.Cut(text, "-")
		if !isRange {
			b = a
		}
		first, err1 := strconv.Atoi(a)
		lst, err2 := strconv.Atoi(b)
		if err1 != nil || err2 != nil || first < 0 || lst > 65535 || first > lst {
			return nil, badRequest("SecurityRuleInvalidPortRange", "Security rule %s has invalid Port range. Value "+
				"provided: %s. Value should be an integer OR integer range with '-' delimiter. Valid range "+
				"0-65535.", name, text)
		}
		out = append(out, span{first, lst})
	}
	return out, nil
}

// space is what tags stand for in one network.
type space []netip.Prefix

// resolve are the addresses that a peer of a rule stands for. Azure's services have none in a network.
func (s space) resolve(peer string) []netip.Prefix {
	whole := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	switch lower(peer) {
	case tagAny, "any":
		return []netip.Prefix{whole}
	case tagNetwork:
		return s
	case tagBalancer:
		return []netip.Prefix{netip.PrefixFrom(probeAddress(), 32)}
	case tagInternet:
		return without(whole, append(slices.Clone([]netip.Prefix(s)), netip.PrefixFrom(probeAddress(), 32)))
	}
	if p, ok := asPrefix(peer); ok && p.Addr().Is4() {
		return []netip.Prefix{p}
	}
	return nil
}

// without is a prefix minus others, as few prefixes.
func without(p netip.Prefix, holes []netip.Prefix) []netip.Prefix {
	touched := false
	for _, h := range holes {
		if h.Bits() <= p.Bits() && h.Contains(p.Addr()) {
			return nil
		}
		touched = touched || p.Overlaps(h)
	}
	if !touched {
		return []netip.Prefix{p}
	}
	low := netip.PrefixFrom(p.Addr(), p.Bits()+1)
	bytes := p.Addr().As4()
	bytes[p.Bits()/8] |= 1 << (7 - p.Bits()%8)
	high := netip.PrefixFrom(netip.AddrFrom4(bytes), p.Bits()+1)
	return append(without(low, holes), without(high, holes)...)
}

// packet is one that a rule is asked about: towards or from self, and a peer that answers to names.
type packet struct {
	inbound  bool
	protocol string // tcp, udp, icmp
	port     int
	self     netip.Addr
	peer     netip.Addr
	tags     []string // what the peer is besides its address, such as Storage
}

// permits is what a group decides about a packet.
func permits(rules []rule, p packet, s space) bool {
	for _, r := range rules {
		if r.inbound == p.inbound && r.matches(p, s) {
			return r.allow
		}
	}
	return false
}

func (r rule) matches(p packet, s space) bool {
	if r.protocol != "*" && r.protocol != p.protocol {
		return false
	}
	if p.protocol == "icmp" && r.protocol == "*" && !r.whole() { // it has no ports
		return false
	}
	if p.protocol != "icmp" && !slices.ContainsFunc(r.ports, func(s span) bool {
		return s.first <= p.port &&
			p.port <= s.last
	}) {
		return false
	}
	self, peer := r.to, r.from
	if !p.inbound {
		self, peer = r.from, r.to
	}
	return slices.ContainsFunc(self, func(n string) bool { return s.has(n, p.self) }) &&
		slices.ContainsFunc(peer, func(n string) bool {
			return s.has(n, p.peer) || slices.ContainsFunc(p.tags, func(t string) bool {
				return strings.EqualFold(t,
					n)
			})
		})
}

func (s space) has(name string, a netip.Addr) bool {
	return slices.ContainsFunc(s.resolve(name), func(p netip.Prefix) bool { return p.Contains(a) })
}

// translate turns one direction of a group into the packet filter's rules for a machine of the address.
func translate(rules []rule, inbound bool, self netip.Addr, s space) []fabric.FilterRule {
	var out []fabric.FilterRule
	for _, r := range rules {
		mine, theirs := r.to, r.from
		if !inbound {
			mine, theirs = r.from, r.to
		}
		if r.inbound != inbound || !slices.ContainsFunc(mine, func(n string) bool { return s.has(n, self) }) {
			continue
		}
		var peers []netip.Prefix
		for _, n := range theirs {
			peers = append(peers, s.resolve(n)...)
		}
		if len(peers) == 0 {
			continue
		}
		for _, f := range r.kinds() {
			f.Name, f.Peers, f.Deny = r.name, peers, !r.allow
			out = append(out, f)
		}
	}
	return out
}

// whole reports whether the rule is about all ports.
func (r rule) whole() bool {
	return slices.ContainsFunc(r.ports, func(s span) bool { return s == every()[0] })
}

// kinds are the protocols and ports of a rule. Esp and Ah are in no network here.
func (r rule) kinds() []fabric.FilterRule {
	switch {
	case r.protocol == "icmp":
		return []fabric.FilterRule{{Protocol: "icmp"}}
	case r.protocol == "*" && r.whole():
		return []fabric.FilterRule{{Protocol: "all"}}
	case r.protocol != "*" && r.protocol != "tcp" && r.protocol != "udp":
		return nil
	}
	protocols := []string{r.protocol}
	if r.protocol == "*" {
		protocols = []string{"tcp", "udp"}
	}
	var out []fabric.FilterRule
	for _, p := range protocols {
		for _, s := range r.ports {
			out = append(out, fabric.FilterRule{Protocol: p, FirstPort: s.first, LastPort: s.last})
		}
	}
	return out
}

// both is the filter that lets through what two filters let through, one behind the other: for each rule of the first,
// in order, what it refuses is refused, and what it lets through is for the second to decide.
func both(first, second []fabric.FilterRule) []fabric.FilterRule {
	var out []fabric.FilterRule
	for _, a := range first {
		if a.Deny {
			out = append(out, a)
			continue
		}
		for _, b := range second {
			if f, ok := meet(a, b); ok {
				out = append(out, f)
			}
		}
	}
	return out
}

// meet is what matches both rules, with the second one's verdict.
func meet(a, b fabric.FilterRule) (fabric.FilterRule, bool) {
	f := b
	switch {
	case a.Protocol == "all":
	case b.Protocol == "all":
		f.Protocol, f.FirstPort, f.LastPort = a.Protocol, a.FirstPort, a.LastPort
	case a.Protocol != b.Protocol:
		return f, false
	case a.Protocol != "icmp":
		f.FirstPort, f.LastPort = max(a.FirstPort, b.FirstPort), min(a.LastPort, b.LastPort)
		if f.FirstPort > f.LastPort {
			return f, false
		}
	}
	f.Peers = nil
	for _, p := range a.Peers {
		for _, q := range b.Peers {
			if !p.Overlaps(q) {
				continue
			}
			narrow := p
			if q.Bits() > p.Bits() {
				narrow = q
			}
			if !slices.Contains(f.Peers, narrow) {
				f.Peers = append(f.Peers, narrow)
			}
		}
	}
	if a.Name != b.Name {
		f.Name = fmt.Sprintf("%s+%s", a.Name, b.Name)
	}
	return f, len(f.Peers) > 0
}
