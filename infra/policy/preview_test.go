//go:build e2e

package main

import (
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"hypercache/infra/policy/rules"
)

// previewLimit bounds one run of the CLI, a cold compilation of program and pack included.
const previewLimit = 8 * time.Minute

// project is a Pulumi project in a directory of its own, with links to what it takes from the checkout.
type project struct {
	t    *testing.T
	root string // of the checkout
	dir  string
	env  []string
}

func newProject(t *testing.T, linked ...string) *project {
	t.Helper()
	root, err := filepath.Abs(filepath.Join("..", ".."))
	if err != nil {
		t.Fatal(err)
	}
	p := &project{t: t, root: root, dir: t.TempDir()}
	for _, name := range linked {
		if err := os.Symlink(filepath.Join(root, name), filepath.Join(p.dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	p.env = append(os.Environ(), "PULUMI_BACKEND_URL=file://"+t.TempDir(), "PULUMI_HOME="+t.TempDir(), "PULUMI_CONFIG_PASSPHRASE=e2e")
	return p
}

func (p *project) write(name, text string) {
	p.t.Helper()
	path := filepath.Join(p.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		p.t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		p.t.Fatal(err)
	}
}

func (p *project) pulumi(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), previewLimit)
	defer cancel()
	cmd := exec.CommandContext(ctx, "pulumi", append(args, "--non-interactive", "--color=never")...)
	cmd.Dir, cmd.Env = p.dir, p.env
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	began := time.Now()
	err := cmd.Run()
	p.t.Logf("pulumi %s: %v, %v", strings.Join(args, " "), time.Since(began).Round(100*time.Millisecond), err)
	return out.String(), err
}

func (p *project) must(args ...string) string {
	p.t.Helper()
	out, err := p.pulumi(args...)
	if err != nil {
		p.t.Fatalf("pulumi %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return out
}

// preview runs one with this pack.
func (p *project) preview(args ...string) (string, error) {
	return p.pulumi(append([]string{"preview", "-s", "e2e", "--policy-pack", filepath.Join("infra", "policy")}, args...)...)
}

// awaitNoPack fails when a pack of this project outlives the CLI that started it.
func (p *project) awaitNoPack() {
	p.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(15 * time.Second)
	for {
		left := p.packs()
		if len(left) == 0 {
			return
		}
		select {
		case <-deadline:
			p.t.Fatalf("still there after the preview: %v", left)
		case <-tick.C:
		}
	}
}

// packs are the running programs that the language host keeps under this project's PULUMI_HOME.
func (p *project) packs() []string {
	var home string
	for _, v := range p.env {
		if after, ok := strings.CutPrefix(v, "PULUMI_HOME="); ok {
			home = after
		}
	}
	var running []string
	links, _ := filepath.Glob("/proc/[0-9]*/exe")
	for _, link := range links {
		if exe, err := os.Readlink(link); err == nil && strings.HasPrefix(exe, home+string(filepath.Separator)) {
			running = append(running, link)
		}
	}
	return running
}

func TestLocalStackPasses(t *testing.T) {
	p := newProject(t, "go.mod", "go.sum", "node", "provisioning", "infra", "bin", "Pulumi.yaml")
	p.must("stack", "init", "e2e")
	for range 2 { // the second finds program and pack compiled
		out, err := p.preview()
		if err != nil || !strings.Contains(out, "hypercache@v1.0.0 (local: infra/policy)") {
			t.Fatalf("%v, want a preview that passes the pack\n%s", err, out)
		}
		p.awaitNoPack()
	}
}

// The engine shows components to a pack as it shows other resources, and needs no provider for them: a program can claim
// to make anything.
const claims = `package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"
)

type claim struct{ pulumi.ResourceState }

func main() {
	pulumi.Run(func(ctx *pulumi.Context) error {
		make := func(token, name string, props pulumi.Map) error {
			r := &claim{}
			if err := ctx.RegisterComponentResourceV2(token, name, props, r); err != nil {
				return err
			}
			return ctx.RegisterResourceOutputs(r, props)
		}
		safe := config.New(ctx, "").RequireBool("safe")
		choose := func(good, bad pulumi.Input) pulumi.Input {
			if safe {
				return good
			}
			return bad
		}
		tags := choose(pulumi.StringMap{"Name": pulumi.String("n"), "Cluster": pulumi.String("c")}, pulumi.StringMap{})
		on := choose(pulumi.Bool(true), pulumi.Bool(false))
		ctx.Export("note", choose(pulumi.String("well"), pulumi.String("DB_PASSWORD=hunter22")))
		for _, r := range []struct {
			token, name string
			props       pulumi.Map
		}{
			{"aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule", "rule", pulumi.Map{
				"cidrIpv4": choose(pulumi.String("10.0.0.0/16"), pulumi.String("0.0.0.0/0")), "ipProtocol": pulumi.String("tcp"),
				"fromPort": pulumi.Int(22), "toPort": pulumi.Int(7946), "tags": tags}},
			{"aws:ec2/instance:Instance", "vm", pulumi.Map{"tags": tags, "rootBlockDevice": pulumi.Map{"encrypted": on},
				"metadataOptions": pulumi.Map{"httpTokens": choose(pulumi.String("required"), pulumi.String("optional")),
					"httpPutResponseHopLimit": pulumi.Int(1)},
				"userDataBase64": choose(pulumi.String("I2Nsb3VkLWNvbmZpZw=="), pulumi.ToSecret(pulumi.String("x")))}},
			{"azure-native:compute:VirtualMachine", "azure-vm", pulumi.Map{"tags": tags, "securityProfile": pulumi.Map{
				"securityType": pulumi.String("TrustedLaunch"),
				"uefiSettings": pulumi.Map{"secureBootEnabled": on, "vTpmEnabled": on}}}},
			{"azure-native:storage:StorageAccount", "account", pulumi.Map{"tags": tags, "minimumTlsVersion": pulumi.String("TLS1_2"),
				"allowBlobPublicAccess": choose(pulumi.Bool(false), pulumi.Bool(true))}},
			{"aws:lb/loadBalancer:LoadBalancer", "balancer", pulumi.Map{"tags": tags, "internal": on}},
			{"aws:secretsmanager/secretVersion:SecretVersion", "version", pulumi.Map{
				"secretString": choose(pulumi.ToSecret(pulumi.String("x")), pulumi.String("x"))}},
			{"aws:s3/bucketV2:BucketV2", "bucket", pulumi.Map{"bucket": pulumi.String("b"), "tags": tags}},
			{"aws:s3/bucketPublicAccessBlock:BucketPublicAccessBlock", "block", pulumi.Map{
				"bucket":          choose(pulumi.String("b"), pulumi.String("other")),
				"blockPublicAcls": on, "blockPublicPolicy": on, "ignorePublicAcls": on, "restrictPublicBuckets": on}},
		} {
			if err := make(r.token, r.name, r.props); err != nil {
				return err
			}
		}
		return nil
	})
}
`

func TestEveryRuleReachesTheEngine(t *testing.T) {
	p := newProject(t, "go.mod", "go.sum", "infra")
	p.write("Pulumi.yaml", "name: claims\nruntime: go\nmain: program\n")
	p.write("program/main.go", claims)
	p.must("stack", "init", "e2e")
	p.must("config", "set", "-s", "e2e", "safe", "true")
	if out, err := p.preview(); err != nil {
		t.Fatalf("a safe stack was stopped: %v\n%s", err, out)
	}
	p.must("config", "set", "-s", "e2e", "safe", "false")
	out, err := p.preview()
	if err == nil {
		t.Errorf("an unsafe stack passed\n%s", out)
	}
	var want []string
	for _, r := range rules.All() {
		want = append(want, r.Name)
	}
	for _, r := range rules.Stacks() {
		want = append(want, r.Name)
	}
	for _, name := range want {
		if !strings.Contains(out, "[mandatory]  "+name+"  (") {
			t.Errorf("rule %s stopped nothing", name)
		}
	}
	if t.Failed() {
		t.Log(out)
	}
	p.awaitNoPack()

	// Who must have SSH from a public range takes that one rule back, in a file, and keeps the others.
	p.write("relaxed.json", `{"admin-ports-stay-private": "advisory"}`)
	out, err = p.preview("--policy-pack-config", "relaxed.json")
	if err == nil || !strings.Contains(out, "[advisory]  admin-ports-stay-private  (") ||
		!strings.Contains(out, "[mandatory]  internal-ports-stay-private  (") {
		t.Errorf("%v, want SSH to be a warning and gossip to stop the preview\n%s", err, out)
	}
}
