package command

import (
	"bytes"
	"math"
	"slices"

	"hypercache/node/store"
)

// writeEntry writes an entry as clients see it: its ID, and its fields and values.
func (c *Ctx) writeEntry(e *store.StreamEntry) {
	c.W.Array(2)
	c.writeStreamID(e.ID)
	c.W.Array(2 * e.Len())
	e.Each(func(field, value []byte) {
		c.W.Bulk(field)
		c.W.Bulk(value)
	})
}

// writeOne writes the entry with this ID and reports whether there is one.
func (c *Ctx) writeOne(st *store.Entries, id store.StreamID) (found bool) {
	st.Each(id, id, func(e *store.StreamEntry) bool {
		c.writeEntry(e)
		found = true
		return false
	})
	return found
}

// writeRange writes the entries of a range as an array, at most count of them unless that is 0.
func (c *Ctx) writeRange(st *store.Entries, from, to store.StreamID, count int64, back bool) {
	at, n := len(c.W.Buf), int64(0)
	each := st.Each
	if back {
		each = st.EachBack
	}
	each(from, to, func(e *store.StreamEntry) bool {
		c.writeEntry(e)
		n++
		return n != count
	})
	c.arrayAt(at, int(n))
}

// streamRange is XRANGE, and XREVRANGE with the ends the other way round.
func (c *Ctx) streamRange(back bool) {
	start, end := 2, 3
	if back {
		start, end = 3, 2
	}
	from, ok := c.rangeStart(start)
	if !ok {
		return
	}
	to, ok := c.rangeEnd(end)
	if !ok {
		return
	}
	count, limited := int64(0), false
	for i := 4; i < len(c.Args); i += 2 {
		if !option(c.Args[i], "count") || i+1 == len(c.Args) {
			c.W.Error(errSyntax)
			return
		}
		if count, ok = c.intArg(i + 1); !ok {
			return
		}
		count, limited = max(count, 0), true
	}
	st, found, failed := c.streamToRead(c.Args[1])
	switch {
	case failed:
	case !found:
		c.W.Array(0)
	case limited && count == 0:
		c.W.NullArray()
	default:
		c.writeRange(&st, from, to, count, back)
	}
}

// streamsKeys finds the keys of XREAD and XREADGROUP: the first half of what follows STREAMS.
func streamsKeys(args [][]byte, dst []int) []int {
	for i := 1; i < len(args); i++ {
		switch {
		case option(args[i], "block"), option(args[i], "count"):
			i++
		case option(args[i], "group"):
			i += 2
		case option(args[i], "noack"):
		case option(args[i], "streams"):
			for k := range (len(args) - i - 1) / 2 { // an odd one out is the command's error
				dst = append(dst, i+1+k)
			}
			return dst
		default:
			return dst
		}
	}
	return dst
}

// xreadArgs are the arguments of XREAD and XREADGROUP.
type xreadArgs struct {
	grouped         bool
	blocks          bool
	until           int64 // with blocks
	count           int64 // 0 for all
	noAck           bool
	group, consumer []byte
	keys            [][]byte
	first           int // the place of the first ID
}

func (c *Ctx) parseXRead(grouped bool) (a xreadArgs, ok bool) {
	a.grouped = grouped
	for i := 1; i < len(c.Args); i++ {
		arg, more := c.Args[i], len(c.Args)-i-1
		switch {
		case more > 0 && option(arg, "block"):
			if c.InScript {
				c.W.Error("ERR " + cstring(c.Args[0], 128) + " command is not allowed with BLOCK option from scripts")
				return a, false
			}
			i++
			if a.until, ok = c.waitMillis(i); !ok {
				return a, false
			}
			a.blocks = true
		case more > 0 && option(arg, "count"):
			i++
			if a.count, ok = c.intArg(i); !ok {
				return a, false
			}
			a.count = max(a.count, 0)
		case more > 0 && option(arg, "streams"):
			return a, c.parseStreams(&a, i+1)
		case more > 1 && option(arg, "group"), option(arg, "noack"):
			if !grouped {
				name := "GROUP"
				if option(arg, "noack") {
					name = "NOACK"
				}
				c.W.Error("ERR The " + name + " option is only supported by XREADGROUP. You called XREAD instead.")
				return a, false
			}
			if option(arg, "noack") {
				a.noAck = true
				continue
			}
			a.group, a.consumer = c.Args[i+1], c.Args[i+2]
			i += 2
		default:
			c.W.Error(errSyntax)
			return a, false
		}
	}
	c.W.Error(errSyntax)
	return a, false
}

// parseStreams reads the keys, which begin at the argument first; as many IDs follow.
func (c *Ctx) parseStreams(a *xreadArgs, first int) bool {
	n := len(c.Args) - first
	if n%2 != 0 {
		c.W.Error("ERR Unbalanced XREAD list of streams: for each stream key an ID or '$' must be specified.")
		return false
	}
	a.keys, a.first = c.Args[first:first+n/2], first+n/2
	if a.grouped && a.group == nil {
		c.W.Error("ERR Missing GROUP option for XREADGROUP")
		return false
	}
	return true
}

// waitMillis reads for how many milliseconds to wait, and returns until when.
func (c *Ctx) waitMillis(i int) (until int64, ok bool) {
	ms, ok := parseInt(c.Args[i])
	switch {
	case !ok:
		c.W.Error("ERR timeout is not an integer or out of range")
		return 0, false
	case ms < 0:
		c.W.Error("ERR timeout is negative")
		return 0, false
	case ms == 0:
		return 0, true
	case ms > math.MaxInt64-c.Now:
		return math.MaxInt64, true
	}
	return c.Now + ms, true
}

// streamSource is one of the streams of XREAD and XREADGROUP.
type streamSource struct {
	key   []byte
	st    store.Entries
	found bool
	group *store.StreamGroup
	after store.StreamID // what is read comes behind it
	fresh bool           // the ID is >
}

// readStreams is XREAD, or XREADGROUP when grouped.
func (c *Ctx) readStreams(grouped bool) {
	a, ok := c.parseXRead(grouped)
	if !ok {
		return
	}
	if c.Ready != nil {
		c.readReady(&a)
		return
	}
	sources := make([]streamSource, len(a.keys))
	for i := range sources {
		if !c.streamSource(&sources[i], &a, i) {
			return
		}
	}
	at, served := len(c.W.Buf), 0
	for i := range sources {
		switch s := &sources[i]; {
		case !s.found:
			c.notify(ClassKeyMiss, "keymiss", s.key) // once for its ID and once here, as Redis looks
		case s.ready():
			c.serve(s, &a)
			served++
		}
	}
	switch {
	case served > 0 && c.W.Proto == 3:
		c.mapAt(at, served)
	case served > 0:
		c.arrayAt(at, served)
	case a.blocks:
		c.block(a.until)
		c.keepIDs(&a, sources)
	default:
		c.W.NullArray()
	}
}

// readReady serves a command that waits from the one stream that has changed, by the ID that it first gave for it. A group
// that is no more ends the wait; what else the key may hold does not.
func (c *Ctx) readReady(a *xreadArgs) {
	i := slices.IndexFunc(a.keys, c.mayServe)
	if i < 0 {
		c.block(a.until)
		return
	}
	s := streamSource{key: a.keys[i]}
	find := c.peek
	if a.grouped {
		find = c.findWrite
	}
	r, found := find(s.key)
	if s.found = found && r.Type() == store.Stream; s.found {
		s.st = r.Stream()
	}
	switch {
	case !a.grouped:
	case !s.found:
		c.W.Error("UNBLOCKED the stream key no longer exists")
		return
	default:
		if s.group = s.st.Group(a.group); s.group == nil {
			c.W.Error("NOGROUP the consumer group this client was blocked on no longer exists")
			return
		}
	}
	if s.found && c.sourceID(&s, a, i) && s.ready() {
		at := len(c.W.Buf)
		c.serve(&s, a)
		if c.W.Proto == 3 {
			c.mapAt(at, 1)
		} else {
			c.arrayAt(at, 1)
		}
		return
	}
	c.block(a.until)
}

// streamSource looks up the stream i of the request and reads its ID; it replies with what is wrong.
func (c *Ctx) streamSource(s *streamSource, a *xreadArgs, i int) (ok bool) {
	var failed bool
	s.key = a.keys[i]
	if a.grouped {
		s.st, s.found, failed = c.streamToServe(s.key)
	} else {
		s.st, s.found, failed = c.streamToRead(s.key)
	}
	if failed {
		return false
	}
	if a.grouped {
		if s.found {
			s.group = s.st.Group(a.group)
		}
		if s.group == nil {
			c.W.Error("NOGROUP No such key '" + cstring(s.key, len(s.key)) + "' or consumer group '" +
				cstring(a.group, len(a.group)) + "' in XREADGROUP with GROUP option")
			return false
		}
	}
	return c.sourceID(s, a, i)
}

// sourceID reads the ID i of the request, or replies with what is wrong with it.
func (c *Ctx) sourceID(s *streamSource, a *xreadArgs, i int) (ok bool) {
	arg := c.Args[a.first+i]
	switch {
	case option(arg, "$") && a.grouped:
		c.W.Error("ERR The $ ID is meaningless in the context of XREADGROUP: you want to read the history of this consumer by " +
			"specifying a proper ID, or use the > ID to get new messages. The $ ID would just return an empty result set.")
		return false
	case option(arg, "$"):
		if s.found {
			s.after = s.st.State().Last
		}
		return true
	case option(arg, ">") && !a.grouped:
		c.W.Error("ERR The > ID can be specified only when calling XREADGROUP using the GROUP <group> <consumer> option.")
		return false
	case option(arg, ">"):
		s.fresh = true
		return true
	}
	if s.after, ok = c.streamID(a.first+i, 0, true); ok && a.grouped && s.after == store.MaxStreamID {
		s.fresh = true // Redis cannot tell the two
	}
	return ok
}

// ready says whether there is something to serve. The history of a consumer is always served, even when it is empty.
func (s *streamSource) ready() bool {
	if s.group != nil && !s.fresh {
		return true
	}
	if s.fresh {
		s.after = s.group.Last
	}
	return s.st.Len() > 0 && s.st.Top().Compare(s.after) > 0
}

// serve writes the key of a source and its entries.
func (c *Ctx) serve(s *streamSource, a *xreadArgs) {
	if c.W.Proto != 3 {
		c.W.Array(2)
	}
	c.W.Bulk(s.key)
	from, ok := s.after.Next()
	if !ok {
		from = s.after
	}
	if s.group == nil {
		c.writeRange(&s.st, from, store.MaxStreamID, a.count, false)
		return
	}
	d := delivering{c: c, s: s, consumer: c.streamConsumer(s.key, s.group, a.consumer)}
	d.claims = claims{c: c, key: s.key, group: s.group}
	if s.fresh {
		d.fresh(from, a)
	} else {
		d.history(from, a.count)
	}
	d.claims.flush()
}

// keepIDs replaces IDs that mean the present end of a stream before the request waits.
func (c *Ctx) keepIDs(a *xreadArgs, sources []streamSource) {
	if !c.Block.Asked || a.grouped {
		return
	}
	for i := range sources {
		if !option(c.Args[a.first+i], "$") {
			continue
		}
		if c.Block.Args == nil {
			for _, arg := range c.Args {
				c.Block.Args = append(c.Block.Args, bytes.Clone(arg))
			}
		}
		c.Block.Args[a.first+i] = sources[i].after.Append(nil)
	}
}

// delivering is one stream's part of XREADGROUP.
type delivering struct {
	c        *Ctx
	s        *streamSource
	consumer *store.StreamConsumer
	claims   claims
}

// fresh delivers entries that the group has not seen.
func (d *delivering) fresh(from store.StreamID, a *xreadArgs) {
	c, g := d.c, d.s.group
	at, n := len(c.W.Buf), int64(0)
	last, read := g.Last, g.Read
	d.s.st.Each(from, store.MaxStreamID, func(e *store.StreamEntry) bool {
		c.writeEntry(e)
		advance(&d.s.st, g, e.ID)
		if !a.noAck {
			to := store.Delivery{ID: e.ID, Time: c.Now, Count: 1, Consumer: d.consumer}
			g.Deliver(to)
			d.claims.add(to)
		}
		n++
		return n != a.count
	})
	c.arrayAt(at, int(n))
	d.claims.flush()
	if g.Last != last || g.Read != read {
		c.effectGroupID(d.s.key, g)
	}
}

// history delivers once more what the consumer has not acknowledged.
func (d *delivering) history(from store.StreamID, count int64) {
	c, g := d.c, d.s.group
	at, n := len(c.W.Buf), int64(0)
	for id, ok := d.consumer.From(from); ok && (count == 0 || n < count); n++ {
		if c.writeOne(&d.s.st, id) {
			again, _ := g.Find(id)
			again.Time = c.Now
			again.Count = increment(again.Count)
			g.Deliver(again)
			d.claims.add(again)
		} else {
			c.W.Array(2)
			c.writeStreamID(id)
			c.W.NullArray()
		}
		if id, ok = id.Next(); ok {
			id, ok = d.consumer.From(id)
		}
	}
	c.arrayAt(at, int(n))
}

// increment counts one more, up to the largest number that an effect can carry.
func increment(n int64) int64 {
	if n == math.MaxInt64 {
		return n
	}
	return n + 1
}
