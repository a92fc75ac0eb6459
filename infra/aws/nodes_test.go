package aws

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"

	"hypercache/infra/config"
	"hypercache/infra/payload"
	"hypercache/infra/plan"
)

func payloadOf(t *testing.T, c config.Config, p plan.Plan) payload.Payload {
	t.Helper()
	root := t.TempDir()
	writeProgram(t, filepath.Join(root, "bin", "hypercache"), c.VM.Architecture)
	load, err := payload.Prepare(c, p, root)
	if err != nil {
		t.Fatal(err)
	}
	return load
}

// chain leaves of a resource's dependencies those that are about order among nodes.
func (r *recorder) chain(name string) []string {
	return slices.DeleteFunc(r.dependencies(name), func(s string) bool {
		return s != "fleet" && !strings.HasSuffix(s, "-seat") && !strings.HasSuffix(s, "-gate") && !strings.HasSuffix(s, "-vm") &&
			!strings.HasSuffix(s, "-attachment") && !strings.HasSuffix(s, "-ip-association") && !strings.HasSuffix(s, "-target")
	})
}

func TestNodesComeOneAfterTheOther(t *testing.T) {
	r := deploy(t, everything())
	for name, want := range map[string][]string{
		"node-1-gate": {"fleet"}, "node-1-vm": {"node-1-gate"},
		"node-2-gate": {"node-1-seat"}, "node-2-vm": {"node-2-gate"}, "node-2-data-attachment": {"node-2-vm"},
		"node-2-seat": {
			"node-1-seat", "node-2-data-attachment", "node-2-http-target", "node-2-ip-association", "node-2-resp-target", "node-2-vm",
		},
		"node-3-gate": {"node-2-seat"}, "node-2-data": nil,
	} {
		if got := r.chain(name); !slices.Equal(got, want) {
			t.Errorf("%s waits for %q, want %q", name, got, want)
		}
	}
}

func TestAVMBootsWhenAllItNeedsIsThere(t *testing.T) {
	r := deploy(t, everything())
	for _, first := range []string{
		"role-policy", "profile", "gossip-key-stored", "cluster-secret-stored", "password-stored", "program", "nodes-1-way-out", "nodes-1-association",
		"store-endpoint", "rule-out", "rule-gossip-tcp-10.0.1.0-24", "rule-resp-203.0.113.0-24", "key", "spread", "node-1-data",
	} {
		if !slices.Contains(r.dependencies("node-1-vm"), first) {
			t.Errorf("node-1 boots without waiting for %s", first)
		}
	}
}

// What a resource's inputs are made from decides what Pulumi deletes along with it when that is replaced.
func TestAVMIsMadeFromNothingThatIsReplacedWhileItStays(t *testing.T) {
	for _, set := range []map[string]string{nil, everything(), sealedOff()} {
		r := deploy(t, set)
		for i := range 3 {
			node := fmt.Sprintf("node-%d", i+1)
			allowed := []string{
				node + "-data", fmt.Sprintf("nodes-%d", i+1), "firewall", "profile", "program-store", "gossip-key-secret", "cluster-secret-secret",
				"password-secret", "image-ubuntu-24.04-amd64",
			}
			for _, from := range r.made(node + "-vm") {
				if !slices.Contains(allowed, from) {
					t.Errorf("the VM of %s is made from %s", node, from)
				}
			}
			for name := range r.resources {
				if !strings.HasPrefix(name, node+"-") {
					continue
				}
				for _, from := range r.made(name) {
					if strings.HasPrefix(from, "node-") && !strings.HasPrefix(from, node+"-") {
						t.Errorf("%s is made from %s, of another node", name, from)
					}
				}
			}
		}
	}
}

func TestGrowingChangesNothingOfTheOldNodes(t *testing.T) {
	for _, set := range []map[string]string{{}, everything(), theirs()} {
		set = maps.Clone(set)
		three := deploy(t, set)
		set["nodeCount"] = "5"
		five := deploy(t, set)
		for name := range three.resources {
			if !strings.HasPrefix(name, "node-") {
				continue
			}
			if a, b := three.text(t, name), five.text(t, name); a != b {
				t.Errorf("%s would change:\n%s\n%s", name, a, b)
			}
			if a, b := three.dependencies(name), five.dependencies(name); !slices.Equal(a, b) {
				t.Errorf("%s would depend on %q, not %q", name, b, a)
			}
		}
	}
}

// replacing are the inputs whose change has AWS make another instance or restart it; all others change on a running one.
var replacing = []string{
	"ami", "instanceType", "subnetId", "privateIp", "keyName", "placementGroup", "userDataBase64", "ebsOptimized", "metadataOptions",
	"rootBlockDevice",
}

func TestTheGateLooksExactlyWhenTheVMIsReplacedOrRestarted(t *testing.T) {
	base := deploy(t, nil)
	for name, tc := range map[string]struct {
		set     map[string]string
		touched bool
	}{
		"size":            {map[string]string{"vmSize": "m7i.xlarge"}, true},
		"image":           {map[string]string{"imageId": "ami-00000000000000002"}, true},
		"same image":      {map[string]string{"imageId": newestImage}, false},
		"architecture":    {map[string]string{"architecture": "arm64"}, true},
		"ssh key":         {map[string]string{"sshPublicKey": "ssh-ed25519 AAAA x"}, true},
		"node's settings": {map[string]string{"maxMemory": "1gb"}, true},
		"spread":          {map[string]string{"spread": "true"}, true},
		"alarms":          {map[string]string{"alarmEmail": "a@example.com"}, true},
		"zones":           {map[string]string{"zones": `["eu-west-1c","eu-west-1b","eu-west-1a"]`}, true},
		"network":         {theirs(), true},
		"disk size":       {map[string]string{"dataDiskGb": "64"}, false},
		"clients":         {map[string]string{"clientCidrs": `["10.9.0.0/16"]`}, false},
		"public":          {map[string]string{"publicAddresses": "true"}, false},
		"names":           {map[string]string{"dnsZone": "hypercache.internal"}, false},
		"snapshots":       {map[string]string{"snapshotDays": "7"}, false},
		"nat":             {map[string]string{"nat": "none"}, false},
		"password":        {map[string]string{"password": "none"}, true},
		"tags":            {map[string]string{"tags": `{"team":"x"}`}, false},
		"timeouts":        {map[string]string{"readyTimeout": "77"}, false},
	} {
		r := deploy(t, tc.set)
		var paths []string
		for _, path := range replacing {
			if fmt.Sprint(base.input(t, "node-1-vm", path)) != fmt.Sprint(r.input(t, "node-1-vm", path)) {
				paths = append(paths, path)
			}
		}
		trigger := base.input(t, "node-1-gate", "trigger") != r.input(t, "node-1-gate", "trigger")
		if name != "zones" && len(paths) > 0 != tc.touched || trigger != tc.touched { // the zone is the subnet's, whose id stays in this test
			t.Errorf("%s: VM changes in %q, trigger changes: %v, want: %v", name, paths, trigger, tc.touched)
		}
		if r.input(t, "node-1-gate", "trigger") != r.input(t, "node-1-seat", "trigger") {
			t.Errorf("%s: gate and seat have different triggers", name)
		}
	}
}

func TestANewerImageReplacesNothingAndAnotherSystemDoes(t *testing.T) {
	r := deploy(t, nil)
	memory := r.resources["image-ubuntu-24.04-amd64"]
	if got := memory.rpc.GetIgnoreChanges(); !slices.Equal(got, []string{"prefix"}) {
		t.Errorf("the memory of the image ignores %q", got)
	}
	r.expect(t, "image-ubuntu-24.04-amd64", map[string]any{"prefix": newestImage})
	r.expect(t, "node-1-vm", map[string]any{"ami": newestImage})
	if made := r.made("node-1-vm"); !slices.Contains(made, "image-ubuntu-24.04-amd64") {
		t.Errorf("the VM is made from %q, not from the memory of the image", made)
	}
	if _, ok := deploy(t, map[string]string{"os": "debian-12"}).resources["image-debian-12-amd64"]; !ok {
		t.Error("another system has no memory of its own, and would get the image of the first")
	}
	fixed := deploy(t, map[string]string{"imageId": "ami-00000000000000002"})
	if _, ok := fixed.resources["image-ubuntu-24.04-amd64"]; ok {
		t.Error("an image of the stack's own is remembered, and would not change")
	}
	fixed.expect(t, "node-1-vm", map[string]any{"ami": "ami-00000000000000002"})
	if got := fixed.resources["node-1-vm"].rpc.GetIgnoreChanges(); len(got) > 0 {
		t.Errorf("the VM ignores changes of %q", got)
	}
}

func TestReplacingAVMKeepsItsDiskAndItsAddress(t *testing.T) {
	r := deploy(t, everything())
	for _, name := range []string{"node-2-vm", "node-2-data-attachment", "node-2-ip-association", "node-2-resp-target", "node-2-http-target", "balancer"} {
		if !r.resources[name].rpc.GetDeleteBeforeReplace() {
			t.Errorf("the new %s would come before the old one lets go", name)
		}
	}
	for _, name := range []string{"node-2-data", "node-2-ip", "key"} {
		if r.resources[name].rpc.GetDeleteBeforeReplace() {
			t.Errorf("%s goes before another takes its place, with every VM that needs it", name)
		}
	}
	r.expect(t, "node-2-data-attachment", map[string]any{
		"instanceId": "node-2-vm-id", "volumeId": "node-2-data-id", "deviceName": "/dev/sdf", "stopInstanceBeforeDetaching": true,
	})
	r.expect(t, "node-2-ip-association", map[string]any{"instanceId": "node-2-vm-id", "allocationId": "node-2-ip-id"})
	r.expect(t, "node-2-seat", map[string]any{"vm": "node-2-vm-id", "url": "http://address-of-node-2-ip:9080"})
}

func TestAnotherSSHKeyHasAnotherName(t *testing.T) {
	one, two := deploy(t, map[string]string{"sshPublicKey": "ssh-ed25519 AAAA x"}), deploy(t, map[string]string{"sshPublicKey": "ssh-ed25519 AAAB x"})
	if a, b := one.input(t, "key", "keyName"), two.input(t, "key", "keyName"); a == b || a != one.input(t, "node-1-vm", "keyName") {
		t.Errorf("keys are called %v and %v; the VM has %v", a, b, one.input(t, "node-1-vm", "keyName"))
	}
}

func TestAVMIsClosedAndEncrypted(t *testing.T) {
	r := deploy(t, nil)
	r.expect(t, "node-2-vm", map[string]any{
		"metadataOptions.httpTokens": "required", "metadataOptions.httpPutResponseHopLimit": 1.0, "metadataOptions.httpEndpoint": "enabled",
		"rootBlockDevice.encrypted": true, "rootBlockDevice.volumeType": "gp3", "rootBlockDevice.deleteOnTermination": true,
		"userDataReplaceOnChange": true, "userData": nil, "associatePublicIpAddress": nil, "keyName": nil, "volumeTags": nil,
		"privateIp": "10.0.1.68", "subnetId": "nodes-2-id", "vpcSecurityGroupIds[0]": "firewall-id", "vpcSecurityGroupIds[1]": nil,
		"iamInstanceProfile": "profile-name", "instanceType": "m7i.large", "ebsOptimized": true,
	})
	r.expect(t, "node-2-data", map[string]any{
		"availabilityZone": "eu-west-1b", "encrypted": true, "type": "gp3", "size": 32.0, "tags.DataDisk": "hypercache-test",
	})
}

func TestDataIsProtectedAndKeptWhenTheStackSaysSo(t *testing.T) {
	for set, want := range map[string][2]bool{"": {}, "protectData": {true, false}, "keepData": {false, true}} {
		rpc := deploy(t, map[string]string{set: "true"}).resources["node-2-data"].rpc
		if got := [2]bool{rpc.GetProtect(), rpc.GetRetainOnDelete()}; got != want {
			t.Errorf("with %q the disk is protected, retained: %v, want %v", set, got, want)
		}
	}
}

func TestNodesMayReadProgramAndSecretsAndNothingElse(t *testing.T) {
	for _, set := range []map[string]string{nil, everything(), {"password": "none"}} {
		r := deploy(t, set)
		var got, want map[string]any
		if err := json.Unmarshal([]byte(r.input(t, "role-policy", "policy").(string)), &got); err != nil {
			t.Fatal(err)
		}
		metrics, password := "", `, "password-secret-id"`
		if set["password"] == "none" {
			password = ""
		}
		if set["alarmEmail"] != "" {
			metrics = `, {"Sid": "Metrics", "Effect": "Allow", "Action": ["cloudwatch:PutMetricData"], "Resource": ["*"],
				"Condition": {"StringEquals": {"cloudwatch:namespace": "hypercache-test"}}}`
		}
		err := json.Unmarshal([]byte(`{"Version": "2012-10-17", "Statement": [
			{"Sid": "Secrets", "Effect": "Allow", "Action": ["secretsmanager:GetSecretValue"],
			 "Resource": ["gossip-key-secret-id", "cluster-secret-secret-id"`+password+`]},
			{"Sid": "Program", "Effect": "Allow", "Action": ["s3:GetObject"], "Resource": ["arn:aws:test:::program-store/hypercache-*"]}`+metrics+`]}`), &want)
		if err != nil {
			t.Fatal(err)
		}
		if !reflect.DeepEqual(got, want) {
			t.Errorf("got  %v\nwant %v", got, want)
		}
		r.expect(t, "role", map[string]any{
			"assumeRolePolicy": `{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Principal":{"Service":"ec2.amazonaws.com"},"Action":["sts:AssumeRole"]}]}`,
		})
		if key := r.input(t, "program", "key").(string); !strings.HasPrefix(key, "hypercache-") {
			t.Errorf("the program is %s, which nodes may not read", key)
		}
	}
}

func TestTheProgramsStoreIsShut(t *testing.T) {
	r := deploy(t, nil)
	for _, key := range []string{"blockPublicAcls", "blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"} {
		r.expect(t, "program-store-access", map[string]any{key: true})
	}
	r.expect(t, "program-store-owner", map[string]any{"rule.objectOwnership": "BucketOwnerEnforced"})
	r.expect(t, "program-store-encryption", map[string]any{"rules[0].applyServerSideEncryptionByDefault.sseAlgorithm": "AES256"})
	r.expect(t, "program-store", map[string]any{"forceDestroy": true})
	if policy := r.input(t, "program-store-policy", "policy").(string); !strings.Contains(policy, `"aws:SecureTransport":"false"`) || !strings.Contains(policy, `"Deny"`) {
		t.Errorf("the policy is %s", policy)
	}
	if got := r.dependencies("program"); !slices.Contains(got, "program-store-policy") {
		t.Errorf("the program is uploaded after %q only", got)
	}
}

func TestDestroyedSecretsAreGoneAtOnce(t *testing.T) {
	r := deploy(t, nil)
	for _, name := range []string{"gossip-key-secret", "cluster-secret-secret", "password-secret"} {
		r.expect(t, name, map[string]any{"recoveryWindowInDays": 0.0})
	}
}
