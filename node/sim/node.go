package sim

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"hypercache/node/journal"
	"hypercache/node/journal/vfs"
	"hypercache/node/replica"
	"hypercache/node/ring"
	"hypercache/node/topology"
)

// node is one machine with its disk, and the process on it if it is alive.
type node struct {
	w      *world
	id     string
	index  int
	zone   string
	policy journal.Policy
	rate   float64 // of its clock

	// What outlives the process.
	disk    *vfs.Mem
	boot    int
	cluster bool              // its directory belongs to the cluster
	applied int               // how much of the topology's log is on its disk
	voter   [ring.Groups]bool // when the process ended; see faults.spare
	wanted  bool              // it should run
	stopped int64             // how long its clock has stood still
	jumped  int64             // how far its clock was set forward
	lost    int64             // when its disk last lost something that it had acknowledged, or may have

	alive       bool
	ready       bool   // recovered, and its driver exists
	forgetful   bool   // it may have lost promises
	life        uint64 // changes with every start and end, so that what was scheduled before is void
	run         string
	pausedUntil int64
	slow        int64 // how much longer than usual the disk takes
	crashIn     int   // operations of the disk until it crashes, 0: it does not
	crashPower  bool  // that crash is a power loss
	trouble     trouble
	injected    bool            // an operation of the disk of this process has failed
	failing     bool            // its journal has failed, and it will end
	noting      bool            // it will try again to note that
	closing     bool            // it has ended but for the journal's Close
	unsaved     map[uint16]bool // groups that are complete, of which the disk has no note yet

	j     *journal.Journal
	d     *replica.Driver[*end]
	parts map[uint16]*part
	view  *topology.State // what it acts on, nil before it has heard of a leader
	ends  []*end
	reign *reign
}

func newNode(w *world, i int, zone string) *node {
	n := &node{w: w, index: i, id: fmt.Sprintf("n%d", i), zone: zone, disk: vfs.NewMem(), wanted: true}
	if w.Chance(0.3) || w.opts.Always {
		n.policy = journal.Always
	}
	n.rate = 1 + (w.RNG.Float64()-0.5)/5000
	return n
}

// clock is the node's monotonic clock. Clocks run at nearly the same speed; see docs/decisions/0002.
func (n *node) clock() time.Time {
	t := n.w.Now + n.jumped - n.stopped
	return time.UnixMicro(int64(float64(t) * n.rate)).Add(time.Duration(n.index) * time.Hour)
}

// later runs fn on this node in d microseconds, if the process is still the same, and when it is not paused.
func (n *node) later(d int64, fn func()) {
	life := n.life
	var try func()
	try = func() {
		switch {
		case n.life != life || !n.alive:
		case n.pausedUntil > n.w.Now: // what has waited runs in any order
			n.w.After(n.pausedUntil-n.w.Now+n.w.Between(0, 2*millisecond), try)
		default:
			fn()
		}
	}
	n.w.After(d, try)
}

// diskDelay is how long what was written now takes to get to the disk.
func (n *node) diskDelay() int64 {
	d := n.w.Between(20, 200)
	if n.policy == journal.Always {
		d += n.w.Between(200, 2*millisecond)
	}
	if n.slow > 0 {
		d += n.w.Between(0, n.slow)
	}
	return d
}

// start runs the node on what its disk holds.
func (n *node) start() {
	w := n.w
	if n.closing {
		return // it is started when it has ended
	}
	n.life++
	n.alive, n.ready, n.wanted = true, false, true
	n.pausedUntil, n.crashIn = 0, 0
	n.injected, n.failing, n.noting, n.unsaved = false, false, false, map[uint16]bool{}
	n.run = fmt.Sprintf("%s.%d", n.id, n.life)
	n.ends, n.reign, n.view, n.j, n.d = nil, nil, nil, nil, nil
	n.parts = map[uint16]*part{}
	for _, g := range w.groups {
		n.parts[g] = newPart(n, g)
	}
	life := n.life
	n.hook(life)
	restored, err := n.recover()
	if n.life != life {
		return // crashed on the way
	}
	if err != nil {
		w.Tracef("%s cannot start: %v", n.id, err)
		n.refused(err)
		return
	}
	n.d = replica.NewDriver[*end](replica.Options{
		Self: n.id, Machine: machine{n}, Journal: &logTap{n: n, j: n.j, life: life}, Acks: w.acks, Now: n.clock, Rules: w.opts.Rules,
		Piece: w.piece,
		Fatal: n.fails,
	}, restored)
	for id, p := range n.parts {
		p.group = n.d.Group(id)
	}
	n.ready = true
	if w.faults.rotten[n] {
		n.lost = w.Now
	}
	delete(w.faults.rotten, n) // all of the disk has been read
	n.later(w.Between(0, 100*millisecond), n.tick)
	n.later(w.Between(0, second), n.syncTick)
	n.later(w.Between(0, pacing), n.pace)
}

// recover does what a node does with its data directory when it starts.
func (n *node) recover() (*[ring.Groups]replica.Restored, error) {
	boot := fmt.Sprintf("boot-%d", n.boot)
	if n.w.opts.VoteAfterPowerLoss {
		boot = "boot"
	}
	j, err := journal.Open(journal.Options{
		Dir: "data", FS: n.disk, Fsync: n.policy, BootID: boot, Manual: true, Salt: 1 + n.w.RNG.Uint64()>>1, RewriteMinSize: 1 << 14,
	})
	if err != nil {
		return nil, err
	}
	n.j = j
	var groups [ring.Groups]replica.Restored
	found, err := j.Replay(func(rec journal.Record) error {
		if p := n.parts[rec.Group]; p != nil {
			if err := p.replay(&rec); err != nil {
				return err
			}
		}
		groups[rec.Group].Replay(&rec)
		return nil
	})
	if err != nil {
		return nil, err
	}
	promises := j.Promises()
	replica.Judge(&groups, &found, &promises)
	n.forgetful = groups[0].PromisesLost && !n.w.opts.Rules.FollowUnpromised
	incarnation := n.w.RNG.Uint64() | 1
	for i := range groups {
		groups[i].Incarnation, groups[i].Window = incarnation, n.w.opts.Window
		if n.w.opts.WipedVotes && found.Fresh {
			groups[i].Voter = true
		}
	}
	if len(found.Spots) > 0 || found.PromisesLost {
		n.w.count.Found++
	}
	n.w.Tracef("%s starts as %s: voter %v, damaged %v, truncated %d, spots %d, promises lost %v", n.id, n.run, found.Voter, len(found.Damaged),
		found.Truncated, len(found.Spots), found.PromisesLost)
	for _, g := range n.w.groups {
		r := &groups[g]
		n.w.Tracef("  %s group %d: promised %d head %v voter %v", n.id, g, r.Promised, r.Head, r.Voter)
		n.w.check.started(n.parts[g], r)
	}
	return &groups, nil
}

// refused: the journal does not open. If the disk did not let it, that is tried again; else an operator gives the node an empty
// directory.
func (n *node) refused(err error) {
	if n.injected && !errors.Is(err, journal.ErrDamaged) && !errors.Is(err, journal.ErrForeign) {
		n.leave()
		return
	}
	if !n.w.faults.rotten[n] {
		n.w.Fail(notLive, "%s cannot start: %v", n.id, err)
		return
	}
	n.w.count.Found++
	n.die()
	n.w.After(n.w.Between(100*millisecond, second), func() {
		if !n.alive {
			n.wipe()
			n.start()
		}
	})
}

// wipe gives the node an empty directory: it belongs to no cluster any more.
func (n *node) wipe() {
	n.w.Tracef("%s is wiped", n.id)
	n.w.count.Wipes++
	n.disk = vfs.NewMem()
	n.cluster, n.applied, n.lost = false, 0, n.w.Now
	clear(n.voter[:])
	n.w.raft.lost(n)
}

// crash ends the process at this point, whatever it is doing; with power the machine loses what it has not synced.
//
// A kill between a failed fsync and the note of it is not asked for: the page cache is all that the next process can look at.
func (n *node) crash(power bool) {
	if !power && n.unnoted() {
		return
	}
	if n.ready {
		for _, g := range n.w.groups {
			n.voter[g] = n.votes(g) && !n.unsaved[g]
		}
	}
	old := n.disk
	if power {
		n.w.count.PowerLosses++
		n.boot++
		n.lost = n.w.Now
		n.disk = old.PowerLoss(rand.New(rand.NewPCG(n.w.RNG.Uint64(), 1)))
		if n.policy != journal.Always {
			clear(n.voter[:])
		}
	} else {
		n.disk = old.Clone()
	}
	n.die()
}

// votes tells whether the replica of g says now that it may vote. It may be asked while the group is locked.
func (n *node) votes(g uint16) bool {
	return n.parts[g].group.Votes()
}

// die is what others see of the end of a process.
func (n *node) die() {
	n.alive, n.ready = false, false
	n.life++
	n.reign = nil
	for _, e := range n.ends {
		e.up = false
		if peer := e.peer; peer.up {
			delete(n.w.net.streams, [2]int{e.n.index, peer.n.index})
			delete(n.w.net.streams, [2]int{peer.n.index, e.n.index})
			n.w.After(n.w.Between(0, 200*millisecond), peer.close)
		}
	}
	for _, g := range n.w.groups {
		n.parts[g].died()
	}
}

// stop is an orderly end of the process: everything is synced and the journal says so.
func (n *node) stop() {
	n.w.Tracef("%s stops", n.id)
	for _, g := range n.w.groups {
		n.voter[g] = n.votes(g)
	}
	life := n.life
	err := n.j.Close(true)
	switch {
	case n.life != life:
		return // it crashed while it was closing
	case err != nil && n.injected:
		n.leave()
		return
	case err != nil:
		n.w.Fail(panicked, "%s: close: %v", n.id, err)
		return
	}
	n.disk = n.disk.Clone()
	n.die()
}

func (n *node) tick() {
	var b replica.Batch[*end]
	n.d.Tick(&b)
	n.later(n.w.Between(90*millisecond, 110*millisecond), n.tick)
}

// pacing is how often a node looks whether there is a piece of content to send.
const pacing = 20 * millisecond

func (n *node) pace() {
	var b replica.Batch[*end]
	next := pacing
	if after := n.d.Pace(&b); after > 0 {
		next = min(next, after.Microseconds()+1)
	}
	_ = n.d.EndBatch(&b)
	n.later(next, n.pace)
}

// syncTick is the journal's background work, and now and then a rewrite.
func (n *node) syncTick() {
	n.j.Tick()
	if n.j.Settle() == nil {
		clear(n.unsaved)
	}
	n.note()
	if n.alive && n.ready && (n.j.ShouldRewrite() && n.w.Chance(0.5)) {
		n.rewrite()
	}
	n.later(n.w.Between(500*millisecond, second)+n.slow, n.syncTick)
}

func (n *node) rewrite() {
	for _, p := range n.parts {
		if p.group.Hollow() {
			return // as the server does: it is tried again when the group is whole
		}
	}
	n.w.count.Rewrites++
	life := n.life
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	err := n.j.Rewrite(ctx, func(group int, emit func([]byte) error) (uint64, uint64, error) {
		g := n.d.Group(uint16(group))
		g.Lock()
		defer g.Unlock()
		var err error
		machine{n}.content(uint16(group), func(b []byte) {
			if err == nil {
				err = emit(b)
			}
		})
		head := g.Head()
		return head.Term, head.Seq, err
	})
	if n.life != life {
		return
	}
	if n.note(); err != nil && !n.injected {
		n.w.Fail(panicked, "%s: rewrite: %v", n.id, err)
	}
}

// knows tells whether this node may open streams to m: the topology or gossip told it of m.
func (n *node) knows(m *node) bool { return m.ready }

// learn is the topology's news of a committed state.
func (n *node) learn(index int) {
	r := &n.w.raft
	if index < n.applied && n.view != nil {
		return
	}
	n.applied = max(n.applied, index)
	st := r.states[n.applied]
	if n.view == st {
		return
	}
	n.view = st
	if n.ready {
		n.obey(st)
	}
}

// obey carries a committed state to the driver, as the server does.
func (n *node) obey(st *topology.State) {
	list := make([]replica.Assignment, 0, len(n.w.groups))
	for _, id := range n.w.groups {
		g := &st.Groups[id]
		if g.Term == 0 {
			continue
		}
		leads := g.Primary
		if leads == n.id && g.Run != n.run && !n.w.opts.Rules.LeadAfterRestart {
			leads = ""
		}
		list = append(list, replica.Assignment{
			Group: id, LeaseWait: time.Duration(g.LeaseMillis) * time.Millisecond, Holds: g.Holds(n.id),
			Config: replica.Config{
				Epoch: g.Epoch, Term: g.Term, Primary: leads, Replicas: g.Replicas, Next: g.Next, Learner: g.Learner,
			},
		})
	}
	if !n.forgetful || st.Members[n.id].Run == n.run {
		n.d.Configure(list)
	}
}

// caughtUp is the lag in records below which a follower that may vote counts as following closely.
const caughtUp = 256

// status answers the controller's question, as the server does.
func (n *node) status(q topology.StatusCall) *topology.StatusAnswer {
	a := &topology.StatusAnswer{Run: n.run}
	if n.view != nil {
		a.Epoch = n.view.Epoch
	}
	for _, id := range q.Groups {
		st := n.d.Status(id)
		g := topology.GroupStatus{
			Group: id, Epoch: st.Epoch, Term: st.Term, JointReady: st.JointReady,
			Serving: st.Role == replica.Primary && !st.CannotLead,
		}
		for _, p := range st.Peers {
			g.Peers = append(g.Peers, topology.PeerStatus{
				ID: p.Name, Lag: p.Lag, CaughtUp: p.Up && p.Voter && !p.Snapshot && p.Lag < caughtUp,
			})
		}
		if n.w.opts.IgnoreLag {
			g.JointReady = len(n.view.Groups[id].Next) > 0
			for i := range g.Peers {
				g.Peers[i].CaughtUp = true
			}
		}
		a.Groups = append(a.Groups, g)
	}
	a.Sum(q.Seen)
	return a
}

// fence waits for what it is told to wait for, then promises, as the server does.
func (n *node) fence(from string, q *topology.FenceCall, reply func(any)) {
	deadline := n.w.Now
	for _, f := range q.Groups {
		deadline = max(deadline, n.w.Now+int64(f.WaitMillis)*millisecond)
	}
	var try func()
	try = func() {
		for _, f := range q.Groups {
			want := replica.Position{Term: f.WaitFor.Term, Seq: f.WaitFor.Seq}
			if n.w.Now < deadline && n.d.Group(f.Group).Head().Less(want) {
				n.later(millisecond, try)
				return
			}
		}
		n.promise(from, q, reply)
	}
	try()
}

func (n *node) promise(from string, q *topology.FenceCall, reply func(any)) {
	var list []replica.Fencing
	for _, f := range q.Groups {
		list = append(list, replica.Fencing{Group: f.Group, Term: f.Term, First: f.First})
	}
	life := n.life
	results, err := n.d.Fence(from, list)
	if err != nil || n.life != life {
		return
	}
	a := &topology.FenceAnswer{Run: n.run}
	for i, r := range results {
		a.Groups = append(a.Groups, topology.FenceReply{
			Group: list[i].Group, OK: r.OK, Promised: r.Promised, HeadTerm: r.Head.Term, HeadSeq: r.Head.Seq,
			Voter: r.Voter, LeaseMillis: uint64((r.Lease + time.Millisecond - 1) / time.Millisecond),
		})
	}
	reply(a)
}

// logTap is the journal as the driver uses it. It shows the checks what goes in, and has the knock-outs of the journal.
type logTap struct {
	n    *node
	j    *journal.Journal
	life uint64
}

// Append implements replica.Journal.
func (t *logTap) Append(r journal.Record) int64 {
	if t.n.life == t.life {
		if p := t.n.parts[r.Group]; p != nil {
			p.journaled(&r)
		}
	}
	return t.j.Append(r)
}

// Commit implements replica.Journal.
func (t *logTap) Commit(pos int64) error {
	if t.n.w.opts.AckUnwritten {
		return nil
	}
	err := t.j.Commit(pos)
	if t.n.w.opts.AckFull && errors.Is(err, journal.ErrDiskFull) {
		return nil
	}
	return t.noted(err)
}

// SetPromises implements replica.Journal.
func (t *logTap) SetPromises(terms map[uint16]uint64) error {
	if t.n.w.opts.ForgetPromises {
		return nil
	}
	return t.noted(t.j.SetPromises(terms))
}

// Complete implements replica.Journal.
func (t *logTap) Complete(groups ...uint16) error {
	if t.n.life == t.life {
		for _, g := range groups {
			t.n.unsaved[g] = true
		}
	}
	return t.noted(t.j.Complete(groups...))
}

func (t *logTap) noted(err error) error {
	if err != nil && t.n.life == t.life {
		t.n.note()
	}
	return err
}
