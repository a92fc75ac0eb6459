package azurecloud

import (
	"regexp"
	"strings"

	"hypercache/infra/cloudtest/cloud"
)

// nameRule is what the names of a kind may be.
type nameRule struct {
	least, most int
	pattern     *regexp.Regexp
	words       string // the pattern in words
	tame        func(string) string
}

// problems are what is wrong with a name, as the provider words it while planning.
func (r nameRule) problems(property, name string) []cloud.Problem {
	switch {
	case r.most > 0 && len(name) > r.most:
		return []cloud.Problem{cloud.Problemf(property, "'%s' is too long (%d): at most %d", name, len(name), r.most)}
	case len(name) < max(r.least, 1):
		return []cloud.Problem{cloud.Problemf(property, "'%s' is too short (%d): at least %d", name, len(name),
			max(r.least, 1))}
	case r.pattern != nil && !r.pattern.MatchString(name):
		return []cloud.Problem{cloud.Problemf(property, "'%s' does not match expression '%s': %s", name, r.pattern,
			r.words)}
	}
	return nil
}

// onlyLetters is for names of lower-case letters and digits.
func onlyLetters(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(s))
}

// The rules of Azure's documents on naming.
func groupRule() nameRule {
	return nameRule{least: 1, most: 90, pattern: regexp.MustCompile(`^[-\w.()]*[-\w()]$`),
		words: "letters, digits, _ - ( ) and ., not at the end"}
}

// networkRule is that of most things of the network, 1 to 80 characters unless told.
func networkRule(least int) nameRule {
	most := 80
	if least == 2 {
		most = 64
	}
	return nameRule{
		least: least, most: most, pattern: regexp.MustCompile(`^[A-Za-z0-9]([\w.-]*\w)?$`),
		words: "begins with a letter or digit, ends with one or _, has only those and . -",
	}
}

func machineRule() nameRule {
	return nameRule{
		least: 1, most: 64, pattern: regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9_])?$`),
		words: "letters, digits, . _ and -, neither . nor - at the end",
	}
}

func accountRule() nameRule {
	return nameRule{least: 3, most: 24, pattern: regexp.MustCompile(`^[a-z0-9]+$`), words: "lower-case letters and " +
		"digits", tame: onlyLetters}
}

func containerRule() nameRule {
	return nameRule{
		least: 3, most: 63, pattern: regexp.MustCompile(`^(\$(root|web)|[a-z0-9]+(-[a-z0-9]+)*)$`),
		words: "lower-case letters and digits with single hyphens between them", tame: strings.ToLower,
	}
}

func vaultRule() nameRule {
	return nameRule{
		least: 3, most: 24, pattern: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9]*(-[A-Za-z0-9]+)*$`),
		words: "begins with a letter; letters and digits with single hyphens between them",
	}
}

func secretRule() nameRule {
	return nameRule{least: 1, most: 127, pattern: regexp.MustCompile(`^[A-Za-z0-9-]+$`), words: "letters, digits and -"}
}

func alertRule() nameRule {
	return nameRule{
		least: 1, most: 260, pattern: regexp.MustCompile(`^[^*#&+:<>?@%{}\\/|]*[^*#&+:<>?@%{}\\/|. ]$`),
		words: `none of * # & + : < > ? @ % { } \ / |, neither space nor . at the end`,
	}
}

func backupRule() nameRule {
	return nameRule{least: 2, most: 50, pattern: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*$`),
		words: "begins with a letter; letters, digits and -"}
}

func policyRule() nameRule {
	return nameRule{
		least: 3, most: 150, pattern: regexp.MustCompile(`^[A-Za-z][A-Za-z0-9-]*[A-Za-z0-9]$`),
		words: "begins with a letter; letters, digits and -, not at the end",
	}
}

// domain is a DNS name of letters, digits and hyphens.
func domain() *regexp.Regexp {
	return regexp.MustCompile(`^([A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$`)
}

// guid is one in its usual form.
func guid() *regexp.Regexp {
	return regexp.MustCompile(`^[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}$`)
}

// oneOf refuses a value that is none of an enumeration's. Resource Manager ignores case.
func oneOf(what, value string, values ...string) error {
	if value == "" {
		return nil
	}
	for _, v := range values {
		if strings.EqualFold(v, value) {
			return nil
		}
	}
	return badRequest("InvalidParameterValue", "%s: '%s' is not a valid value. Allowed values are %s.", what, value,
		strings.Join(values, ", "))
}
