package config

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

func noAddresses() []netip.Addr { return nil }

func writeFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func loadText(t testing.TB, text string, env ...string) (Config, error) {
	t.Helper()
	return Load(Sources{Path: writeFile(t, text), Env: env, Addresses: noAddresses})
}

func problemsOf(t *testing.T, err error) []Problem {
	t.Helper()
	var invalid *InvalidError
	if !errors.As(err, &invalid) {
		t.Fatalf("want an InvalidError, got %v", err)
	}
	return invalid.Problems
}

func TestNoSourcesGiveALoneNodeOnLoopback(t *testing.T) {
	c, err := Load(Sources{Search: []string{}, Addresses: noAddresses})
	if err != nil {
		t.Fatal(err)
	}
	if c.Network.RESPAddr() != "127.0.0.1:8080" || c.Network.AdvertiseAddr != "127.0.0.1" || c.Cluster.Expect() != 1 {
		t.Fatalf("got %+v", c)
	}
	if err := Default().Validate(); err != nil {
		t.Fatalf("the defaults themselves: %v", err)
	}
}

func TestLaterSourcesWin(t *testing.T) {
	path := writeFile(t, "server: {node_id: from-file}\nnetwork: {resp_port: 1001, http_port: 1002, gossip_port: 1003}\n")
	c, err := Load(Sources{
		Path:      path,
		Env:       []string{"NODE_ID=from-short", "HYPERCACHE_NETWORK_HTTP_PORT=2002", "HYPERCACHE_NETWORK_GOSSIP_PORT=2003", "HYPERCACHE_CLUSTER_ZONE=1", "ADVERTISE_ADDR=", "HOME=/"},
		Flags:     map[string]string{"network.gossip_port": "3003"},
		Addresses: noAddresses,
	})
	if err != nil {
		t.Fatal(err)
	}
	if c.Server.NodeID != "from-short" || c.Network.RESPPort != 1001 || c.Network.HTTPPort != 2002 || c.Network.GossipPort != 3003 || c.Network.RPCPort != 7373 || c.Cluster.Zone != "1" {
		t.Fatalf("got %s", c)
	}
	c, err = Load(Sources{Path: path, Env: []string{"HYPERCACHE_SERVER_NODE_ID=long", "NODE_ID=short"}, Addresses: noAddresses})
	if err != nil || c.Server.NodeID != "long" {
		t.Fatalf("the long name must win: %q, %v", c.Server.NodeID, err)
	}
}

func TestContainerEnvironmentMakesAClusterNode(t *testing.T) {
	c, err := Load(Sources{Search: []string{}, Addresses: noAddresses, Env: []string{
		"NODE_ID=docker-node1", "BIND_ADDR=0.0.0.0", "ADVERTISE_ADDR=hypercache-node1",
		"SEED_NODES=hypercache-node1:7946, hypercache-node2:7946,hypercache-node3:7946",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Network.RESPAddr() != "0.0.0.0:8080" || c.Network.HTTPAddr() != "0.0.0.0:9080" || c.Network.RPCAddr() != "0.0.0.0:7373" ||
		c.Network.Advertised(7373) != "hypercache-node1:7373" || len(c.Cluster.Seeds) != 3 || c.Cluster.Expect() != 3 {
		t.Fatalf("got %s", c)
	}
}

func TestEveryProblemIsReportedAtOnce(t *testing.T) {
	_, err := loadText(t, `server:
  node_id: "a b"
netwrok:
  resp_port: 1
network:
  resp_prot: 8080
  http_port: ninety
  gossip_port: 70000
  rpc_port: 8080
  advertise_addr: "10.0.1.4:7946"
  tls_enabled: true
cluster:
  seeds: ["10.0.1.4", "10.0.1.5:99999"]
  replication_factor: 0
  write_acks: qorum
  gossip_encrypt_key: "base64-encoded-key"
  zone: 1
persistence:
  fsync: sometimes
cache:
  max_memory: lots
  eviction_policy: allkeys-lur
logging:
  level: LOUD
  level: INFO
limits:
  idle_timeout: 300
`, "HYPERCACHE_CLUSTER_MAX_MOVES=0", "HYPERCACHE_NETWORK_RESP_PROT=1")
	got := err.Error()
	for _, want := range []string{
		`node.yaml:2: server.node_id: the text "a b"; want 1 to 63 of`,
		`node.yaml:3: netwrok: there is no such section; did you mean network?`,
		`node.yaml:6: network.resp_prot: there is no such key; did you mean network.resp_port?`,
		`node.yaml:7: network.http_port: is the text "ninety"; want a whole number, like 9080`,
		`node.yaml:8: network.gossip_port: 70000 is not a port; want 1 to 65535`,
		`node.yaml:9: network.rpc_port: 8080 is taken by network.resp_port`,
		`node.yaml:10: network.advertise_addr: "10.0.1.4:7946" has a port; write "10.0.1.4"`,
		`network.cert_file: is missing, and network.tls_enabled needs it`,
		`network.key_file: is missing`,
		`node.yaml:13: cluster.seeds: item 1, "10.0.1.4" has no port; write "10.0.1.4:7946"`,
		`cluster.seeds: item 2, "10.0.1.5:99999": "99999" is not a port`,
		`node.yaml:14: cluster.replication_factor: 0 is impossible`,
		`node.yaml:15: cluster.write_acks: "qorum" is unknown; want one, quorum, all; did you mean quorum?`,
		`node.yaml:16: cluster.gossip_encrypt_key: is not base64; ` + "`hypercache keygen` makes one",
		`node.yaml:17: cluster.zone: is the number 1; want text; quote it: "1"`,
		`node.yaml:19: persistence.fsync: "sometimes" is unknown; want always, everysec, no`,
		`node.yaml:21: cache.max_memory: size "lots" is not like 512MB`,
		`node.yaml:22: cache.eviction_policy: "allkeys-lur" is unknown`,
		`did you mean allkeys-lru?`,
		`node.yaml:24: logging.level: "loud" is unknown`,
		`node.yaml:25: logging.level: is given twice, first in line 24`,
		`node.yaml:27: limits.idle_timeout: is the number 300; want a duration with its unit, like 30s`,
		`cluster.max_moves: 0 is impossible; want 1 to 256, usually 8`,
		`environment HYPERCACHE_NETWORK_RESP_PROT: there is no such key; did you mean HYPERCACHE_NETWORK_RESP_PORT?`,
	} {
		if !strings.Contains(got, want) {
			t.Errorf("missing: %s", want)
		}
	}
	if n := len(problemsOf(t, err)); n != 23 {
		t.Errorf("%d problems, want 23:", n)
	}
	if t.Failed() {
		t.Log(got)
	}
}

func TestAKeyInTheWrongPlaceIsPointedToTheRightOne(t *testing.T) {
	for given, want := range map[string]string{
		"cluster: {gossip_port: 1}":              "did you mean network.gossip_port?",
		"resp_port: 8080":                        "did you mean network.resp_port?",
		"cluster: {seed: []}":                    "did you mean cluster.seeds?",
		"network: {tls: true}":                   "did you mean network.tls_enabled?",
		"memory: {x: 1}":                         "there is no such section",
		"network: 5":                             "network: is a section",
		"network: {}\n---\na: b":                 "second document",
		"cluster: {seeds: a:1, seed_nodes: b:1}": "both of its names",
		"- a":                                    "want sections with keys",
		"a: [":                                   "did not find expected",
		"? [x]\n: y":                             "a key must be plain text",
		"network: {resp_port: &a [*a]}":          "",
	} {
		_, err := loadText(t, given)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %v, want %s", given, err, want)
		}
	}
}

func TestEmptyPlacesAreDefaults(t *testing.T) {
	for _, text := range []string{"", "\n# nothing\n", "~", "network:\n", "cluster: {}\nserver: {node_id: }\n", "network: {resp_port: null}"} {
		c, err := loadText(t, text)
		if err != nil || c.Network.RESPPort != 8080 {
			t.Errorf("%q: %v, %d", text, err, c.Network.RESPPort)
		}
	}
}

func TestValuesAreReadInTheirManyForms(t *testing.T) {
	c, err := loadText(t, `
cluster:
  seed_nodes: "a:1,b:2"
  ack_timeout: 1m30s
persistence: {enabled: no, fsync: no}
cache: {max_memory: 1.5gb, max_value_bytes: 1048576}
limits: {idle_timeout: 0}
logging: {level: WARNING}
`)
	if err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(c.Cluster.Seeds, []string{"a:1", "b:2"}) || c.Cluster.AckTimeout != 90*time.Second || c.Persistence.Enabled ||
		c.Persistence.Fsync != "no" || c.Cache.MaxMemory != 3<<29 || c.Cache.MaxValueBytes != 1<<20 || c.Logging.Level != "warn" {
		t.Fatalf("got %s", c)
	}
}

func TestServiceLinksOfKubernetesAreNotMistakes(t *testing.T) {
	_, err := Load(Sources{Search: []string{}, Addresses: noAddresses, Env: []string{
		"HYPERCACHE_SERVICE_SERVICE_HOST=10.96.0.7", "HYPERCACHE_SERVICE_PORT=tcp://10.96.0.7:8080", "HYPERCACHE_CACHE_SERVICE_PORT_RESP=8080",
		"HYPERCACHE_CACHE_PORT_8080_TCP_ADDR=10.96.0.7", "HYPERCACHE_SERVER_PORT=tcp://10.96.0.7:8080", "HYPERCACHE_SOMETHING=else",
	}})
	if err != nil {
		t.Fatal(err)
	}
}

func TestTheFileIsSearchedOrNamed(t *testing.T) {
	first, second := filepath.Join(t.TempDir(), "missing.yaml"), writeFile(t, "server: {node_id: second}")
	c, err := Load(Sources{Search: []string{first, second}, Addresses: noAddresses})
	if err != nil || c.Server.NodeID != "second" || c.File != second {
		t.Fatalf("search: %v, %+v", err, c.Server)
	}
	named := writeFile(t, "server: {node_id: named}")
	c, err = Load(Sources{Search: []string{second}, Env: []string{"HYPERCACHE_CONFIG=" + named}, Addresses: noAddresses})
	if err != nil || c.Server.NodeID != "named" {
		t.Fatalf("HYPERCACHE_CONFIG: %v, %+v", err, c.Server)
	}
	if _, err = Load(Sources{Path: first}); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("a named file that is missing: %v", err)
	}
	if _, err = Load(Sources{Path: t.TempDir()}); err == nil {
		t.Fatal("a directory was accepted")
	}
}

func TestAdvertiseAddressDefaults(t *testing.T) {
	machine := func() []netip.Addr {
		return []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("203.0.113.9"), netip.MustParseAddr("10.0.1.4"), netip.MustParseAddr("192.168.0.2")}
	}
	for _, tt := range []struct{ bind, want string }{
		{"127.0.0.1", "127.0.0.1"}, {"10.9.9.9", "10.9.9.9"}, {"0.0.0.0", "10.0.1.4"}, {"::", "10.0.1.4"},
	} {
		if got := advertised(tt.bind, machine); got != tt.want {
			t.Errorf("bound to %s: advertises %s, want %s", tt.bind, got, tt.want)
		}
	}
	if got := advertised("0.0.0.0", noAddresses); got != "127.0.0.1" {
		t.Errorf("without interfaces: %s", got)
	}
}

func TestExpectIsDerivedFromSeeds(t *testing.T) {
	for _, tt := range []struct {
		c    Cluster
		want int
	}{
		{Cluster{}, 1},
		{Cluster{Seeds: []string{"a:1"}}, 1},
		{Cluster{Seeds: []string{"a:1", "b:1", "a:1"}}, 2},
		{Cluster{Seeds: []string{"a:1", "b:1", "c:1", "d:1", "e:1"}}, 3},
		{Cluster{Seeds: []string{"a:1"}, BootstrapExpect: 5}, 5},
	} {
		if got := tt.c.Expect(); got != tt.want {
			t.Errorf("%v: %d, want %d", tt.c, got, tt.want)
		}
	}
}

func TestIdentityOutlivesTheHostName(t *testing.T) {
	host := func(name string) func() (string, error) { return func() (string, error) { return name, nil } }
	at := func(dir string) Config {
		c := Default()
		c.Persistence.DataDir = dir
		return c
	}
	dir := filepath.Join(t.TempDir(), "data")
	first := at(dir)
	if err := first.identify(host("web-1")); err != nil || first.Server.NodeID != "web-1" {
		t.Fatal(first.Server, err)
	}
	second := at(dir)
	if err := second.identify(host("web-2")); err != nil || second.Server.NodeID != "web-1" {
		t.Fatalf("a new host name changed the identity: %q %v", second.Server.NodeID, err)
	}
	vague := at(filepath.Join(t.TempDir(), "data"))
	if err := vague.identify(host("localhost.localdomain")); err != nil || !strings.HasPrefix(vague.Server.NodeID, "node-") {
		t.Fatal(vague.Server, err)
	}
	if err := os.WriteFile(filepath.Join(dir, nodeIDFile), []byte("\x00\x00"), 0o600); err != nil {
		t.Fatal(err)
	}
	damaged := at(dir)
	if err := damaged.identify(host("web-1")); err == nil {
		t.Fatal("a damaged identity was replaced by another")
	}
}

func TestSecretsStayOutOfLogs(t *testing.T) {
	c := Default()
	c.Cluster.GossipEncryptKey, c.Cluster.RPCAuthKey = "c2VjcmV0LXNlY3JldCE=", "hush-hush"
	for _, shown := range []string{c.String(), c.GoString(), c.LogValue().String()} {
		if strings.Contains(shown, "c2VjcmV0") || strings.Contains(shown, "hush") {
			t.Fatalf("a secret in %s", shown)
		}
	}
	if !strings.Contains(c.String(), `rpc_auth_key: "(secret)"`) {
		t.Fatal("a reader cannot tell that the key is set")
	}
}

func TestAClusterSecretIsReadAndBounded(t *testing.T) {
	good, short := writeFile(t, "  0123456789abcdef\n"), writeFile(t, "hunter2\n")
	if s, err := (Cluster{SecretFile: good}).Secret(); err != nil || string(s) != "0123456789abcdef" {
		t.Fatal(string(s), err)
	}
	if _, err := (Cluster{SecretFile: short}).Secret(); err == nil {
		t.Fatal("a short secret was accepted")
	}
}

func TestWhatIsWrittenReadsBackTheSame(t *testing.T) {
	c, err := loadText(t, `
server: {node_id: "1e5"}
network: {advertise_addr: 10.0.1.4}
cluster: {seeds: ["[::1]:7946", "a:1"], zone: "yes: \"no\"", gossip_encrypt_key: AAECAwQFBgcICQoLDA0ODw==}
cache: {max_memory: 12345678}
`)
	if err != nil {
		t.Fatal(err)
	}
	back, err := loadText(t, c.YAML())
	if err != nil {
		t.Fatal(err)
	}
	back.File = c.File
	if !reflect.DeepEqual(c, back) {
		t.Fatalf("wrote\n%#v\nread\n%#v", c, back)
	}
}

func TestSizesFollowRedis(t *testing.T) {
	for text, want := range map[string]Size{"0": 0, "1k": 1000, "1kb": 1024, "512MB": 512 << 20, "1.5GiB": 3 << 29, " 2 gb ": 2 << 30, "1048576": 1 << 20, "1b": 1} {
		if got, err := ParseSize(text); err != nil || got != want {
			t.Errorf("%q: %d, %v; want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"", "-1", "kb", "1e9", "0x10", "NaN", "inf", "9223372036854775807kb", "1.5.5mb", "1_000"} {
		if got, err := ParseSize(text); err == nil {
			t.Errorf("%q was read as %d", text, got)
		}
	}
}

func FuzzLoad(f *testing.F) {
	f.Add("network: {resp_port: 1}", "HYPERCACHE_CLUSTER_SEEDS=a:1")
	f.Add(Default().YAML(), "SEED_NODES=,,")
	f.Add("a: &a [*a]\nnetwork: *a", "BIND_ADDR=::1")
	f.Add("server: {node_id: !!binary aGk=}\ncluster: {<<: {zone: x}}", "HYPERCACHE_=")
	f.Fuzz(func(t *testing.T, text, env string) {
		c, err := loadText(t, text, env)
		if err != nil {
			if err.Error() == "" {
				t.Fatal("an error without a word")
			}
			return
		}
		if err := c.Validate(); err != nil {
			t.Fatalf("loaded, but invalid: %v", err)
		}
		back, err := loadText(t, c.YAML())
		if err != nil {
			t.Fatalf("its own YAML is refused: %v\n%s", err, c.YAML())
		}
		if back.String() != c.String() {
			t.Fatalf("wrote\n%s\nread\n%s", c, back)
		}
	})
}

func TestPasswordsAreReadFromLinesOfTheirOwn(t *testing.T) {
	write := func(text string) Auth {
		file := filepath.Join(t.TempDir(), "passwords")
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return Auth{PasswordFile: file}
	}
	if got, err := write("\nfirst-password\r\n  second password \n").Passwords(); err != nil ||
		!slices.Equal(got, []string{"first-password", "second password"}) {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := (Auth{}).Passwords(); got != nil || err != nil {
		t.Errorf("without a file: %q, %v", got, err)
	}
	for _, bad := range []string{"", "\n \n", "short", "long enough\nshort\n", strings.Repeat("password\n", 33), strings.Repeat("x", 4097)} {
		if got, err := write(bad).Passwords(); err == nil {
			t.Errorf("%.40q is accepted as %d passwords", bad, len(got))
		}
	}
	if _, err := (Auth{PasswordFile: filepath.Join(t.TempDir(), "absent")}).Passwords(); err == nil {
		t.Error("a file that is missing is accepted")
	}
}
