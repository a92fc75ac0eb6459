package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
)

// maxBuildOutput bounds what of the compiler's complaints goes to the engine, in bytes.
const maxBuildOutput = 16 << 10

// options are the runtime options of Pulumi.yaml. At most one of them is set.
type options struct {
	binary      string // a prebuilt program: nothing is compiled
	buildTarget string // where the compiled program is kept, so that the next run links faster
}

// parseOptions reads the options; relative paths are relative to the project's root.
func parseOptions(info *pulumirpc.ProgramInfo) (options, error) {
	var o options
	for key, v := range info.GetOptions().GetFields() {
		text := v.GetStringValue()
		if (key == "binary" || key == "buildTarget") && text == "" {
			return options{}, fmt.Errorf("runtime option %s: want a path", key)
		}
		if text != "" && !filepath.IsAbs(text) {
			text = filepath.Join(info.GetRootDirectory(), text)
		}
		switch key {
		case "binary":
			o.binary = text
		case "buildTarget":
			o.buildTarget = text
		default:
			return options{}, fmt.Errorf("runtime option %s is not known; there are binary and buildTarget", key)
		}
	}
	if o.binary != "" && o.buildTarget != "" {
		return options{}, errors.New("runtime options binary and buildTarget exclude each other")
	}
	return o, nil
}

// program returns the path of a runnable program and what removes it after use. Where PULUMI_HOME gives it a place of its
// own, the program is kept there: go build leaves one that is up to date alone, so the update after a preview, and the
// next run, skip the linker.
func program(ctx context.Context, dir string, o options) (path string, cleanup func(), err error) {
	switch {
	case o.binary != "":
		if _, err := os.Stat(o.binary); err != nil {
			return "", nil, fmt.Errorf("runtime option binary: %w", err)
		}
		return o.binary, func() {}, nil
	case o.buildTarget != "":
		return o.buildTarget, func() {}, build(ctx, dir, o.buildTarget)
	}
	if home := os.Getenv("PULUMI_HOME"); home != "" {
		path := filepath.Join(home, "go-programs", fmt.Sprintf("%x", sha256.Sum256([]byte(dir))), "program")
		return path, func() {}, build(ctx, dir, path)
	}
	tmp, err := os.MkdirTemp("", "pulumi-go-")
	if err != nil {
		return "", nil, fmt.Errorf("make room for the program: %w", err)
	}
	cleanup = func() { _ = os.RemoveAll(tmp) }
	path = filepath.Join(tmp, "program")
	if err := build(ctx, dir, path); err != nil {
		cleanup()
		return "", nil, err
	}
	return path, cleanup, nil
}

// build compiles the package in dir. Its error holds the compiler's words, the part a user needs.
func build(ctx context.Context, dir, out string) error {
	sources, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil || len(sources) == 0 {
		return fmt.Errorf("no Go files in %s: the program's package main must be there itself (see `main` in Pulumi.yaml)", dir)
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-buildvcs=false", "-ldflags", "-s -w", "-o", out, ".")
	cmd.Dir = dir
	// The compilers that go build started end with it: an SDK's takes minutes and gigabytes, and nobody waits for it.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	text, err := cmd.CombinedOutput()
	if err == nil {
		return nil
	}
	if errors.Is(err, exec.ErrNotFound) {
		return errors.New("the go command is not on PATH; it is needed to compile the Pulumi program")
	}
	if len(text) > maxBuildOutput {
		text = append(text[:maxBuildOutput:maxBuildOutput], "\n…"...)
	}
	return fmt.Errorf("compile the program in %s: %w\n%s", dir, err, bytes.TrimSpace(text))
}

// module is the part of `go list`'s module record that matters here.
type module struct {
	Path, Version, Dir string
	Main, Indirect     bool
	Replace            *module
}

// listModules runs `go list` with args in dir and returns the modules it names, each once.
func listModules(ctx context.Context, dir string, args ...string) ([]module, error) {
	return decodeModules(ctx, dir, append([]string{"list", "-json=Path,Version,Dir,Main,Indirect,Replace"}, args...),
		func(dec *json.Decoder) (*module, error) {
			var m module
			return &m, dec.Decode(&m)
		})
}

// compiledModules returns the modules that have a package in the program under the current build tags.
func compiledModules(ctx context.Context, dir string) ([]module, error) {
	return decodeModules(ctx, dir, []string{"list", "-deps", "-json=Module", "."},
		func(dec *json.Decoder) (*module, error) {
			var p struct{ Module *module }
			err := dec.Decode(&p)
			return p.Module, err
		})
}

func decodeModules(
	ctx context.Context, dir string, args []string, next func(*json.Decoder) (*module, error),
) ([]module, error) {
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = dir
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("go list in %s: %w\n%s", dir, err, bytes.TrimSpace(stderr.Bytes()))
	}
	var mods []module
	seen := map[string]bool{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		m, err := next(dec)
		if errors.Is(err, io.EOF) {
			return mods, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read go list's answer: %w", err)
		}
		if m != nil && !seen[m.Path] { // standard packages have no module
			seen[m.Path] = true
			mods = append(mods, *m)
		}
	}
}

// requiredPlugins finds the modules that carry a pulumi-plugin.json saying that a resource plugin belongs to them.
func requiredPlugins(ctx context.Context, dir string) ([]*pulumirpc.PackageDependency, error) {
	mods, err := compiledModules(ctx, dir)
	if err != nil {
		return nil, err
	}
	var plugins []*pulumirpc.PackageDependency
	for _, m := range mods {
		if m.Replace != nil {
			m.Dir, m.Version = m.Replace.Dir, m.Replace.Version
		}
		if p := modulePlugin(m); p != nil {
			plugins = append(plugins, p)
		}
	}
	return plugins, nil
}

// modulePlugin reads the plugin description of a module, nil if it has none. SDKs whose Go package sits below the
// module's root keep the file there.
func modulePlugin(m module) *pulumirpc.PackageDependency {
	for _, pattern := range []string{"pulumi-plugin.json", "go/*/pulumi-plugin.json", "*/pulumi-plugin.json"} {
		files, err := filepath.Glob(filepath.Join(m.Dir, pattern))
		if err != nil || m.Dir == "" {
			continue
		}
		for _, f := range files {
			var d struct {
				Resource              bool
				Name, Version, Server string
			}
			data, err := os.ReadFile(f)
			if err != nil || json.Unmarshal(data, &d) != nil || !d.Resource || d.Name == "" {
				continue
			}
			if d.Version == "" {
				d.Version = m.Version
			}
			return &pulumirpc.PackageDependency{Name: d.Name, Kind: "resource", Version: d.Version, Server: d.Server}
		}
	}
	return nil
}
