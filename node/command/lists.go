package command

import (
	"bytes"
	"slices"
	"strconv"

	"hypercache/node/store"
)

func listCommands() []binding {
	return []binding{
		{name: "lpush", scope: ScopeKey, effect: true, run: func(c *Ctx) { c.push(head, false) }},
		{name: "rpush", scope: ScopeKey, effect: true, run: func(c *Ctx) { c.push(tail, false) }},
		{name: "lpushx", scope: ScopeKey, run: func(c *Ctx) { c.push(head, true) }},
		{name: "rpushx", scope: ScopeKey, run: func(c *Ctx) { c.push(tail, true) }},
		{name: "lpop", scope: ScopeKey, effect: true, run: func(c *Ctx) { c.pop(head) }},
		{name: "rpop", scope: ScopeKey, effect: true, run: func(c *Ctx) { c.pop(tail) }},
		{name: "llen", scope: ScopeKey, run: runLLen},
		{name: "lindex", scope: ScopeKey, run: runLIndex},
		{name: "lset", scope: ScopeKey, effect: true, run: runLSet},
		{name: "lrange", scope: ScopeKey, run: runLRange},
		{name: "linsert", scope: ScopeKey, effect: true, run: runLInsert},
		{name: "lrem", scope: ScopeKey, effect: true, run: runLRem},
		{name: "ltrim", scope: ScopeKey, effect: true, run: runLTrim},
		{name: "lpos", scope: ScopeKey, run: runLPos},
		{name: "lmove", scope: ScopeKey, effect: true, run: runLMove},
		{name: "rpoplpush", scope: ScopeKey, run: func(c *Ctx) { c.lmove(tail, head) }},
		{name: "lmpop", scope: ScopeKey, run: runLMPop, keys: countedKeys(1)},
		{name: "blpop", scope: ScopeKey, run: func(c *Ctx) { c.runBlockingPop(head) }},
		{name: "brpop", scope: ScopeKey, run: func(c *Ctx) { c.runBlockingPop(tail) }},
		{name: "blmove", scope: ScopeKey, run: runBLMove},
		{name: "brpoplpush", scope: ScopeKey, run: func(c *Ctx) { c.blmove(tail, head, c.Args[3]) }},
		{name: "blmpop", scope: ScopeKey, run: runBLMPop, keys: countedKeys(2)},
	}
}

// end is one of the two ends of a list.
type end bool

const (
	head end = false
	tail end = true
)

// index is where the end's element is in a list of n.
func (e end) index(n int) int {
	if e == tail {
		return n - 1
	}
	return 0
}

// inward is the step from the end towards the other one.
func (e end) inward() int {
	if e == tail {
		return -1
	}
	return 1
}

func (e end) push(l *store.Elements, element []byte) {
	at := 0
	if e == tail {
		at = l.Len()
	}
	l.Insert(at, element)
}

func (e end) remove(l *store.Elements, n int) {
	at := 0
	if e == tail {
		at = l.Len() - n
	}
	l.Remove(at, n)
}

// word is what the end has in place of L in its effects.
func (e end) word(left, right []byte) []byte {
	if e == tail {
		return right
	}
	return left
}

var (
	nameLPush, nameRPush = []byte("LPUSH"), []byte("RPUSH")
	nameLPop, nameRPop   = []byte("LPOP"), []byte("RPOP")
	nameLSet             = []byte("LSET")
	nameLInsert          = []byte("LINSERT")
	nameLRem             = []byte("LREM")
	nameLTrim            = []byte("LTRIM")
	nameLMove            = []byte("LMOVE")
	wordLeft, wordRight  = []byte("LEFT"), []byte("RIGHT")
	wordBefore           = []byte("BEFORE")
	wordAfter            = []byte("AFTER")
)

const (
	errPositive = "ERR value is out of range, must be positive"
	errNumKeys  = "ERR numkeys should be greater than 0"
	errCount    = "ERR count should be greater than 0"
)

// readList is the lookup of a read. ok is false when the reply is written: by absent, or WRONGTYPE.
func (c *Ctx) readList(absent func()) (l store.Elements, ok bool) {
	r, found := c.Shard.Find(c.Args[1], c.Now)
	switch {
	case !found:
		c.notify(ClassKeyMiss, "keymiss", c.Args[1])
		absent()
	case r.Type() != store.List:
		c.W.Error(errWrongType)
	default:
		return r.Elements(), true
	}
	return l, false
}

// writeList is the lookup of a write. ok is false when the reply is written, WRONGTYPE.
func (c *Ctx) writeList(key []byte) (l store.Elements, found, ok bool) {
	r, found := c.findWrite(key)
	switch {
	case !found:
		return l, false, true
	case r.Type() != store.List:
		c.W.Error(errWrongType)
		return l, true, false
	}
	return r.Elements(), true, true
}

func (c *Ctx) newList(key []byte) store.Elements {
	l := c.Shard.NewList(key)
	c.notify(ClassNew, "new", key)
	return l
}

// effectItems is how many elements one effect has at most.
const effectItems = 1000

// pushed appends the pushes that put the elements there, several if they are many.
func (e *Effects) pushed(name, key []byte, elements [][]byte) {
	for e != nil && len(elements) > 0 {
		n := min(len(elements), effectItems)
		e.Buf = appendBulk(appendBulk(appendHeader(e.Buf, '*', n+2), name), key)
		for _, element := range elements[:n] {
			e.Buf = appendBulk(e.Buf, element)
		}
		e.N++
		elements = elements[n:]
	}
}

// popped appends the command that takes n elements off an end.
func (e *Effects) popped(name, key []byte, n int) {
	switch {
	case e == nil:
	case n == 1:
		e.Command(name, key)
	default:
		e.Command(name, key, strconv.AppendInt(nil, int64(n), 10))
	}
}

func (c *Ctx) push(to end, onlyExisting bool) {
	key := c.Args[1]
	l, found, ok := c.writeList(key)
	if !ok {
		return
	}
	if !found {
		if onlyExisting {
			c.W.Int(0)
			return
		}
		l = c.newList(key)
	}
	for _, element := range c.Args[2:] {
		to.push(&l, element)
	}
	c.FX.pushed(to.word(nameLPush, nameRPush), key, c.Args[2:])
	c.W.Int(int64(l.Len()))
	c.changed(key)
	c.notifyPush(to, key)
}

func (c *Ctx) notifyPush(to end, key []byte) {
	if to == tail {
		c.notify(ClassList, "rpush", key)
		return
	}
	c.notify(ClassList, "lpush", key)
}

func (c *Ctx) pop(from end) {
	if len(c.Args) > 3 {
		c.W.Error(ArityError(c.Spec))
		return
	}
	absent, count := c.W.Null, int64(1)
	if len(c.Args) == 3 {
		var ok bool
		if count, ok = parseInt(c.Args[2]); !ok || count < 0 {
			c.W.Error(errPositive)
			return
		}
		absent = c.W.NullArray
	}
	key := c.Args[1]
	l, found, ok := c.writeList(key)
	switch {
	case !ok:
	case !found:
		absent()
	case len(c.Args) == 2:
		c.W.Bulk(l.At(from.index(l.Len())))
		c.remove(key, &l, from, 1)
	case count == 0:
		c.W.Array(0)
	default:
		c.popMany(key, &l, from, count)
	}
}

// popMany answers with up to count elements of one end and takes them off.
func (c *Ctx) popMany(key []byte, l *store.Elements, from end, count int64) {
	n := int(min(count, int64(l.Len())))
	c.W.Array(n)
	left := n
	l.Each(from.index(l.Len()), from.inward(), func(_ int, element []byte) bool {
		c.W.Bulk(element)
		left--
		return left > 0
	})
	c.remove(key, l, from, n)
}

// remove takes n elements off one end, and the key away with the last one.
func (c *Ctx) remove(key []byte, l *store.Elements, from end, n int) {
	c.FX.popped(from.word(nameLPop, nameRPop), key, n)
	c.cut(key, l, from, n)
}

// cut is remove without its effect.
func (c *Ctx) cut(key []byte, l *store.Elements, from end, n int) {
	from.remove(l, n)
	if from == tail {
		c.notify(ClassList, "rpop", key)
	} else {
		c.notify(ClassList, "lpop", key)
	}
	c.dropEmpty(key, l)
	c.changed(key)
}

func (c *Ctx) dropEmpty(key []byte, l *store.Elements) {
	if l.Len() == 0 {
		c.Shard.Delete(key)
		c.notify(ClassGeneric, "del", key)
	}
}

func runLLen(c *Ctx) {
	if l, ok := c.readList(func() { c.W.Int(0) }); ok {
		c.W.Int(int64(l.Len()))
	}
}

// place turns an index that may count from the end into one from 0, negative when it lies before the list.
func place(i int64, n int) int64 {
	if i < 0 {
		i += int64(n)
	}
	return i
}

func runLIndex(c *Ctx) {
	l, ok := c.readList(c.W.Null)
	if !ok {
		return
	}
	i, ok := c.intArg(2)
	if !ok {
		return
	}
	if i = place(i, l.Len()); i < 0 || i >= int64(l.Len()) {
		c.W.Null()
		return
	}
	c.W.Bulk(l.At(int(i)))
}

func runLSet(c *Ctx) {
	key := c.Args[1]
	l, found, ok := c.writeList(key)
	if !ok {
		return
	}
	if !found {
		c.W.Error(errNoSuchKey)
		return
	}
	i, ok := c.intArg(2)
	if !ok {
		return
	}
	at := place(i, l.Len())
	if at < 0 || at >= int64(l.Len()) {
		c.W.Error("ERR index out of range")
		return
	}
	l.Set(int(at), c.Args[3])
	c.FX.Command(nameLSet, key, c.Args[2], c.Args[3])
	c.W.OK()
	c.changed(key)
	c.notify(ClassList, "lset", key)
}

// span reads a first and a last index; ok is false when the reply is an error.
func (c *Ctx) span() (first, last int64, ok bool) {
	if first, ok = c.intArg(2); !ok {
		return 0, 0, false
	}
	last, ok = c.intArg(3)
	return first, last, ok
}

// listRange is the part of a list of n that lies between two indexes: n elements from first on, none if size is 0.
func listRange(first, last int64, n int) (at, size int) {
	first, last = max(place(first, n), 0), min(place(last, n), int64(n)-1)
	if first > last {
		return 0, 0
	}
	return int(first), int(last - first + 1)
}

func runLRange(c *Ctx) {
	first, last, ok := c.span()
	if !ok {
		return
	}
	l, ok := c.readList(func() { c.W.Array(0) })
	if !ok {
		return
	}
	at, size := listRange(first, last, l.Len())
	c.W.Array(size)
	if size == 0 {
		return
	}
	l.Each(at, 1, func(_ int, element []byte) bool {
		c.W.Bulk(element)
		size--
		return size > 0
	})
}

func runLInsert(c *Ctx) {
	key, after := c.Args[1], 0
	where := wordBefore
	switch {
	case option(c.Args[2], "after"):
		after, where = 1, wordAfter
	case !option(c.Args[2], "before"):
		c.W.Error(errSyntax)
		return
	}
	l, found, ok := c.writeList(key)
	if !ok {
		return
	}
	if !found {
		c.W.Int(0)
		return
	}
	at := -1
	l.Each(0, 1, func(i int, element []byte) bool {
		if bytes.Equal(element, c.Args[3]) {
			at = i
		}
		return at < 0
	})
	if at < 0 {
		c.W.Int(-1)
		return
	}
	l.Insert(at+after, c.Args[4])
	c.FX.Command(nameLInsert, key, where, c.Args[3], c.Args[4])
	c.changed(key)
	c.notify(ClassList, "linsert", key)
	c.W.Int(int64(l.Len()))
}

func runLRem(c *Ctx) {
	count, ok := c.intArg(2)
	if !ok {
		return
	}
	key := c.Args[1]
	l, found, ok := c.writeList(key)
	if !ok {
		return
	}
	if !found {
		c.W.Int(0)
		return
	}
	removed := removeEqual(&l, c.Args[3], count)
	if removed > 0 {
		c.FX.Command(nameLRem, key, c.Args[2], c.Args[3])
		c.changed(key)
		c.notify(ClassList, "lrem", key)
		c.dropEmpty(key, &l)
	}
	c.W.Int(int64(removed))
}

// removeEqual removes up to |count| elements that equal e, from the tail when count is negative; all for 0.
func removeEqual(l *store.Elements, e []byte, count int64) (removed int) {
	from, limit := head, uint64(count)
	if count < 0 {
		from, limit = tail, -uint64(count)
	}
	var at []int
	l.Each(from.index(l.Len()), from.inward(), func(i int, element []byte) bool {
		if bytes.Equal(element, e) {
			at = append(at, i)
		}
		return limit == 0 || uint64(len(at)) < limit
	})
	if from == head {
		slices.Reverse(at)
	}
	// From the last to the first, runs of neighbours at once.
	for i := 0; i < len(at); {
		n := 1
		for i+n < len(at) && at[i+n] == at[i]-n {
			n++
		}
		l.Remove(at[i+n-1], n)
		i += n
	}
	return len(at)
}

func runLTrim(c *Ctx) {
	first, last, ok := c.span()
	if !ok {
		return
	}
	key := c.Args[1]
	l, found, ok := c.writeList(key)
	if !ok {
		return
	}
	c.W.OK()
	if !found {
		return
	}
	n := l.Len()
	at, size := listRange(first, last, n)
	if size < n {
		l.Remove(at+size, n-at-size)
		l.Remove(0, at)
		c.FX.Command(nameLTrim, key, c.Args[2], c.Args[3])
	}
	c.notify(ClassList, "ltrim", key)
	c.dropEmpty(key, &l)
	c.changed(key)
}

// search is what LPOS looks for.
type search struct {
	rank, count, limit int64 // count is -1 for a reply that is no array
}

func (c *Ctx) parseSearch() (s search, ok bool) {
	s = search{rank: 1, count: -1}
	for i := 3; i < len(c.Args); i += 2 {
		switch {
		case i+1 == len(c.Args):
			c.W.Error(errSyntax)
			return s, false
		case option(c.Args[i], "rank"):
			ok = c.parseRank(i+1, &s.rank)
		case option(c.Args[i], "count"):
			s.count, ok = c.natural(i+1, "ERR COUNT can't be negative")
		case option(c.Args[i], "maxlen"):
			s.limit, ok = c.natural(i+1, "ERR MAXLEN can't be negative")
		default:
			c.W.Error(errSyntax)
			return s, false
		}
		if !ok {
			return s, false
		}
	}
	return s, true
}

func (c *Ctx) parseRank(i int, rank *int64) (ok bool) {
	if *rank, ok = c.intArg(i); !ok {
		return false
	}
	if *rank == 0 {
		c.W.Error("ERR RANK can't be zero: use 1 to start from the first match, 2 from the second ... or use negative to start from the end of the list")
		return false
	}
	return true
}

// natural reads an argument that is an integer and not negative, or replies with errText.
func (c *Ctx) natural(i int, errText string) (int64, bool) {
	n, ok := parseInt(c.Args[i])
	if !ok || n < 0 {
		c.W.Error(errText)
		return 0, false
	}
	return n, true
}

func runLPos(c *Ctx) {
	s, ok := c.parseSearch()
	if !ok {
		return
	}
	l, ok := c.readList(func() {
		if s.count < 0 {
			c.W.Null()
		} else {
			c.W.Array(0)
		}
	})
	if !ok {
		return
	}
	at := s.find(&l, c.Args[2])
	switch {
	case s.count >= 0:
		c.W.Array(len(at))
		for _, i := range at {
			c.W.Int(int64(i))
		}
	case len(at) > 0:
		c.W.Int(int64(at[0]))
	default:
		c.W.Null()
	}
}

func (s *search) find(l *store.Elements, e []byte) (at []int) {
	from, rank := head, s.rank
	if rank < 0 {
		from, rank = tail, -rank
	}
	looked, matches := int64(0), int64(0)
	l.Each(from.index(l.Len()), from.inward(), func(i int, element []byte) bool {
		looked++
		if bytes.Equal(element, e) {
			if matches++; matches >= rank {
				at = append(at, i)
				// With the least rank there is, the difference overflows and every match counts, as in Redis.
				if s.count < 0 || s.count > 0 && matches-rank+1 >= s.count {
					return false
				}
			}
		}
		return s.limit == 0 || looked < s.limit
	})
	return at
}

// endArg reads LEFT or RIGHT.
func (c *Ctx) endArg(i int) (e end, ok bool) {
	switch {
	case option(c.Args[i], "left"):
		return head, true
	case option(c.Args[i], "right"):
		return tail, true
	}
	c.W.Error(errSyntax)
	return head, false
}

// endArgs reads the ends of LMOVE and BLMOVE.
func (c *Ctx) endArgs() (from, to end, ok bool) {
	if from, ok = c.endArg(3); !ok {
		return from, to, false
	}
	to, ok = c.endArg(4)
	return from, to, ok
}

func runLMove(c *Ctx) {
	if from, to, ok := c.endArgs(); ok {
		c.lmove(from, to)
	}
}

func (c *Ctx) lmove(from, to end) {
	l, found, ok := c.writeList(c.Args[1])
	switch {
	case !ok:
	case !found:
		c.W.Null()
	default:
		c.move(&l, from, to)
	}
}

// move takes an element of the list at Args[1] to the list at Args[2], which may be the same one.
func (c *Ctx) move(l *store.Elements, from, to end) {
	source, target := c.Args[1], c.Args[2]
	element := bytes.Clone(l.At(from.index(l.Len())))
	if bytes.Equal(source, target) {
		from.remove(l, 1)
		to.push(l, element)
		c.moved(source, target, from, to, element)
		c.notifyPop(from, source)
		c.changed(source)
		return
	}
	dst, found, ok := c.writeList(target)
	if !ok {
		return
	}
	if !found {
		dst = c.newList(target)
	}
	to.push(&dst, element)
	c.moved(source, target, from, to, element)
	r, _ := c.Shard.Peek(source) // its handle has not outlived the push
	src := r.Elements()
	c.cut(source, &src, from, 1)
}

// moved tells of the push that is the first half of a move, and answers.
func (c *Ctx) moved(source, target []byte, from, to end, element []byte) {
	c.FX.Command(nameLMove, source, target, from.word(wordLeft, wordRight), to.word(wordLeft, wordRight))
	c.changed(target)
	c.notifyPush(to, target)
	c.W.Bulk(element)
}

func (c *Ctx) notifyPop(from end, key []byte) {
	if from == tail {
		c.notify(ClassList, "rpop", key)
		return
	}
	c.notify(ClassList, "lpop", key)
}

// manyPop is what LMPOP and ZMPOP and their blocking kin ask for.
type manyPop struct {
	keys   [][]byte
	second bool // the second of the two words: RIGHT, MAX
	count  int64
}

// parseManyPop reads the arguments from the number of keys on. One of two words says which end is meant.
func (c *Ctx) parseManyPop(at int, first, second string) (p manyPop, ok bool) {
	n, ok := parseInt(c.Args[at])
	if !ok || n < 1 {
		c.W.Error(errNumKeys)
		return p, false
	}
	if n > int64(len(c.Args)-at-2) {
		c.W.Error(errSyntax)
		return p, false
	}
	where := at + int(n) + 1
	p.keys, p.count = c.Args[at+1:where], 1
	p.second = option(c.Args[where], second)
	if !p.second && !option(c.Args[where], first) {
		c.W.Error(errSyntax)
		return p, false
	}
	rest := c.Args[where+1:]
	switch {
	case len(rest) == 0:
		return p, true
	case len(rest) == 1 || !option(rest[0], "count"):
		c.W.Error(errSyntax)
		return p, false
	}
	if p.count, ok = parseInt(rest[1]); !ok || p.count < 1 {
		c.W.Error(errCount)
		return p, false
	}
	if len(rest) > 2 {
		c.W.Error(errSyntax)
		return p, false
	}
	return p, true
}

// from is the end of a list that is meant.
func (p *manyPop) from() end {
	if p.second {
		return tail
	}
	return head
}

func runLMPop(c *Ctx) {
	p, ok := c.parseManyPop(1, "left", "right")
	if !ok {
		return
	}
	if key, l, ok := c.firstList(p.keys); !ok {
		return
	} else if key != nil {
		c.replyManyPop(key, &l, &p)
		return
	}
	c.W.NullArray()
}

func (c *Ctx) replyManyPop(key []byte, l *store.Elements, p *manyPop) {
	c.W.Array(2)
	c.W.Bulk(key)
	c.popMany(key, l, p.from(), p.count)
}

// firstList is firstOf for lists.
func (c *Ctx) firstList(keys [][]byte) (key []byte, l store.Elements, ok bool) {
	key, r, ok := c.firstOf(keys, store.List)
	if key != nil {
		l = r.Elements()
	}
	return key, l, ok
}
