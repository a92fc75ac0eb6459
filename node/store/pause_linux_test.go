package store

import (
	"runtime"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime returns the time that the calling thread has computed, which other processes do not disturb.
func cpuTime(t *testing.T) time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &ts); err != nil {
		t.Fatal(err)
	}
	return time.Duration(ts.Nano())
}

func TestNoOperationOnALargeShardTakesLong(t *testing.T) {
	const keys = 250_000 // as many as a node with 64 M keys has in each shard
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	s := newDB(t, Options{}).Shard(0)
	key := make([]byte, 16)
	worst := func(what string, op func(i int, key []byte)) {
		var most time.Duration
		slow := 0
		for i := range keys {
			k := keyOf(key, i)
			begin := cpuTime(t)
			op(i, k)
			d := cpuTime(t) - begin
			most = max(most, d)
			if d > slowdown*time.Millisecond {
				slow++
			}
		}
		t.Logf("%d x %s on one shard: worst %v, %d above %v", keys, what, most, slow, slowdown*time.Millisecond)
		if slow > 20 { // the collector may borrow the thread for a moment
			t.Errorf("%s took more than a millisecond %d times", what, slow)
		}
	}
	worst("set new", func(i int, k []byte) { s.Set(k, k, int64(i&1)<<40) })
	if s.index.depth < 8 {
		t.Errorf("the index has depth %d only", s.index.depth)
	}
	worst("change size", func(i int, k []byte) { s.Set(k, append(k, 'x', 'y', 'z'), int64(i&1)<<40) })
	check(t, s)
	worst("delete", func(i int, k []byte) { s.Delete(k) })
}
