package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/constant"
	"github.com/pulumi/pulumi/sdk/v3/go/common/version"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/types/known/emptypb"
)

// host answers the engine. Calls may overlap: a program that is running and a Cancel, for instance.
type host struct {
	pulumirpc.UnimplementedLanguageRuntimeServer
	engine string // address that programs report to

	mu      sync.Mutex
	nextRun int
	running map[int]task // what is under way
}

// task is a program or a plugin under way.
type task struct {
	cancel context.CancelFunc
	plugin bool
}

func newHost(engine string) *host {
	return &host{engine: engine, running: map[int]task{}}
}

// Handshake replaces the engine address from the command line by the one the engine gives here.
func (h *host) Handshake(
	_ context.Context, req *pulumirpc.LanguageHandshakeRequest,
) (*pulumirpc.LanguageHandshakeResponse, error) {
	if a := req.GetEngineAddress(); a != "" {
		h.mu.Lock()
		h.engine = a
		h.mu.Unlock()
	}
	return &pulumirpc.LanguageHandshakeResponse{}, nil
}

// GetPluginInfo reports the version of the SDK whose protocol this host speaks.
func (h *host) GetPluginInfo(context.Context, *emptypb.Empty) (*pulumirpc.PluginInfo, error) {
	return &pulumirpc.PluginInfo{Version: version.Version}, nil
}

// GetRequiredPackages names the resource plugins of the modules that are compiled into the program under the build
// tags in force. A program that does not build has none: Run is where its errors are shown.
func (h *host) GetRequiredPackages(
	ctx context.Context, req *pulumirpc.GetRequiredPackagesRequest,
) (*pulumirpc.GetRequiredPackagesResponse, error) {
	plugins, err := requiredPlugins(ctx, req.GetInfo().GetProgramDirectory())
	if err != nil {
		return &pulumirpc.GetRequiredPackagesResponse{}, nil
	}
	return &pulumirpc.GetRequiredPackagesResponse{Packages: plugins}, nil
}

// GetRequiredPlugins is the older form of GetRequiredPackages, for engines before 3.142.
func (h *host) GetRequiredPlugins(
	ctx context.Context, req *pulumirpc.GetRequiredPluginsRequest,
) (*pulumirpc.GetRequiredPluginsResponse, error) {
	packages, err := h.GetRequiredPackages(ctx, &pulumirpc.GetRequiredPackagesRequest{Info: req.GetInfo()})
	if err != nil {
		return nil, err
	}
	var resp pulumirpc.GetRequiredPluginsResponse
	for _, p := range packages.Packages {
		resp.Plugins = append(resp.Plugins, &pulumirpc.PluginDependency{
			Name: p.Name, Kind: p.Kind, Version: p.Version, Server: p.Server,
		})
	}
	return &resp, nil
}

// Run compiles the program and runs it to its end. A compile error comes back whole as the response's error, so the
// engine shows it where the program's own errors would be.
func (h *host) Run(ctx context.Context, req *pulumirpc.RunRequest) (*pulumirpc.RunResponse, error) {
	ctx, done := h.track(ctx)
	defer done()
	opts, err := parseOptions(req.GetInfo())
	if err != nil {
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	bin, cleanup, err := program(ctx, req.GetInfo().GetProgramDirectory(), opts)
	if err != nil {
		return &pulumirpc.RunResponse{Error: err.Error()}, nil
	}
	defer cleanup()
	env, err := h.programEnv(req)
	if err != nil {
		return nil, fmt.Errorf("describe the run to the program: %w", err)
	}
	cmd := exec.CommandContext(ctx, bin, req.GetArgs()...)
	cmd.Dir = req.GetPwd()
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return runOutcome(ctx, cmd.Run()), nil
}

// runOutcome tells the engine how a program ended. Bail means the program has already told the user why.
func runOutcome(ctx context.Context, err error) *pulumirpc.RunResponse {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return &pulumirpc.RunResponse{}
	case ctx.Err() != nil:
		return &pulumirpc.RunResponse{Error: "the program was cancelled"}
	case errors.As(err, &exit) && exit.ExitCode() == constant.ExitStatusLoggedError:
		return &pulumirpc.RunResponse{Bail: true}
	case errors.As(err, &exit) && exit.Exited():
		return &pulumirpc.RunResponse{Error: fmt.Sprintf("the program exited with code %d", exit.ExitCode())}
	default:
		return &pulumirpc.RunResponse{Error: fmt.Sprintf("run the program: %v", err)}
	}
}

// programEnv is our own environment plus what the Go SDK reads at its start.
func (h *host) programEnv(req *pulumirpc.RunRequest) ([]string, error) {
	config, err := json.Marshal(orEmpty(req.GetConfig()))
	if err != nil {
		return nil, err
	}
	secrets, err := json.Marshal(append([]string{}, req.GetConfigSecretKeys()...))
	if err != nil {
		return nil, err
	}
	h.mu.Lock()
	engine := h.engine
	h.mu.Unlock()
	return append(os.Environ(),
		"PULUMI_ORGANIZATION="+req.GetOrganization(),
		"PULUMI_PROJECT="+req.GetProject(),
		"PULUMI_STACK="+req.GetStack(),
		"PULUMI_ROOT_DIRECTORY="+req.GetInfo().GetRootDirectory(),
		"PULUMI_CONFIG="+string(config),
		"PULUMI_CONFIG_SECRET_KEYS="+string(secrets),
		"PULUMI_DRY_RUN="+strconv.FormatBool(req.GetDryRun()),
		"PULUMI_PARALLEL="+strconv.Itoa(int(req.GetParallel())),
		"PULUMI_MONITOR="+req.GetMonitorAddress(),
		"PULUMI_ENGINE="+engine,
	), nil
}

func orEmpty(m map[string]string) map[string]string {
	if m == nil {
		return map[string]string{}
	}
	return m
}

// InstallDependencies downloads the modules that the program's module names.
func (h *host) InstallDependencies(
	req *pulumirpc.InstallDependenciesRequest,
	stream grpc.ServerStreamingServer[pulumirpc.InstallDependenciesResponse],
) error {
	cmd := exec.CommandContext(stream.Context(), "go", "mod", "download")
	cmd.Dir = req.GetInfo().GetProgramDirectory()
	out, err := cmd.CombinedOutput()
	if len(out) > 0 {
		if err := stream.Send(&pulumirpc.InstallDependenciesResponse{Stderr: out}); err != nil {
			return err
		}
	}
	if err != nil {
		return fmt.Errorf("go mod download: %w", err)
	}
	return nil
}

// RuntimeOptionsPrompts has nothing to ask: every option has a default.
func (h *host) RuntimeOptionsPrompts(
	context.Context, *pulumirpc.RuntimeOptionsRequest,
) (*pulumirpc.RuntimeOptionsResponse, error) {
	return &pulumirpc.RuntimeOptionsResponse{}, nil
}

// About describes the Go toolchain for `pulumi about`.
func (h *host) About(ctx context.Context, _ *pulumirpc.AboutRequest) (*pulumirpc.AboutResponse, error) {
	path, err := exec.LookPath("go")
	if err != nil {
		return nil, fmt.Errorf("find the go command: %w", err)
	}
	out, err := exec.CommandContext(ctx, path, "version").Output()
	if err != nil {
		return nil, fmt.Errorf("go version: %w", err)
	}
	return &pulumirpc.AboutResponse{Executable: path, Version: strings.TrimSpace(string(out))}, nil
}

// GetProgramDependencies lists modules, the direct ones or all of them.
func (h *host) GetProgramDependencies(
	ctx context.Context, req *pulumirpc.GetProgramDependenciesRequest,
) (*pulumirpc.GetProgramDependenciesResponse, error) {
	mods, err := listModules(ctx, req.GetInfo().GetProgramDirectory(), "-m", "all")
	if err != nil {
		return nil, err
	}
	var resp pulumirpc.GetProgramDependenciesResponse
	for _, m := range mods {
		if m.Main || m.Indirect && !req.GetTransitiveDependencies() {
			continue
		}
		resp.Dependencies = append(resp.Dependencies, &pulumirpc.DependencyInfo{Name: m.Path, Version: m.Version})
	}
	return &resp, nil
}

// Cancel stops the programs that are running, and leaves plugins to the engine (see RunPlugin).
func (h *host) Cancel(context.Context, *emptypb.Empty) (*emptypb.Empty, error) {
	h.stop(func(t task) bool { return !t.plugin })
	return &emptypb.Empty{}, nil
}

// close stops everything that is running: the host is about to leave, and nothing it started may outlive it.
func (h *host) close() { h.stop(func(task) bool { return true }) }

func (h *host) stop(which func(task) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, t := range h.running {
		if which(t) {
			t.cancel()
		}
	}
}

// track makes ctx end on Cancel until the returned function is called.
func (h *host) track(ctx context.Context) (context.Context, func()) { return h.trackRun(ctx, false) }

// trackPlugin makes ctx end when the host leaves, until the returned function is called.
func (h *host) trackPlugin(ctx context.Context) (context.Context, func()) {
	return h.trackRun(ctx, true)
}

func (h *host) trackRun(ctx context.Context, plugin bool) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	h.mu.Lock()
	defer h.mu.Unlock()
	id := h.nextRun
	h.nextRun++
	h.running[id] = task{cancel: cancel, plugin: plugin}
	return ctx, func() {
		cancel()
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.running, id)
	}
}
