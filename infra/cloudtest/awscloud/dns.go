package awscloud

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// maxAliases is how long a chain of aliases may be that a resolver follows.
const maxAliases = 8

func (c *Cloud) dnsKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{
		"aws:route53/zone:Zone": c.kindOf(books{
			kind: "zone", check: checkZone, create: c.createZone, update: c.updateZone, remove: c.removeZone,
			replace: []string{"name", "delegationSetId"},
		}),
		"aws:route53/record:Record": c.kindOf(books{
			kind: "record", check: checkRecord, create: c.createRecord,
			replace: []string{"zoneId", "name", "type", "setIdentifier"},
		}),
	}
}

func dnsError(doing, op string, code, format string, args ...any) error {
	return apiError(doing, "Route 53", op, 400, code, format, args...)
}

func checkZone(call *cloud.Call) []cloud.Problem {
	return conflict(call.Inputs, "delegationSetId", "vpcs")
}

func (c *Cloud) createZone(call *cloud.Call) (string, map[string]any, error) {
	name := cleanName(cloud.Str(call.Inputs, "name"))
	doing := "creating Route53 Hosted Zone (" + name + ")"
	if name == "" || strings.Contains(name, "..") {
		return "", nil, dnsError(doing, "CreateHostedZone", "InvalidDomainName", "%s is not a valid domain name",
			name)
	}
	if err := c.mayZone(call, name, "", doing); err != nil {
		return "", nil, err
	}
	id := "Z" + strings.ToUpper(randomHex(10))
	return id, map[string]any{
		"arn": "arn:aws:route53:::hostedzone/" + id, "zoneId": id,
		"nameServers":       []string{"ns-0.awsdns-00.com", "ns-512.awsdns-00.net"},
		"primaryNameServer": "ns-0.awsdns-00.com",
	}, nil
}

// mayZone checks the networks that a private zone is for; c.mu is held.
func (c *Cloud) mayZone(call *cloud.Call, name, self, doing string) error {
	for _, v := range cloud.Objs(call.Inputs, "vpcs") {
		id, in := cloud.Str(v, "vpcId"), cloud.Str(v, "vpcRegion")
		if in == "" {
			in = region(call)
		}
		if c.get(in, "vpc", id) == nil {
			return dnsError(doing, "CreateHostedZone", "InvalidVPCId", "The VPC: %s in region %s does not exist",
				id, in)
		}
		other := c.find("zone", func(z *item) bool {
			return z.id != self && cleanName(z.str("name")) == name && slices.Contains(zoneNetworks(z), id)
		})
		if other != nil {
			return dnsError(doing, "CreateHostedZone", "ConflictingDomainExists",
				"The VPC %s in region %s has already been associated with the hosted zone %s with the same domain "+
					"name.", id, in, other.id)
		}
	}
	return nil
}

func (c *Cloud) updateZone(call *cloud.Call, it *item) error {
	if len(zoneNetworks(it)) > 0 && len(cloud.List(call.Inputs, "vpcs")) == 0 {
		return dnsError("updating Route53 Hosted Zone ("+it.id+")", "DisassociateVPCFromHostedZone",
			"LastVPCAssociation",
			"The VPC that you are trying to disassociate from the private hosted zone is the last VPC that is "+
				"associated with the hosted zone.")
	}
	return c.mayZone(call, cleanName(it.str("name")), it.id, "updating Route53 Hosted Zone ("+it.id+")")
}

// zoneNetworks are the networks that see a private zone.
func zoneNetworks(zone *item) []string {
	var ids []string
	for _, v := range cloud.Objs(zone.in, "vpcs") {
		ids = append(ids, cloud.Str(v, "vpcId"))
	}
	return ids
}

func (c *Cloud) removeZone(_ *cloud.Call, it *item) error {
	for _, r := range c.all("record") {
		if r.str("zoneId") != it.id {
			continue
		}
		if !cloud.Bool(it.in, "forceDestroy", false) {
			return dnsError("deleting Route53 Hosted Zone ("+it.id+")", "DeleteHostedZone", "HostedZoneNotEmpty",
				"The specified hosted zone contains non-required resource record sets and so cannot be deleted.")
		}
		delete(c.items, key{"record", r.id})
	}
	return nil
}

func cleanName(s string) string { return strings.TrimSuffix(strings.ToLower(s), ".") }

func checkRecord(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(oneOf(in, "type", "SOA", "A", "TXT", "NS", "CNAME", "MX", "NAPTR", "PTR", "SRV",
		"SPF", "AAAA", "CAA", "DS", "HTTPS", "SVCB", "SSHFP", "TLSA"),
		conflict(in, "aliases", "records"), conflict(in, "aliases", "ttl"))
	if given(in, "records") != given(in, "ttl") {
		problems = append(problems, cloud.Problemf("ttl", "\"ttl\": all of `records,ttl` must be specified"))
	}
	if !given(in, "records") && !given(in, "aliases") {
		problems = append(problems, cloud.Problemf("records", "one of `alias,records` must be specified"))
	}
	return problems
}

// fullName is a record's name with its zone's behind it, as the provider completes it.
func fullName(name, zone string) string {
	name = cleanName(name)
	if name == "" {
		return zone
	}
	if name == zone || strings.HasSuffix(name, "."+zone) {
		return name
	}
	return name + "." + zone
}

func (c *Cloud) createRecord(call *cloud.Call) (string, map[string]any, error) {
	in, op := call.Inputs, "ChangeResourceRecordSets"
	zone := c.items[key{"zone", cloud.Str(in, "zoneId")}]
	doing := "creating Route53 Record (" + cloud.Str(in, "name") + ")"
	if zone == nil {
		return "", nil, dnsError(doing, op, "NoSuchHostedZone", "No hosted zone found with ID: %s",
			cloud.Str(in, "zoneId"))
	}
	name, typ := fullName(cloud.Str(in, "name"), cleanName(zone.str("name"))), cloud.Str(in, "type")
	for _, value := range cloud.Strs(in, "records") {
		if a, err := netip.ParseAddr(value); typ == "A" && (err != nil || !a.Is4()) {
			return "", nil, dnsError(doing, op, "InvalidChangeBatch",
				"[Invalid Resource Record: 'FATAL problem: ARRDATAIllegalIPv4Address (Value is not a valid IPv4 "+
					"address) encountered with '%s'']", value)
		}
	}
	id := zone.id + "_" + name + "_" + typ
	if s := cloud.Str(in, "setIdentifier"); s != "" {
		id += "_" + s
	}
	taken := c.find("record", func(r *item) bool {
		return r.str("zoneId") == zone.id && r.str("fqdn") == name &&
			(r.id == id || (r.str("type") == "CNAME") != (typ == "CNAME"))
	})
	if taken != nil && !cloud.Bool(in, "allowOverwrite", false) {
		return "", nil, dnsError(doing, op, "InvalidChangeBatch",
			"[Tried to create resource record set [name='%s.', type='%s'] but it already exists]", name, typ)
	}
	return id, map[string]any{"fqdn": name}, nil
}

// lookup resolves a private name as the resolver of a network does: the network's own names, private zones (the
// longest that fits decides), endpoints' and balancers' names; c.mu is held.
func (c *Cloud) lookup(vpc *item, name string, hops int) []netip.Addr {
	if hops == 0 {
		return nil
	}
	if a := c.interfaceNamed(vpc, name); a.IsValid() {
		return []netip.Addr{a}
	}
	for _, kind := range []string{"balancer", "endpoint"} {
		if owner := c.find(kind, func(it *item) bool { return named(it, name) }); owner != nil {
			return addresses(c.enis(owner.id))
		}
	}
	zone := c.privateZone(vpc, name)
	if zone == nil {
		return nil
	}
	var out []netip.Addr
	for _, r := range c.all("record") {
		if r.str("zoneId") != zone.id || !recordNamed(r, name) {
			continue
		}
		switch r.str("type") {
		case "A":
			for _, v := range cloud.Strs(r.in, "records") {
				if a, err := netip.ParseAddr(v); err == nil {
					out = append(out, a)
				}
			}
			for _, alias := range cloud.Objs(r.in, "aliases") {
				out = append(out, c.lookup(vpc, cleanName(cloud.Str(alias, "name")), hops-1)...)
			}
		case "CNAME":
			for _, v := range cloud.Strs(r.in, "records") {
				out = append(out, c.lookup(vpc, cleanName(v), hops-1)...)
			}
		}
	}
	return out
}

// recordNamed reports whether a record answers for a name; a star stands for one or more labels.
func recordNamed(r *item, name string) bool {
	full := r.str("fqdn")
	if rest, ok := strings.CutPrefix(full, "*"); ok {
		return strings.HasSuffix(name, rest) && name != strings.TrimPrefix(rest, ".")
	}
	return full == name
}

// privateZone is the most specific zone that a network sees for a name. Zones need both of the network's DNS
// attributes; c.mu is held.
func (c *Cloud) privateZone(vpc *item, name string) *item {
	if !c.hasNames(vpc) {
		return nil
	}
	var best *item
	for _, z := range c.all("zone") {
		zone := cleanName(z.str("name"))
		fits := slices.Contains(zoneNetworks(z), vpc.id) && (name == zone || strings.HasSuffix(name, "."+zone))
		if fits && (best == nil || len(zone) > len(cleanName(best.str("name")))) {
			best = z
		}
	}
	return best
}

// interfaceNamed finds ip-10-0-1-4.REGION.compute.internal; c.mu is held.
func (c *Cloud) interfaceNamed(vpc *item, name string) netip.Addr {
	for _, it := range c.all("eni") {
		if e := it.extra.(*eni); e.vpc == vpc.id && privateName(e.address, vpc.region) == name {
			return e.address
		}
	}
	return netip.Addr{}
}

// named reports whether a name is one that AWS gave to a balancer or an endpoint.
func named(it *item, name string) bool {
	if it.str("dnsName") == name {
		return true
	}
	return slices.ContainsFunc(cloud.Objs(it.out, "dnsEntries"),
		func(e resource.PropertyMap) bool { return cloud.Str(e, "dnsName") == name })
}

func addresses(list []*eni) []netip.Addr {
	var out []netip.Addr
	for _, e := range list {
		out = append(out, e.address)
	}
	return out
}
