package replica

import (
	"slices"
	"testing"

	"hypercache/node/journal"
	"hypercache/node/ring"
)

func TestALogWithHolesIsReplacedNotExtended(t *testing.T) {
	// b's journal lost a record in the middle: its log seems to end where a's does.
	b := New("b", Restored{Promised: 1, Head: Position{1, 5}, Starts: []TermStart{{1, 1}}, Holes: true, Voter: true, Incarnation: 9})
	if b.Voter() {
		t.Fatal("a log with holes votes")
	}
	cfg := Config{Epoch: 1, Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}}
	acts := run(t, b, Event{Kind: Configure, Config: cfg},
		Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 5}, Last: 6, Head: Position{1, 6}, Echo: 9, Runs: []TermStart{{1, 6}}})
	ack, ok := find(acts, Ack)
	if _, took := find(acts, AppendLocal); took || !ok || !ack.Rejected {
		t.Fatalf("records go behind a hole: %+v", acts)
	}
	acts = run(t, b, Event{Kind: Stored, At: Position{1, 5}})
	if _, voter := find(acts, VoterChanged); voter || b.Voter() {
		t.Fatal("a log with holes votes because it is long enough")
	}

	a := primary(t, "a", "b", "c")
	for range 5 {
		run(t, a, Event{Kind: Propose})
	}
	acts = run(t, a, Event{Kind: AppendAck, From: "b", Term: 1, Head: ack.Head, Stored: ack.Stored, Rejected: true, Incarnation: 9})
	if _, ok := find(acts, SendSnapshot); !ok {
		t.Fatalf("the primary sends no snapshot: %+v", acts)
	}

	acts = run(t, b, Event{Kind: SnapshotOffered, From: "a", Term: 1, At: Position{1, 5}})
	if _, ok := find(acts, InstallSnapshot); !ok {
		t.Fatalf("a snapshot of where the log ends is refused: %+v", acts)
	}
	acts = run(t, b, Event{Kind: SnapshotInstalled, Term: 1, At: Position{1, 5}, Starts: []TermStart{{1, 1}}})
	if ack, _ := find(acts, Ack); ack.Head != (Position{1, 5}) || b.Hollow() {
		t.Fatalf("after the snapshot: %+v", acts)
	}
}

func TestWhatTheReplayFindsDecidesWhoVotes(t *testing.T) {
	var groups [ring.Groups]Restored
	for _, rec := range []journal.Record{
		{Group: 1, Kind: journal.Effects, Term: 2, Seq: 4}, {Group: 1, Kind: journal.Noop, Term: 3, Seq: 5},
		{Group: 2, Kind: journal.SyncBegin}, {Group: 2, Kind: journal.Effects}, {Group: 2, Kind: journal.SyncEnd, Term: 7, Seq: 70},
		{Group: 3, Kind: journal.Noop, Term: 1, Seq: 1}, {Group: 3, Kind: journal.SyncEnd},
	} {
		groups[rec.Group].Replay(&rec)
	}
	promises := [ring.Groups]uint64{1: 9}
	Judge(&groups, &journal.Recovery{Voter: true, Damaged: []uint16{2, 4}, Holes: []uint16{2}}, &promises)
	if g := groups[1]; g.Head != (Position{3, 5}) || !slices.Equal(g.Starts, []TermStart{{2, 4}, {3, 5}}) || g.Promised != 9 || !g.Voter || g.Holes {
		t.Errorf("a whole log: %+v", g)
	}
	if g := groups[2]; g.Head != (Position{7, 70}) || g.Promised != 7 || g.Voter || !g.Holes {
		t.Errorf("a log with holes: %+v", g)
	}
	if g := groups[3]; g.Head != (Position{}) || g.Starts != nil || !g.Voter {
		t.Errorf("a group that was given up: %+v", g)
	}
	if g := groups[4]; g.Voter || g.Holes {
		t.Errorf("a log that is only short: %+v", g)
	}
}

func TestAReplicaThatMayHaveLostPromisesWaitsForAConfiguration(t *testing.T) {
	// b promised term 3 to an election, lost its disk, and hears of the deposed primary of term 2 first.
	b := New("b", Restored{PromisesLost: true, Incarnation: 9})
	for _, ev := range []Event{
		{Kind: Append, From: "a", Term: 2, Head: Position{2, 1}},
		{Kind: SnapshotOffered, From: "a", Term: 2, At: Position{2, 1}},
		{Kind: Fence, From: "top", Term: 2},
	} {
		if acts := run(t, b, ev); len(acts) > 0 {
			t.Fatalf("event %d is answered: %+v", ev.Kind, acts)
		}
	}
	cfg := Config{Epoch: 7, Term: 3, Primary: "c", Replicas: []string{"a", "b", "c"}}
	acts := run(t, b, Event{Kind: Configure, Config: cfg}, Event{Kind: Append, From: "a", Term: 2, Head: Position{2, 1}})
	if ack, ok := find(acts, Ack); !ok || ack.Term != 3 {
		t.Fatalf("the deposed primary is not refused: %+v", acts)
	}
	acts = run(t, b, Event{Kind: Append, From: "c", Term: 3, Last: 1, Head: Position{3, 1}, Runs: []TermStart{{3, 1}}})
	if _, ok := find(acts, AppendLocal); !ok {
		t.Fatalf("the new primary is not followed: %+v", acts)
	}
}

// A node that learns of its place late was fed before, and could drop what it had acknowledged when it learned an older
// state; one that has given a group up could take it back for good.
func TestRecordsForAGroupThatIsNotHeldAreNotTaken(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b, late := c.nodes[0], c.nodes[1], c.nodes[2]
	both := []*node{a, b}
	c.lead(a, 1, both, 7)
	c.configure(Config{Term: 1, Primary: "a", Replicas: names(both...), Learner: late.id}, both, 0, 7)
	a.write(7, "k=v;")
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	c.deliver()
	c.tick(3)
	if head := late.d.Group(7).Head(); head != (Position{}) || late.groups[7] != nil {
		t.Fatalf("a node that holds nothing took records up to %v", head)
	}
	cfg := a.d.Group(7).st.Config()
	cfg.Epoch++
	c.epoch++
	late.d.Configure([]Assignment{{Group: 7, Config: cfg, Holds: true}})
	c.deliver()
	c.tick(5)
	if head := late.d.Group(7).Head(); head != a.d.Group(7).Head() {
		t.Fatalf("once it knows of its place it has %v, the primary %v", head, a.d.Group(7).Head())
	}
	c.same(7, a, late)

	cfg.Epoch, cfg.Learner = cfg.Epoch+1, ""
	c.epoch++
	late.d.Configure([]Assignment{{Group: 7, Config: cfg}})
	a.write(7, "k=w;") // a has not learned yet that the learner is gone
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	c.deliver()
	c.tick(5)
	if head := late.d.Group(7).Head(); head != (Position{}) || late.groups[7] != nil {
		t.Fatalf("what it gave up came back: %v", head)
	}
}

func TestThatALogIsWholeAgainIsWrittenDownAtOnce(t *testing.T) {
	c := drivers(t, 2, Options{})
	a := c.nodes[0]
	c.lead(a, 1, c.nodes, 7)
	a.write(7, "k=v;")
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	c.deliver()
	// b restarts, with its records but without the certainty that they are all.
	l := c.links[[2]string{"a", "b"}]
	a.d.PeerDown("b", l.there)
	var restored [256]Restored
	restored[7] = Restored{Promised: 1, Head: Position{1, 1}, Starts: []TermStart{{1, 1}}, Incarnation: 90}
	b2 := c.start("b", restored)
	b2.d.Configure([]Assignment{{Group: 7, Config: a.d.Group(7).st.Config(), Holds: true}})
	delete(c.links, [2]string{"a", "b"})
	delete(c.links, [2]string{"b", "a"})
	c.nodes[1] = b2
	c.link(a, b2)
	for range 100 {
		for _, l := range c.links {
			if b2.d.Group(7).Votes() {
				break
			}
			c.carry(l.there, l.receiver)
			c.carry(l.back, l.sender)
		}
		if !b2.d.Group(7).Votes() {
			a.d.Tick(&a.batch)
		}
	}
	if !b2.d.Group(7).Votes() {
		t.Fatal("it does not vote again")
	}
	if len(b2.j.complete) == 0 {
		t.Fatal("that it is whole again is not in its journal: a restart would forget it")
	}
}
