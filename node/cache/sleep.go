package cache

import (
	"container/heap"
	"container/list"
	"slices"
	"sync"
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
	"hypercache/node/store"
)

const (
	// maxSleepers and maxSleepingBytes bound the commands that wait for keys on one node.
	maxSleepers      = 1 << 16
	maxSleepingBytes = 64 << 20
)

// sleeper is a command that waits for its keys. All but at is under the group's lock.
type sleeper struct {
	b     *blocking
	o     op // its arguments are its own
	bytes int
	to    origin
	until int64 // a tick, 0 for ever
	wants store.Type
	keys  []keyPlace
	all   *list.Element // in sleepers.all, nil once it does not wait any more
	at    int           // in alarms, -1 if not there; under its lock
}

// keyPlace is a sleeper's place in the queue of one key.
type keyPlace struct {
	q *keyQueue
	e *list.Element
}

// keyQueue are the sleepers of one key, first come first served.
type keyQueue struct {
	key   string
	list  list.List
	picky int  // how many wait for a type of key; the rest wants to know of every change, a deletion too
	ready bool // in sleepers.ready
}

// sleepers are the commands that wait for keys of one group, under the group's lock.
type sleepers struct {
	all   list.List // in order of arrival
	keys  map[string]*keyQueue
	ready []*keyQueue // queues whose key changed, in order
	w     resp.Writer
	busy  bool // wake is at work
}

// alarms are the sleepers whose time ends, the first one first.
type alarms struct {
	mu    sync.Mutex
	heap  []*sleeper
	count int // of all sleepers, those without an end included
	bytes int
	kick  chan struct{} // there is a new first one
}

func (a *alarms) Len() int           { return len(a.heap) }
func (a *alarms) Less(i, j int) bool { return a.heap[i].until < a.heap[j].until }
func (a *alarms) Swap(i, j int) {
	a.heap[i], a.heap[j] = a.heap[j], a.heap[i]
	a.heap[i].at, a.heap[j].at = i, j
}
func (a *alarms) Push(x any) {
	s := x.(*sleeper)
	s.at = len(a.heap)
	a.heap = append(a.heap, s)
}
func (a *alarms) Pop() any {
	s := a.heap[len(a.heap)-1]
	a.heap[len(a.heap)-1] = nil
	a.heap = a.heap[:len(a.heap)-1]
	s.at = -1
	return s
}

// set counts a sleeper and notes when to end its wait. It is false when there are too many.
func (a *alarms) set(s *sleeper) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.count >= maxSleepers || a.bytes+s.bytes > maxSleepingBytes {
		return false
	}
	a.count++
	a.bytes += s.bytes
	if s.until == 0 {
		return true
	}
	heap.Push(a, s)
	if s.at == 0 {
		select {
		case a.kick <- struct{}{}:
		default:
		}
	}
	return true
}

func (a *alarms) remove(s *sleeper) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.count--
	a.bytes -= s.bytes
	if s.at >= 0 {
		heap.Remove(a, s.at)
	}
}

// due takes out those whose time is over.
func (a *alarms) due(now int64) (list []*sleeper) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for len(a.heap) > 0 && a.heap[0].until <= now {
		list = append(list, heap.Pop(a).(*sleeper))
	}
	return list
}

// next is how long it is until the first one's time is over; a long time if there is none.
func (a *alarms) next(now int64) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.heap) == 0 {
		return time.Hour
	}
	return time.Duration(min(max(a.heap[0].until-now, 0), 3_600_000)) * time.Millisecond
}

// ring ends the waits whose time is over.
func (c *Cache) ring(now int64) {
	for _, s := range c.alarms.due(now) {
		c.endSleep(s, inVain)
	}
}

// sleep lets a command wait that asked for it. The caller holds the group's lock.
func (c *Cache) sleep(p *part, o *op, fx *command.Effects, r *round, to origin) {
	if fx != nil && fx.N > 0 { // an expired key was in the way
		p.touched(o, p.group.Propose(fx.Buf, &r.batch))
	}
	if to.s != nil {
		to.t, to.conn = to.s.Hold(), to.s.User.(*conn)
		to.s.Suspend(to.b.gone)
		to.s = nil
	}
	s := &sleeper{b: to.b, o: *o, to: to, until: p.untilTick(r.now), wants: o.spec.WaitsFor(), at: -1}
	if o.waited {
		s.until = o.until
	}
	s.o.waited = true
	if a := p.ctx.Block.Args; a != nil {
		s.o.args = a
	}
	s.bytes = s.copyArgs()
	if !c.alarms.set(s) {
		to.fail("TRYAGAIN Too many commands wait for keys")
		return
	}
	p.sleepers.add(s)
	if v := s.b.sleeps(s); v != noVerdict {
		c.finishSleep(p, s, v)
		return
	}
	if in, ok := to.sink.(*Inbound); ok {
		in.sendWaits(to.id, s.until, r.now)
	}
}

// copyArgs gives the sleeper arguments of its own, in one piece of memory.
func (s *sleeper) copyArgs() (size int) {
	for _, a := range s.o.args {
		size += len(a)
	}
	buf := make([]byte, 0, size)
	args := make([][]byte, len(s.o.args))
	for i, a := range s.o.args {
		start := len(buf)
		buf = append(buf, a...)
		args[i] = buf[start:len(buf):len(buf)]
	}
	s.o.args = args
	return size + 64*len(args)
}

// add puts a sleeper behind those who wait for its keys already.
func (l *sleepers) add(s *sleeper) {
	if l.keys == nil {
		l.keys = map[string]*keyQueue{}
	}
	s.all = l.all.PushBack(s)
	for _, i := range command.Keys(s.o.spec, s.o.args, nil) {
		q := l.keys[string(s.o.args[i])]
		if q == nil {
			q = &keyQueue{key: string(s.o.args[i])}
			l.keys[q.key] = q
		}
		if slices.ContainsFunc(s.keys, func(k keyPlace) bool { return k.q == q }) {
			continue
		}
		if s.wants != store.None {
			q.picky++
		}
		s.keys = append(s.keys, keyPlace{q, q.list.PushBack(s)})
	}
}

// remove takes a sleeper out.
func (l *sleepers) remove(s *sleeper) {
	l.all.Remove(s.all)
	s.all = nil
	for _, k := range s.keys {
		k.q.list.Remove(k.e)
		if s.wants != store.None {
			k.q.picky--
		}
		if k.q.list.Len() == 0 {
			delete(l.keys, k.q.key)
		}
	}
}

// note marks the keys that events tell of and somebody waits for.
func (l *sleepers) note(ev *command.Events) {
	for i := range ev.List {
		e := &ev.List[i]
		switch {
		case e.Name != "":
		case e.Key != nil:
			l.mark(l.keys[string(e.Key)])
		default:
			for _, q := range l.keys {
				l.mark(q)
			}
		}
	}
}

func (l *sleepers) mark(q *keyQueue) {
	if q != nil && !q.ready {
		q.ready = true
		l.ready = append(l.ready, q)
	}
}

// wake runs again the commands that wait for the keys that events tell of, and those who wait for what these change in
// turn. The caller holds the group's lock, and has ordered and held back what it did itself: whoever is woken comes after
// it, and before anybody else.
func (c *Cache) wake(p *part, ev *command.Events, now int64, r *round) {
	l := &p.sleepers
	if l.all.Len() == 0 {
		return
	}
	l.note(ev)
	if len(l.ready) == 0 {
		return
	}
	l.busy = true
	for i := 0; i < len(l.ready); i++ {
		q := l.ready[i]
		q.ready = false
		c.serve(p, q, now, r)
	}
	clear(l.ready)
	l.ready, l.busy = l.ready[:0], false
	if !p.group.Primary() {
		c.reroute(p)
	}
	if cap(l.w.Buf) > 1<<20 {
		l.w.Buf = nil
	}
}

// serve runs the sleepers of one key in their order, as long as there is anything for them.
func (c *Cache) serve(p *part, q *keyQueue, now int64, r *round) {
	holds := p.typeOf(q.key)
	for e := q.list.Front(); e != nil; {
		if holds == store.None && q.picky == q.list.Len() {
			return
		}
		s := e.Value.(*sleeper)
		e = e.Next()
		if s.wants != store.None && s.wants != holds {
			continue
		}
		c.rerun(p, s, q, now, r)
		holds = p.typeOf(q.key)
	}
}

func (p *part) typeOf(key string) store.Type {
	if r, ok := p.shard.Peek([]byte(key)); ok {
		return r.Type()
	}
	return store.None
}

// rerun runs a sleeper once more. If that is not in vain, its reply goes the way of all replies. Those of other sessions
// than the round's own must not leave before the round's end, even on an event loop.
func (c *Cache) rerun(p *part, s *sleeper, q *keyQueue, now int64, r *round) {
	w := &p.sleepers.w
	w.Buf, w.Proto = w.Buf[:0], s.o.proto
	p.ctx.Ready = []byte(q.key)
	fx := p.run(&s.o, w, now, r, c.db.Policy())
	p.ctx.Ready = nil
	asks := p.ctx.Block.Asked
	var seq uint64
	ok := true
	switch {
	case !asks:
		seq, ok = p.order(&s.o, fx, r)
	case fx != nil && fx.N > 0:
		p.touched(&s.o, p.group.Propose(fx.Buf, &r.batch))
	}
	p.sleepers.note(&p.events)
	c.after(p, &s.o, fx)
	if asks {
		return
	}
	c.rise(p, s)
	switch {
	case !ok:
		c.route(s, now) // it may not be answered here yet, and has changed nothing
	case p.held(&s.o, seq):
		p.hold(seq, &s.o, s.to, w.Buf, now+c.opt.Wait.Milliseconds())
	case r.batch.Pending():
		s.b.end()
		r.keep(&s.to, w.Buf, s.o.spec.Write)
	default:
		s.to.reply(w.Buf)
	}
}

// rise takes a sleeper out of every list.
func (c *Cache) rise(p *part, s *sleeper) {
	p.sleepers.remove(s)
	c.alarms.remove(s)
}

// endSleep ends a wait from outside, if it has not ended.
func (c *Cache) endSleep(s *sleeper, v verdict) {
	p := &c.parts[s.o.group]
	p.group.Lock()
	if s.all != nil {
		c.finishSleep(p, s, v)
	}
	p.group.Unlock()
	c.flushDirty()
}

func (c *Cache) finishSleep(p *part, s *sleeper, v verdict) {
	c.rise(p, s)
	s.to.reply(v.answer(s.o.spec, s.o.proto))
}

// reroute sends every sleeper of a group on, when this node is not its primary any more. The caller holds the group's
// lock.
func (c *Cache) reroute(p *part) {
	if p.sleepers.busy {
		return // wake looks once it is done
	}
	now := c.ticks()
	for e := p.sleepers.all.Front(); e != nil; e = p.sleepers.all.Front() {
		s := e.Value.(*sleeper)
		c.rise(p, s)
		c.route(s, now)
	}
}

// route parks a command that slept, or gives it back to the node that sent it.
func (c *Cache) route(s *sleeper, now int64) {
	s.b.nowhere()
	if in, ok := s.to.sink.(*Inbound); ok {
		in.notHere(s.to.id, s.o.group, s.o.gen)
		return
	}
	s.o.until = s.until
	w := waiting{
		body: appendRequest(nil, &s.o, 0, 0, now), to: s.to, write: s.o.spec.Write, group: s.o.group, waited: true,
		until: s.until, deadline: now + c.opt.Wait.Milliseconds(),
	}
	w.entered()
	if !c.park.add(w) {
		w.abandon(errBusy)
		return
	}
	c.park.kick()
}
