package awscloud

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

// maxSecret is how long a secret's value may be.
const maxSecret = 65536

func (c *Cloud) secretKinds() map[string]*cloud.Kind {
	return map[string]*cloud.Kind{
		"aws:secretsmanager/secret:Secret": c.kindOf(books{
			kind: "secret", check: checkSecret, create: c.createSecret, remove: c.removeSecret,
			replace: []string{"name", "namePrefix"},
			auto:    &cloud.AutoName{Property: "name", MaxLength: 512, Unless: []string{"namePrefix"}},
		}),
		"aws:secretsmanager/secretVersion:SecretVersion": c.kindOf(books{
			kind: "secretversion", check: checkSecretVersion, create: c.createSecretVersion,
			replace: []string{"secretId", "secretString", "secretBinary"},
			secret:  []string{"secretString", "secretBinary"},
		}),
	}
}

func secretsError(doing, op, code, format string, args ...any) error {
	return apiError(doing, "Secrets Manager", op, 400, code, format, args...)
}

// secretName is what Secrets Manager takes for a name.
var secretName = regexp.MustCompile(`^[A-Za-z0-9/_+=.@-]{1,512}$`)

func checkSecret(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := append(checkJSON(in, "policy"), checkPrefix(in, "namePrefix", 512)...)
	if n := cloud.Str(in, "name"); cloud.Known(in, "name") && !secretName.MatchString(n) {
		problems = append(problems, cloud.Problemf("name",
			"invalid value for name (must contain only alphanumeric characters and /_+=.@-): %q", n))
	}
	if n := cloud.Int(in, "recoveryWindowInDays"); cloud.Known(in, "recoveryWindowInDays") && n != 0 &&
		(n < 7 || n > 30) {
		problems = append(problems, cloud.Problemf("recoveryWindowInDays",
			"expected recovery_window_in_days to be 0 or in the range (7 - 30), got %d", n))
	}
	return problems
}

func (c *Cloud) createSecret(call *cloud.Call) (string, map[string]any, error) {
	const op = "CreateSecret"
	region, name := region(call), iamName(call.Inputs)
	doing := "creating Secrets Manager Secret (" + name + ")"
	if end, ok := c.deletedSecrets[[2]string{region, name}]; ok {
		if c.now().Before(end) {
			return "", nil, secretsError(doing, op, "InvalidRequestException",
				"You can't create this secret because a secret with this name is already scheduled for deletion.")
		}
		delete(c.deletedSecrets, [2]string{region, name})
	}
	if c.find("secret", func(it *item) bool { return it.region == region && it.str("name") == name }) != nil {
		return "", nil, secretsError(doing, op, "ResourceExistsException",
			"The operation failed because the secret %s already exists.", name)
	}
	if p := cloud.Str(call.Inputs, "policy"); p != "" {
		if _, err := parsePolicy(p, true); err != nil {
			return "", nil, secretsError(doing, "PutResourcePolicy", "MalformedPolicyDocumentException", "%s", err)
		}
	}
	arn := c.arn("secretsmanager", region, "secret:"+name+"-"+randomHex(3))
	return arn, map[string]any{"arn": arn, "name": name, "recoveryWindowInDays": 30}, nil
}

// removeSecret deletes at once, or keeps the name for the recovery window, 30 days unless the program says otherwise.
func (c *Cloud) removeSecret(_ *cloud.Call, it *item) error {
	for _, v := range c.versions(it.id) {
		delete(c.items, key{"secretversion", v.id})
	}
	days := 30
	if given(it.in, "recoveryWindowInDays") {
		days = cloud.Int(it.in, "recoveryWindowInDays")
	}
	if days > 0 {
		c.deletedSecrets[[2]string{it.region, it.str("name")}] = c.now().Add(time.Duration(days) * 24 * time.Hour)
	}
	return nil
}

func checkSecretVersion(call *cloud.Call) []cloud.Problem {
	if given(call.Inputs, "secretString") == given(call.Inputs, "secretBinary") {
		return []cloud.Problem{cloud.Problemf("secretString",
			"exactly one of `secret_binary,secret_string` must be specified")}
	}
	return nil
}

func (c *Cloud) createSecretVersion(call *cloud.Call) (string, map[string]any, error) {
	in := call.Inputs
	secret, f := c.secret(region(call), cloud.Str(in, "secretId"))
	doing := "putting Secrets Manager Secret (" + cloud.Str(in, "secretId") + ") value"
	if f != nil {
		return "", nil, secretsError(doing, "PutSecretValue", f.code, "%s", f.message)
	}
	if n := len(cloud.Str(in, "secretString")); n > maxSecret || n == 0 && given(in, "secretString") {
		return "", nil, secretsError(doing, "PutSecretValue", "ValidationException",
			"1 validation error detected: Value at 'secretString' failed to satisfy constraint: Member must have "+
				"length between 1 and %d", maxSecret)
	}
	version := randomHex(16)
	return secret.id + "|" + version, map[string]any{"arn": secret.id, "versionId": version,
		"versionStages": []string{"AWSCURRENT"}}, nil
}

// secret finds one by its ARN, its ARN without the random end, or its name; c.mu is held.
func (c *Cloud) secret(region, id string) (*item, *failure) {
	it := c.find("secret", func(it *item) bool {
		return it.region == region && (it.id == id || it.str("name") == id ||
			strings.TrimSuffix(it.id, it.id[strings.LastIndex(it.id, "-"):]) == id)
	})
	if it != nil {
		return it, nil
	}
	if end, ok := c.deletedSecrets[[2]string{region, id}]; ok && c.now().Before(end) {
		return nil, &failure{400, "InvalidRequestException",
			"You can't perform this operation on the secret because it was marked for deletion."}
	}
	return nil, &failure{400, "ResourceNotFoundException", "Secrets Manager can't find the specified secret."}
}

// versions are a secret's, the oldest first; c.mu is held.
func (c *Cloud) versions(secret string) []*item {
	return slices.DeleteFunc(c.all("secretversion"),
		func(v *item) bool { return !strings.HasPrefix(v.id, secret+"|") })
}

// secretsManager answers GetSecretValue.
func (x *exchange) secretsManager() {
	target := x.r.Header.Get("X-Amz-Target")
	if x.r.Method != "POST" || target != "secretsmanager.GetSecretValue" {
		x.fail(&failure{400, "UnknownOperationException",
			fmt.Sprintf("%s %q is no operation that is emulated", x.r.Method, target)})
		return
	}
	var args struct{ SecretId, VersionId, VersionStage string }
	if !strings.HasPrefix(x.r.Header.Get("Content-Type"), "application/x-amz-json-1.1") ||
		json.Unmarshal(x.body, &args) != nil {
		x.fail(&failure{400, "SerializationException",
			"want a body in JSON with Content-Type application/x-amz-json-1.1"})
		return
	}
	c := x.c
	c.mu.Lock()
	it, f := c.secret(x.instance.region, args.SecretId)
	resourceARN, policy := args.SecretId, ""
	var versions []*item
	if it != nil {
		resourceARN, policy, versions = it.id, cloud.Str(it.in, "policy"), c.versions(it.id)
	}
	c.mu.Unlock()
	// Who has no permission is not told whether the secret exists.
	if denied := x.authorize("secretsmanager:GetSecretValue", resourceARN, policy); denied != nil {
		x.fail(denied)
		return
	}
	if f != nil {
		x.fail(f)
		return
	}
	stage := args.VersionStage
	if stage == "" {
		stage = "AWSCURRENT"
	}
	x.answerSecret(it, pickVersion(versions, args.VersionId, stage), stage)
}

// pickVersion is the version of an ID, or the newest for AWSCURRENT, the one before for AWSPREVIOUS.
func pickVersion(versions []*item, id, stage string) *item {
	n := len(versions)
	switch {
	case id != "":
		i := slices.IndexFunc(versions, func(v *item) bool { return v.str("versionId") == id })
		if i >= 0 {
			return versions[i]
		}
	case stage == "AWSCURRENT" && n > 0:
		return versions[n-1]
	case stage == "AWSPREVIOUS" && n > 1:
		return versions[n-2]
	}
	return nil
}

func (x *exchange) answerSecret(it, version *item, stage string) {
	if version == nil {
		x.fail(&failure{400, "ResourceNotFoundException",
			"Secrets Manager can't find the specified secret value for staging label: " + stage})
		return
	}
	answer := map[string]any{
		"ARN": it.id, "Name": it.str("name"), "VersionId": version.str("versionId"), "VersionStages": []string{stage},
		"CreatedDate": float64(x.c.now().Unix()),
	}
	for _, v := range []struct {
		key  resource.PropertyKey
		name string
	}{{"secretString", "SecretString"}, {"secretBinary", "SecretBinary"}} {
		if p, ok := version.in[v.key]; ok && p.IsString() {
			answer[v.name] = p.StringValue()
		}
	}
	x.w.Header().Set("Content-Type", "application/x-amz-json-1.1")
	_ = json.NewEncoder(x.w).Encode(answer) // the caller has gone otherwise
}
