package azurecloud

import (
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// backupVault is what only recovery vaults know: items that were deleted and wait for their end.
type backupVault struct{ waiting map[string]bool }

// protected is what only protected items know.
type protected struct{ vm, policy string }

func (c *Cloud) backupKinds() map[string]*books {
	return map[string]*books{
		"azure-native:recoveryservices:Vault": {
			kind: kindBackup, path: []string{"vaultName"}, rule: backupRule(), located: true, mostTags: 50,
			put: putBackupVault, remove: c.removeBackupVault,
		},
		"azure-native:recoveryservices:ProtectionPolicy": {
			kind: kindPolicy, path: []string{"vaultName", "policyName"}, rule: policyRule(), mostTags: 50,
			put: putPolicy, remove: c.removePolicy,
		},
		"azure-native:recoveryservices:ProtectedItem": {
			kind: kindProtected, path: []string{"vaultName", "fabricName", "containerName", "protectedItemName"},
			mostTags: 50,
			put:      c.putProtected, remove: c.removeProtected,
		},
	}
}

// softDelete is what happens to deleted backups.
func softDelete(it *item) string {
	settings := cloud.Obj(cloud.Obj(cloud.Obj(it.in, "properties"), "securitySettings"), "softDeleteSettings")
	if s := cloud.Str(settings, "softDeleteState"); s != "" {
		return s
	}
	return "Enabled"
}

func putBackupVault(_ *cloud.Call, it, old *item) error {
	p := cloud.Obj(it.in, "properties")
	for _, e := range [][]string{
		{"sku.name", cloud.Str(cloud.Obj(it.in, "sku"), "name"), "Standard", "RS0"},
		{"properties.publicNetworkAccess", cloud.Str(p, "publicNetworkAccess"), "Enabled", "Disabled"},
		{"softDeleteState", softDelete(it), "Enabled", "Disabled", "AlwaysON"},
	} {
		if err := oneOf(e[0], e[1], e[2:]...); err != nil {
			return err
		}
	}
	if cloud.Str(cloud.Obj(it.in, "sku"), "name") == "" {
		return badRequest("BadRequest", "The recovery services vault '%s' has no sku.", it.name)
	}
	if old == nil {
		it.extra = backupVault{waiting: map[string]bool{}}
	} else if softDelete(old) == "AlwaysON" && softDelete(it) != "AlwaysON" {
		return badRequest("BadRequest", "Soft delete of vault '%s' is always on and cannot be changed.", it.name)
	}
	out := p.Copy()
	out["provisioningState"] = resource.NewStringProperty("Succeeded")
	it.out["properties"] = resource.NewObjectProperty(out)
	return nil
}

func (c *Cloud) removeBackupVault(it *item) error {
	for _, p := range c.all(kindProtected) {
		if within(p.id, it.id) && !p.gone {
			return conflict("ServiceResourceNotEmptyWithContainerDetails", "Recovery Services vault cannot be deleted "+
				"as there are backup items in the vault: %s. Please ensure all containers have been unregistered from "+
				"the vault and retry operation.", p.name)
		}
	}
	for name := range it.extra.(backupVault).waiting {
		return conflict("ServiceResourceNotEmptyWithBackendMessage", "Recovery Services vault cannot be deleted as "+
			"there are backup items in soft deleted state in the vault: %s. The soft deleted items are permanently "+
			"deleted after 14 days of delete operation.", name)
	}
	return nil
}

func putPolicy(_ *cloud.Call, it, _ *item) error {
	p := cloud.Obj(it.in, "properties")
	if kind := cloud.Str(p, "backupManagementType"); !strings.EqualFold(kind, "AzureIaasVM") {
		return notEmulated("backup policies of type %q", kind)
	}
	version := cloud.Str(p, "policyType")
	if err := oneOf("properties.policyType", version, "V1", "V2"); err != nil {
		return err
	}
	schedule, most := cloud.Obj(p, "schedulePolicy"), 5
	times := cloud.Strs(schedule, "scheduleRunTimes")
	want := "SimpleSchedulePolicy"
	if version == "V2" {
		want, most = "SimpleSchedulePolicyV2", 30
		times = cloud.Strs(cloud.Obj(schedule, "dailySchedule"), "scheduleRunTimes")
	}
	retention := cloud.Obj(p, "retentionPolicy")
	daily := cloud.Obj(retention, "dailySchedule")
	kept := cloud.Obj(daily, "retentionDuration")
	days, instant := cloud.Int(kept, "count"), cloud.Int(p, "instantRpRetentionRangeInDays")
	invalid := func(format string, args ...any) error {
		return badRequest("BMSUserErrorInvalidPolicyInput", "Input for create or update policy is not in proper "+
			"format: "+format, args...)
	}
	switch {
	case cloud.Str(schedule, "schedulePolicyType") != want:
		return invalid("schedulePolicyType must be %s with policyType %s", want, version)
	case cloud.Str(schedule, "scheduleRunFrequency") != "Daily":
		return notEmulated("backups that are not daily")
	case len(times) != 1 || !strings.Contains(times[0], "T") || !halfHour(times[0]):
		return invalid("scheduleRunTimes must be one time on the hour or half hour, not %q", times)
	case cloud.Str(retention, "retentionPolicyType") != "LongTermRetentionPolicy":
		return invalid("retentionPolicyType must be LongTermRetentionPolicy")
	case !slices.Equal(cloud.Strs(daily, "retentionTimes"), times):
		return invalid("retentionTimes must be scheduleRunTimes")
	case cloud.Str(kept, "durationType") != "Days" || days < 7 || days > 9999:
		return invalid("daily backups are kept for 7 to 9999 Days, not %d %s", days, cloud.Str(kept, "durationType"))
	case instant != 0 && (instant < 1 || instant > most):
		return invalid("instantRpRetentionRangeInDays must be between 1 and %d", most)
	}
	it.out["properties"] = resource.NewObjectProperty(p)
	return nil
}

func halfHour(s string) bool {
	return strings.HasSuffix(s, ":00:00Z") || strings.HasSuffix(s, ":30:00Z")
}

func (c *Cloud) removePolicy(it *item) error {
	for _, p := range c.all(kindProtected) {
		if !p.gone && strings.EqualFold(p.extra.(protected).policy, it.id) {
			return badRequest("BMSUserErrorPolicyInUse", "Policy %s cannot be deleted because %s is protected by it.",
				it.name, p.name)
		}
	}
	return nil
}

func (c *Cloud) putProtected(_ *cloud.Call, it, old *item) error {
	p := cloud.Obj(it.in, "properties")
	if kind := cloud.Str(p, "protectedItemType"); kind != kindVM {
		return notEmulated("protected items of type %q", kind)
	}
	holder := c.get(kindBackup, parentID(it.id, 3))
	id, policyID := cloud.Str(p, "sourceResourceId"), cloud.Str(p, "policyId")
	if id == "" {
		id = cloud.Str(p, "virtualMachineId")
	}
	vm, policy := c.get(kindVM, id), c.get(kindPolicy, policyID)
	switch {
	case vm == nil:
		return badRequest("BMSUserErrorVMNotFound", "Azure VM %s was not found.", id)
	case vm.location != holder.location:
		return badRequest("BMSUserErrorInvalidSourceResourceId", "VM %s and vault %s are not in the same region.",
			vm.id, holder.name)
	case policy == nil || !within(policy.id, holder.id):
		return badRequest("BMSUserErrorPolicyNotFound", "The policy '%s' was not found in vault %s.", policyID,
			holder.name)
	}
	name := lower("iaasvmcontainerv2;" + vm.group() + ";" + vm.name)
	if lower(it.name) != "vm;"+name || lower(last(parentID(it.id,
		1))) != "iaasvmcontainer;"+name || lower(last(parentID(it.id, 2))) != "azure" {
		return badRequest("BMSUserErrorInvalidItemName", "The item is not named fabric Azure, container "+
			"'IaasVMContainer;%s' and item 'VM;%s'.", name, name)
	}
	firmware := cloud.Str(cloud.Obj(vm.in, "securityProfile"), "securityType")
	if firmware != "" && cloud.Str(cloud.Obj(policy.in, "properties"), "policyType") != "V2" {
		return badRequest("UserErrorTrustedLaunchVMNotSupportedWithStandardPolicy", "A VM of type %s needs an "+
			"enhanced policy (policyType V2).", firmware)
	}
	for _, other := range c.all(kindProtected) {
		if other.id != it.id && !other.gone && strings.EqualFold(other.extra.(protected).vm, vm.id) {
			return conflict("BMSUserErrorItemAlreadyProtected", "VM %s is protected already, by %s.", vm.id, other.id)
		}
	}
	if old == nil {
		delete(holder.extra.(backupVault).waiting, lower(it.name)) // protecting it again brings it back
	}
	it.extra = protected{vm: vm.id, policy: policy.id}
	out := p.Copy()
	out["protectionState"] = resource.NewStringProperty("IRPending")
	it.out["properties"] = resource.NewObjectProperty(out)
	return nil
}

func (c *Cloud) removeProtected(it *item) error {
	if holder := c.get(kindBackup, parentID(it.id, 3)); holder != nil && softDelete(holder) != "Disabled" {
		holder.extra.(backupVault).waiting[lower(it.name)] = true
	}
	return nil
}
