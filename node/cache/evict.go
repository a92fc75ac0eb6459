package cache

import (
	"slices"
	"time"

	"hypercache/node/command"
	"hypercache/node/ring"
	"hypercache/node/store"
)

const (
	expireBatch   = 64   // keys a group loses to expiry before its lock is given up
	expireRounds  = 4    // batches in a row, before the other groups have their turn
	reclaimBlocks = 1000 // freed with one lock hold: a few tenths of a millisecond

	evictionTries = 64 // victims that one write waits for, at most …
	evictionShare = 8  // … and after which it need not make more room than it takes itself

	// The Run goroutine deletes what expired, frees what was deleted and evicts what is over the limit in slices. It sleeps
	// between them: a loop whose clients have sent something gets no processor while others run, and the scheduler would
	// interrupt them only after ten milliseconds.
	slice      = time.Millisecond
	slicePause = time.Millisecond
)

var del = []byte("DEL")

// sweeping is where the pass over the groups stands that deletes expired keys. The Run goroutine owns it.
type sweeping struct {
	on   bool
	at   int
	left bool // a group that it has passed had more to do
}

// tick fails replies that waited too long, and has the next pass begin if the last one is done. now is a tick.
func (c *Cache) tick(now int64) {
	c.clock.Store(c.opt.Clock.Unix(now))
	c.copiesRead.Store(c.driver.StaleWanted(time.Now()))
	for i := range c.parts {
		p := &c.parts[i]
		p.group.Lock()
		c.expireWaiters(p, now)
		p.group.Unlock()
	}
	c.sweeping.on = true
	c.wide.Age()
}

// housekeep does one slice of what is due, and reports whether there is more.
func (c *Cache) housekeep(r *round) (more bool) {
	until := time.Now().Add(slice)
	if c.short.Load() && c.makeRoom(until, r) {
		return true
	}
	return c.sweeping.on && c.sweep(until, r)
}

// sweep goes on with the pass over the groups, until it is done or that time has come: it deletes expired keys where this node
// is primary, and frees what was deleted.
func (c *Cache) sweep(until time.Time, r *round) (more bool) {
	unix := c.opt.Clock.Unix(c.ticks())
	for c.sweeping.at < len(c.parts) {
		p := &c.parts[c.sweeping.at]
		more, late := true, false
		for n := 0; more && !late && n < expireRounds; n++ {
			more = c.sweepPart(p, unix, r)
			late = time.Now().After(until) // also where little expired: to look at many keys takes its time, too
		}
		if more && late {
			return true
		}
		c.sweeping.left = c.sweeping.left || more
		c.sweeping.at++
		if late {
			return true
		}
	}
	c.sweeping = sweeping{on: c.sweeping.left}
	return c.sweeping.on
}

// sweepPart does what one hold of a group's lock is for, and reports whether there is more.
func (c *Cache) sweepPart(p *part, unix int64, r *round) (more bool) {
	if p.busy.Load() != nil {
		return false
	}
	p.group.Lock()
	defer p.group.Unlock()
	n := 0
	if !c.lazily.Load() && p.group.Serving() && p.shard.Expires() > 0 && p.busy.Load() == nil && !c.driver.DiskFull() {
		n = c.expire(p, unix, r)
	}
	return p.shard.Reclaim(reclaimBlocks) || n == expireBatch
}

// SetActiveExpire switches the deletion of expired keys that nobody asks for, of the groups that this node is primary of. Who asks
// for one finds nothing either way.
func (c *Cache) SetActiveExpire(on bool) { c.lazily.Store(!on) }

func (c *Cache) expire(p *part, unix int64, r *round) int {
	var keys [][]byte
	p.shard.Expired(unix, expireBatch, func(key []byte) { keys = append(keys, slices.Clone(key)) })
	for _, key := range keys {
		p.remove(key, r)
		c.vanished(p, command.ClassExpired, "expired", key)
	}
	c.Stats.Expired.Add(uint64(len(keys)))
	return len(keys)
}

// remove deletes a key on the primary's own account; replicas get the DEL.
func (p *part) remove(key []byte, r *round) {
	p.shard.Delete(key)
	p.watched.touch(key)
	if !p.group.Wants() {
		return
	}
	p.fx.Reset()
	p.fx.Command(del, key)
	seq := p.group.Propose(p.fx.Buf, &r.batch)
	p.slotSeq[ring.Slot(key)%uint16(len(p.slotSeq))] = seq
}

// room says what became of the wish to be below the limit.
type room uint8

const (
	roomNone  room = iota // nothing may go
	roomMade              // it is below, or what the command takes has been freed
	roomLater             // more must go than one command should wait for; the Run goroutine is at it
)

// evict makes room by the store's policy for a command with need bytes of arguments.
func (c *Cache) evict(need int, r *round) room {
	freed := int64(0)
	for n := 1; ; n++ {
		got, ok := c.evictOne(r)
		if !ok {
			return roomNone
		}
		freed += got
		switch {
		case !c.db.OverLimit():
			return roomMade
		case n >= evictionShare && freed >= 2*int64(need): // the limit was lowered: each write brings the data nearer to it
			c.runShort()
			return roomMade
		case n >= evictionTries:
			c.runShort()
			return roomLater
		}
	}
}

// runShort has the Run goroutine evict until the data is below the limit.
func (c *Cache) runShort() {
	if !c.short.Swap(true) {
		c.park.kick()
	}
}

// makeRoom evicts what is over the limit, until that time, and reports whether more must go.
func (c *Cache) makeRoom(until time.Time, r *round) (more bool) {
	for c.db.OverLimit() {
		if _, ok := c.evictOne(r); !ok {
			break
		}
		if time.Now().After(until) {
			return true
		}
	}
	c.short.Store(false)
	c.park.kick() // the writes that waited for it
	return false
}

// evictOne frees some of what was deleted, if something large waits for that: it counts as used until then, and another victim
// would be one too many. Otherwise it takes the best victim among samples of the first group, from a random one on, that has any,
// if the policy allows it and the journal has room for its DEL. It returns the bytes that became free.
func (c *Cache) evictOne(r *round) (freed int64, ok bool) {
	if grave, any := c.db.Unfreed(); any {
		if p := &c.parts[grave]; p.busy.Load() == nil {
			return c.dig(p), true
		}
	}
	if c.db.Policy() == store.NoEviction || c.driver.DiskFull() {
		return 0, false
	}
	first := r.rng.IntN(len(c.parts))
	for i := range c.parts {
		p := &c.parts[(first+i)%len(c.parts)]
		if p.busy.Load() != nil {
			continue // its lock may be held for as long as a script may take
		}
		p.group.Lock()
		if !p.group.Serving() || p.busy.Load() != nil {
			p.group.Unlock()
			continue
		}
		var victim []byte
		var best uint64
		p.shard.EvictionSample(c.opt.Samples, r.rng, func(ref store.Ref, score uint64) {
			if victim == nil || score > best {
				victim, best = append(victim[:0], ref.Key()...), score
			}
		})
		if victim == nil {
			p.group.Unlock()
			continue
		}
		before := p.shard.Bytes()
		p.remove(victim, r)
		c.vanished(p, command.ClassEvicted, "evicted", victim)
		p.shard.Reclaim(reclaimBlocks)
		freed = before - p.shard.Bytes()
		p.group.Unlock()
		c.Stats.Evicted.Add(1)
		return freed, true
	}
	return 0, false
}

// dig frees some of what was deleted in p.
func (c *Cache) dig(p *part) (freed int64) {
	p.group.Lock()
	defer p.group.Unlock()
	before := p.shard.Bytes()
	p.shard.Reclaim(reclaimBlocks)
	return before - p.shard.Bytes()
}

// SetMaxMemory changes the limit of the data, in bytes, 0 for none. From the next command on it holds.
func (c *Cache) SetMaxMemory(limit int64) {
	c.db.SetMaxMemory(limit)
	for i := range c.parts { // small groups have not told yet what they hold
		p := &c.parts[i]
		if p.busy.Load() != nil {
			continue // what its script writes tells
		}
		p.group.Lock()
		p.shard.Reclaim(1)
		p.group.Unlock()
	}
}

// CountKeysInSlot counts the keys of a slot that this node holds.
func (c *Cache) CountKeysInSlot(slot uint16) int {
	p := &c.parts[ring.GroupOf(slot)]
	p.group.Lock()
	defer p.group.Unlock()
	return p.shard.SlotLen(slot)
}

// KeysInSlot returns up to max keys of a slot that this node holds.
func (c *Cache) KeysInSlot(slot uint16, limit int) [][]byte {
	p := &c.parts[ring.GroupOf(slot)]
	p.group.Lock()
	defer p.group.Unlock()
	keys := p.shard.SlotKeys(slot, limit)
	for i := range keys {
		keys[i] = slices.Clone(keys[i])
	}
	return keys
}

// Waiting counts the replies that wait for replicas.
func (c *Cache) Waiting() (n int) {
	for i := range c.parts {
		p := &c.parts[i]
		p.group.Lock()
		n += len(p.waiting.list) - p.waiting.head
		p.group.Unlock()
	}
	return n
}

// Keyspace describes what this node holds: keys as primary, those of them with an expiry, keys as replica.
func (c *Cache) Keyspace() (keys, expires, replicated int) {
	for i := range c.parts {
		p := &c.parts[i]
		p.group.Lock()
		if p.group.Primary() {
			keys += p.shard.Len()
			expires += p.shard.Expires()
		} else {
			replicated += p.shard.Len()
		}
		p.group.Unlock()
	}
	return keys, expires, replicated
}
