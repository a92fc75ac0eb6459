package recovery

import (
	"cmp"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"

	"hypercache/node/command"
	"hypercache/node/config"
	"hypercache/node/journal"
	"hypercache/node/ring"
	"hypercache/node/store"
	"hypercache/node/topology"
)

// format numbers the files that the steps hand to each other.
const format = 1

// Inspection is what one stopped node has.
type Inspection struct {
	Format int `json:"format"`
	// Member is the node as its configuration describes it.
	Member topology.Member `json:"member"`
	// ClusterID is the cluster that its directory belongs to; empty if that is not known any more.
	ClusterID string `json:"cluster_id"`
	// Interrupted names a recovery that was begun on the node and did not end.
	Interrupted string `json:"interrupted,omitempty"`
	// RF and WriteAcks are cluster.replication_factor and cluster.write_acks.
	RF        int    `json:"rf"`
	WriteAcks string `json:"write_acks"`
	// Topology is nil if Raft's files are gone, or can't be read: TopologyProblem says why then.
	Topology        *Topology `json:"topology,omitempty"`
	TopologyProblem string    `json:"topology_problem,omitempty"`
	Empty           bool      `json:"empty"` // there is no journal: a new disk, or persistence.enabled is false
	Voter           bool      `json:"voter"` // the last stop lost nothing that was acknowledged, except in groups that are not complete
	Keys            int       `json:"keys"`
	Groups          []Group   `json:"groups"`
	// Sum is a checksum of everything above.
	Sum string `json:"sum"`
}

// Topology is what Raft's files of a node add up to.
type Topology struct {
	State       *topology.State `json:"state"`
	Index       uint64          `json:"raft_index"`
	Term        uint64          `json:"raft_term"`
	CurrentTerm uint64          `json:"raft_current_term"`
	Servers     map[string]bool `json:"servers"` // Raft's configuration: id -> does it vote
}

// Group is a node's copy of one group.
type Group struct {
	Term     uint64 `json:"term"` // of the last record
	Seq      uint64 `json:"seq"`
	Promised uint64 `json:"promised"`
	// Complete: nothing that this node ever acknowledged can be missing.
	Complete bool `json:"complete"`
	// Damaged: corrupt records, a gap, or half a resync.
	Damaged bool `json:"damaged,omitempty"`
	Keys    int  `json:"keys"`
}

func (g *Group) head() topology.Position { return topology.Position{Term: g.Term, Seq: g.Seq} }

// holds reports whether the node has content of the group: every primary begins with a record.
func (g *Group) holds() bool { return g.Seq > 0 }

// ID is the node's.
func (in *Inspection) ID() string { return in.Member.ID }

func topologyDir(cfg *config.Config) string {
	return filepath.Join(cfg.Persistence.DataDir, "topology")
}

// Inspect reads the data directory of the node that cfg describes, which must not run. It changes nothing.
func Inspect(cfg config.Config) (*Inspection, error) {
	remains, problem := topology.Inspect(topologyDir(&cfg))
	if problem != nil && isRunning(problem) {
		return nil, problem
	}
	if err := identify(&cfg, &remains); err != nil {
		return nil, err
	}
	in := &Inspection{
		Format: format, Member: memberOf(&cfg), ClusterID: remains.ClusterID, Interrupted: remains.Recovery,
		RF: cfg.Cluster.ReplicationFactor, WriteAcks: cfg.Cluster.WriteAcks, Groups: make([]Group, ring.Groups),
	}
	switch {
	case problem != nil:
		in.TopologyProblem = problem.Error()
	case remains.State != nil && remains.State.ClusterID != "":
		in.ClusterID = cmp.Or(in.ClusterID, remains.State.ClusterID)
		in.Topology = &Topology{
			State: remains.State, Index: remains.Index, Term: remains.Term, CurrentTerm: remains.CurrentTerm, Servers: remains.Servers,
		}
	}
	if err := in.readJournal(&cfg); err != nil {
		return nil, err
	}
	in.Sum = in.sum()
	return in, nil
}

func isRunning(err error) bool {
	return errors.Is(err, topology.ErrInUse) || errors.Is(err, journal.ErrLocked)
}

// identify settles who the node is without writing that down, as a start does.
func identify(cfg *config.Config, remains *topology.Remains) error {
	kept, err := cfg.KeptNodeID()
	if err != nil {
		return err
	}
	cfg.Server.NodeID = cmp.Or(kept, remains.NodeID)
	switch id := cfg.Server.NodeID; {
	case id == "":
		return fmt.Errorf("%s does not say whose it is: set server.node_id", cfg.Persistence.DataDir)
	case remains.NodeID != "" && remains.NodeID != id:
		return fmt.Errorf("%s belongs to node %q, not to %q: is that the right configuration?", cfg.Persistence.DataDir, remains.NodeID, id)
	}
	return nil
}

func memberOf(cfg *config.Config) topology.Member {
	n := cfg.Network
	return topology.Member{
		ID: cfg.Server.NodeID, Zone: cfg.Cluster.Zone, Status: topology.Up, Addr: n.Advertised(n.RPCPort),
		RESPAddr: n.Advertised(n.RESPPort), HTTPAddr: n.Advertised(n.HTTPPort), GossipAddr: n.Advertised(n.GossipPort),
	}
}

func (in *Inspection) readJournal(cfg *config.Config) error {
	if !cfg.Persistence.Enabled {
		in.Empty = true
		return nil
	}
	policy, err := journal.ParsePolicy(cfg.Persistence.Fsync)
	if err != nil {
		return err
	}
	db := store.New(store.Options{})
	found, err := journal.Inspect(journal.Options{Dir: cfg.Persistence.DataDir, Fsync: policy}, func(r journal.Record) error {
		switch r.Kind {
		case journal.SyncBegin:
			db.Shard(int(r.Group)).Flush()
		case journal.Effects:
			return command.Apply(db.Shard(int(r.Group)), r.Data)
		}
		return nil
	})
	if err != nil {
		return err
	}
	in.Empty, in.Voter = found.Fresh, found.Voter
	for i := range in.Groups {
		g := &in.Groups[i]
		g.Term, g.Seq, g.Promised = found.Positions[i].Term, found.Positions[i].Seq, found.Promises[i]
		g.Complete, g.Keys = found.Complete[i], db.Shard(i).Len()
		in.Keys += g.Keys
	}
	for _, i := range found.Damaged {
		in.Groups[i].Damaged = true
	}
	return nil
}

// sum is the checksum of the inspection without Sum.
func (in *Inspection) sum() string {
	c := *in
	c.Sum = ""
	return sumOf(&c)
}

func sumOf(v any) string {
	h := sha256.Sum256(topology.Encode(v))
	return hex.EncodeToString(h[:])
}

// heads identifies what the node's logs end with: a node that ran after its inspection has others.
func (in *Inspection) heads() string {
	list := make([]topology.Position, 0, len(in.Groups))
	for i := range in.Groups {
		list = append(list, in.Groups[i].head())
	}
	return sumOf(list)
}

// ReadInspection parses what Inspect gave, and refuses what was cut off, edited or made by another version.
func ReadInspection(b []byte) (*Inspection, error) {
	var in Inspection
	if err := json.Unmarshal(b, &in); err != nil {
		return nil, fmt.Errorf("is no inspection of `hypercache recover inspect --json`: %w", err)
	}
	switch {
	case in.Format != format:
		return nil, fmt.Errorf("has format %d, this program knows %d: inspect the node again with this version", in.Format, format)
	case in.Sum != in.sum():
		return nil, errors.New("fails its checksum: it is not whole, or was edited; inspect the node again")
	case in.ID() == "" || len(in.Groups) != ring.Groups || in.Topology != nil && in.Topology.State == nil:
		return nil, errors.New("is incomplete; inspect the node again")
	case in.Topology != nil && in.Topology.State.ClusterID != in.ClusterID:
		return nil, fmt.Errorf("contradicts itself: the directory belongs to cluster %s, its topology to %s", in.ClusterID, in.Topology.State.ClusterID)
	}
	return &in, nil
}
