package sim

import (
	"slices"

	"hypercache/node/replica"
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

	acked, seen int // of the key's history when it was invoked: acknowledged appends, longest list read

	seq       uint64 // write: its position; read: what must be committed before the reply
	round     uint64
	confirmed bool
	captured  []uint32 // what a read saw
	value     []uint32 // what it returned
}

// history is what clients know of one key.
type history struct {
	acked   []uint32       // ids in the order of their acknowledgement
	longest []uint32       // longest list that a read returned
	place   map[uint32]int // id to its index in longest
}

// clients invoke operations, remember what they were answered, and compare.
type clients struct {
	w       *world
	nextID  uint32
	history [keys]history
	pending []*operation // of settle
	reading float64
	pace    int64
}

func (c *clients) build(w *world) {
	c.w = w
	c.reading = 0.2 + 0.5*w.rng.Float64()
	c.pace = w.between(4*millisecond, 30*millisecond)
	for k := range c.history {
		c.history[k].place = map[uint32]int{}
	}
	for range 2 + w.rng.IntN(4) {
		w.after(w.between(0, second/4), c.next)
	}
}

// next is a client's next operation, towards the primary or a node that may think it is.
func (c *clients) next() {
	w := c.w
	if w.faults.stopped {
		return
	}
	to := w.nodes[w.rng.IntN(len(w.nodes))]
	if p := w.node(w.top.reg.Primary); p != nil && w.chance(0.7) {
		to = p
	}
	op := c.invoke(!w.chance(c.reading), uint8(w.rng.IntN(keys)))
	c.send(op, to)
	w.after(w.between(c.pace/2, 2*c.pace), c.next)
}

func (c *clients) invoke(write bool, key uint8) *operation {
	h := &c.history[key]
	op := &operation{write: write, key: key, invoked: c.w.now, acked: len(h.acked), seen: len(h.longest)}
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
	w.after(w.between(20, w.net.maxDelay), func() {
		if to.alive && to.pausedUntil > w.now {
			w.after(to.pausedUntil-w.now, func() { to.execute(op) })
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
	c.history[op.key].acked = append(c.history[op.key].acked, op.id)
}

// answer checks a list that a read returned: it continues or is the beginning of every other list read, is not shorter
// than one returned before the read began, and has every append acknowledged before that.
func (c *clients) answer(op *operation) {
	op.done = true
	w, h := c.w, &c.history[op.key]
	n := min(len(op.value), len(h.longest))
	if !slices.Equal(op.value[:n], h.longest[:n]) {
		w.fail(dirtyRead, "key %d: a read returned %v, another %v", op.key, op.value, h.longest)
		return
	}
	if len(op.value) < op.seen {
		w.fail(staleRead, "key %d: read of %d values began after one of %d had ended", op.key, len(op.value), op.seen)
		return
	}
	for i := len(h.longest); i < len(op.value); i++ {
		h.longest = append(h.longest, op.value[i])
		h.place[op.value[i]] = i
	}
	for _, id := range h.acked[:op.acked] {
		if at, ok := h.place[id]; !ok {
			w.fail(lostWrite, "key %d: append %d was acknowledged, a later read lacks it", op.key, id)
		} else if at >= len(op.value) {
			w.fail(staleRead, "key %d: append %d was acknowledged before the read began", op.key, id)
		}
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
		if op.done && (op.value != nil || write && slices.Contains(c.history[key].acked, op.id)) || c.w.failed != "" {
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
		c.w.after(20*millisecond, try)
	}
	try()
}

// missing counts the final operations that did not succeed.
func (c *clients) missing() (n int) {
	for _, op := range c.pending {
		if op.write && !slices.Contains(c.history[op.key].acked, op.id) || !op.write && op.value == nil {
			n++
		}
	}
	return n
}

// verifyAll looks for every acknowledged append in the last lists read.
func (c *clients) verifyAll() {
	for k := range c.history {
		for _, id := range c.history[k].acked {
			if _, ok := c.history[k].place[id]; !ok {
				c.w.fail(lostWrite, "key %d: append %d was acknowledged and is not there at the end", k, id)
			}
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
