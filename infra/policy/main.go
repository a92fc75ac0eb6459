// Command policy is the policy pack of HyperCache's stacks: `pulumi preview --policy-pack infra/policy` stops when a
// stack would be unsafe. It owns how rules reach the engine and leaves every decision to package rules. It needs no
// account and asks nothing of the network.
//
// Every rule is mandatory. One that a stack cannot follow is taken back by name, in a file for --policy-pack-config:
// {"admin-ports-stay-private": "advisory"} lets an operator's public range reach SSH, and says so at every preview.
package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/blang/semver"
	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/policyx"

	"hypercache/infra/policy/rules"
)

// engineSilence is how long the engine may be unreachable before the pack takes it for dead and leaves.
const engineSilence = time.Minute

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "policy pack: %v\n", err)
		os.Exit(1)
	}
}

// run serves the rules until the engine ends this process, or is gone. The engine's address is the last argument.
func run(args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("started without the engine's address; this program is run by pulumi preview --policy-pack")
	}
	leave := func() { os.Exit(1) } // nobody is left to tell why
	if err := rpcutil.Healthcheck(context.Background(), args[len(args)-1], engineSilence, leave); err != nil {
		return fmt.Errorf("watch engine: %w", err)
	}
	return policyx.Main(pack)
}

func pack(*pulumi.Context) (policyx.PolicyPack, error) {
	var policies []policyx.Policy
	for _, r := range rules.All() {
		policies = append(policies, resourcePolicy(r))
	}
	for _, r := range rules.Stacks() {
		policies = append(policies, stackPolicy(r))
	}
	return policyx.NewPolicyPack("hypercache", semver.MustParse("1.0.0"), policyx.EnforcementLevelMandatory, policies)
}

func resourcePolicy(r rules.Rule) policyx.Policy {
	return policyx.NewResourceValidationPolicy(r.Name, policyx.ResourceValidationPolicyArgs{
		Description: r.Description, EnforcementLevel: policyx.EnforcementLevelMandatory,
		ValidateResource: func(_ context.Context, args policyx.ResourceValidationArgs) error {
			for _, message := range r.Check(view(args.Resource)) {
				args.Manager.ReportViolation(message, args.Resource.URN)
			}
			return nil
		},
	})
}

func stackPolicy(r rules.StackRule) policyx.Policy {
	return policyx.NewStackValidationPolicy(r.Name, policyx.StackValidationPolicyArgs{
		Description: r.Description, EnforcementLevel: policyx.EnforcementLevelMandatory,
		ValidateStack: func(_ context.Context, args policyx.StackValidationArgs) error {
			all := make([]rules.Resource, 0, len(args.Resources))
			for _, resource := range args.Resources {
				all = append(all, view(resource))
			}
			for _, f := range r.Check(all) {
				args.Manager.ReportViolation(f.Message, f.URN)
			}
			return nil
		},
	})
}

func view(r policyx.AnalyzerResource) rules.Resource {
	return rules.Resource{
		Type: r.Type, Name: r.Name, URN: r.URN, Properties: r.Properties,
		Provider: r.Provider.Properties, References: r.PropertyDependencies,
	}
}
