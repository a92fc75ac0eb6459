package sim

import (
	"fmt"
	"slices"

	"hypercache/node/replica"
)

// register is the group's entry in the topology: linearizable, written by compare-and-swap of its epoch.
type register struct {
	replica.Config
	had bool // a primary was committed once
}

// topology models the Raft leader of the topology and the nodes' copies of what it commits. The register survives; the
// controller's own knowledge (answers to fences, health) dies with it, and another one resumes from the register.
type topology struct {
	w    *world
	reg  register
	life uint64 // of the controller

	fenced   map[string]replica.Action // answers to the fence of reg.Term
	since    int64                     // when reg.Term was opened
	status   map[string]replica.Status
	heard    map[string]int64
	prefer   string // for a handover
	replace  string // the replica that a running change removes, "" if it adds only
	downTill int64
}

func (t *topology) build(w *world, size int) {
	t.w = w
	for _, n := range w.nodes[:size] {
		t.reg.Replicas = append(t.reg.Replicas, n.name)
	}
	t.reg.Epoch, t.reg.Term = 1, 1
	t.restart()
}

// restart is a crash of the controller in the middle of whatever it does, and its resumption by another node.
func (t *topology) restart() {
	t.life++
	t.fenced, t.status, t.heard = map[string]replica.Action{}, map[string]replica.Status{}, map[string]int64{}
	t.prefer, t.replace, t.since = "", "", t.w.Now
	for _, n := range t.w.nodes {
		t.heard[n.name] = t.w.Now
	}
	life := t.life
	t.w.After(t.w.Between(0, 200*millisecond), func() { t.tick(life) })
}

func (t *topology) healed() {
	if t.downTill > t.w.Now {
		t.downTill = 0
		t.restart()
	}
}

// crash stops the controller for d microseconds.
func (t *topology) crash(d int64) {
	t.life++
	t.downTill = t.w.Now + d
	life := t.life
	t.w.After(d, func() {
		if t.life == life {
			t.downTill = 0
			t.restart()
		}
	})
}

// commit writes the register. What is sent to the nodes are copies, as late as the network likes.
func (t *topology) commit(c replica.Config, why string) {
	c.Epoch = t.reg.Epoch + 1
	if c.Term > t.reg.Term {
		t.w.count.Terms++
		clear(t.fenced)
		t.since = t.w.Now
	}
	t.reg.Config = c
	t.reg.had = t.reg.had || c.Primary != ""
	t.w.Tracef("topology: %s: %+v", why, c)
	for _, n := range t.w.nodes {
		t.configure(n)
	}
}

func (t *topology) configure(n *node) {
	cfg := t.reg.Config
	t.w.net.control(n, func() { t.deliver(n, replica.Event{Kind: replica.Configure, Config: cfg}) })
}

func (t *topology) deliver(n *node, ev replica.Event) {
	if n.pausedUntil > t.w.Now {
		t.w.After(n.pausedUntil-t.w.Now, func() { t.deliver(n, ev) })
		return
	}
	n.step(&ev)
}

// tick is one round of the controller: ask for status, then do the next thing that is due.
func (t *topology) tick(life uint64) {
	if t.life != life {
		return
	}
	for _, n := range t.w.nodes {
		t.poll(n, life)
	}
	if t.reg.Primary == "" {
		t.fence()
	} else {
		t.watch()
	}
	t.w.After(t.w.Between(30*millisecond, 80*millisecond), func() { t.tick(life) })
}

func (t *topology) poll(n *node, life uint64) {
	t.w.net.control(n, func() {
		if !n.alive || n.pausedUntil > t.w.Now {
			return
		}
		st := n.core.Status(nil)
		t.w.net.control(n, func() {
			if t.life != life {
				return
			}
			t.heard[n.name], t.status[n.name] = t.w.Now, st
			if st.Epoch < t.reg.Epoch {
				t.configure(n)
			}
		})
	})
}

func (t *topology) fence() {
	for _, n := range t.w.nodes {
		if !slices.Contains(t.reg.Replicas, n.name) && !slices.Contains(t.reg.Next, n.name) {
			continue
		}
		ev := replica.Event{Kind: replica.Fence, From: fmt.Sprint(t.life), Term: t.reg.Term, First: !t.reg.had}
		t.w.net.control(n, func() { t.deliver(n, ev) })
	}
}

// fenceReply carries an answer back and elects when the answers suffice.
func (t *topology) fenceReply(n *node, a replica.Action) {
	life := t.life
	if a.To != fmt.Sprint(life) {
		return
	}
	t.w.net.control(n, func() {
		if t.life != life || t.reg.Primary != "" {
			return
		}
		if !a.OK && a.Term >= t.reg.Term {
			c := t.reg.Config
			c.Term = a.Term + 1
			t.commit(c, "term is used up at "+n.name)
			return
		}
		if a.OK && a.Term == t.reg.Term {
			t.fenced[n.name] = a
			t.elect()
		}
	})
}

func (t *topology) elect() {
	if !t.w.opts.FenceMinority && (!t.majority(t.reg.Replicas) || len(t.reg.Next) > 0 && !t.majority(t.reg.Next)) {
		return
	}
	best := ""
	for _, n := range t.w.nodes {
		a, ok := t.fenced[n.name]
		if !ok || !a.Voter {
			continue
		}
		b := t.fenced[best]
		if best == "" || b.Head.Less(a.Head) || a.Head == b.Head && (n.name == t.prefer || t.w.Chance(0.5)) {
			best = n.name
		}
	}
	if best == "" {
		return
	}
	c := t.reg.Config
	c.Primary = best
	t.prefer = ""
	t.heard[best] = t.w.Now
	t.w.faults.elected(t.w.node(best))
	t.commit(c, "elected")
}

func (t *topology) majority(set []string) bool {
	n := 0
	for _, name := range set {
		if a, ok := t.fenced[name]; ok && a.Voter {
			n++
		}
	}
	return n > len(set)/2
}

// watch looks after a group that has a primary: its health, and the next step of a change of replicas.
func (t *topology) watch() {
	st := t.status[t.reg.Primary]
	silent := t.w.Now - t.heard[t.reg.Primary]
	stuck := st.Epoch == t.reg.Epoch && (st.CannotLead || st.Role != replica.Primary)
	if silent > 600*millisecond || stuck {
		t.open("primary is gone", "")
		return
	}
	if st.Epoch != t.reg.Epoch || st.Term != t.reg.Term || st.Role != replica.Primary {
		return
	}
	switch c := t.reg.Config; {
	case c.Next != nil:
		t.finish(st)
	case c.Learner != "":
		t.join(st)
	default:
		t.repair()
	}
}

// open starts the next term.
func (t *topology) open(why, prefer string) {
	c := t.reg.Config
	c.Term++
	c.Primary = ""
	t.commit(c, why)
	t.prefer = prefer
}

// join makes the learner a member of Next once it has caught up.
func (t *topology) join(st replica.Status) {
	c := t.reg.Config
	if t.w.Now-t.heard[c.Learner] > second {
		c.Learner = ""
		t.w.count.Cancels++
		t.commit(c, "learner is gone")
		return
	}
	for _, p := range st.Peers {
		if p.Name != c.Learner || p.Lag > 20 || p.Match == 0 {
			continue
		}
		next := slices.DeleteFunc(slices.Clone(c.Replicas), func(n string) bool { return n == t.replace && n != "" })
		if !slices.Contains(next, c.Learner) {
			next = append(next, c.Learner)
		}
		c.Next, c.Learner = next, ""
		if t.w.opts.NoJoint {
			c.Replicas, c.Next = next, nil
			if !slices.Contains(next, c.Primary) {
				c.Term++
				c.Primary = ""
			}
		}
		t.commit(c, "joint")
		t.w.faults.changed()
		return
	}
}

// finish ends the joint configuration.
func (t *topology) finish(st replica.Status) {
	c := t.reg.Config
	if !st.JointReady {
		if t.w.Chance(0.01) {
			c.Next = nil
			t.w.count.Cancels++
			t.commit(c, "change is called off")
		}
		return
	}
	removed := c.Replicas
	c.Replicas, c.Next = c.Next, nil
	if !slices.Contains(c.Replicas, c.Primary) {
		c.Term++
		c.Primary = ""
	}
	t.w.count.ChangesDone++
	t.commit(c, "final")
	for _, name := range removed {
		if n := t.w.node(name); !slices.Contains(c.Replicas, name) && t.w.Chance(0.5) {
			t.w.faults.wipe(n)
		}
	}
}

// repair replaces a replica that was silent for long.
func (t *topology) repair() {
	for _, name := range t.reg.Replicas {
		if name != t.reg.Primary && t.w.Now-t.heard[name] > 2*second {
			if t.change(name) {
				t.w.count.Replacements++
			}
			return
		}
	}
}

// change starts to bring in a spare, in the place of remove unless that is "".
func (t *topology) change(remove string) bool {
	c := t.reg.Config
	if c.Primary == "" || c.Learner != "" || c.Next != nil || t.downTill > t.w.Now {
		return false
	}
	for _, n := range t.w.nodes {
		if !slices.Contains(c.Replicas, n.name) && n.alive && t.w.Now-t.heard[n.name] < second {
			c.Learner, t.replace = n.name, remove
			t.w.count.Changes++
			t.commit(c, "learner")
			return true
		}
	}
	return false
}

// shrink removes a replica without bringing in another.
func (t *topology) shrink(remove string) {
	c := t.reg.Config
	if c.Primary == "" || c.Learner != "" || c.Next != nil || len(c.Replicas) < 3 || t.downTill > t.w.Now {
		return
	}
	c.Next = slices.DeleteFunc(slices.Clone(c.Replicas), func(n string) bool { return n == remove })
	if t.w.opts.NoJoint {
		c.Replicas, c.Next = c.Next, nil
		if !slices.Contains(c.Replicas, c.Primary) {
			c.Term++
			c.Primary = ""
		}
	}
	t.w.count.Changes++
	t.commit(c, "joint, one less")
}

// blocked says that too many replicas lost their log at once: only an operator may go on, and accept a loss.
func (t *topology) blocked() bool {
	short := func(set []string) bool {
		n := 0
		for _, name := range set {
			if t.w.node(name).core.Voter() {
				n++
			}
		}
		return len(set) > 0 && n <= len(set)/2
	}
	return t.reg.Primary == "" && (short(t.reg.Replicas) || short(t.reg.Next))
}

func (t *topology) describe() string {
	s := fmt.Sprintf("%+v", t.reg.Config)
	for _, n := range t.w.nodes {
		s += fmt.Sprintf("; %s %+v", n.name, n.core.Status(nil))
	}
	return s
}
