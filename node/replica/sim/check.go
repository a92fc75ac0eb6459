package sim

import (
	"fmt"

	"hypercache/node/replica"
)

// checker looks into the logs after every step.
type checker struct {
	w       *world
	log     []entry // everything that was ever committed, in order
	place   map[uint32]uint64
	records map[replica.Position]known
	served  map[uint64]string // term to the incarnation of the node that served it
	commits map[string]uint64 // node to the newest commit it told, in this incarnation
}

// known is what every copy of a record must agree on.
type known struct {
	id   uint32
	prev uint64 // term of the record before
}

func (c *checker) build(w *world) {
	c.w = w
	c.place = map[uint32]uint64{}
	c.records, c.served, c.commits = map[replica.Position]known{}, map[uint64]string{}, map[string]uint64{}
}

func (c *checker) started(n *node) { delete(c.commits, n.name) }

// appended checks log matching: one identity, one content, one history.
func (c *checker) appended(n *node, e entry, ordered bool) {
	if c.w.opts.ClientsOnly {
		return
	}
	var prev uint64
	if e.seq > 1 {
		if uint64(len(n.log)) != e.seq-1 {
			c.w.Fail(logMismatch, "%s puts %d.%d after %d records", n.name, e.term, e.seq, len(n.log))
			return
		}
		prev = n.log[e.seq-2].term
	}
	at := replica.Position{Term: e.term, Seq: e.seq}
	k, ok := c.records[at]
	switch {
	case !ok && ordered:
		c.records[at] = known{e.id, prev}
	case ordered:
		c.w.Fail(logMismatch, "%s orders %d.%d a second time", n.name, e.term, e.seq)
	case !ok || k != known{e.id, prev}:
		c.w.Fail(logMismatch, "%s takes %d.%d id %d after term %d, it was id %d after term %d", n.name, e.term, e.seq,
			e.id, prev, k.id, k.prev)
	}
}

// committed checks that nodes agree on what is committed, and that it grows.
func (c *checker) committed(n *node, seq uint64) {
	if c.w.opts.ClientsOnly {
		return
	}
	from := c.commits[n.name]
	if seq <= from {
		c.w.Fail(commitBack, "%s tells %d after %d", n.name, seq, from)
		return
	}
	c.commits[n.name] = seq
	if uint64(len(n.log)) < seq {
		c.w.Fail(committedGap, "%s commits %d and holds %d", n.name, seq, len(n.log))
		return
	}
	for s := from; s < seq; s++ {
		switch e := n.log[s]; {
		case s >= uint64(len(c.log)):
			c.log = append(c.log, e)
			if e.id != 0 {
				c.place[e.id] = s
			}
		case c.log[s] != e:
			c.w.Fail(committedGap, "%s has %+v committed, elsewhere it was %+v", n.name, e, c.log[s])
			return
		}
	}
}

// serving checks that a term has one primary, and that it holds everything ever committed.
func (c *checker) serving(n *node, term uint64) {
	if c.w.opts.ClientsOnly {
		return
	}
	who := fmt.Sprint(n.name, n.life)
	if other, ok := c.served[term]; ok && other != who {
		c.w.Fail(twoPrimaries, "%s and %s serve term %d", other, who, term)
		return
	}
	c.served[term] = who
	// A deposed primary may find its majority of old messages late. It holds what was committed up to its term.
	for s, e := range c.log {
		if e.term >= term {
			break
		}
		if s >= len(n.log) || n.log[s] != e {
			c.w.Fail(committedGap, "%s serves term %d without the committed %+v", n.name, term, e)
			return
		}
	}
}

// acked checks that an acknowledged write is committed.
func (c *checker) acked(op *operation) {
	if c.w.opts.ClientsOnly {
		return
	}
	if _, ok := c.place[op.id]; !ok {
		c.w.Fail(committedGap, "append %d is acknowledged and not committed", op.id)
	}
}

// stepped checks that the core and its driver agree on where the log ends.
func (c *checker) stepped(n *node) {
	if c.w.opts.ClientsOnly || n.core.Installing() {
		return
	}
	h := n.core.Head()
	if h.Seq != uint64(len(n.log)) || h.Seq > 0 && n.log[h.Seq-1].term != h.Term {
		c.w.Fail(logMismatch, "%s: core's head is %v, the log has %d records", n.name, h, len(n.log))
	}
}

// describe renders an action for the trace.
func describe(a *replica.Action) string {
	names := map[replica.ActionKind]string{
		replica.PersistPromise: "promises", replica.FenceReply: "answers fence", replica.AppendLocal: "appends",
		replica.SendSnapshot: "sends snapshot", replica.Committed: "committed", replica.Serving: "SERVES",
		replica.StepDown: "steps down", replica.Diverged: "diverged", replica.InstallSnapshot: "installs snapshot",
		replica.VoterChanged: "voter", replica.Confirmed: "confirmed",
	}
	s := names[a.Kind]
	switch a.Kind {
	case replica.AppendLocal:
		return fmt.Sprintf("%s %d..%d in term %d, noop %v", s, a.First, a.Last, a.Term, a.Noop)
	case replica.Committed:
		return fmt.Sprintf("%s %d", s, a.Seq)
	case replica.FenceReply:
		return fmt.Sprintf("%s of term %d: %v head %v voter %v", s, a.Term, a.OK, a.Head, a.Voter)
	case replica.SendSnapshot, replica.InstallSnapshot:
		return fmt.Sprintf("%s %s %v in term %d", s, a.To, a.Head, a.Term)
	case replica.VoterChanged:
		return fmt.Sprintf("%s %v", s, a.Voter)
	case replica.Confirmed:
		return fmt.Sprintf("%s round %d", s, a.Round)
	}
	return fmt.Sprintf("%s %d", s, a.Term)
}
