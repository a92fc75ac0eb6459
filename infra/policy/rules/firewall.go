package rules

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// span is a range of ports, both ends included.
type span struct{ first, last int }

func (s span) String() string {
	if s.first == s.last {
		return strconv.Itoa(s.first)
	}
	return fmt.Sprintf("%d-%d", s.first, s.last)
}

var everyPort = span{0, 65535}

// The ports that nobody outside a private network may knock at.
var (
	adminPorts    = []int{22, 3389}   // SSH, RDP
	internalPorts = []int{7946, 7373} // gossip, the internal port
)

// public are the ports that the whole world may be let in to, by TCP, if the user says so: RESP and HTTP.
var public = []span{{8080, 8082}, {9080, 9082}}

// opening is what a firewall rule lets in.
type opening struct {
	rule     string // where it is written
	protocol string // tcp, udp, all or what else there is
	sources  []source
	ports    []span // none for protocols without ports
}

// source is where an opening lets in from, as written and as understood.
type source struct {
	text  string
	reach reach
}

type reach int

const (
	private reach = iota // addresses that the internet does not route, or members of a group in the same network
	outside              // some public addresses
	world                // all of them, or so many that it comes to the same
)

// staysPrivate makes a check that finds guarded ports open beyond private networks.
func staysPrivate(guarded []int) func(Resource) []string {
	return func(r Resource) []string {
		var found []string
		for _, o := range openings(r) {
			found = append(found, o.exposed(guarded)...)
		}
		return found
	}
}

func (o opening) exposed(guarded []int) []string {
	var found []string
	for _, port := range guarded {
		if !slices.ContainsFunc(o.ports, func(s span) bool { return s.first <= port && port <= s.last }) {
			continue
		}
		for _, from := range o.sources {
			if from.reach != private {
				found = append(found, fmt.Sprintf("%s opens port %d to %s: only private ranges (10.0.0.0/8, 172.16.0.0/12, "+
					"192.168.0.0/16, 100.64.0.0/10, fc00::/7) may reach it", o.rule, port, from.text))
			}
		}
	}
	return found
}

const onlyTheCache = "only TCP 8080-8082 and 9080-9082 may be open to the world"

// worldPorts finds what is open to the whole world and is not the cache itself.
func worldPorts(r Resource) []string {
	var found []string
	for _, o := range openings(r) {
		for _, from := range o.sources {
			if from.reach != world {
				continue
			}
			if o.protocol != "tcp" {
				found = append(found, fmt.Sprintf("%s opens protocol %s to %s: %s", o.rule, o.protocol, from.text, onlyTheCache))
				continue
			}
			for _, ports := range o.ports {
				if !slices.ContainsFunc(public, func(p span) bool { return p.first <= ports.first && ports.last <= p.last }) {
					found = append(found, fmt.Sprintf("%s opens port %s to %s: %s", o.rule, ports, from.text, onlyTheCache))
				}
			}
		}
	}
	return found
}

// openings are what a resource lets in, whichever way its cloud has to write it. Egress is no concern here.
func openings(r Resource) []opening {
	switch kind(r.Type) {
	case "aws:vpc:SecurityGroupIngressRule":
		return []opening{awsOpening("the rule", r.Properties, at(r.Properties, "ipProtocol"))}
	case "aws:ec2:SecurityGroupRule":
		if word(at(r.Properties, "type")) != "ingress" {
			return nil
		}
		return []opening{awsOpening("the rule", r.Properties, at(r.Properties, "protocol"))}
	case "aws:ec2:SecurityGroup", "aws:ec2:DefaultSecurityGroup":
		var all []opening
		for i, rule := range objects(at(r.Properties, "ingress")) {
			all = append(all, awsOpening(fmt.Sprintf("ingress[%d]", i), rule, at(rule, "protocol")))
		}
		return all
	case "azure-native:network:SecurityRule":
		return azureOpenings("the rule", r.Properties)
	case "azure-native:network:NetworkSecurityGroup":
		var all []opening
		for i, rule := range objects(at(r.Properties, "securityRules")) {
			name, ok := text(at(rule, "name"))
			if !ok {
				name = fmt.Sprintf("securityRules[%d]", i)
			}
			all = append(all, azureOpenings(name, rule)...)
		}
		return all
	}
	return nil
}

// awsOpening reads a rule of any of AWS' three forms, whose names for protocol differ. A group as the source is private:
// its members are addresses of the same network.
func awsOpening(name string, rule property.Map, protocol property.Value) opening {
	o := opening{rule: name, protocol: protocolName(protocol)}
	sources := slices.Concat([]property.Value{at(rule, "cidrIpv4"), at(rule, "cidrIpv6")},
		items(at(rule, "cidrBlocks")), items(at(rule, "ipv6CidrBlocks")))
	for _, v := range sources {
		if s, ok := text(v); ok {
			o.sources = append(o.sources, source{s, reachOf(s)})
		}
	}
	for _, v := range append(items(at(rule, "prefixListIds")), at(rule, "prefixListId")) {
		if s, ok := text(v); ok {
			o.sources = append(o.sources, source{s + ", a list that may hold any address", outside})
		}
	}
	switch o.protocol {
	case "all":
		o.ports = []span{everyPort}
	case "tcp", "udp":
		o.ports = awsPorts(at(rule, "fromPort"), at(rule, "toPort"))
	}
	return o
}

// awsPorts reads the two ends of a range. AWS takes -1 for every port.
func awsPorts(from, to property.Value) []span {
	if from.IsComputed() || to.IsComputed() {
		return nil
	}
	if !from.IsNumber() || !to.IsNumber() || from.AsNumber() < 0 {
		return []span{everyPort}
	}
	return []span{{int(from.AsNumber()), int(to.AsNumber())}}
}

// azureOpenings reads a rule of a network security group: nothing, if it refuses or is for the way out.
func azureOpenings(name string, rule property.Map) []opening {
	if word(at(rule, "access")) == "deny" || word(at(rule, "direction")) == "outbound" {
		return nil
	}
	o := opening{rule: name, protocol: protocolName(at(rule, "protocol"))}
	prefixes := append(items(at(rule, "sourceAddressPrefixes")), at(rule, "sourceAddressPrefix"))
	for _, v := range prefixes {
		if s, ok := text(v); ok && s != "" {
			o.sources = append(o.sources, source{s, reachOf(s)})
		}
	}
	if o.protocol != "tcp" && o.protocol != "udp" && o.protocol != "all" {
		return []opening{o}
	}
	for _, v := range append(items(at(rule, "destinationPortRanges")), at(rule, "destinationPortRange")) {
		if s, ok := text(v); ok && s != "" {
			o.ports = append(o.ports, azurePorts(s))
		}
	}
	return []opening{o}
}

// azurePorts reads "*", "22" or "8080-8082". What cannot be read may be anything.
func azurePorts(s string) span {
	first, last, isRange := strings.Cut(strings.TrimSpace(s), "-")
	from, err := strconv.Atoi(strings.TrimSpace(first))
	if err != nil {
		return everyPort
	}
	if !isRange {
		return span{from, from}
	}
	to, err := strconv.Atoi(strings.TrimSpace(last))
	if err != nil {
		return everyPort
	}
	return span{from, to}
}

// protocolName is tcp, udp, all, or the protocol as written.
func protocolName(v property.Value) string {
	if v.IsNumber() {
		v = property.New(strconv.Itoa(int(v.AsNumber())))
	}
	switch p := word(v); p {
	case "tcp", "6":
		return "tcp"
	case "udp", "17":
		return "udp"
	case "-1", "*", "all", "":
		return "all"
	default:
		return p
	}
}

// privateRanges are what no router of the internet forwards.
var privateRanges = []netip.Prefix{
	netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("172.16.0.0/12"), netip.MustParsePrefix("192.168.0.0/16"),
	netip.MustParsePrefix("100.64.0.0/10"), netip.MustParsePrefix("169.254.0.0/16"), netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("fc00::/7"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("::1/128"),
}

// A public range with a shorter prefix than these counts as the world: two halves of the internet are all of it, and
// 2000::/3 is all that IPv6 routes.
const (
	worldBits4 = 8
	worldBits6 = 16
)

// reachOf understands an address, a range of them, or one of Azure's tags.
func reachOf(s string) reach {
	switch strings.ToLower(s) {
	case "*", "any", "internet":
		return world
	case "virtualnetwork", "azureloadbalancer":
		return private
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		a, err := netip.ParseAddr(s)
		if err != nil {
			return outside // a tag for services that others rent as well, like AzureCloud
		}
		p = netip.PrefixFrom(a, a.BitLen())
		if a.IsUnspecified() {
			return world // 0.0.0.0 alone is read as any address
		}
	}
	inside := func(r netip.Prefix) bool { return r.Bits() <= p.Bits() && r.Contains(p.Addr()) }
	switch {
	case slices.ContainsFunc(privateRanges, inside):
		return private
	case p.Addr().Is4() && p.Bits() < worldBits4, p.Addr().Is6() && p.Bits() < worldBits6:
		return world
	default:
		return outside
	}
}
