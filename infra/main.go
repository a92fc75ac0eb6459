// Command infra is the Pulumi program: it reads the stack's configuration, plans the cluster and has the chosen cloud
// build it.
package main

import (
	"maps"
	"slices"

	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	pulumiconfig "github.com/pulumi/pulumi/sdk/v3/go/pulumi/config"

	"hypercache/infra/config"
	"hypercache/infra/plan"
)

func main() {
	pulumi.Run(deploy)
}

func deploy(ctx *pulumi.Context) error {
	c, err := config.Parse(lookup(ctx), slices.Sorted(maps.Keys(clouds)))
	p, planErr := plan.Build(c, ctx.Stack())
	if err := config.Mistakes(err, planErr); err != nil {
		return err
	}
	outputs, err := clouds[c.Cloud](ctx, c, p)
	if err != nil {
		return err
	}
	for name, value := range outputs {
		ctx.Export(name, value)
	}
	return nil
}

// lookup reads the stack's configuration.
func lookup(ctx *pulumi.Context) config.Lookup {
	project := pulumiconfig.New(ctx, "")
	return func(key string) (string, bool) {
		v, err := project.Try(key)
		return v, err == nil
	}
}
