package azure

import (
	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	"github.com/pulumi/pulumi-azure-native-sdk/recoveryservices/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

const (
	// snapshotTime is when the daily snapshot is made. Only its time of day counts.
	snapshotTime = "2024-01-01T02:00:00Z"
	// instantDays is how long a snapshot stays beside the disk, from where a restore takes minutes, before only the vault has it.
	instantDays = 2
)

// snapshots registers daily backups of every VM with its data disk, if the stack wants them.
func (b *builder) snapshots(vms []*compute.VirtualMachine) error {
	if b.Config.VM.SnapshotDays == 0 {
		return nil
	}
	vault, err := recoveryservices.NewVault(b.ctx, "backup-vault", &recoveryservices.VaultArgs{
		ResourceGroupName: b.group, VaultName: pulumi.String(b.name("backup")), Location: b.region(), Tags: b.tags("backup"),
		Sku: recoveryservices.SkuArgs{Name: pulumi.String("RS0"), Tier: pulumi.String("Standard")},
		Properties: recoveryservices.VaultPropertiesArgs{
			PublicNetworkAccess: pulumi.String("Enabled"),
			// A vault with deleted backups that wait for their end cannot be deleted itself, and destroy would stop there.
			SecuritySettings: recoveryservices.SecuritySettingsArgs{SoftDeleteSettings: recoveryservices.SoftDeleteSettingsArgs{
				SoftDeleteState: pulumi.String(string(recoveryservices.SoftDeleteStateDisabled)),
			}},
		},
	}, b.child())
	if err != nil {
		return err
	}
	policy, err := recoveryservices.NewProtectionPolicy(b.ctx, "backup-policy", &recoveryservices.ProtectionPolicyArgs{
		ResourceGroupName: b.group, VaultName: vault.Name, PolicyName: pulumi.String("daily"), Properties: b.daily(),
	}, b.child())
	if err != nil {
		return err
	}
	for i, n := range b.Plan.Nodes {
		// Azure's names for a VM under backup. They and the source hold no output of the VM: replacing the VM would
		// replace this, and with it throw all backups away.
		item := "iaasvmcontainerv2;" + b.Plan.Cluster + ";" + b.vmName(n)
		_, err := recoveryservices.NewProtectedItem(b.ctx, n.Name+"-backup", &recoveryservices.ProtectedItemArgs{
			ResourceGroupName: b.group, VaultName: vault.Name, FabricName: pulumi.String("Azure"),
			ContainerName: pulumi.String("iaasvmcontainer;" + item), ProtectedItemName: pulumi.String("vm;" + item),
			Properties: recoveryservices.AzureIaaSComputeVMProtectedItemArgs{
				ProtectedItemType: pulumi.String("Microsoft.Compute/virtualMachines"), PolicyId: policy.ID().ToStringOutput(),
				SourceResourceId: pulumi.String(b.vmID(n)),
			},
		}, b.child(), pulumi.DependsOn([]pulumi.Resource{vms[i]}))
		if err != nil {
			return err
		}
	}
	return nil
}

// daily is the policy, in its second version: the first takes no VM whose firmware checks what boots.
func (b *builder) daily() recoveryservices.AzureIaaSVMProtectionPolicyArgs {
	at := pulumi.ToStringArray([]string{snapshotTime})
	return recoveryservices.AzureIaaSVMProtectionPolicyArgs{
		BackupManagementType: pulumi.String("AzureIaasVM"), PolicyType: pulumi.String(string(recoveryservices.IAASVMPolicyTypeV2)),
		InstantRpRetentionRangeInDays: pulumi.Int(instantDays), TimeZone: pulumi.String("UTC"),
		SchedulePolicy: recoveryservices.SimpleSchedulePolicyV2Args{
			SchedulePolicyType: pulumi.String("SimpleSchedulePolicyV2"), ScheduleRunFrequency: pulumi.String("Daily"),
			DailySchedule: recoveryservices.DailyScheduleArgs{ScheduleRunTimes: at},
		},
		RetentionPolicy: recoveryservices.LongTermRetentionPolicyArgs{
			RetentionPolicyType: pulumi.String("LongTermRetentionPolicy"),
			DailySchedule: recoveryservices.DailyRetentionScheduleArgs{
				RetentionTimes: at,
				RetentionDuration: recoveryservices.RetentionDurationArgs{
					Count: pulumi.Int(b.Config.VM.SnapshotDays), DurationType: pulumi.String("Days"),
				},
			},
		},
	}
}
