package topology

import "testing"

func reply(term, seq uint64, voter bool) answer {
	return answer{FenceReply{OK: true, Promised: 5, HeadTerm: term, HeadSeq: seq, Voter: voter, LeaseMillis: 700}, "run"}
}

// granting is the answer of a replica whose older primary may rely on it for a while.
func granting(millis uint64) answer {
	a := reply(4, 9, true)
	a.LeaseMillis = millis
	return a
}

func TestChoose(t *testing.T) {
	three := Group{Term: 5, Run: "x", Replicas: []string{"a", "b", "c"}}
	joint := Group{Term: 5, Run: "x", Replicas: []string{"a", "b", "c"}, Next: []string{"b", "c", "d"}}
	split := Group{Term: 5, Run: "x", Replicas: []string{"a"}, Next: []string{"a", "b"}}
	first := Group{Term: 1, Replicas: []string{"a", "b", "c"}}
	refused := answer{FenceReply{Promised: 9}, "run"}
	for _, c := range []struct {
		name    string
		g       Group
		answers map[string]answer
		c       chooser
		want    string
		lease   uint64
		term    uint64
		loss    bool
	}{
		{"the longest log of a majority", three, map[string]answer{"a": reply(4, 9, true), "b": reply(4, 10, true)}, chooser{}, "b", 700, 0, false},
		{"a higher term beats a longer log", three, map[string]answer{"a": reply(4, 9, true), "b": reply(3, 99, true)}, chooser{}, "a", 700, 0, false},
		{"no majority", three, map[string]answer{"a": reply(4, 9, true)}, chooser{}, "", 700, 0, false},
		{"equal heads: the order of replicas", three, map[string]answer{"c": reply(4, 9, true), "b": reply(4, 9, true)}, chooser{}, "b", 700, 0, false},
		{"equal heads: the preferred", three, map[string]answer{"c": reply(4, 9, true), "b": reply(4, 9, true)}, chooser{prefer: "c"}, "c", 700, 0, false},
		{"preferred but behind", three, map[string]answer{"c": reply(4, 8, true), "b": reply(4, 9, true)}, chooser{prefer: "c"}, "b", 700, 0, false},
		{"leaving", three, map[string]answer{"a": reply(4, 9, true), "b": reply(4, 9, true)}, chooser{avoid: func(id string) bool { return id == "a" }}, "b", 700, 0, false},
		{"leaving, but nobody else has it all", three, map[string]answer{"a": reply(4, 9, true), "b": reply(4, 8, true)}, chooser{avoid: func(id string) bool { return id == "a" }}, "a", 700, 0, false},
		{"no lease to wait for: the old primary answered", three, map[string]answer{"a": granting(0), "b": reply(4, 9, true)}, chooser{old: "a", prefer: "b"}, "b", 0, 0, false},
		{"the lease that the old primary itself waited out", three, map[string]answer{"a": granting(200), "b": reply(4, 9, true)}, chooser{old: "a", prefer: "b"}, "b", 200, 0, false},
		{"a short log does not vote", three, map[string]answer{"a": reply(4, 9, true), "b": reply(4, 9, false)}, chooser{}, "", 700, 0, false},
		{"a short log is not chosen", three, map[string]answer{"a": reply(4, 8, true), "b": reply(4, 9, false), "c": reply(4, 7, true)}, chooser{}, "a", 700, 0, false},
		{"all answered, too few voters: take", three, map[string]answer{"a": reply(4, 8, true), "b": reply(4, 9, false), "c": reply(4, 7, false)}, chooser{}, "b", 700, 0, true},
		{"taking a loss still needs all", three, map[string]answer{"b": reply(4, 9, false), "c": reply(4, 7, false)}, chooser{}, "", 700, 0, false},
		{"a refusal names the term to beat", three, map[string]answer{"a": refused, "b": reply(4, 9, true)}, chooser{}, "", 700, 9, false},
		{"restarted since it promised: another term", three, map[string]answer{"a": {FenceReply{Promised: three.Term}, "a2"}, "b": reply(4, 9, true)}, chooser{}, "", 700, three.Term, false},
		{"joint: a majority of one is not enough", joint, map[string]answer{"a": reply(4, 9, true), "b": reply(4, 9, true)}, chooser{}, "", 700, 0, false},
		{"joint: both, and one that stays", joint, map[string]answer{"a": reply(4, 9, true), "b": reply(4, 9, true), "c": reply(4, 9, true)}, chooser{}, "b", 700, 0, false},
		{"joint: growing from one", split, map[string]answer{"a": reply(4, 9, true)}, chooser{}, "", 700, 0, false},
		{"joint: old set missing", split, map[string]answer{"b": reply(4, 9, true)}, chooser{}, "", 700, 0, false},
		{"the first election asks for no voters", first, map[string]answer{"b": reply(0, 0, false), "c": reply(0, 0, false)}, chooser{}, "b", 700, 0, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			if c.c.avoid == nil {
				c.c.avoid = func(string) bool { return false }
			}
			v := choose(&c.g, c.answers, c.c)
			if v.primary != c.want || v.lease != c.lease || v.term != c.term || v.loss != c.loss {
				t.Errorf("got %+v, want %q lease %d term %d loss %v", v, c.want, c.lease, c.term, c.loss)
			}
		})
	}
}
