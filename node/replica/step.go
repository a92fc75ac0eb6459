package replica

import "slices"

// Step is the protocol: it changes the state by one event and appends to acts what has to be done, in order. It is
// deterministic and does not allocate unless acts must grow or the configuration changes.
func (s *State) Step(ev *Event, acts []Action) []Action {
	if s.mute && (ev.Kind == Append || ev.Kind == SnapshotOffered || ev.Kind == Fence) {
		return acts
	}
	switch ev.Kind {
	case Propose:
		return s.propose(max(ev.Count, 1), acts)
	case AppendAck:
		return s.onAck(ev, acts)
	case Append:
		return s.onAppend(ev, acts)
	case Stored:
		return s.onStored(ev.At, acts)
	case Configure:
		return s.onConfigure(&ev.Config, acts)
	case Fence:
		return s.onFence(ev, acts)
	case PeerUp:
		return s.onPeerUp(ev.Peer, acts)
	case PeerDown:
		s.onPeerDown(ev.Peer)
		return acts
	case SnapshotSent, SnapshotFailed:
		return s.onSnapshotDone(ev, acts)
	case SnapshotOffered:
		return s.onOffer(ev, acts)
	case SnapshotInstalled:
		return s.onInstalled(ev, acts)
	case SnapshotAborted:
		return s.onAborted(acts)
	case Confirm:
		return s.confirm(acts)
	case Asked:
		return s.onAsked(ev, acts)
	case Told:
		s.onTold(ev)
		return acts
	case Tick:
		return s.tick(acts)
	}
	return acts
}

// promise raises the promise, which ends whatever role belonged to an older term.
func (s *State) promise(term uint64, acts []Action) []Action {
	acts = s.stepDown(acts)
	s.promised = term
	s.role, s.leader = None, ""
	if s.rules.NoPromisePersist {
		return acts
	}
	return append(acts, Action{Kind: PersistPromise, Term: term})
}

// stepDown ends being primary. The term cannot be led again: a primary that went on would not know what it had sent.
func (s *State) stepDown(acts []Action) []Action {
	if s.role != Primary {
		return acts
	}
	s.role, s.serving = None, false
	s.fresh.askers = s.fresh.askers[:0]
	if s.fenced == s.term {
		s.fenced = 0
	}
	return append(acts, Action{Kind: StepDown, Term: s.term})
}

// onFence promises and tells how far the log reaches. Only the incarnation that made the promise answers: one that
// restarted since may already have led the term, or holds less than it said.
func (s *State) onFence(ev *Event, acts []Action) []Action {
	if ev.Term > s.promised {
		acts = s.promise(ev.Term, acts)
		s.fenced = ev.Term
		if ev.First && s.head.Seq == 0 && !s.installing {
			acts = s.setVoter(true, acts)
		}
	}
	r := Action{Kind: FenceReply, To: ev.From, Term: s.promised}
	if ev.Term == s.promised && s.fenced == ev.Term {
		r.OK, r.Head, r.Voter = true, s.head, s.voter || s.rules.VoterWithShortLog
	}
	return append(acts, r)
}

// onConfigure takes over what the topology committed. It may arrive before or after the fence of its term.
func (s *State) onConfigure(cfg *Config, acts []Action) []Action {
	if s.configured && cfg.Epoch <= s.cfg.Epoch {
		return acts
	}
	sameNext := slices.Equal(s.cfg.Next, cfg.Next)
	s.cfg, s.configured, s.mute = *cfg, true, false
	if cfg.Term > s.promised {
		acts = s.promise(cfg.Term, acts)
		if cfg.Primary == "" {
			s.fenced = cfg.Term
		}
	}
	switch {
	case cfg.Term < s.promised || cfg.Primary == "":
		return acts
	case cfg.Primary != s.self:
		s.follow(cfg.Term, cfg.Primary)
		return acts
	case s.role == Primary:
		s.members(true)
		if !sameNext {
			s.joint = s.head.Seq
		}
		for i := range s.peers {
			acts = s.feed(&s.peers[i], acts)
		}
		return s.advance(acts)
	case (s.fenced == cfg.Term || s.rules.LeadAfterRestart) && !s.installing:
		return s.lead(acts)
	}
	return acts
}

// follow makes from the primary to follow in term, which is at least the promise.
func (s *State) follow(term uint64, from string) {
	if s.term != term || s.role == None || s.leader != from {
		s.term, s.role, s.leader, s.roundSeen = term, Follower, from, 0
	}
}

func (s *State) setVoter(v bool, acts []Action) []Action {
	if s.voter == v {
		return acts
	}
	s.voter = v
	return append(acts, Action{Kind: VoterChanged, Voter: v})
}

// onStored notes what the journal has. A position of a log that was replaced meanwhile is not in this one.
func (s *State) onStored(at Position, acts []Action) []Action {
	if at.Seq <= s.stored || !s.Contains(at) {
		return acts
	}
	s.stored = at.Seq
	switch s.role {
	case Primary:
		return s.advance(acts)
	case Follower:
		acts = s.regain(acts)
		return s.ack(false, acts)
	}
	return acts
}
