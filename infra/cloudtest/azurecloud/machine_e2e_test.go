//go:build e2e

package azurecloud

import (
	"context"
	"io"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"hypercache/infra/cloudtest/cloud/driver"
	"hypercache/infra/cloudtest/fabric"
	vmimage "hypercache/infra/cloudtest/image"
)

// bootLimit bounds a machine's way to a finished cloud-init.
const bootLimit = 3 * time.Minute

// onLab is a network whose machines run.
func onLab(t *testing.T) (*lab, *fabric.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	name, err := vmimage.Build(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	below, err := fabric.Open(ctx, fabric.Options{
		Name: "azurect", Dir: t.TempDir(), Image: name, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := below.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	k := &lab{t: t}
	if k.cloud, err = New(Options{Compute: below}); err != nil {
		t.Fatal(err)
	}
	if k.Driver, err = driver.Serve(k.cloud.Provider(), m{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(k.Close)
	k.must(groupType, "group", m{"resourceGroupName": "lab", "location": home})
	k.must(firewallType, "fw", firewallIn())
	k.must(vnetType, "net", vnetIn())
	k.must(subnetType, "subnet", k.subnetIn())
	return k, below
}

// fetch is what a machine does with its identity: a token for each store, then the blob and the secret. And it keeps a
// file on its data disk.
const fetch = `#cloud-config
write_files:
- path: /usr/local/bin/fetch
  permissions: '0755'
  content: |
    #!/bin/sh
    set -eu
    token() {
      curl -sf -H Metadata:true \
        "http://169.254.169.254/metadata/identity/oauth2/token?api-version=2018-02-01&resource=$1" |
        sed -E 's/.*"access_token":"([^"]*)".*/\1/'
    }
    get() { curl -sSf --max-time 20 -H "Authorization: Bearer $(token "$1")" -H 'x-ms-version: 2020-10-02' "$2"; }
    get https://storage.azure.com/ https://labstore1.blob.core.windows.net/program/bin/hypercache
    get https://vault.azure.net 'https://labvault1.vault.azure.net/secrets/gossip-key?api-version=7.4'
runcmd:
- [sh, -c, 'blkid /dev/disk/azure/scsi1/lun0 || mkfs.ext4 -q /dev/disk/azure/scsi1/lun0']
- [sh, -c, 'mount /dev/disk/azure/data/by-lun/0 /mnt && date >> /mnt/boots']
- [sh, -c, 'systemd-run --unit=listen python3 -m http.server 8080']
`

// TestMachinesFetchWithTheirIdentity is the whole way: custom data, cloud-init, names, the metadata service, TLS,
// tokens, roles, service endpoints, security groups that change under running machines, and a data disk that outlives
// its machine.
func TestMachinesFetchWithTheirIdentity(t *testing.T) {
	k, below := onLab(t)
	k.store("program\n")
	k.must(vaultType, "vault", k.vaultIn())
	k.secret("c2VjcmV0")
	inside := func(vm string, args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
		defer cancel()
		out, err := below.Exec(ctx, k.machine(vm), args...)
		return strings.TrimSpace(out), err
	}
	boot := func(n string) {
		began := time.Now()
		vm := k.must(vmType, "node"+n, with(k.vmIn("node"+n, n, "nic"+n, "disk"+n), "osProfile.customData",
			custom(fetch)))
		if out, err := inside("node"+n, "cloud-init", "status", "--wait"); err != nil {
			t.Fatalf("cloud-init: %v %s\n%s", err, out, below.Console(t.Context(), k.machine("node"+n)))
		}
		t.Logf("node%s booted in %v", n, time.Since(began).Round(100*time.Millisecond))
		k.must(roleType, "program"+n, k.grant("", principalOf(vm), readBlobs, k.id("box")))
		k.must(roleType, "secrets"+n, k.grant("", principalOf(vm), readSecrets, k.id("vault")))
	}
	for _, n := range []string{"1", "2"} {
		k.must(nicType, "nic"+n, k.nicIn("10.0.1."+map[string]string{"1": "4", "2": "5"}[n]))
		k.must(diskType, "disk"+n, with(diskIn("disk"+n, n), "diskSizeGB", 1))
		boot(n)
	}
	out, err := inside("node1", "fetch")
	if err != nil || !strings.HasPrefix(out, "program") || !strings.Contains(out, `"value":"c2VjcmV0"`) {
		t.Errorf("fetch: %v, %q", err, out)
	}
	const neighbour = "http://10.0.1.5:8080/"
	if out, err := inside("node1", "curl", "-sf", "-o", "/dev/null", "--max-time", "10", neighbour); err != nil {
		t.Errorf("the neighbour's open port: %v %s", err, out)
	}
	if err := k.cloud.RemoveRule(t.Context(), "fw", "clients"); err != nil {
		t.Fatal(err)
	}
	if _, err := inside("node1", "curl", "-sf", "-o", "/dev/null", "--max-time", "3", neighbour); err == nil {
		t.Error("without the rule the neighbour still answers")
	}
	k.mustDelete("program1", "secrets1")
	if out, err := inside("node1", "fetch"); err == nil {
		t.Errorf("without a role it fetches %q", out)
	}
	k.mustDelete("node1")
	boot("1")
	if out, err := inside("node1", "wc", "-l", "/mnt/boots"); err != nil || !strings.HasPrefix(out, "2 ") {
		t.Errorf("the data disk remembers %q, %v; want two boots", out, err)
	}
	k.mustDelete("group")
	if left := k.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("leftovers %v", left)
	}
}
