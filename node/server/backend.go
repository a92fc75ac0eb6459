package server

import (
	"context"
	"slices"
	"strconv"
	"time"

	"hypercache/node/acl"
	"hypercache/node/cache"
	"hypercache/node/httpapi"
	"hypercache/node/member"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/topology"
)

// backend shows the node to HTTP.
type backend struct{ s *Server }

// Do implements httpapi.Backend.
func (b backend) Do(ctx context.Context, args ...[]byte) httpapi.Reply {
	return b.Read(ctx, httpapi.ReadDefault, args...)
}

// Read implements httpapi.Backend.
func (b backend) Read(ctx context.Context, level httpapi.ReadLevel, args ...[]byte) httpapi.Reply {
	at := map[httpapi.ReadLevel]cache.Level{httpapi.ReadQuorum: cache.LevelQuorum, httpapi.ReadStale: cache.LevelStale}[level]
	raw, err := b.s.cache.DoAt(ctx, at, args...)
	if err != nil {
		if ctx.Err() != nil {
			return httpapi.ErrorReply("NOREPLICAS the cluster did not answer in time")
		}
		return httpapi.ErrorReply(err.Error())
	}
	return parseReply(raw)
}

// Refuses implements httpapi.Backend.
func (b backend) Refuses(who httpapi.Credentials, args ...[]byte) string {
	return b.s.cache.MayRun(who.User, who.Password, who.None, args)
}

// parseReply reads a RESP2 reply.
func parseReply(raw []byte) httpapi.Reply {
	end := slices.Index(raw, '\r')
	if len(raw) < 3 || end < 0 {
		return httpapi.ErrorReply("ERR the reply is malformed")
	}
	line := string(raw[1:end])
	switch raw[0] {
	case '+':
		return httpapi.Reply{Kind: httpapi.KindStatus, Bytes: []byte(line)}
	case '-':
		return httpapi.ErrorReply(line)
	case ':':
		n, _ := strconv.ParseInt(line, 10, 64)
		return httpapi.Reply{Kind: httpapi.KindInt, Int: n}
	case '$':
		n, err := strconv.Atoi(line)
		if err != nil || n < 0 || len(raw) < end+4+n {
			return httpapi.Reply{Kind: httpapi.KindNull}
		}
		return httpapi.Reply{Kind: httpapi.KindBytes, Bytes: raw[end+2 : end+2+n]}
	case '*':
		n, err := strconv.Atoi(line)
		if err != nil || n < 0 {
			return httpapi.Reply{Kind: httpapi.KindNull}
		}
		all := httpapi.Reply{Kind: httpapi.KindArray}
		for rest := raw[end+2:]; n > 0; n-- {
			size := resp.Size(rest)
			if size == 0 {
				return httpapi.ErrorReply("ERR the reply is malformed")
			}
			all.Array = append(all.Array, parseReply(rest[:size]))
			rest = rest[size:]
		}
		return all
	}
	return httpapi.Reply{Kind: httpapi.KindNull}
}

// Health implements httpapi.Backend.
func (b backend) Health() httpapi.Health {
	s := b.s
	st := s.topology.State()
	h := httpapi.Health{
		Status: "ok", Node: s.id(), Version: s.version, UptimeSec: int64(time.Since(s.started).Seconds()),
		Leader: s.topology.Leader(), Epoch: st.Epoch, Roles: s.roles(s.id()),
	}
	for _, m := range b.Members() {
		if m.State == "up" || m.State == "draining" {
			h.ClusterSize++
			if m.Status == string(member.Alive) {
				h.Alive++
			}
		}
	}
	clock := s.clock.Status()
	h.Clock = httpapi.Clock{State: clockState(clock), OffsetSec: clock.Offset.Seconds()}
	assigned := false
	for i := range st.Groups {
		g := &st.Groups[i]
		assigned = assigned || g.Term > 0
		if g.Term > 0 && g.Primary == "" {
			h.Status = "unavailable"
		}
		if h.Status == "ok" && slices.ContainsFunc(g.Replicas, s.net.Down) {
			h.Status = "degraded"
		}
	}
	switch {
	case s.draining.Load():
		h.Status = "draining"
	case !assigned:
		h.Status = "starting"
	}
	return h
}

// Ready implements httpapi.Backend.
func (b backend) Ready() (bool, []string) { return b.s.Ready() }

// roles counts what a node is, group by group.
func (s *Server) roles(id string) (r httpapi.Roles) {
	st := s.topology.State()
	for i := range st.Groups {
		g := &st.Groups[i]
		switch {
		case g.Primary == id:
			r.Primary++
		case slices.Contains(g.Replicas, id):
			r.Replica++
		case g.Holds(id):
			r.Learner++
		}
	}
	return r
}

// Members implements httpapi.Backend.
func (b backend) Members() []httpapi.Member {
	s := b.s
	st := s.topology.State()
	byID := map[string]*httpapi.Member{}
	for id, m := range st.Members {
		byID[id] = &httpapi.Member{
			ID: id, Status: "unknown", State: string(m.Status), Zone: m.Zone, RESPAddr: m.RESPAddr, HTTPAddr: m.HTTPAddr,
			GossipAddr: m.GossipAddr, RPCAddr: m.Addr,
		}
	}
	for _, g := range *s.members.Load() {
		m := byID[g.ID]
		if m == nil {
			m = &httpapi.Member{ID: g.ID}
			byID[g.ID] = m
		}
		m.Status, m.Zone, m.Version, m.Tags = string(g.Status), g.Zone, g.Version, g.Tags
		m.RESPAddr, m.HTTPAddr, m.GossipAddr, m.RPCAddr = g.RESPAddr, g.HTTPAddr, g.GossipAddr, g.RPCAddr
	}
	leader := s.topology.Leader()
	out := make([]httpapi.Member, 0, len(byID))
	for id, m := range byID {
		m.Leader, m.Self, m.Roles = id == leader, id == s.id(), s.roles(id)
		out = append(out, *m)
	}
	slices.SortFunc(out, func(a, b httpapi.Member) int {
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	return out
}

// Topology implements httpapi.Backend.
func (b backend) Topology() httpapi.Topology {
	st := b.s.topology.State()
	t := httpapi.Topology{Epoch: st.Epoch, ClusterID: st.ClusterID, Leader: b.s.topology.Leader(), Slots: ring.Slots}
	for i := range st.Groups {
		g := &st.Groups[i]
		first, last := ring.GroupSlots(i)
		t.Groups = append(t.Groups, httpapi.Group{
			Group: i, Slots: [2]int{int(first), int(last)}, Term: g.Term, Primary: g.Primary,
			Replicas: slices.Clone(g.Replicas), Learner: g.Learner, Next: slices.Clone(g.Next),
		})
	}
	return t
}

// Drain implements httpapi.Backend.
func (b backend) Drain(ctx context.Context) error { return b.s.Drain(ctx) }

// Remove implements httpapi.Backend.
func (b backend) Remove(ctx context.Context, node string) error { return b.s.Remove(ctx, node) }

// Handover implements httpapi.Backend.
func (b backend) Handover(ctx context.Context) error { return b.s.topology.Handover(ctx, b.s.id()) }

// ResetDefaultUser implements httpapi.Backend.
func (b backend) ResetDefaultUser(ctx context.Context) error {
	_, err := b.s.topology.ChangeUsers(ctx, topology.UserChange{Delete: []string{acl.Default}})
	return err
}

// Stats implements httpapi.Backend.
func (b backend) Stats() httpapi.Stats {
	s, st := b.s, &b.s.cache.Stats
	keys, expires, _ := s.cache.Keyspace()
	out := httpapi.Stats{
		Keys: int64(keys), KeysWithTTL: int64(expires), MemoryUsed: s.db.Used(), MemoryMax: s.db.MaxMemory(),
		Clients: int64(s.resp.Clients()), CommandsTotal: st.Commands.Load(), ForwardedTotal: st.Forwarded.Load(),
		ReadsLeaseTotal: st.ReadsLease.Load(), ReadsQuorumTotal: st.ReadsQuorum.Load(), ReadsStaleTotal: st.ReadsStale.Load(),
		HitsTotal: st.Hits.Load(), MissesTotal: st.Misses.Load(), ExpiredTotal: st.Expired.Load(),
		EvictedTotal: st.Evicted.Load(), NoReplicasTotal: st.Unanswered.Load(),
		ConnectionsTotal: s.resp.Accepted(), FailoversTotal: s.failovers.Load(), ReplicationLag: s.replicationLag(),
	}
	denied := s.cache.Refusals()
	out.Denied = httpapi.Denied{
		Auth: denied.Count(acl.DeniedAuth), Command: denied.Count(acl.DeniedCommand), Key: denied.Count(acl.DeniedKey), Channel: denied.Count(acl.DeniedChannel),
	}
	if s.journal != nil {
		out.JournalBytes = s.journal.Size()
	}
	return out
}

// replicationLag is how many records the slowest follower of any group that this node leads is behind.
func (s *Server) replicationLag() (lag int64) {
	for i := range ring.Groups {
		for _, p := range s.driver.Status(uint16(i)).Peers {
			lag = max(lag, int64(p.Lag))
		}
	}
	return lag
}
