package topology

import (
	"errors"
	"slices"
	"strconv"
	"testing"
)

// past is a directory that three processes have used, whose state has the second one at epoch 10.
func past() *Past {
	return &Past{
		Cluster: "c", node: "n1", runs: []string{"one", "two", "three"},
		state: &State{Epoch: 10, Members: map[string]Member{"n1": {ID: "n1", Run: "two"}, "n2": {ID: "n2", Addr: "there"}}},
	}
}

func TestAnOlderCopyIsToldByWhatOthersKnow(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*Past)
		r      Recalled
		older  bool
	}{
		"nothing new":                      {r: Recalled{Epoch: 10, Run: "two"}},
		"the newest run is known":          {r: Recalled{Epoch: 12, Run: "three"}},
		"a member that is behind":          {r: Recalled{Epoch: 9, Run: "before"}},
		"a run that was never here":        {r: Recalled{Epoch: 11, Run: "four"}, older: true},
		"not a member any more":            {r: Recalled{Epoch: 11}},
		"acted on more than is here":       {r: Recalled{Epoch: 12, Run: "three", Acted: 11, ActedRun: "three"}, older: true},
		"acted on what is here":            {r: Recalled{Epoch: 12, Run: "three", Acted: 10, ActedRun: "three"}},
		"another directory's process did":  {r: Recalled{Epoch: 12, Run: "three", Acted: 11, ActedRun: "wiped"}},
		"the list does not reach so far":   {change: func(p *Past) { p.runs = []string{"three"} }, r: Recalled{Epoch: 11, Run: "four"}},
		"no list, of an older version":     {change: func(p *Past) { p.runs = nil }, r: Recalled{Epoch: 11, Run: "four"}},
		"no Raft state yet":                {change: func(p *Past) { p.state = nil }, r: Recalled{Epoch: 11, Run: "four", Acted: 11, ActedRun: "two"}},
		"its Raft state has no node of it": {change: func(p *Past) { p.node = "n9" }, r: Recalled{Epoch: 11, Run: "four"}},
	} {
		p := past()
		if c.change != nil {
			c.change(p)
		}
		if err := p.Check("n2", &c.r); errors.Is(err, ErrOlderCopy) != c.older || (err != nil) != c.older {
			t.Errorf("%s: %v", name, err)
		}
	}
	if got := past().Others(); len(got) != 1 || got["n2"] != "there" {
		t.Errorf("asks %v", got)
	}
}

func TestRunsAreKeptAsFarBackAsAnybodyMayNameThem(t *testing.T) {
	dir := t.TempDir()
	id := identity{NodeID: "n1", ClusterID: "c"}
	st := &State{Members: map[string]Member{"n1": {ID: "n1", Run: "r30"}}}
	for i := range 40 {
		if err := id.started(dir, "r"+strconv.Itoa(i), st); err != nil {
			t.Fatal(err)
		}
	}
	read, err := readIdentity(dir)
	if err != nil || !slices.Equal(read.Runs, id.Runs) || id.Runs[0] != "r22" || id.Runs[len(id.Runs)-1] != "r39" {
		t.Errorf("%v, %v", read.Runs, err)
	}
	for i := range maxRuns {
		if id.Runs = append(id.Runs, "x"+strconv.Itoa(i)); len(id.Runs) >= maxRuns {
			break
		}
	}
	if err := id.started(dir, "last", st); err != nil || len(id.Runs) != 1 || id.Runs[0] != "last" {
		t.Errorf("above the bound: %d runs, %v", len(id.Runs), err)
	}
	none := identity{NodeID: "n1"}
	if err := none.started(dir, "r", nil); err != nil || none.Runs != nil {
		t.Errorf("a node of no cluster notes %v, %v", none.Runs, err)
	}
}

// TestALeaderRecallsTheNewestProcessOfANode also of one that is down.
func TestALeaderRecallsTheNewestProcessOfANode(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	lead := f.node(f.node("n1").top.Leader()).top
	victim := ids[slices.IndexFunc(ids, func(id string) bool { return id != lead.o.NodeID })]
	run := f.node(victim).top.Run()
	heard := func() bool {
		r := lead.Recall(victim)
		return r.Run == run && r.ActedRun == run && r.Acted == r.Epoch
	}
	f.eventually("heard of the newest epoch", heard)
	f.kill(victim)
	f.eventually("down", func() bool {
		r := lead.reign.Load()
		r.mu.Lock()
		defer r.mu.Unlock()
		return r.down[victim]
	})
	r := lead.Recall(victim)
	if r.Run != run || r.ActedRun != run || r.Acted == 0 {
		t.Errorf("of a node that is down: %+v", r)
	}
	p, err := ReadPast(f.disks[victim].dir, victim)
	if err != nil || !slices.Contains(p.runs, run) || len(p.Others()) != 2 {
		t.Fatalf("%+v, %v", p, err)
	}
	if err := p.Check(lead.o.NodeID, &r); err != nil {
		t.Error(err)
	}
	p.state = &State{Epoch: r.Acted - 1, Members: p.state.Members}
	if err := p.Check(lead.o.NodeID, &r); !errors.Is(err, ErrOlderCopy) {
		t.Errorf("a copy of before: %v", err)
	}
}
