package azurecloud

import (
	"net/netip"
	"regexp"
	"slices"
	"testing"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
)

func TestTheProviderHasTheVersionOfTheSDK(t *testing.T) {
	info, err := open(t).Client().GetPluginInfo(t.Context(), nil)
	if err != nil || !regexp.MustCompile(`^\d+\.\d+\.\d+$`).MatchString(info.GetVersion()) {
		t.Errorf("version %q, %v", info.GetVersion(), err)
	}
}

func TestEverythingNeedsItsGroupAndARegion(t *testing.T) {
	k := open(t)
	k.mustNot(vnetType, "net", vnetIn(), "404", "ResourceGroupNotFound")
	k.mustNot(groupType, "group", m{"resourceGroupName": "lab", "location": "atlantis"},
		"LocationNotAvailableForResourceType")
	k.mustNot(groupType, "group", m{"resourceGroupName": "lab.", "location": home}, "does not match expression")
	k.mustNot(groupType, "group", m{"resourceGroupName": "lab"}, "LocationRequired")
	k.must(groupType, "group", m{"resourceGroupName": "lab", "location": "West Europe"})
	k.mustNot(groupType, "again", m{"resourceGroupName": "LAB", "location": home}, "cannot create already existing "+
		"resource")
	if r := k.must(vnetType, "net", with(vnetIn(), "location", nil)); cloud.Str(r.Inputs, "location") != home {
		t.Errorf("a network without a location is in %q, want that of the group", cloud.Str(r.Inputs, "location"))
	}
	if plan, _, err := k.Diff("group",
		m{"resourceGroupName": "lab", "location": "westeurope"}); err != nil || plan != driver.Same {
		t.Errorf("the region written otherwise: %s, %v", plan, err)
	}
	if plan, which, err := k.Diff("group", m{"resourceGroupName": "lab",
		"location": "northeurope"}); err != nil || plan != driver.Replace {
		t.Errorf("another region: %s %v, %v", plan, which, err)
	}
}

func TestTagsHaveLimits(t *testing.T) {
	k := open(t)
	k.mustNot(groupType, "group", m{"resourceGroupName": "lab", "location": home, "tags": m{"a/b": "x"}},
		"InvalidTagNameCharacters")
	k.must(groupType, "group", m{"resourceGroupName": "lab", "location": home, "tags": m{"Name": "x"}})
	many := m{}
	for i := range 16 {
		many[string(rune('a'+i))] = "x"
	}
	k.mustNot(accountType, "store", with(accountIn(), "tags", many), "15")
	k.must(vnetType, "net", with(vnetIn(), "tags", many))
}

func TestSubnetsAreInTheirNetworkAndApart(t *testing.T) {
	k := network(t)
	other := m{"resourceGroupName": "lab", "virtualNetworkName": "net", "subnetName": "other"}
	for cidr, code := range map[string]string{
		"10.1.0.0/24": "NetcfgSubnetRangeOutsideVnet", "10.0.1.128/25": "NetcfgSubnetRangesOverlap",
		"10.0.2.1/24": "InvalidCIDRNotation",
		"10.0.2.0/30": "smaller than /29", "ten": "InvalidCIDRNotation",
	} {
		k.mustNot(subnetType, "other", with(other, "addressPrefix", cidr), code)
	}
	k.mustNot(subnetType, "other", other, "exactly one of addressPrefix")
	good := with(other, "addressPrefix", "10.0.2.0/24")
	k.mustNot(subnetType, "other", with(good, "virtualNetworkName", "nowhere"), "ParentResourceNotFound")
	k.mustNot(subnetType, "other", with(good, "serviceEndpoints", []any{m{"service": "Microsoft.Cheese"}}),
		"Microsoft.Storage")
	k.mustNot(subnetType, "other", with(good, "natGateway.id", k.id("fw")), "not the id of a "+
		"Microsoft.Network/natGateways")
	k.mustNot(subnetType, "other", with(good, "natGateway.id", "nat"), "LinkedInvalidPropertyId")
	k.mustNot(subnetType, "other",
		with(good, "natGateway.id",
			k.id("group")+"/providers/Microsoft.Network/natGateways/x"), "InvalidResourceReference")
	k.must(subnetType, "other", good)
	k.mustNot(vnetType, "net2", with(with(vnetIn(), "virtualNetworkName", "net2"), "addressSpace.addressPrefixes",
		[]string{"10.0.0.1/16"}), "should be 10.0.0.0/16")
}

func TestSubnetsListedInANetworkAreMadeAndOthersStay(t *testing.T) {
	k := open(t)
	k.must(groupType, "group", m{"resourceGroupName": "lab", "location": home})
	list := func(names ...string) m {
		var subnets []any
		for i, n := range names {
			subnets = append(subnets, m{"name": n, "addressPrefix": "10.0." + string(rune('1'+i)) + ".0/24"})
		}
		return with(vnetIn(), "subnets", subnets)
	}
	k.must(vnetType, "net", list("a", "b"))
	has := func(name string) bool {
		return slices.Contains(k.cloud.Leftovers(), kindSubnet+" "+k.id("net")+"/subnets/"+name)
	}
	if !has("a") || !has("b") {
		t.Fatalf("the network's subnets are not there: %v", k.cloud.Leftovers())
	}
	k.apply("net", vnetIn(), driver.Update)
	if !has("a") || !has("b") {
		t.Error("a network without a list lost its subnets; the provider keeps them")
	}
	k.apply("net", list("a"), driver.Update)
	if !has("a") || has("b") {
		t.Errorf("a shorter list does not delete: %v", k.cloud.Leftovers())
	}
	k.mustDelete("net")
	if left := k.below.Left(); len(left) > 0 {
		t.Errorf("below there is still %v", left)
	}
}

func TestAddressesAreFreeAndOfTheirSubnet(t *testing.T) {
	k := network(t)
	for address, code := range map[string]string{
		"10.0.1.0": "PrivateIPAddressInReservedRange", "10.0.1.3": "PrivateIPAddressInReservedRange",
		"10.0.1.255": "PrivateIPAddressInReservedRange",
		"10.0.2.4":   "PrivateIPAddressNotInSubnet", "x": "InvalidIPAddressFormat", "": "PrivateIPAddressNotSpecified",
	} {
		k.mustNot(nicType, "nic", k.nicIn(address), code)
	}
	k.must(nicType, "nic", k.nicIn("10.0.1.4"))
	k.mustNot(nicType, "nic2", k.nicIn("10.0.1.4"), "PrivateIPAddressInUse")
	dynamic := in("x", m{"ipConfigurations": []any{m{"name": "x", "subnet": m{"id": k.id("subnet")},
		"privateIPAddress": "10.0.1.99"}}})
	r := k.must(nicType, "nic2", dynamic)
	if a := cloud.Str(cloud.Objs(r.Outputs, "ipConfigurations")[0], "privateIPAddress"); a != "10.0.1.5" {
		t.Errorf("without Static the interface has %s, want the lowest free one", a)
	}
	k.mustNot(nicType, "nic3", in("x", m{"ipConfigurations": []any{}}),
		"NetworkInterfaceMustHaveAtLeastOneIpConfiguration")
	k.mustNot(nicType, "nic3", with(dynamic, "location", "northeurope"), "InvalidResourceReference")
	k.mustNot(nicType, "nic3", with(dynamic, "networkSecurityGroup.id", k.id("net")), "InvalidRequestFormat")
}

func TestPublicAddressesAreStandardStaticAndHaveOneUser(t *testing.T) {
	k := network(t)
	good := in("x", m{"publicIpAddressName": "ip", "sku": m{"name": "Standard"}, "publicIPAllocationMethod": "Static",
		"zones": []string{"1", "2", "3"}})
	k.mustNot(ipType, "ip", with(good, "sku", nil), "IPv4BasicSkuPublicIpCountLimitReached")
	k.mustNot(ipType, "ip", with(good, "publicIPAllocationMethod", "Dynamic"), "Static")
	k.mustNot(ipType, "ip", with(good, "publicIPAllocationMethod", nil), "Static")
	k.mustNot(ipType, "ip", with(good, "zones", []string{"4"}), "AvailabilityZoneNotSupported")
	r := k.must(ipType, "ip", good)
	if a, err := netip.ParseAddr(r.Out("ipAddress")); err != nil || a.IsPrivate() {
		t.Errorf("the address is %q", r.Out("ipAddress"))
	}
	k.mustNotApply("ip", with(good, "zones", []string{"1"}), "ResourceAvailabilityZonesCannotBeModified")
	if plan, _, _ := k.Diff("ip", with(good, "sku.name", "Basic")); plan != driver.Replace {
		t.Errorf("another sku: %s", plan)
	}
	nat := in("x", m{"natGatewayName": "nat", "sku": m{"name": "Standard"}, "publicIpAddresses": []any{m{"id": r.ID}}})
	k.mustNot(natType, "nat", with(nat, "sku", nil), "Standard")
	k.must(natType, "nat", nat)
	k.mustNot(natType, "nat2", with(nat, "natGatewayName", "nat2"), "PublicIPAddressInUse")
	k.mustNotDelete("ip", "PublicIPAddressCannotBeDeleted")
	k.apply("subnet", with(k.subnetIn(), "natGateway.id", k.id("nat")), driver.Update)
	k.mustNotDelete("nat", "InUseNatGatewayCannotBeDeleted")
	k.apply("subnet", k.subnetIn(), driver.Update)
	k.mustDelete("nat", "ip")
}

func TestWhatIsInUseCannotBeDeleted(t *testing.T) {
	k := network(t)
	k.node(1)
	k.mustNotDelete("fw", "InUseNetworkSecurityGroupCannotBeDeleted")
	k.mustNotDelete("subnet", "InUseSubnetCannotBeDeleted")
	k.mustNotDelete("net", "InUseSubnetCannotBeDeleted")
	k.mustNotDelete("nic1", "NicInUse")
	k.mustNotDelete("disk1", "409", "OperationNotAllowed", "attached")
	k.mustDelete("node1", "nic1", "disk1", "subnet", "net", "fw", "group")
	if left := k.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
	if left := k.below.Left(); len(left) > 0 {
		t.Errorf("below there is still %v", left)
	}
}

func TestDeletingAGroupDeletesWhatIsInIt(t *testing.T) {
	k := network(t)
	k.node(1)
	k.must(vaultType, "vault", k.vaultIn())
	k.must(secretType, "secret", m{"resourceGroupName": "lab", "vaultName": "labvault1", "secretName": "s",
		"properties": m{"value": "v"}})
	k.store("x")
	k.mustDelete("group")
	if left := append(k.cloud.Leftovers(), k.below.Left()...); len(left) > 0 {
		t.Errorf("there is still %v", left)
	}
	if got := k.cloud.DeletedVaults(); !slices.Equal(got, []string{"labvault1"}) {
		t.Errorf("deleted vaults are %v", got)
	}
}

func (k *lab) balancerIn() m {
	self := "/subscriptions/" + k.cloud.SubscriptionID() + "/resourceGroups/lab/providers/Microsoft.Network/loadBalancers/lb"
	return in("x", m{
		"loadBalancerName": "lb", "sku": m{"name": "Standard"},
		"frontendIPConfigurations": []any{m{
			"name": "front", "subnet": m{"id": k.id("subnet")}, "privateIPAddress": "10.0.1.10",
			"privateIPAllocationMethod": "Static",
			"zones":                     []string{"1", "2", "3"},
		}},
		"backendAddressPools": []any{m{"name": "nodes"}},
		"probes": []any{m{"name": "ready", "protocol": "Http", "port": 9080, "requestPath": "/ready",
			"intervalInSeconds": 5}},
		"loadBalancingRules": []any{m{
			"name": "resp", "protocol": "Tcp", "frontendPort": 8080, "backendPort": 8080,
			"frontendIPConfiguration": m{"id": self + "/frontendIPConfigurations/front"},
			"backendAddressPool":      m{"id": self + "/backendAddressPools/nodes"},
			"probe":                   m{"id": self + "/probes/ready"},
		}},
	})
}

func TestBalancersFitTogether(t *testing.T) {
	k := network(t)
	good := k.balancerIn()
	change := func(list, property string, v any) m {
		return with(good, list, []any{with(good[list].([]any)[0].(m), property, v)})
	}
	k.mustNot(balancerType, "lb", with(good, "sku", nil), "Standard")
	k.mustNot(balancerType, "lb", change("frontendIPConfigurations", "privateIPAddress", "10.0.1.2"),
		"PrivateIPAddressInReservedRange")
	k.mustNot(balancerType, "lb", change("probes", "requestPath", nil), "requestPath")
	k.mustNot(balancerType, "lb", change("probes", "intervalInSeconds", 4), "less than 5")
	k.mustNot(balancerType, "lb", change("loadBalancingRules", "probe", m{"id": "/x"}), "InvalidResourceReference")
	k.mustNot(balancerType, "lb", change("backendAddressPools", "name", "others"), "InvalidResourceReference")
	twice := append([]any{}, good["loadBalancingRules"].([]any)...)
	k.mustNot(balancerType, "lb", with(good, "loadBalancingRules", append(twice, with(twice[0].(m), "name", "again"))),
		"RulesUseSameFrontendPort")
	lb := k.must(balancerType, "lb", good)
	k.mustNot(nicType, "nic", k.nicIn("10.0.1.10"), "PrivateIPAddressInUse")
	pooled := func(pool string) m {
		nic := k.nicIn("10.0.1.4")
		conf := nic["ipConfigurations"].([]any)[0].(m)
		return with(nic, "ipConfigurations", []any{with(conf, "loadBalancerBackendAddressPools",
			[]any{m{"id": lb.ID + "/backendAddressPools/" + pool}})})
	}
	k.mustNot(nicType, "nic", pooled("none"), "InvalidResourceReference")
	k.must(nicType, "nic", pooled("nodes"))
	k.mustNotDelete("subnet", "InUseSubnetCannotBeDeleted")
}

func TestPrivateZonesResolveInLinkedNetworks(t *testing.T) {
	k := network(t)
	k.node(1)
	below, _ := k.below.Machine(k.machine("node1"))
	zone := m{"resourceGroupName": "lab", "privateZoneName": "cache.internal", "location": "Global"}
	k.mustNot(zoneType, "zone", with(zone, "location", home), "LocationNotAvailableForResourceType")
	k.mustNot(zoneType, "zone", with(zone, "privateZoneName", "internal"), "labels")
	k.must(zoneType, "zone", zone)
	record := m{
		"resourceGroupName": "lab", "privateZoneName": "cache.internal", "recordType": "A",
		"relativeRecordSetName": "node-1", "ttl": 60,
		"aRecords": []any{m{"ipv4Address": "10.0.1.4"}},
	}
	k.mustNot(recordType, "record", with(record, "aRecords", nil), "no record")
	k.mustNot(recordType, "record", with(record, "ttl", nil), "ttl")
	k.mustNot(recordType, "record", with(record, "aRecords", []any{m{"ipv4Address": "node"}}), "IPv4")
	k.mustNot(recordType, "record", with(record, "cnameRecord", m{"cname": "x"}), "of type A")
	k.mustNot(recordType, "record", with(record, "privateZoneName", "other.internal"), "ParentResourceNotFound")
	k.must(recordType, "record", record)
	alias := with(with(with(record, "recordType", "CNAME"), "aRecords", nil), "relativeRecordSetName", "alias")
	k.must(recordType, "alias", with(alias, "cnameRecord", m{"cname": "node-1.cache.internal"}))
	if got := below.Resolve("node-1.cache.internal"); len(got) > 0 {
		t.Errorf("a zone without a link resolves to %v", got)
	}
	link := m{
		"resourceGroupName": "lab", "privateZoneName": "cache.internal", "virtualNetworkLinkName": "link",
		"location":            "Global",
		"registrationEnabled": false, "virtualNetwork": m{"id": k.id("net")},
	}
	k.mustNot(linkType, "link", with(link, "virtualNetwork.id", k.id("subnet")), "InvalidRequestFormat")
	k.must(linkType, "link", link)
	k.mustNot(linkType, "link2", with(link, "virtualNetworkLinkName", "link2"), "Conflict")
	for _, name := range []string{"node-1.cache.internal", "NODE-1.cache.internal.", "alias.cache.internal"} {
		if got := below.Resolve(name); !slices.Equal(got, []netip.Addr{netip.MustParseAddr("10.0.1.4")}) {
			t.Errorf("%s resolves to %v", name, got)
		}
	}
	if got := below.Resolve("node-2.cache.internal"); len(got) > 0 {
		t.Errorf("a name without a record resolves to %v", got)
	}
	k.apply("link", with(link, "registrationEnabled", true), driver.Update)
	if got := below.Resolve("node1.cache.internal"); len(got) != 1 {
		t.Errorf("the machine is not registered: %v", got)
	}
	k.mustNotDelete("zone", "CannotDeleteResource")
	k.mustDelete("link", "zone")
}

func TestFiltersFollowTheRules(t *testing.T) {
	k := network(t)
	k.node(1)
	id := k.machine("node1")
	asks := func(port int) bool {
		return decides(k.below.Filter(id).Ingress, packet{protocol: "tcp", port: port,
			peer: netip.MustParseAddr("10.0.5.5")})
	}
	if vm, _ := k.below.Machine(id); len(vm.Filter.Ingress) == 0 {
		t.Error("the machine was switched on without a filter")
	}
	if !asks(8080) || asks(7946) {
		t.Errorf("clients %v, gossip from afar %v", asks(8080), asks(7946))
	}
	changed := with(firewallIn(), "securityRules", []any{allow("clients", 110, "Tcp", "10.0.0.0/16", "9000"),
		refuseAll(4096)})
	k.apply("fw", changed, driver.Update)
	if asks(8080) || !asks(9000) {
		t.Error("a change of the rules does not reach the running machine")
	}
	if err := k.cloud.RemoveRule(t.Context(), "fw", "clients"); err != nil {
		t.Fatal(err)
	}
	if asks(9000) {
		t.Error("a rule that was removed behind Pulumi's back still lets through")
	}
	if found, err := k.Refresh("fw"); !found || err != nil {
		t.Fatal(found, err)
	}
	if plan, _, _ := k.Diff("fw", changed); plan != driver.Update {
		t.Errorf("after a refresh the plan is %s; it must bring the rule back", plan)
	}
	k.apply("subnet", with(k.subnetIn(), "networkSecurityGroup", nil), driver.Update)
	if asks(8080) {
		t.Error("the interface's own group no longer counts")
	}
}

func TestLookupsAnswerLikeAzure(t *testing.T) {
	k := network(t)
	who, err := k.Invoke("azure-native:authorization:getClientConfig", nil)
	if err != nil || cloud.Str(who, "subscriptionId") != k.cloud.SubscriptionID() || cloud.Str(who, "tenantId") == "" {
		t.Errorf("client config: %v, %v", who, err)
	}
	net, err := k.Invoke("azure-native:network:getVirtualNetwork", m{"resourceGroupName": "LAB",
		"virtualNetworkName": "Net"})
	if err != nil || cloud.Str(net, "location") != home || cloud.Str(cloud.Objs(net, "subnets")[0],
		"addressPrefix") != "10.0.1.0/24" {
		t.Errorf("network: %v, %v", net, err)
	}
	_, err = k.Invoke("azure-native:network:getSubnet", m{"resourceGroupName": "lab", "virtualNetworkName": "net",
		"subnetName": "nope"})
	k.refused("subnet", err, "ResourceNotFound")
	_, err = k.Invoke("azure-native:resources:getResourceGroup", m{"resourceGroupName": "nope"})
	k.refused("group", err, "ResourceGroupNotFound")
	_, err = k.Invoke("azure-native:network:getSubnets", nil)
	k.refused("a function that is none", err, "getSubnet")
}
