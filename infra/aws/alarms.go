package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/cloudwatch"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/sns"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/plan"
	"hypercache/provisioning/cloudinit"
)

// fullPercent leaves a journal room to be rewritten, which needs a second copy of the data for a while.
const fullPercent = 80

// metricNamespace is the cluster's own: nodes of two clusters have the same names.
func (b *builder) metricNamespace() string { return b.Plan.Cluster }

// alarm is one thing that somebody is told of.
type alarm struct {
	name, description, namespace, metric string
	dimensions                           pulumi.StringMap
	threshold                            float64
	period, periods                      int
	missing                              string // how AWS takes silence
	also                                 string // what AWS does about it
}

// alarms registers who is told, and of what, if the stack names anybody.
func (b *builder) alarms(vms []*ec2.Instance) error {
	if b.Config.VM.AlarmEmail == "" {
		return nil
	}
	// The topic is not encrypted: with the account's own key for topics, alarms cannot reach it. What passes are names of nodes.
	topic, err := sns.NewTopic(b.ctx, "alarms", &sns.TopicArgs{Name: pulumi.String(b.name("alarms")), Tags: b.tags("alarms")}, b.child())
	if err != nil {
		return err
	}
	_, err = sns.NewTopicSubscription(b.ctx, "alarms-email", &sns.TopicSubscriptionArgs{
		Topic: topic.Arn, Protocol: pulumi.String("email"), Endpoint: pulumi.String(b.Config.VM.AlarmEmail),
	}, b.child())
	if err != nil {
		return err
	}
	for i, n := range b.Plan.Nodes {
		for _, a := range b.alarmsOf(n, vms[i]) {
			if err := b.alarm(topic, a); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *builder) alarmsOf(n plan.Node, vm *ec2.Instance) []alarm {
	instance := pulumi.StringMap{"InstanceId": vm.ID()}
	return []alarm{
		{
			name: n.Name + "-alarm", description: "The VM of " + n.Name + " is not available.",
			namespace: "AWS/EC2", metric: "StatusCheckFailed", dimensions: instance,
			threshold: 1, period: 60, periods: 5, missing: "breaching", // a VM that is off reports nothing
		},
		{
			name: n.Name + "-recovery", description: "The hardware below " + n.Name + " failed; AWS moves the VM to other hardware.",
			namespace: "AWS/EC2", metric: "StatusCheckFailed_System", dimensions: instance,
			threshold: 1, period: 60, periods: 2, missing: "missing",
			also: "arn:aws:automate:" + b.Config.Network.Region + ":ec2:recover",
		},
		{
			name: n.Name + "-disk-alarm", description: "The data disk of " + n.Name + " is nearly full.",
			namespace: b.metricNamespace(), metric: cloudinit.DiskMetric, dimensions: pulumi.StringMap{"Node": pulumi.String(n.Name)},
			threshold: fullPercent, period: 300, periods: 3, missing: "missing",
		},
	}
}

func (b *builder) alarm(topic *sns.Topic, a alarm) error {
	actions := pulumi.Array{topic.Arn}
	if a.also != "" {
		actions = append(actions, pulumi.String(a.also))
	}
	_, err := cloudwatch.NewMetricAlarm(b.ctx, a.name, &cloudwatch.MetricAlarmArgs{
		Name: pulumi.String(b.name(a.name)), AlarmDescription: pulumi.String(a.description), Tags: b.tags(a.name),
		Namespace: pulumi.String(a.namespace), MetricName: pulumi.String(a.metric), Dimensions: a.dimensions,
		Statistic: pulumi.String("Maximum"), Period: pulumi.Int(a.period), EvaluationPeriods: pulumi.Int(a.periods),
		ComparisonOperator: pulumi.String("GreaterThanOrEqualToThreshold"), Threshold: pulumi.Float64(a.threshold),
		TreatMissingData: pulumi.String(a.missing), AlarmActions: actions, OkActions: pulumi.Array{topic.Arn},
	}, b.child())
	return err
}
