package replica

import (
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/journal"
	"hypercache/node/ring"
)

// Machine is the content that the logs build: one part per group. Its methods are called with the group's lock held,
// must not take another group's lock and must not block on the network.
type Machine interface {
	// Apply runs the effects of a record that a primary ordered. An error means that the bytes are not effects.
	Apply(group uint16, effects []byte) error
	// Snapshot returns what the content can be copied into. The caller need not hold the lock.
	Snapshot(group uint16) Snapshot
	// Clear drops the content, giving the effects that delete it first.
	Clear(group uint16, emit func(effects []byte))
	// Settled says that replies which wait for records up to seq may leave, and those that wait for rounds up to
	// Group.Confirmed.
	Settled(group uint16, seq uint64)
	// Lost says that nobody can tell what became of the records whose replies still wait, and that sequence numbers
	// may be used again.
	Lost(group uint16)
	// Changed says that the group began or ceased to serve, or may serve reads again.
	Changed(group uint16)
}

// Snapshot is a copy of a group's whole content, so that the lock is not held while it is encoded and sent. One goroutine at a
// time uses it.
type Snapshot interface {
	// Size returns about how many bytes Take will need. The group's lock is held.
	Size() int64
	// Fit makes that room, without the lock.
	Fit()
	// Take copies the content. The group's lock is held.
	Take()
	// Next gives some more of the copy as effects, in pieces of any size, and reports whether there may be more. emit copies
	// them.
	Next(emit func(effects []byte)) bool
	// Close gives its memory back.
	Close()
}

// Journal is the part of *journal.Journal that replicas use.
type Journal interface {
	Append(journal.Record) int64
	Commit(pos int64) error
	SetPromises(map[uint16]uint64) error
	Complete(groups ...uint16) error
}

// Stream is an ordered connection to another node, as *peer.Stream is.
type Stream interface {
	comparable
	Begin(typ byte) ([]byte, bool)
	End([]byte)
	// EndPaced ends a frame of a snapshot: only so many are under way until the other side has taken them, so they
	// don't count when the stream bounds what it keeps for a slow reader.
	EndPaced([]byte)
	Flush()
}

// Acks is how many copies a write needs before its reply leaves.
type Acks uint8

// The levels of cluster.write_acks.
const (
	AcksQuorum Acks = iota // a majority of the replicas, this one included
	AcksOne                // the primary alone, as Redis does
	AcksAll                // every replica
)

// Options configure a Driver. Self and Machine are required.
type Options struct {
	Self    string
	Machine Machine
	// Journal may be nil: nothing is kept over a restart.
	Journal Journal
	Acks    Acks
	// Lease is how long a majority's confirmation lets a primary answer reads by itself (500 ms). A new primary waits
	// what remains of it, so that it also bounds how fast a failover can be.
	Lease time.Duration
	// NoLease says that nobody reads by a lease, so that nothing else shall rest on one either.
	NoLease bool
	// MaxStaleness bounds how old what a replica answers may be; 0: replicas answer nothing.
	MaxStaleness time.Duration
	// Piece is the least that is sent at once of a group's content; see driver_pace.go. 0: 16 KiB.
	Piece int
	// Now is the clock that leases are measured with; nil: time.Now. Rules switches rules of the protocol off. Both are
	// for simulations.
	Now   func() time.Time
	Rules Rules
	// Fatal is told of a journal that can't be written any more; the process must end.
	Fatal  func(error)
	Logger *slog.Logger
}

// Driver runs the replicas of all groups of one node: it carries out what the core decides, on the journal, the
// content and the streams to other nodes. S is the streams' type. Its methods are safe for concurrent use.
//
// A record's way: a command is executed under its group's lock and Propose appends it to the journal's buffer and to
// the streams of the followers; the end of the batch flushes the streams, then writes the journal; a majority's
// acknowledgements commit it, and Machine.Settled lets its reply go.
type Driver[S Stream] struct {
	opt    Options
	log    *slog.Logger
	groups [ring.Groups]Group[S]
	stored atomic.Int64 // journal position known to be written
	owed   atomic.Int64 // journal position that the full disk did not take
	full   atomic.Bool  // the disk was full at the last commit
	start  time.Time    // what stamps count from
	wanted atomic.Int64 // stamp of the newest read that a replica was to answer, 0 for none

	mu      sync.Mutex
	peers   map[string]*outbound[S] // streams to followers
	inbound map[string]S            // streams from primaries, for what goes back

	wake chan struct{} // told when Pace has something to do; holds one

	ageAsked time.Time // when primaries were last asked how old the content here is
}

// Group is one group's replica. Lock it before anything else is called.
type Group[S Stream] struct {
	sync.Mutex
	ID uint16

	d    *Driver[S]
	st   *State
	tail tail
	// What commands ask about, kept beside the state.
	serving bool
	solo    bool // the only replica: nobody to wait for
	// released: this node does not hold the group, as far as it knows. What a primary sends is too late, or so early that it
	// could be dropped again when an older state is learned: it must not be acknowledged.
	released   bool
	notBefore  time.Time
	leaseUntil time.Time
	read       time.Time // when the lease was last wanted
	commit     uint64
	lastPos    int64 // journal position after the last record

	asked   [askedRounds]time.Time // when the newest rounds of confirmation were asked for, by round
	again   bool                   // replies wait for the round after the one under way
	sure    time.Time              // when the newest round was asked for that a majority has answered
	granted time.Time              // when this replica last answered its primary
	durable atomic.Uint64          // the promise that is on the disk; what tells of a higher one must not leave
	epoch   atomic.Uint64
	links   []groupLink[S]
	moving  []*transfer[S] // its content, on its way to others
	bulk    *bulk          // what its learner lacks
	overrun bool           // there were more writes than are kept while these are sent
	awaited bool           // a piece of it was not answered yet
	acts    []Action
	runs    []TermStart
	ev      Event
}

type groupLink[S Stream] struct {
	peer   string
	stream S
	up     bool
}

// askedRounds is into how many parts a lease is cut: a round of confirmation is asked for in each, and counts however
// many are under way.
const askedRounds = 8

// outbound is what leaves for one peer besides records: snapshots, a few at a time.
type outbound[S Stream] struct {
	stream  S
	up      bool
	queue   []queued
	sending int // snapshots begun that have not arrived
	// As driver_pace.go says.
	now   *transfer[S] // the one that is being sent
	asked time.Time    // when the last piece left, zero once the peer has answered
	asker uint16       // that piece's group
	bulk  []uint16     // groups with records for it, the next one first
	turn  bool         // of records
	due   time.Time    // no other one before
	piece int          // bytes
}

// queued is a snapshot that waits for those before it.
type queued struct {
	group uint16
	term  uint64
}

// Batch collects what one round of commands touched, so that streams are flushed and the journal written once. It is
// used by one goroutine.
type Batch[S Stream] struct {
	pos      int64
	failed   int64 // journal position that could not be written: what is touched is not stored before it is
	touched  [ring.Groups / 64]uint64
	heads    [ring.Groups]Position
	streams  []S
	promises map[uint16]uint64
	complete []uint16 // groups that may vote again
	held     []heldAck[S]
}

// heldAck is an acknowledgement that waits for the promise it tells of.
type heldAck[S Stream] struct {
	s    S
	body [ackSize]byte
}

// Pending tells that the batch has records that the journal may not have yet.
func (b *Batch[S]) Pending() bool { return b.pos > 0 }

// NewDriver returns a driver whose groups continue where restored says.
func NewDriver[S Stream](opt Options, restored *[ring.Groups]Restored) *Driver[S] {
	if opt.Lease == 0 {
		opt.Lease = 500 * time.Millisecond
	}
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	if opt.Piece == 0 {
		opt.Piece = minPiece
	}
	if opt.Now == nil {
		opt.Now = time.Now
	}
	d := &Driver[S]{opt: opt, log: opt.Logger, peers: map[string]*outbound[S]{}, inbound: map[string]S{}, start: opt.Now(), wake: make(chan struct{}, 1)}
	for i := range d.groups {
		g := &d.groups[i]
		g.ID, g.d = uint16(i), d
		g.st = New(opt.Self, restored[i])
		g.st.Break(opt.Rules)
		g.durable.Store(restored[i].Promised)
		if restored[i].Promised > 0 || restored[i].PromisesLost {
			g.granted = opt.Now() // what this replica granted before the restart is not known
		}
		g.released = restored[i].Head.Seq == 0 && !restored[i].Holes
		g.tail.reset(restored[i].Head.Seq + 1)
		g.st.SetFloor(g.tail.first)
	}
	return d
}

// Group returns the replica of group id.
func (d *Driver[S]) Group(id uint16) *Group[S] { return &d.groups[id] }

// DiskFull tells that the journal could not be written for lack of space; writes must be refused until it could.
func (d *Driver[S]) DiskFull() bool { return d.full.Load() }

// Serving tells that this replica is its group's primary and may execute writes now.
func (g *Group[S]) Serving() bool {
	if !g.serving {
		return false
	}
	return g.notBefore.IsZero() || g.leasePassed()
}

func (g *Group[S]) leasePassed() bool {
	if g.d.opt.Now().Before(g.notBefore) {
		return false
	}
	g.notBefore = time.Time{}
	return true
}

// Primary tells that this replica is its group's primary, whether it serves already or not.
func (g *Group[S]) Primary() bool { return g.st.Role() == Primary }

// Solo tells that this is the group's only replica, so that nothing waits for another node.
func (g *Group[S]) Solo() bool { return g.solo }

// Committed returns up to where the log is committed.
func (g *Group[S]) Committed() uint64 { return g.commit }

// Head returns the position of the last record.
func (g *Group[S]) Head() Position { return g.st.Head() }

// Held tells that a reply which depends on the record seq must wait for Machine.Settled.
func (g *Group[S]) Held(seq uint64) bool {
	return !g.solo && g.d.opt.Acks != AcksOne && seq > g.settledSeq()
}

// Wants tells whether effects are of any use: to a journal or to another replica.
func (g *Group[S]) Wants() bool { return !g.solo || g.d.opt.Journal != nil }

// Readable tells that no other primary can have served since, so that a read may be answered from memory. When it
// returns false a confirmation is under way, and Machine.Changed will follow.
func (g *Group[S]) Readable(now time.Time, b *Batch[S]) bool {
	if g.solo {
		// What is read must not be lost by a crash after it was seen. While the disk is full reads are served all the
		// same: it takes a crash on top to lose what they saw.
		if g.lastPos > b.pos && g.lastPos > g.d.stored.Load() && !g.d.full.Load() {
			b.pos = g.lastPos
		}
		return true
	}
	left := g.leaseUntil.Sub(now)
	g.read = now
	if left < g.d.opt.Lease/2 {
		g.confirm(now, b)
	}
	return left > 0
}

// readAgain is how long after the last read a lease is kept, so that reads which come now and then need not wait for it.
const readAgain = 10 * time.Second

func (g *Group[S]) keepLease(now time.Time, b *Batch[S]) {
	if g.serving && now.Sub(g.read) < readAgain && g.leaseUntil.Sub(now) < g.d.opt.Lease/2 {
		g.confirm(now, b)
	}
}

// confirm asks a majority whether this is still the primary, unless that was asked just now.
func (g *Group[S]) confirm(now time.Time, b *Batch[S]) {
	round := g.st.Round()
	if round > 0 && now.Sub(g.asked[round%askedRounds]) < g.d.opt.Lease/askedRounds {
		return
	}
	g.asked[(round+1)%askedRounds] = now
	g.ev = Event{Kind: Confirm}
	g.acts = g.st.Step(&g.ev, g.acts[:0])
	g.carryOut(b)
}

// Propose orders a write that was just executed: effects are its deterministic commands. It returns the record's
// sequence number; the reply must wait while Held says so. The group must be serving.
func (g *Group[S]) Propose(effects []byte, b *Batch[S]) uint64 {
	g.ev = Event{Kind: Propose}
	g.acts = g.st.Step(&g.ev, g.acts[:0])
	for i := range g.acts {
		if a := &g.acts[i]; a.Kind == AppendLocal {
			g.appendOwn(a, effects, b)
		}
	}
	g.carryOut(b)
	return g.st.Head().Seq
}

// appendOwn puts a record that this primary ordered where it must go: the tail for followers, the journal.
func (g *Group[S]) appendOwn(a *Action, effects []byte, b *Batch[S]) {
	kind := journal.Effects
	if a.Noop {
		kind, effects = journal.Noop, nil
	}
	if !g.solo {
		g.tail.append(a.First, kind, effects)
	} else {
		g.tail.reset(a.Last + 1)
	}
	g.st.SetFloor(g.tail.first)
	g.record(journal.Record{Group: g.ID, Kind: kind, Term: a.Term, Seq: a.First, Data: effects}, b)
}

func (g *Group[S]) record(r journal.Record, b *Batch[S]) {
	if g.d.opt.Journal != nil {
		g.lastPos = g.d.opt.Journal.Append(r)
		b.pos = max(b.pos, g.lastPos)
	}
	if !g.solo {
		b.touch(g.ID, Position{Term: r.Term, Seq: r.Seq})
	}
}

func (b *Batch[S]) touch(group uint16, head Position) {
	b.touched[group/64] |= 1 << (group % 64)
	b.heads[group] = head
}

// step runs the event in g.ev and carries out what follows from it.
func (g *Group[S]) step(b *Batch[S]) {
	g.acts = g.st.Step(&g.ev, g.acts[:0])
	for i := range g.acts {
		if a := &g.acts[i]; a.Kind == AppendLocal {
			g.appendOwn(a, nil, b)
		}
	}
	g.carryOut(b)
}

// carryOut does what the core decided, but for AppendLocal and InstallSnapshot, whose data only their callers have.
func (g *Group[S]) carryOut(b *Batch[S]) {
	for i := range g.acts {
		a := &g.acts[i]
		switch a.Kind {
		case PersistPromise:
			b.promise(g.ID, a.Term)
		case Send:
			g.send(a, b)
		case SendSnapshot:
			g.d.queueSnapshot(g, a.To, a.Term, b)
		case Ack:
			g.ack(a, b)
		case Committed:
			g.committed(a.Seq)
		case Serving:
			g.serving = true
			g.leaseUntil = time.Time{}
			g.d.opt.Machine.Changed(g.ID)
		case StepDown:
			g.serving, g.again = false, false
			g.leaseUntil = time.Time{}
			g.dropBulk()
			g.d.opt.Machine.Changed(g.ID)
		case Diverged:
			g.d.opt.Machine.Lost(g.ID)
		case VoterChanged:
			if a.Voter {
				b.complete = append(b.complete, g.ID)
			}
		case Confirmed:
			g.confirmed(a.Round, b)
		case SendTold:
			g.sendTold(a, b)
		}
	}
}

func (b *Batch[S]) promise(group uint16, term uint64) {
	if b.promises == nil {
		b.promises = map[uint16]uint64{}
	}
	b.promises[group] = max(b.promises[group], term)
}

func (g *Group[S]) committed(seq uint64) {
	g.commit = max(g.commit, seq)
	g.d.opt.Machine.Settled(g.ID, g.settledSeq())
}

// settledSeq is the record up to which replies may leave under the configured level.
func (g *Group[S]) settledSeq() uint64 {
	if g.d.opt.Acks == AcksAll {
		return min(g.commit, g.st.Replicated(len(g.st.Config().Replicas)-1))
	}
	return g.commit
}

func (g *Group[S]) confirmed(round uint64, b *Batch[S]) {
	g.nextRound(b)
	g.d.opt.Machine.Settled(g.ID, g.settledSeq())
	if round+askedRounds <= g.st.Round() {
		return // asked too long ago to be of use
	}
	was := g.leaseUntil
	g.sure = g.asked[round%askedRounds]
	g.leaseUntil = g.sure.Add(g.d.opt.Lease)
	if now := g.d.opt.Now(); now.After(was) && now.Before(g.leaseUntil) {
		g.d.opt.Machine.Changed(g.ID)
	}
}

// EndBatch flushes what the batch sent, writes the journal, and tells the replicas what is stored. An error means
// that what the batch wrote is not durable: none of its replies may leave.
func (d *Driver[S]) EndBatch(b *Batch[S]) error {
	if len(b.promises) > 0 || len(b.complete) > 0 {
		if err := d.persist(b); err != nil {
			return err
		}
	}
	b.flush()
	if b.pos > 0 && d.opt.Journal != nil {
		if err := d.commit(b.pos); err != nil {
			b.failed, b.pos = max(b.failed, b.pos), 0
			return err
		}
	}
	b.pos = 0
	if b.failed > d.stored.Load() {
		return nil // some of what was touched is not stored yet: Tick tries again
	}
	b.failed = 0
	for w := range b.touched {
		for set := b.touched[w]; set != 0; set &= set - 1 {
			g := &d.groups[w*64+trailingZeros(set)]
			g.Lock()
			g.ev = Event{Kind: Stored, At: b.heads[g.ID]}
			b.touched[w] &^= 1 << (g.ID % 64)
			g.step(b)
			g.Unlock()
		}
	}
	if len(b.promises) > 0 || len(b.complete) > 0 {
		// What is stored made groups whole. The batch may not be used again for long, or ever.
		if err := d.persist(b); err != nil {
			return err
		}
	}
	b.flush()
	return nil
}

// persist makes promises durable before anything that follows from them leaves.
func (d *Driver[S]) persist(b *Batch[S]) error {
	promises, complete, held := b.promises, b.complete, b.held
	b.promises, b.complete, b.held = nil, nil, nil
	if len(promises) > 0 && d.opt.Journal != nil {
		if err := d.opt.Journal.SetPromises(promises); err != nil {
			if errors.Is(err, journal.ErrDiskFull) {
				return err // nothing was told of the promises: whoever asks again has them written again
			}
			d.fatal(fmt.Errorf("write the promised terms: %w", err))
			return err
		}
	}
	for id, term := range promises {
		d.groups[id].keep(term)
	}
	for i := range held {
		if buf, ok := held[i].s.Begin(frameAck); ok {
			held[i].s.End(append(buf, held[i].body[:]...))
			b.dirty(held[i].s)
		}
	}
	if len(complete) > 0 && d.opt.Journal != nil {
		if err := d.opt.Journal.Complete(complete...); err != nil {
			d.log.Warn("cannot note that groups are complete: they will not vote after a restart", "error", err)
		}
	}
	return nil
}

// keep notes that the promise of term is on the disk.
func (g *Group[S]) keep(term uint64) {
	for old := g.durable.Load(); old < term && !g.durable.CompareAndSwap(old, term); old = g.durable.Load() {
	}
}

func (b *Batch[S]) flush() {
	for _, s := range b.streams {
		s.Flush()
	}
	b.streams = b.streams[:0]
}

func (b *Batch[S]) dirty(s S) {
	for _, have := range b.streams {
		if have == s {
			return
		}
	}
	b.streams = append(b.streams, s)
}

func (d *Driver[S]) commit(pos int64) error {
	err := d.opt.Journal.Commit(pos)
	if err == nil {
		raise(&d.stored, pos)
		d.full.Store(false)
		return nil
	}
	if errors.Is(err, journal.ErrDiskFull) {
		raise(&d.owed, pos)
		if !d.full.Swap(true) {
			d.log.Error("the disk of the data directory is full: writes are refused until there is space", "error", err)
		}
		return err
	}
	d.fatal(fmt.Errorf("write the journal: %w", err))
	return err
}

func raise(v *atomic.Int64, to int64) {
	for old := v.Load(); old < to && !v.CompareAndSwap(old, to); old = v.Load() {
	}
}

func (d *Driver[S]) fatal(err error) {
	if d.opt.Fatal != nil {
		d.opt.Fatal(err)
	}
}

// Tick must be called about every 100 ms, by the goroutine that calls Pace: primaries probe followers that lag and tell them what is committed.
func (d *Driver[S]) Tick(b *Batch[S]) {
	now := d.opt.Now()
	for i := range d.groups {
		g := &d.groups[i]
		g.Lock()
		if !g.solo && g.st.Role() == Primary {
			g.st.SetFloor(g.tail.first)
			g.ev = Event{Kind: Tick}
			g.step(b)
			g.keepLease(now, b)
		}
		if !g.solo && g.st.StoredSeq() < g.st.Head().Seq && g.lastPos <= d.stored.Load() {
			// The batch that wrote it found the disk full and ended with its stream, so that nobody else tells.
			g.ev = Event{Kind: Stored, At: g.st.Head()}
			g.step(b)
		}
		g.shrink()
		g.Unlock()
	}
	d.Pace(b)
	d.askAge(now, b)
	if d.full.Load() && d.opt.Journal != nil {
		_ = d.commit(d.owed.Load())
	}
	_ = d.EndBatch(b)
}

// shrink gives up the memory of a record that is larger than the whole tail should be, once all others have it.
func (g *Group[S]) shrink() {
	if len(g.tail.buf) <= 2*tailBytes || g.tail.pinned() {
		return
	}
	if head := g.st.Head().Seq; g.st.Role() != Primary || g.st.Replicated(len(g.st.Config().Replicas)-1) >= head {
		g.tail.reset(head + 1)
		g.st.SetFloor(g.tail.first)
	}
}

// Votes tells that nothing this replica ever acknowledged is missing.
func (g *Group[S]) Votes() bool { return g.st.Voter() }

// Term returns the term that the replica works in.
func (g *Group[S]) Term() uint64 { return g.st.Term() }

// Hollow tells that the content is not that of the log's end: a snapshot is awaited. A rewrite of the journal must not
// take it for whole.
func (g *Group[S]) Hollow() bool { return g.st.Hollow() }
