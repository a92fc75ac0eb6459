package cache

import (
	"sync/atomic"
	"time"

	"hypercache/node/command"
	"hypercache/node/ring"
)

// maxPause bounds CLIENT PAUSE: what waits is kept in memory.
const maxPause = time.Minute

// pause holds back the commands of this node's clients that speak of keys.
type pause struct {
	until  atomic.Int64 // a tick, 0 for no pause
	writes atomic.Bool  // only writes
}

// Pause holds back the commands on keys of this node's clients, or only their writes, at most a minute. A longer pause
// that stands already counts on, as in Redis.
func (c *Cache) Pause(d time.Duration, onlyWrites bool) {
	p := &c.obs.pause
	now := c.ticks()
	until := now + min(d, maxPause).Milliseconds()
	if old := p.until.Load(); old > now {
		until = max(until, old)
		onlyWrites = onlyWrites && p.writes.Load()
	}
	p.writes.Store(onlyWrites)
	p.until.Store(until)
}

// Unpause lets them go on.
func (c *Cache) Unpause() {
	c.obs.pause.until.Store(0)
	c.park.kick()
}

// paused says whether a client's command has to wait.
func (p *pause) paused(write bool, now int64) bool {
	until := p.until.Load()
	return until != 0 && now < until && (write || !p.writes.Load())
}

// left is how many ms a pause goes on.
func (p *pause) left(now int64) int64 { return max(p.until.Load()-now, 0) }

// lastWrite is where a connection last wrote.
type lastWrite struct {
	slot uint16
	any  bool
}

// replicasOf is how many replicas are known to have the newest record of the slot that the connection wrote last: as
// the primary knows it, or else as many as a reply to a write promises.
func (c *Cache) replicasOf(l lastWrite) (n int) {
	if !l.any {
		return -1
	}
	p := &c.parts[ring.GroupOf(l.slot)]
	p.group.Lock()
	primary, seq := p.group.Primary(), p.slotSeq[l.slot%uint16(len(p.slotSeq))]
	p.group.Unlock()
	if !primary {
		return c.promised()
	}
	for _, peer := range c.driver.Status(uint16(ring.GroupOf(l.slot))).Peers {
		if peer.Match >= seq {
			n++
		}
	}
	return n
}

// replicaWait is a WAIT under way.
type replicaWait struct {
	c        *Cache
	client   *command.Client
	last     lastWrite
	want     int
	deadline time.Time // zero for none
	to       origin
}
