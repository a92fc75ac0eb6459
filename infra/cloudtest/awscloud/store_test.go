package awscloud

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"hypercache/infra/cloudtest/cloud/driver"
)

func TestRolesAreRefusedAsIAMDoes(t *testing.T) {
	a := open(t)
	a.make(roleType, "role", m{"name": "node", "assumeRolePolicy": trustEC2})
	for words, in := range map[string]m{
		"EntityAlreadyExists":      {"name": "node", "assumeRolePolicy": trustEC2},
		"contains an invalid JSON": {"assumeRolePolicy": "{"},
		"must contain principals":  {"assumeRolePolicy": allow([]string{"sts:AssumeRole"}, "*")},
		"range (1 - 64)":           {"name": strings.Repeat("x", 65), "assumeRolePolicy": trustEC2},
		"range (3600 - 43200)":     {"assumeRolePolicy": trustEC2, "maxSessionDuration": 60},
		"NoSuchEntity": {"assumeRolePolicy": trustEC2,
			"managedPolicyArns": []string{"arn:aws:iam::aws:policy/Nothing"}},
		"assumeRolePolicy\" is missin": {},
		"range (1 - 38)":               {"namePrefix": strings.Repeat("x", 39), "assumeRolePolicy": trustEC2},
	} {
		a.refuse(roleType, in, words)
	}
	a.refuse(policyType, m{"role": "nobody", "policy": allow([]string{"s3:*"}, "*")}, "NoSuchEntity")
	a.refuse(policyType, m{"role": "node", "policy": allow([]string{"GetObject"}, "*")},
		"must be prefaced by a vendor")
	a.refuse(policyType, m{"role": "node", "policy": allow([]string{"s3:*"}, "store-1/*")}, "must be in ARN format")
	a.refuse(policyType, m{"role": "node", "policy": trustEC2}, "should not specify a principal")
	a.refuse(attachmentType, m{"role": "node", "policyArn": "arn:aws:iam::aws:policy/Nothing"}, "NoSuchEntity")
	a.refuse(profileType, m{"role": "nobody"}, "NoSuchEntity")
}

func TestARoleWithPoliciesIsNotDeleted(t *testing.T) {
	a := open(t).identity(allow([]string{"s3:GetObject"}, "*"))
	wants(t, a.Delete("role"), "must delete policies first")
	a.make(attachmentType, "managed", m{"role": a.id("role"),
		"policyArn": "arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore"})
	if err := a.Delete("policy"); err != nil {
		t.Fatal(err)
	}
	wants(t, a.Delete("role"), "must detach all policies first")
	if err := a.Destroy(); err != nil {
		t.Error(err)
	}
}

func TestAProfileWithoutARoleStartsNothing(t *testing.T) {
	a := open(t).network()
	a.make(profileType, "profile", m{})
	a.refuse(instanceKind, a.node(m{"iamInstanceProfile": a.id("profile")}), "has no associated IAM Roles")
}

func TestPoliciesMatchWithWildcards(t *testing.T) {
	for _, tc := range []struct {
		pattern, s string
		want       bool
	}{
		{"*", "anything", true}, {"s3:Get*", "s3:GetObject", true}, {"s3:Get*", "s3:PutObject", false},
		{"a/*/c", "a/b/b/c", true},
		{"a?c", "abc", true}, {"a?c", "ac", false}, {"", "", true}, {"", "x", false}, {"x*", "x", true},
		{"*x", "xyx", true}, {"a*b*c", "aXbYb", false},
	} {
		if wildcard(tc.pattern, tc.s) != tc.want {
			t.Errorf("%q on %q: want %v", tc.pattern, tc.s, tc.want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`[ab]{0,8}`).Draw(t, "s")
		cut := rapid.IntRange(0, len(s)).Draw(t, "cut")
		if p := s[:cut] + "*"; !wildcard(p, s) || !wildcard("*"+s[cut:], s) ||
			!wildcard(strings.ReplaceAll(s, "a", "?"), s) {
			t.Fatalf("%q", s)
		}
	})
}

func TestConditionsHoldAsIAMSays(t *testing.T) {
	context := map[string]string{"k": "value"}
	for _, tc := range []struct {
		operator, key, value string
		want                 bool
	}{
		{"StringEquals", "k", "value", true}, {"StringEquals", "k", "Value", false},
		{"StringEquals", "absent", "x", false},
		{"StringNotEquals", "k", "x", true}, {"StringNotEquals", "absent", "x", true},
		{"StringLike", "k", "v*", true}, {"StringNotLike", "k", "v*", false},
		{"StringEqualsIfExists", "absent", "x", true}, {"StringEqualsIgnoreCase", "k", "VALUE", true},
		{"Null", "absent", "true", true}, {"Null", "k", "true", false},
		{"ArnNotEquals", "k", "v*", false}, {"Unheard", "k", "value", false},
	} {
		if holds(tc.operator, context, tc.key, []string{tc.value}) != tc.want {
			t.Errorf("%s %s %q: want %v", tc.operator, tc.key, tc.value, tc.want)
		}
	}
}

func TestBucketsAreRefusedAsS3Does(t *testing.T) {
	a := open(t).store()
	a.refuse(bucketType, m{"bucket": "store-1"}, "BucketAlreadyOwnedByYou")
	a.refuse(bucketType, m{"bucket": "example"}, "BucketAlreadyExists")
	for _, name := range []string{"Upper", "ab", "under_score", "10.0.0.1", "two..dots", strings.Repeat("x", 64)} {
		a.refuse(bucketType, m{"bucket": name}, "invalid value for bucket")
	}
	a.make(bucketType, "Named-By-Pulumi", m{})
	if name := a.id("Named-By-Pulumi"); name != strings.ToLower(name) || !bucketName.MatchString(name) {
		t.Errorf("the name is %q", name)
	}
	a.refuse(objectType, m{"bucket": "nowhere", "key": "x", "content": "x"}, "NoSuchBucket")
	a.refuse(objectType, m{"bucket": "store-1", "key": "x", "content": "x", "contentBase64": "eA=="},
		"conflicts with")
	a.refuse("aws:s3/bucketVersioningV2:BucketVersioningV2",
		m{"bucket": "store-1", "versioningConfiguration": m{"status": "On"}}, "expected status to be one of")
	a.refuse("aws:s3/bucketServerSideEncryptionConfigurationV2:BucketServerSideEncryptionConfigurationV2",
		m{"bucket": "store-1", "rules": []any{m{"applyServerSideEncryptionByDefault": m{"sseAlgorithm": "AES"}}}},
		"expected sseAlgorithm to be one of")
	a.refuse("aws:s3/bucketOwnershipControls:BucketOwnershipControls",
		m{"bucket": "store-1", "rule": m{"objectOwnership": "Mine"}}, "expected objectOwnership")
}

func TestPublicPoliciesAreBlocked(t *testing.T) {
	a := open(t).store()
	open := func(resource string) m {
		return m{"bucket": "store-1",
			"policy": `{"Statement":[{"Effect":"Allow","Principal":"*","Action":"s3:GetObject","Resource":"` +
				resource + `"}]}`}
	}
	kind := "aws:s3/bucketPolicy:BucketPolicy"
	a.refuse(kind, open("arn:aws:s3:::store-1/*"), "BlockPublicPolicy")
	a.refuse(kind, open("arn:aws:s3:::other/*"), "Policy has invalid resource")
	a.make("aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "block",
		m{"bucket": "store-1", "blockPublicPolicy": false})
	a.make(kind, "policy", open("arn:aws:s3:::store-1/*"))
}

func TestAFullBucketIsDeletedByForceOnly(t *testing.T) {
	a := open(t)
	a.make(bucketType, "bucket", m{"bucket": "store-1"})
	a.make(objectType, "object", m{"bucket": "store-1", "key": "x", "content": "x"})
	wants(t, a.Delete("bucket"), "BucketNotEmpty")
	if _, _, err := a.Apply("bucket", m{"bucket": "store-1", "forceDestroy": true}); err != nil {
		t.Fatal(err)
	}
	if err := a.Delete("bucket"); err != nil {
		t.Error(err)
	}
}

func TestADeletedSecretKeepsItsNameForItsWindow(t *testing.T) {
	a := open(t)
	a.make(secretType, "secret", m{"name": "gossip", "recoveryWindowInDays": 7})
	a.refuse(secretType, m{"name": "gossip"}, "ResourceExistsException")
	if err := a.Delete("secret"); err != nil {
		t.Fatal(err)
	}
	a.refuse(secretType, m{"name": "gossip"}, "already scheduled for deletion")
	if left := a.cloud.Leftovers(); len(left) != 1 || !strings.Contains(left[0], "scheduled for deletion") {
		t.Errorf("leftovers %v", left)
	}
	a.clock.add(8 * 24 * time.Hour)
	a.make(secretType, "secret", m{"name": "gossip", "recoveryWindowInDays": 0})
	if err := a.Delete("secret"); err != nil {
		t.Fatal(err)
	}
	a.make(secretType, "secret", m{"name": "gossip"})
}

func TestSecretsAreRefusedAsSecretsManagerDoes(t *testing.T) {
	a := open(t).store()
	a.refuse(secretType, m{"name": "x", "recoveryWindowInDays": 3}, "to be 0 or in the range (7 - 30)")
	a.refuse(secretType, m{"name": "with space"}, "invalid value for name")
	a.refuse(versionType, m{"secretId": a.id("secret")}, "exactly one of")
	a.refuse(versionType, m{"secretId": "nowhere", "secretString": "x"}, "ResourceNotFoundException")
	a.refuse(versionType, m{"secretId": a.id("secret"), "secretString": strings.Repeat("x", maxSecret+1)},
		"ValidationException")
	if r := a.Get("value"); !r.Outputs["secretString"].IsSecret() {
		t.Error("the value is not marked secret")
	}
}

// balancer are the inputs of an internal network balancer with fixed addresses.
func (a *account) balancer(changes m) m {
	a.t.Helper()
	return driver.With(m{
		"name": "front", "internal": true, "loadBalancerType": "network", "subnetMappings": []any{
			m{"subnetId": a.id("a"), "privateIpv4Address": "10.0.1.30"},
			m{"subnetId": a.id("b"), "privateIpv4Address": "10.0.1.90"},
		},
	}, changes)
}

func (a *account) lookup(name string) []netip.Addr {
	vm, _ := a.memory.Machine(a.id("node"))
	return vm.Resolve(name)
}

func TestABalancerTakesItsAddresses(t *testing.T) {
	a := open(t).network()
	a.make(balancerKind, "lb", a.balancer(nil))
	a.refuse(instanceKind, a.node(m{"privateIp": "10.0.1.30"}), "InvalidIPAddress.InUse")
	a.make(instanceKind, "node", a.node(nil))
	if have := a.lookup(a.Get("lb").Out("dnsName")); len(have) != 2 || have[0].String() != "10.0.1.30" {
		t.Errorf("it resolves to %v", have)
	}
	wants(t, a.Delete("b"), "DependencyViolation")
}

func TestBalancersAreRefusedAsELBDoes(t *testing.T) {
	a := open(t).network()
	one := []any{m{"subnetId": a.id("a"), "privateIpv4Address": "10.0.1.99"}}
	two := []any{m{"subnetId": a.id("a")}, m{"subnetId": a.id("a")}}
	for words, change := range map[string]m{
		"does not fall within":                           {"subnetMappings": one},
		"multiple subnets in the same Availability Zone": {"subnetMappings": two},
		"internal network load balancers only":           {"internal": false},
		"at most 32":                                     {"name": strings.Repeat("x", 33)},
		"internal-":                                      {"name": "internal-x"},
		"has no internet gateway": {"internal": false,
			"subnetMappings": []any{m{"subnetId": a.id("a")}}},
		"SubnetNotFound": {"subnetMappings": []any{m{"subnetId": "subnet-1"}}},
		"At least two subnets": {"loadBalancerType": "application",
			"subnetMappings": []any{m{"subnetId": a.id("a")}}}, "must be specified": {"subnetMappings": nil},
	} {
		a.refuse(balancerKind, a.balancer(change), words)
	}
	a.make(balancerKind, "lb", a.balancer(m{"enableDeletionProtection": true}))
	a.refuse(balancerKind, a.balancer(m{"subnetMappings": []any{m{"subnetId": a.id("a")}}}),
		"DuplicateLoadBalancerName")
	wants(t, a.Delete("lb"), "OperationNotPermitted")
}

func TestListenersAndTargetsFitTogether(t *testing.T) {
	a := open(t).network()
	a.make(balancerKind, "lb", a.balancer(nil))
	a.make(instanceKind, "node", a.node(nil))
	group := m{"port": 8080, "protocol": "TCP", "vpcId": a.id("vpc"),
		"healthCheck": m{"protocol": "HTTP", "port": "9080", "path": "/ready"}}
	a.make(targetType, "group", group)
	a.make(targetType, "web", driver.With(group, m{"protocol": "HTTP"}))
	a.make(targetType, "addresses", driver.With(group, m{"targetType": "ip"}))
	a.make(registerType, "reg", m{"targetGroupArn": a.id("group"), "targetId": a.id("node"), "port": 8080})
	a.make(registerType, "reg-ip", m{"targetGroupArn": a.id("addresses"), "targetId": "10.0.1.10"})
	a.refuse(registerType, m{"targetGroupArn": a.id("addresses"), "targetId": "192.0.2.1"}, "within the VPC")
	a.refuse(registerType, m{"targetGroupArn": a.id("group"), "targetId": "i-1"}, "InvalidTarget")
	a.refuse(registerType, m{"targetGroupArn": "arn:x", "targetId": "i-1"}, "TargetGroupNotFound")
	a.refuse(targetType, driver.With(group, m{"healthCheck": m{"interval": 1}}), "range (5 - 300)")
	a.refuse(targetType, driver.With(group, m{"healthCheck": m{"protocol": "TCP", "path": "/"}}),
		"cannot be specified")
	a.refuse(targetType, driver.With(group, m{"vpcId": nil}), "must be specified")

	listener := func(target string) m {
		return m{"loadBalancerArn": a.id("lb"), "port": 8080, "protocol": "TCP",
			"defaultActions": []any{m{"type": "forward", "targetGroupArn": target}}}
	}
	a.refuse(listenerType, listener(a.id("web")), "is not supported with a target group")
	a.refuse(listenerType, driver.With(listener(a.id("group")), m{"protocol": "HTTP"}), "UnsupportedProtocol")
	a.refuse(listenerType, driver.With(listener(""), m{"defaultActions": []any{m{"type": "forward"}}}),
		"either \"target_group_arn\"")
	a.make(listenerType, "listener", listener(a.id("group")))
	a.refuse(listenerType, listener(a.id("group")), "DuplicateListener")
	wants(t, a.Delete("group"), "ResourceInUse")
	if err := a.Destroy(); err != nil {
		t.Fatal(err)
	}
	if left := a.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("leftovers %v", left)
	}
}

func TestANetworkBalancerIsReplacedWhenItLosesASubnet(t *testing.T) {
	a := open(t).network()
	a.make(balancerKind, "lb", a.balancer(nil))
	for _, tc := range []struct {
		change m
		want   driver.Plan
	}{
		{m{}, driver.Same}, {m{"enableCrossZoneLoadBalancing": true}, driver.Update},
		{m{"internal": false}, driver.Replace},
		{m{"subnetMappings": []any{m{"subnetId": a.id("a"), "privateIpv4Address": "10.0.1.30"}}}, driver.Replace},
		{m{"securityGroups": []string{a.id("nodes")}}, driver.Replace},
	} {
		if plan, _, err := a.Diff("lb", a.balancer(tc.change)); err != nil || plan != tc.want {
			t.Errorf("%v: have %s, %v; want %s", tc.change, plan, err, tc.want)
		}
	}
}

func TestPrivateNamesResolveInTheirNetworks(t *testing.T) {
	a := open(t).network()
	a.make(zoneType, "zone", m{"name": "cache.internal", "vpcs": []any{m{"vpcId": a.id("vpc")}}})
	record := func(name, value string) m {
		return m{"zoneId": a.id("zone"), "name": name, "type": "A", "ttl": 60, "records": []string{value}}
	}
	a.make(recordType, "node-1", record("node-1", "10.0.1.10"))
	a.make(recordType, "alias", m{"zoneId": a.id("zone"), "name": "front.cache.internal", "type": "CNAME",
		"ttl": 60, "records": []string{"node-1.cache.internal."}})
	a.make(instanceKind, "node", a.node(nil))
	for name, want := range map[string]string{
		"node-1.cache.internal": "10.0.1.10", "NODE-1.cache.internal.": "10.0.1.10",
		"front.cache.internal":                       "10.0.1.10",
		"ip-10-0-1-10.eu-central-1.compute.internal": "10.0.1.10", "node-2.cache.internal": "", "example.com": "",
	} {
		have := ""
		if list := a.lookup(name); len(list) > 0 {
			have = list[0].String()
		}
		if have != want {
			t.Errorf("%s is %q, want %q", name, have, want)
		}
	}
	a.refuse(recordType, record("node-1.cache.internal", "10.0.1.11"), "but it already exists")
	a.refuse(recordType, record("x", "300.0.0.1"), "ARRDATAIllegalIPv4Address")
	a.refuse(recordType, driver.With(record("x", "10.0.0.1"), m{"ttl": nil}), "all of `records,ttl`")
	a.refuse(recordType, driver.With(record("x", "10.0.0.1"), m{"zoneId": "Z1"}), "NoSuchHostedZone")
	a.refuse(zoneType, m{"name": "cache.internal", "vpcs": []any{m{"vpcId": a.id("vpc")}}}, "ConflictingDomainExists")
	a.refuse(zoneType, m{"name": "x.internal", "vpcs": []any{m{"vpcId": "vpc-1"}}}, "InvalidVPCId")
	wants(t, a.Delete("zone"), "HostedZoneNotEmpty")
	if _, _, err := a.Apply("vpc", m{"cidrBlock": "10.0.0.0/16"}); err != nil {
		t.Fatal(err)
	}
	if have := a.lookup("node-1.cache.internal"); have != nil {
		t.Errorf("a network without host names resolves %v", have)
	}
}

func TestAlarmsTopicsAndSnapshotsAreChecked(t *testing.T) {
	a := open(t)
	topic := a.make("aws:sns/topic:Topic", "alarms", m{})
	alarm := func(changes m) m {
		return driver.With(m{
			"comparisonOperator": "GreaterThanThreshold", "evaluationPeriods": 2, "metricName": "DiskUse",
			"namespace": "HyperCache", "period": 300,
			"statistic": "Maximum", "threshold": 80, "alarmActions": []string{topic.ID},
		}, changes)
	}
	kind := "aws:cloudwatch/metricAlarm:MetricAlarm"
	a.make(kind, "disk", alarm(nil))
	for words, change := range map[string]m{
		"expected comparisonOperator": {"comparisonOperator": ">"}, "multiple of 60": {"period": 90},
		"expected statistic": {"statistic": "Mean"},
		"invalid ARN":        {"alarmActions": []string{"me"}},
		"no such topic":      {"alarmActions": []string{topic.ID + "x"}}, "must be set": {"statistic": nil},
		"treatMissingData": {"treatMissingData": "panic"}, "more than a day": {"evaluationPeriods": 1000},
	} {
		a.refuse(kind, alarm(change), words)
	}
	subscription := "aws:sns/topicSubscription:TopicSubscription"
	a.make(subscription, "mail", m{"topic": topic.ID, "protocol": "email", "endpoint": "ops@example.com"})
	a.refuse(subscription, m{"topic": topic.ID + "x", "protocol": "email", "endpoint": "ops@example.com"}, "NotFound")
	a.refuse(subscription, m{"topic": topic.ID, "protocol": "email", "endpoint": "ops"}, "InvalidParameter")
	a.refuse(subscription, m{"topic": topic.ID, "protocol": "pigeon", "endpoint": "x"}, "expected protocol")

	role := a.make(roleType, "dlm", m{"assumeRolePolicy": strings.Replace(trustEC2, "ec2.", "dlm.", 1)})
	life := func(interval int, arn string) m {
		return m{"description": "daily snapshots", "executionRoleArn": arn, "policyDetails": m{
			"resourceTypes": []string{"VOLUME"}, "targetTags": m{"Cluster": "x"},
			"schedules": []any{m{"name": "daily", "createRule": m{"interval": interval},
				"retainRule": m{"count": 7}}},
		}}
	}
	lifecycle := "aws:dlm/lifecyclePolicy:LifecyclePolicy"
	a.make(lifecycle, "snapshots", life(24, role.Out("arn")))
	a.refuse(lifecycle, life(5, role.Out("arn")), "expected interval to be one of")
	a.refuse(lifecycle, life(24, "arn:aws:iam::1:role/x"), "Invalid execution role")
	a.refuse(lifecycle, driver.With(life(24, role.Out("arn")), m{"description": "daily: snapshots"}),
		"invalid value for description")
}

func TestARefreshOfWhatIsUnchangedSeesNoChange(t *testing.T) {
	a := open(t).network().internet().egress().store().identity(allow([]string{"s3:GetObject"}, "*"))
	node := a.node(m{
		"iamInstanceProfile": a.id("profile"), "metadataOptions": m{"httpTokens": "required"},
		"rootBlockDevice": m{"volumeType": "gp3", "encrypted": true},
	})
	a.make(instanceKind, "node", node)
	disk := m{"availabilityZone": home + "a", "size": 10, "type": "gp3", "iops": 4000}
	a.make(volumeKind, "disk", disk)
	if _, _, err := a.Apply("disk", driver.With(disk, m{"iops": 5000})); err != nil {
		t.Fatal(err)
	}
	a.make(balancerKind, "lb", a.balancer(nil))
	for name, inputs := range map[string]m{
		"node": node, "disk": driver.With(disk, m{"iops": 5000}), "lb": a.balancer(nil),
		"secret": {"name": "gossip", "recoveryWindowInDays": 0},
		"vpc":    {"cidrBlock": "10.0.0.0/16", "enableDnsHostnames": true},
		"role":   {"name": "node", "assumeRolePolicy": trustEC2},
	} {
		if found, err := a.Refresh(name); err != nil || !found {
			t.Fatal(name, found, err)
		}
		if plan, replaces, err := a.Diff(name, inputs); err != nil || plan != driver.Same {
			t.Errorf("%s: after a refresh the same inputs are %s %v, %v", name, plan, replaces, err)
		}
	}
	if r := a.Get("disk"); r.Outputs["iops"].NumberValue() != 5000 {
		t.Errorf("iops %v", r.Outputs["iops"])
	}
}
