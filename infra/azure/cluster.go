package azure

import (
	"errors"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/outputs"
	"hypercache/infra/payload"
	"hypercache/infra/plan"
)

// componentType is part of every URN: changing it replaces clusters.
const componentType = "hypercache:azure:Cluster"

// Args are what a cluster is made from.
type Args struct {
	Config config.Config
	Plan   plan.Plan
	Root   string // the project's directory
	Stack  string
}

// Cluster is a cluster of VMs in one resource group.
type Cluster struct {
	pulumi.ResourceState
	Outputs pulumi.Map // the stack outputs that scripts and people build on
}

// New registers the cluster and its children.
func New(ctx *pulumi.Context, name string, args Args, opts ...pulumi.ResourceOption) (*Cluster, error) {
	load, payloadErr := payload.Prepare(args.Config, args.Plan, args.Root)
	mistakes := refused(args)
	who, lookErr := lookUp(ctx, args)
	if err := errors.Join(payloadErr, mistakes, lookErr); err != nil {
		return nil, err
	}
	c := &Cluster{}
	if err := ctx.RegisterComponentResource(componentType, name, c, opts...); err != nil {
		return nil, err
	}
	b := &builder{ctx: ctx, parent: c, Args: args, load: load, account: who}
	out, err := b.cluster()
	if err != nil {
		return nil, err
	}
	c.Outputs = out
	return c, ctx.RegisterResourceOutputs(c, c.Outputs)
}

// cluster registers all children in an order in which each finds what it needs, and returns the outputs.
func (b *builder) cluster() (pulumi.Map, error) {
	if err := b.ground(); err != nil {
		return nil, err
	}
	net, err := b.network()
	if err != nil {
		return nil, err
	}
	lb, err := b.balancer(net)
	if err != nil {
		return nil, err
	}
	program, err := b.delivery()
	if err != nil {
		return nil, err
	}
	keys, err := b.secrets(net)
	if err != nil {
		return nil, err
	}
	spread, err := b.spread()
	if err != nil {
		return nil, err
	}
	vms, err := b.nodes(around{net: net, balancer: lb, program: program, secrets: keys, spread: spread})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(b.alarms(vms), b.snapshots(vms)); err != nil {
		return nil, err
	}
	names, err := b.dns(net)
	if err != nil {
		return nil, err
	}
	return b.outputs(net, names, keys), nil
}

func (b *builder) outputs(net network, names pulumi.StringArray, keys secrets) pulumi.Map {
	out := outputs.Of(b.Plan, net.publics, keys.word)
	out["resourceGroup"] = pulumi.String(b.Plan.Cluster)
	if names != nil {
		out["dnsNames"] = names
	}
	if front := b.Plan.Network.Frontends; len(front) > 0 {
		out["loadBalancer"] = pulumi.String(front[0].Address.String())
	}
	return out
}
