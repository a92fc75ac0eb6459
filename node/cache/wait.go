package cache

import (
	"slices"
	"strconv"
	"time"

	"hypercache/node/ring"
)

// maxWaits bounds the WAITs under way.
const maxWaits = 1 << 14

// promised is how many replicas have a write whose reply has come.
func (c *Cache) promised() int { return max(c.opt.Promised, 0) }

// WaitReplicas implements command.Conn: the reply is the number of replicas that have the connection's last write, given
// when there are enough or the time is over. Where another node is the primary, it is what a reply to a write promises,
// and comes at once: no replies that this connection is owed can be overtaken.
func (k *conn) WaitReplicas(want int, timeout time.Duration) (have int, now bool) {
	c := k.cache
	have = c.replicasOf(k.last)
	if have < 0 {
		return 0, true // it wrote nothing
	}
	if have >= want || !c.leads(k.last) {
		return have, true
	}
	w := &replicaWait{c: c, client: k.client, last: k.last, want: want}
	if timeout > 0 {
		w.deadline = time.Now().Add(timeout)
	}
	c.waitsMu.Lock()
	defer c.waitsMu.Unlock()
	if len(c.waits) >= maxWaits {
		return have, true
	}
	w.to = origin{t: k.s.Hold()}
	k.s.Suspend(func() { w.cancel(inVain) })
	k.client.SetBlocked(true)
	c.blocked.add(k.client.ID(), w)
	c.waits = append(c.waits, w)
	return 0, false
}

// cancel implements canceler: CLIENT UNBLOCK, or the client's end.
func (w *replicaWait) cancel(v verdict) bool {
	c := w.c
	have := c.replicasOf(w.last)
	c.waitsMu.Lock()
	at := slices.Index(c.waits, w)
	if at >= 0 {
		c.waits = slices.Delete(c.waits, at, at+1)
	}
	c.waitsMu.Unlock()
	if at < 0 {
		return false
	}
	if v == unblocked {
		w.end([]byte("-" + errUnblocked + "\r\n"))
	} else {
		w.answer(have)
	}
	return true
}

func (w *replicaWait) answer(have int) { w.end([]byte(":" + strconv.Itoa(have) + "\r\n")) }

// end answers a wait that is in no list any more.
func (w *replicaWait) end(reply []byte) {
	w.client.SetBlocked(false)
	w.c.blocked.remove(w.client.ID())
	w.to.reply(reply)
}

func (c *Cache) leads(l lastWrite) bool {
	p := &c.parts[ring.GroupOf(l.slot)]
	p.group.Lock()
	defer p.group.Unlock()
	return p.group.Primary()
}

// answerWaits answers the WAITs that have waited for enough replicas, or long enough.
func (c *Cache) answerWaits(now time.Time) {
	c.waitsMu.Lock()
	defer c.waitsMu.Unlock()
	kept := c.waits[:0]
	for _, w := range c.waits {
		have := c.replicasOf(w.last)
		if have < w.want && (w.deadline.IsZero() || now.Before(w.deadline)) && c.leads(w.last) {
			kept = append(kept, w)
			continue
		}
		w.answer(have)
	}
	clear(c.waits[len(kept):])
	c.waits = kept
}
