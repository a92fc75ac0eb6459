package cache

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"hypercache/node/command"
	"hypercache/node/ring"
)

// copied asks until the node's copy answers.
func copied(t *testing.T, k *client, x *node, cmd, want string) {
	t.Helper()
	eventually(t, "an answer from the copy", func() bool {
		before := x.Stats.ReadsStale.Load()
		got := k.do(cmd)
		if x.Stats.ReadsStale.Load() == before {
			return false
		}
		if got != want {
			t.Fatalf("%s: %s from the copy, want %s", cmd, got, want)
		}
		return true
	})
}

func TestReadonlyConnectionsAreAnsweredFromTheCopy(t *testing.T) {
	for _, quorum := range []bool{false, true} {
		c := start(t, 3, setup{stale: 5 * time.Second, quorum: quorum})
		c.led(c.nodes[0])
		b := c.nodes[1]
		k := c.client(b)
		k.want("SET k v", "OK")
		k.want("LPUSH l 1", "1")
		k.want("MSET x 1 y 2 z 3", "OK")
		k.want("READONLY", "OK")
		copied(t, k, b, "GET k", "v")
		copied(t, k, b, "EXISTS k nothing", "1")
		copied(t, k, b, "MGET x y z nothing", "[1 2 3 nil]")
		copied(t, k, b, "LRANGE l 0 -1", "[1]")
		if got := k.do("GET l"); !strings.HasPrefix(got, "WRONGTYPE") {
			t.Errorf("GET of a list: %s", got)
		}
		there := func(key string) string { return fmt.Sprintf("MOVED %d 10.0.0.1:a", ring.Slot([]byte(key))) }
		for _, cmd := range []string{"SET k w", "GETDEL k", "BLPOP k 1", "EVAL_RO return{1} 1 k", "EXPIRE k 5"} {
			k.want(cmd, there("k"))
		}
		k.want("MULTI", "OK")
		k.want("GET k", "QUEUED")
		k.want("EXEC", there("k"))
		k.want("READWRITE", "OK")
		before := b.Stats.ReadsStale.Load()
		k.want("SET k w", "OK")
		k.want("GET k", "w")
		k.want("MGET k x", "[w 1]")
		if b.Stats.ReadsStale.Load() != before {
			t.Error("answered from the copy after READWRITE")
		}
	}
}

func TestWithoutABoundOnAgeNoCopyAnswers(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[0])
	k := c.client(c.nodes[1])
	k.want("SET k v", "OK")
	k.want("READONLY", "OK")
	for range 3 {
		k.want("GET k", fmt.Sprintf("MOVED %d 10.0.0.1:a", ring.Slot([]byte("k"))))
	}
}

func TestACutOffCopyAnswersUntilItsBoundAndHidesWhatExpired(t *testing.T) {
	const bound = 1500 * time.Millisecond
	c := start(t, 3, setup{stale: bound})
	c.led(c.nodes[0])
	b := c.nodes[1]
	k := c.client(b)
	k.want("SET k v", "OK")
	k.want("SET {k}short v PX 500", "OK")
	k.want("READONLY", "OK")
	copied(t, k, b, "GET {k}short", "v")
	_ = c.nodes[0].net.Close()
	cut := time.Now()
	eventually(t, "the key expired", func() bool { return k.do("GET {k}short") == "nil" })
	slot := ring.Slot([]byte("k"))
	p := &b.parts[ring.GroupOf(slot)]
	p.group.Lock()
	if n := p.shard.SlotLen(slot); n != 2 {
		t.Errorf("%d keys in the slot: the copy deletes what expired by itself", n)
	}
	p.group.Unlock()
	if got := k.do("GET k"); got != "v" {
		t.Errorf("cut off for %v: %s", time.Since(cut), got)
	}
	eventually(t, "refused", func() bool {
		asked := time.Now()
		got := k.do("GET k")
		if got == "v" && asked.Sub(cut) > bound {
			t.Fatalf("answered %v after it was cut off", asked.Sub(cut))
		}
		return strings.HasPrefix(got, "MOVED")
	})
	k.want("READWRITE", "OK")
	k.send("GET k")
	k.silent("without a primary")
}

// What the driver makes of that, its own tests show.
func TestACopyKnowsTheNewestRecordOfEachSlot(t *testing.T) {
	c := start(t, 2, setup{stale: 5 * time.Second})
	c.led(c.nodes[0])
	b := c.nodes[1]
	k := c.client(b)
	k.want("SET k v", "OK")
	k.want("READONLY", "OK")
	copied(t, k, b, "GET k", "v")
	slot := ring.Slot([]byte("k"))
	p := &b.parts[ring.GroupOf(slot)]
	p.group.Lock()
	defer p.group.Unlock()
	x := command.Effects{}
	x.Strings("SET", "k", "w")
	seq := p.group.Head().Seq
	p.slotSeq[slot%uint16(len(p.slotSeq))], p.blur = 0, 0
	if err := b.Apply(p.group.ID, x.Buf); err != nil || p.slotSeq[slot%uint16(len(p.slotSeq))] != seq || p.blur != 0 {
		t.Errorf("slot %d, group %d, want %d and 0: %v", p.slotSeq[slot%uint16(len(p.slotSeq))], p.blur, seq, err)
	}
	b.copiesRead.Store(false)
	if err := b.Apply(p.group.ID, x.Buf); err != nil || p.blur != seq {
		t.Errorf("nobody reads, and the group is marked with %d, want %d: %v", p.blur, seq, err)
	}
}

func TestQuorumReads(t *testing.T) {
	c := start(t, 3, setup{quorum: true})
	c.led(c.nodes[0])
	for i, x := range c.nodes {
		k := c.client(x)
		key := fmt.Sprint("k", i)
		k.send("SET "+key+" 1", "GET "+key, "INCR "+key, "GET "+key, "MGET "+key+" nothing", "SETNX "+key+" 1", "GET "+key)
		if got, want := fmt.Sprint(k.receive(7)), "[OK 1 2 2 [2 nil] 0 2]"; got != want {
			t.Errorf("through %s: %s, want %s", x.id, got, want)
		}
		k.send("MULTI", "GET "+key, "EXEC", "EVAL return{redis.call('GET',KEYS[1])} 1 "+key)
		if got := k.receive(4); fmt.Sprint(got[2:]) != "[[2] [2]]" {
			t.Errorf("a transaction and a script through %s: %v", x.id, got)
		}
	}
	a := c.nodes[0]
	eventually(t, "reads are counted", func() bool { return a.Stats.ReadsQuorum.Load() >= 9 }) // scripts and EXEC not
	if n := a.Stats.ReadsLease.Load(); n > 0 {
		t.Errorf("%d reads by a lease", n)
	}
}

func TestASingleReadCanAskForAMajority(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[0])
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	for i, x := range c.nodes {
		raw, err := x.DoAt(ctx, LevelQuorum, []byte("GET"), []byte("k"))
		if err != nil || string(raw) != "$-1\r\n" {
			t.Errorf("through %s: %q %v", x.id, raw, err)
		}
		// Counted at the end of a batch, when its answers may be there already.
		eventually(t, "a read by quorum is counted", func() bool { return c.nodes[0].Stats.ReadsQuorum.Load() == uint64(i)+1 })
	}
}

func TestQuorumReadsOfACutOffPrimaryAreNotAnswered(t *testing.T) {
	c := start(t, 2, setup{quorum: true, wait: 500 * time.Millisecond})
	a, b := c.nodes[0], c.nodes[1]
	c.assign(func(int) string { return "a" }, func(int) []string { return []string{"a", "b", "c"} })
	k := c.client(a)
	k.want("SET k v", "OK")
	k.want("GET k", "v")
	_ = b.net.Close()
	k.send("GET k", "PING")
	k.silent("without a majority")
	if got := k.receive(2); !strings.HasPrefix(got[0], "TRYAGAIN") || got[1] != "PONG" {
		t.Errorf("after the deadline: %q", got)
	}
}

func TestQuorumReadsOfADeposedPrimaryEndAtOnce(t *testing.T) {
	const wait = 20 * time.Second
	c := start(t, 2, setup{quorum: true, wait: wait})
	a, b := c.nodes[0], c.nodes[1]
	c.assign(func(int) string { return "a" }, func(int) []string { return []string{"a", "b", "c"} })
	k := c.client(a)
	k.want("SET k v", "OK")
	k.want("GET k", "v")
	_ = b.net.Close()
	asked := time.Now()
	k.send("GET k")
	k.silent("without a majority")
	c.term++
	c.fence() // another is elected: a steps down
	a.FlushReplies()
	if got := k.receive(1); !strings.HasPrefix(got[0], "TRYAGAIN") || time.Since(asked) > wait/2 {
		t.Errorf("deposed: %q after %v", got, time.Since(asked))
	}
}
