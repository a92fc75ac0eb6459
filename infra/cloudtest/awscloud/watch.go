package awscloud

import (
	"fmt"
	"io"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"hypercache/infra/cloudtest/cloud"
)

// Metric is one value that a machine published.
type Metric struct {
	Namespace, Name, Unit string
	Dimensions            map[string]string
	Value                 float64
	Instance              string
	At                    time.Time
}

func (c *Cloud) watchKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{
		"aws:dlm/lifecyclePolicy:LifecyclePolicy": c.kindOf(books{kind: "lifecycle", check: checkLifecycle,
			create: c.createLifecycle}),
		"aws:cloudwatch/metricAlarm:MetricAlarm": c.kindOf(books{
			kind: "alarm", check: checkAlarm, create: c.createAlarm, replace: []string{"name"},
			auto: &cloud.AutoName{Property: "name", MaxLength: 255},
		}),
		"aws:sns/topic:Topic": c.kindOf(books{
			kind: "topic", check: checkTopic, create: c.createTopic,
			replace: []string{"name", "namePrefix", "fifoTopic"},
			auto:    &cloud.AutoName{Property: "name", MaxLength: 256, Unless: []string{"namePrefix"}},
		}),
		"aws:sns/topicSubscription:TopicSubscription": c.kindOf(books{
			kind: "subscription", check: checkSubscription, create: c.createSubscription,
			replace: []string{"topic", "protocol", "endpoint"},
		}),
	}
}

// lifecycleText is what DLM takes as a description.
var lifecycleText = regexp.MustCompile(`^[0-9A-Za-z _-]{1,500}$`)

func checkLifecycle(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := oneOf(in, "state", "ENABLED", "DISABLED")
	if d := cloud.Str(in, "description"); cloud.Known(in, "description") && !lifecycleText.MatchString(d) {
		problems = append(problems, cloud.Problemf("description",
			"invalid value for description (see "+
				"https://docs.aws.amazon.com/cli/latest/reference/dlm/create-lifecycle-policy.html): %q", d))
	}
	details := cloud.Obj(in, "policyDetails")
	add := func(at string, found []cloud.Problem) {
		for _, p := range found {
			problems = append(problems, cloud.Problem{Property: at + "." + p.Property, Reason: p.Reason})
		}
	}
	add("policyDetails", oneOf(details, "policyType", "EBS_SNAPSHOT_MANAGEMENT", "IMAGE_MANAGEMENT",
		"EVENT_BASED_POLICY"))
	for i, t := range cloud.Strs(details, "resourceTypes") {
		if t != "VOLUME" && t != "INSTANCE" {
			problems = append(problems, cloud.Problemf(fmt.Sprintf("policyDetails.resourceTypes[%d]", i),
				"expected resource_types to be one of [\"VOLUME\" \"INSTANCE\"], got %s", t))
		}
	}
	for i, s := range cloud.Objs(details, "schedules") {
		at := fmt.Sprintf("policyDetails.schedules[%d]", i)
		rule := cloud.Obj(s, "createRule")
		if n := cloud.Int(rule, "interval"); cloud.Known(rule, "interval") &&
			!slices.Contains([]int{1, 2, 3, 4, 6, 8, 12, 24}, n) {
			problems = append(problems, cloud.Problemf(at+".createRule.interval",
				"expected interval to be one of [1 2 3 4 6 8 12 24], got %d", n))
		}
		if given(rule, "interval") == given(rule, "cronExpression") {
			problems = append(problems, cloud.Problemf(at+".createRule",
				"exactly one of `cron_expression,interval` must be specified"))
		}
		add(at+".retainRule", between(cloud.Obj(s, "retainRule"), "count", 1, 1000))
	}
	return problems
}

func (c *Cloud) createLifecycle(call *cloud.Call) (string, map[string]any, error) {
	in, doing := call.Inputs, "creating DLM Lifecycle Policy"
	role := c.find("role", func(it *item) bool { return it.str("arn") == cloud.Str(in, "executionRoleArn") })
	details := cloud.Obj(in, "policyDetails")
	switch {
	case role == nil:
		return "", nil, apiError(doing, "DLM", "CreateLifecyclePolicy", 400, "InvalidRequestException",
			"Invalid execution role: %s", cloud.Str(in, "executionRoleArn"))
	case len(cloud.Obj(details, "targetTags")) == 0 && cloud.Str(details, "policyType") != "EVENT_BASED_POLICY":
		return "", nil, apiError(doing, "DLM", "CreateLifecyclePolicy", 400, "InvalidRequestException",
			"TargetTags are required")
	case len(cloud.List(details, "schedules")) == 0 || len(cloud.List(details, "resourceTypes")) == 0:
		return "", nil, apiError(doing, "DLM", "CreateLifecyclePolicy", 400, "InvalidRequestException",
			"ResourceTypes and Schedules are required")
	}
	id := newID("policy")
	return id, map[string]any{"arn": c.arn("dlm", region(call), "policy/"+id)}, nil
}

func checkAlarm(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(
		oneOf(in, "comparisonOperator", "GreaterThanOrEqualToThreshold", "GreaterThanThreshold",
			"LessThanThreshold", "LessThanOrEqualToThreshold",
			"LessThanLowerOrGreaterThanUpperThreshold", "LessThanLowerThreshold", "GreaterThanUpperThreshold"),
		oneOf(in, "statistic", "SampleCount", "Average", "Sum", "Minimum", "Maximum"),
		oneOf(in, "treatMissingData", "breaching", "notBreaching", "ignore", "missing"),
		between(in, "evaluationPeriods", 1, 86400), conflict(in, "metricName", "metricQueries"),
		conflict(in, "statistic", "extendedStatistic"))
	if n := cloud.Int(in, "period"); cloud.Known(in, "period") && n != 10 && n != 20 && n != 30 &&
		(n < 60 || n%60 != 0) {
		problems = append(problems, cloud.Problemf("period",
			"expected period to be one of 10, 20, 30 or a multiple of 60, got %d", n))
	}
	if given(in, "metricName") && !given(in, "statistic") && !given(in, "extendedStatistic") {
		problems = append(problems, cloud.Problemf("statistic",
			"One of `statistic` or `extended_statistic` must be set for a cloudwatch metric alarm"))
	}
	for _, actions := range []string{"alarmActions", "okActions", "insufficientDataActions"} {
		for i, a := range cloud.Strs(in, actions) {
			if !strings.HasPrefix(a, "arn:aws:") {
				problems = append(problems, cloud.Problemf(fmt.Sprintf("%s[%d]", actions, i),
					"(%s) is an invalid ARN: arn: invalid prefix", a))
			}
		}
	}
	return problems
}

func (c *Cloud) createAlarm(call *cloud.Call) (string, map[string]any, error) {
	in, name := call.Inputs, cloud.Str(call.Inputs, "name")
	doing := "creating CloudWatch Metric Alarm (" + name + ")"
	refuse := func(format string, args ...any) error {
		return apiError(doing, "CloudWatch", "PutMetricAlarm", 400, "ValidationError", format, args...)
	}
	if cloud.Int(in, "period")*cloud.Int(in, "evaluationPeriods") > 86400 && cloud.Int(in, "period") < 3600 {
		return "", nil, refuse("Metrics cannot be checked across more than a day (EvaluationPeriods * Period must be " +
			"" +
			"" +
			"<= 86400).")
	}
	for _, a := range cloud.Strs(in, "alarmActions") {
		if strings.Contains(a, ":sns:") && c.get(region(call), "topic", a) == nil {
			return "", nil, refuse("Invalid arn syntax or no such topic: %s", a)
		}
	}
	return name, map[string]any{"arn": c.arn("cloudwatch", region(call), "alarm:"+name), "name": name}, nil
}

// topicName is what SNS takes for a name.
var topicName = regexp.MustCompile(`^[A-Za-z0-9_-]{1,256}(\.fifo)?$`)

func checkTopic(call *cloud.Call) []cloud.Problem {
	problems := checkJSON(call.Inputs, "policy")
	if n := cloud.Str(call.Inputs, "name"); cloud.Known(call.Inputs, "name") && !topicName.MatchString(n) {
		problems = append(problems, cloud.Problemf("name", "invalid name: %s", n))
	}
	return problems
}

// createTopic refuses no name that exists: SNS then returns the topic that is there.
func (c *Cloud) createTopic(call *cloud.Call) (string, map[string]any, error) {
	name := iamName(call.Inputs)
	id := c.arn("sns", region(call), name)
	return id, map[string]any{"arn": id, "name": name, "owner": c.account}, nil
}

func checkSubscription(call *cloud.Call) []cloud.Problem {
	return oneOf(call.Inputs, "protocol", "application", "email", "email-json", "firehose", "http", "https",
		"lambda", "sms", "sqs")
}

func (c *Cloud) createSubscription(call *cloud.Call) (string, map[string]any, error) {
	in, doing := call.Inputs, "creating SNS Topic Subscription"
	topic, protocol, endpoint := cloud.Str(in, "topic"), cloud.Str(in, "protocol"), cloud.Str(in, "endpoint")
	if c.get(region(call), "topic", topic) == nil {
		return "", nil, apiError(doing, "SNS", "Subscribe", 404, "NotFound", "Topic does not exist")
	}
	valid := true
	switch protocol {
	case "email", "email-json":
		valid = strings.Count(endpoint, "@") == 1
	case "http", "https":
		valid = strings.HasPrefix(endpoint, protocol+"://")
	}
	if !valid {
		return "", nil, apiError(doing, "SNS", "Subscribe", 400, "InvalidParameter",
			"Invalid parameter: %s endpoint: %s", protocol, endpoint)
	}
	id := topic + ":" + randomHex(16)
	return id, map[string]any{"arn": id, "ownerId": c.account,
		"pendingConfirmation": !slices.Contains([]string{"lambda", "sqs", "sms"}, protocol)}, nil
}

// monitoring answers PutMetricData in the query protocol.
func (x *exchange) monitoring() {
	form, err := url.ParseQuery(string(x.body))
	for k, v := range x.r.URL.Query() {
		form[k] = v
	}
	if err != nil || form.Get("Action") != "PutMetricData" {
		x.fail(&failure{400, "InvalidAction",
			fmt.Sprintf("Could not find operation %q for version 2010-08-01", form.Get("Action"))})
		return
	}
	namespace := form.Get("Namespace")
	if f := x.authorizeMetric(namespace); f != nil {
		x.fail(f)
		return
	}
	if namespace == "" || strings.HasPrefix(namespace, "AWS/") {
		x.fail(&failure{400, "InvalidParameterValue",
			"The value for parameter Namespace is missing, or starts with AWS/, which is reserved."})
		return
	}
	metrics, f := x.metrics(namespace, form)
	if f != nil {
		x.fail(f)
		return
	}
	x.c.mu.Lock()
	x.c.metrics = append(x.c.metrics, metrics...)
	x.c.mu.Unlock()
	x.w.Header().Set("Content-Type", "text/xml")
	_, _ = io.WriteString(x.w,
		`<PutMetricDataResponse xmlns="http://monitoring.amazonaws.com/doc/2010-08-01/"><ResponseMetadata><RequestId>`+
			randomHex(16)+`</RequestId></ResponseMetadata></PutMetricDataResponse>`) // the caller has gone otherwise
}

func (x *exchange) metrics(namespace string, form url.Values) ([]Metric, *failure) {
	var list []Metric
	for i := 1; ; i++ {
		at := fmt.Sprintf("MetricData.member.%d.", i)
		name := form.Get(at + "MetricName")
		if name == "" {
			break
		}
		value, err := strconv.ParseFloat(form.Get(at+"Value"), 64)
		if err != nil {
			return nil, &failure{400, "InvalidParameterValue", "The parameter " + at +
				"Value is missing or no number."}
		}
		m := Metric{
			Namespace: namespace, Name: name, Unit: form.Get(at + "Unit"), Value: value,
			Dimensions: map[string]string{}, Instance: x.instance.id, At: x.c.now(),
		}
		for j := 1; form.Get(fmt.Sprintf("%sDimensions.member.%d.Name", at, j)) != ""; j++ {
			d := fmt.Sprintf("%sDimensions.member.%d.", at, j)
			m.Dimensions[form.Get(d+"Name")] = form.Get(d + "Value")
		}
		list = append(list, m)
	}
	if len(list) == 0 {
		return nil, &failure{400, "MissingParameter", "The parameter MetricData is required."}
	}
	return list, nil
}

// authorizeMetric asks for the right to publish; its resource is always everything, and the namespace is a condition.
func (x *exchange) authorizeMetric(namespace string) *failure {
	return x.authorizeWith("cloudwatch:PutMetricData", "*", "", map[string]string{"cloudwatch:namespace": namespace})
}
