package sim

import (
	"hypercache/node/replica"
)

// node models the driver around one core: journal, content, waiting replies.
type node struct {
	w     *world
	name  string
	index int
	core  *replica.State
	alive bool
	life  uint64 // changes with every start, so that what an earlier one scheduled is void
	acts  []replica.Action

	log   []entry // content in memory; log[i].seq == i+1
	lists [keys][]uint32

	// What survives. written is in the page cache, synced on the disk.
	promised        uint64
	written, synced []entry
	damaged         bool // in the page cache: a snapshot was begun and not ended
	damagedSynced   bool
	voter           bool // the durable flag
	always          bool // fsync before Stored
	writing         bool
	queued          []journalWrite
	slow            int64
	pausedUntil     int64
	floor           uint64
	incoming        *snapshot
	incomingFrom    *node
	snapshots       uint64

	// As primary.
	proposal entry
	waiting  []*operation // writes, in order of seq
	reads    []*operation
	keySeq   [keys]uint64
	keyTerm  [keys]uint64
}

func newNode(w *world, i int) *node {
	return &node{w: w, index: i, name: string(rune('a' + i)), always: w.Chance(0.2)}
}

// start runs the node on what its disk holds.
func (n *node) start() {
	n.life++
	n.alive = true
	n.acts = nil
	n.waiting, n.reads, n.incoming = nil, nil, nil
	n.keySeq, n.keyTerm = [keys]uint64{}, [keys]uint64{}
	n.writing, n.queued = false, nil
	voter := n.voter
	if n.damaged {
		n.written, n.synced, voter, n.damaged, n.damagedSynced = nil, nil, false, false, false
	}
	n.voter = voter
	n.log = n.written[:len(n.written):len(n.written)]
	n.rebuild()
	r := replica.Restored{Promised: n.promised, Voter: voter, Incarnation: n.w.RNG.Uint64()}
	for _, e := range n.log {
		if e.term != r.Head.Term {
			r.Starts = append(r.Starts, replica.TermStart{Term: e.term, FirstSeq: e.seq})
		}
		r.Head = replica.Position{Term: e.term, Seq: e.seq}
	}
	if n.w.Chance(0.3) {
		r.Window = uint64(n.w.Between(20, 200))
	}
	n.core = replica.New(n.name, r)
	n.core.Break(n.w.opts.Rules)
	n.floor = 0 // the tail is in memory
	n.setFloor(uint64(len(n.log)) + 1 - uint64(n.w.RNG.IntN(len(n.log)+1)))
	n.w.check.started(n)
	n.w.Tracef("%s starts: promised %d head %v voter %v", n.name, n.promised, r.Head, voter)
	life := n.life
	n.w.After(n.w.Between(0, 50*millisecond), func() { n.tick(life) })
	n.w.After(n.w.Between(0, second), func() { n.fsync(life) })
}

// crash ends the process; with powerLoss the page cache goes too.
func (n *node) crash(powerLoss bool) {
	n.w.Tracef("%s crashes, power loss %v", n.name, powerLoss)
	n.alive = false
	n.life++
	for _, op := range n.waiting {
		n.w.load.unknown(op)
	}
	for _, op := range n.reads {
		n.w.load.failed(op)
	}
	n.waiting, n.reads = nil, nil
	if powerLoss {
		keep := len(n.synced)
		if extends(n.written, n.synced) && len(n.written) > keep {
			keep += n.w.RNG.IntN(len(n.written) - keep + 1)
			n.written = n.written[:keep:keep]
		} else {
			n.written = n.synced
		}
		n.synced = n.written
		n.damaged = n.damagedSynced
		if !n.always {
			n.voter = false
		}
	}
	n.w.net.crashed(n)
}

// extends says whether log starts with prefix; records of one identity at one place mean the same log before it.
func extends(log, prefix []entry) bool {
	if len(prefix) == 0 {
		return true
	}
	return len(log) >= len(prefix) && log[len(prefix)-1] == prefix[len(prefix)-1]
}

func (n *node) tick(life uint64) {
	if n.life != life {
		return
	}
	if n.pausedUntil > n.w.Now {
		n.w.After(n.pausedUntil-n.w.Now, func() { n.tick(life) })
		return
	}
	n.step(&replica.Event{Kind: replica.Tick})
	n.w.After(n.w.Between(40*millisecond, 60*millisecond), func() { n.tick(life) })
}

func (n *node) fsync(life uint64) {
	if n.life != life {
		return
	}
	n.synced, n.damagedSynced = n.written, n.damaged
	n.w.After(n.w.Between(500*millisecond, second), func() { n.fsync(life) })
}

func (n *node) setFloor(seq uint64) {
	n.floor = max(n.floor, min(seq, uint64(len(n.log))+1))
	n.core.SetFloor(n.floor)
}

func (n *node) rebuild() {
	for k := range n.lists {
		n.lists[k] = nil
	}
	for _, e := range n.log {
		n.apply(e)
	}
}

func (n *node) apply(e entry) {
	if e.id != 0 {
		n.lists[e.key] = append(n.lists[e.key], e.id)
	}
}

// step gives the core one event and carries out what it answers, in order.
func (n *node) step(ev *replica.Event) { n.stepWith(ev, nil) }

func (n *node) stepWith(ev *replica.Event, m *message) {
	if !n.alive || n.w.Failed != "" {
		return
	}
	acts := n.core.Step(ev, n.acts[:0])
	n.acts = nil // carrying out may step again
	for i := range acts {
		n.do(&acts[i], m)
	}
	n.acts = acts[:0]
	n.w.check.stepped(n)
}

func (n *node) do(a *replica.Action, m *message) {
	w := n.w
	if w.opts.Trace != nil && a.Kind != replica.Send && a.Kind != replica.Ack {
		w.Tracef("%s %s", n.name, describe(a))
	}
	switch a.Kind {
	case replica.PersistPromise:
		n.promised = max(n.promised, a.Term)
	case replica.FenceReply:
		w.top.fenceReply(n, *a)
	case replica.AppendLocal:
		n.appendLocal(a, m)
	case replica.Send:
		n.sendAppend(a)
	case replica.SendSnapshot:
		n.sendSnapshot(a)
	case replica.Ack:
		n.w.net.send(message{from: n, to: w.node(a.To), ev: replica.Event{
			Kind: replica.AppendAck, From: n.name, Term: a.Term, Head: a.Head, Stored: a.Stored, Rejected: a.Rejected,
			Installing: a.Installing, Voter: a.Voter, Round: a.Round, Incarnation: a.Incarnation,
		}})
	case replica.Committed:
		w.check.committed(n, a.Seq)
		n.release(a.Seq)
	case replica.Serving:
		w.check.serving(n, a.Term)
	case replica.StepDown:
		for _, op := range n.reads {
			w.load.failed(op)
		}
		n.reads = nil
	case replica.Diverged, replica.InstallSnapshot:
		w.count.Diverged++
		for _, op := range n.waiting {
			w.load.unknown(op)
		}
		n.waiting = nil
		if a.Kind == replica.InstallSnapshot {
			n.beginInstall(m)
		}
	case replica.VoterChanged:
		if a.Voter && !n.voter {
			w.count.Recovered++
		}
		n.voter = a.Voter
	case replica.Confirmed:
		n.confirmed(a.Round)
	case replica.SendTold:
		w.stale.told(n, a)
	}
}

// appendLocal puts records into memory at once and into the journal when the disk gets to it.
func (n *node) appendLocal(a *replica.Action, m *message) {
	for seq := a.First; seq <= a.Last; seq++ {
		e := entry{term: a.Term, seq: seq}
		switch {
		case m != nil:
			for _, x := range m.entries {
				if x.seq == seq {
					e = x
				}
			}
		case !a.Noop:
			e.id, e.key = n.proposal.id, n.proposal.key
		}
		n.w.check.appended(n, e, m == nil)
		for uint64(len(n.log)) < seq-1 { // only with a rule knocked out
			n.log = append(n.log, entry{seq: uint64(len(n.log)) + 1})
		}
		n.log = append(n.log, e)
		n.apply(e)
	}
	n.write(n.log[:len(n.log):len(n.log)], nil)
}

// journalWrite is one write of the log as it was when it was asked for. done, if set, replaces the Stored event.
type journalWrite struct {
	log  []entry
	done func()
}

// write schedules a journal write. Those that wait for the disk are written together (group commit).
func (n *node) write(log []entry, done func()) {
	if k := len(n.queued); k > 0 && n.queued[k-1].done == nil && done == nil {
		n.queued[k-1].log = log
	} else {
		n.queued = append(n.queued, journalWrite{log, done})
	}
	if !n.writing {
		n.writeNext()
	}
}

func (n *node) writeNext() {
	n.writing = len(n.queued) > 0
	if !n.writing {
		return
	}
	q := n.queued[0]
	n.queued = n.queued[1:]
	d := n.w.Between(20, 300)
	if n.always {
		d += n.w.Between(200, 2*millisecond)
	}
	if n.slow > 0 {
		d += n.w.Between(0, n.slow)
	}
	life, gen := n.life, n.snapshots
	n.w.After(d, func() {
		if n.life != life {
			return
		}
		if n.snapshots == gen {
			n.stored(q)
		}
		n.writeNext()
	})
}

func (n *node) stored(q journalWrite) {
	n.written = q.log
	if n.always {
		n.synced, n.damagedSynced = q.log, n.damaged
	}
	if q.done != nil {
		q.done()
	} else if len(q.log) > 0 {
		last := q.log[len(q.log)-1]
		n.step(&replica.Event{Kind: replica.Stored, At: replica.Position{Term: last.term, Seq: last.seq}})
	}
}

func (n *node) sendAppend(a *replica.Action) {
	to := n.w.node(a.To)
	first := a.First
	for {
		last := a.Last
		if last > first && n.w.Chance(0.3) {
			last = first + n.w.RNG.Uint64N(last-first)
		}
		m := message{from: n, to: to, ev: replica.Event{
			Kind: replica.Append, From: n.name, Term: a.Term, Prev: a.Prev, Last: last, Commit: a.Commit, Head: a.Head,
			Round: a.Round, Echo: a.Echo,
		}}
		if first <= last {
			m.ev.Runs = n.core.Runs(first, last, nil)
			m.entries = n.log[first-1 : last : last]
			if first > a.First {
				m.ev.Prev = replica.Position{Term: n.log[first-2].term, Seq: first - 1}
			}
			if first < n.floor {
				panic("core sends records that are not retained")
			}
		}
		n.w.net.send(m)
		if first = last + 1; first > a.Last {
			return
		}
	}
}

// sendSnapshot streams the content as it is now; it takes a while, and may break.
func (n *node) sendSnapshot(a *replica.Action) {
	n.w.count.Snapshots++
	to := n.w.node(a.To)
	n.w.faults.nextID++
	s := &snapshot{
		id: n.w.faults.nextID, at: n.core.Head(), log: n.log[:len(n.log):len(n.log)],
		starts: n.core.Starts(n.core.Head().Seq, nil),
	}
	term, life, id := a.Term, n.life, n.w.net.session[n.index][to.index].id
	n.w.net.send(message{from: n, to: to, snapshot: s, ev: replica.Event{
		Kind: replica.SnapshotOffered, From: n.name, Term: term, At: s.at,
	}})
	n.w.After(n.w.Between(millisecond, 300*millisecond), func() {
		if n.life != life {
			return
		}
		ses := n.w.net.session[n.index][to.index]
		if !ses.up || n.w.net.ordered && ses.id != id || !n.w.faults.stopped && n.w.Chance(0.1) {
			n.step(&replica.Event{Kind: replica.SnapshotFailed, Peer: to.name, Term: term})
			return
		}
		n.w.net.send(message{from: n, to: to, snapshot: s, end: true})
		n.step(&replica.Event{Kind: replica.SnapshotSent, Peer: to.name, Term: term, At: s.at})
	})
}

func (n *node) receive(m *message) {
	switch {
	case m.end:
		n.endInstall(m)
	default:
		n.w.stale.arrived(&m.ev)
		n.stepWith(&m.ev, m)
	}
}

// beginInstall drops the content and waits for the end of the snapshot, not for ever.
func (n *node) beginInstall(m *message) {
	n.snapshots++
	n.incoming, n.incomingFrom = m.snapshot, m.from
	n.log, n.damaged, n.queued = nil, true, nil
	if n.always {
		n.damagedSynced = true
	}
	n.rebuild()
	id, life := m.snapshot.id, n.life
	n.w.After(800*millisecond, func() {
		if n.life == life && n.incoming != nil && n.incoming.id == id {
			n.abortInstall()
		}
	})
}

func (n *node) endInstall(m *message) {
	if n.incoming == nil || n.incoming.id != m.snapshot.id {
		return
	}
	s := n.incoming
	n.write(s.log, func() {
		if n.incoming != s {
			return
		}
		n.incoming = nil
		n.w.count.Installed++
		n.damaged = false
		if n.always {
			n.damagedSynced = false
		}
		n.log = s.log
		n.rebuild()
		n.floor = 0
		n.setFloor(s.at.Seq + 1)
		n.step(&replica.Event{Kind: replica.SnapshotInstalled, Term: s.at.Term, At: s.at, Starts: s.starts})
	})
}

func (n *node) abortInstall() {
	n.w.Tracef("%s: snapshot aborted", n.name)
	n.w.count.Aborted++
	n.incoming, n.queued = nil, nil
	n.snapshots++
	n.floor = 0
	n.setFloor(1)
	n.step(&replica.Event{Kind: replica.SnapshotAborted})
}

func (n *node) peerDown(peer *node) {
	if !n.alive {
		return
	}
	if n.incoming != nil && n.incomingFrom == peer {
		n.abortInstall()
	}
	n.step(&replica.Event{Kind: replica.PeerDown, Peer: peer.name})
}

// capture keeps what a read saw until it may be answered.
func (n *node) capture(op *operation, list []uint32) {
	if list == nil {
		list = []uint32{}
	}
	op.captured = list
}

// release answers what waited for the commit of seq.
func (n *node) release(seq uint64) {
	i := 0
	for ; i < len(n.waiting) && n.waiting[i].seq <= seq; i++ {
		n.w.load.ack(n.waiting[i])
	}
	n.waiting = n.waiting[i:]
	n.answerReads()
}

func (n *node) confirmed(round uint64) {
	for _, op := range n.reads {
		op.confirmed = op.confirmed || op.round <= round
	}
	n.answerReads()
}

// answerReads answers the reads that are confirmed and saw nothing uncommitted.
func (n *node) answerReads() {
	kept := n.reads[:0]
	for _, op := range n.reads {
		if op.confirmed && op.seq <= n.core.CommitSeq() {
			op.value = op.captured
			n.w.load.answer(op)
		} else {
			kept = append(kept, op)
		}
	}
	n.reads = kept
}
