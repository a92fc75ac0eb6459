package replica

import (
	"hypercache/node/journal"
	"hypercache/node/ring"
)

// Replay takes over one record of the journal as it is replayed: how far the group's log reaches, and its terms.
func (r *Restored) Replay(rec *journal.Record) {
	switch {
	case rec.Kind == journal.SyncBegin, rec.Kind != journal.Effects && rec.Term == 0 && rec.Seq == 0:
		r.Head, r.Starts = Position{}, nil
		return
	case rec.Seq == 0:
		return // content of a resync; its end has the position
	}
	r.Head = Position{Term: rec.Term, Seq: rec.Seq}
	if n := len(r.Starts); n == 0 || r.Starts[n-1].Term != rec.Term {
		r.Starts = append(r.Starts, TermStart{Term: rec.Term, FirstSeq: rec.Seq})
		if len(r.Starts) > MaxStarts {
			r.Starts = r.Starts[1:]
		}
	}
}

// Judge completes what Replay has gathered of all groups: who may vote, and what was promised.
func Judge(groups *[ring.Groups]Restored, found *journal.Recovery, promises *[ring.Groups]uint64) {
	for i := range groups {
		g := &groups[i]
		g.Voter = found.Voter
		g.Promised = max(promises[i], g.Head.Term)
		g.PromisesLost = found.Fresh || found.PromisesLost
	}
	for _, id := range found.Damaged {
		groups[id].Voter = false
	}
	for _, id := range found.Holes {
		groups[id].Holes = true
	}
}
