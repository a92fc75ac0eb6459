package cache

import (
	"encoding/binary"
	"sync"

	"hypercache/node/command"
	"hypercache/node/resp"
)

// # Commands that wait
//
// BLPOP and its kind wait at the primary of their keys' group, as a sleeper in the part's queues (sleep.go), whichever
// node their client is connected to. A command that changed keys wakes the sleepers of those keys before the group's lock
// is given up: each is run again, in the order in which they began to wait, as a command of its own with its own record.
//
// A blocking describes one such command on one node from its arrival to its answer, and knows where it is: asleep here,
// pending at another node, or parked. Three things may end it early: its time, its client's end, and CLIENT UNBLOCK. They
// leave a verdict, then go where the command is; whoever moves the command to its next place looks for a verdict after
// the move. So one of the two always sees the other, and only the holder of the group's lock decides between an element
// and a verdict.
//
// A session executes nothing behind a command that may wait (resp.Session.Suspend), so the order of its commands needs
// nothing else.
//
// When the group's primary moves in good order, sleepers are parked and sent on to the new one with what is left of their
// time: they have changed nothing, so nobody need be told. When the link to the primary breaks, the command may have
// taken an element, and its client gets the error that every write of unknown outcome gets. Redis does the same in its
// way: there the connection itself breaks.

// verdict is how a wait was ended from outside.
type verdict uint8

const (
	noVerdict verdict = iota
	inVain            // as if its time were over
	unblocked         // CLIENT UNBLOCK … ERROR
)

const errUnblocked = "UNBLOCKED client unblocked via CLIENT UNBLOCK"

// answer writes the reply that the verdict means.
func (v verdict) answer(spec *command.Spec, proto int) []byte {
	w := resp.Writer{Proto: proto}
	switch {
	case v == unblocked:
		w.Error(errUnblocked)
	case spec.Name == "debug":
		w.OK()
	default:
		w.NullArray()
	}
	return w.Buf
}

// blocking is one command that may wait. Its lock is taken after a group's, a remote's and the park's, and before the list
// of those who wait.
type blocking struct {
	c    *Cache
	conn *conn // whose command it is; nil for one of another node, which lists its clients itself

	mu      sync.Mutex
	verdict verdict
	over    bool // it was answered
	waits   bool // it is known to wait for its keys
	here    *sleeper
	there   *remote
	at      uint32 // of its request there
	serial  uint32
}

func blocks(spec *command.Spec) bool {
	return spec.Flags&command.FlagBlocking != 0 || spec.Name == "debug" // DEBUG SLEEP
}

// gone is called when the client went away, or will hear no more.
func (b *blocking) gone() { b.cancel(inVain) }

// cancel ends the wait, now or when it begins. What comes first counts: the verdict or an element.
func (b *blocking) cancel(v verdict) bool {
	b.mu.Lock()
	if b.over {
		b.mu.Unlock()
		return false
	}
	if b.verdict == noVerdict {
		b.verdict = v
	}
	here, there, at, serial := b.here, b.there, b.at, b.serial
	b.mu.Unlock()
	switch {
	case here != nil:
		b.c.endSleep(here, v)
	case there != nil:
		there.cancel(at, serial, v)
	default:
		b.c.park.kick()
	}
	return true
}

func (b *blocking) judged() verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.verdict
}

// sleeps says that the command waits in this node's memory.
func (b *blocking) sleeps(s *sleeper) verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.here, b.there = s, nil
	b.listed()
	return b.verdict
}

// sent says that another node has the command.
func (b *blocking) sent(r *remote, at, serial uint32) verdict {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.here, b.there, b.at, b.serial = nil, r, at, serial
	return b.verdict
}

// sleepsThere says that the other node has it wait.
func (b *blocking) sleepsThere() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.listed()
}

// nowhere says that the command is on its way between places.
func (b *blocking) nowhere() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.here, b.there = nil, nil
}

// end says that the command is about to be answered.
func (b *blocking) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.over {
		return
	}
	b.over, b.here, b.there = true, nil, nil
	if b.waits && b.conn != nil {
		b.conn.client.SetBlocked(false)
		b.c.blocked.remove(b.conn.client.ID())
	}
}

// listed shows the client among those that wait.
func (b *blocking) listed() {
	if b.waits || b.over {
		return
	}
	b.waits = true
	if b.conn != nil {
		b.conn.client.SetBlocked(true)
		b.c.blocked.add(b.conn.client.ID(), b)
	}
}

// blockedClients are this node's clients that wait, by their ids.
type blockedClients struct {
	mu   sync.Mutex
	byID map[uint64]canceler
}

// canceler is what a client waits for: keys, or replicas.
type canceler interface {
	// cancel ends the wait as the verdict says, and tells whether there was one.
	cancel(v verdict) bool
}

func (l *blockedClients) add(id uint64, b canceler) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.byID == nil {
		l.byID = map[uint64]canceler{}
	}
	l.byID[id] = b
}

func (l *blockedClients) remove(id uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(l.byID, id)
}

func (l *blockedClients) find(id uint64) canceler {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.byID[id]
}

// Blocked counts this node's clients that wait for keys or replicas.
func (c *Cache) Blocked() int {
	c.blocked.mu.Lock()
	defer c.blocked.mu.Unlock()
	return len(c.blocked.byID)
}

// Unblock ends the wait of a client of this node, with an error or as its timeout would, and tells whether it waited.
func (c *Cache) Unblock(id uint64, withError bool) bool {
	b := c.blocked.find(id)
	if b == nil {
		return false
	}
	v := inVain
	if withError {
		v = unblocked
	}
	return b.cancel(v)
}

// cancel tells the node that has a request to end its wait.
func (r *remote) cancel(at, serial uint32, v verdict) {
	r.mu.Lock()
	s := r.stream
	if s == nil || int(at) >= len(r.pending) || !r.pending[at].used || r.pending[at].serial != serial {
		r.mu.Unlock()
		return
	}
	r.sendCancel(s, at, serial, v)
	r.mu.Unlock()
	s.Flush()
}

func (r *remote) sendCancel(s stream, at, serial uint32, v verdict) {
	if buf, ok := s.Begin(frameCancel); ok {
		buf = binary.LittleEndian.AppendUint64(buf, uint64(serial)<<32|uint64(at))
		s.End(append(buf, byte(v)))
	}
}

// visitors are the commands of another node that may wait here, by their requests.
type visitors struct {
	mu     sync.Mutex
	byID   map[uint64]*blocking
	closed bool
}

// begin notes a command that may wait.
func (in *Inbound) begin(id uint64) *blocking {
	b := &blocking{c: in.c}
	v := &in.visitors
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.byID == nil {
		v.byID = map[uint64]*blocking{}
	}
	v.byID[id] = b
	in.visiting.Store(int32(len(v.byID)))
	if v.closed {
		b.verdict = inVain
	}
	return b
}

// forget is called when a request is answered.
func (in *Inbound) forget(id uint64) {
	if in.visiting.Load() == 0 {
		return
	}
	v := &in.visitors
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.byID, id)
	in.visiting.Store(int32(len(v.byID)))
}

// cancel ends the wait of a request, as the other node demands.
func (in *Inbound) cancel(body []byte) error {
	if len(body) != 9 || body[8] == 0 || verdict(body[8]) > unblocked {
		return errRequest
	}
	in.visitors.mu.Lock()
	b := in.visitors.byID[binary.LittleEndian.Uint64(body)]
	in.visitors.mu.Unlock()
	if b != nil {
		b.cancel(verdict(body[8]))
	}
	return nil
}

// Ended says that the stream has ended: nothing must be taken any more for those who wait over it.
func (in *Inbound) Ended() {
	v := &in.visitors
	v.mu.Lock()
	v.closed = true
	var all []*blocking
	for _, b := range v.byID {
		all = append(all, b)
	}
	v.mu.Unlock()
	for _, b := range all {
		b.cancel(inVain)
	}
}

// sendWaits tells the other node that its request waits, and for how long still.
func (in *Inbound) sendWaits(id uint64, until, now int64) {
	buf, ok := in.s.Begin(frameReply)
	if !ok {
		return
	}
	buf = append(binary.LittleEndian.AppendUint64(buf, id), statusWaits)
	in.s.End(binary.LittleEndian.AppendUint64(buf, uint64(remaining(until, now))))
	in.c.markDirty(in.s)
}

// remaining is what is left of a wait in ms, 0 if it has no end. Nodes tell each other durations, since their clocks may
// differ.
func remaining(until, now int64) int64 {
	if until == 0 {
		return 0
	}
	return max(until-now, 1)
}

// deadline is the opposite of remaining.
func deadline(left, now int64) int64 {
	if left <= 0 {
		return 0
	}
	return now + left
}
