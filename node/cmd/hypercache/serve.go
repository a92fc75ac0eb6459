package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"

	"hypercache/node/config"
)

// node is a running cache node: server.Server, or a stand-in for tests.
type node interface {
	// Run serves until ctx ends, hands over and closes. Ready is called once, when the
	// node serves its share.
	Run(ctx context.Context, ready func()) error
}

type opener func(config.Config, *slog.Logger) (node, error)

// keyFlags registers --config, the short forms and one flag for every key; what is
// given lands in src.
func keyFlags(f *flag.FlagSet, src *config.Sources) {
	src.Flags = map[string]string{}
	f.StringVar(&src.Path, "config", "", "configuration `file` (default: $HYPERCACHE_CONFIG, /config/config.yaml, /etc/hypercache/config.yaml)")
	set := func(path string) func(string) error {
		return func(v string) error { src.Flags[path] = v; return nil }
	}
	f.Func("node-id", "identity of the node; short for --server.node_id", set("server.node_id"))
	for _, k := range config.Keys() {
		about := "default " + k.Default + "; environment " + k.Env
		if k.Default == "true" || k.Default == "false" {
			f.BoolFunc(k.Path, about, set(k.Path))
			continue
		}
		f.Func(k.Path, about, set(k.Path))
	}
}

func (p *program) serve(ctx context.Context, args []string) error {
	f := p.flags("serve", "[flags]")
	src := config.Sources{Env: p.env, Search: p.search}
	keyFlags(f, &src)
	gossip := f.Bool("gossip-members", false, "list who gossip sees instead of serving: asks the node on this machine, or looks on through the seeds")
	asJSON := f.Bool("json", false, "with -gossip-members: print JSON")
	if err := parse(f, args, 0); err != nil {
		return err
	}
	if *gossip {
		return p.gossipMembers(ctx, src, *asJSON)
	}
	cfg, err := config.Load(src)
	if err != nil {
		return err
	}
	log := newLogger(p.stderr, cfg.Logging)
	log.Debug("configuration", "file", cfg.File, "config", cfg)
	n, err := p.open(cfg, log)
	if err != nil {
		return fmt.Errorf("start: %w", err)
	}
	notify, err := newNotifier(p.env)
	if err != nil {
		log.Warn("the service manager cannot be told", "error", err)
	}
	ctx, stop := p.untilSignal(ctx, log, func() { notify.send("STOPPING=1") })
	defer stop()
	if err := n.Run(ctx, func() { notify.send("READY=1\nSTATUS=serving") }); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// untilSignal ends the context at the first signal, after telling whoever wants to
// know, and the process at the second.
func (p *program) untilSignal(ctx context.Context, log *slog.Logger, stopping func()) (context.Context, func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	finished := make(chan struct{})
	go func() {
		defer close(finished)
		for first := true; ; first = false {
			select {
			case s := <-p.signals:
				if !first {
					log.Warn("second signal: stopping at once", "signal", s.String())
					p.exit(exitFailure)
					return
				}
				log.Info("signal: stopping; another one stops at once", "signal", s.String())
				stopping()
				cancel()
			case <-done:
				return
			}
		}
	}()
	return ctx, func() { close(done); <-finished; cancel() }
}

func newLogger(w io.Writer, l config.Logging) *slog.Logger {
	o := &slog.HandlerOptions{Level: l.SlogLevel()}
	if l.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// isConfigError tells mistakes of configuration, a missing file included, from
// failures.
func isConfigError(err error) bool {
	var invalid *config.InvalidError
	var file *config.FileError
	return errors.As(err, &invalid) || errors.As(err, &file)
}
