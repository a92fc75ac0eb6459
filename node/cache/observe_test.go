package cache

import (
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestMonitorsSeeTheCommandsOfOthers(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	m, k := c.client(c.nodes[0]), c.client(c.nodes[0])
	m.want("MONITOR", "OK")
	k.want(`SET a"\ `+"\x01é", "OK")
	k.want("CLIENT UNPAUSE", "OK")
	k.want("CONFIG", "ERR wrong number of arguments for 'config' command")
	k.want("get A", "nil")
	got := strings.Join(m.receive(2), "\n")
	want := regexp.MustCompile(`^\d{10}\.\d{6} \[0 \] "SET" "a\\"\\\\" "\\x01\\xc3\\xa9"` + "\n" + `\d{10}\.\d{6} \[0 \] "get" "A"$`)
	if !want.MatchString(got) {
		t.Errorf("%s", got)
	}
	k.want("MULTI", "OK")
	k.want("SET A 1", "QUEUED")
	k.want("EXEC", "[OK]")
	k.want("EVAL return 0", "nil")
	got = regexp.MustCompile(`(?m)^\S+ \S+ \S+ `).ReplaceAllString(strings.Join(m.receive(4), "\n"), "")
	if got != "\"MULTI\"\n\"SET\" \"A\" \"1\"\n\"EXEC\"\n\"EVAL\" \"return\" \"0\"" {
		t.Errorf("%s", got)
	}
	m.want("GET a", "ERR Replica can't interact with the keyspace")
	m.want("RESET", "RESET")
	k.want("GET A", "1")
	m.silent("after RESET")
}

func TestClientReplySaysWhichRepliesAreWanted(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k, far := c.client(c.nodes[0]), key(1, 0)
	k.send("CLIENT REPLY SKIP", "SET "+far+" 1", "ECHO one")
	if got := k.receive(1)[0]; got != "one" {
		t.Error("SKIP:", got)
	}
	k.send("CLIENT REPLY OFF", "GET "+far, "NOSUCH", "CLIENT REPLY SKIP", "SET "+far+" 2", "CLIENT REPLY ON", "GET "+far)
	if got := strings.Join(k.receive(2), " "); got != "OK 2" {
		t.Error("OFF:", got)
	}
	k.send("CLIENT REPLY OFF", "MULTI", "SET "+far+" 3", "NOSUCH", "DISCARD", "SUBSCRIBE ch", "CLIENT REPLY SKIP", "UNSUBSCRIBE ch",
		"CLIENT REPLY ON")
	if got := strings.Join(k.receive(3), " "); got != "[subscribe ch 1] [unsubscribe ch 0] OK" {
		t.Error("OFF in a transaction, and with subscriptions:", got)
	}
	k.silent("at the end")
}

func TestAPauseHoldsBackCommandsOnKeys(t *testing.T) {
	c := start(t, 2, setup{})
	c.alone()
	k, other := c.client(c.nodes[0]), c.client(c.nodes[0])
	k.want("SET a 1", "OK")
	other.want("CLIENT PAUSE 50000 WRITE", "OK")
	k.want("GET a", "1")
	k.send("SET a 2", "MSET b 1 c 1", "GET a", "PING")
	other.want("GET a", "1")
	k.silent("during the pause")
	other.want("CLIENT UNPAUSE", "OK")
	if got := strings.Join(k.receive(4), " "); got != "OK OK 2 PONG" {
		t.Error(got)
	}
	other.want("CLIENT PAUSE 30", "OK")
	began := time.Now()
	k.want("GET a", "2")
	if time.Since(began) < 25*time.Millisecond {
		t.Error("a read was not held back")
	}
}

func TestWaitCountsTheReplicasThatHaveTheLastWrite(t *testing.T) {
	c := start(t, 3, setup{})
	c.led(c.nodes[0])
	k := c.client(c.nodes[0])
	k.want("WAIT 1 10", "0") // nothing was written, and the test promises nothing
	eventually(t, "a primary", func() bool { return k.do("SET a 1") == "OK" })
	k.want("WAIT 2 30000", "2")
	k.want("WAIT 3 1", "2")
	k.want("WAIT x 1", "ERR value is not an integer or out of range")
	k.want("WAIT 1 -1", "ERR timeout is negative")
}

// TestAClientThatWaitsForReplicasIsBlocked like one that waits for keys: CLIENT UNBLOCK ends it, nothing of its connection runs
// behind it, and its own end leaves nothing.
func TestAClientThatWaitsForReplicasIsBlocked(t *testing.T) {
	c := start(t, 1, setup{})
	c.alone()
	x := c.nodes[0]
	k, other := c.client(x), c.client(x)
	k.want("SET a 1", "OK")
	for withError, want := range map[bool]string{false: "0", true: errUnblocked} {
		k.send("WAIT 1 0", "SET a 2")
		if other.want("GET a", "1"); !ClientOf(k.s).Blocked() || x.Blocked() != 1 {
			t.Error("it does not count as blocked")
		}
		if !x.Unblock(k.s.ID(), withError) || x.Unblock(k.s.ID(), withError) {
			t.Error("it was not unblocked once")
		}
		if got := k.receive(2); got[0] != want || got[1] != "OK" || ClientOf(k.s).Blocked() {
			t.Errorf("%q, want %s and OK", got, want)
		}
		k.want("SET a 1", "OK")
	}
	k.send("WAIT 1 1")
	if got := k.receive(1)[0]; got != "0" || x.Blocked() != 0 {
		t.Errorf("%s after its time, %d are blocked", got, x.Blocked())
	}
	k.send("WAIT 1 0")
	k.s.Close()
	x.waitsMu.Lock()
	defer x.waitsMu.Unlock()
	if len(x.waits) != 0 || x.Blocked() != 0 {
		t.Errorf("%d waits are left of a client that went", len(x.waits))
	}
}
