package azurecloud

import (
	"context"
	"encoding/hex"
	"fmt"
	"maps"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// deletedVault is a vault in its retention, with its secrets.
type deletedVault struct {
	vault     *item
	inside    map[string]*item
	ends      time.Time
	protected bool // nobody can purge it
}

// vault is what only vaults know: names of secrets that were deleted, which stay taken.
type vault struct{ deleted map[string]bool }

// secret is the newest version of one.
type secret struct {
	value, version string
	at             time.Time
}

// maxSecret is how many bytes a secret may have.
const maxSecret = 25600

// defaultRetention is how many days a deleted vault stays.
const defaultRetention = 90

func (c *Cloud) vaultKinds() map[string]*books {
	return map[string]*books{
		"azure-native:keyvault:Vault": {
			kind: kindVault, path: []string{"vaultName"}, rule: vaultRule(), located: true, mostTags: 50,
			put: c.putVault, undo: c.retainVault,
		},
		"azure-native:keyvault:Secret": {
			kind: kindSecret, path: []string{"vaultName", "secretName"}, rule: secretRule(), mostTags: 15,
			put: c.putSecret, remove: c.removeSecret,
		},
	}
}

func (c *Cloud) putVault(_ *cloud.Call, it, old *item) error {
	p := cloud.Obj(it.in, "properties")
	if err := oneOf("properties.sku.family", cloud.Str(cloud.Obj(p, "sku"), "family"), "A"); err != nil {
		return err
	}
	if err := oneOf("properties.publicNetworkAccess", cloud.Str(p, "publicNetworkAccess"), "enabled",
		"disabled"); err != nil {
		return err
	}
	days := cloud.Int(p, "softDeleteRetentionInDays")
	_, hasPolicies := p["accessPolicies"]
	revive := cloud.Str(p, "createMode") == "recover"
	switch {
	case cloud.Str(p, "tenantId") != c.tenant:
		return badRequest("BadRequest", "Invalid tenant id '%s': the subscription is in tenant %s.",
			cloud.Str(p, "tenantId"), c.tenant)
	case !hasPolicies && !cloud.Bool(p, "enableRbacAuthorization", false) && !revive:
		return badRequest("BadRequest", "The parameter accessPolicies is not specified.")
	case cloud.Known(p, "enableSoftDelete") && !cloud.Bool(p, "enableSoftDelete", true):
		return badRequest("BadRequest",
			`The property "enableSoftDelete" cannot be set to false. Every vault has soft delete.`)
	case cloud.Known(p, "enablePurgeProtection") && !cloud.Bool(p, "enablePurgeProtection", false):
		return badRequest("BadRequest",
			`The property "enablePurgeProtection" cannot be set to false. Enabling the purge protection for a vault is an `+
				`irreversible action.`)
	case cloud.Known(p, "softDeleteRetentionInDays") && (days < 7 || days > 90):
		return badRequest("BadRequest", `The property "softDeleteRetentionInDays" must be between 7 and 90, not %d.`,
			days)
	}
	for _, a := range cloud.Objs(p, "accessPolicies") {
		if cloud.Str(a, "tenantId") != c.tenant || !guid().MatchString(cloud.Str(a, "objectId")) {
			return badRequest("BadRequest", "An invalid value was provided for 'accessPolicies': tenantId must be the "+
				"vault's and objectId a GUID.")
		}
	}
	if err := c.mayRules(it, "Microsoft.KeyVault", cloud.Obj(p, "networkAcls"), "id", "value"); err != nil {
		return err
	}
	if err := c.mayVaultName(it, old, revive); err != nil {
		return err
	}
	if old != nil {
		before := cloud.Obj(old.in, "properties")
		if was := cloud.Int(before, "softDeleteRetentionInDays"); was != 0 && days != 0 && was != days {
			return badRequest("BadRequest",
				`The property "softDeleteRetentionInDays" has been set already and it can't be modified.`)
		}
	}
	out := p.Copy()
	out["vaultUri"] = resource.NewStringProperty("https://" + it.name + ".vault.azure.net/")
	out["provisioningState"] = resource.NewStringProperty("Succeeded")
	out["enableSoftDelete"] = resource.NewBoolProperty(true)
	it.out["properties"] = resource.NewObjectProperty(out)
	return nil
}

// mayVaultName checks that the name is free in all of Azure, and brings a deleted vault back if that is wanted; c.mu is
// held.
func (c *Cloud) mayVaultName(it, old *item, revive bool) error {
	if old != nil {
		return nil
	}
	if c.vaultNamed(it.name) != nil {
		return conflict("VaultAlreadyExists", "The vault name '%s' is already in use. Vault names are globally unique "+
			"so it is possible that the name is already taken.", it.name)
	}
	d, deleted := c.deletedVaults[lower(it.name)]
	deleted = deleted && c.now().Before(d.ends)
	switch {
	case deleted && !revive:
		return conflict("ConflictError", "A vault with the same name already exists in deleted state. You need to "+
			"either recover or purge existing key vault. Follow this link "+
			"https://go.microsoft.com/fwlink/?linkid=2149745 for more information on soft delete.")
	case revive && (!deleted || d.vault.location != it.location || !strings.EqualFold(d.vault.id, it.id)):
		return refuse(404, "SoftDeletedVaultDoesNotExist", "A soft deleted vault with the given name does not exist. "+
			"Ensure that the name for the vault that is being attempted to recover is in a recoverable state.")
	}
	it.extra = vault{deleted: map[string]bool{}}
	if revive {
		it.extra = d.vault.extra
		maps.Copy(c.items, d.inside)
		delete(c.deletedVaults, lower(it.name))
	}
	return nil
}

// vaultNamed finds a vault by its name; c.mu is held.
func (c *Cloud) vaultNamed(name string) *item {
	for _, v := range c.all(kindVault) {
		if strings.EqualFold(v.name, name) {
			return v
		}
	}
	return nil
}

// retainVault keeps a deleted vault for its retention, its name taken. The provider purges none.
func (c *Cloud) retainVault(_ context.Context, it *item) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := cloud.Obj(it.in, "properties")
	days := cloud.Int(p, "softDeleteRetentionInDays")
	if days == 0 {
		days = defaultRetention
	}
	d := deletedVault{
		vault: it, inside: map[string]*item{}, ends: c.now().AddDate(0, 0, days),
		protected: cloud.Bool(p, "enablePurgeProtection", false),
	}
	for key, other := range c.items {
		if other.kind == kindSecret && within(key, it.id) {
			d.inside[key] = other
		}
	}
	c.deletedVaults[lower(it.name)] = d
	return nil
}

// PurgeVault ends a deleted vault's retention, as an operator can unless the vault is protected from it.
func (c *Cloud) PurgeVault(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	d, ok := c.deletedVaults[lower(name)]
	switch {
	case !ok:
		return fmt.Errorf("there is no deleted vault %q", name)
	case d.protected && c.now().Before(d.ends):
		return badRequest("MethodNotAllowed", "Operation 'DeletedVaultPurge' is not allowed: purge protection is "+
			"enabled on vault '%s'.", name)
	}
	delete(c.deletedVaults, lower(name))
	return nil
}

func (c *Cloud) putSecret(_ *cloud.Call, it, old *item) error {
	p := cloud.Obj(it.in, "properties")
	value := cloud.Str(p, "value")
	holder := c.get(kindVault, parentID(it.id, 1))
	switch {
	case value == "":
		return badRequest("BadRequest", "The value of secret '%s' is not specified or empty.", it.name)
	case len(value) > maxSecret:
		return badRequest("BadParameter", "The value of secret '%s' has %d bytes, more than %d.", it.name, len(value),
			maxSecret)
	case old == nil && holder.extra.(vault).deleted[lower(it.name)]:
		return conflict("ConflictError", "Secret %s is currently in a deleted but recoverable state, and its name "+
			"cannot be reused; in this state, the secret can only be recovered or purged.", it.name)
	}
	s := secret{value: value, version: hex.EncodeToString(random(16)), at: c.now()}
	it.extra = s
	uri := "https://" + holder.name + ".vault.azure.net/secrets/" + it.name
	out := p.Copy()
	delete(out, "value") // it is never read back
	out["secretUri"] = resource.NewStringProperty(uri)
	out["secretUriWithVersion"] = resource.NewStringProperty(uri + "/" + s.version)
	it.out["properties"] = resource.NewObjectProperty(out)
	return nil
}

// removeSecret deletes on the data side, as the provider does, with the rights of whoever runs Pulumi; c.mu is held.
func (c *Cloud) removeSecret(it *item) error {
	holder := c.get(kindVault, parentID(it.id, 1))
	if holder == nil {
		return fmt.Errorf("dial tcp: lookup %s.vault.azure.net: no such host", last(parentID(it.id, 1)))
	}
	if !opens(cloud.Obj(cloud.Obj(holder.in, "properties"), "networkAcls"), "value", operatorAddress()) {
		return refuse(403, "Forbidden", "Client address is not authorized and caller is not a trusted service. "+
			"(ForbiddenByFirewall) Vault: %s", holder.name)
	}
	if !c.mayVault(c.operator, holder, it, "delete", actionDeleteSecret) {
		return refuse(403, "Forbidden", "Caller is not authorized to perform action on resource. (ForbiddenByRbac) "+
			"Vault: %s", holder.name)
	}
	holder.extra.(vault).deleted[lower(it.name)] = true
	return nil
}

// mayVault reports whether an identity may do something with a secret: by roles, or by the vault's own policies if it
// goes by those. c.mu is held.
func (c *Cloud) mayVault(principal string, holder, it *item, permission, action string) bool {
	p := cloud.Obj(holder.in, "properties")
	if cloud.Bool(p, "enableRbacAuthorization", false) {
		return c.allowed(principal, action, it.id)
	}
	for _, a := range cloud.Objs(p, "accessPolicies") {
		if !strings.EqualFold(cloud.Str(a, "objectId"), principal) || c.principals[principal] == "" {
			continue
		}
		for _, granted := range cloud.Strs(cloud.Obj(a, "permissions"), "secrets") {
			if strings.EqualFold(granted, permission) || strings.EqualFold(granted, "all") {
				return true
			}
		}
	}
	return false
}
