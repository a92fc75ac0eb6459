package cache

import (
	"slices"
	"time"

	"hypercache/node/command"
	"hypercache/node/ring"
	"hypercache/node/store"
)

const (
	expireBatch   = 64 // keys a group loses per tick to expiry before its lock is given up
	expireRounds  = 16 // batches per group and tick, so that a flood of expiries can't stop service
	evictionTries = 64 // victims per write, at most
)

var del = []byte("DEL")

// sweep deletes expired keys of the groups that this node is primary of, and fails replies that waited too long. now is
// a tick.
func (c *Cache) sweep(now int64, r *round) {
	unix := c.opt.Clock.Unix(now)
	c.clock.Store(unix)
	c.copiesRead.Store(c.driver.StaleWanted(time.Now()))
	for i := range c.parts {
		p := &c.parts[i]
		for range expireRounds {
			if p.busy.Load() != nil {
				break
			}
			p.group.Lock()
			c.expireWaiters(p, now)
			n := 0
			if p.group.Serving() && p.shard.Expires() > 0 && p.busy.Load() == nil {
				n = c.expire(p, unix, r)
			}
			more := p.shard.Reclaim(reclaimBlocks)
			p.group.Unlock()
			if n < expireBatch && !more {
				break
			}
		}
	}
}

const (
	reclaimBlocks = 1000 // freed with one lock hold: a few tenths of a millisecond
	reclaimRounds = 8    // for one evicted value: a client waits for them
)

// reclaim frees what large values left that were deleted.
func (p *part) reclaim() {
	for range reclaimRounds {
		p.group.Lock()
		more := p.shard.Reclaim(reclaimBlocks)
		p.group.Unlock()
		if !more {
			return
		}
	}
}

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

// evict makes room by the store's policy. It returns false when nothing may go.
func (c *Cache) evict(r *round) bool {
	if c.db.Policy() == store.NoEviction {
		return false
	}
	for range evictionTries {
		if !c.evictOne(r) {
			return false
		}
		if !c.db.OverLimit() {
			return true
		}
	}
	return true
}

// evictOne takes the best victim among samples of the first group, from a random one on, that has any.
func (c *Cache) evictOne(r *round) bool {
	first := r.rng.IntN(len(c.parts))
	for i := range c.parts {
		p := &c.parts[(first+i)%len(c.parts)]
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
		if victim != nil {
			p.remove(victim, r)
			c.vanished(p, command.ClassEvicted, "evicted", victim)
			p.group.Unlock()
			p.reclaim() // what it took counts as used until then
			c.Stats.Evicted.Add(1)
			return true
		}
		p.group.Unlock()
	}
	return false
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
