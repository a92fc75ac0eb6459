package cache

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// tracker is a client that caches, in RESP3.
func (c *cluster) tracker(x *node, how string) *client {
	k := c.client(x)
	k.s.SetProto(3)
	k.want("CLIENT TRACKING ON"+how, "OK")
	return k
}

func TestAChangeAnywhereInvalidatesWhatAClientAnywhereRead(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	for _, x := range c.nodes {
		k := c.tracker(x, "")
		for g := range 3 {
			for _, y := range c.nodes {
				name, w := key(g, 0), c.client(y)
				w.want("SET "+name+" 1", "OK")
				k.want("GET "+name, "1")
				w.want("SET "+name+" 2", "OK")
				if got := k.receive(1)[0]; got != "[invalidate ["+name+"]]" {
					t.Fatalf("client at %s, writer at %s, group %d: %s", x.id, y.id, g, got)
				}
				w.want("SET "+name+" 3", "OK") // once is enough
				w.want("DEL "+name, "1")
				k.want("ECHO x", "x")
			}
		}
		k.want("CLIENT TRACKING OFF", "OK")
	}
}

func TestModesOfTracking(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	near, far := key(0, 0), key(1, 0)
	w := c.client(b)

	in := c.tracker(a, " OPTIN")
	in.want("GET "+far, "nil")
	in.want("CLIENT CACHING YES", "OK")
	in.want("GET "+near, "nil")
	w.want("SET "+far+" 1", "OK")
	w.want("SET "+near+" 1", "OK")
	if got := in.receive(1)[0]; got != "[invalidate ["+near+"]]" {
		t.Error("OPTIN:", got)
	}
	out := c.tracker(a, " OPTOUT")
	out.want("CLIENT CACHING NO", "OK")
	out.want("GET "+far, "1")
	out.want("GET "+near, "1")
	w.want("SET "+far+" 2", "OK")
	w.want("SET "+near+" 2", "OK")
	if got := out.receive(1)[0]; got != "[invalidate ["+near+"]]" {
		t.Error("OPTOUT:", got)
	}

	mine := c.tracker(a, " NOLOOP")
	for _, name := range []string{near, far} {
		mine.want("GET "+name, "2")
		mine.want("SET "+name+" 3", "OK")
		mine.want("GET "+name, "3")
	}
	w.want("SET "+far+" 4", "OK")
	if got := mine.receive(1)[0]; got != "[invalidate ["+far+"]]" {
		t.Error("NOLOOP:", got)
	}

	prefix := c.tracker(a, " BCAST PREFIX k1: PREFIX other")
	w.want("SET "+key(0, 2)+" 1", "OK")
	for g := range 2 {
		w.want("SET "+key(g, 1)+" 1", "OK")
		if got := prefix.receive(1)[0]; got != "[invalidate ["+key(g, 1)+"]]" {
			t.Error("BCAST:", got)
		}
	}

	target, quiet := c.client(a), c.client(a)
	target.want("SUBSCRIBE __redis__:invalidate", "[subscribe __redis__:invalidate 1]")
	quiet.want(fmt.Sprintf("CLIENT TRACKING ON REDIRECT %d", target.s.ID()), "OK")
	quiet.want("GET "+far, "4")
	w.want("SET "+far+" 5", "OK")
	if got := target.receive(1)[0]; got != "[message __redis__:invalidate ["+far+"]]" {
		t.Error("REDIRECT:", got)
	}
	quiet.want("CLIENT TRACKINGINFO", fmt.Sprintf("[flags [on] redirect %d prefixes []]", target.s.ID()))
	quiet.want("CLIENT GETREDIR", fmt.Sprint(target.s.ID()))
	quiet.silent("a redirecting client")
}

func TestEmptyingInvalidatesEverything(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k := c.tracker(c.nodes[0], "")
	k.want("GET "+key(1, 0), "nil")
	c.client(c.nodes[1]).want("FLUSHALL", "OK")
	if got := k.receive(1)[0]; got != "[invalidate nil]" {
		t.Error(got)
	}
}

func TestALostLinkInvalidatesEverything(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	k := c.tracker(a, "")
	k.want("GET "+key(1, 0), "nil")
	b.net.SetPeers(map[string]string{b.id: b.addr}) // b can't tell a any more
	if got := k.receive(1)[0]; got != "[invalidate nil]" {
		t.Fatal(got)
	}
	eventually(t, "a knows", func() bool { return !a.Bus().Hears("b") })
	k.send("GET " + key(1, 0))
	got := k.receive(2)
	if !slices.Equal(got, []string{"nil", "[invalidate [" + key(1, 0) + "]]"}) {
		t.Errorf("a key that nobody tells of: %q", got)
	}
	b.net.SetPeers(map[string]string{a.id: a.addr, b.id: b.addr})
	if got := k.receive(1)[0]; got != "[invalidate nil]" {
		t.Error("when the link is back:", got)
	}
}

func TestAGroupThatMovesInvalidatesItsKeys(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[1])
	k := c.tracker(c.nodes[0], "")
	name := key(7, 0)
	eventually(t, "a primary", func() bool { return k.do("GET "+name) == "nil" })
	c.led(c.nodes[2])
	for {
		if got := k.receive(1)[0]; got == "[invalidate ["+name+"]]" {
			break
		} else if !strings.HasPrefix(got, "[invalidate") {
			t.Fatal(got)
		}
	}
}

func TestTheTableOfReadKeysIsBounded(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	a, b := c.nodes[0], c.nodes[1]
	a.Tracker().Limit(10)
	b.Tracker().Limit(10)
	k := c.tracker(a, "")
	cached := map[string]bool{}
	var lines []string
	for i := range 100 {
		lines = append(lines, fmt.Sprint("GET k", i))
		cached[fmt.Sprint("k", i)] = true
	}
	k.send(lines...)
	for replies := 0; replies < 100; {
		if got := k.receive(1)[0]; got == "nil" {
			replies++
		} else {
			delete(cached, strings.Trim(strings.TrimPrefix(got, "[invalidate "), "[]"))
		}
	}
	for a.Tracker().Keys() > 10 || b.Tracker().Keys() > 10 || len(cached) > 10 {
		got := k.receive(1)[0]
		delete(cached, strings.Trim(strings.TrimPrefix(got, "[invalidate "), "[]"))
	}
	w := c.client(b)
	for name := range cached {
		w.send("SET " + name + " 1")
	}
	for len(cached) > 0 {
		got := k.receive(1)[0]
		delete(cached, strings.Trim(strings.TrimPrefix(got, "[invalidate "), "[]"))
	}
}

// A client that keeps what it read until it is told otherwise never has an old value once all is quiet.
func TestNoInvalidationIsMissedWhileGroupsMoveAndLinksBreak(t *testing.T) {
	c := start(t, 3, setup{})
	all := func(int) []string { return []string{"a", "b", "c"} }
	turn := 0
	move := func() {
		turn++
		c.assign(func(g int) string { return c.nodes[(g+turn)%3].id }, all)
	}
	move()
	k, w := c.tracker(c.nodes[0], ""), c.client(c.nodes[1])
	names := []string{key(0, 0), key(1, 0), key(2, 0), key(3, 0), key(4, 0), key(5, 0)}
	cache := map[string]string{}
	took := func(text string) bool {
		inner, ok := strings.CutPrefix(text, "[invalidate ")
		if !ok {
			return false
		}
		if inner == "nil]" {
			clear(cache)
		}
		delete(cache, strings.Trim(inner, "[]"))
		return true
	}
	read := func(name string) {
		for {
			k.send("GET " + name)
			for {
				got := k.receive(1)[0]
				if took(got) {
					continue
				}
				if strings.Contains(got, " ") {
					break // TRYAGAIN and the like
				}
				cache[name] = got
				return
			}
		}
	}
	last := map[string]string{}
	for i := range 300 {
		switch {
		case i%50 == 49:
			move()
		case i%70 == 69:
			x := c.nodes[1+i%2]
			x.net.SetPeers(map[string]string{})
			addrs := map[string]string{}
			for _, y := range c.nodes {
				addrs[y.id] = y.addr
			}
			x.net.SetPeers(addrs)
		}
		name, value := names[i%len(names)], fmt.Sprint(i)
		for w.do("SET "+name+" "+value) != "OK" {
		}
		last[name] = value
		read(names[(i*7)%len(names)])
	}
	eventually(t, "all links are up", func() bool {
		for _, x := range c.nodes {
			for _, y := range c.nodes {
				if x != y && !(x.Bus().Connected(y.id) && y.Bus().Hears(x.id)) {
					return false
				}
			}
		}
		return true
	})
	eventually(t, "every cached value is the last one", func() bool {
		k.take()
		for {
			text, size := parse(k.got)
			if size == 0 {
				break
			}
			k.got = k.got[size:]
			took(text)
		}
		for name, value := range cache {
			if last[name] != value {
				return false
			}
		}
		return true
	})
}
