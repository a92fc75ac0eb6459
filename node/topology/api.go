package topology

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/hashicorp/raft"

	"hypercache/node/ring"
)

// Errors that callers tell apart with errors.Is.
var (
	// ErrNoLeader says that no Raft leader is known: nothing can be changed until there is one.
	ErrNoLeader = errors.New("topology: no leader")
	// ErrNotLeader says that the call reached a node that does not lead.
	ErrNotLeader = errors.New("topology: not the leader")
	// ErrLastNode refuses to drain the only node that could hold the data.
	ErrLastNode = errors.New("topology: the last node cannot be drained")
	// ErrAlive refuses to remove a node that answers.
	ErrAlive = errors.New("topology: the node is alive: drain it, which loses nothing and needs nobody's copy")
	// ErrNeeded refuses to remove a node without which some group has no majority of its replicas.
	ErrNeeded = errors.New("topology: there is no majority of the replicas without the node")
	// ErrUnknownNode says that the id is not a member.
	ErrUnknownNode = errors.New("topology: no such member")
	// ErrClosed says that Close was called.
	ErrClosed = errors.New("topology: closed")
)

// Status is a member's place in the cluster, not its health: a node that crashed is still Up.
type Status string

// The statuses of a member.
const (
	Up       Status = "up"
	Draining Status = "draining" // gets no new placement, loses what it has
	Removed  Status = "removed"  // drained; readmitted only as a new process
)

// Member is one node. Addresses are host:port.
type Member struct {
	ID         string `json:"id"`
	Addr       string `json:"addr"` // peer streams (7373)
	Zone       string `json:"zone,omitempty"`
	RESPAddr   string `json:"resp_addr,omitempty"`
	HTTPAddr   string `json:"http_addr,omitempty"`
	GossipAddr string `json:"gossip_addr,omitempty"`
	Status     Status `json:"status,omitempty"`
	// Run is the incarnation: random per process start. Open fills it in for Self.
	Run string `json:"run,omitempty"`
	// Leaving is the Run that asked for Handover: that process is about to stop and gets no primaries.
	Leaving string `json:"leaving,omitempty"`
}

// Leaves reports whether the member's present process is about to stop.
func (m Member) Leaves() bool { return m.Leaving != "" && m.Leaving == m.Run }

// Group is one group's committed configuration.
type Group struct {
	// Epoch is the State.Epoch at which this group last changed: the version that replicas report back.
	Epoch uint64 `json:"epoch,omitempty"`
	// Term numbers the primaries. 0: not assigned yet. It never goes down.
	Term uint64 `json:"term,omitempty"`
	// Primary is empty while Term has none yet.
	Primary string `json:"primary,omitempty"`
	// Run is the incarnation of the process that was elected last. A process with another one must not serve Term,
	// even if its id is Primary: what it had promised in memory is gone. Empty: the group never had a primary.
	Run string `json:"run,omitempty"`
	// LeaseMillis is how long the new primary waits, from the moment it learns of its election, before it serves:
	// what remained of the old primary's lease. 0 when the old primary itself has been fenced.
	LeaseMillis uint64 `json:"lease_ms,omitempty"`
	// Replicas, the preferred primary first. A quorum is a majority of them.
	Replicas []string `json:"replicas,omitempty"`
	// Next is set while the replicas change: quorums are then a majority of Replicas and a majority of Next.
	Next []string `json:"next,omitempty"`
	// Learner gets the data and does not count in quorums.
	Learner string `json:"learner,omitempty"`
}

// Holds reports whether node has a copy of the group or is getting one.
func (g *Group) Holds(node string) bool {
	return g.Learner == node || slices.Contains(g.Replicas, node) || slices.Contains(g.Next, node)
}

// State is an immutable snapshot: never change one, share it freely.
type State struct {
	Epoch     uint64             `json:"epoch"` // +1 with every change
	ClusterID string             `json:"cluster_id"`
	RF        int                `json:"rf"` // replicas wanted per group; fewer while there are fewer members
	Members   map[string]Member  `json:"members"`
	Groups    [ring.Groups]Group `json:"groups"`
	// Libraries of functions, in order of name, and the IDs of the newest changes of them.
	Libraries      []Library `json:"libraries,omitempty"`
	LibraryChanges []string  `json:"library_changes,omitempty"`
	// Users, in order of name, and the newest changes of them. Without a change of users it is the same slice, not only an equal one.
	Users       []User      `json:"users,omitempty"`
	UserChanges []doneUsers `json:"user_changes,omitempty"`
}

// Timing are the controller's and Raft's clocks. Zero fields take the default.
type Timing struct {
	// Heartbeat is Raft's heartbeat and election timeout: a dead leader is replaced 1 to 2 of these later. Default
	// 500 ms. Lower: faster failover, but a busy machine loses its leader.
	Heartbeat time.Duration
	// LeaderLease is how long a Raft leader that hears no majority goes on leading. At most Heartbeat; default half.
	LeaderLease time.Duration
	// Commit is the pace at which an idle leader tells followers what is committed; after a change it does at once.
	// Default 150 ms; lower costs traffic to every node.
	Commit time.Duration
	// Tick is the pace of the controller. Default 50 ms.
	Tick time.Duration
	// Call bounds one call to a node. Default 500 ms.
	Call time.Duration
	// Poll is the pace of status polls; it is Tick for nodes that something waits for, and never less than 1 ms for each
	// member, so that the leader of a large cluster makes at most 1,000 a second. Default 200 ms.
	Poll time.Duration
	// FenceGrace is how long an election waits for the remaining live replicas once it has a majority. Default 100 ms.
	FenceGrace time.Duration
	// NotServing is how long a primary may know its election, its lease wait over, and not serve, before it is
	// replaced. Default 300 ms; doubles with each fruitless election of a group, to 5 s.
	NotServing time.Duration
	// PrimaryReturn is how long a node must have been up before primaries are moved back to it. Default 5 s.
	PrimaryReturn time.Duration
	// Rebalance is how long membership must be unchanged before data moves. Default 500 ms.
	Rebalance time.Duration
	// VoterDelay is how long a node must have been up before it becomes a Raft voter (at once while the loss of a voter
	// would stop the topology), and, tenfold, how long a voter must have been down before another takes its place.
	// Default 2 s.
	VoterDelay time.Duration
	// AbortAfter is how long a joining replica must have been down before its move is given up. Default 5 s.
	AbortAfter time.Duration
	// MaxMoves bounds the groups whose replicas change at the same time. Default 16.
	MaxMoves int
}

// Network makes authenticated calls to other nodes, and to this one. Implementations are safe for concurrent use.
type Network interface {
	// Call sends payload to method of node (an id) and returns its answer. It gives up when ctx ends; ctx always has a
	// deadline. An error says nothing about whether the call was executed.
	Call(ctx context.Context, node, method string, payload []byte) ([]byte, error)
	// Down reports this node's own view of node: not heard of for the suspicion time (1 s), or its connection
	// was refused. It does not block. False for this node itself.
	Down(node string) bool
}

// Options configure Open. NodeID, DataDir, Stream and Network are required.
type Options struct {
	NodeID  string
	DataDir string // raft.db, snapshots/ and identity.json live here; created if missing
	Self    Member // ID, Status and Run are filled in
	// Stream carries Raft. Close closes it.
	Stream raft.StreamLayer
	// Resolve returns the current address of a node. nil, or false: the address in the state.
	Resolve func(id string) (addr string, ok bool)
	Network Network
	// Bound, unless nil, is told once when the node becomes part of a cluster. It must not block.
	Bound func(cluster string)
	// Fatal, unless nil, is told when Raft's log cannot be written, unless the disk is full: what is on it is in doubt, and no later
	// write mends that. It may be called again and must not block. Whoever is told should end the process.
	Fatal func(error)
	// BootstrapExpect is how many nodes found a new cluster together. 0 and 1: this node alone, at once. Less than 0:
	// never found one, wait to be taken into one. It counts only on a node without Raft state.
	BootstrapExpect int
	// RF is the number of replicas per group of a cluster that is founded by this node. Default 3.
	RF     int
	Timing Timing
	// Was is the state that ReadPast found in DataDir, nil if none or unknown: which earlier processes need not be remembered.
	Was    *State
	Logger *slog.Logger // nil: nothing is logged

	wrapLog func(raft.LogStore) raft.LogStore // tests put faults into the log with it
}

// Progress is what /ready needs to know about one node.
type Progress struct {
	Leader    bool // a Raft leader is known
	Member    bool // the node is in the state
	Assigned  bool // all groups have replicas
	Fragile   bool // the topology could not lose a voter, though it has members enough
	Electing  int  // groups held by the node that have no primary
	Moving    int  // groups held by the node whose replicas are changing
	Primaries int
	Replicas  int
}

// Ready reports whether the node can take traffic: it is a member, and every group that it holds has a primary.
func (p Progress) Ready() bool { return p.Leader && p.Member && p.Assigned && p.Electing == 0 }
