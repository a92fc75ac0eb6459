package replica

import (
	"slices"
	"testing"
)

// run gives s the events in order and returns what the last one led to.
func run(t *testing.T, s *State, evs ...Event) (acts []Action) {
	t.Helper()
	for i := range evs {
		acts = s.Step(&evs[i], nil)
	}
	return acts
}

func kinds(acts []Action) (ks []ActionKind) {
	for _, a := range acts {
		ks = append(ks, a.Kind)
	}
	return ks
}

func find(acts []Action, k ActionKind) (Action, bool) {
	for _, a := range acts {
		if a.Kind == k {
			return a, true
		}
	}
	return Action{}, false
}

// primary returns a as primary of term 1 over names, serving, with its first record stored everywhere.
func primary(t testing.TB, names ...string) *State {
	t.Helper()
	s := New("a", Restored{Incarnation: 7})
	for _, n := range names {
		if n != "a" {
			s.Step(&Event{Kind: PeerUp, Peer: n}, nil)
		}
	}
	s.Step(&Event{Kind: Fence, From: "top", Term: 1, First: true}, nil)
	s.Step(&Event{Kind: Configure, Config: Config{Epoch: 1, Term: 1, Primary: "a", Replicas: names}}, nil)
	s.Step(&Event{Kind: Stored, At: Position{1, 1}}, nil)
	for _, n := range names {
		if n != "a" {
			s.Step(&Event{Kind: AppendAck, From: n, Term: 1, Head: Position{1, 1}, Stored: 1, Voter: true}, nil)
		}
	}
	if !s.Serving() {
		t.Fatal("does not serve")
	}
	return s
}

func TestSoleReplicaCommitsWhatItStored(t *testing.T) {
	s := primary(t, "a")
	acts := run(t, s, Event{Kind: Propose}, Event{Kind: Stored, At: Position{1, 2}})
	if a, ok := find(acts, Committed); !ok || a.Seq != 2 {
		t.Fatalf("actions %+v", acts)
	}
}

func TestMajorityCommits(t *testing.T) {
	s := primary(t, "a", "b", "c")
	acts := run(t, s, Event{Kind: Propose})
	if got := kinds(acts); !slices.Equal(got, []ActionKind{AppendLocal, Send, Send}) {
		t.Fatalf("a proposal leads to %v", got)
	}
	acts = run(t, s, Event{Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 2}, Stored: 1})
	if _, ok := find(acts, Committed); ok {
		t.Fatal("committed by a head that is not stored")
	}
	run(t, s, Event{Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 2}, Stored: 2})
	if s.CommitSeq() != 1 {
		t.Fatal("committed before the own journal had it")
	}
	acts = run(t, s, Event{Kind: Stored, At: Position{1, 2}})
	if a, ok := find(acts, Committed); !ok || a.Seq != 2 {
		t.Fatalf("actions %+v", acts)
	}
}

func TestPromiseIsPersistedBeforeTheAnswer(t *testing.T) {
	s := New("b", Restored{Promised: 1, Head: Position{1, 9}, Voter: true, Incarnation: 1})
	acts := run(t, s, Event{Kind: Fence, From: "top", Term: 2})
	if got := kinds(acts); !slices.Equal(got, []ActionKind{PersistPromise, FenceReply}) {
		t.Fatalf("actions %v", got)
	}
	if r := acts[1]; !r.OK || r.Head != (Position{1, 9}) || !r.Voter {
		t.Fatalf("reply %+v", r)
	}
	acts = run(t, s, Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 9}, Last: 10, Runs: []TermStart{{1, 10}}})
	if len(acts) != 1 || acts[0].Kind != Ack || !acts[0].Rejected || acts[0].Term != 2 {
		t.Fatalf("an older term was answered with %+v", acts)
	}
}

func TestRestartedReplicaDoesNotLeadThePromisedTerm(t *testing.T) {
	s := New("a", Restored{Promised: 2, Head: Position{1, 9}, Voter: true, Incarnation: 1})
	acts := run(t, s, Event{Kind: Fence, From: "top", Term: 2})
	if acts[0].OK || acts[0].Term != 2 {
		t.Fatalf("reply %+v", acts[0])
	}
	run(t, s, Event{Kind: Configure, Config: Config{Epoch: 3, Term: 2, Primary: "a", Replicas: []string{"a", "b", "c"}}})
	if s.Role() == Primary || !s.Status(nil).CannotLead {
		t.Fatalf("status %+v", s.Status(nil))
	}
}

func TestDeposedPrimaryStepsDownOnANewerPromise(t *testing.T) {
	s := primary(t, "a", "b", "c")
	run(t, s, Event{Kind: AppendAck, From: "b", Term: 2, Rejected: true})
	if s.Role() == Primary || s.Serving() {
		t.Fatal("still primary")
	}
	run(t, s, Event{Kind: Configure, Config: Config{Epoch: 2, Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}}})
	if s.Role() == Primary {
		t.Fatal("leads a term it had left")
	}
}

// follower returns b with the log 1.1..1.5, voting unless it says so.
func follower(voter bool) *State {
	return New("b", Restored{Promised: 1, Head: Position{1, 5}, Starts: []TermStart{{1, 1}}, Voter: voter, Incarnation: 3})
}

func TestFollowerAcksWhatTheJournalHas(t *testing.T) {
	s := follower(true)
	acts := run(t, s, Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 5}, Last: 7, Runs: []TermStart{{1, 6}}})
	if got := kinds(acts); !slices.Equal(got, []ActionKind{AppendLocal}) || acts[0].First != 6 || acts[0].Last != 7 {
		t.Fatalf("actions %+v", acts)
	}
	acts = run(t, s, Event{Kind: Stored, At: Position{1, 7}})
	if a := acts[0]; a.Kind != Ack || a.Stored != 7 || a.To != "a" {
		t.Fatalf("actions %+v", acts)
	}
	if acts = run(t, s, Event{Kind: Stored, At: Position{9, 7}}); len(acts) != 0 {
		t.Fatalf("a record of another log counted: %+v", acts)
	}
}

func TestFollowerTellsGapsDuplicatesAndDivergence(t *testing.T) {
	for _, tc := range []struct {
		name     string
		ev       Event
		head     Position
		rejected bool
		diverged bool
	}{
		{"gap", Event{Prev: Position{1, 7}, Last: 8, Runs: []TermStart{{1, 8}}}, Position{1, 5}, true, false},
		{"duplicate", Event{Prev: Position{1, 2}, Last: 4, Runs: []TermStart{{1, 3}}}, Position{1, 5}, false, false},
		{"overlap", Event{Prev: Position{1, 2}, Last: 6, Runs: []TermStart{{1, 3}}}, Position{1, 6}, false, false},
		{"two terms", Event{Prev: Position{1, 4}, Last: 7, Runs: []TermStart{{1, 5}, {2, 6}}}, Position{2, 7}, false, false},
		{"conflict", Event{Prev: Position{1, 4}, Last: 6, Runs: []TermStart{{2, 5}}}, Position{1, 5}, true, true},
		{"conflict at prev", Event{Prev: Position{2, 5}, Last: 5}, Position{1, 5}, true, true},
	} {
		t.Run(tc.name, func(t *testing.T) {
			s := follower(true)
			tc.ev.Kind, tc.ev.From, tc.ev.Term = Append, "a", 2
			acts := run(t, s, tc.ev)
			_, diverged := find(acts, Diverged)
			a, acked := find(acts, Ack)
			if s.Head() != tc.head || diverged != tc.diverged || acked && a.Rejected != tc.rejected {
				t.Fatalf("head %v, actions %+v", s.Head(), acts)
			}
		})
	}
}

func TestFollowerLearnsTheCommitOnlyAsFarAsItsLogIsThePrimarys(t *testing.T) {
	s := follower(true)
	run(t, s, Event{Kind: Append, From: "a", Term: 2, Prev: Position{1, 3}, Last: 3, Commit: 5})
	if s.CommitSeq() != 3 {
		t.Fatalf("commit %d", s.CommitSeq())
	}
}

func TestReplicaVotesAgainWithAllThatThePrimaryHad(t *testing.T) {
	s := follower(false)
	probe := Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 5}, Last: 5, Head: Position{1, 7}}
	probe.Echo = 99 // sent before the restart
	run(t, s, probe)
	if s.target.Term != 0 {
		t.Fatal("took its target from an old message")
	}
	probe.Echo, probe.Head.Seq = 3, 8
	run(t, s, probe)
	acts := run(t, s, Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 5}, Last: 8, Runs: []TermStart{{1, 6}}},
		Event{Kind: Stored, At: Position{1, 7}})
	if _, ok := find(acts, VoterChanged); ok || s.Voter() {
		t.Fatal("votes too early")
	}
	acts = run(t, s, Event{Kind: Stored, At: Position{1, 8}})
	if a, ok := find(acts, VoterChanged); !ok || !a.Voter || !s.Voter() {
		t.Fatalf("actions %+v", acts)
	}
}

func TestNoVoteWhileASnapshotReplacesTheContent(t *testing.T) {
	s := follower(true)
	offer := Event{Kind: SnapshotOffered, From: "c", Term: 2, At: Position{2, 9}}
	if _, ok := find(run(t, s, offer), InstallSnapshot); !ok || s.Voter() || s.Head().Seq != 0 {
		t.Fatal("not installing")
	}
	run(t, s, Event{Kind: SnapshotInstalled, Term: 2, At: Position{2, 9}, Starts: []TermStart{{1, 1}, {2, 4}}})
	if !s.Voter() || s.Head() != (Position{2, 9}) || !s.Contains(Position{1, 3}) {
		t.Fatalf("status %+v", s.Status(nil))
	}
	if _, ok := find(run(t, s, offer), InstallSnapshot); ok {
		t.Fatal("installs what it has")
	}
	offer.At.Seq = 20
	run(t, s, offer, Event{Kind: SnapshotAborted})
	if s.Voter() || s.nonce == 3 {
		t.Fatal("votes without a log")
	}
}

func TestJointConfigurationNeedsBothMajorities(t *testing.T) {
	s := primary(t, "a", "b", "c")
	run(t, s, Event{Kind: PeerUp, Peer: "d"}, Event{Kind: PeerUp, Peer: "e"},
		Event{Kind: Configure, Config: Config{
			Epoch: 2, Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}, Next: []string{"c", "d", "e"},
		}},
		Event{Kind: Propose}, Event{Kind: Stored, At: Position{1, 2}},
		Event{Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 2}, Stored: 2})
	if s.CommitSeq() != 1 || s.Status(nil).JointReady {
		t.Fatal("committed by the old majority alone")
	}
	run(t, s, Event{Kind: AppendAck, From: "d", Term: 1, Head: Position{1, 2}, Stored: 2},
		Event{Kind: AppendAck, From: "e", Term: 1, Head: Position{1, 2}, Stored: 2})
	if s.CommitSeq() != 2 || !s.Status(nil).JointReady {
		t.Fatalf("status %+v", s.Status(nil))
	}
}

func TestLearnerIsFedAndDoesNotCount(t *testing.T) {
	s := primary(t, "a", "b")
	run(t, s, Event{Kind: PeerUp, Peer: "d"},
		Event{Kind: Configure, Config: Config{Epoch: 2, Term: 1, Primary: "a", Replicas: []string{"a", "b"}, Learner: "d"}},
		Event{Kind: AppendAck, From: "d", Term: 1, Head: Position{}})
	acts := run(t, s, Event{Kind: Propose})
	if len(acts) != 3 {
		t.Fatalf("actions %+v", acts)
	}
	run(t, s, Event{Kind: Stored, At: Position{1, 2}},
		Event{Kind: AppendAck, From: "d", Term: 1, Head: Position{1, 2}, Stored: 2})
	if s.CommitSeq() != 1 {
		t.Fatal("a learner counted")
	}
}

func TestRoundIsConfirmedByAMajority(t *testing.T) {
	s := primary(t, "a", "b", "c")
	acts := run(t, s, Event{Kind: Confirm})
	if got := kinds(acts); !slices.Equal(got, []ActionKind{Send, Send}) || acts[0].Round != s.Round() {
		t.Fatalf("actions %+v", acts)
	}
	acts = run(t, s, Event{Kind: AppendAck, From: "c", Term: 1, Head: Position{1, 1}, Stored: 1, Round: 1})
	if a, ok := find(acts, Confirmed); !ok || a.Round != 1 {
		t.Fatalf("actions %+v", acts)
	}
}

func TestPeerBelowTheFloorGetsASnapshot(t *testing.T) {
	s := primary(t, "a", "b")
	run(t, s, Event{Kind: Propose, Count: 10})
	s.SetFloor(8)
	acts := run(t, s, Event{Kind: PeerDown, Peer: "b"}, Event{Kind: PeerUp, Peer: "b"},
		Event{Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 3}, Stored: 3})
	if _, ok := find(acts, SendSnapshot); !ok {
		t.Fatalf("actions %+v", acts)
	}
	acts = run(t, s, Event{Kind: SnapshotSent, Peer: "b", Term: 1, At: Position{1, 9}})
	if a, ok := find(acts, Send); !ok || a.First != 10 || a.Last != 11 {
		t.Fatalf("actions %+v", acts)
	}
}

func TestWindowBoundsWhatIsUnderWay(t *testing.T) {
	s := primary(t, "a", "b")
	s.window = 4
	var sent uint64
	for range 10 {
		if a, ok := find(run(t, s, Event{Kind: Propose}), Send); ok {
			sent = a.Last
		}
	}
	if sent != 5 {
		t.Fatalf("sent up to %d", sent)
	}
	acts := run(t, s, Event{Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 5}, Stored: 5})
	if a, ok := find(acts, Send); !ok || a.First != 6 || a.Last != 9 {
		t.Fatalf("actions %+v", acts)
	}
}

func TestRunsAndStarts(t *testing.T) {
	s := New("a", Restored{Head: Position{5, 30}, Starts: []TermStart{{1, 1}, {3, 11}, {5, 21}}})
	if got := s.Runs(5, 22, nil); !slices.Equal(got, []TermStart{{1, 5}, {3, 11}, {5, 21}}) {
		t.Errorf("runs %v", got)
	}
	if got := s.Runs(12, 13, nil); !slices.Equal(got, []TermStart{{3, 12}}) {
		t.Errorf("runs %v", got)
	}
	if got := s.Starts(20, nil); !slices.Equal(got, []TermStart{{1, 1}, {3, 11}}) {
		t.Errorf("starts %v", got)
	}
	for i := range uint64(2 * MaxStarts) {
		s.extend(6+i, s.head.Seq+1, s.head.Seq+1)
	}
	if _, known := s.TermAt(30); known || len(s.starts) != MaxStarts || !s.Contains(s.head) {
		t.Errorf("starts %v", s.starts)
	}
}

func TestStepDoesNotAllocate(t *testing.T) {
	s := primary(t, "a", "b", "c")
	acts := make([]Action, 0, 16)
	ev := Event{Kind: Propose}
	ack := Event{Kind: AppendAck, From: "b", Term: 1, Voter: true}
	stored := Event{Kind: Stored}
	if n := testing.AllocsPerRun(100, func() {
		acts = s.Step(&ev, acts[:0])
		stored.At = s.Head()
		acts = s.Step(&stored, acts[:0])
		ack.Head, ack.Stored = s.Head(), s.Head().Seq
		acts = s.Step(&ack, acts[:0])
	}); n != 0 {
		t.Fatalf("%v allocations per write", n)
	}
}

func BenchmarkPropose(b *testing.B) {
	s := primary(b, "a", "b", "c")
	s.window = 1 << 62
	acts := make([]Action, 0, 16)
	ev := Event{Kind: Propose}
	b.ReportAllocs()
	for b.Loop() {
		acts = s.Step(&ev, acts[:0])
	}
}

func BenchmarkWrite(b *testing.B) {
	s := primary(b, "a", "b", "c")
	acts := make([]Action, 0, 16)
	ev, ack, stored := Event{Kind: Propose}, Event{Kind: AppendAck, From: "b", Term: 1, Voter: true}, Event{Kind: Stored}
	b.ReportAllocs()
	for b.Loop() {
		acts = s.Step(&ev, acts[:0])
		stored.At = s.Head()
		acts = s.Step(&stored, acts[:0])
		ack.Head, ack.Stored = s.Head(), s.Head().Seq
		acts = s.Step(&ack, acts[:0])
		ack.From = "c"
		acts = s.Step(&ack, acts[:0])
		ack.From = "b"
	}
}

func TestSnapshotAloneDoesNotGiveTheVoteBack(t *testing.T) {
	s := follower(false)
	run(t, s, Event{Kind: SnapshotOffered, From: "c", Term: 2, At: Position{2, 9}},
		Event{Kind: SnapshotInstalled, Term: 2, At: Position{2, 9}, Starts: []TermStart{{1, 1}, {2, 4}}})
	if s.Voter() {
		t.Fatal("votes, though the snapshot may be older than what it acknowledged")
	}
	probe := Event{Kind: Append, From: "c", Term: 2, Prev: Position{2, 9}, Last: 9, Head: Position{2, 9}, Echo: 3}
	if run(t, s, probe); !s.Voter() {
		t.Fatal("has all that the primary has and does not vote")
	}
}

func TestNewTermSetsANewTarget(t *testing.T) {
	s := follower(false)
	run(t, s,
		Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 5}, Last: 5, Head: Position{1, 90}, Echo: 3},
		Event{Kind: Append, From: "c", Term: 2, Prev: Position{1, 5}, Last: 6, Runs: []TermStart{{2, 6}},
			Head: Position{2, 6}, Echo: 3},
		Event{Kind: Stored, At: Position{2, 6}})
	if !s.Voter() {
		t.Fatal("waits for records of a primary that is gone")
	}
}

func TestStoredOfAReplacedLogDoesNotCount(t *testing.T) {
	s := follower(true)
	run(t, s, Event{Kind: SnapshotOffered, From: "c", Term: 2, At: Position{2, 6}},
		Event{Kind: SnapshotInstalled, Term: 2, At: Position{2, 6}, Starts: []TermStart{{2, 6}}},
		Event{Kind: Append, From: "c", Term: 2, Prev: Position{2, 6}, Last: 9, Runs: []TermStart{{2, 7}}})
	if acts := run(t, s, Event{Kind: Stored, At: Position{1, 8}}); len(acts) != 0 || s.StoredSeq() != 6 {
		t.Fatalf("stored %d, actions %+v", s.StoredSeq(), acts)
	}
}

func TestRestartedPeerCountsForWhatItStillHas(t *testing.T) {
	s := primary(t, "a", "b", "c")
	run(t, s, Event{Kind: Propose, Count: 5},
		Event{Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 6}, Stored: 6, Voter: true})
	acts := run(t, s, Event{
		Kind: AppendAck, From: "b", Term: 1, Head: Position{1, 2}, Stored: 2, Rejected: true, Incarnation: 4,
	})
	if a, ok := find(acts, Send); !ok || a.First != 3 || a.Last != 6 || a.Echo != 4 {
		t.Fatalf("actions %+v", acts)
	}
	if p := s.Status(nil).Peers[0]; p.Match != 2 || p.Lag != 4 {
		t.Fatalf("peer %+v", p)
	}
}
