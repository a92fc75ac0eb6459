package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/command"
	"hypercache/node/peer"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// Frames of a forward stream. The node that dialed sends requests, the other one answers; integers are little-endian.
//
//	request: id u64, generation u32, flags u8, group u16, slot u16, argc u32, {length u32, bytes}…
//	         with flagWaited, the ms that are left of the wait, i64 (0 for ever), come before the arguments
//	         with countUser in argc, the user, length u32 and bytes, comes behind them
//	         with flagBy, the client, u64, comes behind them
//	cancel:  id u64, verdict u8: end the wait of that request
//	reply:   id u64, status u8, RESP bytes; statusWaits: the ms that are left of the wait, i64, and an answer follows;
//	         statusSlot: u16
const (
	frameRequest = 1
	frameReply   = 2
	frameCancel  = 3
	frameScript  = 4 // a SCRIPT command for every node: id u64, its arguments as in a request

	requestHeader = 8 + 4 + 1 + 2 + 2 + 4
	replyHeader   = 8 + 1

	flagPart    = 1
	flagRESP3   = 2
	flagNoBlock = 4
	flagWaited  = 8
	flagTx      = 16 // EXEC with its queue, or WATCH
	flagReads   = 32 // for a client that caches what it reads
	flagBy      = 64 // by a client that wants to know its own writes
	flagQuorum  = 128

	countUser = 1 << 31 // in the number of arguments: behind them is the name of the user whose rights a script has

	statusDone       = 0
	statusNotPrimary = 1 // nothing was executed: ask again, or ask another node
	statusWaits      = 2 // the command waits for its keys
	statusSlot       = 3 // a script without keys touches one of that slot, and did nothing: ask its primary
)

var errLarge = []byte("-ERR the reply is larger than what one node may send another\r\n")

var errRequest = errors.New("malformed forward frame")

const (
	// maxPending and maxPendingBytes bound the commands that one node has for us at a time, but for one that is larger;
	// above them, they wait here.
	maxPending      = 1 << 16
	maxPendingBytes = 128 << 20
	// maxReplies is how much may wait for a node to take its answers before no more of its requests are executed.
	maxReplies = 32 << 20
	// noDeadline is that of requests that wait for their keys: the other node sees to their time.
	noDeadline = math.MaxInt64 / 2
)

// remote is the forward stream to one node and what was asked over it.
type remote struct {
	node  string
	cache *Cache

	mu      sync.Mutex
	stream  stream
	pending []pending
	free    []uint32
	bytes   int // of the requests that are pending
	// generation is raised for a group when the node refused a request for it, so that requests which were on their
	// way behind the refused one are refused too and none overtakes it.
	generation [ring.Groups]uint32
}

type pending struct {
	serial   uint32 // told apart from an earlier use of the place
	used     bool
	write    bool
	overdue  bool // given up for its deadline
	group    uint16
	gen      uint32
	size     int
	deadline int64
	node     bool // it is for the node, not for a group's primary: never asked again
	to       origin
	body     []byte // the request, kept until answered: a refused one is asked again
	waited   bool   // the other node said that it waits for its keys
	until    int64  // a tick, 0 for ever
}

func (c *Cache) remote(node string) *remote {
	if r := (*c.remotes.Load())[node]; r != nil {
		return r
	}
	c.remotesMu.Lock()
	defer c.remotesMu.Unlock()
	all := maps.Clone(*c.remotes.Load())
	if all[node] == nil {
		all[node] = &remote{node: node, cache: c}
		c.remotes.Store(&all)
	}
	return all[node]
}

// forward sends the op to its group's primary. It returns false, having kept nothing, when that can't be done now.
func (c *Cache) forward(v *view, o *op, to origin, r *round) bool {
	node := v.primary[o.group]
	if node == "" || node == c.opt.Self {
		return false
	}
	rem := c.remote(node)
	rem.mu.Lock()
	defer rem.mu.Unlock()
	if rem.stream == nil || (len(rem.free) == 0 && len(rem.pending) >= maxPending) || rem.bytes >= maxPendingBytes {
		return false
	}
	if k := to.conn; k != nil && k.inflight.Load() > 0 && k.turn.Load() != c.turns.Load() {
		return false // refused since its order was looked at: with the new generation it would overtake
	}
	at, p := rem.take()
	p.to, p.write, p.group, p.gen = to, o.writes(), o.group, rem.generation[o.group]
	if p.deadline = o.deadline; p.deadline == 0 {
		p.deadline = r.now + c.opt.Wait.Milliseconds()
	}
	if o.scripted() {
		p.deadline += c.opt.ScriptLimit.Milliseconds()
	}
	o.noBlock, p.waited, p.until = to.b == nil, o.waited, o.until
	p.body = appendRequest(p.body[:0], o, uint64(p.serial)<<32|uint64(at), p.gen, r.now)
	buf, ok := rem.stream.Begin(frameRequest)
	if !ok {
		rem.give(at)
		return false
	}
	p.size = len(p.body)
	rem.bytes += p.size
	rem.stream.End(append(buf, p.body...))
	if to.b != nil {
		if v := to.b.sent(rem, at, p.serial); v != noVerdict {
			rem.sendCancel(rem.stream, at, p.serial, v)
		}
	}
	if to.conn != nil {
		to.conn.inflight.Add(1)
	}
	r.sent(rem.stream)
	c.Stats.Forwarded.Add(1)
	return true
}

func (r *remote) take() (uint32, *pending) {
	if n := len(r.free); n > 0 {
		at := r.free[n-1]
		r.free = r.free[:n-1]
		r.pending[at].used = true
		return at, &r.pending[at]
	}
	r.pending = append(r.pending, pending{used: true})
	return uint32(len(r.pending) - 1), &r.pending[len(r.pending)-1]
}

func (r *remote) give(at uint32) {
	p := &r.pending[at]
	r.bytes -= p.size
	body := p.body[:0]
	if cap(body) > 4<<10 {
		body = nil
	}
	*p = pending{serial: p.serial + 1, body: body}
	r.free = append(r.free, at)
}

func appendRequest(b []byte, o *op, id uint64, gen uint32, now int64) []byte {
	var flags byte
	if o.part {
		flags |= flagPart
	}
	if o.proto == 3 {
		flags |= flagRESP3
	}
	if o.noBlock {
		flags |= flagNoBlock
	}
	if o.waited {
		flags |= flagWaited
	}
	if o.tx != nil || o.watch {
		flags |= flagTx
	}
	if o.quorum {
		flags |= flagQuorum
	}
	flags |= o.flags()
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint32(b, gen)
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint16(b, o.group)
	b = binary.LittleEndian.AppendUint16(b, o.slot)
	count := uint32(len(o.args))
	if o.user != "" {
		count |= countUser
	}
	b = binary.LittleEndian.AppendUint32(b, count)
	if o.waited {
		b = binary.LittleEndian.AppendUint64(b, uint64(remaining(o.until, now)))
	}
	for _, a := range o.args {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(a)))
		b = append(b, a...)
	}
	if o.user != "" {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(o.user)))
		b = append(b, o.user...)
	}
	if o.by != 0 {
		b = binary.LittleEndian.AppendUint64(b, o.by)
	}
	return b
}

// readRequest parses a request into o; its arguments alias b.
func readRequest(b []byte, o *op, now int64) (id uint64, gen uint32, err error) {
	if len(b) < requestHeader {
		return 0, 0, errRequest
	}
	id, gen = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	o.part, o.proto = b[12]&flagPart != 0, 2
	flags := b[12]
	if flags&flagRESP3 != 0 {
		o.proto = 3
	}
	o.noBlock, o.waited, o.until = flags&flagNoBlock != 0, flags&flagWaited != 0, 0
	o.quorum, o.stale = flags&flagQuorum != 0, false
	o.origins = origins{reads: flags&flagReads != 0}
	by := flags&flagBy != 0
	o.group, o.slot = binary.LittleEndian.Uint16(b[13:]), binary.LittleEndian.Uint16(b[15:])
	count := binary.LittleEndian.Uint32(b[17:])
	o.user = ""
	b = b[requestHeader:]
	if o.waited {
		if len(b) < 8 {
			return id, gen, errRequest
		}
		o.until = deadline(int64(binary.LittleEndian.Uint64(b)), now)
		b = b[8:]
	}
	o.args = o.args[:0]
	word := func() (word []byte, ok bool) {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint32(b)) {
			return nil, false
		}
		end := 4 + int(binary.LittleEndian.Uint32(b))
		word, b = b[4:end], b[end:]
		return word, true
	}
	for range count &^ countUser {
		arg, ok := word()
		if !ok {
			return id, gen, errRequest
		}
		o.args = append(o.args, arg)
	}
	if count&countUser != 0 {
		name, ok := word()
		if !ok || len(name) == 0 {
			return id, gen, errRequest
		}
		o.user = string(name)
	}
	if by && len(b) == 8 {
		o.by, b = binary.LittleEndian.Uint64(b), nil
	}
	if len(o.args) == 0 || int(o.group) >= ring.Groups || o.slot >= ring.Slots || ring.GroupOf(o.slot) != o.group || len(b) > 0 {
		return id, gen, errRequest
	}
	o.tx, o.watch = nil, false
	if flags&flagTx != 0 {
		return id, gen, o.readTx()
	}
	var problem string
	if o.spec, problem = command.Resolve(o.args); problem != "" {
		return id, gen, fmt.Errorf("%w: %s (is that node of another version?)", errRequest, problem)
	}
	if o.spec.Scope == command.ScopeConn || o.spec.Scope == command.ScopeNode || o.part == (o.spec.Scope == command.ScopeKey) {
		return id, gen, fmt.Errorf("%w: %s can't be forwarded so", errRequest, o.spec.Name)
	}
	return id, gen, nil
}

// Connected says that s is now the forward stream to its node.
func (c *Cache) Connected(s stream) {
	r := c.remote(s.Peer.NodeID)
	r.mu.Lock()
	r.stream = s
	r.mu.Unlock()
	c.park.kick()
}

// Disconnected says that the stream has ended: what it was asked to write may or may not have happened; reads are
// asked again.
func (c *Cache) Disconnected(s stream) {
	r := c.remote(s.Peer.NodeID)
	r.mu.Lock()
	if r.stream != s {
		r.mu.Unlock()
		return
	}
	r.stream = nil
	var open []pending
	for i := range r.pending {
		if p := &r.pending[i]; p.used {
			open = append(open, *p)
			p.body = nil
			r.give(uint32(i))
		}
	}
	r.mu.Unlock()
	for i := range open {
		c.giveUp(&open[i])
	}
}

func (p *pending) settled() {
	if p.to.conn != nil {
		p.to.conn.inflight.Add(-1)
	}
}

// again lets a request that was not executed wait for a route, and for that long at least.
func (c *Cache) again(p *pending, after time.Duration) {
	now := c.ticks()
	w := waiting{
		body: p.body, to: p.to, write: p.write, group: p.group, deadline: p.deadline, waited: p.waited, until: p.until,
		after: now + after.Milliseconds(),
	}
	if p.waited {
		w.deadline = now + c.opt.Wait.Milliseconds() // of its route; it may wait for its keys for longer
	}
	if b := p.to.b; b != nil {
		b.nowhere()
	}
	// It is put back before it stops being in flight: what the connection sent later waits for the one or the other.
	w.entered()
	if !c.park.putBack(w) {
		w.abandon(errBusy)
	}
	p.settled()
	c.park.kick()
}

// Answered handles a frame that came back on a forward stream.
func (c *Cache) Answered(s stream, typ byte, body []byte) error {
	if typ != frameReply || len(body) < replyHeader {
		return errRequest
	}
	id := binary.LittleEndian.Uint64(body)
	r := c.remote(s.Peer.NodeID)
	r.mu.Lock()
	at := uint32(id)
	if r.stream != s || int(at) >= len(r.pending) || !r.pending[at].used || r.pending[at].serial != uint32(id>>32) {
		r.mu.Unlock()
		return nil // given up meanwhile
	}
	if body[8] == statusWaits {
		p := &r.pending[at]
		b := p.to.b
		if b == nil || len(body) != replyHeader+8 {
			r.mu.Unlock()
			return errRequest
		}
		p.waited, p.deadline = true, noDeadline
		p.until = deadline(int64(binary.LittleEndian.Uint64(body[replyHeader:])), c.ticks())
		r.mu.Unlock()
		b.sleepsThere()
		return nil
	}
	p := r.pending[at]
	back, after := true, time.Duration(0)
	switch body[8] {
	case statusNotPrimary:
		if after = parkRetry / 2; r.generation[p.group] <= p.gen {
			r.generation[p.group] = p.gen + 1
			c.turns.Add(1)
		}
	case statusSlot:
		if !p.moves(body[replyHeader:]) {
			r.mu.Unlock()
			return errRequest
		}
		c.turns.Add(1) // what its connection sends from now on stays behind it
	default:
		back = false
	}
	if back {
		r.pending[at].body = nil
	}
	r.give(at)
	r.mu.Unlock()
	if back {
		c.again(&p, after)
		return nil
	}
	p.to.reply(body[9:])
	p.settled()
	return nil
}

// moves gives the request the slot that an answer names.
func (p *pending) moves(raw []byte) bool {
	if len(raw) != 2 || binary.LittleEndian.Uint16(raw) >= ring.Slots {
		return false
	}
	slot := binary.LittleEndian.Uint16(raw)
	p.group = ring.GroupOf(slot)
	binary.LittleEndian.PutUint16(p.body[13:], p.group)
	binary.LittleEndian.PutUint16(p.body[15:], slot)
	return true
}

// expirePending gives up on answers that did not come in time, and on those of a silent node that is not the primary any
// more: nothing that it may still say counts. What it was asked to write may or may not have happened; reads are asked
// again, of the new primary.
func (c *Cache) expirePending(now int64) {
	v := c.view.Load()
	for node, r := range *c.remotes.Load() {
		down := c.opt.Down(node)
		var late []pending
		r.mu.Lock()
		for i := range r.pending {
			p := &r.pending[i]
			if !p.used {
				continue
			}
			if p.overdue = p.deadline+1000 < now; p.overdue || down && v.elsewhere(p.group, node) {
				late = append(late, *p)
				p.body = nil
				r.give(uint32(i))
			}
		}
		r.mu.Unlock()
		for i := range late {
			c.giveUp(&late[i])
		}
	}
}

func (c *Cache) giveUp(p *pending) {
	switch {
	case p.node:
		p.to.fail(errNoAnswer)
	case p.write:
		c.Stats.Unanswered.Add(1)
		p.settled()
		p.to.fail(errUnknown)
	case p.overdue:
		c.Stats.Unanswered.Add(1)
		p.settled()
		p.to.fail(errNoAnswer)
	default:
		c.again(p, parkRetry/2)
	}
}

// Inbound executes what one other node forwards. It is used by the stream's reader alone.
type Inbound struct {
	c     *Cache
	s     stream
	round *round
	w     resp.Writer
	o     op
	now   int64
	order uint64
	// backlog is how much waits in the stream.
	backlog atomic.Int64
	refuse  [ring.Groups]atomic.Uint32 // requests of older generations than this are refused
	// waiting counts the requests that wait here until their group may answer.
	waiting [ring.Groups]atomic.Int32
	// visitors are the commands that may wait here; visiting counts them.
	visitors visitors
	visiting atomic.Int32
}

// Accept says that another node opened s to forward commands here.
func (c *Cache) Accept(s stream) *Inbound { return &Inbound{c: c, s: s, round: earlyRound()} }

// Frame handles one request.
func (in *Inbound) Frame(typ byte, body []byte) error {
	if typ == frameCancel {
		return in.cancel(body)
	}
	if typ == frameScript {
		return in.scriptFrame(body)
	}
	if typ != frameRequest {
		return errRequest
	}
	if in.backlog.Load() > maxReplies {
		in.BatchEnd()
		in.s.AwaitDrain() // the asking node takes its answers in whether it asks or not, so this ends
		in.backlog.Store(0)
	}
	if in.now == 0 {
		in.now = in.c.ticks()
	}
	id, gen, err := readRequest(body, &in.o, in.now)
	if err != nil {
		return err
	}
	o := &in.o
	in.c.Stats.Received.Add(1)
	o.gen, o.from = gen, in.s.Peer.NodeID
	if o.reads {
		in.c.readingFor(o)
	}
	// What waits is answered first, a refusal too: the asking node takes the order of refusals for that of its commands.
	waits := in.waiting[o.group].Load() > 0
	if !waits && gen < in.refuse[o.group].Load() {
		in.send(id, statusNotPrimary, nil)
		return nil
	}
	in.w.Buf, in.w.Proto = in.w.Buf[:0], o.proto
	in.order++
	to, where := origin{sink: in, id: id, n: in.order}, later
	if blocks(o.spec) && !o.noBlock {
		to.b = in.begin(id)
	}
	if !waits {
		where = in.timed(o, to)
	}
	switch where {
	case elsewhere:
		in.notHere(id, o.group, gen)
	case later:
		in.c.wait(o, to)
	}
	if cap(in.w.Buf) > 1<<20 {
		in.w.Buf = nil
	}
	return nil
}

// timed executes a request, and sees whether that took long. The node that asked counts it.
func (in *Inbound) timed(o *op, to origin) outcome {
	if o.spec.Quick && !in.c.obs.record.Exact() {
		return in.c.exec(o, &in.w, in.now, in.round, to)
	}
	began := monotonic()
	where := in.c.exec(o, &in.w, in.now, in.round, to)
	if where == done {
		in.c.timed(monotonic()-began, o.spec, o.args, in.s.Peer.NodeID, nil)
	}
	return where
}

// notHere refuses a request, and with it those of the same generation that come behind it.
func (in *Inbound) notHere(id uint64, group uint16, gen uint32) {
	for {
		old := in.refuse[group].Load()
		if old > gen || in.refuse[group].CompareAndSwap(old, gen+1) {
			break
		}
	}
	in.send(id, statusNotPrimary, nil)
}

// settle implements sink. The reply of a write that is committed later comes from another goroutine.
func (in *Inbound) settle(id uint64, raw []byte) { in.send(id, statusDone, raw) }

func (in *Inbound) send(id uint64, status byte, raw []byte) {
	in.forget(id)
	if len(raw) > peer.MaxBody-replyHeader {
		raw = errLarge
	}
	buf, ok := in.s.Begin(frameReply)
	if !ok {
		return
	}
	in.backlog.Store(int64(len(buf) + len(raw)))
	buf = binary.LittleEndian.AppendUint64(buf, id)
	in.s.End(append(append(buf, status), raw...))
	in.c.markDirty(in.s)
}

// BatchEnd makes durable what the frames wrote and sends the answers. If that fails, the stream is closed: the asking
// node then reports the outcome as unknown.
func (in *Inbound) BatchEnd() {
	in.now = 0
	err := in.c.driver.EndBatch(&in.round.batch)
	if err != nil {
		in.s.Close()
	}
	in.round.release(err == nil)
	in.c.countReads(&in.round.reads)
	in.c.flushDirty()
}
