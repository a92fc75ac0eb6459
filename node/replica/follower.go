package replica

// onAppend takes records of the current primary that continue the log.
func (s *State) onAppend(ev *Event, acts []Action) []Action {
	if ev.Term < s.promised && !s.rules.NoTermCheck {
		return s.refuse(ev.From, acts)
	}
	if ev.Term > s.promised {
		acts = s.promise(ev.Term, acts)
	}
	if s.role == Primary {
		return acts // the topology names one primary per term
	}
	s.follow(ev.Term, ev.From)
	s.aim(ev)
	newRound := ev.Round > s.roundSeen
	s.roundSeen = max(s.roundSeen, ev.Round)

	last, lastTerm := ev.Prev.Seq, ev.Prev.Term
	if n := len(ev.Runs); n > 0 && ev.Last > last {
		last, lastTerm = ev.Last, ev.Runs[n-1].Term
	}
	if s.installing || s.hollow {
		return s.ack(true, acts)
	}
	if ev.Prev.Seq > s.head.Seq {
		if !s.rules.NonContiguous {
			return s.ack(true, acts)
		}
		s.head.Seq = ev.Prev.Seq
	}
	// Logs that share a record share everything before it: the newest record both could hold decides.
	common, theirs := last, lastTerm
	if last > s.head.Seq {
		common, theirs = s.head.Seq, termIn(ev, s.head.Seq)
	}
	if mine, known := s.TermAt(common); !known {
		return s.ack(true, acts)
	} else if mine != theirs && !s.rules.NonContiguous {
		if s.diverged != ev.Term {
			s.diverged = ev.Term
			s.fresh.whole = s.head.Seq // committed only if another primary's log turns out to have it
			acts = append(acts, Action{Kind: Diverged, Term: ev.Term})
		}
		return s.ack(true, acts)
	}
	appended := last > s.head.Seq
	if appended {
		first := s.head.Seq + 1
		s.take(ev, last)
		acts = append(acts, Action{Kind: AppendLocal, Term: ev.Term, First: first, Last: last})
		if s.rules.AckBeforeJournal {
			s.stored = last
			return s.ack(false, acts)
		}
	}
	if c := min(ev.Commit, last); c > s.commit {
		s.commit = c
		acts = append(acts, Action{Kind: Committed, Seq: c})
	}
	if !appended || newRound {
		acts = s.regain(acts)
		return s.ack(false, acts)
	}
	return acts
}

// termIn returns the term of the record seq as an Append tells it; seq is not before its Prev.
func termIn(ev *Event, seq uint64) uint64 {
	term := ev.Prev.Term
	for _, r := range ev.Runs {
		if r.FirstSeq > seq {
			break
		}
		term = r.Term
	}
	return term
}

// take extends the log to last with the message's records that are new.
func (s *State) take(ev *Event, last uint64) {
	for i, r := range ev.Runs {
		end := last
		if i+1 < len(ev.Runs) {
			end = ev.Runs[i+1].FirstSeq - 1
		}
		if end > s.head.Seq {
			s.extend(r.Term, max(r.FirstSeq, s.head.Seq+1), end)
		}
	}
}

// aim sets what a replica must hold to vote again: all that the primary had once it knew of the restart. A primary of
// a newer term has everything that was committed before it, so its own first head is the target then.
func (s *State) aim(ev *Event) {
	if s.voter || s.target.Term >= ev.Term {
		return
	}
	if ev.Echo == s.nonce || s.rules.NoIncarnationCheck {
		s.target = ev.Head
	}
}

// regain makes the replica a voter once its journal has the target.
func (s *State) regain(acts []Action) []Action {
	if s.voter || s.installing || s.hollow || s.target.Term == 0 || s.target.Term != s.term {
		return acts
	}
	if s.stored < s.target.Seq || !s.Contains(s.target) {
		return acts
	}
	return s.setVoter(true, acts)
}

// nowhere is the head that a log with holes tells a primary: a record that nobody has, so that a snapshot follows.
var nowhere = Position{Term: 0, Seq: 1}

// ack tells the primary where the log ends and what of it the journal has.
func (s *State) ack(rejected bool, acts []Action) []Action {
	head := s.head
	if s.hollow {
		head = nowhere
	}
	return append(acts, Action{
		Kind: Ack, To: s.leader, Term: s.term, Head: head, Stored: s.stored, Rejected: rejected,
		Installing: s.installing, Voter: s.voter, Round: s.roundSeen, Incarnation: s.nonce,
	})
}

// refuse answers a primary of an older term, which steps down on it.
func (s *State) refuse(to string, acts []Action) []Action {
	return append(acts, Action{
		Kind: Ack, To: to, Term: s.promised, Head: s.head, Stored: s.stored, Rejected: true,
		Installing: s.installing, Voter: s.voter, Incarnation: s.nonce,
	})
}

// onOffer accepts a snapshot of the current primary unless the log holds it already. From here to the end of the
// installation there is no log, and no vote; the journal's marks say so after a crash.
func (s *State) onOffer(ev *Event, acts []Action) []Action {
	if ev.Term < s.promised && !s.rules.NoTermCheck {
		return s.refuse(ev.From, acts)
	}
	if ev.Term > s.promised {
		acts = s.promise(ev.Term, acts)
	}
	if s.role == Primary {
		return acts
	}
	s.follow(ev.Term, ev.From)
	// A snapshot from before the term's first record could lack what was acknowledged in older terms, one behind the
	// head what was acknowledged in this one.
	if s.installing || ev.At.Term != ev.Term || s.Contains(ev.At) && !s.hollow {
		return s.ack(true, acts)
	}
	s.installing, s.wasVoter, s.fresh.whole = true, s.voter, unreadable
	s.voter, s.head, s.stored, s.starts = false, Position{}, 0, s.starts[:0]
	return append(acts, Action{Kind: InstallSnapshot, Term: ev.Term, Head: ev.At})
}

// onInstalled takes over the log of the snapshot. It holds everything this replica ever acknowledged, so a replica
// that could vote before can again.
func (s *State) onInstalled(ev *Event, acts []Action) []Action {
	if !s.installing {
		return acts
	}
	s.installing, s.hollow, s.voter = false, false, s.wasVoter
	s.head, s.stored, s.fresh.whole = ev.At, ev.At.Seq, ev.At.Seq
	s.setStarts(ev.Starts)
	if s.role != Follower {
		return acts
	}
	acts = s.regain(acts)
	return s.ack(false, acts)
}

// onAborted: the log is lost, and messages of the primary that are under way do not count it.
func (s *State) onAborted(acts []Action) []Action {
	if !s.installing {
		return acts
	}
	s.installing, s.target = false, Position{}
	s.hollow = !s.rules.TailMendsHoles // the content is neither the old one nor the new one
	s.nonce += 0x9e3779b97f4a7c15
	acts = append(acts, Action{Kind: VoterChanged, Voter: false})
	if s.role == Follower {
		return s.ack(true, acts)
	}
	return acts
}
