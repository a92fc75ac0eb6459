package awscloud

import (
	"encoding/json"
	"strings"
	"sync"
	"testing"
	"time"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
)

const (
	vpcType        = "aws:ec2/vpc:Vpc"
	subnetType     = "aws:ec2/subnet:Subnet"
	igwType        = "aws:ec2/internetGateway:InternetGateway"
	tableType      = "aws:ec2/routeTable:RouteTable"
	routeType      = "aws:ec2/route:Route"
	assocType      = "aws:ec2/routeTableAssociation:RouteTableAssociation"
	eipType        = "aws:ec2/eip:Eip"
	natType        = "aws:ec2/natGateway:NatGateway"
	groupType      = "aws:ec2/securityGroup:SecurityGroup"
	ingressType    = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
	egressType     = "aws:vpc/securityGroupEgressRule:SecurityGroupEgressRule"
	instanceKind   = "aws:ec2/instance:Instance"
	volumeKind     = "aws:ebs/volume:Volume"
	attachType     = "aws:ec2/volumeAttachment:VolumeAttachment"
	placementType  = "aws:ec2/placementGroup:PlacementGroup"
	keyType        = "aws:ec2/keyPair:KeyPair"
	endpointKind   = "aws:ec2/vpcEndpoint:VpcEndpoint"
	roleType       = "aws:iam/role:Role"
	policyType     = "aws:iam/rolePolicy:RolePolicy"
	profileType    = "aws:iam/instanceProfile:InstanceProfile"
	attachmentType = "aws:iam/rolePolicyAttachment:RolePolicyAttachment"
	bucketType     = "aws:s3/bucketV2:BucketV2"
	objectType     = "aws:s3/bucketObjectv2:BucketObjectv2"
	secretType     = "aws:secretsmanager/secret:Secret"
	versionType    = "aws:secretsmanager/secretVersion:SecretVersion"
	balancerKind   = "aws:lb/loadBalancer:LoadBalancer"
	targetType     = "aws:lb/targetGroup:TargetGroup"
	registerType   = "aws:lb/targetGroupAttachment:TargetGroupAttachment"
	listenerType   = "aws:lb/listener:Listener"
	zoneType       = "aws:route53/zone:Zone"
	recordType     = "aws:route53/record:Record"
	home           = "eu-central-1"
)

type m = map[string]any

// clock is a time that a test moves.
type clock struct {
	mu sync.Mutex
	t  time.Time
}

func (c *clock) now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.t
}

func (c *clock) add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.t = c.t.Add(d)
}

// account is a Cloud with its driver, machines of bookkeeping and a clock.
type account struct {
	*driver.Driver
	t      *testing.T
	cloud  *Cloud
	memory *cloud.Memory
	clock  *clock
}

func open(t *testing.T) *account {
	t.Helper()
	a := &account{t: t, memory: cloud.NewMemory(), clock: &clock{t: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}}
	var err error
	if a.cloud, err = New(Options{Compute: a.memory, Now: a.clock.now}); err != nil {
		t.Fatal(err)
	}
	config := m{"region": home, "defaultTags": `{"tags":{"Project":"test"}}`}
	if a.Driver, err = driver.Serve(a.cloud.Provider(), config); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a
}

// make creates a resource that must be accepted.
func (a *account) make(token, name string, inputs m) *driver.Resource {
	a.t.Helper()
	r, err := a.Create(token, name, inputs)
	if err != nil {
		a.t.Fatalf("%s: %v", name, err)
	}
	return r
}

// refuse tries what must be refused with these words.
func (a *account) refuse(token string, inputs m, words string) {
	a.t.Helper()
	_, err := a.Create(token, "refused", inputs)
	wants(a.t, err, words)
}

func wants(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("have %v, want %q", err, words)
	}
}

// network makes a VPC with a private subnet in each of two zones, with names in its DNS.
func (a *account) network() *account {
	a.make(vpcType, "vpc", m{"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": true})
	a.make(subnetType, "a", m{"vpcId": a.id("vpc"), "cidrBlock": "10.0.1.0/26", "availabilityZone": home + "a"})
	a.make(subnetType, "b", m{"vpcId": a.id("vpc"), "cidrBlock": "10.0.1.64/26", "availabilityZone": home + "b"})
	a.make(groupType, "nodes", m{"vpcId": a.id("vpc")})
	return a
}

// internet gives the network a NAT gateway in a public subnet, and the private subnets a route to it.
func (a *account) internet() *account {
	a.make(igwType, "igw", m{"vpcId": a.id("vpc")})
	a.make(subnetType, "edge", m{"vpcId": a.id("vpc"), "cidrBlock": "10.0.2.0/28", "availabilityZone": home + "a"})
	a.make(tableType, "public", m{"vpcId": a.id("vpc"),
		"routes": []any{m{"cidrBlock": "0.0.0.0/0", "gatewayId": a.id("igw")}}})
	a.make(assocType, "public-edge", m{"routeTableId": a.id("public"), "subnetId": a.id("edge")})
	a.make(eipType, "ip", m{"domain": "vpc"})
	a.make(natType, "nat", m{"subnetId": a.id("edge"), "allocationId": a.id("ip")})
	a.make(tableType, "private", m{"vpcId": a.id("vpc")})
	a.make(routeType, "default", m{"routeTableId": a.id("private"), "destinationCidrBlock": "0.0.0.0/0",
		"natGatewayId": a.id("nat")})
	a.make(assocType, "private-a", m{"routeTableId": a.id("private"), "subnetId": a.id("a")})
	a.make(assocType, "private-b", m{"routeTableId": a.id("private"), "subnetId": a.id("b")})
	return a
}

// egress lets the nodes out to everything.
func (a *account) egress() *account {
	a.make(egressType, "out", m{"securityGroupId": a.id("nodes"), "ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0"})
	return a
}

func (a *account) id(name string) string {
	a.t.Helper()
	r := a.Get(name)
	if r == nil {
		a.t.Fatalf("there is no resource %s", name)
	}
	return r.ID
}

func (a *account) ami() string {
	a.t.Helper()
	out, err := a.Invoke("aws:ec2/getAmi:getAmi", m{
		"owners": []string{"136693071363"}, "mostRecent": true,
		"filters": []any{m{"name": "name", "values": []string{"debian-12-*"}},
			m{"name": "architecture", "values": []string{"x86_64"}}},
	})
	if err != nil {
		a.t.Fatal(err)
	}
	return cloud.Str(out, "id")
}

// node are the inputs of a machine in subnet a.
func (a *account) node(changes m) m {
	a.t.Helper()
	return driver.With(m{
		"ami": a.ami(), "instanceType": "t3.small", "subnetId": a.id("a"),
		"vpcSecurityGroupIds": []string{a.id("nodes")},
		"privateIp":           "10.0.1.10", "tags": m{"Name": "node-1"},
	}, changes)
}

const trustEC2 = `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":"sts:AssumeRole"}]}`

// allow is a policy with one statement.
func allow(actions []string, resources ...string) string {
	text, _ := json.Marshal(m{"Version": "2012-10-17",
		"Statement": []any{m{"Effect": "Allow", "Action": actions, "Resource": resources}}})
	return string(text)
}

// identity makes a role with a policy, and a profile with the role.
func (a *account) identity(policy string) *account {
	a.make(roleType, "role", m{"name": "node", "assumeRolePolicy": trustEC2})
	if policy != "" {
		a.make(policyType, "policy", m{"role": a.id("role"), "policy": policy})
	}
	a.make(profileType, "profile", m{"role": a.id("role")})
	return a
}
