package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func library(name string, functions ...string) Library {
	l := Library{Name: name, Code: []byte("#!lua name=" + name + "\n\x00\xff" + strings.Join(functions, ","))}
	for _, f := range functions {
		l.Functions = append(l.Functions, Function{Name: f, Flags: []string{"no-writes"}})
	}
	return l
}

func names(st *State) (list []string) {
	for _, l := range st.Libraries {
		for _, f := range l.Functions {
			list = append(list, l.Name+"."+f.Name)
		}
	}
	return list
}

func TestLibrariesChangeAsAWholeOrNotAtAll(t *testing.T) {
	large := library("large", "l")
	large.Code = bytes.Repeat([]byte("x"), MaxLibrary)
	var many []Library
	for i := range MaxLibraries/(MaxLibrary-1000) + 1 {
		l := library(fmt.Sprint("m", i), fmt.Sprint("m", i))
		l.Code = bytes.Repeat([]byte("x"), MaxLibrary-1000)
		many = append(many, l)
	}
	for _, tt := range []struct {
		what   string
		change LibraryChange
		want   string // "" for a refusal
		why    LibraryError
	}{
		{"load", LibraryChange{Load: []Library{library("c", "h")}}, "a.f b.g c.h", LibraryError{}},
		{"load what is there", LibraryChange{Load: []Library{library("c", "h"), library("a", "i")}}, "", LibraryError{LibraryExists, "a"}},
		{"load twice", LibraryChange{Load: []Library{library("c", "h"), library("c", "i")}, Replace: true}, "", LibraryError{LibraryExists, "c"}},
		{"replace", LibraryChange{Load: []Library{library("a", "i")}, Replace: true}, "a.i b.g", LibraryError{}},
		{"a name in another case", LibraryChange{Load: []Library{library("A", "i")}}, "A.i a.f b.g", LibraryError{}},
		{"a function of another library", LibraryChange{Load: []Library{library("a", "G")}, Replace: true}, "", LibraryError{FunctionExists, "G"}},
		{"functions that move", LibraryChange{Load: []Library{library("a", "g"), library("b", "f")}, Replace: true}, "a.g b.f", LibraryError{}},
		{"functions of two new ones", LibraryChange{Load: []Library{library("c", "h"), library("d", "h")}}, "", LibraryError{FunctionExists, "h"}},
		{"delete", LibraryChange{Delete: "a"}, "b.g", LibraryError{}},
		{"delete what is not there", LibraryChange{Delete: "A"}, "", LibraryError{LibraryUnknown, "A"}},
		{"flush", LibraryChange{Flush: true}, "", LibraryError{}},
		{"flush and load", LibraryChange{Flush: true, Load: []Library{library("a", "g")}}, "a.g", LibraryError{}},
		{"one too large", LibraryChange{Load: []Library{large}}, "", LibraryError{LibraryTooLarge, "large"}},
		{"all too large", LibraryChange{Load: many}, "", LibraryError{LibrariesTooMany, "m8"}},
	} {
		st := emptyState().apply(&command{Version: 2, Libraries: &LibraryChange{ID: "1", Load: []Library{library("b", "g"), library("a", "f")}}}).state
		tt.change.ID = "2"
		res := st.apply(&command{Version: 2, Libraries: &tt.change})
		if tt.why != (LibraryError{}) {
			if res.refused == nil || *res.refused != tt.why || res.state != st {
				t.Errorf("%s: refused %v, want %v; changed: %t", tt.what, res.refused, tt.why, res.state != st)
			}
			continue
		}
		if got := strings.Join(names(res.state), " "); res.refused != nil || got != tt.want || res.state.Epoch != st.Epoch+1 {
			t.Errorf("%s: %s (refused %v), want %s", tt.what, got, res.refused, tt.want)
		}
		if again := res.state.apply(&command{Version: 2, Libraries: &tt.change}); again.refused != nil || again.state != res.state {
			t.Errorf("%s, asked for again: refused %v, changed %t", tt.what, again.refused, again.state != res.state)
		}
	}
}

func TestLoadingWhatIsThereAlreadyCommitsNothing(t *testing.T) {
	st := emptyState().apply(&command{Version: 2, Libraries: &LibraryChange{ID: "1", Load: []Library{library("a", "f")}}}).state
	res := st.apply(&command{Version: 2, Libraries: &LibraryChange{ID: "2", Load: []Library{library("a", "f")}, Replace: true}})
	if res.refused != nil || res.state != st {
		t.Errorf("refused %v, changed %t", res.refused, res.state != st)
	}
}

// TestSnapshotsWithoutLibrariesAreThoseOfOlderBuilds and with them are not: an older build must not lose them in silence.
func TestSnapshotsWithoutLibrariesAreThoseOfOlderBuilds(t *testing.T) {
	f := newFSM(func() {})
	f.Apply(&raft.Log{Data: []byte(`{"v":1,"found":{"cluster_id":"c","rf":3}}`)})
	persist := func() string {
		s, err := f.Snapshot()
		if err != nil {
			t.Fatal(err)
		}
		var sink memorySink
		if err := s.Persist(&sink); err != nil {
			t.Fatal(err)
		}
		return sink.String()
	}
	old := persist()
	if !strings.HasPrefix(old, `{"v":1,`) || strings.Contains(old, "librar") {
		t.Errorf("without libraries: %.100s", old)
	}
	f.Apply(&raft.Log{Data: Encode(&command{Version: libraryVersion, Libraries: &LibraryChange{ID: "1", Load: []Library{library("a", "f")}}})})
	with := persist()
	if !strings.HasPrefix(with, `{"v":2,`) {
		t.Errorf("with libraries: %.100s", with)
	}
	for _, file := range []string{old, with} {
		g := newFSM(func() {})
		if err := g.Restore(io.NopCloser(strings.NewReader(file))); err != nil {
			t.Fatal(err)
		}
		if file == with && !reflect.DeepEqual(f.state.Load(), g.state.Load()) {
			t.Errorf("restored %+v", g.state.Load().Libraries)
		}
	}
}

func TestOneOfTwoChangesOfANameWinsAndTheOtherSaysWhy(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	for round := range 10 {
		var wg sync.WaitGroup
		errs := make([]error, len(ids))
		for i, id := range ids {
			wg.Go(func() {
				errs[i] = f.node(id).top.ChangeLibraries(ctx, LibraryChange{Load: []Library{library(fmt.Sprint("r", round), fmt.Sprintf("f%d_%d", round, i))}})
			})
		}
		wg.Wait()
		won := 0
		for _, err := range errs {
			var refused *LibraryError
			switch {
			case err == nil:
				won++
			case !errors.As(err, &refused) || refused.Problem != LibraryExists:
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d of 3 won: %v", round, won, errs)
		}
		for _, id := range ids { // every node that is up has it when the winner's answer is there
			if st := f.node(id).top.State(); len(st.Libraries) != round+1 {
				t.Fatalf("%s has %d libraries after round %d", id, len(st.Libraries), round)
			}
		}
	}
}

func TestLibrariesAreThereAfterARestartAndOnANodeThatComesLater(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := f.node("n1").top.ChangeLibraries(ctx, LibraryChange{Load: []Library{library("a", "f")}}); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		f.kill(id)
	}
	for _, id := range ids {
		f.start(id, 3)
	}
	f.start("n4", -1)
	ids = append(ids, "n4")
	for _, id := range ids {
		f.eventually(id+" has the libraries", func() bool {
			f.meet(ids...)
			return slices.Equal(names(f.node(id).top.State()), []string{"a.f"})
		})
	}
}

func TestWithoutALeaderNothingChangesAndThatIsSaid(t *testing.T) {
	f := newFabric(t)
	f.three()
	f.kill("n1")
	f.kill("n2")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	f.eventually("the last one knows that it leads nothing", func() bool { return f.node("n3").top.Leader() == "" })
	err := f.node("n3").top.ChangeLibraries(ctx, LibraryChange{Load: []Library{library("a", "f")}})
	if !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknownOutcome) || ctx.Err() != nil {
		t.Errorf("%v (waited to the end: %v)", err, ctx.Err())
	}
}

// TestTheLogOfLibrariesStaysBounded replaces a large library again and again.
func TestTheLogOfLibrariesStaysBounded(t *testing.T) {
	f := newFabric(t)
	n := f.start("n1", 1)
	f.meet("n1")
	f.eventually("it leads", func() bool { return n.top.IsLeader() && n.top.State().ClusterID != "" })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	rng := rand.NewChaCha8([32]byte{1})
	for i := range 52 { // more than the limit below
		l := library("a", "f")
		l.Code = make([]byte, 1<<20-1000)
		_, _ = rng.Read(l.Code) // it never fails
		if err := n.top.ChangeLibraries(ctx, LibraryChange{Load: []Library{l}, Replace: true}); err != nil {
			t.Fatalf("change %d: %v", i, err)
		}
	}
	f.eventually("the log is compacted", func() bool { return !n.top.trimming.Load() && n.top.fsm.bulk.Load() < compactAfter })
	first, _ := n.top.raft.store.FirstIndex()
	last, _ := n.top.raft.store.LastIndex()
	kept := 0
	for i := first; i <= last; i++ {
		var l raft.Log
		if err := n.top.raft.store.GetLog(i, &l); err != nil {
			t.Fatal(err)
		}
		kept += len(l.Data)
	}
	if limit := compactAfter + 2*compactTo<<20; kept > limit {
		t.Errorf("the log keeps %d bytes of 52 changes, want at most %d", kept, limit)
	}
}

func TestTheCacheOfTheLogHoldsWhatTheLogHolds(t *testing.T) {
	store := raft.NewInmemStore()
	c := &logCache{LogStore: store}
	for i := range uint64(3 * snapshotEvery) {
		l := &raft.Log{Index: i + 1, Data: []byte(fmt.Sprint(i + 1))}
		if i%7 == 0 {
			l.Data = make([]byte, cachedEntry+1)
		}
		if err := c.StoreLog(l); err != nil {
			t.Fatal(err)
		}
	}
	check := func() {
		t.Helper()
		for i := range uint64(3*snapshotEvery + 2) {
			var want, got raft.Log
			errWant, errGot := store.GetLog(i, &want), c.GetLog(i, &got)
			if !errors.Is(errGot, errWant) || !reflect.DeepEqual(want, got) {
				t.Fatalf("entry %d: %v, %v; index %d, want %d", i, errGot, errWant, got.Index, want.Index)
			}
		}
	}
	check()
	if err := c.DeleteRange(1000, 3*snapshotEvery); err != nil { // as a follower whose tail is another leader's
		t.Fatal(err)
	}
	if err := c.StoreLog(&raft.Log{Index: 1000, Term: 2, Data: []byte("other")}); err != nil {
		t.Fatal(err)
	}
	check()
	for i := range c.ring {
		if l := c.ring[i]; l != nil && len(l.Data) > cachedEntry {
			t.Errorf("entry %d of %d bytes is kept", l.Index, len(l.Data))
		}
	}
}

func TestWhoWaitsForAnEpochIsWokenByItOrALaterOne(t *testing.T) {
	var d told
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	woken := make(chan error, 2)
	for _, epoch := range []uint64{2, 3} {
		go func() { woken <- d.await(ctx, epoch) }() // ends with ctx at the latest
	}
	d.note(1)
	d.note(4)
	d.note(2)
	for range 2 {
		if err := <-woken; err != nil {
			t.Error(err)
		}
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	if err := d.await(short, 5); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("for what never comes: %v", err)
	}
}
