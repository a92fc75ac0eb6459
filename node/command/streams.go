package command

import (
	"strconv"

	"hypercache/node/store"
)

func streamCommands() []binding {
	return []binding{
		{name: "xack", scope: ScopeKey, run: runXAck, effect: true},
		{name: "xadd", scope: ScopeKey, run: runXAdd, effect: true},
		{name: "xautoclaim", scope: ScopeKey, run: runXAutoClaim},
		{name: "xclaim", scope: ScopeKey, run: runXClaim, effect: true},
		{name: "xdel", scope: ScopeKey, run: runXDel, effect: true},
		{name: "xgroup", scope: ScopeConn, conn: runContainer, effect: true},
		{name: "xgroup|create", scope: ScopeKey, run: runXGroupCreate, effect: true},
		{name: "xgroup|createconsumer", scope: ScopeKey, run: runXGroupCreateConsumer, effect: true},
		{name: "xgroup|delconsumer", scope: ScopeKey, run: runXGroupDelConsumer, effect: true},
		{name: "xgroup|destroy", scope: ScopeKey, run: runXGroupDestroy, effect: true},
		{name: "xgroup|help", scope: ScopeConn, conn: helpFunc("XGROUP", xgroupHelp)},
		{name: "xgroup|setid", scope: ScopeKey, run: runXGroupSetID, effect: true},
		{name: "xinfo", scope: ScopeConn, conn: runContainer},
		{name: "xinfo|consumers", scope: ScopeKey, run: runXInfoConsumers},
		{name: "xinfo|groups", scope: ScopeKey, run: runXInfoGroups},
		{name: "xinfo|help", scope: ScopeConn, conn: helpFunc("XINFO", xinfoHelp)},
		{name: "xinfo|stream", scope: ScopeKey, run: runXInfoStream},
		{name: "xlen", scope: ScopeKey, run: runXLen},
		{name: "xpending", scope: ScopeKey, run: runXPending},
		{name: "xrange", scope: ScopeKey, run: func(c *Ctx) { c.streamRange(false) }},
		{name: "xread", scope: ScopeKey, run: func(c *Ctx) { c.readStreams(false) }, keys: streamsKeys},
		{name: "xreadgroup", scope: ScopeKey, run: func(c *Ctx) { c.readStreams(true) }, keys: streamsKeys},
		{name: "xrevrange", scope: ScopeKey, run: func(c *Ctx) { c.streamRange(true) }},
		{name: "xsetid", scope: ScopeKey, run: runXSetID, effect: true},
		{name: "xtrim", scope: ScopeKey, run: runXTrim, effect: true},
	}
}

// maxStreamEntry is how many bytes the fields and values of an entry have at most, Redis' STREAM_LISTPACK_MAX_SIZE.
const maxStreamEntry = 1 << 30

// streamToWrite finds a stream for a write. err says that the key holds something else: the reply is WRONGTYPE.
func (c *Ctx) streamToWrite(key []byte) (st store.Entries, found, err bool) {
	r, ok := c.findWrite(key)
	return c.streamOf(r, ok)
}

// streamToServe is streamToWrite for the writes that Redis looks up as reads: they tell of a key that was missed.
func (c *Ctx) streamToServe(key []byte) (st store.Entries, found, err bool) {
	r, ok := c.findWrite(key)
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", key)
	}
	return c.streamOf(r, ok)
}

// streamToRead finds a stream for a read.
func (c *Ctx) streamToRead(key []byte) (st store.Entries, found, err bool) {
	r, ok := c.findRead(key)
	return c.streamOf(r, ok)
}

func (c *Ctx) streamOf(r store.Ref, ok bool) (st store.Entries, found, err bool) {
	if !ok {
		return st, false, false
	}
	if r.Type() != store.Stream {
		c.W.Error(errWrongType)
		return st, false, true
	}
	return r.Stream(), true, false
}

// newStream creates an empty stream under a key that is not there.
func (c *Ctx) newStream(key []byte) store.Entries {
	st := c.Shard.NewStream(key)
	c.notify(ClassNew, "new", key)
	return st
}

func (c *Ctx) writeStreamID(id store.StreamID) { c.W.Bulk(id.Append(c.scratch[:0])) }

// arrayAt makes what was written since at the n elements of an array. Its length is known only afterwards.
func (c *Ctx) arrayAt(at, n int) {
	end := len(c.W.Buf)
	c.W.Array(n)
	c.moveHeader(at, end)
}

// mapAt is arrayAt for a map of n pairs.
func (c *Ctx) mapAt(at, n int) {
	end := len(c.W.Buf)
	c.W.Map(n)
	c.moveHeader(at, end)
}

func (c *Ctx) moveHeader(at, end int) {
	var header [64]byte
	n := copy(header[:], c.W.Buf[end:])
	copy(c.W.Buf[at+n:], c.W.Buf[at:end])
	copy(c.W.Buf[at:], header[:n])
}

func runXAdd(c *Ctx) {
	a, ok := c.parseXAdd()
	if !ok {
		return
	}
	key, words := c.Args[1], c.Args[a.words:]
	st, found, failed := c.streamToWrite(key)
	switch {
	case failed:
		return
	case !found && a.noCreate:
		c.W.Null()
		return
	}
	var last store.StreamID
	if found {
		last = st.State().Last
	}
	id, errText := a.nextID(last, c.Now)
	if errText != "" {
		c.W.Error(errText)
		return
	}
	if size := wordsSize(words); size > maxStreamEntry {
		c.W.Error("ERR Elements are too large to be stored")
		return
	}
	if !found {
		st = c.newStream(key)
	}
	st.Add(id, words)
	c.writeStreamID(id)
	c.changed(key)
	c.notify(ClassStream, "xadd", key)
	trimmed := false
	if a.trims && st.Trim(a.trim) > 0 {
		trimmed = true
		c.notify(ClassStream, "xtrim", key)
	}
	c.effectXAdd(key, &st, a, id, words, trimmed)
}

func wordsSize(words [][]byte) (n int) {
	for _, w := range words {
		n += len(w)
	}
	return n
}

// effectXAdd repeats an addition with the ID that it got, and with the trimming that really happened.
func (c *Ctx) effectXAdd(key []byte, st *store.Entries, a xaddArgs, id store.StreamID, words [][]byte, trimmed bool) {
	if c.FX == nil {
		return
	}
	args := append(make([][]byte, 0, len(words)+5), []byte("XADD"), key)
	if trimmed {
		args = append(args, exactTrim(st, a.trim)...)
	}
	args = append(append(args, id.Append(nil)), words...)
	c.FX.Command(args...)
}

// exactTrim is the strategy and threshold by which an exact trimming does what trim has done.
func exactTrim(st *store.Entries, trim store.StreamTrim) [][]byte {
	if trim.Approx && trim.ByID {
		trim.MinID = store.MaxStreamID
		if st.Len() > 0 {
			trim.MinID = st.First()
		}
	} else if trim.Approx {
		trim.MaxLen = int64(st.Len())
	}
	if trim.ByID {
		return [][]byte{[]byte("MINID"), trim.MinID.Append(nil)}
	}
	return [][]byte{[]byte("MAXLEN"), strconv.AppendInt(nil, trim.MaxLen, 10)}
}

func runXTrim(c *Ctx) {
	a, _, ok := c.parseTrim(false)
	if !ok {
		return
	}
	key := c.Args[1]
	st, found, failed := c.streamToWrite(key)
	if failed {
		return
	}
	removed := 0
	if found {
		removed = st.Trim(a.trim)
	}
	if removed > 0 {
		c.notify(ClassStream, "xtrim", key)
		c.changed(key)
		how := exactTrim(&st, a.trim)
		c.FX.Command([]byte("XTRIM"), key, how[0], how[1])
	}
	c.W.Int(int64(removed))
}

func runXLen(c *Ctx) {
	st, found, failed := c.streamToRead(c.Args[1])
	switch {
	case failed:
	case !found:
		c.W.Int(0)
	default:
		c.W.Int(int64(st.Len()))
	}
}

func runXDel(c *Ctx) {
	key := c.Args[1]
	st, found, failed := c.streamToWrite(key)
	if failed {
		return
	}
	if !found {
		c.W.Int(0)
		return
	}
	ids, ok := c.streamIDs(2)
	if !ok {
		return
	}
	fx := idEffect{c: c, head: [][]byte{[]byte("XDEL"), key}}
	for _, id := range ids {
		if st.Delete(id) {
			fx.add(id)
		}
	}
	fx.flush()
	if fx.total > 0 {
		c.changed(key)
		c.notify(ClassStream, "xdel", key)
	}
	c.W.Int(int64(fx.total))
}

// idEffect is a command with IDs behind its other arguments, cut where it would become too long.
type idEffect struct {
	c     *Ctx
	head  [][]byte
	ids   [][]byte
	total int
}

// effectIDs is how many IDs one effect names.
const effectIDs = 500

func (e *idEffect) add(id store.StreamID) {
	e.total++
	if e.c.FX == nil {
		return
	}
	if e.ids = append(e.ids, id.Append(nil)); len(e.ids) == effectIDs {
		e.flush()
	}
}

func (e *idEffect) flush() {
	if len(e.ids) > 0 {
		e.c.FX.Command(append(e.head[:len(e.head):len(e.head)], e.ids...)...)
		e.ids = e.ids[:0]
	}
}

func runXSetID(c *Ctx) {
	key := c.Args[1]
	last, ok := c.streamID(2, 0, true)
	if !ok {
		return
	}
	added, deleted, ok := c.parseXSetID(last)
	if !ok {
		return
	}
	st, found, failed := c.streamToWrite(key)
	if failed {
		return
	}
	if !found {
		c.W.Error(errNoSuchKey)
		return
	}
	state := st.State()
	switch {
	case st.Len() > 0 && last.Compare(st.Top()) < 0:
		c.W.Error("ERR The ID specified in XSETID is smaller than the target stream top item")
		return
	case st.Len() > 0 && added >= 0 && int64(st.Len()) > added:
		c.W.Error("ERR The entries_added specified in XSETID is smaller than the target stream length")
		return
	}
	state.Last = last
	if added >= 0 {
		state.Added = added
	}
	if !deleted.IsZero() {
		state.MaxDeleted = deleted
	}
	st.SetState(state)
	c.FX.Command(c.Args...)
	c.notify(ClassStream, "xsetid", key)
	c.W.OK()
}

// parseXSetID reads the options of XSETID; added is -1 when it is not given.
func (c *Ctx) parseXSetID(last store.StreamID) (added int64, deleted store.StreamID, ok bool) {
	added = -1
	for i := 3; i < len(c.Args); i += 2 {
		more := i+1 < len(c.Args)
		switch {
		case more && option(c.Args[i], "entriesadded"):
			if added, ok = c.intArg(i + 1); !ok {
				return 0, deleted, false
			}
			if added < 0 {
				c.W.Error("ERR entries_added must be positive")
				return 0, deleted, false
			}
		case more && option(c.Args[i], "maxdeletedid"):
			if deleted, ok = c.streamID(i+1, 0, true); !ok {
				return 0, deleted, false
			}
			if last.Compare(deleted) < 0 {
				c.W.Error("ERR The ID specified in XSETID is smaller than the provided max_deleted_entry_id")
				return 0, deleted, false
			}
		default:
			c.W.Error(errSyntax)
			return 0, deleted, false
		}
	}
	return added, deleted, true
}
