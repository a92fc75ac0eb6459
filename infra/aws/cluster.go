package aws

import (
	"errors"

	"github.com/pulumi/pulumi-aws/sdk/v6/go/aws"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/outputs"
	"hypercache/infra/payload"
	"hypercache/infra/plan"
)

// componentType is part of every URN: changing it replaces clusters.
const componentType = "hypercache:aws:Cluster"

// Args are what a cluster is made from.
type Args struct {
	Config config.Config
	Plan   plan.Plan
	Root   string // the project's directory
	Stack  string
}

// Cluster is a cluster of VMs in one region.
type Cluster struct {
	pulumi.ResourceState
	Outputs pulumi.Map // the stack outputs that scripts and people build on
}

// New registers the cluster and its children.
func New(ctx *pulumi.Context, name string, args Args, opts ...pulumi.ResourceOption) (*Cluster, error) {
	load, payloadErr := payload.Prepare(args.Config, args.Plan, args.Root)
	if payloadErr == nil {
		payloadErr = bootable(args, load)
	}
	// The provider is no thing in AWS; it is how questions reach the right region.
	provider, err := aws.NewProvider(ctx, "aws", &aws.ProviderArgs{
		Region:      pulumi.String(args.Config.Network.Region),
		DefaultTags: aws.ProviderDefaultTagsArgs{Tags: everywhere(args)},
	})
	if err != nil {
		return nil, err
	}
	site, lookErr := lookUp(ctx, args, provider)
	if err := mistakes(payloadErr, refused(args), lookErr); err != nil {
		return nil, err
	}
	c := &Cluster{}
	if err := ctx.RegisterComponentResource(componentType, name, c, append(opts, pulumi.Providers(provider))...); err != nil {
		return nil, err
	}
	b := &builder{ctx: ctx, parent: c, Args: args, load: load, site: site}
	if c.Outputs, err = b.cluster(); err != nil {
		return nil, err
	}
	return c, ctx.RegisterResourceOutputs(c, c.Outputs)
}

// mistakes puts the lists of several errors into one, and joins to it what is no list.
func mistakes(errs ...error) error {
	var lists, others []error
	for _, err := range errs {
		if list := (*config.Error)(nil); errors.As(err, &list) {
			lists = append(lists, list)
		} else if err != nil {
			others = append(others, err)
		}
	}
	return errors.Join(append(others, config.Mistakes(lists...))...)
}

// cluster registers all children in an order in which each finds what it needs, and returns the outputs.
func (b *builder) cluster() (pulumi.Map, error) {
	net, err := b.network()
	if err != nil {
		return nil, err
	}
	store, err := b.delivery()
	if err != nil {
		return nil, err
	}
	keys, err := b.secrets()
	if err != nil {
		return nil, err
	}
	profile, err := b.identity(store, keys)
	if err != nil {
		return nil, err
	}
	lb, err := b.balancer(net)
	if err != nil {
		return nil, err
	}
	image, err := b.image()
	if err != nil {
		return nil, err
	}
	access, err := b.access()
	if err != nil {
		return nil, err
	}
	vms, err := b.nodes(around{
		net: net, store: store, secrets: keys, profile: profile, targets: lb.targets, image: image, access: access,
	})
	if err != nil {
		return nil, err
	}
	if err := errors.Join(b.alarms(vms), b.snapshots()); err != nil {
		return nil, err
	}
	names, err := b.dns(net)
	if err != nil {
		return nil, err
	}
	return b.outputs(net, lb, names, keys), nil
}

func (b *builder) outputs(net network, lb balancer, names pulumi.StringArray, keys secrets) pulumi.Map {
	out := outputs.Of(b.Plan, net.publics, keys.word)
	if names != nil {
		out["dnsNames"] = names
	}
	if lb.name != nil {
		out["loadBalancer"] = lb.name
		var addresses pulumi.StringArray
		for _, f := range b.Plan.Network.Frontends {
			addresses = append(addresses, pulumi.String(f.Address.String()))
		}
		out["loadBalancerAddresses"] = addresses
	}
	return out
}
