package cloud

import (
	"encoding/json"
	"maps"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
)

// overlay is base with everything of top in its place. What only the provider keeps in inputs is left out.
func overlay(base, top resource.PropertyMap) resource.PropertyMap {
	out := maps.Clone(base)
	if out == nil {
		out = resource.PropertyMap{}
	}
	maps.Copy(out, top)
	delete(out, defaultsKey)
	return out
}

// dropped is outputs without those that stem from an input that is no longer given.
func dropped(outputs, older, newer resource.PropertyMap) resource.PropertyMap {
	out := maps.Clone(outputs)
	for key := range older {
		if _, ok := newer[key]; !ok {
			delete(out, key)
		}
	}
	return out
}

// secret marks the outputs that the kind lists.
func (k *Kind) secret(m resource.PropertyMap) resource.PropertyMap {
	for _, name := range k.Secret {
		key := resource.PropertyKey(name)
		if v, ok := m[key]; ok && !v.IsSecret() && !v.IsNull() {
			m[key] = resource.MakeSecret(v)
		}
	}
	return m
}

// withDecoded is a provider's configuration with the values that are no strings decoded: Pulumi sends those as JSON.
func withDecoded(fields map[string]*Field, m resource.PropertyMap) resource.PropertyMap {
	out := maps.Clone(m)
	for key, v := range m {
		f := fields[string(key)]
		if f == nil || f.Kind == KindString || !v.IsString() {
			continue
		}
		var decoded any
		if json.Unmarshal([]byte(v.StringValue()), &decoded) == nil {
			out[key] = resource.NewPropertyValue(decoded)
		}
	}
	return out
}
