package local

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// recorder is a Pulumi engine that only notes what is registered.
type recorder struct {
	mu    sync.Mutex
	seen  []string // "type name" in order
	under map[string]string
	after map[string][]string
	in    map[string]resource.PropertyMap
}

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen = append(r.seen, args.TypeToken+" "+args.Name)
	r.under[args.Name] = lastPart(args.RegisterRPC.GetParent())
	for _, urn := range args.RegisterRPC.GetDependencies() {
		r.after[args.Name] = append(r.after[args.Name], lastPart(urn))
	}
	slices.Sort(r.after[args.Name])
	r.in[args.Name] = args.Inputs
	out := args.Inputs.Copy()
	if args.TypeToken == siteType {
		out["gossipKey"] = resource.MakeSecret(resource.NewProperty("gossip"))
		out["clusterSecret"] = resource.MakeSecret(resource.NewProperty("secret"))
		if args.Inputs.HasValue("withPassword") {
			out["password"] = resource.MakeSecret(resource.NewProperty("sesame"))
		}
	}
	return args.Name, out, nil
}

func (r *recorder) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func lastPart(urn string) string { return urn[strings.LastIndex(urn, ":")+1:] }

func stackConfig(nodes int) config.Config {
	return config.Config{
		Cloud: "local", NodeCount: nodes, Zones: []string{"a", "b", "c"}, Binary: "bin/hypercache",
		Settings:     map[string]string{"cluster.write_acks": "quorum"},
		ReadyTimeout: time.Minute, DrainTimeout: 2 * time.Minute, StopTimeout: 30 * time.Second,
	}
}

// deploy runs New for a stack and returns what it registered.
func deploy(t *testing.T, c config.Config) (*recorder, *Cluster, error) {
	t.Helper()
	root := t.TempDir()
	if err := os.MkdirAll(filepath.Join(root, "bin"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(root, "bin", "hypercache"), []byte("program"), 0o700); err != nil {
		t.Fatal(err)
	}
	r := &recorder{under: map[string]string{}, after: map[string][]string{}, in: map[string]resource.PropertyMap{}}
	var cluster *Cluster
	planned, err := plan.Build(c, "test")
	if err != nil {
		t.Fatal(err)
	}
	err = pulumi.RunErr(func(ctx *pulumi.Context) error {
		var err error
		cluster, err = New(ctx, "cluster", Args{Config: c, Plan: planned, Root: root, Stack: "test"})
		return err
	}, pulumi.WithMocks("hypercache", "test", r))
	return r, cluster, err
}

func TestEveryChildIsUnderTheComponentInAChain(t *testing.T) {
	r, _, err := deploy(t, stackConfig(3))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"hypercache:local:Cluster cluster", "hypercache:index:Site site",
		"hypercache:index:Node node-1", "hypercache:index:Node node-2", "hypercache:index:Node node-3", "hypercache:index:Roster roster",
	}
	slices.Sort(want)
	got := slices.Clone(r.seen)
	slices.Sort(got)
	if !slices.Equal(got, want) {
		t.Errorf("registered %q\nwant %q", got, want)
	}
	for _, child := range []string{"site", "node-1", "node-2", "node-3", "roster"} {
		if r.under[child] != "cluster" {
			t.Errorf("%s is under %q", child, r.under[child])
		}
	}
	for child, after := range map[string][]string{
		"site": nil, "node-1": {"site"}, "node-2": {"node-1", "site"}, "node-3": {"node-2", "site"}, "roster": {"node-3", "site"},
	} {
		if !slices.Equal(r.after[child], after) {
			t.Errorf("%s depends on %q, want %q", child, r.after[child], after)
		}
	}
}

func TestNodesGetTheirPlanAndTheSecrets(t *testing.T) {
	r, _, err := deploy(t, stackConfig(3))
	if err != nil {
		t.Fatal(err)
	}
	in := r.in["node-2"]
	for key, want := range map[string]any{
		"name": "node-2", "address": "127.0.0.1", "respPort": 8081.0, "httpPort": 9081.0, "gossipPort": 7947.0, "rpcPort": 7374.0,
		"tls": false, "bootstrapExpect": 3.0, "readyTimeout": 60.0, "drainTimeout": 120.0, "stopTimeout": 30.0, "forceDelete": false,
	} {
		if got := in[resource.PropertyKey(key)].V; got != want {
			t.Errorf("%s is %v, want %v", key, got, want)
		}
	}
	for key, want := range map[string]string{"gossipKey": "gossip", "clusterSecret": "secret"} {
		v := in[resource.PropertyKey(key)]
		if !v.IsSecret() || v.SecretValue().Element.StringValue() != want {
			t.Errorf("%s is %v, want it as a secret", key, v)
		}
	}
	text := in["config"].StringValue()
	if !strings.Contains(text, `node_id: "node-2"`) || strings.Contains(text, "gossip_encrypt_key") {
		t.Errorf("config:\n%s", text)
	}
	if len(in["binarySha256"].StringValue()) != 64 {
		t.Errorf("checksum %q", in["binarySha256"].StringValue())
	}
}

func TestNodesAndOutputsHaveThePasswordOnlyIfTheStackWantsOne(t *testing.T) {
	bare, _, err := deploy(t, stackConfig(2))
	if err != nil {
		t.Fatal(err)
	}
	// Clusters from before there were passwords must not restart.
	for name, key := range map[string]resource.PropertyKey{"site": "withPassword", "node-1": "password"} {
		if v, ok := bare.in[name][key]; ok {
			t.Errorf("%s of %s is %v, want none", key, name, v)
		}
	}
	c := stackConfig(2)
	c.Password = true
	r, cluster, err := deploy(t, c)
	if err != nil {
		t.Fatal(err)
	}
	if got := r.in["site"]["withPassword"].V; got != true {
		t.Errorf("the site draws a password: %v", got)
	}
	for _, name := range []string{"node-1", "node-2"} {
		if v := r.in[name]["password"]; !v.IsSecret() || v.SecretValue().Element.StringValue() != "sesame" {
			t.Errorf("the password of %s is %v, want it as a secret", name, v)
		}
		if text := r.in[name]["config"].StringValue(); strings.Contains(text, "password") {
			t.Errorf("config:\n%s", text)
		}
	}
	out, ok := cluster.Outputs["password"].(pulumi.StringOutput)
	if !ok || !pulumi.IsSecret(out) {
		t.Errorf("the output is %#v, want a secret", cluster.Outputs["password"])
	}
}

func TestGrowingLeavesTheOldNodesInputsAlone(t *testing.T) {
	three, _, err := deploy(t, stackConfig(3))
	if err != nil {
		t.Fatal(err)
	}
	five, _, err := deploy(t, stackConfig(5))
	if err != nil {
		t.Fatal(err)
	}
	// Each deployment has a directory of its own here; everything else must be the same.
	plain := func(r *recorder, name string) string {
		root := strings.TrimSuffix(r.in[name]["directory"].StringValue(), "/.hypercache/local/test")
		return strings.ReplaceAll(fmt.Sprint(r.in[name]), root, "ROOT")
	}
	for _, name := range []string{"node-1", "node-2", "node-3"} {
		if a, b := plain(three, name), plain(five, name); a != b {
			t.Errorf("%s would restart:\n%s\n%s", name, a, b)
		}
	}
}

func TestOutputsAreTheContract(t *testing.T) {
	_, cluster, err := deploy(t, stackConfig(2))
	if err != nil {
		t.Fatal(err)
	}
	data, err := json.Marshal(cluster.Outputs)
	if err != nil {
		t.Fatal(err)
	}
	var got, want any
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal([]byte(`{
		"nodes": [
			{"name": "node-1", "zone": "a", "privateIp": "127.0.0.1", "publicIp": "", "respPort": 8080, "httpPort": 9080, "gossipPort": 7946, "rpcPort": 7373},
			{"name": "node-2", "zone": "b", "privateIp": "127.0.0.1", "publicIp": "", "respPort": 8081, "httpPort": 9081, "gossipPort": 7947, "rpcPort": 7374}
		],
		"respEndpoints": ["127.0.0.1:8080", "127.0.0.1:8081"], "httpEndpoints": ["127.0.0.1:9080", "127.0.0.1:9081"],
		"connect": "redis-cli -h 127.0.0.1 -p 8080", "password": ""
	}`), &want); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestMistakesAreRefusedBeforeAnyResource(t *testing.T) {
	c := stackConfig(3)
	c.Binary = "bin/missing"
	c.Settings = map[string]string{"cache.nonsense": "1", "cache.max_memory": "lots"}
	r, _, err := deploy(t, c)
	if err == nil {
		t.Fatal("three mistakes were accepted")
	}
	for _, want := range []string{"bin/missing", "make build", "cache.nonsense", "cache.max_memory"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("missing %q in:\n%v", want, err)
		}
	}
	if len(r.seen) != 0 {
		t.Errorf("registered %q, want nothing", r.seen)
	}
}
