package cloud

import (
	"encoding/base64"
	"fmt"
	"math"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// Known reports whether the value is there and known: neither absent, null, nor still to be computed.
func Known(m resource.PropertyMap, key string) bool {
	v, ok := m[resource.PropertyKey(key)]
	return ok && !v.IsNull() && !v.IsComputed() && !v.IsOutput()
}

// Unknown reports whether the value is still to be computed, as a whole.
func Unknown(m resource.PropertyMap, key string) bool {
	v, ok := m[resource.PropertyKey(key)]
	return ok && (v.IsComputed() || v.IsOutput())
}

// Str is the string at key; "" if there is none that is known.
func Str(m resource.PropertyMap, key string) string {
	if v := m[resource.PropertyKey(key)]; v.IsString() {
		return v.StringValue()
	}
	return ""
}

// Int is the whole number at key; 0 if there is none that is known.
func Int(m resource.PropertyMap, key string) int {
	if v := m[resource.PropertyKey(key)]; v.IsNumber() {
		return int(math.Round(v.NumberValue()))
	}
	return 0
}

// Bool is the boolean at key; otherwise is the value if there is none that is known.
func Bool(m resource.PropertyMap, key string, otherwise bool) bool {
	if v := m[resource.PropertyKey(key)]; v.IsBool() {
		return v.BoolValue()
	}
	return otherwise
}

// Obj is the object at key; empty if there is none that is known.
func Obj(m resource.PropertyMap, key string) resource.PropertyMap {
	if v := m[resource.PropertyKey(key)]; v.IsObject() {
		return v.ObjectValue()
	}
	return resource.PropertyMap{}
}

// List is the array at key; nil if there is none that is known.
func List(m resource.PropertyMap, key string) []resource.PropertyValue {
	if v := m[resource.PropertyKey(key)]; v.IsArray() {
		return v.ArrayValue()
	}
	return nil
}

// Strs are the known strings of the array at key.
func Strs(m resource.PropertyMap, key string) []string {
	var out []string
	for _, v := range List(m, key) {
		if v.IsString() {
			out = append(out, v.StringValue())
		}
	}
	return out
}

// Objs are the known objects of the array at key.
func Objs(m resource.PropertyMap, key string) []resource.PropertyMap {
	var out []resource.PropertyMap
	for _, v := range List(m, key) {
		if v.IsObject() {
			out = append(out, v.ObjectValue())
		}
	}
	return out
}

// StrMap are the known strings of the map at key.
func StrMap(m resource.PropertyMap, key string) map[string]string {
	out := map[string]string{}
	for k, v := range Obj(m, key) {
		if v.IsString() {
			out[string(k)] = v.StringValue()
		}
	}
	return out
}

// Values makes a property map of Go values: strings, booleans, numbers, slices, maps with string keys, property
// values.
func Values(m map[string]any) resource.PropertyMap {
	out := resource.PropertyMap{}
	for k, v := range m {
		out[resource.PropertyKey(k)] = Value(v)
	}
	return out
}

// Value makes a property value of a Go value.
func Value(v any) resource.PropertyValue {
	switch t := v.(type) {
	case resource.PropertyValue:
		return t
	case resource.PropertyMap:
		return resource.NewObjectProperty(t)
	case []string:
		list := make([]resource.PropertyValue, len(t))
		for i, s := range t {
			list[i] = resource.NewStringProperty(s)
		}
		return resource.NewArrayProperty(list)
	case []resource.PropertyValue:
		return resource.NewArrayProperty(t)
	case map[string]any:
		return resource.NewObjectProperty(Values(t))
	default:
		return resource.NewPropertyValue(v)
	}
}

// Bytes reads an asset that is the value at key: a file, a text or a URI. Secrets and strings serve as well.
func (c *Call) Bytes(key string) ([]byte, error) {
	v := c.Inputs[resource.PropertyKey(key)]
	switch {
	case v.IsString():
		return []byte(v.StringValue()), nil
	case v.IsAsset():
		a := v.AssetValue()
		blob, err := a.ReadWithWD(c.dir)
		if err != nil {
			return nil, fmt.Errorf("read asset %s: %w", key, err)
		}
		defer func() { _ = blob.Close() }()
		data := make([]byte, blob.Size())
		for n := 0; n < len(data); {
			k, err := blob.Read(data[n:])
			if err != nil && n+k < len(data) {
				return nil, fmt.Errorf("read asset %s: %w", key, err)
			}
			n += k
		}
		return data, nil
	default:
		return nil, fmt.Errorf("%s: want a file or text asset, have %s", key, v.TypeString())
	}
}

// Decode64 is the value at key, decoded from base64.
func Decode64(m resource.PropertyMap, key string) ([]byte, error) {
	data, err := base64.StdEncoding.DecodeString(Str(m, key))
	if err != nil {
		return nil, fmt.Errorf("%s is not base64: %w", key, err)
	}
	return data, nil
}
