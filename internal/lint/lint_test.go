// Package lint holds rules about the repository as a whole, as tests: which package may import which, and what a file may
// not contain. It has no code of its own.
package lint

import (
	"bytes"
	"encoding/json"
	"errors"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// rule says what the packages below a path may import of this module and of the outside. Entries are path prefixes. The
// longest path that fits a package is its rule.
type rule struct {
	internal []string // below "hypercache/"
	external []string // modules' import paths; the standard library is always allowed
}

// rules is the layout of DESIGN §2. node imports nothing below it, provisioning node/config only and never Pulumi, infra what it
// needs of both. serf is known to node/member alone, raft to node/topology alone, the Pulumi SDK to infra alone.
var rules = map[string]rule{
	"node/ring":           {},
	"node/underway":       {},
	"node/spare":          {},
	"node/store":          {internal: []string{"node/ring"}, external: []string{"golang.org/x/sys", "github.com/cespare/xxhash/v2"}},
	"node/resp":           {external: []string{"github.com/tidwall/redcon", "golang.org/x/sys"}},
	"node/config":         {external: []string{"github.com/knadh/koanf", "gopkg.in/yaml.v3"}},
	"node/rdb":            {},
	"node/command":        {internal: []string{"node/ring", "node/resp", "node/store", "node/rdb", "node/pubsub", "node/tracking"}, external: []string{"github.com/tidwall/redcon"}},
	"node/command/golden": {internal: []string{"node/rdb", "node/command/golden", "internal/need"}},
	"node/redisfile":      {internal: []string{"node/rdb", "node/command", "node/resp", "node/store", "node/script"}},
	"node/pubsub":         {internal: []string{"node/ring", "node/resp"}},
	"node/tracking":       {internal: []string{"node/ring", "node/resp", "node/pubsub"}},
	"node/journal":        {internal: []string{"node/ring", "node/spare", "node/underway"}, external: []string{"golang.org/x/sys"}},
	"node/member":         {external: []string{"github.com/hashicorp/serf", "github.com/hashicorp/memberlist", "github.com/hashicorp/go-msgpack"}},
	"node/topology":       {internal: []string{"node/ring", "node/underway"}, external: []string{"github.com/hashicorp/raft", "github.com/hashicorp/raft-boltdb/v2", "go.etcd.io/bbolt", "github.com/hashicorp/go-hclog"}},
	"node/replica":        {internal: []string{"node/ring", "node/journal"}},
	"node/peer":           {external: []string{"golang.org/x/sync"}},
	"node/clock":          {external: []string{"golang.org/x/sys"}},
	"node/replica/sim":    {internal: []string{"node/ring", "node/journal", "node/replica"}},
	"node/sim":            {internal: []string{"node/ring", "node/journal", "node/replica", "node/topology"}},
	"node/script":         {internal: []string{"node/resp"}, external: []string{"github.com/yuin/gopher-lua"}},
	"node/acl":            {internal: []string{"node/command"}},
	"node/cache": {internal: []string{"node/ring", "node/acl", "node/spare", "node/store", "node/resp", "node/command", "node/journal", "node/replica",
		"node/topology", "node/peer", "node/script", "node/pubsub", "node/tracking", "node/rdb", "node/clock"}, external: []string{"golang.org/x/sync"}},
	"node/httpapi":        {internal: []string{"node/ring"}, external: []string{"github.com/prometheus/client_golang", "golang.org/x/sync"}},
	"node/server":         {internal: []string{"node"}, external: []string{"golang.org/x/sync", "github.com/tidwall/redcon"}},
	"node/nodetest":       {internal: []string{"node"}, external: []string{"github.com/redis/go-redis/v9", "github.com/tidwall/redcon"}},
	"node/recovery":       {internal: []string{"node/ring", "node/config", "node/store", "node/command", "node/journal", "node/topology"}},
	"node/cmd/hypercache": {internal: []string{"node"}},

	"provisioning": {internal: []string{"node/config"}, external: []string{"gopkg.in/yaml.v3"}},

	"infra":                          {internal: []string{"infra"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"infra/config":                   {external: []string{"gopkg.in/yaml.v3"}},
	"infra/plan":                     {internal: []string{"infra/config"}},
	"infra/outputs":                  {internal: []string{"infra/plan"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"infra/payload":                  {internal: []string{"infra/config", "infra/plan", "provisioning"}},
	"infra/rollout":                  {internal: []string{"infra/config", "infra/plan"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"infra/local":                    {internal: []string{"infra/config", "infra/plan", "infra/outputs", "infra/provider/machine", "provisioning"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"infra/aws":                      {internal: forVMs, external: []string{"github.com/pulumi/pulumi/sdk/v3", "github.com/pulumi/pulumi-aws/sdk/v6", "github.com/pulumi/pulumi-random/sdk/v4"}},
	"infra/azure":                    {internal: forVMs, external: []string{"github.com/pulumi/pulumi/sdk/v3", "github.com/pulumi/pulumi-azure-native-sdk", "github.com/pulumi/pulumi-random/sdk/v4"}},
	"infra/provider":                 {internal: []string{"infra/provider"}, external: []string{"github.com/pulumi/pulumi/sdk/v3", "github.com/pulumi/pulumi-go-provider", "github.com/blang/semver"}},
	"infra/provider/fleet":           {},
	"infra/provider/machine":         {internal: []string{"infra/provider/ports", "provisioning"}},
	"infra/provider/ports":           {},
	"infra/provider/cmd/portcheck":   {internal: []string{"infra/config", "infra/plan", "infra/provider/machine", "infra/provider/ports"}},
	"infra/policy":                   {external: []string{"github.com/pulumi/pulumi/sdk/v3", "github.com/blang/semver"}},
	"infra/cloudtest/cloud":          {internal: []string{"infra/cloudtest/fabric"}, external: []string{"github.com/pulumi/pulumi/sdk/v3", "google.golang.org/grpc", "google.golang.org/protobuf"}},
	"infra/cloudtest/fabric":         {internal: []string{"infra/cloudtest/image"}, external: []string{"github.com/miekg/dns", "golang.org/x/sys"}},
	"infra/cloudtest/image":          {},
	"infra/cloudtest/awscloud":       {internal: []string{"infra/cloudtest/cloud", "infra/cloudtest/fabric"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"infra/cloudtest/azurecloud":     {internal: []string{"infra/cloudtest/cloud", "infra/cloudtest/fabric"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"infra/cloudtest/randomcloud":    {internal: []string{"infra/cloudtest/cloud"}, external: []string{"github.com/pulumi/pulumi/sdk/v3", "golang.org/x/crypto"}},
	"infra/cloudtest/cloud/shapegen": {internal: []string{"infra/cloudtest/cloud"}},
	"infra/e2e":                      {internal: []string{"infra/provider/machine", "infra/cloudtest"}, external: []string{"github.com/pulumi/pulumi/sdk/v3"}},
	"scripts/bench":                  {},
	"scripts/faults":                 {internal: []string{"node/ring"}, external: []string{"golang.org/x/sys", "github.com/anishathalye/porcupine"}},

	"configs":  {internal: []string{"node/config"}},
	"internal": {},
}

// forVMs is what the clouds that make machines are built on. They never import each other.
var forVMs = []string{"infra/config", "infra/plan", "infra/outputs", "infra/payload", "infra/rollout", "provisioning"}

// testOnly are imports that tests of any package may have on top of its rule.
var testOnly = []string{"pgregory.net/rapid", "github.com/redis/go-redis/v9", "gopkg.in/yaml.v3", "github.com/tidwall/redcon",
	"golang.org/x/sys"}

// goPackage is what `go list` tells about a package.
type goPackage struct {
	ImportPath, Dir, Doc, Name         string
	Imports, TestImports, XTestImports []string
	GoFiles                            []string
}

func packages(t *testing.T) []goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-tags=e2e,mutation", "-json=ImportPath,Dir,Doc,Name,Imports,TestImports,XTestImports,GoFiles", "hypercache/...")
	out, err := cmd.Output()
	if err != nil {
		var exit *exec.ExitError
		if errors.As(err, &exit) {
			t.Fatalf("go list: %s", exit.Stderr)
		}
		t.Fatal(err)
	}
	var all []goPackage
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// under tells whether path is prefix or below it.
func under(path, prefix string) bool {
	return path == prefix || strings.HasPrefix(path, prefix+"/")
}

func ruleOf(path string) (name string, r rule, ok bool) {
	for prefix, candidate := range rules {
		if under(path, prefix) && len(prefix) >= len(name) {
			name, r, ok = prefix, candidate, true
		}
	}
	return name, r, ok
}

func allowed(path, imported string, extra []string) bool {
	name, r, _ := ruleOf(path)
	if local, ours := strings.CutPrefix(imported, "hypercache/"); ours {
		return under(local, name) || slices.ContainsFunc(r.internal, func(p string) bool { return under(local, p) })
	}
	if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
		return true // the standard library
	}
	return slices.ContainsFunc(append(slices.Clone(r.external), extra...), func(p string) bool { return under(imported, p) })
}

func TestImportsPointOneWay(t *testing.T) {
	for _, p := range packages(t) {
		path := strings.TrimPrefix(p.ImportPath, "hypercache/")
		if _, _, ok := ruleOf(path); !ok {
			t.Errorf("%s has no rule: decide what it may import", path)
			continue
		}
		for _, imported := range p.Imports {
			if !allowed(path, imported, nil) {
				t.Errorf("%s imports %s, which its rule does not allow", path, imported)
			}
		}
		for _, imported := range slices.Concat(p.TestImports, p.XTestImports) {
			if !allowed(path, imported, testOnly) && !testMayCross(path, imported) {
				t.Errorf("a test of %s imports %s, which its rule does not allow", path, imported)
			}
		}
	}
}

// testMayCross lets tests of the node's packages use what they are tested against.
func testMayCross(path, imported string) bool {
	return imported == "hypercache/internal/need" || under(path, "node") && under(imported, "hypercache/node") || under(path, "configs") && under(imported, "hypercache/node/config") ||
		under(path, "infra/cloudtest") && under(imported, "hypercache/infra/cloudtest")
}

func TestTheRulesRefuse(t *testing.T) {
	for _, forbidden := range [][2]string{
		{"node/cache", "github.com/hashicorp/serf/serf"}, {"node/peer", "github.com/hashicorp/raft"},
		{"node/config", "hypercache/node/resp"}, {"node/server", "hypercache/infra/plan"}, {"node/command", "hypercache/node/cache"},
		{"provisioning/nodeconf", "github.com/pulumi/pulumi/sdk/v3/go/pulumi"}, {"provisioning/nodeconf", "hypercache/node/store"},
		{"infra/plan", "github.com/pulumi/pulumi/sdk/v3/go/pulumi"}, {"infra/local", "hypercache/infra/aws"},
		{"infra/aws", "hypercache/infra/azure"}, {"infra/azure", "github.com/pulumi/pulumi-aws/sdk/v6/go/aws/ec2"},
	} {
		if allowed(forbidden[0], forbidden[1], testOnly) {
			t.Errorf("%s may import %s", forbidden[0], forbidden[1])
		}
	}
}

func TestEveryPackageSaysWhatItOwns(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package documentation", p.ImportPath)
		}
		base := filepath.Base(p.ImportPath)
		if slices.Contains([]string{"util", "utils", "common", "helpers", "types", "misc"}, base) {
			t.Errorf("%s: %q hides no decision; name the package after what it does", p.ImportPath, base)
		}
	}
}

// sourceFiles are the Go files that git knows or would take, of every module of the repository.
func sourceFiles(t *testing.T) []string {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", "*.go")
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list files: %v", err)
	}
	var files []string
	for f := range strings.SplitSeq(strings.TrimRight(string(out), "\x00"), "\x00") {
		files = append(files, filepath.Join("..", "..", f))
	}
	return files
}

const maxLines = 800

// machinePath is a path that exists on one developer's machine only.
var machinePath = regexp.MustCompile(`"/(home|Users|root|wor[k])/`)

func TestFilesAreShortAndBelongToNoMachine(t *testing.T) {
	for _, f := range sourceFiles(t) {
		data, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) {
			continue // deleted and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		if n := bytes.Count(data, []byte("\n")); n > maxLines {
			t.Errorf("%s has %d lines; split it (at most %d)", f, n, maxLines)
		}
		if m := machinePath.Find(data); m != nil && !strings.HasSuffix(f, "internal/lint/lint_test.go") {
			t.Errorf("%s names a path of one machine: %s", f, m)
		}
	}
}

func TestNoTestSleeps(t *testing.T) {
	for _, f := range sourceFiles(t) {
		if !strings.HasSuffix(f, "_test.go") {
			continue
		}
		set := token.NewFileSet()
		file, err := parser.ParseFile(set, f, nil, 0)
		if errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		synctest := slices.ContainsFunc(file.Imports, func(i *ast.ImportSpec) bool { return i.Path.Value == `"testing/synctest"` })
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.SelectorExpr)
			if !ok || call.Sel.Name != "Sleep" {
				return true
			}
			if pkg, ok := call.X.(*ast.Ident); ok && pkg.Name == "time" && !synctest {
				t.Errorf("%s: time.Sleep in a test; wait for the condition, or use testing/synctest", set.Position(call.Pos()))
			}
			return true
		})
	}
}
