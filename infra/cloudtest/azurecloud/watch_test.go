package azurecloud

import (
	"fmt"
	"testing"
	"time"

	"hypercache/infra/cloudtest/cloud/driver"
)

func (k *lab) alertIn() m {
	return m{
		"resourceGroupName": "lab", "ruleName": "down", "location": "global", "enabled": true, "severity": 1,
		"scopes":              []string{k.id("node1")},
		"evaluationFrequency": "PT1M", "windowSize": "PT5M", "actions": []any{m{"actionGroupId": k.id("actions")}},
		"criteria": m{"odataType": "Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria", "allOf": []any{m{
			"criterionType": "StaticThresholdCriterion", "name": "threshold",
			"metricNamespace": "Microsoft.Compute/virtualMachines",
			"metricName":      "VmAvailabilityMetric", "timeAggregation": "Average", "operator": "LessThan", "threshold": 1,
		}}},
	}
}

func TestAlertsAreAboutMetricsThatExist(t *testing.T) {
	k := network(t)
	k.node(1)
	group := m{
		"resourceGroupName": "lab", "actionGroupName": "ops", "location": "Global", "groupShortName": "hypercache",
		"enabled":        true,
		"emailReceivers": []any{m{"name": "ops", "emailAddress": "ops@example.com"}},
	}
	k.mustNot(actionsType, "actions", with(group, "groupShortName", "much-too-long"), "12 characters")
	k.mustNot(actionsType, "actions", with(group, "emailReceivers", []any{m{"name": "ops",
		"emailAddress": "nowhere"}}), "not valid")
	k.mustNot(actionsType, "actions", with(group, "location", home), "LocationNotAvailable")
	k.must(actionsType, "actions", group)
	good := k.alertIn()
	criterion := func(property string, v any) m {
		first := good["criteria"].(m)["allOf"].([]any)[0].(m)
		return with(good, "criteria.allOf", []any{with(first, property, v)})
	}
	k.mustNot(alertType, "alert", with(good, "windowSize", "PT2M"), "windowSize")
	k.mustNot(alertType, "alert", with(good, "evaluationFrequency", "PT15M"), "shorter than the frequency")
	k.mustNot(alertType, "alert", with(good, "severity", 5), "0-4")
	k.mustNot(alertType, "alert", with(good, "scopes", []string{k.id("node1") + "x"}), "scope is invalid")
	k.mustNot(alertType, "alert", with(good, "actions", []any{m{"actionGroupId": "/x"}}), "was not found")
	k.mustNot(alertType, "alert", with(good, "criteria.odataType", "Microsoft.Azure.Monitor.Other"), "odataType")
	k.mustNot(alertType, "alert", criterion("operator", "Below"), "LessThan")
	k.mustNot(alertType, "alert", criterion("metricName", "Happiness"), "Couldn't find a metric")
	k.mustNot(alertType, "alert", criterion("metricNamespace", "hypercache"), "Couldn't find a metric")
	k.must(alertType, "alert", good)
	k.must(alertType, "own", with(with(criterion("metricNamespace", "hypercache"), "ruleName", "own"),
		"criteria.allOf", []any{
			with(with(good["criteria"].(m)["allOf"].([]any)[0].(m), "metricNamespace", "hypercache"),
				"skipMetricValidation", true),
		}))
}

func TestMachinesReportTheirOwnMetrics(t *testing.T) {
	k := network(t)
	vm := k.node(1)
	ip := k.must(ipType, "ip", in("x", m{"sku": m{"name": "Standard"}, "publicIPAllocationMethod": "Static"}))
	url := "https://" + home + ".monitoring.azure.com" + vm.ID + "/metrics"
	body := func(at time.Time) string {
		return fmt.Sprintf(`{"time":%q,"data":{"baseData":{"metric":"DataDiskUsedPercent","namespace":"hypercache","dimNames":["Node"],`+
			`"series":[{"dimValues":["node-1"],"min":12,"max":12,"sum":12,"count":1}]}}}`, at.Format(time.RFC3339))
	}
	post := func(text string) (int, string) {
		return k.ask("node1", "POST", url, m{"Authorization": k.token("node1", "https://monitoring.azure.com/"),
			"Content-Type": "application/json"}, text)
	}
	if status, _ := post(body(k.clock.now())); status != -1 {
		t.Errorf("without a way out the service answers %d", status)
	}
	conf := k.nicIn("10.0.1.4")["ipConfigurations"].([]any)[0].(m)
	k.apply("nic1", with(k.nicIn("10.0.1.4"), "ipConfigurations", []any{with(conf, "publicIPAddress",
		m{"id": ip.ID})}), driver.Update)
	status, text := post(body(k.clock.now()))
	k.expect("without a role", status, text, 403)
	k.must(roleType, "role", k.grant("", principalOf(vm), writeMetrics, vm.ID))
	status, text = post(body(k.clock.now()))
	k.expect("with it", status, text, 200)
	status, text = post(body(k.clock.now().Add(-time.Hour)))
	k.expect("of an hour ago", status, text, 400)
	status, text = post(`{"time":"` + k.clock.now().Format(time.RFC3339) + `"}`)
	k.expect("without values", status, text, 400)
	got := k.cloud.Metrics()
	if len(got) != 1 || got[0].Name != "DataDiskUsedPercent" || got[0].Max != 12 ||
		got[0].Dimensions["Node"] != "node-1" || got[0].Resource != vm.ID {
		t.Errorf("metrics: %+v", got)
	}
}

func (k *lab) policyIn() m {
	at := []string{"2024-01-01T02:00:00Z"}
	return m{"resourceGroupName": "lab", "vaultName": "backup", "policyName": "daily", "properties": m{
		"backupManagementType": "AzureIaasVM", "policyType": "V2", "instantRpRetentionRangeInDays": 2,
		"timeZone": "UTC",
		"schedulePolicy": m{"schedulePolicyType": "SimpleSchedulePolicyV2", "scheduleRunFrequency": "Daily",
			"dailySchedule": m{"scheduleRunTimes": at}},
		"retentionPolicy": m{"retentionPolicyType": "LongTermRetentionPolicy", "dailySchedule": m{
			"retentionTimes": at, "retentionDuration": m{"count": 7, "durationType": "Days"},
		}},
	}}
}

func (k *lab) backupIn(softDelete string) m {
	return in("x", m{"vaultName": "backup", "sku": m{"name": "RS0", "tier": "Standard"}, "properties": m{
		"publicNetworkAccess": "Enabled", "securitySettings": m{"softDeleteSettings": m{"softDeleteState": softDelete}},
	}})
}

func (k *lab) protectedIn() m {
	const item = "iaasvmcontainerv2;lab;node1"
	return m{
		"resourceGroupName": "lab", "vaultName": "backup", "fabricName": "Azure",
		"containerName": "iaasvmcontainer;" + item, "protectedItemName": "vm;" + item,
		"properties": m{"protectedItemType": "Microsoft.Compute/virtualMachines", "policyId": k.id("policy"),
			"sourceResourceId": k.id("node1")},
	}
}

func TestBackupsAreOfMachinesByPolicy(t *testing.T) {
	k := network(t)
	k.node(1)
	k.mustNot(backupType, "backup", with(k.backupIn("Disabled"), "sku", nil), "sku")
	k.mustNot(backupType, "backup", k.backupIn("Off"), "Disabled")
	k.must(backupType, "backup", k.backupIn("Disabled"))
	good := k.policyIn()
	k.mustNot(policyType, "policy", with(good, "properties.retentionPolicy.dailySchedule.retentionDuration.count", 6),
		"7 to 9999")
	k.mustNot(policyType, "policy", with(good, "properties.policyType", "V1"), "SimpleSchedulePolicy")
	k.mustNot(policyType, "policy", with(good, "properties.retentionPolicy.dailySchedule.retentionTimes",
		[]string{"2024-01-01T03:00:00Z"}), "retentionTimes")
	k.mustNot(policyType, "policy", with(good, "properties.schedulePolicy.dailySchedule.scheduleRunTimes",
		[]string{"2024-01-01T02:10:00Z"}), "half hour")
	k.must(policyType, "policy", good)
	item := k.protectedIn()
	k.mustNot(protectedType, "item", with(item, "protectedItemName", "vm;iaasvmcontainerv2;lab;node2"),
		"InvalidItemName")
	k.mustNot(protectedType, "item", with(item, "properties.sourceResourceId", k.id("node1")+"x"), "VMNotFound")
	k.mustNot(protectedType, "item", with(item, "properties.policyId", k.id("backup")), "PolicyNotFound")
	k.must(protectedType, "item", item)
	k.mustNotDelete("policy", "PolicyInUse")
	k.mustNotDelete("backup", "ServiceResourceNotEmpty")
	k.mustDelete("item", "policy", "backup")
}

func TestDeletedBackupsHoldTheirVault(t *testing.T) {
	k := network(t)
	k.node(1)
	k.must(backupType, "backup", k.backupIn("Enabled"))
	k.must(policyType, "policy", k.policyIn())
	k.must(protectedType, "item", k.protectedIn())
	k.mustDelete("item")
	k.mustNotDelete("backup", "soft deleted state")
}
