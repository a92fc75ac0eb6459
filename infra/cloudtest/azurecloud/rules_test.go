package azurecloud

import (
	"net/netip"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"pgregory.net/rapid"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
)

func parse(t *testing.T, rules ...m) []rule {
	t.Helper()
	var in []resource.PropertyMap
	for _, r := range rules {
		in = append(in, cloud.Values(r))
	}
	out, err := parseRules(in)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func netSpace() space { return space{netip.MustParsePrefix("10.0.0.0/16")} }

// decides is what the packet filter does: the first rule that matches.
func decides(rules []fabric.FilterRule, p packet) bool {
	for _, r := range rules {
		if r.Protocol != "all" && r.Protocol != p.protocol {
			continue
		}
		if (r.Protocol == "tcp" || r.Protocol == "udp") && (p.port < r.FirstPort || p.port > r.LastPort) {
			continue
		}
		if slices.ContainsFunc(r.Peers, func(f netip.Prefix) bool { return f.Contains(p.peer) }) {
			return !r.Deny
		}
	}
	return false
}

func TestRulesDecideByPriorityAndDefaultsComeLast(t *testing.T) {
	rules := parse(t, refuseAll(4096), allow("clients", 110, "Tcp", "10.0.0.0/16", "8080-8082"),
		with(allow("not-him", 100, "*", "10.0.9.9", "*"), "access", "Deny"))
	self := netip.MustParseAddr("10.0.1.4")
	for _, c := range []struct {
		what string
		p    packet
		want bool
	}{
		{"a client", packet{inbound: true, protocol: "tcp", port: 8081, peer: netip.MustParseAddr("10.0.7.1")}, true},
		{"another port", packet{inbound: true, protocol: "tcp", port: 7373, peer: netip.MustParseAddr("10.0.7.1")},
			false},
		{"another protocol", packet{inbound: true, protocol: "udp", port: 8081, peer: netip.MustParseAddr("10.0.7.1")},
			false},
		{"the one refused first", packet{inbound: true, protocol: "tcp", port: 8081,
			peer: netip.MustParseAddr("10.0.9.9")}, false},
		{"from outside", packet{inbound: true, protocol: "tcp", port: 8081, peer: netip.MustParseAddr("20.1.1.1")},
			false},
		{"a probe, which the last rule shuts out", packet{inbound: true, protocol: "tcp", port: 9080,
			peer: probeAddress()}, false},
		{"out to a neighbour", packet{protocol: "tcp", port: 1, peer: netip.MustParseAddr("10.0.7.1")}, true},
		{"out to the internet", packet{protocol: "tcp", port: 443, peer: netip.MustParseAddr("20.1.1.1")}, true},
	} {
		c.p.self = self
		if got := permits(rules, c.p, netSpace()); got != c.want {
			t.Errorf("%s: permitted %v, want %v", c.what, got, c.want)
		}
		if got := decides(translate(rules, c.p.inbound, self, netSpace()), c.p); got != c.want {
			t.Errorf("%s: filter lets through %v, want %v", c.what, got, c.want)
		}
	}
	if !permits(parse(t), packet{inbound: true, protocol: "udp", port: 5, self: self,
		peer: netip.MustParseAddr("10.0.7.1")}, netSpace()) {
		t.Error("a group without rules refuses the network; AllowVnetInBound lets it in")
	}
}

func TestServiceTagsOpenTheWayOut(t *testing.T) {
	out := func(name string, priority int, access, to string) m {
		return m{
			"name": name, "priority": priority, "direction": "Outbound", "access": access, "protocol": "Tcp",
			"sourcePortRange":     "*",
			"sourceAddressPrefix": "*", "destinationAddressPrefix": to, "destinationPortRange": "443",
		}
	}
	sealed := parse(t, out("to-storage", 100, "Allow", "Storage"), out("no-internet", 4096, "Deny", "Internet"))
	p := packet{protocol: "tcp", port: 443, self: netip.MustParseAddr("10.0.1.4"),
		peer: netip.MustParseAddr("20.150.0.10"), tags: []string{"Storage"}}
	if !permits(sealed, p, netSpace()) {
		t.Error("the rule for Storage does not let Storage through")
	}
	p.tags = []string{"AzureKeyVault"}
	if permits(sealed, p, netSpace()) {
		t.Error("what is not Storage passes although the Internet is refused")
	}
}

func TestBadRulesAreRefused(t *testing.T) {
	good := allow("good", 100, "Tcp", "10.0.0.0/16", "80")
	for name, change := range map[string]struct {
		in   m
		code string
	}{
		"priority":      {with(good, "priority", 99), "SecurityRuleInvalidPriority"},
		"priority high": {with(good, "priority", 4097), "SecurityRuleInvalidPriority"},
		"protocol":      {with(good, "protocol", "sctp"), "Tcp, Udp"},
		"direction":     {with(good, "direction", "In"), "Inbound, Outbound"},
		"name":          {with(good, "name", "-x"), "InvalidResourceName"},
		"range":         {with(good, "destinationPortRange", "90-80"), "SecurityRuleInvalidPortRange"},
		"host bits":     {with(good, "sourceAddressPrefix", "10.0.0.1/16"), "SecurityRuleInvalidAddressPrefix"},
		"tag":           {with(good, "sourceAddressPrefix", "Everybody"), "SecurityRuleInvalidAddressPrefix"},
		"no source":     {with(good, "sourceAddressPrefix", nil), "SecurityRuleParameterNotSpecified"},
		"both": {with(good, "sourceAddressPrefixes", []string{"10.0.0.0/8"}),
			"SecurityRuleParameterConflict"},
		"tag in a list": {with(with(good, "sourceAddressPrefix", nil), "sourceAddressPrefixes",
			[]string{"Internet"}), "SecurityRuleParameterContainsUnsupportedValue"},
		"repeated": {with(with(good, "sourceAddressPrefix", nil), "sourceAddressPrefixes",
			[]string{"10.0.0.0/8", "10.0.0.0/8"}), "Duplicate"},
		"no source ports": {with(good, "sourcePortRange", nil), "SecurityRuleParameterNotSpecified"},
		"source ports":    {with(good, "sourcePortRange", "1024-65535"), "emulated"},
	} {
		_, err := parseRule(cloud.Values(change.in))
		(&lab{t: t}).refused(name, err, change.code)
	}
	if _, err := parseRule(cloud.Values(good)); err != nil {
		t.Errorf("a good rule: %v", err)
	}
	_, err := parseRules([]resource.PropertyMap{cloud.Values(good), cloud.Values(with(good, "name", "other"))})
	(&lab{t: t}).refused("same priority", err, "SecurityRuleConflict")
	_, err = parseRules([]resource.PropertyMap{cloud.Values(good), cloud.Values(with(good, "priority", 101))})
	(&lab{t: t}).refused("same name", err, "DuplicateResourceName")
}

// drawRules makes a few rules from values that meet often.
func drawRules(t *rapid.T, label string) []rule {
	var in []resource.PropertyMap
	for i := range rapid.IntRange(0, 5).Draw(t, label) {
		r := allow("r"+label+string(rune('a'+i)), 100+i, rapid.SampledFrom([]string{"*", "Tcp", "Udp", "Icmp"}).Draw(t,
			"protocol"),
			rapid.SampledFrom([]string{"*", "10.0.1.0/24", "10.0.0.0/16", "10.0.1.7", "VirtualNetwork", "Internet",
				"AzureLoadBalancer"}).Draw(t, "peer"),
			rapid.SampledFrom([]string{"*", "80", "70-90", "85-100"}).Draw(t, "ports"))
		r["access"] = rapid.SampledFrom([]string{"Allow", "Deny"}).Draw(t, "access")
		if r["direction"] = rapid.SampledFrom([]string{"Inbound", "Outbound"}).Draw(t,
			"direction"); r["direction"] == "Outbound" {
			r["sourceAddressPrefix"], r["destinationAddressPrefix"] = "*", r["sourceAddressPrefix"]
		}
		in = append(in, cloud.Values(r))
	}
	rules, err := parseRules(in)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func TestFilterOfTwoGroupsDecidesAsBothDo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		outer, inner := drawRules(t, "o"), drawRules(t, "i")
		p := packet{
			inbound: rapid.Bool().Draw(t, "inbound"), protocol: rapid.SampledFrom([]string{"tcp", "udp",
				"icmp"}).Draw(t, "p"),
			port: rapid.SampledFrom([]int{1, 69, 70, 80, 85, 90, 95, 100, 101}).Draw(t, "port"),
			self: netip.MustParseAddr("10.0.1.4"),
			peer: netip.MustParseAddr(rapid.SampledFrom([]string{"10.0.1.7", "10.0.1.8", "10.0.9.1", "20.1.1.1",
				"192.168.0.1", "168.63.129.16"}).Draw(t, "peer")),
		}
		want := permits(outer, p, netSpace()) && permits(inner, p, netSpace())
		got := decides(both(translate(outer, p.inbound, p.self, netSpace()),
			translate(inner, p.inbound, p.self, netSpace())), p)
		if got != want {
			t.Fatalf("packet %+v: the filter says %v, the groups %v", p, got, want)
		}
	})
}

func TestWithoutLeavesExactlyTheRest(t *testing.T) {
	whole := netip.MustParsePrefix("0.0.0.0/0")
	rapid.Check(t, func(t *rapid.T) {
		draw := func() netip.Addr {
			var b [4]byte
			copy(b[:], rapid.SliceOfN(rapid.Byte(), 4, 4).Draw(t, "address"))
			return netip.AddrFrom4(b)
		}
		hole, err := draw().Prefix(rapid.IntRange(0, 32).Draw(t, "bits"))
		if err != nil {
			t.Fatal(err)
		}
		a := draw()
		if rapid.Bool().Draw(t, "near") {
			a = hole.Addr()
		}
		rest := without(whole, []netip.Prefix{hole})
		if got := slices.ContainsFunc(rest,
			func(p netip.Prefix) bool { return p.Contains(a) }); got == hole.Contains(a) {
			t.Fatalf("%s: in the rest %v, in %s %v", a, got, hole, hole.Contains(a))
		}
	})
}
