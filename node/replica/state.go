package replica

// Role is what a replica currently does for the group.
type Role uint8

// Roles.
const (
	None     Role = iota // knows no primary
	Follower             // follows the primary of its term
	Primary              // orders records; it serves once its first record is committed
)

func (r Role) String() string { return [...]string{"none", "follower", "primary"}[r] }

// Rules switches single rules of the protocol off. It exists for the simulator, which proves with it that its checkers
// notice the loss that each rule prevents. The zero value is the protocol; nothing but a test sets another one.
type Rules struct {
	QuorumOfOne        bool // a primary commits what it alone has stored
	NoTermCheck        bool // a follower takes records from a term below its promise
	AckBeforeJournal   bool // a follower acknowledges records that its journal does not have yet
	CommitOldTerm      bool // records of older terms are committed by counting, before one of the own term is
	NoPromisePersist   bool // a promise is not written down
	VoterWithShortLog  bool // a replica that may have lost records votes all the same
	NoJointMajority    bool // commits need a majority of Replicas only while Next is set
	ServeBeforeNoop    bool // a new primary serves at once
	NonContiguous      bool // a follower takes records that leave a gap
	NoIncarnationCheck bool // the voting target is taken from any Append, from before the restart too
	LeadAfterRestart   bool // a primary goes on in its term after a restart
	TellUnconfirmed    bool // a primary tells how new its content is without asking whether it still is one
	FreshUnapplied     bool // a replica takes what it is told for what it shows, whatever it has applied
	TailMendsHoles     bool // a replica whose log has holes is fed from where it ends
	FollowUnpromised   bool // a replica that may have lost promises takes part at once
}

// State is one group's replica. It is not safe for concurrent use: the driver holds the group's lock.
type State struct {
	self  string
	rules Rules

	promised  uint64 // durable: everything below is refused
	fenced    uint64 // the promise that this incarnation made to an election and has not used up
	nonce     uint64 // changes whenever records that were acknowledged may have been lost
	term      uint64 // the term role and leader belong to
	roundSeen uint64 // newest round of leader
	commit    uint64
	stored    uint64
	floor     uint64 // first retained record
	head      Position
	starts    []TermStart
	leader    string
	role      Role

	serving    bool
	configured bool
	voter      bool
	installing bool
	wasVoter   bool     // voter before the snapshot being installed
	hollow     bool     // the content has holes: see Restored.Holes
	mute       bool     // promises may be lost: see Restored.PromisesLost
	target     Position // with it the log is whole again; Term 0: not known yet
	diverged   uint64   // term for which Diverged was reported
	fresh      freshness

	cfg Config
	up  []string // peers with a stream, members or not

	// As primary.
	peers              []peer
	noop               uint64 // first record of the own term
	joint              uint64 // head when the joint configuration took effect
	round              uint64 // newest round asked
	confirmed          uint64 // newest round answered by a majority
	window             uint64
	scratch            []uint64
	inReplicas, inNext bool // self
}

// New returns the state of replica self after a start. It knows no configuration until the first Configure.
func New(self string, r Restored) *State {
	s := &State{
		self: self, promised: r.Promised, nonce: r.Incarnation, head: r.Head, stored: r.Head.Seq,
		voter: r.Voter && !r.Holes, hollow: r.Holes, mute: r.PromisesLost, window: r.Window, floor: 1,
		starts: make([]TermStart, 0, MaxStarts+1),
	}
	if s.window == 0 {
		s.window = DefaultWindow
	}
	s.setStarts(r.Starts)
	s.fresh.whole = r.Head.Seq
	return s
}

// Break switches rules off; see Rules.
func (s *State) Break(r Rules) {
	s.rules = r
	s.hollow = s.hollow && !r.TailMendsHoles
	s.mute = s.mute && !r.FollowUnpromised
}

// setStarts takes over the term starts of a log that ends at head.
func (s *State) setStarts(starts []TermStart) {
	if n := len(starts); n > MaxStarts {
		starts = starts[n-MaxStarts:]
	}
	s.starts = append(s.starts[:0], starts...)
	if n := len(s.starts); s.head.Seq > 0 && (n == 0 || s.starts[n-1].Term != s.head.Term) {
		s.starts = append(s.starts, TermStart{s.head.Term, s.head.Seq})
	}
}

// extend moves the head to seq with records of term; the first of them is first.
func (s *State) extend(term, first, seq uint64) {
	if term != s.head.Term {
		if len(s.starts) == MaxStarts {
			copy(s.starts, s.starts[1:])
			s.starts = s.starts[:MaxStarts-1]
		}
		s.starts = append(s.starts, TermStart{term, first})
	}
	s.head = Position{term, seq}
}

// SetFloor tells the first sequence number whose record the driver still retains, at most one past the head. Peers that
// need older ones get a snapshot. It never needs to be called if everything since the start is retained; after New the
// driver calls it if it does not hold the whole log.
func (s *State) SetFloor(seq uint64) { s.floor = seq }

// Role returns what the replica does now.
func (s *State) Role() Role { return s.role }

// Serving says whether the replica is a primary that may execute reads and writes.
func (s *State) Serving() bool { return s.serving }

// Head returns the last record, stored in the journal or not.
func (s *State) Head() Position { return s.head }

// StoredSeq returns up to where the own journal is known to hold the log.
func (s *State) StoredSeq() uint64 { return s.stored }

// CommitSeq returns up to where the log is known to be committed.
func (s *State) CommitSeq() uint64 { return s.commit }

// Term returns the term that Role belongs to.
func (s *State) Term() uint64 { return s.term }

// Leader returns the primary that is followed, or "".
func (s *State) Leader() string { return s.leader }

// Promised returns the term below which everything is refused.
func (s *State) Promised() uint64 { return s.promised }

// Voter says that nothing this replica ever acknowledged is missing.
func (s *State) Voter() bool { return s.voter }

// Hollow says that records are missing in the middle of the log, so that the content is not that of Head.
func (s *State) Hollow() bool { return s.hollow }

// Installing says that a snapshot is replacing the content.
func (s *State) Installing() bool { return s.installing }

// Round returns the newest round of confirmation that was asked; Confirm asks the next one.
func (s *State) Round() uint64 { return s.round }

// ConfirmedRound returns the newest round that a majority answered.
func (s *State) ConfirmedRound() uint64 { return s.confirmed }

// TermAt returns the term of the record seq, if it is in the log and not older than the remembered term starts.
func (s *State) TermAt(seq uint64) (uint64, bool) {
	if seq == 0 {
		return 0, true
	}
	if seq > s.head.Seq {
		return 0, false
	}
	for i := len(s.starts) - 1; i >= 0; i-- {
		if seq >= s.starts[i].FirstSeq {
			return s.starts[i].Term, true
		}
	}
	return 0, false
}

// Contains says whether the record p is known to be in the log. A log that contains a record has everything before it
// in common with every other log that does.
func (s *State) Contains(p Position) bool {
	t, ok := s.TermAt(p.Seq)
	return ok && t == p.Term
}

// Config returns the newest configuration.
func (s *State) Config() Config { return s.cfg }

// Starts appends to dst the term starts of the log up to seq, oldest first.
func (s *State) Starts(seq uint64, dst []TermStart) []TermStart {
	for _, t := range s.starts {
		if t.FirstSeq <= seq {
			dst = append(dst, t)
		}
	}
	return dst
}

// Runs appends to dst the terms of the records first..last, as an Append message carries them.
func (s *State) Runs(first, last uint64, dst []TermStart) []TermStart {
	for i, t := range s.starts {
		if t.FirstSeq > last || first > last {
			break
		}
		if i+1 < len(s.starts) && s.starts[i+1].FirstSeq <= first {
			continue
		}
		dst = append(dst, TermStart{t.Term, max(t.FirstSeq, first)})
	}
	return dst
}

// Replicated returns the highest sequence number that at least n other members of Replicas have stored.
func (s *State) Replicated(n int) uint64 {
	if n <= 0 {
		return s.head.Seq
	}
	s.scratch = s.scratch[:0]
	for i := range s.peers {
		if s.peers[i].inReplicas {
			s.scratch = insert(s.scratch, s.peers[i].match)
		}
	}
	if n > len(s.scratch) {
		return 0
	}
	return s.scratch[n-1]
}

// Status is what a node reports about one replica.
type Status struct {
	Epoch, Term uint64
	Role        Role
	Serving     bool
	Voter       bool
	Head        Position
	Commit      uint64
	// JointReady: this primary's configuration has Next, and everything from before that is held by a majority of
	// Replicas and of Next. The topology may then commit Next as Replicas, if Epoch and Term are still the committed ones.
	JointReady bool
	// CannotLead: configured as primary of its term, but not able to lead it, because it restarted since it was fenced
	// or stepped down. The group needs a new term.
	CannotLead bool
	Peers      []PeerStatus // as primary only
}

// PeerStatus is what a primary knows of another replica.
type PeerStatus struct {
	Name     string
	Up       bool
	Voter    bool
	Snapshot bool   // it is being sent, or installs, a snapshot
	Match    uint64 // its journal has everything up to here
	Lag      uint64 // records behind the primary's head
}

// Status describes the replica; peers are appended to dst, which may be nil.
func (s *State) Status(dst []PeerStatus) Status {
	st := Status{
		Epoch: s.cfg.Epoch, Term: s.term, Role: s.role, Serving: s.serving, Voter: s.voter, Head: s.head,
		Commit: s.commit, Peers: dst, JointReady: s.jointReady(),
	}
	st.CannotLead = s.cfg.Primary == s.self && s.role != Primary && s.cfg.Term >= s.term
	if s.role != Primary {
		return st
	}
	for i := range s.peers {
		p := &s.peers[i]
		st.Peers = append(st.Peers, PeerStatus{
			Name: p.name, Up: p.up, Voter: p.voter, Match: p.match, Lag: s.head.Seq - min(s.head.Seq, p.match),
			Snapshot: p.mode == sending || p.mode == installing,
		})
	}
	return st
}
