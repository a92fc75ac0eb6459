package main

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hypercache/infra/cloudtest/cloud"
)

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }

// reader collects shapes from one module.
type reader struct {
	module   module
	shapes   *cloud.Shapes
	packages map[string]*pkg // by directory
}

// pkg is one parsed directory.
type pkg struct {
	dir     string
	name    string // unique: the directory inside the module
	types   map[string]ast.Expr
	enums   map[string][]string
	imports map[string]string // package name -> import path
	funcs   map[string]*ast.FuncDecl
}

// mentions finds tokens in a source without parsing it.
var mentions = regexp.MustCompile(`ctx\.(RegisterResource|Invoke)\("([^"]+)"`)

// types reads every type of the list that the module has, and takes it off the list.
func (r *reader) types(left map[string]bool) error {
	err := filepath.WalkDir(r.module.Dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasPrefix(d.Name(), "pulumi") {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, m := range mentions.FindAllSubmatch(text, -1) {
			kind, tok := string(m[1]), string(m[2])
			if !left[tok] {
				continue
			}
			if err := r.typ(kind, tok, path); err != nil {
				return fmt.Errorf("%s: %w", tok, err)
			}
			delete(left, tok)
		}
		if d.Name() == "provider.go" {
			return r.config(path)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read module %s: %w", r.module.Path, err)
	}
	return nil
}

// config reads the provider's own arguments.
func (r *reader) config(path string) error {
	p, err := r.load(filepath.Dir(path))
	if err != nil || p.types["providerArgs"] == nil {
		return err
	}
	r.shapes.Config, err = r.fields(p, "providerArgs", nil)
	return err
}

func (r *reader) typ(kind, tok, path string) error {
	p, err := r.load(filepath.Dir(path))
	if err != nil {
		return err
	}
	fn := enclosing(p, tok)
	if fn == nil {
		return fmt.Errorf("no function in %s names it", p.name)
	}
	shape := &cloud.Shape{}
	args, result := plainArgs(p, fn), resultType(fn)
	if args != "" {
		if shape.Inputs, err = r.fields(p, args, requiredIn(fn)); err != nil {
			return err
		}
	}
	shape.Outputs = outputNames(p, result)
	if kind == "Invoke" {
		r.shapes.Functions[tok] = shape
	} else {
		r.shapes.Resources[tok] = shape
	}
	return nil
}

// enclosing is the function that has the token as a literal and returns a resource or result.
func enclosing(p *pkg, tok string) *ast.FuncDecl {
	for _, name := range sortedKeys(p.funcs) {
		found := false
		fn := p.funcs[name]
		ast.Inspect(fn, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			sel, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || sel.Sel.Name != "RegisterResource" && sel.Sel.Name != "Invoke" || len(call.Args) == 0 {
				return true
			}
			lit, ok := call.Args[0].(*ast.BasicLit)
			found = found || ok && lit.Value == strconv.Quote(tok)
			return true
		})
		if found {
			return fn
		}
	}
	return nil
}

// plainArgs is the struct of plain values: a constructor takes *XArgs, whose values are xArgs; a function takes it
// directly.
func plainArgs(p *pkg, fn *ast.FuncDecl) string {
	for _, param := range fn.Type.Params.List {
		star, ok := param.Type.(*ast.StarExpr)
		if !ok {
			continue
		}
		id, ok := star.X.(*ast.Ident)
		if !ok || !strings.HasSuffix(id.Name, "Args") {
			continue
		}
		if lower := strings.ToLower(id.Name[:1]) + id.Name[1:]; p.types[lower] != nil {
			return lower
		}
		return id.Name
	}
	return ""
}

func resultType(fn *ast.FuncDecl) string {
	if fn.Type.Results == nil {
		return ""
	}
	if star, ok := fn.Type.Results.List[0].Type.(*ast.StarExpr); ok {
		if id, ok := star.X.(*ast.Ident); ok {
			return id.Name
		}
	}
	return ""
}

func outputNames(p *pkg, typ string) []string {
	st, ok := p.types[typ].(*ast.StructType)
	if !ok {
		return nil
	}
	var names []string
	for _, f := range st.Fields.List {
		if name := property(f); name != "" && name != "id" {
			names = append(names, name)
		}
	}
	return names
}

// requiredIn are the Go names of arguments that the constructor refuses to go without.
func requiredIn(fn *ast.FuncDecl) map[string]bool {
	required := map[string]bool{}
	ast.Inspect(fn, func(n ast.Node) bool {
		if lit, ok := n.(*ast.BasicLit); ok {
			if rest, ok := strings.CutPrefix(lit.Value, `"invalid value for required argument '`); ok {
				required[strings.TrimSuffix(rest, `'"`)] = true
			}
		}
		return true
	})
	return required
}

func property(f *ast.Field) string {
	if f.Tag == nil {
		return ""
	}
	tag, err := strconv.Unquote(f.Tag.Value)
	if err != nil {
		return ""
	}
	name, _, _ := strings.Cut(reflect.StructTag(tag).Get("pulumi"), ",")
	return name
}

func (r *reader) fields(p *pkg, typ string, required map[string]bool) (map[string]*cloud.Field, error) {
	st, ok := p.types[typ].(*ast.StructType)
	if !ok {
		return nil, fmt.Errorf("%s.%s is no struct", p.name, typ)
	}
	out := map[string]*cloud.Field{}
	for _, f := range st.Fields.List {
		name := property(f)
		if name == "" {
			continue
		}
		field, err := r.field(p, f.Type)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		field.Required = field.Required || len(f.Names) > 0 && required[f.Names[0].Name]
		out[name] = field
	}
	return out, nil
}

// field describes a Go type. What is neither pointer, list, map nor interface is required.
func (r *reader) field(p *pkg, typ ast.Expr) (*cloud.Field, error) {
	switch t := typ.(type) {
	case *ast.StarExpr:
		f, err := r.field(p, t.X)
		if err == nil {
			f.Required = false
		}
		return f, err
	case *ast.ArrayType:
		return r.container(p, cloud.KindArray, t.Elt)
	case *ast.MapType:
		return r.container(p, cloud.KindMap, t.Value)
	case *ast.InterfaceType:
		return &cloud.Field{Kind: cloud.KindAny}, nil
	case *ast.SelectorExpr:
		return r.foreign(p, t)
	case *ast.Ident:
		return r.named(p, t.Name)
	default:
		return nil, fmt.Errorf("%s: a type of unknown form %T", p.name, typ)
	}
}

func (r *reader) container(p *pkg, kind string, elem ast.Expr) (*cloud.Field, error) {
	e, err := r.field(p, elem)
	if err != nil {
		return nil, err
	}
	e.Required = false
	return &cloud.Field{Kind: kind, Elem: e}, nil
}

// foreign is a type of another package: the SDK's assets, or a package of the same module.
func (r *reader) foreign(p *pkg, t *ast.SelectorExpr) (*cloud.Field, error) {
	from, ok := t.X.(*ast.Ident)
	if !ok {
		return nil, fmt.Errorf("%s: a type of unknown form", p.name)
	}
	if from.Name == "pulumi" {
		switch t.Sel.Name {
		case "AssetOrArchive", "Asset", "Archive":
			return &cloud.Field{Kind: cloud.KindAsset}, nil
		default:
			return &cloud.Field{Kind: cloud.KindAny}, nil
		}
	}
	inside, ok := strings.CutPrefix(p.imports[from.Name], r.module.Path)
	if !ok {
		return nil, fmt.Errorf("%s: %s.%s is in no package of the module", p.name, from.Name, t.Sel.Name)
	}
	other, err := r.load(filepath.Join(r.module.Dir, inside))
	if err != nil {
		return nil, err
	}
	return r.named(other, t.Sel.Name)
}

func (r *reader) named(p *pkg, name string) (*cloud.Field, error) {
	switch name {
	case "string":
		return &cloud.Field{Kind: cloud.KindString, Required: true}, nil
	case "bool":
		return &cloud.Field{Kind: cloud.KindBoolean, Required: true}, nil
	case "int":
		return &cloud.Field{Kind: cloud.KindInteger, Required: true}, nil
	case "float64":
		return &cloud.Field{Kind: cloud.KindNumber, Required: true}, nil
	case "any":
		return &cloud.Field{Kind: cloud.KindAny}, nil
	}
	full := p.name + "." + name
	switch t := p.types[name].(type) {
	case *ast.StructType:
		if _, done := r.shapes.Objects[full]; !done {
			r.shapes.Objects[full] = nil // stands for itself in a type that contains itself
			fields, err := r.fields(p, name, nil)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", full, err)
			}
			r.shapes.Objects[full] = fields
		}
		return &cloud.Field{Kind: cloud.KindObject, Ref: full, Required: true}, nil
	case *ast.Ident:
		f, err := r.named(p, t.Name)
		if err == nil && len(p.enums[name]) > 0 {
			f.Enum = full
			r.shapes.Enums[full] = p.enums[name]
		}
		return f, err
	default:
		return nil, fmt.Errorf("type %s is not in the sources", full)
	}
}

// load parses a directory once.
func (r *reader) load(dir string) (*pkg, error) {
	if p, ok := r.packages[dir]; ok {
		return p, nil
	}
	rel, err := filepath.Rel(r.module.Dir, dir)
	if err != nil {
		return nil, fmt.Errorf("name package: %w", err)
	}
	name := filepath.ToSlash(rel)
	if name == "." {
		name = filepath.Base(strings.TrimSuffix(r.module.Path, "/v2"))
	}
	p := &pkg{
		dir: dir, name: strings.TrimPrefix(name, "go/"), types: map[string]ast.Expr{}, enums: map[string][]string{},
		imports: map[string]string{}, funcs: map[string]*ast.FuncDecl{},
	}
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		return nil, fmt.Errorf("list package: %w", err)
	}
	for _, path := range files {
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return nil, fmt.Errorf("parse package: %w", err)
		}
		p.add(f)
	}
	r.packages[dir] = p
	return p, nil
}

func (p *pkg) add(f *ast.File) {
	for _, i := range f.Imports {
		path, err := strconv.Unquote(i.Path.Value)
		if err != nil {
			continue
		}
		name := path[strings.LastIndex(path, "/")+1:]
		if i.Name != nil {
			name = i.Name.Name
		}
		p.imports[name] = path
	}
	for _, d := range f.Decls {
		switch d := d.(type) {
		case *ast.FuncDecl:
			if d.Recv == nil {
				p.funcs[d.Name.Name] = d
			}
		case *ast.GenDecl:
			for _, s := range d.Specs {
				switch s := s.(type) {
				case *ast.TypeSpec:
					p.types[s.Name.Name] = s.Type
				case *ast.ValueSpec:
					p.constant(s)
				}
			}
		}
	}
}

// constant notes the value of an enumeration: X = T("value").
func (p *pkg) constant(s *ast.ValueSpec) {
	for _, v := range s.Values {
		call, ok := v.(*ast.CallExpr)
		if !ok || len(call.Args) != 1 {
			continue
		}
		id, ok := call.Fun.(*ast.Ident)
		lit, isLit := call.Args[0].(*ast.BasicLit)
		if !ok || !isLit || lit.Kind != token.STRING {
			continue
		}
		if value, err := strconv.Unquote(lit.Value); err == nil {
			p.enums[id.Name] = append(p.enums[id.Name], value)
		}
	}
}
