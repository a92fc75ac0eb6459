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
	deadline int64  // unix ms
	after    int64  // unix ms: not before, so that two nodes that disagree don't play ping-pong
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
	w := waiting{
		body: appendRequest(nil, o, 0, 0), to: to, write: o.spec.Write, group: o.group,
		gen: o.gen, deadline: time.Now().Add(c.opt.Wait + c.obs.pause.left()).UnixMilli(),
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
	r := earlyRound()
	defer c.work.wait()
	var retry <-chan time.Time // set while commands are parked
	for {
		select {
		case <-ctx.Done():
			c.work.close()
			c.park.close()
			c.routeParked(r, true)
			c.expirePending(math.MaxInt64)
			c.endRound(r)
			return
		case <-c.park.wake:
			c.routeParked(r, false)
		case <-retry:
			c.routeParked(r, false)
		case <-tick.C:
			now := time.Now().UnixMilli()
			c.sweep(now, r)
			c.expirePending(now)
			c.driver.Tick(&r.batch)
			c.obs.bus.Tick(time.Now())
			c.answerWaits(time.Now())
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
	now := time.Now().UnixMilli()
	v := c.view.Load()
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
		if now > w.deadline || k.settled(v) {
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
		w.abandon(errNoPrimary)
		return true
	case now < w.after:
		return false
	}
	var o op
	if _, _, err := readRequest(w.body, &o); err != nil {
		w.abandon("ERR " + err.Error())
		return true
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
