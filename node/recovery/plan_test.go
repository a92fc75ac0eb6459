package recovery

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"hypercache/node/ring"
	"hypercache/node/topology"
)

// world builds inspections of a cluster at rest: every group on the same replicas, in term 5, with ten records.
type world struct {
	nodes map[string]*Inspection
	ids   []string
	state *topology.State
}

func newWorld(n int, replicas ...string) *world {
	w := &world{nodes: map[string]*Inspection{}, state: &topology.State{Epoch: 40, ClusterID: "c", RF: 3, Members: map[string]topology.Member{}}}
	for i := range w.state.Groups {
		w.state.Groups[i] = topology.Group{Epoch: 30, Term: 5, Primary: replicas[0], Run: "r", Replicas: replicas}
	}
	for i := range n {
		id := fmt.Sprintf("n%d", i)
		m := topology.Member{ID: id, Addr: "10.0.0." + fmt.Sprint(i) + ":7373", Status: topology.Up, Zone: "z" + fmt.Sprint(i%3)}
		w.state.Members[id] = m
		w.ids = append(w.ids, id)
		in := &Inspection{Format: format, Member: m, ClusterID: "c", RF: 3, WriteAcks: "quorum", Voter: true, Groups: make([]Group, ring.Groups)}
		for g := range in.Groups {
			in.Groups[g] = Group{Complete: true, Promised: 5}
			if slices.Contains(replicas, id) {
				in.Groups[g].Term, in.Groups[g].Seq = 5, 10
			}
		}
		w.nodes[id] = in
	}
	for _, in := range w.nodes {
		w.topology(in)
	}
	return w
}

func (w *world) topology(in *Inspection) {
	servers := map[string]bool{}
	for i, id := range w.ids {
		servers[id] = i < 5
	}
	in.Topology = &Topology{State: w.state, Index: 100, Term: 7, CurrentTerm: 8, Servers: servers}
}

// given are inspections of the nodes with these ids.
func (w *world) given(ids ...string) (list []*Inspection) {
	for _, id := range ids {
		list = append(list, w.nodes[id])
	}
	return list
}

func (w *world) loseRaft(ids ...string) {
	for _, id := range ids {
		w.nodes[id].Topology, w.nodes[id].ClusterID = nil, ""
	}
}

func (w *world) each(id string, change func(g *Group)) {
	for i := range w.nodes[id].Groups {
		change(&w.nodes[id].Groups[i])
	}
}

var choices = Choices{ClusterID: "new", Now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}

func TestWhatMayBeLostIsToldAndHasToBeAccepted(t *testing.T) {
	abc := []string{"n0", "n1", "n2"}
	for _, tt := range []struct {
		name     string
		nodes    int
		given    []string
		change   func(w *world)
		loss     string   // "" none
		replicas []string // of group 0, the preferred primary first
		accept   []string // whose copies of group 0 count as complete from then on
	}{
		{name: "everybody, one topology left", nodes: 3, given: abc, change: func(w *world) { w.loseRaft("n0", "n1") }, replicas: abc},
		{name: "everybody, no topology left", nodes: 3, given: abc, change: func(w *world) { w.loseRaft(abc...) }, replicas: abc},
		{name: "two of three, no topology left", nodes: 3, given: abc[:2], change: func(w *world) { w.loseRaft(abc...) }, replicas: abc[:2]},
		{name: "one of three, no topology left", nodes: 3, given: abc[:1], change: func(w *world) { w.loseRaft(abc...) },
			loss: "1 of 3 replicas are given with a complete copy", replicas: abc[:1]},
		{name: "a member is missing", nodes: 5, given: []string{"n0", "n1", "n2", "n3"}, loss: "n4 is a member and was not given", replicas: abc},
		{name: "a minority of the replicas", nodes: 3, given: []string{"n2"}, loss: "no majority of its replicas [n0 n1 n2]", replicas: []string{"n2"}},
		{name: "no replica", nodes: 5, given: []string{"n3", "n4"}, loss: "nobody given has a copy", replicas: []string{"n3", "n4"}},
		{name: "the longest log is preferred", nodes: 3, given: abc, change: func(w *world) { w.each("n2", func(g *Group) { g.Seq = 12 }) },
			replicas: []string{"n2", "n0", "n1"}},
		{name: "a higher term beats a longer log", nodes: 3, given: abc, change: func(w *world) {
			w.each("n2", func(g *Group) { g.Seq = 12 })
			w.each("n1", func(g *Group) { g.Term, g.Seq = 6, 3 })
		}, replicas: []string{"n1", "n2", "n0"}},
		{name: "power was lost everywhere", nodes: 3, given: abc, change: func(w *world) {
			for _, id := range abc {
				w.each(id, func(g *Group) { g.Complete = false })
			}
			w.each("n1", func(g *Group) { g.Seq = 11 })
		}, loss: "no majority of its replicas", replicas: []string{"n1", "n0", "n2"}, accept: []string{"n1"}},
		{name: "a damaged copy is not preferred to a sound one", nodes: 3, given: abc[:2], change: func(w *world) {
			w.loseRaft(abc...)
			w.each("n0", func(g *Group) { g.Seq, g.Complete, g.Damaged = 20, false, true })
			w.each("n1", func(g *Group) { g.Complete = false })
		}, loss: "0 of 3 replicas", replicas: []string{"n1"}, accept: []string{"n1"}},
		{name: "a replica whose disk is empty", nodes: 3, given: abc, change: func(w *world) {
			w.nodes["n1"].Empty = true
			w.loseRaft("n1")
			w.each("n1", func(g *Group) { *g = Group{} })
		}, replicas: []string{"n0", "n2"}},
		{name: "a replica that has dropped the group does not vouch for it", nodes: 4, given: []string{"n1", "n2", "n3"}, change: func(w *world) {
			w.loseRaft("n1", "n2")
			w.each("n2", func(g *Group) { g.Term, g.Seq = 0, 0 })
			w.each("n3", func(g *Group) { g.Term, g.Seq = 6, 9 })
		}, loss: "no majority", replicas: []string{"n3", "n1"}},
		{name: "the topology is old and a replica is missing", nodes: 4, given: []string{"n1", "n2", "n3"}, change: func(w *world) {
			w.loseRaft("n1", "n2")
			w.each("n1", func(g *Group) { g.Promised = 9 })
		}, loss: "the topology that was found is old", replicas: []string{"n1", "n2"}},
		{name: "the topology is old and all replicas are there", nodes: 4, given: []string{"n0", "n1", "n2", "n3"}, change: func(w *world) {
			w.loseRaft(abc...)
			w.each("n1", func(g *Group) { g.Promised = 9 })
		}, replicas: abc},
		{name: "somebody else has more", nodes: 4, given: []string{"n1", "n2", "n3"}, change: func(w *world) {
			w.loseRaft("n1", "n2")
			w.each("n3", func(g *Group) { g.Term, g.Seq = 5, 11 })
		}, loss: "a node has more than the replicas", replicas: []string{"n3", "n1", "n2"}},
		{name: "a change of replicas needs both majorities", nodes: 5, given: abc, change: func(w *world) {
			for i := range w.state.Groups {
				w.state.Groups[i].Next = []string{"n0", "n3", "n4"}
			}
		}, loss: "no majority", replicas: abc},
		{name: "write_acks one needs every copy", nodes: 3, given: abc[:2], change: func(w *world) { w.nodes["n0"].WriteAcks = "one" },
			loss: "with write_acks: one every one of its replicas", replicas: abc[:2]},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(tt.nodes, abc...)
			if tt.change != nil {
				tt.change(w)
			}
			plan, _, err := NewPlan(w.given(tt.given...), choices)
			var loss *LossError
			if errors.As(err, &loss) != (tt.loss != "") || tt.loss == "" && err != nil {
				t.Fatalf("%v", err)
			}
			if tt.loss != "" {
				if !strings.Contains(fmt.Sprint(loss.Losses), tt.loss) {
					t.Errorf("losses: %v", loss.Losses)
				}
				accepting := choices
				accepting.AcceptLoss = true
				if plan, _, err = NewPlan(w.given(tt.given...), accepting); err != nil || len(plan.Accepted) == 0 {
					t.Fatalf("accepted: %v", err)
				}
			}
			g := plan.Rebuilt.State.Groups[0]
			if len(g.Replicas) != len(tt.replicas) || tt.replicas[0] != g.Replicas[0] && g.Run != "" || !sameMembers(g.Replicas, tt.replicas) {
				t.Errorf("replicas %v, want %v", g.Replicas, tt.replicas)
			}
			var accept []string
			for _, id := range tt.given {
				if slices.Contains(plan.Nodes[id].Complete, 0) {
					accept = append(accept, id)
				}
			}
			if !slices.Equal(accept, tt.accept) {
				t.Errorf("complete from now on: %v, want %v", accept, tt.accept)
			}
			checkPlan(t, w, plan, tt.given)
		})
	}
}

func sameMembers(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// checkPlan asserts what holds for every plan.
func checkPlan(t *testing.T, w *world, p *Plan, given []string) {
	t.Helper()
	st := p.Rebuilt.State
	if st.ClusterID != "new" || st.Epoch == 0 || len(st.Members) != len(given) || p.Rebuilt.Recovery != "recovery-20300102T030405Z" {
		t.Errorf("cluster %q, epoch %d, %d members, %s", st.ClusterID, st.Epoch, len(st.Members), p.Rebuilt.Recovery)
	}
	if len(p.Rebuilt.Voters)%2 != 1 {
		t.Errorf("voters %v", p.Rebuilt.Voters)
	}
	for i := range st.Groups {
		g := &st.Groups[i]
		if g.Primary != "" || g.Next != nil || g.Learner != "" || len(g.Replicas) == 0 {
			t.Fatalf("group %d: %+v", i, g)
		}
		for _, id := range g.Replicas {
			if _, ok := st.Members[id]; !ok {
				t.Fatalf("group %d: replica %s is no member", i, id)
			}
		}
		for _, id := range given {
			if was := w.nodes[id].Groups[i]; g.Term <= max(was.Term, was.Promised)+1 {
				t.Fatalf("group %d: term %d, %s has %+v", i, g.Term, id, was)
			}
		}
	}
	b, err := json.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := ReadPlan(b); err != nil || again.Sum != p.Sum {
		t.Errorf("the plan does not come back from its file: %v", err)
	}
	for _, cut := range []string{strings.Replace(string(b), `"term":7`, `"term":9`, 1), string(b[:len(b)/2]), `{"format":2}`} {
		if _, err := ReadPlan([]byte(cut)); err == nil && cut != string(b) {
			t.Error("a plan that was edited or cut off is taken")
		}
	}
}

func TestTheNewestTopologyIsTaken(t *testing.T) {
	w := newWorld(3, "n0", "n1", "n2")
	older := *w.nodes["n0"].Topology
	older.Term, older.Index = 6, 500
	w.nodes["n0"].Topology = &older
	newer := *w.nodes["n2"].Topology
	newer.Index, newer.CurrentTerm = 101, 20
	w.nodes["n2"].Topology = &newer
	p, _, err := NewPlan(w.given("n2", "n0", "n1"), choices)
	if err != nil {
		t.Fatal(err)
	}
	if p.Source != "n2" || p.From != "c" || p.Rebuilt.Index <= 500 || p.Rebuilt.Term <= 20 || p.Rebuilt.State.Epoch != 41 {
		t.Errorf("source %s, from %s, index %d, term %d, epoch %d", p.Source, p.From, p.Rebuilt.Index, p.Rebuilt.Term, p.Rebuilt.State.Epoch)
	}
}

func TestContradictionsAreNamedTogether(t *testing.T) {
	w := newWorld(4, "n0", "n1", "n2")
	w.nodes["n1"].ClusterID = "other"
	w.nodes["n3"].Member.Addr = w.nodes["n0"].Member.Addr
	_, _, err := NewPlan(w.given("n0", "n1", "n2", "n2", "n3"), choices)
	for _, want := range []string{"node n2 is given twice", "nodes n0 and n3 have the same address", "n0, n2, n2, n3 of cluster c; n1 of cluster other"} {
		if err == nil || !strings.Contains(strings.ReplaceAll(err.Error(), "n0, n2, n3 of", "n0, n2, n2, n3 of"), want) {
			t.Errorf("%v lacks %q", err, want)
		}
	}
	if _, _, err := NewPlan(nil, choices); err == nil {
		t.Error("a plan of nothing")
	}
	w = newWorld(1, "n9")
	w.loseRaft("n0")
	if _, _, err := NewPlan(w.given("n0"), choices); !errors.Is(err, ErrNothing) {
		t.Errorf("nothing to recover: %v", err)
	}
}

func TestInspectionsThatAreNotWholeAreRefused(t *testing.T) {
	w := newWorld(3, "n0", "n1", "n2")
	in := w.nodes["n0"]
	in.Sum = in.sum()
	b := topology.Encode(in)
	if _, err := ReadInspection(b); err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		strings.Replace(string(b), `"seq":10`, `"seq":11`, 1): "checksum",
		string(b[:len(b)-9]): "is no inspection",
		strings.Replace(string(b), `"format":1`, `"format":9`, 1): "format 9",
		"": "is no inspection",
	} {
		if _, err := ReadInspection([]byte(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
	in.ClusterID = "x"
	in.Sum = in.sum()
	if _, err := ReadInspection(topology.Encode(in)); err == nil || !strings.Contains(err.Error(), "contradicts itself") {
		t.Errorf("%v", err)
	}
}

func TestLossesNameRangesOfGroups(t *testing.T) {
	l := Loss{Groups: []uint16{0, 1, 2, 7, 9, 10}, Reason: "why"}
	if got := l.String(); got != "6 of 256 groups (0-2,7,9-10): why" {
		t.Error(got)
	}
}

func FuzzReadPlanAndInspection(f *testing.F) {
	w := newWorld(3, "n0", "n1", "n2")
	in := w.nodes["n0"]
	in.Sum = in.sum()
	f.Add(topology.Encode(in))
	p, _, err := NewPlan(w.given("n0", "n1", "n2"), choices)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(topology.Encode(p))
	f.Add([]byte(`{"format":1,"topology":{}}`))
	f.Fuzz(func(_ *testing.T, b []byte) {
		if in, err := ReadInspection(b); err == nil {
			_, _, _ = NewPlan([]*Inspection{in}, choices) // must not panic
		}
		_, _ = ReadPlan(b)
	})
}
