package rules

import (
	"encoding/json"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// taggable are the kinds of resource that have tags in their cloud and are made by the program, or by somebody who
// extends it.
var taggable = []string{
	"aws:cloudwatch:MetricAlarm", "aws:dlm:LifecyclePolicy", "aws:ebs:Snapshot", "aws:ebs:Volume",
	"aws:ec2:DefaultSecurityGroup", "aws:ec2:Eip", "aws:ec2:Instance", "aws:ec2:InternetGateway",
	"aws:ec2:KeyPair", "aws:ec2:LaunchTemplate", "aws:ec2:NatGateway", "aws:ec2:NetworkInterface",
	"aws:ec2:PlacementGroup", "aws:ec2:RouteTable", "aws:ec2:SecurityGroup", "aws:ec2:Subnet", "aws:ec2:Vpc",
	"aws:ec2:VpcEndpoint", "aws:iam:InstanceProfile", "aws:iam:Policy", "aws:iam:Role", "aws:lb:Listener",
	"aws:lb:LoadBalancer", "aws:lb:TargetGroup", "aws:route53:Zone", "aws:s3:Bucket", "aws:s3:BucketV2",
	"aws:s3:BucketObjectv2", "aws:secretsmanager:Secret", "aws:sns:Topic", "aws:vpc:SecurityGroupEgressRule",
	"aws:vpc:SecurityGroupIngressRule",

	"azure-native:compute:Disk", "azure-native:compute:VirtualMachine",
	"azure-native:compute:VirtualMachineScaleSet", "azure-native:insights:ActionGroup",
	"azure-native:insights:MetricAlert", "azure-native:keyvault:Secret", "azure-native:keyvault:Vault",
	"azure-native:network:LoadBalancer", "azure-native:network:NatGateway",
	"azure-native:network:NetworkInterface", "azure-native:network:NetworkSecurityGroup",
	"azure-native:network:PrivateZone", "azure-native:network:PublicIPAddress",
	"azure-native:network:VirtualNetwork", "azure-native:network:VirtualNetworkLink",
	"azure-native:recoveryservices:Vault", "azure-native:resources:ResourceGroup",
	"azure-native:storage:StorageAccount",
}

// ownNames are the inputs by which AWS names what has a name of its own, which a tag would only repeat. In Azure
// everything has one.
var ownNames = []string{"name", "namePrefix", "keyName", "keyNamePrefix", "bucket", "bucketPrefix", "key"}

// tagged finds resources that a bill or a search would not attribute to the cluster.
func tagged(r Resource) []string {
	k := kind(r.Type)
	if !slices.Contains(taggable, k) {
		return nil
	}
	tags := at(r.Properties, "tags")
	if tags.IsComputed() {
		return nil
	}
	var found []string
	if !hasTag(tags, "cluster") && !hasTag(defaultTags(r.Provider), "cluster") {
		found = append(found, "the tag Cluster is missing: set it to the cluster's name")
	}
	if !hasTag(tags, "name") && !hasTag(defaultTags(r.Provider), "name") && !hasOwnName(k, r.Properties) {
		found = append(found, "the tag Name is missing: set it to what the resource is in the cluster")
	}
	return found
}

func hasOwnName(kind string, p property.Map) bool {
	return strings.HasPrefix(kind, "azure-native:") ||
		slices.ContainsFunc(ownNames, func(key string) bool { return !at(p, key).IsNull() })
}

// hasTag looks for a tag without regard to case, as Azure does. An unknown value is a value.
func hasTag(tags property.Value, name string) bool {
	if !tags.IsMap() {
		return false
	}
	for key, v := range tags.AsMap().All {
		if s, known := text(v); strings.EqualFold(key, name) && (!known || s != "") && !v.IsNull() {
			return true
		}
	}
	return false
}

// defaultTags are those that AWS' provider adds to everything. They are part of its configuration, which travels as
// JSON, and not of a resource's inputs.
func defaultTags(provider property.Map) property.Value {
	v := at(provider, "defaultTags")
	if s, ok := text(v); ok {
		var config struct{ Tags map[string]string }
		if json.Unmarshal([]byte(s), &config) != nil {
			return property.Value{}
		}
		tags := map[string]property.Value{}
		for key, value := range config.Tags {
			tags[key] = property.New(value)
		}
		return property.New(property.NewMap(tags))
	}
	if v.IsMap() {
		return at(v.AsMap(), "tags")
	}
	return v
}
