package replica

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hypercache/node/journal"
)

// A replica whose disk is full takes no more records, which would pile up in memory until the journal fails for good, but goes on
// to confirm for groups of which it lacks nothing. Once there is space it gets what it missed.
func TestAFullReplicaLetsNothingPileUp(t *testing.T) {
	for _, count := range []int{100, 3000} { // records from the tail, or a snapshot, bring it up to date
		t.Run(fmt.Sprint(count), func(t *testing.T) {
			c := drivers(t, 3, Options{})
			a, b, x := c.nodes[0], c.nodes[1], c.nodes[2]
			c.lead(a, 1, c.nodes, 7, 8)
			a.grow(7, 0, 10)
			c.deliver()
			b.j.fail = journal.ErrDiskFull
			a.grow(7, 10, 1)
			c.deliver()
			if !b.d.DiskFull() {
				t.Fatal("it has not noticed")
			}
			before := len(b.j.records)
			for i := range count / 100 {
				a.grow(7, 100+100*i, 100)
				c.deliver()
				c.tick(1)
			}
			if n := len(b.j.records) - before; n != 0 {
				t.Errorf("%d records were appended while the disk was full", n)
			}
			if a.taken > 0 {
				t.Errorf("%d snapshots were taken for it meanwhile", a.taken)
			}
			if seq := a.d.Group(7).Head().Seq; a.held(7, seq) {
				t.Error("the other two are a quorum, and the last write is held")
			}
			c.cut(a, x) // now b is the one that must confirm
			if readable := func() bool {
				for range 3 {
					if a.readable(8) {
						return true
					}
					_ = a.end()
					c.deliver()
				}
				return false
			}(); !readable {
				t.Error("a full replica does not confirm for a group that it has all of")
			}
			c.link(a, x)
			b.j.fail = nil
			c.tick(20)
			c.same(7, c.nodes...)
			if b.fatal != nil {
				t.Error(b.fatal)
			}
		})
	}
}

// The stream on which records came ends with the disk full: what they wrote is told as stored all the same once it is.
func TestWhatAFullDiskHeldUpIsStoredThoughItsStreamHasGone(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b, x := c.nodes[0], c.nodes[1], c.nodes[2]
	c.lead(a, 1, c.nodes, 7)
	c.deliver()
	c.cut(a, x)
	b.j.fail = journal.ErrDiskFull
	a.grow(7, 0, 1)
	c.deliver()
	seq := a.d.Group(7).Head().Seq
	c.cut(a, b)
	b.j.fail = nil
	c.link(a, b)
	c.deliver()
	c.tick(3)
	if a.held(7, seq) {
		t.Error("it is on two disks, and held")
	}
}

// A snapshot is not begun if the disk became full while it was on its way, and if it meets the full disk itself that is not the end
// of its stream, nor is the next one begun before there is space.
func TestASnapshotAndAFullDisk(t *testing.T) {
	for _, noticed := range []bool{true, false} {
		c := drivers(t, 3, Options{})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 7)
		c.cut(a, b)
		a.grow(7, 0, 3000)
		c.deliver()
		c.link(a, b)
		l := c.links[[2]string{"a", "b"}]
		c.carry(l.there, l.receiver) // probes
		c.carry(l.back, l.sender)
		a.d.Pace(&a.batch)
		_ = a.end()
		b.j.fail = journal.ErrDiskFull
		if noticed {
			b.d.full.Store(true)
			b.d.owed.Store(b.j.Append(journal.Record{Group: 9}))
		}
		pass := func() {
			for range 200 { // pieces are not answered while the disk is full
				c.ahead += answerWait
				c.tick(1)
			}
		}
		pass()
		begun := 0
		for _, r := range b.j.records {
			if r.Kind == journal.SyncBegin {
				begun++
			}
		}
		if want := map[bool]int{true: 0, false: 1}[noticed]; begun != want || !b.d.DiskFull() {
			t.Errorf("%d snapshots were begun with the disk full, want %d", begun, want)
		}
		b.j.fail = nil
		pass()
		c.same(7, c.nodes...)
	}
}

// While a snapshot is installed the group's lock is to be had, and the group may be given up.
func TestASnapshotIsInstalledWithPauses(t *testing.T) {
	for _, leaves := range []bool{false, true} {
		c := drivers(t, 3, Options{})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 7)
		c.cut(a, b)
		for i := range 200 {
			a.write(7, fmt.Sprintf("k%d=%s", i, strings.Repeat("x", 10_000)))
		}
		_ = a.end()
		c.deliver()
		g, free, bulk := b.d.Group(7), 0, 0
		b.j.work = func() {
			if !g.TryLock() {
				return
			}
			installing := g.st.Installing()
			g.Unlock()
			if !installing {
				return
			}
			if free++; len(b.groups[7]) == 200 {
				bulk++
			}
			if leaves {
				_, _ = b.d.Fence("test", []Fencing{{Group: 7, Term: 2}})
				b.d.Configure([]Assignment{{Group: 7, Config: Config{Epoch: c.epoch + 1, Term: 2, Replicas: names(a)}}})
			}
		}
		c.link(a, b)
		c.deliver()
		c.tick(5)
		if free == 0 || bulk == 0 {
			t.Errorf("the lock was never free while the disk worked")
		}
		if !leaves {
			c.same(7, a, b)
			continue
		}
		if n := len(b.groups[7]); n != 0 {
			t.Errorf("%d keys of a group that it was told to give up meanwhile", n)
		}
		if i := slices.IndexFunc(b.j.records, func(r journal.Record) bool { return r.Kind == journal.SyncEnd && r.Seq > 0 }); i >= 0 {
			t.Error("the journal says that the content is whole")
		}
	}
}
