package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/dlm"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// snapshotTime is when the daily snapshot is made, in UTC.
const snapshotTime = "02:00"

// snapshots registers daily ones of every data disk, if the stack wants them. The role is the one that AWS has a ready policy for.
func (b *builder) snapshots() error {
	if b.Config.VM.SnapshotDays == 0 {
		return nil
	}
	role, err := b.role("snapshots-role", "snapshots", "dlm.amazonaws.com", "What makes snapshots of "+b.Plan.Cluster)
	if err != nil {
		return err
	}
	rights, err := iam.NewRolePolicyAttachment(b.ctx, "snapshots-role-policy", &iam.RolePolicyAttachmentArgs{
		Role: role.Name, PolicyArn: pulumi.String("arn:aws:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole"),
	}, b.child())
	if err != nil {
		return err
	}
	_, err = dlm.NewLifecyclePolicy(b.ctx, "snapshots", &dlm.LifecyclePolicyArgs{
		Description: pulumi.String("Daily snapshots of " + b.Plan.Cluster), ExecutionRoleArn: role.Arn, State: pulumi.String("ENABLED"),
		Tags: b.tags("snapshots"),
		PolicyDetails: dlm.LifecyclePolicyPolicyDetailsArgs{
			ResourceTypes: pulumi.ToStringArray([]string{"VOLUME"}),
			TargetTags:    pulumi.StringMap{tagData: pulumi.String(b.Plan.Cluster)},
			Schedules: dlm.LifecyclePolicyPolicyDetailsScheduleArray{dlm.LifecyclePolicyPolicyDetailsScheduleArgs{
				Name: pulumi.String("daily"), CopyTags: pulumi.Bool(true),
				CreateRule: dlm.LifecyclePolicyPolicyDetailsScheduleCreateRuleArgs{
					Interval: pulumi.Int(24), IntervalUnit: pulumi.String("HOURS"), Times: pulumi.String(snapshotTime),
				},
				RetainRule: dlm.LifecyclePolicyPolicyDetailsScheduleRetainRuleArgs{Count: pulumi.Int(b.Config.VM.SnapshotDays)},
			}},
		},
	}, b.child(), pulumi.DependsOn([]pulumi.Resource{rights}))
	return err
}
