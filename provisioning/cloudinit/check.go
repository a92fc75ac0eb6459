package cloudinit

import (
	"errors"
	"fmt"
	"net/url"
	"regexp"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"hypercache/node/config"
)

// check names everything that is wrong with a Machine.
func (m Machine) check() error {
	var problems []error
	fail := func(format string, args ...any) { problems = append(problems, fmt.Errorf(format, args...)) }

	if m.Cloud != "aws" && m.Cloud != "azure" {
		fail("cloud %q: want aws or azure", m.Cloud)
	}
	if !matches(`[a-z0-9]+(-[a-z0-9]+)*`, m.Region) {
		fail("region %q: want a region's short name, like eu-west-1 or westeurope", m.Region)
	}
	if !matches(`[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?`, m.Hostname) {
		fail("hostname %q: want up to 63 lower-case letters, digits and dashes", m.Hostname)
	}
	if m.SSHKey != "" && !matches(`(ssh|ecdsa|sk)-[a-z0-9@.-]+ [A-Za-z0-9+/=]+( [ -~]*)?`, m.SSHKey) {
		fail("SSH key: want one line of a public key file, like `ssh-ed25519 AAAA… name`")
	}
	for _, d := range m.DataDevices {
		if !matches(`/dev/[A-Za-z0-9_./:-]+`, d) {
			fail("data device %q: want a path below /dev", d)
		}
	}
	problems = append(problems, m.Binary.check()...)
	problems = append(problems, m.Secrets.check(m.Cloud)...)
	problems = append(problems, m.Metric.check(m.Cloud)...)
	problems = append(problems, checkConfig(m.Config)...)
	for _, v := range variables(m) {
		if strings.ContainsAny(v.value, `'\`) || !matches(`[ -~]*`, v.value) {
			fail("%s: %q: quotes, backslashes, control characters and letters outside ASCII cannot be handed to the machine", v.name, v.value)
		}
	}
	if err := errors.Join(problems...); err != nil {
		return fmt.Errorf("machine %s: %w", m.Hostname, err)
	}
	return nil
}

func matches(pattern, s string) bool {
	return regexp.MustCompile(`^(?:` + pattern + `)$`).MatchString(s)
}

// webAddress tells whether s is the whole address of something on the web.
func webAddress(s string, schemes ...string) bool {
	u, err := url.Parse(s)
	return err == nil && u.Hostname() != "" && u.User == nil && u.Fragment == "" && len(u.Path) > 1 &&
		strings.Contains(" "+strings.Join(schemes, " ")+" ", " "+u.Scheme+" ")
}

func (b Binary) check() []error {
	var problems []error
	switch {
	case b.Signed && !webAddress(b.URL, "https"):
		problems = append(problems, fmt.Errorf("binary %q: want an address that begins with https://", b.URL))
	case !b.Signed && !webAddress(b.URL, "https", "http"):
		problems = append(problems, fmt.Errorf("binary %q: want an address that begins with https:// or http://", b.URL))
	}
	if !matches(`[0-9a-f]{64}`, b.SHA256) {
		problems = append(problems, fmt.Errorf("binary's SHA-256 %q: want 64 hexadecimal digits in lower case", b.SHA256))
	}
	return problems
}

func (s Secrets) check(cloud string) []error {
	var problems []error
	for _, v := range []variable{{"gossip key", s.GossipKey}, {"cluster secret", s.ClusterSecret}, {"password", s.Password}} {
		switch {
		case v.name == "password" && v.value == "":
		case cloud == "azure" && !matches(`https://[A-Za-z0-9-]+\.[a-z0-9.:-]+/secrets/[A-Za-z0-9-]+(/[0-9a-f]+)?`, v.value):
			problems = append(problems, fmt.Errorf("%s %q: want an address like https://VAULT.vault.azure.net/secrets/NAME", v.name, v.value))
		case cloud != "azure" && !matches(`[A-Za-z0-9/_+=.@:!-]+`, v.value):
			problems = append(problems, fmt.Errorf("%s %q: want a name or ARN of Secrets Manager", v.name, v.value))
		}
	}
	return problems
}

func (m *Metric) check(cloud string) []error {
	if m == nil {
		return nil
	}
	var problems []error
	if m.Namespace == "" {
		problems = append(problems, errors.New("metric's namespace is empty: want a name, like hypercache"))
	}
	if m.Node == "" {
		problems = append(problems, errors.New("metric's node is empty: want the node's name"))
	}
	if cloud == "azure" && !matches(`/subscriptions/[^/ ?#]+/resource[Gg]roups/[^/ ?#]+/providers/[^ ?#]+`, m.ResourceID) {
		problems = append(problems, fmt.Errorf("metric's resource %q: want the VM's resource id", m.ResourceID))
	}
	return problems
}

// onMachine are the keys of files that hold secrets, which setup puts on the machine and names.
var onMachine = []string{"cluster.secret_file", "auth.password_file"}

// checkConfig refuses what is no configuration of a node, and any secret in one.
func checkConfig(text string) []error {
	sections := map[string]map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &sections); err != nil {
		return []error{fmt.Errorf("configuration: %w", err)}
	}
	if len(sections) == 0 {
		return []error{errors.New("configuration is empty: want the text of nodeconf.Render")}
	}
	var problems []error
	for _, k := range config.Keys() {
		section, name, _ := strings.Cut(k.Path, ".")
		if value, set := sections[section][name]; set && value != "" && (k.Secret || slices.Contains(onMachine, k.Path)) {
			problems = append(problems, fmt.Errorf("configuration: %s: secrets reach the machine on another way, leave it out", k.Path))
		}
	}
	return problems
}
