// Package spare keeps a few large buffers from one use to the next. Memory that is new each time costs more than what is written to
// it: the kernel has to find and clear every page, some 10 µs each on a virtual machine. sync.Pool is not for this, since what one
// processor puts back another need not get, and a collection takes all.
package spare

import "sync/atomic"

// page is what the kernel hands out at a time, or less.
const page = 4 << 10

// Buffers are at most so many, of at most so many bytes, as New was told. Safe for concurrent use; nothing blocks.
type Buffers struct {
	free  chan []byte
	limit int
	used  atomic.Bool
}

// New keeps up to count buffers of up to limit bytes.
func New(count, limit int) *Buffers { return &Buffers{free: make(chan []byte, count), limit: limit} }

// Get returns an empty buffer for n bytes or more.
func (b *Buffers) Get(n int) []byte {
	b.used.Store(true)
	select {
	case p := <-b.free:
		if cap(p) >= n {
			return p[:0]
		}
	default:
	}
	return make([]byte, 0, b.roomy(n))
}

// roomy is n with some room, so that the next one, which is not much larger, fits, too. One that will not be kept needs none.
func (b *Buffers) roomy(n int) int { return max(n, min(n+n/8, b.limit)) }

// Put keeps p for a Get, unless there are enough or it is larger than those that are kept. The caller is done with it.
func (b *Buffers) Put(p []byte) {
	if cap(p) > b.limit {
		return
	}
	select {
	case b.free <- p:
	default:
	}
}

// Warm adds a buffer of n bytes, or as many as are kept, whose memory is there already. It counts as in use.
func (b *Buffers) Warm(n int) {
	b.used.Store(true)
	p := make([]byte, min(b.roomy(n), b.limit))
	for at := 0; at < len(p); at += page {
		p[at] = 1
	}
	b.Put(p)
}

// Age gives up what is kept if there was no Get since the last Age. Its caller decides with the time between two how long that is.
func (b *Buffers) Age() {
	if b.used.Swap(false) {
		return
	}
	for {
		select {
		case <-b.free:
		default:
			return
		}
	}
}
