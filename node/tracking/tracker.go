package tracking

import (
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"hypercache/node/pubsub"
	"hypercache/node/ring"
)

// Bus reaches the other nodes; pubsub.Bus does.
type Bus interface {
	// Invalidate tells a node that a key of its clients changed. Both calls give the client whose write it was only to
	// the node that has it.
	Invalidate(node string, key []byte, client uint64)
	// InvalidatePrefix tells the nodes whose clients follow one of the key's prefixes, but those told already.
	InvalidatePrefix(key []byte, by string, client uint64, told []string)
	// FlushTracking tells every node with clients that track.
	FlushTracking()
	// Hears says whether the node can tell us of changes.
	Hears(node string) bool
	// Tracked says whether any other node has clients that track.
	Tracked() bool
}

// Writer is who changed a key: a client of the node, or 0 if that does not matter. The node is "" for this one.
type Writer struct {
	Node   string
	Client uint64
}

// Tracker knows which clients cache which keys. It is safe for concurrent use and never blocks; lookups are made under
// the groups' locks.
type Tracker struct {
	bus    Bus
	wanted func(bool)
	table  table
	due    atomic.Bool // groups were emptied and nobody told yet

	mu      sync.Mutex
	clients map[*Client]struct{}
	bcast   atomic.Pointer[[]*Client] // those that follow prefixes
}

// DefaultKeys is Redis' tracking-table-max-keys.
const DefaultKeys = 1000000

// New returns a tracker without clients. wanted is told whether anybody needs to hear of changes, here or elsewhere.
func New(wanted func(bool)) *Tracker {
	t := &Tracker{wanted: wanted, clients: map[*Client]struct{}{}}
	t.table.limit.Store(DefaultKeys)
	t.bcast.Store(&[]*Client{})
	return t
}

// Connect gives the way to the other nodes, before anything else happens.
func (t *Tracker) Connect(b Bus) { t.bus = b }

// Limit sets how many keys are remembered at most; 0 means no limit, as in Redis.
func (t *Tracker) Limit(n int64) {
	if n == 0 {
		n = 1<<63 - 1
	}
	t.table.limit.Store(n)
	for t.table.count.Load() > n {
		if !t.makeRoom(t.table.evict()) {
			return
		}
	}
}

// Keys is how many keys are remembered.
func (t *Tracker) Keys() int64 { return t.table.count.Load() }

// Clients is how many connections track.
func (t *Tracker) Clients() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.clients)
}

// Start adds a client; the bus then has to tell the other nodes.
func (t *Tracker) Start(c *Client) {
	t.mu.Lock()
	t.clients[c] = struct{}{}
	t.relist()
	t.mu.Unlock()
	t.Learned()
}

// Stop removes a client. What it read is forgotten when it changes.
func (t *Tracker) Stop(c *Client) {
	c.gone.Store(true)
	t.mu.Lock()
	delete(t.clients, c)
	t.relist()
	t.mu.Unlock()
	t.Learned()
}

// relist makes the list of those that follow prefixes; mu is held.
func (t *Tracker) relist() {
	var list []*Client
	for c := range t.clients {
		if c.Options().BCast {
			list = append(list, c)
		}
	}
	t.bcast.Store(&list)
}

// Learned implements pubsub.Tracking: what other nodes want may have changed.
func (t *Tracker) Learned() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted(len(t.clients) > 0 || t.bus.Tracked())
}

// Interest implements pubsub.Tracking.
func (t *Tracker) Interest() (tracking bool, prefixes [][]byte) {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := map[string]struct{}{}
	for c := range t.clients {
		if !c.Options().BCast {
			continue
		}
		for _, p := range c.Options().Prefixes {
			all[p] = struct{}{}
		}
	}
	for _, p := range slices.Sorted(maps.Keys(all)) {
		prefixes = append(prefixes, []byte(p))
	}
	return len(t.clients) > 0, prefixes
}

// Reading notes, before it happens, that a client of this node reads a key whose primary is the node named. What
// the client is told from then on arrives behind the reply.
func (t *Tracker) Reading(c *Client, key []byte, primary string, self bool) {
	if c.Options().BCast {
		return
	}
	t.makeRoom(t.table.add(groupOf(key), key, holder{client: c}))
	if !self && !t.bus.Hears(primary) {
		c.tell(key) // nobody would tell us of its change
	}
}

// ReadingFor notes that another node reads a key for clients of its own.
func (t *Tracker) ReadingFor(node string, key []byte) {
	t.makeRoom(t.table.add(groupOf(key), key, holder{node: node}))
}

// makeRoom tells the holders of a key that had to go.
func (t *Tracker) makeRoom(key string, s *holders) bool {
	if s == nil {
		return false
	}
	t.tellHolders([]byte(key), s, Writer{})
	return true
}

func groupOf(key []byte) int { return int(ring.GroupOf(ring.Slot(key))) }

// tellHolders returns the nodes that it told.
func (t *Tracker) tellHolders(key []byte, s *holders, by Writer) (told []string) {
	s.each(func(h holder) {
		switch {
		case h.client == nil:
			client := uint64(0)
			if h.node == by.Node {
				client = by.Client
			}
			t.bus.Invalidate(h.node, key, client)
			told = append(told, h.node)
		case !h.client.wrote(by):
			h.client.tell(key)
		}
	})
	return told
}

// wrote says that the client made the change itself and does not want to hear of that.
func (c *Client) wrote(by Writer) bool {
	return c.Options().NoLoop && by.Node == "" && by.Client == c.ID
}

// Changed says that this node, the key's primary, changed it.
func (t *Tracker) Changed(key []byte, by Writer) {
	var told []string
	if s := t.table.take(groupOf(key), key); s != nil {
		told = t.tellHolders(key, s, by)
	}
	t.tellFollowers(key, by)
	t.bus.InvalidatePrefix(key, by.Node, by.Client, told)
}

func (t *Tracker) tellFollowers(key []byte, by Writer) {
	for _, c := range *t.bcast.Load() {
		if c.follows(string(key)) && !c.wrote(by) {
			c.tell(key)
		}
	}
}

// Invalidate implements pubsub.Tracking: another node changed a key. client is one of ours whose write it was, or 0.
func (t *Tracker) Invalidate(key []byte, client uint64) {
	by := Writer{Client: client}
	if s := t.table.take(groupOf(key), key); s != nil {
		s.each(func(h holder) {
			switch {
			case h.client == nil:
			case h.client.wrote(by):
				// It may have read the key again since; that its own write is news only now must not cost it the next one.
				t.makeRoom(t.table.add(groupOf(key), key, h))
			default:
				h.client.tell(key)
			}
		})
	}
	t.tellFollowers(key, by)
}

// Emptied says that this node, a group's primary, removed all of its keys.
func (t *Tracker) Emptied(g int) {
	t.table.takeGroup(g)
	t.due.Store(true)
}

// FlushDue tells clients and nodes of groups that were emptied: once, where many were. Whoever may have called Emptied
// calls it soon after.
func (t *Tracker) FlushDue() {
	if t.due.Load() && t.due.CompareAndSwap(true, false) {
		t.Flush()
		t.bus.FlushTracking()
	}
}

// Moved says that a group has another primary: which keys the last one was to tell us of is not known to the new one.
func (t *Tracker) Moved(g int) {
	for key, s := range t.table.takeGroup(g) {
		s.each(func(h holder) {
			if h.client != nil {
				h.client.tell([]byte(key))
			}
		})
	}
}

// Flush implements pubsub.Tracking: changes may have been missed, of any key that other nodes are primaries of.
// Every client drops what it has. What the table has of them stays until it changes: a client that reads on must not be
// forgotten.
func (t *Tracker) Flush() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for c := range t.clients {
		c.tell(nil)
	}
}

var _ pubsub.Tracking = (*Tracker)(nil)
