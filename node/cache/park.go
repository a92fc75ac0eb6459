package cache

import (
	"context"
	"math"
	"slices"
	"sync"
	"time"

	"hypercache/node/resp"
	"hypercache/node/ring"
)

const (
	maxParked      = 1 << 16
	maxParkedBytes = 256 << 20
	parkRetry      = 10 * time.Millisecond
)

// waiting is a command that has no route yet: its group elects a primary, or the primary waits out a lease.
type waiting struct {
	body     []byte // as a forward request
	to       origin
	write    bool
	group    uint16
	gen      uint32 // of a request from another node
	deadline int64  // a tick
	after    int64  // a tick: not before, so that two nodes that disagree don't play ping-pong
	waited   bool   // it waited for its keys before, and does so until
	until    int64  // a tick, 0 for ever
}

// entered and left count the commands that wait for those who must not overtake them.
func (w *waiting) entered() { w.count(1) }

func (w *waiting) left() { w.count(-1) }

func (w *waiting) count(n int32) {
	if k := w.to.conn; k != nil {
		k.parked.Add(n)
	}
	if in, ok := w.to.sink.(*Inbound); ok {
		in.waiting[w.group].Add(n)
	}
}

// ended tells that a command which may wait need not run any more.
func (w *waiting) ended(now int64) verdict {
	switch {
	case w.to.b == nil:
		return noVerdict
	case w.waited && w.until != 0 && w.until <= now:
		return inVain
	}
	return w.to.b.judged()
}

// finish answers a command whose wait has ended.
func (w *waiting) finish(v verdict) {
	var o op
	if _, _, err := readRequest(w.body, &o, 0); err != nil {
		w.abandon("ERR " + err.Error()) // its own words: not possible
		return
	}
	w.left()
	w.to.reply(v.answer(o.spec, o.proto))
}

// foreign says whether another node's client sent the command.
func (w *waiting) foreign() bool {
	_, ok := w.to.sink.(*Inbound)
	return ok
}

// abandon answers a command that will not run.
func (w *waiting) abandon(msg string) {
	w.left()
	w.to.fail(msg)
}

// parking holds commands without a route, in order for each group. Router goes through them.
type parking struct {
	mu     sync.Mutex
	queues [ring.Groups][]*waiting
	count  int
	bytes  int
	wake   chan struct{}
	closed bool
}

func (p *parking) init() { p.wake = make(chan struct{}, 1) }

// kick says that routes may have changed.
func (p *parking) kick() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

func (p *parking) add(w waiting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.count >= maxParked || p.bytes+len(w.body) > maxParkedBytes {
		return false
	}
	p.count++
	p.bytes += len(w.body)
	p.queues[w.group] = append(p.queues[w.group], &w)
	return true
}

// putBack adds a command that was sent and came back: in front of what its source sent after it.
func (p *parking) putBack(w waiting) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed || p.count >= maxParked || p.bytes+len(w.body) > maxParkedBytes {
		return false
	}
	p.count++
	p.bytes += len(w.body)
	q := p.queues[w.group]
	at := len(q)
	if source := w.to.source(); source != nil {
		at = slices.IndexFunc(q, func(x *waiting) bool { return x.to.n > w.to.n && x.to.source() == source })
		if at < 0 {
			at = len(q)
		}
	}
	p.queues[w.group] = slices.Insert(q, at, &w)
	return true
}

// wait parks an op until its group has a primary, or its time is over.
func (c *Cache) wait(o *op, to origin) {
	now := c.ticks()
	w := waiting{
		body: appendRequest(nil, o, 0, 0, now), to: to, write: o.writes(), group: o.group,
		gen: o.gen, deadline: c.latest(now), waited: o.waited, until: o.until,
	}
	w.entered()
	c.Stats.Parked.Add(1)
	if !c.park.add(w) {
		w.abandon(errBusy)
		return
	}
	c.park.kick()
}

// Run retries parked commands, deletes expired keys and fails what has waited too long, until ctx ends. Commands that
// are parked then are answered with an error.
func (c *Cache) Run(ctx context.Context) {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	alarm := time.NewTimer(time.Hour)
	defer alarm.Stop()
	r := earlyRound()
	defer c.work.wait()
	pieces := time.NewTimer(time.Hour) // of content that is sent to other nodes
	defer pieces.Stop()
	var retry, pace <-chan time.Time // set while commands are parked, and while there is more to housekeep
	for {
		select {
		case <-ctx.Done():
			c.work.close()
			c.scripts.stop()
			c.park.close()
			c.routeParked(r, true)
			c.expirePending(math.MaxInt64)
			c.endRound(r)
			return
		case <-c.park.wake:
			c.routeParked(r, false)
		case <-retry:
			c.routeParked(r, false)
		case <-pace:
			pace = nil
		case <-c.alarms.kick:
		case <-alarm.C:
		case <-c.driver.Wake():
		case <-pieces.C:
		case <-tick.C:
			now := c.ticks()
			if c.opt.Isolated != nil {
				c.isolated.Store(c.opt.Isolated())
			}
			c.tick(now)
			c.expirePending(now)
			c.driver.Tick(&r.batch)
			c.obs.bus.Tick(time.Now())
			c.answerWaits(time.Now())
		}
		if pace == nil && c.housekeep(r) {
			pace = time.After(slicePause)
		}
		now := c.ticks()
		c.ring(now)
		alarm.Reset(c.alarms.next(now))
		if after := c.driver.Pace(&r.batch); after > 0 {
			pieces.Reset(after)
		}
		c.endRound(r)
		if retry = nil; c.park.waiting() {
			retry = time.After(parkRetry)
		}
	}
}

// close refuses what comes from now on.
func (p *parking) close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
}

func (p *parking) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count > 0
}

// routeParked sends on what has a route now. Each group's commands go in order: one without a route stops those behind,
// one that waits for its connection's earlier ones only those of that connection.
func (c *Cache) routeParked(r *round, closing bool) {
	c.park.mu.Lock()
	if c.park.count == 0 {
		c.park.mu.Unlock()
		return
	}
	now := c.ticks()
	v := c.view.Load()
	c.endParked(now)
	for group := range c.park.queues {
		for {
			w := c.park.next(group, v, now, closing)
			if w == nil {
				break
			}
			c.park.mu.Unlock()
			gone := c.routeOne(v, w, now, r, closing)
			c.park.mu.Lock()
			if !gone {
				break
			}
			c.park.remove(group, w)
		}
	}
	c.park.mu.Unlock()
}

// endParked answers the commands whose wait for keys has ended, wherever they stand. The lock is held, but while they are
// answered.
func (c *Cache) endParked(now int64) {
	p := &c.park
	var ended []*waiting
	for group := range p.queues {
		for _, w := range p.queues[group] {
			if w.ended(now) != noVerdict {
				ended = append(ended, w)
			}
		}
	}
	for _, w := range ended {
		p.remove(int(w.group), w)
	}
	p.mu.Unlock()
	for _, w := range ended {
		w.finish(w.ended(now))
	}
	p.mu.Lock()
}

// next is the first of a group's commands that need not wait for an earlier one of its connection. It is called with
// the lock held, under which commands are put back before they stop being in flight: none is missed here.
func (p *parking) next(group int, v *view, now int64, closing bool) *waiting {
	var blocked []*conn
	for _, w := range p.queues[group] {
		k := w.to.conn
		if k == nil || closing {
			return w
		}
		if slices.Contains(blocked, k) {
			continue
		}
		if now > w.deadline || k.settled(v) && !k.detached.before(w.to.n) {
			return w
		}
		blocked = append(blocked, k)
	}
	return nil
}

func (p *parking) remove(group int, w *waiting) {
	q := p.queues[group]
	at := slices.Index(q, w)
	p.count--
	p.bytes -= len(w.body)
	if at == 0 {
		q[0] = nil
		q = q[1:]
	} else {
		q = slices.Delete(q, at, at+1)
	}
	if p.queues[group] = q; len(q) == 0 {
		p.queues[group] = nil
	}
}

// routeOne runs, forwards or gives up the command; false leaves it where it is. Only the Run goroutine calls it, and
// only it removes from the queues.
func (c *Cache) routeOne(v *view, w *waiting, now int64, r *round, closing bool) bool {
	switch {
	case closing:
		w.abandon("LOADING The node is stopping")
		return true
	case !w.foreign() && c.obs.pause.paused(w.write, now):
		return false
	case now > w.deadline:
		c.Stats.Unanswered.Add(1)
		msg := errNoPrimary
		if w.write && c.db.OverLimit() {
			msg = errOOM
		}
		w.abandon(msg)
		return true
	case now < w.after:
		return false
	}
	var o op
	if _, _, err := readRequest(w.body, &o, now); err != nil {
		w.abandon("ERR " + err.Error())
		return true
	}
	if v := w.ended(now); v != noVerdict {
		w.finish(v)
		return true
	}
	if w.waited {
		o.waited, o.until = true, w.until
	}
	in, _ := w.to.sink.(*Inbound)
	if in != nil && w.gen < in.refuse[w.group].Load() {
		in.notHere(w.to.id, w.group, w.gen)
		w.left()
		return true
	}
	o.deadline = w.deadline
	if in != nil {
		o.from = in.s.Peer.NodeID
	}
	out := resp.Writer{Proto: o.proto}
	switch c.exec(&o, &out, now, r, w.to) {
	case later:
		return false
	case elsewhere:
		if in != nil {
			in.notHere(w.to.id, w.group, w.gen) // the asking node keeps its connections' order
		} else if !c.forward(v, &o, w.to, r) {
			return false
		}
	}
	w.left()
	return true
}
