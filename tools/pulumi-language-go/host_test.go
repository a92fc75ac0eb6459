package main

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/protobuf/types/known/structpb"
)

// writeProgram makes a module with one main package and returns its directory.
func writeProgram(t *testing.T, source string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range map[string]string{"go.mod": "module program\n\ngo 1.26.0\n", "main.go": source} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func runProgram(t *testing.T, dir string, opts map[string]any) *pulumirpc.RunResponse {
	t.Helper()
	fields, err := structpb.NewStruct(opts)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := newHost("127.0.0.1:1").Run(context.Background(), &pulumirpc.RunRequest{
		Project: "p", Stack: "s", Pwd: dir, Config: map[string]string{"p:k": "v"}, DryRun: true,
		Info: &pulumirpc.ProgramInfo{RootDirectory: dir, ProgramDirectory: dir, EntryPoint: ".", Options: fields},
	})
	if err != nil {
		t.Fatal(err)
	}
	return resp
}

func TestProgramIsToldWhatToDeploy(t *testing.T) {
	dir := writeProgram(t, `package main

import "os"

func main() {
	text := os.Getenv("PULUMI_PROJECT") + " " + os.Getenv("PULUMI_STACK") + " " + os.Getenv("PULUMI_CONFIG") + " " +
		os.Getenv("PULUMI_DRY_RUN") + " " + os.Getenv("PULUMI_ENGINE")
	if err := os.WriteFile("seen", []byte(text), 0o600); err != nil {
		panic(err)
	}
}
`)
	if resp := runProgram(t, dir, nil); resp.Error != "" || resp.Bail {
		t.Fatalf("got %v, want success", resp)
	}
	got, err := os.ReadFile(filepath.Join(dir, "seen"))
	if want := `p s {"p:k":"v"} true 127.0.0.1:1`; err != nil || string(got) != want {
		t.Errorf("the program saw %q (%v), want %q", got, err, want)
	}
}

func TestCompileErrorIsShownWithItsPlace(t *testing.T) {
	resp := runProgram(t, writeProgram(t, "package main\n\nfunc main() { nonsense() }\n"), nil)
	if !strings.Contains(resp.Error, "main.go:3") || !strings.Contains(resp.Error, "undefined: nonsense") {
		t.Errorf("got %q, want the compiler's complaint with file and line", resp.Error)
	}
}

func TestBuildTagsInGOFLAGSAreHonoured(t *testing.T) {
	dir := writeProgram(t, "package main\n\nfunc main() { chosen() }\n")
	tagged := "//go:build special\n\npackage main\n\nfunc chosen() {}\n"
	if err := os.WriteFile(filepath.Join(dir, "special.go"), []byte(tagged), 0o600); err != nil {
		t.Fatal(err)
	}
	if resp := runProgram(t, dir, nil); resp.Error == "" {
		t.Error("compiled without the tag, want a compile error")
	}
	t.Setenv("GOFLAGS", "-tags=special")
	if resp := runProgram(t, dir, nil); resp.Error != "" {
		t.Errorf("with the tag: %v", resp.Error)
	}
}

func TestExitCodesReachTheEngine(t *testing.T) {
	logged := runProgram(t, writeProgram(t, "package main\n\nimport \"os\"\n\nfunc main() { os.Exit(32) }\n"), nil)
	if !logged.Bail || logged.Error != "" {
		t.Errorf("code 32: got %v, want a silent bail: the SDK has logged the error", logged)
	}
	other := runProgram(t, writeProgram(t, "package main\n\nimport \"os\"\n\nfunc main() { os.Exit(7) }\n"), nil)
	if !strings.Contains(other.Error, "7") {
		t.Errorf("code 7: got %v, want an error naming it", other)
	}
}

func TestOptionsAreCheckedAndRelativeToTheRoot(t *testing.T) {
	dir := writeProgram(t, "package main\n\nfunc main() {}\n")
	if resp := runProgram(t, dir, map[string]any{"buildTarget": "out/program"}); resp.Error != "" {
		t.Fatal(resp.Error)
	}
	if _, err := os.Stat(filepath.Join(dir, "out", "program")); err != nil {
		t.Errorf("buildTarget was not kept: %v", err)
	}
	if resp := runProgram(t, dir, map[string]any{"binary": "out/program"}); resp.Error != "" {
		t.Errorf("prebuilt binary: %v", resp.Error)
	}
	for _, bad := range []map[string]any{
		{"binary": "a", "buildTarget": "b"}, {"binary": "missing"}, {"binary": true}, {"speed": "fast"},
	} {
		if resp := runProgram(t, dir, bad); resp.Error == "" {
			t.Errorf("options %v were accepted", bad)
		}
	}
}

func TestModulePluginIsReadFromItsDescription(t *testing.T) {
	dir := t.TempDir()
	text := `{"resource": true, "name": "aws", "server": "example.invalid"}`
	if err := os.WriteFile(filepath.Join(dir, "pulumi-plugin.json"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	p := modulePlugin(module{Dir: dir, Version: "v6.1.0"})
	if p == nil || p.Name != "aws" || p.Version != "v6.1.0" || p.Kind != "resource" {
		t.Errorf("got %v, want aws v6.1.0", p)
	}
	if p := modulePlugin(module{Dir: t.TempDir()}); p != nil {
		t.Errorf("a module without description: got %v", p)
	}
}
