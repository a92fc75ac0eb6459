package rules

import (
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// props makes a map of plain Go values; a property.Value stands for itself.
func props(t *testing.T, m map[string]any) property.Map {
	t.Helper()
	return value(t, m).AsMap()
}

func value(t *testing.T, v any) property.Value {
	t.Helper()
	switch v := v.(type) {
	case property.Value:
		return v
	case map[string]any:
		all := map[string]property.Value{}
		for key, item := range v {
			all[key] = value(t, item)
		}
		return property.New(all)
	case []any:
		var all []property.Value
		for _, item := range v {
			all = append(all, value(t, item))
		}
		return property.New(all)
	case int:
		return property.New(float64(v))
	}
	plain, err := property.Any(v)
	if err != nil {
		t.Fatal(err)
	}
	return plain
}

type m = map[string]any

var unknown = property.New(property.Computed)

// sample is a resource and a part of each complaint it deserves; none for a good one.
type sample struct {
	name, token string
	props       m
	want        []string
}

// judge runs one rule over samples.
func judge(t *testing.T, rule string, samples []sample) {
	t.Helper()
	for _, s := range samples {
		t.Run(s.name, func(t *testing.T) {
			expect(t, check(t, rule, Resource{Type: s.token, URN: "urn", Properties: props(t, s.props)}), s.want)
		})
	}
}

// check asks the rule of that name.
func check(t *testing.T, rule string, r Resource) []string {
	t.Helper()
	i := slices.IndexFunc(All(), func(r Rule) bool { return r.Name == rule })
	if i < 0 {
		t.Fatalf("there is no rule %s", rule)
	}
	return All()[i].Check(r)
}

func expect(t *testing.T, got, want []string) {
	t.Helper()
	if len(got) != len(want) {
		t.Errorf("got %q, want %d complaints about %q", got, len(want), want)
		return
	}
	for i := range want {
		if !strings.Contains(got[i], want[i]) {
			t.Errorf("got %q, want it to tell %q", got[i], want[i])
		}
	}
}

const (
	ingress  = "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule"
	instance = "aws:ec2/instance:Instance"
	nsg      = "azure-native:network:NetworkSecurityGroup"
	azureVM  = "azure-native:compute:VirtualMachine"
)

// azureRule is a rule of a network security group that lets something in.
func azureRule(from, ports string, more m) m {
	r := m{"name": "r", "access": "Allow", "direction": "Inbound", "protocol": "Tcp", "sourceAddressPrefix": from, "destinationPortRange": ports}
	for key, v := range more {
		r[key] = v
	}
	return r
}

func awsRule(from string, first, last int, more m) m {
	r := m{"cidrIpv4": from, "ipProtocol": "tcp", "fromPort": first, "toPort": last}
	for key, v := range more {
		r[key] = v
	}
	return r
}

func TestGuardedPortsStayPrivate(t *testing.T) {
	for _, s := range []sample{
		{"gossip inside", ingress, awsRule("10.0.1.0/24", 7946, 7946, nil), nil},
		{"ssh from a private range", ingress, awsRule("192.168.7.0/24", 22, 22, nil), nil},
		{"ssh from a carrier's range", ingress, awsRule("100.64.0.0/10", 22, 22, nil), nil},
		{"the cache for the world", ingress, awsRule("0.0.0.0/0", 8080, 8082, nil), nil},
		{"from a group", ingress, m{"referencedSecurityGroupId": "sg-1", "ipProtocol": "-1"}, nil},
		{"from somewhere not known yet", ingress, m{"cidrIpv4": unknown, "ipProtocol": "tcp", "fromPort": 22, "toPort": 22}, nil},
		{"icmp has no ports", ingress, awsRule("0.0.0.0/0", 8, -1, m{"ipProtocol": "icmp"}), nil},
		{"ssh from the world", ingress, awsRule("0.0.0.0/0", 22, 22, nil), []string{"port 22 to 0.0.0.0/0"}},
		{"rdp from a public range", ingress, awsRule("203.0.113.0/24", 3389, 3389, nil), []string{"port 3389 to 203.0.113.0/24"}},
		{"gossip in a range of ports", ingress, awsRule("198.51.100.7/32", 7000, 8000, nil), []string{"port 7946", "port 7373"}},
		{"more than private", ingress, awsRule("10.0.0.0/7", 7373, 7373, nil), []string{"port 7373 to 10.0.0.0/7"}},
		{"all protocols", ingress, m{"cidrIpv4": "8.8.8.0/24", "ipProtocol": "-1"},
			[]string{"port 22", "port 3389", "port 7946", "port 7373"}},
		{"IPv6", ingress, m{"cidrIpv6": "::/0", "ipProtocol": "tcp", "fromPort": 22, "toPort": 22}, []string{"port 22 to ::/0"}},
		{"private IPv6", ingress, m{"cidrIpv6": "fd00::/8", "ipProtocol": "tcp", "fromPort": 22, "toPort": 22}, nil},
		{"a list of prefixes", ingress, m{"prefixListId": "pl-1", "ipProtocol": "tcp", "fromPort": 22, "toPort": 22}, []string{"pl-1"}},
		{"a rule of the older kind", "aws:ec2/securityGroupRule:SecurityGroupRule",
			m{"type": "ingress", "protocol": "6", "cidrBlocks": []any{"10.0.0.0/8", "0.0.0.0/0"}, "fromPort": 0, "toPort": 100},
			[]string{"port 22 to 0.0.0.0/0"}},
		{"egress of the older kind", "aws:ec2/securityGroupRule:SecurityGroupRule",
			m{"type": "egress", "protocol": "-1", "cidrBlocks": []any{"0.0.0.0/0"}, "fromPort": 0, "toPort": 0}, nil},
		{"rules inside the group", "aws:ec2/securityGroup:SecurityGroup", m{
			"ingress": []any{m{"protocol": "udp", "ipv6CidrBlocks": []any{"2000::/3"}, "fromPort": 7946, "toPort": 7946}},
			"egress":  []any{m{"protocol": "-1", "cidrBlocks": []any{"0.0.0.0/0"}, "fromPort": 0, "toPort": 0}},
		}, []string{"ingress[0] opens port 7946 to 2000::/3"}},

		{"azure inside", nsg, m{"securityRules": []any{azureRule("10.0.1.0/24", "7946", nil), azureRule("VirtualNetwork", "22", nil),
			azureRule("AzureLoadBalancer", "*", m{"protocol": "*"})}}, nil},
		{"azure refuses", nsg, m{"securityRules": []any{azureRule("*", "*", m{"access": "Deny", "protocol": "*"})}}, nil},
		{"azure on the way out", nsg, m{"securityRules": []any{azureRule("*", "22", m{"direction": "Outbound"})}}, nil},
		{"azure from anywhere", nsg, m{"securityRules": []any{azureRule("*", "22", nil)}}, []string{"r opens port 22 to *"}},
		{"azure any port", nsg, m{"securityRules": []any{azureRule("Internet", "0-65535", m{"name": "all"})}},
			[]string{"all opens port 22", "port 3389", "port 7946", "port 7373"}},
		{"azure star", nsg, m{"securityRules": []any{azureRule("203.0.113.9", "*", m{"protocol": "*"})}},
			[]string{"port 22", "port 3389", "port 7946", "port 7373"}},
		{"azure lists", "azure-native:network/v20230201:SecurityRule", m{"access": "Allow", "direction": "Inbound", "protocol": "*",
			"sourceAddressPrefixes":   []any{"10.0.0.0/8", "0.0.0.0/1"},
			"destinationPortRanges":   []any{"443", "7300-7400"},
			"sourceAddressPrefix":     "",
			"destinationPortRange":    "",
			"sourcePortRange":         "*",
			"destinationAddressTypes": unknown}, []string{"port 7373 to 0.0.0.0/1"}},
		{"azure a shared tag", nsg, m{"securityRules": []any{azureRule("AzureCloud", "22", nil)}}, []string{"port 22 to AzureCloud"}},
		{"another resource", instance, m{"ingress": []any{awsRule("0.0.0.0/0", 22, 22, nil)}}, nil},
	} {
		t.Run(s.name, func(t *testing.T) {
			r := Resource{Type: s.token, URN: "urn", Properties: props(t, s.props)}
			expect(t, append(check(t, "admin-ports-stay-private", r), check(t, "internal-ports-stay-private", r)...), s.want)
		})
	}
}

func TestWorldSeesOnlyTheCache(t *testing.T) {
	judge(t, "world-sees-only-the-cache", []sample{
		{"resp", ingress, awsRule("0.0.0.0/0", 8080, 8082, nil), nil},
		{"http for IPv6", ingress, m{"cidrIpv6": "::/0", "ipProtocol": "tcp", "fromPort": 9081, "toPort": 9081}, nil},
		{"anything for an office", ingress, awsRule("203.0.113.0/24", 443, 443, nil), nil},
		{"azure", nsg, m{"securityRules": []any{azureRule("Internet", "9080-9082", nil)}}, nil},
		{"https", ingress, awsRule("0.0.0.0/0", 443, 443, nil), []string{"port 443 to 0.0.0.0/0"}},
		{"one too many", ingress, awsRule("0.0.0.0/0", 8080, 8083, nil), []string{"port 8080-8083"}},
		{"both and all between", ingress, awsRule("0.0.0.0/0", 8080, 9082, nil), []string{"port 8080-9082"}},
		{"half the world", ingress, awsRule("128.0.0.0/1", 80, 80, nil), []string{"port 80 to 128.0.0.0/1"}},
		{"udp", ingress, awsRule("0.0.0.0/0", 8080, 8080, m{"ipProtocol": "udp"}), []string{"protocol udp"}},
		{"icmp", ingress, awsRule("0.0.0.0/0", -1, -1, m{"ipProtocol": "icmp"}), []string{"protocol icmp"}},
		{"azure all protocols", nsg, m{"securityRules": []any{azureRule("Any", "8080", m{"protocol": "*"})}}, []string{"protocol all"}},
		{"azure lists", nsg, m{"securityRules": []any{azureRule("", "", m{"sourceAddressPrefixes": []any{"0.0.0.0/0"},
			"destinationPortRanges": []any{"8080-8082", "80"}})}}, []string{"port 80 to 0.0.0.0/0"}},
		{"azure without a mask", nsg, m{"securityRules": []any{azureRule("0.0.0.0", "80", nil)}}, []string{"port 80"}},
	})
}

func TestDisksAreEncrypted(t *testing.T) {
	volume, disk := "aws:ebs/volume:Volume", "azure-native:compute:Disk"
	root := m{"rootBlockDevice": m{"encrypted": true}}
	judge(t, "disks-are-encrypted", []sample{
		{"volume", volume, m{"encrypted": true}, nil},
		{"volume not known", volume, m{"encrypted": unknown}, nil},
		{"volume as AWS makes it", volume, m{}, []string{"set encrypted to true"}},
		{"volume in clear", volume, m{"encrypted": false}, []string{"set encrypted to true"}},
		{"root", instance, root, nil},
		{"root as the image has it", instance, m{}, []string{"rootBlockDevice.encrypted"}},
		{"a further disk", instance, m{"rootBlockDevice": m{"encrypted": true}, "ebsBlockDevices": []any{m{"encrypted": true}, m{}}},
			[]string{"ebsBlockDevices[1]"}},
		{"launch template", "aws:ec2/launchTemplate:LaunchTemplate",
			m{"blockDeviceMappings": []any{m{"ebs": m{"encrypted": "true"}}, m{"ebs": m{"encrypted": "false"}}}}, []string{"blockDeviceMappings[1]"}},
		{"azure disk", disk, m{"diskSizeGB": 32}, nil},
		{"azure disk with a customer's key", disk, m{"encryption": m{"type": "EncryptionAtRestWithCustomerKey"}}, nil},
		{"azure disk without", disk, m{"encryption": m{"type": "None"}, "encryptionSettingsCollection": m{"enabled": false}},
			[]string{`encryption.type is "None"`, "encryptionSettingsCollection"}},
		{"azure vm", azureVM, m{"storageProfile": m{"osDisk": m{"managedDisk": m{}}, "dataDisks": []any{m{"lun": 0}}}}, nil},
		{"azure vm on blobs", azureVM, m{"storageProfile": m{"osDisk": m{"vhd": m{"uri": unknown}, "encryptionSettings": m{"enabled": false}}}},
			[]string{"encryptionSettings.enabled", "vhd"}},
	})
}

func TestMetadataNeedsAToken(t *testing.T) {
	judge(t, "metadata-needs-a-token", []sample{
		{"as it should be", instance, m{"metadataOptions": m{"httpTokens": "required", "httpPutResponseHopLimit": 1}}, nil},
		{"no metadata at all", instance, m{"metadataOptions": m{"httpEndpoint": "disabled"}}, nil},
		{"not known", instance, m{"metadataOptions": unknown}, nil},
		{"as the account has it", instance, m{}, []string{"httpTokens", "httpPutResponseHopLimit"}},
		{"optional", instance, m{"metadataOptions": m{"httpTokens": "optional", "httpPutResponseHopLimit": 1}}, []string{"httpTokens"}},
		{"two hops", "aws:ec2/launchTemplate:LaunchTemplate", m{"metadataOptions": m{"httpTokens": "required", "httpPutResponseHopLimit": 2}},
			[]string{"httpPutResponseHopLimit"}},
		{"another resource", nsg, m{}, nil},
	})
}

func TestVMsBootTrusted(t *testing.T) {
	good := m{"securityProfile": m{"securityType": "TrustedLaunch", "uefiSettings": m{"secureBootEnabled": true, "vTpmEnabled": true}}}
	judge(t, "vms-boot-trusted", []sample{
		{"trusted", azureVM, good, nil},
		{"standard", azureVM, m{}, []string{"securityType", "secureBootEnabled", "vTpmEnabled"}},
		{"half", azureVM, m{"securityProfile": m{"securityType": "TrustedLaunch", "uefiSettings": m{"secureBootEnabled": false, "vTpmEnabled": true}}},
			[]string{"secureBootEnabled"}},
		{"a set that only spreads", "azure-native:compute:VirtualMachineScaleSet", m{"platformFaultDomainCount": 1}, nil},
		{"a set that makes VMs", "azure-native:compute:VirtualMachineScaleSet", m{"virtualMachineProfile": m{}},
			[]string{"securityType", "secureBootEnabled", "vTpmEnabled"}},
	})
}

func TestStoresArePrivate(t *testing.T) {
	block, account := "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "azure-native:storage:StorageAccount"
	judge(t, "stores-are-private", []sample{
		{"block", block, m{"blockPublicAcls": true, "blockPublicPolicy": true, "ignorePublicAcls": true, "restrictPublicBuckets": true}, nil},
		{"half a block", block, m{"blockPublicAcls": true, "blockPublicPolicy": false}, []string{"blockPublicPolicy", "ignorePublicAcls", "restrictPublicBuckets"}},
		{"bucket", "aws:s3/bucketV2:BucketV2", m{"bucketPrefix": "x"}, nil},
		{"public bucket", "aws:s3/bucketV2:BucketV2", m{"acl": "public-read"}, []string{"public-read"}},
		{"account", account, m{"allowBlobPublicAccess": false, "minimumTlsVersion": "TLS1_2"}, nil},
		{"account as Azure makes it", account, m{}, []string{"allowBlobPublicAccess", "minimumTlsVersion"}},
		{"old", account, m{"allowBlobPublicAccess": true, "minimumTlsVersion": "TLS1_0", "enableHttpsTrafficOnly": false},
			[]string{"allowBlobPublicAccess", "minimumTlsVersion", "enableHttpsTrafficOnly"}},
		{"container", "azure-native:storage:BlobContainer", m{"publicAccess": "None"}, nil},
		{"public container", "azure-native:storage:BlobContainer", m{"publicAccess": "Blob"}, []string{"publicAccess is blob"}},
	})
}

func TestLoadBalancersAreInternal(t *testing.T) {
	lb, azure := "aws:lb/loadBalancer:LoadBalancer", "azure-native:network:LoadBalancer"
	judge(t, "load-balancers-are-internal", []sample{
		{"internal", lb, m{"internal": true}, nil},
		{"as AWS makes it", lb, m{}, []string{"set internal to true"}},
		{"azure", azure, m{"frontendIPConfigurations": []any{m{"privateIPAddress": "10.0.1.250", "subnet": m{"id": unknown}}}}, nil},
		{"azure public", azure, m{"frontendIPConfigurations": []any{m{"name": "in"}, m{"publicIPAddress": m{"id": unknown}}}},
			[]string{"frontendIPConfigurations[1]"}},
	})
}

func TestStoredSecretsAreMarked(t *testing.T) {
	version, vault := "aws:secretsmanager/secretVersion:SecretVersion", "azure-native:keyvault:Secret"
	marked := property.New("s3cret").WithSecret(true)
	judge(t, "secrets-are-marked", []sample{
		{"marked", version, m{"secretString": marked}, nil},
		{"not known", version, m{"secretString": unknown}, nil},
		{"plain", version, m{"secretString": "s3cret"}, []string{"secretString is in plain text"}},
		{"plain binary", version, m{"secretBinary": "s3cret"}, []string{"secretBinary"}},
		{"azure marked", vault, m{"properties": m{"value": marked}}, nil},
		{"azure all marked", vault, m{"properties": property.New(property.NewMap(map[string]property.Value{"value": property.New("x")})).WithSecret(true)}, nil},
		{"azure plain", vault, m{"properties": m{"value": "s3cret"}}, []string{"properties.value"}},
		{"a public parameter", "aws:ssm/parameter:Parameter", m{"type": "String", "value": "x"}, nil},
		{"a secret parameter", "aws:ssm/parameter:Parameter", m{"type": "SecureString", "value": "x"}, []string{"value is in plain text"}},
	})
}

func TestEverythingIsTagged(t *testing.T) {
	vpc := "aws:ec2/vpc:Vpc"
	judge(t, "everything-is-tagged", []sample{
		{"both", vpc, m{"tags": m{"Name": "n", "Cluster": unknown}}, nil},
		{"lower case", vpc, m{"tags": m{"name": "n", "cluster": "c"}}, nil},
		{"neither", vpc, m{}, []string{"Cluster is missing", "Name is missing"}},
		{"empty", vpc, m{"tags": m{"Name": "n", "Cluster": ""}}, []string{"Cluster is missing"}},
		{"not known", vpc, m{"tags": unknown}, nil},
		{"a name of its own", "aws:iam/role:Role", m{"namePrefix": "n", "tags": m{"Cluster": "c"}}, nil},
		{"azure names everything", "azure-native:compute:Disk", m{"tags": m{"Cluster": "c"}}, nil},
		{"azure without", "azure-native:compute:Disk", m{"tags": m{"Name": "n"}}, []string{"Cluster is missing"}},
		{"what has no tags", "aws:ec2/route:Route", m{}, nil},
	})
}

func TestProviderTagsCount(t *testing.T) {
	volume := Resource{Type: "aws:ebs/volume:Volume", Properties: props(t, m{"tags": m{"Name": "n"}})}
	for _, config := range []m{
		{"defaultTags": `{"tags":{"Cluster":"c"}}`}, {"defaultTags": m{"tags": m{"Cluster": "c"}}},
	} {
		volume.Provider = props(t, config)
		expect(t, tagged(volume), nil)
	}
	for _, config := range []m{{}, {"defaultTags": "{"}, {"defaultTags": `{"tags":{"Team":"t"}}`}} {
		volume.Provider = props(t, config)
		expect(t, tagged(volume), []string{"Cluster is missing"})
	}
}

func TestEveryBucketNeedsItsOwnBlock(t *testing.T) {
	bucket := func(urn string, p m) Resource {
		return Resource{Type: "aws:s3/bucketV2:BucketV2", URN: urn, Properties: props(t, p)}
	}
	block := func(p m, from ...string) Resource {
		return Resource{Type: "aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", URN: "block", Properties: props(t, p),
			References: map[string][]string{"bucket": from}}
	}
	for name, c := range map[string]struct {
		all  []Resource
		want []string // URNs
	}{
		"by reference": {[]Resource{bucket("a", m{}), block(m{"bucket": unknown}, "a")}, nil},
		"by name":      {[]Resource{block(m{"bucket": "x"}), bucket("a", m{"bucket": "x"})}, nil},
		"none":         {[]Resource{bucket("a", m{})}, []string{"a"}},
		"another's":    {[]Resource{bucket("a", m{"bucket": "x"}), bucket("b", m{"bucket": "y"}), block(m{"bucket": "y"}, "b")}, []string{"a"}},
		"both unknown": {[]Resource{bucket("a", m{"bucket": unknown}), block(m{"bucket": unknown})}, []string{"a"}},
	} {
		t.Run(name, func(t *testing.T) {
			var got []string
			for _, f := range blockedBuckets(c.all) {
				got = append(got, f.URN)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("found %q, want %q", got, c.want)
			}
		})
	}
}

func TestRulesHaveNamesOfTheirOwn(t *testing.T) {
	seen := map[string]bool{"": true}
	check := func(name, description string) {
		if seen[name] || description == "" {
			t.Errorf("rule %q is there twice, or has no name or description", name)
		}
		seen[name] = true
	}
	for _, r := range All() {
		check(r.Name, r.Description)
	}
	for _, r := range Stacks() {
		check(r.Name, r.Description)
	}
}
