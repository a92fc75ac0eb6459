package command

import (
	"math"

	"hypercache/node/store"
)

// lcsOptions are the arguments of LCS after its two keys.
type lcsOptions struct {
	length, index, matchLen bool
	minMatch                int64
}

func (c *Ctx) parseLCS() (o lcsOptions, ok bool) {
	for i := 3; i < len(c.Args); i++ {
		switch {
		case option(c.Args[i], "idx"):
			o.index = true
		case option(c.Args[i], "len"):
			o.length = true
		case option(c.Args[i], "withmatchlen"):
			o.matchLen = true
		case option(c.Args[i], "minmatchlen") && i+1 < len(c.Args):
			i++
			if o.minMatch, ok = c.intArg(i); !ok {
				return o, false
			}
			o.minMatch = max(o.minMatch, 0)
		default:
			c.W.Error(errSyntax)
			return o, false
		}
	}
	if o.index && o.length {
		c.W.Error("ERR If you want both the length and indexes, please just use IDX.")
		return o, false
	}
	return o, true
}

func runLCS(c *Ctx) {
	var text [2][]byte
	wrong := false
	for i, key := range c.Args[1:3] {
		if r, ok := c.findRead(key); ok {
			wrong = wrong || r.Type() != store.String
			text[i] = r.Value()
		}
	}
	if wrong {
		c.W.Error("ERR The specified keys must contain string values")
		return
	}
	o, ok := c.parseLCS()
	if !ok {
		return
	}
	a, b := text[0], text[1]
	if cells := uint64(len(a)+1) * uint64(len(b)+1); cells > maxBulk/4 || len(a) >= math.MaxUint32-1 {
		c.W.Error("ERR Insufficient memory, transient memory for LCS exceeds proto-max-bulk-len")
		return
	}
	t := newLCSTable(a, b)
	switch {
	case o.length:
		c.W.Int(int64(t.length()))
	case o.index:
		c.replyLCSIndex(t, o)
	default:
		c.W.Bulk(t.text())
	}
}

// replyLCSIndex writes the runs of the common subsequence, last one first.
func (c *Ctx) replyLCSIndex(t *lcsTable, o lcsOptions) {
	runs := t.runs()
	kept := runs[:0]
	for _, r := range runs {
		if int64(r.n) >= o.minMatch {
			kept = append(kept, r)
		}
	}
	w := c.W
	w.Map(2)
	w.BulkString("matches")
	w.Array(len(kept))
	for _, r := range kept {
		if o.matchLen {
			w.Array(3)
		} else {
			w.Array(2)
		}
		for _, start := range [2]int{r.a, r.b} {
			w.Array(2)
			w.Int(int64(start))
			w.Int(int64(start + r.n - 1))
		}
		if o.matchLen {
			w.Int(int64(r.n))
		}
	}
	w.BulkString("len")
	w.Int(int64(t.length()))
}

// lcsTable holds, for every pair of prefixes of a and b, the length of their longest common subsequence.
type lcsTable struct {
	a, b  []byte
	cells []uint32
}

func newLCSTable(a, b []byte) *lcsTable {
	width := len(b) + 1
	t := &lcsTable{a, b, make([]uint32, (len(a)+1)*width)}
	for i := range a {
		above, row := t.cells[i*width:(i+1)*width], t.cells[(i+1)*width:(i+2)*width]
		for j := range b {
			if a[i] == b[j] {
				row[j+1] = above[j] + 1
			} else {
				row[j+1] = max(above[j+1], row[j])
			}
		}
	}
	return t
}

func (t *lcsTable) length() int { return int(t.cells[len(t.cells)-1]) }

// walk visits the pairs of indexes of one longest common subsequence, from its end. Where several are longest it takes
// Redis' choice: a step back in b unless only a step back in a keeps the length.
func (t *lcsTable) walk(visit func(i, j int)) {
	width := len(t.b) + 1
	for i, j := len(t.a), len(t.b); i > 0 && j > 0; {
		switch {
		case t.a[i-1] == t.b[j-1]:
			i, j = i-1, j-1
			visit(i, j)
		case t.cells[(i-1)*width+j] > t.cells[i*width+j-1]:
			i--
		default:
			j--
		}
	}
}

func (t *lcsTable) text() []byte {
	out := make([]byte, t.length())
	at := len(out)
	t.walk(func(i, _ int) {
		at--
		out[at] = t.a[i]
	})
	return out
}

// lcsRun says that n bytes at a in the first string equal n bytes at b in the second.
type lcsRun struct{ a, b, n int }

func (t *lcsTable) runs() []lcsRun {
	var runs []lcsRun
	t.walk(func(i, j int) {
		if last := len(runs) - 1; last >= 0 && runs[last].a == i+1 && runs[last].b == j+1 {
			runs[last] = lcsRun{i, j, runs[last].n + 1}
			return
		}
		runs = append(runs, lcsRun{i, j, 1})
	})
	return runs
}
