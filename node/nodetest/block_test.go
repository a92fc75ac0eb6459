package nodetest

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/config"
	"hypercache/node/ring"
)

// talker is a connection that speaks RESP with strings.
type talker struct {
	t    testing.TB
	conn net.Conn
	in   *bufio.Reader
}

func talk(t testing.TB, addr string) *talker {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, Patient)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return &talker{t, conn, bufio.NewReader(conn)}
}

func (k *talker) send(line string) {
	k.t.Helper()
	if _, err := io.WriteString(k.conn, line+"\r\n"); err != nil {
		k.t.Fatal(err)
	}
}

// reply reads one reply as text: nil, errors with their dash, arrays with blanks between the elements.
func (k *talker) reply() string {
	k.t.Helper()
	_ = k.conn.SetReadDeadline(time.Now().Add(Patient))
	s, err := k.read()
	if err != nil {
		k.t.Fatal(err)
	}
	return s
}

func (k *talker) read() (string, error) {
	line, err := k.in.ReadString('\n')
	if err != nil {
		return "", err
	}
	line = strings.TrimRight(line, "\r\n")
	n, _ := strconv.Atoi(line[1:])
	switch {
	case (line[0] == '$' || line[0] == '*') && n < 0:
		return "nil", nil
	case line[0] == '$':
		b := make([]byte, n+2)
		_, err := io.ReadFull(k.in, b)
		return string(b[:n]), err
	case line[0] == '*':
		var all []string
		for range n {
			e, err := k.read()
			if err != nil {
				return "", err
			}
			all = append(all, e)
		}
		return strings.Join(all, " "), nil
	case line[0] == '-':
		return line, nil
	}
	return line[1:], nil
}

func (k *talker) do(line string) string {
	k.t.Helper()
	k.send(line)
	return k.reply()
}

// awaitBlocked waits until the node counts n clients that wait.
func (n *Node) awaitBlocked(t testing.TB, want int) {
	t.Helper()
	k := talk(t, n.Config.Network.RESPAddr())
	text := fmt.Sprintf("blocked_clients:%d\r\n", want)
	var info string
	Await(t, func() bool { info = k.do("INFO clients"); return strings.Contains(info, text) },
		func() string { return fmt.Sprintf("%s: %q, not %d", n.ID, info, want) })
}

// keyLedBy is a key, one of many, whose primary is the node. A node that was last to join gets its share of the primaries
// only after the cluster is ready.
func keyLedBy(t testing.TB, by *Node, n int) string {
	t.Helper()
	var key string
	Await(t, func() bool {
		topology := by.Topology()
		for i := range 20 * ring.Groups {
			key = fmt.Sprintf("list%d:%d", n, i)
			g := int(ring.GroupOf(ring.Slot([]byte(key))))
			if topology.Groups[g].Group == g && topology.Groups[g].Primary == by.ID {
				return true
			}
		}
		return false
	}, func() string { return by.ID + " leads nothing" })
	return key
}

func TestClientsWaitThroughAnyNodeForAnyKey(t *testing.T) {
	c := Start(t, 3, nil)
	a, b, owner := c.Nodes()[0], c.Nodes()[1], c.Nodes()[2]
	l := keyLedBy(t, owner, 1)
	k, push := talk(t, a.Config.Network.RESPAddr()), talk(t, b.Config.Network.RESPAddr())
	id := k.do("CLIENT ID")
	k.send("BLPOP " + l + " 0")
	k.send("SET " + l + ":next 1")
	a.awaitBlocked(t, 1)
	b.awaitBlocked(t, 0)
	if list := talk(t, a.Config.Network.RESPAddr()).do("CLIENT LIST ID " + id); !strings.Contains(list, " flags=b ") {
		t.Errorf("CLIENT LIST: %s", list)
	}
	if got := push.do("EXISTS " + l + ":next"); got != "0" {
		t.Error("a later command of the client has run")
	}
	push.do("RPUSH " + l + " v w")
	if got := k.reply() + ", " + k.reply(); got != l+" v, OK" {
		t.Error(got)
	}
	if got := k.do("BLPOP " + l + " 0"); got != l+" w" {
		t.Error(got)
	}
	began := time.Now()
	if got := k.do("BLPOP " + l + " 0.3"); got != "nil" || time.Since(began) < 300*time.Millisecond {
		t.Errorf("%s after %v", got, time.Since(began))
	}
	k.send("BRPOP " + l + " 0")
	a.awaitBlocked(t, 1)
	other := talk(t, a.Config.Network.RESPAddr())
	if got := other.do("CLIENT UNBLOCK " + id + " ERROR"); got != "1" {
		t.Error(got)
	}
	if got := k.reply(); got != "-UNBLOCKED client unblocked via CLIENT UNBLOCK" {
		t.Error(got)
	}
	if got := other.do("CLIENT UNBLOCK " + id); got != "0" {
		t.Error(got)
	}
	// Those who go away while they wait take nothing with them.
	for range 20 {
		gone := talk(t, a.Config.Network.RESPAddr())
		gone.send("BLPOP " + l + " 0")
		a.awaitBlocked(t, 1)
		gone.conn.Close()
		a.awaitBlocked(t, 0)
	}
	push.do("RPUSH " + l + " 1 2")
	if got := push.do("LRANGE " + l + " 0 -1"); got != "1 2" {
		t.Error(got)
	}
}

func TestEachOfAThousandElementsGoesToOneOfAThousandClients(t *testing.T) {
	c := Start(t, 3, nil)
	const n = 1000
	keys := []string{keyLedBy(t, c.Nodes()[0], 1), keyLedBy(t, c.Nodes()[1], 2), keyLedBy(t, c.Nodes()[2], 3), keyLedBy(t, c.Nodes()[2], 4)}
	var all []*talker
	for i := range n {
		k := talk(t, c.Nodes()[i%3].Config.Network.RESPAddr())
		k.send("BLPOP " + keys[i%len(keys)] + " 0")
		all = append(all, k)
	}
	for i, node := range c.Nodes() {
		node.awaitBlocked(t, (n+2-i)/3)
	}
	began := time.Now()
	var pushers []*talker
	for _, node := range c.Nodes() {
		pushers = append(pushers, talk(t, node.Config.Network.RESPAddr()))
	}
	for i := range n {
		pushers[(i/4)%3].send(fmt.Sprintf("RPUSH %s %d", keys[i%len(keys)], i))
	}
	seen := map[string]bool{}
	for _, k := range all {
		_, element, _ := strings.Cut(k.reply(), " ")
		seen[element] = true
	}
	t.Logf("served after %v", time.Since(began).Round(time.Millisecond))
	if len(seen) != n {
		t.Errorf("%d of %d elements arrived", len(seen), n)
	}
	for _, key := range keys {
		if left := talk(t, c.Nodes()[0].Config.Network.RESPAddr()).do("LLEN " + key); left != "0" {
			t.Errorf("%s still has %s", key, left)
		}
	}
	for _, node := range c.Nodes() {
		node.awaitBlocked(t, 0)
	}
}

func TestWaitsMoveWithThePrimariesOfANodeThatStops(t *testing.T) {
	c := Start(t, 3, func(f *config.Config) { f.Cluster.AckTimeout = 30 * time.Second })
	stays, goes := c.Nodes()[0], c.Nodes()[2]
	var keys []string
	var all []*talker
	for i := range 30 {
		keys = append(keys, keyLedBy(t, goes, i))
		k := talk(t, c.Nodes()[i%2].Config.Network.RESPAddr())
		k.send("BLPOP " + keys[i] + " 0")
		all = append(all, k)
	}
	stays.awaitBlocked(t, 15)
	local := talk(t, goes.Config.Network.RESPAddr())
	local.send("BLPOP " + keys[0] + " 0")
	goes.awaitBlocked(t, 1)
	began := time.Now()
	goes.Stop()
	t.Logf("stopped after %v", time.Since(began).Round(time.Millisecond))
	_ = local.conn.SetReadDeadline(time.Now().Add(Patient))
	if s, err := local.read(); err == nil && s != "nil" {
		t.Errorf("a client of the node that stopped got %q", s)
	}
	stays.awaitBlocked(t, 15)
	r := stays.Client()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	for i, key := range keys {
		if err := r.RPush(ctx, key, i).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for i, k := range all {
		if got := k.reply(); got != fmt.Sprintf("%s %d", keys[i], i) {
			t.Errorf("client %d: %s", i, got)
		}
	}
}
