package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"hypercache/node/peer"
	"hypercache/node/replica"
	"hypercache/node/ring"
	"hypercache/node/topology"
)

// recallWithin bounds how long a start waits for what the other members know of this node. One that is up answers within
// milliseconds, and where nobody listens that shows as soon; a machine that is gone does not answer at all.
const recallWithin = time.Second

// recall asks the other members what they know of this node's earlier processes, before anything in the data directory is changed.
// It refuses to start on an older copy of the directory, as far as a member that answers can tell: a node that starts with all
// others down, or with those alone that know less than itself, goes on.
func (s *Server) recall() (map[string]*topology.Recalled, error) {
	if s.past.Problem != nil {
		s.log.Warn("cannot ask other members whether this data directory is an older copy of itself", "error", s.past.Problem)
	}
	ctx, cancel := context.WithTimeout(context.Background(), recallWithin)
	defer cancel()
	var mu sync.Mutex
	var wg sync.WaitGroup
	memories := map[string]*topology.Recalled{}
	for id, addr := range s.past.Others() {
		wg.Go(func() {
			from, b, err := peer.Ask(ctx, addr, topology.MethodRecall, nil, s.peering)
			r := &topology.Recalled{}
			if err == nil {
				err = topology.Decode(b, r)
			}
			if err != nil || from != id {
				s.log.Debug("a member does not tell what it knows of this node", "peer", id, "address", addr, "answers", from, "error", err)
				return
			}
			mu.Lock()
			memories[id] = r
			mu.Unlock()
		})
	}
	wg.Wait()
	for id, r := range memories {
		if err := s.past.Check(id, r); err != nil {
			return nil, fmt.Errorf("%s is an %w: nothing was touched, set it aside and start on an empty persistence.data_dir, "+
				"which the others fill", s.cfg.Persistence.DataDir, err)
		}
	}
	return memories, nil
}

// doubt takes the vote about all groups away, durably, if some primary knows of records that the node had and has no more. Either the
// directory is an older copy, of the same run, or the disk has lost what it had confirmed. Replicas vote again once they
// have caught up.
func (s *Server) doubt(memories map[string]*topology.Recalled) error {
	for from, r := range memories {
		for _, h := range r.Held {
			if int(h.Group) >= ring.Groups {
				continue
			}
			g := &s.restored.groups[h.Group]
			if !g.Voter || g.Head.Seq >= h.Seq {
				continue // what does not vote may lack something
			}
			s.log.Error("the data directory lacks records that this node had acknowledged: it is an older copy of itself, or the disk has lost them. "+
				"No group votes before it has caught up", "group", h.Group, "has", g.Head.Seq, "had", h.Seq, "says", from)
			return s.doubtAll()
		}
	}
	return nil
}

// doubtAll is for a node that has voters, and so a journal.
func (s *Server) doubtAll() error {
	all := make([]uint16, ring.Groups)
	for i := range all {
		all[i] = uint16(i)
		s.restored.groups[i].Voter = false
	}
	return s.journal.Doubt(all...)
}

// recollect tells what this node knows of another one's earlier processes.
func (s *Server) recollect(node string) topology.Recalled {
	r := s.topology.Recall(node)
	for i := range ring.Groups {
		st := s.driver.Status(uint16(i))
		if st.Role != replica.Primary {
			continue
		}
		for _, p := range st.Peers {
			if held := min(p.Match, st.Commit); p.Name == node && held > 0 {
				r.Held = append(r.Held, topology.Held{Group: uint16(i), Seq: held})
			}
		}
	}
	return r
}
