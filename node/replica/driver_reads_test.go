package replica

import (
	"testing"
	"testing/synctest"
	"time"
)

// stale tells whether n would answer a read of what the record seq changed.
func (n *node) stale(g uint16, seq uint64) bool {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	return x.Stale(seq, time.Now())
}

func (n *node) confirming(g uint16) uint64 {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	return x.Confirming(&n.batch)
}

func (n *node) confirmed(g uint16) uint64 {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	return x.Confirmed()
}

// written writes at n and carries that everywhere.
func (c *cluster) written(n *node, g uint16, effects string) uint64 {
	c.t.Helper()
	seq := n.write(g, effects)
	if err := n.end(); err != nil {
		c.t.Fatal(err)
	}
	c.deliver()
	c.tick(1)
	return seq
}

// frames counts what is on the wires but not delivered.
func (c *cluster) frames() (n int) {
	for _, l := range c.links {
		n += len(l.there.sent) + len(l.back.sent)
	}
	return n
}

const bound = 2 * time.Second

func TestAReplicaAnswersUntilItsBoundIsOver(t *testing.T) {
	for _, o := range []Options{{}, {NoLease: true}, {Acks: AcksOne}, {Acks: AcksAll}} {
		synctest.Test(t, func(t *testing.T) {
			o.MaxStaleness = bound
			c := drivers(t, 3, o)
			a, b := c.nodes[0], c.nodes[1]
			c.lead(a, 1, c.nodes, 0)
			seq := c.written(a, 0, "k=v;")
			if b.stale(0, seq) {
				t.Error("a replica answers that has not asked how old it is")
			}
			b.d.WantStale(time.Now())
			time.Sleep(50 * time.Millisecond)
			asked := time.Now()
			c.tick(1)
			if !b.stale(0, seq) {
				t.Fatal("a replica that has everything does not answer")
			}
			for _, n := range c.nodes[1:] {
				c.cut(a, n)
				c.cut(n, a)
			}
			time.Sleep(time.Until(asked.Add(bound)))
			c.tick(1)
			if !b.stale(0, seq) {
				t.Error("it does not answer at its bound")
			}
			time.Sleep(time.Nanosecond)
			if b.stale(0, seq) {
				t.Error("it answers beyond its bound")
			}
		})
	}
}

func TestAReplicaDoesNotShowWhatMayNotBeCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{MaxStaleness: bound})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 0)
		old := c.written(a, 0, "k=v;")
		b.d.WantStale(time.Now())
		c.tick(1)
		seq := a.write(0, "k=w;")
		_ = a.end()
		c.deliver()
		if b.groups[0]["k"] != "w" {
			t.Fatal("the replica does not have the record")
		}
		if b.stale(0, seq) || !b.stale(0, old) {
			t.Errorf("of the record not known to be committed %v, of the one before %v", b.stale(0, seq), b.stale(0, old))
		}
		c.tick(1)
		if !b.stale(0, seq) {
			t.Error("not readable when committed")
		}
	})
}

// A learner follows a primary that has been deposed: it counts for nothing, so nobody told it.
func TestADeposedPrimaryVouchesForNothing(t *testing.T) {
	for _, noLease := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			c := drivers(t, 4, Options{MaxStaleness: bound, Lease: 500 * time.Millisecond, NoLease: noLease})
			a, l := c.nodes[0], c.nodes[3]
			c.lead(a, 1, c.nodes[:3], 0)
			c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}, Learner: "d"}, c.nodes, 0, 0)
			c.deliver()
			seq := c.written(a, 0, "k=v;")
			l.d.WantStale(time.Now())
			c.tick(1)
			if !l.stale(0, seq) {
				t.Fatal("the learner does not answer")
			}
			for _, n := range c.nodes[1:3] {
				c.cut(a, n)
				c.cut(n, a)
			}
			last := time.Now()
			for time.Since(last) < bound+600*time.Millisecond {
				time.Sleep(100 * time.Millisecond)
				l.d.WantStale(time.Now())
				c.tick(1)
				limit := bound
				if !noLease {
					limit += 500 * time.Millisecond // the old primary vouches as long as its lease holds
				}
				if l.stale(0, seq) && time.Since(last) > limit {
					t.Fatalf("answers %v after the primary lost its majority", time.Since(last))
				}
			}
			if l.stale(0, seq) {
				t.Error("answers for ever")
			}
		})
	}
}

func TestARestartedReplicaAnswersWhatIsCommittedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{MaxStaleness: bound})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 0)
		c.written(a, 0, "k=v;")
		for _, n := range []*node{a, c.nodes[2]} {
			c.cut(n, b)
			c.cut(b, n)
		}
		head := func(n *node) Position { g := n.d.Group(0); g.Lock(); defer g.Unlock(); return g.Head() }(b)
		r := [256]Restored{0: {Promised: 1, Head: Position{1, head.Seq + 1}, Voter: true, Starts: []TermStart{{1, 1}}}}
		b = c.start("b", r)
		c.nodes[1] = b
		c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}}, c.nodes, 0, 0)
		c.link(a, b)
		c.link(b, a)
		b.d.WantStale(time.Now())
		c.deliver()
		c.tick(1)
		x := b.d.Group(0)
		x.Lock()
		x.ev = Event{Kind: Told, From: "a", Stamp: 1, Seq: 0}
		x.step(&b.batch)
		x.Unlock()
		if b.stale(0, 0) {
			t.Error("it shows a content with records that nobody else has")
		}
	})
}

func TestASnapshotIsReadableWhenItIsCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{MaxStaleness: bound})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 0)
		c.cut(a, b)
		big := string(make([]byte, 3*tailBytes))
		for range 3 {
			c.written(a, 0, "k="+big+";")
		}
		b.d.WantStale(time.Now())
		c.link(a, b)
		c.deliver()
		for range 12 {
			time.Sleep(100 * time.Millisecond)
			b.d.WantStale(time.Now())
			c.tick(1)
		}
		if b.groups[0]["k"] != big || !b.stale(0, 0) {
			t.Errorf("%d bytes arrived, readable %v", len(b.groups[0]["k"]), b.stale(0, 0))
		}
		d := b.d
		d.Configure([]Assignment{{Group: 0, Config: Config{Epoch: 99, Term: 1, Primary: "a", Replicas: []string{"a", "c"}}}})
		if b.stale(0, 0) {
			t.Error("a group that was given up is still read")
		}
	})
}

func TestNobodyAsksForAgesThatNobodyReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		for _, max := range []time.Duration{0, bound} {
			c := drivers(t, 3, Options{MaxStaleness: max})
			groups := []uint16{0, 1, 2, 3}
			c.lead(c.nodes[0], 1, c.nodes, groups...)
			c.tick(5)
			quiet := func() int {
				total := 0
				for range 20 {
					time.Sleep(100 * time.Millisecond)
					for _, n := range c.nodes {
						n.d.Tick(&n.batch)
					}
					total += c.frames()
					c.deliver()
				}
				return total
			}
			if n := quiet(); n > 0 {
				t.Errorf("bound %v: %d frames in an idle cluster", max, n)
			}
			c.nodes[1].d.WantStale(time.Now())
			n := quiet()
			if max == 0 && n > 0 {
				t.Errorf("%d frames though replicas answer nothing", n)
			}
			if max > 0 && (n == 0 || n > 8) {
				t.Errorf("%d questions in two seconds, want one each 400 ms", n)
			}
			time.Sleep(readAgain)
			if n := quiet(); n > 0 {
				t.Errorf("bound %v: %d frames after the last reader has gone", max, n)
			}
		}
	})
}

func TestReadsShareARound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{})
		a := c.nodes[0]
		c.lead(a, 1, c.nodes, 0)
		first := a.confirming(0)
		second, third := a.confirming(0), a.confirming(0)
		if first == 0 || second != first+1 || third != second {
			t.Errorf("rounds %d, %d, %d: want two, the second one for all that came while the first was under way", first, second, third)
		}
		if a.confirmed(0) >= first {
			t.Error("confirmed by nobody")
		}
		_ = a.end()
		c.deliver()
		if got := a.confirmed(0); got != second {
			t.Errorf("confirmed %d, want %d", got, second)
		}
		c.cut(a, c.nodes[1])
		c.cut(a, c.nodes[2])
		lost := a.confirming(0)
		_ = a.end()
		c.tick(3)
		if a.confirmed(0) >= lost {
			t.Fatal("a primary without a majority confirms itself")
		}
		c.link(a, c.nodes[1])
		c.tick(2)
		if a.confirmed(0) < lost {
			t.Error("the round is not asked again when there is somebody to answer")
		}
	})
}

func TestReadsEndWhenTheOthersAreTakenOut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{})
		a := c.nodes[0]
		c.lead(a, 1, c.nodes, 0)
		for _, n := range c.nodes[1:] {
			c.cut(a, n)
		}
		lost := a.confirming(0)
		_ = a.end()
		c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a"}}, c.nodes[:1], 0, 0)
		if a.confirmed(0) < lost {
			t.Error("a read waits for nodes that have no place in the group any more")
		}
		if a.confirming(0) != 0 {
			t.Error("alone, a read waits")
		}
	})
}
