package provider

import (
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	p "github.com/pulumi/pulumi-go-provider"
	"github.com/pulumi/pulumi-go-provider/infer"
	"github.com/pulumi/pulumi/sdk/v3/go/property"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"

	"hypercache/infra/provider/machine"
)

func TestSchemaHasTheResourcesAndHidesTheSecrets(t *testing.T) {
	built, err := New()
	if err != nil {
		t.Fatal(err)
	}
	server, err := p.RawServer(Name, Version, built)(nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := server.GetSchema(context.Background(), &pulumirpc.GetSchemaRequest{})
	if err != nil {
		t.Fatal(err)
	}
	var schema struct {
		Resources map[string]struct {
			Description string
			Properties  map[string]struct{ Secret bool }
		}
	}
	if err := json.Unmarshal([]byte(resp.Schema), &schema); err != nil {
		t.Fatal(err)
	}
	for token, secrets := range map[string][]string{
		"hypercache:index:Site": {"clusterSecret", "gossipKey", "password"},
		"hypercache:index:Node": {"clusterSecret", "gossipKey", "password"}, "hypercache:index:Roster": nil,
	} {
		r, ok := schema.Resources[token]
		if !ok || r.Description == "" {
			t.Errorf("%s is missing or undescribed", token)
		}
		var got []string
		for name, property := range r.Properties {
			if property.Secret {
				got = append(got, name)
			}
		}
		slices.Sort(got)
		if !slices.Equal(got, secrets) {
			t.Errorf("%s hides %q, want %q", token, got, secrets)
		}
	}
}

func createSite(dir string, preview bool) (infer.CreateResponse[SiteState], error) {
	return (&Site{}).Create(context.Background(), infer.CreateRequest[SiteArgs]{
		Name: "site", Inputs: SiteArgs{Directory: dir}, DryRun: preview,
	})
}

func TestSiteDrawsItsSecretsOnCreationAndLeavesNothing(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "local", "stack")
	preview, err := createSite(dir, true)
	if err != nil || preview.Output.GossipKey != "" {
		t.Errorf("a preview drew %+v, %v", preview, err)
	}
	if _, err := os.Stat(dir); err == nil {
		t.Error("a preview made the directory")
	}
	made, err := createSite(dir, false)
	if err != nil {
		t.Fatal(err)
	}
	if len(made.Output.GossipKey) != 44 || len(made.Output.ClusterSecret) != 44 || made.Output.GossipKey == made.Output.ClusterSecret {
		t.Errorf("got %+v, want two keys of 32 bytes in base64", made.Output)
	}
	if _, err := (&Site{}).Delete(context.Background(), infer.DeleteRequest[SiteState]{State: made.Output}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestASiteGetsAndLosesItsPasswordAndKeepsItsOtherSecrets(t *testing.T) {
	bare, err := createSite(t.TempDir(), false)
	if err != nil || bare.Output.Password != "" {
		t.Fatalf("%+v, %v, want no password", bare.Output, err)
	}
	update := func(from SiteState, with, preview bool) SiteState {
		t.Helper()
		resp, err := (&Site{}).Update(context.Background(), infer.UpdateRequest[SiteArgs, SiteState]{
			State: from, Inputs: SiteArgs{Directory: from.Directory, WithPassword: with}, DryRun: preview,
		})
		if err != nil || resp.Output.GossipKey != from.GossipKey || resp.Output.ClusterSecret != from.ClusterSecret {
			t.Errorf("%+v of %+v, %v, want its keys to stay", resp.Output, from, err)
		}
		return resp.Output
	}
	if one, two := update(bare.Output, true, true), update(bare.Output, true, true); one.Password == "" || one.Password != two.Password {
		t.Errorf("previews drew %q and %q", one.Password, two.Password)
	}
	with := update(bare.Output, true, false)
	if !regexp.MustCompile(`^[a-zA-Z0-9]{32,}$`).MatchString(with.Password) {
		t.Errorf("the password is %q, want at least 32 letters and digits", with.Password)
	}
	if again := update(with, true, false); again.Password != with.Password {
		t.Errorf("%q became %q without a reason", with.Password, again.Password)
	}
	if other := update(bare.Output, true, false); other.Password == with.Password {
		t.Error("two sites have the same password")
	}
	if without := update(with, false, false); without.Password != "" {
		t.Errorf("the password %q is left", without.Password)
	}
}

func TestThePreviewOfAPasswordLeavesTheOtherSecretsAlone(t *testing.T) {
	s := newSeats(t)
	state := property.NewMap(map[string]property.Value{
		"directory": property.New("/site"), "gossipKey": property.New("g").WithSecret(true), "clusterSecret": property.New("c").WithSecret(true),
	})
	inputs := property.NewMap(map[string]property.Value{"directory": property.New("/site"), "withPassword": property.New(true)})
	resp, err := s.Update(p.UpdateRequest{ID: "/site", Urn: urn("Site", "site"), State: state, Inputs: inputs, DryRun: true})
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"gossipKey": "g", "clusterSecret": "c"} {
		if v := resp.Properties.Get(name); !v.Secret() || !v.IsString() || v.AsString() != want {
			t.Errorf("%s is %v, want what it was, as a secret", name, v)
		}
	}
	// Nodes take one that is not known for an empty one, and would not show as about to change.
	if v := resp.Properties.Get("password"); !v.Secret() || !v.IsString() || v.AsString() == "" {
		t.Errorf("the password is %v, want a text, as a secret", v)
	}
}

// TestStatesFromBeforePasswordsAreRead: without this, an update of the program would strand every local cluster.
func TestStatesFromBeforePasswordsAreRead(t *testing.T) {
	s := newSeats(t)
	dir := filepath.Join(t.TempDir(), "local", "stack")
	site := property.NewMap(map[string]property.Value{
		"directory": property.New(dir), "gossipKey": property.New("g"), "clusterSecret": property.New("c"),
	})
	diff, err := s.Diff(p.DiffRequest{
		ID: dir, Urn: urn("Site", "site"), State: site, Inputs: property.NewMap(map[string]property.Value{"directory": property.New(dir)}),
	})
	if err != nil || diff.HasChanges {
		t.Errorf("the site: %+v, %v", diff, err)
	}
	if err := s.Delete(p.DeleteRequest{ID: dir, Urn: urn("Site", "site"), Properties: site}); err != nil {
		t.Errorf("the site cannot go: %v", err)
	}
	inputs := property.NewMap(map[string]property.Value{
		"directory": property.New("/site"), "name": property.New("node-1"), "address": property.New("127.0.0.1"), "respPort": property.New(1.0),
		"httpPort": property.New(2.0), "gossipPort": property.New(3.0), "rpcPort": property.New(4.0), "tls": property.New(false),
		"binary": property.New("/b"), "binarySha256": property.New("aa"), "config": property.New("server: {}"), "gossipKey": property.New("g"),
		"clusterSecret": property.New("c"), "bootstrapExpect": property.New(3.0), "readyTimeout": property.New(1.0),
		"drainTimeout": property.New(1.0), "stopTimeout": property.New(1.0), "forceDelete": property.New(false),
	})
	state := inputs.Set("pid", property.New(7.0)).Set("status", property.New("running"))
	diff, err = s.Diff(p.DiffRequest{ID: "node-1", Urn: urn("Node", "node-1"), State: state, Inputs: inputs})
	if err != nil || diff.HasChanges {
		t.Errorf("the node: %+v, %v", diff, err)
	}
	fleet := property.NewMap(map[string]property.Value{
		"cluster": property.New("c"), "nodes": property.New(map[string]property.Value{}), "founders": property.New(3.0),
		"proxy": property.New(""), "off": property.New(false),
	})
	diff, err = s.Diff(p.DiffRequest{ID: "c", Urn: urn("Fleet", "fleet"), State: fleet, Inputs: fleet.Set("password", property.New("x"))})
	if err != nil || !diff.HasChanges || diff.DetailedDiff["password"].Kind != p.Add {
		t.Errorf("the fleet: %+v, %v, want its password added", diff, err)
	}
}

func TestSiteNeedsAnAbsoluteDirectory(t *testing.T) {
	if _, err := createSite("somewhere", false); err == nil || !strings.Contains(err.Error(), "absolute") {
		t.Errorf("got %v, want a refusal", err)
	}
}

func aNode() NodeArgs {
	return NodeArgs{
		Directory: "/site", Name: "node-1", Address: "127.0.0.1", RESPPort: 1, HTTPPort: 2, GossipPort: 3, RPCPort: 4, Binary: "/b",
		BinarySHA256: "aa", Config: "server: {}", GossipKey: "g", ClusterSecret: "c", BootstrapExpect: 3, ReadyTimeout: 1,
		DrainTimeout: 1, StopTimeout: 1,
	}
}

func diff(t *testing.T, status machine.Status, change func(*NodeArgs)) p.DiffResponse {
	t.Helper()
	now := aNode()
	change(&now)
	resp, err := (&Node{}).Diff(context.Background(), infer.DiffRequest[NodeArgs, NodeState]{
		ID: "node-1", State: NodeState{NodeArgs: aNode(), Status: string(status)}, Inputs: now,
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestHealthyUnchangedNodeIsLeftAlone(t *testing.T) {
	if d := diff(t, machine.Running, func(*NodeArgs) {}); d.HasChanges {
		t.Errorf("got %+v", d)
	}
}

func TestNodeThatIsNotRunningIsAChange(t *testing.T) {
	for _, status := range []machine.Status{machine.Stopped, machine.Sick} {
		if d := diff(t, status, func(*NodeArgs) {}); !d.HasChanges || d.DetailedDiff["status"].Kind != p.Update {
			t.Errorf("%s: got %+v, want an update", status, d)
		}
	}
}

// TestEveryInputIsCompared changes each field of NodeArgs in turn, so that a new one cannot be forgotten in Diff.
func TestEveryInputIsCompared(t *testing.T) {
	fields := reflect.TypeFor[NodeArgs]()
	for i := range fields.NumField() {
		name, _, _ := strings.Cut(fields.Field(i).Tag.Get("pulumi"), ",")
		d := diff(t, machine.Running, func(a *NodeArgs) {
			switch f := reflect.ValueOf(a).Elem().Field(i); f.Kind() {
			case reflect.String:
				f.SetString("other")
			case reflect.Int:
				f.SetInt(99)
			case reflect.Bool:
				f.SetBool(!f.Bool())
			}
		})
		want := p.Update
		if name == "name" || name == "directory" {
			want = p.UpdateReplace
		}
		if !d.HasChanges || len(d.DetailedDiff) != 1 || d.DetailedDiff[name].Kind != want {
			t.Errorf("%s: got %+v, want %s alone", name, d, want)
		}
	}
}

func TestOnlyWhatTheProcessDependsOnRestartsIt(t *testing.T) {
	a := aNode()
	a.Binary, a.ReadyTimeout, a.DrainTimeout, a.StopTimeout, a.ForceDelete = "/elsewhere", 9, 9, 9, true
	if a.runtime() != aNode().runtime() {
		t.Error("limits or the path of the same program would restart the node")
	}
	a = aNode()
	a.BinarySHA256 = "bb"
	if a.runtime() == aNode().runtime() {
		t.Error("another program would not restart the node")
	}
}

func TestNodeWhoseDirectoryIsGoneIsGone(t *testing.T) {
	state := NodeState{NodeArgs: aNode(), Status: string(machine.Running)}
	state.Directory = t.TempDir()
	resp, err := (&Node{}).Read(context.Background(), infer.ReadRequest[NodeArgs, NodeState]{ID: "node-1", State: state})
	if err != nil || resp.ID != "" {
		t.Errorf("got %+v, %v, want it reported as gone", resp, err)
	}
}
