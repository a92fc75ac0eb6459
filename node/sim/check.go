package sim

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"hypercache/node/journal"
	"hypercache/node/replica"
	"hypercache/node/topology"
)

// checker looks into the logs as they grow.
type checker struct {
	w      *world
	groups map[uint16]*known
}

// known is what was ever ordered and committed in one group.
type known struct {
	records map[replica.Position]record
	log     []replica.Position // committed
	place   map[uint32]bool    // ids of committed appends
	served  map[uint64]string  // term to the process that served it
}

// record is what every copy of a record must agree on.
type record struct {
	data string
	prev uint64 // term of the record before
}

func (c *checker) build(w *world) {
	c.w, c.groups = w, map[uint16]*known{}
	for _, g := range w.groups {
		c.groups[g] = &known{records: map[replica.Position]record{}, place: map[uint32]bool{}, served: map[uint64]string{}}
	}
}

// history returns the terms of the log that ends at p, and the lists that it makes.
func (k *known) history(p replica.Position) (terms []uint64, lists [keys][]uint32, ok bool) {
	terms = make([]uint64, p.Seq)
	var datas []string
	for ; p.Seq > 0; p.Seq-- {
		r, ok := k.records[p]
		if !ok {
			return nil, lists, false
		}
		terms[p.Seq-1] = p.Term
		datas = append(datas, r.data)
		p.Term = r.prev
	}
	var content part
	for _, d := range slices.Backward(datas) {
		if err := content.apply([]byte(d)); err != nil {
			return nil, lists, false
		}
	}
	return terms, content.lists, true
}

// started checks what a node found on its disk.
func (c *checker) started(p *part, r *replica.Restored) {
	if c.w.opts.ClientsOnly {
		return
	}
	if r.Holes {
		terms, _, _ := c.groups[p.id].history(r.Head)
		p.terms = terms
		return // it must not be served before it was replaced
	}
	c.matches(p, r.Head, "recovers")
}

// replaced checks a content that came as a whole.
func (c *checker) replaced(p *part, at replica.Position) {
	if !c.w.opts.ClientsOnly {
		c.w.count.Snapshots++
		c.matches(p, at, "installs")
	}
}

func (c *checker) matches(p *part, at replica.Position, what string) {
	terms, lists, ok := c.groups[p.id].history(at)
	if !ok {
		c.w.Fail(logMismatch, "%s group %d %s %v, which nobody ordered", p.n.id, p.id, what, at)
		return
	}
	p.terms = terms
	for k := range lists {
		if !slices.Equal(lists[k], p.lists[k]) {
			c.w.Fail(badContent, "%s group %d %s %v: list %d is %v, the log says %v", p.n.id, p.id, what, at, k, p.lists[k], lists[k])
		}
	}
}

// appended checks log matching: one identity, one content, one history.
func (c *checker) appended(p *part, r *journal.Record) {
	if c.w.opts.ClientsOnly {
		return
	}
	k, at := c.groups[p.id], replica.Position{Term: r.Term, Seq: r.Seq}
	if uint64(len(p.terms)) != r.Seq-1 {
		c.w.Fail(logMismatch, "%s group %d puts %v after %d records", p.n.id, p.id, at, len(p.terms))
		return
	}
	now := record{data: string(r.Data)}
	if r.Seq > 1 {
		now.prev = p.terms[r.Seq-2]
	}
	old, seen := k.records[at]
	switch {
	case !seen && p.group.Primary():
		k.records[at] = now
	case !seen || old != now:
		c.w.Fail(logMismatch, "%s group %d takes %v %q after term %d, it was %q after term %d (seen %v)", p.n.id, p.id, at, now.data, now.prev,
			old.data, old.prev, seen)
	}
	p.terms = append(p.terms, r.Term)
}

// committed checks that nodes agree on what is committed, and that it grows.
func (c *checker) committed(p *part) {
	seq := p.group.Committed()
	if c.w.opts.ClientsOnly || seq == p.committed {
		return
	}
	k := c.groups[p.id]
	switch {
	case seq < p.committed:
		c.w.Fail(commitBack, "%s group %d tells %d after %d", p.n.id, p.id, seq, p.committed)
		return
	case uint64(len(p.terms)) < seq:
		c.w.Fail(committedGap, "%s group %d commits %d and holds %d", p.n.id, p.id, seq, len(p.terms))
		return
	}
	for s := p.committed + 1; s <= seq; s++ {
		at := replica.Position{Term: p.terms[s-1], Seq: s}
		if s <= uint64(len(k.log)) {
			if k.log[s-1] != at {
				c.w.Fail(committedGap, "%s group %d has %v committed, elsewhere it was %v", p.n.id, p.id, at, k.log[s-1])
				return
			}
			continue
		}
		k.log = append(k.log, at)
		if data := k.records[at].data; data != "" {
			if args, _, err := words([]byte(data)); err == nil {
				k.place[number(args[2])] = true
			}
		}
	}
	p.committed = seq
}

func number(s string) (v uint32) {
	_, _ = fmt.Sscan(s, &v) // only what effects wrote comes here
	return v
}

// serving checks that a term has one primary, and that it holds everything committed in older ones.
func (c *checker) serving(p *part) {
	if c.w.opts.ClientsOnly {
		return
	}
	k, term := c.groups[p.id], p.group.Term()
	switch who := k.served[term]; who {
	case p.n.run:
		return
	case "":
		k.served[term] = p.n.run
	default:
		c.w.Fail(twoPrimaries, "%s and %s serve term %d of group %d", who, p.n.run, term, p.id)
		return
	}
	for i, at := range k.log {
		if at.Term >= term {
			break
		}
		if i >= len(p.terms) || p.terms[i] != at.Term {
			c.w.Fail(committedGap, "%s serves term %d of group %d without the committed %v", p.n.run, term, p.id, at)
			return
		}
	}
}

// acked checks that an acknowledged write is committed.
func (c *checker) acked(op *operation) {
	if !c.w.opts.ClientsOnly && !c.groups[op.group].place[op.id] {
		c.w.Fail(committedGap, "append %d of group %d is acknowledged by %s and not committed", op.id, op.group, op.p.n.id)
	}
}

// placed checks, when other replicas have a group, that a majority of them holds what is committed: else it could depend on one node.
// Who has lost something lately, which whoever decided it may not have known, is not to blame.
func (c *checker) placed(id uint16, replicas []string) {
	k := c.groups[id]
	if c.w.opts.ClientsOnly || len(k.log) == 0 {
		return
	}
	last, held := k.log[len(k.log)-1], 0
	for _, m := range replicas {
		n := c.w.node(m)
		terms := n.parts[id].terms
		if n.lossy() || uint64(len(terms)) >= last.Seq && terms[last.Seq-1] == last.Term {
			held++
		}
	}
	if 2*held <= len(replicas) {
		c.w.Fail(fewCopies, "group %d moves to %v, and %d of them hold the committed %v", id, replicas, held, last)
	}
}

// alike says which replicas of a group do not hold the same, or "".
func (c *checker) alike() string {
	st := c.w.raft.state()
	for _, g := range c.w.groups {
		var first *part
		for _, id := range st.Groups[g].Replicas {
			p := c.w.node(id).parts[g]
			if first == nil {
				first = p
				continue
			}
			for k := range keys {
				if !slices.Equal(first.lists[k], p.lists[k]) || first.group.Head() != p.group.Head() {
					return fmt.Sprintf("group %d list %d: %s at %v has %v, %s at %v has %v", g, k, first.n.id, first.group.Head(), first.lists[k],
						id, p.group.Head(), p.lists[k])
				}
			}
		}
	}
	return ""
}

// unsettled says what is not yet as it should be in peace, or "".
func (w *world) unsettled() string {
	r := &w.raft
	if r.leader == nil {
		return "no leader of the topology"
	}
	st := r.state()
	live, zones := 0, map[string]bool{}
	for _, n := range w.nodes {
		m, known := st.Members[n.id]
		switch {
		case n.wanted && (!n.ready || !known || m.Run != n.run):
			return n.id + " is not a member with its present process"
		case n.wanted && m.Status == topology.Up:
			live++
			zones[n.zone] = true
		case known && m.Status == topology.Draining:
			return n.id + " is not drained"
		}
		if n.wanted && m.Status == topology.Up && n.view != st {
			return n.id + " has not learned the state"
		}
	}
	var problems []string
	for _, g := range w.groups {
		if why := w.unplaced(st, g, min(w.rf, live), len(zones)); why != "" {
			problems = append(problems, fmt.Sprintf("group %d: %s: %+v", g, why, st.Groups[g]))
		}
	}
	if len(problems) > 0 {
		return strings.Join(problems, "; ") + "; " + r.describe()
	}
	return ""
}

func (w *world) unplaced(st *topology.State, id uint16, rf, zones int) string {
	g := &st.Groups[id]
	if g.Primary == "" || g.Learner != "" || g.Next != nil {
		return "it changes"
	}
	if len(g.Replicas) != rf {
		return fmt.Sprintf("%d replicas, not %d", len(g.Replicas), rf)
	}
	in := map[string]bool{}
	for _, m := range g.Replicas {
		n := w.node(m)
		if st.Members[m].Status != topology.Up || !n.ready {
			return m + " is not a live member"
		}
		if !n.votes(id) {
			return m + " may not vote"
		}
		in[n.zone] = true
	}
	p := w.node(g.Primary).parts[id]
	if p.n.run != g.Run || !p.group.Serving() {
		return "the primary does not serve"
	}
	for _, n := range w.nodes {
		if n.ready && st.Members[n.id].Status == topology.Up && !g.Holds(n.id) && n.parts[id].group.Head().Seq > 0 {
			return n.id + " still has what it gave up"
		}
	}
	if want := min(zones, rf); len(in) < want && w.spread(id) > len(in) {
		return fmt.Sprintf("in %d zones, not %d", len(in), want)
	}
	return ""
}

// spread is in how many zones the placement puts the group: balance may not leave room for more.
func (w *world) spread(id uint16) int {
	in := map[string]bool{}
	if g := w.raft.leader.reign; g != nil && g.c.Targets() != nil {
		for _, m := range g.c.Targets()[id].Replicas {
			in[w.node(m).zone] = true
		}
	}
	return len(in)
}

func sorted[K cmp.Ordered, V any](m map[K]V) []K { return slices.Sorted(maps.Keys(m)) }
