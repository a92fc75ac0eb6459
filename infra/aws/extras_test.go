package aws

import (
	"fmt"
	"strings"
	"testing"

	"hypercache/provisioning/cloudinit"
)

func TestTheBalancerForwardsToNodesThatAreReady(t *testing.T) {
	r := deploy(t, everything())
	r.expect(t, "balancer", map[string]any{
		"internal": true, "loadBalancerType": "network", "enableCrossZoneLoadBalancing": true,
		"subnetMappings[0].privateIpv4Address": "10.0.0.5", "subnetMappings[1].subnetId": "edge-2-id", "subnetMappings[2].privateIpv4Address": "10.0.0.133",
	})
	for name, port := range map[string]float64{"resp": 8080, "http": 9080} {
		r.expect(t, "balancer-"+name, map[string]any{
			"protocol": "TCP", "port": port, "targetType": "instance", "vpcId": "network-id",
			"healthCheck.protocol": "HTTP", "healthCheck.path": "/ready", "healthCheck.port": "9080",
		})
		r.expect(t, "balancer-"+name+"-listener", map[string]any{
			"port": port, "loadBalancerArn": "arn:aws:test:::balancer", "defaultActions[0].targetGroupArn": "arn:aws:test:::balancer-" + name,
		})
		for i := range 3 {
			r.expect(t, fmt.Sprintf("node-%d-%s-target", i+1, name), map[string]any{
				"targetGroupArn": "arn:aws:test:::balancer-" + name, "targetId": fmt.Sprintf("node-%d-vm-id", i+1), "port": port,
			})
		}
	}
}

func TestEveryNodeHasANameAndAllHaveOne(t *testing.T) {
	r := deploy(t, everything())
	r.expect(t, "zone", map[string]any{"name": "hypercache.internal", "vpcs[0].vpcId": "network-id"})
	r.expect(t, "node-3-name", map[string]any{"name": "node-3.hypercache.internal", "type": "A", "records[0]": "10.0.1.132", "zoneId": "zone-id"})
	r.expect(t, "cluster-name", map[string]any{
		"name": "cluster.hypercache.internal", "records[0]": "10.0.1.4", "records[1]": "10.0.1.68", "records[2]": "10.0.1.132", "records[3]": nil,
	})
}

func TestAlarmsWatchEachVMAndItsDisk(t *testing.T) {
	r := deploy(t, everything())
	r.expect(t, "alarms-email", map[string]any{"protocol": "email", "endpoint": "oncall@example.com", "topic": "arn:aws:test:::alarms"})
	r.expect(t, "node-2-alarm", map[string]any{
		"metricName": "StatusCheckFailed", "namespace": "AWS/EC2", "dimensions.InstanceId": "node-2-vm-id", "treatMissingData": "breaching",
		"alarmActions[0]": "arn:aws:test:::alarms", "alarmActions[1]": nil,
	})
	r.expect(t, "node-2-recovery", map[string]any{
		"metricName": "StatusCheckFailed_System", "alarmActions[1]": "arn:aws:automate:eu-west-1:ec2:recover",
	})
	r.expect(t, "node-2-disk-alarm", map[string]any{
		"metricName": cloudinit.DiskMetric, "namespace": "hypercache-test", "dimensions.Node": "node-2", "threshold": 80.0,
	})
	if !strings.Contains(r.userData(t, "node-2"), "hypercache-test") || !strings.Contains(r.userData(t, "node-2"), "hypercache-disk.timer") {
		t.Error("node-2 is not told to report")
	}
	if strings.Contains(deploy(t, nil).userData(t, "node-2"), "hypercache-disk.timer") {
		t.Error("node-2 reports to nobody")
	}
}

func TestSnapshotsAreDailyAndKeptAsLongAsAsked(t *testing.T) {
	r := deploy(t, everything())
	r.expect(t, "snapshots", map[string]any{
		"policyDetails.schedules[0].retainRule.count": 14.0, "policyDetails.schedules[0].createRule.interval": 24.0,
		"policyDetails.targetTags.DataDisk": "hypercache-test", "policyDetails.resourceTypes[0]": "VOLUME",
		"executionRoleArn": "arn:aws:test:::snapshots-role", "state": "ENABLED",
	})
	if trust := r.input(t, "snapshots-role", "assumeRolePolicy").(string); !strings.Contains(trust, `"dlm.amazonaws.com"`) {
		t.Errorf("the role is for %s", trust)
	}
}

func TestSpreadVMsAreInOneGroup(t *testing.T) {
	r := deploy(t, everything())
	r.expect(t, "spread", map[string]any{"strategy": "spread", "name": "hypercache-test-spread"})
	for i := range 3 {
		r.expect(t, fmt.Sprintf("node-%d-vm", i+1), map[string]any{"placementGroup": "hypercache-test-spread"})
	}
}
