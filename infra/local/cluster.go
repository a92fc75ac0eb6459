package local

import (
	"errors"
	"fmt"
	"path/filepath"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/outputs"
	"hypercache/infra/plan"
	"hypercache/infra/provider/machine"
	"hypercache/provisioning/nodeconf"
)

// Args are what a cluster is made from.
type Args struct {
	Config config.Config
	Plan   plan.Plan
	Root   string // the project's directory
	Stack  string
}

// Cluster is a cluster of processes on this machine.
type Cluster struct {
	pulumi.ResourceState
	Outputs pulumi.Map // the stack outputs that scripts and people build on
}

// prepared is a node ready to be registered: everything that can be wrong with it has been looked at.
type prepared struct {
	plan.Node
	config string
}

// New registers the cluster and its children.
func New(ctx *pulumi.Context, name string, args Args, opts ...pulumi.ResourceOption) (*Cluster, error) {
	dir := filepath.Join(args.Root, ".hypercache", "local", args.Stack)
	binary := args.Config.Binary
	if !filepath.IsAbs(binary) {
		binary = filepath.Join(args.Root, binary)
	}
	sum, err := machine.FileSHA256(binary)
	if err != nil {
		err = fmt.Errorf("binary: %w (make build makes bin/hypercache)", err)
	}
	nodes, renderErr := prepare(args, machine.Site{Dir: dir})
	if err := errors.Join(err, renderErr); err != nil {
		return nil, err
	}

	c := &Cluster{}
	if err := ctx.RegisterComponentResource(componentType, name, c, opts...); err != nil {
		return nil, err
	}
	password, err := c.children(ctx, args, nodes, dir, binary, sum)
	if err != nil {
		return nil, err
	}
	c.Outputs = outputs.Of(args.Plan, nil, password)
	return c, ctx.RegisterResourceOutputs(c, c.Outputs)
}

// prepare renders every node's configuration. What is wrong with the settings of one is wrong with all, so its error names
// the mistakes of the first.
func prepare(args Args, s machine.Site) ([]prepared, error) {
	var out []prepared
	for _, n := range args.Plan.Nodes {
		text, err := nodeconf.Render(nodeconf.Node{
			ID: n.Name, Zone: n.Zone, ClusterName: args.Plan.Cluster, BindAddr: n.Address, AdvertiseAddr: n.Address,
			RESPPort: n.RESP, HTTPPort: n.HTTP, GossipPort: n.Gossip, RPCPort: n.RPC,
			Seeds: args.Plan.Seeds, BootstrapExpect: args.Plan.BootstrapExpect,
			DataDir: s.DataDir(n.Name), Settings: args.Config.Settings,
		})
		if err != nil {
			return nil, err
		}
		out = append(out, prepared{Node: n, config: text})
	}
	return out, nil
}

// children registers site, nodes and roster, and returns the password that clients need, nil for none.
func (c *Cluster) children(ctx *pulumi.Context, args Args, nodes []prepared, dir, binary, sum string) (pulumi.StringInput, error) {
	var ground site
	base := pulumi.Map{"directory": pulumi.String(dir)}
	if args.Config.Password {
		base["withPassword"] = pulumi.Bool(true)
	}
	if err := ctx.RegisterResource(siteType, "site", base, &ground, pulumi.Parent(c)); err != nil {
		return nil, err
	}
	var password pulumi.StringInput
	if args.Config.Password {
		password = ground.Password
	}
	var chain []pulumi.Resource
	names := pulumi.StringArray{}
	for _, n := range nodes {
		inputs := nodeInputs(args.Config, n)
		inputs["directory"], inputs["binary"] = pulumi.String(dir), pulumi.String(binary)
		inputs["binarySha256"] = pulumi.String(sum)
		inputs["bootstrapExpect"] = pulumi.Int(args.Plan.BootstrapExpect)
		inputs["gossipKey"], inputs["clusterSecret"] = ground.GossipKey, ground.ClusterSecret
		if password != nil {
			inputs["password"] = password
		}
		var r node
		if err := ctx.RegisterResource(nodeType, n.Name, inputs, &r, pulumi.Parent(c), pulumi.DependsOn(chain)); err != nil {
			return nil, err
		}
		chain = []pulumi.Resource{&r}
		names = append(names, pulumi.String(n.Name))
	}
	// The last node depends on all others, and the roster on it.
	return password, ctx.RegisterResource(rosterType, "roster", pulumi.Map{
		"directory": pulumi.String(dir), "nodes": names, "readyTimeout": seconds(args.Config.ReadyTimeout),
	}, &roster{}, pulumi.Parent(c), pulumi.DependsOn(append(chain, &ground)))
}

// nodeInputs are the inputs that come from the plan and the stack's configuration.
func nodeInputs(c config.Config, n prepared) pulumi.Map {
	return pulumi.Map{
		"name":         pulumi.String(n.Name),
		"address":      pulumi.String(n.Address),
		"respPort":     pulumi.Int(n.RESP),
		"httpPort":     pulumi.Int(n.HTTP),
		"gossipPort":   pulumi.Int(n.Gossip),
		"rpcPort":      pulumi.Int(n.RPC),
		"tls":          pulumi.Bool(c.Settings["network.tls_enabled"] == "true"),
		"config":       pulumi.String(n.config),
		"readyTimeout": seconds(c.ReadyTimeout),
		"drainTimeout": seconds(c.DrainTimeout),
		"stopTimeout":  seconds(c.StopTimeout),
		"forceDelete":  pulumi.Bool(c.ForceDelete),
	}
}

func seconds(d time.Duration) pulumi.Int { return pulumi.Int(int(d / time.Second)) }
