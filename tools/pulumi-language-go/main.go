// Command pulumi-language-go lets the Pulumi engine run programs and policy packs written in Go.
//
// Pulumi ships such a host with its own binary releases but not as a Go module, so a machine that has nothing but
// the Go toolchain could build the Pulumi CLI and still not run a program with it. This one closes that gap: it owns
// compiling the program's directory and starting the result with what the engine wants it to know. Policy packs and
// other plugins written in Go are run in the same way. It refuses everything that only `pulumi new` and SDK generators
// need, and debuggers, and leaves installing plugins, state and display to the engine.
//
// The program is compiled by the plain `go build` of the program's directory, with the environment untouched: GOFLAGS
// (and so build tags), GOPROXY and the build cache work as they do by hand.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/pulumi/pulumi/sdk/v3/go/common/util/rpcutil"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
)

// engineSilence is how long the engine may be unreachable before the host takes it for dead and leaves.
const engineSilence = time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintf(os.Stderr, "pulumi-language-go: %v\n", err)
		os.Exit(1)
	}
}

// run serves the language runtime until ctx ends or the engine is gone. The engine's address is the last argument;
// the engine reads the port we serve on from the first line of standard output.
func run(ctx context.Context, args []string) error {
	if len(args) == 0 {
		return fmt.Errorf("started without the engine's address; this program is run by the Pulumi CLI")
	}
	engine := args[len(args)-1]
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if err := rpcutil.Healthcheck(ctx, engine, engineSilence, cancel); err != nil {
		return fmt.Errorf("watch engine: %w", err)
	}

	h := newHost(engine)
	stop := make(chan bool)
	handle, err := rpcutil.ServeWithOptions(rpcutil.ServeOptions{
		Cancel: stop,
		Init: func(srv *grpc.Server) error {
			pulumirpc.RegisterLanguageRuntimeServer(srv, h)
			return nil
		},
	})
	if err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	go func() {
		<-ctx.Done()
		h.close() // the server waits for calls under way, and those for what they run
		close(stop)
	}()
	fmt.Println(handle.Port)
	return <-handle.Done
}
