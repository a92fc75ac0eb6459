package replica

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/journal"
)

func TestWritesAreCommittedByAMajority(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b, x := c.nodes[0], c.nodes[1], c.nodes[2]
	c.lead(a, 1, c.nodes, 3)
	if !a.serving(3) || b.serving(3) {
		t.Fatal("a is to serve, b not")
	}
	c.cut(a, x)
	seq := a.write(3, "k=v")
	if !a.held(3, seq) {
		t.Error("a write is not held")
	}
	if len(c.links[[2]string{"a", "b"}].there.sent) != 0 {
		t.Error("left before the end of the batch")
	}
	if err := a.end(); err != nil {
		t.Fatal(err)
	}
	if !a.held(3, seq) {
		t.Error("settled by one copy")
	}
	c.deliver()
	if a.held(3, seq) || a.settled[3] < seq {
		t.Errorf("not settled by two copies of three: %d of %d", a.settled[3], seq)
	}
	c.same(3, a, b)
	if x.groups[3] != nil {
		t.Error("x got it without a stream")
	}
}

func TestAcknowledgementLevels(t *testing.T) {
	one := drivers(t, 3, Options{Acks: AcksOne})
	one.lead(one.nodes[0], 1, one.nodes, 0)
	if seq := one.nodes[0].write(0, "k=v"); one.nodes[0].held(0, seq) {
		t.Error("one: held")
	}
	all := drivers(t, 3, Options{Acks: AcksAll})
	a, b, x := all.nodes[0], all.nodes[1], all.nodes[2]
	all.lead(a, 1, all.nodes, 0)
	all.cut(a, x)
	seq := a.write(0, "k=v")
	_ = a.end()
	all.deliver()
	if !a.held(0, seq) || a.settled[0] >= seq {
		t.Error("all: settled without x")
	}
	all.link(a, x)
	all.deliver()
	if a.held(0, seq) || a.settled[0] < seq {
		t.Error("all: held although all have it")
	}
	all.same(0, a, b, x)
}

func TestFollowerCatchesUpFromTheTail(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes, 7)
	c.cut(a, b)
	for i := range 100 {
		a.write(7, fmt.Sprintf("k%d=%d", i, i))
	}
	_ = a.end()
	c.deliver()
	c.link(a, b)
	l := c.links[[2]string{"a", "b"}]
	c.deliver()
	c.same(7, a, b)
	if l.there.paced != 0 {
		t.Error("a snapshot was sent although the tail had everything")
	}
}

func TestFollowerBehindTheTailGetsASnapshot(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes, 7)
	a.write(7, "first=1")
	_ = a.end()
	c.deliver()
	c.cut(a, b)
	for i := range 64 {
		a.write(7, fmt.Sprintf("k%d=%s", i, strings.Repeat("x", tailBytes/16)))
		_ = a.end()
	}
	if g := a.d.Group(7); len(g.tail.buf) > 2*tailBytes || g.tail.first == 1 {
		t.Fatalf("the tail keeps %d bytes from %d on", len(g.tail.buf), g.tail.first)
	}
	b.groups[7]["stale"] = "1"
	c.deliver()
	c.link(a, b)
	l := c.links[[2]string{"a", "b"}]
	c.deliver()
	c.same(7, a, b)
	if l.there.paced == 0 {
		t.Error("no snapshot")
	}
	// Behind it the follower goes on with records.
	seq := a.write(7, "last=1")
	_ = a.end()
	c.deliver()
	c.same(7, a, b)
	if a.held(7, seq) {
		t.Error("held")
	}
	kinds := map[journal.Kind]int{}
	for _, r := range b.j.records {
		kinds[r.Kind]++
	}
	if kinds[journal.SyncBegin] != 1 || kinds[journal.SyncEnd] != 1 {
		t.Errorf("the journal's marks: %v", kinds)
	}
}

func TestDivergedFollowerGetsASnapshotAndItsRepliesFail(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b, x := c.nodes[0], c.nodes[1], c.nodes[2]
	c.lead(a, 1, c.nodes, 9)
	for _, n := range []*node{b, x} {
		c.cut(a, n)
	}
	lostSeq := a.write(9, "onlyhere=1")
	_ = a.end()
	// The others go on without it.
	c.lead(b, 2, []*node{b, x}, 9)
	b.write(9, "k=2")
	_ = b.end()
	c.deliver()
	before := a.lost[9]
	if !a.held(9, lostSeq) {
		t.Error("a settled what nobody else has")
	}
	if out, err := a.d.Fence("test", []Fencing{{Group: 9, Term: 2}}); err != nil || !out[0].OK {
		t.Errorf("%+v %v", out, err)
	}
	if a.serving(9) {
		t.Error("a serves after its fence")
	}
	c.configure(Config{Term: 2, Primary: "b", Replicas: []string{"a", "b", "c"}}, c.nodes, 0, 9)
	c.tick(8)
	if a.lost[9] == before {
		t.Error("the reply was never failed")
	}
	c.same(9, b, a, x)
}

func TestHeldRepliesLeaveWhenTheRecordSurvives(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes, 9)
	seq := a.write(9, "k=1")
	_ = a.end()
	// The followers get it; their acknowledgements are lost with the streams.
	for _, n := range c.nodes[1:] {
		l := c.links[[2]string{"a", n.id}]
		c.carry(l.there, l.receiver)
		l.back.sent = nil
		c.cut(a, n)
	}
	if !a.held(9, seq) {
		t.Fatal("settled without an acknowledgement")
	}
	before := a.lost[9]
	c.lead(b, 2, c.nodes, 9)
	c.tick(3)
	if a.held(9, seq) || a.settled[9] < seq || a.lost[9] != before {
		t.Errorf("settled %d of %d, lost %d", a.settled[9], seq, a.lost[9]-before)
	}
}

func TestSnapshotsQueueAndSurviveALostStream(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	groups := []uint16{1, 2, 3, 4, 5, 6}
	c.lead(a, 1, c.nodes, groups...)
	c.cut(a, b)
	for _, g := range groups {
		for i := range 5 {
			a.write(g, fmt.Sprintf("k%d=%s", i, strings.Repeat("x", tailBytes)))
		}
	}
	_ = a.end()
	c.deliver()
	c.link(a, b)
	offers := func(w *wire) (n int) {
		for _, f := range slices.Concat(w.sent, w.queued) {
			if f[0] == frameOffer {
				n++
			}
		}
		return n
	}
	l := c.links[[2]string{"a", "b"}]
	c.carry(l.there, l.receiver) // probes
	c.carry(l.back, l.sender)    // a learns where b is
	a.d.Pace(&a.batch)
	_ = a.end()
	if n := offers(l.there); n != maxSnapshots {
		t.Errorf("%d snapshots at once", n)
	}
	if n := len(a.d.peers["b"].queue); n != len(groups)-maxSnapshots {
		t.Errorf("%d wait", n)
	}
	c.cut(a, b) // with those on their way and those that wait
	for _, g := range groups {
		if m := a.d.Group(g).st.peer("b").mode; m != probing {
			t.Errorf("group %d: mode %d after the stream is gone", g, m)
		}
	}
	c.link(a, b)
	c.deliver()
	c.tick(5)
	for _, g := range groups {
		c.same(g, a, b)
	}
	if out := a.d.peers["b"]; out.sending != 0 || len(out.queue) != 0 {
		t.Errorf("%d under way, %d wait", out.sending, len(out.queue))
	}
	// A stream that is replaced before the old one's end is told.
	c.cut(a, b)
	for _, g := range groups {
		for i := range 5 {
			a.write(g, fmt.Sprintf("k%d=%s", i, strings.Repeat("y", tailBytes)))
		}
	}
	_ = a.end()
	c.link(a, b)
	l = c.links[[2]string{"a", "b"}]
	c.carry(l.there, l.receiver)
	c.carry(l.back, l.sender)
	a.d.Pace(&a.batch)
	_ = a.end()
	l.there.up = false
	for range 3 { // pieces into a stream that has ended
		c.ahead += answerWait
		a.d.Pace(&a.batch)
		_ = a.end()
	}
	c.link(a, b)
	a.d.PeerDown("b", l.there) // late
	c.deliver()
	c.tick(5)
	for _, g := range groups {
		c.same(g, a, b)
	}
}

func TestStreamLossInTheMiddle(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes, 0)
	for i := range 50 {
		a.write(0, fmt.Sprintf("k%d=%d", i, i))
		_ = a.end()
		l := c.links[[2]string{"a", "b"}]
		switch i % 5 {
		case 1:
			l.there.sent = nil // lost with the stream
			c.cut(a, b)
			c.link(a, b)
		case 3:
			c.carry(l.there, l.receiver)
			l.back.sent = nil
			c.cut(a, b)
			c.link(a, b)
		}
	}
	c.deliver()
	c.tick(5)
	c.same(0, c.nodes...)
	if a.held(0, a.d.Group(0).Head().Seq) {
		t.Error("not everything is settled")
	}
}

func TestPromisesAreDurableBeforeAnyAnswer(t *testing.T) {
	c := drivers(t, 3, Options{})
	b := c.nodes[1]
	b.j.fail = journal.ErrDiskFull
	if _, err := b.d.Fence("test", []Fencing{{Group: 5, Term: 4, First: true}}); err == nil {
		t.Error("answered a fence whose promise was not written")
	}
	if b.fatal != nil {
		t.Errorf("a full disk ended the node: %v", b.fatal)
	}
	b.j.fail = nil
	// Asked again, the same term must be written before the answer, though it was promised in memory already.
	out, err := b.d.Fence("test", []Fencing{{Group: 5, Term: 4, First: true}})
	if err != nil || !out[0].OK || b.j.promises[5] != 4 {
		t.Errorf("%+v, %v, on disk %v", out, err, b.j.promises)
	}
	b.j.fail = errors.New("EIO")
	if _, err := b.d.Fence("test", []Fencing{{Group: 5, Term: 5}}); err == nil || b.fatal == nil {
		t.Error("a failed disk must end the node")
	}
}

func TestAcknowledgementsOfANewTermWaitForThePromise(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, x := c.nodes[0], c.nodes[2]
	// x is not asked in the election: it learns of the term from the first record.
	for _, n := range c.nodes[:2] {
		_, _ = n.d.Fence("test", []Fencing{{Group: 5, Term: 1, First: true}})
	}
	x.d.Configure([]Assignment{{Group: 5, Config: Config{Epoch: 1}, Holds: true}})
	c.epoch++
	c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}}, []*node{a}, 0, 5)
	a.readable(5) // asks for a confirmation, which is answered at once
	_ = a.end()
	l := c.links[[2]string{"a", "c"}]
	for _, f := range l.there.sent {
		if err := l.receiver.Frame(f[0], f[1:]); err != nil {
			t.Fatal(err)
		}
	}
	l.there.sent = nil
	if len(l.back.queued)+len(l.back.sent) != 0 {
		t.Error("an acknowledgement is in the stream before the promise is written")
	}
	l.receiver.BatchEnd()
	if x.j.promises[5] != 1 || len(l.back.sent) == 0 {
		t.Errorf("promises %v, %d answers", x.j.promises, len(l.back.sent))
	}
}

// What a full disk did not take must not count as stored when a later batch, with nothing to write, ends well.
func TestRecordsThatTheDiskRefusedAreNotStored(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b, x := c.nodes[0], c.nodes[1], c.nodes[2]
	c.lead(a, 1, c.nodes, 0)
	c.cut(a, x)
	a.j.fail, b.j.fail = journal.ErrDiskFull, journal.ErrDiskFull
	seq := a.write(0, "k=1")
	if err := a.end(); !errors.Is(err, journal.ErrDiskFull) || !a.d.DiskFull() {
		t.Errorf("%v", err)
	}
	c.deliver()
	for range 3 { // batches without records of their own
		_ = a.end()
		c.links[[2]string{"a", "b"}].receiver.BatchEnd()
		c.tick(1)
	}
	if !a.held(0, seq) || a.settled[0] >= seq {
		t.Error("a write that is on no disk was settled")
	}
	if a.fatal != nil || b.fatal != nil {
		t.Error("a full disk ended a node")
	}
	a.j.fail, b.j.fail = nil, nil
	c.tick(2)
	if a.held(0, seq) || a.d.DiskFull() {
		t.Error("there is space again, and the write is still held")
	}
}

func TestLeases(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{Lease: 800 * time.Millisecond})
		a := c.nodes[0]
		c.lead(a, 1, c.nodes, 0)
		if a.readable(0) {
			t.Error("readable before anybody confirmed")
		}
		_ = a.end()
		before := a.changed[0]
		c.deliver()
		if !a.readable(0) || a.changed[0] == before {
			t.Error("confirmed, and not readable or not told")
		}
		<-time.After(799 * time.Millisecond)
		if !a.readable(0) {
			t.Error("the lease ended early")
		}
		// The renewal that this asked for is lost. A later one recovers.
		_ = a.end()
		for _, l := range c.links {
			l.there.sent, l.back.sent = nil, nil
		}
		<-time.After(time.Millisecond)
		if a.readable(0) {
			t.Error("readable after the lease")
		}
		<-time.After(100 * time.Millisecond)
		_ = a.readable(0)
		_ = a.end()
		c.deliver()
		if !a.readable(0) {
			t.Error("a lost confirmation was never repeated")
		}
	})
}

// Answers that take longer than the pause between two questions must count all the same.
func TestSlowConfirmationsGiveALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{Lease: 800 * time.Millisecond})
		a := c.nodes[0]
		c.lead(a, 1, c.nodes, 0)
		type late struct {
			at time.Time
			f  []byte
		}
		var under []late
		ab := c.links[[2]string{"a", "b"}]
		good := false
		for range 100 {
			good = good || a.readable(0)
			_ = a.end()
			c.carry(ab.there, ab.receiver)
			for _, f := range ab.back.sent {
				under = append(under, late{time.Now().Add(300 * time.Millisecond), f})
			}
			ab.back.sent = nil
			for len(under) > 0 && !time.Now().Before(under[0].at) {
				if err := ab.sender.Frame(under[0].f[0], under[0].f[1:]); err != nil {
					t.Fatal(err)
				}
				under = under[1:]
			}
			<-time.After(10 * time.Millisecond)
		}
		if !good {
			t.Error("never readable, with answers that take 300 ms of an 800 ms lease")
		}
	})
}

func TestFenceTellsWhatIsLeftOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 0)
		a.readable(0)
		_ = a.end()
		c.deliver()
		<-time.After(200 * time.Millisecond)
		out, _ := b.d.Fence("test", []Fencing{{Group: 0, Term: 2}})
		if out[0].Lease != 300*time.Millisecond {
			t.Errorf("left of b's grant: %v", out[0].Lease)
		}
		out, _ = a.d.Fence("test", []Fencing{{Group: 0, Term: 2}})
		if out[0].Lease != 0 || a.serving(0) {
			t.Errorf("the old primary itself: %v", out[0].Lease)
		}
		c.configure(Config{Term: 2, Primary: "b", Replicas: []string{"a", "b", "c"}}, c.nodes, 300*time.Millisecond, 0)
		c.deliver()
		if b.serving(0) {
			t.Error("serves before the old lease has ended")
		}
		<-time.After(300 * time.Millisecond)
		if !b.serving(0) {
			t.Error("does not serve after it")
		}
		// A replica that restarted does not know what it granted.
		r := [256]Restored{0: {Promised: 2, Head: Position{2, 2}, Voter: true}}
		again := c.start("c", r)
		out, _ = again.d.Fence("test", []Fencing{{Group: 0, Term: 3}})
		if out[0].Lease != 500*time.Millisecond {
			t.Errorf("after a restart: %v", out[0].Lease)
		}
	})
}

// An answer that refuses a record confirms the primary's round as well: it must count as a grant.
func TestRefusalsGrantToo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := drivers(t, 3, Options{})
		a, b := c.nodes[0], c.nodes[1]
		c.lead(a, 1, c.nodes, 0)
		<-time.After(time.Minute)
		l := c.links[[2]string{"a", "b"}]
		a.write(0, "k=1")
		_ = a.end()
		l.there.sent = nil // b now has a gap
		a.readable(0)
		_ = a.end()
		c.carry(l.there, l.receiver)
		out, _ := b.d.Fence("test", []Fencing{{Group: 0, Term: 2}})
		if out[0].Lease != 500*time.Millisecond {
			t.Errorf("left: %v", out[0].Lease)
		}
	})
}

func TestRestartGoesOnFromTheJournal(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes, 4)
	for i := range 10 {
		a.write(4, fmt.Sprintf("k%d=1", i))
	}
	_ = a.end()
	c.deliver()
	c.cut(a, b)
	c.cut(b, a)
	var r [256]Restored
	last := b.j.records[len(b.j.records)-1]
	r[4] = Restored{
		Promised: b.j.promises[4], Head: Position{last.Term, last.Seq}, Starts: []TermStart{{1, 1}}, Voter: true, Incarnation: 100,
	}
	again := c.start("b", r)
	again.groups[4] = b.groups[4]
	c.nodes[1] = again
	a.write(4, "meanwhile=1")
	_ = a.end()
	c.link(a, again)
	c.link(again, a)
	c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a", "b", "c"}}, []*node{again}, 0, 4)
	c.deliver()
	c.tick(3)
	c.same(4, a, again)
	if c.links[[2]string{"a", "b"}].there.paced != 0 {
		t.Error("a snapshot for one missing record")
	}
	if st := again.d.Status(4); !st.Voter || st.Head != a.d.Group(4).Head() {
		t.Errorf("%+v", st)
	}
}

func TestDroppedGroupsAreEmptyAndKeepTheirPromise(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 2, c.nodes, 4)
	// Term 2 without First: nobody votes, but promises count.
	c.lead(a, 3, c.nodes, 4)
	a.write(4, "k=1")
	_ = a.end()
	c.deliver()
	c.epoch++
	b.d.Configure([]Assignment{{Group: 4, Config: Config{Epoch: c.epoch, Term: 3}}})
	if b.groups[4] != nil || b.lost[4] == 0 || b.changed[4] == 0 {
		t.Errorf("content %v, lost %d, changed %d", b.groups[4], b.lost[4], b.changed[4])
	}
	if out, _ := b.d.Fence("test", []Fencing{{Group: 4, Term: 2}}); out[0].OK || out[0].Promised != 3 {
		t.Errorf("forgot its promise: %+v", out[0])
	}
	n := len(b.j.records)
	if n < 3 || b.j.records[n-1].Kind != journal.SyncEnd || b.j.records[n-1].Seq != 0 {
		t.Error("the journal does not say that the group is empty")
	}
	c.configure(Config{Term: 3, Primary: "a", Replicas: []string{"a", "b", "c"}}, []*node{a, b}, 0, 4)
	c.deliver()
	c.tick(8)
	c.same(4, a, b)
}

func TestForeignEffectsLeaveAnEmptyReplicaNotAWrongOne(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes, 0)
	a.write(0, "good=1")
	_ = a.end()
	c.deliver()
	x := a.d.Group(0)
	x.Lock()
	x.Propose([]byte("foreign"), &a.batch)
	x.Unlock()
	_ = a.end()
	l := c.links[[2]string{"a", "b"}]
	var failed error
	for _, f := range l.there.sent {
		failed = errors.Join(failed, l.receiver.Frame(f[0], f[1:]))
	}
	l.there.sent = nil
	if failed == nil {
		t.Fatal("a foreign effect was taken")
	}
	delete(c.links, [2]string{"a", "c"}) // it would fail the same way
	if st := b.d.Status(0); st.Head.Seq != 0 || st.Voter || b.groups[0] != nil {
		t.Errorf("goes on with %+v, %v", st, b.groups[0])
	}
	x.Lock()
	x.tail.reset(x.Head().Seq + 1) // while the record is in the tail it would only come again
	x.st.SetFloor(x.tail.first)
	x.Unlock()
	c.cut(a, b) // as the server does
	c.link(a, b)
	c.deliver()
	c.tick(8)
	c.same(0, a, b)
}

func TestAloneNothingIsHeldAndOthersJoinLater(t *testing.T) {
	c := drivers(t, 3, Options{})
	a, b := c.nodes[0], c.nodes[1]
	c.lead(a, 1, c.nodes[:1], 0)
	x := a.d.Group(0)
	if !x.Solo() || !a.serving(0) || !a.readable(0) {
		t.Fatal("alone, it serves at once")
	}
	if seq := a.write(0, "k=1"); a.held(0, seq) {
		t.Error("held, and nobody to wait for")
	}
	// What is read must be in the journal before the answer leaves, though another batch wrote it.
	var other Batch[*wire]
	x.Lock()
	x.Readable(time.Now(), &other)
	x.Unlock()
	if !other.Pending() {
		t.Error("a read of what is not written does not wait for the journal")
	}
	c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a"}, Learner: "b"}, c.nodes[:2], 0, 0)
	c.deliver()
	c.tick(5)
	c.same(0, a, b)
	c.configure(Config{Term: 1, Primary: "a", Replicas: []string{"a"}, Next: []string{"a", "b"}}, c.nodes[:2], 0, 0)
	seq := a.write(0, "k=2")
	if !a.held(0, seq) {
		t.Error("not held while two are asked")
	}
	_ = a.end()
	c.deliver()
	if a.held(0, seq) {
		t.Error("held")
	}
	c.same(0, a, b)
}

func TestALargeRecordIsNotKeptForever(t *testing.T) {
	c := drivers(t, 3, Options{})
	a := c.nodes[0]
	c.lead(a, 1, c.nodes, 0)
	a.write(0, "k="+strings.Repeat("x", 8*tailBytes))
	_ = a.end()
	c.deliver()
	c.tick(2)
	for _, n := range c.nodes {
		if g := n.d.Group(0); cap(g.tail.buf) > 4*tailBytes {
			t.Errorf("%s keeps %d bytes", n.id, cap(g.tail.buf))
		}
	}
	a.write(0, "k=2")
	_ = a.end()
	c.deliver()
	c.same(0, c.nodes...)
}

func TestTail(t *testing.T) {
	var x tail
	x.reset(1)
	data := func(seq uint64) []byte { return bytes.Repeat([]byte{byte(seq)}, int(seq*977)%30000) }
	for seq := uint64(1); seq < 3000; seq++ {
		x.append(seq, journal.Effects, data(seq))
		if len(x.buf) > 2*tailBytes || x.next() != seq+1 {
			t.Fatalf("at %d: %d bytes, next %d", seq, len(x.buf), x.next())
		}
		for _, s := range []uint64{x.first, (x.first + seq) / 2, seq} {
			if _, got := x.record(s); !bytes.Equal(got, data(s)) {
				t.Fatalf("at %d: record %d is damaged", seq, s)
			}
		}
	}
	x.append(9000, journal.Noop, nil) // a gap: what was before is no use
	if x.first != 9000 || len(x.recs) != 1 {
		t.Errorf("after a gap from %d with %d records", x.first, len(x.recs))
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	c := drivers(t, 2, Options{})
	c.lead(c.nodes[0], 1, c.nodes, 0)
	r := c.links[[2]string{"a", "b"}].receiver
	header := func(term, prevTerm, prevSeq, last uint64, runs ...uint64) []byte {
		b := []byte{0, 0}
		for _, v := range []uint64{term, prevTerm, prevSeq, last, 0, term, last, 0, 0} {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		b = binary.LittleEndian.AppendUint16(b, uint16(len(runs)/2))
		for _, v := range runs {
			b = binary.LittleEndian.AppendUint64(b, v)
		}
		return b
	}
	record := func(kind byte) []byte { return []byte{kind, 0, 0, 0, 0} }
	for name, f := range map[string][]byte{
		"empty":                 {},
		"group":                 {0, 1, 0},
		"short":                 header(1, 1, 1, 1)[:40],
		"records missing":       header(1, 1, 1, 2, 1, 2),
		"records too many":      append(header(1, 1, 1, 1), record(byte(journal.Effects))...),
		"last before prev":      header(1, 1, 5, 4),
		"no runs":               append(header(1, 1, 1, 2), record(byte(journal.Effects))...),
		"runs of a probe":       header(1, 1, 1, 1, 1, 2),
		"run beyond":            append(header(1, 1, 1, 2, 1, 2, 2, 9), record(byte(journal.Effects))...),
		"run from the future":   append(header(1, 1, 1, 2, 7, 2), record(byte(journal.Effects))...),
		"kind of a resync":      append(header(1, 1, 1, 2, 1, 2), record(byte(journal.SyncBegin))...),
		"record cut":            append(header(1, 1, 1, 2, 1, 2), record(byte(journal.Effects))[:4]...),
		"more runs than it has": header(1, 1, 1, 1, 1, 2)[:appendHeader],
	} {
		if err := r.Frame(frameAppend, f); err == nil && name != "more runs than it has" {
			t.Errorf("%s: taken", name)
		}
	}
	for typ, f := range map[byte][]byte{frameAck: {0, 0, 1}, frameOffer: {0, 0, 1}, frameEnd: {0, 0}, 99: {0, 0}, frameAsk: {0, 0}, frameTold: {0, 0, 1}} {
		if err := r.Frame(typ, f); err == nil {
			t.Errorf("type %d: taken", typ)
		}
	}
	for name, f := range map[string][]byte{
		"cut": append(make([]byte, 8), 1), "no such group": append(make([]byte, 8), 0, 1), "without stamp": {0, 0, 0, 0},
	} {
		if err := r.Frame(frameAsk, f); err == nil {
			t.Errorf("question, %s: taken", name)
		}
	}
	future := binary.LittleEndian.AppendUint64([]byte{0, 0}, 1<<62)
	for _, f := range [][]byte{make([]byte, toldSize), append(future, make([]byte, 8)...), make([]byte, toldSize+1)} {
		if err := r.Frame(frameTold, f); err == nil {
			t.Errorf("answer % x to what was never asked: taken", f)
		}
	}
	offer := make([]byte, 2+3*8+2)
	var err error
	for i := range maxOffered + 1 {
		offer[0] = byte(i)
		err = r.Frame(frameOffer, offer)
	}
	if err == nil {
		t.Error("snapshots without end were begun")
	}
}

func FuzzReceiver(f *testing.F) {
	rec := []byte{byte(journal.Effects), 3, 0, 0, 0, 'a', '=', '1'}
	seed := []byte{0, 0}
	for _, v := range []uint64{1, 0, 0, 1, 1, 1, 1, 0, 1} {
		seed = binary.LittleEndian.AppendUint64(seed, v)
	}
	seed = append(seed, 1, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0)
	f.Add(byte(frameAppend), append(seed, rec...), byte(frameAck), make([]byte, ackSize))
	f.Add(byte(frameOffer), make([]byte, 28), byte(frameEnd), []byte{0, 0})
	f.Add(byte(frameChunk), []byte{0, 0, 'x'}, byte(frameSnapshotDone), []byte{0, 0})
	f.Add(byte(frameAsk), append(make([]byte, 8), 1, 0, 255, 0), byte(frameTold), append([]byte{0, 0, 1}, make([]byte, toldSize-3)...))
	f.Fuzz(func(t *testing.T, t1 byte, f1 []byte, t2 byte, f2 []byte) {
		c := drivers(t, 2, Options{MaxStaleness: time.Second})
		r := c.links[[2]string{"a", "b"}].receiver
		_ = r.Frame(t1, f1)
		_ = r.Frame(t2, f2)
		_ = r.Frame(frameEnd, []byte{0, 0})
		r.BatchEnd()
		c.links[[2]string{"a", "b"}].sender.BatchEnd()
	})
}
