package topology

import (
	"errors"
	"fmt"
	"slices"
)

// A directory may be an older copy of itself: its disk was restored from a snapshot. Such a node would vote in Raft with a log that
// lacks what it has acknowledged, and with others that lack it too commit something else in its place. Nothing in the directory
// shows that. The other members do, so they are asked before Raft is opened: which process of the node was taken in
// last, and which epoch it acted on. Both are only ever learnt after the directory had them: a process notes its Run in identity.json before
// anybody hears of it, and acts on an epoch that its own Raft log has, on the disk.

// ErrOlderCopy says that a directory is an older copy of itself.
var ErrOlderCopy = errors.New("older copy of the node's own data directory")

// maxRuns bounds the runs that a directory keeps. A node that starts so often without being heard of cannot be judged by them.
const maxRuns = 1000

// Past is what a directory shows of the node's earlier processes.
type Past struct {
	Cluster string // "": it belongs to none
	runs    []string
	state   *State // nil: none yet
	node    string
	// Problem is why Raft's state could not be read, so that Check finds nothing. Open fails for most of these reasons, too.
	Problem error
}

// ReadPast reads the directory of a node that does not run, and changes nothing. Its errors are those of a directory that cannot
// be nodeID's.
func ReadPast(dir, nodeID string) (*Past, error) {
	id, err := readIdentity(dir)
	if err != nil {
		return nil, err
	}
	if err := id.check(dir, nodeID); err != nil {
		return nil, err
	}
	p := &Past{Cluster: id.ClusterID, runs: id.Runs, node: nodeID}
	if p.Cluster != "" {
		r, err := Inspect(dir)
		if p.Problem = err; err == nil {
			p.state = r.State
		}
	}
	return p, nil
}

// Others are the members that may know this node: id -> address of peer streams. Nil for a node that was never part of a cluster.
func (p *Past) Others() map[string]string {
	if p.state == nil {
		return nil
	}
	others := map[string]string{}
	for id, m := range p.state.Members {
		if id != p.node && m.Status != Removed && m.Addr != "" {
			others[id] = m.Addr
		}
	}
	return others
}

// Recalled is what one member knows of another's earlier processes.
type Recalled struct {
	// Epoch is that of the state the answer is from, Run the node's newest process in it.
	Epoch uint64 `json:"epoch"`
	Run   string `json:"run,omitempty"`
	// Acted is the newest epoch that process ActedRun was heard to act on. The leader knows.
	Acted    uint64 `json:"acted,omitempty"`
	ActedRun string `json:"acted_run,omitempty"`
	// Held is, of the groups that the member is primary of, up to where the node is known to have the log, as far as it is committed.
	Held []Held `json:"held,omitempty"`
}

// Held says that a node's journal had the group's log up to Seq.
type Held struct {
	Group uint16 `json:"group"`
	Seq   uint64 `json:"seq"`
}

// Check holds what a member recalls against the directory. The error is ErrOlderCopy, or nil.
//
// Runs count if the directory's list is known to reach back to the newest run in its own state: a list that was begun after an upgrade,
// or that was lost with the disk, says nothing about runs that it has not.
func (p *Past) Check(from string, r *Recalled) error {
	if p.state == nil || r.Epoch <= p.state.Epoch && r.Acted <= p.state.Epoch {
		return nil // what is asked knows no more than the directory
	}
	anchored := slices.Contains(p.runs, p.state.Members[p.node].Run)
	switch {
	case r.Acted > p.state.Epoch && slices.Contains(p.runs, r.ActedRun):
		return fmt.Errorf("%w: it knows the topology up to epoch %d, and %s has heard this node act on %d", ErrOlderCopy, p.state.Epoch, from, r.Acted)
	case anchored && r.Epoch > p.state.Epoch && r.Run != "" && !slices.Contains(p.runs, r.Run):
		return fmt.Errorf("%w: %s knows a process of this node that has not used it", ErrOlderCopy, from)
	}
	return nil
}

// State is what the directory's Raft state adds up to, for Options.Was.
func (p *Past) State() *State { return p.state }

// Recall tells what is known here of node; Held is for the caller to fill in.
func (t *Topology) Recall(node string) Recalled {
	st := t.State()
	r := Recalled{Epoch: st.Epoch}
	if m, ok := st.Members[node]; ok && m.Status != Removed {
		r.Run = m.Run
	}
	if reign := t.reign.Load(); reign != nil {
		reign.mu.Lock()
		a := reign.acted[node]
		reign.mu.Unlock()
		r.Acted, r.ActedRun = a.epoch, a.run
	}
	return r
}

// keptRuns are kept from before the newest run that the node's own state has. Nobody whose state is newer names an older one, unless
// the newest entries of the node's log were never committed.
const keptRuns = 8

// started notes a process in the directory of a node that belongs to a cluster, before anybody hears of it.
func (id *identity) started(dir, run string, st *State) error {
	if id.ClusterID == "" {
		return nil
	}
	runs := slices.Clone(id.Runs)
	if st != nil {
		if i := slices.Index(runs, st.Members[id.NodeID].Run); i > keptRuns {
			runs = runs[i-keptRuns:]
		}
	}
	if len(runs) >= maxRuns {
		runs = nil
	}
	id.Runs = append(runs, run)
	return id.write(dir)
}
