package httpapi

import (
	"context"
	"strings"
	"time"
)

// Backend is what the HTTP side needs of the node. All methods are safe for
// concurrent use. Do, Drain, Remove and Handover may block until ctx ends; the others
// answer from memory at once. Replies and slices belong to the caller.
type Backend interface {
	// Refuses says why a user may not run a command, with Redis' prefix (NOAUTH,
	// WRONGPASS, NOPERM); "" if it may. It answers at once.
	Refuses(who Credentials, args ...[]byte) string
	// Do executes a command as if a Redis client had sent it to this node, whatever
	// Refuses says, forwarded if another node owns the key. It
	// returns when the configured acknowledgements are in. What went wrong is a
	// Reply of KindError, with Redis' prefix.
	Do(ctx context.Context, args ...[]byte) Reply
	// Read is Do for a command that only reads, with a level of its own. Where this
	// node's copy is not known to be new enough for ReadStale, the primary answers.
	Read(ctx context.Context, level ReadLevel, args ...[]byte) Reply
	// Health is the node's own view of itself and the cluster.
	Health() Health
	// Ready says whether the node serves its share; if not, why, one reason each.
	Ready() (bool, []string)
	// Members lists everybody known by gossip and by the committed topology.
	Members() []Member
	// Topology is the committed map of groups to nodes.
	Topology() Topology
	// Drain moves all data off this node and leaves the cluster. Calling it again
	// waits for the same drain.
	Drain(ctx context.Context) error
	// Remove takes a dead member out of the cluster and waits until its replicas are on others.
	Remove(ctx context.Context, node string) error
	// Handover gives this node's primaries to their replicas and keeps the data, as
	// before a restart.
	Handover(ctx context.Context) error
	// ResetDefaultUser gives the user default back what the nodes' configuration says: it may
	// do everything, with the passwords of auth.password_file.
	ResetDefaultUser(ctx context.Context) error
	// Stats are the figures behind /metrics and /api/status.
	Stats() Stats
}

// Credentials are what a request says of who sent it.
type Credentials struct {
	None           bool // it says nothing: the user default, if that needs no password
	User, Password string
}

// ReadLevel says how new what a read returns must be.
type ReadLevel uint8

// The levels of a read.
const (
	ReadDefault ReadLevel = iota // the newest, as the node is configured to know it
	ReadQuorum                   // the newest, confirmed by a majority
	ReadStale                    // at most cluster.max_staleness old, from this node's copy
)

// Kind is the type of a Reply.
type Kind uint8

// The kinds of replies.
const (
	KindNull Kind = iota
	KindBytes
	KindInt
	KindStatus // "OK"; the text is in Bytes
	KindError
	KindArray
)

// Reply is the result of one command.
type Reply struct {
	Kind  Kind
	Bytes []byte
	Int   int64
	Err   string // with prefix: "OOM command not allowed …"
	Array []Reply
}

// ErrorReply makes a Reply that says what went wrong.
func ErrorReply(msg string) Reply { return Reply{Kind: KindError, Err: msg} }

// Prefix is the first word of the error, which clients decide by.
func (r Reply) Prefix() string {
	word, _, _ := strings.Cut(r.Err, " ")
	return word
}

// Health is the body of /health.
type Health struct {
	Status      string `json:"status"` // "ok", "degraded" (some groups lack replicas), "unavailable" (some groups have no primary), "starting", "draining"
	Node        string `json:"node"`
	Version     string `json:"version"`
	UptimeSec   int64  `json:"uptime_seconds"`
	ClusterSize int    `json:"cluster_size"` // members of the committed topology
	Alive       int    `json:"alive"`        // of those, how many gossip sees
	Leader      string `json:"leader"`       // id of the Raft leader, empty if unknown
	Epoch       uint64 `json:"epoch"`
	Roles       Roles  `json:"roles"`
	Clock       Clock  `json:"clock"`
}

// Clock says how the wall clock does against the cluster's.
type Clock struct {
	// State is "ok", "guarded" (the wall clock has stepped and is not followed) or "frozen" (nothing expires here).
	State string `json:"state"`
	// OffsetSec is how many seconds the wall clock is ahead of the time that keys live by.
	OffsetSec float64 `json:"offset_seconds"`
}

// The states of a Clock.
const (
	ClockOK      = "ok"
	ClockGuarded = "guarded"
	ClockFrozen  = "frozen"
)

// Roles counts the groups in which a node is primary, replica or still learning.
type Roles struct {
	Primary int `json:"primary"`
	Replica int `json:"replica"`
	Learner int `json:"learner"`
}

// Member is one node of /api/cluster/members.
type Member struct {
	ID         string            `json:"id"`
	Status     string            `json:"status"` // alive, leaving, left, failed, or unknown to gossip
	State      string            `json:"state"`  // up, draining, removed, or empty when not in the topology
	Zone       string            `json:"zone"`
	RESPAddr   string            `json:"resp_addr"`
	HTTPAddr   string            `json:"http_addr"`
	GossipAddr string            `json:"gossip_addr"`
	RPCAddr    string            `json:"rpc_addr"`
	Version    string            `json:"version"`
	Leader     bool              `json:"leader"`
	Voter      bool              `json:"voter"`
	Self       bool              `json:"self"`
	Roles      Roles             `json:"roles"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// Topology is the body of /api/cluster/topology.
type Topology struct {
	Epoch     uint64  `json:"epoch"`
	ClusterID string  `json:"cluster_id"`
	Leader    string  `json:"leader"`
	Slots     int     `json:"slots"`
	Groups    []Group `json:"groups"`
}

// Group is a run of slots and who holds it.
type Group struct {
	Group    int      `json:"group"`
	Slots    [2]int   `json:"slots"` // first and last, inclusive
	Term     uint64   `json:"term"`
	Primary  string   `json:"primary"`
	Replicas []string `json:"replicas"` // all holders that vote, the primary among them
	Learner  string   `json:"learner,omitempty"`
	Next     []string `json:"next,omitempty"`
}

// Denied counts what users were refused, by the reason.
type Denied struct {
	Auth    uint64 `json:"auth_total"` // a wrong name or password
	Command uint64 `json:"command_total"`
	Key     uint64 `json:"key_total"`
	Channel uint64 `json:"channel_total"`
}

// Stats are counters since start (…Total) and current values of one node.
type Stats struct {
	Keys               int64         `json:"keys"`
	KeysWithTTL        int64         `json:"keys_with_ttl"`
	MemoryUsed         int64         `json:"memory_used_bytes"`
	MemoryMax          int64         `json:"memory_max_bytes"`
	JournalBytes       int64         `json:"journal_bytes"`
	Clients            int64         `json:"clients"`
	CommandsTotal      uint64        `json:"commands_total"`
	ConnectionsTotal   uint64        `json:"connections_total"`
	ForwardedTotal     uint64        `json:"forwarded_total"`
	ReadsLeaseTotal    uint64        `json:"reads_lease_total"`  // reads this node answered as primary, by its lease
	ReadsQuorumTotal   uint64        `json:"reads_quorum_total"` // the same, confirmed by a majority
	ReadsStaleTotal    uint64        `json:"reads_stale_total"`  // reads answered from a copy
	HitsTotal          uint64        `json:"hits_total"`
	MissesTotal        uint64        `json:"misses_total"`
	ExpiredTotal       uint64        `json:"expired_total"`
	EvictedTotal       uint64        `json:"evicted_total"`
	FailoversTotal     uint64        `json:"failovers_total"`
	NoReplicasTotal    uint64        `json:"noreplicas_total"` // writes whose acknowledgements did not come in time
	Denied             Denied        `json:"denied"`
	ReplicationLag     int64         `json:"replication_lag_records"`
	ReplicationLagTime time.Duration `json:"-"`
}
