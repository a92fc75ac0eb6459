package azure

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
	kind   string
	inputs resource.PropertyMap
	rpc    *pulumirpc.RegisterResourceRequest
}

// recorder is a Pulumi engine that only notes what is registered, and an Azure that has one network.
type recorder struct {
	mu        sync.Mutex
	resources map[string]registered
	twice     []string
	calls     map[string]resource.PropertyMap // answers of look-ups; an absent one fails
	outputs   string                          // of the stack, as JSON
	hidden    []string                        // outputs that are Pulumi secrets
}

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
	r.resources[args.Name] = registered{args.TypeToken, args.Inputs, args.RegisterRPC}
	out := args.Inputs.Copy()
	for key, value := range out {
		if strings.HasSuffix(string(key), "Name") && string(key) != "resourceGroupName" || args.Name == "group" {
			out["name"] = value
		}
	}
	set := func(key resource.PropertyKey, value any) { out[key] = resource.NewPropertyValue(value) }
	switch lastPart(args.TypeToken) {
	case "ResourceGroup":
		out["name"] = args.Inputs["resourceGroupName"]
	case "VirtualMachine":
		set("identity", map[string]any{"principalId": "principal-" + args.Name, "tenantId": "tenant"})
		set("vmId", "vmid-"+args.Name)
	case "PublicIPAddress":
		set("ipAddress", "address-of-"+args.Name)
	case "RandomId":
		set("hex", "0a1b2c3d")
	case "RandomBytes":
		out["base64"] = resource.MakeSecret(resource.NewProperty(gossipValue))
	case "RandomPassword":
		value := map[string]string{"cluster-secret": secretValue, "password": wordValue}[args.Name]
		out["result"] = resource.MakeSecret(resource.NewProperty(value))
	}
	return "/id/" + args.Name, out, nil
}

func (r *recorder) Call(args pulumi.MockCallArgs) (resource.PropertyMap, error) {
	if out, ok := r.calls[lastPart(args.Token)]; ok {
		return out, nil
	}
	return nil, errors.New("not found")
}

func lastPart(s string) string { return plain(s[strings.LastIndex(s, ":")+1:]) }

var upload = regexp.MustCompile(`^program-[0-9a-f]{16}$`)

// plain is a resource's name without what depends on the program's bytes.
func plain(name string) string { return upload.ReplaceAllString(name, "program") }

func values(m map[string]any) resource.PropertyMap { return resource.NewPropertyMapFromMap(m) }

const subscription = "11111111-2222-3333-4444-555555555555"

func azure() map[string]resource.PropertyMap {
	return map[string]resource.PropertyMap{
		"getClientConfig": values(map[string]any{
			"clientId": "client", "objectId": "object", "subscriptionId": subscription, "tenantId": "tenant",
		}),
		"getVirtualNetwork": values(map[string]any{"name": "hub", "location": "West Europe"}),
		"getSubnet":         values(map[string]any{"addressPrefix": "10.0.7.0/24"}),
	}
}

// knobs is a stack's configuration as the CLI stores it, over the least that Azure needs.
func knobs(t *testing.T, set map[string]string) config.Config {
	t.Helper()
	all := map[string]string{"cloud": "azure", "region": "westeurope"}
	maps.Copy(all, set)
	c, err := config.Parse(func(key string) (string, bool) { v, ok := all[key]; return v, ok }, []string{"local", "azure"})
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
func run(t *testing.T, c config.Config, stack string, calls map[string]resource.PropertyMap) (*recorder, error) {
	t.Helper()
	root := t.TempDir()
	writeProgram(t, filepath.Join(root, "bin", "hypercache"), c.VM.Architecture)
	planned, err := plan.Build(c, stack)
	if err != nil {
		t.Fatal(err)
	}
	var cluster *Cluster
	r := &recorder{resources: map[string]registered{}, calls: calls}
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
	r, err := run(t, knobs(t, set), "test", azure())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *recorder) names() []string { return slices.Sorted(maps.Keys(r.resources)) }

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
	zipped, err := base64.StdEncoding.DecodeString(r.input(t, node+"-vm", "osProfile.customData").(string))
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
