package rollout

import (
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

// recorder is a Pulumi engine that writes down what is registered.
type recorder struct {
	mu    sync.Mutex
	after map[string][]string
	in    map[string]resource.PropertyMap
}

func (r *recorder) Call(pulumi.MockCallArgs) (resource.PropertyMap, error) { return nil, nil }

func (r *recorder) NewResource(args pulumi.MockResourceArgs) (string, resource.PropertyMap, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var deps []string
	for _, urn := range args.RegisterRPC.GetDependencies() {
		deps = append(deps, urn[strings.LastIndex(urn, ":")+1:])
	}
	slices.Sort(deps)
	r.after[args.Name], r.in[args.Name] = deps, args.Inputs
	return args.Name + "-id", args.Inputs, nil
}

func roll(t *testing.T, c config.Config, public ...pulumi.StringInput) *recorder {
	t.Helper()
	p, err := plan.Build(c, "test")
	if err != nil {
		t.Fatal(err)
	}
	r := &recorder{after: map[string][]string{}, in: map[string]resource.PropertyMap{}}
	err = pulumi.RunErr(func(ctx *pulumi.Context) error {
		var parent pulumi.ResourceState
		if err := ctx.RegisterComponentResource("test:index:Parent", "parent", &parent); err != nil {
			return err
		}
		out, err := New(ctx, &parent, Args{Config: c, Plan: p, Secret: pulumi.String("hush"), Public: public})
		if err != nil {
			return err
		}
		for _, n := range p.Nodes {
			gate, err := out.Before(n, pulumi.String("trigger of "+n.Name))
			if err != nil {
				return err
			}
			var vm custom
			if err := ctx.RegisterResource("test:index:VM", n.Name+"-vm", pulumi.Map{}, &vm, pulumi.Parent(&parent), pulumi.DependsOn([]pulumi.Resource{gate})); err != nil {
				return err
			}
			if err := out.After(n, pulumi.String("trigger of "+n.Name), vm.ID(), &vm); err != nil {
				return err
			}
		}
		return nil
	}, pulumi.WithMocks("hypercache", "test", r))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

type custom = struct{ pulumi.CustomResourceState }

func vms(nodes int) config.Config {
	get := func(key string) (string, bool) {
		v, ok := map[string]string{"cloud": "aws", "region": "eu-west-1"}[key]
		return v, ok
	}
	c, err := config.Parse(get, []string{"aws"})
	if err != nil {
		panic(err)
	}
	c.NodeCount, c.ReadyTimeout = nodes, time.Minute
	return c
}

func TestEveryVMStandsBetweenItsGateAndItsSeatInOneChain(t *testing.T) {
	r := roll(t, vms(3))
	for name, want := range map[string][]string{
		"fleet":       nil,
		"node-1-gate": {"fleet"}, "node-1-vm": {"node-1-gate"}, "node-1-seat": {"fleet", "node-1-vm"},
		"node-2-gate": {"node-1-seat"}, "node-2-vm": {"node-2-gate"}, "node-2-seat": {"node-1-seat", "node-2-vm"},
		"node-3-gate": {"node-2-seat"}, "node-3-vm": {"node-3-gate"}, "node-3-seat": {"node-2-seat", "node-3-vm"},
	} {
		if got := r.after[name]; !slices.Equal(got, want) {
			t.Errorf("%s depends on %q, want %q", name, got, want)
		}
	}
}

func TestGatesAndSeatsKnowTheirNode(t *testing.T) {
	r := roll(t, vms(3))
	nodes := r.in["fleet"]["nodes"].ObjectValue()
	for name, url := range map[resource.PropertyKey]string{"node-1": "http://10.0.1.4:9080", "node-2": "http://10.0.1.68:9081", "node-3": "http://10.0.1.132:9082"} {
		if nodes[name].StringValue() != url {
			t.Errorf("the fleet has %v for %s, want %s", nodes[name], name, url)
		}
	}
	seat := r.in["node-2-seat"]
	for key, want := range map[resource.PropertyKey]any{
		"url": "http://10.0.1.68:9081", "vm": "node-2-vm-id", "trigger": "trigger of node-2", "readyTimeout": 60.0, "cluster": "hypercache-test",
	} {
		if got := seat[key].V; got != want {
			t.Errorf("the seat's %s is %v, want %v", key, got, want)
		}
	}
	if !seat["secret"].IsSecret() {
		t.Errorf("the cluster secret is in the state as plain text: %v", seat["secret"])
	}
	if got := r.in["node-2-gate"]["trigger"].V; got != "trigger of node-2" {
		t.Errorf("the gate's trigger is %v", got)
	}
}

func TestGrowingTouchesNoGateOrSeatThatIsThere(t *testing.T) {
	three, five := roll(t, vms(3)), roll(t, vms(5))
	for _, name := range []string{"node-1-gate", "node-1-seat", "node-2-gate", "node-2-seat", "node-3-gate", "node-3-seat"} {
		if !three.in[name].DeepEquals(five.in[name]) {
			t.Errorf("%s changes:\n%v\n%v", name, three.in[name], five.in[name])
		}
	}
}

func TestThePublicGateAsksPublicAddresses(t *testing.T) {
	c := vms(1)
	c.VM.HealthGate = config.GatePublic
	r := roll(t, c, pulumi.String("203.0.113.7"))
	if got := r.in["node-1-seat"]["url"].V; got != "http://203.0.113.7:9080" {
		t.Errorf("the seat asks %v", got)
	}
}
