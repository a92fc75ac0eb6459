package azure

import (
	"encoding/base64"
	"encoding/binary"
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

// perNode lists children that every node has.
func perNode(nodes int, parts ...string) []string {
	var out []string
	for i := range nodes {
		for _, part := range parts {
			out = append(out, fmt.Sprintf("node-%d-%s", i+1, part))
		}
	}
	return out
}

func TestTheDefaultClusterHasExactlyTheseChildren(t *testing.T) {
	r := deploy(t, nil)
	want := append([]string{
		"cluster", "group", "suffix", "network", "nodes", "nat", "nat-ip", "firewall", "program-store", "program-container", "program",
		"gossip-key", "cluster-secret", "password", "vault", "gossip-key-stored", "cluster-secret-stored", "password-stored", "fleet",
	}, perNode(3, "data", "nic", "gate", "vm", "program-reader", "secrets-reader", "seat")...)
	slices.Sort(want)
	if got := r.names(); !slices.Equal(got, want) {
		t.Errorf("registered %q\nwant %q", got, want)
	}
	if len(r.twice) > 0 {
		t.Errorf("registered twice: %q", r.twice)
	}
}

func TestTheFullClusterHasExactlyTheseChildren(t *testing.T) {
	r := deploy(t, everything())
	want := append([]string{
		"cluster", "group", "suffix", "network", "nodes", "firewall", "program-store", "program-container", "program",
		"gossip-key", "cluster-secret", "password", "vault", "gossip-key-stored", "cluster-secret-stored", "password-stored", "fleet",
		"balancer", "zone", "zone-link", "cluster-name", "spread", "alarms", "backup-vault", "backup-policy",
	}, perNode(3, "data", "nic", "gate", "vm", "program-reader", "secrets-reader", "seat",
		"ip", "name", "metrics-writer", "alarm", "disk-alarm", "backup")...)
	slices.Sort(want)
	if got := r.names(); !slices.Equal(got, want) {
		t.Errorf("registered %q\nwant %q", got, want)
	}
}

func TestEveryChildIsUnderTheComponent(t *testing.T) {
	for _, set := range []map[string]string{nil, everything()} {
		r := deploy(t, set)
		for name, res := range r.resources {
			if parent := lastPart(res.rpc.GetParent()); name != "cluster" && parent != "cluster" {
				t.Errorf("%s is under %q", name, parent)
			}
		}
	}
}

func TestEverythingIsInTheGroupNamedAndTagged(t *testing.T) {
	r := deploy(t, everything())
	untagged := []string{"nodes", "program-container", "program", "backup-policy", "cluster-name"}
	untagged = append(untagged, perNode(3, "name", "backup", "program-reader", "secrets-reader", "metrics-writer")...)
	for name, res := range r.resources {
		if !strings.HasPrefix(res.kind, "azure-native:") {
			continue
		}
		if g := res.inputs["resourceGroupName"]; res.kind != "azure-native:authorization:RoleAssignment" &&
			(!g.IsString() || g.StringValue() != "hypercache-test") {
			t.Errorf("%s is in group %v", name, g)
		}
		tags, _ := r.input(t, name, "tags").(map[string]any)
		if slices.Contains(untagged, name) {
			continue
		}
		if tags["Cluster"] != "hypercache-test" || tags["team"] != "platform" || !strings.HasPrefix(fmt.Sprint(tags["Name"]), "hypercache-test-") {
			t.Errorf("%s has the tags %v", name, tags)
		}
	}
}

// cloudName is what a resource is called in Azure, with its type.
func cloudName(res registered) string {
	for _, key := range []string{
		"vmName", "diskName", "networkInterfaceName", "publicIpAddressName", "natGatewayName", "virtualNetworkName", "networkSecurityGroupName",
		"loadBalancerName", "vmScaleSetName", "actionGroupName", "ruleName", "accountName", "vaultName", "resourceGroupName",
	} {
		for k, v := range res.inputs {
			if string(k) == key && v.IsString() {
				return res.kind + " " + v.StringValue()
			}
		}
	}
	return ""
}

func TestTwoStacksHaveNoNameInCommon(t *testing.T) {
	names := func(stack string) map[string]string {
		c := knobs(t, everything())
		r, err := run(t, c, stack, azure())
		if err != nil {
			t.Fatal(err)
		}
		out := map[string]string{}
		for name, res := range r.resources {
			// What is inside a vault, an account or a zone of the stack's own is apart already.
			if n := cloudName(res); n != "" {
				out[n] = name
			}
		}
		return out
	}
	one, two := names("blue"), names("green")
	for n, child := range one {
		if _, ok := two[n]; ok {
			t.Errorf("%s is called %s in both", child, n)
		}
	}
	if len(one) < 20 {
		t.Errorf("only %d names were compared", len(one))
	}
}

func TestNamesThatAreUniqueInAllOfAzureAreLegalAndRandom(t *testing.T) {
	for _, stack := range []string{"test", "prod-eu-west-blue-green", "A-b-C"} {
		r, err := run(t, knobs(t, nil), stack, azure())
		if err != nil {
			t.Fatal(err)
		}
		for _, name := range []any{r.input(t, "program-store", "accountName"), r.input(t, "vault", "vaultName")} {
			s := name.(string)
			if len(s) > 24 || !strings.HasSuffix(s, "0a1b2c3d") || !strings.HasPrefix(s, "hypercache") || strings.ToLower(s) != s || strings.Contains(s, "-") {
				t.Errorf("%s gives the name %s", stack, s)
			}
		}
	}
}

func TestMistakesAreRefusedAtOnceBeforeAnyResource(t *testing.T) {
	c := knobs(t, map[string]string{
		"nat": "zone", "imageId": "Canonical:ubuntu-24_04-lts:server:latest", "vmSize": "Standard_D2_v5", "region": "usgovvirginia",
		"sshPublicKey": "ecdsa-sha2-nistp256 AAAA", "tags": `{"name":"x"}`,
	})
	c.Binary = "bin/missing"
	c.Settings["cache.nonsense"] = "1"
	r, err := run(t, c, "my.stack", azure())
	if err == nil {
		t.Fatal("eight mistakes were accepted")
	}
	for _, want := range []string{
		"stack: ", "nat: zone", "imageId: ", "vmSize: Standard_D2_v5", "region: usgovvirginia", "sshPublicKey: ", `tags: "name"`, "bin/missing", "cache.nonsense",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if len(r.resources) > 0 {
		t.Errorf("registered %q, want nothing", r.names())
	}
}

func TestAlarmsAreRefusedWhereNodesCannotReport(t *testing.T) {
	_, err := run(t, knobs(t, map[string]string{"nat": "none", "alarmEmail": "a@example.com"}), "test", azure())
	if err == nil || !strings.Contains(err.Error(), "alarmEmail: ") {
		t.Errorf("got %v", err)
	}
	deploy(t, map[string]string{"nat": "none", "alarmEmail": "a@example.com", "publicAddresses": "true"})
}

func TestWithoutCredentialsTheErrorSaysHowToGetThem(t *testing.T) {
	_, err := run(t, knobs(t, nil), "test", nil)
	if err == nil || !strings.Contains(err.Error(), "az login") {
		t.Errorf("got %v", err)
	}
}

func TestPremiumDisksNeedASizeWithAnS(t *testing.T) {
	for size, want := range map[string]bool{
		"Standard_D2s_v5": true, "Standard_D2ps_v5": true, "Standard_DS2_v2": true, "Standard_E8-2s_v5": true, "Standard_B2s": true,
		"Standard_F2s_v2": true, "Standard_L8s_v3": true, "Standard_B2ats_v2": true, "Standard_GS2": true,
		"Standard_D2_v5": false, "Standard_A2_v2": false, "Standard_D2a_v4": false, "Standard_F2": false,
	} {
		if got := premium.MatchString(size); got != want {
			t.Errorf("%s: %v, want %v", size, got, want)
		}
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
	}
	if !slices.Equal(r.hidden, []string{"password"}) {
		t.Errorf("the outputs %q are secrets", r.hidden)
	}
	for name, value := range map[string]string{"gossip-key-stored": gossipValue, "cluster-secret-stored": secretValue, "password-stored": wordValue} {
		if got := r.input(t, name, "properties.value"); got != value {
			t.Errorf("%s holds %v", name, got)
		}
		v := r.resources[name].inputs["properties"]
		if !v.ContainsSecrets() {
			t.Errorf("%s is plain in the state", name)
		}
	}
}

func TestNodesAreToldWhereProgramAndSecretsAre(t *testing.T) {
	r := deploy(t, nil)
	store := "hypercachetest0a1b2c3d"
	blob := r.input(t, "program", "blobName").(string)
	for _, want := range []string{
		"https://" + store + ".blob.core.windows.net/program/" + blob, "https://" + store + ".vault.azure.net/secrets/gossip-key",
		"https://" + store + ".vault.azure.net/secrets/cluster-secret",
		"HC_PASSWORD='https://" + store + ".vault.azure.net/secrets/password'", "/dev/disk/azure/scsi1/lun0", "/dev/disk/azure/data/by-lun/0",
		"node-2", "10.0.1.5",
	} {
		if !strings.Contains(r.userData(t, "node-2"), want) {
			t.Errorf("node-2 is not told %s", want)
		}
	}
}

func TestAProgramFromAnAddressNeedsNoStore(t *testing.T) {
	r := deploy(t, map[string]string{"binaryUrl": "https://example.com/hypercache", "binarySha256": strings.Repeat("ab", 32)})
	for _, name := range append([]string{"program-store", "program-container", "program"}, perNode(3, "program-reader")...) {
		if _, ok := r.resources[name]; ok {
			t.Errorf("%s is registered", name)
		}
	}
	if !strings.Contains(r.userData(t, "node-1"), "https://example.com/hypercache") {
		t.Error("node-1 is not told the address")
	}
}

func TestOutputsAreTheContractAndSomeMore(t *testing.T) {
	var got, want map[string]any
	if err := json.Unmarshal([]byte(deploy(t, everything()).outputs), &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
		"nodes": [
			{"name": "node-1", "zone": "1", "privateIp": "10.0.1.4", "publicIp": "address-of-node-1-ip", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373},
			{"name": "node-2", "zone": "2", "privateIp": "10.0.1.5", "publicIp": "address-of-node-2-ip", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373},
			{"name": "node-3", "zone": "3", "privateIp": "10.0.1.6", "publicIp": "address-of-node-3-ip", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373}
		],
		"respEndpoints": ["address-of-node-1-ip:8080", "address-of-node-2-ip:8080", "address-of-node-3-ip:8080"],
		"httpEndpoints": ["address-of-node-1-ip:9080", "address-of-node-2-ip:9080", "address-of-node-3-ip:9080"],
		"connect": "redis-cli -h address-of-node-1-ip -p 8080", "password": "`+wordValue+`", "loadBalancer": "10.0.1.254", "resourceGroup": "hypercache-test",
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
	r := deploy(t, nil)
	if length, special := r.input(t, "password", "length"), r.input(t, "password", "special"); length != 48.0 || special != false {
		t.Errorf("length %v, special %v", length, special)
	}
}

func TestNobodysKeyIsAKeyAsSSHWritesThem(t *testing.T) {
	fields := strings.Fields(nobodysKey())
	wire, err := base64.StdEncoding.DecodeString(fields[1])
	if err != nil {
		t.Fatal(err)
	}
	var parts []string
	for len(wire) > 0 {
		n := binary.BigEndian.Uint32(wire)
		parts, wire = append(parts, string(wire[4:4+n])), wire[4+n:]
	}
	if len(parts) != 2 || parts[0] != fields[0] || fields[0] != "ssh-ed25519" || len(parts[1]) != 32 {
		t.Errorf("%q has the parts %q", nobodysKey(), parts)
	}
}

func TestAnExistingNetworkIsUsedAsItIs(t *testing.T) {
	id := "/subscriptions/" + subscription + "/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub"
	set := map[string]string{"networkId": id, "subnetIds": `["` + id + `/subnets/cache"]`, "subnetCidrs": `["10.0.7.0/24"]`}
	r := deploy(t, set)
	for _, name := range []string{"network", "nodes", "nat", "nat-ip"} {
		if _, ok := r.resources[name]; ok {
			t.Errorf("%s is registered", name)
		}
	}
	if got := r.input(t, "node-1-nic", "ipConfigurations[0].subnet.id"); got != id+"/subnets/cache" {
		t.Errorf("node-1 is in %v", got)
	}
	if got := r.input(t, "node-1-nic", "networkSecurityGroup.id"); got != "/id/firewall" {
		t.Errorf("node-1 has the firewall %v", got)
	}
	if got := r.input(t, "vault", "properties.networkAcls.defaultAction"); got != "Allow" {
		t.Errorf("the vault's default is %v", got)
	}
}

func TestAnExistingNetworkMustBeWhatTheStackSays(t *testing.T) {
	id := "/subscriptions/" + subscription + "/resourceGroups/hub/providers/Microsoft.Network/virtualNetworks/hub"
	good := map[string]string{"networkId": id, "subnetIds": `["` + id + `/subnets/cache"]`, "subnetCidrs": `["10.0.7.0/24"]`}
	for name, tc := range map[string]struct {
		change map[string]string
		want   string
	}{
		"another range":        {map[string]string{"subnetCidrs": `["10.0.8.0/24"]`}, "subnetCidrs: 10.0.8.0/24 is not the range of cache, which is 10.0.7.0/24"},
		"another region":       {map[string]string{"region": "northeurope"}, "networkId: the network is in westeurope and region is northeurope"},
		"no resource id":       {map[string]string{"networkId": "hub"}, "networkId: \"hub\" is not the resource id"},
		"another subscription": {map[string]string{"networkId": strings.Replace(id, "1111", "9999", 1)}, "networkId: is in subscription 9999"},
		"a foreign subnet":     {map[string]string{"subnetIds": `["/subscriptions/x/subnets/cache"]`}, "subnetIds: \"/subscriptions/x/subnets/cache\" is not networkId"},
	} {
		set := maps.Clone(good)
		maps.Copy(set, tc.change)
		_, err := run(t, knobs(t, set), "test", azure())
		if err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: got %v\nwant %s", name, err, tc.want)
		}
	}
}

func TestEveryImageAndSizeOfTheDefaultsIsKnown(t *testing.T) {
	for _, arch := range []string{"amd64", "arm64"} {
		for _, os := range []string{"ubuntu-24.04", "debian-12"} {
			b := &builder{Args: Args{Config: config.Config{VM: config.VM{OS: os, Architecture: arch}}, Plan: plan.Plan{}}}
			if b.image().publisher == "" || b.size() == "" {
				t.Errorf("%s on %s: image %v, size %q", os, arch, b.image(), b.size())
			}
			if !accelerated.MatchString(b.size()) || !premium.MatchString(b.size()) {
				t.Errorf("the default size %s has no accelerated networking or no premium disks", b.size())
			}
		}
	}
}
