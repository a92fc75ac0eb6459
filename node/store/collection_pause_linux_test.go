package store

import (
	"fmt"
	"runtime"
	"testing"
	"time"
)

// TestNoCollectionIsDeletedInOnePause builds collections of 100,000 elements and takes them out in every way.
func TestNoCollectionIsDeletedInOnePause(t *testing.T) {
	const n, limit = 100_000, slowdown * time.Millisecond
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	db := newDB(t, Options{})
	s := db.Shard(0)
	key := []byte("large")
	fill := func() {
		z := s.NewSortedSet(key)
		for i := range n {
			z.Set(fmt.Appendf(nil, "a member that is outside of its leaf: %d", i), float64(i))
		}
	}
	list := func() {
		l := s.NewList(key)
		for i := range n {
			l.Insert(i, fmt.Append(nil, "element", i))
		}
	}
	for _, c := range []struct {
		what string
		fill func()
		op   func()
	}{
		{"delete", fill, func() { s.Delete(key) }},
		{"overwrite", fill, func() { s.Set(key, []byte("v"), 0) }},
		{"rename over", fill, func() { s.Set([]byte("v"), nil, 0); s.Rename([]byte("v"), key) }},
		{"trim", list, func() { r, _ := s.Peek(key); l := r.Elements(); l.Remove(1, n-2) }},
		{"flush", fill, func() { s.Flush() }},
	} {
		c.fill()
		before := db.Used()
		begin := cpuTime(t)
		c.op()
		took := cpuTime(t) - begin
		if db.Used() < before/10 && c.what != "flush" {
			t.Errorf("%s: what waits is not counted", c.what)
		}
		if took > limit {
			t.Errorf("%s took %v", c.what, took)
		}
		var most time.Duration
		calls, slow := 0, 0
		for more := true; more; calls++ {
			begin := cpuTime(t)
			more = s.Reclaim(1000)
			d := cpuTime(t) - begin
			most = max(most, d)
			if d > limit {
				slow++
			}
		}
		t.Logf("%s of %d elements in %v; %d calls of Reclaim(1000), worst %v", c.what, n, took, calls, most)
		if slow > max(3, calls/10) { // the collector may borrow the thread for a moment
			t.Errorf("%s: %d of %d calls of Reclaim took more than %v", c.what, slow, calls, limit)
		}
		check(t, s)
		s.Delete(key)
		s.Delete([]byte("v"))
		for s.Reclaim(1000) {
		}
		if db.Used() != 0 || db.Reserved() != 0 {
			t.Errorf("%s: %d used, %d reserved in the end", c.what, db.Used(), db.Reserved())
		}
	}
}
