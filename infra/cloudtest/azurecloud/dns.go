package azurecloud

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) dnsKinds() map[string]*books {
	zone := nameRule{least: 1, most: 253, pattern: domain(), words: "a DNS name"}
	record := nameRule{least: 1, most: 253, words: "a DNS name, * or @"}
	return map[string]*books{
		"azure-native:network:PrivateZone": {
			kind: kindZone, path: []string{"privateZoneName"}, rule: zone, located: true, global: true, mostTags: 15,
			put: putZone, remove: c.removeZone,
		},
		"azure-native:network:VirtualNetworkLink": {
			kind: kindLink, path: []string{"privateZoneName", "virtualNetworkLinkName"}, rule: networkRule(1),
			located: true, global: true, mostTags: 15,
			put: c.putLink,
		},
		"azure-native:network:PrivateRecordSet": {
			kind: kindRecord, path: []string{"privateZoneName", "relativeRecordSetName"}, rule: record, put: putRecord,
			replace: []string{"recordType"},
		},
	}
}

func putZone(_ *cloud.Call, it, _ *item) error {
	if labels := strings.Split(it.name, "."); len(labels) < 2 || len(labels) > 34 {
		return badRequest("InvalidPrivateDnsZoneName", "The private DNS zone name '%s' has %d labels; it needs 2 to "+
			"34.", it.name, len(labels))
	}
	if slices.Contains([]string{"azure.com", "azure.net", "windows.net", "microsoft.com", "core.windows.net"},
		lower(it.name)) {
		return badRequest("BadRequest", "The zone name '%s' is reserved.", it.name)
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	return nil
}

func (c *Cloud) removeZone(it *item) error {
	for _, l := range c.all(kindLink) {
		if within(l.id, it.id) {
			return badRequest("CannotDeleteResource", "Can not delete resource before nested resources are deleted. "+
				"Virtual network link: %s.", l.id)
		}
	}
	return nil
}

func (c *Cloud) putLink(_ *cloud.Call, it, _ *item) error {
	id := cloud.Str(cloud.Obj(it.in, "virtualNetwork"), "id")
	network, err := c.refer(kindVNet, id, "virtualNetwork.id", it)
	if err != nil {
		return err
	}
	for _, l := range c.all(kindLink) {
		if l.id == it.id || l.gone || !strings.EqualFold(cloud.Str(cloud.Obj(l.in, "virtualNetwork"), "id"),
			network.id) {
			continue
		}
		if strings.EqualFold(parentID(l.id, 1), parentID(it.id, 1)) {
			return conflict("Conflict", "A virtual network cannot be linked to a zone twice: %s is linked as '%s'.",
				network.id, l.name)
		}
		if cloud.Bool(l.in, "registrationEnabled", false) && cloud.Bool(it.in, "registrationEnabled", false) {
			return conflict("Conflict", "A virtual network can register its machines in one zone: %s does in '%s'.",
				network.id, parentID(l.id, 1))
		}
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	it.out["virtualNetworkLinkState"] = resource.NewStringProperty("Completed")
	return nil
}

// recordValues are the inputs that hold the values of each type of record.
func recordValues() map[string]string {
	return map[string]string{
		"A": "aRecords", "AAAA": "aaaaRecords", "CNAME": "cnameRecord", "MX": "mxRecords", "PTR": "ptrRecords",
		"SOA": "soaRecord",
		"SRV": "srvRecords", "TXT": "txtRecords",
	}
}

func putRecord(_ *cloud.Call, it, _ *item) error {
	kind := strings.ToUpper(cloud.Str(it.in, "recordType"))
	property, ok := recordValues()[kind]
	if !ok {
		return badRequest("InvalidRecordType", "The record type '%s' is not supported.", kind)
	}
	if it.name != "@" && !domain().MatchString(strings.TrimPrefix(it.name, "*.")) && it.name != "*" {
		return badRequest("InvalidRecordSetName", "The record set name '%s' is not valid.", it.name)
	}
	for k, p := range recordValues() {
		if _, given := it.in[resource.PropertyKey(p)]; given && k != kind {
			return badRequest("BadRequest", "The record set is of type %s and has %s.", kind, p)
		}
	}
	if ttl, ok := it.in["ttl"]; !ok || !ttl.IsNumber() || ttl.NumberValue() < 1 || ttl.NumberValue() > 2147483647 {
		return badRequest("InvalidTtl", "The record set '%s' must have a ttl between 1 and 2147483647.", it.name)
	}
	v := it.in[resource.PropertyKey(property)]
	if v.IsNull() || v.IsArray() && len(v.ArrayValue()) == 0 {
		return badRequest("BadRequest", "The record set '%s' of type %s has no record in %s.", it.name, kind, property)
	}
	for _, a := range cloud.Objs(it.in, "aRecords") {
		if ip, err := netip.ParseAddr(cloud.Str(a, "ipv4Address")); err != nil || !ip.Is4() {
			return badRequest("BadRequest", "The A record set '%s' has '%s', which is not an IPv4 address.", it.name,
				cloud.Str(a, "ipv4Address"))
		}
	}
	zone := last(parentID(it.id, 1))
	it.out["fqdn"] = resource.NewStringProperty(strings.TrimPrefix(it.name+"."+zone+".", "@."))
	it.out["isAutoRegistered"] = resource.NewBoolProperty(false)
	return nil
}

// maxAliases is how many aliases a name may hide behind.
const maxAliases = 8

// resolver answers a machine's questions by the private zones that its network is linked to.
func (c *Cloud) resolver(vm string) func(string) []netip.Addr {
	return func(name string) []netip.Addr {
		c.mu.Lock()
		defer c.mu.Unlock()
		network := c.networkOf(vm)
		if network == nil {
			return nil
		}
		return c.lookUp(network, lower(strings.TrimSuffix(name, ".")), maxAliases)
	}
}

// networkOf is the network that a machine is in; c.mu is held.
func (c *Cloud) networkOf(vm string) *item {
	it := c.items[lower(vm)]
	if it == nil {
		return nil
	}
	nic := c.items[lower(it.extra.(*machine).nic)]
	if nic == nil {
		return nil
	}
	s, _, _ := c.attachmentOf(nic)
	if s == nil {
		return nil
	}
	return c.items[lower(parentID(s.id, 1))]
}

// lookUp searches the zones of a network, the one with the longest name first, for a name; c.mu is held.
func (c *Cloud) lookUp(network *item, name string, aliases int) []netip.Addr {
	var best *item
	for _, l := range c.all(kindLink) {
		zone := lower(last(parentID(l.id, 1)))
		if l.gone || !strings.EqualFold(cloud.Str(cloud.Obj(l.in, "virtualNetwork"), "id"),
			network.id) || name != zone && !strings.HasSuffix(name, "."+zone) {
			continue
		}
		if best == nil || len(zone) > len(last(parentID(best.id, 1))) {
			best = l
		}
	}
	if best == nil || aliases == 0 {
		return nil
	}
	zone := lower(last(parentID(best.id, 1)))
	relative := strings.TrimSuffix(strings.TrimSuffix(name, zone), ".")
	if relative == "" {
		relative = "@"
	}
	if found := c.records(network, parentID(best.id, 1), relative, aliases); found != nil {
		return found
	}
	if cloud.Bool(best.in, "registrationEnabled", false) {
		if found := c.registered(network, relative); found != nil {
			return found
		}
	}
	if _, rest, ok := strings.Cut(relative, "."); ok {
		return c.records(network, parentID(best.id, 1), "*."+rest, aliases)
	}
	return c.records(network, parentID(best.id, 1), "*", aliases)
}

// records are the addresses of a name in a zone; c.mu is held.
func (c *Cloud) records(network *item, zone, name string, aliases int) []netip.Addr {
	if it := c.get(kindRecord, zone+"/A/"+name); it != nil {
		var list []netip.Addr
		for _, r := range cloud.Objs(it.in, "aRecords") {
			if a, err := netip.ParseAddr(cloud.Str(r, "ipv4Address")); err == nil {
				list = append(list, a)
			}
		}
		return list
	}
	if it := c.get(kindRecord, zone+"/CNAME/"+name); it != nil {
		return c.lookUp(network, lower(strings.TrimSuffix(cloud.Str(cloud.Obj(it.in, "cnameRecord"), "cname"), ".")),
			aliases-1)
	}
	return nil
}

// registered is the address of the machine in a network whose host name it is; c.mu is held.
func (c *Cloud) registered(network *item, host string) []netip.Addr {
	for _, vm := range c.all(kindVM) {
		m := vm.extra.(*machine)
		if strings.EqualFold(m.host, host) && c.networkOf(vm.id) == network {
			if nic := c.items[lower(m.nic)]; nic != nil {
				_, a, _ := c.attachmentOf(nic)
				return []netip.Addr{a}
			}
		}
	}
	return nil
}
