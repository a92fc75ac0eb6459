package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"

	"gopkg.in/yaml.v3"
)

// yamlParser is the koanf parser for our files. Koanf's own keeps no positions
// and stops at the first duplicate; this one remembers the line of every key and
// goes on after a mistake.
type yamlParser struct {
	file     string
	origin   map[string]string
	problems []Problem
}

// Unmarshal returns the known keys of the document as section -> key -> value. It
// fails only when the text is not YAML at all.
func (p *yamlParser) Unmarshal(data []byte) (map[string]any, error) {
	p.origin = map[string]string{}
	out := map[string]any{}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	var doc yaml.Node
	if err := dec.Decode(&doc); errors.Is(err, io.EOF) {
		return out, nil
	} else if err != nil {
		return nil, errors.New(strings.TrimPrefix(err.Error(), "yaml: "))
	}
	var second yaml.Node
	if err := dec.Decode(&second); !errors.Is(err, io.EOF) {
		p.report(&second, "", "there is a second document; one file holds one configuration")
	}
	root := deref(doc.Content[0])
	switch {
	case root.Kind == yaml.ScalarNode && root.Tag == "!!null":
		return out, nil
	case root.Kind != yaml.MappingNode:
		return nil, fmt.Errorf("line %d: want sections with keys, like \"network:\" and under it \"  resp_port: 8080\"", root.Line)
	}
	p.each(root, "", func(key *yaml.Node, value *yaml.Node) {
		p.section(key, value, out)
	})
	return out, nil
}

// Marshal completes koanf's interface; files are written by Config.YAML.
func (p *yamlParser) Marshal(map[string]any) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// deref follows an alias; YAML cannot nest them without a real node between.
func deref(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode && n.Alias != nil {
		return n.Alias
	}
	return n
}

// each visits the entries of a mapping once per key.
func (p *yamlParser) each(m *yaml.Node, prefix string, visit func(key, value *yaml.Node)) {
	seen := map[string]int{}
	for i := 0; i+1 < len(m.Content); i += 2 {
		key, value := deref(m.Content[i]), deref(m.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			p.report(m.Content[i], "", "a key must be plain text")
			continue
		}
		if line, dup := seen[key.Value]; dup {
			p.report(key, prefix+key.Value, fmt.Sprintf("is given twice, first in line %d; remove one", line))
			continue
		}
		seen[key.Value] = key.Line
		visit(key, value)
	}
}

func (p *yamlParser) section(key, value *yaml.Node, out map[string]any) {
	name := key.Value
	known := false
	for _, s := range sections() {
		known = known || s == name
	}
	switch {
	case !known:
		p.report(key, name, strings.Replace(unknownKey(name), "key", "section", 1))
		return
	case value.Kind == yaml.ScalarNode && value.Tag == "!!null":
		return
	case value.Kind != yaml.MappingNode:
		p.report(value, name, "is a section; its keys go on the following lines, indented")
		return
	}
	values := map[string]any{}
	aliased := map[string]string{}
	p.each(value, name+".", func(key, value *yaml.Node) {
		path := name + "." + key.Value
		if real, ok := aliases[path]; ok {
			aliased[real] = path
			path = real
		}
		if _, ok := schemaByPath[path]; !ok {
			p.report(key, path, unknownKey(path))
			return
		}
		leaf := strings.TrimPrefix(path, name+".")
		if _, twice := values[leaf]; twice {
			p.report(key, path, "is given under both of its names; remove one")
			return
		}
		var v any
		if err := value.Decode(&v); err != nil {
			p.report(value, path, strings.TrimPrefix(err.Error(), "yaml: "))
			return
		}
		if v == nil {
			return // "zone:" with nothing behind it is the default
		}
		values[leaf] = v
		p.origin[path] = fmt.Sprintf("%s:%d", p.file, key.Line)
	})
	out[name] = values
}

func (p *yamlParser) report(at *yaml.Node, path, message string) {
	origin := p.file
	if at.Line > 0 {
		origin = fmt.Sprintf("%s:%d", p.file, at.Line)
	}
	p.problems = append(p.problems, Problem{Path: path, Origin: origin, Message: message})
}
