//go:build e2e && mutation

package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"

	"hypercache/infra/cloudtest/cloud"
)

// mutation takes one thing away that a cluster needs. The deployment or the checks must find it.
type mutation struct {
	name      string
	intercept func(stage, token string, c *cloud.Call) error
	found     string // is in what the CLI, the VMs or the checks then say
}

// dialect is where a cloud has what mutations change.
type dialect struct {
	vm, userData   string // the type of VMs, and the input with their user data
	upload, source string // the type of the uploaded program, and its input
	dropRule       func(row string) func(stage, token string, c *cloud.Call) error
	dropRight      func(stage, token string, c *cloud.Call) error // to read the secrets
}

func TestMutationsOnAWS(t *testing.T) {
	mutate(t, awsSite, dialect{
		vm: "aws:ec2/instance:Instance", userData: "userDataBase64",
		upload: "aws:s3/bucketObjectv2:BucketObjectv2", source: "source",
		dropRule: func(row string) func(stage, token string, c *cloud.Call) error {
			return func(stage, token string, c *cloud.Call) error {
				if stage == cloud.StageCreate && token == "aws:vpc/securityGroupIngressRule:SecurityGroupIngressRule" &&
					strings.HasPrefix(c.Name, "rule-"+row+"-10") {
					return cloud.ErrSkip
				}
				return nil
			}
		},
		dropRight: func(stage, token string, c *cloud.Call) error {
			if stage == cloud.StageCreate && token == "aws:iam/rolePolicy:RolePolicy" {
				policy := strings.ReplaceAll(c.Inputs["policy"].StringValue(), "secretsmanager:GetSecretValue", "secretsmanager:DescribeSecret")
				c.Inputs["policy"] = resource.NewProperty(policy)
			}
			return nil
		},
	})
}

func TestMutationsOnAzure(t *testing.T) {
	mutate(t, azureSite, dialect{
		vm: "azure-native:compute:VirtualMachine", userData: "osProfile.customData",
		upload: "azure-native:storage:Blob", source: "source",
		dropRule: func(row string) func(stage, token string, c *cloud.Call) error {
			return func(stage, token string, c *cloud.Call) error {
				if stage == cloud.StageCreate && token == "azure-native:network:NetworkSecurityGroup" {
					rules := slices.DeleteFunc(slices.Clone(c.Inputs["securityRules"].ArrayValue()), func(r resource.PropertyValue) bool {
						return r.ObjectValue()["name"].StringValue() == row
					})
					c.Inputs["securityRules"] = resource.NewProperty(rules)
				}
				return nil
			}
		},
		dropRight: func(stage, token string, c *cloud.Call) error {
			if stage == cloud.StageCreate && strings.HasSuffix(c.Name, "-secrets-reader") {
				return cloud.ErrSkip
			}
			return nil
		},
	})
}

// mutate deploys once for each mutation, in a stack of its own, and wants it found.
func mutate(t *testing.T, s site, d dialect) {
	for _, m := range mutations(t, s, d) {
		t.Run(m.name, func(t *testing.T) {
			v := newVMStack(t, s)
			v.set("readyTimeout", "60")
			v.cloud.Provider().SetIntercept(m.intercept)
			said := v.findings()
			v.cloud.Provider().SetIntercept(nil)
			v.leave()
			v.pulumi("destroy", "-s", "e2e", "--yes", "--skip-preview")
			if !strings.Contains(said, m.found) {
				t.Fatalf("not found; want %q in\n%s", m.found, said)
			}
			t.Logf("found: %s", lineWith(said, m.found))
		})
	}
}

func lineWith(text, part string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, part) {
			return strings.TrimSpace(line)
		}
	}
	return ""
}

// accepted is what findings says of a deployment without a fault.
const accepted = "everything was accepted"

// findings is what a deployment and the checks say is wrong.
func (v *vmStack) findings() string {
	out, err := v.try("up", "-s", "e2e", "--yes", "--skip-preview")
	if err != nil {
		for i := range v.site.nodes {
			if id := v.cloud.machine(fmt.Sprintf("node-%d", i+1)); id != "" {
				out += v.lab.Console(v.t.Context(), id)
			}
		}
		return out
	}
	said := []string{accepted}
	for _, err := range append(v.checklist(), v.firewall()...) {
		said = append(said, err.Error())
	}
	return strings.Join(said, "\n")
}

func mutations(t *testing.T, s site, d dialect) []mutation {
	var out []mutation
	for row, found := range map[string]string{
		"resp": "RESP on 8080 does not answer", "http": "was not ready within", "gossip-tcp": "was not ready within",
		"gossip-udp": "no packet has passed by a rule for gossip-udp", "rpc": "was not ready within",
	} {
		out = append(out, mutation{"no rule for " + row, d.dropRule(row), found})
	}
	for i := range 3 {
		seed := fmt.Sprintf("- %q", s.nodes[i]+":7946")
		out = append(out, mutation{fmt.Sprintf("seed %d is missing", i+1), d.edit(t, seed, "# a seed"), "want advertise_addr"})
	}
	tampered := d.tamper(t)
	unchecked := d.edit(t, `if [ "$got" != "$HC_BINARY_SHA256" ]; then`, "if false; then")
	return append(out,
		mutation{"the data disk is not mounted", d.edit(t, "mount -o nodev,nosuid,noexec,noatime", "true"), "the data is not on a disk of its own"},
		mutation{"another program is in the store", tampered, "It is not used"},
		mutation{"another program is in the store and the checksum is not looked at", func(stage, token string, c *cloud.Call) error {
			return errors.Join(tampered(stage, token, c), unchecked(stage, token, c))
		}, accepted}, // so the mutation before it is found by the checksum and nothing else
		mutation{"no right to read the secrets", d.dropRight, "was not ready within"},
	)
}

// edit replaces a text in the user data of every VM.
func (d dialect) edit(t *testing.T, what, by string) func(stage, token string, c *cloud.Call) error {
	return func(stage, token string, c *cloud.Call) error {
		if stage != cloud.StageCreate || token != d.vm {
			return nil
		}
		path, err := resource.ParsePropertyPath(d.userData)
		if err != nil {
			return err
		}
		held, ok := path.Get(resource.NewProperty(c.Inputs))
		if !ok || !held.IsString() {
			return fmt.Errorf("%s has no %s", c.Name, d.userData)
		}
		text, err := unpack(held.StringValue())
		if err != nil {
			return err
		}
		if !strings.Contains(text, what) {
			t.Errorf("there is no %q in the user data", what)
		}
		packed, err := pack(strings.ReplaceAll(text, what, by))
		if err != nil {
			return err
		}
		if !path.Set(resource.NewProperty(c.Inputs), resource.NewProperty(packed)) {
			return fmt.Errorf("cannot change %s of %s", d.userData, c.Name)
		}
		return nil
	}
}

func unpack(data string) (string, error) {
	raw, err := base64.StdEncoding.DecodeString(data)
	if err != nil {
		return "", err
	}
	z, err := gzip.NewReader(bytes.NewReader(raw))
	if err != nil {
		return "", err
	}
	text, err := io.ReadAll(z)
	return string(text), err
}

func pack(text string) (string, error) {
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := io.WriteString(z, text); err != nil {
		return "", err
	}
	if err := z.Close(); err != nil {
		return "", err
	}
	return base64.StdEncoding.EncodeToString(b.Bytes()), nil
}

// tamper puts a program with one byte more into the store.
func (d dialect) tamper(t *testing.T) func(stage, token string, c *cloud.Call) error {
	good, err := os.ReadFile(filepath.Join("..", "..", "bin", "hypercache"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "program")
	if err := os.WriteFile(path, append(good, 'x'), 0o600); err != nil {
		t.Fatal(err)
	}
	return func(stage, token string, c *cloud.Call) error {
		if stage != cloud.StageCreate || token != d.upload {
			return nil
		}
		other, err := asset.FromPath(path)
		if err != nil {
			return err
		}
		c.Inputs[resource.PropertyKey(d.source)] = resource.NewProperty(other)
		return nil
	}
}
