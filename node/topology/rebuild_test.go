package topology

import (
	"context"
	"io/fs"
	"maps"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// rebuiltFrom raises the terms above what st has, as a recovery does.
func rebuiltFrom(r *Remains, voters ...string) *Rebuilt {
	st := *r.State
	st.ClusterID, st.Epoch = "recovered", st.Epoch+1
	st.Members = maps.Clone(st.Members)
	for i := range st.Groups {
		g := &st.Groups[i]
		g.Term, g.Primary, g.LeaseMillis, g.Epoch = g.Term+2, "", 0, st.Epoch
	}
	return &Rebuilt{Recovery: "recovery-1", State: &st, Voters: voters, Index: r.Index + 1, Term: r.CurrentTerm + 1}
}

// throughJSON is what Replace gets: a plan is a file.
func throughJSON(t *testing.T, b *Rebuilt) *Rebuilt {
	t.Helper()
	var out Rebuilt
	if err := Decode(Encode(b), &out); err != nil {
		t.Fatal(err)
	}
	return &out
}

// tree is every file below dir with its content.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		b.WriteString(path + "\n")
		if d.Type().IsRegular() {
			content, err := os.ReadFile(path)
			b.Write(content)
			return err
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestInspectSeesTheStateAndChangesNothing(t *testing.T) {
	for _, snapshot := range []bool{false, true} {
		f := newFabric(t)
		n := f.start("n1", 1)
		f.eventually("serves", func() bool { return f.served("n1", 1) })
		if snapshot {
			if err := n.top.raft.raft.Snapshot().Error(); err != nil {
				t.Fatal(err)
			}
			f.kill("n1")
			n = f.start("n1", 1) // more log behind the snapshot
			f.eventually("serves again", func() bool { return f.served("n1", 1) })
		}
		dir := f.disks["n1"].dir
		if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "in use by a running node") {
			t.Errorf("a running node: %v", err)
		}
		want, index := n.top.State(), n.top.raft.raft.LastIndex()
		f.kill("n1")
		before := tree(t, dir)
		r, err := Inspect(dir)
		if err != nil {
			t.Fatal(err)
		}
		if tree(t, dir) != before {
			t.Error("inspect changed the directory")
		}
		if r.NodeID != "n1" || r.ClusterID != want.ClusterID || r.State == nil || string(Encode(r.State)) != string(Encode(want)) ||
			r.Index != index || !r.Servers["n1"] || r.CurrentTerm == 0 {
			t.Errorf("snapshot %t: %+v", snapshot, r)
		}
	}
	r, err := Inspect(filepath.Join(t.TempDir(), "missing"))
	if err != nil || r.State != nil || r.ClusterID != "" {
		t.Errorf("a missing directory: %+v, %v", r, err)
	}
}

func TestADamagedRaftLogIsReported(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, raftFile), []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Inspect(dir); err == nil || !strings.Contains(err.Error(), "read raft log") {
		t.Errorf("%v", err)
	}
}

// TestARebuiltTopologyServes loses the Raft files of two of three nodes; the third's state is enough for all.
func TestARebuiltTopologyServes(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	users := []User{{"default", "off"}, {"worker", "on ~\xff* +@all"}} // without them the recovered cluster is open to everybody
	if _, err := f.node("n1").top.ChangeUsers(ctx, UserChange{Set: users}); err != nil {
		t.Fatal(err)
	}
	if err := f.node("n1").top.ChangeLibraries(ctx, LibraryChange{Load: []Library{library("a", "f")}}); err != nil {
		t.Fatal(err)
	}
	old := f.node("n3").top.State().ClusterID
	for _, id := range ids {
		f.kill(id)
	}
	for _, id := range ids[:2] {
		if err := os.RemoveAll(f.disks[id].dir); err != nil {
			t.Fatal(err)
		}
	}
	r, err := Inspect(f.disks["n3"].dir)
	if err != nil {
		t.Fatal(err)
	}
	b := throughJSON(t, rebuiltFrom(&r, ids...))
	for _, id := range ids {
		aside, err := Replace(f.disks[id].dir, id, b)
		if err != nil || aside == "" {
			t.Fatalf("%s: %q, %v", id, aside, err)
		}
		before := tree(t, f.disks[id].dir)
		if aside, err := Replace(f.disks[id].dir, id, b); err != nil || aside != "" || tree(t, f.disks[id].dir) != before {
			t.Errorf("%s once more: %q, %v", id, aside, err)
		}
	}
	kept, err := Inspect(filepath.Join(f.disks["n3"].dir, "before-recovery-1"))
	if err != nil || kept.ClusterID != old || kept.State == nil || kept.Index != r.Index {
		t.Errorf("set aside: %+v, %v", kept, err)
	}
	for _, id := range ids {
		f.start(id, 3)
	}
	f.meet(ids...)
	f.eventually("all serve", func() bool { return f.settled("n1", 3, ids...) })
	st := f.node("n1").top.State()
	f.checkNothingLost(st)
	f.writeAll("n1")
	if st.ClusterID != "recovered" || f.voters() != 3 {
		t.Errorf("cluster %s, %d voters", st.ClusterID, f.voters())
	}
	for _, id := range ids { // what was written before the restart of a recovered node is still there after it
		f.kill(id)
		f.start(id, 3)
		f.meet(ids...)
		f.eventually("all serve again", func() bool { return f.settled(id, 3, ids...) })
	}
	for _, id := range ids {
		st := f.node(id).top.State()
		if !slices.Equal(st.Users, users) || !slices.Equal(names(st), []string{"a.f"}) {
			t.Errorf("%s has the users %q and the functions %q", id, st.Users, names(st))
		}
	}
}

// TestAnInterruptedRebuildStartsNowhere stops after each step that an interruption may follow.
func TestAnInterruptedRebuildStartsNowhere(t *testing.T) {
	f := newFabric(t)
	f.start("n1", 1)
	f.eventually("serves", func() bool { return f.served("n1", 1) })
	f.kill("n1")
	dir := f.disks["n1"].dir
	r, err := Inspect(dir)
	if err != nil {
		t.Fatal(err)
	}
	b := rebuiltFrom(&r, "n1")
	mark := identity{NodeID: "n1", ClusterID: r.ClusterID, Recovery: b.Recovery}
	aside := filepath.Join(dir, "before-"+b.Recovery)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"marked", func() error { return mark.write(dir) }},
		{"half set aside", func() error {
			if err := os.MkdirAll(aside, 0o750); err != nil {
				return err
			}
			return os.Rename(filepath.Join(dir, raftFile), filepath.Join(aside, raftFile))
		}},
		{"set aside", func() error { return setAside(dir, aside, &mark) }},
		{"half written", func() error { return os.WriteFile(filepath.Join(dir, raftFile), []byte("half"), 0o600) }},
		{"written", func() error {
			if err := os.Remove(filepath.Join(dir, raftFile)); err != nil {
				return err
			}
			return b.write(dir)
		}},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		top, err := Open(Options{NodeID: "n1", DataDir: dir, Stream: tcpStream{l}, Network: &fakeNode{f: f, id: "n1"}})
		if err == nil {
			t.Fatalf("%s: opened; close: %v", step.name, top.Close())
		}
		_ = l.Close()
		if !strings.Contains(err.Error(), "hypercache recover apply") {
			t.Errorf("%s: %v", step.name, err)
		}
	}
	if got, err := Replace(dir, "n1", b); err != nil || got != aside {
		t.Fatalf("%q, %v", got, err)
	}
	kept, err := Inspect(aside)
	if err != nil || kept.ClusterID != r.ClusterID || kept.Index != r.Index {
		t.Errorf("what was set aside first is not what is there: %+v, %v", kept, err)
	}
	f.start("n1", 1)
	f.eventually("serves", func() bool { return f.served("n1", 1) && f.node("n1").top.State().ClusterID == "recovered" })
}

func TestReplaceRefusesAnotherNodesDirectoryAndHalfAPlan(t *testing.T) {
	dir := t.TempDir()
	st := emptyState()
	st.ClusterID, st.Members["n1"] = "c", Member{ID: "n1", Addr: "127.0.0.1:1"}
	good := Rebuilt{Recovery: "r", State: st, Voters: []string{"n1"}, Index: 1, Term: 1}
	if err := (identity{NodeID: "other"}).write(dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Replace(dir, "n1", &good); err == nil || !strings.Contains(err.Error(), `belongs to node "other"`) {
		t.Errorf("%v", err)
	}
	stranger := good
	stranger.Voters = []string{"n2"}
	for _, b := range []Rebuilt{{}, stranger} {
		if _, err := Replace(t.TempDir(), "n1", &b); err == nil {
			t.Errorf("%+v is taken", b)
		}
	}
}
