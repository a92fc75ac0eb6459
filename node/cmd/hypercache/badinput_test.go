package main

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/node/nodetest"
)

// files is every file of a data directory but the lock, with its content.
func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "hypercache.lock" {
			return err
		}
		b, err := os.ReadFile(path)
		all[path] = string(b)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

// TestADirectoryThatIsNotTheNodesIsRefusedUntouched with exit code 1.
func TestADirectoryThatIsNotTheNodesIsRefusedUntouched(t *testing.T) {
	c := nodetest.Start(t, 1, nil)
	n := c.Nodes()[0]
	keys := n.Fill("k", 50)
	config := func(id string) string {
		cfg := n.Config
		cfg.Server.NodeID = id
		path := filepath.Join(t.TempDir(), "node.yaml")
		if err := os.WriteFile(path, []byte(cfg.YAML()), 0o600); err != nil {
			t.Fatal(err)
		}
		return "--config=" + path
	}
	f := fixture{open: open}
	if r := f.run(config(n.ID)); r.code != exitFailure || !strings.Contains(r.errOut, "hypercache.lock is in use by process") {
		t.Errorf("a second process on one directory: %+v", r)
	}
	n.Holds(keys)
	n.Stop()
	before := files(t, n.Config.Persistence.DataDir)
	if r := f.run(config("stranger")); r.code != exitFailure || !strings.Contains(r.errOut, `belongs to node "n0", not to "stranger"`) {
		t.Errorf("a directory of another node: %+v", r)
	}
	after := files(t, n.Config.Persistence.DataDir)
	for path, content := range before {
		if after[path] != content {
			t.Errorf("%s was changed", path)
		}
	}
	if len(after) != len(before) {
		t.Errorf("%d files before, %d after", len(before), len(after))
	}
	n.Start()
	n.AwaitReady()
	n.Holds(keys)
}
