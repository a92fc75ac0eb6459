// Command shapegen reads a Pulumi SDK's Go sources and writes the shapes of some of its types for package cloud.
//
//	go run ./infra/cloudtest/cloud/shapegen -out shapes.json -list tokens.txt MODULE...
//
// The list has one token a line, of a resource or a function; lines that begin with # are left out. The modules are
// those of go.mod; where a module's packages are, the go command tells. It reads what the SDK generator leaves
// behind: the unexported structs of plain values (a pointer is an optional property), the constructors' tests for
// missing arguments (a list or map that is required), and the constants of enumerations.
package main

import (
	"bytes"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"hypercache/infra/cloudtest/cloud"
)

func main() {
	out := flag.String("out", "shapes.json", "where to write")
	list := flag.String("list", "tokens.txt", "which types")
	flag.Parse()
	if err := generate(*out, *list, flag.Args()); err != nil {
		fmt.Fprintln(os.Stderr, "shapegen:", err)
		os.Exit(1)
	}
}

func generate(out, list string, modules []string) error {
	text, err := os.ReadFile(list)
	if err != nil {
		return fmt.Errorf("read list: %w", err)
	}
	var tokens []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			tokens = append(tokens, line)
		}
	}
	shapes := cloud.Shapes{
		Resources: map[string]*cloud.Shape{}, Functions: map[string]*cloud.Shape{},
		Objects: map[string]map[string]*cloud.Field{}, Enums: map[string][]string{},
	}
	left := map[string]bool{}
	for _, t := range tokens {
		left[t] = true
	}
	var sources []string
	for _, path := range modules {
		m, err := locate(path)
		if err != nil {
			return err
		}
		sources = append(sources, m.Path+"@"+m.Version)
		r := &reader{module: m, shapes: &shapes, packages: map[string]*pkg{}}
		if err := r.types(left); err != nil {
			return err
		}
	}
	for t := range left {
		return fmt.Errorf("%s: no source registers or invokes it", t)
	}
	shapes.Source = strings.Join(sources, " ")
	return write(out, shapes)
}

// module is what the go command knows of one.
type module struct{ Path, Version, Dir string }

func locate(path string) (module, error) {
	text, err := exec.Command("go", "list", "-m", "-json", path).Output()
	if err != nil {
		return module{}, fmt.Errorf("locate module %s: %w", path, err)
	}
	var m module
	if err := json.Unmarshal(text, &m); err != nil {
		return module{}, fmt.Errorf("locate module %s: %w", path, err)
	}
	return m, nil
}

// write puts one type on a line, so that a change of the SDK's version shows as a readable difference.
func write(out string, s cloud.Shapes) error {
	var b bytes.Buffer
	b.WriteString("{\n")
	for i, part := range []struct {
		name string
		v    any
	}{
		{"source", s.Source}, {"resources", s.Resources}, {"functions", s.Functions}, {"objects", s.Objects},
		{"enums", s.Enums}, {"config", s.Config},
	} {
		if i > 0 {
			b.WriteString(",\n")
		}
		text, err := json.Marshal(part.v)
		if err != nil {
			return fmt.Errorf("encode %s: %w", part.name, err)
		}
		entries := map[string]json.RawMessage{}
		if json.Unmarshal(text, &entries) != nil || len(entries) == 0 {
			fmt.Fprintf(&b, "%q: %s", part.name, text)
			continue
		}
		fmt.Fprintf(&b, "%q: {\n", part.name)
		for j, key := range sortedKeys(entries) {
			if j > 0 {
				b.WriteString(",\n")
			}
			fmt.Fprintf(&b, "  %q: %s", key, entries[key])
		}
		b.WriteString("\n}")
	}
	b.WriteString("\n}\n")
	if err := os.WriteFile(filepath.Clean(out), b.Bytes(), 0o644); err != nil {
		return fmt.Errorf("write shapes: %w", err)
	}
	return nil
}
