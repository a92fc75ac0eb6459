package server

import (
	"fmt"
	"sync"
	"time"

	"hypercache/node/cache"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// moves are the groups whose primary this node was until another became it, as clients are told of them that asked for it with
// CLIENT MAINT_NOTIFICATIONS: SMIGRATED, as Redis' managed services push it, lets a cluster client ask for the map of slots at
// once. Without it a client whose commands are forwarded keeps an old map as long as it pleases.
type moves struct {
	mu   sync.Mutex
	gone [ring.Groups]bool // and not told yet
	told [ring.Groups]bool
	seq  int64 // of the last notification; clients take each number once, whatever process sent it
}

func (m *moves) add(group int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.gone[group] = true
}

// take returns what was not told yet, and the number for telling it; 0 if there is nothing.
func (m *moves) take(now time.Time) (gone [ring.Groups]bool, seq int64) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.gone == ([ring.Groups]bool{}) {
		return gone, 0
	}
	gone, m.gone = m.gone, [ring.Groups]bool{}
	for g, one := range gone {
		m.told[g] = m.told[g] || one
	}
	m.seq = max(m.seq+1, now.UnixMilli())
	return gone, m.seq
}

// again makes the next take return what was told before, too.
func (m *moves) again() {
	m.mu.Lock()
	defer m.mu.Unlock()
	for g, one := range m.told {
		m.gone[g] = m.gone[g] || one
	}
}

// tellMoves tells clients which primaries have left this node. It is called some time after they did, so that whatever node a
// client then asks for the map has the new one.
func (s *Server) tellMoves() {
	gone, seq := s.moves.take(time.Now())
	if seq == 0 {
		return
	}
	note := s.migrated(&gone, seq)
	if note == nil {
		return
	}
	s.resp.EachSession(func(x *resp.Session) bool {
		if c := cache.ClientOf(x); c != nil && c.WantsMaintenance() {
			x.Push(note)
		}
		return true
	})
}

// migrated is the notification: a push of SMIGRATED, its number, and for each node that has slots now this one's address, that
// one's and the slots, "0-99,200". Addresses are as CLUSTER SLOTS gives them. It is nil if no group has another primary.
func (s *Server) migrated(gone *[ring.Groups]bool, seq int64) []byte {
	v := s.view.Load()
	if v == nil || v.Self < 0 {
		return nil
	}
	at := func(n int) string { return fmt.Sprintf("%s:%d", v.Nodes[n].Host, v.Nodes[n].Port) }
	var to [ring.Groups]int
	for i := range to {
		to[i] = v.Self
	}
	for _, rg := range v.Ranges { // of whole groups
		for g := ring.GroupOf(uint16(rg.First)); g <= ring.GroupOf(uint16(rg.Last)); g++ {
			if gone[g] && rg.Primary >= 0 {
				to[g] = rg.Primary
			}
		}
	}
	slots := make([][]byte, len(v.Nodes))
	targets := 0
	for g := 0; g < ring.Groups; g++ {
		n, first := to[g], g
		if n == v.Self {
			continue
		}
		for g+1 < ring.Groups && to[g+1] == n {
			g++
		}
		if len(slots[n]) == 0 {
			targets++
		} else {
			slots[n] = append(slots[n], ',')
		}
		low, _ := ring.GroupSlots(first)
		_, high := ring.GroupSlots(g)
		slots[n] = fmt.Appendf(slots[n], "%d-%d", low, high)
	}
	if targets == 0 {
		return nil
	}
	w := resp.Writer{Proto: 3}
	w.Push(3)
	w.SimpleString("SMIGRATED")
	w.Int(seq)
	w.Array(targets)
	for n, list := range slots {
		if len(list) > 0 {
			w.Array(3)
			w.BulkString(at(v.Self))
			w.BulkString(at(n))
			w.Bulk(list)
		}
	}
	return w.Buf
}
