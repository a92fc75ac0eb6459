// Package nodeconf writes the configuration file of one node from what the infrastructure planned for it.
//
// It owns the translation from planned values to the node's keys and checks the result with the node's own rules, so
// that a file it returns is one the node starts with. It refuses unknown keys and impossible values, all at once.
// Secrets are left out on purpose: the text is shown in previews and kept in state. AddSecrets puts them in at the last
// moment, on the machine.
package nodeconf

import (
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"

	"gopkg.in/yaml.v3"

	"hypercache/node/config"
)

// Node is what the infrastructure decides about a node. The zero value of a field leaves the key out, and with it
// the node's default.
type Node struct {
	ID, Zone      string
	ClusterName   string
	BindAddr      string // what RESP, HTTP, gossip and the internal port listen on
	AdvertiseAddr string
	RESPPort      int
	HTTPPort      int
	GossipPort    int
	RPCPort       int
	Seeds         []string // gossip addresses, host:port
	// BootstrapExpect is how many nodes form the very first cluster.
	BootstrapExpect int
	DataDir         string
	// Settings are further keys, like "cache.max_memory": "512mb". They may not contradict the fields above.
	Settings map[string]string
}

// values is the node's keys as text, as config.Load takes them.
func (n Node) values() (map[string]string, error) {
	v := map[string]string{}
	text := func(key, value string) {
		if value != "" {
			v[key] = value
		}
	}
	number := func(key string, value int) {
		if value != 0 {
			v[key] = strconv.Itoa(value)
		}
	}
	text("server.node_id", n.ID)
	text("network.resp_bind_addr", n.BindAddr)
	text("network.advertise_addr", n.AdvertiseAddr)
	number("network.resp_port", n.RESPPort)
	number("network.http_port", n.HTTPPort)
	number("network.gossip_port", n.GossipPort)
	number("network.rpc_port", n.RPCPort)
	text("cluster.name", n.ClusterName)
	text("cluster.zone", n.Zone)
	text("cluster.seeds", strings.Join(n.Seeds, ","))
	number("cluster.bootstrap_expect", n.BootstrapExpect)
	text("persistence.data_dir", n.DataDir)
	var taken []string
	for key, value := range n.Settings {
		if _, ok := v[key]; ok || isSecret(key) {
			taken = append(taken, key)
			continue
		}
		v[key] = value
	}
	if len(taken) > 0 {
		sort.Strings(taken)
		return nil, fmt.Errorf("settings %s: decided by the plan, leave them out", strings.Join(taken, ", "))
	}
	return v, nil
}

func isSecret(key string) bool {
	return key == "cluster.gossip_encrypt_key" || key == "cluster.secret_file" || key == "auth.password_file"
}

// Render returns the node's configuration file. The same Node always gives the same bytes. A node that would refuse
// the file is an error here, naming every problem.
func Render(n Node) (string, error) {
	values, err := n.values()
	if err != nil {
		return "", err
	}
	if _, err := config.Load(config.Sources{Flags: values, Search: []string{}}); err != nil {
		return "", fmt.Errorf("configuration of %s: %w", n.ID, err)
	}
	return write(values), nil
}

// write lays values out as YAML, sections and keys in alphabetical order.
func write(values map[string]string) string {
	keys := make([]string, 0, len(values))
	for key := range values {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	var b strings.Builder
	section := ""
	for _, key := range keys {
		head, name, _ := strings.Cut(key, ".")
		if head != section {
			section = head
			b.WriteString(section + ":\n")
		}
		if key != "cluster.seeds" {
			fmt.Fprintf(&b, "  %s: %s\n", name, scalar(key, values[key]))
			continue
		}
		b.WriteString("  seeds:\n")
		for _, s := range strings.Split(values[key], ",") {
			fmt.Fprintf(&b, "    - %s\n", strconv.Quote(s))
		}
	}
	return b.String()
}

// names are keys whose values are text even where they look like a number, as the zones of Azure do.
var names = []string{"server.node_id", "cluster.name", "cluster.zone"}

// scalar writes numbers and booleans plainly, so that they stay such, and quotes everything else.
func scalar(key, s string) string {
	if _, err := strconv.Atoi(s); (err == nil || s == "true" || s == "false") && !slices.Contains(names, key) {
		return s
	}
	return strconv.Quote(s)
}

// Secrets are what a node knows and nobody else: the gossip key itself, and the files that hold the cluster secret and the
// passwords of clients. An empty one leaves its key out.
type Secrets struct{ GossipKey, SecretFile, PasswordFile string }

// AddSecrets returns text, a file of Render, with the secrets in it.
func AddSecrets(text string, s Secrets) (string, error) {
	doc := map[string]any{}
	if err := yaml.Unmarshal([]byte(text), &doc); err != nil {
		return "", fmt.Errorf("read node configuration: %w", err)
	}
	for _, add := range []struct{ section, name, value string }{
		{"cluster", "gossip_encrypt_key", s.GossipKey}, {"cluster", "secret_file", s.SecretFile}, {"auth", "password_file", s.PasswordFile},
	} {
		section, ok := doc[add.section].(map[string]any)
		switch {
		case !ok && doc[add.section] != nil:
			return "", fmt.Errorf("read node configuration: %s is not a section", add.section)
		case add.value == "":
			continue
		case section == nil:
			section = map[string]any{}
			doc[add.section] = section
		}
		section[add.name] = add.value
	}
	out, err := yaml.Marshal(doc)
	if err != nil {
		return "", fmt.Errorf("write node configuration: %w", err)
	}
	return string(out), nil
}
