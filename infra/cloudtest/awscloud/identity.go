package awscloud

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"

	"hypercache/infra/cloudtest/cloud"
)

func (c *Cloud) identityKinds() map[string]*cloud.Kind {
	named := func(limit int) *cloud.AutoName {
		return &cloud.AutoName{Property: "name", MaxLength: limit, Unless: []string{"namePrefix"}}
	}
	return map[string]*cloud.Kind{
		"aws:iam/role:Role": c.kindOf(books{
			kind: "role", check: checkRole, create: c.createRole, update: c.updateRole, remove: c.removeRole,
			replace: []string{"name", "namePrefix", "path"}, auto: named(64),
		}),
		"aws:iam/rolePolicy:RolePolicy": c.kindOf(books{
			kind: "policy", check: checkRolePolicy, create: c.createRolePolicy,
			update:  func(call *cloud.Call, _ *item) error { return mayPolicy(call) },
			replace: []string{"name", "namePrefix", "role"}, auto: named(128),
		}),
		"aws:iam/rolePolicyAttachment:RolePolicyAttachment": c.kindOf(books{
			kind: "attachment", create: c.createPolicyAttachment, replace: []string{"role", "policyArn"},
		}),
		"aws:iam/instanceProfile:InstanceProfile": c.kindOf(books{
			kind: "profile", check: func(call *cloud.Call) []cloud.Problem {
				return checkPrefix(call.Inputs,
					"namePrefix", 128)
			}, create: c.createProfile, update: c.updateProfile, remove: c.removeProfile,
			replace: []string{"name", "namePrefix", "path"}, auto: named(128),
		}),
	}
}

func iamError(doing, op string, status int, code, format string, args ...any) error {
	return apiError(doing, "IAM", op, status, code, format, args...)
}

// checkJSON holds a policy against what the provider wants while planning: that it is JSON at all.
func checkJSON(in resource.PropertyMap, property string) []cloud.Problem {
	if s := cloud.Str(in, property); cloud.Known(in, property) && !json.Valid([]byte(s)) {
		return []cloud.Problem{cloud.Problemf(property, "%q contains an invalid JSON policy", property)}
	}
	return nil
}

func checkRole(call *cloud.Call) []cloud.Problem {
	in := call.Inputs
	problems := slices.Concat(checkJSON(in, "assumeRolePolicy"), between(in, "maxSessionDuration", 3600, 43200),
		conflict(in, "name", "namePrefix"),
		checkPrefix(in, "namePrefix", 64))
	if n := cloud.Str(in, "name"); len(n) > 64 {
		problems = append(problems, cloud.Problemf("name",
			"expected length of name to be in the range (1 - 64), got %s", n))
	}
	return problems
}

// iamName is the given name, or one that begins with the given prefix.
func iamName(in resource.PropertyMap) string {
	if p := cloud.Str(in, "namePrefix"); p != "" {
		return p + uniqueSuffix()
	}
	return cloud.Str(in, "name")
}

func (c *Cloud) createRole(call *cloud.Call) (string, map[string]any, error) {
	name := iamName(call.Inputs)
	if c.items[key{"role", name}] != nil {
		return "", nil, iamError("creating IAM Role ("+name+")", "CreateRole", 409, "EntityAlreadyExists",
			"Role with name %s already exists.", name)
	}
	if err := mayRole(call, "creating IAM Role ("+name+")"); err != nil {
		return "", nil, err
	}
	path := cloud.Str(call.Inputs, "path")
	if path == "" {
		path = "/"
	}
	return name, map[string]any{
		"arn": "arn:aws:iam::" + c.account + ":role" + path + name, "name": name, "uniqueId": "AROA" +
			strings.ToUpper(randomHex(8)),
		"createDate": c.now().UTC().Format(time.RFC3339), "path": path, "maxSessionDuration": 3600,
	}, nil
}

func mayRole(call *cloud.Call, doing string) error {
	if _, err := parsePolicy(cloud.Str(call.Inputs, "assumeRolePolicy"), true); err != nil {
		// A trust policy has principals and actions, and no resources.
		return iamError(doing, "CreateRole", 400, "MalformedPolicyDocument", "%s", err)
	}
	for _, p := range cloud.Objs(call.Inputs, "inlinePolicies") {
		if _, err := parsePolicy(cloud.Str(p, "policy"), false); err != nil && cloud.Str(p, "policy") != "" {
			return iamError(doing, "PutRolePolicy", 400, "MalformedPolicyDocument", "%s", err)
		}
	}
	for _, arn := range cloud.Strs(call.Inputs, "managedPolicyArns") {
		if _, ok := managedPolicies()[arn]; !ok {
			return iamError(doing, "AttachRolePolicy", 404, "NoSuchEntity",
				"Policy %s does not exist or is not attachable.", arn)
		}
	}
	return nil
}

func (c *Cloud) updateRole(call *cloud.Call, it *item) error {
	return mayRole(call, "updating IAM Role ("+it.id+")")
}

// removeRole takes the role out of its profiles, as the provider does, and refuses while policies are left that are
// not the role's own.
func (c *Cloud) removeRole(_ *cloud.Call, it *item) error {
	doing := "deleting IAM Role (" + it.id + ")"
	ofRole := func(o *item) bool { return o.str("role") == it.id }
	force := cloud.Bool(it.in, "forceDetachPolicies", false)
	if c.find("policy", ofRole) != nil && !force {
		return iamError(doing, "DeleteRole", 409, "DeleteConflict",
			"Cannot delete entity, must delete policies first.")
	}
	if c.find("attachment", ofRole) != nil && !force {
		return iamError(doing, "DeleteRole", 409, "DeleteConflict",
			"Cannot delete entity, must detach all policies first.")
	}
	for _, kind := range []string{"policy", "attachment"} {
		for _, o := range c.all(kind) {
			if ofRole(o) {
				delete(c.items, key{kind, o.id})
			}
		}
	}
	for _, p := range c.all("profile") {
		if ofRole(p) {
			delete(p.in, "role")
		}
	}
	return nil
}

func checkRolePolicy(call *cloud.Call) []cloud.Problem {
	return append(checkJSON(call.Inputs, "policy"), checkPrefix(call.Inputs, "namePrefix", 128)...)
}

func mayPolicy(call *cloud.Call) error {
	if _, err := parsePolicy(cloud.Str(call.Inputs, "policy"), false); err != nil {
		return iamError("putting IAM Role ("+cloud.Str(call.Inputs, "role")+") Policy ("+cloud.Str(call.Inputs,
			"name")+")", "PutRolePolicy",
			400, "MalformedPolicyDocument", "%s", err)
	}
	return nil
}

func (c *Cloud) createRolePolicy(call *cloud.Call) (string, map[string]any, error) {
	role, name := cloud.Str(call.Inputs, "role"), iamName(call.Inputs)
	if c.items[key{"role", role}] == nil {
		return "", nil, iamError("putting IAM Role ("+role+") Policy ("+name+")", "PutRolePolicy", 404,
			"NoSuchEntity", "The role with name %s cannot be found.", role)
	}
	return role + ":" + name, map[string]any{"name": name}, mayPolicy(call)
}

// managedPolicies are AWS's own that a machine may have; what they allow is what the emulated services know of.
func managedPolicies() map[string]string {
	allow := func(actions ...string) string {
		text, _ := json.Marshal(map[string]any{ // of strings only: it cannot fail
			"Version": "2012-10-17", "Statement": []any{map[string]any{"Effect": "Allow", "Action": actions,
				"Resource": "*"}},
		})
		return string(text)
	}
	return map[string]string{
		"arn:aws:iam::aws:policy/AmazonSSMManagedInstanceCore": allow("ssm:*",
			"ssmmessages:*", "ec2messages:*"),
		"arn:aws:iam::aws:policy/CloudWatchAgentServerPolicy": allow("cloudwatch:PutMetricData", "ec2:DescribeTags",
			"logs:*"),
		"arn:aws:iam::aws:policy/AmazonS3ReadOnlyAccess": allow("s3:Get*",
			"s3:List*"),
		"arn:aws:iam::aws:policy/SecretsManagerReadWrite":                                         allow("secretsmanager:*"),
		"arn:aws:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRole":                 allow("ec2:*Snapshot*", "ec2:Describe*"),
		"arn:aws:iam::aws:policy/service-role/AWSDataLifecycleManagerServiceRoleForAMIManagement": allow("ec2:*Image*"),
	}
}

func (c *Cloud) createPolicyAttachment(call *cloud.Call) (string, map[string]any, error) {
	role, arn := cloud.Str(call.Inputs, "role"), cloud.Str(call.Inputs, "policyArn")
	doing := fmt.Sprintf("attaching IAM Policy (%s) to IAM Role (%s)", arn, role)
	if c.items[key{"role", role}] == nil {
		return "", nil, iamError(doing, "AttachRolePolicy", 404, "NoSuchEntity",
			"The role with name %s cannot be found.", role)
	}
	if _, ok := managedPolicies()[arn]; !ok {
		return "", nil, iamError(doing, "AttachRolePolicy", 404, "NoSuchEntity",
			"Policy %s does not exist or is not attachable.", arn)
	}
	return role + "-" + randomHex(10), nil, nil
}

func (c *Cloud) createProfile(call *cloud.Call) (string, map[string]any, error) {
	name := iamName(call.Inputs)
	doing := "creating IAM Instance Profile (" + name + ")"
	if c.items[key{"profile", name}] != nil {
		return "", nil, iamError(doing, "CreateInstanceProfile", 409, "EntityAlreadyExists",
			"Instance Profile %s already exists.", name)
	}
	if err := c.mayProfile(call, doing); err != nil {
		return "", nil, err
	}
	return name, map[string]any{
		"arn": "arn:aws:iam::" + c.account + ":instance-profile/" + name, "name": name, "uniqueId": "AIPA" +
			strings.ToUpper(randomHex(8)),
		"createDate": c.now().UTC().Format(time.RFC3339),
	}, nil
}

func (c *Cloud) mayProfile(call *cloud.Call, doing string) error {
	if role := cloud.Str(call.Inputs, "role"); role != "" && c.items[key{"role", role}] == nil {
		return iamError(doing, "AddRoleToInstanceProfile", 404, "NoSuchEntity",
			"The role with name %s cannot be found.", role)
	}
	return nil
}

func (c *Cloud) updateProfile(call *cloud.Call, it *item) error {
	return c.mayProfile(call, "updating IAM Instance Profile ("+it.id+")")
}

// removeProfile agrees even while instances have it, as IAM does: those lose their credentials.
func (c *Cloud) removeProfile(*cloud.Call, *item) error { return nil }

// policiesOf are all that a role's policies say; c.mu is held. What is malformed says nothing: it was refused before.
func (c *Cloud) policiesOf(role *item) []document {
	var texts []string
	for _, p := range c.all("policy") {
		if p.str("role") == role.id {
			texts = append(texts, p.str("policy"))
		}
	}
	managed := managedPolicies()
	for _, a := range c.all("attachment") {
		if a.str("role") == role.id {
			texts = append(texts, managed[a.str("policyArn")])
		}
	}
	for _, p := range cloud.Objs(role.in, "inlinePolicies") {
		texts = append(texts, cloud.Str(p, "policy"))
	}
	for _, arn := range cloud.Strs(role.in, "managedPolicyArns") {
		texts = append(texts, managed[arn])
	}
	var docs []document
	for _, t := range texts {
		if d, err := parsePolicy(t, false); err == nil {
			docs = append(docs, d)
		}
	}
	return docs
}

// trustsEC2 reports whether instances may take the role; c.mu is held.
func trustsEC2(role *item) bool {
	d, err := parsePolicy(cloud.Str(role.in, "assumeRolePolicy"), true)
	if err != nil {
		return false
	}
	for _, s := range d.Statement {
		if s.Effect == "Allow" && matchesAny(s.Action, "sts:AssumeRole", true) &&
			slices.Contains(s.Principal["Service"], "ec2.amazonaws.com") {
			return true
		}
	}
	return false
}

// session is a set of credentials that an instance was given.
type session struct {
	access, secret, token string
	role, instance        string
	expires               time.Time
}

// roleOf is the role of an instance's profile, nil if there is none; c.mu is held.
func (c *Cloud) roleOf(instance *item) *item {
	profile := c.items[key{"profile", cloud.Str(instance.in, "iamInstanceProfile")}]
	if profile == nil {
		return nil
	}
	return c.items[key{"role", cloud.Str(profile.in, "role")}]
}

// credentials are an instance's, new ones when the last run out soon; c.mu is held.
func (c *Cloud) credentials(instance, role *item) *session {
	m := instance.extra.(*machine)
	s := c.sessions[m.access]
	if s == nil || s.role != role.id || s.expires.Sub(c.now()) < time.Hour {
		s = &session{
			access: "ASIA" + strings.ToUpper(randomHex(8)), secret: randomHex(20), token: "IQoJb3JpZ2luX2Vj" +
				randomHex(64),
			role: role.id, instance: instance.id, expires: c.now().Add(6 * time.Hour),
		}
		c.sessions[s.access] = s
		m.access = s.access
	}
	return s
}
