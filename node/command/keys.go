package command

import (
	"bytes"
	"math"

	"hypercache/node/store"
)

func keyCommands() []binding {
	return []binding{
		{name: "del", scope: ScopeScatter, merge: MergeSum, run: runDel},
		{name: "unlink", scope: ScopeScatter, merge: MergeSum, run: runDel},
		{name: "exists", scope: ScopeScatter, merge: MergeSum, run: runExists},
		{name: "touch", scope: ScopeScatter, merge: MergeSum, run: runExists},
		{name: "type", scope: ScopeKey, run: runType},
		{name: "rename", scope: ScopeKey, run: func(c *Ctx) { c.rename(false) }},
		{name: "renamenx", scope: ScopeKey, run: func(c *Ctx) { c.rename(true) }},
		{name: "copy", scope: ScopeKey, run: runCopy},
		{name: "object", scope: ScopeConn, conn: runContainer},
		{name: "object|encoding", scope: ScopeKey, run: runObjectEncoding},
		{name: "object|freq", scope: ScopeKey, run: runObjectFreq},
		{name: "object|help", scope: ScopeConn, conn: helpFunc("OBJECT", objectHelp)},
		{name: "object|idletime", scope: ScopeKey, run: runObjectIdleTime},
		{name: "object|refcount", scope: ScopeKey, run: runObjectRefCount},
	}
}

func runDel(c *Ctx) {
	n := int64(0)
	for _, key := range c.Args[1:] {
		if _, found := c.findWrite(key); found {
			c.deleteKey(key)
			n++
		}
	}
	c.W.Int(n)
}

// runExists is TOUCH as well: Find moves the access clock.
func runExists(c *Ctx) {
	n := int64(0)
	for _, key := range c.Args[1:] {
		if _, ok := c.findRead(key); ok {
			n++
		}
	}
	c.W.Int(n)
}

// peek is Find without moving the access clock, for commands that look at an entry from outside.
func (c *Ctx) peek(key []byte) (store.Ref, bool) {
	r, ok := c.Shard.Peek(key)
	if ok && r.Expired(c.Now) {
		return store.Ref{}, false
	}
	return r, ok
}

func runType(c *Ctx) {
	r, ok := c.peek(c.Args[1])
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", c.Args[1])
		c.W.SimpleString(store.None.String())
		return
	}
	c.W.SimpleString(r.Type().String())
}

func (c *Ctx) rename(onlyNew bool) {
	from, to := c.Args[1], c.Args[2]
	if _, ok := c.findWrite(from); !ok {
		c.W.Error(errNoSuchKey)
		return
	}
	if !bytes.Equal(from, to) {
		if _, taken := c.findWrite(to); taken && onlyNew {
			c.W.Int(0)
			return
		}
		c.Shard.Rename(from, to)
		c.FX.Command(nameRename, from, to)
		c.notify(ClassNew, "new", to)
		c.changed(from)
		c.changed(to)
		c.notify(ClassGeneric, "rename_from", from)
		c.notify(ClassGeneric, "rename_to", to)
	} else if onlyNew {
		c.W.Int(0)
		return
	}
	if onlyNew {
		c.W.Int(1)
		return
	}
	c.W.OK()
}

// databases is how many databases Redis has unless told otherwise: COPY and SELECT tell a number that is out of range
// from one that a cluster does not serve.
const databases = 16

func runCopy(c *Ctx) {
	replace := false
	var db int64
	for i := 3; i < len(c.Args); i++ {
		switch {
		case option(c.Args[i], "replace"):
			replace = true
		case option(c.Args[i], "db") && i+1 < len(c.Args):
			i++
			var errText string
			if db, errText = parseDB(c.Args[i]); errText != "" {
				c.W.Error(errText)
				return
			}
		default:
			c.W.Error(errSyntax)
			return
		}
	}
	from, to := c.Args[1], c.Args[2]
	if db != 0 {
		c.W.Error("ERR Copying to another database is not allowed in cluster mode")
		return
	}
	if bytes.Equal(from, to) {
		c.W.Error("ERR source and destination objects are the same")
		return
	}
	if _, ok := c.findWrite(from); !ok {
		c.notify(ClassKeyMiss, "keymiss", from)
		c.W.Int(0)
		return
	}
	if _, taken := c.findWrite(to); taken && !replace {
		c.W.Int(0)
		return
	}
	c.Shard.Copy(from, to)
	c.FX.Command(nameCopy, from, to, nameReplace)
	c.notify(ClassNew, "new", to)
	c.changed(to)
	c.notify(ClassGeneric, "copy_to", to)
	c.W.Int(1)
}

// parseDB reads the number of a database; errText is Redis' error.
func parseDB(arg []byte) (db int64, errText string) {
	db, ok := parseInt(arg)
	switch {
	case !ok:
		return 0, errNotInt
	case db < math.MinInt32 || db > math.MaxInt32:
		return 0, errIntRange
	case db < 0 || db >= databases:
		return 0, errDBIndex
	}
	return db, ""
}

func runObjectEncoding(c *Ctx) {
	if r, ok := c.objectRef(); ok {
		c.W.BulkString(r.Encoding())
	}
}

func (c *Ctx) objectRef() (store.Ref, bool) {
	r, ok := c.peek(c.Args[2])
	if !ok {
		c.W.Null()
	}
	return r, ok
}

func runObjectFreq(c *Ctx) {
	r, ok := c.objectRef()
	if !ok {
		return
	}
	if !c.Policy.LFU() {
		c.W.Error("ERR An LFU maxmemory policy is not selected, access frequency not tracked. Please note that when " +
			"switching between policies at runtime LRU and LFU data will take some time to adjust.")
		return
	}
	c.W.Int(int64(r.Freq()))
}

func runObjectIdleTime(c *Ctx) {
	r, ok := c.objectRef()
	if !ok {
		return
	}
	if c.Policy.LFU() {
		c.W.Error("ERR An LFU maxmemory policy is selected, idle time not tracked. Please note that when switching " +
			"between policies at runtime LRU and LFU data will take some time to adjust.")
		return
	}
	c.W.Int(r.IdleSeconds(c.Now))
}

// sharedIntegers is how many small numbers Redis keeps as objects that all keys share; they report the largest count.
const sharedIntegers = 10000

func runObjectRefCount(c *Ctx) {
	r, ok := c.objectRef()
	if !ok {
		return
	}
	count := int64(1)
	if r.Type() == store.String && r.Encoding() == "int" {
		if n, _ := parseInt(r.Value()); n >= 0 && n < sharedIntegers {
			count = math.MaxInt32
		}
	}
	c.W.Int(count)
}

var objectHelp = []string{
	"ENCODING <key>",
	"    Return the kind of internal representation used in order to store the value",
	"    associated with a <key>.",
	"FREQ <key>",
	"    Return the access frequency index of the <key>. The returned integer is",
	"    proportional to the logarithm of the recent access frequency of the key.",
	"IDLETIME <key>",
	"    Return the idle time of the <key>, that is the approximated number of",
	"    seconds elapsed since the last access to the key.",
	"REFCOUNT <key>",
	"    Return the number of references of the value associated with the specified",
	"    <key>.",
}
