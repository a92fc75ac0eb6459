// Command pulumi-resource-hypercache is the plugin that the Pulumi engine starts for the local cloud's resources.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"hypercache/infra/provider"
)

func main() {
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	p, err := provider.New()
	if err != nil {
		return err
	}
	return p.Run(ctx, provider.Name, provider.Version)
}
