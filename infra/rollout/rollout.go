// Package rollout orders the VMs of a cluster: one at a time, each behind a look at all others, and none touched while another
// is sick.
//
// For each node it registers a gate, which the node's VM must depend on, and a seat, which depends on the VM; the next node's
// gate depends on that seat. They are resources of package provider with state of their own, not hooks: a gate that fails is
// in the state as it was before, so the next `pulumi up` looks again before it goes on (docs/decisions/0009). The gate looks at
// all other nodes when, and only when, its VM is about to change; the seat waits until the VM's node serves its share. When
// the seat goes because the cluster shrinks, it has the node hand its data over first. The chain is made of dependencies
// only: a node's outputs in the next one's inputs would have Pulumi replace both.
package rollout

import (
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

// Types of the provider's resources.
const (
	fleetType = "hypercache:index:Fleet"
	gateType  = "hypercache:index:Gate"
	seatType  = "hypercache:index:Seat"
)

type tracked struct{ pulumi.CustomResourceState }

// Args are what a rollout is made from.
type Args struct {
	Config config.Config
	Plan   plan.Plan
	// Secret is the cluster secret, with which a seat may ask a node to hand its data over.
	Secret pulumi.StringInput
	// Public are the nodes' public addresses in their order, nil where they have none.
	Public []pulumi.StringInput
}

// Rollout registers the chain. It is not safe for concurrent use: the order of calls is the order of nodes.
type Rollout struct {
	ctx    *pulumi.Context
	parent pulumi.Resource
	args   Args
	last   []pulumi.Resource // what the next gate waits for
}

// New registers the list of nodes. Its children, and those of Before and After, are parent's.
func New(ctx *pulumi.Context, parent pulumi.Resource, args Args) (*Rollout, error) {
	r := &Rollout{ctx: ctx, parent: parent, args: args}
	nodes := pulumi.StringMap{}
	for i, n := range args.Plan.Nodes {
		nodes[n.Name] = r.url(i)
	}
	var fleet tracked
	err := ctx.RegisterResource(fleetType, "fleet", pulumi.Map{
		"cluster": pulumi.String(args.Plan.Cluster), "nodes": nodes,
		"founders": pulumi.Int(args.Plan.BootstrapExpect),
		"proxy":    pulumi.String(args.Config.VM.HealthGateProxy),
		"off":      pulumi.Bool(args.Config.VM.HealthGate == config.GateOff),
	}, &fleet, pulumi.Parent(parent))
	r.last = []pulumi.Resource{&fleet}
	return r, err
}

// url is the node's HTTP endpoint as this program reaches it.
func (r *Rollout) url(i int) pulumi.StringInput {
	n := r.args.Plan.Nodes[i]
	if r.args.Config.VM.HealthGate == config.GatePublic && r.args.Public != nil {
		return pulumi.Sprintf("http://%s:%d", r.args.Public[i], n.HTTP)
	}
	return pulumi.String("http://" + n.HTTPAddr())
}

// Before registers the gate of a node's VM. trigger must change whenever the VM will be replaced or restarted.
func (r *Rollout) Before(n plan.Node, trigger pulumi.StringInput) (pulumi.Resource, error) {
	gate := &tracked{}
	err := r.ctx.RegisterResource(gateType, n.Name+"-gate", pulumi.Map{
		"cluster": pulumi.String(r.args.Plan.Cluster), "node": pulumi.String(n.Name), "trigger": trigger,
		"timeout": seconds(r.args.Config.ReadyTimeout),
	}, gate, pulumi.Parent(r.parent), pulumi.DependsOn(r.last))
	return gate, err
}

// After registers the seat of a node. vm is the VM's id in the cloud; on is everything that must be there for the node to
// serve: the VM, its disk's attachment.
func (r *Rollout) After(n plan.Node, trigger pulumi.StringInput, vm pulumi.StringInput, on ...pulumi.Resource) error {
	seat := &tracked{}
	err := r.ctx.RegisterResource(seatType, n.Name+"-seat", pulumi.Map{
		"cluster": pulumi.String(r.args.Plan.Cluster), "node": pulumi.String(n.Name), "trigger": trigger, "vm": vm,
		"url": r.url(n.Index), "secret": pulumi.ToSecret(r.args.Secret),
		"readyTimeout": seconds(r.args.Config.ReadyTimeout), "drainTimeout": seconds(r.args.Config.DrainTimeout),
		"forceDelete": pulumi.Bool(r.args.Config.ForceDelete),
	}, seat, pulumi.Parent(r.parent), pulumi.DependsOn(append(on, r.last...)))
	r.last = []pulumi.Resource{seat}
	return err
}

func seconds(d time.Duration) pulumi.Int { return pulumi.Int(int(d / time.Second)) }
