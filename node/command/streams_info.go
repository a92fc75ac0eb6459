package command

import (
	"hypercache/node/store"
)

var xinfoHelp = []string{
	"CONSUMERS <key> <groupname>",
	"    Show consumers of <groupname>.",
	"GROUPS <key>",
	"    Show the stream consumer groups.",
	"STREAM <key> [FULL [COUNT <count>]",
	"    Show information about the stream.",
}

// streamToShow finds the stream of an XINFO subcommand, or replies with an error.
func (c *Ctx) streamToShow() (st store.Entries, ok bool) {
	st, found, failed := c.streamToRead(c.Args[2])
	if !found && !failed {
		c.W.Error(errNoSuchKey)
	}
	return st, found
}

// seenTime is when a consumer was last active. Effects do not tell it, so that who only repeated them counts a consumer as
// seen when somebody asks first: idle for ever would have it removed by those who clean up.
func (c *Ctx) seenTime(consumer *store.StreamConsumer) int64 {
	if consumer.Seen == 0 {
		consumer.Seen = c.Now
	}
	return consumer.Seen
}

func runXInfoConsumers(c *Ctx) {
	st, ok := c.streamToShow()
	if !ok {
		return
	}
	g := st.Group(c.Args[3])
	if g == nil {
		c.W.Error(errNoGroup(c.Args[3], c.Args[2]))
		return
	}
	c.W.Array(len(g.Consumers()))
	for _, consumer := range g.Consumers() {
		c.W.Map(3)
		c.W.BulkString("name")
		c.W.BulkString(consumer.Name())
		c.W.BulkString("pending")
		c.W.Int(int64(consumer.Pending()))
		c.W.BulkString("idle")
		c.W.Int(max(c.Now-c.seenTime(consumer), 0))
	}
}

func runXInfoGroups(c *Ctx) {
	st, ok := c.streamToShow()
	if !ok {
		return
	}
	c.W.Array(len(st.Groups()))
	for _, g := range st.Groups() {
		c.W.Map(6)
		c.W.BulkString("name")
		c.W.BulkString(g.Name())
		c.W.BulkString("consumers")
		c.W.Int(int64(len(g.Consumers())))
		c.W.BulkString("pending")
		c.W.Int(int64(g.Pending()))
		c.groupPosition(&st, g)
	}
}

// groupPosition writes three pairs that say how far a group has come.
func (c *Ctx) groupPosition(st *store.Entries, g *store.StreamGroup) {
	c.W.BulkString("last-delivered-id")
	c.writeStreamID(g.Last)
	c.W.BulkString("entries-read")
	c.intOrNull(g.Read, g.Read >= 0)
	c.W.BulkString("lag")
	n, ok := lag(st, g)
	c.intOrNull(n, ok)
}

func (c *Ctx) intOrNull(n int64, ok bool) {
	if ok {
		c.W.Int(n)
		return
	}
	c.W.Null()
}

// fullCount is how many entries and deliveries XINFO STREAM FULL shows unless told otherwise.
const fullCount = 10

func runXInfoStream(c *Ctx) {
	count, full, syntax := int64(fullCount), len(c.Args) > 3, true
	switch len(c.Args) {
	case 3:
	case 4:
		syntax = option(c.Args[3], "full")
	case 6:
		syntax = option(c.Args[3], "full") && option(c.Args[4], "count")
	default:
		syntax = false
	}
	st, ok := c.streamToShow()
	if !ok {
		return
	}
	if !syntax {
		c.W.Error(errSubcommand(c.Args))
		return
	}
	if len(c.Args) == 6 {
		if count, ok = c.intArg(5); !ok {
			return
		}
		if count < 0 {
			count = fullCount
		}
	}
	if full {
		c.W.Map(9)
	} else {
		c.W.Map(10)
	}
	c.streamSummary(&st)
	if full {
		c.streamFull(&st, count)
		return
	}
	c.W.BulkString("groups")
	c.W.Int(int64(len(st.Groups())))
	c.W.BulkString("first-entry")
	c.entryOrNull(&st, st.First())
	c.W.BulkString("last-entry")
	c.entryOrNull(&st, st.Top())
}

func (c *Ctx) entryOrNull(st *store.Entries, id store.StreamID) {
	if !c.writeOne(st, id) {
		c.W.Null()
	}
}

// streamSummary writes the seven pairs that both forms of XINFO STREAM begin with.
func (c *Ctx) streamSummary(st *store.Entries) {
	state := st.State()
	c.W.BulkString("length")
	c.W.Int(int64(st.Len()))
	c.W.BulkString("radix-tree-keys")
	c.W.Int(int64(st.Nodes()))
	c.W.BulkString("radix-tree-nodes")
	c.W.Int(int64(st.TreeNodes()))
	c.W.BulkString("last-generated-id")
	c.writeStreamID(state.Last)
	c.W.BulkString("max-deleted-entry-id")
	c.writeStreamID(state.MaxDeleted)
	c.W.BulkString("entries-added")
	c.W.Int(state.Added)
	c.W.BulkString("recorded-first-entry-id")
	c.writeStreamID(st.First())
}

// streamFull writes the entries and the groups of a stream, of every list at most count elements unless that is 0.
func (c *Ctx) streamFull(st *store.Entries, count int64) {
	c.W.BulkString("entries")
	c.writeRange(st, store.StreamID{}, store.MaxStreamID, count, false)
	c.W.BulkString("groups")
	c.W.Array(len(st.Groups()))
	for _, g := range st.Groups() {
		c.W.Map(7)
		c.W.BulkString("name")
		c.W.BulkString(g.Name())
		c.groupPosition(st, g)
		c.W.BulkString("pel-count")
		c.W.Int(int64(g.Pending()))
		c.W.BulkString("pending")
		c.deliveries(g, nil, count)
		c.W.BulkString("consumers")
		c.W.Array(len(g.Consumers()))
		for _, consumer := range g.Consumers() {
			c.W.Map(4)
			c.W.BulkString("name")
			c.W.BulkString(consumer.Name())
			c.W.BulkString("seen-time")
			c.W.Int(c.seenTime(consumer))
			c.W.BulkString("pel-count")
			c.W.Int(int64(consumer.Pending()))
			c.W.BulkString("pending")
			c.deliveries(g, consumer, count)
		}
	}
}

// deliveries writes those of a group with their consumers, or those of one consumer.
func (c *Ctx) deliveries(g *store.StreamGroup, consumer *store.StreamConsumer, count int64) {
	at, n := len(c.W.Buf), int64(0)
	eachDelivery(g, consumer, store.StreamID{}, store.MaxStreamID, func(d store.Delivery) bool {
		if consumer == nil {
			c.W.Array(4)
			c.writeStreamID(d.ID)
			c.W.BulkString(d.Consumer.Name())
		} else {
			c.W.Array(3)
			c.writeStreamID(d.ID)
		}
		c.W.Int(d.Time)
		c.W.Int(d.Count)
		n++
		return n != count
	})
	c.arrayAt(at, int(n))
}
