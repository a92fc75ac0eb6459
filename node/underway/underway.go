// Package underway tells how long an operation that may never return has taken so far.
package underway

import (
	"sync/atomic"
	"time"
)

// Operation is one that a single goroutine begins and ends at a time, and any may look at. The zero value is ready; nothing
// allocates.
type Operation struct{ since atomic.Int64 } // from start, 0: none is under way

var start = time.Now()

// Begin notes that the operation begins now, if one was under way, anew.
func (o *Operation) Begin() {
	since := int64(time.Since(start))
	if since == 0 {
		since = 1
	}
	o.since.Store(since)
}

// End notes that it is over.
func (o *Operation) End() { o.since.Store(0) }

// Lasts is how long the operation under way has taken, at least a nanosecond, and 0 if none is.
func (o *Operation) Lasts() time.Duration {
	if since := o.since.Load(); since != 0 {
		return max(time.Since(start)-time.Duration(since), 1)
	}
	return 0
}
