package aws

import (
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// perNode lists children that every node has, and numbered those of which each zone has one.
func perNode(nodes int, parts ...string) []string {
	var out []string
	for i := range nodes {
		for _, part := range parts {
			out = append(out, fmt.Sprintf("node-%d-%s", i+1, part))
		}
	}
	return out
}

func numbered(count int, parts ...string) []string {
	var out []string
	for i := range count {
		for _, part := range parts {
			out = append(out, fmt.Sprintf(part, i+1))
		}
	}
	return out
}

// always are the children of every cluster in a network of its own.
func always() []string {
	return slices.Concat([]string{
		"cluster", "network", "network-default-group", "edge-routes", "store-endpoint", "firewall", "rule-out",
		"rule-gossip-tcp-10.0.1.0-24", "rule-gossip-udp-10.0.1.0-24", "rule-rpc-10.0.1.0-24",
		"program-store", "program-store-access", "program-store-owner", "program-store-encryption", "program-store-policy", "program",
		"gossip-key", "gossip-key-secret", "gossip-key-stored", "cluster-secret", "cluster-secret-secret", "cluster-secret-stored",
		"password", "password-secret", "password-stored",
		"role", "role-policy", "profile", "image-ubuntu-24.04-amd64", "fleet",
	}, numbered(3, "nodes-%d", "nodes-%d-routes", "nodes-%d-association", "edge-%d", "edge-%d-association"),
		perNode(3, "data", "gate", "vm", "data-attachment", "seat"))
}

func TestAClusterHasExactlyTheseChildren(t *testing.T) {
	for name, tc := range map[string]struct {
		set  map[string]string
		more []string
	}{
		"by default": {nil, slices.Concat([]string{
			"gateway", "edge-way-out", "nat-1", "nat-1-ip", "rule-resp-10.0.0.0-16", "rule-http-10.0.0.0-16",
		}, numbered(3, "nodes-%d-way-out"))},
		"with a gateway in each zone": {map[string]string{"nat": "zone"}, slices.Concat([]string{
			"gateway", "edge-way-out", "rule-resp-10.0.0.0-16", "rule-http-10.0.0.0-16",
		}, numbered(3, "nodes-%d-way-out", "nat-%d", "nat-%d-ip"))},
		"sealed": {sealedOff(), slices.Concat([]string{
			"rule-resp-10.0.0.0-16", "rule-http-10.0.0.0-16", "endpoints", "secrets-endpoint", "metrics-endpoint", "alarms", "alarms-email",
		}, numbered(3, "endpoints-from-nodes-%d"), perNode(3, "alarm", "recovery", "disk-alarm"))},
		"with everything": {everything(), slices.Concat([]string{
			"gateway", "edge-way-out", "key", "spread", "alarms", "alarms-email", "snapshots-role", "snapshots-role-policy", "snapshots",
			"balancer", "balancer-resp", "balancer-resp-listener", "balancer-http", "balancer-http-listener", "zone", "cluster-name",
			"rule-resp-203.0.113.0-24", "rule-resp-198.51.100.7-32", "rule-http-203.0.113.0-24", "rule-http-198.51.100.7-32",
			"rule-ssh-198.51.100.0-24", "rule-balancer-resp-10.0.0.5-32", "rule-balancer-resp-10.0.0.69-32", "rule-balancer-resp-10.0.0.133-32",
			"rule-balancer-http-10.0.0.5-32", "rule-balancer-http-10.0.0.69-32", "rule-balancer-http-10.0.0.133-32",
		}, numbered(3, "nodes-%d-way-out"),
			perNode(3, "ip", "ip-association", "resp-target", "http-target", "name", "alarm", "recovery", "disk-alarm"))},
	} {
		r := deploy(t, tc.set)
		want := append(always(), tc.more...)
		slices.Sort(want)
		if got := r.names(); !slices.Equal(got, want) {
			t.Errorf("%s: missing %q, unexpected %q", name, without(want, got), without(got, want))
		}
		if len(r.twice) > 0 {
			t.Errorf("%s: registered twice: %q", name, r.twice)
		}
	}
}

func without(all, some []string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return slices.Contains(some, s) })
}

func TestEveryChildIsUnderTheComponentAndInItsRegion(t *testing.T) {
	for _, set := range []map[string]string{nil, everything(), sealedOff(), theirs()} {
		r := deploy(t, set)
		for _, name := range r.names() {
			res := r.resources[name]
			if parent := lastPart(res.rpc.GetParent()); name != "cluster" && parent != "cluster" {
				t.Errorf("%s is under %q", name, parent)
			}
			if strings.HasPrefix(res.kind, "aws:") && !strings.Contains(res.provider, "pulumi:providers:aws::aws::") {
				t.Errorf("%s is made by the provider %q", name, res.provider)
			}
		}
		r.expect(t, "aws", map[string]any{"region": "eu-west-1"})
	}
}

func TestEverythingIsNamedAndTagged(t *testing.T) {
	r := deploy(t, everything())
	tagless := []string{
		"EipAssociation", "Route", "RouteTableAssociation", "VolumeAttachment", "RolePolicy", "RolePolicyAttachment", "SecretVersion",
		"BucketPublicAccessBlock", "BucketOwnershipControls", "BucketServerSideEncryptionConfigurationV2", "BucketPolicy",
		"TargetGroupAttachment", "Record", "TopicSubscription",
	}
	for _, name := range r.names() {
		res := r.resources[name]
		if !strings.HasPrefix(res.kind, "aws:") || slices.Contains(tagless, lastPart(res.kind)) {
			continue
		}
		if got, _ := r.input(t, name, "tags.Name").(string); !strings.HasPrefix(got, "hypercache-test-") && got != "hypercache-test" {
			t.Errorf("%s, %s, has the tags %v", name, res.kind, r.input(t, name, "tags"))
		}
	}
	var given map[string]any
	if text, ok := r.input(t, "aws", "defaultTags").(string); ok { // a provider's nested inputs travel as JSON
		if err := json.Unmarshal([]byte(text), &given); err != nil {
			t.Fatal(err)
		}
	} else {
		given, _ = r.input(t, "aws", "defaultTags").(map[string]any)
	}
	if want := map[string]any{"Cluster": "hypercache-test", "team": "platform"}; !reflect.DeepEqual(given["tags"], want) {
		t.Errorf("everything is tagged %v, want %v", given["tags"], want)
	}
	r.expect(t, "node-1-vm", map[string]any{"rootBlockDevice.tags.Name": "hypercache-test-node-1-os"})
}

// cloudName is what a resource is called in AWS, or begins with there, with its type.
func cloudName(res registered) string {
	for key, v := range res.inputs {
		switch key {
		case "name", "namePrefix", "bucketPrefix", "keyName":
			if v.IsString() && res.kind != "aws:route53/zone:Zone" && res.kind != "aws:route53/record:Record" && res.kind != "aws:iam/rolePolicy:RolePolicy" {
				return res.kind + " " + v.StringValue()
			}
		}
	}
	return ""
}

func TestTwoStacksHaveNoNameInCommon(t *testing.T) {
	names := func(stack string) map[string]string {
		r, err := run(t, knobs(t, everything()), stack, ireland())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for name, res := range r.resources {
			if n := cloudName(res); n != "" {
				out[n] = name
			}
		}
		return out
	}
	long := "a-very-long-name-of-a-stack-that-has-only-its-end-"
	for _, pair := range [][2]string{{"blue", "green"}, {long + "a", long + "b"}} {
		one, two := names(pair[0]), names(pair[1])
		for n, child := range one {
			if _, ok := two[n]; ok && !strings.HasSuffix(n, "-") { // AWS makes the end of those
				t.Errorf("%s is called %s in both", child, n)
			}
		}
		if len(one) < 20 {
			t.Errorf("only %d names were compared", len(one))
		}
	}
}

func TestNamesFitWhatAWSTakes(t *testing.T) {
	for _, stack := range []string{"test", "A-b-C", "a-very-long-name-of-a-stack-that-has-only-its-end-ab"} {
		r, err := run(t, knobs(t, everything()), stack, ireland())
		if err != nil {
			t.Fatal(err)
		}
		for path, most := range map[[2]string]int{
			{"program-store", "bucketPrefix"}: 37, {"role", "namePrefix"}: 38, {"snapshots-role", "namePrefix"}: 38, {"profile", "namePrefix"}: 102,
			{"balancer", "name"}: 32, {"balancer-resp", "name"}: 32, {"balancer-http", "name"}: 32, {"alarms", "name"}: 256, {"node-1-alarm", "name"}: 255,
		} {
			name := r.input(t, path[0], path[1]).(string)
			if len(name) > most || !strings.HasPrefix(strings.ToLower(name), "hypercache-") || strings.Contains(name, "--") {
				t.Errorf("%s of %s is %s, %d characters of %d", path[1], path[0], name, len(name), most)
			}
		}
		if bucket := r.input(t, "program-store", "bucketPrefix").(string); bucket != strings.ToLower(bucket) {
			t.Errorf("the bucket is called %s", bucket)
		}
	}
}

func TestMistakesAreRefusedAtOnceBeforeAnyResource(t *testing.T) {
	c := knobs(t, map[string]string{
		"imageId": "ami-x", "vmSize": "m9i.large", "zones": `["eu-west-1a","eu-west-1f"]`, "sshPublicKey": "ecdsa-sha2-nistp256 AAAA",
		"tags": `{"Name":"x"}`, "spread": "true", "nodeCount": "15",
	})
	c.Binary = "bin/missing"
	c.Settings["cache.nonsense"] = "1"
	r, err := run(t, c, "my.stack", ireland())
	if err == nil {
		t.Fatal("nine mistakes were accepted")
	}
	for _, want := range []string{
		"stack: ", "imageId: ", "vmSize: m9i.large is not to be had in eu-west-1",
		"zones: eu-west-1f is not among those of this account in eu-west-1, which are eu-west-1a, eu-west-1b, eu-west-1c",
		"sshPublicKey: ", `tags: "Name"`, "spread: AWS keeps 7", "bin/missing", "cache.nonsense",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if got := r.names(); len(got) > 0 {
		t.Errorf("registered %q, want nothing", got)
	}
}

func TestWhatAWSWouldRefuseIsRefusedBefore(t *testing.T) {
	for name, tc := range map[string]struct {
		set  map[string]string
		want string
	}{
		"a size that a zone lacks":    {map[string]string{"vmSize": "c7i.large"}, "vmSize: c7i.large is not to be had in eu-west-1c, only in eu-west-1a, eu-west-1b"},
		"an image for other machines": {map[string]string{"imageId": "ami-0000000a"}, "imageId: ami-0000000a is for arm64 and architecture is amd64"},
		"too many tags":               {map[string]string{"tags": `{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":""}`}, "tags: there are 9"},
		"a tag of the stack's":        {map[string]string{"tags": `{"DataDisk":"x"}`}, `tags: "DataDisk"`},
		"another partition":           {map[string]string{"region": "cn-north-1"}, "region: cn-north-1"},
		"no id of a network":          {map[string]string{"networkId": "hub", "subnetIds": `["x","y","z"]`, "subnetCidrs": `["10.0.7.0/24","10.0.8.0/24","10.0.9.0/24"]`}, `networkId: "hub"`},
	} {
		_, err := run(t, knobs(t, tc.set), "test", ireland())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, tc.want)
		}
	}
}

func TestASizeThatAnUnusedZoneLacksIsTaken(t *testing.T) {
	deploy(t, map[string]string{"vmSize": "c7i.large", "nodeCount": "2"})
}

func TestSevenNodesAZoneCanBeSpread(t *testing.T) {
	deploy(t, map[string]string{"spread": "true", "nodeCount": "21"})
}

func TestUserDataThatIsTooLongIsRefusedBeforeAnyResource(t *testing.T) {
	c := knobs(t, nil)
	p, err := plan.Build(c, "test")
	if err != nil {
		t.Fatal(err)
	}
	var long strings.Builder
	for i := range 6000 {
		fmt.Fprintf(&long, "%x", i*i*2654435761)
	}
	load := payloadOf(t, c, p)
	load.Configs[1] += "# " + long.String() + "\n"
	if err := bootable(Args{Config: c, Plan: p, Stack: "test"}, load); err == nil || !strings.Contains(err.Error(), "node-2") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutCredentialsTheErrorSaysHowToGetThem(t *testing.T) {
	_, err := run(t, knobs(t, nil), "test", nil)
	if err == nil || !strings.Contains(err.Error(), "AWS_PROFILE") {
		t.Errorf("got %v", err)
	}
}

func TestNoSecretIsInUserDataOrOutputs(t *testing.T) {
	r := deploy(t, everything())
	for _, secret := range []string{gossipValue, secretValue, wordValue} {
		if secret != wordValue && strings.Contains(r.outputs, secret) {
			t.Errorf("outputs hold %s", secret)
		}
		for _, node := range []string{"node-1", "node-2", "node-3"} {
			if strings.Contains(r.userData(t, node), secret) {
				t.Errorf("%s boots with %s", node, secret)
			}
		}
		for _, name := range r.names() {
			if v := r.resources[name].inputs; strings.Contains(r.text(t, name), secret) && !v.ContainsSecrets() {
				t.Errorf("%s holds %s in the open", name, secret)
			}
		}
	}
	if !slices.Equal(r.hidden, []string{"password"}) {
		t.Errorf("the outputs %q are secrets", r.hidden)
	}
	for name, value := range map[string]string{"gossip-key-stored": gossipValue, "cluster-secret-stored": secretValue, "password-stored": wordValue} {
		if v := r.resources[name].inputs["secretString"]; !v.IsSecret() || v.SecretValue().Element.StringValue() != value {
			t.Errorf("%s holds %v", name, v)
		}
	}
}

func TestNodesAreToldWhereProgramSecretsAndDiskAre(t *testing.T) {
	r := deploy(t, nil)
	for _, want := range []string{
		"https://program-store-id.s3.eu-west-1.amazonaws.com/" + r.input(t, "program", "key").(string), "gossip-key-secret-id",
		"cluster-secret-secret-id", "HC_PASSWORD='password-secret-id'", "/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_node2dataid", "/dev/sdf", "/dev/xvdf", "node-2", "10.0.1.68",
	} {
		if !strings.Contains(r.userData(t, "node-2"), want) {
			t.Errorf("node-2 is not told %s", want)
		}
	}
}

func TestAProgramFromAnAddressNeedsNoStore(t *testing.T) {
	r := deploy(t, map[string]string{
		"binaryUrl": "https://example.com/hypercache", "binarySha256": strings.Repeat("ab", 32),
		"tags": `{"a":"","b":"","c":"","d":"","e":"","f":"","g":"","h":"","i":""}`,
	})
	for _, name := range r.names() {
		if strings.HasPrefix(name, "program") {
			t.Errorf("%s is registered", name)
		}
	}
	if !strings.Contains(r.userData(t, "node-1"), "https://example.com/hypercache") {
		t.Error("node-1 is not told the address")
	}
	if policy := r.input(t, "role-policy", "policy").(string); strings.Contains(policy, "s3:") {
		t.Errorf("nodes may do %s", policy)
	}
}

func TestOutputsAreTheContractAndSomeMore(t *testing.T) {
	var got, want map[string]any
	if err := json.Unmarshal([]byte(deploy(t, everything()).outputs), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
		"nodes": [
			{"name": "node-1", "zone": "eu-west-1a", "privateIp": "10.0.1.4", "publicIp": "address-of-node-1-ip", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373},
			{"name": "node-2", "zone": "eu-west-1b", "privateIp": "10.0.1.68", "publicIp": "address-of-node-2-ip", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373},
			{"name": "node-3", "zone": "eu-west-1c", "privateIp": "10.0.1.132", "publicIp": "address-of-node-3-ip", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373}
		],
		"respEndpoints": ["address-of-node-1-ip:8080", "address-of-node-2-ip:8080", "address-of-node-3-ip:8080"],
		"httpEndpoints": ["address-of-node-1-ip:9080", "address-of-node-2-ip:9080", "address-of-node-3-ip:9080"],
		"connect": "redis-cli -h address-of-node-1-ip -p 8080", "password": "`+wordValue+`",
		"loadBalancer": "balancer.example", "loadBalancerAddresses": ["10.0.0.5", "10.0.0.69", "10.0.0.133"],
		"dnsNames": ["node-1.hypercache.internal", "node-2.hypercache.internal", "node-3.hypercache.internal", "cluster.hypercache.internal"]
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestAStackWithoutAPasswordHasNothingOfOne(t *testing.T) {
	r := deploy(t, map[string]string{"password": "none"})
	for _, name := range r.names() {
		if strings.HasPrefix(name, "password") {
			t.Errorf("%s is registered", name)
		}
	}
	if !strings.Contains(r.userData(t, "node-1"), "HC_PASSWORD=''\n") || !strings.Contains(r.outputs, `"password":""`) || len(r.hidden) > 0 {
		t.Errorf("node-1 is told of a password, or the outputs hold one: %s", r.outputs)
	}
}

func TestThePasswordIsLongAndNeedsNoQuotes(t *testing.T) {
	deploy(t, nil).expect(t, "password", map[string]any{"length": 48.0, "special": false})
}

func TestEveryImageAndSizeOfTheDefaultsIsKnown(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, os := range []string{"ubuntu-24.04", "debian-12"} {
			c := config.Config{VM: config.VM{OS: os, Architecture: arch}}
			if p := publisherOf(c); p.account == "" || !strings.Contains(p.pattern, arch) || size(c) == "" || architecture(c) == "" {
				t.Errorf("%s on %s: images %v, size %q, architecture %q", os, arch, p, size(c), architecture(c))
			}
		}
	}
}

func TestAnExistingNetworkIsUsedAsItIs(t *testing.T) {
	set := theirs()
	maps.Copy(set, map[string]string{"portLayout": "uniform", "loadBalancer": "true", "dnsZone": "hypercache.internal"})
	r := deploy(t, set)
	ours := []string{"network", "nodes-", "edge-", "gateway", "nat-", "store-endpoint", "endpoints", "secrets-endpoint"}
	for _, name := range r.names() {
		if slices.ContainsFunc(ours, func(p string) bool { return strings.HasPrefix(name, p) }) {
			t.Errorf("%s is registered", name)
		}
	}
	r.expect(t, "node-2-vm", map[string]any{"subnetId": "subnet-0000000b", "privateIp": "10.0.8.4", "vpcSecurityGroupIds[0]": "firewall-id"})
	r.expect(t, "firewall", map[string]any{"vpcId": "vpc-0000000a"})
	r.expect(t, "balancer-resp", map[string]any{"vpcId": "vpc-0000000a"})
	r.expect(t, "balancer", map[string]any{
		"subnetMappings[2].subnetId": "subnet-0000000c", "subnetMappings[2].privateIpv4Address": "10.0.9.254",
	})
	r.expect(t, "zone", map[string]any{"vpcs[0].vpcId": "vpc-0000000a"})
}

func TestAnExistingNetworkMustBeWhatTheStackSays(t *testing.T) {
	for name, tc := range map[string]struct {
		change map[string]string
		want   string
	}{
		"another range": {map[string]string{"subnetCidrs": `["10.0.7.0/24","10.0.8.0/24","10.0.10.0/24"]`},
			"subnetCidrs: 10.0.10.0/24 is not the range of subnet-0000000c, which is 10.0.9.0/24"},
		"another order": {map[string]string{"zones": `["eu-west-1b","eu-west-1a","eu-west-1c"]`},
			"subnetIds: subnet-0000000a is in zone eu-west-1a and stands where eu-west-1b is in zones"},
		"another network": {map[string]string{"networkId": "vpc-0000000b"}, "subnetIds: subnet-0000000b is in vpc-0000000a and not in networkId vpc-0000000b"},
		"another CIDR":    {map[string]string{"networkCidr": "10.0.0.0/17"}, "networkCidr: 10.0.0.0/17 is not a range of vpc-0000000a, which has 10.0.0.0/16"},
		"no such subnet":  {map[string]string{"subnetIds": `["subnet-0000000a","subnet-0000000b","subnet-0000000d"]`}, "subnetIds: look up subnet-0000000d"},
		"no names":        {map[string]string{"networkId": "vpc-0000000b", "dnsZone": "a.example"}, "dnsZone: vpc-0000000b answers no private names"},
	} {
		set := theirs()
		maps.Copy(set, tc.change)
		_, err := run(t, knobs(t, set), "test", ireland())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, tc.want)
		}
	}
}
