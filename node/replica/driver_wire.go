package replica

import (
	"encoding/binary"
	"errors"
	"fmt"

	"hypercache/node/journal"
)

// The frames of a replica stream. Integers are little-endian. The side that dialed sends frameAppend and the snapshot
// frames, the other one frameAck and frameSnapshotDone.
const (
	frameAppend       = 1 // appendHeader, runs, records
	frameAck          = 2 // ackSize bytes
	frameOffer        = 3 // group, term, position, starts
	frameChunk        = 4 // group, effects
	frameEnd          = 5 // group
	frameSnapshotDone = 6 // group
	// frameAsk and frameTold are in driver_reads.go.
)

const (
	appendHeader = 2 + 9*8 + 2
	recordHeader = 1 + 4
	ackSize      = 2 + 6*8 + 1

	// sendBytes splits what one follower lacks into frames, so that nothing else waits long behind it.
	sendBytes = 1 << 20
)

var errFrame = errors.New("malformed replica frame")

// send puts the records that the core wants a follower to have into its stream, in frames of about sendBytes.
func (g *Group[S]) send(a *Action, b *Batch[S]) {
	s, ok := g.stream(a.To)
	if !ok || g.sendBulk(a, b) {
		return
	}
	prev, from := a.Prev, a.First
	for {
		last, size := from-1, 0
		for last < a.Last && last+1 >= g.tail.first && last+1 < g.tail.next() && (size == 0 || size < sendBytes) {
			_, data := g.tail.record(last + 1)
			size += len(data)
			last++
		}
		if !g.sendOne(s, a, prev, from, last) {
			return
		}
		b.dirty(s)
		if last >= a.Last || last < from {
			return
		}
		term, ok := g.st.TermAt(last)
		if !ok {
			return // the core probes again
		}
		prev, from = Position{Term: term, Seq: last}, last+1
	}
}

func (g *Group[S]) sendOne(s S, a *Action, prev Position, first, last uint64) bool {
	g.runs = g.runs[:0]
	if last >= first {
		g.runs = g.st.Runs(first, last, g.runs)
	}
	buf, ok := s.Begin(frameAppend)
	if !ok {
		return false
	}
	buf = binary.LittleEndian.AppendUint16(buf, g.ID)
	for _, v := range [...]uint64{a.Term, prev.Term, prev.Seq, last, a.Commit, a.Head.Term, a.Head.Seq, a.Echo, a.Round} {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	buf = binary.LittleEndian.AppendUint16(buf, uint16(len(g.runs)))
	for _, r := range g.runs {
		buf = binary.LittleEndian.AppendUint64(buf, r.Term)
		buf = binary.LittleEndian.AppendUint64(buf, r.FirstSeq)
	}
	for seq := first; seq <= last; seq++ {
		kind, data := g.tail.record(seq)
		buf = append(buf, byte(kind))
		buf = binary.LittleEndian.AppendUint32(buf, uint32(len(data)))
		buf = append(buf, data...)
	}
	s.End(buf)
	return true
}

// stream is where the core's PeerUp for the peer said that an ordered stream stands.
func (g *Group[S]) stream(peer string) (s S, ok bool) {
	for i := range g.links {
		if l := &g.links[i]; l.peer == peer {
			return l.stream, l.up
		}
	}
	return s, false
}

func (g *Group[S]) ack(a *Action, b *Batch[S]) {
	if a.Round > 0 {
		g.granted = g.d.opt.Now() // a refused record's answer confirms the primary, too
	}
	g.d.mu.Lock()
	s, ok := g.d.inbound[a.To]
	g.d.mu.Unlock()
	if !ok {
		return
	}
	if a.Term > g.durable.Load() {
		h := heldAck[S]{s: s}
		appendAck(h.body[:0], g.ID, a)
		b.held = append(b.held, h)
		b.promise(g.ID, a.Term)
		return
	}
	buf, ok := s.Begin(frameAck)
	if !ok {
		return
	}
	s.End(appendAck(buf, g.ID, a))
	b.dirty(s)
}

func appendAck(buf []byte, group uint16, a *Action) []byte {
	buf = binary.LittleEndian.AppendUint16(buf, group)
	for _, v := range [...]uint64{a.Term, a.Head.Term, a.Head.Seq, a.Stored, a.Round, a.Incarnation} {
		buf = binary.LittleEndian.AppendUint64(buf, v)
	}
	var flags byte
	if a.Rejected {
		flags |= 1
	}
	if a.Voter {
		flags |= 2
	}
	if a.Installing {
		flags |= 4
	}
	return append(buf, flags)
}

// Receiver takes the frames of one replica stream. It is used by the stream's reader alone.
type Receiver[S Stream] struct {
	d       *Driver[S]
	peer    string
	s       S
	batch   Batch[S]
	recs    []received
	runs    []TermStart
	offered map[uint16]*incoming
}

type received struct {
	kind journal.Kind
	data []byte
}

// incoming is a snapshot on its way here. It is installed when it is complete, so that an interrupted one costs
// nothing; its bytes are bounded by one group's share of the sender's memory.
type incoming struct {
	term   uint64
	at     Position
	starts []TermStart
	chunks [][]byte
}

// Frame handles one frame. An error means that the other side does not speak this protocol: close the stream.
func (r *Receiver[S]) Frame(typ byte, body []byte) error {
	if typ == frameAsk {
		return r.onAsk(body)
	}
	if len(body) < 2 {
		return errFrame
	}
	id := binary.LittleEndian.Uint16(body)
	if int(id) >= len(r.d.groups) {
		return fmt.Errorf("%w: group %d", errFrame, id)
	}
	g := &r.d.groups[id]
	switch typ {
	case frameAppend:
		return r.onAppend(g, body)
	case frameAck:
		return r.onAck(g, body)
	case frameOffer:
		return r.onOffer(g, body)
	case frameChunk:
		if in := r.offered[id]; in != nil {
			in.chunks = append(in.chunks, append([]byte(nil), body[2:]...))
		}
		return nil
	case frameEnd:
		return r.onEnd(g)
	case frameTold:
		return r.onTold(g, body)
	case frameSnapshotDone:
		r.d.snapshotDone(r.peer, r.s)
		return nil
	}
	return fmt.Errorf("%w: type %d", errFrame, typ)
}

// BatchEnd makes durable what the frames brought and answers for it.
func (r *Receiver[S]) BatchEnd() { _ = r.d.EndBatch(&r.batch) }

func (r *Receiver[S]) onAppend(g *Group[S], body []byte) error {
	if len(body) < appendHeader {
		return errFrame
	}
	var v [9]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(body[2+8*i:])
	}
	n := int(binary.LittleEndian.Uint16(body[appendHeader-2:]))
	body = body[appendHeader:]
	if len(body) < 16*n {
		return errFrame
	}
	r.runs = readStarts(body, n, r.runs[:0])
	if err := r.readRecords(body[16*n:]); err != nil {
		return err
	}
	prev := Position{Term: v[1], Seq: v[2]}
	if uint64(len(r.recs)) != v[3]-prev.Seq {
		return fmt.Errorf("%w: %d records for %d positions", errFrame, len(r.recs), v[3]-prev.Seq)
	}
	if !sound(r.runs, prev, v[3], v[0]) {
		return fmt.Errorf("%w: terms of records %d to %d", errFrame, prev.Seq+1, v[3])
	}
	g.Lock()
	defer g.Unlock()
	if g.released {
		return nil // the primary asks again
	}
	if r.d.full.Load() && (len(r.recs) > 0 || g.st.Hollow() || prev != g.st.Head()) {
		return nil // it asks again: what the disk does not take must not pile up in memory, and no snapshot would be of use
	}
	g.ev = Event{
		Kind: Append, From: r.peer, Term: v[0], Prev: prev, Last: v[3], Commit: v[4],
		Head: Position{Term: v[5], Seq: v[6]}, Echo: v[7], Round: v[8], Runs: r.runs,
	}
	g.acts = g.st.Step(&g.ev, g.acts[:0])
	for i := range g.acts {
		if a := &g.acts[i]; a.Kind == AppendLocal {
			if err := r.appendLocal(g, a, prev.Seq); err != nil {
				// The content is neither here nor there. As an empty replica it gets a whole one.
				cfg := g.st.Config()
				g.clear(&r.batch)
				g.ev = Event{Kind: Configure, Config: cfg}
				g.step(&r.batch)
				return err
			}
		}
	}
	g.carryOut(&r.batch)
	return nil
}

// sound checks that runs give every record from prev's successor to last a term, none older than the one before it
// and none newer than term.
func sound(runs []TermStart, prev Position, last, term uint64) bool {
	if last == prev.Seq {
		return len(runs) == 0
	}
	for i, r := range runs {
		if i == 0 && r.FirstSeq != prev.Seq+1 || i > 0 && (r.FirstSeq <= runs[i-1].FirstSeq || r.Term <= runs[i-1].Term) {
			return false
		}
		if r.FirstSeq > last || r.Term < prev.Term || r.Term > term {
			return false
		}
	}
	return len(runs) > 0
}

func readStarts(b []byte, n int, dst []TermStart) []TermStart {
	for i := range n {
		dst = append(dst, TermStart{
			Term: binary.LittleEndian.Uint64(b[16*i:]), FirstSeq: binary.LittleEndian.Uint64(b[16*i+8:]),
		})
	}
	return dst
}

func (r *Receiver[S]) readRecords(b []byte) error {
	r.recs = r.recs[:0]
	for len(b) > 0 {
		if len(b) < recordHeader {
			return errFrame
		}
		n := int(binary.LittleEndian.Uint32(b[1:]))
		if len(b)-recordHeader < n {
			return errFrame
		}
		if k := journal.Kind(b[0]); k != journal.Effects && (k != journal.Noop || n > 0) {
			return fmt.Errorf("%w: record of kind %d", errFrame, k)
		}
		r.recs = append(r.recs, received{kind: journal.Kind(b[0]), data: b[recordHeader : recordHeader+n]})
		b = b[recordHeader+n:]
	}
	return nil
}

// appendLocal journals and applies the records that the core accepted.
func (r *Receiver[S]) appendLocal(g *Group[S], a *Action, prev uint64) error {
	for seq := a.First; seq <= a.Last; seq++ {
		rec := r.recs[seq-prev-1]
		term, _ := g.st.TermAt(seq)
		g.tail.append(seq, rec.kind, rec.data)
		g.record(journal.Record{Group: g.ID, Kind: rec.kind, Term: term, Seq: seq, Data: rec.data}, &r.batch)
		if rec.kind != journal.Effects {
			continue
		}
		if err := r.d.opt.Machine.Apply(g.ID, rec.data); err != nil {
			return fmt.Errorf("apply record %d of term %d in group %d: %w", seq, term, g.ID, err)
		}
	}
	g.st.SetFloor(g.tail.first)
	return nil
}

func (r *Receiver[S]) onAck(g *Group[S], body []byte) error {
	if len(body) != ackSize {
		return errFrame
	}
	var v [6]uint64
	for i := range v {
		v[i] = binary.LittleEndian.Uint64(body[2+8*i:])
	}
	flags := body[ackSize-1]
	g.Lock()
	defer g.Unlock()
	if g.awaited {
		g.pieceAnswered(r.peer, r.s)
	}
	g.st.SetFloor(g.tail.first)
	g.ev = Event{
		Kind: AppendAck, From: r.peer, Term: v[0], Head: Position{Term: v[1], Seq: v[2]}, Stored: v[3], Round: v[4],
		Incarnation: v[5], Rejected: flags&1 != 0, Voter: flags&2 != 0, Installing: flags&4 != 0,
	}
	g.step(&r.batch)
	if r.d.opt.Acks == AcksAll {
		r.d.opt.Machine.Settled(g.ID, g.settledSeq())
	}
	return nil
}
