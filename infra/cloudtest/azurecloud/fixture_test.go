package azurecloud

import (
	"encoding/base64"
	"errors"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"path"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
)

const (
	groupType     = "azure-native:resources:ResourceGroup"
	vnetType      = "azure-native:network:VirtualNetwork"
	subnetType    = "azure-native:network:Subnet"
	firewallType  = "azure-native:network:NetworkSecurityGroup"
	natType       = "azure-native:network:NatGateway"
	ipType        = "azure-native:network:PublicIPAddress"
	nicType       = "azure-native:network:NetworkInterface"
	balancerType  = "azure-native:network:LoadBalancer"
	zoneType      = "azure-native:network:PrivateZone"
	recordType    = "azure-native:network:PrivateRecordSet"
	linkType      = "azure-native:network:VirtualNetworkLink"
	vmType        = "azure-native:compute:VirtualMachine"
	setType       = "azure-native:compute:VirtualMachineScaleSet"
	diskType      = "azure-native:compute:Disk"
	accountType   = "azure-native:storage:StorageAccount"
	containerType = "azure-native:storage:BlobContainer"
	blobType      = "azure-native:storage:Blob"
	vaultType     = "azure-native:keyvault:Vault"
	secretType    = "azure-native:keyvault:Secret"
	roleType      = "azure-native:authorization:RoleAssignment"
	actionsType   = "azure-native:insights:ActionGroup"
	alertType     = "azure-native:insights:MetricAlert"
	backupType    = "azure-native:recoveryservices:Vault"
	policyType    = "azure-native:recoveryservices:ProtectionPolicy"
	protectedType = "azure-native:recoveryservices:ProtectedItem"

	home = "westeurope"
	key  = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIAABAgMEBQYHCAkKCwwNDg8QERITFBUWFxgZGhscHR4f test"

	readBlobs    = "2a2b9908-6ea1-4ae2-8e65-a410df84e7d1"
	readSecrets  = "4633458b-17de-408a-b874-0445c86b69e6"
	writeMetrics = "3913510d-42f4-4e42-8a64-420c390055eb"
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

// lab is a subscription with a driver in Pulumi's place.
type lab struct {
	*driver.Driver
	t     *testing.T
	cloud *Cloud
	below *cloud.Memory
	clock *clock
}

func open(t *testing.T) *lab {
	t.Helper()
	k := &lab{t: t, below: cloud.NewMemory(), clock: &clock{t: time.Date(2025, 11, 20, 9, 0, 0, 0, time.UTC)}}
	var err error
	if k.cloud, err = New(Options{Compute: k.below, Now: k.clock.now}); err != nil {
		t.Fatal(err)
	}
	if k.Driver, err = driver.Serve(k.cloud.Provider(), m{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	return k
}

// must makes a resource.
func (k *lab) must(token, name string, in m) *driver.Resource {
	k.t.Helper()
	r, err := k.Create(token, name, in)
	if err != nil {
		k.t.Fatalf("create %s %s: %v", token, name, err)
	}
	return r
}

// mustNot expects a refusal that says the words.
func (k *lab) mustNot(token, name string, in m, words ...string) {
	k.t.Helper()
	_, err := k.Create(token, name, in)
	k.refused("create "+name, err, words...)
	if err == nil {
		_ = k.Delete(name) // so that what follows is not disturbed
	}
}

func (k *lab) refused(doing string, err error, words ...string) {
	k.t.Helper()
	if err == nil {
		k.t.Errorf("%s: was accepted, want a refusal with %q", doing, words)
		return
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			k.t.Errorf("%s: %v\nwant %q in it", doing, err, w)
		}
	}
}

func (k *lab) mustDelete(names ...string) {
	k.t.Helper()
	for _, n := range names {
		if err := k.Delete(n); err != nil {
			k.t.Fatalf("delete %s: %v", n, err)
		}
	}
}

func (k *lab) mustNotDelete(name string, words ...string) {
	k.t.Helper()
	k.refused("delete "+name, k.Delete(name), words...)
}

// apply updates and expects that it is done as planned.
func (k *lab) apply(name string, in m, want driver.Plan) *driver.Resource {
	k.t.Helper()
	r, plan, err := k.Apply(name, in)
	if err != nil || plan != want {
		k.t.Fatalf("apply %s: %s, %v; want %s", name, plan, err, want)
	}
	return r
}

func (k *lab) mustNotApply(name string, in m, words ...string) {
	k.t.Helper()
	_, _, err := k.Apply(name, in)
	k.refused("apply "+name, err, words...)
}

// in is inputs in the group and region of all tests.
func in(name string, more m) m {
	out := m{"resourceGroupName": "lab"}
	if name != "" {
		out["location"] = home
	}
	maps.Copy(out, more)
	return out
}

// with is inputs with a nested one changed; nil takes it away.
func with(inputs m, path string, v any) m {
	out := maps.Clone(inputs)
	head, rest, more := strings.Cut(path, ".")
	if !more {
		if v == nil {
			delete(out, head)
		} else {
			out[head] = v
		}
		return out
	}
	inner, ok := out[head].(m)
	if !ok {
		inner = m{}
	}
	out[head] = with(inner, rest, v)
	return out
}

func (k *lab) id(name string) string {
	k.t.Helper()
	r := k.Get(name)
	if r == nil {
		k.t.Fatalf("there is no %s", name)
	}
	return r.ID
}

func allow(name string, priority int, protocol, from, ports string) m {
	return m{
		"name": name, "priority": priority, "direction": "Inbound", "access": "Allow", "protocol": protocol,
		"sourcePortRange":     "*",
		"sourceAddressPrefix": from, "destinationAddressPrefix": "*", "destinationPortRange": ports,
	}
}

func refuseAll(priority int) m {
	return with(allow("refuse-all-else", priority, "*", "*", "*"), "access", "Deny")
}

// The inputs of the parts of a small cluster.
func vnetIn() m {
	return in("x", m{"virtualNetworkName": "net", "addressSpace": m{"addressPrefixes": []string{"10.0.0.0/16"}}})
}

func (k *lab) subnetIn() m {
	return m{
		"resourceGroupName": "lab", "virtualNetworkName": "net", "subnetName": "nodes", "addressPrefix": "10.0.1.0/24",
		"networkSecurityGroup": m{"id": k.id("fw")},
		"serviceEndpoints":     []any{m{"service": "Microsoft.KeyVault"}, m{"service": "Microsoft.Storage"}},
	}
}

func firewallIn() m {
	return in("x", m{"networkSecurityGroupName": "fw", "securityRules": []any{
		allow("gossip", 100, "*", "10.0.1.0/24", "7946"), allow("clients", 110, "Tcp", "10.0.0.0/16", "8080-8082"),
		refuseAll(4096),
	}})
}

func (k *lab) nicIn(address string) m {
	return in("x", m{"ipConfigurations": []any{m{
		"name": "primary", "subnet": m{"id": k.id("subnet")}, "privateIPAddress": address,
		"privateIPAllocationMethod": "Static",
	}}, "networkSecurityGroup": m{"id": k.id("fw")}})
}

func diskIn(name, zone string) m {
	return in("x", m{
		"diskName": name, "zones": []string{zone}, "sku": m{"name": "Premium_LRS"},
		"creationData": m{"createOption": "Empty"}, "diskSizeGB": 32,
	})
}

// keysOf is where a user's keys are.
func keysOf(user string) string { return path.Join("/home", user, ".ssh/authorized_keys") }

func custom(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }

func (k *lab) vmIn(name, zone, nic, disk string) m {
	return in("x", m{
		"vmName": name, "zones": []string{zone}, "hardwareProfile": m{"vmSize": "Standard_D2s_v5"},
		"identity": m{"type": "SystemAssigned"},
		"osProfile": m{
			"computerName": name, "adminUsername": "operator", "customData": custom("#cloud-config\n"),
			"linuxConfiguration": m{"disablePasswordAuthentication": true, "ssh": m{"publicKeys": []any{
				m{"path": keysOf("operator"), "keyData": key},
			}}},
		},
		"securityProfile": m{"securityType": "TrustedLaunch", "uefiSettings": m{"secureBootEnabled": true,
			"vTpmEnabled": true}},
		"storageProfile": m{
			"imageReference": m{"publisher": "Canonical", "offer": "ubuntu-24_04-lts", "sku": "server",
				"version": "latest"},
			"osDisk": m{
				"name": name + "-os", "createOption": "FromImage", "caching": "ReadWrite", "deleteOption": "Delete",
				"managedDisk": m{"storageAccountType": "Premium_LRS"},
			},
			"dataDisks": []any{m{
				"lun": 0, "createOption": "Attach", "caching": "None", "deleteOption": "Detach",
				"managedDisk": m{"id": k.id(disk)},
			}},
		},
		"networkProfile": m{"networkInterfaces": []any{m{"id": k.id(nic), "primary": true, "deleteOption": "Detach"}}},
	})
}

// network makes a group, a network, a firewall and a subnet.
func network(t *testing.T) *lab {
	t.Helper()
	k := open(t)
	k.must(groupType, "group", m{"resourceGroupName": "lab", "location": home})
	k.must(firewallType, "fw", firewallIn())
	k.must(vnetType, "net", vnetIn())
	k.must(subnetType, "subnet", k.subnetIn())
	return k
}

// node makes an interface, a disk and a VM: node1 in zone 1 at 10.0.1.4 and so on.
func (k *lab) node(n int) *driver.Resource {
	k.t.Helper()
	number := string(rune('0' + n))
	k.must(nicType, "nic"+number, k.nicIn("10.0.1."+string(rune('3'+n))))
	k.must(diskType, "disk"+number, diskIn("disk"+number, number))
	return k.must(vmType, "node"+number, k.vmIn("node"+number, number, "nic"+number, "disk"+number))
}

// machine is the VM below.
func (k *lab) machine(name string) string {
	k.t.Helper()
	id := k.cloud.MachineIDs()[name]
	if id == "" {
		k.t.Fatalf("there is no machine for %s", name)
	}
	return id
}

// ask sends a request to the machine's metadata or services, and returns the status and body; -1 is a connection that
// was closed.
func (k *lab) ask(vm, method, url string, header m, body string) (int, string) {
	k.t.Helper()
	below, ok := k.below.Machine(k.machine(vm))
	if !ok {
		k.t.Fatalf("machine of %s is not there", vm)
	}
	r := httptest.NewRequest(method, url, strings.NewReader(body))
	for name, v := range header {
		r.Header.Set(name, v.(string))
	}
	handler := below.Metadata
	if r.URL.Scheme == "https" {
		if !below.IsService(r.URL.Hostname()) {
			return -2, "no such host"
		}
		handler = below.Services
	}
	w := httptest.NewRecorder()
	if closed(handler, w, r) {
		return -1, ""
	}
	text, err := io.ReadAll(w.Result().Body)
	if err != nil {
		k.t.Fatal(err)
	}
	return w.Code, string(text)
}

func closed(h http.Handler, w http.ResponseWriter, r *http.Request) (is bool) {
	defer func() {
		if p := recover(); p != nil {
			err, ok := p.(error)
			if is = ok && errors.Is(err, http.ErrAbortHandler); !is {
				panic(p)
			}
		}
	}()
	h.ServeHTTP(w, r)
	return false
}

// expect compares the answer to a request.
func (k *lab) expect(doing string, status int, body string, want int, words ...string) {
	k.t.Helper()
	if status != want {
		k.t.Errorf("%s: %d %s; want %d", doing, status, body, want)
	}
	for _, w := range words {
		if !strings.Contains(body, w) {
			k.t.Errorf("%s: %s; want %q in it", doing, body, w)
		}
	}
}

func (k *lab) grant(name, principal, role, scope string) m {
	return m{
		"principalId": principal, "principalType": "ServicePrincipal", "scope": scope,
		"roleDefinitionId": "/subscriptions/" + k.cloud.SubscriptionID() + "/providers/Microsoft.Authorization/roleDefinitions/" + role,
	}
}

func principalOf(r *driver.Resource) string {
	return cloud.Str(cloud.Obj(r.Outputs, "identity"), "principalId")
}

func accountIn() m {
	return in("x", m{
		"accountName": "labstore1", "kind": "StorageV2", "sku": m{"name": "Standard_ZRS"},
		"minimumTlsVersion": "TLS1_2", "allowBlobPublicAccess": false,
		"networkRuleSet": m{"defaultAction": "Allow"},
	})
}

// store makes an account with a blob of the text in it.
func (k *lab) store(text string) {
	k.t.Helper()
	k.must(accountType, "store", accountIn())
	k.must(containerType, "box", m{"resourceGroupName": "lab", "accountName": "labstore1", "containerName": "program"})
	k.must(blobType, "blob", m{
		"resourceGroupName": "lab", "accountName": "labstore1", "containerName": "program",
		"blobName": "bin/hypercache",
		"source":   resource.NewAssetProperty(&asset.Asset{Sig: asset.AssetSig, Text: text}),
	})
}

func (k *lab) vaultIn() m {
	return in("x", m{"vaultName": "labvault1", "properties": m{
		"tenantId": k.cloud.tenant, "sku": m{"family": "A", "name": "standard"}, "enableRbacAuthorization": true,
		"softDeleteRetentionInDays": 7,
		"networkAcls": m{"defaultAction": "Deny", "bypass": "AzureServices",
			"virtualNetworkRules": []any{m{"id": k.id("subnet")}}},
	}})
}
