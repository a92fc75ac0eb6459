package replica

import "slices"

// mode is how a peer is fed.
type mode uint8

const (
	probing    mode = iota // where its log ends is not known: one empty Append per Tick
	streaming              // records are sent without waiting for acks
	sending                // the driver sends a snapshot
	installing             // the snapshot and what follows it are in its stream
)

// stalled is after how many Ticks without progress a peer that lags is probed again.
const stalled = 3

// peer is what a primary knows of another replica in its term.
type peer struct {
	name        string
	match       uint64 // its journal has everything up to here
	next        uint64 // first record not yet sent
	base        uint64 // position of the snapshot it was sent: what follows counts from there for the window
	resent      uint64 // where sending began anew since the last Tick
	sentCommit  uint64
	round       uint64
	incarnation uint64
	seen        uint64 // match at the last Tick
	idle        int    // Ticks without progress

	mode               mode
	up, voter          bool
	inReplicas, inNext bool
}

// lead makes the replica primary of the configured term, in which nothing was ordered yet. Its first record carries no
// effects: once that is committed, so is everything before it.
func (s *State) lead(acts []Action) []Action {
	s.role, s.term, s.leader, s.serving = Primary, s.cfg.Term, s.self, false
	s.hollow = false // it was chosen for what is left
	acts = s.setVoter(true, acts)
	s.members(false)
	s.noop = s.head.Seq + 1
	s.joint, s.round, s.confirmed = s.noop, 0, 0
	s.extend(s.term, s.noop, s.noop)
	acts = append(acts, Action{Kind: AppendLocal, Term: s.term, First: s.noop, Last: s.noop, Noop: true})
	if s.rules.ServeBeforeNoop {
		s.serving = true
		acts = append(acts, Action{Kind: Serving, Term: s.term})
	}
	for i := range s.peers {
		acts = s.feed(&s.peers[i], acts)
	}
	return acts
}

// members rebuilds the peers from the configuration, keeping what is known of them if keep is set.
func (s *State) members(keep bool) {
	old := s.peers
	s.peers = make([]peer, 0, len(s.cfg.Replicas)+len(s.cfg.Next)+1)
	s.inReplicas, s.inNext = slices.Contains(s.cfg.Replicas, s.self), slices.Contains(s.cfg.Next, s.self)
	add := func(name string) {
		if name == "" || name == s.self || slices.ContainsFunc(s.peers, func(p peer) bool { return p.name == name }) {
			return
		}
		p := peer{name: name, next: s.head.Seq + 1, mode: probing}
		if !keep {
			p.mode = streaming // most followers of a new primary hold what it holds
		}
		if i := slices.IndexFunc(old, func(p peer) bool { return p.name == name }); keep && i >= 0 {
			p = old[i]
		}
		p.up = slices.Contains(s.up, name)
		p.inReplicas, p.inNext = slices.Contains(s.cfg.Replicas, name), slices.Contains(s.cfg.Next, name)
		s.peers = append(s.peers, p)
	}
	for _, n := range s.cfg.Replicas {
		add(n)
	}
	for _, n := range s.cfg.Next {
		add(n)
	}
	add(s.cfg.Learner)
}

func (s *State) peer(name string) *peer {
	for i := range s.peers {
		if s.peers[i].name == name {
			return &s.peers[i]
		}
	}
	return nil
}

// propose orders count records that the driver has executed.
func (s *State) propose(count uint64, acts []Action) []Action {
	if !s.serving {
		return acts
	}
	prev := s.head
	first := prev.Seq + 1
	s.head.Seq += count
	acts = append(acts, Action{Kind: AppendLocal, Term: s.term, First: first, Last: s.head.Seq})
	for i := range s.peers {
		p := &s.peers[i]
		if p.mode == probing || p.mode == sending {
			continue
		}
		if p.mode == installing || !p.up || p.next != first || s.head.Seq-max(p.match, p.base) > s.window {
			acts = s.feed(p, acts)
			continue
		}
		// What send does for a peer that was sent everything so far.
		p.next, p.sentCommit = s.head.Seq+1, s.commit
		acts = append(acts, Action{})
		a := &acts[len(acts)-1]
		a.Kind, a.To, a.Term, a.Prev, a.First, a.Last = Send, p.name, s.term, prev, first, s.head.Seq
		a.Commit, a.Head, a.Round, a.Echo = s.commit, s.head, s.round, p.incarnation
	}
	return acts
}

// feed sends a peer what it lacks, as far as its window allows.
func (s *State) feed(p *peer, acts []Action) []Action {
	if !p.up {
		return acts
	}
	switch p.mode {
	case probing:
		return s.send(p, 0, acts)
	case sending:
		return acts
	}
	last := min(s.head.Seq, max(p.match, p.base)+s.window)
	if p.next > last {
		return acts
	}
	if _, known := s.TermAt(p.next - 1); p.next < s.floor || !known {
		return s.snapshot(p, acts)
	}
	return s.send(p, last, acts)
}

// send emits an Append with the records next..last, none if last is before next.
func (s *State) send(p *peer, last uint64, acts []Action) []Action {
	prev := Position{Seq: p.next - 1}
	term, known := s.TermAt(prev.Seq)
	if prev.Term = term; !known {
		prev = s.head // the answer tells where the peer's log ends, whatever the question was
	}
	first := p.next
	if last < first {
		first, last = prev.Seq+1, prev.Seq
	} else {
		p.next = last + 1
	}
	p.sentCommit = s.commit
	return append(acts, Action{
		Kind: Send, To: p.name, Term: s.term, Prev: prev, First: first, Last: last, Commit: s.commit, Head: s.head,
		Round: s.round, Echo: p.incarnation,
	})
}

func (s *State) snapshot(p *peer, acts []Action) []Action {
	p.mode, p.idle = sending, 0
	return append(acts, Action{Kind: SendSnapshot, To: p.name, Term: s.term, Head: s.head})
}

// onAck learns where a peer's log ends. If that position is in the own log, everything up to it is the same.
func (s *State) onAck(ev *Event, acts []Action) []Action {
	if s.role != Primary || ev.Term < s.term {
		return acts
	}
	if ev.Term > s.term {
		return s.stepDown(acts) // a newer term is open; who leads it will be told
	}
	p := s.peer(ev.From)
	if p == nil {
		return acts
	}
	greet := false
	if p.incarnation != ev.Incarnation {
		p.incarnation, p.match, p.seen = ev.Incarnation, 0, 0
		greet = true
	}
	p.voter = ev.Voter
	if ev.Round > p.round {
		p.round = ev.Round
		acts = s.confirmRounds(acts)
	}
	held := s.Contains(ev.Head) && !ev.Installing
	if held {
		p.match = max(p.match, min(ev.Stored, ev.Head.Seq))
		acts = s.advance(acts)
	}
	n := len(acts)
	acts = s.refeed(p, ev, held, acts)
	if greet && !p.voter && len(acts) == n && p.up && p.mode != sending {
		acts = s.send(p, 0, acts) // lets it know from where on it may vote again
	}
	return acts
}

// refeed goes on sending after an ack.
func (s *State) refeed(p *peer, ev *Event, held bool, acts []Action) []Action {
	switch {
	case p.mode == sending:
		return acts
	case p.mode == installing && ev.Installing:
		p.idle = 0
		return acts
	case p.mode == installing && (!held || ev.Head.Seq < p.base):
		return acts // sent before the snapshot arrived
	case ev.Installing:
		return acts
	case !held:
		return s.snapshot(p, acts)
	}
	if p.mode != streaming {
		p.mode, p.next, p.idle, p.sentCommit = streaming, ev.Head.Seq+1, 0, 0
	} else if ev.Rejected && ev.Head.Seq+1 < p.next && p.resent != ev.Head.Seq+1 {
		p.next, p.resent = ev.Head.Seq+1, ev.Head.Seq+1
	}
	p.next = max(p.next, ev.Head.Seq+1)
	return s.feed(p, acts)
}

func (s *State) onPeerUp(name string, acts []Action) []Action {
	if !slices.Contains(s.up, name) {
		s.up = append(s.up, name)
	}
	p := s.peer(name)
	if p == nil || s.role != Primary {
		return acts
	}
	p.up, p.idle, p.resent = true, 0, 0
	if p.mode != sending {
		p.mode = probing
	}
	return s.feed(p, acts)
}

func (s *State) onPeerDown(name string) {
	s.up = slices.DeleteFunc(s.up, func(n string) bool { return n == name })
	if p := s.peer(name); p != nil {
		p.up = false
		if p.mode != sending {
			p.mode = probing
		}
	}
}

// onSnapshotDone goes on after the snapshot in the same stream, or starts over.
func (s *State) onSnapshotDone(ev *Event, acts []Action) []Action {
	p := s.peer(ev.Peer)
	if s.role != Primary || p == nil || p.mode != sending || ev.Term != 0 && ev.Term != s.term {
		return acts
	}
	p.idle, p.resent = 0, 0
	if ev.Kind == SnapshotFailed || !s.Contains(ev.At) {
		p.mode = probing // the next Tick asks what it needs
		return acts
	}
	p.mode, p.next, p.base = installing, ev.At.Seq+1, ev.At.Seq
	return s.feed(p, acts)
}

// tick probes peers that lag without progress, and tells the others what they may not know yet.
func (s *State) tick(acts []Action) []Action {
	if s.role != Primary {
		return acts
	}
	for i := range s.peers {
		p := &s.peers[i]
		p.resent = 0
		if !p.up || p.mode == sending {
			continue
		}
		if p.match > p.seen || p.match == s.head.Seq {
			p.idle = 0
		} else {
			p.idle++
		}
		p.seen = p.match
		if p.mode != probing && p.idle >= stalled {
			p.mode, p.idle = probing, 0
		}
		if p.mode == probing || p.mode == installing || p.idle > 0 || !p.voter || p.sentCommit < s.commit {
			acts = s.send(p, 0, acts)
		}
	}
	return acts
}

// confirm asks every peer whether it still follows.
func (s *State) confirm(acts []Action) []Action {
	if s.role != Primary {
		return acts
	}
	s.round++
	for i := range s.peers {
		if p := &s.peers[i]; p.up {
			acts = s.send(p, 0, acts)
		}
	}
	return s.confirmRounds(acts)
}

func (s *State) confirmRounds(acts []Action) []Action {
	r := s.majority(func(p *peer) uint64 { return p.round }, s.round)
	if r <= s.confirmed {
		return acts
	}
	s.confirmed = r
	acts = append(acts, Action{Kind: Confirmed, Round: r, Term: s.term})
	return s.tell(acts)
}

// matched is what a majority of Replicas, and of Next if there is one, has in its journals.
func (s *State) matched() uint64 {
	if s.rules.QuorumOfOne {
		return s.stored
	}
	return s.majority(func(p *peer) uint64 { return p.match }, s.stored)
}

// Spare tells that commits don't wait for the peer: without it enough of the others are there and have all that is committed.
func (s *State) Spare(name string) bool {
	if s.role != Primary {
		return false
	}
	others := func(p *peer) uint64 {
		if p.name == name || !p.up {
			return 0
		}
		return p.match
	}
	return s.majority(others, s.stored) >= s.commit
}

// advance commits what a majority holds. Records of older terms are committed only through one of the own term: a
// majority may hold them and an election still pass them over.
func (s *State) advance(acts []Action) []Action {
	m := s.matched()
	if m <= s.commit || m < s.noop && !s.rules.CommitOldTerm {
		return acts
	}
	s.commit = m
	if !s.serving && m >= s.noop {
		s.serving = true
		acts = append(acts, Action{Kind: Serving, Term: s.term})
		// The old primary may hold replies to writes that are committed with this record: it must not wait for a tick.
		for i := range s.peers {
			if p := &s.peers[i]; p.up {
				acts = s.send(p, 0, acts)
			}
		}
	}
	return append(acts, Action{Kind: Committed, Seq: m})
}

// jointReady says that the configuration before Next is no longer needed to find what is committed.
func (s *State) jointReady() bool {
	return s.role == Primary && s.serving && len(s.cfg.Next) > 0 && s.matched() >= max(s.joint, s.noop)
}

// majority returns the largest value that a majority of Replicas and, with Next, a majority of that reaches.
func (s *State) majority(value func(*peer) uint64, own uint64) uint64 {
	m := s.nth(s.inReplicas, len(s.cfg.Replicas)/2, func(p *peer) bool { return p.inReplicas }, value, own)
	if len(s.cfg.Next) == 0 || s.rules.NoJointMajority {
		return m
	}
	return min(m, s.nth(s.inNext, len(s.cfg.Next)/2, func(p *peer) bool { return p.inNext }, value, own))
}

// nth returns the value at place n, counted from 0 for the largest, among the members of a set.
func (s *State) nth(self bool, n int, member func(*peer) bool, value func(*peer) uint64, own uint64) uint64 {
	vs := s.scratch[:0]
	if self {
		vs = insert(vs, own)
	}
	for i := range s.peers {
		if p := &s.peers[i]; member(p) {
			vs = insert(vs, value(p))
		}
	}
	s.scratch = vs
	if n >= len(vs) {
		return 0
	}
	return vs[n]
}

// insert keeps vs in descending order.
func insert(vs []uint64, v uint64) []uint64 {
	vs = append(vs, v)
	for i := len(vs) - 1; i > 0 && vs[i-1] < v; i-- {
		vs[i], vs[i-1] = vs[i-1], v
	}
	return vs
}
