package topology

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/hashicorp/raft"
	raftboltdb "github.com/hashicorp/raft-boltdb/v2"
	"go.etcd.io/bbolt"
	bbolterrors "go.etcd.io/bbolt/errors"
)

// The names of Raft's files in a node's topology directory.
const (
	raftFile      = "raft.db"
	snapshotsName = "snapshots"
)

// ErrInUse says that the directory belongs to a node that runs.
var ErrInUse = errors.New("is in use by a running node")

// Remains is what a stopped node's topology directory holds.
type Remains struct {
	NodeID    string // "": there is no identity file
	ClusterID string // "": it belongs to no cluster, or the file is gone
	// Recovery names the recovery that was begun here and did not end, or is "".
	Recovery string
	// State is what Raft's snapshot and its whole log add up to, entries included of which nobody knows any more whether
	// they were committed. nil: there is no Raft state.
	State *State
	// Index and Term are the log's last entry's, CurrentTerm the highest term that the node has seen.
	Index, Term, CurrentTerm uint64
	// Servers is Raft's configuration: id -> does it vote.
	Servers map[string]bool
}

// Inspect reads the topology directory of a node that does not run; it changes nothing. A missing directory is an empty one.
func Inspect(dir string) (Remains, error) {
	id, err := readIdentity(dir)
	if err != nil {
		return Remains{}, fmt.Errorf("inspect topology in %s: %w", dir, err)
	}
	r := Remains{NodeID: id.NodeID, ClusterID: id.ClusterID, Recovery: id.Recovery}
	f := newFSM(func() {})
	err = errors.Join(r.readSnapshot(dir, f), r.readLog(dir, f))
	if err != nil {
		return r, fmt.Errorf("inspect topology in %s: %w", dir, err)
	}
	if r.Index > 0 {
		r.State = f.state.Load()
	}
	return r, nil
}

// readSnapshot restores the newest snapshot. It reads a copy, because Raft's store writes into the directory to see
// whether it can.
func (r *Remains) readSnapshot(dir string, f *fsm) error {
	from := filepath.Join(dir, snapshotsName)
	if _, err := os.Stat(from); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	temp, err := os.MkdirTemp("", "hypercache-inspect-*")
	if err != nil {
		return fmt.Errorf("read raft snapshot: %w", err)
	}
	defer func() { _ = os.RemoveAll(temp) }()
	if err := os.CopyFS(filepath.Join(temp, snapshotsName), os.DirFS(from)); err != nil {
		return fmt.Errorf("read raft snapshot: %w", err)
	}
	store, err := raft.NewFileSnapshotStoreWithLogger(temp, 2, hclog.NewNullLogger())
	if err != nil {
		return fmt.Errorf("read raft snapshot: %w", err)
	}
	list, err := store.List()
	if err != nil || len(list) == 0 {
		return err
	}
	meta, content, err := store.Open(list[0].ID)
	if err != nil {
		return fmt.Errorf("read raft snapshot %s: %w", list[0].ID, err)
	}
	if err := f.Restore(content); err != nil {
		return err
	}
	r.Index, r.Term, r.CurrentTerm = meta.Index, meta.Term, meta.Term
	r.configured(meta.Configuration)
	return nil
}

// readLog applies the entries behind the snapshot.
func (r *Remains) readLog(dir string, f *fsm) error {
	path := filepath.Join(dir, raftFile)
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: path, BoltOptions: &bbolt.Options{ReadOnly: true, Timeout: time.Second}})
	if errors.Is(err, bbolterrors.ErrTimeout) {
		return fmt.Errorf("%s %w", path, ErrInUse)
	}
	if err != nil {
		return fmt.Errorf("read raft log: %w", err)
	}
	defer func() { _ = store.Close() }()
	term, err := store.GetUint64([]byte("CurrentTerm"))
	if err != nil && !errors.Is(err, raftboltdb.ErrKeyNotFound) {
		return fmt.Errorf("read raft log: %w", err)
	}
	r.CurrentTerm = max(r.CurrentTerm, term)
	first, err := store.FirstIndex()
	if err != nil {
		return fmt.Errorf("read raft log: %w", err)
	}
	last, err := store.LastIndex()
	if err != nil {
		return fmt.Errorf("read raft log: %w", err)
	}
	if last > r.Index && first > r.Index+1 {
		return fmt.Errorf("read raft log: it begins at %d, and the newest snapshot ends at %d", first, r.Index)
	}
	for i := max(first, r.Index+1); i <= last; i++ {
		if err := r.readEntry(store, i, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *Remains) readEntry(store *raftboltdb.BoltStore, i uint64, f *fsm) error {
	var l raft.Log
	if err := store.GetLog(i, &l); err != nil {
		return fmt.Errorf("read raft log at %d: %w", i, err)
	}
	switch l.Type {
	case raft.LogCommand:
		if res, ok := f.Apply(&l).(applied); ok && res.err != nil {
			return fmt.Errorf("read raft log at %d: %w", i, res.err)
		}
	case raft.LogConfiguration:
		r.configured(raft.DecodeConfiguration(l.Data))
	}
	r.Index, r.Term = l.Index, l.Term
	return nil
}

func (r *Remains) configured(c raft.Configuration) {
	r.Servers = make(map[string]bool, len(c.Servers))
	for _, s := range c.Servers {
		r.Servers[string(s.ID)] = s.Suffrage == raft.Voter
	}
}

// Rebuilt is a topology made anew: the same on every node that gets it.
type Rebuilt struct {
	// Recovery names the recovery: what is set aside goes into "before-" + Recovery. A valid file name.
	Recovery string `json:"recovery"`
	// State has the new cluster's id. No group has a primary.
	State *State `json:"state"`
	// Voters are the ids that vote; the other members follow.
	Voters []string `json:"voters"`
	// Index and Term are what Raft's snapshot of State is said to end with: above all that any node has seen.
	Index uint64 `json:"raft_index"`
	Term  uint64 `json:"raft_term"`
}

func (b *Rebuilt) configuration() (c raft.Configuration) {
	votes := map[string]bool{}
	for _, id := range b.Voters {
		votes[id] = true
	}
	for _, id := range sortedIDs(b.State.Members) {
		s := raft.Server{ID: raft.ServerID(id), Address: raft.ServerAddress(b.State.Members[id].Addr), Suffrage: raft.Nonvoter}
		if votes[id] {
			s.Suffrage = raft.Voter
		}
		c.Servers = append(c.Servers, s)
	}
	return c
}

// Replace gives a node that does not run the rebuilt topology, and sets aside what was there. Every crash on the way leaves
// a directory that Open refuses until Replace has run again; once it is done, Replace changes nothing any more.
// It returns the directory with what was set aside, "" if nothing was done.
func Replace(dir, nodeID string, b *Rebuilt) (aside string, err error) {
	if err := b.check(); err != nil {
		return "", err
	}
	was, err := readIdentity(dir)
	if err != nil {
		return "", err
	}
	if was.NodeID != "" && was.NodeID != nodeID {
		return "", fmt.Errorf("rebuild topology: %s belongs to node %q, not to %q", dir, was.NodeID, nodeID)
	}
	if was.ClusterID == b.State.ClusterID && was.Recovery == "" {
		return "", nil
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", fmt.Errorf("rebuild topology: %w", err)
	}
	// First of all: from here on the node does not start, neither with the old state nor with half of the new one.
	mark := identity{NodeID: nodeID, ClusterID: was.ClusterID, Recovery: b.Recovery}
	if err := mark.write(dir); err != nil {
		return "", err
	}
	if err := syncDir(filepath.Dir(dir)); err != nil {
		return "", fmt.Errorf("rebuild topology: %w", err)
	}
	aside = filepath.Join(dir, "before-"+b.Recovery)
	err = setAside(dir, aside, &was)
	if err == nil {
		err = b.write(dir)
	}
	if err == nil {
		err = identity{NodeID: nodeID, ClusterID: b.State.ClusterID}.write(dir)
	}
	if err != nil {
		return aside, fmt.Errorf("rebuild topology: %w", err)
	}
	return aside, nil
}

// setAside moves Raft's files into aside. Its identity file is written last: once it is there, Raft's files in dir are what
// an interrupted attempt has written.
func setAside(dir, aside string, was *identity) error {
	if err := os.MkdirAll(aside, 0o750); err != nil {
		return err
	}
	_, err := os.Stat(filepath.Join(aside, identityFile))
	done := err == nil
	for _, name := range []string{raftFile, snapshotsName} {
		from := filepath.Join(dir, name)
		if done {
			if err := os.RemoveAll(from); err != nil {
				return err
			}
			continue
		}
		if err := os.Rename(from, filepath.Join(aside, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
	}
	if err := errors.Join(syncDir(aside), syncDir(dir)); err != nil || done {
		return err
	}
	return identity{NodeID: was.NodeID, ClusterID: was.ClusterID}.write(aside)
}

// write makes Raft's files: a snapshot, which every node shares, and a log without entries.
func (b *Rebuilt) write(dir string) error {
	snapshots, err := raft.NewFileSnapshotStoreWithLogger(dir, 2, hclog.NewNullLogger())
	if err != nil {
		return err
	}
	_, transport := raft.NewInmemTransport("") // names addresses in the snapshot, nothing else
	defer func() { _ = transport.Close() }()
	sink, err := snapshots.Create(raft.SnapshotVersionMax, b.Index, b.Term, b.configuration(), b.Index, transport)
	if err != nil {
		return err
	}
	if err := (fsmSnapshot{b.State}).Persist(sink); err != nil {
		return err
	}
	store, err := raftboltdb.New(raftboltdb.Options{Path: filepath.Join(dir, raftFile)})
	if err != nil {
		return err
	}
	err = store.SetUint64([]byte("CurrentTerm"), b.Term)
	return errors.Join(err, store.Close(), syncDir(dir))
}

// check finds what Open could not live with.
func (b *Rebuilt) check() error {
	if b.State == nil || b.State.ClusterID == "" || b.Recovery == "" || b.Index == 0 || b.Term == 0 || len(b.Voters) == 0 {
		return errors.New("a rebuilt topology needs a state, a cluster id, a name, a position and voters")
	}
	for _, id := range b.Voters {
		if _, ok := b.State.Members[id]; !ok {
			return fmt.Errorf("voter %s is no member", id)
		}
	}
	return nil
}
