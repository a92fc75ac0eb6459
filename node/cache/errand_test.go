package cache

import (
	"errors"
	"strings"
	"testing"
	"time"

	"hypercache/node/journal"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// TestPopulateWritesThroughAnyNode what is not there yet.
func TestPopulateWritesThroughAnyNode(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	cl, other := c.client(c.nodes[0]), c.client(c.nodes[2])
	cl.send("SET key:7 mine", "DEBUG POPULATE 2000", "DBSIZE", "GET key:7", "DEBUG POPULATE 3 p 9", "DEBUG POPULATE 3 q 4")
	want := []string{"OK", "OK", "2000", "mine", "OK", "OK"}
	for i, got := range cl.receive(len(want)) {
		if got != want[i] {
			t.Errorf("reply %d: %s, want %s", i, got, want[i])
		}
	}
	other.want("GET key:1999", "value:1999")
	other.want("GET p:2", "value:2\x00\x00")
	other.want("GET q:2", "valu")
	other.want("DBSIZE", "2006")
	other.want("MULTI", "OK")
	other.want("DEBUG POPULATE 1", errWholeInTx)
	other.want("DISCARD", "OK")
}

// TestAnErrandKeepsNobodyWaiting but its own connection, and those who want what it has at the moment.
func TestAnErrandKeepsNobodyWaiting(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	cl, other := c.client(x), c.client(x)
	for _, command := range []string{"DEBUG POPULATE 3000", "DEBUG RELOAD", "DEBUG LOADAOF"} {
		busy := x.parts[ring.Groups/2].group
		busy.Lock()
		cl.send(command, "SET late v")
		other.want("SET "+key(0, 1)+" v", "OK") // would hang with the event loop
		cl.silent(command)
		busy.Unlock()
		if got := cl.receive(2); got[0] != "OK" || got[1] != "OK" {
			t.Errorf("%s, SET: %q", command, got)
		}
	}
}

// TestAnErrandComesBehindEarlierCommands that have no route yet, or no answer, and in front of later ones.
func TestAnErrandComesBehindEarlierCommands(t *testing.T) {
	c := start(t, 1, setup{})
	cl := c.client(c.nodes[0])
	cl.send("SET key:1 first", "DEBUG POPULATE 2", "APPEND key:1 +")
	cl.silent("without a primary")
	c.alone()
	cl.receive(3)
	cl.want("GET key:1", "first+")

	c = start(t, 2, setup{})
	c.alone()
	cl, other := c.client(c.nodes[0]), c.client(c.nodes[0])
	c.nodes[1].mute.Store(true)
	cl.send("SET " + key(1, 0) + " early")
	c.nodes[0].endRound(&c.nodes[0].loops[0])
	cl.send("DEBUG POPULATE 1 {" + key(0, 0) + "}")
	eventually(t, "node b has the SET", func() bool { return c.nodes[1].swallowed.Load() == 1 })
	for range 1000 { // a key of its own is no reason to begin
		other.want("EXISTS {"+key(0, 0)+"}:0", "0")
	}
}

// TestAPauseOfWritesHoldsPopulateBack as it does the SETs of clients.
func TestAPauseOfWritesHoldsPopulateBack(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	cl, other := c.client(x), c.client(x)
	x.Pause(time.Minute, true)
	cl.send("DEBUG POPULATE 10")
	eventually(t, "the first SETs are parked", func() bool { return x.Stats.Parked.Load() == 10 })
	other.want("DBSIZE", "0")
	x.Unpause()
	if got := cl.receive(1)[0]; got != "OK" {
		t.Error(got)
	}
	other.want("DBSIZE", "10")
}

// TestAnErrandNeedsAConnection that it may keep waiting.
func TestAnErrandNeedsAConnection(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	if raw, err := c.nodes[0].Do(t.Context(), []byte("DEBUG"), []byte("RELOAD")); !errors.Is(err, ErrScope) {
		t.Errorf("%q, %v", raw, err)
	}
}

// TestRepliesOfTwoPartsKeepTheirPlaceInATransaction with commands of the connection and of keys, whose replies are merged.
func TestRepliesOfTwoPartsKeepTheirPlaceInATransaction(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	cl := c.client(c.nodes[0])
	cl.send("HELLO 3", "MULTI", "PING", "DEBUG PROTOCOL push", "DEBUG PROTOCOL attrib", "PING", "SET k v", "EXEC")
	cl.take()
	_, exec, _ := strings.Cut(string(cl.got), strings.Repeat("+QUEUED\r\n", 5))
	want := "*5\r\n+PONG\r\n" +
		">2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n$40\r\nSome real reply following the push reply\r\n" +
		"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n" +
		"+PONG\r\n+OK\r\n"
	if exec != want {
		t.Errorf("EXEC: %q", exec)
	}
}

func TestPopulateSaysWhyAndWhereItStopped(t *testing.T) {
	refused := func(t *testing.T, cl *client, command, prefix, where string) {
		t.Helper()
		if got := cl.do(command); !strings.HasPrefix(got, prefix) || !strings.Contains(got, where) {
			t.Errorf("%s: %s; want %s … %s", command, got, prefix, where)
		}
	}
	t.Run("memory", func(t *testing.T) {
		c := start(t, 1, setup{memory: 4 << 20})
		c.alone()
		x := c.nodes[0]
		refused(t, c.client(x), "DEBUG POPULATE 100000 key 100", errOOM, "(DEBUG POPULATE stopped at \"key:")
		if held := x.held(); held > 5<<20 {
			t.Errorf("%d bytes are held, the limit is 4 MiB", held)
		}
	})
	t.Run("eviction", func(t *testing.T) {
		c := start(t, 1, setup{memory: 4 << 20, policy: store.AllKeysLRU})
		c.alone()
		c.client(c.nodes[0]).want("DEBUG POPULATE 50000 key 100", "OK")
		if held := c.nodes[0].held(); held > 5<<20 {
			t.Errorf("%d bytes are held, the limit is 4 MiB", held)
		}
	})
	t.Run("disk", func(t *testing.T) {
		c := start(t, 1, setup{disk: true})
		c.alone()
		x := c.nodes[0]
		cl := c.client(x)
		cl.want("DEBUG POPULATE 10", "OK")
		x.j.set(journal.ErrDiskFull, nil)
		// Of the first step's SETs nobody knows what became, behind them the disk is known to be full.
		refused(t, cl, "DEBUG POPULATE 20", "NOREPLICAS ", "stopped at \"key:10\", key 11 of 20)")
		refused(t, cl, "DEBUG POPULATE 20", errDiskFull, "stopped at \"key:0\", key 1 of 20)")
	})
	t.Run("primary", func(t *testing.T) {
		c := start(t, 1, setup{wait: 50 * time.Millisecond})
		cl := c.client(c.nodes[0])
		refused(t, cl, "DEBUG POPULATE 300", errNoPrimary, "stopped at \"key:0\", key 1 of 300)")
		refused(t, cl, "DEBUG RELOAD", errNoPrimary, "")
	})
	t.Run("arguments", func(t *testing.T) {
		c := start(t, 1, setup{})
		cl := c.client(c.nodes[0])
		refused(t, cl, "DEBUG POPULATE 100000001", "ERR DEBUG POPULATE makes up to 100000000 keys at a time, not 100000001", "")
		refused(t, cl, "DEBUG POPULATE 1 p 67108865", "ERR DEBUG POPULATE makes up to 67108864 bytes for each value", "")
		c.nodes[0].opt.Server.Config().Put("proto-max-bulk-len", "1048576") // cache.max_value_bytes
		refused(t, cl, "DEBUG POPULATE 1 p 1048577", "ERR DEBUG POPULATE makes up to 1048576 bytes for each value", "")
	})
}

// TestAnErrandEndsWithItsClient and with its node: the test's own end waits for the second one.
func TestAnErrandEndsWithItsClient(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	cl, stays := c.client(x), c.client(x)
	cl.send("DEBUG POPULATE 100000000")
	stays.send("DEBUG POPULATE 100000000 other")
	if n := len(x.errands); n != 2 {
		t.Fatalf("%d errands", n)
	}
	cl.s.Close()
	eventually(t, "its end", func() bool { return len(x.errands) == 1 })
}

func TestErrandsAreBounded(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	busy := x.parts[0].group
	busy.Lock()
	var all []*client
	for range maxErrands {
		cl := c.client(x)
		cl.send("DEBUG RELOAD")
		all = append(all, cl)
	}
	c.client(x).want("DEBUG RELOAD", errErrands)
	busy.Unlock()
	for _, cl := range all {
		if got := cl.receive(1)[0]; got != "OK" {
			t.Errorf("DEBUG RELOAD: %s", got)
		}
	}
	eventually(t, "room", func() bool { return len(x.errands) == 0 })
}

// TestReloadLooksAtEveryKey wherever it is, and leaves all as they are.
func TestReloadLooksAtEveryKey(t *testing.T) {
	c := start(t, 3, setup{})
	c.alone()
	cl := c.client(c.nodes[1])
	cl.want("DEBUG POPULATE 5000", "OK")
	cl.want("HSET h a 1 b 2", "2")
	cl.want("PEXPIRE h 100000000", "1")
	cl.want("XADD s 1-1 f v", "1-1")
	cl.want("XGROUP CREATE s g 0", "OK")
	digest := cl.do("DEBUG DIGEST")
	before := c.received()
	for _, command := range []string{"RELOAD", "reload nosave", "RELOAD NOFLUSH MERGE", "LOADAOF"} {
		cl.want("DEBUG "+command, "OK")
	}
	if n := c.received() - before; n < 4*ring.Groups/2 {
		t.Errorf("other nodes were asked %d times", n)
	}
	cl.want("DEBUG DIGEST", digest)
	cl.want("DEBUG RELOAD FLUSH", "ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
	cl.want("DEBUG LOADAOF 0", "ERR unknown subcommand or wrong number of arguments for 'LOADAOF'. Try DEBUG HELP.")
}

// received counts the requests that nodes got from others.
func (c *cluster) received() (n int) {
	for _, x := range c.nodes {
		n += int(x.Stats.Received.Load())
	}
	return n
}
