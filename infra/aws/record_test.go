package aws

import (
	"bytes"
	"compress/gzip"
	"debug/elf"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// registered is one resource as the engine was asked for it.
type registered struct {
	kind, provider string
	inputs         resource.PropertyMap
	rpc            *pulumirpc.RegisterResourceRequest
}

// recorder is a Pulumi engine that only notes what is registered, and an AWS that answers look-ups.
type recorder struct {
	mu        sync.Mutex
	resources map[string]registered
	twice     []string
	answers   answers
	outputs   string   // of the stack, as JSON
	hidden    []string // outputs that are Pulumi secrets
}

// answers are those of AWS to look-ups; an absent one is an error.
type answers map[string]func(in map[string]any) map[string]any

// The true random values of a test run, by which they can be searched for.
const (
	gossipValue = "Z29zc2lwZ29zc2lwZ29zc2lwZ29zc2lwZ29zc2lwZ28="
	secretValue = "clustersecretclustersecretclustersecretclusters"
	wordValue   = "passwordpasswordpasswordpasswordpasswordpasswor"
)

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	args.Name = plain(args.Name)
	if _, ok := r.resources[args.Name]; ok {
		r.twice = append(r.twice, args.Name)
	}
	r.resources[args.Name] = registered{args.TypeToken, args.Provider, args.Inputs, args.RegisterRPC}
	out := args.Inputs.Copy()
	set := func(key resource.PropertyKey, value any) { out[key] = resource.NewPropertyValue(value) }
	set("arn", "arn:aws:test:::"+args.Name)
	switch lastPart(args.TypeToken) {
	case "Eip":
		set("publicIp", "address-of-"+args.Name)
	case "LoadBalancer":
		set("dnsName", "balancer.example")
	case "Role", "InstanceProfile":
		set("name", args.Name+"-name")
	case "RandomBytes":
		out["base64"] = resource.MakeSecret(resource.NewProperty(gossipValue))
	case "RandomPassword":
		value := map[string]string{"cluster-secret": secretValue, "password": wordValue}[args.Name]
		out["result"] = resource.MakeSecret(resource.NewProperty(value))
	}
	return args.Name + "-id", out, nil
}

func (r *recorder) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	answer, ok := r.answers[lastPart(args.Token)]
	if !ok || !strings.Contains(args.Provider, "::aws::") {
		return nil, errors.New("not found")
	}
	out := answer(args.Args.Mappable())
	if out == nil {
		return nil, errors.New("not found")
	}
	return resource.NewPropertyMapFromMap(out), nil
}

func lastPart(s string) string { return plain(s[strings.LastIndex(s, ":")+1:]) }

var upload = regexp.MustCompile(`^program-[0-9a-f]{16}$`)

// plain is a resource's name without what depends on the program's bytes.
func plain(name string) string { return upload.ReplaceAllString(name, "program") }

const newestImage = "ami-00000000000000001"

// ireland is AWS as these tests know it: one region, two sizes, and a network.
func ireland() answers {
	zones := []any{"eu-west-1a", "eu-west-1b", "eu-west-1c"}
	sizes := map[string]string{"m7i.large": "x86_64", "m7i.xlarge": "x86_64", "m7g.large": "arm64", "c7i.large": "x86_64"}
	subnets := map[string]string{"subnet-0000000a": "a 10.0.7.0/24", "subnet-0000000b": "b 10.0.8.0/24", "subnet-0000000c": "c 10.0.9.0/24"}
	return answers{
		"getAvailabilityZones": func(map[string]any) map[string]any { return map[string]any{"names": zones} },
		"getInstanceTypeOfferings": func(in map[string]any) map[string]any {
			size := in["filters"].([]any)[0].(map[string]any)["values"].([]any)[0].(string)
			switch {
			case size == "c7i.large":
				return map[string]any{"locations": zones[:2]}
			case sizes[size] == "":
				return map[string]any{"locations": []any{}}
			}
			return map[string]any{"locations": zones}
		},
		"getInstanceType": func(in map[string]any) map[string]any {
			return map[string]any{"supportedArchitectures": []any{sizes[in["instanceType"].(string)]}, "ebsOptimizedSupport": "default"}
		},
		"getAmi": func(in map[string]any) map[string]any {
			first := in["filters"].([]any)[0].(map[string]any)
			value := first["values"].([]any)[0].(string)
			switch {
			case first["name"] == "image-id" && value == "ami-0000000a":
				return map[string]any{"id": value, "architecture": "arm64"}
			case first["name"] == "image-id":
				return map[string]any{"id": value, "architecture": "x86_64"}
			case in["mostRecent"] != true || in["owners"] == nil:
				return nil
			}
			return map[string]any{"id": newestImage}
		},
		"getVpc": func(in map[string]any) map[string]any {
			return map[string]any{
				"id": in["id"], "cidrBlock": "10.0.0.0/16", "enableDnsSupport": true, "enableDnsHostnames": in["id"] == "vpc-0000000a",
			}
		},
		"getSubnet": func(in map[string]any) map[string]any {
			zone, cidr, ok := strings.Cut(subnets[in["id"].(string)], " ")
			if !ok {
				return nil
			}
			return map[string]any{"id": in["id"], "vpcId": "vpc-0000000a", "availabilityZone": "eu-west-1" + zone, "cidrBlock": cidr}
		},
	}
}

// knobs is a stack's configuration as the CLI stores it, over the least that AWS needs.
func knobs(t *testing.T, set map[string]string) config.Config {
	t.Helper()
	all := map[string]string{"cloud": "aws", "region": "eu-west-1"}
	maps.Copy(all, set)
	c, err := config.Parse(func(key string) (string, bool) { v, ok := all[key]; return v, ok }, []string{"local", "aws"})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// everything switches every extra on.
func everything() map[string]string {
	return map[string]string{
		"publicAddresses": "true", "clientCidrs": `["203.0.113.0/24","198.51.100.7/32"]`, "sshCidrs": `["198.51.100.0/24"]`,
		"portLayout": "uniform", "loadBalancer": "true", "dnsZone": "hypercache.internal", "spread": "true", "snapshotDays": "14",
		"alarmEmail": "oncall@example.com", "tags": `{"team":"platform"}`, "protectData": "true", "keepData": "true",
		"sshPublicKey": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ9 ops",
	}
}

// sealedOff leaves nodes no way out.
func sealedOff() map[string]string {
	return map[string]string{"nat": "none", "alarmEmail": "oncall@example.com"}
}

// theirs is a network that exists already.
func theirs() map[string]string {
	return map[string]string{
		"networkId": "vpc-0000000a", "subnetIds": `["subnet-0000000a","subnet-0000000b","subnet-0000000c"]`,
		"subnetCidrs": `["10.0.7.0/24","10.0.8.0/24","10.0.9.0/24"]`,
	}
}

// writeProgram writes a file that passes for a Linux program for amd64 or arm64.
func writeProgram(t *testing.T, path, architecture string) {
	t.Helper()
	h := elf.Header64{
		Type: uint16(elf.ET_EXEC), Version: uint32(elf.EV_CURRENT), Ehsize: 64,
		Machine: uint16(map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}[architecture]),
	}
	copy(h.Ident[:], elf.ELFMAG)
	h.Ident[elf.EI_CLASS], h.Ident[elf.EI_DATA], h.Ident[elf.EI_VERSION] = byte(elf.ELFCLASS64), byte(elf.ELFDATA2LSB), byte(elf.EV_CURRENT)
	var b bytes.Buffer
	if err := binary.Write(&b, binary.LittleEndian, h); err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, b.Bytes(), 0o700); err != nil {
		t.Fatal(err)
	}
}

// run registers a stack's cluster and returns what was registered.
func run(t *testing.T, c config.Config, stack string, a answers) (*recorder, error) {
	t.Helper()
	root := t.TempDir()
	writeProgram(t, filepath.Join(root, "bin", "hypercache"), c.VM.Architecture)
	planned, err := plan.Build(c, stack)
	if err != nil {
		t.Fatal(err)
	}
	var cluster *Cluster
	r := &recorder{resources: map[string]registered{}, answers: a}
	err = pulumi.RunErr(func(ctx *pulumi.Context) error {
		var err error
		cluster, err = New(ctx, "cluster", Args{Config: c, Plan: planned, Root: root, Stack: stack})
		if err == nil {
			pulumi.JSONMarshal(cluster.Outputs).ApplyT(func(text string) string { r.outputs = text; return text })
		}
		return err
	}, pulumi.WithMocks("hypercache", stack, r))
	if err == nil {
		for name, v := range cluster.Outputs {
			if out, ok := v.(pulumi.Output); ok && pulumi.IsSecret(out) {
				r.hidden = append(r.hidden, name)
			}
		}
	}
	return r, err
}

// deploy is run for a stack that must be possible.
func deploy(t *testing.T, set map[string]string) *recorder {
	t.Helper()
	r, err := run(t, knobs(t, set), "test", ireland())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// names are those of all children and of the component; the provider is neither.
func (r *recorder) names() []string {
	var out []string
	for name, res := range r.resources {
		if !strings.HasPrefix(res.kind, "pulumi:providers:") {
			out = append(out, name)
		}
	}
	slices.Sort(out)
	return out
}

// input is a registered input by its path, without the wrapping of secrets.
func (r *recorder) input(t *testing.T, name, path string) any {
	t.Helper()
	res, ok := r.resources[name]
	if !ok {
		t.Fatalf("%s is not registered, only %q", name, r.names())
	}
	p, err := resource.ParsePropertyPath(path)
	if err != nil {
		t.Fatal(err)
	}
	v, ok := p.Get(resource.NewProperty(res.inputs))
	if !ok {
		return nil
	}
	if v.IsSecret() {
		v = v.SecretValue().Element
	}
	return v.Mappable()
}

// expect compares inputs by their paths.
func (r *recorder) expect(t *testing.T, name string, want map[string]any) {
	t.Helper()
	for path, value := range want {
		if got := r.input(t, name, path); got != value {
			t.Errorf("%s: %s is %v, want %v", name, path, got, value)
		}
	}
}

func (r *recorder) dependencies(name string) []string {
	var out []string
	for _, urn := range r.resources[name].rpc.GetDependencies() {
		out = append(out, lastPart(urn))
	}
	slices.Sort(out)
	return out
}

// made is what a resource's inputs are made from: other resources of which outputs are in them.
func (r *recorder) made(name string) []string {
	var out []string
	for _, from := range r.resources[name].rpc.GetPropertyDependencies() {
		for _, urn := range from.GetUrns() {
			out = append(out, lastPart(urn))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// userData is what a node's VM boots with, as text.
func (r *recorder) userData(t *testing.T, node string) string {
	t.Helper()
	zipped, err := base64.StdEncoding.DecodeString(r.input(t, node+"-vm", "userDataBase64").(string))
	if err != nil {
		t.Fatal(err)
	}
	z, err := gzip.NewReader(bytes.NewReader(zipped))
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// text is a resource's inputs in one canonical line.
func (r *recorder) text(t *testing.T, name string) string {
	t.Helper()
	out, err := json.Marshal(r.resources[name].inputs.Mappable())
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}
