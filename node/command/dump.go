package command

import (
	"errors"
	"fmt"
	"iter"
	"math"
	"strconv"

	"hypercache/node/rdb"
	"hypercache/node/store"
)

func dumpCommands() []binding {
	return []binding{
		{name: "dump", scope: ScopeKey, run: runDump},
		{name: "migrate", scope: ScopeKey, run: runMigrate, keys: migrateKeys},
		{name: "restore", scope: ScopeKey, run: runRestore, effect: true},
		{name: "restore-asking", scope: ScopeKey, run: runRestore},
	}
}

const (
	errBusyKey    = "BUSYKEY Target key name already exists."
	errPayload    = "ERR DUMP payload version or checksum are wrong"
	errDataFormat = "ERR Bad data format"
	errNegTTL     = "ERR Invalid TTL value, must be >= 0"
	errIdleTime   = "ERR Invalid IDLETIME value, must be >= 0"
	errFreq       = "ERR Invalid FREQ value, must be >= 0 and <= 255"
	errMigrate    = "ERR MIGRATE is not supported: the cluster moves keys by itself; to move them to another one, use " +
		"'hypercache backup' and 'hypercache restore', or DUMP and RESTORE"
)

var nameRestore, nameAbsTTL = []byte("RESTORE"), []byte("ABSTTL")

func runDump(c *Ctx) {
	r, ok := c.Shard.Find(c.Args[1], c.Now)
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", c.Args[1])
		c.W.Null()
		return
	}
	payload, err := AppendValue(nil, r)
	if err != nil {
		c.W.Error("ERR " + err.Error())
		return
	}
	c.W.Bulk(rdb.Seal(payload, 0))
}

// restoreOptions are what may follow RESTORE's payload.
type restoreOptions struct {
	replace, absTTL bool
	idle, freq      int64 // -1: not given
}

func (c *Ctx) restoreOptions() (o restoreOptions, ok bool) {
	o = restoreOptions{idle: -1, freq: -1}
	for i := 4; i < len(c.Args); i++ {
		arg, more := c.Args[i], i+1 < len(c.Args)
		switch {
		case option(arg, "replace"):
			o.replace = true
		case option(arg, "absttl"):
			o.absTTL = true
		case option(arg, "idletime") && more && o.freq == -1:
			i++
			if o.idle, ok = c.restoreNumber(i, math.MaxInt64, errIdleTime); !ok {
				return o, false
			}
		case option(arg, "freq") && more && o.idle == -1:
			i++
			if o.freq, ok = c.restoreNumber(i, 255, errFreq); !ok {
				return o, false
			}
		default:
			c.W.Error(errSyntax)
			return o, false
		}
	}
	return o, true
}

func (c *Ctx) restoreNumber(i int, max int64, errText string) (int64, bool) {
	n, ok := parseInt(c.Args[i])
	switch {
	case !ok:
		c.W.Error(errNotInt)
		return 0, false
	case n < 0 || n > max:
		c.W.Error(errText)
		return 0, false
	}
	return n, true
}

func runRestore(c *Ctx) {
	key := c.Args[1]
	o, ok := c.restoreOptions()
	if !ok {
		return
	}
	if !o.replace {
		if _, taken := c.findWrite(key); taken {
			c.W.Error(errBusyKey)
			return
		}
	}
	at, ok := c.restoreNumber(2, math.MaxInt64, errNegTTL)
	if !ok {
		return
	}
	value, err := rdb.Verify(c.Args[3])
	if err != nil {
		c.W.Error(errPayload)
		return
	}
	if at != 0 && !o.absTTL {
		at += c.Now // wraps to negative when it overflows, which is in the past, as in Redis
	}
	if err := c.restore(key, value, at); err != nil {
		c.W.Error(errDataFormat)
		return
	}
	if r, ok := c.Shard.Peek(key); ok {
		c.setAccess(r, o)
	}
	c.W.OK()
}

// restore puts a value in place of whatever the key holds, or nothing if the value has expired.
func (c *Ctx) restore(key, value []byte, at int64) error {
	var v rdb.Collector
	if err := rdb.ReadValue(value, &v); err != nil {
		return err
	}
	if v.Value.Empty() || !v.Value.Unique() {
		return errors.New("empty, or not unique")
	}
	if at != 0 && at <= c.Now {
		if c.Shard.Delete(key) {
			c.FX.Del(key)
			c.changed(key)
			c.notify(ClassGeneric, "del", key)
		}
		return nil
	}
	if err := PutValue(c.Shard, key, &v.Value); err != nil {
		return err
	}
	if at != 0 {
		c.Shard.SetExpire(key, at)
	}
	c.FX.Command(nameRestore, key, strconv.AppendInt(nil, at, 10), c.Args[3], nameReplace, nameAbsTTL)
	c.notify(ClassNew, "new", key)
	c.changed(key)
	c.notify(ClassGeneric, "restore", key)
	return nil
}

// setAccess gives an entry the clock of eviction that came with it, if the policy keeps that one.
func (c *Ctx) setAccess(r store.Ref, o restoreOptions) {
	switch {
	case o.idle >= 0:
		c.Shard.SetIdle(r, o.idle)
	case o.freq >= 0:
		c.Shard.SetFreq(r, int(o.freq))
	}
}

// AppendValue appends the value of r as a type and content of Redis' RDB format.
func AppendValue(b []byte, r store.Ref) ([]byte, error) {
	switch r.Type() {
	case store.String:
		return rdb.AppendString(b, r.Value()), nil
	case store.List:
		l := r.Elements()
		return rdb.AppendList(b, func(yield func([]byte) bool) {
			l.Each(0, 1, func(_ int, e []byte) bool { return yield(e) })
		}), nil
	case store.Set:
		m := r.Members()
		return rdb.AppendSet(b, m.Len(), iter.Seq[[]byte](func(yield func([]byte) bool) { m.Each(yield) })), nil
	case store.Hash:
		f := r.Fields()
		return rdb.AppendHash(b, f.Len(), iter.Seq2[[]byte, []byte](func(yield func(f, v []byte) bool) { f.Each(yield) })), nil
	case store.ZSet:
		z := r.SortedSet()
		return rdb.AppendZSet(b, z.Len(), func(yield func([]byte, float64) bool) { z.Each(0, 1, yield) }), nil
	case store.Stream:
		return rdb.AppendStream(b, streamValue(r)), nil
	}
	return b, fmt.Errorf("a value of type %v has no RDB form", r.Type())
}

// PutValue stores a value under key in place of whatever is there, without an expiry. The value is neither empty nor
// does it repeat a field or member.
func PutValue(shard *store.Shard, key []byte, v *rdb.Value) error {
	switch v.Type {
	case rdb.String:
		shard.Set(key, v.Items[0], 0)
	case rdb.List:
		l := shard.NewList(key)
		for i, e := range v.Items {
			l.Insert(i, e)
		}
	case rdb.Set:
		m := shard.NewSet(key)
		for _, e := range v.Items {
			m.Add(e)
		}
	case rdb.Hash:
		f := shard.NewHash(key)
		for i := 0; i < len(v.Items); i += 2 {
			f.Set(v.Items[i], v.Items[i+1])
		}
	case rdb.ZSet:
		z := shard.NewSortedSet(key)
		for i, m := range v.Items {
			z.Set(m, v.Scores[i])
		}
	case rdb.Stream:
		putStream(shard, key, v.Stream)
	default:
		return fmt.Errorf("a value of type %v cannot be stored", v.Type)
	}
	return nil
}

// runMigrate refuses: keys leave a node only by the cluster's own plan.
func runMigrate(c *Ctx) { c.W.Error(errMigrate) }

// migrateKeys finds the key of MIGRATE host port key …, or with an empty one those behind KEYS.
func migrateKeys(args [][]byte, dst []int) []int {
	if len(args[3]) > 0 {
		return append(dst, 3)
	}
	for i := 6; i < len(args); i++ {
		if option(args[i], "keys") {
			for i++; i < len(args); i++ {
				dst = append(dst, i)
			}
		}
	}
	return dst
}
