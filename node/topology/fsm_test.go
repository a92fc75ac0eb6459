package topology

import (
	"bytes"
	"cmp"
	"io"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/hashicorp/raft"
	"pgregory.net/rapid"
)

func drawIDs(t *rapid.T, label string, minimum int) []string {
	return rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"a", "b", "c", "d"}), minimum, 3, rapid.ID[string]).Draw(t, label)
}

// drawChange draws a plausible change half of the time and any change otherwise.
func drawChange(t *rapid.T, st *State) groupChange {
	i := rapid.Uint16Range(0, 2).Draw(t, "group")
	g := st.Groups[i]
	ch := groupChange{Group: i, Expect: g.Epoch, Set: g}
	switch rapid.IntRange(0, 6).Draw(t, "kind") {
	case 0:
		ch.Set.Term, ch.Set.Primary = g.Term+1, ""
		if len(g.Replicas) == 0 {
			ch.Set.Replicas = drawIDs(t, "replicas", 1)
		}
	case 1:
		if all := replicasOf(&g); len(all) > 0 {
			ch.Set.Primary = rapid.SampledFrom(all).Draw(t, "primary")
		}
	case 2:
		ch.Set.Next = drawIDs(t, "next", 1)
	case 3:
		if g.Next != nil {
			ch.Set.Replicas, ch.Set.Next = g.Next, nil
		}
	case 4:
		ch.Expect = rapid.Uint64Range(0, st.Epoch+1).Draw(t, "expect")
	default:
		ch.Set = Group{
			Term: rapid.Uint64Range(0, 5).Draw(t, "term"), Primary: rapid.SampledFrom([]string{"", "a", "b", "z"}).Draw(t, "primary"),
			Replicas: drawIDs(t, "replicas", 0), Next: drawIDs(t, "next", 0), Learner: rapid.SampledFrom([]string{"", "a"}).Draw(t, "learner"),
		}
	}
	return ch
}

// drawUsers draws a change of few users, often one that was asked for before.
func drawUsers(t *rapid.T) *UserChange {
	name := rapid.SampledFrom([]string{"a", "b", "c", "\xff"})
	user := rapid.Custom(func(t *rapid.T) User {
		return User{name.Draw(t, "name"), rapid.SampledFrom([]string{"on", "off", "~\xfe"}).Draw(t, "rules")}
	})
	return &UserChange{
		ID:     rapid.StringMatching("[0-9]").Draw(t, "id"),
		Expect: rapid.SliceOfN(user, 0, 1).Draw(t, "expect"), Set: rapid.SliceOfN(user, 0, 3).Draw(t, "set"),
		Delete: rapid.SliceOfN(name, 0, 3).Draw(t, "delete"),
	}
}

func TestTheStateKeepsItsRulesWhateverIsCommitted(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		one, two := newFSM(func() {}), newFSM(func() {})
		type termOf struct {
			group int
			term  uint64
		}
		primaries := map[termOf]string{}
		for range rapid.IntRange(1, 40).Draw(t, "steps") {
			before := one.state.Load()
			was, users := Encode(before), slices.Clone(before.Users)
			c := &command{Users: drawUsers(t)}
			c.Version = c.version()
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				c.Groups = append(c.Groups, drawChange(t, before))
			}
			data := Encode(c)
			one.Apply(&raft.Log{Data: data})
			two.Apply(&raft.Log{Data: data})
			after := one.state.Load()
			if !bytes.Equal(was, Encode(before)) || !slices.Equal(users, before.Users) {
				t.Fatal("a snapshot was changed")
			}
			if !reflect.DeepEqual(after, two.state.Load()) {
				t.Fatal("not deterministic")
			}
			if !slices.IsSortedFunc(after.Users, func(a, b User) int { return cmp.Or(strings.Compare(a.Name, b.Name), 1) }) {
				t.Fatalf("users out of order, or twice: %q", after.Users)
			}
			for i := range after.Groups {
				o, n := &before.Groups[i], &after.Groups[i]
				if n.Term < o.Term || n.Epoch < o.Epoch {
					t.Fatalf("group %d went back: %+v -> %+v", i, o, n)
				}
				if !reflect.DeepEqual(o, n) && n.Epoch == o.Epoch {
					t.Fatalf("group %d changed without a new epoch", i)
				}
				if len(o.Replicas) > 0 && !sameSet(o.Replicas, n.Replicas) && !sameSet(n.Replicas, o.Next) {
					t.Fatalf("group %d: replicas %v -> %v without Next", i, o.Replicas, n.Replicas)
				}
				if n.Primary != "" {
					k := termOf{i, n.Term}
					if p, ok := primaries[k]; ok && p != n.Primary {
						t.Fatalf("group %d has two primaries in term %d: %s, %s", i, n.Term, p, n.Primary)
					}
					primaries[k] = n.Primary
				}
			}
		}
	})
}

func TestAStaleChangeIsRejectedAndTheRestApplied(t *testing.T) {
	st := emptyState()
	set := Group{Term: 1, Replicas: []string{"a", "b"}}
	res := st.apply(&command{Version: 1, Groups: []groupChange{{0, 0, set}, {1, 0, set}}})
	if len(res.rejected) != 0 {
		t.Fatal(res.rejected)
	}
	begin := set
	begin.Term = 2
	res = res.state.apply(&command{Version: 1, Groups: []groupChange{{0, 0, begin}, {1, 1, begin}}})
	if !slices.Equal(res.rejected, []uint16{0}) || res.state.Groups[0].Term != 1 || res.state.Groups[1].Term != 2 {
		t.Fatalf("rejected %v, terms %d %d", res.rejected, res.state.Groups[0].Term, res.state.Groups[1].Term)
	}
}

func TestACommandOfANewerVersionChangesNothing(t *testing.T) {
	f := newFSM(func() { t.Error("changed") })
	for _, data := range []string{`{"v":4,"found":{"cluster_id":"x","rf":3}}`, `nonsense`} {
		if res := f.Apply(&raft.Log{Data: []byte(data)}).(applied); res.err == nil {
			t.Errorf("%s was accepted", data)
		}
	}
}

type memorySink struct{ bytes.Buffer }

func (*memorySink) ID() string    { return "memory" }
func (*memorySink) Cancel() error { return nil }
func (*memorySink) Close() error  { return nil }

func TestASnapshotRestoresTheState(t *testing.T) {
	f := newFSM(func() {})
	f.Apply(&raft.Log{Data: Encode(&command{
		Version: 1, Found: &founding{"c", 3}, Members: []Member{{ID: "a", Zone: "z", Status: Up, Run: "r"}},
		Groups: []groupChange{{Group: 7, Set: Group{Term: 1, Replicas: []string{"a"}}}},
	})})
	f.Apply(&raft.Log{Data: Encode(&command{Version: 2, Libraries: &LibraryChange{ID: "1", Load: []Library{library("a", "f")}}})})
	f.Apply(&raft.Log{Data: Encode(&command{Version: 3, Users: &UserChange{ID: "2", Set: []User{{"a", "on ~\xff*"}, {"\xfe", "off"}}}})})
	s, err := f.Snapshot()
	if err != nil {
		t.Fatal(err)
	}
	var sink memorySink
	if err := s.Persist(&sink); err != nil {
		t.Fatal(err)
	}
	g := newFSM(func() {})
	if err := g.Restore(io.NopCloser(&sink.Buffer)); err != nil {
		t.Fatal(err)
	}
	if !reflect.DeepEqual(f.state.Load(), g.state.Load()) {
		t.Errorf("restored %+v", g.state.Load())
	}
}

func FuzzApply(f *testing.F) {
	f.Add([]byte(`{"v":1,"groups":[{"group":65535,"set":{"term":1}}]}`))
	f.Add([]byte(`{"v":3,"users":{"id":"1","set":[{"name":"a","rules":{"bytes":"/w=="}}],"delete":[{"bytes":"/w=="},null]}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		m := newFSM(func() {})
		m.Apply(&raft.Log{Data: data})
	})
}
