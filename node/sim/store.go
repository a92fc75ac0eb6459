package sim

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"

	"hypercache/node/journal"
	"hypercache/node/replica"
)

// keys is how many lists each group has.
const keys = 2

// part is a node's store of one group, with the replies that wait, and what the checks know of its log.
type part struct {
	n     *node
	id    uint16
	group *replica.Group[*end]
	lists [keys][]uint32
	seq   [keys]uint64 // newest record that touched the list, ordered by this node

	waiting []*operation // for a record to be settled
	parked  []*operation // reads that wait for a lease

	terms     []uint64 // of the log: terms[seq-1]
	open      bool     // between SyncBegin and SyncEnd
	committed uint64
}

func newPart(n *node, g uint16) *part { return &part{n: n, id: g} }

// effects is the record of an append: a command in Redis' protocol, as the journal wants it.
func effects(key int, ids ...uint32) []byte {
	b := fmt.Appendf(nil, "*%d\r\n$5\r\nRPUSH\r\n$1\r\n%d\r\n", 2+len(ids), key)
	for _, id := range ids {
		s := strconv.FormatUint(uint64(id), 10)
		b = fmt.Appendf(b, "$%d\r\n%s\r\n", len(s), s)
	}
	return b
}

// words reads one command from b.
func words(b []byte) (args []string, rest []byte, err error) {
	line := func(lead byte) int {
		i := bytes.IndexByte(b, '\r')
		if i < 2 || b[0] != lead || len(b) < i+2 {
			err = fmt.Errorf("not effects: %.40q", b)
			return 0
		}
		v, aerr := strconv.Atoi(string(b[1:i]))
		if aerr != nil || v < 0 {
			err = fmt.Errorf("not effects: %.40q", b)
		}
		b = b[i+2:]
		return v
	}
	for n := line('*'); n > 0 && err == nil; n-- {
		size := line('$')
		if err != nil || len(b) < size+2 {
			return nil, nil, fmt.Errorf("not effects: %.40q", b)
		}
		args = append(args, string(b[:size]))
		b = b[size+2:]
	}
	return args, b, err
}

// apply runs effects.
func (p *part) apply(b []byte) error {
	for len(b) > 0 {
		args, rest, err := words(b)
		if err != nil {
			return err
		}
		b = rest
		key, err := strconv.Atoi(args[1])
		if err != nil || key >= keys {
			return fmt.Errorf("no key %q", args[1])
		}
		if args[0] == "DEL" {
			p.lists[key] = nil
			continue
		}
		for _, s := range args[2:] {
			id, err := strconv.ParseUint(s, 10, 32)
			if err != nil {
				return err
			}
			p.lists[key] = append(p.lists[key], uint32(id))
		}
	}
	return nil
}

// replay takes a record of the journal at the start of the process.
func (p *part) replay(r *journal.Record) error {
	switch r.Kind {
	case journal.SyncBegin:
		p.lists = [keys][]uint32{}
	case journal.Effects:
		return p.apply(r.Data)
	}
	return nil
}

// machine is the content of one node, as its driver uses it.
type machine struct{ n *node }

// Apply implements replica.Machine.
func (m machine) Apply(g uint16, effects []byte) error { return m.n.parts[g].apply(effects) }

// Snapshot implements replica.Machine.
func (m machine) Snapshot(g uint16) replica.Snapshot { return &copied{m: m, group: g} }

// copied is a group's content at one moment, an effect at a time.
type copied struct {
	m     machine
	group uint16
	rest  [][]byte
}

func (c *copied) Fit() {}

func (c *copied) Size() (n int64) {
	c.m.content(c.group, func(b []byte) { n += int64(len(b)) })
	return n
}

func (c *copied) Take() { c.m.content(c.group, func(b []byte) { c.rest = append(c.rest, b) }) }

func (c *copied) Next(emit func([]byte)) bool {
	if len(c.rest) == 0 {
		return false
	}
	emit(c.rest[0])
	c.rest = c.rest[1:]
	return true
}

func (c *copied) Close() { c.rest = nil }

// content gives the group's content as effects.
func (m machine) content(g uint16, emit func([]byte)) {
	p := m.n.parts[g]
	if p == nil {
		return
	}
	for k, list := range p.lists {
		for ids := range slices.Chunk(list, 100) {
			emit(effects(k, ids...))
		}
	}
}

// Clear implements replica.Machine.
func (m machine) Clear(g uint16, emit func([]byte)) {
	p := m.n.parts[g]
	if p == nil {
		return
	}
	for k := range p.lists {
		if p.lists[k] != nil {
			emit(fmt.Appendf(nil, "*2\r\n$3\r\nDEL\r\n$1\r\n%d\r\n", k))
		}
	}
	p.lists = [keys][]uint32{}
}

// Settled implements replica.Machine.
func (m machine) Settled(g uint16, seq uint64) {
	p := m.n.parts[g]
	if !p.here() {
		return
	}
	p.n.w.check.committed(p)
	i := 0
	for ; i < len(p.waiting) && p.waiting[i].seq <= seq; i++ {
		p.waiting[i].answer()
	}
	p.waiting = p.waiting[i:]
}

// Lost implements replica.Machine.
func (m machine) Lost(g uint16) {
	p := m.n.parts[g]
	if !p.here() {
		return
	}
	p.failWaiting()
	p.seq, p.committed = [keys]uint64{}, 0
}

// Changed implements replica.Machine. It is called with the group locked.
func (m machine) Changed(g uint16) {
	p := m.n.parts[g]
	if !p.here() || len(p.parked) == 0 {
		return
	}
	p.n.later(0, func() {
		list := p.parked
		p.parked = nil
		for _, op := range list {
			p.read(op)
		}
	})
}

// here tells that the part belongs to the process that runs: a crash may have hit in the middle of what called.
func (p *part) here() bool { return p != nil && p.n.alive && p.n.parts[p.id] == p }

func (p *part) died() {
	p.failWaiting()
	for _, op := range p.parked {
		op.fail()
	}
	p.parked = nil
}

func (p *part) failWaiting() {
	list := p.waiting
	p.waiting = nil
	for _, op := range list {
		op.fail()
	}
}

// journaled is called for every record that the driver gives to the journal.
func (p *part) journaled(r *journal.Record) {
	switch {
	case r.Kind == journal.SyncBegin:
		p.open = true
	case r.Kind == journal.SyncEnd:
		p.open = false
		p.n.w.check.replaced(p, replica.Position{Term: r.Term, Seq: r.Seq})
	case !p.open:
		p.n.w.check.appended(p, r)
	}
}
