package azurecloud

import (
	"slices"
	"strings"
	"time"

	"hypercache/infra/cloudtest/cloud"
)

// Actions on data that roles allow.
const (
	actionReadBlob     = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs/read"
	actionGetSecret    = "Microsoft.KeyVault/vaults/secrets/getSecret/action"
	actionDeleteSecret = "Microsoft.KeyVault/vaults/secrets/delete"
	actionWriteMetrics = "Microsoft.Insights/Metrics/Write"
)

// roles are some of Azure's own by their ids, which are the same everywhere, with the actions on data that they allow.
// Those that manage resources, such as Owner, allow none.
func roles() map[string][]string {
	return map[string][]string{
		"8e3af657-a8ff-443c-a75c-2fe8c4bcb635": nil,                                   // Owner
		"b24988ac-6180-42a0-ab88-20f7382dd24c": nil,                                   // Contributor
		"acdd72a7-3385-48ef-bd42-f606fba81ae7": nil,                                   // Reader
		"9980e02c-c2be-4d73-94e8-173b1dc7cf3c": nil,                                   // Virtual Machine Contributor
		"21090545-7ca7-4776-b22c-e363652d74d2": nil,                                   // Key Vault Reader
		"b7e6dc6d-f1e8-4753-8033-0f276bb0955b": {actionReadBlob},                      // Storage Blob Data Owner
		"ba92f5b4-2d11-453d-a403-e96b0029c9fe": {actionReadBlob},                      // Storage Blob Data Contributor
		"2a2b9908-6ea1-4ae2-8e65-a410df84e7d1": {actionReadBlob},                      // Storage Blob Data Reader
		"00482a5a-887f-4fb3-b363-3b7fe8e74483": {actionGetSecret, actionDeleteSecret}, // Key Vault Administrator
		"b86a8fe4-44ce-4948-aee5-eccb2c155cd7": {actionGetSecret, actionDeleteSecret}, // Key Vault Secrets Officer
		"4633458b-17de-408a-b874-0445c86b69e6": {actionGetSecret},                     // Key Vault Secrets User
		"3913510d-42f4-4e42-8a64-420c390055eb": {actionWriteMetrics},                  // Monitoring Metrics Publisher
	}
}

// assignment is what only role assignments know.
type assignment struct {
	principal, role, scope string
	counts                 time.Time // from when on
}

func (c *Cloud) roleKinds() map[string]*books {
	return map[string]*books{"azure-native:authorization:RoleAssignment": {
		kind: kindAssignment, path: []string{"roleAssignmentName"}, chosen: func(string) string { return newGUID() },
		replace: []string{"principalId", "scope"}, put: c.putAssignment,
	}}
}

func (c *Cloud) putAssignment(_ *cloud.Call, it, old *item) error {
	in := it.in
	a := assignment{principal: lower(cloud.Str(in, "principalId")), role: lower(last(cloud.Str(in,
		"roleDefinitionId"))), scope: scopeOf(cloud.Str(in, "scope"))}
	if !guid().MatchString(it.name) {
		return badRequest("InvalidRoleAssignmentId", "The role assignment ID '%s' is not valid. The role assignment "+
			"ID must be a GUID.", it.name)
	}
	if err := c.mayRole(cloud.Str(in, "roleDefinitionId")); err != nil {
		return err
	}
	if err := c.mayPrincipal(a.principal, cloud.Str(in, "principalType")); err != nil {
		return err
	}
	if scoped := c.items[lower(a.scope)]; !strings.EqualFold(a.scope,
		"/subscriptions/"+c.subscription) && (scoped == nil || scoped.gone) {
		return refuse(404, "ResourceNotFound", "The Resource '%s' was not found. For more details please go to "+
			"https://aka.ms/ARMResourceNotFoundFix", a.scope)
	}
	a.counts = c.now().Add(c.roleDelay)
	if old != nil {
		before := old.extra.(assignment)
		if before.role != a.role {
			return badRequest("RoleAssignmentUpdateNotPermitted", "Tenant ID, application ID, principal ID, and scope "+
				"are not allowed to be updated, nor the role.")
		}
		a.counts = before.counts
	}
	for _, other := range c.all(kindAssignment) {
		b := other.extra.(assignment)
		same := b.principal == a.principal && b.role == a.role && strings.EqualFold(b.scope, a.scope)
		if same && other.id != it.id && !other.gone {
			return conflict("RoleAssignmentExists", "The role assignment already exists. The ID of the existing role "+
				"assignment is %s.",
				strings.ReplaceAll(other.name, "-", ""))
		}
	}
	it.extra = a
	return nil
}

func scopeOf(s string) string { return "/" + strings.Trim(s, "/") }

func (c *Cloud) mayRole(id string) error {
	prefix, name := strings.TrimSuffix(lower(id), "/"+lower(last(id))), lower(last(id))
	const definitions = "/providers/microsoft.authorization/roledefinitions"
	if prefix != definitions && prefix != "/subscriptions/"+lower(c.subscription)+definitions {
		return badRequest("InvalidRoleDefinitionId", "The role definition ID '%s' is not valid.", id)
	}
	if _, ok := roles()[name]; !ok {
		return badRequest("RoleDefinitionDoesNotExist", "The specified role definition with ID '%s' does not exist.",
			strings.ReplaceAll(name, "-", ""))
	}
	return nil
}

// mayPrincipal checks who gets a role. A new identity takes a while to be known to the directory: unless the request
// says what it is, Azure looks there and does not find it. c.mu is held.
func (c *Cloud) mayPrincipal(principal, kind string) error {
	if err := oneOf("principalType", kind, "User", "Group", "ServicePrincipal", "ForeignGroup", "Device"); err != nil {
		return err
	}
	is := "ServicePrincipal"
	if principal == c.operator {
		is = "User"
	}
	_, known := c.principals[principal]
	switch {
	case !known, kind == "" && is == "ServicePrincipal":
		return badRequest("PrincipalNotFound", "Principal %s does not exist in the directory %s. Check that you have "+
			"the correct principal ID. If you are creating this principal and then immediately assigning a role, this "+
			"error might be related to a replication delay. In this case, set the role assignment principalType "+
			"property to a value, such as ServicePrincipal, User, or Group.", strings.ReplaceAll(principal, "-",
			""), c.tenant)
	case kind != "" && !strings.EqualFold(kind, is):
		return badRequest("UnmatchedPrincipalType", "The PrincipalId '%s' has type '%s', which is different from "+
			"specified PrinciaplType '%s'.",
			strings.ReplaceAll(principal, "-", ""), is, kind)
	}
	return nil
}

// allowed reports whether a role lets an identity do something to a resource; c.mu is held.
func (c *Cloud) allowed(principal, action, id string) bool {
	if _, known := c.principals[principal]; !known {
		return false
	}
	for _, it := range c.all(kindAssignment) {
		a := it.extra.(assignment)
		if !it.gone && a.principal == principal && within(id, a.scope) && slices.Contains(roles()[a.role],
			action) && !c.now().Before(a.counts) {
			return true
		}
	}
	return false
}
