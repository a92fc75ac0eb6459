//go:build !localonly

package main

import (
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"

	"hypercache/infra/aws"
	"hypercache/infra/config"
	"hypercache/infra/plan"
)

func init() { clouds[config.AWS] = buildAWS }

func buildAWS(ctx *pulumi.Context, c config.Config, p plan.Plan) (pulumi.Map, error) {
	cluster, err := aws.New(ctx, "cluster", aws.Args{Config: c, Plan: p, Root: ctx.RootDirectory(), Stack: ctx.Stack()})
	if err != nil {
		return nil, err
	}
	return cluster.Outputs, nil
}
