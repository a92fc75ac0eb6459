package aws

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/plan"
)

// line is one of the firewall's table, whatever the cloud.
type line struct {
	protocol    string
	first, last int
	from        string
}

func sorted(lines []line) []line {
	slices.SortFunc(lines, func(a, b line) int { return strings.Compare(fmt.Sprint(a), fmt.Sprint(b)) })
	return slices.Compact(lines)
}

// table turns the registered rules that let something in back into lines.
func table(t *testing.T, r *recorder) []line {
	t.Helper()
	var out []line
	for name, res := range r.resources {
		if res.kind != "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" || r.input(t, name, "securityGroupId") != "firewall-id" {
			continue
		}
		number := func(key resource.PropertyKey) int { return int(res.inputs[key].NumberValue()) }
		out = append(out, line{
			res.inputs["ipProtocol"].StringValue(), number("fromPort"), number("toPort"), res.inputs["cidrIpv4"].StringValue(),
		})
	}
	return sorted(out)
}

// wanted is the plan's table in lines.
func wanted(p plan.Plan) []line {
	var out []line
	for _, r := range p.Rules {
		for _, c := range p.Network.Sources[r.Source] {
			out = append(out, line{r.Protocol, r.FirstPort, r.LastPort, c.String()})
		}
	}
	return sorted(out)
}

func TestTheFirewallIsThePlansTable(t *testing.T) {
	for _, set := range []map[string]string{
		nil, everything(), sealedOff(), theirs(), {"sshCidrs": `["198.51.100.0/24"]`, "clusterCidrs": `["10.0.1.0/25","10.0.1.128/25"]`},
		{"clientCidrs": `["10.0.0.5/32","10.0.0.5/32"]`, "loadBalancer": "true", "portLayout": "uniform"},
	} {
		p, err := plan.Build(knobs(t, set), "test")
		if err != nil {
			t.Fatal(err)
		}
		r := deploy(t, set)
		if got, want := table(t, r), wanted(p); !slices.Equal(got, want) {
			t.Errorf("%v:\n got %v\nwant %v", set, got, want)
		}
		if len(r.twice) > 0 {
			t.Errorf("%v: registered twice: %q", set, r.twice)
		}
		r.expect(t, "rule-out", map[string]any{"securityGroupId": "firewall-id", "ipProtocol": "-1", "cidrIpv4": "0.0.0.0/0", "fromPort": nil})
		for _, key := range []string{"ingress", "egress"} {
			if got := r.input(t, "firewall", key); got != nil {
				t.Errorf("the group has rules of its own: %v", got)
			}
		}
	}
}

func TestTheNetworksOwnGroupLetsNothingThrough(t *testing.T) {
	r := deploy(t, nil)
	for _, key := range []string{"ingress", "egress"} {
		if got, _ := r.input(t, "network-default-group", key).([]any); len(got) > 0 {
			t.Errorf("%s: %v", key, got)
		}
	}
	r.expect(t, "network-default-group", map[string]any{"vpcId": "network-id"})
}

func TestEachZoneHasItsSubnets(t *testing.T) {
	r := deploy(t, nil)
	for i, want := range [][2]string{{"10.0.1.0/26", "10.0.0.0/26"}, {"10.0.1.64/26", "10.0.0.64/26"}, {"10.0.1.128/26", "10.0.0.128/26"}} {
		zone := "eu-west-1" + string(rune('a'+i))
		for j, part := range []string{"nodes", "edge"} {
			r.expect(t, fmt.Sprintf("%s-%d", part, i+1), map[string]any{
				"availabilityZone": zone, "cidrBlock": want[j], "vpcId": "network-id", "mapPublicIpOnLaunch": false,
			})
		}
	}
	r.expect(t, "network", map[string]any{"cidrBlock": "10.0.0.0/16", "enableDnsSupport": true, "enableDnsHostnames": true})
}

func TestNodesGoOutAsTheStackSays(t *testing.T) {
	for name, tc := range map[string]struct {
		set     map[string]string
		way     string
		through [3]any // of the nodes' three subnets
	}{
		"one gateway":      {nil, "natGatewayId", [3]any{"nat-1-id", "nat-1-id", "nat-1-id"}},
		"one in each zone": {map[string]string{"nat": "zone"}, "natGatewayId", [3]any{"nat-1-id", "nat-2-id", "nat-3-id"}},
		"by themselves":    {map[string]string{"publicAddresses": "true"}, "gatewayId", [3]any{"gateway-id", "gateway-id", "gateway-id"}},
	} {
		r := deploy(t, tc.set)
		for i, want := range tc.through {
			route := fmt.Sprintf("nodes-%d-way-out", i+1)
			if got := r.input(t, route, tc.way); got != want {
				t.Errorf("%s: %s leads through %v, want %v", name, route, got, want)
			}
			r.expect(t, route, map[string]any{"destinationCidrBlock": "0.0.0.0/0", "routeTableId": fmt.Sprintf("nodes-%d-routes-id", i+1)})
			r.expect(t, fmt.Sprintf("nodes-%d-association", i+1), map[string]any{
				"subnetId": fmt.Sprintf("nodes-%d-id", i+1), "routeTableId": fmt.Sprintf("nodes-%d-routes-id", i+1),
			})
		}
		r.expect(t, "edge-way-out", map[string]any{"gatewayId": "gateway-id"})
	}
}

func TestAGatewayHasItsPlannedAddressesAndAWayOut(t *testing.T) {
	r := deploy(t, map[string]string{"nat": "zone"})
	r.expect(t, "nat-2", map[string]any{"privateIp": "10.0.0.68", "subnetId": "edge-2-id", "allocationId": "nat-2-ip-id"})
	for _, first := range []string{"edge-way-out", "edge-2-association"} {
		if !slices.Contains(r.dependencies("nat-2"), first) {
			t.Errorf("nat-2 does not wait for %s", first)
		}
	}
}

func TestNodesWithoutAWayOutReachTheStoresInside(t *testing.T) {
	r := deploy(t, sealedOff())
	r.expect(t, "secrets-endpoint", map[string]any{
		"serviceName": "com.amazonaws.eu-west-1.secretsmanager", "vpcEndpointType": "Interface", "privateDnsEnabled": true,
		"subnetConfigurations[1].ipv4": "10.0.0.70", "subnetConfigurations[1].subnetId": "edge-2-id", "subnetIds[1]": "edge-2-id",
		"securityGroupIds[0]": "endpoints-id",
	})
	r.expect(t, "metrics-endpoint", map[string]any{
		"serviceName": "com.amazonaws.eu-west-1.monitoring", "subnetConfigurations[2].ipv4": "10.0.0.135",
	})
	r.expect(t, "store-endpoint", map[string]any{
		"serviceName": "com.amazonaws.eu-west-1.s3", "vpcEndpointType": "Gateway", "routeTableIds[2]": "nodes-3-routes-id",
	})
	r.expect(t, "endpoints-from-nodes-3", map[string]any{"cidrIpv4": "10.0.1.128/26", "fromPort": 443.0, "toPort": 443.0})
	for _, first := range []string{"secrets-endpoint", "metrics-endpoint", "store-endpoint", "endpoints-from-nodes-1"} {
		if !slices.Contains(r.dependencies("node-1-vm"), first) {
			t.Errorf("node-1 boots without waiting for %s", first)
		}
	}
}
