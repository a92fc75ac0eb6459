package cache

import (
	"slices"
	"strconv"
	"sync"

	"hypercache/node/command"
	"hypercache/node/resp"
	"hypercache/node/ring"
)

// gather collects the replies of one command's parts and merges them.
type gather struct {
	merge command.Merge
	proto int
	keys  [][]int // MergeArrayByKey: the places of each part's keys in the request
	limit int     // MergeHot: how many are asked for

	mu      sync.Mutex
	left    int
	parts   [][]byte
	waiting bool // the command has returned: the merged reply goes to to
	to      origin
	then    func(parts [][]byte, to origin) // instead of merging
}

// settle implements sink.
func (g *gather) settle(id uint64, raw []byte) {
	g.mu.Lock()
	g.parts[id] = slices.Clone(raw)
	g.left--
	last := g.left == 0 && g.waiting
	g.mu.Unlock()
	if last {
		g.finish()
	}
}

// complete is called when every part is under way. It returns true when all have been answered already.
func (g *gather) complete(hold func() origin) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.left == 0 {
		return true
	}
	g.to = hold()
	g.waiting = true
	return false
}

func (g *gather) finish() {
	if g.then != nil {
		g.then(g.parts, g.to)
		return
	}
	w := resp.Writer{Proto: g.proto}
	g.write(&w)
	g.to.reply(w.Buf)
}

// write merges the parts' replies; the first error stands for the whole.
func (g *gather) write(w *resp.Writer) {
	for _, p := range g.parts {
		if len(p) > 0 && p[0] == '-' {
			w.Raw(p)
			return
		}
	}
	switch g.merge {
	case command.MergeSum:
		var sum int64
		for _, p := range g.parts {
			n, _, _ := header(p)
			sum += int64(n)
		}
		w.Int(sum)
	case command.MergeArrayByKey:
		g.writeByKey(w)
	case command.MergeHot:
		g.writeHot(w)
	case command.MergeDigest:
		shards := make([][]byte, len(g.parts))
		for i, p := range g.parts {
			_, body, _ := header(p)
			shards[i] = body
		}
		w.SimpleString(command.JoinDigests(shards))
	case command.MergeConcat:
		var all [][]byte
		for _, p := range g.parts {
			all = append(all, elements(p)...)
		}
		w.Array(len(all))
		for _, e := range all {
			w.Raw(e)
		}
	default:
		w.OK()
	}
}

func (g *gather) writeByKey(w *resp.Writer) {
	n := 0
	for _, at := range g.keys {
		n += len(at)
	}
	all := make([][]byte, n)
	for i, p := range g.parts {
		list := elements(p)
		if len(list) != len(g.keys[i]) {
			w.Error("ERR a node answered with " + strconv.Itoa(len(list)) + " values for " + strconv.Itoa(len(g.keys[i])) + " keys")
			return
		}
		for j, e := range list {
			all[g.keys[i][j]] = e
		}
	}
	w.Array(n)
	for _, e := range all {
		w.Raw(e)
	}
}

// scatter runs a command whose keys may be anywhere: one part for each group that has any of them.
func (c *Cache) scatter(k *conn, w *resp.Writer, spec *command.Spec, args [][]byte) {
	if o, one := singleGroup(spec, args, w.Proto); one {
		if k.acceptsStale(c) && c.fromCopy(&o, w, k.now, k.home) {
			return
		}
		c.run(k, w, &o)
		return
	}
	g, ops := split(spec, args, w.Proto)
	if k.acceptsStale(c) {
		LevelStale.at(ops)
	}
	c.dispatch(g, ops, k, k.now, k.home)
	if g.complete(func() origin { return origin{t: k.s.Hold()} }) {
		g.write(w)
	}
}

func singleGroup(spec *command.Spec, args [][]byte, proto int) (op, bool) {
	step := max(spec.KeyStep, 1)
	slot := ring.Slot(args[1])
	o := op{spec: spec, args: args, group: ring.GroupOf(slot), slot: slot, part: true, proto: proto}
	for i := 1 + step; i < len(args); i += step {
		if ring.GroupOf(ring.Slot(args[i])) != o.group {
			return o, false
		}
	}
	return o, true
}

// split makes the parts of a scattered command. A part's arguments alias those of the whole.
func split(spec *command.Spec, args [][]byte, proto int) (*gather, []op) {
	step := max(spec.KeyStep, 1)
	var at [ring.Groups]int
	var ops []op
	g := &gather{merge: spec.Merge, proto: proto}
	for i, n := 1, 0; i < len(args); i, n = i+step, n+1 {
		slot := ring.Slot(args[i])
		group := ring.GroupOf(slot)
		if at[group] == 0 {
			ops = append(ops, op{spec: spec, args: [][]byte{args[0]}, group: group, slot: slot, part: true, proto: proto})
			g.keys = append(g.keys, nil)
			at[group] = len(ops)
		}
		j := at[group] - 1
		ops[j].args = append(ops[j].args, args[i:i+step]...)
		g.keys[j] = append(g.keys[j], n)
	}
	g.left, g.parts = len(ops), make([][]byte, len(ops))
	return g, ops
}

// dispatch starts every part: here, on its primary, or later.
func (c *Cache) dispatch(to sink, ops []op, k *conn, now int64, r *round) {
	w := resp.Writer{}
	v := c.view.Load()
	ordered := k == nil || k.inOrder(v) && !c.obs.pause.paused(ops[0].spec.Write, now)
	var n uint64
	if k != nil {
		k.order++
		n = k.order
	}
	inflight := k != nil && k.inflight.Load() > 0 // before this command
	for i := range ops {
		o := &ops[i]
		o.observedBy(k)
		w.Buf, w.Proto = w.Buf[:0], o.proto
		from := origin{sink: to, id: uint64(i), conn: k, n: n}
		if o.stale && c.fromCopy(o, &w, now, r) {
			to.settle(from.id, w.Buf)
			continue
		}
		if ordered {
			where := elsewhere
			if !inflight || v.primary[o.group] == c.opt.Self { // see run
				where = c.exec(o, &w, now, r, from)
			}
			if where == done || where == elsewhere && c.forward(v, o, from, r) {
				continue
			}
		}
		c.wait(o, from)
	}
}

// elements cuts an array reply into its elements, each a complete RESP value.
func elements(p []byte) [][]byte {
	n, rest, ok := header(p)
	if !ok || p[0] != '*' || n < 0 || n > len(rest) {
		return nil
	}
	out := make([][]byte, 0, n)
	for range n {
		size := valueSize(rest)
		if size == 0 {
			return out
		}
		out = append(out, rest[:size])
		rest = rest[size:]
	}
	return out
}

// valueSize is the length of the flat RESP value that p begins with (string, integer, null), 0 if there is none.
func valueSize(p []byte) int {
	n, rest, ok := header(p)
	if !ok {
		return 0
	}
	size := len(p) - len(rest)
	if p[0] == '$' && n >= 0 {
		if n > len(rest) {
			return 0
		}
		size += n + 2
	}
	if size > len(p) {
		return 0
	}
	return size
}

// header reads the first line of a RESP value: the number on it, where there is one, and what follows.
func header(p []byte) (n int, rest []byte, ok bool) {
	for i := 1; i+1 < len(p); i++ {
		if p[i] == '\r' {
			n, _ = strconv.Atoi(string(p[1:i]))
			return n, p[i+2:], true
		}
	}
	return 0, nil, false
}
