package replica

import (
	"bytes"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hypercache/node/journal"
)

// wire is a stream in memory: frames wait until the test delivers them.
type wire struct {
	from, to string
	up       bool
	cur      []byte
	typ      byte
	queued   [][]byte // not flushed
	sent     [][]byte // flushed: type, body
	paced    int
}

func (w *wire) Begin(typ byte) ([]byte, bool) {
	if !w.up {
		return nil, false
	}
	w.typ = typ
	return w.cur[:0], true
}

func (w *wire) End(b []byte)      { w.queued = append(w.queued, append([]byte{w.typ}, b...)) }
func (w *wire) EndPaced(b []byte) { w.paced++; w.End(b) }
func (w *wire) Flush() {
	if w.up {
		w.sent = append(w.sent, w.queued...)
	}
	w.queued = nil
}

// disk is a journal that can fail, and counts what it was asked to keep.
type disk struct {
	mu       sync.Mutex
	records  []journal.Record
	written  int64
	fail     error // what Commit and SetPromises return
	promises map[uint16]uint64
	writes   int    // of promises
	work     func() // called in Commit, without mu
	complete []uint16
}

func (j *disk) Append(r journal.Record) int64 {
	j.mu.Lock()
	defer j.mu.Unlock()
	r.Data = bytes.Clone(r.Data)
	j.records = append(j.records, r)
	return int64(len(j.records))
}

func (j *disk) Commit(pos int64) error {
	if work := j.work; work != nil {
		j.work = nil // not in itself
		work()
		j.work = work
	}
	j.mu.Lock()
	defer j.mu.Unlock()
	if pos > int64(len(j.records)) {
		panic("commit of what was never appended")
	}
	if j.fail != nil && pos > j.written {
		return j.fail
	}
	j.written = max(j.written, int64(len(j.records)))
	return nil
}

func (j *disk) SetPromises(p map[uint16]uint64) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	if j.fail != nil {
		return j.fail
	}
	j.writes++
	for g, t := range p {
		j.promises[g] = max(j.promises[g], t)
	}
	return nil
}

func (j *disk) Complete(groups ...uint16) error {
	j.complete = append(j.complete, groups...)
	return nil
}

// content is a machine: "key=value" sets, "-key" deletes.
type content struct {
	locked  func(group uint16) bool
	copies  int // that are not closed
	taken   int // copies, ever
	groups  [256]map[string]string
	settled [256]uint64
	lost    [256]int
	changed [256]int
}

func (m *content) Apply(group uint16, effects []byte) error {
	for _, e := range strings.Split(strings.Trim(string(effects), ";"), ";") {
		k, v, set := strings.Cut(e, "=")
		switch {
		case set:
			if m.groups[group] == nil {
				m.groups[group] = map[string]string{}
			}
			m.groups[group][k] = v
		case strings.HasPrefix(e, "-"):
			delete(m.groups[group], e[1:])
		case e != "":
			return fmt.Errorf("foreign effect %q", e)
		}
	}
	return nil
}

func (m *content) Snapshot(group uint16) Snapshot {
	m.copies++
	return &copied{of: m, group: group}
}

// copied gives an entry at a time.
type copied struct {
	of    *content
	group uint16
	rest  []string
}

func (c *copied) Size() (n int64) {
	c.locks(true)
	for k, v := range c.of.groups[c.group] {
		n += int64(len(k) + len(v) + 2)
	}
	return n
}

func (c *copied) Fit() { c.locks(false) }

// locks checks who holds the group's lock.
func (c *copied) locks(held bool) {
	if c.of.locked(c.group) != held {
		panic(fmt.Sprintf("the lock of group %d is held: %v", c.group, !held))
	}
}

func (c *copied) Take() {
	c.locks(true)
	c.of.taken++
	for k, v := range c.of.groups[c.group] {
		c.rest = append(c.rest, k+"="+v+";")
	}
}

func (c *copied) Next(emit func([]byte)) bool {
	c.locks(false)
	if len(c.rest) == 0 {
		return false
	}
	emit([]byte(c.rest[0]))
	c.rest = c.rest[1:]
	return true
}

func (c *copied) Close() { c.of.copies-- }

func (m *content) Clear(group uint16, emit func([]byte)) {
	for k := range m.groups[group] {
		emit([]byte("-" + k + ";"))
	}
	m.groups[group] = nil
}

func (m *content) Settled(group uint16, seq uint64) { m.settled[group] = max(m.settled[group], seq) }
func (m *content) Lost(group uint16)                { m.lost[group]++; m.settled[group] = 0 }
func (m *content) Changed(group uint16)             { m.changed[group]++ }

type node struct {
	*content
	id    string
	d     *Driver[*wire]
	j     *disk
	fatal error
	batch Batch[*wire]
}

// cluster is drivers joined by wires.
type cluster struct {
	t     *testing.T
	nodes []*node
	links map[[2]string]*duplex
	epoch uint64
	opt   Options
	ahead time.Duration // of the clock: pauses between pieces of snapshots take no time
}

// duplex is what a node dialed: requests go out, answers come back.
type duplex struct {
	there, back       *wire
	sender, receiver  *Receiver[*wire] // sender takes the answers
	dialer, listening *node
}

func drivers(t *testing.T, n int, opt Options) *cluster {
	c := &cluster{t: t, links: map[[2]string]*duplex{}, opt: opt}
	if opt.Now == nil {
		c.opt.Now = func() time.Time { return time.Now().Add(c.ahead) }
	}
	for i := range n {
		c.nodes = append(c.nodes, c.start(string(rune('a'+i)), [256]Restored{}))
	}
	for _, a := range c.nodes {
		for _, b := range c.nodes {
			if a != b {
				c.link(a, b)
			}
		}
	}
	return c
}

func (c *cluster) start(id string, r [256]Restored) *node {
	n := &node{content: &content{}, id: id, j: &disk{promises: map[uint16]uint64{}}}
	for i := range r {
		r[i].Incarnation = uint64(len(c.nodes)+1) + r[i].Incarnation
	}
	o := c.opt
	o.Self, o.Machine, o.Journal, o.Fatal = id, n.content, n.j, func(err error) { n.fatal = err }
	n.d = NewDriver[*wire](o, &r)
	n.locked = func(group uint16) bool {
		if g := n.d.Group(group); g.TryLock() {
			g.Unlock()
			return false
		}
		return true
	}
	c.t.Cleanup(func() {
		under := 0
		for _, out := range n.d.peers {
			if out.now != nil {
				under++
			}
		}
		if n.copies != under {
			c.t.Errorf("%s: %d copies are open, %d on their way", id, n.copies, under)
		}
	})
	return n
}

func (c *cluster) link(a, b *node) {
	l := &duplex{dialer: a, listening: b, there: &wire{from: a.id, to: b.id, up: true}, back: &wire{from: b.id, to: a.id, up: true}}
	c.links[[2]string{a.id, b.id}] = l
	l.receiver = b.d.Accepted(a.id, l.back)
	l.sender = a.d.PeerUp(b.id, l.there)
}

func (c *cluster) cut(a, b *node) {
	l := c.links[[2]string{a.id, b.id}]
	delete(c.links, [2]string{a.id, b.id})
	l.there.up, l.back.up = false, false
	a.d.PeerDown(b.id, l.there)
	b.d.Ended(a.id, l.back)
}

// deliver carries what is on the wires, and what that leads to, until nothing is.
func (c *cluster) deliver() {
	c.t.Helper()
	for range 10000 {
		moved := false
		for _, l := range c.links {
			moved = c.carry(l.there, l.receiver) || moved
			moved = c.carry(l.back, l.sender) || moved
		}
		if !moved && !c.pace() {
			return
		}
	}
	c.t.Fatal("the drivers never come to rest")
}

// pace goes on with the snapshots that are on their way.
func (c *cluster) pace() (more bool) {
	for _, n := range c.nodes {
		after := n.d.Pace(&n.batch)
		_ = n.end()
		for _, l := range c.links {
			more = more || len(l.there.sent) > 0
		}
		if after > 0 && after < answerWait/2 {
			c.ahead += after
			more = true
		}
	}
	return more
}

func (c *cluster) carry(w *wire, r *Receiver[*wire]) bool {
	c.t.Helper()
	if len(w.sent) == 0 {
		return false
	}
	list := w.sent
	w.sent = nil
	for _, f := range list {
		if err := r.Frame(f[0], f[1:]); err != nil {
			c.t.Fatalf("%s to %s: %v", w.from, w.to, err)
		}
	}
	r.BatchEnd()
	return true
}

func names(nodes ...*node) (out []string) {
	for _, n := range nodes {
		out = append(out, n.id)
	}
	return out
}

// lead elects primary for the groups with a term of its own, among replicas.
func (c *cluster) lead(primary *node, term uint64, replicas []*node, groups ...uint16) {
	c.t.Helper()
	for _, g := range groups {
		for _, n := range replicas {
			out, err := n.d.Fence("test", []Fencing{{Group: g, Term: term, First: term == 1}})
			if err != nil || !out[0].OK {
				c.t.Fatalf("fence %s: %+v %v", n.id, out, err)
			}
		}
	}
	c.configure(Config{Term: term, Primary: primary.id, Replicas: names(replicas...)}, replicas, 0, groups...)
	c.deliver()
}

func (c *cluster) configure(cfg Config, to []*node, wait time.Duration, groups ...uint16) {
	c.epoch++
	cfg.Epoch = c.epoch
	for _, n := range to {
		var list []Assignment
		for _, g := range groups {
			list = append(list, Assignment{Group: g, Config: cfg, Holds: true, LeaseWait: wait})
		}
		n.d.Configure(list)
	}
}

// write executes and proposes, as the cache does.
func (n *node) write(g uint16, effects string) uint64 {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	_ = n.Apply(g, []byte(effects))
	return x.Propose([]byte(effects), &n.batch)
}

func (n *node) end() error { return n.d.EndBatch(&n.batch) }

func (n *node) held(g uint16, seq uint64) bool {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	return x.Held(seq)
}

func (n *node) serving(g uint16) bool {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	return x.Serving()
}

func (n *node) readable(g uint16) bool {
	x := n.d.Group(g)
	x.Lock()
	defer x.Unlock()
	return x.Readable(time.Now(), &n.batch)
}

func (c *cluster) same(g uint16, nodes ...*node) {
	c.t.Helper()
	for _, n := range nodes[1:] {
		if fmt.Sprint(n.groups[g]) != fmt.Sprint(nodes[0].groups[g]) {
			c.t.Errorf("group %d: %s has %d keys, %s has %d", g, nodes[0].id, len(nodes[0].groups[g]), n.id, len(n.groups[g]))
		}
	}
}

func (c *cluster) tick(rounds int) {
	c.t.Helper()
	for range rounds {
		for _, n := range c.nodes {
			n.d.Tick(&n.batch)
		}
		c.deliver()
	}
}
