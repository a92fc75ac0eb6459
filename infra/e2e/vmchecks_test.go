//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"gopkg.in/yaml.v3"
)

// checklist is the guide's post-deployment checklist, in its order, and what the plan promises of each VM. It returns what
// does not hold, so that mutations can be seen to be found.
func (v *vmStack) checklist() []error {
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(format, args...)) }
	for i := range 3 {
		node := fmt.Sprintf("node-%d", i+1)
		wrong = append(wrong, v.vm(i, node)...)
		var list struct {
			Members []struct{ ID, Status, State string }
		}
		if err := v.get(i, "/api/cluster/members", &list); err != nil {
			fail("members: %w", err)
		}
		alive := 0
		for _, m := range list.Members {
			if m.Status == "alive" && m.State == "up" {
				alive++
			}
		}
		if alive != 3 || len(list.Members) != 3 {
			fail("%s sees %d of %d members alive: %+v", node, alive, len(list.Members), list.Members)
		}
	}
	if got, err := v.stranger(0); err != nil || got != "-NOAUTH Authentication required." {
		fail("a client without a password is told %q, %v", got, err)
	}
	if got, err := v.redisCLI(0, "SET", "test:key", "value"); err != nil || got != "OK" {
		fail("SET on VM 1, port 8080: %q, %v", got, err)
	}
	for i := 1; i < 3; i++ {
		if got, err := v.redisCLI(i, "GET", "test:key"); err != nil || got != "value" {
			fail("GET on VM %d, port %d: %q, %v", i+1, port(i), got, err)
		}
		if err := v.get(i, "/api/cache/test:key", nil); err != nil {
			fail("HTTP: %w", err)
		}
	}
	if out, err := v.healthCheck(3); err != nil || !strings.Contains(out, "all 3 nodes are well") {
		fail("health check: %w\n%s", err, out)
	}
	return wrong
}

// vm looks at what one VM was given.
func (v *vmStack) vm(i int, node string) []error {
	var wrong []error
	fail := func(format string, args ...any) { wrong = append(wrong, fmt.Errorf(node+": "+format, args...)) }
	ask := func(args ...string) string {
		ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
		defer cancel()
		out, err := v.lab.Exec(ctx, v.cloud.machine(node), args...)
		if err != nil {
			fail("%q: %w", args, err)
		}
		return strings.TrimSpace(out)
	}
	if got := ask("systemctl", "is-active", "hypercache.service"); got != "active" {
		fail("the service is %q", got)
	}
	if got := ask("cloud-init", "status"); !strings.Contains(got, "status: done") {
		fail("cloud-init: %s", got)
	}
	if got := ask("findmnt", "-no", "FSTYPE", "/opt/hypercache/data"); got != "ext4" {
		fail("the data is not on a disk of its own: %q", got)
	}
	var c struct {
		Server struct {
			NodeID string `yaml:"node_id"`
		}
		Network struct {
			AdvertiseAddr string `yaml:"advertise_addr"`
		}
		Cluster struct{ Seeds []string }
	}
	if err := yaml.Unmarshal([]byte(ask("cat", "/opt/hypercache/configs/hypercache.yaml")), &c); err != nil {
		fail("configuration: %w", err)
	}
	var seeds []string
	for _, address := range v.site.nodes[:3] {
		seeds = append(seeds, address+":7946")
	}
	if c.Server.NodeID != node || c.Network.AdvertiseAddr != v.site.nodes[i] || !slices.Equal(c.Cluster.Seeds, seeds) {
		fail("it is configured as %+v, want advertise_addr %s and seeds %v", c, v.site.nodes[i], seeds)
	}
	key := ask("sh", "-c", "sed -n 's/^HYPERCACHE_CLUSTER_GOSSIP_ENCRYPT_KEY=//p' /opt/hypercache/configs/secrets.env")
	word := ask("cat", "/opt/hypercache/configs/cluster.secret")
	given := ask("sh", "-c", "zcat -f /var/lib/cloud/instance/user-data.txt")
	password := ask("cat", "/opt/hypercache/configs/password")
	if password == "" || password != v.password() || strings.Contains(given, password) {
		fail("the password is not the stack's, or in the user data: %d bytes", len(password))
	}
	if got := ask("stat", "-c", "%U %a", "/opt/hypercache/configs/password"); got != "hypercache 400" {
		fail("owner and mode of the password are %q", got)
	}
	if len(key) < 40 || len(word) < 32 || strings.Contains(given, key) || strings.Contains(given, word) {
		fail("a secret is missing, or in the user data: key of %d bytes, secret of %d", len(key), len(word))
	}
	return wrong
}

// rows are the plan's firewall table, as far as it has a row for everybody.
var rows = []string{"resp", "http", "gossip-tcp", "gossip-udp", "rpc"}

// firewall looks at the packets that each rule has let through since the filters were set, and at ports that nothing lets
// through.
func (v *vmStack) firewall() []error {
	var wrong []error
	for i := range 3 { // use every client port of every node
		if got, err := v.redisCLI(i, "PING"); err != nil || got != "PONG" {
			wrong = append(wrong, fmt.Errorf("PING of node %d: %q, %v", i+1, got, err))
		}
		if err := v.get(i, "/health", nil); err != nil {
			wrong = append(wrong, err)
		}
	}
	used, err := v.used()
	if err != nil {
		return append(wrong, err)
	}
	for _, row := range rows {
		if !used[row] {
			wrong = append(wrong, fmt.Errorf("no packet has passed by a rule for %s", row))
		}
	}
	for _, closed := range []int{22, 7373, 7946, 9079, 8083} {
		if v.reaches(v.site.nodes[0], closed) {
			wrong = append(wrong, fmt.Errorf("a client reaches port %d", closed))
		}
	}
	return wrong
}

// used are the rows by which packets have passed into some node.
func (v *vmStack) used() (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	used := map[string]bool{}
	for i := range 3 {
		counters, err := v.lab.Counters(ctx, v.cloud.machine(fmt.Sprintf("node-%d", i+1)))
		if err != nil {
			return nil, err
		}
		for rule, packets := range counters {
			for _, row := range rows {
				if packets > 0 && strings.Contains(rule, row) {
					used[row] = true
				}
			}
		}
	}
	return used, nil
}

// reaches tells whether a client in the network gets a TCP connection.
func (v *vmStack) reaches(address string, port int) bool {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := v.dial(ctx, "tcp", net.JoinHostPort(address, fmt.Sprint(port)))
	if err != nil {
		return false
	}
	_ = c.Close()
	return true
}
