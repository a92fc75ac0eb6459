package topology

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"hypercache/node/ring"
)

var epochZero = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// scene is a state and a view in which nothing is left to do: every group is [a b c], led by a.
func scene() (*State, *view) {
	st := &State{Epoch: 10, ClusterID: "c", RF: 3, Members: map[string]Member{}}
	v := &view{
		self: "a", now: epochZero.Add(time.Hour), timing: Timing{
			NotServing: 300 * time.Millisecond, PrimaryReturn: 5 * time.Second, AbortAfter: 5 * time.Second,
			VoterDelay: 2 * time.Second, MaxMoves: 16,
		},
		down: map[string]bool{}, since: map[string]time.Time{}, status: map[string]nodeStatus{},
		groups: &[ring.Groups]groupView{}, target: make([]ring.Placement, ring.Groups), servers: map[string]server{},
	}
	for _, id := range []string{"a", "b", "c"} {
		addMember(st, v, id)
		v.servers[id] = server{voter: true, addr: id}
	}
	for i := range st.Groups {
		st.Groups[i] = Group{Epoch: 10, Term: 3, Primary: "a", Run: "run-a", Replicas: []string{"a", "b", "c"}}
		v.groups[i].changed = epochZero
		v.target[i].Replicas = []string{"a", "b", "c"}
	}
	report(st, v)
	return st, v
}

func addMember(st *State, v *view, id string) {
	st.Members[id] = Member{ID: id, Addr: id, Zone: id, Status: Up, Run: "run-" + id}
	v.since[id] = epochZero
	v.servers[id] = server{addr: id}
}

// report makes every primary report that it serves and that everybody follows.
func report(st *State, v *view) {
	for id := range st.Members {
		ns := nodeStatus{asked: v.now, run: "run-" + id, groups: map[uint16]GroupStatus{}}
		for i := range st.Groups {
			g := &st.Groups[i]
			gs := GroupStatus{Group: uint16(i), Epoch: g.Epoch, Term: g.Term, Serving: true, JointReady: g.Next != nil}
			for peer := range st.Members {
				gs.Peers = append(gs.Peers, PeerStatus{ID: peer, CaughtUp: true})
			}
			ns.groups[uint16(i)] = gs
		}
		v.status[id] = ns
	}
}

// describe renders what a plan does to group 0, and to the rest of the world.
func describe(a actions) (out []string) {
	for _, e := range a.elect {
		if e.group == 0 {
			out = append(out, fmt.Sprintf("elect %s handover=%v prefer=%s", e.reason, e.handover, e.prefer))
		}
	}
	for _, c := range a.changes {
		if c.Group == 0 {
			out = append(out, fmt.Sprintf("set term=%d primary=%s replicas=%v next=%v learner=%s", c.Set.Term, c.Set.Primary, c.Set.Replicas, c.Set.Next, c.Set.Learner))
		}
	}
	for _, id := range a.retire {
		out = append(out, "retire "+id)
	}
	if a.server != nil {
		out = append(out, fmt.Sprintf("server op=%d %s", a.server.op, a.server.id))
	}
	if a.transfer {
		out = append(out, "transfer")
	}
	return out
}

func TestPlan(t *testing.T) {
	target := func(v *view, ids ...string) {
		for i := range v.target {
			v.target[i].Replicas = ids
		}
	}
	only := func(st *State, v *view, g Group) {
		g.Epoch, g.Term, g.Run = 10, 3, "run-"+g.Primary
		st.Groups[0] = g
		report(st, v)
	}
	for _, c := range []struct {
		name string
		set  func(st *State, v *view)
		want []string
	}{
		{"nothing to do", func(*State, *view) {}, nil},
		{"primary down", func(_ *State, v *view) { v.down["a"] = true }, []string{"elect down handover=false prefer=b"}},
		{"primary down, no majority left", func(_ *State, v *view) { v.down["a"], v.down["b"] = true, true }, nil},
		{"follower down", func(_ *State, v *view) { v.down["b"] = true }, nil},
		{"election left open", func(st *State, _ *view) { st.Groups[0].Primary = "" }, []string{"elect open handover=false prefer="}},
		{"election left open, too early", func(st *State, v *view) {
			st.Groups[0].Primary, v.groups[0].retry = "", v.now.Add(1)
		}, nil},
		{"election under way", func(_ *State, v *view) { v.down["a"], v.groups[0].busy = true, true }, nil},
		{"primary restarted", func(_ *State, v *view) {
			ns := v.status["a"]
			ns.run = "another"
			v.status["a"] = ns
		}, []string{"elect restarted handover=false prefer=b"}},
		{"report from before the election", func(_ *State, v *view) {
			ns := v.status["a"]
			ns.run, ns.asked = "another", epochZero
			v.status["a"] = ns
		}, nil},
		{"not serving", func(_ *State, v *view) { v.groups[0].notServing = v.now.Add(-time.Second) },
			[]string{"elect not serving handover=false prefer=b"}},
		{"not serving for a moment", func(_ *State, v *view) { v.groups[0].notServing = v.now.Add(-200 * time.Millisecond) }, nil},
		{"not serving: waits for the lease", func(st *State, v *view) {
			st.Groups[0].LeaseMillis = 1100
			v.groups[0].notServing, v.groups[0].changed = v.now.Add(-time.Second), v.now.Add(-time.Second)
		}, nil},
		{"leaving", func(st *State, _ *view) {
			m := st.Members["a"]
			m.Leaving = m.Run
			st.Members["a"] = m
		}, []string{"elect leaving handover=true prefer=b"}},
		{"left, and came back as a new process", func(st *State, _ *view) {
			m := st.Members["a"]
			m.Leaving = "earlier"
			st.Members["a"] = m
		}, nil},
		{"the preferred primary is back", func(st *State, v *view) {
			only(st, v, Group{Primary: "b", Replicas: []string{"a", "b", "c"}})
		}, []string{"elect balance handover=true prefer=a"}},
		{"the preferred primary is back since a moment", func(st *State, v *view) {
			only(st, v, Group{Primary: "b", Replicas: []string{"a", "b", "c"}})
			v.since["a"] = v.now.Add(-time.Second)
		}, nil},
		{"the preferred primary is back and does not hear of changes", func(st *State, v *view) {
			only(st, v, Group{Primary: "b", Replicas: []string{"a", "b", "c"}})
			v.settled = 10
			for _, id := range []string{"b", "c"} {
				ns := v.status[id]
				ns.epoch = 10
				v.status[id] = ns
			}
		}, nil},
		{"leaving, and the first in line does not hear of changes", func(st *State, v *view) {
			m := st.Members["a"]
			m.Leaving = m.Run
			st.Members["a"] = m
			v.settled = 10
			ns := v.status["c"]
			ns.epoch = 11
			v.status["c"] = ns
		}, []string{"elect leaving handover=true prefer=c"}},
		{"move: not so soon after the last step", func(st *State, v *view) {
			addMember(st, v, "d")
			target(v, "a", "b", "d")
			v.hold = true
		}, nil},
		{"move: begin with a learner", func(st *State, v *view) { addMember(st, v, "d"); target(v, "a", "b", "d") },
			[]string{"set term=3 primary=a replicas=[a b c] next=[] learner=d"}},
		{"move: the new one is down", func(st *State, v *view) {
			addMember(st, v, "d")
			v.down["d"] = true
			target(v, "a", "b", "d")
		}, nil},
		{"move: the learner has caught up", func(st *State, v *view) {
			addMember(st, v, "d")
			v.since["d"] = v.now
			target(v, "a", "b", "d")
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b", "c"}, Learner: "d"})
		}, []string{"set term=3 primary=a replicas=[a b c] next=[a b d] learner="}},
		{"move: one more replica", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b"}, Learner: "c"})
		}, []string{"set term=3 primary=a replicas=[a b] next=[a b c] learner="}},
		{"move: the learner is no longer wanted", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b", "c"}, Learner: "d"})
		}, []string{"set term=3 primary=a replicas=[a b c] next=[] learner="}},
		{"move: joint and ready", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b"}, Next: []string{"a", "b", "c"}})
		}, []string{"set term=3 primary=a replicas=[a b c] next=[] learner="}},
		{"move: joint, not ready", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b"}, Next: []string{"a", "b", "c"}})
			v.status["a"].groups[0] = GroupStatus{Epoch: 10, Term: 3, Serving: true}
		}, nil},
		{"move: joint, an old report does not count", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b"}, Next: []string{"a", "b", "c"}})
			st.Groups[0].Epoch = 11
		}, nil},
		{"move: the primary goes, another one first", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b"}, Next: []string{"b", "c"}})
		}, []string{"elect replica moves handover=true prefer=b"}},
		{"move: joint, the new one died", func(st *State, v *view) {
			only(st, v, Group{Primary: "a", Replicas: []string{"a", "b"}, Next: []string{"a", "b", "c"}})
			v.down["c"], v.since["c"] = true, epochZero
			v.status["a"].groups[0] = GroupStatus{Epoch: 10, Term: 3, Serving: true}
		}, []string{"set term=3 primary=a replicas=[a b] next=[] learner="}},
		{"move: a replica too many", func(st *State, v *view) { target(v, "a", "b") },
			[]string{"set term=3 primary=a replicas=[a b c] next=[a b] learner="}},
		{"only the order differs", func(st *State, v *view) { target(v, "b", "a", "c") },
			[]string{"set term=3 primary=a replicas=[b a c] next=[] learner="}},
		{"drain: hand over first", func(st *State, v *view) {
			m := st.Members["c"]
			m.Status = Draining
			st.Members["c"] = m
			only(st, v, Group{Primary: "c", Replicas: []string{"c", "a", "b"}})
		}, []string{"elect leaving handover=true prefer=a"}},
		{"drain: holds nothing any more", func(st *State, v *view) {
			addMember(st, v, "d")
			m := st.Members["d"]
			m.Status = Draining
			st.Members["d"] = m
		}, []string{"retire d"}},
		{"removed: leaves raft", func(st *State, v *view) {
			addMember(st, v, "d")
			m := st.Members["d"]
			m.Status = Removed
			st.Members["d"] = m
		}, []string{"server op=4 d"}},
		{"address changed: looked up when dialed", func(st *State, v *view) { v.servers["b"] = server{voter: true, addr: "old"} }, nil},
		{"first assignment waits for members", func(st *State, v *view) {
			st.Groups, v.expect = [ring.Groups]Group{}, 4
		}, nil},
		{"first assignment", func(st *State, v *view) { st.Groups, v.expect = [ring.Groups]Group{}, 3 },
			[]string{"set term=1 primary= replicas=[a b c] next=[] learner="}},
	} {
		t.Run(c.name, func(t *testing.T) {
			st, v := scene()
			c.set(st, v)
			if got := describe(plan(st, v)); !slices.Equal(got, c.want) {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func TestMovesAreBounded(t *testing.T) {
	st, v := scene()
	addMember(st, v, "d")
	for i := range v.target {
		v.target[i].Replicas = []string{"a", "b", "d"}
	}
	if a := plan(st, v); len(a.changes) != v.timing.MaxMoves {
		t.Errorf("%d groups begin to move, bound %d", len(a.changes), v.timing.MaxMoves)
	}
}

func TestAFailoverIsOneBatch(t *testing.T) {
	st, v := scene()
	v.down["a"] = true
	if a := plan(st, v); len(a.elect) != ring.Groups {
		t.Errorf("%d elections", len(a.elect))
	}
}

func TestVotersAreOddAndSpreadOverZones(t *testing.T) {
	for _, c := range []struct{ members, want int }{{1, 1}, {2, 1}, {3, 3}, {4, 3}, {5, 5}, {6, 5}, {12, 5}} {
		st, v := scene()
		st.Members, v.servers = map[string]Member{}, map[string]server{}
		for i := range c.members {
			id := fmt.Sprintf("n%02d", i)
			addMember(st, v, id)
			m := st.Members[id]
			m.Zone = fmt.Sprint(i % 3)
			st.Members[id] = m
		}
		v.servers["n00"], v.self = server{voter: true, addr: "n00"}, "n00"
		want := wantedVoters(st, v)
		zones := map[string]int{}
		for _, id := range want {
			zones[st.Members[id].Zone]++
		}
		if len(want) != c.want || !slices.Contains(want, "n00") || zones["0"] > 2 || zones["1"] > 2 || zones["2"] > 2 {
			t.Errorf("%d members: voters %v", c.members, want)
		}
	}
}

func TestNewMembersVoteAtOnceWhileNoVoterCanBeSpared(t *testing.T) {
	for _, c := range []struct{ voters, members, want int }{{1, 3, 3}, {2, 3, 3}, {1, 2, 1}, {3, 5, 3}, {1, 5, 3}} {
		st, v := scene()
		st.Members, v.servers = map[string]Member{}, map[string]server{}
		for i := range c.members {
			id := fmt.Sprintf("n%02d", i)
			addMember(st, v, id)
			if i < c.voters {
				v.servers[id] = server{voter: true, addr: id}
			} else {
				v.since[id] = v.now
			}
		}
		v.self = "n00"
		if want := wantedVoters(st, v); len(want) < c.want || c.voters == 3 && len(want) != 3 {
			t.Errorf("%d of %d members vote, and the next ones would be %v", c.voters, c.members, want)
		}
		if fragile := c.voters < 3 && c.members >= 3; Fragile(st, v.voters()) != fragile {
			t.Errorf("%d of %d members vote: fragile is %v", c.voters, c.members, !fragile)
		}
	}
}

// TestALeavingVoterVotesUntilAnotherCan: members beyond the three voters are new, or down, or not there.
func TestALeavingVoterVotesUntilAnotherCan(t *testing.T) {
	for name, c := range map[string]struct {
		members int
		down    string
		want    serverChange
	}{
		"another is there": {4, "", serverChange{addVoter, "n03", "n03"}},
		"another is down":  {4, "n03", serverChange{}},
		"nobody else":      {3, "", serverChange{}},
		"it is down":       {3, "n02", serverChange{demote, "n02", ""}},
	} {
		st, v := scene()
		st.Members, v.servers = map[string]Member{}, map[string]server{}
		for i := range c.members {
			id := fmt.Sprintf("n%02d", i)
			addMember(st, v, id)
			v.servers[id], v.since[id] = server{voter: i < 3, addr: id}, v.now
		}
		v.self, v.down = "n00", map[string]bool{c.down: true}
		m := st.Members["n02"]
		m.Status = Draining
		st.Members["n02"] = m
		var a actions
		if a.planVoters(st, v); a.server == nil {
			a.server = &serverChange{}
		}
		if *a.server != c.want {
			t.Errorf("%s: %+v, want %+v", name, *a.server, c.want)
		}
	}
}

func TestIdleCountsWhoGetsNothing(t *testing.T) {
	for n, want := range map[int]int{3: 0, 3 * ring.Groups: 0, 3*ring.Groups + 5: 5} {
		ms := make([]ring.Member, n)
		for i := range ms {
			ms[i] = ring.Member{ID: fmt.Sprintf("n%04d", i)}
		}
		if got := idle(ring.Assign(nil, ms, 3), ms); got != want {
			t.Errorf("%d nodes: %d get nothing, want %d", n, got, want)
		}
	}
	if got := idle(make([]ring.Placement, ring.Groups), []ring.Member{{ID: "a", Draining: true}}); got != 0 {
		t.Errorf("a member that is going counts as idle")
	}
}

func TestOnlyWhoIsWaitedForIsPolledFast(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*State, *[ring.Groups]groupView)
		want []string
	}{
		"nothing moves":       {func(*State, *[ring.Groups]groupView) {}, nil},
		"a learner":           {func(st *State, _ *[ring.Groups]groupView) { st.Groups[7].Learner = "d" }, []string{"a"}},
		"replicas change":     {func(st *State, _ *[ring.Groups]groupView) { st.Groups[7].Next = []string{"a", "b", "d"} }, []string{"a"}},
		"it does not serve":   {func(_ *State, gv *[ring.Groups]groupView) { gv[7].notServing = epochZero }, []string{"a"}},
		"no primary":          {func(st *State, _ *[ring.Groups]groupView) { st.Groups[7].Primary = "" }, []string{"a", "b", "c"}},
		"the first elections": {func(st *State, _ *[ring.Groups]groupView) { st.Groups[0].Run = "" }, []string{"a", "b", "c"}},
	} {
		t.Run(name, func(t *testing.T) {
			st, v := scene()
			c.edit(st, v.groups)
			hot, moving := awaited(st, v.groups)
			if got := sortedIDs(hot); !slices.Equal(got, c.want) || moving != (len(c.want) > 0) {
				t.Errorf("polled fast: %v, moving %v; want %v", got, moving, c.want)
			}
		})
	}
}
