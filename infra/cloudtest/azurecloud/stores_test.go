package azurecloud

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
)

const (
	blobURL   = "https://labstore1.blob.core.windows.net/program/bin/hypercache"
	secretURL = "https://labvault1.vault.azure.net/secrets/gossip-key?api-version=7.4"
	imdsToken = "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource="
)

// token asks the machine's metadata for one.
func (k *lab) token(vm, audience string) string {
	k.t.Helper()
	status, body := k.ask(vm, "GET", imdsToken+audience, m{"Metadata": "true"}, "")
	k.expect("token", status, body, 200)
	var out struct {
		Token   string `json:"access_token"`
		Expires string `json:"expires_in"`
		Type    string `json:"token_type"`
	}
	if err := json.Unmarshal([]byte(body), &out); err != nil || out.Type != "Bearer" || out.Expires == "" {
		k.t.Fatalf("token: %s, %v", body, err)
	}
	return "Bearer " + out.Token
}

func (k *lab) secret(value string) {
	k.t.Helper()
	k.must(secretType, "secret", m{"resourceGroupName": "lab", "vaultName": "labvault1", "secretName": "gossip-key",
		"properties": m{"value": value}})
}

func TestMetadataWantItsHeaderAndVersion(t *testing.T) {
	k := network(t)
	k.node(1)
	const base = "http://169.254.169.254/metadata/instance"
	status, body := k.ask("node1", "GET", base+"?api-version=2021-02-01", nil, "")
	k.expect("without the header", status, body, 400, "metadata header")
	status, body = k.ask("node1", "GET", base, m{"Metadata": "true"}, "")
	k.expect("without a version", status, body, 400, "api-version")
	status, body = k.ask("node1", "GET", base+"?api-version=2021-02-01",
		m{"Metadata": "true", "X-Forwarded-For": "10.0.0.1"}, "")
	k.expect("through a proxy", status, body, 400)
	status, body = k.ask("node1", "GET", base+"?api-version=2021-02-01", m{"Metadata": "true"}, "")
	k.expect("instance", status, body, 200, `"name":"node1"`, `"zone":"1"`, `"privateIpAddress":"10.0.1.4"`,
		`"vmSize":"Standard_D2s_v5"`)
	if strings.Contains(body, custom("#cloud-config\n")) {
		t.Error("the metadata show custom data")
	}
	status, body = k.ask("node1", "GET", base+"/compute/zone?api-version=2021-02-01&format=text",
		m{"Metadata": "true"}, "")
	k.expect("zone", status, body, 200)
	if body != "1" {
		t.Errorf("the zone is %q", body)
	}
	status, body = k.ask("node1", "GET",
		base+"/network/interface/0/ipv4/ipAddress/0/privateIpAddress?api-version=2021-02-01&format=text", m{"Metadata": "true"}, "")
	k.expect("address", status, body, 200, "10.0.1.4")
	status, body = k.ask("node1", "GET", base+"/compute/cheese?api-version=2021-02-01", m{"Metadata": "true"}, "")
	k.expect("nothing", status, body, 404)
}

func TestTokensNameTheMachineAndTheAudience(t *testing.T) {
	k := network(t)
	r := k.node(1)
	cl, err := k.cloud.verify(k.token("node1", "https://vault.azure.net"))
	if err != nil || cl.Principal != principalOf(r) || cl.Audience != "https://vault.azure.net" || cl.Resource != r.ID {
		t.Errorf("claims %+v, %v", cl, err)
	}
	status, body := k.ask("node1", "GET", imdsToken+"https://example.com/", m{"Metadata": "true"}, "")
	k.expect("a resource that nobody knows", status, body, 400, "AADSTS500011")
	status, body = k.ask("node1", "GET", strings.TrimSuffix(imdsToken, "&resource="), m{"Metadata": "true"}, "")
	k.expect("without a resource", status, body, 400, "resource")
	k.must(nicType, "nic5", k.nicIn("10.0.1.20"))
	k.must(diskType, "disk5", diskIn("disk5", "1"))
	k.must(vmType, "nobody", with(k.vmIn("nobody", "1", "nic5", "disk5"), "identity", nil))
	status, body = k.ask("nobody", "GET", imdsToken+"https://vault.azure.net", m{"Metadata": "true"}, "")
	k.expect("a machine without identity", status, body, 400, "Identity not found")
	if _, err := k.cloud.verify(k.token("node1", "https://vault.azure.net") + "x"); err == nil {
		t.Error("a token that was tampered with is taken")
	}
	old := k.token("node1", "https://vault.azure.net")
	k.clock.add(tokenLife)
	if _, err := k.cloud.verify(old); err == nil {
		t.Error("a token of yesterday is taken")
	}
}

func TestBlobsOpenToTokensWithARole(t *testing.T) {
	k := network(t)
	vm := k.node(1)
	get := func(header m) (int, string) { return k.ask("node1", "GET", blobURL, header, "") }
	if status, _ := get(nil); status != -2 {
		t.Errorf("an account that does not exist resolves: %d", status)
	}
	k.store("the program")
	signed := func() m {
		return m{"Authorization": k.token("node1", "https://storage.azure.com/"), "x-ms-version": "2020-10-02"}
	}
	status, body := get(signed())
	k.expect("without a role", status, body, 403, "AuthorizationPermissionMismatch")
	k.must(roleType, "role", k.grant("", principalOf(vm), readBlobs, k.id("box")))
	status, body = get(signed())
	k.expect("with it", status, body, 200)
	if body != "the program" {
		t.Errorf("the blob is %q", body)
	}
	status, body = get(with(signed(), "Range", "bytes=4-6"))
	k.expect("a range", status, body, 206)
	if body != "pro" {
		t.Errorf("the range is %q", body)
	}
	status, body = get(with(signed(), "x-ms-version", nil))
	k.expect("without a version", status, body, 403, "AuthenticationFailed", "not supported in this version")
	status, body = get(with(signed(), "Authorization", k.token("node1", "https://vault.azure.net")))
	k.expect("a token for the vault", status, body, 401, "Audience")
	status, body = get(m{"x-ms-version": "2020-10-02"})
	k.expect("nobody", status, body, 409, "PublicAccessNotPermitted")
	status, body = k.ask("node1", "GET", blobURL+"x", signed(), "")
	k.expect("no such blob", status, body, 404, "BlobNotFound")
	k.mustDelete("role")
	status, body = get(signed())
	k.expect("with the role taken away", status, body, 403)
}

func TestARoleCountsForItsScopeAndFromItsTimeOn(t *testing.T) {
	k := network(t)
	k.cloud.roleDelay = 5 * time.Minute
	vm := k.node(1)
	k.store("x")
	get := func() int {
		status, _ := k.ask("node1", "GET", blobURL, m{"Authorization": k.token("node1", "https://storage.azure.com"),
			"x-ms-version": "2020-10-02"}, "")
		return status
	}
	k.must(roleType, "wrong-place", k.grant("", principalOf(vm), readBlobs, k.id("net")))
	k.must(roleType, "wrong-role", k.grant("", principalOf(vm), readSecrets, k.id("store")))
	k.must(roleType, "owner", k.grant("", principalOf(vm), "8e3af657-a8ff-443c-a75c-2fe8c4bcb635", k.id("store")))
	k.clock.add(time.Hour)
	if status := get(); status != 403 {
		t.Errorf("roles elsewhere, and for something else, open the blob: %d", status)
	}
	k.must(roleType, "right", k.grant("", principalOf(vm), readBlobs, k.id("group")))
	if status := get(); status != 403 {
		t.Errorf("a new role counts at once: %d", status)
	}
	k.clock.add(5 * time.Minute)
	if status := get(); status != 200 {
		t.Errorf("a role on the group does not open what is in it: %d", status)
	}
}

func TestAssignmentsAreCheckedLikeAzureDoes(t *testing.T) {
	k := network(t)
	vm := k.node(1)
	good := k.grant("", principalOf(vm), readSecrets, k.id("group"))
	k.mustNot(roleType, "role", with(good, "principalType", nil), "PrincipalNotFound", "replication delay")
	k.mustNot(roleType, "role", with(good, "principalType", "User"), "UnmatchedPrincipalType")
	k.mustNot(roleType, "role", with(good, "principalId", newGUID()), "PrincipalNotFound")
	k.mustNot(roleType, "role", with(good, "roleAssignmentName", "reader"), "InvalidRoleAssignmentId")
	k.mustNot(roleType, "role",
		with(good, "roleDefinitionId",
			"/providers/Microsoft.Authorization/roleDefinitions/"+newGUID()), "RoleDefinitionDoesNotExist")
	k.mustNot(roleType, "role", with(good, "roleDefinitionId", readSecrets), "InvalidRoleDefinitionId")
	k.mustNot(roleType, "role", with(good, "scope", k.id("group")+"x"), "404", "ResourceNotFound")
	r := k.must(roleType, "role", good)
	if !guid().MatchString(cloud.Str(r.Inputs, "roleAssignmentName")) {
		t.Errorf("the chosen name is %v", r.Inputs["roleAssignmentName"])
	}
	k.mustNot(roleType, "again", good, "409", "RoleAssignmentExists")
	if plan, _, _ := k.Diff("role", with(good, "principalId", newGUID())); plan != driver.Replace {
		t.Errorf("another principal: %s", plan)
	}
	k.mustDelete("node1")
	k.must(vmType, "node1", k.vmIn("node1", "1", "nic1", "disk1"))
	if principalOf(k.Get("node1")) == principalOf(vm) {
		t.Error("the new machine has the identity of the old one")
	}
	k.mustDelete("role")
}

func TestSecretsOpenToTokensWithARole(t *testing.T) {
	k := network(t)
	vm := k.node(1)
	k.must(vaultType, "vault", k.vaultIn())
	k.secret("c2VjcmV0")
	if k.Get("secret").Outputs["properties"].ObjectValue()["value"].HasValue() {
		t.Error("the secret's value is among the outputs")
	}
	signed := func() m { return m{"Authorization": k.token("node1", "https://vault.azure.net")} }
	get := func(url string, header m) (int, string) { return k.ask("node1", "GET", url, header, "") }
	status, body := get(secretURL, signed())
	k.expect("without a role", status, body, 403, "ForbiddenByRbac")
	k.must(roleType, "role", k.grant("", principalOf(vm), readSecrets, k.id("vault")))
	status, body = get(secretURL, signed())
	k.expect("with it", status, body, 200, `"value":"c2VjcmV0"`,
		`"id":"https://labvault1.vault.azure.net/secrets/gossip-key/`)
	status, body = get(strings.TrimSuffix(secretURL, "?api-version=7.4"), signed())
	k.expect("without a version", status, body, 400, "api-version")
	status, body = get(secretURL, nil)
	k.expect("without a token", status, body, 401)
	status, body = get(secretURL, m{"Authorization": k.token("node1", "https://vault.azure.net/")})
	k.expect("an audience with a slash", status, body, 401, "AKV10022")
	status, body = get(strings.Replace(secretURL, "gossip-key", "other", 1), signed())
	k.expect("no such secret", status, body, 404, "SecretNotFound")
	k.apply("secret", m{"resourceGroupName": "lab", "vaultName": "labvault1", "secretName": "gossip-key",
		"properties": m{"value": "new"}}, driver.Update)
	status, body = get(secretURL, signed())
	k.expect("the new version", status, body, 200, `"value":"new"`)
}

func TestVaultsCanGoByPoliciesOfTheirOwn(t *testing.T) {
	k := network(t)
	vm := k.node(1)
	policies := func(permission string) m {
		return with(with(k.vaultIn(), "properties.enableRbacAuthorization", nil), "properties.accessPolicies", []any{m{
			"tenantId": k.cloud.tenant, "objectId": principalOf(vm), "permissions": m{"secrets": []string{permission}},
		}})
	}
	k.mustNot(vaultType, "vault", with(k.vaultIn(), "properties.enableRbacAuthorization", nil),
		"accessPolicies is not specified")
	k.must(vaultType, "vault", policies("list"))
	k.secret("s")
	header := m{"Authorization": k.token("node1", "https://vault.azure.net")}
	status, body := k.ask("node1", "GET", secretURL, header, "")
	k.expect("list only", status, body, 403, "ForbiddenByPolicy")
	k.apply("vault", policies("get"), driver.Update)
	status, body = k.ask("node1", "GET", secretURL, header, "")
	k.expect("get", status, body, 200)
}

func TestNetworkRulesOfStoresCount(t *testing.T) {
	k := network(t)
	vm := k.node(1)
	k.must(vaultType, "vault", k.vaultIn())
	k.secret("s")
	k.must(roleType, "role", k.grant("", principalOf(vm), readSecrets, k.id("vault")))
	get := func() (int, string) {
		return k.ask("node1", "GET", secretURL, m{"Authorization": k.token("node1", "https://vault.azure.net")}, "")
	}
	status, body := get()
	k.expect("from the subnet that it names", status, body, 200)
	k.apply("vault", with(k.vaultIn(), "properties.networkAcls.virtualNetworkRules", nil), driver.Update)
	status, body = get()
	k.expect("from a subnet that it does not", status, body, 403, "ForbiddenByFirewall")
	k.apply("vault", with(with(k.vaultIn(), "properties.networkAcls.virtualNetworkRules", nil),
		"properties.networkAcls.defaultAction", "Allow"), driver.Update)
	status, body = get()
	k.expect("open to all", status, body, 200)
	k.apply("subnet", with(k.subnetIn(), "serviceEndpoints", nil), driver.Update)
	if status, _ = get(); status != -1 {
		t.Errorf("without a way out the vault answers %d", status)
	}
	k.mustNotApply("vault", k.vaultIn(), "SubnetsHaveNoServiceEndpointsConfigured")
	ip := k.must(ipType, "ip", in("x", m{"sku": m{"name": "Standard"}, "publicIPAllocationMethod": "Static"}))
	k.must(natType, "nat", in("x", m{"sku": m{"name": "Standard"}, "publicIpAddresses": []any{m{"id": ip.ID}}}))
	k.apply("subnet", with(with(k.subnetIn(), "serviceEndpoints", nil), "natGateway", m{"id": k.id("nat")}),
		driver.Update)
	status, body = get()
	k.expect("through a NAT gateway", status, body, 200)
	closed := with(k.vaultIn(), "properties.networkAcls.virtualNetworkRules", nil)
	k.apply("vault", closed, driver.Update)
	status, body = get()
	k.expect("through a gateway that it does not know", status, body, 403, "ForbiddenByFirewall", ip.Out("ipAddress"))
	k.apply("vault", with(closed, "properties.networkAcls.ipRules", []any{m{"value": ip.Out("ipAddress")}}),
		driver.Update)
	status, body = get()
	k.expect("through one that it knows", status, body, 200)
	sealed := append(firewallIn()["securityRules"].([]any), m{
		"name": "no-internet", "priority": 200, "direction": "Outbound", "access": "Deny", "protocol": "*",
		"sourcePortRange":     "*",
		"sourceAddressPrefix": "*", "destinationAddressPrefix": "Internet", "destinationPortRange": "*",
	})
	k.apply("fw", with(firewallIn(), "securityRules", sealed), driver.Update)
	if status, _ = get(); status != -1 {
		t.Errorf("with the Internet refused the vault answers %d", status)
	}
}

func TestBadStoresAreRefused(t *testing.T) {
	k := network(t)
	good := accountIn()
	k.mustNot(accountType, "store", with(good, "accountName", "Lab-Store"), "does not match expression")
	k.mustNot(accountType, "store", with(good, "accountName", "ab"), "too short")
	k.mustNot(accountType, "store", with(good, "accountName", strings.Repeat("a", 25)), "too long")
	k.mustNot(accountType, "store", with(good, "sku.name", "Standard"), "Standard_ZRS")
	k.mustNot(accountType, "store", with(good, "minimumTlsVersion", "TLS2"), "TLS1_2")
	k.mustNot(accountType, "store", with(good, "location", "westus"), "SkuNotSupportedInRegion")
	k.must(accountType, "store", good)
	k.must(groupType, "group2", m{"resourceGroupName": "lab2", "location": home})
	k.mustNot(accountType, "store2", with(good, "resourceGroupName", "lab2"), "409", "StorageAccountAlreadyTaken")
	box := m{"resourceGroupName": "lab", "accountName": "labstore1", "containerName": "program"}
	k.mustNot(containerType, "box", with(box, "publicAccess", "Blob"), "PublicAccessNotPermitted")
	k.mustNot(containerType, "box", with(box, "containerName", "a--b"), "does not match expression")
	k.mustNot(blobType, "blob", with(box, "blobName", "x"), "ParentResourceNotFound")
	k.must(containerType, "box", box)
	k.apply("store", with(good, "allowSharedKeyAccess", false), driver.Update)
	k.mustNot(blobType, "blob", with(box, "blobName", "x"), "KeyBasedAuthenticationNotPermitted")
	k.apply("store", with(good, "networkRuleSet.defaultAction", "Deny"), driver.Update)
	k.mustNot(blobType, "blob", with(box, "blobName", "x"), "AuthorizationFailure")
	k.apply("store", good, driver.Update)
	k.must(blobType, "blob", with(box, "blobName", "x"))
	if plan, _, _ := k.Diff("blob", with(box, "blobName", "y")); plan != driver.Replace {
		t.Errorf("another name of a blob: %s", plan)
	}
}

func TestADeletedVaultKeepsItsName(t *testing.T) {
	k := network(t)
	k.must(vaultType, "vault", k.vaultIn())
	k.secret("s")
	k.mustNot(vaultType, "vault2", k.vaultIn(), "cannot create already existing resource")
	k.must(groupType, "group2", m{"resourceGroupName": "lab2", "location": home})
	k.mustNot(vaultType, "vault2", with(k.vaultIn(), "resourceGroupName", "lab2"), "VaultAlreadyExists")
	k.mustNotDelete("secret", "403", "ForbiddenByFirewall")
	k.mustDelete("vault")
	k.mustNot(vaultType, "vault2", k.vaultIn(), "409", "ConflictError", "deleted state")
	k.must(vaultType, "vault", with(k.vaultIn(), "properties.createMode", "recover"))
	if found, err := k.Refresh("secret"); !found || err != nil {
		t.Errorf("a recovered vault is without its secret: %v, %v", found, err)
	}
	k.mustDelete("vault")
	if err := k.cloud.PurgeVault("labvault1"); err != nil {
		t.Fatal(err)
	}
	k.must(vaultType, "vault", with(k.vaultIn(), "properties.enablePurgeProtection", true))
	k.mustDelete("vault")
	k.refused("purge", k.cloud.PurgeVault("labvault1"), "purge protection")
	k.clock.add(7*24*time.Hour + time.Minute)
	k.must(vaultType, "vault", k.vaultIn())
}

func TestBadVaultsAndSecretsAreRefused(t *testing.T) {
	k := network(t)
	good := k.vaultIn()
	k.mustNot(vaultType, "vault", with(good, "vaultName", "1vault"), "does not match expression")
	k.mustNot(vaultType, "vault", with(good, "vaultName", strings.Repeat("v", 25)), "too long")
	k.mustNot(vaultType, "vault", with(good, "properties.tenantId", newGUID()), "tenant")
	k.mustNot(vaultType, "vault", with(good, "properties.softDeleteRetentionInDays", 6), "between 7 and 90")
	k.mustNot(vaultType, "vault", with(good, "properties.enablePurgeProtection", false), "irreversible")
	k.mustNot(vaultType, "vault", with(good, "properties.enableSoftDelete", false), "enableSoftDelete")
	k.mustNot(vaultType, "vault", with(good, "properties.sku.name", "gold"), "premium")
	k.mustNot(vaultType, "vault", with(good, "properties.networkAcls.ipRules", []any{m{"value": "10.0.0.0/8"}}),
		"not a public IPv4")
	k.mustNot(vaultType, "vault", with(good, "properties.createMode", "recover"), "SoftDeletedVaultDoesNotExist")
	k.must(vaultType, "vault", good)
	k.mustNotApply("vault", with(good, "properties.softDeleteRetentionInDays", 8), "can't be modified")
	s := m{"resourceGroupName": "lab", "vaultName": "labvault1", "secretName": "s", "properties": m{"value": "v"}}
	k.mustNot(secretType, "s", with(s, "secretName", "a_b"), "does not match expression")
	k.mustNot(secretType, "s", with(s, "properties.value", ""), "not specified")
	k.mustNot(secretType, "s", with(s, "properties.value", strings.Repeat("x", 25601)), "25600")
	k.mustNot(secretType, "s", with(s, "vaultName", "other"), "ParentResourceNotFound")
	k.must(secretType, "s", s)
	k.apply("vault", with(good, "properties.networkAcls.defaultAction", "Allow"), driver.Update)
	k.mustNotDelete("s", "403", "ForbiddenByRbac")
	k.must(roleType, "officer", with(k.grant("", k.cloud.operator, "b86a8fe4-44ce-4948-aee5-eccb2c155cd7",
		k.id("vault")), "principalType", "User"))
	k.mustDelete("s")
	k.mustNot(secretType, "s", s, "deleted but recoverable")
}
