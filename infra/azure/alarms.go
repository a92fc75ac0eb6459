package azure

import (
	"github.com/pulumi/pulumi-azure-native-sdk/compute/v2"
	"github.com/pulumi/pulumi-azure-native-sdk/insights/v2"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
	"hypercache/provisioning/cloudinit"
)

const (
	// metricNamespace is where nodes report how full their data disks are.
	metricNamespace = "hypercache"
	// fullPercent leaves a journal room to be rewritten, which needs a second copy of the data for a while.
	fullPercent = 80
)

// alarm is one thing that somebody is told of.
type alarm struct {
	name, description, namespace, metric, operator string
	threshold                                      float64
	severity                                       int
	frequency, window                              string
	unknown                                        bool // the metric need not exist yet
}

// alarms registers who is told, and of what, if the stack names anybody.
func (b *builder) alarms(vms []*compute.VirtualMachine) error {
	if b.Config.VM.AlarmEmail == "" {
		return nil
	}
	group, err := insights.NewActionGroup(b.ctx, "alarms", &insights.ActionGroupArgs{
		ResourceGroupName: b.group, ActionGroupName: pulumi.String(b.name("alarms")), Location: pulumi.String("Global"),
		GroupShortName: pulumi.String("hypercache"), Enabled: pulumi.Bool(true), Tags: b.tags("alarms"),
		EmailReceivers: insights.EmailReceiverArray{insights.EmailReceiverArgs{
			Name: pulumi.String("operators"), EmailAddress: pulumi.String(b.Config.VM.AlarmEmail), UseCommonAlertSchema: pulumi.Bool(true),
		}},
	}, b.child())
	if err != nil {
		return err
	}
	for i, n := range b.Plan.Nodes {
		for _, a := range alarmsOf(n) {
			if err := b.alarm(group, vms[i], n, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func alarmsOf(n plan.Node) []alarm {
	return []alarm{
		{
			name: n.Name + "-alarm", description: "The VM of " + n.Name + " is not available.",
			namespace: "Microsoft.Compute/virtualMachines", metric: "VmAvailabilityMetric", operator: "LessThan", threshold: 1,
			severity: 1, frequency: "PT1M", window: "PT5M",
		},
		{
			name: n.Name + "-disk-alarm", description: "The data disk of " + n.Name + " is nearly full.",
			namespace: metricNamespace, metric: cloudinit.DiskMetric, operator: "GreaterThan", threshold: fullPercent,
			severity: 2, frequency: "PT5M", window: "PT15M", unknown: true,
		},
	}
}

// alarm registers one. It holds the VM's id as text, so that it stays when the VM is replaced.
func (b *builder) alarm(group *insights.ActionGroup, vm *compute.VirtualMachine, n plan.Node, a alarm) error {
	_, err := insights.NewMetricAlert(b.ctx, a.name, &insights.MetricAlertArgs{
		ResourceGroupName: b.group, RuleName: pulumi.String(b.name(a.name)), Location: pulumi.String("global"), Tags: b.tags(a.name),
		Description: pulumi.String(a.description), Enabled: pulumi.Bool(true), Severity: pulumi.Int(a.severity),
		Scopes: pulumi.ToStringArray([]string{b.vmID(n)}), AutoMitigate: pulumi.Bool(true),
		EvaluationFrequency: pulumi.String(a.frequency), WindowSize: pulumi.String(a.window),
		Criteria: insights.MetricAlertSingleResourceMultipleMetricCriteriaArgs{
			OdataType: pulumi.String("Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria"),
			AllOf: insights.MetricCriteriaArray{insights.MetricCriteriaArgs{
				CriterionType: pulumi.String("StaticThresholdCriterion"), Name: pulumi.String("threshold"),
				MetricNamespace: pulumi.String(a.namespace), MetricName: pulumi.String(a.metric), TimeAggregation: pulumi.String("Average"),
				Operator: pulumi.String(a.operator), Threshold: pulumi.Float64(a.threshold), SkipMetricValidation: pulumi.Bool(a.unknown),
			}},
		},
		Actions: insights.MetricAlertActionArray{insights.MetricAlertActionArgs{ActionGroupId: group.ID().ToStringOutput()}},
	}, b.child(), pulumi.DependsOn([]pulumi.Resource{vm}))
	return err
}
