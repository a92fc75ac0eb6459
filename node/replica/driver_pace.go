package replica

import (
	"encoding/binary"
	"slices"
	"sync"
	"time"
)

// Content that moves must not be in the way of commands, and what it may take differs by orders of magnitude between a
// loaded small machine and an idle network of 25 Gbit/s. So nobody sets a rate. A node sends each peer one piece at a time,
// and the next one after the peer has answered and as long again has passed, times the peers that are being sent to: that
// leaves half of whatever is short, be it the network, the peer's processor or this one. Where answers come at once pieces
// grow, where they come late they shrink.
const (
	minPiece = chunkBytes
	maxPiece = 1 << 20
	// quickAnswer and slowAnswer are when pieces grow and shrink.
	quickAnswer = 2 * time.Millisecond
	slowAnswer  = 6 * time.Millisecond
	// maxPause bounds the pause after a piece: an answer that took long is mostly that of a node that was stopped.
	maxPause = 200 * time.Millisecond
	// answerWait is how long a piece is waited for in the middle of a snapshot: a replica that does not know its place
	// yet answers nothing.
	answerWait = 500 * time.Millisecond
	// pinBytes bounds the records that a group keeps while its content is sent, if that is not larger itself.
	pinBytes = 4 << 20
)

// transfer is a group's content on its way to one peer. It belongs to the group's lock, but for the content itself: that is encoded
// without the lock by the goroutine that calls Pace, and dropped by any.
type transfer[S Stream] struct {
	peer   string
	out    *outbound[S]
	group  uint16
	term   uint64 // as the core asked for it
	reign  uint64 // the term that it was taken in
	at     Position
	starts []TermStart
	begun  bool
	whole  bool  // in one piece
	bytes  int64 // of memory, which is about what will be sent

	chunks  [][]byte // encoded and not sent yet: of Pace's goroutine
	mu      sync.Mutex
	content Snapshot // nil once all of it is encoded, or dropped
}

// fill encodes as much as goes into a piece of room bytes.
func (t *transfer[S]) fill(room int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, c := range t.chunks {
		room -= len(c)
	}
	for t.content != nil && (t.whole || room > 0) {
		more := t.content.Next(func(effects []byte) {
			n := len(t.chunks) - 1
			if n < 0 || len(t.chunks[n])+len(effects) > chunkBytes {
				t.chunks = append(t.chunks, make([]byte, 0, max(chunkBytes, len(effects))))
				n++
			}
			t.chunks[n] = append(t.chunks[n], effects...)
			room -= len(effects)
		})
		if !more {
			t.content.Close()
			t.content = nil
		}
	}
}

// filling is a transfer and the size of its next piece.
type filling[S Stream] struct {
	t    *transfer[S]
	room int
}

// filled tells whether there is a piece to send, and whether it may be the last one.
func (t *transfer[S]) filled() (some, all bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all = t.content == nil
	return all || len(t.chunks) > 0, all
}

// close drops what was not encoded yet.
func (t *transfer[S]) close() {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.content != nil {
		t.content.Close()
		t.content = nil
	}
}

// pin keeps the records that come behind a snapshot while that is on its way.
func (g *Group[S]) pin(t *transfer[S]) {
	g.moving = append(g.moving, t)
	g.holdTail()
}

func (g *Group[S]) unpin(t *transfer[S]) {
	g.moving = slices.DeleteFunc(g.moving, func(x *transfer[S]) bool { return x == t })
	g.holdTail()
}

func (g *Group[S]) holdTail() {
	g.tail.keep, g.tail.most = 0, 0
	if g.bulk != nil && g.bulk.peer == g.st.Config().Learner { // learners are few at a time
		g.tail.keep, g.tail.most = g.bulk.next, pinBytes
	}
	for _, t := range g.moving {
		if next := t.at.Seq + 1; g.tail.keep == 0 || next < g.tail.keep {
			g.tail.keep = next
		}
		g.tail.most = max(g.tail.most, int(t.bytes), pinBytes)
	}
}

// sendPiece sends the next piece of a transfer, as far as fill has encoded it, unless the peer has not answered the one before, or
// it is not time yet. The caller holds the group's lock.
func (g *Group[S]) sendPiece(t *transfer[S], b *Batch[S]) {
	d := g.d
	now := d.opt.Now()
	some, all := t.filled()
	d.mu.Lock()
	out := t.out
	if !some || out.now != t || !out.asked.IsZero() || now.Before(out.due) {
		d.mu.Unlock()
		return
	}
	room := d.asks(out, g, now)
	d.mu.Unlock()
	n := 0
	for n < len(t.chunks) && (n == 0 || t.whole || room >= len(t.chunks[n])) {
		room -= len(t.chunks[n])
		n++
	}
	last := all && n == len(t.chunks)
	sent := g.writePiece(t, t.chunks[:n], last)
	if clear(t.chunks[:n]); sent {
		b.dirty(out.stream)
	}
	if t.chunks = t.chunks[n:]; sent && !last {
		return
	}
	t.close()
	d.mu.Lock()
	if out.now = nil; !sent { // nothing will come back for it
		out.sending, out.asked = max(out.sending-1, 0), time.Time{}
	}
	d.mu.Unlock()
	g.unpin(t)
	// More was written meanwhile than a group keeps: what was sent is of no use. The next one leaves at once.
	g.overrun = sent && g.tail.first > t.at.Seq+1 || g.overrun && t.peer == g.st.Config().Learner
	g.ev = Event{Kind: SnapshotFailed, Peer: t.peer, Term: t.term}
	if sent {
		g.ev = Event{Kind: SnapshotSent, Peer: t.peer, Term: t.term, At: t.at}
	}
	g.st.SetFloor(g.tail.first)
	g.after(b)
}

// writePiece puts a piece into the stream: of one snapshot at a time, from its offer to its end, whatever else is sent in
// between. The peer decides by itself whether it is too old.
func (g *Group[S]) writePiece(t *transfer[S], chunks [][]byte, last bool) bool {
	s := t.out.stream
	if !t.begun && !writeOffer(s, g.ID, t.reign, t.at, t.starts) {
		return false
	}
	t.begun = true
	for _, c := range chunks {
		buf, ok := s.Begin(frameChunk)
		if !ok {
			return false
		}
		s.EndPaced(append(binary.LittleEndian.AppendUint16(buf, g.ID), c...))
	}
	if !last {
		// An Append without records, which the peer answers when it has come so far.
		return g.sendOne(s, &Action{Term: t.reign, Head: t.at}, t.at, t.at.Seq+1, t.at.Seq)
	}
	return writeEnd(s, g.ID)
}

func writeOffer[S Stream](s S, group uint16, term uint64, at Position, starts []TermStart) bool {
	buf, ok := s.Begin(frameOffer)
	if !ok {
		return false
	}
	buf = binary.LittleEndian.AppendUint16(buf, group)
	for _, v := range [...]uint64{term, at.Term, at.Seq} {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(starts)))
	for _, r := range starts {
		buf = binary.LittleEndian.AppendUint64(buf, r.Term)
		buf = binary.LittleEndian.AppendUint64(buf, r.FirstSeq)
	}
	s.End(buf)
	return true
}

func writeEnd[S Stream](s S, group uint16) bool {
	buf, ok := s.Begin(frameEnd)
	if ok {
		s.End(binary.LittleEndian.AppendUint16(buf, group))
	}
	return ok
}

// callOff ends what is being sent to peers that have no place in the group any more, or that a former term began: they don't
// answer, or refuse it in the end. The caller holds the group's lock.
func (g *Group[S]) callOff(b *Batch[S]) {
	for _, t := range slices.Clone(g.moving) {
		if g.released || g.st.peer(t.peer) == nil || t.reign != g.st.Term() {
			g.abandon(t, b)
		}
	}
	if g.bulk == nil || g.st.peer(g.bulk.peer) != nil {
		return
	}
	g.d.mu.Lock()
	if out := g.d.peers[g.bulk.peer]; out != nil {
		out.forget(g.ID)
	}
	g.d.mu.Unlock()
	g.dropBulk()
	g.d.kick()
}

// abandon ends a transfer. If the peer has some of it, an offer of nothing takes its place there, which is refused at its end.
func (g *Group[S]) abandon(t *transfer[S], b *Batch[S]) {
	d, out := g.d, t.out
	d.mu.Lock()
	if out.now != t {
		d.mu.Unlock()
		return
	}
	out.now = nil
	out.forget(g.ID)
	d.mu.Unlock()
	g.unpin(t)
	t.close()
	if t.begun && writeOffer(out.stream, g.ID, t.reign, Position{}, nil) && writeEnd(out.stream, g.ID) {
		b.dirty(out.stream) // frameSnapshotDone comes back
	} else {
		d.mu.Lock()
		out.sending = max(out.sending-1, 0)
		d.mu.Unlock()
	}
	d.kick()
}

// forget waits no more for the answer to a piece of the group. Driver.mu is held.
func (out *outbound[S]) forget(group uint16) {
	out.bulk = slices.DeleteFunc(out.bulk, func(x uint16) bool { return x == group })
	if out.asker == group {
		out.asked = time.Time{}
	}
}

// asks notes that a piece of the group is sent, and returns its size. d.mu is held.
func (d *Driver[S]) asks(out *outbound[S], g *Group[S], now time.Time) int {
	out.asked, out.asker, g.awaited = now, g.ID, true
	return out.room(d.opt.Piece)
}

// room is how many bytes the next piece may have. Driver.mu is held.
func (out *outbound[S]) room(least int) int { return max(out.piece, least) }

// answered notes that the peer has taken the last piece, and from when on it may be sent another. d.mu is held.
func (d *Driver[S]) answered(out *outbound[S]) {
	if out.asked.IsZero() {
		return
	}
	now := d.opt.Now()
	took := now.Sub(out.asked)
	switch out.asked = (time.Time{}); {
	case took < quickAnswer:
		out.piece = min(max(2*out.piece, d.opt.Piece), maxPiece)
	case took > slowAnswer:
		out.piece = out.piece / 2
	}
	peers := 1
	for _, o := range d.peers {
		if o != out && (o.sending > 0 || len(o.bulk) > 0) {
			peers++
		}
	}
	out.due = now.Add(min(took*time.Duration(peers), maxPause))
	d.kick()
}

// pieceAnswered is told of acks for a group of which a piece is under way.
func (g *Group[S]) pieceAnswered(peer string, s S) {
	g.d.mu.Lock()
	defer g.d.mu.Unlock()
	if out := g.d.peers[peer]; out != nil && out.stream == s && out.asker == g.ID && !out.asked.IsZero() {
		g.awaited = false
		g.d.answered(out)
	}
}

// kick says that Pace should be called.
func (d *Driver[S]) kick() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// Wake tells when Pace has something to do before the time that it named.
func (d *Driver[S]) Wake() <-chan struct{} { return d.wake }

// bulk is what a learner, or a replica that was away, lacks of a group whose tail still has all of it: records, which are sent in
// pieces, too. It belongs to the group's lock.
type bulk struct {
	peer       string
	next, last uint64 // not sent yet
	newest     Action // what the core wanted the peer to have last
}

// sendBulk takes what the core sends to a peer that nobody waits for, if it is much or comes behind what is much, and sends it
// piece by piece.
func (g *Group[S]) sendBulk(a *Action, b *Batch[S]) bool {
	x := g.bulk
	if x != nil && x.peer != a.To || x == nil && a.Last < a.First {
		return false
	}
	learner := a.To == g.st.Config().Learner
	paced := learner && !g.overrun || !learner && g.catchesUp(a)
	if x == nil {
		if !paced || !g.heavy(a.First, a.Last) {
			return false
		}
		g.bulk = &bulk{peer: a.To, next: a.First, last: a.Last, newest: *a}
		g.holdTail()
		g.queueBulk(a.To)
		g.nextBulk(b)
		return true
	}
	switch prev, known := g.st.TermAt(x.next - 1); {
	case !known:
		g.dropBulk()
		return false
	case a.Last < a.First && a.Prev.Seq < x.next:
		return false
	case a.Last < a.First: // as if it had been asked for behind what has left
		ask := *a
		ask.Prev = Position{Term: prev, Seq: x.next - 1}
		ask.First, ask.Last = x.next, x.next-1
		if s, ok := g.stream(a.To); ok && g.sendOne(s, &ask, ask.Prev, ask.First, ask.Last) {
			b.dirty(s)
		}
		return true
	case a.First <= x.next || a.First > x.last+1: // the core knows what the peer has
		x.next, x.last = a.First, a.Last
	default:
		x.last = max(x.last, a.Last)
	}
	if x.newest = *a; !paced {
		g.dropBulk()
		a.First, a.Last = x.next, x.last
		if term, known := g.st.TermAt(x.next - 1); known {
			a.Prev = Position{Term: term, Seq: x.next - 1}
		}
		return false
	}
	g.holdTail()
	return true
}

// catchesUp tells that a replica is sent what is committed without it, or goes on being sent that, while the others are enough to
// commit what is new. A node that comes back, after long or with an empty disk, lacks something of every group.
func (g *Group[S]) catchesUp(a *Action) bool {
	return g.d.opt.Acks != AcksAll && (g.bulk != nil || a.Last <= g.st.CommitSeq()) && g.st.Spare(a.To)
}

// heavy tells whether records are more than goes in one piece.
func (g *Group[S]) heavy(first, last uint64) bool {
	n := 0
	for seq := max(first, g.tail.first); seq <= last && seq < g.tail.next(); seq++ {
		_, data := g.tail.record(seq)
		if n += recordHeader + len(data); n > g.d.opt.Piece {
			return true
		}
	}
	return false
}

func (g *Group[S]) queueBulk(peer string) {
	d := g.d
	d.mu.Lock()
	if out := d.peers[peer]; out != nil && !slices.Contains(out.bulk, g.ID) {
		out.bulk = append(out.bulk, g.ID)
	}
	d.mu.Unlock()
	d.kick()
}

// dropBulk forgets what was not sent yet. The core learns from the peer's answers where to go on.
func (g *Group[S]) dropBulk() {
	if g.bulk != nil {
		g.bulk = nil
		g.holdTail()
	}
}

// nextBulk sends the next piece of the group's records, unless the peer has not answered the one before, or it is not time
// yet. The caller holds the group's lock.
func (g *Group[S]) nextBulk(b *Batch[S]) {
	x, d := g.bulk, g.d
	if x == nil {
		return
	}
	s, up := g.stream(x.peer)
	term, known := g.st.TermAt(x.next - 1)
	if !up || !known || g.st.Role() != Primary || x.next < g.tail.first {
		// If more was written meanwhile than a group keeps, no pause is made any more for this learner.
		g.overrun = g.overrun || x.next < g.tail.first && x.peer == g.st.Config().Learner
		g.dropBulk()
		return
	}
	now := d.opt.Now()
	d.mu.Lock()
	out := d.peers[x.peer]
	if out == nil || !out.asked.IsZero() || now.Before(out.due) {
		d.mu.Unlock()
		return
	}
	room := d.asks(out, g, now)
	d.mu.Unlock()
	last := x.next
	for _, data := g.tail.record(last); last < x.last && last+1 < g.tail.next(); last++ {
		room -= recordHeader + len(data)
		if _, data = g.tail.record(last + 1); room < len(data) {
			break
		}
	}
	if g.sendOne(s, &x.newest, Position{Term: term, Seq: x.next - 1}, x.next, last) {
		b.dirty(s)
	}
	if x.next = last + 1; x.next > x.last {
		g.bulk = nil
	}
	g.holdTail()
}

// Pace sends what may be sent of groups' contents, and returns after which time there will be more; 0: that will be told by
// Wake. Like Tick it is called by one goroutine; where nobody does, Tick does its work, more slowly.
func (d *Driver[S]) Pace(b *Batch[S]) (after time.Duration) {
	now := d.opt.Now()
	var due []uint16 // groups
	var free []string
	var fill []filling[S]
	d.mu.Lock()
	for peer, out := range d.peers {
		wait := out.due.Sub(now)
		waiting := len(out.queue) > 0 && out.sending < maxSnapshots
		switch {
		case out.now == nil && len(out.bulk) == 0 && !waiting:
			continue
		case !out.asked.IsZero():
			if wait = out.asked.Add(answerWait).Sub(now); wait <= 0 {
				d.answered(out)
				wait = out.due.Sub(now)
			}
		case wait <= 0 && len(out.bulk) > 0 && (out.now == nil || out.turn):
			// The first one in the queue: the last one, if it has more to send.
			due, out.bulk, out.turn = append(due, out.bulk[0]), append(out.bulk[1:], out.bulk[0]), false
			continue
		case wait <= 0 && out.now != nil:
			due, out.turn = append(due, out.now.group), true
			fill = append(fill, filling[S]{out.now, out.room(d.opt.Piece)})
			continue
		case wait <= 0:
			free = append(free, peer)
			continue
		}
		if after == 0 || wait < after {
			after = wait
		}
	}
	d.mu.Unlock()
	for _, f := range fill {
		f.t.fill(f.room)
	}
	slices.Sort(due)
	for _, id := range slices.Compact(due) {
		d.sendDue(&d.groups[id], b)
	}
	slices.Sort(free)
	for _, peer := range free {
		d.pump(peer, b)
	}
	return max(after, 0)
}

// sendDue sends the group's next pieces, to whom it is time for.
func (d *Driver[S]) sendDue(g *Group[S], b *Batch[S]) {
	g.Lock()
	defer g.Unlock()
	peer := ""
	if g.bulk != nil {
		peer = g.bulk.peer
		g.nextBulk(b)
	}
	for _, t := range slices.Clone(g.moving) {
		g.sendPiece(t, b)
	}
	if g.bulk != nil {
		return
	}
	d.mu.Lock()
	for id, out := range d.peers {
		n := len(out.bulk)
		if out.bulk = slices.DeleteFunc(out.bulk, func(x uint16) bool { return x == g.ID }); len(out.bulk) < n && id != peer {
			d.kick() // it was this one's turn for nothing
		}
	}
	d.mu.Unlock()
}
