package aws

import (
	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws/iam"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
)

// longestRolePrefix leaves room for the digits that make the name unique in the account, in which roles of all regions are.
const longestRolePrefix = 38

// profile is what an instance has its identity by.
type profile struct {
	name  pulumi.StringInput
	ready []pulumi.Resource // what must be there before a node boots
}

// identity registers what nodes are for AWS, and what that may: read the program, read its secrets, and report metrics under
// the cluster's name if there are alarms. There is no way from here to anything else in the account.
func (b *builder) identity(at store, keys secrets) (profile, error) {
	role, err := b.role("role", "node", "ec2.amazonaws.com", "What nodes of "+b.Plan.Cluster+" are")
	if err != nil {
		return profile{}, err
	}
	arn := at.arn
	if arn == nil {
		arn = pulumi.String("")
	}
	rights := pulumi.All(arn, keys.gossipKey, keys.clusterSecret, keys.password).ApplyT(func(v []any) (string, error) {
		secrets := []string{text(v[1]), text(v[2])}
		if password := text(v[3]); password != "" {
			secrets = append(secrets, password)
		}
		return b.rights(text(v[0]), secrets)
	}).(pulumi.StringOutput)
	policy, err := iam.NewRolePolicy(b.ctx, "role-policy", &iam.RolePolicyArgs{
		Name: pulumi.String("node"), Role: role.ID(), Policy: rights,
	}, b.child())
	if err != nil {
		return profile{}, err
	}
	p, err := iam.NewInstanceProfile(b.ctx, "profile", &iam.InstanceProfileArgs{
		NamePrefix: pulumi.String(b.prefix("node", longestRolePrefix)), Role: role.Name, Tags: b.tags("node"),
	}, b.child())
	if err != nil {
		return profile{}, err
	}
	return profile{name: p.Name, ready: []pulumi.Resource{policy, p}}, nil
}

// rights is the policy. Every version of the program may be read, so that during a roll the nodes on both sides of it can.
func (b *builder) rights(bucket string, secrets []string) (string, error) {
	d := document{Statement: []statement{{
		Sid: "Secrets", Effect: "Allow", Action: []string{"secretsmanager:GetSecretValue"}, Resource: secrets,
	}}}
	if bucket != "" {
		d.Statement = append(d.Statement, statement{
			Sid: "Program", Effect: "Allow", Action: []string{"s3:GetObject"}, Resource: []string{bucket + "/hypercache-*"},
		})
	}
	if b.Config.VM.AlarmEmail != "" {
		// CloudWatch knows no resources here; the namespace is what there is to limit by.
		d.Statement = append(d.Statement, statement{
			Sid: "Metrics", Effect: "Allow", Action: []string{"cloudwatch:PutMetricData"}, Resource: []string{"*"},
			Condition: map[string]any{"StringEquals": map[string]string{"cloudwatch:namespace": b.metricNamespace()}},
		})
	}
	return d.String()
}

// role registers one that a service of AWS may take on.
func (b *builder) role(child, part, service, description string) (*iam.Role, error) {
	trust, err := document{Statement: []statement{{
		Effect: "Allow", Principal: map[string]string{"Service": service}, Action: []string{"sts:AssumeRole"},
	}}}.String()
	if err != nil {
		return nil, err
	}
	return iam.NewRole(b.ctx, child, &iam.RoleArgs{
		NamePrefix: pulumi.String(b.prefix(part, longestRolePrefix)), AssumeRolePolicy: pulumi.String(trust),
		Description: pulumi.String(description), Tags: b.tags(part),
	}, b.child())
}

// text takes a string out of what pulumi.All hands over, where an id has a type of its own.
func text(v any) string {
	if id, ok := v.(pulumi.ID); ok {
		return string(id)
	}
	s, _ := v.(string)
	return s
}
