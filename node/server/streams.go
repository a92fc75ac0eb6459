package server

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"hypercache/node/cache"
	"hypercache/node/member"
	"hypercache/node/peer"
	"hypercache/node/replica"
	"hypercache/node/ring"
	"hypercache/node/topology"
)

// handler connects the streams between nodes with those who speak over them.
func (s *Server) handler() peer.Handler {
	return peer.Handler{Opened: s.opened, Closed: s.closed, Frame: s.frame, BatchEnd: s.batchEnd, Call: s.call}
}

// forwardOut marks the asking end of a forward stream, busOut and busIn the ends of the bus.
type (
	forwardOut struct{}
	busOut     struct{}
	busIn      struct{}
)

func (s *Server) opened(st *peer.Stream) {
	switch {
	case st.Class == peer.Replica && st.Outbound:
		st.User = s.driver.PeerUp(st.Peer.NodeID, st)
	case st.Class == peer.Replica:
		st.User = s.driver.Accepted(st.Peer.NodeID, st)
	case st.Class == peer.Forward && st.Outbound:
		st.User = forwardOut{}
		s.cache.Connected(st)
	case st.Class == peer.Forward:
		st.User = s.cache.Accept(st)
	case st.Class == peer.Bus && st.Outbound:
		st.User = busOut{}
		s.cache.Bus().Up(st.Peer.NodeID, st)
	case st.Class == peer.Bus:
		st.User = busIn{}
		s.cache.Bus().Accepted(st.Peer.NodeID)
	}
}

func (s *Server) closed(st *peer.Stream) {
	switch {
	case st.Class == peer.Replica && st.Outbound:
		s.driver.PeerDown(st.Peer.NodeID, st)
	case st.Class == peer.Replica:
		s.driver.Ended(st.Peer.NodeID, st)
	case st.Class == peer.Forward && st.Outbound:
		s.cache.Disconnected(st)
	case st.Class == peer.Forward:
		st.User.(*cache.Inbound).Ended()
	case st.Class == peer.Bus && st.Outbound:
		s.cache.Bus().Down(st.Peer.NodeID, st)
	case st.Class == peer.Bus:
		s.cache.Bus().Ended(st.Peer.NodeID)
	}
}

func (s *Server) frame(st *peer.Stream, typ byte, body []byte) {
	var err error
	switch u := st.User.(type) {
	case *replica.Receiver[*peer.Stream]:
		err = u.Frame(typ, body)
	case *cache.Inbound:
		err = u.Frame(typ, body)
	case forwardOut:
		err = s.cache.Answered(st, typ, body)
	case busOut:
		err = s.cache.Bus().Acked(st.Peer.NodeID, st, typ, body)
	case busIn:
		err = s.cache.Bus().Frame(st.Peer.NodeID, st, typ, body)
	}
	if err != nil {
		s.log.Error("closing a stream that can't be understood", "peer", st.Peer.NodeID, "error", err)
		st.Close()
	}
}

func (s *Server) batchEnd(st *peer.Stream) {
	switch u := st.User.(type) {
	case *replica.Receiver[*peer.Stream]:
		u.BatchEnd()
		s.cache.FlushReplies()
	case *cache.Inbound:
		u.BatchEnd()
	case busIn:
		s.cache.FlushReplies()
	}
}

// call answers other nodes' requests.
func (s *Server) call(ctx context.Context, from, method string, payload []byte) ([]byte, error) {
	select {
	case <-s.built:
	default:
		return nil, fmt.Errorf("%s is starting", s.id())
	}
	switch {
	case strings.HasPrefix(method, topology.Prefix):
		return s.topology.Handle(ctx, from, method, payload)
	case method == topology.MethodFence:
		return s.fence(ctx, from, payload)
	case method == topology.MethodStatus:
		return s.status(payload)
	case method == topology.MethodRecall:
		return topology.Encode(s.recollect(from)), nil
	}
	return nil, fmt.Errorf("unknown method %q: is that node of another version?", method)
}

// fence waits for what it was told to wait for, then promises all groups with one write.
func (s *Server) fence(ctx context.Context, from string, payload []byte) ([]byte, error) {
	var q topology.FenceCall
	if err := topology.Decode(payload, &q); err != nil {
		return nil, err
	}
	s.awaitPlace(ctx)
	list := make([]replica.Fencing, 0, len(q.Groups))
	for _, f := range q.Groups {
		if int(f.Group) >= ring.Groups {
			return nil, fmt.Errorf("fence: no group %d", f.Group)
		}
		s.awaitHead(ctx, f)
		list = append(list, replica.Fencing{Group: f.Group, Term: f.Term, First: f.First})
	}
	results, err := s.driver.Fence(from, list)
	if err != nil {
		return nil, err
	}
	s.cache.FlushReplies()
	a := topology.FenceAnswer{Run: s.topology.Run()}
	for i, r := range results {
		a.Groups = append(a.Groups, topology.FenceReply{
			Group: list[i].Group, OK: r.OK, Promised: r.Promised, HeadTerm: r.Head.Term, HeadSeq: r.Head.Seq,
			Voter: r.Voter, LeaseMillis: uint64((r.Lease + time.Millisecond - 1) / time.Millisecond),
		})
	}
	return topology.Encode(a), nil
}

// placeWait is less than a leader waits for the last answers to its fence (topology.Timing.FenceGrace).
const placeWait = 80 * time.Millisecond

// awaitPlace has a node that may have forgotten promises learn what place it has before it is fenced: until then its replicas
// are silent. In a cluster that is just being founded the fence often comes first, and who does not answer gets no primaries.
func (s *Server) awaitPlace(ctx context.Context) {
	if !s.restored.forgetful || s.placed.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, placeWait)
	defer cancel()
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	for !s.placed.Load() {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// awaitHead waits until the group's log reaches what the old primary had, whose last records may be on their way.
func (s *Server) awaitHead(ctx context.Context, f topology.FenceRequest) {
	want := replica.Position{Term: f.WaitFor.Term, Seq: f.WaitFor.Seq}
	if want == (replica.Position{}) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Duration(f.WaitMillis)*time.Millisecond)
	defer cancel()
	t := time.NewTicker(time.Millisecond)
	defer t.Stop()
	g := s.driver.Group(f.Group)
	for {
		g.Lock()
		there := !g.Head().Less(want)
		g.Unlock()
		if there {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}

// caughtUp is the lag in records below which a follower that may vote counts as following closely.
const caughtUp = 256

func (s *Server) status(payload []byte) ([]byte, error) {
	var q topology.StatusCall
	if err := topology.Decode(payload, &q); err != nil {
		return nil, err
	}
	a := topology.StatusAnswer{Run: s.topology.Run(), Epoch: s.routed.Load()}
	for _, id := range q.Groups {
		if int(id) >= ring.Groups {
			return nil, fmt.Errorf("status: no group %d", id)
		}
		st := s.driver.Status(id)
		g := topology.GroupStatus{
			Group: id, Epoch: st.Epoch, Term: st.Term, JointReady: st.JointReady,
			Serving: st.Role == replica.Primary && !st.CannotLead,
		}
		for _, p := range st.Peers {
			g.Peers = append(g.Peers, topology.PeerStatus{
				ID: p.Name, Lag: p.Lag, CaughtUp: p.Up && p.Voter && !p.Snapshot && p.Lag < caughtUp,
			})
		}
		a.Groups = append(a.Groups, g)
	}
	a.Sum(q.Seen)
	return topology.Encode(a), nil
}

// topologyChanged carries a committed state to everybody who acts on it. The topology calls it in order.
func (s *Server) topologyChanged(st *topology.State) {
	s.cache.SetUsers(st.Users, st.ClusterID != "") // before this node serves what not all of them may see
	s.updatePeers(st)
	run := s.topology.Run()
	list := make([]replica.Assignment, 0, ring.Groups)
	var primary [ring.Groups]string
	var terms [ring.Groups]uint64
	for i := range st.Groups {
		g := &st.Groups[i]
		primary[i], terms[i] = g.Primary, g.Term
		if g.Primary == s.id() && s.led[i] != "" && s.led[i] != s.id() && s.net.Down(s.led[i]) {
			s.failovers.Add(1)
		}
		if s.led[i] == s.id() && g.Primary != "" && g.Primary != s.id() {
			s.moves.add(i)
		}
		if g.Primary != "" {
			s.led[i] = g.Primary
		}
		if g.Term == 0 {
			continue
		}
		leads := g.Primary
		if leads == s.id() && g.Run != run {
			leads = "" // elected before this process started: what it had promised in memory is gone
		}
		list = append(list, replica.Assignment{
			Group: uint16(i), LeaseWait: time.Duration(g.LeaseMillis) * time.Millisecond,
			Config: replica.Config{
				Epoch: g.Epoch, Term: g.Term, Primary: leads, Replicas: g.Replicas, Next: g.Next, Learner: g.Learner,
			},
			Holds: g.Holds(s.id()),
		})
	}
	// What knows this process was committed after it started: every promise that it may have forgotten is older.
	if !s.restored.forgetful || st.Members[s.id()].Run == run {
		s.driver.Configure(list)
		s.placed.Store(s.placed.Load() || len(list) > 0)
	}
	addr := map[string]string{}
	for id, m := range st.Members {
		addr[id] = m.RESPAddr
	}
	s.cache.SetLibraries(st.Libraries)
	s.cache.Reigns(&terms)
	s.cache.Route(st.Epoch, primary, addr)
	s.cache.FlushReplies()
	s.view.Store(s.clusterView(st))
	s.routed.Store(st.Epoch)
	s.clock.Compare()
}

// membersChanged carries gossip to the topology and to the streams.
func (s *Server) membersChanged(list []member.Member) {
	s.members.Store(&list)
	found := make([]topology.Member, 0, len(list))
	for _, m := range list {
		if m.Observer() || m.Status != member.Alive || m.RPCAddr == "" {
			continue
		}
		found = append(found, topology.Member{
			ID: m.ID, Addr: m.RPCAddr, Zone: m.Zone, RESPAddr: m.RESPAddr, HTTPAddr: m.HTTPAddr, GossipAddr: m.GossipAddr,
		})
	}
	s.updatePeers(s.topology.State())
	s.topology.Discovered(found)
}

// updatePeers opens streams to the members of the topology and to everybody whom gossip hears. Where both know a
// node, gossip has the newer address.
func (s *Server) updatePeers(st *topology.State) {
	s.peersMu.Lock()
	defer s.peersMu.Unlock()
	addrs := map[string]string{}
	for id, m := range st.Members {
		if m.Status != topology.Removed {
			addrs[id] = m.Addr
		}
	}
	for _, m := range *s.members.Load() {
		if m.Status == member.Alive && !m.Observer() && m.RPCAddr != "" {
			addrs[m.ID] = m.RPCAddr
		}
	}
	s.net.SetPeers(addrs)
	s.cache.Bus().Retain(addrs)
}

// resolve gives Raft the present address of a node.
func (s *Server) resolve(id string) (string, bool) {
	for _, m := range *s.members.Load() {
		if m.ID == id && m.Status == member.Alive && m.RPCAddr != "" {
			return m.RPCAddr, true
		}
	}
	return "", false
}

// lagging counts the groups that this node holds without following their primary closely yet, and describes one of them.
func (s *Server) lagging() (n int, one string) {
	st := s.topology.State()
	for i := range st.Groups {
		g := &st.Groups[i]
		if g.Term == 0 || !slices.Contains(g.Replicas, s.id()) {
			continue
		}
		if x := s.driver.Status(uint16(i)); x.Term < g.Term || !x.Voter {
			if n == 0 {
				one = fmt.Sprintf("group %d of %s: term %d of %d, voter %t, head %d", i, g.Primary, x.Term, g.Term, x.Voter, x.Head.Seq)
			}
			n++
		}
	}
	return n, one
}
