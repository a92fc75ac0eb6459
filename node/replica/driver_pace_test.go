package replica

import (
	"fmt"
	"strings"
	"testing"

	"hypercache/node/journal"
)

// grow writes n records of about a kilobyte.
func (n *node) grow(g uint16, from, count int) {
	for i := range count {
		n.write(g, fmt.Sprintf("k%d=%s", from+i, strings.Repeat("x", 1000)))
	}
	_ = n.end()
}

// teach makes d the learner of group 7, led by a.
func (c *cluster) teach(term uint64) {
	a, b, x, d := c.nodes[0], c.nodes[1], c.nodes[2], c.nodes[3]
	c.configure(Config{Term: term, Primary: a.id, Replicas: names(a, b, x), Learner: d.id}, c.nodes, 0, 7)
}

// underWay is how many bytes are in a's stream to d.
func (c *cluster) underWay() (n int) {
	l := c.links[[2]string{"a", "d"}]
	for _, f := range append(append([][]byte(nil), l.there.sent...), l.there.queued...) {
		n += len(f)
	}
	return n
}

// firstPiece carries probes and their answers between a and d until the first piece is under way.
func (c *cluster) firstPiece() {
	c.t.Helper()
	a, l := c.nodes[0], c.links[[2]string{"a", "d"}]
	for range 1000 {
		if c.underWay() >= minPiece/2 {
			return
		}
		c.carry(l.there, l.receiver)
		c.carry(l.back, l.sender)
		a.d.Tick(&a.batch)
	}
	c.t.Fatalf("no piece is sent: %d bytes under way", c.underWay())
}

// nothingLeft checks that n has forgotten what it was sending of the group.
func nothingLeft(t *testing.T, n *node) {
	t.Helper()
	if g := n.d.Group(7); g.bulk != nil || len(g.moving) > 0 || g.tail.keep != 0 {
		t.Errorf("left: %+v, %d transfers, kept from %d on", g.bulk, len(g.moving), g.tail.keep)
	}
}

// learn carries frames until d has what a has, or rounds are over, and returns the most that was on its way to d at once.
// meanwhile runs once in each round.
func (c *cluster) learn(rounds int, meanwhile func(round int)) (most int) {
	c.t.Helper()
	a, d := c.nodes[0], c.nodes[3]
	for round := range rounds {
		meanwhile(round)
		for _, l := range c.links {
			most = max(most, c.underWay())
			c.carry(l.there, l.receiver)
			c.carry(l.back, l.sender)
		}
		if !c.pace() && round > rounds/2 {
			for _, n := range c.nodes {
				n.d.Tick(&n.batch)
			}
		}
	}
	c.deliver()
	c.tick(4)
	c.same(7, a, d)
	return most
}

func TestALearnerIsSentWhatItLacksInPieces(t *testing.T) {
	for _, kept := range []bool{true, false} {
		t.Run(fmt.Sprintf("all of it is in the tail %t", kept), func(t *testing.T) {
			c := drivers(t, 4, Options{})
			a, d := c.nodes[0], c.nodes[3]
			c.lead(a, 1, c.nodes[:3], 7)
			count := 100
			if !kept {
				count = 1000
			}
			a.grow(7, 0, count)
			c.deliver()
			if first := a.d.Group(7).tail.first; (first == 1) != kept {
				t.Fatalf("the tail begins with %d", first)
			}
			c.teach(1)
			// Commands go on meanwhile, and write more than a tail keeps that nobody needs.
			const rounds, each = 15, 80
			most := c.learn(2000, func(round int) {
				if round < rounds {
					a.grow(7, 10_000+round*each, each)
				}
			})
			if len(d.groups[7]) != count+rounds*each {
				t.Errorf("%d keys", len(d.groups[7]))
			}
			// Answers come at once here, so that pieces grow, but never to all of it.
			if total := (count + rounds*each) * 1000; most > total*3/4 {
				t.Errorf("%d of %d bytes on their way at once", most, total)
			}
			begun := 0
			for _, r := range d.j.records {
				if r.Kind == journal.SyncBegin {
					begun++
				}
			}
			if want := map[bool]int{true: 0, false: 1}[kept]; begun != want {
				t.Errorf("%d snapshots, want %d: what was written meanwhile was not kept", begun, want)
			}
			nothingLeft(t, a)
		})
	}
}

func TestWhatIsNotAnsweredIsNotFollowedByMore(t *testing.T) {
	for _, count := range []int{100, 1000} {
		c := drivers(t, 4, Options{})
		a, d := c.nodes[0], c.nodes[3]
		c.lead(a, 1, c.nodes[:3], 7)
		a.grow(7, 0, count)
		c.deliver()
		c.teach(1)
		c.firstPiece()
		sent := c.underWay()
		if sent > minPiece+2000 {
			t.Errorf("%d records: %d bytes at first", count, sent)
		}
		for range 3 { // no answer
			c.ahead += answerWait / 10
			a.d.Pace(&a.batch)
			_ = a.end()
		}
		if n := c.underWay(); n != sent {
			t.Errorf("%d records: %d bytes left behind %d that were not answered", count, n-sent, sent)
		}
		c.cut(a, d) // in the middle
		nothingLeft(t, a)
		c.link(a, d)
		c.deliver()
		c.tick(5)
		c.same(7, a, d)
	}
}

func TestMoreThanIsKeptIsWrittenWhileALearnerIsFed(t *testing.T) {
	for _, count := range []int{100, 1000} {
		c := drivers(t, 4, Options{})
		a, d := c.nodes[0], c.nodes[3]
		c.lead(a, 1, c.nodes[:3], 7)
		a.grow(7, 0, count)
		c.deliver()
		c.teach(1)
		c.learn(1500, func(round int) {
			if round < 40 { // faster than pieces are sent, first
				a.grow(7, 0, 300)
			}
			if n := len(a.d.Group(7).tail.buf); n > pinBytes+1<<20 {
				t.Fatalf("%d bytes are kept", n)
			}
		})
		if len(d.groups[7]) != max(count, 300) {
			t.Errorf("%d keys", len(d.groups[7]))
		}
	}
}

func TestAPrimaryThatStepsDownFeedsNoMore(t *testing.T) {
	c := drivers(t, 4, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes[:3], 7)
	a.grow(7, 0, 200)
	c.deliver()
	c.teach(1)
	c.firstPiece()
	// At once: if it led again before its next piece was due, it would send that as of the term before.
	if out, err := a.d.Fence("test", []Fencing{{Group: 7, Term: 2}}); err != nil || !out[0].OK {
		t.Fatal(out, err)
	}
	nothingLeft(t, a)
	c.lead(b, 2, c.nodes[:3], 7)
	nothingLeft(t, a)
	b.write(7, "last=1")
	_ = b.end()
	c.configure(Config{Term: 2, Primary: b.id, Replicas: names(c.nodes[:3]...), Learner: "d"}, c.nodes, 0, 7)
	c.deliver()
	c.tick(5)
	c.same(7, b, c.nodes[3])
}

// The learner's node has other groups, which must neither wait for the pieces that it ignores now, nor for ever.
func TestALearnerThatIsCalledOffHoldsNoOtherGroupUp(t *testing.T) {
	for _, count := range []int{100, 1000} { // records, and a snapshot
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			c := drivers(t, 4, Options{})
			a, d := c.nodes[0], c.nodes[3]
			c.lead(a, 1, c.nodes[:3], 7, 8)
			a.grow(7, 0, count)
			a.grow(8, 0, 1000)
			c.deliver()
			c.teach(1)
			c.firstPiece()
			off := Config{Term: 1, Primary: a.id, Replicas: names(c.nodes[:3]...)}
			d.d.Configure([]Assignment{{Group: 7, Config: Config{Epoch: c.epoch + 1, Term: 1, Primary: a.id, Replicas: off.Replicas}}})
			l := c.links[[2]string{"a", "d"}]
			c.carry(l.there, l.receiver)
			c.configure(off, c.nodes[:3], 0, 7)
			nothingLeft(t, a)
			learner := off
			learner.Learner = d.id
			before := c.ahead
			c.configure(learner, c.nodes, 0, 8)
			c.tick(3)
			c.same(8, a, d)
			if len(l.receiver.offered) > 0 {
				t.Error("what was called off stays in memory")
			}
			if took := c.ahead - before; took > answerWait {
				t.Errorf("the other group's content took %v", took)
			}
			c.configure(learner, c.nodes, 0, 7) // and back, in the same term
			c.tick(3)
			c.same(7, a, d)
			nothingLeft(t, a)
		})
	}
}

// The last piece of records that is never answered is no reason to keep a snapshot waiting.
func TestAnUnansweredLastPieceIsNotWaitedForForever(t *testing.T) {
	c := drivers(t, 4, Options{})
	a, d := c.nodes[0], c.nodes[3]
	c.lead(a, 1, c.nodes[:3], 7, 8)
	a.grow(7, 0, 100)
	a.grow(8, 0, 1000)
	c.deliver()
	c.teach(1)
	c.firstPiece()
	d.d.Group(7).released = true // its node has given it up, and a has not heard of it
	c.configure(Config{Term: 1, Primary: a.id, Replicas: names(c.nodes[:3]...), Learner: d.id}, c.nodes, 0, 8)
	for range 40 {
		c.ahead += answerWait / 2
		c.tick(1)
	}
	c.same(8, a, d)
}
