package azurecloud

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Kinds of things, as in their resource ids.
const (
	kindGroup      = "Microsoft.Resources/resourceGroups"
	kindVNet       = "Microsoft.Network/virtualNetworks"
	kindSubnet     = "Microsoft.Network/virtualNetworks/subnets"
	kindFirewall   = "Microsoft.Network/networkSecurityGroups"
	kindNAT        = "Microsoft.Network/natGateways"
	kindPublicIP   = "Microsoft.Network/publicIPAddresses"
	kindNIC        = "Microsoft.Network/networkInterfaces"
	kindBalancer   = "Microsoft.Network/loadBalancers"
	kindZone       = "Microsoft.Network/privateDnsZones"
	kindLink       = "Microsoft.Network/privateDnsZones/virtualNetworkLinks"
	kindRecord     = "Microsoft.Network/privateDnsZones/records" // ids have the record's type in place of "records"
	kindVM         = "Microsoft.Compute/virtualMachines"
	kindScaleSet   = "Microsoft.Compute/virtualMachineScaleSets"
	kindDisk       = "Microsoft.Compute/disks"
	kindAccount    = "Microsoft.Storage/storageAccounts"
	kindContainer  = "Microsoft.Storage/storageAccounts/blobServices/containers"
	kindBlob       = "Microsoft.Storage/storageAccounts/blobServices/containers/blobs"
	kindVault      = "Microsoft.KeyVault/vaults"
	kindSecret     = "Microsoft.KeyVault/vaults/secrets"
	kindAssignment = "Microsoft.Authorization/roleAssignments"
	kindActions    = "Microsoft.Insights/actionGroups"
	kindAlert      = "Microsoft.Insights/metricAlerts"
	kindBackup     = "Microsoft.RecoveryServices/vaults"
	kindPolicy     = "Microsoft.RecoveryServices/vaults/backupPolicies"
	kindProtected  = "Microsoft.RecoveryServices/vaults/backupFabrics/protectionContainers/protectedItems"
)

// lower is the form in which ids and names are compared: Resource Manager ignores case.
func lower(s string) string { return strings.ToLower(s) }

// resourceID is a taken-apart resource id.
type resourceID struct {
	subscription, group string
	kind                string   // "Microsoft.Network/virtualNetworks/subnets"; kindGroup for a resource group
	names               []string // the network's and the subnet's
}

// parseID takes an id apart; ok is false if it is none.
func parseID(id string) (r resourceID, ok bool) {
	parts := strings.Split(id, "/")
	if len(parts) < 5 || parts[0] != "" || lower(parts[1]) != "subscriptions" || lower(parts[3]) != "resourcegroups" {
		return r, false
	}
	for _, p := range parts[1:] {
		if p == "" {
			return r, false
		}
	}
	r.subscription, r.group = parts[2], parts[4]
	rest := parts[5:]
	if len(rest) == 0 {
		r.kind, r.names = kindGroup, []string{parts[4]}
		return r, true
	}
	if len(rest) < 4 || lower(rest[0]) != "providers" || len(rest)%2 != 0 {
		return r, false
	}
	r.kind = rest[1]
	for i := 2; i < len(rest); i += 2 {
		r.kind += "/" + rest[i]
		r.names = append(r.names, rest[i+1])
	}
	return r, true
}

// within reports whether id is scope or something in it.
func within(id, scope string) bool {
	id, scope = lower(id), strings.TrimSuffix(lower(scope), "/")
	return id == scope || strings.HasPrefix(id, scope+"/")
}

// mentions reports whether an id, or something below it, stands anywhere in the value.
func mentions(v resource.PropertyValue, id string) bool {
	switch {
	case v.IsString():
		return within(v.StringValue(), id)
	case v.IsArray():
		for _, e := range v.ArrayValue() {
			if mentions(e, id) {
				return true
			}
		}
	case v.IsObject():
		for _, e := range v.ObjectValue() {
			if mentions(e, id) {
				return true
			}
		}
	}
	return false
}

// last is the last segment of an id.
func last(id string) string { return id[strings.LastIndex(id, "/")+1:] }
