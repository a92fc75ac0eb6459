package azure

import (
	"strings"
	"testing"

	"hypercache/provisioning/cloudinit"
)

func TestTheBalancerForwardsToNodesThatAreReady(t *testing.T) {
	r := deploy(t, everything())
	self := "/subscriptions/" + subscription + "/resourceGroups/hypercache-test/providers/Microsoft.Network/loadBalancers/hypercache-test-balancer"
	for path, want := range map[string]any{
		"frontendIPConfigurations[0].privateIPAddress": "10.0.1.254", "frontendIPConfigurations[0].subnet.id": "/id/nodes",
		"probes[0].protocol": "Http", "probes[0].requestPath": "/ready", "probes[0].port": 9080.0,
		"loadBalancingRules[0].frontendPort": 8080.0, "loadBalancingRules[1].frontendPort": 9080.0,
		"loadBalancingRules[0].probe.id": self + "/probes/ready", "loadBalancingRules[0].backendAddressPool.id": self + "/backendAddressPools/nodes",
	} {
		if got := r.input(t, "balancer", path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	for _, nic := range perNode(3, "nic") {
		if got := r.input(t, nic, "ipConfigurations[0].loadBalancerBackendAddressPools[0].id"); got != "/id/balancer/backendAddressPools/nodes" {
			t.Errorf("%s belongs to %v", nic, got)
		}
	}
}

func TestEveryNodeHasANameAndAllHaveOne(t *testing.T) {
	r := deploy(t, everything())
	if got := r.input(t, "node-3-name", "aRecords[0].ipv4Address"); got != "10.0.1.6" {
		t.Errorf("node-3 is at %v", got)
	}
	if got, _ := r.input(t, "cluster-name", "aRecords").([]any); len(got) != 3 {
		t.Errorf("the cluster is at %v", got)
	}
}

func TestAlarmsWatchEachVMAndItsDisk(t *testing.T) {
	r := deploy(t, everything())
	for name, metric := range map[string]string{"node-2-alarm": "VmAvailabilityMetric", "node-2-disk-alarm": cloudinit.DiskMetric} {
		if got := r.input(t, name, "criteria.allOf[0].metricName"); got != metric {
			t.Errorf("%s watches %v", name, got)
		}
		if got := r.input(t, name, "scopes[0]").(string); !strings.HasSuffix(got, "/virtualMachines/hypercache-test-node-2") {
			t.Errorf("%s watches %v", name, got)
		}
		if got := r.input(t, name, "actions[0].actionGroupId"); got != "/id/alarms" {
			t.Errorf("%s tells %v", name, got)
		}
	}
	if !strings.Contains(r.userData(t, "node-2"), metricNamespace) {
		t.Error("node-2 is not told to report")
	}
}

func TestSnapshotsAreDailyAndKeptAsLongAsAsked(t *testing.T) {
	r := deploy(t, everything())
	for path, want := range map[string]any{
		"properties.retentionPolicy.dailySchedule.retentionDuration.count": 14.0, "properties.policyType": "V2",
		"properties.schedulePolicy.scheduleRunFrequency": "Daily",
	} {
		if got := r.input(t, "backup-policy", path); got != want {
			t.Errorf("%s is %v, want %v", path, got, want)
		}
	}
	if got := r.input(t, "backup-vault", "properties.securitySettings.softDeleteSettings.softDeleteState"); got != "Disabled" {
		t.Errorf("soft delete is %v", got)
	}
	if got := r.input(t, "node-1-backup", "protectedItemName"); got != "vm;iaasvmcontainerv2;hypercache-test;hypercache-test-node-1" {
		t.Errorf("node-1 is %v", got)
	}
}

func TestSpreadVMsBelongToOneScaleSet(t *testing.T) {
	r := deploy(t, everything())
	for _, vm := range perNode(3, "vm") {
		if got := r.input(t, vm, "virtualMachineScaleSet.id"); got != "/id/spread" {
			t.Errorf("%s belongs to %v", vm, got)
		}
	}
	if got := r.input(t, "spread", "platformFaultDomainCount"); got != 1.0 {
		t.Errorf("%v fault domains", got)
	}
}

func TestPublicAddressesNeedNoGateway(t *testing.T) {
	r := deploy(t, map[string]string{"publicAddresses": "true"})
	if _, ok := r.resources["nat"]; ok {
		t.Error("there is a gateway that nobody uses")
	}
	if got := r.input(t, "node-2-nic", "ipConfigurations[0].publicIPAddress.id"); got != "/id/node-2-ip" {
		t.Errorf("node-2 has the address %v", got)
	}
	if got := r.input(t, "node-2-seat", "url"); got != "http://address-of-node-2-ip:9081" {
		t.Errorf("node-2 is looked at under %v", got)
	}
}
