package sim

import (
	"errors"

	"hypercache/node/journal"
	"hypercache/node/replica"
)

// network carries replica streams and calls.
type network struct {
	w        *world
	loss     float64 // of calls
	repeat   float64 // of calls
	maxDelay int64
	cut      [][]bool        // from, to
	streams  map[[2]int]*end // by dialer and acceptor: the dialer's end of the newest stream
	heard    [][]int64       // [i][j]: when i last heard of j
}

func (t *network) build(w *world) {
	t.w = w
	t.maxDelay = []int64{300, 2000, 15000}[w.RNG.IntN(3)]
	if w.Chance(0.5) {
		t.loss, t.repeat = w.RNG.Float64()*0.1, w.RNG.Float64()*0.1
	}
	for range w.nodes {
		t.cut = append(t.cut, make([]bool, len(w.nodes)))
		heard := make([]int64, len(w.nodes))
		for i := range heard {
			heard[i] = w.Now
		}
		t.heard = append(t.heard, heard)
	}
	t.streams = map[[2]int]*end{}
	w.After(0, t.maintain)
}

func (t *network) heal() {
	t.loss, t.repeat = 0, 0
	t.healLinks()
}

func (t *network) healLinks() {
	for i := range t.cut {
		clear(t.cut[i])
	}
}

// works tells whether what a sends to b arrives.
func (t *network) works(a, b *node) bool {
	return a == b || a.alive && b.alive && !t.cut[a.index][b.index]
}

// both tells whether a and b can talk to each other now.
func (t *network) both(a, b *node) bool {
	return t.works(a, b) && t.works(b, a) && a.pausedUntil <= t.w.Now && b.pausedUntil <= t.w.Now
}

// suspect is after how long of silence a node counts as down.
const suspect = second

// down is a's view of b. A node whose process is gone refuses connections, which is noticed at once.
func (t *network) down(a, b *node) bool {
	if a == b {
		return false
	}
	if !b.alive && !t.cut[a.index][b.index] && !t.cut[b.index][a.index] {
		return true
	}
	return t.w.Now-t.heard[a.index][b.index] > suspect
}

// maintain opens streams that can be, breaks those whose link does not work, and lets nodes hear of each other.
func (t *network) maintain() {
	w := t.w
	for i, a := range w.nodes {
		for j, b := range w.nodes {
			if i == j {
				continue
			}
			if b.alive && t.works(b, a) && b.pausedUntil <= w.Now {
				t.heard[i][j] = w.Now
			}
			e := t.streams[[2]int{i, j}]
			switch ok := t.both(a, b) && a.ready && b.ready; {
			case e == nil && ok && a.knows(b):
				t.dial(a, b)
			case e != nil && !t.cut[i][j] && !t.cut[j][i]:
			case e != nil && w.Chance(0.15):
				t.sever(e)
			}
		}
	}
	w.After(w.Between(10*millisecond, 60*millisecond), t.maintain)
}

// end is one node's side of a replica stream: what replica.Driver writes to and is read from.
type end struct {
	w      *world
	n      *node
	life   uint64
	peer   *end
	dialer bool
	up     bool // as far as this side knows
	deaf   bool // nothing arrives any more
	rcv    *replica.Receiver[*end]

	typ    byte
	out    []frame // written and not flushed
	flight []frame // on the wire
	moving bool    // a delivery is scheduled
	inbox  []frame // arrived while the reader is busy
	busy   bool    // the reader waits for the disk
}

type frame struct {
	typ  byte
	body []byte
	at   int64
}

func (t *network) dial(a, b *node) {
	x := &end{w: t.w, n: a, life: a.life, dialer: true, up: true}
	y := &end{w: t.w, n: b, life: b.life, up: true, peer: x}
	x.peer = y
	t.streams[[2]int{a.index, b.index}] = x
	a.ends, b.ends = append(a.ends, x), append(b.ends, y)
	y.rcv = b.d.Accepted(a.id, y)
	x.rcv = a.d.PeerUp(b.id, x)
}

// sever breaks a stream: one side notices now, the other one later, and reads until then what was on its way.
func (t *network) sever(e *end) {
	t.w.count.Breaks++
	if t.streams[[2]int{e.n.index, e.peer.n.index}] == e {
		delete(t.streams, [2]int{e.n.index, e.peer.n.index})
	}
	first := e
	if t.w.Chance(0.5) {
		first = e.peer
	}
	late := t.w.Between(0, 300*millisecond)
	first.close()
	first.deaf = true // what is still on its way to it is lost
	t.w.After(late, first.peer.close)
}

// close is the moment at which this side notices that the stream is gone.
func (e *end) close() {
	if !e.up || !e.here() {
		return
	}
	if e.n.pausedUntil > e.w.Now {
		e.w.After(e.n.pausedUntil-e.w.Now, e.close)
		return
	}
	if e.busy || len(e.inbox) > 0 { // the reader goroutine ends after what it has read
		e.w.After(millisecond, e.close)
		return
	}
	e.up = false
	if e.dialer {
		if t := &e.w.net; t.streams[[2]int{e.n.index, e.peer.n.index}] == e {
			delete(t.streams, [2]int{e.n.index, e.peer.n.index})
		}
		e.n.d.PeerDown(e.peer.n.id, e)
	} else {
		e.n.d.Ended(e.peer.n.id, e)
	}
}

// here tells whether the process that has this end still runs.
func (e *end) here() bool { return e.n.alive && e.n.life == e.life }

// Begin implements replica.Stream.
func (e *end) Begin(typ byte) ([]byte, bool) {
	if !e.up || !e.here() {
		return nil, false
	}
	e.typ = typ
	return make([]byte, 0, 96), true
}

// End implements replica.Stream. Whoever else uses the stream may flush at any time.
func (e *end) End(body []byte) {
	e.out = append(e.out, frame{typ: e.typ, body: body})
	if e.w.Chance(0.5) {
		e.Flush()
	}
}

// EndPaced implements replica.Stream.
func (e *end) EndPaced(body []byte) { e.End(body) }

// Flush implements replica.Stream.
func (e *end) Flush() {
	if !e.up || !e.here() {
		e.out = nil
		return
	}
	for _, f := range e.out {
		e.w.count.Frames++
		f.at = e.w.Now + e.w.Between(50, e.w.net.maxDelay)
		if n := len(e.flight); n > 0 {
			f.at = max(f.at, e.flight[n-1].at)
		}
		e.flight = append(e.flight, f)
	}
	e.out = e.out[:0]
	e.move()
}

func (e *end) move() {
	if e.moving || len(e.flight) == 0 {
		return
	}
	e.moving = true
	e.w.After(max(0, e.flight[0].at-e.w.Now), e.arrive)
}

// arrive hands over what has reached the other side. A cut link holds it up: TCP sends it again later.
func (e *end) arrive() {
	e.moving = false
	to := e.peer
	if !to.here() || !to.up || to.deaf {
		e.flight = nil
		return
	}
	wait := int64(0)
	if to.n.pausedUntil > e.w.Now {
		wait = to.n.pausedUntil - e.w.Now + e.w.Between(0, 2*millisecond)
	}
	if e.w.net.cut[e.n.index][to.n.index] {
		wait = max(wait, e.w.Between(5*millisecond, 40*millisecond))
	}
	if wait > 0 {
		e.moving = true
		e.w.After(wait, e.arrive)
		return
	}
	n := 0
	for n < len(e.flight) && e.flight[n].at <= e.w.Now {
		n++
	}
	to.inbox = append(to.inbox, e.flight[:n]...)
	e.flight = append([]frame(nil), e.flight[n:]...)
	to.read()
	e.move()
}

// read takes what has arrived, then makes it durable and answers for it once the disk has got to it.
func (e *end) read() {
	if e.busy || !e.here() || !e.up || len(e.inbox) == 0 {
		return
	}
	frames := e.inbox
	e.inbox = nil
	for _, f := range frames {
		err := e.rcv.Frame(f.typ, f.body)
		if errors.Is(err, journal.ErrFailed) && e.here() {
			e.w.net.sever(e)
			return
		}
		if err != nil {
			e.w.Fail(malformed, "%s from %s: %v", e.n.id, e.peer.n.id, err)
			return
		}
		if !e.here() {
			return
		}
	}
	e.busy = true
	e.n.later(e.n.diskDelay(), func() {
		e.rcv.BatchEnd()
		e.busy = false
		e.read()
	})
}

// call asks another node. answer runs there, possibly twice, possibly without anybody hearing of it; done runs here
// once, with ok false after the timeout.
func (t *network) call(from, to *node, timeout int64, answer func(reply func(any)), done func(ans any, ok bool)) {
	w := t.w
	w.count.Calls++
	over := false
	finish := func(ans any, ok bool) {
		if !over {
			over = true
			done(ans, ok)
		}
	}
	from.later(timeout, func() { finish(nil, false) })
	times := 1
	if w.Chance(t.repeat) {
		times++
		w.count.Repeated++
	}
	for range times {
		if !t.works(from, to) || from != to && w.Chance(t.loss) {
			w.count.Lost++
			continue
		}
		life := to.life
		w.After(t.delay(from, to), func() {
			if to.life != life || !to.alive {
				return
			}
			to.later(0, func() {
				if !to.ready {
					return
				}
				answer(func(ans any) {
					if !t.works(to, from) || from != to && w.Chance(t.loss) {
						w.count.Lost++
						return
					}
					from.later(t.delay(from, to), func() { finish(ans, true) })
				})
			})
		})
	}
}

func (t *network) delay(a, b *node) int64 {
	if a == b {
		return 0
	}
	d := t.w.Between(50, t.maxDelay)
	if t.loss > 0 && t.w.Chance(0.02) {
		d += t.w.Between(0, 400*millisecond)
	}
	return d
}
