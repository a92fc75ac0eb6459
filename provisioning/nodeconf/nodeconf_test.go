package nodeconf

import (
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"hypercache/node/config"
)

func sample() Node {
	return Node{
		ID: "node-1", Zone: "zone-a", ClusterName: "hypercache-local", BindAddr: "127.0.0.1", AdvertiseAddr: "127.0.0.1",
		RESPPort: 8080, HTTPPort: 9080, GossipPort: 7946, RPCPort: 7373,
		Seeds: []string{"127.0.0.1:7946", "127.0.0.1:7947", "127.0.0.1:7948"}, BootstrapExpect: 3, DataDir: "/data/node-1",
		Settings: map[string]string{"cache.max_memory": "512mb", "persistence.enabled": "true", "cluster.write_acks": "quorum"},
	}
}

func load(t *testing.T, text string) config.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "config.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Sources{Path: path})
	if err != nil {
		t.Fatalf("the node refuses the file:\n%s\n%v", text, err)
	}
	c.File = ""
	return c
}

func TestRenderedFileSaysWhatWasPlanned(t *testing.T) {
	text, err := Render(sample())
	if err != nil {
		t.Fatal(err)
	}
	c := load(t, text)
	if c.Server.NodeID != "node-1" || c.Network.RESPPort != 8080 || c.Network.HTTPPort != 9080 ||
		c.Network.GossipPort != 7946 || c.Network.RPCPort != 7373 || c.Network.AdvertiseAddr != "127.0.0.1" ||
		c.Network.RESPBindAddr != "127.0.0.1" || c.Cluster.Zone != "zone-a" || c.Cluster.Name != "hypercache-local" ||
		c.Cluster.BootstrapExpect != 3 || c.Persistence.DataDir != "/data/node-1" || c.Cache.MaxMemory != 512<<20 {
		t.Errorf("the node reads %+v from\n%s", c, text)
	}
	if want := sample().Seeds; !reflect.DeepEqual(c.Cluster.Seeds, want) {
		t.Errorf("seeds %v, want %v", c.Cluster.Seeds, want)
	}
}

func TestNamesThatLookLikeNumbersStayText(t *testing.T) {
	n := sample()
	n.ID, n.Zone, n.ClusterName = "7", "1", "42"
	text, err := Render(n)
	if err != nil {
		t.Fatal(err)
	}
	if c := load(t, text); c.Server.NodeID != "7" || c.Cluster.Zone != "1" || c.Cluster.Name != "42" {
		t.Errorf("the node reads %+v from\n%s", c, text)
	}
}

func TestRenderIsTheSameEveryTime(t *testing.T) {
	first, err := Render(sample())
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		if again, _ := Render(sample()); again != first {
			t.Fatalf("two renderings differ; each difference would restart the node:\n%s\n%s", first, again)
		}
	}
}

func TestEveryMistakeIsNamedAtOnce(t *testing.T) {
	n := sample()
	n.RESPPort = 70000
	n.Settings = map[string]string{"cache.max_memory": "lots", "cache.nonsense": "1"}
	_, err := Render(n)
	if err == nil {
		t.Fatal("three mistakes were accepted")
	}
	for _, want := range []string{"network.resp_port", "cache.max_memory", "cache.nonsense"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%s is not named in:\n%v", want, err)
		}
	}
}

func TestSettingsCannotContradictThePlan(t *testing.T) {
	for _, key := range []string{"network.resp_port", "server.node_id", "cluster.secret_file", "cluster.gossip_encrypt_key", "auth.password_file"} {
		n := sample()
		n.Settings = map[string]string{key: "1"}
		if _, err := Render(n); err == nil || !strings.Contains(err.Error(), key) {
			t.Errorf("settings with %s: got %v, want a refusal naming it", key, err)
		}
	}
}

func TestSecretsAreAddedOnTheMachineOnly(t *testing.T) {
	text, err := Render(sample())
	if err != nil {
		t.Fatal(err)
	}
	const key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
	full, err := AddSecrets(text, Secrets{GossipKey: key, SecretFile: "/somewhere/secret", PasswordFile: "/somewhere/password"})
	if err != nil {
		t.Fatal(err)
	}
	without, with := load(t, text), load(t, full)
	if with.Cluster.GossipEncryptKey != key || with.Cluster.SecretFile != "/somewhere/secret" || with.Auth.PasswordFile != "/somewhere/password" {
		t.Errorf("the node reads %+v, %+v", with.Cluster, with.Auth)
	}
	with.Cluster.GossipEncryptKey, with.Cluster.SecretFile, with.Auth.PasswordFile = "", "", ""
	if !reflect.DeepEqual(with, without) {
		t.Errorf("adding secrets changed something else:\n%+v\n%+v", with, without)
	}
	if none, err := AddSecrets(text, Secrets{}); err != nil || !reflect.DeepEqual(load(t, none), without) {
		t.Errorf("adding none changed something, %v:\n%s", err, none)
	}
}

func TestSecretsAreAddedToSectionsOnly(t *testing.T) {
	for _, section := range []string{"cluster", "auth"} {
		if _, err := AddSecrets(section+": nonsense\n", Secrets{}); err == nil || !strings.Contains(err.Error(), section+" is not a section") {
			t.Errorf("%s: got %v, want a refusal", section, err)
		}
	}
}
