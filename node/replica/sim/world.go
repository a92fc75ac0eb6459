package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime/debug"

	"hypercache/node/replica"
)

// Virtual time is counted in microseconds.
const (
	millisecond = int64(1000)
	second      = 1000 * millisecond
)

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
func (c *Counts) Add(d Counts) {
	sum, add := reflect.ValueOf(c).Elem(), reflect.ValueOf(d)
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + add.Field(i).Int())
	}
}

// Violation kinds, the first word of Result.Violation.
const (
	lostWrite    = "lost-write"
	staleRead    = "stale-read"
	dirtyRead    = "dirty-read"
	tooOld       = "too-old"
	committedGap = "committed-lost"
	logMismatch  = "log-mismatch"
	twoPrimaries = "two-primaries"
	commitBack   = "commit-backwards"
	notLive      = "not-live"
	panicked     = "panic"
)

type item struct {
	at    int64
	order uint64
	fn    func()
}

type queue []item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(item)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}

// world is one simulated cluster with one group.
type world struct {
	opts   Options
	rng    *rand.Rand
	now    int64
	order  uint64
	queue  queue
	nodes  []*node
	net    network
	top    topology
	load   clients
	stale  staleReaders
	check  checker
	faults faults
	count  Counts
	failed string
}

// Run simulates one seed.
func Run(seed uint64, opts Options) (r Result) {
	w := &world{opts: opts, rng: rand.New(rand.NewPCG(seed, 0x68797065)), now: second}
	defer func() {
		if p := recover(); p != nil {
			r = Result{Seed: seed, Violation: fmt.Sprintf("%s: %v", panicked, p), Counts: w.count}
			w.tracef("%s\n%s", r.Violation, debug.Stack())
		}
	}()
	w.build()
	w.stale.build(w, seed)
	w.runUntil(w.faults.until)
	if w.failed == "" {
		w.heal()
		w.runUntil(w.now + 3*second)
		w.settle()
	}
	return Result{Seed: seed, Violation: w.failed, Counts: w.count}
}

// build draws the shape of the run: how many replicas and spares, what the network is like, what goes wrong.
func (w *world) build() {
	size := []int{3, 3, 3, 3, 3, 5, 5, 4, 2, 1}[w.rng.IntN(10)]
	spares := w.rng.IntN(4)
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

// after runs fn when d microseconds have passed.
func (w *world) after(d int64, fn func()) {
	w.order++
	heap.Push(&w.queue, item{w.now + d, w.order, fn})
}

func (w *world) runUntil(t int64) {
	for w.failed == "" && len(w.queue) > 0 && w.queue[0].at <= t {
		it := heap.Pop(&w.queue).(item)
		w.now = it.at
		w.count.Steps++
		it.fn()
	}
	w.now = max(w.now, t)
}

// between returns a random number of microseconds from lo to hi.
func (w *world) between(lo, hi int64) int64 { return lo + w.rng.Int64N(hi-lo+1) }

func (w *world) chance(p float64) bool { return w.rng.Float64() < p }

// fail records the first violation and ends the run.
func (w *world) fail(kind, format string, args ...any) {
	if w.failed == "" {
		w.failed = kind + ": " + fmt.Sprintf(format, args...)
		w.tracef("VIOLATION %s", w.failed)
	}
}

func (w *world) tracef(format string, args ...any) {
	if w.opts.Trace != nil {
		fmt.Fprintf(w.opts.Trace, "%10.3fms  %s\n", float64(w.now-second)/1000, fmt.Sprintf(format, args...))
	}
}

// heal ends all faults: every node runs, every link works, nothing is slow.
func (w *world) heal() {
	w.tracef("heal")
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
	if w.failed != "" {
		return
	}
	if w.top.blocked() {
		w.count.Blocked++
		return
	}
	for _, write := range []bool{true, false} {
		w.load.final(write)
		for until := w.now + 5*second; w.now < until && w.failed == "" && w.load.missing() > 0; {
			w.runUntil(w.now + 50*millisecond)
		}
		if n := w.load.missing(); n > 0 && w.failed == "" {
			w.fail(notLive, "%d final operations did not succeed: %s", n, w.top.describe())
		}
		if w.failed != "" {
			return
		}
	}
	w.load.verifyAll()
}
