package sim

import (
	"slices"

	"hypercache/node/replica"
	"hypercache/node/replica/sim/virtual"
)

// operation is one append of a value that no other operation appends, or one read of a list.
type operation struct {
	c     *clients
	write bool
	group uint16
	key   int
	id    uint32
	p     *part // where it is executed

	mark virtual.Mark // of the key's history when it was invoked

	begun, done bool
	seq         uint64   // it waits for this record
	value       []uint32 // what a read saw
	good        bool     // it was answered
}

// clients invoke operations, remember what they were answered, and compare.
type clients struct {
	w       *world
	nextID  uint32
	history map[uint16]*[keys]virtual.History
	pending []*operation // of settle
	reading float64
	pace    int64
}

func (c *clients) build(w *world) {
	c.w = w
	c.reading = 0.2 + 0.4*w.RNG.Float64()
	c.pace = w.Between(5*millisecond, 40*millisecond)
	c.history = map[uint16]*[keys]virtual.History{}
	for _, g := range w.groups {
		c.history[g] = &[keys]virtual.History{}
	}
	for range 3 + w.RNG.IntN(6) {
		w.After(w.Between(0, second), c.next)
	}
}

func (c *clients) of(op *operation) *virtual.History { return &c.history[op.group][op.key] }

// next is a client's next operation, through any node.
func (c *clients) next() {
	w := c.w
	if w.faults.stopped {
		return
	}
	// Some groups are hot, so that they are busy when something happens to them.
	g := w.groups[min(w.RNG.IntN(len(w.groups)), w.RNG.IntN(len(w.groups)))]
	via := w.nodes[w.RNG.IntN(len(w.nodes))]
	op := c.invoke(!w.Chance(c.reading), g, w.RNG.IntN(keys))
	c.send(op, via)
	w.After(w.Between(c.pace/2, 2*c.pace), c.next)
}

func (c *clients) invoke(write bool, g uint16, key int) *operation {
	op := &operation{c: c, write: write, group: g, key: key}
	op.mark = c.of(op).Mark()
	if write {
		c.nextID++
		op.id = c.nextID
		c.w.count.Writes++
	} else {
		c.w.count.Reads++
	}
	return op
}

// send has the node via execute the operation, or forward it to whom it takes for the primary.
func (c *clients) send(op *operation, via *node) {
	w := c.w
	if !via.ready || via.view == nil {
		op.refuse()
		return
	}
	to := w.node(via.view.Groups[op.group].Primary)
	if to == nil {
		op.refuse()
		return
	}
	if to != via && w.net.cut[via.index][to.index] || !to.ready {
		op.refuse()
		return
	}
	to.later(w.net.delay(via, to), func() {
		if to.ready {
			to.parts[op.group].execute(op)
		}
	})
	w.After(4*second, op.giveUp)
}

// refuse: the operation has no effect.
func (op *operation) refuse() {
	if !op.done {
		op.done = true
		op.c.w.count.Refused++
	}
}

// fail: nobody knows what becomes of a write that had begun.
func (op *operation) fail() {
	if !op.begun || !op.write {
		op.refuse()
		return
	}
	if !op.done {
		op.done = true
		op.c.w.count.Unknown++
	}
}

func (op *operation) giveUp() { op.fail() }

// answer is the moment at which the reply leaves the primary.
func (op *operation) answer() {
	if op.done || !op.p.here() {
		return
	}
	op.done, op.good = true, true
	c := op.c
	if op.write {
		c.w.count.Acked++
		c.w.check.acked(op)
		h := c.of(op)
		h.Acked = append(h.Acked, op.id)
		return
	}
	if kind, what := c.of(op).Saw(op.value, op.mark); kind != "" {
		c.w.Fail(kind, "group %d key %d at %s: %s", op.group, op.key, op.p.n.id, what)
	}
}

// execute is what a node does with an operation that was sent to it.
func (p *part) execute(op *operation) {
	if op.done {
		return
	}
	op.p = p
	if !op.write {
		p.read(op)
		return
	}
	var b replica.Batch[*end]
	p.group.Lock()
	if !p.group.Serving() || p.n.d.DiskFull() {
		p.group.Unlock()
		op.refuse()
		return
	}
	p.n.w.check.serving(p)
	op.begun = true
	if err := p.apply(effects(op.key, op.id)); err != nil {
		panic(err)
	}
	op.seq = p.group.Propose(effects(op.key, op.id), &b)
	p.seq[op.key] = op.seq
	held := p.group.Held(op.seq)
	if held {
		p.waiting = append(p.waiting, op)
	}
	p.group.Unlock()
	p.endBatch(&b, op, held)
}

// read answers from memory while the lease holds, as of when the value was read.
func (p *part) read(op *operation) {
	if op.done {
		return
	}
	var b replica.Batch[*end]
	p.group.Lock()
	if !p.group.Serving() {
		p.group.Unlock()
		op.refuse()
		return
	}
	p.n.w.check.serving(p)
	op.value = append([]uint32{}, p.lists[op.key]...)
	if !p.group.Readable(p.n.clock(), &b) && !p.group.Solo() {
		p.parked = append(p.parked, op)
		p.group.Unlock()
		p.endBatch(&b, nil, true)
		return
	}
	op.seq = p.seq[op.key]
	held := p.group.Held(op.seq)
	if held {
		p.waiting = append(p.waiting, op)
		slices.SortStableFunc(p.waiting, func(x, y *operation) int { return int(int64(x.seq) - int64(y.seq)) })
	}
	p.group.Unlock()
	p.endBatch(&b, op, held)
}

// endBatch ends the round of commands when the disk has got to it. What is not held waits for that alone.
func (p *part) endBatch(b *replica.Batch[*end], op *operation, held bool) {
	if !p.here() {
		return
	}
	if !held && !b.Pending() {
		op.answer()
		op = nil
	}
	p.n.later(p.n.diskDelay(), func() {
		if err := p.n.d.EndBatch(b); err != nil || !p.here() {
			return
		}
		if !held && op != nil {
			op.answer()
		}
	})
}

// final invokes one operation per key and repeats each until it succeeds.
func (c *clients) final(write bool) {
	c.pending = nil
	for _, g := range c.w.groups {
		for k := range keys {
			c.repeat(c.invoke(write, g, k), len(c.pending))
		}
	}
}

func (c *clients) repeat(op *operation, place int) {
	if place == len(c.pending) {
		c.pending = append(c.pending, op)
	}
	c.pending[place] = op
	c.send(op, c.w.nodes[c.w.RNG.IntN(len(c.w.nodes))])
	var look func()
	look = func() {
		switch {
		case op.good:
		case op.done:
			c.repeat(c.invoke(op.write, op.group, op.key), place)
		default:
			c.w.After(20*millisecond, look)
		}
	}
	c.w.After(20*millisecond, look)
}

// missing counts the final operations that did not succeed.
func (c *clients) missing() (n int) {
	for _, op := range c.pending {
		if !op.good {
			n++
		}
	}
	return n
}

// verifyAll looks for every acknowledged append in the last lists read.
func (c *clients) verifyAll() {
	for _, g := range c.w.groups {
		for k := range keys {
			if id, lost := c.history[g][k].Lost(); lost {
				c.w.Fail(virtual.LostWrite, "group %d key %d: append %d was acknowledged and is not there at the end", g, k, id)
			}
		}
	}
}
