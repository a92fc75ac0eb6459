package rules

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// userDataKeys are the inputs that clouds hand to a VM as its user data, in lower case.
var userDataKeys = []string{"userdata", "userdatabase64", "customdata", "userdatarawbase64"}

// userData finds secrets in user data: values that Pulumi knows to be secret, and texts that look like one.
func userData(r Resource) []string {
	var found []string
	walk(property.New(r.Properties), "", func(path string, v property.Value) {
		key := path[strings.LastIndexByte(path, '.')+1:]
		if !slices.Contains(userDataKeys, strings.ToLower(key)) {
			return
		}
		if v.Secret() {
			found = append(found, path+" is made from a Pulumi secret: let the VM read the secret from its cloud's store instead")
		}
		if s, ok := text(v); ok {
			for _, what := range secretsIn(s) {
				found = append(found, fmt.Sprintf("%s holds %s: let the VM read it from its cloud's store instead", path, what))
			}
		}
	})
	return found
}

// plainOutputs finds secrets among a stack's outputs. An output's name gives its text away as a name within the text does.
func plainOutputs(all []Resource) []Finding {
	var found []Finding
	for _, r := range all {
		if r.Type != "pulumi:pulumi:Stack" {
			continue
		}
		walk(property.New(r.Properties), "", func(path string, v property.Value) {
			s, ok := text(v)
			if !ok || v.Secret() {
				return
			}
			name := path[strings.LastIndexByte(path, '.')+1:]
			for _, what := range secretsIn(name + ": " + s) {
				found = append(found, Finding{r.URN, fmt.Sprintf(
					"output %s holds %s: leave it out, or mark it with pulumi.ToSecret", path, what)})
			}
		})
	}
	return found
}

// markedSecrets finds values of stored secrets that lie open in the state.
func markedSecrets(r Resource) []string {
	var paths [][]string
	switch kind(r.Type) {
	case "aws:secretsmanager:SecretVersion":
		paths = [][]string{{"secretString"}, {"secretBinary"}}
	case "aws:ssm:Parameter":
		if t := at(r.Properties, "type"); word(t) == "securestring" {
			paths = [][]string{{"value"}}
		}
	case "azure-native:keyvault:Secret":
		paths = [][]string{{"properties", "value"}}
	}
	var found []string
	for _, path := range paths {
		if _, known := text(at(r.Properties, path...)); known && !secretOnTheWay(r.Properties, path) {
			found = append(found, strings.Join(path, ".")+
				" is in plain text: make it with pulumi.ToSecret or from a secret output")
		}
	}
	return found
}

// secretOnTheWay reports whether the value or anything around it is marked.
func secretOnTheWay(m property.Map, path []string) bool {
	for i := range path {
		if at(m, path[:i+1]...).Secret() {
			return true
		}
	}
	return false
}

// walk visits everything below v; a path is written like a.b[0].c. What is inside a marked value counts as marked.
func walk(v property.Value, path string, visit func(path string, v property.Value)) {
	if path != "" {
		visit(path, v)
	}
	switch {
	case v.IsMap():
		for key, item := range v.AsMap().AllStable {
			sub := key
			if path != "" {
				sub = path + "." + key
			}
			walk(item.WithSecret(item.Secret() || v.Secret()), sub, visit)
		}
	case v.IsArray():
		for i, item := range v.AsArray().All {
			walk(item.WithSecret(item.Secret() || v.Secret()), fmt.Sprintf("%s[%d]", path, i), visit)
		}
	}
}

// look is a text that gives a secret away. Where it has a group, that is the secret's value.
type look struct {
	what      string
	pattern   *regexp.Regexp
	plausible func(value string) bool
}

// looks are what secrets look like. A name alone is none, and neither is a reference like $KEY, ${KEY}, $(command), <KEY>,
// a path, or where a cloud keeps the secret: that is how things should be.
var looks = []look{
	{"a private key", regexp.MustCompile(`-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY-----`), nil},
	{"an AWS access key", regexp.MustCompile(`\b(?:AKIA|ASIA)[A-Z0-9]{16}\b`), nil},
	{"an AWS secret key", assigned(`(?i:secret_?access_?key)`, `[A-Za-z0-9/+]{40}(?:[^A-Za-z0-9/+=]|$)`), nil},
	{"a gossip key", assigned(`(?i:gossip_encrypt_key)`, key), isKey},
	{"a HyperCache secret", assigned(`HYPERCACHE_[A-Z0-9_]*(?:KEY|SECRET|TOKEN|PASSWORD)`, key), isKey},
	{"a password", assigned(`(?i:password|passphrase|requirepass)`, `[^\s"'$<{(/%*\\][^\s"',;}]{3,}`), isPassword},
	{"a password hash", assigned(`(?i:passwd|password)`, `\$(?:1|5|6|y|2[aby])\$`), nil},
	{"a storage account key", assigned(`(?i:AccountKey)`, `[A-Za-z0-9+/]{40,}={0,2}`), nil},
	{"a signed address", regexp.MustCompile(`[?&](?:sig=[A-Za-z0-9%+/]{20,}|X-Amz-Signature=[0-9a-f]{32,})`), nil},
}

const key = `[A-Za-z0-9+/_-]{16,}={0,2}`

// assigned is a name with a value after it, in any of the ways of YAML, JSON and shells.
func assigned(name, value string) *regexp.Regexp {
	return regexp.MustCompile(name + `["']?\s*[:=]\s*["']?(` + value + `)`)
}

// isKey tells a key in base64 from a file's name.
func isKey(value string) bool {
	if strings.HasPrefix(value, "/") {
		return false
	}
	key, ok := fromBase64(value)
	return ok && len(key) >= 16
}

// kept is where a cloud keeps a secret: who reads it there must have the right to.
var kept = regexp.MustCompile(`^(?:arn:aws[a-z-]*:secretsmanager:[a-z0-9-]+:\d+:secret:[\w/+=.@-]+|https://[a-z0-9-]+\.vault\.azure\.net/secrets/[A-Za-z0-9-]+(?:/[0-9a-f]+)?)$`)

// isPassword tells a password from the words and references that stand where one could be.
func isPassword(value string) bool {
	if kept.MatchString(value) {
		return false
	}
	words := []string{"true", "false", "none", "null", "empty", "disabled", "enabled", "required"}
	return !slices.Contains(words, strings.ToLower(value))
}

// What is inside of what: user data is base64 of gzip of a text with files in base64 of gzip.
const (
	maxDepth    = 5
	maxUnpacked = 4 << 20 // bytes; user data has 16 or 64 KiB
)

// secretsIn names the kinds of secret in a text, each once, however the text is packed.
func secretsIn(s string) []string {
	var found []string
	scan([]byte(s), maxDepth, func(what string) {
		if !slices.Contains(found, what) {
			found = append(found, what)
		}
	})
	slices.Sort(found)
	return found
}

// packed is a run of base64 that is long enough to hold a secret; YAML may break it into lines.
var packed = regexp.MustCompile(`[A-Za-z0-9+/_-]{24,}(?:\r?\n[ \t]*[A-Za-z0-9+/_-]+)*={0,2}`)

func scan(data []byte, depth int, report func(what string)) {
	if unzipped, ok := unzip(data); ok {
		data = unzipped
	}
	for _, l := range looks {
		for _, match := range l.pattern.FindAllSubmatch(data, -1) {
			if l.plausible == nil || l.plausible(string(match[len(match)-1])) {
				report(l.what)
			}
		}
	}
	if depth == 0 {
		return
	}
	for _, run := range packed.FindAll(data, -1) {
		if inner, ok := fromBase64(string(run)); ok {
			scan(inner, depth-1, report)
		}
	}
}

func unzip(data []byte) ([]byte, bool) {
	r, err := gzip.NewReader(bytes.NewReader(data))
	if err != nil {
		return nil, false
	}
	// A stream that was cut still shows what it began with.
	text, _ := io.ReadAll(io.LimitReader(r, maxUnpacked))
	return text, len(text) > 0
}

func fromBase64(s string) ([]byte, bool) {
	s = strings.TrimRight(strings.Join(strings.Fields(s), ""), "=")
	for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
		if data, err := encoding.DecodeString(s); err == nil {
			return data, true
		}
	}
	return nil, false
}
