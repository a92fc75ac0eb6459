package command

import (
	"math"
	"strconv"

	"hypercache/node/store"
)

// claims makes effects of deliveries: XCLAIM … FORCE JUSTID gives a replica the same ones. Those to one consumer at one
// time share a command.
type claims struct {
	c     *Ctx
	key   []byte
	group *store.StreamGroup
	same  store.Delivery // what they share; its ID means nothing
	ids   [][]byte
}

func (l *claims) add(d store.Delivery) {
	if l.c.FX == nil {
		return
	}
	id := d.ID
	d.ID = store.StreamID{}
	if d != l.same || len(l.ids) == effectIDs {
		l.flush()
	}
	l.same = d
	l.ids = append(l.ids, id.Append(nil))
}

func (l *claims) flush() {
	if len(l.ids) > 0 {
		claimEffect(l.c.FX, l.key, l.group, l.same, l.ids, true)
		l.ids = l.ids[:0]
	}
}

// claimEffect appends an XCLAIM that makes deliveries like d of these entries, with the group's last ID if wanted.
func claimEffect(e *Effects, key []byte, g *store.StreamGroup, d store.Delivery, ids [][]byte, last bool) {
	args := append(make([][]byte, 0, len(ids)+13), []byte("XCLAIM"), key, []byte(g.Name()), []byte(d.Consumer.Name()), []byte("0"))
	args = append(args, ids...)
	args = append(args, []byte("TIME"), strconv.AppendInt(nil, d.Time, 10), []byte("RETRYCOUNT"), strconv.AppendInt(nil, d.Count, 10),
		[]byte("FORCE"), []byte("JUSTID"))
	if last {
		args = append(args, []byte("LASTID"), g.Last.Append(nil))
	}
	e.Command(args...)
}

// xclaimArgs are the options of XCLAIM.
type xclaimArgs struct {
	idle          int64
	ids           []store.StreamID
	time          int64 // -1 when it is not given
	retries       int64 // -1 when it is not given
	force, justID bool
	last          store.StreamID
}

func (c *Ctx) parseXClaim() (a xclaimArgs, ok bool) {
	a.time, a.retries = -1, -1
	if a.idle, ok = c.namedInt(4, "ERR Invalid min-idle-time argument for XCLAIM"); !ok {
		return a, false
	}
	i := 5
	for ; i < len(c.Args); i++ {
		id, ok := parseStreamID(c.Args[i], 0, true)
		if !ok {
			break
		}
		a.ids = append(a.ids, id)
	}
	for ; i < len(c.Args); i++ {
		arg, more := c.Args[i], i+1 < len(c.Args)
		ok = true
		switch {
		case option(arg, "force"):
			a.force = true
		case option(arg, "justid"):
			a.justID = true
		case more && option(arg, "idle"):
			i++
			a.time, ok = c.namedInt(i, "ERR Invalid IDLE option argument for XCLAIM")
			a.time = c.Now - a.time
		case more && option(arg, "time"):
			i++
			a.time, ok = c.namedInt(i, "ERR Invalid TIME option argument for XCLAIM")
		case more && option(arg, "retrycount"):
			i++
			a.retries, ok = c.namedInt(i, "ERR Invalid RETRYCOUNT option argument for XCLAIM")
		case more && option(arg, "lastid"):
			i++
			a.last, ok = c.streamID(i, 0, true)
		default:
			c.W.Error("ERR Unrecognized XCLAIM option '" + cstring(arg, len(arg)) + "'")
			ok = false
		}
		if !ok {
			return a, false
		}
	}
	// A time that cannot be right is now; effects carry times that were right.
	if a.time < 0 || c.Now != 0 && a.time > c.Now {
		a.time = c.Now
	}
	return a, true
}

// namedInt is intArg with an error of its own.
func (c *Ctx) namedInt(i int, errText string) (int64, bool) {
	n, ok := parseInt(c.Args[i])
	if !ok {
		c.W.Error(errText)
	}
	return n, ok
}

func runXClaim(c *Ctx) {
	key := c.Args[1]
	st, found, failed := c.streamToServe(key)
	if failed {
		return
	}
	var g *store.StreamGroup
	if found {
		g = st.Group(c.Args[2])
	}
	if g == nil {
		c.W.Error(errNoKeyOrGroup(key, c.Args[2]))
		return
	}
	a, ok := c.parseXClaim()
	if !ok {
		return
	}
	moved := a.last.Compare(g.Last) > 0
	if moved {
		g.Last = a.last
	}
	b := claiming{c: c, key: key, st: &st, g: g, name: c.Args[3], justID: a.justID}
	b.begin()
	at := len(c.W.Buf)
	for _, id := range a.ids {
		d, ok := g.Find(id)
		if !st.Has(id) {
			if ok {
				b.gone.add(id)
				g.Forget(id)
			}
			continue
		}
		switch {
		case !ok && !a.force:
			continue
		case !ok:
			d = store.Delivery{ID: id, Count: 1}
		case a.idle > 0 && c.Now-d.Time < a.idle:
			continue
		}
		d.Time = a.time
		if a.retries >= 0 {
			d.Count = a.retries
		} else if !a.justID {
			d.Count = increment(d.Count)
		}
		b.take(d)
	}
	b.end()
	if moved && b.n == 0 {
		c.effectGroupID(key, g)
	}
	c.arrayAt(at, b.n)
}

// claiming gives deliveries to a consumer, which is created when it gets the first one.
type claiming struct {
	c        *Ctx
	key      []byte
	st       *store.Entries
	g        *store.StreamGroup
	name     []byte
	justID   bool
	consumer *store.StreamConsumer
	n        int // deliveries, and so elements of the reply
	claims   claims
	gone     idEffect // deliveries of entries that are no longer there
}

func (b *claiming) begin() {
	b.claims = claims{c: b.c, key: b.key, group: b.g}
	b.gone = idEffect{c: b.c, head: [][]byte{[]byte("XACK"), b.key, []byte(b.g.Name())}}
}

func (b *claiming) end() {
	b.claims.flush()
	b.gone.flush()
}

func (b *claiming) take(d store.Delivery) {
	c := b.c
	if b.consumer == nil {
		b.consumer = c.streamConsumer(b.key, b.g, b.name)
		if c.Now == 0 { // an effect, and all that it tells of when the consumer was seen
			b.consumer.Seen = max(b.consumer.Seen, d.Time)
		}
	}
	d.Consumer = b.consumer
	b.g.Deliver(d)
	b.claims.add(d)
	b.n++
	if b.justID {
		c.writeStreamID(d.ID)
		return
	}
	c.writeOne(b.st, d.ID)
}

// maxAutoClaim is the largest COUNT of XAUTOCLAIM, as many IDs as a long counts the bytes of. Redis makes room for all of
// them at once, and refuses what no address space has.
const (
	maxAutoClaim   = math.MaxInt64 / 16
	maxAutoClaimIn = 1 << 47 / 16
)

// autoClaimTries is how many deliveries XAUTOCLAIM looks at for each that it may claim.
const autoClaimTries = 10

type xautoclaimArgs struct {
	idle, count int64
	from        store.StreamID
	justID      bool
}

func (c *Ctx) parseXAutoClaim() (a xautoclaimArgs, ok bool) {
	a.count = 100
	if a.idle, ok = c.namedInt(4, "ERR Invalid min-idle-time argument for XAUTOCLAIM"); !ok {
		return a, false
	}
	if a.from, ok = c.rangeStart(5); !ok {
		return a, false
	}
	for i := 6; i < len(c.Args); i++ {
		switch {
		case i+1 < len(c.Args) && option(c.Args[i], "count"):
			i++
			if a.count, ok = parseInt(c.Args[i]); !ok || a.count < 1 || a.count > maxAutoClaim {
				c.W.Error("ERR COUNT must be > 0")
				return a, false
			}
		case option(c.Args[i], "justid"):
			a.justID = true
		default:
			c.W.Error(errSyntax)
			return a, false
		}
	}
	return a, true
}

func runXAutoClaim(c *Ctx) {
	a, ok := c.parseXAutoClaim()
	if !ok {
		return
	}
	key := c.Args[1]
	st, found, failed := c.streamToServe(key)
	if failed {
		return
	}
	var g *store.StreamGroup
	if found {
		g = st.Group(c.Args[2])
	}
	switch {
	case g == nil:
		c.W.Error(errNoKeyOrGroup(key, c.Args[2]))
		return
	case a.count > maxAutoClaimIn:
		c.W.Error("ERR Insufficient memory, failed allocating transient memory, COUNT too high.")
		return
	}
	b := claiming{c: c, key: key, st: &st, g: g, name: c.Args[3], justID: a.justID}
	b.begin()
	c.W.Array(3)
	at := len(c.W.Buf)
	cursor, gone := b.auto(&a)
	b.end()
	c.arrayAt(at, b.n)
	end := len(c.W.Buf)
	c.writeStreamID(cursor)
	c.moveHeader(at, end)
	c.W.Array(len(gone))
	for _, id := range gone {
		c.writeStreamID(id)
	}
}

// auto claims up to count deliveries and returns the first that it did not look at, and the IDs that are not there.
func (b *claiming) auto(a *xautoclaimArgs) (cursor store.StreamID, gone []store.StreamID) {
	d, ok := b.g.From(a.from)
	for tries := a.count * autoClaimTries; ok && tries > 0 && a.count > 0; tries-- {
		switch {
		case !b.st.Has(d.ID):
			b.gone.add(d.ID)
			gone = append(gone, d.ID)
			b.g.Forget(d.ID)
			a.count--
		case a.idle > 0 && b.c.Now-d.Time < a.idle:
		default:
			d.Time = b.c.Now
			if !a.justID {
				d.Count = increment(d.Count)
			}
			b.take(d)
			a.count--
		}
		var next store.StreamID
		if next, ok = d.ID.Next(); ok {
			d, ok = b.g.From(next)
		}
	}
	if ok {
		cursor = d.ID
	}
	return cursor, gone
}
