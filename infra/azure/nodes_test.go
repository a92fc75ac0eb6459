package azure

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
)

func TestNodesComeOneAfterTheOther(t *testing.T) {
	r := deploy(t, nil)
	for name, want := range map[string][]string{
		"node-1-gate": {"fleet", "suffix"},
		"node-2-gate": {"node-1-seat", "suffix"},
		"node-3-gate": {"node-2-seat", "suffix"},
		"node-2-vm": {
			"cluster-secret-stored", "gossip-key-stored", "group", "node-2-data", "node-2-gate", "node-2-nic", "password-stored", "program",
			"suffix",
		},
		"node-2-seat": {"cluster-secret", "node-1-seat", "node-2-program-reader", "node-2-secrets-reader", "node-2-vm", "suffix"},
	} {
		if got := r.dependencies(name); !slices.Equal(got, want) {
			t.Errorf("%s depends on %q, want %q", name, got, want)
		}
	}
}

// What a resource's inputs are made from decides what Pulumi deletes along with it when that is replaced.
func TestAVMIsMadeFromNothingThatIsReplacedWhileItStays(t *testing.T) {
	for _, set := range []map[string]string{nil, everything()} {
		r := deploy(t, set)
		for i := range 3 {
			node := fmt.Sprintf("node-%d", i+1)
			allowed := []string{"group", "suffix", "spread", node + "-data", node + "-nic"}
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
		for _, name := range append(perNode(3, "alarm", "disk-alarm", "backup"), "cluster-name") {
			if res, ok := r.resources[name]; ok && slices.ContainsFunc(r.made(name), func(s string) bool { return strings.HasSuffix(s, "-vm") }) {
				t.Errorf("%s, %s, is made from a VM and would go with it", name, res.kind)
			}
		}
	}
}

func TestGrowingChangesNothingOfTheOldNodes(t *testing.T) {
	for _, set := range []map[string]string{nil, everything()} {
		set = maps.Clone(set)
		if set == nil {
			set = map[string]string{}
		}
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
		}
	}
}

// changed lists the paths of replacing() in which two deployments' VMs of a node differ.
func changed(t *testing.T, a, b *recorder, node string) []string {
	var out []string
	for _, path := range replacing() {
		if fmt.Sprint(a.input(t, node+"-vm", path)) != fmt.Sprint(b.input(t, node+"-vm", path)) {
			out = append(out, path)
		}
	}
	return out
}

func TestTheGateLooksExactlyWhenTheVMIsReplaced(t *testing.T) {
	base := deploy(t, nil)
	for name, tc := range map[string]struct {
		set      map[string]string
		replaced bool
	}{
		"size":            {map[string]string{"vmSize": "Standard_D4s_v5"}, true},
		"os":              {map[string]string{"os": "debian-12"}, true},
		"image":           {map[string]string{"imageId": "Canonical:ubuntu-24_04-lts:server:24.04.202510010"}, true},
		"ssh key":         {map[string]string{"sshPublicKey": "ssh-ed25519 AAAA x"}, true},
		"node's settings": {map[string]string{"maxMemory": "1gb"}, true},
		"spread":          {map[string]string{"spread": "true"}, true},
		"alarms":          {map[string]string{"alarmEmail": "a@example.com"}, true},
		"zones":           {map[string]string{"zones": `["3","2","1"]`}, true},
		"disk size":       {map[string]string{"dataDiskGb": "64"}, false},
		"password":        {map[string]string{"password": "none"}, true},
		"tags":            {map[string]string{"tags": `{"team":"x"}`}, false},
		"clients":         {map[string]string{"clientCidrs": `["10.9.0.0/16"]`}, false},
		"public":          {map[string]string{"publicAddresses": "true"}, false},
		"names":           {map[string]string{"dnsZone": "hypercache.internal"}, false},
		"snapshots":       {map[string]string{"snapshotDays": "7"}, false},
		"nat":             {map[string]string{"nat": "none"}, false},
	} {
		r := deploy(t, tc.set)
		paths := changed(t, base, r, "node-1")
		trigger := base.input(t, "node-1-gate", "trigger") != r.input(t, "node-1-gate", "trigger")
		if (len(paths) > 0) != tc.replaced || trigger != tc.replaced {
			t.Errorf("%s: VM changes in %q, trigger changes: %v, want replacement: %v", name, paths, trigger, tc.replaced)
		}
		if r.input(t, "node-1-gate", "trigger") != r.input(t, "node-1-seat", "trigger") {
			t.Errorf("%s: gate and seat have different triggers", name)
		}
	}
}

func TestReplacingAVMKeepsItsDiskAndItsInterface(t *testing.T) {
	r := deploy(t, nil)
	rpc := r.resources["node-1-vm"].rpc
	if !rpc.GetDeleteBeforeReplace() {
		t.Error("the new VM would come before the old one lets go of disk and address")
	}
	if got := rpc.GetReplaceOnChanges(); !slices.Equal(got, replacing()) {
		t.Errorf("replaced on changes of %q, want %q", got, replacing())
	}
	for path, want := range map[string]any{
		"storageProfile.osDisk.deleteOption": "Delete", "storageProfile.dataDisks[0].deleteOption": "Detach",
		"storageProfile.dataDisks[0].createOption": "Attach", "storageProfile.dataDisks[0].lun": 0.0,
		"storageProfile.dataDisks[0].managedDisk.id":       "/id/node-1-data",
		"networkProfile.networkInterfaces[0].deleteOption": "Detach", "networkProfile.networkInterfaces[0].id": "/id/node-1-nic",
		"osProfile.adminUsername": "hypercache-admin", "osProfile.linuxConfiguration.disablePasswordAuthentication": true,
		"securityProfile.securityType": "TrustedLaunch", "identity.type": "SystemAssigned", "zones[0]": "1",
	} {
		if got := r.input(t, "node-1-vm", path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	// The seat must notice a VM that was made anew under the same resource id.
	if got := r.input(t, "node-1-seat", "vm"); got != "vmid-node-1-vm" {
		t.Errorf("the seat looks at %v", got)
	}
}

func TestDataIsProtectedAndKeptWhenTheStackSaysSo(t *testing.T) {
	for set, want := range map[string][2]bool{"": {}, "protectData": {true, false}, "keepData": {false, true}} {
		r := deploy(t, map[string]string{set: "true"})
		rpc := r.resources["node-2-data"].rpc
		if got := [2]bool{rpc.GetProtect(), rpc.GetRetainOnDelete()}; got != want {
			t.Errorf("with %q the disk is protected, retained: %v, want %v", set, got, want)
		}
		if got := r.resources["group"].rpc.GetRetainOnDelete(); got != want[1] {
			t.Errorf("with %q the group, which takes everything along, is retained: %v", set, got)
		}
	}
}

func TestWhatIsReplacedWhileVMsUseItGoesLast(t *testing.T) {
	r := deploy(t, nil)
	for _, name := range []string{"node-1-data"} {
		rpc := r.resources[name].rpc
		if rpc.GetDeleteBeforeReplace() || !rpc.GetDeleteBeforeReplaceDefined() {
			t.Errorf("%s: deleted first: %v, said so: %v; the provider would delete first by itself", name, rpc.GetDeleteBeforeReplace(),
				rpc.GetDeleteBeforeReplaceDefined())
		}
	}
	one, other := deploy(t, map[string]string{"zones": `["1"]`}), deploy(t, map[string]string{"zones": `["2"]`})
	if a, b := one.input(t, "node-1-data", "diskName"), other.input(t, "node-1-data", "diskName"); a == b {
		t.Errorf("the disk is called %v in both zones, so the new one cannot come before the old one goes", a)
	}
}

func TestSecretsGoWithTheirVault(t *testing.T) {
	r := deploy(t, nil)
	for _, name := range []string{"gossip-key-stored", "cluster-secret-stored", "password-stored"} {
		if got := lastPart(r.resources[name].rpc.GetDeletedWith()); got != "vault" {
			t.Errorf("%s is deleted with %q", name, got)
		}
	}
	for path, want := range map[string]any{
		"properties.enableRbacAuthorization": true, "properties.enablePurgeProtection": nil, "properties.networkAcls.defaultAction": "Deny",
		"properties.networkAcls.virtualNetworkRules[0].id": "/id/nodes", "properties.tenantId": "tenant",
	} {
		if got := r.input(t, "vault", path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
}

func TestAnInterfaceIsNotAcceleratedLater(t *testing.T) {
	r := deploy(t, nil)
	if got := r.resources["node-1-nic"].rpc.GetIgnoreChanges(); !slices.Equal(got, []string{"enableAcceleratedNetworking"}) {
		t.Errorf("ignores changes of %q", got)
	}
	if got := r.input(t, "node-1-nic", "enableAcceleratedNetworking"); got != true {
		t.Errorf("accelerated: %v", got)
	}
}

func TestNodesMayReadExactlyProgramAndSecrets(t *testing.T) {
	r := deploy(t, everything())
	role := func(id string) string {
		return "/subscriptions/" + subscription + "/providers/Microsoft.Authorization/roleDefinitions/" + id
	}
	vm := "/subscriptions/" + subscription + "/resourceGroups/hypercache-test/providers/Microsoft.Compute/virtualMachines/hypercache-test-node-3"
	want := map[string][2]string{
		"node-3-program-reader": {role(blobReader), "/id/program-container"}, "node-3-secrets-reader": {role(secretsUser), "/id/vault"},
		"node-3-metrics-writer": {role(metricsWriter), vm},
	}
	for name, res := range r.resources {
		if res.kind != "azure-native:authorization:RoleAssignment" || !strings.HasPrefix(name, "node-3") {
			continue
		}
		got := [2]string{fmt.Sprint(r.input(t, name, "roleDefinitionId")), fmt.Sprint(r.input(t, name, "scope"))}
		if got != want[name] || r.input(t, name, "principalId") != "principal-node-3-vm" {
			t.Errorf("%s is %v, want %v", name, got, want[name])
		}
		delete(want, name)
	}
	if len(want) > 0 {
		t.Errorf("missing %v", want)
	}
}

func TestArm64VMsGoWithoutTrustedLaunch(t *testing.T) {
	r := deploy(t, map[string]string{"architecture": "arm64"})
	if got := r.input(t, "node-1-vm", "securityProfile"); got != nil {
		t.Errorf("security profile %v", got)
	}
	if got := r.input(t, "node-1-vm", "storageProfile.imageReference.sku"); got != "server-arm64" {
		t.Errorf("image %v", got)
	}
}
