package replica

import (
	"encoding/binary"
	"fmt"
	"slices"

	"hypercache/node/journal"
)

const (
	// maxSnapshots bounds the groups whose content is on its way to one peer, and so the memory that takes.
	maxSnapshots = 2
	chunkBytes   = 256 << 10
	// maxOffered is how many snapshots a replica keeps that are not complete. Other versions may send more at a time.
	maxOffered = 16
)

// queueSnapshot sends the group's content to the peer now, or when the ones before it have arrived. The caller holds
// the group's lock.
func (d *Driver[S]) queueSnapshot(g *Group[S], peer string, term uint64, b *Batch[S]) {
	d.mu.Lock()
	out := d.peers[peer]
	if out == nil || !out.up {
		d.mu.Unlock()
		g.ev = Event{Kind: SnapshotFailed, Peer: peer, Term: term}
		g.after(b)
		return
	}
	if out.sending >= maxSnapshots {
		out.queue = slices.DeleteFunc(out.queue, func(q queued) bool { return q.group == g.ID })
		out.queue = append(out.queue, queued{g.ID, term})
		d.mu.Unlock()
		return
	}
	out.sending++
	d.mu.Unlock()
	g.sendSnapshot(peer, term, b)
}

// after runs the event in g.ev from within carryOut, whose actions are still being walked.
func (g *Group[S]) after(b *Batch[S]) {
	saved := g.acts
	g.acts = nil
	g.step(b)
	g.acts = saved
}

func (g *Group[S]) sendSnapshot(peer string, term uint64, b *Batch[S]) {
	at := g.st.Head()
	sent := g.writeSnapshot(peer, at, b)
	if !sent {
		g.d.mu.Lock()
		if out := g.d.peers[peer]; out != nil { // nothing will come back for it
			out.sending = max(out.sending-1, 0)
		}
		g.d.mu.Unlock()
	}
	g.ev = Event{Kind: SnapshotFailed, Peer: peer, Term: term}
	if sent {
		g.ev = Event{Kind: SnapshotSent, Peer: peer, Term: term, At: at}
		// From here on the follower is fed from the tail, which begins after what the snapshot holds.
		if g.tail.next() != at.Seq+1 {
			g.tail.reset(at.Seq + 1)
		}
	}
	g.st.SetFloor(g.tail.first)
	g.after(b)
}

func (g *Group[S]) writeSnapshot(peer string, at Position, b *Batch[S]) bool {
	s, ok := g.stream(peer)
	if !ok {
		return false
	}
	buf, ok := s.Begin(frameOffer)
	if !ok {
		return false
	}
	starts := g.st.Starts(at.Seq, nil)
	buf = binary.LittleEndian.AppendUint16(buf, g.ID)
	for _, v := range [...]uint64{g.st.Term(), at.Term, at.Seq} {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(starts)))
	for _, t := range starts {
		buf = binary.LittleEndian.AppendUint64(buf, t.Term)
		buf = binary.LittleEndian.AppendUint64(buf, t.FirstSeq)
	}
	s.End(buf)
	ok = true
	chunk := binary.LittleEndian.AppendUint16(make([]byte, 0, chunkBytes), g.ID)
	flush := func() {
		if len(chunk) > 2 && ok {
			if buf, ok = s.Begin(frameChunk); ok {
				s.EndPaced(append(buf, chunk...))
			}
		}
		chunk = chunk[:2]
	}
	g.d.opt.Machine.Snapshot(g.ID, func(effects []byte) {
		if len(chunk)+len(effects) > chunkBytes {
			flush()
		}
		chunk = append(chunk, effects...)
	})
	flush()
	if !ok {
		return false
	}
	if buf, ok = s.Begin(frameEnd); ok {
		s.End(binary.LittleEndian.AppendUint16(buf, g.ID))
		b.dirty(s)
	}
	return ok
}

// snapshotDone notes that the peer behind s has taken a snapshot, and sends the next content that waits.
func (d *Driver[S]) snapshotDone(peer string, s S, b *Batch[S]) {
	d.mu.Lock()
	if out := d.peers[peer]; out != nil && out.stream == s {
		out.sending = max(out.sending-1, 0)
	}
	d.mu.Unlock()
	d.pump(peer, b)
}

// pump sends what waits for the peer as far as the bound on snapshots under way allows.
func (d *Driver[S]) pump(peer string, b *Batch[S]) {
	for {
		d.mu.Lock()
		out := d.peers[peer]
		if out == nil || out.sending >= maxSnapshots || len(out.queue) == 0 {
			d.mu.Unlock()
			return
		}
		q := out.queue[0]
		out.queue = out.queue[1:]
		out.sending++
		d.mu.Unlock()
		g := &d.groups[q.group]
		g.Lock()
		current := g.st.Role() == Primary && g.st.Term() == q.term
		if current {
			g.sendSnapshot(peer, q.term, b)
		}
		g.Unlock()
		if !current { // its turn goes to the next one
			d.mu.Lock()
			out.sending = max(out.sending-1, 0)
			d.mu.Unlock()
		}
	}
}

// pumpAll goes on with every queue that a snapshot which could not be sent has left standing.
func (d *Driver[S]) pumpAll(b *Batch[S]) {
	d.mu.Lock()
	var waiting []string
	for peer, out := range d.peers {
		if len(out.queue) > 0 && out.sending < maxSnapshots {
			waiting = append(waiting, peer)
		}
	}
	d.mu.Unlock()
	slices.Sort(waiting)
	for _, peer := range waiting {
		d.pump(peer, b)
	}
}

// unqueue tells the groups whose content waited for a stream that has ended that it will not be sent over it.
func (d *Driver[S]) unqueue(peer string, out *outbound[S], b *Batch[S]) {
	if out == nil {
		return
	}
	d.mu.Lock()
	list := out.queue
	out.queue = nil
	d.mu.Unlock()
	for _, q := range list {
		g := &d.groups[q.group]
		g.Lock()
		g.ev = Event{Kind: SnapshotFailed, Peer: peer, Term: q.term}
		g.step(b)
		g.Unlock()
	}
}

func (r *Receiver[S]) onOffer(g *Group[S], body []byte) error {
	const fixed = 2 + 3*8 + 2
	if len(body) < fixed {
		return errFrame
	}
	n := int(binary.LittleEndian.Uint16(body[fixed-2:]))
	if len(body) != fixed+16*n {
		return errFrame
	}
	if r.offered == nil {
		r.offered = map[uint16]*incoming{}
	}
	if r.offered[g.ID] == nil && len(r.offered) >= maxOffered {
		return fmt.Errorf("%w: more than %d snapshots at once", errFrame, maxOffered)
	}
	r.offered[g.ID] = &incoming{
		term:   binary.LittleEndian.Uint64(body[2:]),
		at:     Position{Term: binary.LittleEndian.Uint64(body[10:]), Seq: binary.LittleEndian.Uint64(body[18:])},
		starts: readStarts(body[fixed:], n, nil),
	}
	return nil
}

// onEnd offers the complete snapshot to the core and installs it at once if it is wanted.
func (r *Receiver[S]) onEnd(g *Group[S]) error {
	in := r.offered[g.ID]
	delete(r.offered, g.ID)
	if in == nil {
		return errFrame
	}
	g.Lock()
	defer g.Unlock()
	g.acts = g.acts[:0]
	if !g.released {
		g.ev = Event{Kind: SnapshotOffered, From: r.peer, Term: in.term, At: in.at}
		g.acts = g.st.Step(&g.ev, g.acts)
	}
	install := slices.ContainsFunc(g.acts, func(a Action) bool { return a.Kind == InstallSnapshot })
	g.carryOut(&r.batch)
	if install {
		if err := r.install(g, in); err != nil {
			return err
		}
	}
	if buf, ok := r.s.Begin(frameSnapshotDone); ok {
		r.s.End(binary.LittleEndian.AppendUint16(buf, g.ID))
		r.batch.dirty(r.s)
	}
	return nil
}

// install replaces the group's content. The journal brackets it, so that a crash in the middle leaves a group that
// knows that it is incomplete.
func (r *Receiver[S]) install(g *Group[S], in *incoming) error {
	m := r.d.opt.Machine
	m.Lost(g.ID)
	g.record(journal.Record{Group: g.ID, Kind: journal.SyncBegin, Term: in.at.Term, Seq: in.at.Seq}, &r.batch)
	data := func(effects []byte) {
		g.record(journal.Record{Group: g.ID, Kind: journal.Effects, Term: in.at.Term, Seq: in.at.Seq, Data: effects}, &r.batch)
	}
	m.Clear(g.ID, data)
	for _, c := range in.chunks {
		data(c)
		if err := m.Apply(g.ID, c); err != nil {
			g.ev = Event{Kind: SnapshotAborted}
			g.step(&r.batch)
			return err
		}
	}
	g.record(journal.Record{Group: g.ID, Kind: journal.SyncEnd, Term: in.at.Term, Seq: in.at.Seq}, &r.batch)
	g.tail.reset(in.at.Seq + 1)
	g.st.SetFloor(g.tail.first)
	if r.d.opt.Journal != nil {
		if err := r.d.commit(r.batch.pos); err != nil {
			g.ev = Event{Kind: SnapshotAborted}
			g.step(&r.batch)
			return err
		}
	}
	g.ev = Event{Kind: SnapshotInstalled, Term: in.term, At: in.at, Starts: in.starts}
	g.step(&r.batch)
	return nil
}
