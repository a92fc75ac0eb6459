package topology

import (
	"context"
	"errors"
)

// Topology is this node's part in the cluster's configuration. Its methods are safe for concurrent use.
type Topology struct{}

// Open starts the node's part: it reads the Raft state in DataDir, founds or waits for a cluster, and returns at once.
func Open(o Options) (*Topology, error) { return nil, errors.ErrUnsupported }

// Close stops the controller and Raft, and closes the stream. It hands nothing over: see Handover.
func (t *Topology) Close() error { return nil }

// State returns the newest state applied here. Never nil; empty until a leader was heard of.
func (t *Topology) State() *State { return nil }

// Run returns the incarnation of this process.
func (t *Topology) Run() string { return "" }

// Subscribe calls fn with the present state and then after every change, in order, leaving out states that a newer one
// has replaced meanwhile. Calls never overlap, also between subscribers: fn must not block for long.
// After cancel no new call begins.
func (t *Topology) Subscribe(fn func(*State)) (cancel func()) { return func() {} }

// Leader returns the id of the Raft leader as far as known here, or "".
func (t *Topology) Leader() string { return "" }

// IsLeader reports whether this node leads.
func (t *Topology) IsLeader() bool { return false }

// Discovered tells which nodes gossip knows of, this one included. The list replaces the one before.
func (t *Topology) Discovered(members []Member) {}

// Handle answers a call from node from whose method begins with Prefix.
func (t *Topology) Handle(ctx context.Context, from, method string, payload []byte) ([]byte, error) {
	return nil, errors.ErrUnsupported
}

// Drain makes a member give up everything it holds and takes it out of the cluster. It returns when that is done; ctx
// bounds the waiting, not the drain, which goes on. Any node can be asked. ErrLastNode, ErrUnknownNode, ErrNoLeader.
func (t *Topology) Drain(ctx context.Context, node string) error { return nil }

// Handover moves the primaries of a member that is about to stop to other replicas; it keeps its placement. Groups
// without another live replica stay. If the member leads the Raft group, the leadership is handed over too.
func (t *Topology) Handover(ctx context.Context, node string) error { return nil }

// Ready reports how far node is.
func (t *Topology) Ready(node string) Progress { return Progress{} }
