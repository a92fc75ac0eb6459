package server

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"hypercache/node/command/golden/oracle"
	"hypercache/node/rdb"
)

const imported = "#!lua name=lib\nredis.register_function('f', function() return 'imported' end)"

// functionsDir is a directory of a redis-server with a key and a library.
func functionsDir(t *testing.T, text string, extra ...string) string {
	t.Helper()
	dir := t.TempDir()
	srv := oracle.Serve(t, dir, extra...)
	defer srv.Stop()
	c := srv.Client(t)
	for _, words := range [][]string{{"SET", "k", "v"}, {"FUNCTION", "LOAD", text}, {"SAVE"}} {
		if words[0] == "SAVE" && len(extra) > 0 {
			continue
		}
		if reply, err := c.Do(words...); err != nil || reply[0] == '-' {
			t.Fatalf("%q: %s, %v", words, reply, err)
		}
	}
	return dir
}

func TestImportedLibrariesWaitForTheTopologyInAFile(t *testing.T) {
	for _, extra := range [][]string{nil, aofOn} {
		dir := functionsDir(t, imported, extra...)
		s, _, err := recovered(t, dir, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got := keysOf(s); !strings.Contains(got, `"k"="v"`) {
			t.Errorf("keys: %s", got)
		}
		b, err := os.ReadFile(filepath.Join(dir, functionsFile))
		if err != nil {
			t.Fatal(err)
		}
		if list, err := rdb.OpenFunctions(b); err != nil || len(list) != 1 || string(list[0]) != imported {
			t.Errorf("%q, %v", list, err)
		}
	}
}

// TestALibraryThatDoesNotLoadKeepsTheDirectoryAsItIs with one that redis-server takes and that is too large here.
func TestALibraryThatDoesNotLoadKeepsTheDirectoryAsItIs(t *testing.T) {
	const large = "#!lua name=large\nredis.register_function('f', function() end) --"
	dir := functionsDir(t, large+strings.Repeat("x", 1<<20))
	before := tree(t, dir)
	_, _, err := recovered(t, dir, nil)
	if err == nil || !strings.Contains(err.Error(), "#!lua name=large") || !strings.Contains(err.Error(), "nothing was changed") {
		t.Errorf("%v", err)
	}
	if after := tree(t, dir); after != before {
		t.Errorf("before\n%.1000s\nafter\n%.1000s", before, after)
	}
}
