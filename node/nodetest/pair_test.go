package nodetest

import (
	"context"
	"strings"
	"testing"
	"time"

	"hypercache/node/config"
)

func pair(f *config.Config) {
	f.Cluster.ReplicationFactor = 2
	f.Cluster.AckTimeout = time.Second
}

func TestSecondNodeGetsTheDataOfALoneOne(t *testing.T) {
	c := Start(t, 1, pair)
	first := c.Nodes()[0]
	keys := first.Fill("k", 3000)
	l := c.Load(2, first)
	second := c.Add()
	second.AwaitReady()
	c.AwaitSettled(first, 2)
	l.Flow(20)
	l.Check(second)
	second.Holds(keys)
	second.AwaitKeys(len(keys) + l.Acked())
	topology := first.Topology()
	primaries := 0
	for _, g := range topology.Groups {
		if g.Primary == second.ID {
			primaries++
		}
	}
	t.Logf("the second node holds %d groups, is primary of %d", Share(topology, second.ID), primaries)
}

func TestPairRefusesWritesWhileOneIsAwayAndResumes(t *testing.T) {
	c := Start(t, 2, pair)
	stays, goes := c.Nodes()[0], c.Nodes()[1]
	keys := stays.Fill("k", 500)
	goes.Stop()
	goes.AwaitDown()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	r := stays.Client()
	for i := range 4 {
		err := r.Set(ctx, "refused", i, 0).Err()
		if err == nil {
			t.Fatal("a write was acknowledged with one of two replicas")
		}
		if word, _, _ := strings.Cut(err.Error(), " "); word != "NOREPLICAS" && word != "CLUSTERDOWN" {
			t.Errorf("refused with %q", err)
		}
	}
	goes.Start()
	c.AwaitReady()
	began := time.Now()
	for r.Set(ctx, "resumed", "x", 0).Err() != nil {
		if ctx.Err() != nil {
			t.Fatal("writes do not resume")
		}
	}
	t.Logf("writes resumed %v after both were ready", time.Since(began).Round(time.Millisecond))
	for _, n := range c.Nodes() {
		n.Holds(keys)
	}
}
