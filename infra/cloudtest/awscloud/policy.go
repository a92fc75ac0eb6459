package awscloud

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// document is an IAM policy.
type document struct {
	Version   string
	Statement statements
}

type statements []statement

// UnmarshalJSON takes one statement for a list of one.
func (s *statements) UnmarshalJSON(data []byte) error {
	var many []statement
	if json.Unmarshal(data, &many) == nil {
		*s = many
		return nil
	}
	var one statement
	if err := json.Unmarshal(data, &one); err != nil {
		return fmt.Errorf("parse statement: %w", err)
	}
	*s = statements{one}
	return nil
}

type statement struct {
	Sid                     string
	Effect                  string
	Action, NotAction       oneOrMore
	Resource, NotResource   oneOrMore
	Principal, NotPrincipal principal
	Condition               map[string]map[string]oneOrMore
}

// oneOrMore is a string or a list of them.
type oneOrMore []string

// UnmarshalJSON takes a single value for a list of one; numbers and booleans count as text.
func (o *oneOrMore) UnmarshalJSON(data []byte) error {
	var many []any
	if json.Unmarshal(data, &many) != nil {
		var one any
		if err := json.Unmarshal(data, &one); err != nil {
			return fmt.Errorf("parse value: %w", err)
		}
		many = []any{one}
	}
	*o = nil
	for _, v := range many {
		switch v.(type) {
		case string, bool, float64:
			*o = append(*o, fmt.Sprint(v))
		default:
			return fmt.Errorf("parse value: want a text or a list of texts, have %T", v)
		}
	}
	return nil
}

// principal is who a policy speaks of, by kind; "*" is everyone.
type principal map[string]oneOrMore

// UnmarshalJSON takes "*" for every AWS principal.
func (p *principal) UnmarshalJSON(data []byte) error {
	var s string
	if json.Unmarshal(data, &s) == nil {
		*p = principal{"AWS": {s}}
		return nil
	}
	var m map[string]oneOrMore
	if err := json.Unmarshal(data, &m); err != nil {
		return fmt.Errorf("parse principal: %w", err)
	}
	*p = m
	return nil
}

// malformed is IAM's word for a policy that it does not take, with a capital letter and a full stop as IAM has them.
func malformed(format string, args ...any) error {
	return malformedPolicy(fmt.Sprintf(format, args...))
}

type malformedPolicy string

func (m malformedPolicy) Error() string { return string(m) }

// parsePolicy reads a policy and refuses what IAM calls malformed. An identity's policy names no principal, a
// resource's must.
func parsePolicy(text string, withPrincipal bool) (document, error) {
	var d document
	if err := json.Unmarshal([]byte(text), &d); err != nil {
		return d, malformed("Syntax errors in policy. (%v)", err)
	}
	if d.Version != "" && d.Version != "2012-10-17" && d.Version != "2008-10-17" {
		return d, malformed("The policy must contain a valid version string: %q", d.Version)
	}
	if len(d.Statement) == 0 {
		return d, malformed("The policy must contain at least one statement.")
	}
	for _, s := range d.Statement {
		switch {
		case s.Effect != "Allow" && s.Effect != "Deny":
			return d, malformed("Syntax error in policy: Effect must be Allow or Deny, not %q", s.Effect)
		case len(s.Action)+len(s.NotAction) == 0:
			return d, malformed("Policy statement must contain actions.")
		case withPrincipal && len(s.Principal)+len(s.NotPrincipal) == 0:
			return d, malformed("Policy statement must contain principals.")
		case !withPrincipal && len(s.Principal)+len(s.NotPrincipal) > 0:
			return d, malformed("Policy document should not specify a principal.")
		case !withPrincipal && len(s.Resource)+len(s.NotResource) == 0:
			return d, malformed("Policy statement must contain resources.")
		}
		for _, a := range s.Action {
			if a != "*" && !strings.Contains(a, ":") {
				return d, malformed("Actions/Conditions must be prefaced by a vendor, e.g., iam, sdb, ec2, etc. "+
					"(%s)", a)
			}
		}
		for _, r := range s.Resource {
			if r != "*" && !strings.HasPrefix(r, "arn:") {
				return d, malformed("Resource %s must be in ARN format or \"*\".", r)
			}
		}
	}
	return d, nil
}

// request is what a caller wants to do.
type request struct {
	action, resource string
	caller           string            // ARN of the assumed role's session
	role             string            // ARN of the role
	context          map[string]string // condition keys, in lower case
}

// verdict is what a set of policies says.
type verdict int

const (
	silent verdict = iota
	allowed
	denied
)

// evaluate asks policies; a denial anywhere wins. resourceBased ones count only statements that name the caller.
func evaluate(docs []document, r request, resourceBased bool) verdict {
	v := silent
	for _, d := range docs {
		for _, s := range d.Statement {
			if !s.applies(r, resourceBased) {
				continue
			}
			if s.Effect == "Deny" {
				return denied
			}
			v = allowed
		}
	}
	return v
}

func (s statement) applies(r request, resourceBased bool) bool {
	if resourceBased && !s.names(r) {
		return false
	}
	if len(s.Action) > 0 && !matchesAny(s.Action, r.action, true) || len(s.NotAction) > 0 &&
		matchesAny(s.NotAction, r.action, true) {
		return false
	}
	if len(s.Resource) > 0 && !matchesAny(s.Resource, r.resource, false) ||
		len(s.NotResource) > 0 && matchesAny(s.NotResource, r.resource, false) {
		return false
	}
	for operator, keys := range s.Condition {
		for k, values := range keys {
			if !holds(operator, r.context, strings.ToLower(k), values) {
				return false
			}
		}
	}
	return true
}

func (s statement) names(r request) bool {
	in := func(p principal) bool {
		for _, who := range p["AWS"] {
			account := strings.Split(r.role, ":")
			if who == "*" || who == r.role || who == r.caller || len(account) > 4 &&
				(who == account[4] || who == "arn:aws:iam::"+account[4]+":root") {
				return true
			}
		}
		return len(p["*"]) > 0
	}
	if len(s.NotPrincipal) > 0 {
		return !in(s.NotPrincipal)
	}
	return in(s.Principal)
}

func matchesAny(patterns []string, s string, fold bool) bool {
	for _, p := range patterns {
		if fold {
			p, s = strings.ToLower(p), strings.ToLower(s)
		}
		if wildcard(p, s) {
			return true
		}
	}
	return false
}

// wildcard matches * (anything, slashes too) and ? (one letter).
func wildcard(pattern, s string) bool {
	p, i, star, mark := 0, 0, -1, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, mark = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			mark++
			p, i = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// holds evaluates one condition. A key that the request does not have fails, except with IfExists, Null and
// negations.
func holds(operator string, context map[string]string, k string, values []string) bool {
	operator, ifExists := strings.CutSuffix(operator, "IfExists")
	have, ok := context[k]
	if operator == "Null" {
		want, _ := strconv.ParseBool(values[0])
		return want == !ok
	}
	base, negated := strings.CutPrefix(operator, "StringNot")
	if negated {
		base = "String" + base
	} else if base, negated = strings.CutPrefix(operator, "ArnNot"); negated {
		base = "Arn" + base
	} else {
		base = operator
	}
	if !ok {
		return ifExists || negated
	}
	match := false
	for _, want := range values {
		switch base {
		case "StringEquals", "Bool", "NumericEquals":
			match = match || have == want
		case "StringEqualsIgnoreCase":
			match = match || strings.EqualFold(have, want)
		case "StringLike", "ArnLike", "ArnEquals":
			match = match || wildcard(want, have)
		case "IpAddress":
			match = match || inPrefix(want, have)
		case "NotIpAddress":
			match = match || !inPrefix(want, have)
		}
	}
	return match != negated
}

func inPrefix(cidr, address string) bool {
	p, ok := prefix(cidr)
	if !ok {
		return cidr == address
	}
	a, ok := prefix(address + "/32")
	return ok && p.Contains(a.Addr())
}
