//go:build linux

// Command faults runs a cluster of real processes, breaks it in every way that it knows while clients without retries
// write to it, and says whether anything that was acknowledged is lost, doubled or seen out of order.
//
// Every node has a network namespace, an address and a small file system of its own; the wire between them is this
// program. It needs root, iproute2 and e2fsprogs, and removes what it made. See docs/reliability.md for results.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"
	"time"
)

type options struct {
	program, acks, fsync, only string
	samples                    string
	stall                      time.Duration
	minutes                    float64
	nodes, workers             int
	seed                       uint64
	keep, latencies, trace     bool
}

func main() {
	var o options
	flag.StringVar(&o.program, "node", "", "the node's `program`, built with -tags faults; none: it is built")
	flag.Float64Var(&o.minutes, "minutes", 10, "how long to go on; every kind of fault has its turn once at least")
	flag.IntVar(&o.nodes, "nodes", 5, "nodes")
	flag.IntVar(&o.workers, "workers", 12, "clients that write")
	flag.StringVar(&o.acks, "acks", "quorum", "cluster.write_acks")
	flag.StringVar(&o.fsync, "fsync", "everysec", "persistence.fsync")
	flag.DurationVar(&o.stall, "stall", time.Second, "persistence.stall_timeout")
	flag.StringVar(&o.only, "only", "", "only faults (or phases of -latencies) whose name has one of these in it, a | between them")
	flag.Uint64Var(&o.seed, "seed", 0, "of all choices; 0: by chance")
	flag.BoolVar(&o.keep, "keep", false, "keep the nodes' logs though nothing failed")
	flag.BoolVar(&o.latencies, "latencies", false, "measure latencies while nodes leave, join and are replaced, and nothing else")
	flag.StringVar(&o.samples, "samples", "", "with -latencies, a `file` for when every SET was due, how long it took, its group and its node")
	flag.BoolVar(&o.trace, "trace", false, "tell of every write that was not acknowledged, or took a second")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, o); err != nil {
		fmt.Fprintln(os.Stderr, "faults:", err)
		os.Exit(1)
	}
}

// result is what one kind of fault came to.
type result struct {
	windows   int
	verdict   verdict
	longest   time.Duration // without an answer, any client
	healthy   time.Duration // the same, clients at nodes that the fault was not about
	recovery  time.Duration // until all nodes were ready again, the longest
	histories int
	violated  []string
	undecided int
	mortals   int      // keys with a TTL
	ttl       []string // what was wrong with them
	exposure  exposure
}

var errViolated = errors.New("the cluster broke a promise")

func run(ctx context.Context, o options) error {
	if o.seed == 0 {
		o.seed = rand.Uint64()
	}
	fmt.Printf("faults -nodes %d -acks %s -fsync %s -workers %d -seed %d -minutes %v\n", o.nodes, o.acks, o.fsync, o.workers, o.seed, o.minutes)
	todo := named(o.only, o.nodes)
	if len(todo) == 0 && !o.latencies {
		return fmt.Errorf("no fault that %d nodes can have is named like %q", o.nodes, o.only)
	}
	l, err := openLab(ctx, o)
	if l == nil {
		return err
	}
	switch {
	case err != nil:
	case o.latencies:
		err = l.latencies(ctx, o)
	default:
		err = l.campaign(ctx, o, todo)
	}
	if cerr := l.close(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("clean up: %w", cerr))
	}
	if err != nil || o.keep {
		fmt.Fprintf(os.Stderr, "the nodes' logs are in %s\n", l.dir)
		return err
	}
	return os.RemoveAll(l.dir)
}

// campaign runs windows of faults, then reads everything back.
func (l *lab) campaign(ctx context.Context, o options, todo []kind) (err error) {
	rng := rand.New(rand.NewPCG(o.seed, 0))
	d := startLoad(ctx, l, o.workers, o.seed)
	began := time.Now()
	results := map[string]*result{}
	kindOf := map[int32]string{}
	for turn := 0; err == nil && (turn < len(todo) || time.Since(began).Minutes() < o.minutes); turn++ {
		if turn%len(todo) == 0 {
			rng.Shuffle(len(todo), func(i, j int) { todo[i], todo[j] = todo[j], todo[i] })
		}
		k := todo[turn%len(todo)]
		r := results[k.name]
		if r == nil {
			r = &result{}
			results[k.name] = r
		}
		window := d.begin()
		kindOf[window] = k.name
		err = l.fault(ctx, d, k, r, window, o.seed, rng)
		fmt.Fprintf(os.Stderr, "%6.1fs window %d: %s: longest without an answer %v, at healthy nodes %v, ready again after %v\n", time.Since(began).Seconds(), window, k.name,
			r.longest.Round(time.Millisecond), r.healthy.Round(time.Millisecond), r.recovery.Round(time.Millisecond))
	}
	d.stop()
	if err != nil {
		return err
	}
	took := time.Since(began)
	for _, window := range slices.Sorted(keys(kindOf)) {
		v, err := d.check(ctx, window, func(by int32, e exposure) {
			if name, ok := kindOf[by]; ok {
				results[name].exposure.add(e)
			}
		})
		if err != nil {
			return fmt.Errorf("window %d (%s): %w", window, kindOf[window], err)
		}
		results[kindOf[window]].verdict.add(v)
	}
	for _, x := range d.directs {
		acked, lost, err := x.check(ctx, l, d.spans, func(by int32, e exposure) {
			if name, ok := kindOf[by]; ok {
				results[name].exposure.add(e)
			}
		})
		if err != nil {
			return fmt.Errorf("window %d (%s): %w", x.window, kindOf[x.window], err)
		}
		results[kindOf[x.window]].verdict.add(verdict{Acked: acked, Lost: lost})
	}
	return report(o, results, took, d)
}

func keys[K comparable, V any](m map[K]V) func(func(K) bool) {
	return func(yield func(K) bool) {
		for k := range m {
			if !yield(k) {
				return
			}
		}
	}
}

// fault runs one window: the fault, and the way back.
func (l *lab) fault(ctx context.Context, d *load, k kind, r *result, window int32, seed uint64, rng *rand.Rand) error {
	directs := startDirects(ctx, l, window)
	d.directs = append(d.directs, directs)
	regs, mortals := startRegisters(ctx, l, window, seed), startMortals(ctx, l, window, seed)
	err := k.run(ctx, l, rng)
	l.heal()
	d.healed(window)
	healed := time.Now()
	if err == nil {
		err = l.awaitReady(ctx, 2*time.Minute)
	}
	r.recovery = max(r.recovery, time.Since(healed))
	if err == nil {
		err = pause(ctx, 500*time.Millisecond)
	}
	violated, undecided, ops := regs.stop()
	directs.stop()
	n, problems := mortals.stop(ctx)
	r.mortals, r.ttl = r.mortals+n, append(r.ttl, problems...)
	r.windows++
	r.histories += ops
	r.violated = append(r.violated, violated...)
	r.undecided += len(undecided)
	longest, healthy := d.longest(window)
	r.longest, r.healthy = max(r.longest, longest), max(r.healthy, healthy)
	if err != nil {
		return fmt.Errorf("window %d (%s): %w", window, k.name, err)
	}
	return nil
}

func report(o options, results map[string]*result, took time.Duration, d *load) error {
	fmt.Printf("\n| fault | times | acknowledged | refused | unknown | lost | doubled | refused, yet there | longest without an answer, clients at healthy nodes | any client | ready again after | register operations | not linearizable | undecided | keys with a TTL | gone early or there too long |\n")
	fmt.Println("|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|---|")
	var sum result
	for _, name := range slices.Sorted(keys(results)) {
		r := results[name]
		row(name, r)
		sum.windows += r.windows
		sum.verdict.add(r.verdict)
		sum.longest, sum.recovery = max(sum.longest, r.longest), max(sum.recovery, r.recovery)
		sum.healthy = max(sum.healthy, r.healthy)
		sum.histories += r.histories
		sum.violated = append(sum.violated, r.violated...)
		sum.undecided += r.undecided
		sum.mortals, sum.ttl = sum.mortals+r.mortals, append(sum.ttl, r.ttl...)
	}
	row("**all**", &sum)
	fmt.Printf("\n%.1f minutes, %d kinds of faults, %d packets carried, %d lost.\n", took.Minutes(), len(results), d.lab.wire.passed, d.lab.wire.lost)
	v := sum.verdict
	one := o.acks == "one" // then losses, and what follows from them, are a measure
	if one {
		reportWindows(results, slices.Sorted(keys(results)))
	}
	bad := v.Duplicated > 0 || v.Ghosts > 0 || !one && (len(sum.violated) > 0 || len(sum.ttl) > 0 || v.Lost > 0)
	if !bad {
		return nil
	}
	fmt.Println(strings.Join(v.Notes, "\n"))
	fmt.Println(strings.Join(sum.violated, "\n"))
	fmt.Println(strings.Join(sum.ttl[:min(len(sum.ttl), maxNotes)], "\n"))
	return fmt.Errorf("%w: %d lost, %d doubled, %d refused and there, %d histories not linearizable, %d TTLs not kept (seed %d)", errViolated, v.Lost, v.Duplicated, v.Ghosts, len(sum.violated), len(sum.ttl), o.seed)
}

func row(name string, r *result) {
	v := r.verdict
	fmt.Printf("| %s | %d | %d | %d | %d | %d | %d | %d | %.2f s | %.2f s | %.1f s | %d | %d | %d | %d | %d |\n", name, r.windows, v.Acked, v.Refused, v.Unknown, v.Lost,
		v.Duplicated, v.Ghosts, r.healthy.Seconds(), r.longest.Seconds(), r.recovery.Seconds(), r.histories, len(r.violated), r.undecided, r.mortals, len(r.ttl))
}
