package azurecloud

import (
	"crypto/md5" // it is what blobs carry
	"encoding/base64"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// blob is what only blobs know.
type blob struct {
	data []byte
	md5  string
	etag string
	at   time.Time
}

// timeFormat is how Azure writes times.
const timeFormat = "2006-01-02T15:04:05.0000000Z"

func (c *Cloud) stamp() string { return c.now().UTC().Format(timeFormat) }

func (c *Cloud) storageKinds() map[string]*books {
	return map[string]*books{
		"azure-native:storage:StorageAccount": {
			kind: kindAccount, path: []string{"accountName"}, rule: accountRule(), located: true, mostTags: 15,
			replace: []string{"isHnsEnabled", "location"}, put: c.putAccount,
		},
		"azure-native:storage:BlobContainer": {
			kind: kindContainer, path: []string{"accountName", "=default", "containerName"}, rule: containerRule(),
			put: c.putContainer,
		},
		"azure-native:storage:Blob": {
			kind: kindBlob, path: []string{"accountName", "=default", "containerName", "blobName"},
			rule:   nameRule{least: 1, most: 3072},
			chosen: func(name string) string { return name }, replace: []string{"contentMd5", "source", "type"},
			check: func(call *cloud.Call) []cloud.Problem {
				if _, ok := call.Inputs["type"]; !ok {
					call.Inputs["type"] = resource.NewStringProperty("Block")
				}
				return nil
			},
			put: c.putBlob, remove: c.removeBlob,
		},
	}
}

func (c *Cloud) putAccount(_ *cloud.Call, it, old *item) error {
	in := it.in
	sku, kind := cloud.Str(cloud.Obj(in, "sku"), "name"), cloud.Str(in, "kind")
	for _, e := range [][]string{
		{"sku.name", sku, "Standard_LRS", "Standard_GRS", "Standard_RAGRS", "Standard_ZRS", "Premium_LRS",
			"Premium_ZRS", "Standard_GZRS", "Standard_RAGZRS"},
		{"kind", kind, "Storage", "StorageV2", "BlobStorage", "FileStorage", "BlockBlobStorage"},
		{"minimumTlsVersion", cloud.Str(in, "minimumTlsVersion"), "TLS1_0", "TLS1_1", "TLS1_2", "TLS1_3"},
		{"publicNetworkAccess", cloud.Str(in, "publicNetworkAccess"), "Enabled", "Disabled", "SecuredByPerimeter"},
		{"allowedCopyScope", cloud.Str(in, "allowedCopyScope"), "PrivateLink", "AAD"},
	} {
		if err := oneOf(e[0], e[1], e[2:]...); err != nil {
			return err
		}
	}
	if strings.Contains(sku, "ZRS") && len(regions()[it.location].zones) == 0 {
		return badRequest("SkuNotSupportedInRegion", "The sku %s is not available in %s.", sku, it.location)
	}
	if strings.HasSuffix(kind, "BlobStorage") && kind != "BlobStorage" != strings.HasPrefix(sku, "Premium") {
		return badRequest("AccountPropertyCannotBeSet", "The sku %s and the kind %s do not go together.", sku, kind)
	}
	if old == nil {
		if c.accountNamed(it.name) != nil {
			return conflict("StorageAccountAlreadyTaken", "The storage account named %s is already taken.", it.name)
		}
		it.out["creationTime"] = resource.NewStringProperty(c.stamp())
		it.extra = base64.StdEncoding.EncodeToString(random(64)) // its key
	} else if cloud.Str(old.in, "kind") != kind && kind != "StorageV2" {
		return badRequest("AccountPropertyIsImmutable", "The account property kind cannot be changed from %s to %s.",
			cloud.Str(old.in, "kind"), kind)
	}
	if err := c.mayRules(it, "Microsoft.Storage", cloud.Obj(in, "networkRuleSet"), "virtualNetworkResourceId",
		"iPAddressOrRange"); err != nil {
		return err
	}
	it.out["provisioningState"] = resource.NewStringProperty("Succeeded")
	it.out["statusOfPrimary"] = resource.NewStringProperty("available")
	it.out["primaryLocation"] = resource.NewStringProperty(it.location)
	it.out["primaryEndpoints"] = cloud.Value(map[string]any{"blob": "https://" + it.name + ".blob.core.windows.net/"})
	return nil
}

// accountNamed finds an account by its name, which is unique in all of Azure; c.mu is held.
func (c *Cloud) accountNamed(name string) *item {
	for _, a := range c.all(kindAccount) {
		if strings.EqualFold(a.name, name) {
			return a
		}
	}
	return nil
}

// mayRules checks the network rules of a store; c.mu is held.
func (c *Cloud) mayRules(it *item, service string, rules resource.PropertyMap, subnetKey, addressKey string) error {
	if err := oneOf("defaultAction", cloud.Str(rules, "defaultAction"), "Allow", "Deny"); err != nil {
		return err
	}
	for _, part := range strings.Split(cloud.Str(rules, "bypass"), ",") {
		if err := oneOf("bypass", strings.TrimSpace(part), "None", "Logging", "Metrics", "AzureServices"); err != nil {
			return err
		}
	}
	for _, r := range cloud.Objs(rules, "virtualNetworkRules") {
		s, err := c.refer(kindSubnet, cloud.Str(r, subnetKey), "networkAcls.virtualNetworkRules", &item{id: it.id})
		if err != nil {
			return err
		}
		if !s.hasEndpoint(service) && !cloud.Bool(r, "ignoreMissingVnetServiceEndpoint", false) {
			return badRequest("NetworkAclsValidationFailure", "Validation of network acls failure: "+
				"SubnetsHaveNoServiceEndpointsConfigured: Subnets %s of virtual network %s do not have "+
				"ServiceEndpoints for %s resources configured. Add %s to subnet's ServiceEndpoints collection before "+
				"trying to ACL %s resources to these subnets.", s.name, parentID(s.id, 1), service, service, service)
		}
	}
	for _, r := range cloud.Objs(rules, "ipRules") {
		p, ok := asPrefix(cloud.Str(r, addressKey))
		if !ok || !p.Addr().Is4() || p.Addr().IsPrivate() {
			return badRequest("InvalidValuesForRequestParameters", "Values for request parameters are invalid: "+
				"networkAcls.ipRules: '%s' is not a public IPv4 address or range.", cloud.Str(r, addressKey))
		}
	}
	return nil
}

func (c *Cloud) putContainer(_ *cloud.Call, it, _ *item) error {
	account := c.get(kindAccount, parentID(it.id, 2))
	public := cloud.Str(it.in, "publicAccess")
	if public != "" && public != "None" && !cloud.Bool(account.in, "allowBlobPublicAccess", false) {
		return conflict("PublicAccessNotPermitted", "Public access is not permitted on this storage account.")
	}
	it.out["etag"], it.out["leaseState"] = resource.NewStringProperty(newETag()), resource.NewStringProperty("Available")
	return nil
}

func newETag() string { return fmt.Sprintf("\"0x8D%X\"", random(7)) }

// mayWriteBlobs checks that whoever runs Pulumi gets at a container with the account's key, as the provider does; c.mu
// is held.
func (c *Cloud) mayWriteBlobs(account *item) error {
	rules := cloud.Obj(account.in, "networkRuleSet")
	switch {
	case !cloud.Bool(account.in, "allowSharedKeyAccess", true):
		return refuse(403, "KeyBasedAuthenticationNotPermitted", "Key based authentication is not permitted on this "+
			"storage account.")
	case strings.EqualFold(cloud.Str(account.in, "publicNetworkAccess"), "Disabled"), !opens(rules, "iPAddressOrRange",
		operatorAddress()):
		return refuse(403, "AuthorizationFailure", "This request is not authorized to perform this operation.")
	}
	return nil
}

// operatorAddress is where whoever runs Pulumi is.
func operatorAddress() netip.Addr { return netip.AddrFrom4([4]byte{203, 0, 113, 7}) }

// opens reports whether network rules let a public address in.
func opens(rules resource.PropertyMap, addressKey string, a netip.Addr) bool {
	if !strings.EqualFold(cloud.Str(rules, "defaultAction"), "Deny") {
		return true
	}
	for _, r := range cloud.Objs(rules, "ipRules") {
		if p, ok := asPrefix(cloud.Str(r, addressKey)); ok && a.IsValid() && p.Contains(a) {
			return true
		}
	}
	return false
}

func (c *Cloud) putBlob(call *cloud.Call, it, old *item) error {
	account := c.get(kindAccount, parentID(it.id, 3))
	if err := c.mayWriteBlobs(account); err != nil {
		return err
	}
	name := cloud.Str(it.in, "blobName")
	if old == nil {
		b := blob{etag: newETag(), at: c.now()}
		if _, given := it.in["source"]; given {
			data, err := call.Bytes("source")
			if err != nil {
				return err
			}
			b.data = data
		}
		sum := md5.Sum(b.data) // it is what blobs carry
		b.md5 = base64.StdEncoding.EncodeToString(sum[:])
		if want := cloud.Str(it.in, "contentMd5"); want != "" && want != b.md5 {
			return badRequest("Md5Mismatch", "The MD5 value specified in the request did not match with the MD5 value "+
				"calculated by the server.")
		}
		it.extra = b
	}
	it.out["name"] = resource.NewStringProperty(name)
	it.out["type"] = it.in["type"]
	at := "https://" + account.name + ".blob.core.windows.net/" + last(parentID(it.id, 1)) + "/" + name
	it.out["url"] = resource.NewStringProperty(at)
	return nil
}

func (c *Cloud) removeBlob(it *item) error {
	if account := c.get(kindAccount, parentID(it.id, 3)); account != nil {
		return c.mayWriteBlobs(account)
	}
	return nil
}
