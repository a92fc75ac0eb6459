package cache

import (
	"context"
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
	settled  bool // it must not run before everything its connection has on other nodes is answered
	group    uint16
	deadline int64 // unix ms
	after    int64 // unix ms: not before, so that two nodes that disagree don't play ping-pong
}

// abandon answers a command that will not run.
func (w *waiting) abandon(msg string) {
	if k := w.to.conn; k != nil {
		k.parked.Add(-1)
	}
	w.to.fail(msg)
}

// parking holds commands without a route, in order for each group. Router goes through them.
type parking struct {
	mu     sync.Mutex
	queues [ring.Groups][]waiting
	count  int
	bytes  int
	wake   chan struct{}
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
	if p.count >= maxParked || p.bytes+len(w.body) > maxParkedBytes {
		return false
	}
	p.count++
	p.bytes += len(w.body)
	p.queues[w.group] = append(p.queues[w.group], w)
	return true
}

// wait parks an op until its group has a primary, or its time is over.
func (c *Cache) wait(o *op, to origin, settled bool) {
	w := waiting{
		body: appendRequest(nil, o, 0, 0), to: to, write: o.spec.Write, settled: settled, group: o.group,
		deadline: time.Now().Add(c.opt.Wait).UnixMilli(),
	}
	if to.conn != nil {
		to.conn.parked.Add(1)
	}
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
	r := newRound()
	var retry <-chan time.Time // set while commands are parked
	for {
		select {
		case <-ctx.Done():
			c.routeParked(r, true)
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
		}
		c.endRound(r)
		if retry = nil; c.park.waiting() {
			retry = time.After(parkRetry)
		}
	}
}

func (p *parking) waiting() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.count > 0
}

// routeParked sends on what has a route now. Each group's commands go in order: one that must wait stops those behind.
func (c *Cache) routeParked(r *round, closing bool) {
	c.park.mu.Lock()
	if c.park.count == 0 {
		c.park.mu.Unlock()
		return
	}
	now := time.Now().UnixMilli()
	for group := range c.park.queues {
		for len(c.park.queues[group]) > 0 {
			w := c.park.queues[group][0]
			c.park.mu.Unlock()
			done := c.routeOne(&w, now, r, closing)
			c.park.mu.Lock()
			if !done {
				break
			}
			c.park.count--
			c.park.bytes -= len(w.body)
			q := c.park.queues[group]
			q[0] = waiting{}
			if c.park.queues[group] = q[1:]; len(q) == 1 {
				c.park.queues[group] = nil
			}
		}
	}
	c.park.mu.Unlock()
}

// routeOne runs, forwards or gives up the command; false leaves it where it is. Only the Run goroutine calls it, and
// only it removes from the queues.
func (c *Cache) routeOne(w *waiting, now int64, r *round, closing bool) bool {
	switch {
	case closing:
		w.abandon("LOADING The node is stopping")
		return true
	case now > w.deadline:
		c.Stats.Unanswered.Add(1)
		w.abandon(errNoPrimary)
		return true
	case now < w.after:
		return false
	case w.settled && w.to.conn != nil && !w.to.conn.settled(c.view.Load()):
		return false
	}
	var o op
	if _, _, err := readRequest(w.body, &o); err != nil {
		w.abandon("ERR " + err.Error())
		return true
	}
	out := resp.Writer{Proto: o.proto}
	if !c.exec(&o, &out, now, r, w.to) && !c.forward(&o, w.to, r) {
		return false
	}
	if k := w.to.conn; k != nil {
		k.parked.Add(-1)
	}
	return true
}
