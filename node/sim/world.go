package sim

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"runtime/debug"
	"slices"

	"hypercache/node/replica"
)

// Virtual time is counted in microseconds.
const (
	millisecond = int64(1000)
	second      = 1000 * millisecond
)

// Options say what is simulated. The zero value is the product as it is, under all faults.
type Options struct {
	Rules replica.Rules // rules of the replicas to switch off

	VoteAfterPowerLoss bool // the journal takes every restart for one under the same boot
	ForgetPromises     bool // promises are not written down
	AckUnwritten       bool // a commit of the journal writes nothing; its tick does
	TrustChecksums     bool // rot also fixes the checksums, as if nobody looked at them
	WipedVotes         bool // a node with an empty disk says that it may vote
	ElectMinority      bool // an election goes on after one answer
	SwapAtOnce         bool // replicas are replaced without the joint configuration
	IgnoreLag          bool // a new replica counts as caught up from the start
	ClockStops         bool // a paused node's clock stops: its leases last too long

	// Mix names the only faults there are, Small makes the cluster so small that they meet: to find a rule soon.
	Mix      []string
	Small    bool
	Spacious bool // small, with nodes enough to move replicas

	NoLoss      bool      // once the cluster stands, no election may have to do without a majority of voters
	ClientsOnly bool      // only what clients can see is checked, not the logs
	Trace       io.Writer // nil: silent
}

// spacious tells whether replicas have to have somewhere to go.
func (o *Options) spacious() bool {
	return o.Spacious || o.SwapAtOnce || o.IgnoreLag || o.Rules.NoJointMajority
}

// Counts says how often each thing happened.
type Counts struct {
	Steps, Frames, Calls, Lost, Repeated                          int
	Crashes, MidWrite, PowerLosses, Rots, Found, Wipes            int
	Partitions, OneWay, Pauses, SlowDisks, ClockJumps, Breaks     int
	Rewrites, Joins, Drains, Drained, Stops, Leaders              int
	Commands, Elections, Moves, Snapshots, Writes, Acked, Unknown int
	Reads, Refused, Accepted                                      int
	Millis                                                        int // of virtual time
}

// Add sums up what happened in several runs.
func (c *Counts) Add(d Counts) {
	sum, add := reflect.ValueOf(c).Elem(), reflect.ValueOf(d)
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + add.Field(i).Int())
	}
}

// Result is what one seed led to.
type Result struct {
	Seed      uint64
	Violation string // "" if every check held
	Counts    Counts
}

// Violation kinds, the first word of Result.Violation.
const (
	lostWrite    = "lost-write"
	staleRead    = "stale-read"
	dirtyRead    = "dirty-read"
	committedGap = "committed-lost"
	logMismatch  = "log-mismatch"
	badContent   = "content"
	twoPrimaries = "two-primaries"
	commitBack   = "commit-backwards"
	malformed    = "malformed"
	accepted     = "loss-accepted" // only with Options.NoLoss: every replica was asked, and too few may vote
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

// world is one simulated cluster.
type world struct {
	opts   Options
	rng    *rand.Rand
	now    int64
	order  uint64
	queue  queue
	nodes  []*node
	groups []uint16 // those that are simulated, 0 among them; the others stay unassigned
	rf     int
	acks   replica.Acks
	net    network
	raft   raft
	load   clients
	check  checker
	faults faults
	count  Counts
	failed string
}

// Run simulates one seed.
func Run(seed uint64, opts Options) (r Result) {
	w := &world{opts: opts, rng: rand.New(rand.NewPCG(seed, 0x636c7573746572)), now: second}
	defer func() {
		if p := recover(); p != nil {
			r = Result{Seed: seed, Violation: fmt.Sprintf("%s: %v", panicked, p), Counts: w.count}
			w.tracef("%s\n%s", r.Violation, debug.Stack())
		}
	}()
	w.build()
	w.runUntil(w.faults.until)
	w.heal()
	w.settle()
	w.count.Millis = int((w.now - second) / millisecond)
	return Result{Seed: seed, Violation: w.failed, Counts: w.count}
}

// build draws the shape of the run: nodes, zones, groups, the network, what goes wrong.
func (w *world) build() {
	size := []int{3, 3, 3, 4, 5, 5, 6, 7, 9}[w.rng.IntN(9)]
	spares := w.rng.IntN(2)
	zones := []int{1, 2, 3, 3, 3, size}[w.rng.IntN(6)]
	w.rf = []int{3, 3, 3, 3, 3, 2, 5}[w.rng.IntN(7)]
	if w.chance(0.15) {
		w.acks = replica.AcksAll
	}
	w.groups = []uint16{0}
	for want := 4 + w.rng.IntN(13); len(w.groups) < want; {
		if g := uint16(1 + w.rng.IntN(255)); !slices.Contains(w.groups, g) {
			w.groups = append(w.groups, g)
		}
	}
	if w.opts.Small {
		size, w.rf, w.groups = 3, 3, w.groups[:2]
		if w.opts.spacious() {
			size, spares = 5, 1
		}
	}
	slices.Sort(w.groups)
	for i := range size + spares {
		w.nodes = append(w.nodes, newNode(w, i, fmt.Sprintf("z%d", i%zones)))
	}
	w.net.build(w)
	w.check.build(w)
	w.raft.build(w, size)
	w.load.build(w)
	w.faults.build(w)
	for _, n := range w.nodes[:size] {
		n.start()
	}
}

func (w *world) node(id string) *node {
	for _, n := range w.nodes {
		if n.id == id {
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
	if w.failed != "" {
		return
	}
	w.tracef("heal")
	w.faults.stopped = true
	w.net.heal()
	for _, n := range w.nodes {
		n.slow, n.pausedUntil, n.crashIn = 0, 0, 0
		if n.ready && w.faults.rotten[n] {
			n.crash(false) // only a start reads the whole disk
		}
		if !n.alive && n.wanted {
			n.start()
		}
	}
}

// settle waits until everything is where it belongs, then asks for a write and a read of every key.
func (w *world) settle() {
	bound := w.now + 60*second
	w.runUntil(w.now + 4*second) // until nothing waits for the end of a pause any more
	for w.failed == "" && w.now < bound && w.unsettled() != "" {
		w.runUntil(w.now + 100*millisecond)
	}
	if w.failed != "" {
		return
	}
	if why := w.unsettled(); why != "" {
		w.fail(notLive, "after %d s without faults: %s", 60, why)
		return
	}
	for _, write := range []bool{true, false} {
		w.load.final(write)
		for until := w.now + 5*second; w.now < until && w.failed == "" && w.load.missing() > 0; {
			w.runUntil(w.now + 20*millisecond)
		}
		if n := w.load.missing(); n > 0 {
			w.fail(notLive, "%d final operations did not succeed", n)
		}
		if w.failed != "" {
			return
		}
	}
	w.load.verifyAll()
	for until := w.now + 10*second; w.now < until && w.failed == "" && w.check.alike() != ""; {
		w.runUntil(w.now + 50*millisecond)
	}
	if why := w.check.alike(); why != "" {
		w.fail(badContent, "10 s after the last write: %s", why)
	}
}
