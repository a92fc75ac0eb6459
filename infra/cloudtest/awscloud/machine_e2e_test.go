//go:build e2e

package awscloud

import (
	"context"
	"fmt"
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

// openOnLab is an account whose machines run.
func openOnLab(t *testing.T) (*account, *fabric.Lab) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	name, err := vmimage.Build(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	lab, err := fabric.Open(ctx, fabric.Options{
		Name: "awsct", Dir: t.TempDir(), Image: name, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	a := &account{t: t, clock: &clock{}}
	if a.cloud, err = New(Options{Compute: lab}); err != nil {
		t.Fatal(err)
	}
	if a.Driver, err = driver.Serve(a.cloud.Provider(), m{"region": home}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(a.Close)
	return a, lab
}

// fetch is what a machine does with its identity: credentials from the metadata service, then a signed request.
const fetch = `#!/bin/sh
set -eu
md=http://169.254.169.254/latest
token=$(curl -sf -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' $md/api/token)
get() { curl -sf -H "X-aws-ec2-metadata-token: $token" "$md/meta-data/$1"; }
role=$(get iam/security-credentials/)
eval "$(get iam/security-credentials/$role | sed -nE 's/^ *"(AccessKeyId|SecretAccessKey|Token)": "(.*)",?$/\1=\2/p')"
curl -sS --max-time 20 --aws-sigv4 aws:amz:%[1]s:s3 --user "$AccessKeyId:$SecretAccessKey" -H "X-Amz-Security-Token: $Token" \
  -H "x-amz-content-sha256: %[2]s" https://store-1.s3.%[1]s.amazonaws.com/bin/cache
`

// TestAMachineFetchesItsProgramWithItsIdentity is the whole way: user data, cloud-init, names, the metadata service,
// TLS, the signature of a curl that nobody here wrote, the role's policy, the route, the security group, and a volume
// that comes after the boot.
func TestAMachineFetchesItsProgramWithItsIdentity(t *testing.T) {
	a, lab := openOnLab(t)
	a.network().internet().egress().store().identity(allow([]string{"s3:GetObject"}, "arn:aws:s3:::store-1/bin/*"))
	script := fmt.Sprintf(fetch, home, sha(""))
	data := "#cloud-config\nwrite_files:\n- path: /usr/local/bin/fetch\n  permissions: '0755'\n  content: |\n    " +
		strings.ReplaceAll(strings.TrimSpace(script), "\n", "\n    ") + "\n"
	node := a.make(instanceKind, "node", a.node(m{
		"iamInstanceProfile": a.id("profile"), "userData": data, "metadataOptions": m{"httpTokens": "required"},
	}))
	a.make(volumeKind, "disk", m{"availabilityZone": home + "a", "size": 1})
	a.make(attachType, "attach", m{
		"deviceName": "/dev/sdf", "instanceId": node.ID, "volumeId": a.id("disk"),
		"stopInstanceBeforeDetaching": true,
	})
	inside := func(args ...string) (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), bootLimit)
		defer cancel()
		out, err := lab.Exec(ctx, node.ID, args...)
		return strings.TrimSpace(out), err
	}
	if out, err := inside("cloud-init", "status", "--wait"); err != nil {
		t.Fatalf("cloud-init: %v %s\n%s", err, out, lab.Console(t.Context(), node.ID))
	}
	if out, err := inside("/usr/local/bin/fetch"); err != nil || out != "program" {
		t.Errorf("fetch: %v, %q\n%s", err, out, a.cloud.Reaches("node", "s3"))
	}
	link := volumeLinks(a.id("disk"))[0]
	if out, err := inside("blockdev", "--getsize64", link); err != nil || out != "1073741824" {
		t.Errorf("the disk behind %s: %v, %q", link, err, out)
	}
	if err := a.Delete("out"); err != nil {
		t.Fatal(err)
	}
	if out, err := inside("/usr/local/bin/fetch"); err == nil {
		t.Errorf("without an egress rule it fetches %q", out)
	}
	if err := a.Destroy(); err != nil {
		t.Fatal(err)
	}
	if left := a.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("leftovers %v", left)
	}
}
