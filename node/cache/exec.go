package cache

import (
	"slices"
	"strconv"
	"time"

	"hypercache/node/command"
	"hypercache/node/replica"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// op is one command, or one group's part of it, on its way to the group's primary.
type op struct {
	spec  *command.Spec
	args  [][]byte
	group uint16
	slot  uint16
	part  bool // RunPart; its keys may be in several slots of the group, or it speaks of the whole group
	proto int
	tx    *txBody // an EXEC, with what it carries
	watch bool    // a WATCH: answered with a token for each key
	// deadline (a tick) is kept over however many attempts a command takes; 0 means a first attempt.
	deadline int64
	gen      uint32 // of a request from another node
	// waited says that the command has waited for its keys already, and does so until (a tick, 0 for ever); noBlock that
	// it must not.
	waited, noBlock bool
	until           int64
	quorum          bool   // a majority must confirm the reply
	user            string // whose rights a script has; "" for all
	stale           bool   // this node's copy may answer
	round           uint64 // the round that its reply must wait for, 0 for none
	origins
}

// sink takes the reply of an op that does not come straight from a session.
type sink interface {
	// settle gives the reply to what was asked as id; raw is valid until it returns. It is called once, from any
	// goroutine, maybe with a group's lock held: it must not block.
	settle(id uint64, raw []byte)
}

// origin is where a reply goes: a session inside Command (s), a held reply (t), or a sink.
type origin struct {
	s    *resp.Session
	t    resp.Ticket
	sink sink
	id   uint64
	conn *conn     // whose order counts, nil if nobody's
	n    uint64    // the command's place in the order of its connection or stream
	b    *blocking // of a command that may wait
}

// source is whose commands must keep their order, nil if nobody's do.
func (o *origin) source() any {
	if o.conn != nil {
		return o.conn
	}
	if in, ok := o.sink.(*Inbound); ok {
		return in
	}
	return nil
}

func (o *origin) reply(raw []byte) {
	if o.b != nil {
		o.b.end()
	}
	if o.sink != nil {
		o.sink.settle(o.id, raw)
		return
	}
	o.t.Reply(raw)
}

func (o *origin) fail(msg string) { o.reply([]byte("-" + msg + "\r\n")) }

// Errors that clients meet while the cluster changes. go-redis and others retry on these prefixes.
const (
	errUnknown   = "NOREPLICAS The primary changed or too few replicas answered in time; the write may have been applied"
	errNoAnswer  = "TRYAGAIN The primary changed before the read could be confirmed"
	errNoPrimary = "CLUSTERDOWN Hash slot has no primary that serves now"
	errBusy      = "TRYAGAIN Too many commands wait for a primary"
	errDiskFull  = "MISCONF The disk of the data directory is full: writes are refused, reads are served"
	errOOM       = "OOM command not allowed when used memory > 'maxmemory'."
)

// outcome says what became of an op that was to run here.
type outcome uint8

const (
	elsewhere outcome = iota // another node may be the group's primary; nothing was changed
	done                     // it ran: the reply is given, or held back
	later                    // this node is the primary, but may not answer yet; nothing was changed
)

// exec runs the op if this node serves its group, with the reply in w or held back.
func (c *Cache) exec(o *op, w *resp.Writer, now int64, r *round, to origin) outcome {
	r.now = now
	o.quorum = o.quorum || c.opt.Quorum
	p := &c.parts[o.group]
	if where, busy := c.whileBusy(p, o, w, now, &to); busy {
		return where
	}
	if o.spec.DenyOOM && c.db.OverLimit() && !c.driver.DiskFull() && p.serving() {
		switch c.evict(o.bytes(), r) {
		case roomNone:
			c.answer(w, &to, o.refusal(errOOM))
			return done
		case roomLater:
			return later
		}
	}
	full := o.scripted() && c.db.OverLimit() && p.serving() && c.evict(o.bytes(), r) == roomNone
	mark := len(w.Buf)
	o.noBlock = to.b == nil
	p.group.Lock()
	if p.busy.Load() != nil {
		p.group.Unlock()
		return later
	}
	if !p.group.Serving() {
		where := elsewhere
		if p.group.Primary() {
			where = later // it waits out a lease, or for its first record to be committed
		}
		p.group.Unlock()
		return where
	}
	if o.writes() && c.isolated.Load() {
		p.group.Unlock()
		return later
	}
	if o.spec.Write && c.driver.DiskFull() {
		p.group.Unlock()
		c.answer(w, &to, o.refusal(errDiskFull))
		return done
	}
	if p.hot.skip--; p.hot.skip < 0 {
		p.hot.saw(o, now, r)
	}
	if o.scripted() {
		return c.runScript(p, o, now, to, full)
	}
	fx := p.run(o, w, now, r, c.db.Policy())
	c.after(p, o, fx)
	if p.ctx.Block.Asked {
		c.sleep(p, o, fx, r, to)
		p.group.Unlock()
		return done
	}
	seq, ok := p.order(o, fx, r)
	if !ok {
		p.group.Unlock()
		w.Buf = w.Buf[:mark]
		return later
	}
	if !o.writes() {
		c.count(w.Buf[mark:])
		r.reads.read(o)
	}
	if p.held(o, seq) {
		p.hold(seq, o, to, w.Buf[mark:], now+c.opt.Wait.Milliseconds())
		c.wake(p, &p.events, now, r)
		p.group.Unlock()
		return done
	}
	c.wake(p, &p.events, now, r)
	p.group.Unlock()
	switch {
	case to.s != nil:
	case r.early && r.batch.Pending():
		r.keep(&to, w.Buf[mark:], o.writes())
	default:
		to.reply(w.Buf[mark:])
	}
	return done
}

// bytes is the size of the op's arguments.
func (o *op) bytes() (n int) {
	for _, a := range o.args {
		n += len(a)
	}
	if o.tx != nil {
		for _, c := range o.tx.commands {
			for _, a := range c.args {
				n += len(a)
			}
		}
	}
	return n
}

// serving tells that this node's memory is what a write to the group would take.
func (p *part) serving() bool {
	p.group.Lock()
	defer p.group.Unlock()
	return p.group.Serving()
}

// answer gives an error in place of running a command.
func (c *Cache) answer(w *resp.Writer, to *origin, msg string) {
	if to.s != nil {
		w.Error(msg)
		return
	}
	to.fail(msg)
}

// run executes the op on the shard, under the group's lock, and returns its effects, nil if nobody wants any. now is a
// tick; commands get the guarded time.
func (p *part) run(o *op, w *resp.Writer, now int64, r *round, policy store.Policy) *command.Effects {
	var fx *command.Effects
	if o.writes() && (p.group.Wants() || len(p.watched.keys) > 0 || o.scripted()) {
		p.fx.Reset()
		fx = &p.fx
		if size := command.FlushEffects(p.shard.Len()); o.spec.Scope == command.ScopeCluster && size > keptEffects {
			fx.Buf = p.wide.Get(size)
		}
	}
	x := &p.ctx
	x.Events, x.Block, x.Waited, x.NoBlock = p.interested(), command.Block{}, o.waited, o.noBlock
	x.Spec, x.Args, x.Shard, x.Now, x.W, x.FX, x.RNG, x.Policy = o.spec, o.args, p.shard, p.time.Unix(now), w, fx, r.rng, policy
	switch {
	case o.tx != nil:
		p.runTx(o, w)
	case o.watch:
		p.runWatch(o, w, r)
	case o.part:
		x.RunPart()
	default:
		x.Run()
	}
	x.Args, x.W = nil, nil
	if o.scripted() {
		fx.Bracket()
	}
	p.watched.note(fx)
	if !p.group.Wants() {
		p.trim()
		return nil
	}
	return fx
}

const (
	// keptEffects is how large a buffer of effects each of the groups may keep, in bytes.
	keptEffects = 32 << 10
	// wideEffects buffers of up to maxWide bytes are kept beside while there is a FLUSHALL.
	wideEffects = 2
	maxWide     = 8 << 20
)

// order gives a write its place in the log, and returns the record that the reply must wait for. It returns false
// when the reply may rest on state that another primary has changed meanwhile: nothing was changed here then.
func (p *part) order(o *op, fx *command.Effects, r *round) (seq uint64, ok bool) {
	o.round = 0
	if fx != nil && fx.N > 0 {
		seq = p.group.Propose(fx.Buf, &r.batch)
		p.touched(o, seq)
		p.trim()
		return seq, true
	}
	if p.group.Solo() {
		if !p.group.Wants() {
			return 0, true
		}
		return 0, p.group.Readable(time.Time{}, &r.batch)
	}
	if o.quorum {
		o.round = p.group.Confirming(&r.batch)
		return p.depends(o), true
	}
	// Whether this still is the primary is asked after the value was read.
	if !p.group.Readable(time.Now(), &r.batch) {
		return 0, false
	}
	return p.depends(o), true
}

// trim gives up a large buffer of effects that have been used.
func (p *part) trim() {
	if cap(p.fx.Buf) > keptEffects {
		p.wide.Put(p.fx.Buf)
		p.fx.Buf = nil
	}
}

func (p *part) touched(o *op, seq uint64) {
	switch {
	case !o.part:
		p.slotSeq[o.slot%uint16(len(p.slotSeq))] = seq
	case o.spec.Scope == command.ScopeScatter:
		for i := 1; i < len(o.args); i += max(o.spec.KeyStep, 1) {
			p.slotSeq[ring.Slot(o.args[i])%uint16(len(p.slotSeq))] = seq
		}
	default:
		for i := range p.slotSeq {
			p.slotSeq[i] = seq
		}
	}
}

// depends is the newest record whose effects the op may have seen.
func (p *part) depends(o *op) (seq uint64) {
	switch {
	case !o.part:
		return p.slotSeq[o.slot%uint16(len(p.slotSeq))]
	case o.spec.Scope == command.ScopeScatter:
		for i := 1; i < len(o.args); i += max(o.spec.KeyStep, 1) {
			seq = max(seq, p.slotSeq[ring.Slot(o.args[i])%uint16(len(p.slotSeq))])
		}
		return seq
	}
	return p.group.Head().Seq
}

func (c *Cache) count(reply []byte) {
	if len(reply) > 1 && (reply[0] == '$' || reply[0] == '*') && reply[1] == '-' || len(reply) > 0 && reply[0] == '_' {
		c.Stats.Misses.Add(1)
		return
	}
	c.Stats.Hits.Add(1)
}

// waiter is a reply that waits for a record.
type waiter struct {
	seq      uint64
	deadline int64  // a tick
	round    uint64 // and for that round, unless 0
	write    bool
	own      bool // the session has the bytes: Release, not Reply
	t        resp.Ticket
	sink     sink
	id       uint64
	reply    []byte
}

// waiters is a queue by record. A read may stand behind a newer write: it then waits a little longer than it must.
type waiters struct {
	list []waiter
	head int
}

func (q *waiters) push(w waiter) {
	if q.head > 0 && len(q.list) == cap(q.list) {
		n := copy(q.list, q.list[q.head:])
		clear(q.list[n:])
		q.list, q.head = q.list[:n], 0
	}
	q.list = append(q.list, w)
}

func (q *waiters) front() *waiter {
	if q.head == len(q.list) {
		return nil
	}
	return &q.list[q.head]
}

// pop takes the first waiter out, before it is answered: that may lead anywhere.
func (q *waiters) pop() (w waiter) {
	w = q.list[q.head]
	q.list[q.head] = waiter{}
	q.head++
	if q.head == len(q.list) {
		q.list, q.head = q.list[:0], 0
	}
	return w
}

var okReply = []byte("+OK\r\n")

func (p *part) hold(seq uint64, o *op, to origin, reply []byte, deadline int64) {
	w := waiter{seq: seq, round: o.round, write: o.writes(), deadline: deadline, t: to.t, sink: to.sink, id: to.id}
	if to.b != nil {
		to.b.end()
	}
	switch {
	case to.s != nil:
		w.t, w.own = to.s.Hold(), true
	case string(reply) == string(okReply):
		w.reply = okReply
	default:
		w.reply = slices.Clone(reply)
	}
	if w.round > 0 {
		p.confirming.push(w)
		return
	}
	p.waiting.push(w)
}

func (w *waiter) done() {
	switch {
	case w.own:
		w.t.Release()
	case w.sink != nil:
		w.sink.settle(w.id, w.reply)
	default:
		w.t.Reply(w.reply)
	}
}

func (w *waiter) fail() {
	msg := errNoAnswer
	if w.write {
		msg = errUnknown
	}
	o := origin{t: w.t, sink: w.sink, id: w.id}
	o.fail(msg)
}

// Apply implements replica.Machine.
func (c *Cache) Apply(group uint16, effects []byte) error {
	c.parts[group].watched.forget()
	shard := c.parts[group].shard
	c.applied(&c.parts[group], effects)
	shard.SetClock(c.clock.Load())
	return command.Apply(shard, effects)
}

// Snapshot implements replica.Machine.
func (c *Cache) Snapshot(group uint16) replica.Snapshot {
	return &Snapshot{shard: c.parts[group].shard}
}

// Snapshot is a copy of a group's content, which a replica or the journal gets as effects. The zero value is one once Of has said
// which. It is not safe for concurrent use.
type Snapshot struct {
	shard *store.Shard
	image store.Image
	own   int64 // bytes of the image, as Size saw it
	fx    command.Effects
}

// Of makes the next copy one of the group. It takes the place of the last one.
func (s *Snapshot) Of(c *Cache, group uint16) { s.shard = c.parts[group].shard }

// Size implements replica.Snapshot.
func (s *Snapshot) Size() int64 {
	own, heap := s.shard.ImageSize()
	s.own = own
	return own + heap
}

// Fit implements replica.Snapshot.
func (s *Snapshot) Fit() { s.image.Fit(s.own) }

// Take implements replica.Snapshot.
func (s *Snapshot) Take() { s.image.Take(s.shard) }

// Next implements replica.Snapshot.
func (s *Snapshot) Next(emit func(effects []byte)) bool {
	full := func() { s.give(emit) }
	encode := func(r store.Ref) { command.EncodeEntry(&s.fx, r, full) }
	more := true
	for more && len(s.fx.Buf) < snapshotPiece {
		more = s.image.Next(encode)
	}
	s.give(emit)
	return more
}

// Live gives the content as it is now, all of it. The caller holds the group's lock.
func (s *Snapshot) Live(emit func(effects []byte)) {
	full := func() { s.give(emit) }
	s.shard.Range(func(r store.Ref) bool {
		if command.EncodeEntry(&s.fx, r, full); len(s.fx.Buf) > snapshotPiece {
			full()
		}
		return true
	})
	s.give(emit)
}

const snapshotPiece = 32 << 10 // bytes of effects from which on they are given

func (s *Snapshot) give(emit func([]byte)) {
	if len(s.fx.Buf) > 0 {
		emit(s.fx.Buf)
	}
	s.fx.Reset()
}

// Close implements replica.Snapshot.
func (s *Snapshot) Close() { s.image.Close() }

// Clear implements replica.Machine.
func (c *Cache) Clear(group uint16, emit func([]byte)) {
	c.parts[group].watched.forget()
	shard := c.parts[group].shard
	var fx command.Effects
	del := []byte("DEL")
	shard.Range(func(r store.Ref) bool {
		fx.Command(del, r.Key())
		if len(fx.Buf) > 32<<10 {
			emit(fx.Buf)
			fx.Reset()
		}
		return true
	})
	if fx.N > 0 {
		emit(fx.Buf)
	}
	shard.Flush()
}

// Settled implements replica.Machine.
func (c *Cache) Settled(group uint16, seq uint64) {
	p := &c.parts[group]
	for w := p.waiting.front(); w != nil && w.seq <= seq; w = p.waiting.front() {
		first := p.waiting.pop()
		first.done()
	}
	p.releaseConfirmed(seq)
}

// Lost implements replica.Machine.
func (c *Cache) Lost(group uint16) {
	p := &c.parts[group]
	for w := p.waiting.front(); w != nil; w = p.waiting.front() {
		c.Stats.Unanswered.Add(1)
		first := p.waiting.pop()
		first.fail()
	}
	c.failConfirming(p)
	clear(p.slotSeq[:])
	p.blur = 0
	c.reroute(p)
}

// Changed implements replica.Machine.
func (c *Cache) Changed(group uint16) {
	if p := &c.parts[group]; !p.group.Primary() {
		c.failConfirming(p)
		c.reroute(p)
	}
	c.park.kick()
}

// expireWaiters fails the replies of a group that have waited too long. The caller holds the group's lock.
func (c *Cache) expireWaiters(p *part, now int64) {
	for _, q := range [...]*waiters{&p.waiting, &p.confirming} {
		for w := q.front(); w != nil && w.deadline < now; w = q.front() {
			c.Stats.Unanswered.Add(1)
			first := q.pop()
			first.fail()
		}
	}
}

func moved(slot uint16, addr string) string {
	return "MOVED " + strconv.Itoa(int(slot)) + " " + addr
}
