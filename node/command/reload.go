package command

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"

	"hypercache/node/rdb"
	"hypercache/node/store"
)

// DEBUG RELOAD and DEBUG LOADAOF show that data survives its way to the disk and back. Redis drops the keyspace for that and
// loads it again. Here other clients are served meanwhile, so keys go that way into a store of their own and are compared
// there with those that stay where they are: piece by piece, since the group's lock is held for each.
//
// The caller asks one shard after the other. A part is asked for as <command> <cursor>, the shard's own as of
// store.Shard.Scan, and answers with the next cursor, 0 at the end, or with an error for the first key that came back different.

const (
	reloadKeys  = 128       // keys of one piece, about
	reloadBytes = 256 << 10 // and their bytes in memory, beyond which none is begun: a piece of small keys takes a millisecond
	reloadStep  = 8         // keys between two looks at these
)

// errReloadOption is Redis' own.
const errReloadOption = "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options."

// CheckReload says what is wrong with a client's DEBUG RELOAD or DEBUG LOADAOF, "" if nothing is.
func CheckReload(args [][]byte) (problem string) {
	switch {
	case !option(args[1], "reload") && len(args) > 2:
		return unknownDebug(args)
	case option(args[1], "reload"):
		for _, a := range args[2:] {
			if !option(a, "merge") && !option(a, "noflush") && !option(a, "nosave") {
				return errReloadOption
			}
		}
	}
	return ""
}

// passage takes entries to the disk's form and puts what comes back into a shard.
type passage func(entries []store.Ref, into *store.Shard) error

func reloadPart(name string, pass passage) func(*Ctx) {
	return func(c *Ctx) {
		cursor, ok := ParseScanCursor(c.Args[len(c.Args)-1])
		if !ok {
			c.W.Error(ErrInvalidCursor)
			return
		}
		entries, next := c.reloadPiece(cursor)
		if err := survive(entries, pass); err != nil {
			c.W.Error("ERR DEBUG " + name + ": " + err.Error())
			return
		}
		c.W.Int(int64(next))
	}
}

// reloadPiece collects the entries that come next.
func (c *Ctx) reloadPiece(cursor uint64) (entries []store.Ref, next uint64) {
	size := int64(0)
	for next = cursor; ; {
		next = c.Shard.Scan(next, reloadStep, func(r store.Ref) {
			if c.live(r) {
				entries = append(entries, r)
				size += r.MemoryUsage()
			}
		})
		if next == 0 || len(entries) >= reloadKeys || size >= reloadBytes {
			return entries, next
		}
	}
}

// survive takes entries through a passage and tells of the first that comes back different.
func survive(entries []store.Ref, pass passage) error {
	if len(entries) == 0 {
		return nil
	}
	db := store.New(store.Options{})
	defer db.Close()
	if err := pass(entries, db.Shard(0)); err != nil {
		return err
	}
	for _, r := range entries {
		if difference := compare(r, db.Shard(0)); difference != "" {
			return fmt.Errorf("key %s came back different: %s", strconv.Quote(cut(r.Key())), difference)
		}
	}
	return nil
}

// cut keeps an error of a length that a log may hold.
func cut(key []byte) string {
	const most = 256
	if len(key) > most {
		return string(key[:most]) + "…"
	}
	return string(key)
}

// compare says how what a shard has under the key of r differs from r, "" if it does not.
func compare(r store.Ref, with *store.Shard) string {
	back, ok := with.Peek(r.Key())
	switch {
	case !ok:
		return "it is missing"
	case back.Type() != r.Type():
		return fmt.Sprintf("its type was %v and is %v", r.Type(), back.Type())
	case back.ExpireAt() != r.ExpireAt():
		return fmt.Sprintf("it expired at %d and does at %d (unix ms, 0 for never)", r.ExpireAt(), back.ExpireAt())
	}
	var was, is digest
	was.value(r)
	is.value(back)
	if was != is {
		return "its DIGEST-VALUE was " + hex.EncodeToString(was[:]) + " and is " + hex.EncodeToString(is[:])
	}
	// The digest of a stream leaves out its groups.
	if r.Type() == store.Stream && !bytes.Equal(rdb.AppendStream(nil, streamValue(r)), rdb.AppendStream(nil, streamValue(back))) {
		return "its entries are the same, its last id or its groups are not"
	}
	return ""
}

// throughRDB is the passage of a backup: an RDB file, in memory.
func throughRDB(entries []store.Ref, into *store.Shard) error {
	var file bytes.Buffer
	w := rdb.NewWriter(&file)
	var value []byte
	for _, r := range entries {
		var err error
		if value, err = AppendValue(value[:0], r); err == nil {
			err = w.Entry(r.Key(), r.ExpireAt(), value)
		}
		if err != nil {
			return fmt.Errorf("save key %s: %w", strconv.Quote(cut(r.Key())), err)
		}
	}
	if err := w.Close(); err != nil {
		return fmt.Errorf("save: %w", err)
	}
	load := rdb.Collector{Done: func(k *rdb.Key, v *rdb.Value) error {
		if v.Empty() || !v.Unique() {
			return errors.New("key " + strconv.Quote(cut(k.Name)) + " came back empty, or with an element twice")
		}
		if err := PutValue(into, k.Name, v); err != nil {
			return err
		}
		if k.ExpireAt != 0 {
			into.SetExpire(k.Name, k.ExpireAt)
		}
		return nil
	}}
	if err := rdb.NewReader(&file).Read(&load); err != nil {
		return fmt.Errorf("load: %w", err)
	}
	return nil
}

// throughLog is the passage of the log when it is rewritten, and of a replica's first copy.
func throughLog(entries []store.Ref, into *store.Shard) error {
	var fx Effects
	var failed error
	apply := func() {
		if failed == nil {
			failed = Apply(into, fx.Buf)
		}
		fx.Reset()
	}
	for _, r := range entries {
		EncodeEntry(&fx, r, apply)
		if apply(); failed != nil {
			return fmt.Errorf("load key %s: %w", strconv.Quote(cut(r.Key())), failed)
		}
	}
	return nil
}
