package cache

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"sync"
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// Frames of a forward stream. The node that dialed sends requests, the other one answers; integers are little-endian.
//
//	request: id u64, generation u32, flags u8, group u16, slot u16, argc u32, {length u32, bytes}…
//	reply:   id u64, status u8, RESP bytes
const (
	frameRequest = 1
	frameReply   = 2

	requestHeader = 8 + 4 + 1 + 2 + 2 + 4

	flagPart  = 1
	flagRESP3 = 2

	statusDone       = 0
	statusNotPrimary = 1 // nothing was executed: ask again, or ask another node
)

var errRequest = errors.New("malformed forward frame")

// maxPending bounds the commands that one node has for us at a time; above it, they wait here.
const maxPending = 1 << 16

// remote is the forward stream to one node and what was asked over it.
type remote struct {
	node  string
	cache *Cache

	mu      sync.Mutex
	stream  stream
	pending []pending
	free    []uint32
	// generation is raised for a group when the node refused a request for it, so that requests which were on their
	// way behind the refused one are refused too and none overtakes it.
	generation [ring.Groups]uint32
}

type pending struct {
	serial   uint32 // told apart from an earlier use of the place
	used     bool
	write    bool
	group    uint16
	gen      uint32
	deadline int64
	to       origin
	body     []byte // the request, kept until answered: a refused one is asked again
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
func (c *Cache) forward(o *op, to origin, r *round) bool {
	node := c.view.Load().primary[o.group]
	if node == "" || node == c.opt.Self {
		return false
	}
	rem := c.remote(node)
	rem.mu.Lock()
	defer rem.mu.Unlock()
	if rem.stream == nil || (len(rem.free) == 0 && len(rem.pending) >= maxPending) {
		return false
	}
	at, p := rem.take()
	p.to, p.write, p.group, p.gen = to, o.spec.Write, o.group, rem.generation[o.group]
	p.deadline = r.now + c.opt.Wait.Milliseconds()
	p.body = appendRequest(p.body[:0], o, uint64(p.serial)<<32|uint64(at), p.gen)
	buf, ok := rem.stream.Begin(frameRequest)
	if !ok {
		rem.give(at)
		return false
	}
	rem.stream.End(append(buf, p.body...))
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
	body := p.body[:0]
	if cap(body) > 4<<10 {
		body = nil
	}
	*p = pending{serial: p.serial + 1, body: body}
	r.free = append(r.free, at)
}

func appendRequest(b []byte, o *op, id uint64, gen uint32) []byte {
	var flags byte
	if o.part {
		flags |= flagPart
	}
	if o.proto == 3 {
		flags |= flagRESP3
	}
	b = binary.LittleEndian.AppendUint64(b, id)
	b = binary.LittleEndian.AppendUint32(b, gen)
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint16(b, o.group)
	b = binary.LittleEndian.AppendUint16(b, o.slot)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(o.args)))
	for _, a := range o.args {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(a)))
		b = append(b, a...)
	}
	return b
}

// readRequest parses a request into o; its arguments alias b.
func readRequest(b []byte, o *op) (id uint64, gen uint32, err error) {
	if len(b) < requestHeader {
		return 0, 0, errRequest
	}
	id, gen = binary.LittleEndian.Uint64(b), binary.LittleEndian.Uint32(b[8:])
	o.part, o.proto = b[12]&flagPart != 0, 2
	if b[12]&flagRESP3 != 0 {
		o.proto = 3
	}
	o.group, o.slot = binary.LittleEndian.Uint16(b[13:]), binary.LittleEndian.Uint16(b[15:])
	n := int(binary.LittleEndian.Uint32(b[17:]))
	b = b[requestHeader:]
	o.args = o.args[:0]
	for range n {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint32(b)) {
			return id, gen, errRequest
		}
		end := 4 + int(binary.LittleEndian.Uint32(b))
		o.args = append(o.args, b[4:end])
		b = b[end:]
	}
	if len(o.args) == 0 || int(o.group) >= ring.Groups || len(b) > 0 {
		return id, gen, errRequest
	}
	var problem string
	if o.spec, problem = command.Resolve(o.args); problem != "" {
		return id, gen, fmt.Errorf("%w: %s (is that node of another version?)", errRequest, problem)
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
		p := &open[i]
		if p.write {
			c.Stats.Unanswered.Add(1)
			p.settled()
			p.to.fail(errUnknown)
			continue
		}
		c.again(p)
	}
}

func (p *pending) settled() {
	if p.to.conn != nil {
		p.to.conn.inflight.Add(-1)
	}
}

// again lets a request that was not executed wait for a route.
func (c *Cache) again(p *pending) {
	w := waiting{
		body: p.body, to: p.to, write: p.write, group: p.group, deadline: p.deadline,
		after: time.Now().Add(parkRetry / 2).UnixMilli(),
	}
	if k := p.to.conn; k != nil {
		k.parked.Add(1)
	}
	p.settled()
	if !c.park.add(w) {
		w.abandon(errBusy)
		return
	}
	c.park.kick()
}

// Answered handles a frame that came back on a forward stream.
func (c *Cache) Answered(s stream, typ byte, body []byte) error {
	if typ != frameReply || len(body) < 9 {
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
	p := r.pending[at]
	refused := body[8] == statusNotPrimary
	if refused {
		r.generation[p.group] = max(r.generation[p.group], p.gen+1)
		r.pending[at].body = nil
	}
	r.give(at)
	r.mu.Unlock()
	if refused {
		c.again(&p)
		return nil
	}
	p.to.reply(body[9:])
	p.settled()
	return nil
}

// expirePending fails requests whose answer did not come.
func (c *Cache) expirePending(now int64) {
	for _, r := range *c.remotes.Load() {
		var late []pending
		r.mu.Lock()
		for i := range r.pending {
			if p := &r.pending[i]; p.used && p.deadline+1000 < now {
				late = append(late, *p)
				p.body = nil
				r.give(uint32(i))
			}
		}
		r.mu.Unlock()
		for i := range late {
			c.Stats.Unanswered.Add(1)
			late[i].settled()
			if late[i].write {
				late[i].to.fail(errUnknown)
			} else {
				late[i].to.fail(errNoAnswer)
			}
		}
	}
}

// Inbound executes what one other node forwards. It is used by the stream's reader alone.
type Inbound struct {
	c      *Cache
	s      stream
	round  *round
	w      resp.Writer
	o      op
	now    int64
	refuse [ring.Groups]uint32 // requests of older generations than this are refused
}

// Accept says that another node opened s to forward commands here.
func (c *Cache) Accept(s stream) *Inbound { return &Inbound{c: c, s: s, round: newRound()} }

// Frame handles one request.
func (in *Inbound) Frame(typ byte, body []byte) error {
	if typ != frameRequest {
		return errRequest
	}
	id, gen, err := readRequest(body, &in.o)
	if err != nil {
		return err
	}
	if in.now == 0 {
		in.now = time.Now().UnixMilli()
	}
	o := &in.o
	in.c.Stats.Received.Add(1)
	if gen < in.refuse[o.group] {
		in.send(id, statusNotPrimary, nil)
		return nil
	}
	in.w.Buf, in.w.Proto = in.w.Buf[:0], o.proto
	if !in.c.exec(o, &in.w, in.now, in.round, origin{sink: in, id: id}) {
		in.refuse[o.group] = gen + 1
		in.send(id, statusNotPrimary, nil)
	}
	if cap(in.w.Buf) > 1<<20 {
		in.w.Buf = nil
	}
	return nil
}

// settle implements sink. The reply of a write that is committed later comes from another goroutine.
func (in *Inbound) settle(id uint64, raw []byte) { in.send(id, statusDone, raw) }

func (in *Inbound) send(id uint64, status byte, raw []byte) {
	buf, ok := in.s.Begin(frameReply)
	if !ok {
		return
	}
	buf = binary.LittleEndian.AppendUint64(buf, id)
	in.s.End(append(append(buf, status), raw...))
	in.c.markDirty(in.s)
}

// BatchEnd makes durable what the frames wrote and sends the answers. If that fails, the stream is closed: the asking
// node then reports the outcome as unknown.
func (in *Inbound) BatchEnd() {
	in.now = 0
	if err := in.c.driver.EndBatch(&in.round.batch); err != nil {
		in.s.Close()
	}
	in.c.flushDirty()
}
