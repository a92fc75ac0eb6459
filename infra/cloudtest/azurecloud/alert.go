package azurecloud

import (
	"net/mail"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) alertKinds() map[string]*books {
	return map[string]*books{
		"azure-native:insights:ActionGroup": {
			kind: kindActions, path: []string{"actionGroupName"}, rule: alertRule(), located: true, mostTags: 50,
			replace: []string{"location"},
			put:     putActions, global: true,
		},
		"azure-native:insights:MetricAlert": {
			kind: kindAlert, path: []string{"ruleName"}, rule: alertRule(), located: true, global: true, mostTags: 50,
			replace: []string{"location"},
			put:     c.putAlert,
		},
	}
}

// longestShortName is what fits the head of a message.
const longestShortName = 12

func putActions(_ *cloud.Call, it, _ *item) error {
	short := cloud.Str(it.in, "groupShortName")
	if short == "" || len(short) > longestShortName {
		return badRequest("BadRequest", "The group short name '%s' is empty or longer than %d characters.", short,
			longestShortName)
	}
	seen := map[string]bool{}
	for _, r := range cloud.Objs(it.in, "emailReceivers") {
		name, address := cloud.Str(r, "name"), cloud.Str(r, "emailAddress")
		if _, err := mail.ParseAddress(address); err != nil {
			return badRequest("BadRequest", "The email address '%s' of receiver '%s' is not valid.", address, name)
		}
		if seen[lower(name)] {
			return badRequest("BadRequest", "The receiver name '%s' is there twice.", name)
		}
		seen[lower(name)] = true
	}
	return nil
}

// frequencies and windows are how often an alert looks, and how far back.
func frequencies() []string { return []string{"PT1M", "PT5M", "PT15M", "PT30M", "PT1H"} }
func windows() []string {
	return []string{"PT1M", "PT5M", "PT15M", "PT30M", "PT1H", "PT6H", "PT12H", "P1D"}
}

// vmMetrics are some of those that every machine has.
func vmMetrics() []string {
	return []string{
		"VmAvailabilityMetric", "Percentage CPU", "Available Memory Bytes", "Network In Total", "Network Out Total",
		"Disk Read Bytes",
		"Disk Write Bytes", "Data Disk Queue Depth", "OS Disk Queue Depth",
	}
}

func (c *Cloud) putAlert(_ *cloud.Call, it, _ *item) error {
	in := it.in
	frequency, window := cloud.Str(in, "evaluationFrequency"), cloud.Str(in, "windowSize")
	at, over := slices.Index(frequencies(), frequency), slices.Index(windows(), window)
	severity := cloud.Int(in, "severity")
	switch {
	case at < 0 || over < 0 || over < at:
		return badRequest("BadRequest", "evaluationFrequency '%s' or windowSize '%s' is not supported, or the window "+
			"is shorter than the frequency.", frequency, window)
	case severity < 0 || severity > 4:
		return badRequest("BadRequest", "Severity must be in the range 0-4, not %d.", severity)
	}
	scopes := cloud.Strs(in, "scopes")
	if len(scopes) != 1 {
		return notEmulated("alerts about other than one resource: %d", len(scopes))
	}
	target := c.items[lower(scopes[0])]
	if target == nil || target.gone {
		return badRequest("ResourceNotFound", "Alert scope is invalid: the resource %s was not found.", scopes[0])
	}
	for _, a := range cloud.Objs(in, "actions") {
		if id := cloud.Str(a, "actionGroupId"); c.get(kindActions, id) == nil {
			return badRequest("BadRequest", "The action group '%s' was not found.", id)
		}
	}
	it.out["isMigrated"] = resource.NewBoolProperty(false)
	return mayCriteria(cloud.Obj(in, "criteria"), target)
}

func mayCriteria(criteria resource.PropertyMap, target *item) error {
	const single = "Microsoft.Azure.Monitor.SingleResourceMultipleMetricCriteria"
	if kind := cloud.Str(criteria, "odataType"); kind != single {
		return badRequest("BadRequest", "criteria.odataType '%s' is not %s, which one resource needs.", kind, single)
	}
	list := cloud.Objs(criteria, "allOf")
	if len(list) < 1 || len(list) > 5 {
		return badRequest("BadRequest", "criteria.allOf has %d conditions; it takes 1 to 5.", len(list))
	}
	for _, r := range list {
		if err := mayCriterion(r, target); err != nil {
			return err
		}
	}
	return nil
}

func mayCriterion(r resource.PropertyMap, target *item) error {
	for _, e := range [][]string{
		{"criterionType", cloud.Str(r, "criterionType"), "StaticThresholdCriterion"},
		{"operator", cloud.Str(r, "operator"), "Equals", "GreaterThan", "GreaterThanOrEqual", "LessThan",
			"LessThanOrEqual"},
		{"timeAggregation", cloud.Str(r, "timeAggregation"), "Average", "Minimum", "Maximum", "Total", "Count"},
	} {
		if e[1] == "" {
			return badRequest("BadRequest", "criteria.allOf: %s is missing.", e[0])
		}
		if err := oneOf("criteria.allOf."+e[0], e[1], e[2:]...); err != nil {
			return err
		}
	}
	name, metric, space := cloud.Str(r, "name"), cloud.Str(r, "metricName"), cloud.Str(r, "metricNamespace")
	if name == "" || metric == "" || !cloud.Known(r, "threshold") {
		return badRequest("BadRequest", "criteria.allOf: name, metricName and threshold must be set.")
	}
	own := space == "" || strings.EqualFold(space, target.kind)
	switch {
	case cloud.Bool(r, "skipMetricValidation", false):
	case own && target.kind == kindVM && !slices.Contains(vmMetrics(), metric), !own:
		return badRequest("BadRequest", "Couldn't find a metric named %s. Make sure the name is correct. (namespace "+
			"'%s')", metric, space)
	}
	return nil
}
