package server

import "time"

// isolated tells that a majority of the topology's voters has not answered this node's heartbeats lately, so that they may
// have chosen other primaries without its knowing. Where a write is acknowledged by its primary alone (write_acks one), a
// primary that was cut off would acknowledge for as long as the partition lasts what the new one never gets: nobody's refusal
// stops it, as replicas' does at quorum. So it stops by itself, at about the time at which the others give it up. Answers
// count and not heartbeats of others: a node that nobody hears still hears them. Two nodes are never isolated: neither can
// choose anything without the other.
func (s *Server) isolated() bool {
	voters, silent := s.topology.Voters(), 0
	for _, id := range voters {
		if id != s.id() && time.Since(s.net.Acked(id)) > s.cfg.Cluster.SuspectAfter {
			silent++
		}
	}
	return silent > len(voters)/2
}
