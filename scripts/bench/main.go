// Command bench compares HyperCache with redis-server, side by side in one run on this machine, and prints ratios.
//
// It starts every server itself, on free loopback ports with data in a temporary directory, and stops them by their
// process ids. Rounds alternate between the servers, and the best round of each counts: on a machine that does other
// things too, the best is what was disturbed least. CPU time is the server processes' own, from /proc.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"time"
)

func main() {
	var o options
	flag.StringVar(&o.node, "node", "bin/hypercache", "the node's `program`")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds per figure; the best counts")
	flag.DurationVar(&o.each, "each", 3*time.Second, "about how long one round of one figure takes")
	flag.StringVar(&o.only, "only", "", "lone, journal, memory, restart, pauses, cluster or reads; empty: all")
	flag.StringVar(&o.data, "data", "", "of the figures of memory and pauses, those whose name has this in it")
	flag.IntVar(&o.million, "million", 1_000_000, "keys of the figures of memory and restart; memory has ten times as many too")
	flag.IntVar(&o.keys, "keys", 1_000_000, "keys of the figures of pauses")
	flag.IntVar(&o.nice, "nice", 0, "nice value of the load in the figures of pauses: with 19 it leaves servers on the same processors theirs")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

type options struct {
	node   string
	rounds int
	each   time.Duration
	only   string

	million int
	keys    int
	nice    int
	data    string
}

func run(ctx context.Context, o options) error {
	for _, program := range []string{"redis-server", "redis-benchmark", o.node} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("%w; scripts/install-test-deps.sh installs Redis' programs, make build the node", err)
		}
	}
	version, err := exec.CommandContext(ctx, "redis-server", "--version").Output()
	if err != nil {
		return err
	}
	fmt.Printf("%s\n\nbest of %d rounds of about %v; CPU is server CPU time per request, summed over the servers\n", strings.TrimSpace(string(version)), o.rounds, o.each)
	for _, part := range []struct {
		name string
		run  func(context.Context, options, *farm) error
	}{{"lone", benchLone}, {"journal", benchJournal}, {"memory", benchMemory}, {"restart", benchRestart}, {"pauses", benchPauses}, {"cluster", benchCluster}, {"reads", benchReads}} {
		if o.only != "" && o.only != part.name {
			continue
		}
		f, err := newFarm()
		if err == nil {
			err = part.run(ctx, o, f)
		}
		if err = errors.Join(err, f.stop()); err != nil {
			return fmt.Errorf("%s: %w", part.name, err)
		}
	}
	return nil
}

func benchLone(ctx context.Context, o options, f *farm) error {
	redis, err := f.redis(ctx, "--appendonly", "no")
	if err != nil {
		return err
	}
	node, err := f.nodes(ctx, o.node, 1, "--persistence.enabled=false")
	if err != nil {
		return err
	}
	fmt.Printf("\n## A lone node beside redis-server, nothing kept on disk\n\n")
	return compare(ctx, o, []side{{"redis", redis, redisBenchmark}, {"HyperCache", node, redisBenchmark}}, []string{"set", "get", "incr"})
}

func benchJournal(ctx context.Context, o options, f *farm) error {
	redis, err := f.redis(ctx, "--appendonly", "yes", "--appendfsync", "everysec")
	if err != nil {
		return err
	}
	node, err := f.nodes(ctx, o.node, 1)
	if err != nil {
		return err
	}
	fmt.Printf("\n## A lone node beside redis-server, append-only file with fsync every second\n\n")
	return compare(ctx, o, []side{{"redis", redis, redisBenchmark}, {"HyperCache", node, redisBenchmark}}, []string{"set", "get", "incr"})
}

// idle prints what a cluster costs that nobody uses.
func idle(ctx context.Context, g group) error {
	const settle, span = 8 * time.Second, 10 * time.Second
	var at [2]time.Duration
	for i, d := range []time.Duration{settle, span} {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(d):
		}
		var err error
		if at[i], err = g.cpu(); err != nil {
			return err
		}
	}
	share := 100 * float64(at[1]-at[0]) / float64(span) / float64(len(g.pids))
	fmt.Printf("\nThree idle nodes use %.1f %% of a core each, over %v.\n", share, span)
	return nil
}

func benchCluster(ctx context.Context, o options, f *farm) error {
	redis, err := f.redisWithReplicas(ctx, 2)
	if err != nil {
		return err
	}
	nodes, err := f.nodes(ctx, o.node, 3)
	if err != nil {
		return err
	}
	if err := idle(ctx, nodes); err != nil {
		return err
	}
	fmt.Printf("\n## One node of three (RF 3, quorum) beside a Redis primary with two replicas, append-only files everysec\n\n")
	fmt.Println("Without WAIT, Redis acknowledges before any replica has the write; ours after a majority has it in its journal.")
	fmt.Println()
	if err := compare(ctx, o, []side{{"redis", redis, redisBenchmark}, {"HyperCache", nodes, redisBenchmark}}, []string{"set", "get", "incr"}); err != nil {
		return err
	}
	for _, w := range []struct {
		title string
		wait  waits
	}{{"a WAIT 1 behind each pipeline of P SETs", perPipeline}, {"a WAIT 1 behind every SET", perSET}} {
		fmt.Printf("\n### Redis with %s, ours without anything\n\n", w.title)
		if err := compare(ctx, o, []side{{"redis + WAIT 1", redis, pipelined(w.wait)}, {"HyperCache", nodes, pipelined(never)}}, []string{"set"}); err != nil {
			return err
		}
	}
	return nil
}
