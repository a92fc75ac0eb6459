package cache

import (
	"fmt"
	"strings"
	"testing"

	"hypercache/node/peer"
)

func TestMessagesReachSubscribersOnEveryNode(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	var subs []*client
	for i, x := range c.nodes {
		k := c.client(x)
		if i == 2 {
			k.s.SetProto(3)
		}
		k.want("SUBSCRIBE news", "[subscribe news 1]")
		k.want("PSUBSCRIBE n?ws", "[psubscribe n?ws 2]")
		subs = append(subs, k)
	}
	for i, x := range c.nodes {
		p := c.client(x)
		p.want(fmt.Sprintf("PUBLISH news %d", i), "2")
		for n, k := range subs {
			got := strings.Join(k.receive(2), " ")
			if want := fmt.Sprintf("[message news %d] [pmessage n?ws news %[1]d]", i); got != want {
				t.Errorf("on node %d: %s, want %s", n, got, want)
			}
		}
		p.want("PUBSUB NUMSUB news other", "[news 1 other 0]")
		p.want("PUBSUB NUMPAT", "1")
		p.want("PUBSUB CHANNELS n*", "[news]")
	}
	subs[0].want("UNSUBSCRIBE", "[unsubscribe news 1]")
	subs[0].want("PUNSUBSCRIBE", "[punsubscribe n?ws 0]")
	c.client(c.nodes[1]).want("PUBLISH news last", "2")
	subs[0].silent("after its subscriptions ended")
}

func TestShardMessagesGoOnlyWhereTheyAreWanted(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	channel := key(2, 0) // of a group whose primary is c
	k := c.client(c.nodes[0])
	k.want("SSUBSCRIBE "+channel, "[ssubscribe "+channel+" 1]")
	// The confirmation says that every node knows: no message is lost from now on.
	for i, x := range c.nodes {
		want := "0"
		if i == 0 {
			want = "1"
		}
		c.client(x).want("SPUBLISH "+channel+" m", want)
		if got := k.receive(1)[0]; got != "[smessage "+channel+" m]" {
			t.Errorf("published on %s: %s", x.id, got)
		}
	}
	before := c.nodes[2].Bus().Received.Load()
	c.client(c.nodes[1]).want("SPUBLISH "+channel+" m", "0")
	k.receive(1)
	if c.nodes[2].Bus().Received.Load() != before {
		t.Error("a node without subscribers was told")
	}
	c.client(c.nodes[1]).want("PUBLISH "+channel+" m", "0") // another name space
	k.want("SSUBSCRIBE a b", crossSlot)
	k.want("SUNSUBSCRIBE", "[sunsubscribe "+channel+" 0]")
	k.silent("after the end")
}

func TestASubscriberInRESP2MayDoLittle(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	k := c.client(c.nodes[0])
	k.want("SUBSCRIBE a", "[subscribe a 1]")
	k.want("GET a", "ERR Can't execute 'get': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	k.want("CLIENT ID", "ERR Can't execute 'client|id': only (P|S)SUBSCRIBE / (P|S)UNSUBSCRIBE / PING / QUIT / RESET are allowed in this context")
	k.want("PING", "[pong ]")
	k.want("PING x", "[pong x]")
	k.want("RESET", "RESET")
	k.want("GET a", "nil")
	k.want("PUBSUB CHANNELS", "[]")
	k.s.SetProto(3)
	k.want("SUBSCRIBE a", "[subscribe a 1]")
	k.want("GET a", "nil")
	k.send("PUBLISH a m")
	if got := k.receive(2); got[0] != "[message a m]" || got[1] != "1" {
		t.Errorf("its own message: %q", got)
	}
	k.s.Close()
	c.client(c.nodes[0]).want("PUBSUB CHANNELS", "[]")
}

func TestAMessageComesBehindTheRepliesBeforeIt(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k, far := c.client(c.nodes[0]), key(1, 0)
	k.s.SetProto(3)
	k.want("SUBSCRIBE a", "[subscribe a 1]")
	for i := range 200 {
		k.send(fmt.Sprintf("SET %s %d", far, i), "GET "+far)
		c.client(c.nodes[i%2]).send("PUBLISH a m")
		k.send("ECHO end")
		got := strings.Join(k.receive(4), " ")
		value := fmt.Sprintf("OK %d", i)
		if !strings.Contains(got, value) || !strings.Contains(got, "[message a m]") || !strings.Contains(got, "end") || strings.Index(got, value) != 0 {
			// The message may come before or behind "end", but never inside or ahead of what had begun.
			t.Fatalf("%q", got)
		}
	}
}

func TestWhatAnUnreachableNodeMissesIsCounted(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	k := c.client(b)
	k.want("SUBSCRIBE a", "[subscribe a 1]")
	a.net.SetPeers(map[string]string{a.id: a.addr})
	eventually(t, "the stream ends", func() bool { return !a.Bus().Connected("b") && a.net.Stream("b", peer.Bus) == nil })
	dropped := a.Bus().Dropped.Load()
	c.client(a).want("PUBLISH a lost", "0")
	if a.Bus().Dropped.Load() != dropped+1 {
		t.Error("the loss was not counted")
	}
	a.net.SetPeers(map[string]string{a.id: a.addr, b.id: b.addr})
	eventually(t, "the stream is back", func() bool { return a.Bus().Connected("b") })
	c.client(a).want("PUBLISH a found", "0")
	if got := k.receive(1)[0]; got != "[message a found]" {
		t.Error(got)
	}
}

// What a transaction says to others must be true: nothing of one that was called off, and nothing before its writes are there.
func TestMessagesOfATransactionFollowItsWrites(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	sub, other, k := c.client(c.nodes[0]), c.client(c.nodes[1]), c.client(c.nodes[1])
	sub.want("SUBSCRIBE news", "[subscribe news 1]")
	name := key(2, 0)
	k.want("WATCH "+name, "OK")
	other.want("SET "+name+" 1", "OK")
	k.want("MULTI", "OK")
	k.want("PUBLISH news never", "QUEUED")
	k.want("SET "+name+" 2", "QUEUED")
	k.want("EXEC", "nil")
	sub.silent("after a transaction that did not run")
	k.want("MULTI", "OK")
	k.want("PUBLISH news first", "QUEUED")
	k.want("SET "+name+" 3", "QUEUED")
	k.want("PUBLISH news second", "QUEUED")
	k.want("EXEC", "[0 OK 0]")
	if got := strings.Join(sub.receive(2), " "); got != "[message news first] [message news second]" {
		t.Error(got)
	}
	k.want("MULTI", "OK")
	k.want("PUBLISH news alone", "QUEUED")
	k.want("EXEC", "[0]")
	if got := sub.receive(1)[0]; got != "[message news alone]" {
		t.Error(got)
	}
}
