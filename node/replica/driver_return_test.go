package replica

import (
	"strconv"
	"strings"
	"testing"
)

// away cuts d off while a and b commit count records of a kilobyte, and links it again.
func (c *cluster) away(count int) {
	c.t.Helper()
	a, b, d := c.nodes[0], c.nodes[1], c.nodes[3]
	c.lead(a, 1, []*node{a, b, d}, 7)
	c.cut(a, d)
	a.grow(7, 0, count)
	c.deliver()
	if n := len(b.groups[7]); n != count {
		c.t.Fatalf("b has %d keys", n)
	}
	c.link(a, d)
}

func TestAReplicaThatWasAwayIsSentWhatItLacksInPieces(t *testing.T) {
	for name, tt := range map[string]struct {
		acks   Acks
		alone  bool // the other replica is away by now
		pieces bool
	}{
		"nobody waits for it":          {pieces: true},
		"with acks of the primary":     {acks: AcksOne, pieces: true},
		"every write waits for it":     {acks: AcksAll},
		"it is needed for a majority":  {alone: true},
		"it is needed, with acks: one": {acks: AcksOne, alone: true},
	} {
		t.Run(name, func(t *testing.T) {
			c := drivers(t, 4, Options{Acks: tt.acks})
			a, b, d := c.nodes[0], c.nodes[1], c.nodes[3]
			const count = 100
			c.away(count)
			if tt.alone {
				c.cut(a, b)
			}
			c.firstPiece()
			if n := c.underWay(); (n <= minPiece+2000) != tt.pieces {
				t.Errorf("%d bytes leave at first, of %d; in pieces: %t", n, count*1000, tt.pieces)
			}
			a.grow(7, count, 1)
			c.deliver()
			c.tick(4)
			c.same(7, a, d)
			nothingLeft(t, a)
		})
	}
}

// TestAReplicaThatIsNeededMeanwhileIsSentTheRestAtOnce: a new write waits for it.
func TestAReplicaThatIsNeededMeanwhileIsSentTheRestAtOnce(t *testing.T) {
	c := drivers(t, 4, Options{})
	a, b := c.nodes[0], c.nodes[1]
	const count = 200
	c.away(count)
	c.firstPiece()
	before := c.underWay()
	c.cut(a, b)
	seq := a.write(7, "new=v")
	_ = a.end()
	if n := c.underWay(); n < (count-minPiece/1000)*1000 {
		t.Errorf("%d bytes under way after the write, %d before it", n, before)
	}
	c.deliver()
	if a.held(7, seq) {
		t.Error("the write is not committed")
	}
	nothingLeft(t, a)
}

// TestRecordsThatAreNotCommittedAreNotPaced, however many come at a time: a commit waits for one of them.
func TestRecordsThatAreNotCommittedAreNotPaced(t *testing.T) {
	c := drivers(t, 4, Options{})
	a, b, d := c.nodes[0], c.nodes[1], c.nodes[3]
	c.lead(a, 1, []*node{a, b, d}, 7)
	for i := range 3 { // each is more than a piece
		a.write(7, strconv.Itoa(i)+"="+strings.Repeat("x", 3*minPiece))
		_ = a.end()
	}
	for _, l := range []*duplex{c.links[[2]string{"a", "b"}], c.links[[2]string{"a", "d"}]} {
		n := 0
		for _, f := range l.there.sent {
			n += len(f)
		}
		if n < 9*minPiece {
			t.Errorf("to %s: %d bytes leave of the %d that were just written", l.there.to, n, 9*minPiece)
		}
	}
	c.deliver()
	c.tick(2)
	c.same(7, a, b, d)
}

// TestMoreThanIsKeptIsWrittenWhileAReplicaCatchesUp: it gets a snapshot, and the tail is not kept for it.
func TestMoreThanIsKeptIsWrittenWhileAReplicaCatchesUp(t *testing.T) {
	c := drivers(t, 4, Options{})
	a := c.nodes[0]
	c.away(200)
	c.learn(1500, func(round int) {
		if round < 40 {
			a.grow(7, 0, 300)
		}
		if g := a.d.Group(7); g.bulk != nil && len(g.moving) == 0 && g.tail.keep != 0 {
			t.Fatal("records are kept for it: every group may have such a replica")
		}
	})
	if a.d.Group(7).overrun {
		t.Error("learners of the group would not be paced any more")
	}
	nothingLeft(t, a)
}
