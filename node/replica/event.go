package replica

// Position identifies a record: the term of the primary that ordered it and its sequence number. Sequence numbers are
// contiguous from 1; the zero Position stands before the first record.
type Position struct{ Term, Seq uint64 }

// Less orders positions as elections do: by term, then by sequence number.
func (p Position) Less(q Position) bool {
	return p.Term < q.Term || p.Term == q.Term && p.Seq < q.Seq
}

// TermStart says that Term's records begin at sequence number FirstSeq.
type TermStart struct{ Term, FirstSeq uint64 }

// MaxStarts bounds how many term starts a replica remembers. A position older than the oldest of them cannot be
// compared any more, and a follower that far behind gets a snapshot.
const MaxStarts = 32

// Config is what the topology has committed for the group. Epoch orders configurations; a State ignores older ones.
// A State keeps the slices: they must not be changed afterwards.
type Config struct {
	Epoch    uint64   // the topology's version: grows with every change
	Term     uint64   // the group's term
	Primary  string   // "" while an election is under way
	Replicas []string // the replicas whose majority commits
	Next     []string // nil, or the replicas to come: commits and elections then need a majority of both
	Learner  string   // "" or a node that is fed but never counts
}

// Restored is what a replica knows after (re)starting.
type Restored struct {
	Promised uint64      // the durable promise, 0 if none
	Head     Position    // last record in the journal
	Starts   []TermStart // terms of the log, oldest first; the newest MaxStarts suffice
	// Voter says that nothing this replica ever acknowledged can be missing. False after a power loss with an unsynced
	// tail, after damage, for a new replica, and after a restart that follows a VoterChanged{false} without a later
	// VoterChanged{true}.
	Voter bool
	// PromisesLost says that Promised may be lower than what was promised: the disk was empty, or that part of it was
	// damaged. Such a replica could help a deposed primary, so it takes part in nothing before it is told a configuration
	// that was committed after it started; whoever calls Configure makes sure of that.
	PromisesLost bool
	// Holes says that records are missing in the middle: the content is not that of Head. Such a replica is never fed from
	// where its log ends, but gets a snapshot; it leads only where nobody else is left to.
	Holes bool
	// Incarnation differs from that of every earlier start of this replica (64 random bits do). Primaries echo it, so
	// that a message from before the restart is not taken for one sent after it.
	Incarnation uint64
	// Window bounds how many records may be on their way to one peer; 0 means DefaultWindow. Smaller bounds memory,
	// larger feeds a distant peer faster.
	Window uint64
}

// DefaultWindow is the bound on records under way to one peer.
const DefaultWindow = 1 << 16

// EventKind says what happened and which fields of an Event count.
type EventKind uint8

// Event kinds. Fields not named are ignored.
const (
	_ EventKind = iota

	// Configure: the topology committed Config.
	Configure
	// Fence: the topology (reply to From) opens Term. First: no primary was ever committed for this group, so that a
	// replica without records lacks nothing and may vote.
	Fence
	// Propose: the driver of a serving primary executed Count writes (0 means 1) and holds their effects. Answered by
	// AppendLocal with the positions, or by nothing if the replica does not serve.
	Propose
	// Stored: the journal holds every record up to At (written; whatever the fsync policy demands has happened).
	Stored
	// Append: From, primary of Term, sent the records Prev.Seq+1 .. Last with terms Runs (empty for a probe). Commit is
	// its committed sequence number, Head its own head, Echo the incarnation it last heard from us, Round its newest
	// round of confirmation.
	Append
	// AppendAck: From promised Term, its log ends at Head, its journal has everything up to Stored, and it answers Round.
	// Rejected: it dropped an Append. Installing: a snapshot is replacing its content. Voter and Incarnation describe it.
	AppendAck
	// PeerUp: an ordered stream to Peer exists from now on. PeerDown: it is gone; what was under way may be lost.
	PeerUp
	PeerDown
	// SnapshotSent: the whole content at position At was put in Peer's stream; what is sent next follows it there. Term
	// is that of the SendSnapshot action it answers; 0 if it is told at once, while the action is carried out.
	SnapshotSent
	// SnapshotFailed: the snapshot for Peer, asked for in Term, was not completely sent; a Tick asks again.
	SnapshotFailed
	// SnapshotOffered: From, primary of Term, starts to send its content at position At. Answered by InstallSnapshot
	// (take it) or by an Ack with Rejected (read it off the stream and drop it).
	SnapshotOffered
	// SnapshotInstalled: the content of the accepted snapshot is in the store and, end mark included, in the journal.
	// Starts are the sender's term starts up to At.
	SnapshotInstalled
	// SnapshotAborted: the accepted snapshot broke off; the old content is gone, the new one incomplete.
	SnapshotAborted
	// Confirm: ask a majority whether this is still the primary; see Confirmed. Call it for reads without a lease, and
	// to renew a lease.
	Confirm
	// Asked: the replica From wants to know how old what it shows is, and stamped its question with Stamp. Sure: no other
	// primary can have acknowledged anything by now, as a lease shows. Last: what was acknowledged though it may not be
	// committed, 0 if nothing. Answered by SendTold, now or when a round that this begins is confirmed.
	Asked
	// Told: what was acknowledged before the own question of Stamp was sent is in the log up to Seq.
	Told
	// Tick: some time passed (50-200 ms is sensible). A primary probes peers that lag without progress and tells
	// followers what is committed.
	Tick
)

// Event is one input of Step. Step does not keep it, nor its Runs; it keeps the slices of Config.
type Event struct {
	Kind        EventKind
	First       bool
	Rejected    bool
	Installing  bool
	Voter       bool
	Sure        bool
	From        string // Fence, Append, AppendAck, SnapshotOffered, Asked, Told
	Peer        string // PeerUp, PeerDown, SnapshotSent, SnapshotFailed
	Term        uint64
	Count       uint64
	Prev        Position
	Last        uint64
	Stored      uint64
	Commit      uint64
	Round       uint64
	Echo        uint64
	Stamp       uint64
	Seq         uint64
	Incarnation uint64
	Head        Position
	At          Position
	Runs        []TermStart // Append: the terms of Prev.Seq+1 .. Last
	Starts      []TermStart // SnapshotInstalled
	Config      Config
}

// ActionKind says what to do and which fields of an Action count.
type ActionKind uint8

// Action kinds.
const (
	_ ActionKind = iota

	// PersistPromise: make the promise of Term durable (fsync) before any later action.
	PersistPromise
	// FenceReply: answer To's fence of Term: OK, with Head and Voter; or not, and Term is the promise that was made
	// earlier. The topology then opens a higher term (also if Term is the one it asked for: the replica restarted since).
	FenceReply
	// AppendLocal: put the records First..Last in the journal and, as a follower, apply them. As a primary they are the
	// proposed ones, with term Term (Noop: one record without effects); as a follower they come from the Append
	// message, with the terms they have there. Report Stored when the journal has them.
	AppendLocal
	// Send: send To an Append of Term with Prev, records First..Last (First > Last: none), Commit, Head, Echo, Round.
	// The driver may split it into several messages in order.
	Send
	// SendSnapshot: take the content at the current head and send it To, with State.Starts up to it; report SnapshotSent
	// or SnapshotFailed.
	SendSnapshot
	// Ack: answer To with an AppendAck: Term, Head, Stored, Rejected, Installing, Round, Voter, Incarnation.
	Ack
	// Committed: everything up to Seq is committed. Replies waiting for it may leave, those that a former primary still
	// holds too.
	Committed
	// Serving: this primary may execute reads and writes in Term; everything before is committed.
	Serving
	// StepDown: no longer primary of Term. Replies that wait go on waiting for Committed or Diverged.
	StepDown
	// Diverged: the own log is not a prefix of the primary's: replies still waiting fail with an unknown outcome. The
	// content will be replaced.
	Diverged
	// InstallSnapshot: mark the group as being replaced (SyncBegin in the journal), then install the offered content;
	// report SnapshotInstalled or SnapshotAborted. Replies still waiting fail with an unknown outcome.
	InstallSnapshot
	// VoterChanged: remember durably whether this replica may vote; Restored.Voter must be false after a restart while
	// the last one was false.
	VoterChanged
	// Confirmed: a majority answered Round after it was asked: when it was asked, no other primary served.
	Confirmed
	// SendTold: tell To that the answer to its question of Stamp is Seq.
	SendTold
)

// Action is one output of Step. Actions are to be carried out in order.
type Action struct {
	Kind        ActionKind
	OK          bool
	Voter       bool
	Noop        bool
	Rejected    bool
	Installing  bool
	To          string
	Term        uint64
	First, Last uint64
	Seq         uint64
	Stored      uint64
	Commit      uint64
	Round       uint64
	Echo        uint64
	Stamp       uint64
	Incarnation uint64
	Prev        Position
	Head        Position
}
