package server

import (
	"context"
	"time"
)

// stallLoop watches for a disk that does not answer. The kernel tells of none: a write or fsync just does not return, for seconds or for
// good, while the node answers heartbeats, keeps its primaries and leads the topology, and every write to it waits. So after
// persistence.stall_timeout the node plays dead until the disk is back. Others take over then as if it were cut off, and it comes back as from
// a cut.
func (s *Server) stallLoop(ctx context.Context) {
	limit := s.cfg.Persistence.StallTimeout
	if limit == 0 {
		return
	}
	t := time.NewTicker(100 * time.Millisecond)
	defer t.Stop()
	var since time.Time
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		lasts := s.topology.Stalled()
		if s.journal != nil {
			lasts = max(lasts, s.journal.Stalled())
		}
		switch stalled := lasts > limit; {
		case stalled && !s.stalled.Swap(true):
			since = time.Now().Add(-lasts)
			s.log.Error("the disk does not finish a write: this node leaves its part to the others until it does", "for", lasts.Round(time.Millisecond),
				"data_dir", s.cfg.Persistence.DataDir)
			s.net.Mute(true)
		case !stalled && s.stalled.Swap(false):
			s.log.Warn("the disk answers again: this node takes part again", "took", time.Since(since).Round(time.Millisecond))
			s.net.Mute(false)
		}
	}
}
