package cloudinit

import (
	"bytes"
	"compress/gzip"
	"flag"
	"fmt"
	"io"
	"math/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"gopkg.in/yaml.v3"

	"hypercache/provisioning/nodeconf"
	"hypercache/provisioning/systemd"
)

var update = flag.Bool("update", false, "write the golden files anew")

func configOf(t *testing.T, settings map[string]string) string {
	t.Helper()
	text, err := nodeconf.Render(nodeconf.Node{
		ID: "node-1", Zone: "eu-west-1a", ClusterName: "hypercache-test", BindAddr: "0.0.0.0", AdvertiseAddr: "10.0.1.4",
		RESPPort: 8080, HTTPPort: 9080, GossipPort: 7946, RPCPort: 7373,
		Seeds: []string{"10.0.1.4:7946", "10.0.1.5:7946", "10.0.1.6:7946"}, BootstrapExpect: 3,
		DataDir: "/opt/hypercache/data", Settings: settings,
	})
	if err != nil {
		t.Fatal(err)
	}
	return text
}

func onAWS(t *testing.T) Machine {
	return Machine{
		Cloud: "aws", Region: "eu-west-1", Hostname: "node-1", Config: configOf(t, nil),
		Binary: Binary{
			URL:    "https://hypercache-test-0a1b2c3.s3.eu-west-1.amazonaws.com/hypercache-0123456789abcdef",
			SHA256: strings.Repeat("0123456789abcdef", 4), Signed: true,
		},
		Secrets: Secrets{
			GossipKey:     "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hypercache-test-gossip-AbCdEf",
			ClusterSecret: "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hypercache-test-cluster-GhIjKl",
			Password:      "arn:aws:secretsmanager:eu-west-1:123456789012:secret:hypercache-test-password-MnOpQr",
		},
		DataDevices: []string{"/dev/disk/by-id/nvme-Amazon_Elastic_Block_Store_vol0123456789abcdef0", "/dev/sdf", "/dev/xvdf"},
		Metric:      &Metric{Namespace: "hypercache", Node: "node-1"},
		SSHKey:      "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIEtV operator@example",
	}
}

func onAzure(t *testing.T) Machine {
	m := onAWS(t)
	m.Cloud, m.Region = "azure", "westeurope"
	m.Binary.URL = "https://hypercachetest0a1b.blob.core.windows.net/programs/hypercache-0123456789abcdef"
	m.Secrets = Secrets{
		GossipKey:     "https://hypercachetest0a1b.vault.azure.net/secrets/gossip-key",
		ClusterSecret: "https://hypercachetest0a1b.vault.azure.net/secrets/cluster-secret",
		Password:      "https://hypercachetest0a1b.vault.azure.net/secrets/password",
	}
	m.DataDevices = []string{"/dev/disk/azure/scsi1/lun0", "/dev/disk/azure/data/by-lun/0"}
	m.Metric.ResourceID = "/subscriptions/00000000-0000-0000-0000-000000000000/resourceGroups/hypercache-test" +
		"/providers/Microsoft.Compute/virtualMachines/hypercache-test-node-1"
	return m
}

// parsed is a document as cloud-init reads it.
type parsed struct {
	Hostname   string
	Users      []any
	WriteFiles []struct {
		Path, Permissions, Owner, Content string
		Defer                             bool
	} `yaml:"write_files"`
	RunCmd []string `yaml:"runcmd"`
	Keys   []string `yaml:"ssh_authorized_keys"`
}

func parse(t *testing.T, m Machine) (parsed, string) {
	t.Helper()
	text, err := Text(m)
	if err != nil {
		t.Fatal(err)
	}
	var p parsed
	if err := yaml.Unmarshal([]byte(text), &p); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return p, text
}

func TestTheDocumentIsTheGoldenOne(t *testing.T) {
	for _, m := range []Machine{onAWS(t), onAzure(t)} {
		_, got := parse(t, m)
		path := filepath.Join("testdata", m.Cloud+".yaml")
		if *update {
			if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; look at the difference, and `go test -update` if it is right:\n%s", path, got)
		}
	}
}

func TestEveryFileReachesTheMachineUnchanged(t *testing.T) {
	m := onAWS(t)
	p, _ := parse(t, m)
	want := map[string]string{
		"/opt/hypercache/bin/setup": setupScript, "/opt/hypercache/bin/cloud": cloudScript,
		"/opt/hypercache/configs/machine.env": environment(m), "/opt/hypercache/configs/hypercache.yaml": m.Config,
		"/etc/systemd/system/hypercache.service": systemd.Service(), "/etc/systemd/system/hypercache-setup.service": systemd.Setup(),
		"/etc/systemd/system/hypercache-disk.service": systemd.Disk(), "/etc/systemd/system/hypercache-disk.timer": systemd.DiskTimer(),
	}
	for _, f := range p.WriteFiles {
		if f.Content != want[f.Path] || f.Content == "" {
			t.Errorf("%s reads\n%s\nwant\n%s", f.Path, f.Content, want[f.Path])
		}
		delete(want, f.Path)
		if f.Owner != "" && !f.Defer {
			t.Errorf("%s belongs to %s, who does not exist yet when it is written; defer it", f.Path, f.Owner)
		}
		if strings.HasPrefix(f.Path, binDir) != (f.Permissions == "0755") {
			t.Errorf("%s has permissions %s", f.Path, f.Permissions)
		}
	}
	if len(want) > 0 {
		t.Errorf("not written: %v", want)
	}
	for _, path := range []string{binDir + "setup", binDir + "cloud", configDir + "machine.env"} {
		if units := systemd.Setup() + systemd.Disk(); !strings.Contains(units, "="+path) {
			t.Errorf("no unit uses %s", path)
		}
	}
}

func TestTheDiskIsReportedOnlyWhenAsked(t *testing.T) {
	m := onAzure(t)
	m.Metric, m.SSHKey = nil, ""
	p, text := parse(t, m)
	if strings.Contains(text, "hypercache-disk.timer") || strings.Contains(text, "HC_METRIC=") || len(p.Keys) > 0 {
		t.Errorf("a machine without metric and SSH key has some:\n%s", text)
	}
	if want := "systemctl daemon-reload && systemctl enable --now hypercache.service"; len(p.RunCmd) != 1 || p.RunCmd[0] != want {
		t.Errorf("runs %q, want %q", p.RunCmd, want)
	}
}

func TestTheUserDataIsTheSameEveryTimeAndFits(t *testing.T) {
	first, err := Render(longest(t))
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%d of %d bytes", len(first), Limit)
	if again, _ := Render(longest(t)); !bytes.Equal(first, again) {
		t.Error("two renderings differ; each difference would replace a VM")
	}
	r, err := gzip.NewReader(bytes.NewReader(first))
	if err != nil {
		t.Fatal(err)
	}
	if !r.ModTime.IsZero() {
		t.Errorf("the header has the time %v", r.ModTime)
	}
	text, err := io.ReadAll(r)
	if want, _ := Text(longest(t)); err != nil || string(text) != want {
		t.Errorf("unpacked: %v\n%s", err, text)
	}
}

// longest is a machine with the longest names that the clouds allow and every setting that does not compress.
func longest(t *testing.T) Machine {
	m := onAzure(t)
	noise := rand.New(rand.NewSource(1))
	name := func(n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = "abcdefghijklmnopqrstuvwxyz0123456789"[noise.Intn(36)]
		}
		return string(b)
	}
	m.Hostname = name(63)
	m.Binary.URL = "https://" + name(63) + ".blob.core.windows.net/" + name(900)
	m.Binary.SHA256 = fmt.Sprintf("%064x", noise.Uint64())
	m.Secrets.GossipKey = "https://" + name(24) + ".vault.azure.net/secrets/" + name(127)
	m.Secrets.ClusterSecret = "https://" + name(24) + ".vault.azure.net/secrets/" + name(127)
	m.Secrets.Password = "https://" + name(24) + ".vault.azure.net/secrets/" + name(127)
	m.Metric.ResourceID = "/subscriptions/" + name(36) + "/resourceGroups/" + name(90) + "/providers/Microsoft.Compute/virtualMachines/" + name(64)
	m.SSHKey = "ssh-rsa " + name(1372) + " " + name(64) // RSA with 8192 bits
	m.Config = configOf(t, map[string]string{
		"cache.max_memory": "512gb", "cluster.write_acks": "quorum", "persistence.fsync": "everysec", "logging.format": "json",
		"logging.level": "info", "cluster.replication_factor": "3", "cache.eviction_policy": "allkeys-lru",
	})
	return m
}

func TestTooMuchUserDataIsRefused(t *testing.T) {
	m := onAWS(t)
	noise := rand.New(rand.NewSource(2))
	b := make([]byte, Limit)
	for i := range b {
		b[i] = byte('A' + noise.Intn(26))
	}
	m.Config += "# " + string(b) + "\n"
	if _, err := Render(m); err == nil || !strings.Contains(err.Error(), "16384") {
		t.Errorf("got %v, want a refusal that names the limit", err)
	}
}

func TestAllMistakesAreNamedAtOnce(t *testing.T) {
	m := Machine{
		Cloud: "gcp", Region: "West Europe", Hostname: "Node_1", Config: "cluster:\n  gossip_encrypt_key: c2VjcmV0\n  secret_file: /s\nauth:\n  password_file: /p\n",
		Binary: Binary{URL: "ftp://x/y", SHA256: "abc", Signed: true}, DataDevices: []string{"sdf", "/dev/a b"},
		Secrets: Secrets{GossipKey: "it's", ClusterSecret: "", Password: "a b"}, Metric: &Metric{}, SSHKey: "ssh-rsa AAAA\nssh-rsa BBBB",
	}
	_, err := Text(m)
	if err == nil {
		t.Fatal("accepted")
	}
	for _, want := range []string{
		`cloud "gcp"`, `region "West Europe"`, `hostname "Node_1"`, "cluster.gossip_encrypt_key", "cluster.secret_file",
		"auth.password_file", "ftp://x/y", `"abc"`, `password "a b"`,
		`"sdf"`, `"/dev/a b"`, `gossip key "it's"`, `cluster secret ""`, "namespace", "metric's node", "SSH key", "HC_GOSSIP_KEY",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in:\n%v", want, err)
		}
	}
	if strings.Contains(err.Error(), "c2VjcmV0") {
		t.Errorf("the error shows the secret:\n%v", err)
	}
}

func TestAMachineWithoutAPasswordIsToldOfNone(t *testing.T) {
	for _, m := range []Machine{onAWS(t), onAzure(t)} {
		m.Secrets.Password = ""
		if _, text := parse(t, m); !strings.Contains(text, "HC_PASSWORD=''\n") {
			t.Errorf("%s: machine.env has a password, or none is said", m.Cloud)
		}
	}
}

func TestWhatIsWrongForOneCloudOnly(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Machine)
		want   string
	}{
		"a secret without address":           {func(m *Machine) { m.Secrets.GossipKey = "gossip" }, "vault.azure.net"},
		"a password in place of where it is": {func(m *Machine) { m.Secrets.Password = "hunter22" }, `password "hunter22": want an address`},
		"a metric without VM":                {func(m *Machine) { m.Metric.ResourceID = "" }, "resource id"},
		"a signed http address":              {func(m *Machine) { m.Binary.URL = "http://a/b" }, "https://"},
		"no configuration":                   {func(m *Machine) { m.Config = "" }, "nodeconf.Render"},
		"no YAML":                            {func(m *Machine) { m.Config = "a: [" }, "configuration"},
		"a host only":                        {func(m *Machine) { m.Binary.URL = "https://a/" }, "binary"},
		"a password in the URL":              {func(m *Machine) { m.Binary.URL = "https://u:p@a/b" }, "binary"},
		"another secret":                     {func(m *Machine) { m.Config = "cluster:\n  rpc_auth_key: abc\n" }, "cluster.rpc_auth_key"},
	} {
		m := onAzure(t)
		c.change(&m)
		if _, err := Text(m); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: got %v, want %q in it", name, err, c.want)
		}
	}
}
