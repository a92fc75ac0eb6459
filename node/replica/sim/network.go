package sim

import "hypercache/node/replica"

// entry is a record with its content: client write id on key; a Noop has id 0.
type entry struct {
	term, seq uint64
	id        uint32
	key       uint8
}

// message travels between nodes; ev is what the receiver's core is given.
type message struct {
	from, to *node
	ev       replica.Event
	entries  []entry
	snapshot *snapshot // set on the offer and on the end of a snapshot
	end      bool
}

type snapshot struct {
	id     uint64
	at     replica.Position
	log    []entry
	starts []replica.TermStart
}

// network delivers messages. In ordered runs a pair of nodes has sessions, FIFO while they last, with PeerUp and
// PeerDown around them. In the others single messages are lost, doubled and overtaken without anybody being told.
type network struct {
	w        *world
	ordered  bool
	loss     float64
	dup      float64
	late     float64 // how often a message takes much longer than maxDelay
	maxDelay int64
	cut      [][]bool // from, to
	session  [][]session
	ctlCut   []bool // node to and from the topology leader
}

type session struct {
	up   bool
	id   uint64
	last int64 // delivery of the newest message, for the order
}

func (n *network) build(w *world) {
	n.w = w
	n.ordered = w.Chance(0.6)
	n.maxDelay = []int64{500, 2000, 20000}[w.RNG.IntN(3)]
	if !n.ordered {
		n.loss, n.dup = w.RNG.Float64()*0.1, w.RNG.Float64()*0.1
		n.late = []float64{0, 0.02, 0.2}[w.RNG.IntN(3)]
	}
	for range w.nodes {
		n.cut = append(n.cut, make([]bool, len(w.nodes)))
		n.session = append(n.session, make([]session, len(w.nodes)))
	}
	n.ctlCut = make([]bool, len(w.nodes))
	w.After(0, n.maintain)
}

func (n *network) heal() {
	for i := range n.cut {
		clear(n.cut[i])
	}
	clear(n.ctlCut)
	n.loss, n.dup, n.late = 0, 0, 0
}

// maintain opens sessions that can be and closes those whose link or end is gone.
func (n *network) maintain() {
	for i, a := range n.w.nodes {
		for j, b := range n.w.nodes[:i] {
			works := a.alive && b.alive && (!n.ordered || !n.cut[i][j] && !n.cut[j][i])
			if s := &n.session[i][j]; s.up && !works {
				n.close(a, b)
			} else if !s.up && works {
				n.open(a, b)
			}
		}
	}
	n.w.After(n.w.Between(5*millisecond, 60*millisecond), n.maintain)
}

func (n *network) open(a, b *node) {
	for _, s := range []*session{&n.session[a.index][b.index], &n.session[b.index][a.index]} {
		s.up, s.last = true, n.w.Now
		s.id++
	}
	a.step(&replica.Event{Kind: replica.PeerUp, Peer: b.name})
	b.step(&replica.Event{Kind: replica.PeerUp, Peer: a.name})
}

// close ends the session: what is under way is lost.
func (n *network) close(a, b *node) {
	if !n.session[a.index][b.index].up {
		return
	}
	n.session[a.index][b.index].up, n.session[b.index][a.index].up = false, false
	a.peerDown(b)
	b.peerDown(a)
}

// crashed closes the sessions of a node that died; the other ends notice.
func (n *network) crashed(a *node) {
	for _, b := range n.w.nodes {
		if a != b {
			n.close(a, b)
		}
	}
}

func (n *network) send(m message) {
	w := n.w
	w.count.Messages++
	i, j := m.from.index, m.to.index
	if !n.session[i][j].up || n.cut[i][j] || w.Chance(n.loss) {
		w.count.Lost++
		return
	}
	copies := 1
	if n.dup > 0 && w.Chance(n.dup) {
		copies++
		w.count.Duplicated++
	}
	for range copies {
		d := w.Between(50, n.maxDelay)
		if !n.ordered && w.Chance(n.late) {
			d += w.Between(0, 800*millisecond)
		}
		id := n.session[i][j].id
		if n.ordered {
			s := &n.session[i][j]
			s.last = max(s.last, w.Now+d)
			d = s.last - w.Now
		}
		n.deliver(m, id, d)
	}
}

func (n *network) deliver(m message, id uint64, d int64) {
	i, j := m.from.index, m.to.index
	n.w.After(d, func() {
		if !m.to.alive || n.ordered && (n.session[i][j].id != id || !n.session[i][j].up) {
			n.w.count.Lost++
			return
		}
		if m.to.pausedUntil > n.w.Now {
			n.deliver(m, id, m.to.pausedUntil-n.w.Now)
			return
		}
		m.to.receive(&m)
	})
}

// control carries fn between the topology leader and a node, unreliably.
func (n *network) control(to *node, fn func()) {
	w := n.w
	if n.ctlCut[to.index] || w.Chance(n.loss) {
		return
	}
	times := 1
	if w.Chance(n.dup) {
		times++
	}
	for range times {
		d := w.Between(50, n.maxDelay)
		if w.Chance(n.loss) {
			d += w.Between(0, 500*millisecond)
		}
		w.After(d, fn)
	}
}
