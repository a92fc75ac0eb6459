package cloud_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	"github.com/pulumi/pulumi/sdk/v3/go/common/resource/asset"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/cloud/driver"
)

const thing = "toy:index:Thing"

func toy() *cloud.Provider {
	text := &cloud.Field{Kind: cloud.KindString}
	return &cloud.Provider{
		Name: "toy",
		Shapes: cloud.Shapes{
			Source: "toy@v1.2.3",
			Resources: map[string]*cloud.Shape{
				thing: {
					Inputs: map[string]*cloud.Field{
						"name": text, "size": {Kind: cloud.KindInteger, Required: true},
						"mode":  {Kind: cloud.KindString, Enum: "mode"},
						"tags":  {Kind: cloud.KindMap, Elem: text},
						"rules": {Kind: cloud.KindArray, Elem: &cloud.Field{Kind: cloud.KindObject, Ref: "rule"}},
						"file":  {Kind: cloud.KindAsset},
					},
					Outputs: []string{"name", "size", "arn", "key"},
				},
				"toy:index:Other": {},
			},
			Objects: map[string]map[string]*cloud.Field{"rule": {"port": {Kind: cloud.KindInteger, Required: true},
				"source": text}},
			Enums: map[string][]string{"mode": {"fast", "slow"}},
		},
		Kinds: map[string]*cloud.Kind{thing: {
			Create: func(c *cloud.Call) (string, resource.PropertyMap, error) {
				if cloud.Int(c.Inputs, "size") == 13 {
					return "thing-13", nil, errors.New("did not come up")
				}
				out := cloud.Values(map[string]any{"arn": "arn:" + cloud.Str(c.Inputs, "name"), "key": "k"})
				if cloud.Known(c.Inputs, "file") {
					data, err := c.Bytes("file")
					if err != nil {
						return "", nil, err
					}
					out["arn"] = resource.NewStringProperty(string(data))
				}
				return "thing-1", out, nil
			},
			Replace: []string{"rules.port"}, Immutable: []string{"mode"}, Secret: []string{"key"},
			Auto: &cloud.AutoName{Property: "name", MaxLength: 12},
		}},
		Functions: map[string]cloud.Function{"toy:index:answer": func(c *cloud.Call) (resource.PropertyMap, error) {
			return cloud.Values(map[string]any{"answer": 42, "where": cloud.Str(c.Config, "region")}), nil
		}},
	}
}

func drive(t *testing.T, p *cloud.Provider) *driver.Driver {
	t.Helper()
	d, err := driver.Serve(p, map[string]any{"region": "here"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.Close)
	return d
}

func TestInputsAreHeldAgainstTheShape(t *testing.T) {
	d := drive(t, toy())
	for _, tc := range []struct {
		name   string
		inputs map[string]any
		want   string
	}{
		{"missing", map[string]any{}, `size: required property "size" is missing`},
		{"unknown", map[string]any{"size": 1, "nmae": "x"},
			`nmae: there is no property "nmae" here; did you mean "name"?`},
		{"kind", map[string]any{"size": "big"}, "size: want an integer, have string"},
		{"fraction", map[string]any{"size": 1.5}, "size: want an integer"},
		{"enum", map[string]any{"size": 1, "mode": "fsat"}, `mode: expected one of ["fast" "slow"], have "fsat"`},
		{"nested", map[string]any{"size": 1, "rules": []any{map[string]any{"source": "x"}}},
			"rules[0].port: required"},
		{"element", map[string]any{"size": 1, "tags": map[string]any{"a": map[string]any{}}},
			"tags.a: want a string"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			_, err := d.Check(thing, "a", tc.inputs, nil)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("have %v, want %q", err, tc.want)
			}
		})
	}
}

func TestUnknownTypesAreRefusedWithTheNearestName(t *testing.T) {
	d := drive(t, toy())
	for token, want := range map[string]string{
		"toy:index:Thin": `did you mean "toy:index:Thing"`, "toy:index:Other": "exists but is not emulated",
	} {
		if _, err := d.Create(token, "a", nil); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: have %v, want %q", token, err, want)
		}
	}
}

func TestPulumiNamesWhatTheProgramDoesNot(t *testing.T) {
	d := drive(t, toy())
	r, err := d.Create(thing, "a-long-name", map[string]any{"size": 1})
	if err != nil {
		t.Fatal(err)
	}
	name := r.Out("name")
	if !strings.HasPrefix(name, "a-lo-") || len(name) != 12 {
		t.Errorf("name %q", name)
	}
	r, plan, err := d.Apply("a-long-name", map[string]any{"size": 2})
	if err != nil || plan != driver.Update || r.Out("name") != name {
		t.Errorf("an update has plan %s, name %q, error %v; want name %q kept", plan, r.Out("name"), err, name)
	}
}

func TestDiffTellsUpdateFromReplacement(t *testing.T) {
	d := drive(t, toy())
	rules := func(port int, source string) []any { return []any{map[string]any{"port": port, "source": source}} }
	inputs := map[string]any{"name": "x", "size": 1, "rules": rules(1, "a")}
	if _, err := d.Create(thing, "a", inputs); err != nil {
		t.Fatal(err)
	}
	for _, tc := range []struct {
		change map[string]any
		want   driver.Plan
	}{
		{map[string]any{}, driver.Same},
		{map[string]any{"size": 2}, driver.Update},
		{map[string]any{"rules": rules(1, "b")}, driver.Update},
		{map[string]any{"rules": rules(2, "a")}, driver.Replace},
		{map[string]any{"rules": nil}, driver.Replace},
		{map[string]any{"size": resource.MakeComputed(resource.NewStringProperty(""))}, driver.Update},
	} {
		if plan, _, err := d.Diff("a", driver.With(inputs, tc.change)); err != nil || plan != tc.want {
			t.Errorf("%v: have %s, %v; want %s", tc.change, plan, err, tc.want)
		}
	}
}

func TestAnImmutableInputIsPlannedAsUpdateAndThenRefused(t *testing.T) {
	d := drive(t, toy())
	inputs := map[string]any{"name": "x", "size": 1, "mode": "fast"}
	if _, err := d.Create(thing, "a", inputs); err != nil {
		t.Fatal(err)
	}
	_, plan, err := d.Apply("a", driver.With(inputs, map[string]any{"mode": "slow"}))
	if plan != driver.Update || err == nil || !strings.Contains(err.Error(), "PropertyChangeNotAllowed") {
		t.Errorf("have plan %s and %v", plan, err)
	}
}

func TestPreviewKnowsInputsAndNothingElse(t *testing.T) {
	p := toy()
	d := drive(t, p)
	out, err := d.Preview(thing, "a", map[string]any{"name": "x", "size": 1})
	if err != nil {
		t.Fatal(err)
	}
	if !out["arn"].IsComputed() || cloud.Str(out, "name") != "x" || len(p.Events()) != 0 {
		t.Errorf("outputs %v, events %v", out, p.Events())
	}
}

func TestAResourceThatDidNotComeUpKeepsItsID(t *testing.T) {
	d := drive(t, toy())
	_, err := d.Create(thing, "a", map[string]any{"size": 13})
	if err == nil || !strings.Contains(err.Error(), "did not come up") {
		t.Errorf("have %v", err)
	}
}

func TestSecretOutputsAreMarked(t *testing.T) {
	d := drive(t, toy())
	r, err := d.Create(thing, "a", map[string]any{"size": 1})
	if err != nil {
		t.Fatal(err)
	}
	if !r.Outputs["key"].IsSecret() || r.Outputs["arn"].IsSecret() {
		t.Errorf("outputs %v", r.Outputs)
	}
}

func TestFilesAreReadWhereTheProgramIs(t *testing.T) {
	p := toy()
	p.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(p.Dir, "f"), []byte("content"), 0o600); err != nil {
		t.Fatal(err)
	}
	d := drive(t, p)
	r, err := d.Create(thing, "a", map[string]any{
		"size": 1, "file": resource.NewAssetProperty(&asset.Asset{Sig: "c44067f5952c0a294b673a41bacd8c17",
			Path: "f", Hash: "x"}),
	})
	if err != nil || r.Out("arn") != "content" {
		t.Errorf("have %v, %v", r, err)
	}
}

func TestASkippedResourceLivesInPulumiOnly(t *testing.T) {
	p := toy()
	p.Intercept = func(stage, _ string, _ *cloud.Call) error {
		if stage == cloud.StageCreate {
			return cloud.ErrSkip
		}
		return nil
	}
	d := drive(t, p)
	r, err := d.Create(thing, "a", map[string]any{"size": 1})
	if err != nil || r.Out("arn") != "" {
		t.Fatalf("have %v, %v", r, err)
	}
	if found, err := d.Refresh("a"); err != nil || !found {
		t.Errorf("refresh finds %v, %v", found, err)
	}
	if err := d.Destroy(); err != nil {
		t.Error(err)
	}
	if e := p.Events(); len(e) != 2 || !e[0].Skipped || e[1].Stage != cloud.StageDelete {
		t.Errorf("events %v", e)
	}
}

func TestFunctionsSeeTheConfiguration(t *testing.T) {
	d := drive(t, toy())
	out, err := d.Invoke("toy:index:answer", nil)
	if err != nil || cloud.Int(out, "answer") != 42 || cloud.Str(out, "where") != "here" {
		t.Errorf("have %v, %v", out, err)
	}
	if _, err := d.Invoke("toy:index:anwser", nil); err == nil || !strings.Contains(err.Error(), "did you mean") {
		t.Errorf("have %v", err)
	}
}

func TestEnvironmentListsEveryPort(t *testing.T) {
	if have := cloud.Environment(map[string]int{"random": 2, "aws": 1}); have != "aws:1,random:2" {
		t.Error(have)
	}
}
