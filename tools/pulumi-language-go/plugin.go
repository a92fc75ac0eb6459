package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"sync"
	"time"

	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// pluginGrace is how long a plugin that was asked to end may take before it is killed.
const pluginGrace = 5 * time.Second

// RunPlugin compiles and runs a plugin that is written in Go, a policy pack for instance, until it ends or the engine
// hangs up. What the plugin writes goes to the engine as it comes: the first line of its standard output is the port it
// serves on. A compile error is the call's error; the engine shows it whole.
//
// Unlike a program, a plugin outlives Cancel: the engine tells plugins themselves to cancel and needs their answers to
// what is still under way. It ends when the engine gives up the call, or with this host.
func (h *host) RunPlugin(
	req *pulumirpc.RunPluginRequest, stream grpc.ServerStreamingServer[pulumirpc.RunPluginResponse],
) error {
	ctx, done := h.trackPlugin(stream.Context())
	defer done()
	if req.GetAttachDebugger() {
		return status.Error(codes.Unimplemented, "this Go language host cannot attach a debugger to a plugin")
	}
	opts, err := parseOptions(req.GetInfo())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	bin, cleanup, err := program(ctx, req.GetInfo().GetProgramDirectory(), opts)
	if err != nil {
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	defer cleanup()

	cmd := pluginCommand(ctx, bin, req)
	var sending sync.Mutex
	cmd.Stdout = &outputStream{sending: &sending, send: func(p []byte) error {
		return stream.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stdout{Stdout: p}})
	}}
	cmd.Stderr = &outputStream{sending: &sending, send: func(p []byte) error {
		return stream.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Stderr{Stderr: p}})
	}}
	code, err := pluginOutcome(ctx, cmd.Run())
	if err != nil {
		return err
	}
	return stream.Send(&pulumirpc.RunPluginResponse{Output: &pulumirpc.RunPluginResponse_Exitcode{Exitcode: code}})
}

// pluginCommand is the plugin's process: interrupted when ctx ends, killed when it stays.
func pluginCommand(ctx context.Context, bin string, req *pulumirpc.RunPluginRequest) *exec.Cmd {
	cmd := exec.CommandContext(ctx, bin, req.GetArgs()...)
	cmd.Dir = req.GetPwd()
	cmd.Env = req.GetEnv() // none means ours
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	cmd.WaitDelay = pluginGrace
	return cmd
}

// pluginOutcome turns the end of a plugin into its exit code.
func pluginOutcome(ctx context.Context, err error) (int32, error) {
	var exit *exec.ExitError
	switch {
	case err == nil:
		return 0, nil
	case ctx.Err() != nil:
		return 0, status.Error(codes.Canceled, "the plugin was ended")
	case errors.As(err, &exit) && exit.Exited():
		return int32(exit.ExitCode()), nil
	default:
		return 0, fmt.Errorf("run the plugin: %w", err)
	}
}

// outputStream sends what is written to it to the engine. A gRPC stream takes one message at a time, so the streams of
// one plugin share a lock.
type outputStream struct {
	sending *sync.Mutex
	send    func([]byte) error
}

func (o *outputStream) Write(p []byte) (int, error) {
	o.sending.Lock()
	defer o.sending.Unlock()
	// A copy: gRPC may look at a message after Send returns, and the writer reuses its buffer.
	if err := o.send(bytes.Clone(p)); err != nil {
		return 0, fmt.Errorf("send the plugin's output: %w", err)
	}
	return len(p), nil
}
