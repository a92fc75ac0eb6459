package sim

import (
	"fmt"
	"io"
	"runtime/debug"
	"slices"

	"hypercache/node/replica"
	"hypercache/node/replica/sim/virtual"
)

// Virtual time is counted in microseconds.
const millisecond, second = virtual.Millisecond, virtual.Second

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
	ForgiveSync        bool // a sync that fails says that it worked
	ForgetFailure      bool // a process whose journal has failed ends without a note of that
	AckFull            bool // a commit that meets a full disk says that it worked
	ClockStops         bool // a paused node's clock stops: its leases last too long

	// Mix names the only faults there are, Small makes the cluster so small that they meet: to find a rule soon.
	Mix      []string
	Small    bool
	Spacious bool   // small, with nodes enough to move replicas
	Always   bool   // every journal syncs before it acknowledges
	Wide     bool   // small, but for five replicas of each group
	Window   uint64 // replica.Restored.Window

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
	IOErrors, NoSpace, Failures                                   int
	Millis                                                        int // of virtual time
}

// Add sums up what happened in several runs.
func (c *Counts) Add(d Counts) { virtual.Add(c, d) }

// Result is what one seed led to.
type Result struct {
	Seed      uint64
	Violation string // "" if every check held
	Counts    Counts
}

// Violation kinds, the first word of Result.Violation.
const (
	committedGap = "committed-lost"
	logMismatch  = "log-mismatch"
	badContent   = "content"
	fewCopies    = "few-copies"
	twoPrimaries = "two-primaries"
	commitBack   = "commit-backwards"
	malformed    = "malformed"
	accepted     = "loss-accepted" // only with Options.NoLoss: every replica was asked, and too few may vote
	notLive      = "not-live"
	panicked     = "panic"
)

// world is one simulated cluster.
type world struct {
	virtual.World
	opts   Options
	nodes  []*node
	groups []uint16 // those that are simulated, 0 among them; the others stay unassigned
	rf     int
	piece  int // replica.Options.Piece
	acks   replica.Acks
	net    network
	raft   raft
	load   clients
	check  checker
	faults faults
	count  Counts
}

// Run simulates one seed.
func Run(seed uint64, opts Options) (r Result) {
	w := &world{World: virtual.New(seed, 0x636c7573746572, opts.Trace), opts: opts}
	if seed%2 == 1 {
		w.piece = 256 // records are small here, and are to be sent in pieces all the same
	}
	defer func() {
		if p := recover(); p != nil {
			r = Result{Seed: seed, Violation: fmt.Sprintf("%s: %v", panicked, p), Counts: w.counts()}
			w.Tracef("%s\n%s", r.Violation, debug.Stack())
		}
	}()
	w.build()
	w.RunUntil(w.faults.until)
	w.heal()
	w.settle()
	w.count.Millis = int((w.Now - second) / millisecond)
	return Result{Seed: seed, Violation: w.Failed, Counts: w.counts()}
}

// counts is what happened so far.
func (w *world) counts() Counts {
	w.count.Steps = w.Steps
	return w.count
}

// build draws the shape of the run: nodes, zones, groups, the network, what goes wrong.
func (w *world) build() {
	size := []int{3, 3, 3, 4, 5, 5, 6, 7, 9}[w.RNG.IntN(9)]
	spares := w.RNG.IntN(2)
	zones := []int{1, 2, 3, 3, 3, size}[w.RNG.IntN(6)]
	w.rf = []int{3, 3, 3, 3, 3, 2, 5}[w.RNG.IntN(7)]
	if w.Chance(0.15) {
		w.acks = replica.AcksAll
	}
	w.groups = []uint16{0}
	for want := 4 + w.RNG.IntN(13); len(w.groups) < want; {
		if g := uint16(1 + w.RNG.IntN(255)); !slices.Contains(w.groups, g) {
			w.groups = append(w.groups, g)
		}
	}
	if w.opts.Small {
		size, w.rf, w.groups = 3, 3, w.groups[:2]
		if w.opts.spacious() {
			size, spares = 5, 1
		}
		if w.opts.Wide {
			size, w.rf = 5, 5
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

// heal ends all faults: every node runs, every link works, nothing is slow.
func (w *world) heal() {
	if w.Failed != "" {
		return
	}
	w.Tracef("heal")
	w.faults.stopped = true
	w.net.heal()
	for _, n := range w.nodes {
		n.slow, n.pausedUntil, n.crashIn, n.trouble = 0, 0, 0, trouble{}
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
	bound := w.Now + 60*second
	w.RunUntil(w.Now + 4*second) // until nothing waits for the end of a pause any more
	for w.Failed == "" && w.Now < bound && w.unsettled() != "" {
		w.RunUntil(w.Now + 100*millisecond)
	}
	if w.Failed != "" {
		return
	}
	if why := w.unsettled(); why != "" {
		w.Fail(notLive, "after %d s without faults: %s", 60, why)
		return
	}
	for _, write := range []bool{true, false} {
		w.load.final(write)
		for until := w.Now + 5*second; w.Now < until && w.Failed == "" && w.load.missing() > 0; {
			w.RunUntil(w.Now + 20*millisecond)
		}
		if n := w.load.missing(); n > 0 {
			w.Fail(notLive, "%d final operations did not succeed", n)
		}
		if w.Failed != "" {
			return
		}
	}
	w.load.verifyAll()
	for until := w.Now + 10*second; w.Now < until && w.Failed == "" && w.check.alike() != ""; {
		w.RunUntil(w.Now + 50*millisecond)
	}
	if why := w.check.alike(); why != "" {
		w.Fail(badContent, "10 s after the last write: %s", why)
	}
}
