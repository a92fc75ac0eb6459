package cache

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/replica"
	"hypercache/node/resp"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// blocked waits until n of the node's clients wait for keys.
func (x *node) blocked(t *testing.T, n int) {
	t.Helper()
	eventually(t, fmt.Sprintf("%d clients wait", n), func() bool { return x.Blocked() == n })
}

// sleepers counts what waits at the node for keys, its own clients' and others'.
func (x *node) sleepers() (n int) {
	for i := range x.parts {
		p := &x.parts[i]
		p.group.Lock()
		n += p.sleepers.all.Len()
		p.group.Unlock()
	}
	return n
}

// block has a client of x send a command and waits until it waits.
func (c *cluster) block(x *node, line string) *client {
	c.t.Helper()
	k := c.client(x)
	n := x.Blocked()
	k.send(line)
	x.blocked(c.t, n+1)
	return k
}

func (k *client) gets(want string) {
	k.t.Helper()
	if got := k.receive(1)[0]; got != want {
		k.t.Errorf("%s, want %s", got, want)
	}
}

func TestWaitersAreServedInTheOrderOfTheirComing(t *testing.T) {
	for _, far := range []bool{false, true} {
		t.Run(fmt.Sprint("far=", far), func(t *testing.T) {
			c := start(t, 2, setup{})
			c.alone()
			at := c.nodes[0]
			if far {
				at = c.nodes[1]
			}
			l := key(0, 1)
			var all []*client
			for range 20 {
				all = append(all, c.block(at, "BLPOP "+l+" 0"))
			}
			push := c.client(c.nodes[0])
			push.want("RPUSH "+l+" 0 1 2", "3")
			for i := 3; i < 20; i++ {
				push.want(fmt.Sprint("RPUSH ", l, " ", i), "1")
			}
			for i, k := range all {
				k.gets(fmt.Sprintf("[%s %d]", l, i))
			}
			push.want("EXISTS "+l, "0")
			at.blocked(t, 0)
			if n := c.nodes[0].sleepers(); n > 0 || len(c.nodes[0].parts[0].sleepers.keys) > 0 {
				t.Errorf("%d still sleep", n)
			}
		})
	}
}

func TestAWaiterOfSeveralKeysGetsTheFirstThatHasAny(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x, push := c.nodes[0], c.client(c.nodes[0])
	push.want("RPUSH {k}b 1", "1")
	k := c.client(x)
	k.want("BLPOP {k}a {k}b 0", "[{k}b 1]")
	k = c.block(x, "BLMPOP 0 3 {k}a {k}b {k}a RIGHT COUNT 2")
	push.want("SET {k}a nolist", "OK")
	k.silent("after a string came")
	push.want("RPUSH {k}b 1 2 3", "3")
	k.gets("[{k}b [3 2]]")
	push.want("LRANGE {k}b 0 -1", "[1]")
	push.want("DEL {k}a", "1")
	k = c.block(x, "BRPOP {k}x {k}y 0")
	push.want("RENAME {k}b {k}y", "OK")
	k.gets("[{k}y 1]")
	k = c.block(x, "BRPOP {k}x {k}y 0")
	push.want("RPUSH {k}b 7", "1")
	push.want("COPY {k}b {k}x", "1")
	k.gets("[{k}x 7]")
	if len(x.parts[ring.GroupOf(ring.Slot([]byte("{k}")))].sleepers.keys) > 0 {
		t.Error("queues are left")
	}
}

func TestWhatAWaiterDoesWakesOthers(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x, push := c.nodes[0], c.client(c.nodes[0])
	// In an order of arrival against that of the chain, and a ring that would never end if it could turn twice.
	last := c.block(x, "BLPOP {k}4 0")
	third := c.block(x, "BRPOPLPUSH {k}3 {k}4 0")
	second := c.block(x, "BLMOVE {k}2 {k}3 LEFT RIGHT 0")
	first := c.block(x, "BLMOVE {k}1 {k}2 LEFT RIGHT 0")
	push.want("LPUSH {k}1 v", "1")
	first.gets("v")
	second.gets("v")
	third.gets("v")
	last.gets("[{k}4 v]")
	push.want("DBSIZE", "0")
	a, b := c.block(x, "BLMOVE {k}1 {k}2 LEFT LEFT 0"), c.block(x, "BLMOVE {k}2 {k}1 LEFT LEFT 0")
	push.want("LPUSH {k}2 v", "1")
	b.gets("v")
	a.gets("v")
	push.want("LRANGE {k}2 0 -1", "[v]")
	// A move that can't be is told so, and takes nothing.
	push.want("SET {k}s x", "OK")
	a = c.block(x, "BLMOVE {k}1 {k}s LEFT LEFT 0")
	b = c.block(x, "BLPOP {k}1 0")
	push.want("LPUSH {k}1 w", "1")
	a.gets("WRONGTYPE Operation against a key holding the wrong kind of value")
	b.gets("[{k}1 w]")
}

func TestNothingOvertakesACommandThatWaits(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	for i, l := range []string{key(0, 1), key(1, 1)} {
		k, push := c.client(c.nodes[0]), c.client(c.nodes[1])
		k.send("SET x before", "BLPOP "+l+" 0", "SET x after", "RPUSH "+l+"2 7", "BLPOP "+l+"2 0", "PING")
		if r := k.receive(1)[0]; r != "OK" {
			t.Fatal(r)
		}
		c.nodes[0].blocked(t, 1)
		push.want("GET x", "before")
		push.want("RPUSH "+l+" "+fmt.Sprint(i), "1")
		want := []string{fmt.Sprintf("[%s %d]", l, i), "OK", "1", fmt.Sprintf("[%s2 7]", l), "PONG"}
		if got := k.receive(5); !slices.Equal(got, want) {
			t.Errorf("%q", got)
		}
		push.want("GET x", "after")
	}
}

func TestAClientThatHasGoneTakesNothing(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	push := c.client(c.nodes[0])
	for _, l := range []string{key(0, 1), key(1, 1)} {
		for name, leave := range map[string]func(k *client){
			"closed": func(k *client) { k.s.Close() }, "half closed": func(k *client) { k.s.Finish(); k.gets("nil") },
		} {
			k := c.block(c.nodes[0], "BLPOP "+l+" 0")
			leave(k)
			c.nodes[0].blocked(t, 0)
			eventually(t, "the primary knows", func() bool { return c.nodes[0].sleepers()+c.nodes[1].sleepers() == 0 })
			push.want("RPUSH "+l+" 1", "1")
			if got := push.do("LPOP " + l); got != "1" {
				t.Errorf("%s: %s", name, got)
			}
		}
	}
}

func TestANodeThatHasGoneTakesNothing(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	l := key(1, 1)
	k := c.block(c.nodes[0], "BLPOP "+l+" 0")
	c.nodes[0].remote("b").stream.Close()
	k.gets(errUnknown) // it may have taken one, for all that this node knows
	eventually(t, "the primary knows", func() bool { return c.nodes[1].sleepers() == 0 })
	push := c.client(c.nodes[1])
	push.want("RPUSH "+l+" 1", "1")
	push.want("LPOP "+l, "1")
}

func TestClientUnblock(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	x := c.nodes[0]
	for _, l := range []string{key(0, 1), key(1, 1)} {
		for _, e := range []bool{true, false} {
			k := c.block(x, "BLPOP "+l+" 0")
			if !ClientOf(k.s).Blocked() {
				t.Error("the client does not show as blocked")
			}
			if x.Unblock(k.s.ID()+1000, e) || !x.Unblock(k.s.ID(), e) {
				t.Error("the wrong client was unblocked")
			}
			if k.gets(map[bool]string{true: errUnblocked, false: "nil"}[e]); x.Unblock(k.s.ID(), e) || ClientOf(k.s).Blocked() {
				t.Error("still blocked")
			}
			k.want("PING", "PONG")
		}
	}
	if n := x.sleepers() + c.nodes[1].sleepers(); n > 0 {
		t.Errorf("%d sleep", n)
	}
}

func TestWaitsFollowThePrimary(t *testing.T) {
	c := start(t, 3, setup{acks: replica.AcksQuorum})
	c.led(c.nodes[0])
	var all []*client
	var names []string
	for i := range 12 {
		l := key(i%4, 9)
		all = append(all, c.block(c.nodes[i%3], "BLPOP "+l+" 0"))
		names = append(names, l)
	}
	short := c.block(c.nodes[0], "BLPOP "+key(0, 8)+" 1")
	farShort := c.block(c.nodes[2], "BLPOP "+key(0, 8)+" 1")
	for _, next := range []*node{c.nodes[1], c.nodes[2], c.nodes[0]} {
		eventually(t, "it lacks nothing, so that it is elected", func() bool { return c.lacksNothing(next) })
		c.led(next)
		eventually(t, "the waits have moved", func() bool { return next.sleepers() >= 12 })
	}
	short.gets("nil")
	farShort.gets("nil")
	push := c.client(c.nodes[1])
	for i := range all {
		push.do("RPUSH " + names[i] + " v")
	}
	for i, k := range all {
		k.gets("[" + names[i] + " v]")
	}
	for _, x := range c.nodes {
		x.blocked(t, 0)
	}
}

func TestAWokenReplyWaitsForReplicas(t *testing.T) {
	c := start(t, 3, setup{acks: replica.AcksAll})
	c.led(c.nodes[0])
	l := key(0, 1)
	push := c.client(c.nodes[0])
	push.want("SET warm 1", "OK")
	k := c.block(c.nodes[1], "BLPOP "+l+" 0")
	near := c.block(c.nodes[0], "BLPOP "+l+" 0")
	p := &c.nodes[0].parts[0]
	// While a replica can't take the records in, nobody hears of them.
	other := &c.nodes[2].parts[0]
	other.group.Lock()
	unlock := sync.OnceFunc(other.group.Unlock)
	defer unlock()
	push.send("RPUSH " + l + " 1 2")
	eventually(t, "three replies are held", func() bool {
		p.group.Lock()
		defer p.group.Unlock()
		return len(p.waiting.list)-p.waiting.head == 3
	})
	k.silent("before the replica has it")
	near.silent("before the replica has it")
	unlock()
	k.gets("[" + l + " 1]")
	near.gets("[" + l + " 2]")
	push.gets("2")
	eventually(t, "replicas repeat it", func() bool {
		for _, x := range c.nodes {
			p := &x.parts[0]
			p.group.Lock()
			_, there := p.shard.Peek([]byte(l))
			p.group.Unlock()
			if there {
				return false
			}
		}
		return true
	})
}

func TestWaitsAreBounded(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	a := &c.nodes[0].alarms
	a.mu.Lock()
	a.count += maxSleepers
	a.mu.Unlock()
	k := c.client(c.nodes[0])
	k.want("BLPOP l 0", "TRYAGAIN Too many commands wait for keys")
	k.want("PING", "PONG")
}

func TestCommandsThatCannotWaitAnswerAtOnce(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	ctx, stop := context.WithTimeout(context.Background(), 20*time.Second)
	defer stop()
	for _, l := range []string{key(0, 1), key(1, 1)} {
		for line, want := range map[string]string{
			"BLPOP " + l + " 0": "*-1\r\n", "BLMPOP 0 1 " + l + " LEFT": "*-1\r\n", "LMPOP 1 " + l + " LEFT": "*-1\r\n",
		} {
			var args [][]byte
			for w := range strings.FieldsSeq(line) {
				args = append(args, []byte(w))
			}
			if raw, err := c.nodes[0].Do(ctx, args...); string(raw) != want || err != nil {
				t.Errorf("%s: %q, %v", line, raw, err)
			}
		}
	}
}

// lone is a node without a network, for a bubble of its own time.
func lone(ctx context.Context, all *sync.WaitGroup) *Cache {
	return loneBy(ctx, all, func(*Options) {})
}

func loneBy(ctx context.Context, all *sync.WaitGroup, change func(*Options)) *Cache {
	o := Options{Self: "a", DB: store.New(store.Options{}), Server: noServer{}}
	change(&o)
	x := New(o)
	d := replica.NewDriver[stream](replica.Options{Self: "a", Machine: x}, new([ring.Groups]replica.Restored))
	x.Attach(d)
	var list []replica.Assignment
	var fences []replica.Fencing
	var route [ring.Groups]string
	for g := range ring.Groups {
		route[g] = "a"
		fences = append(fences, replica.Fencing{Group: uint16(g), Term: 1, First: true})
		list = append(list, replica.Assignment{Group: uint16(g), Holds: true, Config: replica.Config{
			Epoch: 1, Term: 1, Primary: "a", Replicas: []string{"a"},
		}})
	}
	_, _ = d.Fence("test", fences)
	d.Configure(list)
	x.Route(1, route, nil)
	all.Go(func() { x.Run(ctx) })
	return x
}

func TestTimeEndsWaitsInTheirOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		var all sync.WaitGroup
		x := lone(ctx, &all)
		began := time.Now()
		open := func(proto int, line string) *client {
			k := &client{t: t, wake: make(chan struct{}, 1)}
			k.s = resp.NewSession(x, resp.Limits{}, resp.ConnInfo{}, func() {
				select {
				case k.wake <- struct{}{}:
				default:
				}
			})
			k.s.SetProto(proto)
			k.send(line)
			return k
		}
		forever := open(2, "BLPOP l 0")
		for _, c := range []struct {
			line string
			at   time.Duration
		}{{"BLPOP l 3", 3 * time.Second}, {"BRPOP l l2{l} 0.5", 500 * time.Millisecond}, {"BLMOVE l l RIGHT LEFT 600", 10 * time.Minute}} {
			k := open(3, c.line)
			before := time.Now()
			<-k.wake
			if took := time.Since(before); took != c.at {
				t.Errorf("%s: %v", c.line, took)
			}
			if k.take(); string(k.got) != "_\r\n" {
				t.Errorf("%s: %q", c.line, k.got)
			}
		}
		if forever.take(); len(forever.got) > 0 || time.Since(began) < 10*time.Minute {
			t.Errorf("%q after %v", forever.got, time.Since(began))
		}
		if open(2, "RPUSH l 1"); x.Blocked() != 0 {
			t.Errorf("%d wait", x.Blocked())
		}
		forever.gets("[l 1]")
		if len(x.alarms.heap) > 0 || x.alarms.count > 0 || x.alarms.bytes > 0 {
			t.Errorf("%d alarms, %d sleepers of %d bytes", len(x.alarms.heap), x.alarms.count, x.alarms.bytes)
		}
		stop()
		all.Wait()
	})
}

func TestAThousandWaitersAndAThousandElements(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[1])
	const n = 1000
	l := key(5, 1)
	var all []*client
	for i := range n {
		k := c.client(c.nodes[i%3])
		k.send("BLPOP " + l + " 0")
		all = append(all, k)
	}
	eventually(t, "all wait", func() bool { return c.nodes[1].sleepers() == n })
	pushers := []*client{c.client(c.nodes[0]), c.client(c.nodes[1]), c.client(c.nodes[2])}
	for i := range n {
		pushers[i%3].send(fmt.Sprintf("RPUSH %s %d", l, i))
	}
	seen := map[string]bool{}
	for _, k := range all {
		seen[k.receive(1)[0]] = true
	}
	if len(seen) != n {
		t.Errorf("%d different elements", len(seen))
	}
	pushers[0].receive(n/3 + 1)
	pushers[0].want("LLEN "+l, "0")
}

func TestTheDeadlinesOfForwardedCommandsDoNotEndAWait(t *testing.T) {
	c := start(t, 2, setup{wait: 50 * time.Millisecond})
	c.alone()
	l := key(1, 1)
	k := c.block(c.nodes[0], "BLPOP "+l+" 0")
	timed := c.block(c.nodes[0], "BLPOP "+l+"2 1.5") // forwarded ones are given up after the wait and a second
	timed.gets("nil")
	k.silent("after every deadline")
	c.client(c.nodes[1]).want("RPUSH "+l+" v", "1")
	k.gets("[" + l + " v]")
}

func TestWaitsEndWithoutAPrimaryToo(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	l := key(0, 1)
	stays, short, freed, gone := c.block(x, "BLPOP "+l+" 0"), c.block(x, "BLPOP "+l+" 0.3"), c.block(x, "BLPOP "+l+" 0"), c.block(x, "BLPOP "+l+" 0")
	var list []replica.Assignment
	var route [ring.Groups]string
	c.epoch++
	c.term++
	for g := range ring.Groups {
		route[g] = "z"
		list = append(list, replica.Assignment{Group: uint16(g), Holds: true, Config: replica.Config{
			Epoch: c.epoch, Term: c.term, Primary: "z", Replicas: []string{"a", "z"},
		}})
	}
	x.driver.Configure(list)
	x.Route(c.epoch, route, nil)
	if n := x.sleepers(); n > 0 {
		t.Errorf("%d still sleep", n)
	}
	gone.s.Close()
	short.gets("nil")
	if !x.Unblock(freed.s.ID(), true) {
		t.Error("not unblocked")
	}
	freed.gets(errUnblocked)
	x.blocked(t, 1)
	c.alone()
	eventually(t, "it waits again", func() bool { return x.sleepers() == 1 })
	c.client(x).want("RPUSH "+l+" 1 2", "2")
	stays.gets("[" + l + " 1]")
	c.client(x).want("LLEN "+l, "1")
}

func TestDEBUGSLEEPKeepsOnlyItsOwnClientWaiting(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	k, other := c.client(c.nodes[0]), c.client(c.nodes[0])
	began := time.Now()
	k.send("DEBUG SLEEP 0.2", "PING")
	other.want("PING", "PONG")
	other.want("SET a 1", "OK")
	if got := k.receive(2); got[0] != "OK" || got[1] != "PONG" || time.Since(began) < 195*time.Millisecond {
		t.Errorf("%q after %v", got, time.Since(began))
	}
	k.want("DEBUG SLEEP 0", "OK")
	k.want("MULTI", "OK")
	k.want("DEBUG SLEEP 100", "QUEUED")
	if got := k.do("EXEC"); !strings.Contains(got, "OK") {
		t.Errorf("in MULTI: %s", got)
	}
}

// What several keys got at once is served as in Redis: from the key that changed first, whatever the others are.
func TestACommandThatWaitsIsServedFromTheKeyThatChanged(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	k, other := c.client(c.nodes[0]), c.client(c.nodes[0])
	for i, tt := range []struct{ waits, change, want string }{
		{"BLPOP {k}1 {k}2 0", "MULTI; RPUSH {k}2 b; RPUSH {k}1 a; EXEC", "{k}2 b"},
		{"BLMPOP 0 2 {k}1 {k}2 LEFT", "MULTI; RPUSH {k}2 b; RPUSH {k}1 a; EXEC", "{k}2 b"},
		{"BZPOPMIN {k}1 {k}2 0", "MULTI; ZADD {k}2 1 b; ZADD {k}1 1 a; EXEC", "{k}2 b 1"},
		{"XREAD BLOCK 0 STREAMS {k}1 {k}2 $ $", "MULTI; XADD {k}2 1-1 b 2; XADD {k}1 1-1 a 1; EXEC", "{k}2 1-1 b 2"},
		{"XREAD BLOCK 0 STREAMS {k}1 {k}2 $ $", "SET {k}1 string; XADD {k}2 1-1 b 2", "{k}2 1-1 b 2"},
		{"XREADGROUP GROUP g c BLOCK 0 STREAMS {k}3 >", "DEL {k}3", "UNBLOCKED the stream key no longer exists"},
		{"XREADGROUP GROUP g c BLOCK 0 STREAMS {k}3 >", "SET {k}3 string", "UNBLOCKED the stream key no longer exists"},
		{"XREADGROUP GROUP g c BLOCK 0 STREAMS {k}3 >", "XGROUP DESTROY {k}3 g", "NOGROUP the consumer group this client was blocked on no longer exists"},
	} {
		for _, line := range []string{"DEL {k}1 {k}2 {k}3", "XGROUP CREATE {k}3 g $ MKSTREAM"} {
			other.do(line)
		}
		k.send(tt.waits)
		c.nodes[0].blocked(t, 1)
		for line := range strings.SplitSeq(tt.change, "; ") {
			other.do(line)
		}
		got := k.receive(1)[0]
		if words := strings.FieldsFunc(got, func(r rune) bool { return strings.ContainsRune("[]() ", r) }); !strings.HasSuffix(strings.Join(words, " "), tt.want) {
			t.Errorf("%d: %s: %s, want %s", i, tt.waits, got, tt.want)
		}
	}
}
