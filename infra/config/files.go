package config

import (
	"encoding/json"
	"fmt"

	"gopkg.in/yaml.v3"
)

// FromFiles looks keys up in the texts of a project file and a stack file, for programs that run without the Pulumi
// engine. The stack's value wins over the project's default. Encrypted values read as unset.
func FromFiles(project, stack []byte) (Lookup, error) {
	var p struct {
		Name   string
		Config map[string]struct{ Default any }
	}
	if err := yaml.Unmarshal(project, &p); err != nil {
		return nil, fmt.Errorf("read project file: %w", err)
	}
	var s struct{ Config map[string]any }
	if err := yaml.Unmarshal(stack, &s); err != nil {
		return nil, fmt.Errorf("read stack file: %w", err)
	}
	return func(key string) (string, bool) {
		if v, ok := s.Config[p.Name+":"+key]; ok {
			return asText(v)
		}
		return asText(p.Config[key].Default)
	}, nil
}

// Defaults looks keys up among a project file's defaults alone.
func Defaults(project []byte) Lookup {
	get, err := FromFiles(project, nil)
	if err != nil {
		return func(string) (string, bool) { return "", false }
	}
	return get
}

// asText is a YAML value as Pulumi hands it to a program.
func asText(v any) (string, bool) {
	switch v := v.(type) {
	case nil:
		return "", false
	case string:
		return v, true
	default:
		out, err := json.Marshal(v)
		return string(out), err == nil
	}
}
