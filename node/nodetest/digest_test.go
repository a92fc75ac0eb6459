package nodetest

import (
	"fmt"
	"strings"
	"testing"

	"hypercache/node/command/golden/oracle"
)

// TestTheDigestOfTheKeyspaceIsRedis: with DEBUG DIGEST somebody who moves data sees that it is the same.
func TestTheDigestOfTheKeyspaceIsRedis(t *testing.T) {
	srv := oracle.Serve(t, t.TempDir(), "--enable-debug-command", "yes")
	servers := []*oracle.Conn{srv.Client(t)}
	for _, n := range Start(t, 3, nil).Nodes() {
		nc, err := n.Dial()
		if err != nil {
			t.Fatal(err)
		}
		servers = append(servers, oracle.NewConn(nc))
	}
	same := func(what string) string {
		t.Helper()
		want := string(say(t, servers[0], "DEBUG", "DIGEST"))
		for i, c := range servers[1:] {
			if got := string(say(t, c, "debug", "digest")); got != want {
				t.Errorf("%s: node %d says %q, redis-server %q", what, i, got, want)
			}
		}
		return want
	}
	if d := same("no keys"); strings.Trim(d, "+0\r\n") != "" {
		t.Errorf("no keys: %q", d)
	}
	both := func(line string, args ...any) {
		t.Helper()
		words := strings.Fields(fmt.Sprintf(line, args...))
		say(t, servers[0], words...)
		say(t, servers[1], words...)
	}
	for i := range 300 {
		both("SET s%d %d", i, i*i)
		both("RPUSH l%d a b %d", i, i)
		both("HSET h%d f %d g x", i, i)
		both("SADD m%d 1 2 %d", i, i)
		both("ZADD z%d 1.5 a %d b", i, i)
		both("XADD x%d 1-%d f v", i, i+1)
	}
	full := same("300 keys of each type")
	both("PEXPIRE s7 100000000")
	if expiring := same("one expires"); expiring == full {
		t.Error("an expiry changes nothing")
	}
	both("PERSIST s7")
	if same("none expires any more") != full {
		t.Error("the digest is another for the same keys")
	}
	both("ZINCRBY z299 1 a")
	if same("another score") == full {
		t.Error("a score changes nothing")
	}
}
