package main

import (
	"context"
	"slices"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
	"github.com/pulumi/pulumi/sdk/v3/go/pulumi/policyx"

	"hypercache/infra/policy/rules"
)

// reports collects what a policy complains about, by URN.
type reports []string

func (r *reports) ReportViolation(_, urn string) { *r = append(*r, urn) }

func TestPackHoldsEveryRuleAndAllAreMandatory(t *testing.T) {
	p, err := pack(nil)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := len(p.Policies()), len(rules.All())+len(rules.Stacks()); got != want {
		t.Errorf("%d policies, want %d", got, want)
	}
	for _, policy := range p.Policies() {
		if policy.EnforcementLevel() != policyx.EnforcementLevelMandatory {
			t.Errorf("%s is not mandatory", policy.Name())
		}
	}
}

func TestRulesSeeWhatTheEngineShows(t *testing.T) {
	resource := policyx.AnalyzerResource{
		Type: "aws:x/y:Z", Name: "n", URN: "urn", Properties: property.NewMap(map[string]property.Value{"a": property.New("b")}),
		Provider:             policyx.AnalyzerProviderResource{Properties: property.NewMap(map[string]property.Value{"region": property.New("r")})},
		PropertyDependencies: map[string][]string{"a": {"other"}},
	}
	var seen []rules.Resource
	one := resourcePolicy(rules.Rule{Name: "one", Check: func(r rules.Resource) []string { seen = append(seen, r); return []string{"wrong"} }})
	all := stackPolicy(rules.StackRule{Name: "all", Check: func(all []rules.Resource) []rules.Finding {
		seen = append(seen, all...)
		return []rules.Finding{{URN: "of the stack", Message: "wrong"}}
	}})
	var told reports
	if err := one.(policyx.ResourceValidationPolicy).Validate(context.Background(),
		policyx.ResourceValidationArgs{Manager: &told, Resource: resource}); err != nil {
		t.Fatal(err)
	}
	if err := all.(policyx.StackValidationPolicy).Validate(context.Background(),
		policyx.StackValidationArgs{Manager: &told, Resources: []policyx.AnalyzerResource{resource}}); err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(told, []string{"urn", "of the stack"}) {
		t.Errorf("complained about %q", told)
	}
	for _, r := range seen {
		if r.Type != "aws:x/y:Z" || r.Name != "n" || r.URN != "urn" || r.Properties.Get("a").AsString() != "b" ||
			r.Provider.Get("region").AsString() != "r" || !slices.Equal(r.References["a"], []string{"other"}) {
			t.Errorf("a rule saw %+v", r)
		}
	}
	if len(seen) != 2 {
		t.Errorf("rules saw %d resources, want 2", len(seen))
	}
}

func TestPackNeedsAnEngine(t *testing.T) {
	if err := run(nil); err == nil {
		t.Error("ran without an engine's address")
	}
}
