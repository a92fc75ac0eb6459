// Command portcheck tells within a second, before anything is built, whether a stack of the local cloud would find its
// ports free. It reads Pulumi.yaml and the stack's file in the current directory, names every port that is taken and by
// what, and passes over nodes of the stack that run already.
package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"hypercache/infra/config"
	"hypercache/infra/plan"
	"hypercache/infra/provider/machine"
	"hypercache/infra/provider/ports"
)

func main() {
	stack := "local"
	if len(os.Args) > 1 {
		stack = os.Args[1]
	}
	if err := check(stack); err != nil {
		fmt.Fprintf(os.Stderr, "%v\n", err)
		os.Exit(1)
	}
}

func check(stack string) error {
	project, err := os.ReadFile("Pulumi.yaml")
	if err != nil {
		return fmt.Errorf("run this in the project's directory: %w", err)
	}
	settings, err := os.ReadFile("Pulumi." + stack + ".yaml")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read stack file: %w", err)
	}
	get, err := config.FromFiles(project, settings)
	if err != nil {
		return err
	}
	c, err := config.Parse(get, []string{"local"})
	if err != nil {
		return err
	}
	running, err := runningNodes(stack)
	if err != nil {
		return err
	}
	var uses []ports.Use
	planned, err := plan.Build(c, stack)
	if err != nil {
		return err
	}
	for _, n := range planned.Nodes {
		if running[n.Name] {
			continue
		}
		use := func(network string, port int, what string) {
			uses = append(uses, ports.Use{Network: network, Address: n.Address, Port: port, For: what + " of " + n.Name})
		}
		use("tcp", n.RESP, "RESP")
		use("tcp", n.HTTP, "HTTP")
		use("tcp", n.Gossip, "gossip")
		use("udp", n.Gossip, "gossip")
		use("tcp", n.RPC, "internal")
	}
	if err := ports.Check(uses); err != nil {
		return fmt.Errorf("%w\nEnd what has them, or give this cluster others: pulumi config set portOffset 1000", err)
	}
	return nil
}

// runningNodes are the stack's nodes that hold their ports rightly.
func runningNodes(stack string) (map[string]bool, error) {
	records, err := machine.Site{Dir: filepath.Join(".hypercache", "local", stack)}.Records()
	running := map[string]bool{}
	for _, r := range records {
		running[r.Name] = r.Process.Alive()
	}
	return running, err
}
