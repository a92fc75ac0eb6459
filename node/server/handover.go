package server

import (
	"context"
	"errors"
	"time"

	"hypercache/node/topology"
)

const (
	// noticeTime bounds the wait for the other nodes to learn that this one's primaries have moved.
	noticeTime = time.Second
	// quietTime is how long no command must have come from other nodes before their streams are closed.
	quietTime = 30 * time.Millisecond
	// clientsTime is how long no client must have sent a command for another node before connections are closed, and
	// firstTime where none has sent any since the primaries moved.
	clientsTime, firstTime = time.Second, 300 * time.Millisecond
)

// handOver gives this node's primaries away before it stops, and serves on until nobody sends commands here any more:
// of a write that is on its way here when the streams close, its client could only be told that the outcome is unknown.
func (s *Server) handOver() {
	ctx, cancel := context.WithTimeout(context.Background(), s.cfg.Cluster.HandoverTimeout)
	defer cancel()
	began := time.Now()
	if err := s.topology.Handover(ctx, s.id()); err != nil && !errors.Is(err, topology.ErrUnknownNode) {
		s.log.Warn("could not hand every primary over", "error", err)
		return
	}
	moved := time.Since(began)
	ctx, cancel = context.WithTimeout(ctx, noticeTime)
	defer cancel()
	s.awaitNotice(ctx)
	s.awaitQuiet(ctx)
	s.log.Info("handed over", "primaries_moved", moved.Round(time.Millisecond), "took", time.Since(began).Round(time.Millisecond))
	s.linger()
}

// linger serves on while clients send commands that are others' to answer: their map of slots says that this node has the
// primaries, and what they would meet when it is gone is a connection refused until they ask for the map again, which some do
// every ten seconds, or every minute. Clients that are told (CLIENT MAINT_NOTIFICATIONS, or MOVED) go at once.
func (s *Server) linger() {
	if s.cfg.Cluster.Linger == 0 || !s.hasHeir() {
		return
	}
	s.cache.Leave()
	s.tellMoves()
	began, told, busy := time.Now(), time.Now(), false
	sent := func() uint64 { return s.cache.Stats.Forwarded.Load() + s.cache.Stats.Moved.Load() }
	t := time.NewTicker(50 * time.Millisecond)
	defer t.Stop()
	for last, quiet := sent(), began; s.resp.Clients() > 0 && time.Since(began) < s.cfg.Cluster.Linger; <-t.C {
		if now := sent(); now != last {
			last, quiet, busy = now, time.Now(), true
		}
		if since := time.Since(quiet); since > clientsTime || !busy && since > firstTime {
			break
		}
		if time.Since(told) > clientsTime { // who asked a node that had the old map yet has to ask once more
			told = time.Now()
			s.moves.again()
			s.tellMoves()
		}
	}
	if busy {
		s.log.Info("clients have gone to the other nodes, or had the time to", "clients", s.resp.Clients(), "took", time.Since(began).Round(time.Millisecond))
	}
}

// awaitNotice waits until every other node routes by a topology in which this node has no primaries.
func (s *Server) awaitNotice(ctx context.Context) {
	t := time.NewTicker(5 * time.Millisecond)
	defer t.Stop()
	wait := func() bool {
		select {
		case <-ctx.Done():
			return false
		case <-t.C:
			return true
		}
	}
	for s.roles(s.id()).Primary > 0 && s.hasHeir() {
		if !wait() {
			return
		}
	}
	st := s.topology.State()
	for id, m := range st.Members {
		for m.Status == topology.Up && !s.net.Down(id) && id != s.id() && !s.knows(ctx, id, st.Epoch) {
			if !wait() {
				return
			}
		}
	}
}

// hasHeir tells whether any other node is there to take a primary.
func (s *Server) hasHeir() bool {
	for id, m := range s.topology.State().Members {
		if id != s.id() && m.Status == topology.Up && !s.net.Down(id) && !m.Leaves() {
			return true
		}
	}
	return false
}

func (s *Server) knows(ctx context.Context, node string, epoch uint64) bool {
	b, err := s.net.Call(ctx, node, topology.MethodStatus, topology.Encode(topology.StatusCall{}))
	if err != nil {
		return s.net.Down(node) // it is stopping, too
	}
	var a topology.StatusAnswer
	return topology.Decode(b, &a) == nil && a.Epoch >= epoch
}

// awaitQuiet waits until no more commands arrive from other nodes, and those that came are answered.
func (s *Server) awaitQuiet(ctx context.Context) {
	t := time.NewTicker(quietTime)
	defer t.Stop()
	for last := uint64(0); ; {
		now := s.cache.Stats.Received.Load()
		if now == last && s.cache.Waiting() == 0 {
			return
		}
		last = now
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
