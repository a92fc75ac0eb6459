package sim

import (
	"fmt"
	"io"
	"runtime/debug"

	"hypercache/node/replica"
	"hypercache/node/replica/sim/virtual"
)

// Virtual time is counted in microseconds.
const millisecond, second = virtual.Millisecond, virtual.Second

// Options say what is simulated. The zero value is the protocol as it is, under all faults.
type Options struct {
	Rules         replica.Rules // rules of the core to switch off
	FenceMinority bool          // the topology elects after a single answer
	NoJoint       bool          // the topology changes Replicas at once, without the joint configuration
	ClientsOnly   bool          // only what clients can see is checked, not the logs
	StaleReads    bool          // some clients read from every node, not only the primary
	// Knock-outs of stale reads: a node counts its age from when it was told, or shows what may not be committed.
	StampOnArrival, ReadUncommitted bool
	Trace                           io.Writer // nil: silent
}

// Counts says how often each thing happened.
type Counts struct {
	Steps, Messages, Lost, Duplicated                              int
	Crashes, PowerLosses, Partitions, OneWay, Pauses, SlowDisks    int
	ClockJumps, Trims, Breaks, SpuriousElections, Handovers        int
	ControllerCrashes, Changes, ChangesDone, Replacements, Cancels int
	Terms, Snapshots, Installed, Aborted, Diverged, Recovered      int
	Writes, Acked, Unknown, Reads, Blocked                         int
	StaleReads, StaleRefused                                       int
}

// Result is what one seed led to.
type Result struct {
	Seed      uint64
	Violation string // "" if every check held
	Counts    Counts
}

// Add sums up what happened in several runs.
func (c *Counts) Add(d Counts) { virtual.Add(c, d) }

// Violation kinds, the first word of Result.Violation.
const (
	tooOld       = "too-old"
	committedGap = "committed-lost"
	logMismatch  = "log-mismatch"
	twoPrimaries = "two-primaries"
	commitBack   = "commit-backwards"
	notLive      = "not-live"
	panicked     = "panic"
)

// world is one simulated cluster with one group.
type world struct {
	virtual.World
	opts   Options
	nodes  []*node
	net    network
	top    topology
	load   clients
	stale  staleReaders
	check  checker
	faults faults
	count  Counts
}

// Run simulates one seed.
func Run(seed uint64, opts Options) (r Result) {
	w := &world{World: virtual.New(seed, 0x68797065, opts.Trace), opts: opts}
	defer func() {
		if p := recover(); p != nil {
			r = Result{Seed: seed, Violation: fmt.Sprintf("%s: %v", panicked, p), Counts: w.counts()}
			w.Tracef("%s\n%s", r.Violation, debug.Stack())
		}
	}()
	w.build()
	w.stale.build(w, seed)
	w.RunUntil(w.faults.until)
	if w.Failed == "" {
		w.heal()
		w.RunUntil(w.Now + 3*second)
		w.settle()
	}
	return Result{Seed: seed, Violation: w.Failed, Counts: w.counts()}
}

// counts is what happened so far.
func (w *world) counts() Counts {
	w.count.Steps = w.Steps
	return w.count
}

// build draws the shape of the run: how many replicas and spares, what the network is like, what goes wrong.
func (w *world) build() {
	size := []int{3, 3, 3, 3, 3, 5, 5, 4, 2, 1}[w.RNG.IntN(10)]
	spares := w.RNG.IntN(4)
	for i := range size + spares {
		w.nodes = append(w.nodes, newNode(w, i))
	}
	w.net.build(w)
	w.check.build(w)
	w.top.build(w, size)
	w.load.build(w)
	w.faults.build(w)
	for _, n := range w.nodes {
		n.start()
	}
}

func (w *world) node(name string) *node {
	for _, n := range w.nodes {
		if n.name == name {
			return n
		}
	}
	return nil
}

// heal ends all faults: every node runs, every link works, nothing is slow.
func (w *world) heal() {
	w.Tracef("heal")
	w.faults.stopped = true
	w.net.heal()
	for _, n := range w.nodes {
		n.slow, n.pausedUntil = 0, 0
		if !n.alive {
			n.start()
		}
	}
	w.top.healed()
}

// settle asks for writes and reads on every key; they must succeed, and show everything acknowledged.
func (w *world) settle() {
	if w.Failed != "" {
		return
	}
	if w.top.blocked() {
		w.count.Blocked++
		return
	}
	for _, write := range []bool{true, false} {
		w.load.final(write)
		for until := w.Now + 5*second; w.Now < until && w.Failed == "" && w.load.missing() > 0; {
			w.RunUntil(w.Now + 50*millisecond)
		}
		if n := w.load.missing(); n > 0 && w.Failed == "" {
			w.Fail(notLive, "%d final operations did not succeed: %s", n, w.top.describe())
		}
		if w.Failed != "" {
			return
		}
	}
	w.load.verifyAll()
}
