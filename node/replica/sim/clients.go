package sim

import (
	"slices"

	"hypercache/node/replica"
	"hypercache/node/replica/sim/virtual"
)

// keys is how many lists the clients append to.
const keys = 3

// operation is one append of a value that no other operation appends, or one read of a list.
type operation struct {
	write   bool
	key     uint8
	id      uint32
	invoked int64
	done    bool
	final   bool

	mark virtual.Mark // of the key's history when it was invoked

	seq       uint64 // write: its position; read: what must be committed before the reply
	round     uint64
	confirmed bool
	captured  []uint32 // what a read saw
	value     []uint32 // what it returned
}

// clients invoke operations, remember what they were answered, and compare.
type clients struct {
	w       *world
	nextID  uint32
	history [keys]virtual.History
	pending []*operation // of settle
	reading float64
	pace    int64
}

func (c *clients) build(w *world) {
	c.w = w
	c.reading = 0.2 + 0.5*w.RNG.Float64()
	c.pace = w.Between(4*millisecond, 30*millisecond)
	for range 2 + w.RNG.IntN(4) {
		w.After(w.Between(0, second/4), c.next)
	}
}

// next is a client's next operation, towards the primary or a node that may think it is.
func (c *clients) next() {
	w := c.w
	if w.faults.stopped {
		return
	}
	to := w.nodes[w.RNG.IntN(len(w.nodes))]
	if p := w.node(w.top.reg.Primary); p != nil && w.Chance(0.7) {
		to = p
	}
	op := c.invoke(!w.Chance(c.reading), uint8(w.RNG.IntN(keys)))
	c.send(op, to)
	w.After(w.Between(c.pace/2, 2*c.pace), c.next)
}

func (c *clients) invoke(write bool, key uint8) *operation {
	op := &operation{write: write, key: key, invoked: c.w.Now, mark: c.history[key].Mark()}
	if write {
		c.nextID++
		op.id = c.nextID
		c.w.count.Writes++
	} else {
		c.w.count.Reads++
	}
	return op
}

func (c *clients) send(op *operation, to *node) {
	w := c.w
	w.After(w.Between(20, w.net.maxDelay), func() {
		if to.alive && to.pausedUntil > w.Now {
			w.After(to.pausedUntil-w.Now, func() { to.execute(op) })
			return
		}
		to.execute(op)
	})
}

// failed: the operation had no effect. unknown: it may have had, or have it later.
func (c *clients) failed(op *operation)  { op.done = true }
func (c *clients) unknown(op *operation) { op.done = true; c.w.count.Unknown++ }

func (c *clients) ack(op *operation) {
	op.done = true
	c.w.count.Acked++
	c.w.check.acked(op)
	c.w.stale.acked(op)
	c.history[op.key].Acked = append(c.history[op.key].Acked, op.id)
}

// answer checks a list that a read returned.
func (c *clients) answer(op *operation) {
	op.done = true
	if kind, what := c.history[op.key].Saw(op.value, op.mark); kind != "" {
		c.w.Fail(kind, "key %d: %s", op.key, what)
	}
}

// final invokes one operation per key and repeats each until it succeeds.
func (c *clients) final(write bool) {
	for k := range uint8(keys) {
		c.repeat(write, k)
	}
}

func (c *clients) repeat(write bool, key uint8) {
	op := c.invoke(write, key)
	op.final = true
	c.pending = append(c.pending, op)
	var try func()
	try = func() {
		if op.done && (op.value != nil || write && slices.Contains(c.history[key].Acked, op.id)) || c.w.Failed != "" {
			return
		}
		if p := c.w.node(c.w.top.reg.Primary); p != nil && (op.done || op.seq == 0 && op.round == 0) {
			if op.done && write { // unknown outcome: a new value
				c.nextID++
				op.id = c.nextID
			}
			op.done, op.seq, op.round, op.confirmed = false, 0, 0, false
			p.execute(op)
		}
		c.w.After(20*millisecond, try)
	}
	try()
}

// missing counts the final operations that did not succeed.
func (c *clients) missing() (n int) {
	for _, op := range c.pending {
		if op.write && !slices.Contains(c.history[op.key].Acked, op.id) || !op.write && op.value == nil {
			n++
		}
	}
	return n
}

// verifyAll looks for every acknowledged append in the last lists read.
func (c *clients) verifyAll() {
	for k := range c.history {
		if id, lost := c.history[k].Lost(); lost {
			c.w.Fail(virtual.LostWrite, "key %d: append %d was acknowledged and is not there at the end", k, id)
		}
	}
}

// execute is the server's part: a primary that serves executes at once and replies when the protocol allows.
func (n *node) execute(op *operation) {
	if !n.alive || !n.core.Serving() {
		n.w.load.failed(op)
		return
	}
	if op.write {
		n.proposal = entry{id: op.id, key: op.key}
		n.keySeq[op.key], n.keyTerm[op.key] = n.core.Head().Seq+1, n.core.Term()
		op.seq = n.core.Head().Seq + 1
		n.waiting = append(n.waiting, op)
		n.step(&replica.Event{Kind: replica.Propose})
		return
	}
	// Reads see what is executed; what of it this primary ordered itself may not be committed yet.
	op.value = nil
	if n.keyTerm[op.key] == n.core.Term() {
		op.seq = n.keySeq[op.key]
	}
	captured := slices.Clone(n.lists[op.key])
	op.round = n.core.Round() + 1
	n.reads = append(n.reads, op)
	n.capture(op, captured)
	n.step(&replica.Event{Kind: replica.Confirm})
}
