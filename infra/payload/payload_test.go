package payload

import (
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/infra/config"
	"hypercache/infra/plan"
	"hypercache/provisioning/cloudinit"
)

// elfHeader is the shortest Linux program that says what it runs on.
func elfHeader(machine byte) []byte {
	h := make([]byte, 64)
	copy(h, "\x7fELF\x02\x01\x01")
	h[16], h[18], h[20], h[52], h[54], h[58] = 2, machine, 1, 64, 56, 64
	return h
}

const amd64, arm64 = 0x3e, 0xb7

func prepare(t *testing.T, keys map[string]string, binary []byte) (Payload, error) {
	t.Helper()
	root := t.TempDir()
	if binary != nil {
		if err := os.MkdirAll(filepath.Join(root, "bin"), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "bin", "hypercache"), binary, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	c, err := config.Parse(func(key string) (string, bool) {
		v, ok := map[string]string{"cloud": "azure", "region": "westeurope"}[key]
		if own, set := keys[key]; set {
			v, ok = own, set
		}
		return v, ok
	}, []string{"azure"})
	if err != nil {
		t.Fatal(err)
	}
	p, err := plan.Build(c, "test")
	if err != nil {
		t.Fatal(err)
	}
	return Prepare(c, p, root)
}

func TestAProgramForOtherMachinesIsRefused(t *testing.T) {
	for name, tt := range map[string]struct {
		binary []byte
		keys   map[string]string
		want   string
	}{
		"none":               {nil, nil, "make bin/hypercache"},
		"a script":           {[]byte("#!/bin/sh\n"), nil, "is not a Linux program"},
		"of another kind":    {elfHeader(arm64), nil, "is built for EM_AARCH64 and the VMs are amd64"},
		"amd64 on arm64":     {elfHeader(amd64), map[string]string{"architecture": "arm64"}, "GOARCH=arm64"},
		"a node key unknown": {elfHeader(amd64), map[string]string{"settings": `{"cache.nonsense": 1}`}, "cache.nonsense"},
		"TLS":                {elfHeader(amd64), map[string]string{"settings": `{"network.tls_enabled": true}`}, "no certificates"},
	} {
		if _, err := prepare(t, tt.keys, tt.binary); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: got %v, want %q", name, err, tt.want)
		}
	}
	if _, err := prepare(t, map[string]string{"architecture": "arm64"}, elfHeader(arm64)); err != nil {
		t.Errorf("the right one: %v", err)
	}
}

func TestOtherBytesAreAnotherKeyAndAnotherResource(t *testing.T) {
	one, err := prepare(t, nil, elfHeader(amd64))
	if err != nil {
		t.Fatal(err)
	}
	other, err := prepare(t, nil, append(elfHeader(amd64), 0))
	if err != nil {
		t.Fatal(err)
	}
	again, err := prepare(t, nil, elfHeader(amd64))
	if err != nil {
		t.Fatal(err)
	}
	if one.Program.Key() == other.Program.Key() || one.Program.Resource() == other.Program.Resource() {
		t.Errorf("%s and %s", one.Program.Key(), other.Program.Key())
	}
	if one.Program.Key() != again.Program.Key() || one.Program.Resource() != again.Program.Resource() {
		t.Errorf("going back gives %s in place of %s", again.Program.Key(), one.Program.Key())
	}
	if len(one.Configs) != 3 || !strings.Contains(one.Configs[1], `zone: "2"`) {
		t.Errorf("configurations: %q", one.Configs)
	}
}

func TestTriggerChangesWithEveryPart(t *testing.T) {
	seen := map[string]bool{Trigger("a", "b"): true}
	for _, parts := range [][]string{{"ab", ""}, {"a", "c"}, {"b", "a"}, {"a", "b", ""}} {
		if seen[Trigger(parts...)] {
			t.Errorf("%q triggers nothing", parts)
		}
		seen[Trigger(parts...)] = true
	}
}

func TestUserDataIsBase64OfGzip(t *testing.T) {
	text, err := UserData(cloudinit.Machine{
		Cloud: "azure", Region: "westeurope", Hostname: "node-1", Config: "server:\n  node_id: \"node-1\"\n",
		Binary:  cloudinit.Binary{URL: "https://example.com/x", SHA256: strings.Repeat("a", 64)},
		Secrets: cloudinit.Secrets{GossipKey: "https://v.vault.azure.net/secrets/a", ClusterSecret: "https://v.vault.azure.net/secrets/b"},
	})
	if err != nil {
		t.Fatal(err)
	}
	if raw, err := base64.StdEncoding.DecodeString(text); err != nil || len(raw) < 2 || raw[0] != 0x1f || raw[1] != 0x8b {
		t.Errorf("%.40s, %v", text, err)
	}
}
