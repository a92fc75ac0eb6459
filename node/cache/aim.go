package cache

import (
	"math"
	"math/bits"
	"time"

	"hypercache/node/ring"
)

// staleMap is how old a cluster client's map of slots may be. Most ask for it within ten seconds, or are told MOVED; who goes on
// with an older one is taken for a plain client until it has asked.
const staleMap = 20 * time.Second

// aim recognizes a connection of a cluster client by what it asks for: nothing but keys of which this node is the primary, or was
// until a moment ago. Such a client gets MOVED when a group has left, as Redis gives it to everybody: it asks for the map of slots
// then, which some do every minute only if nothing tells them to, and would be stranded on a node that stops. A connection's own
// goroutine uses it.
type aim struct {
	asked [ring.Groups / 64]uint64
	turn  uint64 // the view.turn that asked is of
	right bool
}

// enough is how many groups a connection must have asked for, all of them this node's, where it has so many of all, or had them a
// moment ago. Each speaks for a cluster client with log2(ring.Groups/own) bits, since a client that asks any node for any key would
// have hit it by chance; 25 bits are asked for, 1 in 33 million: 16 groups on one of three nodes. A node that has all groups, or
// had them when another joined, learns nothing from being asked.
func enough(own int) int {
	if own <= 0 || own >= ring.Groups {
		return ring.Groups + 1
	}
	return int(math.Ceil(25 / math.Log2(ring.Groups/float64(own))))
}

// share is how many groups a cluster client may ask the node for: those that it has, or had a moment ago.
func (v *view) share(self string, now time.Time) (groups int) {
	for g := range v.left {
		if v.primary[g] == self || now.Sub(v.left[g]) <= staleMap {
			groups++
		}
	}
	return groups
}

// Reckon notes that a moment has passed since groups left, so that being asked for the others says more. To be called every second
// or so.
func (c *Cache) Reckon() {
	c.routing.Lock()
	defer c.routing.Unlock()
	old := c.view.Load()
	if n := enough(old.share(c.opt.Self, time.Now())); n != old.enough {
		v := *old
		v.enough, v.turn = n, old.turn+1 // what was asked for meanwhile said less
		c.view.Store(&v)
	}
}

// hit notes a key of a group that this node has.
func (a *aim) hit(v *view, group uint16) {
	if a.right || v.enough > ring.Groups {
		return
	}
	if a.turn != v.turn { // what was asked for then, another share would have had
		*a = aim{turn: v.turn}
	}
	a.asked[group/64] |= 1 << (group % 64)
	n := 0
	for _, w := range a.asked {
		n += bits.OnesCount64(w)
	}
	a.right = n >= v.enough
}

// stale notes the command for a group's key, and says whether it comes from a cluster client with an old map of slots.
func (k *conn) stale(c *Cache, v *view, group uint16) bool {
	switch primary := v.primary[group]; {
	case primary == c.opt.Self:
		k.aim.hit(v, group)
	case primary == "":
	case v.left[group].IsZero() || time.Since(v.left[group]) > staleMap:
		k.aim = aim{}
	default:
		return k.aim.right
	}
	return false
}
