package topology

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func userList(st *State) string {
	var list []string
	for _, u := range st.Users {
		list = append(list, u.Name+"="+u.Rules)
	}
	return strings.Join(list, " ")
}

func changed(st *State, c UserChange) applied {
	return st.apply(&command{Version: userVersion, Users: &c})
}

func TestUsersChangeAsAWholeOrNotAtAll(t *testing.T) {
	long := strings.Repeat("x", MaxUser-1)
	var many []User // exactly as large as all may be
	for i := range MaxUsers / MaxUser {
		many = append(many, User{string(rune('!' + i)), long})
	}
	for _, tt := range []struct {
		what    string
		change  UserChange
		want    string
		deleted int
		why     UserError // unless zero, nothing changes
	}{
		{"add", UserChange{Set: []User{{"c", "3"}, {"B", "4"}}}, "B=4 a=1 b=2 c=3", 0, UserError{}},
		{"replace", UserChange{Set: []User{{"a", "3"}}}, "a=3 b=2", 0, UserError{}},
		{"one twice", UserChange{Set: []User{{"a", "3"}, {"a", "4"}}}, "a=4 b=2", 0, UserError{}},
		{"delete", UserChange{Delete: []string{"a"}}, "b=2", 1, UserError{}},
		{"delete all, and more", UserChange{Delete: []string{"x", "b", "a", "b"}}, "", 2, UserError{}},
		{"delete and set", UserChange{Set: []User{{"a", "3"}}, Delete: []string{"a", "b"}}, "a=3", 2, UserError{}},
		{"as expected", UserChange{Expect: []User{{"a", "1"}, {"c", ""}}, Set: []User{{"a", "3"}, {"c", "4"}}}, "a=3 b=2 c=4", 0, UserError{}},
		{"another than expected", UserChange{Expect: []User{{"b", "2"}, {"a", "0"}}, Set: []User{{"b", "3"}, {"a", "3"}}}, "", 0, UserError{UserChanged, "a"}},
		{"there, expected not to be", UserChange{Expect: []User{{"a", ""}}, Set: []User{{"a", "3"}}}, "", 0, UserError{UserChanged, "a"}},
		{"not there, expected to be", UserChange{Expect: []User{{"c", "3"}}, Set: []User{{"c", "4"}}, Delete: []string{"a"}}, "", 0, UserError{UserChanged, "c"}},
		{"as large as may be", UserChange{Set: []User{{"a", long}}}, "a=" + long + " b=2", 0, UserError{}},
		{"one too large", UserChange{Set: []User{{"c", "3"}, {"dd", long}}, Delete: []string{"b"}}, "", 0, UserError{UserTooLarge, "dd"}},
		{"all too large", UserChange{Set: many}, "", 0, UserError{UsersTooMany, many[len(many)-1].Name}},
		{"all that fit", UserChange{Set: many[1:]}, "", 0, UserError{}},
		{"what fits without those deleted", UserChange{Set: many, Delete: []string{"a", "b"}}, "", 2, UserError{}},
	} {
		st := changed(emptyState(), UserChange{ID: "1", Set: []User{{"b", "2"}, {"a", "1"}}}).state
		tt.change.ID = "2"
		res := changed(st, tt.change)
		if tt.why != (UserError{}) {
			if res.refusedUsers == nil || *res.refusedUsers != tt.why || res.state != st || res.deleted != 0 {
				t.Errorf("%s: refused %v, want %v; changed: %t, deleted %d", tt.what, res.refusedUsers, &tt.why, res.state != st, res.deleted)
			}
			continue
		}
		large := len(tt.change.Set) > 10
		if got := userList(res.state); res.refusedUsers != nil || !large && got != tt.want || res.deleted != tt.deleted || res.state.Epoch != st.Epoch+1 {
			t.Errorf("%s: %.100s (refused %v), deleted %d; want %.100s, %d", tt.what, got, res.refusedUsers, res.deleted, tt.want, tt.deleted)
		}
		if userList(st) != "a=1 b=2" {
			t.Fatalf("%s changed the state before: %.100s", tt.what, userList(st))
		}
		// Asked for again it is answered as it was the first time, whatever the users are now.
		later := changed(res.state, UserChange{ID: "3", Set: []User{{"z", "9"}}}).state
		if again := changed(later, tt.change); again.refusedUsers != nil || again.state != later || again.deleted != tt.deleted {
			t.Errorf("%s, asked for again: refused %v, changed %t, deleted %d", tt.what, again.refusedUsers, again.state != later, again.deleted)
		}
	}
}

func TestAChangeOfUsersThatChangesNothingCommitsNothing(t *testing.T) {
	st := changed(emptyState(), UserChange{ID: "1", Set: []User{{"a", "1"}}}).state
	for _, c := range []UserChange{
		{}, {ID: "2"}, {ID: "2", Set: []User{{"a", "1"}}}, {ID: "2", Delete: []string{"b"}}, {ID: "2", Expect: []User{{"a", "1"}}, Set: []User{{"a", "1"}}},
	} {
		if res := changed(st, c); res.refusedUsers != nil || res.state != st || res.deleted != 0 {
			t.Errorf("%+v: refused %v, changed %t, deleted %d", c, res.refusedUsers, res.state != st, res.deleted)
		}
	}
}

// TestTheNewestChangesOfUsersAreKnownAgain and the list of them stays bounded.
func TestTheNewestChangesOfUsersAreKnownAgain(t *testing.T) {
	st := emptyState()
	change := func(i int) UserChange { return UserChange{ID: fmt.Sprint(i), Set: []User{{"a", fmt.Sprint(i)}}} }
	for i := range 2 * maxDone {
		st = changed(st, change(i)).state
	}
	for i := range 2 * maxDone {
		if known := changed(st, change(i)).state == st; known != (i >= maxDone) {
			t.Errorf("change %d of %d is known: %t", i, 2*maxDone, known)
		}
	}
	if len(st.UserChanges) != maxDone {
		t.Errorf("%d changes are kept", len(st.UserChanges))
	}
}

// TestWhatIsNotAboutUsersKeepsTheirList lets a subscriber compare pointers.
func TestWhatIsNotAboutUsersKeepsTheirList(t *testing.T) {
	st := changed(emptyState(), UserChange{ID: "1", Set: []User{{"a", "1"}}}).state
	after := st.apply(&command{Version: commandVersion, Members: []Member{{ID: "n"}}}).state
	if after == st || &after.Users[0] != &st.Users[0] {
		t.Error("the list is another")
	}
}

// TestUsersOfAnyBytesSurviveJSON since Redis has no other rules for names and patterns.
func TestUsersOfAnyBytesSurviveJSON(t *testing.T) {
	c := UserChange{ID: "1", Expect: []User{{"e\xff", ""}}, Set: []User{{"\x80", "on ~\xff* &<ä>"}, {"ä", "off"}}, Delete: []string{"d\xfe", "d", `{"bytes":"/w=="}`}}
	var got UserChange
	if err := Decode(Encode(c), &got); err != nil {
		t.Fatal(err)
	}
	if got.ID != c.ID || !slices.Equal(got.Expect, c.Expect) || !slices.Equal(got.Set, c.Set) || !slices.Equal(got.Delete, c.Delete) {
		t.Errorf("%q, want %q", got, c)
	}
	if b := Encode(User{"a", "on ~*"}); string(b) != `{"name":"a","rules":"on ~*"}` {
		t.Errorf("text is not written as such: %s", b)
	}
	var a nodeAnswer
	if err := Decode(Encode(changeAnswer(applied{state: emptyState(), refusedUsers: &UserError{UserChanged, "\xff"}})), &a); err != nil || a.Name != "\xff" {
		t.Errorf("the name in an answer: %q, %v", a.Name, err)
	}
}

// TestSnapshotsAndCommandsWithUsersAreNotForOlderBuilds which would lose the users in silence; those without are.
func TestSnapshotsAndCommandsWithUsersAreNotForOlderBuilds(t *testing.T) {
	f := newFSM(func() {})
	persist := func(prefix string, users bool) string {
		t.Helper()
		var sink memorySink
		if err := (fsmSnapshot{f.state.Load()}).Persist(&sink); err != nil {
			t.Fatal(err)
		}
		if !strings.HasPrefix(sink.String(), prefix) || strings.Contains(sink.String(), `"users"`) != users {
			t.Errorf("want %s: %.100s", prefix, sink.String())
		}
		return sink.String()
	}
	for _, step := range []struct {
		c              command
		version, state int
	}{
		{command{Found: &founding{"c", 3}}, 1, 1},
		{command{Libraries: &LibraryChange{ID: "1", Load: []Library{library("a", "f")}}}, 2, 2},
		{command{Users: &UserChange{ID: "2", Set: []User{{"a", "on"}}}}, 3, 3},
		{command{Libraries: &LibraryChange{ID: "3", Flush: true}}, 2, 3},
	} {
		if step.c.Version = step.c.version(); step.c.Version != step.version {
			t.Errorf("a command has version %d, want %d: %s", step.c.Version, step.version, Encode(&step.c))
		}
		f.Apply(&raft.Log{Data: Encode(&step.c)})
		file := persist(fmt.Sprintf(`{"v":%d,`, step.state), step.state == userVersion)
		g := newFSM(func() {})
		if err := g.Restore(io.NopCloser(strings.NewReader(file))); err != nil || !bytes.Equal(Encode(f.state.Load()), Encode(g.state.Load())) {
			t.Errorf("%s: restored %+v, %v", file[:7], g.state.Load().Users, err)
		}
	}
	f.Apply(&raft.Log{Data: Encode(&command{Version: 3, Users: &UserChange{ID: "4", Delete: []string{"a"}}})})
	persist(`{"v":1,`, false)
	if err := f.Restore(io.NopCloser(strings.NewReader(`{"v":4,"state":{}}`))); err == nil {
		t.Error("a snapshot of a newer version is taken")
	}
}

// TestOneOfTwoChangesOfWhatWasThereWinsAndTheOtherSaysWhy through different nodes.
func TestOneOfTwoChangesOfWhatWasThereWinsAndTheOtherSaysWhy(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	was := ""
	for round := range 10 {
		var wg sync.WaitGroup
		errs := make([]error, len(ids))
		rules := func(i int) string { return fmt.Sprintf("%d of n%d", round, i) }
		for i, id := range ids {
			wg.Go(func() {
				_, errs[i] = f.node(id).top.ChangeUsers(ctx, UserChange{Expect: []User{{"a\xff", was}}, Set: []User{{"a\xff", rules(i)}}})
			})
		}
		wg.Wait()
		won := 0
		for i, err := range errs {
			var refused *UserError
			switch {
			case err == nil:
				won, was = won+1, rules(i)
			case !errors.As(err, &refused) || *refused != (UserError{UserChanged, "a\xff"}):
				t.Fatal(err)
			}
		}
		if won != 1 {
			t.Fatalf("round %d: %d of 3 won: %v", round, won, errs)
		}
		for _, id := range ids { // every node that is up has it when the winner's answer is there
			if st := f.node(id).top.State(); !slices.Equal(st.Users, []User{{"a\xff", was}}) {
				t.Fatalf("%s has %q after round %d, want %q", id, st.Users, round, was)
			}
		}
	}
}

// TestALostAnswerIsGivenAgain by asking the leader as ChangeUsers does.
func TestALostAnswerIsGivenAgain(t *testing.T) {
	f := newFabric(t)
	n := f.start("n1", 1)
	f.eventually("it leads", func() bool { return n.top.leads() && n.top.State().ClusterID != "" })
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := n.top.ChangeUsers(ctx, UserChange{Set: []User{{"a", "1"}, {"b", "2"}, {"c", "3"}}}); err != nil {
		t.Fatal(err)
	}
	c := UserChange{ID: "mine", Delete: []string{"a", "b", "x"}}
	for range 2 {
		b, err := n.top.Handle(ctx, "n1", methodUsers, Encode(c))
		var ans nodeAnswer
		if err != nil || Decode(b, &ans) != nil || !ans.Done || ans.Deleted != 2 {
			t.Errorf("%s, %v", b, err)
		}
		if deleted, err := n.top.ChangeUsers(ctx, UserChange{Set: []User{{"a", "4"}}, Delete: []string{"b"}}); err != nil || deleted != 0 {
			t.Errorf("another change deleted %d, %v", deleted, err)
		}
	}
	if got := userList(n.top.State()); got != "a=4 c=3" {
		t.Errorf("deleted once more: %s", got)
	}
}

func TestAChangeOfUsersThatChangesNothingIsNotInTheLog(t *testing.T) {
	f := newFabric(t)
	n := f.start("n1", 1)
	f.eventually("it serves", func() bool { return f.settled("n1", 1, "n1") }) // nobody else writes into the log
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if _, err := n.top.ChangeUsers(ctx, UserChange{Set: []User{{"c", "3"}}}); err != nil {
		t.Fatal(err)
	}
	newest := n.top.fsm.index.Load()
	if deleted, err := n.top.ChangeUsers(ctx, UserChange{Delete: []string{"b"}, Set: []User{{"c", "3"}}}); err != nil || deleted != 0 {
		t.Errorf("the same again: deleted %d, %v", deleted, err)
	}
	var refused *UserError
	if _, err := n.top.ChangeUsers(ctx, UserChange{Expect: []User{{"c", ""}}, Set: []User{{"c", "4"}}}); !errors.As(err, &refused) {
		t.Errorf("not as expected: %v", err)
	}
	if got := n.top.fsm.index.Load(); got != newest {
		t.Errorf("the newest command is %d, was %d", got, newest)
	}
}

func TestUsersAreThereAfterARestartAndOnANodeThatComesLater(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	users := []User{{"default", "off"}, {"w\xff", "on ~\xff*"}}
	if _, err := f.node("n1").top.ChangeUsers(ctx, UserChange{Set: users}); err != nil {
		t.Fatal(err)
	}
	for _, id := range ids {
		f.kill(id)
	}
	for _, id := range ids {
		f.start(id, 3)
	}
	for _, id := range ids { // a short log, so that who comes later gets a snapshot
		top := f.node(id).top
		f.eventually(id+" has the users", func() bool {
			f.meet(ids...)
			return slices.Equal(top.State().Users, users)
		})
		if err := top.raft.compact(top.await); err != nil {
			t.Fatal(err)
		}
	}
	f.start("n4", -1)
	ids = append(ids, "n4")
	f.eventually("n4 has the users", func() bool {
		f.meet(ids...)
		return slices.Equal(f.node("n4").top.State().Users, users)
	})
}

func TestWithoutALeaderNoUserChangesAndThatIsSaid(t *testing.T) {
	f := newFabric(t)
	f.three()
	f.kill("n1")
	f.kill("n2")
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	n := f.node("n3")
	f.eventually("the last one knows that it leads nothing", func() bool { return n.top.Leader() == "" })
	if _, err := n.top.ChangeUsers(ctx, UserChange{Set: []User{{"a", "1"}}}); !errors.Is(err, ErrNoLeader) || errors.Is(err, ErrUnknownOutcome) || ctx.Err() != nil {
		t.Errorf("%v (waited to the end: %v)", err, ctx.Err())
	}
	f.mu.Lock()
	f.nodes["n1"], f.nodes["n2"] = &fakeNode{f: f, id: "n1"}, &fakeNode{f: f, id: "n2"} // seem to be up, and their answers get lost
	f.mu.Unlock()
	short, cancel := context.WithTimeout(ctx, 100*time.Millisecond)
	defer cancel()
	if _, err := n.top.ChangeUsers(short, UserChange{Set: []User{{"a", "1"}}}); !errors.Is(err, ErrUnknownOutcome) {
		t.Errorf("asked somebody who does not answer: %v", err)
	}
	f.kill("n3")
	if _, err := n.top.ChangeUsers(ctx, UserChange{Set: []User{{"a", "1"}}}); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}
