package awscloud

import (
	"strings"
	"testing"

	"hypercache/infra/cloudtest/cloud/driver"
)

func TestAddressRangesAreCheckedWhilePlanning(t *testing.T) {
	a := open(t)
	for cidr, words := range map[string]string{
		"10.0.0.0": "not a valid IPv4 CIDR", "10.0.0.1/16": "did you mean \"10.0.0.0/16\"",
		"10.0.0.0/8": "between 16 and 28 significant bits",
	} {
		_, err := a.Check(vpcType, "vpc", m{"cidrBlock": cidr}, nil)
		wants(t, err, words)
	}
	_, err := a.Check(vpcType, "vpc", m{}, nil)
	wants(t, err, "must be specified")
}

func TestASubnetLiesInItsNetworkAndMeetsNoOther(t *testing.T) {
	a := open(t).network()
	vpc := a.id("vpc")
	a.refuse(subnetType, m{"vpcId": vpc, "cidrBlock": "10.1.0.0/24"}, "InvalidSubnet.Range")
	a.refuse(subnetType, m{"vpcId": vpc, "cidrBlock": "10.0.3.0/29"}, "InvalidSubnet.Range")
	a.refuse(subnetType, m{"vpcId": vpc, "cidrBlock": "10.0.1.0/25"}, "InvalidSubnet.Conflict")
	a.refuse(subnetType, m{"vpcId": vpc, "cidrBlock": "10.0.3.0/24", "availabilityZone": home + "z"},
		"availabilityZone is invalid")
	a.refuse(subnetType, m{"vpcId": "vpc-1", "cidrBlock": "10.0.3.0/24"}, "InvalidVpcID.NotFound")
	r := a.make(subnetType, "c", m{"vpcId": vpc, "cidrBlock": "10.0.3.0/24", "availabilityZoneId": "euc1-az3"})
	if r.Out("availabilityZone") != home+"c" {
		t.Errorf("zone %q", r.Out("availabilityZone"))
	}
}

func TestWhatIsInUseIsNotDeleted(t *testing.T) {
	a := open(t).network().internet()
	a.make(instanceKind, "node", a.node(nil))
	for name, words := range map[string]string{
		"vpc": "DependencyViolation", "a": "DependencyViolation", "nodes": "DependencyViolation",
		"private": "DependencyViolation",
		"igw":     "DependencyViolation", "ip": "AuthFailure",
	} {
		wants(t, a.Delete(name), words)
	}
	if err := a.Destroy(); err != nil {
		t.Fatal(err)
	}
	if left := a.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("leftovers %v", left)
	}
	if left := a.memory.Left(); len(left) > 0 {
		t.Errorf("below there is %v", left)
	}
}

func TestASubnetHasOneRouteTable(t *testing.T) {
	a := open(t).network().internet()
	a.refuse(assocType, m{"routeTableId": a.id("public"), "subnetId": a.id("a")}, "Resource.AlreadyAssociated")
	a.refuse(assocType, m{"routeTableId": a.id("public")}, "exactly one of")
	a.make(vpcType, "other", m{"cidrBlock": "10.9.0.0/16"})
	a.make(subnetType, "there", m{"vpcId": a.id("other"), "cidrBlock": "10.9.1.0/24"})
	a.refuse(assocType, m{"routeTableId": a.id("public"), "subnetId": a.id("there")}, "different networks")
}

func TestRoutesLeadToWhatExists(t *testing.T) {
	a := open(t).network().internet()
	table := a.id("private")
	a.refuse(routeType, m{"routeTableId": table, "destinationCidrBlock": "0.0.0.0/0", "gatewayId": a.id("igw")},
		"RouteAlreadyExists")
	a.refuse(routeType, m{"routeTableId": table, "destinationCidrBlock": "8.0.0.0/8", "gatewayId": "igw-1"},
		"InvalidGatewayID.NotFound")
	a.refuse(routeType, m{"routeTableId": table, "destinationCidrBlock": "8.0.0.0/8", "natGatewayId": "nat-1"},
		"InvalidNatGatewayID.NotFound")
	a.refuse(routeType, m{"routeTableId": table, "destinationCidrBlock": "8.0.0.0/8"}, "exactly one target")
	a.refuse(routeType, m{"routeTableId": "rtb-1", "destinationCidrBlock": "8.0.0.0/8", "gatewayId": a.id("igw")},
		"InvalidRouteTableID.NotFound")
}

func TestANATGatewayNeedsAnAddressAndTheInternet(t *testing.T) {
	a := open(t).network()
	a.make(eipType, "ip", m{"domain": "vpc"})
	in := m{"subnetId": a.id("a"), "allocationId": a.id("ip")}
	a.refuse(natType, in, "Gateway.NotAttached")
	a.make(igwType, "igw", m{"vpcId": a.id("vpc")})
	a.refuse(igwType, m{"vpcId": a.id("vpc")}, "already has an internet gateway")
	a.refuse(natType, driver.With(in, m{"allocationId": nil}), "MissingParameter")
	a.refuse(natType, driver.With(in, m{"privateIp": "10.0.1.3"}), "reserved address range")
	a.make(natType, "nat", driver.With(in, m{"privateIp": "10.0.1.5"}))
	a.refuse(natType, in, "Resource.AlreadyAssociated")
	if a.Get("nat").Out("publicIp") != a.Get("ip").Out("publicIp") {
		t.Error("the gateway has not the address that it was given")
	}
}

func TestAnAddressThatAWSChoosesIsTheLowest(t *testing.T) {
	a := open(t).network().internet()
	if ip := a.Get("nat").Out("privateIp"); ip != "10.0.2.4" {
		t.Errorf("the gateway is at %s", ip)
	}
}

func TestADefaultGroupThatIsAdoptedLetsNothingThrough(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(m{"vpcSecurityGroupIds": nil}))
	if !a.passes("egress", "node", "192.0.2.1", 443) {
		t.Error("a default group as AWS makes it lets nothing out")
	}
	r := a.make("aws:ec2/defaultSecurityGroup:DefaultSecurityGroup", "default", m{"vpcId": a.id("vpc")})
	if a.passes("egress", "node", "192.0.2.1", 443) || r.ID != a.Get("vpc").Out("defaultSecurityGroupId") {
		t.Errorf("filter %+v of %s", a.memory.Filter(a.id("node")), r.ID)
	}
	if err := a.Destroy(); err != nil {
		t.Fatal(err)
	}
	if left := a.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("leftovers %v", left)
	}
}

func TestAnAddressIsGivenToAnInstanceAndTakenBack(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(nil))
	a.make(eipType, "ip", m{"domain": "vpc"})
	kind, in := "aws:ec2/eipAssociation:EipAssociation", m{"allocationId": a.id("ip"), "instanceId": a.id("node")}
	a.refuse(kind, in, "Gateway.NotAttached")
	a.make(igwType, "igw", m{"vpcId": a.id("vpc")})
	a.refuse(kind, driver.With(in, m{"instanceId": "i-1"}), "InvalidInstanceID.NotFound")
	a.refuse(kind, driver.With(in, m{"allocationId": "eipalloc-1"}), "InvalidAllocationID.NotFound")
	a.make(kind, "has", in)
	wants(t, a.Delete("ip"), "InvalidIPAddress.InUse")
	wants(t, a.Delete("igw"), "mapped public address")
	if found, err := a.Refresh("node"); err != nil || !found ||
		a.Get("node").Out("publicIp") != a.Get("ip").Out("publicIp") {
		t.Errorf("the instance is at %q, %v", a.Get("node").Out("publicIp"), err)
	}
	if err := a.cloud.TerminateInstance(t.Context(), "node"); err != nil {
		t.Fatal(err)
	}
	if found, err := a.Refresh("has"); err != nil || found {
		t.Errorf("the association outlives the instance: %v", err)
	}
	if err := a.Delete("ip"); err != nil {
		t.Error(err)
	}
}

func TestDefaultTagsAreMergedIn(t *testing.T) {
	a := open(t).network()
	tags := a.cloud.Tags(a.id("vpc"))
	if tags["Project"] != "test" {
		t.Errorf("tags %v", tags)
	}
}

func TestAVPCWithoutARegionIsRefusedBeforeAnything(t *testing.T) {
	c, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	for _, region := range []string{"", "eu-nowhere-1"} {
		_, err := driver.Serve(c.Provider(), m{"region": region})
		wants(t, err, "invalid AWS Region")
	}
}

func TestEndpointsCheckWhereTheyGo(t *testing.T) {
	a := open(t).network().internet()
	s3 := m{"vpcId": a.id("vpc"), "serviceName": "com.amazonaws." + home + ".s3",
		"routeTableIds": []string{a.id("private")}}
	a.make(endpointKind, "s3", s3)
	a.refuse(endpointKind, s3, "RouteAlreadyExists")
	a.refuse(endpointKind, driver.With(s3, m{"serviceName": "com.amazonaws.us-east-1.s3"}), "InvalidServiceName")
	a.refuse(endpointKind, driver.With(s3, m{"serviceName": "com.amazonaws." + home + ".secretsmanager"}),
		"InvalidServiceName")
	secrets := m{
		"vpcId": a.id("vpc"), "serviceName": "com.amazonaws." + home + ".secretsmanager",
		"vpcEndpointType": "Interface", "privateDnsEnabled": true,
		"subnetIds": []string{a.id("a"), a.id("b")}, "securityGroupIds": []string{a.id("nodes")},
		"subnetConfigurations": []any{m{"subnetId": a.id("a"), "ipv4": "10.0.1.20"},
			m{"subnetId": a.id("b"), "ipv4": "10.0.1.84"}},
	}
	a.refuse(endpointKind, driver.With(secrets, m{"subnetIds": []string{a.id("a"), a.id("edge")},
		"subnetConfigurations": nil}), "DuplicateSubnetsInSameZone")
	a.refuse(endpointKind, driver.With(secrets, m{"subnetConfigurations": []any{m{"subnetId": a.id("a"),
		"ipv4": "10.0.1.99"}}}), "does not fall within")
	a.make(endpointKind, "secrets", secrets)
	a.refuse(endpointKind, secrets, "conflicting DNS domain")
	a.refuse(instanceKind, a.node(m{"privateIp": "10.0.1.20"}), "InvalidIPAddress.InUse")
}

func TestPrivateDNSNeedsTheNetworksNames(t *testing.T) {
	a := open(t)
	a.make(vpcType, "vpc", m{"cidrBlock": "10.0.0.0/16"})
	a.make(subnetType, "a", m{"vpcId": a.id("vpc"), "cidrBlock": "10.0.1.0/26"})
	a.refuse(endpointKind, m{
		"vpcId": a.id("vpc"), "serviceName": "com.amazonaws." + home + ".secretsmanager",
		"vpcEndpointType": "Interface", "privateDnsEnabled": true,
		"subnetIds": []string{a.id("a")},
	}, "enableDnsSupport and enableDnsHostnames")
}

func TestReplacementsAreThoseOfTheProvider(t *testing.T) {
	a := open(t).network()
	a.make(instanceKind, "node", a.node(m{"userDataBase64": "YQ==", "userDataReplaceOnChange": true}))
	a.make(instanceKind, "quiet", a.node(m{"userDataBase64": "YQ==", "privateIp": "10.0.1.11"}))
	a.make(volumeKind, "disk", m{"availabilityZone": home + "a", "size": 10, "type": "gp3"})
	node, quiet := a.node(m{"userDataBase64": "YQ==", "userDataReplaceOnChange": true}),
		a.node(m{"userDataBase64": "YQ==", "privateIp": "10.0.1.11"})
	disk := m{"availabilityZone": home + "a", "size": 10, "type": "gp3"}
	for _, tc := range []struct {
		name   string
		inputs m
		want   driver.Plan
	}{
		{"node", node, driver.Same},
		{"node", driver.With(node, m{"userDataBase64": "Yg=="}), driver.Replace},
		{"quiet", driver.With(quiet, m{"userDataBase64": "Yg=="}), driver.Update},
		{"node", driver.With(node, m{"instanceType": "t3.medium"}), driver.Update},
		{"node", driver.With(node, m{"subnetId": a.id("b")}), driver.Replace},
		{"node", driver.With(node, m{"privateIp": "10.0.1.12"}), driver.Replace},
		{"node", driver.With(node, m{"iamInstanceProfile": "x"}), driver.Update},
		{"node", driver.With(node, m{"metadataOptions": m{"httpTokens": "required"}}), driver.Update},
		{"node", driver.With(node, m{"rootBlockDevice": m{"encrypted": true}}), driver.Replace},
		{"node", driver.With(node, m{"rootBlockDevice": m{"volumeSize": 20}}), driver.Update},
		{"disk", driver.With(disk, m{"size": 11}), driver.Update},
		{"disk", driver.With(disk, m{"encrypted": true}), driver.Replace},
		{"disk", driver.With(disk, m{"availabilityZone": home + "b"}), driver.Replace},
		{"vpc", m{"cidrBlock": "10.1.0.0/16", "enableDnsHostnames": true}, driver.Replace},
		{"vpc", m{"cidrBlock": "10.0.0.0/16"}, driver.Update},
	} {
		plan, replaces, err := a.Diff(tc.name, tc.inputs)
		if err != nil || plan != tc.want {
			t.Errorf("%s %v: have %s %v, %v; want %s", tc.name, tc.inputs, plan, replaces, err, tc.want)
		}
	}
}

func TestLookupsFindWhatIsThere(t *testing.T) {
	a := open(t).network()
	out, err := a.Invoke("aws:ec2/getVpc:getVpc", m{"id": a.id("vpc")})
	if err != nil || out["cidrBlock"].StringValue() != "10.0.0.0/16" {
		t.Errorf("vpc %v, %v", out, err)
	}
	out, err = a.Invoke("aws:ec2/getSubnets:getSubnets",
		m{"filters": []any{m{"name": "vpc-id", "values": []string{a.id("vpc")}}}})
	if err != nil || len(out["ids"].ArrayValue()) != 2 {
		t.Errorf("subnets %v, %v", out, err)
	}
	for token, args := range map[string]m{
		"aws:ec2/getVpc:getVpc": {"id": "vpc-1"}, "aws:ec2/getSubnet:getSubnet": {"vpcId": a.id("vpc")},
		"aws:ec2/getInstanceType:getInstanceType": {"instanceType": "t9.huge"},
		"aws:ec2/getAmi:getAmi": {"owners": []string{"136693071363"},
			"filters": []any{m{"name": "name", "values": []string{"debian-99-*"}}}},
		"aws:ssm/getParameter:getParameter": {"name": "/no/such"},
	} {
		if out, err := a.Invoke(token, args); err == nil {
			t.Errorf("%s finds %v", token, out)
		}
	}
	out, err = a.Invoke("aws:index/getAvailabilityZones:getAvailabilityZones", m{"state": "available"})
	if err != nil || len(out["names"].ArrayValue()) != 3 {
		t.Errorf("zones %v, %v", out, err)
	}
	out, err = a.Invoke("aws:iam/getPolicyDocument:getPolicyDocument",
		m{"statements": []any{m{"actions": []string{"s3:GetObject"}, "resources": []string{"*"}}}})
	if err != nil || !strings.Contains(out["json"].StringValue(), "s3:GetObject") {
		t.Errorf("policy %v, %v", out, err)
	}
}
