package cache

import (
	"encoding/binary"
	"hash/maphash"
	"math/rand/v2"
	"slices"
	"time"

	"hypercache/node/command"
	"hypercache/node/resp"
)

const (
	// maxWatched is how many keys of a group may be watched at a time. Above it the half that was watched longest ago is
	// forgotten, and the transactions that rest on it are aborted.
	maxWatched = 1 << 13
	// watchedFor is how long a key is remembered after it was last watched: whoever watches does not say when it leaves.
	watchedFor = 10 * time.Minute
)

var watchSeed = maphash.MakeSeed()

// watchTable is what a primary knows of its group's watched keys, under the group's lock. A key's token is the number of
// its last change while watched. EXEC brings the tokens that WATCH was answered with: the keys are unchanged if the table
// has the same ones. It aborts whatever the table does not know, so to forget is always safe: when the group's content
// comes from another primary, when there are too many, after a restart. Numbers begin at random, so that no other
// primary, nor an earlier run of this one, has given the same token to something else. Two keys with the same hash only
// cause needless aborts.
type watchTable struct {
	keys  map[uint64]watchedKey
	next  uint64
	swept int64 // a tick
}

type watchedKey struct {
	token uint64
	at    int64 // a tick, of the last WATCH
}

// note takes the keys that a write changed, from its effects: there is no change without one.
func (t *watchTable) note(fx *command.Effects) {
	if fx == nil || fx.N == 0 || len(t.keys) == 0 {
		return
	}
	if !command.EffectKeys(fx.Buf, t.touch) {
		t.forget()
	}
}

func (t *watchTable) touch(key []byte) {
	if len(t.keys) == 0 {
		return
	}
	h := maphash.Bytes(watchSeed, key)
	if w, ok := t.keys[h]; ok {
		w.token = t.number()
		t.keys[h] = w
	}
}

func (t *watchTable) forget() { t.keys = nil }

func (t *watchTable) number() uint64 {
	if t.next == 0 {
		t.next = rand.Uint64()
	}
	t.next++
	return t.next
}

// watch remembers the key and returns its token.
func (t *watchTable) watch(key []byte, now int64) uint64 {
	t.sweep(now)
	if t.keys == nil {
		t.keys = map[uint64]watchedKey{}
	}
	h := maphash.Bytes(watchSeed, key)
	w, ok := t.keys[h]
	if !ok {
		w.token = t.number()
	}
	w.at = now
	t.keys[h] = w
	return w.token
}

// sweep forgets what was watched long ago: now and then, or when there is too much.
func (t *watchTable) sweep(now int64) {
	limit := now - watchedFor.Milliseconds()
	switch {
	case len(t.keys) >= maxWatched:
		var at []int64
		for _, w := range t.keys {
			at = append(at, w.at)
		}
		slices.Sort(at)
		limit = max(limit, at[len(at)/2])
	case t.swept >= limit:
		return
	}
	t.swept = now
	for h, w := range t.keys {
		if w.at <= limit {
			delete(t.keys, h)
		}
	}
}

// unchanged says whether the key is what it was when the token was given.
func (t *watchTable) unchanged(key []byte, token uint64) bool {
	w, ok := t.keys[maphash.Bytes(watchSeed, key)]
	return ok && w.token == token
}

// runWatch answers WATCH with the keys' tokens. An expired key is deleted first, so that one which is found expired at
// EXEC has expired since.
func (p *part) runWatch(o *op, w *resp.Writer, r *round) {
	w.Array(len(o.args) - 1)
	for _, key := range o.args[1:] {
		if p.expired(key, p.time.Unix(r.now)) {
			p.remove(key, r)
		}
		var b [8]byte
		binary.LittleEndian.PutUint64(b[:], p.watched.watch(key, r.now))
		w.Bulk(b[:])
	}
}

func (p *part) expired(key []byte, unix int64) bool {
	ref, ok := p.shard.Peek(key)
	return ok && ref.Expired(unix)
}

// holds says whether nothing that the transaction watches has changed.
func (p *part) holds(tx *txBody, unix int64) bool {
	for _, w := range tx.watches {
		if p.expired(w.key, unix) || !p.watched.unchanged(w.key, w.token) {
			return false
		}
	}
	return true
}
