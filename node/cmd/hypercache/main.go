// Command hypercache runs a cache node, and asks running ones how they are.
//
// Without a subcommand it serves. It holds no logic of the node: it reads flags,
// builds the configuration and the log, opens the node, waits for a signal, and
// turns what comes back into an exit code: 0 for success, 1 for failure, 2 for a
// command line or configuration that cannot be right.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
)

func main() {
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, syscall.SIGTERM, os.Interrupt)
	p := &program{stdout: os.Stdout, stderr: os.Stderr, env: os.Environ(), signals: signals, open: open, exit: os.Exit}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}

// Exit codes.
const (
	exitOK      = 0
	exitFailure = 1
	exitUsage   = 2
)

// program is everything a run needs from outside, so that tests can be the outside.
type program struct {
	stdout, stderr io.Writer
	env            []string
	search         []string // places of a configuration file; nil means the usual ones
	signals        <-chan os.Signal
	open           opener
	exit           func(code int) // for the second signal, which waits for nobody
}

// command is one subcommand.
type command struct {
	name, args, about string
	run               func(p *program, ctx context.Context, args []string) error
}

func commands() []command {
	return []command{
		{"serve", "[flags]", "run a node (the default)", (*program).serve},
		{"members", "[flags]", "list the nodes of the cluster", (*program).members},
		{"status", "[flags]", "tell how a node is; exit code 1 unless it is ready", (*program).status},
		{"drain", "[flags]", "move all data off a node and leave the cluster", (*program).drain},
		{"remove", "NODE [flags]", "take a dead node out of the cluster; ask any other node", (*program).remove},
		{"reset-default-user", "[flags]", "take back what ACL SETUSER changed of the user default, for who is locked out", (*program).resetDefaultUser},
		{"backup", "FILE [flags]", "save all keys of the cluster to an RDB file", (*program).backup},
		{"restore", "FILE [flags]", "write the keys of an RDB file, an append-only file or an appendonlydir to the cluster", (*program).restore},
		{"recover", "STEP", "make a lost topology anew, from what stopped nodes have: inspect, plan, apply", (*program).recover},
		{"config", "check FILE", "name everything that is wrong with a configuration file", (*program).config},
		{"keygen", "[flags]", "make a gossip key and a cluster secret", (*program).keygen},
		{"version", "[flags]", "tell which build this is", (*program).version},
	}
}

// usageError is a mistake on the command line.
type usageError struct{ message string }

func (e *usageError) Error() string { return e.message }

func usagef(format string, args ...any) error { return &usageError{fmt.Sprintf(format, args...)} }

// errNotReady is the answer of status for a node that does not serve its share;
// the reasons have been printed.
var errNotReady = errors.New("not ready")

func (p *program) run(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	var usage *usageError
	switch {
	case err == nil:
		return exitOK
	case errors.Is(err, flag.ErrHelp):
		return exitOK
	case errors.Is(err, errNotReady):
		return exitFailure
	case errors.As(err, &usage), isConfigError(err):
		fmt.Fprintln(p.stderr, "hypercache:", err)
		return exitUsage
	}
	fmt.Fprintln(p.stderr, "hypercache:", err)
	return exitFailure
}

func (p *program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		switch {
		case len(args) == 1 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]):
			p.usage(p.stdout)
			return nil
		case len(args) == 1 && slices.Contains([]string{"-v", "-version", "--version"}, args[0]):
			return p.version(ctx, nil)
		}
		return p.serve(ctx, args)
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(p, ctx, args[1:])
		}
	}
	if args[0] == "help" {
		p.usage(p.stdout)
		return nil
	}
	return usagef("there is no command %q; `hypercache help` lists them", args[0])
}

func (p *program) usage(w io.Writer) {
	_, _ = fmt.Fprint(w, "HyperCache: a clustered cache that speaks the Redis protocol.\n\nUsage:\n")
	for _, c := range commands() {
		_, _ = fmt.Fprintf(w, "  hypercache %-8s %-12s %s\n", c.name, c.args, c.about)
	}
	_, _ = fmt.Fprint(w, `
A node needs no flags: "hypercache --config=FILE" serves what FILE says, and every
key can be given as a flag too, like --network.resp_port=6380. "hypercache
-gossip-members" lists who gossip sees. Add -h to a command for its flags.
`)
}

// flags makes a flag set that reports to the caller instead of exiting.
func (p *program) flags(name, args string) *flag.FlagSet {
	fs := flag.NewFlagSet(name, flag.ContinueOnError)
	fs.SetOutput(io.Discard)
	fs.Usage = func() {
		_, _ = fmt.Fprintf(p.stdout, "Usage: hypercache %s %s\n\n", name, args)
		fs.SetOutput(p.stdout)
		fs.PrintDefaults()
		fs.SetOutput(io.Discard)
	}
	return fs
}

// parse reads args; positional arguments beyond the wanted number are mistakes.
func parse(fs *flag.FlagSet, args []string, positional int) error {
	if err := fs.Parse(args); err != nil {
		if errors.Is(err, flag.ErrHelp) {
			return err
		}
		return usagef("%s: %v", fs.Name(), err)
	}
	if fs.NArg() != positional {
		if positional == 0 {
			return usagef("%s takes no argument %q", fs.Name(), fs.Arg(0))
		}
		return usagef("%s takes %d argument, not %d", fs.Name(), positional, fs.NArg())
	}
	return nil
}
