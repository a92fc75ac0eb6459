package cloud

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Shapes are the published inputs and outputs of a provider's types, as shapegen found them in its Go SDK.
type Shapes struct {
	// Source says which module and version they were read from.
	Source    string            `json:"source"`
	Resources map[string]*Shape `json:"resources"`
	Functions map[string]*Shape `json:"functions"`
	// Objects are the nested types that Field.Ref names.
	Objects map[string]map[string]*Field `json:"objects"`
	// Enums are values of enumerations that Field.Enum names.
	Enums map[string][]string `json:"enums"`
	// Config is the provider's own configuration.
	Config map[string]*Field `json:"config"`
}

// Shape is one resource type or function.
type Shape struct {
	Inputs  map[string]*Field `json:"inputs"`
	Outputs []string          `json:"outputs"`
}

// Kinds of fields.
const (
	KindString  = "string"
	KindInteger = "integer"
	KindNumber  = "number"
	KindBoolean = "boolean"
	KindArray   = "array"
	KindMap     = "map"
	KindObject  = "object"
	KindAsset   = "asset"
	KindAny     = "any"
)

// Field is one property. The short names keep the embedded file small.
type Field struct {
	Kind     string `json:"k"`
	Required bool   `json:"r,omitempty"`
	// Elem is the element of an array or map.
	Elem *Field `json:"e,omitempty"`
	// Ref is the nested type of an object, Enum the enumeration of a string.
	Ref  string `json:"o,omitempty"`
	Enum string `json:"n,omitempty"`
}

// ParseShapes reads what shapegen wrote.
func ParseShapes(data []byte) (Shapes, error) {
	var s Shapes
	if err := json.Unmarshal(data, &s); err != nil {
		return Shapes{}, fmt.Errorf("parse shapes: %w", err)
	}
	return s, nil
}

// check compares the inputs of a resource or function with its shape.
func (s *Shapes) check(fields map[string]*Field, m resource.PropertyMap) []Problem {
	return s.object("", fields, m)
}

func (s *Shapes) object(path string, fields map[string]*Field, m resource.PropertyMap) []Problem {
	var problems []Problem
	for _, key := range slices.Sorted(maps.Keys(m)) {
		if strings.HasPrefix(string(key), "__") {
			continue
		}
		at := join(path, string(key))
		f, ok := fields[string(key)]
		if !ok {
			problems = append(problems, Problemf(at, "there is no property %q here%s", key,
				meant(string(key), maps.Keys(fields))))
			continue
		}
		problems = append(problems, s.value(at, f, m[key])...)
	}
	for _, name := range slices.Sorted(maps.Keys(fields)) {
		if v, ok := m[resource.PropertyKey(name)]; fields[name].Required && (!ok || v.IsNull()) {
			problems = append(problems, Problemf(join(path, name), "required property %q is missing", name))
		}
	}
	return problems
}

func (s *Shapes) value(path string, f *Field, v resource.PropertyValue) []Problem {
	if v.IsSecret() {
		v = v.SecretValue().Element
	}
	if v.IsNull() || v.IsComputed() || v.IsOutput() || f.Kind == KindAny {
		return nil
	}
	wrong := func() []Problem {
		return []Problem{Problemf(path, "want %s, have %s", f.describe(), v.TypeString())}
	}
	switch f.Kind {
	case KindString:
		return s.text(path, f, v)
	case KindBoolean:
		if !v.IsBool() && (!v.IsString() || v.StringValue() != "true" && v.StringValue() != "false") {
			return wrong()
		}
	case KindNumber, KindInteger:
		if !isNumber(v, f.Kind == KindInteger) {
			return wrong()
		}
	case KindAsset:
		if !v.IsAsset() && !v.IsArchive() {
			return wrong()
		}
	case KindArray:
		if !v.IsArray() {
			return wrong()
		}
		var problems []Problem
		for i, e := range v.ArrayValue() {
			problems = append(problems, s.value(path+"["+strconv.Itoa(i)+"]", f.Elem, e)...)
		}
		return problems
	case KindMap:
		if !v.IsObject() {
			return wrong()
		}
		var problems []Problem
		for _, k := range slices.Sorted(maps.Keys(v.ObjectValue())) {
			problems = append(problems, s.value(join(path, string(k)), f.Elem, v.ObjectValue()[k])...)
		}
		return problems
	case KindObject:
		if !v.IsObject() {
			return wrong()
		}
		return s.object(path, s.Objects[f.Ref], v.ObjectValue())
	}
	return nil
}

// text accepts what the providers turn into strings by themselves, too.
func (s *Shapes) text(path string, f *Field, v resource.PropertyValue) []Problem {
	if v.IsBool() || v.IsNumber() {
		return nil
	}
	if !v.IsString() {
		return []Problem{Problemf(path, "want %s, have %s", f.describe(), v.TypeString())}
	}
	values := s.Enums[f.Enum]
	if len(values) == 0 || slices.Contains(values, v.StringValue()) {
		return nil
	}
	return []Problem{Problemf(path, "expected one of %q, have %q", values, v.StringValue())}
}

func isNumber(v resource.PropertyValue, whole bool) bool {
	n := 0.0
	switch {
	case v.IsNumber():
		n = v.NumberValue()
	case v.IsString():
		var err error
		if n, err = strconv.ParseFloat(v.StringValue(), 64); err != nil {
			return false
		}
	default:
		return false
	}
	return !whole || n == math.Trunc(n)
}

func (f *Field) describe() string {
	switch f.Kind {
	case KindArray:
		return "a list"
	case KindMap:
		return "a map"
	case KindObject, KindAsset, KindInteger:
		return "an " + f.Kind
	default:
		return "a " + f.Kind
	}
}

func join(path, key string) string {
	if path == "" {
		return key
	}
	return path + "." + key
}

// unknownOutputs are the outputs of a resource that its inputs do not have, as values that are not known yet.
func (s *Shapes) unknownOutputs(token string, have resource.PropertyMap) resource.PropertyMap {
	out := resource.PropertyMap{}
	shape := s.Resources[token]
	if shape == nil {
		return out
	}
	for _, name := range shape.Outputs {
		if _, ok := have[resource.PropertyKey(name)]; !ok {
			out[resource.PropertyKey(name)] = resource.MakeComputed(resource.NewStringProperty(""))
		}
	}
	return out
}
