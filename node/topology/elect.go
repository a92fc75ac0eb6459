package topology

import (
	"context"
	"slices"
	"time"
)

// handoverWait is how long an heir may take to catch up with the fenced primary. Nobody serves the group meanwhile.
const handoverWait = 300 * time.Millisecond

// ballot is a group's election under way.
type ballot struct {
	election
	old     string // the primary before; "" for an election that another controller left open
	conf    Group  // the committed configuration of the new term
	head    Position
	answers map[string]answer
}

// elect runs the elections of list together: two commits and one or two rounds of calls, however many groups. The
// caller has marked the groups busy.
func (r *reign) elect(list []election) {
	ballots := r.open(list)
	if len(ballots) > 0 {
		r.fence(ballots)
		r.close(ballots)
	}
	r.done(list)
}

// open commits the new terms. Groups whose configuration moved on meanwhile drop out.
func (r *reign) open(list []election) []*ballot {
	st := r.t.State()
	var changes []groupChange
	pending := map[uint16]*ballot{}
	for _, e := range list {
		b := &ballot{election: e, conf: st.Groups[e.group], answers: map[string]answer{}}
		pending[e.group] = b
		if b.conf.Primary != "" {
			b.old = b.conf.Primary
			set := b.conf
			set.Term, set.Primary, set.LeaseMillis = set.Term+1, "", 0
			changes = append(changes, groupChange{e.group, b.conf.Epoch, set})
		}
	}
	if len(changes) > 0 {
		res, err := r.t.commit(&command{Groups: changes})
		if err != nil {
			r.log.Warn("election not begun", "groups", len(changes), "error", err)
			return nil
		}
		for _, g := range res.rejected {
			delete(pending, g)
		}
		for _, ch := range changes {
			if b := pending[ch.Group]; b != nil {
				b.conf = res.state.Groups[ch.Group]
			}
		}
	}
	var out []*ballot
	for _, e := range list {
		if b := pending[e.group]; b != nil && b.conf.Primary == "" {
			out = append(out, b)
		}
	}
	return out
}

// fence collects the promises: of primaries that hand over first, so that everybody else can wait for their head.
func (r *reign) fence(ballots []*ballot) {
	first := map[string]*FenceCall{}
	for _, b := range ballots {
		if b.handover && b.old != "" {
			r.ask(first, b.old, b, Position{})
		}
	}
	if len(first) > 0 {
		r.callAll(first, ballots, false)
		for _, b := range ballots {
			if a, ok := b.answers[b.old]; ok && a.OK {
				b.head = a.head()
			}
		}
	}
	rest := map[string]*FenceCall{}
	for _, b := range ballots {
		for _, id := range replicasOf(&b.conf) {
			if _, answered := b.answers[id]; answered {
				continue
			}
			wait := Position{}
			if id == b.prefer {
				wait = b.head
			}
			r.ask(rest, id, b, wait)
		}
	}
	r.callAll(rest, ballots, true)
}

// replicasOf lists Replicas and Next without repeating.
func replicasOf(g *Group) []string {
	out := slices.Clone(g.Replicas)
	for _, id := range g.Next {
		if !slices.Contains(out, id) {
			out = append(out, id)
		}
	}
	return out
}

func (r *reign) ask(calls map[string]*FenceCall, node string, b *ballot, wait Position) {
	c := calls[node]
	if c == nil {
		c = &FenceCall{}
		calls[node] = c
	}
	q := FenceRequest{Group: b.group, Term: b.conf.Term, First: b.conf.Run == "", WaitFor: wait}
	if wait != (Position{}) {
		q.WaitMillis = uint64(handoverWait.Milliseconds())
	}
	c.Groups = append(c.Groups, q)
}

// callAll sends the calls and gathers the answers: of every node that is not down; or, with grace, a little after each
// group has a majority.
func (r *reign) callAll(calls map[string]*FenceCall, ballots []*ballot, grace bool) {
	ctx, cancel := context.WithTimeout(r.ctx, r.t.o.Timing.Call)
	defer cancel()
	type result struct {
		node string
		ans  FenceAnswer
		err  error
	}
	results := make(chan result, len(calls))
	live := 0
	for node, c := range calls {
		if !r.t.down(node) {
			live++
		}
		r.t.goRun(func() {
			res := result{node: node}
			var b []byte
			if b, res.err = r.t.o.Network.Call(ctx, node, MethodFence, Encode(c)); res.err == nil {
				res.err = Decode(b, &res.ans)
			}
			results <- res
		})
	}
	byGroup := map[uint16]*ballot{}
	for _, b := range ballots {
		byGroup[b.group] = b
	}
	var enough <-chan time.Time
	for live > 0 {
		select {
		case res := <-results:
			if !r.t.down(res.node) {
				live--
			}
			if res.err != nil {
				r.log.Warn("fence not answered", "peer", res.node, "error", res.err)
				continue
			}
			for _, g := range res.ans.Groups {
				if b := byGroup[g.Group]; b != nil {
					b.answers[res.node] = answer{g, res.ans.Run}
				}
			}
			if grace && enough == nil && decided(ballots) {
				enough = time.After(r.t.o.Timing.FenceGrace)
			}
		case <-enough:
			return
		case <-ctx.Done():
			return
		}
	}
}

func decided(ballots []*ballot) bool {
	for _, b := range ballots {
		if choose(&b.conf, b.answers, chooser{avoid: func(string) bool { return false }}).primary == "" {
			return false
		}
	}
	return true
}

// close commits the primaries that can be chosen. The other elections stay open; plan comes back to them.
func (r *reign) close(ballots []*ballot) {
	members := r.t.State().Members
	avoid := func(id string) bool { m := members[id]; return m.leaving() || m.Status != Up }
	var changes []groupChange
	losses := 0
	for _, b := range ballots {
		v := choose(&b.conf, b.answers, chooser{old: b.old, prefer: b.prefer, avoid: avoid})
		set := b.conf
		switch {
		case v.primary != "":
			set.Primary, set.Run, set.LeaseMillis = v.primary, v.run, v.lease
			if set.Run == "" {
				set.Run = members[v.primary].Run
			}
			losses += boolInt(v.loss)
		case v.term >= set.Term:
			set.Term = v.term + 1
		default:
			continue
		}
		changes = append(changes, groupChange{b.group, b.conf.Epoch, set})
	}
	if len(changes) == 0 {
		return
	}
	if _, err := r.t.commit(&command{Groups: changes}); err != nil {
		r.log.Warn("election not committed", "groups", len(changes), "error", err)
		return
	}
	if losses > 0 {
		r.log.Warn("possible loss: every replica answered, but too few can vouch for their log, as after a power failure; the longest logs were taken",
			"groups", losses)
	}
	r.log.Info("primaries elected", "groups", len(changes), "of", len(ballots), "reason", ballots[0].reason)
}

// done releases the groups and sets when they may be tried again.
func (r *reign) done(list []election) {
	st := r.t.State()
	r.mu.Lock()
	defer r.mu.Unlock()
	now := time.Now()
	for _, e := range list {
		gv := &r.groups[e.group]
		gv.busy = false
		switch p := st.Groups[e.group].Primary; {
		case p == "":
			gv.tries = min(gv.tries+1, 6)
			gv.retry = now.Add(r.t.o.Timing.Tick << gv.tries / 2)
		case e.handover && p != e.prefer:
			gv.retry = now.Add(10 * r.t.o.Timing.Tick)
		case e.reason == "not serving":
			gv.tries = min(gv.tries+1, 6)
		}
	}
	r.t.kick()
}
