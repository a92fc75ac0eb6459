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

// TestTheLastFlushOfManyTakesNoLonger: all shards' pages lie in the same mappings, which the last one leaves empty.
func TestTheLastFlushOfManyTakesNoLonger(t *testing.T) {
	const shards, keys, limit = 128, 20_000, slowdown * time.Millisecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	db := newDB(t, Options{})
	key := make([]byte, 16)
	for i := range keys {
		for g := range shards {
			k := keyOf(key, i)
			db.Shard(g).Set(k, k, 0)
		}
	}
	var most time.Duration
	for g := range shards {
		s := db.Shard(g)
		begin := cpuTime(t)
		s.Flush()
		most = max(most, cpuTime(t)-begin)
		for more := true; more; {
			begin := cpuTime(t)
			more = s.Reclaim(1000)
			most = max(most, cpuTime(t)-begin)
		}
	}
	t.Logf("longest of %d flushes: %v", shards, most)
	if most > limit {
		t.Errorf("a flush or a Reclaim(1000) took %v, want at most %v", most, limit)
	}
	if db.Used() != 0 || db.Reserved() > 8<<20 {
		t.Errorf("%d used, %d reserved in the end", db.Used(), db.Reserved())
	}
}
