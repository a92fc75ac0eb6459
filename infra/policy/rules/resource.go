package rules

import (
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/property"
)

// Resource is what a rule sees of one.
type Resource struct {
	Type string // Pulumi's type token
	Name string // in the program
	URN  string
	// Properties are the inputs after the provider checked them; for a stack's rules, the outputs.
	Properties property.Map
	// Provider holds the configuration of the resource's provider.
	Provider property.Map
	// References are the URNs that an input's value comes from, by the input's name.
	References map[string][]string
}

// kind is a type without what differs between versions of one API: aws:ec2/instance:Instance is aws:ec2:Instance, and
// azure-native:network/v20230201:Subnet is azure-native:network:Subnet.
func kind(token string) string {
	parts := strings.Split(token, ":")
	if len(parts) != 3 {
		return token
	}
	module, _, _ := strings.Cut(parts[1], "/")
	return parts[0] + ":" + module + ":" + parts[2]
}

// at follows keys into a map. Nothing is there is null, and below an unknown everything is unknown.
func at(m property.Map, keys ...string) property.Value {
	v := property.New(m)
	for _, key := range keys {
		if v.IsComputed() {
			return v
		}
		if !v.IsMap() {
			return property.Value{}
		}
		v = v.AsMap().Get(key)
	}
	return v
}

// text is a known string.
func text(v property.Value) (string, bool) {
	if !v.IsString() {
		return "", false
	}
	return v.AsString(), true
}

// word is a known string without regard to case, "" for anything else.
func word(v property.Value) string {
	s, _ := text(v)
	return strings.ToLower(s)
}

// items are a list's; none for anything that is no known list.
func items(v property.Value) []property.Value {
	if !v.IsArray() {
		return nil
	}
	return v.AsArray().AsSlice()
}

// objects are the known maps of a list.
func objects(v property.Value) []property.Map {
	var maps []property.Map
	for _, item := range items(v) {
		if item.IsMap() {
			maps = append(maps, item.AsMap())
		}
	}
	return maps
}

// is reports whether a value is b. Some providers write booleans as strings.
func is(v property.Value, b bool) bool {
	if v.IsBool() {
		return v.AsBool() == b
	}
	want := "false"
	if b {
		want = "true"
	}
	return word(v) == want
}

// must returns the complaint unless v is b or not known yet.
func must(v property.Value, b bool, complaint string) []string {
	if v.IsComputed() || is(v, b) {
		return nil
	}
	return []string{complaint}
}
