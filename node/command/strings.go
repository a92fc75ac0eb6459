package command

import (
	"math"
	"strconv"

	"hypercache/node/store"
)

func stringCommands() []binding {
	return []binding{
		{name: "append", scope: ScopeKey, run: runAppend},
		{name: "decr", scope: ScopeKey, run: func(c *Ctx) { c.incr(-1) }},
		{name: "decrby", scope: ScopeKey, run: runDecrBy},
		{name: "get", scope: ScopeKey, run: runGet},
		{name: "getdel", scope: ScopeKey, run: runGetDel},
		{name: "getex", scope: ScopeKey, run: runGetEx},
		{name: "getrange", scope: ScopeKey, run: runGetRange},
		{name: "getset", scope: ScopeKey, run: runGetSet},
		{name: "incr", scope: ScopeKey, run: func(c *Ctx) { c.incr(1) }},
		{name: "incrby", scope: ScopeKey, run: runIncrBy},
		{name: "incrbyfloat", scope: ScopeKey, run: runIncrByFloat},
		{name: "lcs", scope: ScopeKey, run: runLCS},
		{name: "mget", scope: ScopeScatter, merge: MergeArrayByKey, run: runMGet},
		{name: "mset", scope: ScopeScatter, merge: MergeOK, run: runMSet},
		{name: "msetnx", scope: ScopeKey, run: runMSetNX},
		{name: "psetex", scope: ScopeKey, run: func(c *Ctx) { c.setEx(setPX) }},
		{name: "set", scope: ScopeKey, run: runSet},
		{name: "setex", scope: ScopeKey, run: func(c *Ctx) { c.setEx(setEX) }},
		{name: "setnx", scope: ScopeKey, run: runSetNX},
		{name: "setrange", scope: ScopeKey, run: runSetRange},
		{name: "strlen", scope: ScopeKey, run: runStrlen},
		{name: "substr", scope: ScopeKey, run: runGetRange},
	}
}

// findWrite is the lookup of a write: an expired key is deleted first, with its effect, and reported absent.
func (c *Ctx) findWrite(key []byte) (store.Ref, bool) {
	r, ok := c.Shard.Peek(key)
	if !ok {
		return r, false
	}
	if r.Expired(c.Now) {
		c.Shard.Delete(key)
		c.FX.Del(key)
		c.notify(ClassExpired, "expired", key)
		c.changed(key)
		return store.Ref{}, false
	}
	c.Shard.Touch(r)
	return r, true
}

// findString is Find for a command that only strings can answer. ok is false when the reply is written: nothing, by
// calling absent, or WRONGTYPE.
func (c *Ctx) findString(key []byte, absent func()) (r store.Ref, ok bool) {
	r, ok = c.findRead(key)
	if !ok {
		absent()
		return r, false
	}
	return r, c.isString(r)
}

func (c *Ctx) isString(r store.Ref) bool {
	if r.Type() != store.String {
		c.W.Error(errWrongType)
		return false
	}
	return true
}

func runGet(c *Ctx) {
	r, ok := c.Shard.Find(c.Args[1], c.Now)
	switch {
	case !ok:
		c.notify(ClassKeyMiss, "keymiss", c.Args[1])
		c.W.Null()
	case c.isString(r):
		c.W.Bulk(r.Value())
	}
}

func runGetDel(c *Ctx) {
	key := c.Args[1]
	r, ok := c.findWrite(key)
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", key)
		c.W.Null()
		return
	}
	if !c.isString(r) {
		return
	}
	c.W.Bulk(r.Value())
	c.deleteKey(key)
}

// deleteKey deletes a key that exists, as DEL does.
func (c *Ctx) deleteKey(key []byte) {
	c.Shard.Delete(key)
	c.FX.Del(key)
	c.changed(key)
	c.notify(ClassGeneric, "del", key)
}

func runGetSet(c *Ctx) {
	key, value := c.Args[1], c.Args[2]
	if !c.replyOld(key) {
		return
	}
	c.store(key, value, 0, false)
	c.notify(ClassString, "set", key)
}

// replyOld writes the present value as the reply. It is false when the key holds no string: the reply is WRONGTYPE.
func (c *Ctx) replyOld(key []byte) bool {
	r, ok := c.findWrite(key)
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", key)
		c.W.Null()
		return true
	}
	if !c.isString(r) {
		return false
	}
	c.W.Bulk(r.Value())
	return true
}

// setFlags are the options of SET and GETEX.
type setFlags uint16

const (
	setNX setFlags = 1 << iota
	setXX
	setGET
	setKeepTTL
	setPersist
	setEX
	setPX
	setEXAT
	setPXAT

	setTimed = setEX | setPX | setEXAT | setPXAT
)

// setOption recognizes one option. The option that carries a time returns its flag in timed as well.
func setOption(arg []byte) (flag setFlags) {
	switch {
	case option(arg, "nx"):
		return setNX
	case option(arg, "xx"):
		return setXX
	case option(arg, "get"):
		return setGET
	case option(arg, "keepttl"):
		return setKeepTTL
	case option(arg, "persist"):
		return setPersist
	case option(arg, "ex"):
		return setEX
	case option(arg, "px"):
		return setPX
	case option(arg, "exat"):
		return setEXAT
	case option(arg, "pxat"):
		return setPXAT
	}
	return 0
}

// setConflicts is what may not have been given before an option. A time may be given twice with the same option, and
// the last one counts; Redis does so too.
func setConflicts(flag setFlags) setFlags {
	switch flag {
	case setNX:
		return setXX
	case setXX:
		return setNX
	case setKeepTTL:
		return setTimed | setPersist
	case setPersist:
		return setTimed | setKeepTTL
	case setGET:
		return 0
	}
	return setTimed&^flag | setKeepTTL | setPersist
}

// parseSetOptions reads the options from Args[first:] on, of which only allowed ones exist for the command. when is the
// argument of EX, PX, EXAT or PXAT.
func (c *Ctx) parseSetOptions(first int, allowed setFlags) (flags setFlags, when []byte, ok bool) {
	for i := first; i < len(c.Args); i++ {
		flag := setOption(c.Args[i])
		if flag&allowed == 0 || flags&setConflicts(flag) != 0 || flag&setTimed != 0 && i+1 == len(c.Args) {
			c.W.Error(errSyntax)
			return 0, nil, false
		}
		flags |= flag
		if flag&setTimed != 0 {
			i++
			when = c.Args[i]
		}
	}
	return flags, when, true
}

// expiry turns the argument of EX, PX, EXAT or PXAT into unix milliseconds.
func (c *Ctx) expiry(flags setFlags, arg []byte) (at int64, ok bool) {
	at, ok = parseInt(arg)
	if !ok {
		c.W.Error(errNotInt)
		return 0, false
	}
	seconds := flags&(setEX|setEXAT) != 0
	if at <= 0 || seconds && at > math.MaxInt64/1000 {
		c.W.Error(expireTimeError(c.Spec))
		return 0, false
	}
	if seconds {
		at *= 1000
	}
	if flags&(setEX|setPX) != 0 {
		at += c.Now // wraps to negative when it overflows
	}
	if at <= 0 {
		c.W.Error(expireTimeError(c.Spec))
		return 0, false
	}
	return at, true
}

func runSet(c *Ctx) {
	key, value := c.Args[1], c.Args[2]
	if len(c.Args) == 3 {
		if c.Events != nil {
			c.findWrite(key)
		}
		c.store(key, value, 0, false)
		c.notify(ClassString, "set", key)
		c.W.OK()
		return
	}
	flags, when, ok := c.parseSetOptions(3, setNX|setXX|setGET|setKeepTTL|setTimed)
	if !ok {
		return
	}
	var at int64
	if when != nil {
		if at, ok = c.expiry(flags, when); !ok {
			return
		}
	}
	r, found := c.findWrite(key)
	if flags&setGET != 0 {
		switch {
		case !found:
			c.notify(ClassKeyMiss, "keymiss", key)
			c.W.Null()
		case !c.isString(r):
			return
		default:
			c.W.Bulk(r.Value())
		}
	}
	if flags&setNX != 0 && found || flags&setXX != 0 && !found {
		if flags&setGET == 0 {
			c.W.Null()
		}
		return
	}
	if flags&setKeepTTL != 0 && found {
		at = r.ExpireAt()
	}
	c.store(key, value, at, flags&setKeepTTL != 0 && at != 0)
	c.notify(ClassString, "set", key)
	if when != nil {
		c.notify(ClassGeneric, "expire", key)
	}
	if flags&setGET == 0 {
		c.W.OK()
	}
}

// store sets key and records it, for a caller that looked for an expired one. keep says that at is what the key had
// before, so the effect need not repeat it.
func (c *Ctx) store(key, value []byte, at int64, keep bool) {
	if c.Events != nil {
		if _, have := c.Shard.Peek(key); !have {
			c.notify(ClassNew, "new", key)
		}
		c.changed(key)
	}
	c.Shard.Set(key, value, at)
	if keep {
		c.FX.setKeepTTL(key, value)
		return
	}
	c.FX.set(key, value, at)
}

func (c *Ctx) setEx(unit setFlags) {
	at, ok := c.expiry(unit, c.Args[2])
	if !ok {
		return
	}
	key := c.Args[1]
	if c.Events != nil {
		c.findWrite(key)
	}
	c.store(key, c.Args[3], at, false)
	c.notify(ClassString, "set", key)
	c.notify(ClassGeneric, "expire", key)
	c.W.OK()
}

func runSetNX(c *Ctx) {
	if _, found := c.findWrite(c.Args[1]); found {
		c.W.Int(0)
		return
	}
	c.store(c.Args[1], c.Args[2], 0, false)
	c.notify(ClassString, "set", c.Args[1])
	c.W.Int(1)
}

func runGetEx(c *Ctx) {
	key := c.Args[1]
	flags, when, ok := c.parseSetOptions(2, setPersist|setTimed)
	if !ok {
		return
	}
	r, found := c.findWrite(key)
	if !found {
		c.notify(ClassKeyMiss, "keymiss", key)
		c.W.Null()
		return
	}
	if !c.isString(r) {
		return
	}
	var at int64
	if when != nil {
		if at, ok = c.expiry(flags, when); !ok {
			return
		}
	}
	c.W.Bulk(r.Value())
	switch {
	case flags&(setEXAT|setPXAT) != 0 && at <= c.Now:
		c.deleteKey(key)
	case when != nil:
		c.setExpiry(key, at)
	case flags&setPersist != 0 && r.ExpireAt() != 0:
		c.clearExpiry(key)
	}
}

func runAppend(c *Ctx) {
	key, suffix := c.Args[1], c.Args[2]
	if r, found := c.findWrite(key); found {
		if !c.isString(r) || !c.fits(int64(len(r.Value())), int64(len(suffix))) {
			return
		}
		n := c.Shard.Append(key, suffix)
		c.FX.Command(nameAppend, key, suffix)
		c.changed(key)
		c.notify(ClassString, "append", key)
		c.W.Int(int64(n))
		return
	}
	c.store(key, suffix, 0, false)
	c.notify(ClassString, "append", key)
	c.W.Int(int64(len(suffix)))
}

var (
	nameAppend   = []byte("APPEND")
	nameSetRange = []byte("SETRANGE")
	nameRename   = []byte("RENAME")
	nameCopy     = []byte("COPY")
	nameReplace  = []byte("REPLACE")
)

// fits checks that a string of have bytes may have more of them behind it.
func (c *Ctx) fits(have, more int64) bool {
	if have > maxBulk-more {
		c.W.Error(errTooLong)
		return false
	}
	return true
}

func runStrlen(c *Ctx) {
	if r, ok := c.findString(c.Args[1], func() { c.W.Int(0) }); ok {
		c.W.Int(int64(len(r.Value())))
	}
}

func runGetRange(c *Ctx) {
	start, ok := c.intArg(2)
	if !ok {
		return
	}
	end, ok := c.intArg(3)
	if !ok {
		return
	}
	r, ok := c.findString(c.Args[1], func() { c.W.Bulk(nil) })
	if !ok {
		return
	}
	value := r.Value()
	n := int64(len(value))
	if start < 0 && end < 0 && start > end {
		c.W.Bulk(nil)
		return
	}
	if start < 0 {
		start = max(start+n, 0)
	}
	if end < 0 {
		end = max(end+n, 0)
	}
	end = min(end, n-1)
	if start > end || n == 0 {
		c.W.Bulk(nil)
		return
	}
	c.W.Bulk(value[start : end+1])
}

func runSetRange(c *Ctx) {
	key, data := c.Args[1], c.Args[3]
	offset, ok := c.intArg(2)
	if !ok {
		return
	}
	if offset < 0 {
		c.W.Error("ERR offset is out of range")
		return
	}
	var have int64
	r, found := c.findWrite(key)
	if found {
		if !c.isString(r) {
			return
		}
		have = int64(len(r.Value()))
	}
	if len(data) == 0 {
		c.W.Int(have)
		return
	}
	if !c.fits(offset, int64(len(data))) {
		return
	}
	n := c.Shard.SetRange(key, int(offset), data)
	c.FX.Command(nameSetRange, key, c.Args[2], data)
	if !found {
		c.notify(ClassNew, "new", key)
	}
	c.changed(key)
	c.notify(ClassString, "setrange", key)
	c.W.Int(int64(n))
}

func runDecrBy(c *Ctx) {
	by, ok := c.intArg(2)
	if !ok {
		return
	}
	if by == math.MinInt64 {
		c.W.Error("ERR decrement would overflow")
		return
	}
	c.incr(-by)
}

func runIncrBy(c *Ctx) {
	if by, ok := c.intArg(2); ok {
		c.incr(by)
	}
}

func (c *Ctx) incr(by int64) {
	key := c.Args[1]
	var old, at int64
	r, found := c.findWrite(key)
	if found {
		if !c.isString(r) {
			return
		}
		var ok bool
		if old, ok = parseInt(r.Value()); !ok {
			c.W.Error(errNotInt)
			return
		}
		at = r.ExpireAt()
	}
	if addOverflows(old, by) {
		c.W.Error("ERR increment or decrement would overflow")
		return
	}
	c.Shard.Set(key, strconv.AppendInt(c.scratch[:0], old+by, 10), at)
	c.FX.incrBy(key, by)
	if !found {
		c.notify(ClassNew, "new", key)
	}
	c.changed(key)
	c.notify(ClassString, "incrby", key)
	c.W.Int(old + by)
}

func runIncrByFloat(c *Ctx) {
	key := c.Args[1]
	value := []byte("0")
	var at int64
	r, found := c.findWrite(key)
	if found {
		if !c.isString(r) {
			return
		}
		value, at = r.Value(), r.ExpireAt()
	}
	sum, errText := addLongDouble(value, c.Args[2])
	if errText != "" {
		c.W.Error(errText)
		return
	}
	c.store(key, sum, at, at != 0)
	c.notify(ClassString, "incrbyfloat", key)
	c.W.Bulk(sum)
}

func runMGet(c *Ctx) {
	c.W.Array(len(c.Args) - 1)
	for _, key := range c.Args[1:] {
		if r, ok := c.findRead(key); ok && r.Type() == store.String {
			c.W.Bulk(r.Value())
			continue
		}
		c.W.Null()
	}
}

func runMSet(c *Ctx) {
	c.setPairs()
	c.W.OK()
}

func runMSetNX(c *Ctx) {
	for i := 1; i < len(c.Args); i += 2 {
		if _, found := c.findWrite(c.Args[i]); found {
			c.W.Int(0)
			return
		}
	}
	c.setPairs()
	c.W.Int(1)
}

func (c *Ctx) setPairs() {
	for i := 1; i+1 < len(c.Args); i += 2 {
		if c.Events != nil {
			c.findWrite(c.Args[i])
		}
		c.store(c.Args[i], c.Args[i+1], 0, false)
		c.notify(ClassString, "set", c.Args[i])
	}
}
