package command

import (
	"strconv"
	"strings"

	"hypercache/node/store"
)

var xgroupHelp = []string{
	"CREATE <key> <groupname> <id|$> [option]",
	"    Create a new consumer group. Options are:",
	"    * MKSTREAM",
	"      Create the empty stream if it does not exist.",
	"    * ENTRIESREAD entries_read",
	"      Set the group's entries_read counter (internal use).",
	"CREATECONSUMER <key> <groupname> <consumer>",
	"    Create a new consumer in the specified group.",
	"DELCONSUMER <key> <groupname> <consumer>",
	"    Remove the specified consumer.",
	"DESTROY <key> <groupname>",
	"    Remove the specified group.",
	"SETID <key> <groupname> <id|$> [ENTRIESREAD entries_read]",
	"    Set the current group ID and entries_read counter.",
}

const errNeedsStream = "ERR The XGROUP subcommand requires the key to exist. Note that for CREATE you may want to use the " +
	"MKSTREAM option to create an empty stream automatically."

// errNoGroup is the error about a group that is not there.
func errNoGroup(group, key []byte) string {
	return "NOGROUP No such consumer group '" + cstring(group, len(group)) + "' for key name '" + cstring(key, len(key)) + "'"
}

// errNoKeyOrGroup is the error of commands for which a key and a group that are not there are the same.
func errNoKeyOrGroup(key, group []byte) string {
	return "NOGROUP No such key '" + cstring(key, len(key)) + "' or consumer group '" + cstring(group, len(group)) + "'"
}

// errSubcommand is the error about what follows the name of a subcommand.
func errSubcommand(args [][]byte) string {
	return "ERR unknown subcommand or wrong number of arguments for '" + cstring(args[1], 128) + "'. Try " +
		strings.ToUpper(cstring(args[0], 128)) + " HELP."
}

// existingGroup finds the stream and the group of an XGROUP subcommand, or replies with an error.
func (c *Ctx) existingGroup() (st store.Entries, g *store.StreamGroup, ok bool) {
	key, name := c.Args[2], c.Args[3]
	st, found, failed := c.streamToWrite(key)
	switch {
	case failed:
		return st, nil, false
	case !found:
		c.W.Error(errNeedsStream)
		return st, nil, false
	}
	if g = st.Group(name); g == nil {
		c.W.Error(errNoGroup(name, key))
	}
	return st, g, g != nil
}

// parseGroupOptions reads MKSTREAM, if there is such an option, and ENTRIESREAD, which is -1 if it is not given.
func (c *Ctx) parseGroupOptions(create bool) (mkstream bool, read int64, ok bool) {
	read = -1
	for i := 5; i < len(c.Args); i++ {
		switch {
		case create && option(c.Args[i], "mkstream"):
			mkstream = true
		case option(c.Args[i], "entriesread") && i+1 < len(c.Args):
			i++
			if read, ok = c.intArg(i); !ok {
				return false, 0, false
			}
			if read < -1 {
				c.W.Error("ERR value for ENTRIESREAD must be positive or -1")
				return false, 0, false
			}
		default:
			c.W.Error(errSubcommand(c.Args))
			return false, 0, false
		}
	}
	return mkstream, read, true
}

func runXGroupCreate(c *Ctx) {
	mkstream, read, ok := c.parseGroupOptions(true)
	if !ok {
		return
	}
	key, name := c.Args[2], c.Args[3]
	st, found, failed := c.streamToWrite(key)
	if failed {
		return
	}
	if !found && !mkstream {
		c.W.Error(errNeedsStream)
		return
	}
	if len(c.Args) > 8 {
		c.W.Error(errSubcommand(c.Args))
		return
	}
	var id store.StreamID
	if !option(c.Args[4], "$") {
		if id, ok = c.streamID(4, 0, true); !ok {
			return
		}
	} else if found {
		id = st.State().Last
	}
	if found && st.Group(name) != nil {
		c.W.Error("BUSYGROUP Consumer Group name already exists")
		return
	}
	args := [][]byte{[]byte("XGROUP"), []byte("CREATE"), key, name, id.Append(nil), []byte("ENTRIESREAD"),
		strconv.AppendInt(nil, read, 10)}
	if !found {
		st = c.newStream(key)
		c.changed(key)
		args = append(args, []byte("MKSTREAM"))
	}
	st.NewGroup(name, id, read)
	c.FX.Command(args...)
	c.notify(ClassStream, "xgroup-create", key)
	c.W.OK()
}

func runXGroupSetID(c *Ctx) {
	_, read, ok := c.parseGroupOptions(false)
	if !ok {
		return
	}
	st, g, ok := c.existingGroup()
	if !ok {
		return
	}
	if len(c.Args) > 7 {
		c.W.Error(errSubcommand(c.Args))
		return
	}
	id := st.State().Last
	if !option(c.Args[4], "$") {
		if id, ok = c.streamID(4, 0, false); !ok {
			return
		}
	}
	g.Last, g.Read = id, read
	c.effectGroupID(c.Args[2], g)
	c.notify(ClassStream, "xgroup-setid", c.Args[2])
	c.W.OK()
}

// effectGroupID repeats how far a group has come.
func (c *Ctx) effectGroupID(key []byte, g *store.StreamGroup) {
	if c.FX == nil {
		return
	}
	c.FX.Command([]byte("XGROUP"), []byte("SETID"), key, []byte(g.Name()), g.Last.Append(nil), []byte("ENTRIESREAD"),
		strconv.AppendInt(nil, g.Read, 10))
}

func runXGroupDestroy(c *Ctx) {
	key, name := c.Args[2], c.Args[3]
	st, found, failed := c.streamToWrite(key)
	if failed {
		return
	}
	if !found {
		c.W.Error(errNeedsStream)
		return
	}
	g := st.Group(name)
	if g == nil {
		c.W.Int(0)
		return
	}
	st.RemoveGroup(g)
	c.FX.Command([]byte("XGROUP"), []byte("DESTROY"), key, name)
	c.notify(ClassStream, "xgroup-destroy", key)
	c.changed(key) // those who wait in XREADGROUP hear that the group is gone
	c.W.Int(1)
}

func runXGroupCreateConsumer(c *Ctx) {
	_, g, ok := c.existingGroup()
	if !ok {
		return
	}
	if g.Consumer(c.Args[4]) != nil {
		c.W.Int(0)
		return
	}
	c.newConsumer(c.Args[2], g, c.Args[4])
	c.W.Int(1)
}

func (c *Ctx) newConsumer(key []byte, g *store.StreamGroup, name []byte) *store.StreamConsumer {
	consumer := g.NewConsumer(name, c.Now)
	c.FX.Command([]byte("XGROUP"), []byte("CREATECONSUMER"), key, []byte(g.Name()), name)
	c.notify(ClassStream, "xgroup-createconsumer", key)
	return consumer
}

// streamConsumer finds or creates a consumer that does something now.
func (c *Ctx) streamConsumer(key []byte, g *store.StreamGroup, name []byte) *store.StreamConsumer {
	consumer := g.Consumer(name)
	if consumer == nil {
		return c.newConsumer(key, g, name)
	}
	if c.Now != 0 {
		consumer.Seen = c.Now
	}
	return consumer
}

func runXGroupDelConsumer(c *Ctx) {
	_, g, ok := c.existingGroup()
	if !ok {
		return
	}
	key, name := c.Args[2], c.Args[4]
	consumer := g.Consumer(name)
	if consumer == nil {
		c.W.Int(0)
		return
	}
	pending := consumer.Pending()
	g.RemoveConsumer(consumer)
	c.FX.Command([]byte("XGROUP"), []byte("DELCONSUMER"), key, []byte(g.Name()), name)
	c.notify(ClassStream, "xgroup-delconsumer", key)
	c.W.Int(int64(pending))
}

func runXAck(c *Ctx) {
	key, name := c.Args[1], c.Args[2]
	st, found, failed := c.streamToServe(key)
	if failed {
		return
	}
	var g *store.StreamGroup
	if found {
		g = st.Group(name)
	}
	if g == nil {
		c.W.Int(0)
		return
	}
	ids, ok := c.streamIDs(3)
	if !ok {
		return
	}
	fx := idEffect{c: c, head: [][]byte{[]byte("XACK"), key, name}}
	for _, id := range ids {
		if g.Forget(id) {
			fx.add(id)
		}
	}
	fx.flush()
	c.W.Int(int64(fx.total))
}

// xpendingArgs are the arguments of XPENDING with a range.
type xpendingArgs struct {
	idle, count int64
	from, to    store.StreamID
	consumer    []byte
}

func (c *Ctx) parseXPending() (a xpendingArgs, ok bool) {
	if len(c.Args) < 6 || len(c.Args) > 9 {
		c.W.Error(errSyntax)
		return a, false
	}
	first := 3
	if option(c.Args[3], "idle") {
		if a.idle, ok = c.intArg(4); !ok {
			return a, false
		}
		if len(c.Args) < 8 {
			c.W.Error(errSyntax)
			return a, false
		}
		first = 5
	}
	if a.count, ok = c.intArg(first + 2); !ok {
		return a, false
	}
	if a.from, ok = c.rangeStart(first); !ok {
		return a, false
	}
	if a.to, ok = c.rangeEnd(first + 1); !ok {
		return a, false
	}
	if first+3 < len(c.Args) {
		a.consumer = c.Args[first+3]
	}
	return a, true
}

func runXPending(c *Ctx) {
	var a xpendingArgs
	if len(c.Args) != 3 {
		var ok bool
		if a, ok = c.parseXPending(); !ok {
			return
		}
	}
	st, found, failed := c.streamToRead(c.Args[1])
	if failed {
		return
	}
	var g *store.StreamGroup
	if found {
		g = st.Group(c.Args[2])
	}
	switch {
	case g == nil:
		c.W.Error(errNoKeyOrGroup(c.Args[1], c.Args[2]))
	case len(c.Args) == 3:
		c.pendingSummary(g)
	default:
		c.pendingRange(g, &a)
	}
}

func (c *Ctx) pendingSummary(g *store.StreamGroup) {
	c.W.Array(4)
	c.W.Int(int64(g.Pending()))
	first, ok := g.From(store.StreamID{})
	if !ok {
		c.W.Null()
		c.W.Null()
		c.W.NullArray()
		return
	}
	last, _ := g.LastPending()
	c.writeStreamID(first.ID)
	c.writeStreamID(last.ID)
	at, n := len(c.W.Buf), 0
	for _, consumer := range g.Consumers() {
		if consumer.Pending() > 0 {
			c.W.Array(2)
			c.W.BulkString(consumer.Name())
			c.W.BulkString(strconv.Itoa(consumer.Pending()))
			n++
		}
	}
	c.arrayAt(at, n)
}

func (c *Ctx) pendingRange(g *store.StreamGroup, a *xpendingArgs) {
	var consumer *store.StreamConsumer
	if a.consumer != nil {
		if consumer = g.Consumer(a.consumer); consumer == nil {
			c.W.Array(0)
			return
		}
	}
	at, n := len(c.W.Buf), int64(0)
	eachDelivery(g, consumer, a.from, a.to, func(d store.Delivery) bool {
		idle := c.Now - d.Time
		if n >= a.count {
			return false
		}
		if a.idle != 0 && idle < a.idle {
			return true
		}
		c.W.Array(4)
		c.writeStreamID(d.ID)
		c.W.BulkString(d.Consumer.Name())
		c.W.Int(max(idle, 0))
		c.W.Int(d.Count)
		n++
		return true
	})
	c.arrayAt(at, int(n))
}

// eachDelivery calls fn with the deliveries of a range, those to one consumer if that is not nil, until it returns false.
func eachDelivery(g *store.StreamGroup, consumer *store.StreamConsumer, from, to store.StreamID, fn func(store.Delivery) bool) {
	for {
		d, ok := g.From(from)
		if consumer != nil {
			var id store.StreamID
			if id, ok = consumer.From(from); ok {
				d, ok = g.Find(id)
			}
		}
		if !ok || d.ID.Compare(to) > 0 || !fn(d) {
			return
		}
		if from, ok = d.ID.Next(); !ok {
			return
		}
	}
}
