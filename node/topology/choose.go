package topology

import "slices"

// answer is a replica's reply to a fence, with the process that gave it.
type answer struct {
	FenceReply
	run string
}

func (a answer) head() Position { return Position{a.HeadTerm, a.HeadSeq} }

// verdict is the outcome of one group's election.
type verdict struct {
	primary string // "": nobody can be chosen yet
	run     string
	lease   uint64 // milliseconds the primary has to wait
	term    uint64 // not 0: a replica has promised this term and refuses; the election needs a higher one
	loss    bool   // too few of them are voters: what only others than the chosen had acknowledged is lost
}

// chooser holds what choose knows beside the answers.
type chooser struct {
	old    string // the primary before, "" if not known
	prefer string
	avoid  func(id string) bool // about to leave
}

// choose picks the primary of g from the answers to its fence. Only a replica with the highest head will do: with a
// majority fenced, everything that was acknowledged at quorum is in it, and nothing can be acknowledged in the old term.
func choose(g *Group, answers map[string]answer, c chooser) verdict {
	var v verdict
	replicas := replicasOf(g)
	fenced := 0
	for _, id := range replicas {
		a, ok := answers[id]
		switch {
		case ok && a.OK:
			fenced++
			v.lease = max(v.lease, a.LeaseMillis)
		case ok && a.Promised >= g.Term:
			// Equal: it has restarted since it promised, and can't answer for this term any more.
			v.term = max(v.term, a.Promised)
		}
	}
	if a, ok := answers[c.old]; ok && a.OK {
		v.lease = a.LeaseMillis // what remains of a lease that the old primary was itself waiting out
	}
	// A group that never had a primary has no content that an empty log could be short of.
	votes := func(id string) bool { a := answers[id]; return a.OK && (a.Voter || g.Run == "") }
	if !majority(g.Replicas, votes) || g.Next != nil && !majority(g.Next, votes) {
		// Once every replica has answered, waiting brings nothing: there is nobody else who could know more.
		if v.loss = fenced == len(replicas); !v.loss {
			return v
		}
		votes = func(id string) bool { return answers[id].OK }
	}
	for _, id := range replicas {
		if votes(id) && (v.primary == "" || c.better(g, answers, id, v.primary)) {
			v.primary, v.run = id, answers[id].run
		}
	}
	return v
}

// better reports whether x should rather be primary than y.
func (c chooser) better(g *Group, answers map[string]answer, x, y string) bool {
	if hx, hy := answers[x].head(), answers[y].head(); hx != hy {
		return hy.Less(hx)
	}
	if ax, ay := c.avoid(x), c.avoid(y); ax != ay {
		return ay
	}
	if g.Next != nil {
		if nx, ny := slices.Contains(g.Next, x), slices.Contains(g.Next, y); nx != ny {
			return nx
		}
	}
	return x == c.prefer // else the earlier in Replicas stays
}

func majority(ids []string, ok func(string) bool) bool {
	n := 0
	for _, id := range ids {
		if ok(id) {
			n++
		}
	}
	return 2*n > len(ids)
}
