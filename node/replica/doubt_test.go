package replica

import "testing"

// TestADoubtedReplicaVotesAgainWithAllThatThePrimaryHad as one does that was restored without a vote.
func TestADoubtedReplicaVotesAgainWithAllThatThePrimaryHad(t *testing.T) {
	s := follower(true)
	if !s.Voter() {
		t.Fatal("begins without a vote")
	}
	run(t, s, Event{Kind: Append, From: "a", Term: 1, Prev: Position{1, 5}, Last: 5, Head: Position{1, 5}, Echo: 3})
	acts := run(t, s, Event{Kind: Doubt})
	if a, ok := find(acts, VoterChanged); !ok || a.Voter || s.Voter() {
		t.Fatalf("actions %+v", acts)
	}
	ack, ok := find(acts, Ack)
	if !ok || ack.Voter || ack.Incarnation == 3 {
		t.Fatalf("the primary is told %+v", ack)
	}
	if acts := run(t, s, Event{Kind: Fence, From: "top", Term: 2}); acts[len(acts)-1].Voter {
		t.Error("the fence is answered with a vote")
	}
	probe := Event{Kind: Append, From: "c", Term: 2, Prev: Position{1, 5}, Last: 5, Head: Position{2, 6}, Echo: 3}
	run(t, s, probe) // of before the doubt
	run(t, s, Event{Kind: Append, From: "c", Term: 2, Prev: Position{1, 5}, Last: 6, Runs: []TermStart{{2, 6}}, Head: Position{2, 6}, Echo: 3},
		Event{Kind: Stored, At: Position{2, 6}})
	if s.Voter() {
		t.Fatal("votes on what was said before the doubt")
	}
	probe.Prev, probe.Last, probe.Echo = Position{2, 6}, 6, ack.Incarnation
	acts = run(t, s, probe)
	if a, ok := find(acts, VoterChanged); !ok || !a.Voter || !s.Voter() {
		t.Fatalf("actions %+v", acts)
	}
}

func TestAPrimaryIsNotDoubted(t *testing.T) {
	s := primary(t, "a", "b", "c")
	if acts := run(t, s, Event{Kind: Doubt}); len(acts) != 0 || !s.Serving() || !s.Voter() {
		t.Errorf("actions %+v", acts)
	}
}
