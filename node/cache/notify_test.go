package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"hypercache/node/command"
	"hypercache/node/store"
)

func notifying(t *testing.T, c *cluster, value string) {
	t.Helper()
	classes, err := command.ParseNotify(value)
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range c.nodes {
		x.Notify(classes)
	}
}

func TestExpiryNotifiesSubscribersOfEveryNode(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	notifying(t, c, "KEx")
	var subs []*client
	for _, x := range c.nodes {
		k := c.client(x)
		k.want("PSUBSCRIBE __key*@0__:*", "[psubscribe __key*@0__:* 1]")
		subs = append(subs, k)
	}
	for g := range 3 { // a group of each node
		name := key(g, 0)
		c.client(c.nodes[1]).want("SET "+name+" 1 PX 1", "OK")
		for _, k := range subs {
			got := k.receive(2)
			want := []string{
				"[pmessage __key*@0__:* __keyspace@0__:" + name + " expired]",
				"[pmessage __key*@0__:* __keyevent@0__:expired " + name + "]",
			}
			if !slices.Equal(got, want) {
				t.Errorf("%q, want %q", got, want)
			}
		}
	}
}

func TestOnlyNodesWithSubscribersHearOfKeys(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	notifying(t, c, "Em")
	a, far := c.client(c.nodes[0]), key(1, 0)
	other := c.client(c.nodes[0])
	other.want("SUBSCRIBE news", "[subscribe news 1]")
	a.want("GET "+far, "nil")
	if n := c.nodes[0].Bus().Received.Load(); n != 0 {
		t.Errorf("%d events came to a node where nobody wants any", n)
	}
	// Once the subscription is confirmed, no event is missed.
	for i := range 50 {
		k := c.client(c.nodes[0])
		k.want("SUBSCRIBE __keyevent@0__:keymiss", "[subscribe __keyevent@0__:keymiss 1]")
		c.client(c.nodes[1]).want("GET "+far, "nil")
		if got := k.receive(1)[0]; got != "[message __keyevent@0__:keymiss "+far+"]" {
			t.Fatalf("round %d: %s", i, got)
		}
		k.want("UNSUBSCRIBE", "[unsubscribe __keyevent@0__:keymiss 0]")
	}
}

func TestEvictionNewKeysAndMissesNotify(t *testing.T) {
	c := start(t, 1, setup{memory: 1 << 20, policy: store.AllKeysLRU})
	c.alone()
	notifying(t, c, "Een")
	k, sub := c.client(c.nodes[0]), c.client(c.nodes[0])
	sub.want("SUBSCRIBE __keyevent@0__:evicted __keyevent@0__:new", "[subscribe __keyevent@0__:evicted 1]")
	sub.receive(1)
	for i := 0; c.nodes[0].Stats.Evicted.Load() == 0; i++ {
		name := fmt.Sprint("k", i)
		k.want("SET "+name+" "+strings.Repeat("x", 10000), "OK")
		got := sub.receive(1)[0]
		for strings.Contains(got, "evicted") {
			got = sub.receive(1)[0]
		}
		if got != "[message __keyevent@0__:new "+name+"]" {
			t.Fatal(got)
		}
		if i == 0 {
			k.want("SET "+name+" again", "OK")
			sub.silent("after an overwrite")
		}
	}
}
