package nodetest

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"hypercache/node/httpapi"
	"hypercache/node/server"
	"hypercache/node/topology"
)

// tree is every file below dir, by its path, with its content.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		b, err := os.ReadFile(path)
		files[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

// TestAnOlderCopyOfItsDirectoryIsRefused restores a node's directory as it was before its last run.
func TestAnOlderCopyOfItsDirectoryIsRefused(t *testing.T) {
	c := Start(t, 3, nil)
	victim, other := c.Nodes()[2], c.Nodes()[0]
	dir := victim.Config.Persistence.DataDir
	victim.Stop()
	copyDir(t, dir+".copy", dir)
	victim.Start()
	c.AwaitReady()
	keys := other.Fill("since", 300)
	Await(t, func() bool { // it leads groups again once its new process is committed
		return slices.ContainsFunc(other.Topology().Groups, func(g httpapi.Group) bool { return g.Primary == victim.ID })
	}, func() string { return "the node that came back leads nothing" })
	victim.Stop()
	copyDir(t, dir+".newest", dir)
	copyDir(t, dir, dir+".copy")
	before := tree(t, dir)
	_, err := server.New(victim.Config, nil)
	if !errors.Is(err, topology.ErrOlderCopy) || !strings.Contains(err.Error(), dir) || !strings.Contains(err.Error(), "empty persistence.data_dir") {
		t.Errorf("refused with: %v", err)
	}
	for path, content := range tree(t, dir) {
		if before[path] != content {
			t.Errorf("%s was changed", path)
		}
		delete(before, path)
	}
	for path := range before {
		t.Errorf("%s is gone", path)
	}
	copyDir(t, dir, dir+".newest")
	victim.Start() // what it has itself is no older copy
	c.AwaitReady()
	victim.Holds(keys)
}

// TestALogThatLacksWhatWasAcknowledgedDoesNotVote gives a node the journal of before and the topology of now, as a disk does that has
// lost what it had confirmed: the primaries know, and no group of the node votes before it has caught up.
func TestALogThatLacksWhatWasAcknowledgedDoesNotVote(t *testing.T) {
	c := Start(t, 3, nil)
	victim, other := c.Nodes()[2], c.Nodes()[0]
	dir := victim.Config.Persistence.DataDir
	old := other.Fill("old", 300)
	victim.Stop()
	copyDir(t, dir+".copy", dir)
	victim.Start()
	c.AwaitReady()
	since := other.Fill("since", 300)
	victim.Stop()
	if err := os.RemoveAll(filepath.Join(dir+".copy", "topology")); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(filepath.Join(dir, "topology"), filepath.Join(dir+".copy", "topology")); err != nil {
		t.Fatal(err)
	}
	copyDir(t, dir, dir+".copy")
	victim.Log = &Log{}
	victim.Start()
	if victim.Log.Count("lacks records that this node had acknowledged") != 1 {
		t.Errorf("no line says what is missing:\n%s", victim.Log)
	}
	victim.Stop()
	victim.Log = &Log{}
	victim.Start() // catches up, whether its doubts were ended before the restart or not
	c.AwaitReady()
	victim.Holds(old)
	victim.Holds(since)
	for _, n := range []*Node{other, c.Nodes()[1]} {
		n.Holds(since)
	}
}
