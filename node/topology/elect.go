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
	ballots, changes := openings(r.t.State(), list)
	if len(changes) == 0 {
		return ballots
	}
	res, err := r.t.commit(&command{Groups: changes})
	if err != nil {
		r.log.Warn("election not begun", "groups", len(changes), "error", err)
		return nil
	}
	return opened(ballots, res)
}

// openings makes the ballots of list, and the changes that open their terms where another controller has not done that.
func openings(st *State, list []election) (ballots []*ballot, changes []groupChange) {
	for _, e := range list {
		b := &ballot{election: e, conf: st.Groups[e.group], answers: map[string]answer{}}
		ballots = append(ballots, b)
		if b.conf.Primary != "" {
			b.old = b.conf.Primary
			set := b.conf
			set.Term, set.Primary, set.LeaseMillis = set.Term+1, "", 0
			changes = append(changes, groupChange{e.group, b.conf.Epoch, set})
		}
	}
	return ballots, changes
}

// opened keeps the ballots whose terms are open.
func opened(ballots []*ballot, res applied) (out []*ballot) {
	for _, b := range ballots {
		if slices.Contains(res.rejected, b.group) {
			continue
		}
		if b.conf.Primary != "" {
			b.conf = res.state.Groups[b.group]
		}
		if b.conf.Primary == "" {
			out = append(out, b)
		}
	}
	return out
}

// fence collects the promises: of primaries that hand over first, so that everybody else can wait for their head.
func (r *reign) fence(ballots []*ballot) {
	if first := firstCalls(ballots); len(first) > 0 {
		r.callAll(first, ballots, false)
	}
	r.callAll(otherCalls(ballots), ballots, true)
}

// firstCalls asks the primaries that hand over.
func firstCalls(ballots []*ballot) map[string]*FenceCall {
	first := map[string]*FenceCall{}
	for _, b := range ballots {
		if b.handover && b.old != "" {
			ask(first, b.old, b, Position{})
		}
	}
	return first
}

// otherCalls asks everybody who has not answered, and heirs to wait for what the old primary has.
func otherCalls(ballots []*ballot) map[string]*FenceCall {
	rest := map[string]*FenceCall{}
	for _, b := range ballots {
		if a, ok := b.answers[b.old]; ok && a.OK && b.handover {
			b.head = a.head()
		}
		for _, id := range replicasOf(&b.conf) {
			if _, answered := b.answers[id]; answered {
				continue
			}
			wait := Position{}
			if id == b.prefer {
				wait = b.head
			}
			ask(rest, id, b, wait)
		}
	}
	return rest
}

// take notes a node's answers.
func take(ballots []*ballot, node string, ans *FenceAnswer) {
	for _, g := range ans.Groups {
		for _, b := range ballots {
			if b.group == g.Group {
				b.answers[node] = answer{g, ans.Run}
			}
		}
	}
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

func ask(calls map[string]*FenceCall, node string, b *ballot, wait Position) {
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
	owes := map[string]bool{}
	for node, c := range calls {
		owes[node] = true
		r.t.goRun(func() {
			res := result{node: node}
			var b []byte
			if b, res.err = r.t.o.Network.Call(ctx, node, MethodFence, Encode(c)); res.err == nil {
				res.err = Decode(b, &res.ans)
			}
			results <- res
		})
	}
	awaited := func() bool {
		for node := range owes {
			if !r.t.down(node) {
				return true
			}
		}
		return false
	}
	look := time.NewTicker(r.t.o.Timing.Tick) // one may go down before it has answered
	defer look.Stop()
	var enough <-chan time.Time
	for awaited() {
		select {
		case <-look.C:
		case res := <-results:
			delete(owes, res.node)
			if res.err != nil {
				r.log.Warn("fence not answered", "peer", res.node, "error", res.err)
				continue
			}
			take(ballots, res.node, &res.ans)
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
	changes, losses := closings(r.t.State().Members, ballots)
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

// closings chooses from the answers. It tells in how many groups records may be lost by that.
func closings(members map[string]Member, ballots []*ballot) (changes []groupChange, losses int) {
	avoid := func(id string) bool { m := members[id]; return m.Leaves() || m.Status != Up }
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
	return changes, losses
}

// done releases the groups and sets when they may be tried again.
func (r *reign) done(list []election) {
	st := r.t.State()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held(st, list, time.Now())
	r.t.kick()
}

// held takes over how the elections went.
func (c *Controller) held(st *State, list []election, now time.Time) {
	for _, e := range list {
		gv := &c.groups[e.group]
		gv.busy = false
		switch p := st.Groups[e.group].Primary; {
		case p == "":
			gv.tries = min(gv.tries+1, 6)
			gv.retry = now.Add(c.timing.Tick << gv.tries / 2)
		case e.handover && p != e.prefer:
			gv.retry = now.Add(10 * c.timing.Tick)
		case e.reason == "not serving":
			gv.tries = min(gv.tries+1, 6)
		}
	}
}
