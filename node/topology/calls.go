package topology

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/fnv"
)

// Methods that every node answers. Those beginning with Prefix go to Topology.Handle; the others are answered by the
// replicas of the node. Payloads and answers are JSON (Encode, Decode).
const (
	Prefix       = "topology."
	MethodFence  = "replica.fence"  // FenceCall -> FenceAnswer
	MethodStatus = "replica.status" // StatusCall -> StatusAnswer
	MethodRecall = "node.recall"    // nothing -> Recalled, of the asking node

	methodGrant    = Prefix + "grant"
	methodHello    = Prefix + "hello"
	methodJoin     = Prefix + "join"
	methodDrain    = Prefix + "drain"
	methodHandover = Prefix + "handover"
	methodRemove   = Prefix + "remove"

	methodLibraries = Prefix + "libraries" // LibraryChange -> nodeAnswer, of the leader
	methodUsers     = Prefix + "users"     // UserChange -> nodeAnswer, of the leader
	methodReached   = Prefix + "reached"   // reachedCall -> nothing, once the node acts on that epoch
)

// Position is a place in a group's log, ordered by Term, then Seq.
type Position struct {
	Term uint64 `json:"term"`
	Seq  uint64 `json:"seq"`
}

// Less orders positions.
func (p Position) Less(q Position) bool {
	return p.Term < q.Term || p.Term == q.Term && p.Seq < q.Seq
}

// FenceCall asks a node for promises, one per group, all made durable by one write.
type FenceCall struct {
	Groups []FenceRequest `json:"groups"`
}

// FenceRequest asks the replica of Group to promise Term: to refuse every older term from the answer on, also after a
// restart. The node need not have learnt from the state that it holds the group. Asking again for the same term is
// answered again.
type FenceRequest struct {
	Group uint16 `json:"group"`
	Term  uint64 `json:"term"`
	// First: the group never had a primary, so that a replica without records lacks nothing.
	First bool `json:"first,omitempty"`
	// WaitFor, unless zero: answer when the log has reached this position, or after WaitMillis. The old primary's last
	// records may still be on their way.
	WaitFor    Position `json:"wait_for,omitzero"`
	WaitMillis uint64   `json:"wait_ms,omitempty"`
}

// FenceAnswer answers FenceCall, in any order; a group left out counts as not answered.
type FenceAnswer struct {
	Run    string       `json:"run"` // Topology.Run of the answering process
	Groups []FenceReply `json:"groups"`
}

// FenceReply is one replica's answer.
type FenceReply struct {
	Group uint16 `json:"group"`
	// OK: Term is promised, durably. False: refused, Promised is higher than Term (or it could not be written).
	OK       bool   `json:"ok"`
	Promised uint64 `json:"promised"`
	// HeadTerm and HeadSeq are the position of the last record in the replica's log.
	HeadTerm uint64 `json:"head_term"`
	HeadSeq  uint64 `json:"head_seq"`
	// Voter: the log holds everything this replica ever acknowledged. False after an unclean stop of the machine, and
	// on an empty disk, which cannot know what was there before. A group's first election does not ask for it.
	Voter bool `json:"voter"`
	// LeaseMillis is how long, from now, a primary of an older term may still rely on what this replica granted.
	LeaseMillis uint64 `json:"lease_ms"`
}

// StatusCall asks for the status of Groups as far as the node is their primary. Empty: only the node's own fields.
type StatusCall struct {
	Groups []uint16 `json:"groups,omitempty"`
	// Seen is the Digest of the last answer that the caller got.
	Seen uint64 `json:"seen,omitempty"`
}

// StatusAnswer answers StatusCall.
type StatusAnswer struct {
	Run   string `json:"run"`   // Topology.Run of the answering process
	Epoch uint64 `json:"epoch"` // State.Epoch by which it routes commands
	// Digest identifies Groups. If it is what the call had as Seen, Groups is left out: nothing has changed.
	Digest uint64        `json:"digest,omitempty"`
	Groups []GroupStatus `json:"groups,omitempty"`
}

// Sum sets Digest, of all but lags, which nobody decides by and which change all the time, and leaves Groups out if the caller has seen them.
func (a *StatusAnswer) Sum(seen uint64) {
	h := fnv.New64a()
	var b []byte
	for i := range a.Groups {
		g := &a.Groups[i]
		b = binary.LittleEndian.AppendUint16(b[:0], g.Group)
		b = binary.LittleEndian.AppendUint64(b, g.Epoch)
		b = binary.LittleEndian.AppendUint64(b, g.Term)
		b = append(b, byte(boolInt(g.Serving)), byte(boolInt(g.JointReady)))
		for _, p := range g.Peers {
			b = append(append(b, p.ID...), 0, byte(boolInt(p.CaughtUp)))
		}
		_, _ = h.Write(b) // never fails
	}
	if a.Digest = h.Sum64() | 1; a.Digest == seen {
		a.Groups = nil
	}
}

// GroupStatus is what a primary knows about its group.
type GroupStatus struct {
	Group uint16 `json:"group"`
	// Epoch is Group.Epoch (or the State.Epoch) of the configuration that the replica works with.
	Epoch uint64 `json:"epoch"`
	Term  uint64 `json:"term"` // the term it works in
	// Serving: it is primary of Term and takes requests (or waits for a quorum of reachable replicas only).
	Serving bool `json:"serving"`
	// JointReady: everything committed is held by a majority of Next too, and nothing is committed without one.
	JointReady bool         `json:"joint_ready,omitempty"`
	Peers      []PeerStatus `json:"peers,omitempty"` // the other replicas and the learner
}

// PeerStatus is how far a peer follows.
type PeerStatus struct {
	ID       string `json:"id"`
	CaughtUp bool   `json:"caught_up"` // it has the whole content and follows closely
	Lag      uint64 `json:"lag"`       // records behind
}

// Encode encodes a call or an answer.
func Encode(v any) []byte {
	b, err := json.Marshal(v)
	if err != nil {
		panic(fmt.Sprintf("topology: encode %T: %v", v, err)) // only our own plain structs come here
	}
	return b
}

// Decode decodes a call or an answer.
func Decode(b []byte, v any) error {
	if err := json.Unmarshal(b, v); err != nil {
		return fmt.Errorf("decode %T: %w", v, err)
	}
	return nil
}
