package topology

import (
	"context"
	"time"
)

// grantTime is how long a node that granted one node the founding of a cluster grants it to no other. The founder uses
// the grants within a third of it.
const grantTime = 10 * time.Second

type grant struct {
	to    string
	until time.Time
}

type grantAnswer struct {
	Granted bool `json:"granted"`
	Bound   bool `json:"bound"` // it belongs to a cluster already
}

// foundHere makes this node the first voter of a new cluster.
func (t *Topology) foundHere() error {
	t.mu.Lock()
	t.fresh = false
	t.mu.Unlock()
	return t.raft.found(t.o.NodeID, t.o.Self.Addr)
}

// mayFound reports whether a cluster may yet be founded from here.
func (t *Topology) mayFound() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.o.BootstrapExpect >= 2 && t.fresh && t.identity.ClusterID == ""
}

// tryFounding asks the discovered nodes to found a cluster together, if it is this node's turn: enough of them are
// there and this one has the lowest id.
func (t *Topology) tryFounding() {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.o.BootstrapExpect
	if n < 2 || !t.fresh || t.identity.ClusterID != "" || len(t.discovered) < n || time.Now().Before(t.asking) {
		return
	}
	ids := sortedIDs(t.discovered)
	if ids[0] != t.o.NodeID {
		return
	}
	t.asking = time.Now().Add(t.o.Timing.Call + 10*t.o.Timing.Tick)
	if !t.closed {
		t.running.Go(func() { t.askGrants(ids, n) })
	}
}

// askGrants founds the cluster if n nodes, this one among them, grant it, and none belongs to a cluster.
func (t *Topology) askGrants(ids []string, n int) {
	ctx, cancel := context.WithTimeout(t.ctx, min(t.o.Timing.Call, grantTime/3))
	defer cancel()
	answers := make(chan grantAnswer, len(ids))
	for _, id := range ids {
		t.goRun(func() {
			var a grantAnswer
			if err := t.call(ctx, id, methodGrant, struct{}{}, &a); err != nil {
				t.log.Info("no answer about founding a cluster", "peer", id, "error", err)
			}
			answers <- a
		})
	}
	granted := 0
	for range ids {
		select {
		case a := <-answers:
			if a.Bound {
				return // there is a cluster: it will take us in
			}
			granted += boolInt(a.Granted)
		case <-ctx.Done():
			return
		}
	}
	if granted < n {
		return
	}
	t.log.Info("founding a cluster", "nodes", ids)
	if err := t.foundHere(); err != nil {
		t.log.Error("cluster not founded", "error", err)
	}
}

func (t *Topology) handleGrant(from string) grantAnswer {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.fresh || t.identity.ClusterID != "" {
		return grantAnswer{Bound: true}
	}
	now := time.Now()
	if t.grant.to != from && now.Before(t.grant.until) {
		return grantAnswer{}
	}
	t.grant = grant{to: from, until: now.Add(grantTime)}
	return grantAnswer{Granted: true}
}
