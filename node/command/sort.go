package command

import (
	"bytes"
	"cmp"
	"errors"
	"math"
	"slices"
	"strconv"
	"strings"

	"hypercache/node/ring"
	"hypercache/node/store"
)

func sortCommands() []binding {
	return []binding{
		{name: "sort", scope: ScopeKey, run: runSort, keys: sortKeys},
		{name: "sort_ro", scope: ScopeKey, run: runSort},
	}
}

// sorting is what SORT was asked for.
type sorting struct {
	desc, alpha  bool
	start, count int64 // LIMIT; a negative count is none
	by           []byte
	unsorted     bool // one of the BY has no star
	get          [][]byte
	dst          []byte // nil without STORE
}

// sortWord tells the options of SORT apart, with the number of their arguments; "" is none of them.
func sortWord(args [][]byte, i int, readOnly bool) (name string, operands int) {
	for _, o := range [...]struct {
		name     string
		operands int
	}{{"asc", 0}, {"desc", 0}, {"alpha", 0}, {"limit", 2}, {"by", 1}, {"get", 1}, {"store", 1}} {
		if option(args[i], o.name) && i+o.operands < len(args) && !(readOnly && o.name == "store") {
			return o.name, o.operands
		}
	}
	return "", 0
}

// sortKeys are SORT's key and the last STORE's.
func sortKeys(args [][]byte, dst []int) []int {
	dst = append(dst, 1)
	store := 0
	for i := 2; i < len(args); i++ {
		name, operands := sortWord(args, i, false)
		if name == "store" {
			store = i + 1
		}
		i += operands
	}
	if store > 0 {
		dst = append(dst, store)
	}
	return dst
}

func (c *Ctx) parseSort() (s sorting, ok bool) {
	s.count = -1
	for i := 2; i < len(c.Args); i++ {
		name, operands := sortWord(c.Args, i, !c.Spec.Write)
		switch name {
		case "asc", "desc":
			s.desc = name == "desc"
		case "alpha":
			s.alpha = true
		case "limit":
			if s.start, ok = c.intArg(i + 1); !ok {
				return s, false
			}
			if s.count, ok = c.intArg(i + 2); !ok {
				return s, false
			}
		case "store":
			s.dst = c.Args[i+1]
		case "by":
			s.by = c.Args[i+1]
			s.unsorted = s.unsorted || bytes.IndexByte(s.by, '*') < 0
			if !c.leadsHere(s.by) {
				c.W.Error("ERR BY option of SORT denied in cluster mode.")
				return s, false
			}
		case "get":
			if !c.leadsHere(c.Args[i+1]) {
				c.W.Error("ERR GET option of SORT denied in cluster mode.")
				return s, false
			}
			s.get = append(s.get, c.Args[i+1])
		default:
			c.W.Error(errSyntax)
			return s, false
		}
		i += operands
	}
	return s, true
}

// leadsHere says that a pattern of BY or GET names no key, or only keys of the slot of the sorted one: whatever takes the
// place of the star stands behind a complete hash tag of that slot. Redis 7.0 in cluster mode refuses the latter too; here
// it is what makes the patterns of one node's users work, with keys that they would share a slot among in any cluster.
func (c *Ctx) leadsHere(pattern []byte) bool {
	star := bytes.IndexByte(pattern, '*')
	if star < 0 {
		return true
	}
	head := pattern[:star]
	open := bytes.IndexByte(head, '{')
	if open < 0 || bytes.IndexByte(head[open:], '}') < 2 {
		return false
	}
	return ring.Slot(head) == ring.Slot(c.Args[1])
}

// sortLookup is the value that a pattern leads to for an element: the element itself for #, the value of a string, or with
// "->" a field of a hash.
func (c *Ctx) sortLookup(pattern, element []byte) (value []byte, ok bool) {
	if len(pattern) == 1 && pattern[0] == '#' {
		return element, true
	}
	star := bytes.IndexByte(pattern, '*')
	if star < 0 {
		return nil, false
	}
	tail, field := pattern[star+1:], []byte(nil)
	if at := bytes.Index(tail, []byte("->")); at >= 0 && at+2 < len(tail) {
		tail, field = tail[:at], tail[at+2:]
	}
	r, ok := c.findRead(slices.Concat(pattern[:star], element, tail))
	switch {
	case !ok:
		return nil, false
	case field == nil && r.Type() == store.String:
		return r.Value(), true
	case field == nil || r.Type() != store.Hash:
		return nil, false
	}
	h := r.Fields()
	return h.Get(field)
}

// sortItem is an element with what it is sorted by.
type sortItem struct {
	element []byte
	score   float64
	weight  []byte // nil when there is none
}

func runSort(c *Ctx) {
	s, ok := c.parseSort()
	if !ok {
		return
	}
	if c.Spec.Write {
		c.findWrite(c.Args[1])
		if s.dst != nil {
			c.findWrite(s.dst)
		}
	}
	r, found := c.findRead(c.Args[1])
	var items []sortItem
	sorted := !s.unsorted
	if found {
		if t := r.Type(); t != store.List && t != store.Set && t != store.ZSet {
			c.W.Error(errWrongType)
			return
		}
		if !sorted && r.Type() == store.Set && (s.dst != nil || c.InScript) {
			// A set has no order of its own, and what is stored, or done by a script, must be the same everywhere.
			sorted, s.alpha, s.by = true, true, nil
		}
		if r.Type() == store.ZSet {
			z := r.SortedSet()
			z.MarkLarge() // as Redis does before it sorts one
		}
		items = sortElements(r, s.desc && !sorted)
	}
	if sorted {
		err := c.weigh(items, &s)
		items = s.sort(items)
		if err != nil {
			c.W.Error("ERR " + err.Error())
			return
		}
	}
	c.sortReply(s.limit(items), &s)
}

// sortElements are the elements in their own order; those of a list and a sorted set can be turned round.
func sortElements(r store.Ref, reverse bool) (items []sortItem) {
	add := func(e []byte) { items = append(items, sortItem{element: e}) }
	switch r.Type() {
	case store.List:
		l := r.Elements()
		l.Each(0, 1, func(_ int, e []byte) bool { add(bytes.Clone(e)); return true })
	case store.Set:
		m := r.Members()
		m.Each(func(e []byte) bool { add(bytes.Clone(e)); return true })
	case store.ZSet:
		z := r.SortedSet()
		z.Each(0, 1, func(e []byte, _ float64) bool { add(bytes.Clone(e)); return true })
	}
	if reverse && r.Type() != store.Set {
		slices.Reverse(items)
	}
	return items
}

var errNoScores = errors.New("One or more scores can't be converted into double")

// weigh finds out what each element is sorted by.
func (c *Ctx) weigh(items []sortItem, s *sorting) (err error) {
	for i := range items {
		it := &items[i]
		weight := it.element
		if s.by != nil {
			var ok bool
			if weight, ok = c.sortLookup(s.by, it.element); !ok {
				continue
			}
			if weight == nil {
				weight = []byte{}
			}
		}
		if s.alpha {
			it.weight = weight
			continue
		}
		var ok bool
		if it.score, ok = parseCDouble(weight); !ok {
			err = errNoScores
		}
	}
	return err
}

// sort orders by weight, and where two weigh the same number, by element. Redis compares texts by the locale of the
// server's environment unless it stores the result; here bytes are compared.
func (s *sorting) sort(items []sortItem) []sortItem {
	slices.SortStableFunc(items, func(a, b sortItem) int {
		order := 0
		switch {
		case !s.alpha:
			if order = cmp.Compare(a.score, b.score); order == 0 {
				order = bytes.Compare(a.element, b.element)
			}
		case a.weight == nil || b.weight == nil:
			order = cmp.Compare(present(a.weight), present(b.weight))
		default:
			order = bytes.Compare(a.weight, b.weight)
		}
		if s.desc {
			return -order
		}
		return order
	})
	return items
}

func present(b []byte) int {
	if b == nil {
		return 0
	}
	return 1
}

func (s *sorting) limit(items []sortItem) []sortItem {
	n := int64(len(items))
	start := min(max(s.start, 0), n)
	if s.count < 0 {
		return items[start:]
	}
	return items[start : start+min(s.count, n-start)]
}

// sortReply writes, or stores, the elements or what GET makes of them.
func (c *Ctx) sortReply(items []sortItem, s *sorting) {
	each := func(emit func(value []byte, ok bool)) {
		for i := range items {
			if s.get == nil {
				emit(items[i].element, true)
			}
			for _, pattern := range s.get {
				emit(c.sortLookup(pattern, items[i].element))
			}
		}
	}
	n := len(items) * max(len(s.get), 1)
	if s.dst != nil {
		var result wordList
		each(func(value []byte, _ bool) { result.add(value) })
		c.sortStore(s.dst, result.list())
		return
	}
	c.W.Array(n)
	each(func(value []byte, ok bool) {
		if ok {
			c.W.Bulk(value)
		} else {
			c.W.Null()
		}
	})
}

// sortStore makes dst the list of the values, or nothing without any.
func (c *Ctx) sortStore(dst []byte, values [][]byte) {
	_, had := c.Shard.Peek(dst)
	if len(values) == 0 {
		if had {
			c.deleteKey(dst)
		}
		c.W.Int(0)
		return
	}
	l := c.Shard.NewList(dst)
	for i, v := range values {
		l.Insert(i, v)
	}
	if had {
		c.FX.Del(dst)
	} else {
		c.notify(ClassNew, "new", dst)
	}
	c.splitEffect("RPUSH", dst, values)
	c.changed(dst)
	c.notify(ClassList, "sortstore", dst)
	c.W.Int(int64(len(values)))
}

// parseCDouble reads a number as strtod does, all of the text up to a NUL: blanks in front, hexadecimal, infinities. It
// refuses what is out of range, and NaN.
func parseCDouble(b []byte) (float64, bool) {
	s := cstring(b, len(b))
	if s == "" {
		return 0, true
	}
	s = strings.ToLower(strings.TrimLeft(s, " \t\n\v\f\r"))
	digits := strings.TrimLeft(s, "+-")
	hex := strings.HasPrefix(digits, "0x")
	if len(s)-len(digits) > 1 || strings.Contains(s, "_") {
		return 0, false
	}
	if hex && !strings.Contains(s, "p") {
		s += "p0"
	}
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || math.IsNaN(f) {
		return 0, false
	}
	const smallestNormal = 0x1p-1022
	mantissa, _, _ := strings.Cut(strings.TrimPrefix(digits, "0x"), map[bool]string{true: "p", false: "e"}[hex])
	if math.Abs(f) < smallestNormal && strings.Trim(mantissa, "0.") != "" {
		return 0, false
	}
	return f, true
}
