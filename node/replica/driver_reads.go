package replica

import (
	"encoding/binary"
	"time"
)

const (
	frameAsk  = 7 // from a follower: stamp, groups
	frameTold = 8 // its answer, for one group: group, stamp, seq

	toldSize = 2 + 2*8
)

// The time between two questions of how old this node's content is: a fifth of what it may be, within these.
const (
	askSoonest = 100 * time.Millisecond
	askLatest  = time.Second
)

// Confirming begins a round in which a majority confirms that this is the primary, for a reply whose value was captured
// before. The reply must wait until Confirmed has reached what it returns, 0 if it need not; Machine.Settled tells of
// it. Rounds don't overlap: while one is under way, all who ask wait for the next, together. The group must be serving.
func (g *Group[S]) Confirming(b *Batch[S]) (round uint64) {
	if g.solo {
		g.Readable(time.Time{}, b) // for the journal
		return 0
	}
	if g.st.Round() > g.st.ConfirmedRound() {
		g.again = true
		return g.st.Round() + 1
	}
	g.asked[(g.st.Round()+1)%askedRounds] = time.Now()
	g.ev = Event{Kind: Confirm}
	g.step(b)
	if round = g.st.Round(); round <= g.st.ConfirmedRound() {
		return 0
	}
	return round
}

// Confirmed returns the newest round that a majority has answered in this term.
func (g *Group[S]) Confirmed() uint64 { return g.st.ConfirmedRound() }

// nextRound begins the round that replies wait for, when the one before is confirmed.
func (g *Group[S]) nextRound(b *Batch[S]) {
	if !g.again || g.st.Round() > g.st.ConfirmedRound() {
		return
	}
	g.again = false
	g.asked[(g.st.Round()+1)%askedRounds] = time.Now()
	g.ev = Event{Kind: Confirm}
	g.after(b)
}

// WantStale says that a client would be answered from replicas. From then on, and for ten seconds, this node asks its
// primaries how old its content is. It returns false if replicas answer nothing.
func (d *Driver[S]) WantStale(now time.Time) bool {
	if d.opt.MaxStaleness <= 0 {
		return false
	}
	stamp := int64(now.Sub(d.start)) + 1
	if old := d.wanted.Load(); old == 0 || stamp-old > int64(time.Second) { // readers on all processors come by here
		d.wanted.Store(stamp)
	}
	return true
}

// StaleWanted tells that WantStale was called in the last ten seconds, and that replicas may answer at all.
func (d *Driver[S]) StaleWanted(now time.Time) bool {
	wanted := d.wanted.Load()
	return d.opt.MaxStaleness > 0 && wanted != 0 && now.Sub(d.start)-time.Duration(wanted) < readAgain
}

// Stale tells that this replica, primary or not, may answer a read from memory whose newest record was seq: all that it
// saw is committed, and it lacks nothing that was acknowledged longer than Options.MaxStaleness before now. Ask after the
// value was read.
func (g *Group[S]) Stale(seq uint64, now time.Time) bool {
	if g.d.opt.MaxStaleness <= 0 || !g.st.Readable(seq) {
		return false
	}
	as := g.sure
	if stamp := g.st.FreshAt(); stamp > 0 {
		if t := g.d.start.Add(time.Duration(stamp - 1)); t.After(as) {
			as = t
		}
	}
	return !as.IsZero() && now.Sub(as) <= g.d.opt.MaxStaleness
}

// askAge asks the primaries how old this node's content is, while somebody reads it; of what this node is primary of, it
// asks a majority.
func (d *Driver[S]) askAge(now time.Time, b *Batch[S]) {
	every := min(max(d.opt.MaxStaleness/5, askSoonest), askLatest)
	if !d.StaleWanted(now) {
		return
	}
	d.mu.Lock()
	due := now.Sub(d.ageAsked) >= every
	if due {
		d.ageAsked = now
	}
	d.mu.Unlock()
	if !due {
		return
	}
	questions := map[string][]byte{}
	for i := range d.groups {
		g := &d.groups[i]
		g.Lock()
		switch leader := g.st.Leader(); {
		case g.st.Role() == Follower && leader != "":
			questions[leader] = binary.LittleEndian.AppendUint16(questions[leader], g.ID)
		case g.serving && !g.solo && now.Sub(g.sure) >= every:
			g.confirm(now, b) // so that it knows its own age should it be cut off
		}
		g.Unlock()
	}
	for leader, groups := range questions {
		d.mu.Lock()
		s, ok := d.inbound[leader]
		d.mu.Unlock()
		if !ok {
			continue
		}
		if buf, ok := s.Begin(frameAsk); ok {
			buf = binary.LittleEndian.AppendUint64(buf, uint64(now.Sub(d.start))+1)
			s.End(append(buf, groups...))
			b.dirty(s)
		}
	}
}

// onAsk answers for each group whose primary this is, now or when a majority has confirmed that.
func (r *Receiver[S]) onAsk(body []byte) error {
	if len(body) < 8 || len(body)%2 != 0 {
		return errFrame
	}
	stamp := binary.LittleEndian.Uint64(body)
	for groups := body[8:]; len(groups) > 0; groups = groups[2:] {
		id := binary.LittleEndian.Uint16(groups)
		if int(id) >= len(r.d.groups) {
			return errFrame
		}
		g := &r.d.groups[id]
		g.Lock()
		g.answerAge(r.peer, stamp, &r.batch)
		g.Unlock()
	}
	return nil
}

func (g *Group[S]) answerAge(peer string, stamp uint64, b *Batch[S]) {
	if !g.serving {
		return
	}
	now := time.Now()
	g.ev = Event{Kind: Asked, From: peer, Stamp: stamp, Sure: !g.d.opt.NoLease && g.leaseUntil.After(now)}
	if g.d.opt.Acks == AcksOne {
		g.ev.Last = g.st.Head().Seq
	}
	g.asked[(g.st.Round()+1)%askedRounds] = now
	g.step(b)
}

func (g *Group[S]) sendTold(a *Action, b *Batch[S]) {
	s, ok := g.stream(a.To)
	if !ok {
		return
	}
	buf, ok := s.Begin(frameTold)
	if !ok {
		return
	}
	buf = binary.LittleEndian.AppendUint16(buf, g.ID)
	buf = binary.LittleEndian.AppendUint64(buf, a.Stamp)
	s.End(binary.LittleEndian.AppendUint64(buf, a.Seq))
	b.dirty(s)
}

// onTold keeps an answer. It came over the connection that the question left by, so it is of this process.
func (r *Receiver[S]) onTold(g *Group[S], body []byte) error {
	if len(body) != toldSize {
		return errFrame
	}
	stamp := binary.LittleEndian.Uint64(body[2:])
	if stamp == 0 || stamp > uint64(time.Since(r.d.start))+1 {
		return errFrame // this node has not asked that yet
	}
	g.Lock()
	defer g.Unlock()
	g.ev = Event{Kind: Told, From: r.peer, Stamp: stamp, Seq: binary.LittleEndian.Uint64(body[10:])}
	g.step(&r.batch)
	return nil
}

// Leased tells that this is the primary, that it serves and that its lease holds, so that it can answer with the newest.
func (g *Group[S]) Leased(now time.Time) bool {
	return g.Serving() && (g.solo || !g.d.opt.NoLease && g.leaseUntil.After(now))
}
