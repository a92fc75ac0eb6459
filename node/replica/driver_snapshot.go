package replica

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"hypercache/node/journal"
)

const (
	// maxSnapshots bounds the groups whose content is on its way to one peer, and so the memory that takes.
	maxSnapshots = 1
	// chunkBytes is small enough that what is not part of a snapshot never waits long behind a piece of one.
	chunkBytes = 16 << 10
	// maxOffered is how many snapshots a replica keeps that are not complete. Other versions may send more at a time.
	maxOffered = 16
)

// queueSnapshot has Pace send the group's content to the peer, after what already waits. The caller holds the group's lock.
func (d *Driver[S]) queueSnapshot(g *Group[S], peer string, term uint64, b *Batch[S]) {
	d.mu.Lock()
	out := d.peers[peer]
	if out == nil || !out.up {
		d.mu.Unlock()
		g.ev = Event{Kind: SnapshotFailed, Peer: peer, Term: term}
		g.after(b)
		return
	}
	out.queue = slices.DeleteFunc(out.queue, func(q queued) bool { return q.group == g.ID })
	out.queue = append(out.queue, queued{g.ID, term})
	d.mu.Unlock()
	d.kick()
}

// after runs the event in g.ev from within carryOut, whose actions are still being walked.
func (g *Group[S]) after(b *Batch[S]) {
	saved := g.acts
	g.acts = nil
	g.step(b)
	g.acts = saved
}

// take copies the group's content as it is now, and makes it what the peer is sent. The caller holds the group's lock. It returns nil
// where that is not wanted any more.
func (g *Group[S]) take(peer string, out *outbound[S], term uint64, content Snapshot) *transfer[S] {
	if g.st.Role() != Primary || g.st.Term() != term {
		return nil
	}
	content.Take()
	t := &transfer[S]{peer: peer, out: out, group: g.ID, term: term, at: g.st.Head(), reign: g.st.Term(), whole: g.overrun, content: content}
	t.starts = g.st.Starts(t.at.Seq, nil)
	t.bytes = content.Size()
	// From the end of the snapshot on the follower is fed from the tail, which must begin after what the snapshot holds.
	if g.tail.next() != t.at.Seq+1 {
		g.tail.reset(t.at.Seq + 1)
	}
	g.pin(t)
	g.d.mu.Lock()
	out.now = t
	g.d.mu.Unlock()
	return t
}

// snapshotDone notes that the peer behind s has taken a snapshot.
func (d *Driver[S]) snapshotDone(peer string, s S) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if out := d.peers[peer]; out != nil && out.stream == s {
		out.sending = max(out.sending-1, 0)
		d.answered(out)
	}
}

// pump begins to send what waits for the peer, as far as the bound on snapshots under way allows.
func (d *Driver[S]) pump(peer string, b *Batch[S]) {
	for {
		d.mu.Lock()
		out := d.peers[peer]
		if out == nil || out.sending >= maxSnapshots || len(out.queue) == 0 || d.opt.Now().Before(out.due) {
			d.mu.Unlock()
			return
		}
		q := out.queue[0]
		out.queue = out.queue[1:]
		out.sending++
		room := out.room(d.opt.Piece)
		d.mu.Unlock()
		g := &d.groups[q.group]
		content := d.opt.Machine.Snapshot(q.group)
		g.Lock()
		content.Size()
		g.Unlock()
		content.Fit()
		g.Lock()
		t := g.take(peer, out, q.term, content)
		g.Unlock()
		if t == nil { // its turn goes to the next one
			content.Close()
			d.mu.Lock()
			out.sending = max(out.sending-1, 0)
			d.mu.Unlock()
			continue
		}
		t.fill(room)
		g.Lock()
		g.sendPiece(t, b)
		g.Unlock()
	}
}

// unqueue tells the groups whose content waited for a stream that has ended that it will not be sent over it.
func (d *Driver[S]) unqueue(peer string, out *outbound[S], b *Batch[S]) {
	if out == nil {
		return
	}
	d.mu.Lock()
	list, t := out.queue, out.now
	out.queue, out.now = nil, nil
	d.mu.Unlock()
	if t != nil {
		list = append(list, queued{t.group, t.term})
	}
	for _, q := range list {
		g := &d.groups[q.group]
		g.Lock()
		if t != nil && t.group == q.group {
			g.unpin(t)
		}
		g.ev = Event{Kind: SnapshotFailed, Peer: peer, Term: q.term}
		g.step(b)
		g.Unlock()
	}
	if t != nil {
		t.close()
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
	if !g.released && !r.d.full.Load() {
		g.ev = Event{Kind: SnapshotOffered, From: r.peer, Term: in.term, At: in.at}
		g.acts = g.st.Step(&g.ev, g.acts)
	}
	install := slices.ContainsFunc(g.acts, func(a Action) bool { return a.Kind == InstallSnapshot })
	g.carryOut(&r.batch)
	if install {
		if err := r.install(g, in); err != nil && !errors.Is(err, journal.ErrDiskFull) {
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
// knows that it is incomplete. The caller holds the group's lock, which is given up now and then, and while the disk works: until the
// end is told the core takes nothing for the group, and nobody can read it.
func (r *Receiver[S]) install(g *Group[S], in *incoming) error {
	m, st := r.d.opt.Machine, g.st
	pause := func(work func() error) (on bool, err error) {
		g.Unlock()
		err = work()
		g.Lock()
		return g.st == st && st.Installing(), err // else the group was given up meanwhile
	}
	m.Lost(g.ID)
	g.record(journal.Record{Group: g.ID, Kind: journal.SyncBegin, Term: in.at.Term, Seq: in.at.Seq}, &r.batch)
	data := func(effects []byte) {
		g.record(journal.Record{Group: g.ID, Kind: journal.Effects, Term: in.at.Term, Seq: in.at.Seq, Data: effects}, &r.batch)
	}
	m.Clear(g.ID, data)
	abort := func(err error) error {
		g.ev = Event{Kind: SnapshotAborted}
		g.step(&r.batch)
		return err
	}
	for _, c := range in.chunks {
		data(c)
		if err := m.Apply(g.ID, c); err != nil {
			return abort(err)
		}
		if on, _ := pause(func() error { return nil }); !on {
			return nil
		}
	}
	if r.d.opt.Journal != nil {
		// The bulk of it first, so that the lock is held only while the end mark is written.
		if on, err := pause(func() error { return r.d.commit(r.batch.pos) }); !on {
			return err
		} else if err != nil {
			return abort(err)
		}
	}
	g.record(journal.Record{Group: g.ID, Kind: journal.SyncEnd, Term: in.at.Term, Seq: in.at.Seq}, &r.batch)
	g.tail.reset(in.at.Seq + 1)
	g.st.SetFloor(g.tail.first)
	if r.d.opt.Journal != nil {
		if err := r.d.commit(r.batch.pos); err != nil {
			return abort(err)
		}
	}
	g.ev = Event{Kind: SnapshotInstalled, Term: in.term, At: in.at, Starts: in.starts}
	g.step(&r.batch)
	return nil
}
