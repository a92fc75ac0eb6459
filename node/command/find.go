package command

import (
	"bytes"
	"math/rand/v2"

	"hypercache/node/store"
)

// findRead is the lookup of a read: Find, and the notification that a key was missed.
func (c *Ctx) findRead(key []byte) (store.Ref, bool) {
	r, ok := c.Shard.Find(key, c.Now)
	if !ok {
		c.notify(ClassKeyMiss, "keymiss", key)
	}
	return r, ok
}

// readAs is the lookup of a read that only a key of type t can answer. ok is false when the reply, WRONGTYPE, is written.
func (c *Ctx) readAs(key []byte, t store.Type) (r store.Ref, found, ok bool) {
	r, found = c.findRead(key)
	return r, found, !found || c.isType(r, t)
}

// writeAs is readAs for a write.
func (c *Ctx) writeAs(key []byte, t store.Type) (r store.Ref, found, ok bool) {
	r, found = c.findWrite(key)
	return r, found, !found || c.isType(r, t)
}

func (c *Ctx) isType(r store.Ref, t store.Type) bool {
	if r.Type() != t {
		c.W.Error(errWrongType)
		return false
	}
	return true
}

// firstOf finds the first key that holds a value of type t, nil if none does, for a write. For a command that has waited
// already, keys that hold anything else hold nothing: what ends a wait is an element, not somebody's mistake. ok is false when
// the reply is written, WRONGTYPE.
func (c *Ctx) firstOf(keys [][]byte, t store.Type) (key []byte, r store.Ref, ok bool) {
	for _, key := range keys {
		if !c.mayServe(key) {
			continue
		}
		r, found := c.findWrite(key)
		switch {
		case found && r.Type() == t:
			return key, r, true
		case found && !c.Waited:
			c.W.Error(errWrongType)
			return nil, r, false
		}
	}
	return nil, r, true
}

// mayServe says whether a command that waits may be served from the key.
func (c *Ctx) mayServe(key []byte) bool { return c.Ready == nil || bytes.Equal(key, c.Ready) }

// drop deletes a key that a write leaves empty, or replaces by nothing, and tells of it. The effect is the caller's.
func (c *Ctx) drop(key []byte) {
	c.Shard.Delete(key)
	c.notify(ClassGeneric, "del", key)
}

// random is the source of chance.
func (c *Ctx) random() *rand.Rand {
	if c.RNG == nil {
		c.RNG = rand.New(rand.NewPCG(rand.Uint64(), rand.Uint64()))
	}
	return c.RNG
}

// effectWords is how many words behind the key one effect has at most. It is even, so that pairs stay together.
const effectWords = 960

// splitEffect records NAME key word…, in as many commands as the bound on their length asks for.
func (c *Ctx) splitEffect(name string, key []byte, words [][]byte) {
	if c.FX == nil {
		return
	}
	for len(words) > 0 {
		n := min(len(words), effectWords)
		c.FX.Buf = appendHeader(c.FX.Buf, '*', n+2)
		c.FX.Buf = appendHeader(c.FX.Buf, '$', len(name))
		c.FX.Buf = append(append(c.FX.Buf, name...), '\r', '\n')
		c.FX.Buf = appendBulk(c.FX.Buf, key)
		for _, w := range words[:n] {
			c.FX.Buf = appendBulk(c.FX.Buf, w)
		}
		c.FX.N++
		words = words[n:]
	}
}
