package nodetest

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/node/config"
)

func TestClusterThatStoppedIsAllThereAgain(t *testing.T) {
	c := Start(t, 3, nil)
	keys := c.Nodes()[0].Fill("k", 3000)
	began := time.Now()
	c.StopAll()
	t.Logf("all stopped after %v", time.Since(began).Round(time.Millisecond))
	took := c.StartAll()
	t.Logf("all serve after %v", took.Round(time.Millisecond))
	if took > 15*time.Second {
		t.Errorf("all serve after %v", took)
	}
	for _, n := range c.Nodes() {
		n.Holds(keys)
	}
}

func TestRollingRestartIsNotFelt(t *testing.T) {
	c := Start(t, 3, nil)
	l := c.Load(3, c.Nodes()...)
	for _, n := range c.Nodes() {
		began := time.Now()
		l.Without(n, func() {
			n.Stop()
			stopped := time.Since(began)
			l.Flow(20)
			n.Start()
			n.AwaitReady()
			t.Logf("%s: stopped after %v, ready after %v", n.ID, stopped.Round(time.Millisecond), time.Since(began).Round(time.Millisecond))
		})
		l.Flow(20)
	}
	l.Check(c.Nodes()[0])
}

func TestGrowthAndDrainUnderLoadMoveEverything(t *testing.T) {
	c := Start(t, 3, nil)
	old := c.Nodes()[:3:3]
	keys := old[0].Fill("k", 3000)
	l := c.Load(2, old...)
	fresh := []*Node{c.Add(), c.Add()}
	for _, n := range fresh {
		n.AwaitReady()
	}
	awaitShares(t, c, old[0], 5)
	c.AwaitSettled(old[0], 3)
	for _, n := range fresh {
		n.Holds(keys)
	}
	for _, n := range fresh {
		began := time.Now()
		n.Drain()
		t.Logf("%s drained after %v", n.ID, time.Since(began).Round(time.Millisecond))
		n.AwaitKeys(0)
		if share := Share(old[0].Topology(), n.ID); share > 0 {
			t.Errorf("%s still has %d groups", n.ID, share)
		}
		n.Stop()
	}
	c.AwaitSettled(old[1], 3)
	l.Flow(20)
	l.Check(old[2])
	for _, n := range old {
		n.Holds(keys)
		n.AwaitKeys(len(keys) + l.Acked())
	}
}

// TestAClusterThatShrankIsAllThereAfterItStopped: what moved away once and came back must not be given up because a
// restarted node goes through the topology's history.
func TestAClusterThatShrankIsAllThereAfterItStopped(t *testing.T) {
	c := Start(t, 3, nil)
	old := c.Nodes()[:3:3]
	keys := old[0].Fill("k", 3000)
	fresh := []*Node{c.Add(), c.Add()}
	for _, n := range fresh {
		n.AwaitReady()
	}
	awaitShares(t, c, old[0], 5)
	c.AwaitSettled(old[0], 3)
	for _, n := range fresh {
		n.Drain()
		n.Stop()
	}
	c.AwaitSettled(old[1], 3)
	for range 2 {
		for _, n := range old {
			n.Stop()
		}
		for _, n := range old {
			n.Start()
		}
		for _, n := range old {
			n.AwaitReady()
		}
		for _, n := range old {
			n.Holds(keys)
			n.AwaitKeys(len(keys))
		}
	}
}

// awaitShares waits until n nodes hold about the same number of groups.
func awaitShares(t *testing.T, c *Cluster, by *Node, n int) {
	t.Helper()
	Await(t, func() bool {
		topology := by.Topology()
		have := 0
		for _, node := range c.Nodes() {
			if share := Share(topology, node.ID); share > 3*256/n*8/10 {
				have++
			}
		}
		return have == n
	}, func() string { return "the new nodes do not get their share" })
}

func TestLoneNodeGrowsToThree(t *testing.T) {
	c := Start(t, 1, nil)
	first := c.Nodes()[0]
	keys := first.Fill("k", 2000)
	l := c.Load(2, first)
	c.Add()
	c.Add()
	c.AwaitReady()
	c.AwaitSettled(first, 3)
	l.Flow(20)
	l.Check(c.Nodes()[2])
	for _, n := range c.Nodes() {
		n.Holds(keys)
		n.AwaitKeys(len(keys) + l.Acked())
	}
	// Three that grew from one survive the loss of the one.
	first.Stop()
	c.Nodes()[1].Holds(keys)
	c.Nodes()[2].Fill("after", 100)
}

func TestLeaderCanBeDrainedAndComeBack(t *testing.T) {
	c := Start(t, 4, nil)
	leader := c.Leader()
	other := c.Other(leader)
	keys := other.Fill("k", 1000)
	leader.Drain()
	leader.AwaitKeys(0)
	if c.Leader() == leader {
		t.Errorf("%s leads although it was drained", leader.ID)
	}
	if code, _, err := leader.HTTP("GET", "/ready", nil); err != nil || code != 503 {
		t.Errorf("/ready of a drained node: %d, %v", code, err)
	}
	other.Holds(keys)
	leader.Stop()
	// Its process starts again with the old directory: it is taken in again and gets a share.
	leader.Start()
	leader.AwaitReady()
	awaitShares(t, c, other, 4)
	c.AwaitSettled(other, 3)
	leader.Holds(keys)
}

func TestADeadNodeIsRemovedUnderLoadAndItsReplicasAreMadeAnew(t *testing.T) {
	c := Start(t, 4, nil)
	dead, others := c.Nodes()[3], c.Nodes()[:3:3]
	keys := others[0].Fill("k", 2000)
	l := c.Load(2, others...)
	remove := "/api/admin/remove?node=" + url.QueryEscape(dead.ID)
	if code, body, err := others[1].HTTP("POST", remove, nil); err != nil || code != 500 || !strings.Contains(string(body), "alive: drain it") {
		t.Errorf("removal of a node that is alive: %d %s, %v", code, body, err)
	}
	dead.Stop()
	dead.AwaitDown()
	if code, body, err := others[1].HTTP("POST", remove, nil); err != nil || code != 200 {
		t.Fatalf("removal: %d %s, %v", code, body, err)
	}
	c.AwaitSettled(others[0], 3)
	l.Flow(20)
	l.Check(others[2])
	for _, n := range others {
		n.Holds(keys)
		n.AwaitKeys(len(keys) + l.Acked())
	}
	dead.Start()
	dead.AwaitReady()
	awaitShares(t, c, others[0], 4)
	c.AwaitSettled(others[0], 3)
	dead.Holds(keys)
}

func TestNodeWithAnEmptyDiskIsFedAndDoesNotVote(t *testing.T) {
	c := Start(t, 3, nil)
	victim, other := c.Nodes()[2], c.Nodes()[0]
	keys := other.Fill("k", 2000)
	l := c.Load(2, c.Nodes()[:2]...)
	victim.Stop()
	victim.AwaitDown()
	victim.Wipe()
	l.Flow(20)
	victim.Start()
	victim.AwaitReady()
	c.AwaitSettled(other, 3)
	l.Flow(20)
	l.Check(victim)
	victim.AwaitKeys(len(keys) + l.Acked())
	victim.Holds(keys)
}

func TestEmptyDiskNeverOutvotesTheNodeThatHasTheData(t *testing.T) {
	c := Start(t, 3, func(f *config.Config) { f.Cluster.AckTimeout = time.Second })
	a, b, lost := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	keys := a.Fill("k", 500)
	lost.Stop()
	lost.AwaitDown()
	more := a.Fill("more", 500) // a and b alone have these
	a.Stop()
	b.Stop()
	lost.Wipe()
	lost.Start()
	a.Start()
	// One complete log and one empty one are no majority that could know what was acknowledged: nothing is served.
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Second)
	defer cancel()
	r := a.Client()
	for ctx.Err() == nil {
		v, err := r.Get(ctx, more[0]).Result()
		if errors.Is(err, redis.Nil) || err == nil && v != value(more[0]) {
			t.Fatalf("a read saw %q, %v", v, err)
		}
	}
	b.Start()
	c.AwaitReady()
	for _, n := range c.Nodes() {
		n.Holds(keys)
		n.Holds(more)
	}
}

func TestNodeThatWasLongAwayCatchesUp(t *testing.T) {
	c := Start(t, 3, nil)
	away, other := c.Nodes()[1], c.Nodes()[0]
	keys := other.Fill("before", 1000)
	away.Stop()
	away.AwaitDown()
	// Far more than what is kept in memory for followers that lag.
	ctx, r := t.Context(), other.Client()
	big := make([]byte, 1<<20)
	for i := range 120 {
		if err := r.Set(ctx, "{big}", big[:len(big)-i], 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i := range 10 {
		keys = append(keys, other.Fill("round-"+string(rune('a'+i)), 1000)...)
	}
	l := c.Load(2, other)
	began := time.Now()
	away.Start()
	away.AwaitReady()
	t.Logf("ready after %v", time.Since(began).Round(time.Millisecond))
	l.Check(away)
	away.AwaitKeys(len(keys) + 1 + l.Acked())
	away.Holds(keys)
	if n, err := away.Client().StrLen(ctx, "{big}").Result(); err != nil || n != 1<<20-119 {
		t.Errorf("{big} has %d bytes, %v", n, err)
	}
}
