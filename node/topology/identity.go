package topology

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
)

// identity is what a data directory belongs to. Its file outlives everything but the directory.
type identity struct {
	NodeID    string `json:"node_id"`
	ClusterID string `json:"cluster_id,omitempty"`
	// Recovery names a recovery of the topology that was begun and has not ended: the directory may hold half of it.
	Recovery string `json:"recovery,omitempty"`
	// Runs are the incarnations that have used the directory, the newest last; see Past.
	Runs []string `json:"runs,omitempty"`
}

const identityFile = "identity.json"

func readIdentity(dir string) (identity, error) {
	var id identity
	b, err := os.ReadFile(filepath.Join(dir, identityFile))
	if errors.Is(err, fs.ErrNotExist) {
		return id, nil
	}
	if err == nil {
		err = json.Unmarshal(b, &id)
	}
	if err != nil {
		return id, fmt.Errorf("read identity: %w", err)
	}
	return id, nil
}

// write replaces the file durably.
func (id identity) write(dir string) error {
	path := filepath.Join(dir, identityFile)
	f, err := os.OpenFile(path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640)
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	_, err = f.Write(append(Encode(id), '\n'))
	err = errors.Join(err, f.Sync(), f.Close())
	if err == nil {
		err = os.Rename(path+".tmp", path)
	}
	if err == nil {
		err = syncDir(dir)
	}
	if err != nil {
		return fmt.Errorf("write identity: %w", err)
	}
	return nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// errOtherCluster refuses to be taken into a second cluster.
var errOtherCluster = errors.New("this node belongs to another cluster")

// bind makes this node part of cluster, for good.
func (t *Topology) bind(cluster string) error {
	changed, err := t.bindIdentity(cluster)
	if changed && t.o.Bound != nil {
		t.o.Bound(cluster)
	}
	return err
}

func (t *Topology) bindIdentity(cluster string) (changed bool, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.identity.ClusterID == cluster {
		return false, nil
	}
	if t.identity.ClusterID != "" {
		return false, fmt.Errorf("%w: %s, not %s", errOtherCluster, t.identity.ClusterID, cluster)
	}
	id := identity{NodeID: t.o.NodeID, ClusterID: cluster, Runs: []string{t.o.Self.Run}}
	if err := id.write(t.o.DataDir); err != nil {
		return false, err
	}
	t.identity = id
	return true, nil
}

func (id *identity) check(dir, nodeID string) error {
	if id.NodeID != "" && id.NodeID != nodeID {
		return fmt.Errorf("%s belongs to node %q, not to %q (server.node_id): nothing was touched", dir, id.NodeID, nodeID)
	}
	if id.Recovery != "" {
		return fmt.Errorf("a recovery of %s was begun and has not ended (%s): run `hypercache recover apply` with its plan again", dir, id.Recovery)
	}
	return nil
}

// cluster returns the cluster that this node belongs to, or "".
func (t *Topology) cluster() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.identity.ClusterID
}
