package pubsub

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"hypercache/node/ring"
)

// Link is a stream to another node, as node/peer has it.
type Link interface {
	Begin(typ byte) ([]byte, bool)
	End(b []byte)
	Flush()
	Close()
	// Waiting is how many bytes are queued.
	Waiting() int
}

// Frames. The node that dialed sends all but frameAck, which answers frameInterest; integers are little-endian.
//
//	message:    kind u8, length of the channel u32, channel, payload
//	event:      what u8 (1 keyspace, 2 keyevent), length of the event u8, event, key
//	interest:   version u64, flags u8, groups [32]byte, number of prefixes u16, {length u32, bytes}…
//	ack:        version u64
//	invalidate: client u64 (whose write it was, if it is one of the receiver's; 0), key
//	flush:      nothing
const (
	frameMessage    = 1
	frameEvent      = 2
	frameInterest   = 3
	frameAck        = 4
	frameInvalidate = 5
	frameFlush      = 6

	flagKeyspace = 1
	flagTracking = 2

	eventSpace = 1
	eventName  = 2
)

const (
	// maxQueued bounds what waits for one node. Messages beyond it are dropped, as Redis' bus drops those to a node that
	// it can't reach.
	maxQueued = 32 << 20
	// settleTime bounds how long a subscription waits until all nodes know of it.
	settleTime = time.Second
	// maxPrefixes bounds what one node tells of its clients' prefixes; with more of them it asks for every key.
	maxPrefixes = 256
)

var errFrame = errors.New("malformed frame of the bus")

// interest is what a node wants to hear.
type interest struct {
	keyspace, tracking bool
	shards             [ring.Groups / 8]byte
	prefixes           [][]byte // keys that begin so, nil for none
}

func (i *interest) equal(o *interest) bool {
	return i.keyspace == o.keyspace && i.tracking == o.tracking && i.shards == o.shards &&
		slices.EqualFunc(i.prefixes, o.prefixes, bytes.Equal)
}

func (i *interest) encode(b []byte, version uint64) []byte {
	b = binary.LittleEndian.AppendUint64(b, version)
	var flags byte
	if i.keyspace {
		flags |= flagKeyspace
	}
	if i.tracking {
		flags |= flagTracking
	}
	b = append(append(b, flags), i.shards[:]...)
	b = binary.LittleEndian.AppendUint16(b, uint16(len(i.prefixes)))
	for _, p := range i.prefixes {
		b = binary.LittleEndian.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

func decodeInterest(b []byte) (i interest, version uint64, err error) {
	const head = 8 + 1 + ring.Groups/8 + 2
	if len(b) < head {
		return i, 0, errFrame
	}
	version = binary.LittleEndian.Uint64(b)
	i.keyspace, i.tracking = b[8]&flagKeyspace != 0, b[8]&flagTracking != 0
	copy(i.shards[:], b[9:])
	n := int(binary.LittleEndian.Uint16(b[head-2:]))
	b = b[head:]
	for range n {
		if len(b) < 4 || len(b)-4 < int(binary.LittleEndian.Uint32(b)) {
			return i, 0, errFrame
		}
		end := 4 + int(binary.LittleEndian.Uint32(b))
		i.prefixes = append(i.prefixes, bytes.Clone(b[4:end]))
		b = b[end:]
	}
	return i, version, nil
}

// Tracking is who keeps the keys that clients cache; see node/tracking.
type Tracking interface {
	// Interest says whether any client here tracks, and the prefixes of those that track by prefix.
	Interest() (tracking bool, prefixes [][]byte)
	// Invalidate says that another node changed a key; client is one of this node's whose write it was, or 0.
	Invalidate(key []byte, client uint64)
	// Flush says that other nodes may have changed any key unheard.
	Flush()
	// Learned says that what other nodes want to hear may have changed.
	Learned()
}

// far is another node.
type far struct {
	name     string
	out      Link
	acked    uint64 // the newest version of our interest that it has confirmed on out
	inbound  int    // streams that it has to us
	interest atomic.Pointer[interest]
	dirty    atomic.Bool
}

// Bus carries messages, keyspace events and invalidations between nodes. Its methods are safe for concurrent use and
// don't block.
type Bus struct {
	registry *Registry
	tracking Tracking

	mu      sync.Mutex
	far     map[string]*far
	all     atomic.Pointer[[]*far]
	own     interest
	version uint64
	waiting []waiting
	dirty   atomic.Bool

	// Sent, Received and Dropped count messages to and from other nodes.
	Sent, Received, Dropped atomic.Uint64
}

// waiting is somebody who waits until every node that can be reached knows a version of our interest.
type waiting struct {
	version  uint64
	deadline time.Time
	done     func()
}

// NewBus connects a registry, and the tracking of this node's clients (nil for none), with other nodes.
func NewBus(r *Registry, t Tracking) *Bus {
	b := &Bus{registry: r, tracking: t, far: map[string]*far{}, version: 1}
	b.all.Store(&[]*far{})
	return b
}

// node finds or adds a node; mu is held.
func (b *Bus) node(name string) *far {
	f := b.far[name]
	if f == nil {
		f = &far{name: name}
		f.interest.Store(&interest{})
		b.far[name] = f
		all := append(slices.Clone(*b.all.Load()), f)
		b.all.Store(&all)
	}
	return f
}

// Up says that l carries frames to the node from now on.
func (b *Bus) Up(name string, l Link) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.node(name)
	f.out, f.acked = l, 0
	b.announce(f)
}

// Down says that l has ended.
func (b *Bus) Down(name string, l Link) {
	b.mu.Lock()
	if f := b.node(name); f.out == l {
		f.out = nil
	}
	ready := b.settled(time.Time{})
	b.mu.Unlock()
	call(ready)
	b.flushTracking()
}

// Accepted says that another node opened a stream to us, Ended that it is over. What the node wanted to tell us
// meanwhile is lost.
func (b *Bus) Accepted(name string) {
	b.mu.Lock()
	b.node(name).inbound++
	b.mu.Unlock()
	b.flushTracking()
}

// Ended is the counterpart of Accepted.
func (b *Bus) Ended(name string) {
	b.mu.Lock()
	f := b.node(name)
	if f.inbound--; f.inbound == 0 {
		f.interest.Store(&interest{})
	}
	b.mu.Unlock()
	b.flushTracking()
	b.learned()
}

func (b *Bus) learned() {
	if b.tracking != nil {
		b.tracking.Learned()
	}
}

// Retain forgets the nodes that exists does not name any more: what is not sent to them is no loss.
func (b *Bus) Retain(exists map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	var all []*far
	for name, f := range b.far {
		if _, ok := exists[name]; !ok && f.out == nil && f.inbound <= 0 {
			delete(b.far, name)
			continue
		}
		all = append(all, f)
	}
	b.all.Store(&all)
}

// Connected says whether the node has confirmed that it knows what this one wants to hear.
func (b *Bus) Connected(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.far[name]
	return f != nil && f.out != nil && f.acked > 0
}

// Hears says whether the node can tell us of changes now.
func (b *Bus) Hears(name string) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	f := b.far[name]
	return f != nil && f.inbound > 0
}

func (b *Bus) flushTracking() {
	if b.tracking != nil {
		b.tracking.Flush()
	}
}

// Changed tells other nodes what this one wants to hear now. done is called, now or later from any goroutine, when all
// that can be reached know it, or after a second; nil if nobody waits.
func (b *Bus) Changed(done func()) {
	b.mu.Lock()
	var own interest
	own.keyspace, own.shards = b.registry.wants()
	if b.tracking != nil {
		own.tracking, own.prefixes = b.tracking.Interest()
		if len(own.prefixes) > maxPrefixes {
			own.prefixes = [][]byte{{}}
		}
	}
	if !own.equal(&b.own) {
		b.own = own
		b.version++
		for _, f := range b.far {
			b.announce(f)
		}
	}
	if done != nil {
		b.waiting = append(b.waiting, waiting{b.version, time.Now().Add(settleTime), done})
	}
	ready := b.settled(time.Time{})
	b.mu.Unlock()
	call(ready)
}

// announce sends our interest; mu is held.
func (b *Bus) announce(f *far) {
	if f.out == nil {
		return
	}
	if buf, ok := f.out.Begin(frameInterest); ok {
		f.out.End(b.own.encode(buf, b.version))
		f.out.Flush()
	}
}

// settled takes out those who need wait no more; mu is held.
func (b *Bus) settled(now time.Time) (ready []func()) {
	known := b.version
	for _, f := range b.far {
		if f.out != nil {
			known = min(known, f.acked)
		}
	}
	b.waiting = slices.DeleteFunc(b.waiting, func(w waiting) bool {
		if w.version > known && !now.After(w.deadline) {
			return false
		}
		ready = append(ready, w.done)
		return true
	})
	return ready
}

func call(list []func()) {
	for _, f := range list {
		f()
	}
}

// Tick lets go who has waited long enough.
func (b *Bus) Tick(now time.Time) {
	b.mu.Lock()
	ready := b.settled(now)
	b.mu.Unlock()
	call(ready)
}

// Acked handles what comes back on a stream that this node opened.
func (b *Bus) Acked(name string, l Link, typ byte, body []byte) error {
	if typ != frameAck || len(body) != 8 {
		return errFrame
	}
	b.mu.Lock()
	f := b.node(name)
	first := false
	if f.out == l {
		first = f.acked == 0
		f.acked = binary.LittleEndian.Uint64(body)
	}
	ready := b.settled(time.Time{})
	b.mu.Unlock()
	call(ready)
	if first {
		b.flushTracking() // until now the node did not know what to tell us
	}
	return nil
}
