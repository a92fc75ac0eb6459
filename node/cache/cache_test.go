package cache

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"hypercache/node/command"
	"hypercache/node/journal"
	"hypercache/node/peer"
	"hypercache/node/replica"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
)

func TestCommandsGoWhereTheirKeysAre(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k := c.client(c.nodes[0])
	var lines []string
	for i := range 200 {
		lines = append(lines, fmt.Sprintf("SET k%d %d", i, i), fmt.Sprintf("GET k%d", i), fmt.Sprintf("INCR k%d", i))
	}
	k.send(lines...)
	for i, r := range k.receive(len(lines)) {
		if want := [...]string{"OK", fmt.Sprint(i / 3), fmt.Sprint(i/3 + 1)}[i%3]; r != want {
			t.Fatalf("%s: %s", lines[i], r)
		}
	}
	if c.nodes[0].Stats.Forwarded.Load() == 0 || c.nodes[1].Stats.Received.Load() == 0 {
		t.Error("nothing was forwarded")
	}
	k.want("DBSIZE", "200")
	k.want("MSETNX a 1 b 2", crossSlot)
	k.want("MSETNX {a}1 1 {a}2 2", "1")
	k.want("RENAME a b", crossSlot)
	k.want("NOSUCH x", "ERR unknown command 'NOSUCH', with args beginning with: 'x' ")
}

func TestScatteredCommandsAreMerged(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k := c.client(c.nodes[0])
	for _, proto := range []string{"2", "3"} {
		k.s.SetProto(int(proto[0] - '0'))
		k.want("MSET a 1 b 2 c 3 d 4 e 5", "OK")
		k.want("MGET a nix b c nix d e a", "[1 nil 2 3 nil 4 5 1]")
		k.want("EXISTS a b nix a", "3")
		k.want("TOUCH a nix", "1")
		k.want("MSET a 1 b", "ERR wrong number of arguments for 'mset' command")
		k.want("DEL a b nix", "2")
		k.want("UNLINK c d e", "3")
		k.want("DBSIZE", "0")
		k.want("MGET a b", "[nil nil]")
	}
}

func TestAnErrorOfAnyPartIsTheReply(t *testing.T) {
	g := &gather{merge: command.MergeSum, parts: [][]byte{[]byte(":1\r\n"), []byte("-NO way\r\n")}}
	w := &resp.Writer{Proto: 2}
	if g.write(w); string(w.Buf) != "-NO way\r\n" {
		t.Errorf("%q", w.Buf)
	}
	// Replies that are cut or of another kind don't upset the merge.
	for _, p := range []string{"", ":", "*", "*5\r\n$3\r\nabc\r\n", "*1\r\n$9\r\nx\r\n", "*-1\r\n", "$4\r\nabcd\r\n"} {
		for _, m := range []command.Merge{command.MergeSum, command.MergeArrayByKey, command.MergeConcat, command.MergeOK} {
			g := &gather{merge: m, parts: [][]byte{[]byte(p)}, keys: [][]int{{0, 1}}}
			g.write(&resp.Writer{Proto: 3})
		}
	}
}

func TestMovedOnlyForClientsThatAsk(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k := c.client(c.nodes[0])
	far := key(1, 0)
	k.want("SET "+far+" 1", "OK")
	k.want("READONLY", "OK")
	k.want("GET "+far, fmt.Sprintf("MOVED %d 10.0.0.1:b", ring.Slot([]byte(far))))
	k.want("GET "+key(0, 0), "nil")
	k.want("READWRITE", "OK")
	k.want("GET "+far, "1")
}

func TestScanSeesEveryKeyThatStays(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k, other := c.client(c.nodes[0]), c.client(c.nodes[1])
	stay := map[string]bool{}
	for i := range 1500 {
		stay[fmt.Sprint("stay", i)] = true
		k.send(fmt.Sprintf("SET stay%d 1", i))
	}
	k.receive(1500)
	cursor, pages := "0", 0
	for {
		r := k.do("SCAN " + cursor + " COUNT 50 MATCH stay*")
		head, rest, _ := strings.Cut(strings.TrimPrefix(r, "["), " ")
		for _, key := range strings.Fields(strings.Trim(rest, "[]")) {
			delete(stay, key)
		}
		for i := range 20 { // the tables grow and shrink meanwhile
			other.send(fmt.Sprintf("SET come%d:%d 1", pages, i), fmt.Sprintf("DEL come%d:%d", pages-3, i))
		}
		other.receive(40)
		pages++
		if cursor = head; cursor == "0" {
			break
		}
	}
	if len(stay) > 0 || pages < 10 {
		t.Errorf("%d keys were not seen in %d pages", len(stay), pages)
	}
	k.want("SCAN x", "ERR invalid cursor")
	k.want("SCAN 0 COUNT x", "ERR value is not an integer or out of range")
}

func TestWholeClusterCommands(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k := c.client(c.nodes[0])
	k.want("RANDOMKEY", "nil")
	k.want("SCAN 0", "[0 []]")
	near, far := key(0, 1), key(1, 1)
	k.want("MSET "+near+" 1 "+far+" 2", "OK")
	seen := map[string]bool{}
	for range 200 {
		seen[k.do("RANDOMKEY")] = true
	}
	if !seen[near] || !seen[far] || len(seen) != 2 {
		t.Errorf("random keys: %v", seen)
	}
	keys := strings.Fields(strings.Trim(k.do("KEYS *"), "[]"))
	slices.Sort(keys)
	if want := []string{near, far}; !slices.Equal(keys, slices.Sorted(slices.Values(want))) {
		t.Errorf("KEYS: %v", keys)
	}
	k.want("FLUSHALL", "OK")
	k.want("DBSIZE", "0")
	k.want("KEYS *", "[]")
}

func TestDo(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	x := c.nodes[0]
	words := func(s string) (out [][]byte) {
		for _, w := range strings.Fields(s) {
			out = append(out, []byte(w))
		}
		return out
	}
	for _, s := range [][2]string{
		{"SET " + key(0, 0) + " near", "+OK\r\n"}, {"GET " + key(0, 0), "$4\r\nnear\r\n"},
		{"SET " + key(1, 0) + " far", "+OK\r\n"}, {"GET " + key(1, 0), "$3\r\nfar\r\n"},
		{"MGET " + key(0, 0) + " " + key(1, 0), "*2\r\n$4\r\nnear\r\n$3\r\nfar\r\n"},
		{"DBSIZE", ":2\r\n"}, {"DEL " + key(0, 0) + " " + key(1, 0), ":2\r\n"}, {"RANDOMKEY", "$-1\r\n"},
	} {
		if got, err := x.Do(t.Context(), words(s[0])...); err != nil || string(got) != s[1] {
			t.Errorf("%s: %q, %v", s[0], got, err)
		}
	}
	if _, err := x.Do(t.Context(), words("PING")...); !errors.Is(err, ErrScope) {
		t.Errorf("PING: %v", err)
	}
	for _, s := range []string{"NOSUCH", "GET", "MSETNX a 1 b 2"} {
		if _, err := x.Do(t.Context(), words(s)...); err == nil {
			t.Errorf("%s: no error", s)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	c.nodes[1].mute.Store(true)
	done := make(chan error, 1)
	go func() { _, err := x.Do(ctx, words("GET "+key(1, 0))...); done <- err }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
}

// A read of a write that is not committed waits for it; a read of another slot does not.
func TestReadsWaitForWhatTheySaw(t *testing.T) {
	c := start(t, 2, setup{acks: replica.AcksAll, wait: 400 * time.Millisecond})
	a := c.nodes[0]
	// c has a place and does not exist: it never acknowledges, a and b are the majority that confirms the primary.
	c.assign(func(int) string { return "a" }, func(int) []string { return []string{"a", "b", "c"} })
	k, other := c.client(a), c.client(a)
	k1, k2 := "{x}1", "{y}1"
	eventually(t, "a serves", func() bool { return other.do("GET "+k2) == "nil" })
	k.send("SET "+k1+" v", "GET "+k2)
	other.send("GET "+k2, "GET "+k1)
	if r := other.receive(1); r[0] != "nil" {
		t.Errorf("a read of another slot: %s", r[0])
	}
	k.silent("before all have it")
	other.silent("a read of what is not committed")
	if r := k.receive(2); !strings.HasPrefix(r[0], "NOREPLICAS") || r[1] != "nil" {
		t.Errorf("after the deadline: %q", r)
	}
	if r := other.receive(1); !strings.HasPrefix(r[0], "TRYAGAIN") {
		t.Errorf("a read after its deadline: %q", r)
	}
	if a.Waiting() != 0 {
		t.Error("replies wait for ever")
	}
}

func TestCommandsWaitForAPrimary(t *testing.T) {
	c := start(t, 1, setup{})
	k := c.client(c.nodes[0])
	k.send("SET a 1", "APPEND a 2", "MGET a b", "GET a", "PING")
	eventually(t, "they wait", func() bool { return c.nodes[0].Stats.Parked.Load() >= 5 })
	k.silent("without a primary")
	c.alone()
	if r := k.receive(5); !slices.Equal(r, []string{"OK", "2", "[12 nil]", "12", "PONG"}) {
		t.Errorf("%q", r)
	}
	eventually(t, "nothing is left in the books", func() bool {
		p := &c.nodes[0].park
		p.mu.Lock()
		defer p.mu.Unlock()
		return p.count == 0 && p.bytes == 0 && k.s.User.(*conn).parked.Load() == 0
	})
}

func TestWaitingForAPrimaryEnds(t *testing.T) {
	c := start(t, 1, setup{wait: 30 * time.Millisecond})
	k, gone := c.client(c.nodes[0]), c.client(c.nodes[0])
	gone.send("SET a 1")
	gone.s.Close()
	for _, r := range []string{k.do("SET a 1"), k.do("GET a"), k.do("MGET a b"), k.do("DBSIZE"), k.do("SCAN 0"), k.do("RANDOMKEY")} {
		if !strings.HasPrefix(r, "CLUSTERDOWN") {
			t.Errorf("%q", r)
		}
	}
	x := c.nodes[0]
	eventually(t, "nothing waits", func() bool { return !x.park.waiting() })
}

func TestParkingIsBounded(t *testing.T) {
	var p parking
	p.init()
	if !p.add(waiting{body: make([]byte, maxParkedBytes)}) || p.add(waiting{body: []byte("x")}) || p.putBack(waiting{body: []byte("x")}) {
		t.Error("bytes are not bounded")
	}
	p.remove(0, p.queues[0][0])
	for range maxParked {
		p.add(waiting{})
	}
	if p.add(waiting{}) || p.putBack(waiting{}) {
		t.Error("commands are not bounded")
	}
	var q parking
	q.close()
	if q.add(waiting{}) {
		t.Error("takes commands after its end")
	}
}

// What comes back goes in front of what its connection sent later, and behind nothing of others that it need not.
func TestWhatComesBackKeepsItsPlace(t *testing.T) {
	var p parking
	k1, k2 := &conn{cache: &Cache{}}, &conn{cache: &Cache{}}
	add := func(back bool, k *conn, n uint64) {
		w := waiting{to: origin{conn: k, n: n}}
		if back {
			p.putBack(w)
		} else {
			p.add(w)
		}
	}
	add(false, k1, 5)
	add(false, k2, 9)
	add(false, k1, 6)
	add(true, k1, 3)
	add(true, k1, 4)
	add(true, k2, 12)
	add(true, k1, 2)
	var got []uint64
	for _, w := range p.queues[0] {
		got = append(got, w.to.n)
	}
	if !slices.Equal(got, []uint64{2, 3, 4, 5, 9, 6, 12}) {
		t.Errorf("%v", got)
	}
	// A connection that waits for its earlier commands does not hold up others.
	p = parking{}
	add(false, k1, 1)
	add(false, k1, 2)
	add(false, k2, 1)
	k1.inflight.Store(1)
	v := &view{epoch: 3}
	if w := p.next(0, v, 0, false); w == nil || w.to.conn != k2 {
		t.Errorf("next: %+v", w)
	}
	p.remove(0, p.queues[0][2])
	if w := p.next(0, v, 0, false); w != nil {
		t.Errorf("overtakes what is in flight: %+v", w)
	}
	k1.inflight.Store(0)
	if w := p.next(0, v, 0, false); w == nil || w.to.n != 1 {
		t.Errorf("next: %+v", w)
	}
}

// Primaries move to and fro under a pipeline: replies come in order, every acknowledged append is there once, and in
// the order in which the connection sent them.
func TestOrderWhilePrimariesMove(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[0])
	k := c.client(c.nodes[2]) // never primary: everything is forwarded, refused, asked again
	local := c.client(c.nodes[0])
	keys := []string{"x", "y", "z"}
	n, sent := 0, map[string][]int{}
	for round := range 12 {
		for range 60 {
			key := keys[n%3]
			k.send(fmt.Sprintf("APPEND %s %d;", key, n), "ECHO "+fmt.Sprint(n))
			local.send(fmt.Sprintf("APPEND local%s %d;", key, n))
			n++
		}
		c.led(c.nodes[(round+1)%2])
	}
	replies := k.receive(2 * n)
	for i := range n {
		if replies[2*i+1] != fmt.Sprint(i) {
			t.Fatalf("reply %d: %s", i, replies[2*i+1])
		}
		if !strings.HasPrefix(replies[2*i], "NOREPLICAS") {
			sent[keys[i%3]] = append(sent[keys[i%3]], i)
		}
	}
	for i, r := range local.receive(n) {
		if !strings.HasPrefix(r, "NOREPLICAS") {
			sent["local"+keys[i%3]] = append(sent["local"+keys[i%3]], i)
		}
	}
	for key, want := range sent {
		var got []int
		for _, s := range strings.Split(strings.TrimSuffix(k.do("GET "+key), ";"), ";") {
			var v int
			_, _ = fmt.Sscan(s, &v)
			got = append(got, v)
		}
		if !slices.IsSorted(got) {
			t.Errorf("%s: out of order: %v", key, got)
		}
		at := 0
		for _, v := range want {
			for at < len(got) && got[at] < v {
				at++
			}
			if at == len(got) || got[at] != v {
				t.Fatalf("%s: acknowledged %d is missing", key, v)
			}
			at++
		}
	}
	for _, x := range []*client{k, local} {
		y := x.s.User.(*conn)
		eventually(t, "nothing is left in the books", func() bool { return y.parked.Load() == 0 && y.inflight.Load() == 0 })
	}
}

// Refusals leave in the order of the requests: one that comes behind others that wait must not be refused ahead of them.
func TestRefusalsKeepTheirOrder(t *testing.T) {
	c := start(t, 2, setup{quiet: true})
	c.alone()
	b := c.nodes[1]
	var s stream
	eventually(t, "a stream", func() bool { s = b.net.Stream("a", peer.Forward); return s != nil })
	in := b.Accept(s)
	o := op{spec: command.Lookup([]byte("GET")), args: [][]byte{[]byte("GET"), []byte(key(0, 0))}, group: 0, proto: 2}
	in.waiting[0].Add(1)
	in.refuse[0].Store(3)
	if err := in.Frame(frameRequest, appendRequest(nil, &o, 7, 2, 0)); err != nil {
		t.Fatal(err)
	}
	if b.park.count != 1 || len(b.dirty) != 0 {
		t.Errorf("%d wait, %d streams have a reply", b.park.count, len(b.dirty))
	}
	in.waiting[0].Add(-1)
	b.routeParked(earlyRound(), false)
	if b.park.count != 0 || in.waiting[0].Load() != 0 || len(b.dirty) != 1 {
		t.Errorf("after its turn: %d wait, %d streams have a reply", b.park.count, len(b.dirty))
	}
}

func TestLostStreamFailsWritesAndRepeatsReads(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	k := c.client(a)
	far := key(1, 0)
	k.want("SET "+far+" 1", "OK")
	b.mute.Store(true)
	k.send("SET "+far+" 2", "GET "+far)
	k.silent("unanswered")
	eventually(t, "b has both", func() bool { return b.swallowed.Load() == 2 })
	b.mute.Store(false)
	r := a.remote("b")
	r.mu.Lock()
	s := r.stream
	r.mu.Unlock()
	s.Close()
	if got := k.receive(2); got[0] != errUnknown || got[1] != "1" {
		t.Errorf("%q", got)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.bytes != 0 || len(r.free) != len(r.pending) {
		t.Errorf("left: %d bytes, %d of %d free", r.bytes, len(r.free), len(r.pending))
	}
}

func TestASilentNodeIsNotWaitedForOnceAnotherIsPrimary(t *testing.T) {
	var down atomic.Bool
	c := start(t, 3, setup{wait: time.Hour, down: func(node string) bool { return node == "b" && down.Load() }})
	owner := func(name string) {
		c.assign(func(int) string { return name }, func(int) []string { return []string{name} })
	}
	owner("b")
	a, b := c.nodes[0], c.nodes[1]
	k := c.client(a)
	far := key(1, 0)
	k.want("SET "+far+" 1", "OK")
	b.mute.Store(true)
	k.send("SET "+far+" 2", "GET "+far)
	eventually(t, "b has both", func() bool { return b.swallowed.Load() == 2 })
	owner("c")
	k.silent("b may answer yet")
	down.Store(true)
	if got := k.receive(2); got[0] != errUnknown || got[1] != "nil" {
		t.Errorf("%q", got)
	}
}

func TestUnansweredRequestsEnd(t *testing.T) {
	c := start(t, 2, setup{wait: 20 * time.Millisecond})
	c.alone()
	c.nodes[1].mute.Store(true)
	k := c.client(c.nodes[0])
	far := key(1, 0)
	k.send("SET "+far+" 2", "GET "+far)
	if r := k.receive(2); r[0] != errUnknown || r[1] != errNoAnswer {
		t.Errorf("%q", r)
	}
}

func TestWhatOneNodeHasForAnotherIsBounded(t *testing.T) {
	c := start(t, 2, setup{quiet: true})
	c.alone()
	c.nodes[1].mute.Store(true)
	a := c.nodes[0]
	rem, r := a.remote("b"), newRound()
	big := make([]byte, 48<<20)
	o := op{spec: command.Lookup([]byte("SET")), args: [][]byte{[]byte("SET"), []byte("k"), big}, group: 1, slot: 64, proto: 2}
	n := 0
	for n < 10 && a.forward(a.view.Load(), &o, origin{sink: make(once, 1)}, r) {
		n++
	}
	if n != 3 {
		t.Errorf("%d requests of 48 MiB are under way", n)
	}
	rem.mu.Lock()
	if rem.bytes < maxPendingBytes {
		t.Errorf("%d bytes", rem.bytes)
	}
	rem.mu.Unlock()
}

func TestOnlyPrimariesExpireAndReplicasGetTheDel(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[0])
	k := c.client(c.nodes[0])
	k.want("SET k v PX 30", "OK")
	k.want("SET stays v", "OK")
	left := func(x *node) int {
		g, s := ring.GroupOf(ring.Slot([]byte("k"))), ring.Slot([]byte("k"))
		x.parts[g].group.Lock()
		defer x.parts[g].group.Unlock()
		return x.parts[g].shard.SlotLen(s)
	}
	eventually(t, "gone everywhere", func() bool { return left(c.nodes[0])+left(c.nodes[1])+left(c.nodes[2]) == 0 })
	if n := c.nodes[0].Stats.Expired.Load(); n != 1 {
		t.Errorf("the primary expired %d", n)
	}
	if n := c.nodes[1].Stats.Expired.Load() + c.nodes[2].Stats.Expired.Load(); n != 0 {
		t.Errorf("replicas expired %d by themselves", n)
	}
	k.want("GET stays", "v")
}

func TestMemoryLimit(t *testing.T) {
	c := start(t, 1, setup{memory: 1 << 20, policy: store.NoEviction})
	c.alone()
	k := c.client(c.nodes[0])
	value := strings.Repeat("x", 8<<10)
	var last string
	for i := 0; i < 1000 && last != errOOM; i++ {
		last = k.do(fmt.Sprintf("SET k%d %s", i, value))
	}
	if last != errOOM {
		t.Fatalf("never full: %s", last)
	}
	k.want("GET nix", "nil")
	if r := k.do("DEL k0"); r != "1" {
		t.Errorf("DEL while full: %s", r)
	}
	c.nodes[0].db.SetPolicy(store.AllKeysLRU)
	for i := range 300 {
		k.want(fmt.Sprintf("SET more%d %s", i, value), "OK")
	}
	if c.nodes[0].Stats.Evicted.Load() == 0 {
		t.Error("nothing was evicted")
	}
}

// A node that is full must not refuse what another node has room for.
func TestFullNodeForwardsWrites(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k := c.client(c.nodes[0])
	k.want("SET "+key(0, 0)+" v", "OK")
	c.nodes[0].SetMaxMemory(1)
	k.want("SET "+key(0, 1)+" v", errOOM)
	k.want("SET "+key(1, 0)+" v", "OK")
}

func TestDiskFull(t *testing.T) {
	c := start(t, 1, setup{disk: true})
	c.alone()
	x := c.nodes[0]
	k := c.client(x)
	k.want("SET a 1", "OK")
	x.j.set(journal.ErrDiskFull, nil)
	lost := c.client(x)
	lost.send("SET a 2")
	if !lost.s.Done() {
		t.Error("a connection whose write is nowhere was not closed")
	}
	k.want("SET a 3", errDiskFull)
	k.want("GET a", "2")
	if k.s.Done() {
		t.Error("a reader was closed")
	}
	x.j.set(nil, nil)
	eventually(t, "writes go again", func() bool { return k.do("SET a 4") == "OK" })
}

// The write that meets the full disk was executed: whoever asked by HTTP must not hear that it was refused.
func TestTheWriteThatMeetsAFullDiskIsNotRefused(t *testing.T) {
	c := start(t, 1, setup{disk: true})
	c.alone()
	x := c.nodes[0]
	x.j.set(journal.ErrDiskFull, nil)
	do := func(args ...string) string {
		var list [][]byte
		for _, a := range args {
			list = append(list, []byte(a))
		}
		raw, err := x.Do(t.Context(), list...)
		return fmt.Sprint(string(raw), err)
	}
	if got := do("SET", "a", "1"); got != "-"+errUnknown+"\r\n<nil>" {
		t.Errorf("the write that met the full disk: %q", got)
	}
	if got := do("GET", "a"); got != "$1\r\n1\r\n<nil>" {
		t.Errorf("reading it: %q", got)
	}
	if got := do("SET", "a", "2"); got != "-"+errDiskFull+"\r\n<nil>" {
		t.Errorf("the next one: %q", got)
	}
}

// No answer leaves to another node before the journal has the write, whoever flushes the stream.
func TestForwardedWritesAreAnsweredOnceWritten(t *testing.T) {
	c := start(t, 2, setup{disk: true})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	stall := make(chan struct{})
	b.j.set(nil, stall)
	k := c.client(a)
	k.send("SET " + key(1, 0) + " v")
	eventually(t, "b has it", func() bool { return b.Stats.Received.Load() == 1 })
	g := &b.parts[1]
	eventually(t, "b ran it", func() bool {
		g.group.Lock()
		defer g.group.Unlock()
		return g.shard.Len() == 1
	})
	b.FlushReplies()
	b.dirtyMu.Lock()
	if len(b.dirty) > 0 {
		t.Error("a reply is in the stream")
	}
	b.dirtyMu.Unlock()
	k.silent("before it is written")
	b.j.set(nil, nil)
	close(stall)
	if r := k.receive(1); r[0] != "OK" {
		t.Errorf("%q", r)
	}
}

func TestStoppingAnswersWhatWaits(t *testing.T) {
	c := start(t, 1, setup{quiet: true})
	x := c.nodes[0]
	ctx, cancel := context.WithCancel(t.Context())
	k := c.client(x)
	k.send("SET a 1", "SCAN 0")
	stopped := make(chan struct{})
	go func() { x.Run(ctx); close(stopped) }()
	cancel()
	<-stopped
	for _, r := range k.receive(2) {
		if !strings.HasPrefix(r, "LOADING") {
			t.Errorf("%q", r)
		}
	}
	if r := k.do("SET a 1"); r != errBusy {
		t.Errorf("after the end: %q", r)
	}
	if x.work.start(func() {}) {
		t.Error("a goroutine was started after the end")
	}
}

func TestLargeRepliesAreRefusedNotSent(t *testing.T) {
	if replyHeader+len(errLarge) > peer.MaxBody {
		t.Error("the refusal itself is too large")
	}
}

func FuzzReadRequest(f *testing.F) {
	o := op{spec: command.Lookup([]byte("SET")), args: [][]byte{[]byte("SET"), []byte("k"), []byte("v")}, group: 1, slot: 64, proto: 3}
	f.Add(appendRequest(nil, &o, 7, 9, 0))
	f.Add([]byte{0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 255})
	f.Fuzz(func(t *testing.T, b []byte) {
		var o op
		id, gen, err := readRequest(b, &o, 1)
		if err != nil {
			return
		}
		if again := appendRequest(nil, &o, id, gen, 1); len(again) != len(b) || o.spec == nil || int(o.group) >= ring.Groups {
			t.Errorf("%q became %q", b, again)
		}
	})
}
