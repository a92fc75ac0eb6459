package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/config"
	"hypercache/infra/local"
	"hypercache/infra/plan"
)

// build makes a planned cluster in one cloud and returns the stack's outputs.
type build func(ctx *pulumi.Context, c config.Config, p plan.Plan) (pulumi.Map, error)

// clouds are the clouds that are compiled in, by the name that the stack's key `cloud` has for them. The local one always
// is. One whose SDK takes minutes to compile adds itself from a file with `//go:build !localonly`: plain `pulumi up`
// has them all, and `make up`, which puts that tag into GOFLAGS, compiles none of them.
var clouds = map[string]build{"local": buildLocal}

func buildLocal(ctx *pulumi.Context, c config.Config, p plan.Plan) (pulumi.Map, error) {
	cluster, err := local.New(ctx, "cluster", local.Args{Config: c, Plan: p, Root: ctx.RootDirectory(), Stack: ctx.Stack()})
	if err != nil {
		return nil, err
	}
	return cluster.Outputs, nil
}
