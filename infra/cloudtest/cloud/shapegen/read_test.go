package main

import (
	"os"
	"path/filepath"
	"slices"
	"testing"

	"hypercache/infra/cloudtest/cloud"
)

// sdk is a source as Pulumi's generator writes it, in small.
const sdk = `package toy

type Colour string

const (
	ColourRed  = Colour("red")
	ColourBlue = Colour("blue")
)

type Part struct {
	Size int     ` + "`pulumi:\"size\"`" + `
	Next *Part   ` + "`pulumi:\"next\"`" + `
}

type Thing struct {
	pulumi.CustomResourceState
	Arn pulumi.StringOutput ` + "`pulumi:\"arn\"`" + `
}

func NewThing(ctx *pulumi.Context, name string, args *ThingArgs, opts ...pulumi.ResourceOption) (*Thing, error) {
	if args.Names == nil {
		return nil, errors.New("invalid value for required argument 'Names'")
	}
	var resource Thing
	err := ctx.RegisterResource("toy:index:Thing", name, args, &resource, opts...)
	return &resource, err
}

type thingArgs struct {
	Names  []string              ` + "`pulumi:\"names\"`" + `
	Colour *Colour               ` + "`pulumi:\"colour\"`" + `
	Parts  []Part                ` + "`pulumi:\"parts\"`" + `
	Tags   map[string]string     ` + "`pulumi:\"tags\"`" + `
	Source pulumi.AssetOrArchive ` + "`pulumi:\"source\"`" + `
	Count  int                   ` + "`pulumi:\"count\"`" + `
}

type ThingArgs struct{}
`

func TestShapesAreReadFromTheSources(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "thing.go"), []byte(sdk), 0o600); err != nil {
		t.Fatal(err)
	}
	s := cloud.Shapes{
		Resources: map[string]*cloud.Shape{}, Functions: map[string]*cloud.Shape{},
		Objects: map[string]map[string]*cloud.Field{}, Enums: map[string][]string{},
	}
	r := &reader{module: module{Path: "example.com/toy", Dir: dir}, shapes: &s, packages: map[string]*pkg{}}
	left := map[string]bool{"toy:index:Thing": true, "toy:index:Other": true}
	if err := r.types(left); err != nil {
		t.Fatal(err)
	}
	if len(left) != 1 || !left["toy:index:Other"] {
		t.Errorf("left %v", left)
	}
	thing := s.Resources["toy:index:Thing"]
	if thing == nil || !slices.Equal(thing.Outputs, []string{"arn"}) {
		t.Fatalf("thing %+v", thing)
	}
	for name, want := range map[string]cloud.Field{
		"names": {Kind: cloud.KindArray, Required: true}, "colour": {Kind: cloud.KindString, Enum: "toy.Colour"},
		"parts": {Kind: cloud.KindArray},
		"tags":  {Kind: cloud.KindMap}, "source": {Kind: cloud.KindAsset},
		"count": {Kind: cloud.KindInteger, Required: true},
	} {
		have := *thing.Inputs[name]
		have.Elem = nil
		if have != want {
			t.Errorf("%s is %+v, want %+v", name, have, want)
		}
	}
	part := s.Objects["toy.Part"]
	if part == nil || !part["size"].Required || part["next"].Required || part["next"].Ref != "toy.Part" {
		t.Errorf("part %v", part)
	}
	if !slices.Equal(s.Enums["toy.Colour"], []string{"red", "blue"}) {
		t.Errorf("enums %v", s.Enums)
	}
}
