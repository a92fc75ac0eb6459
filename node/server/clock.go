package server

import (
	"hypercache/node/clock"
	"hypercache/node/httpapi"
	"hypercache/node/topology"
)

// UnixMicro implements command.Server.
func (s *Server) UnixMicro() int64 { return s.clock.UnixMicro() }

// clockMembers are those whose clocks count: the committed members, whatever gossip thinks of them.
func (s *Server) clockMembers() (ids []string, self bool) {
	for id, m := range s.topology.State().Members {
		if m.Status == topology.Removed {
			continue
		}
		ids = append(ids, id)
		self = self || id == s.id()
	}
	return ids, self
}

func clockState(c clock.Status) string {
	switch {
	case c.Frozen:
		return httpapi.ClockFrozen
	case c.Guarded:
		return httpapi.ClockGuarded
	}
	return httpapi.ClockOK
}
