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

// State is one group's replica. It is not safe for concurrent use: the driver holds the group's lock.
type State struct{ role Role }

// New returns the state of replica self after a start. It knows no configuration until the first Configure.
func New(self string, r Restored) *State { return &State{} }

// SetFloor tells the first sequence number whose record the driver still retains. Peers that need older ones get a
// snapshot. It never needs to be called if everything is retained.
func (s *State) SetFloor(seq uint64) {}

// Role returns what the replica does now.
func (s *State) Role() Role { return s.role }

// Serving says whether the replica is a primary that may execute reads and writes.
func (s *State) Serving() bool { return false }

// Head returns the last record, stored in the journal or not.
func (s *State) Head() Position { return Position{} }

// StoredSeq returns up to where the own journal is known to hold the log.
func (s *State) StoredSeq() uint64 { return 0 }

// CommitSeq returns up to where the log is known to be committed.
func (s *State) CommitSeq() uint64 { return 0 }

// Term returns the term of the configuration or of the primary followed, whichever is newer.
func (s *State) Term() uint64 { return 0 }

// Promised returns the term below which everything is refused.
func (s *State) Promised() uint64 { return 0 }

// Voter says that nothing this replica ever acknowledged is missing.
func (s *State) Voter() bool { return false }

// TermAt returns the term of the record seq, if it is in the log and not older than the remembered term starts.
func (s *State) TermAt(seq uint64) (uint64, bool) { return 0, false }

// Contains says whether the record p is known to be in the log.
func (s *State) Contains(p Position) bool { return false }

// Config returns the newest configuration.
func (s *State) Config() Config { return Config{} }

// Starts appends to dst the term starts of the log up to seq, oldest first.
func (s *State) Starts(seq uint64, dst []TermStart) []TermStart { return dst }

// Runs appends to dst the terms of the records first..last, as an Append message carries them.
func (s *State) Runs(first, last uint64, dst []TermStart) []TermStart { return dst }

// Replicated returns the highest sequence number that at least n other members of Replicas have stored.
func (s *State) Replicated(n int) uint64 { return 0 }

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
	// CannotLead: configured as primary, but it restarted since it was fenced: the group needs a new term.
	CannotLead bool
	Peers      []PeerStatus // as primary only
}

// PeerStatus is what a primary knows of another replica.
type PeerStatus struct {
	Name     string
	Up       bool
	Voter    bool
	Match    uint64 // stored up to here
	Lag      uint64 // records behind the primary's head
	Snapshot bool   // a snapshot is being sent
}

// Status describes the replica; peers are appended to dst, which may be nil.
func (s *State) Status(dst []PeerStatus) Status { return Status{} }
