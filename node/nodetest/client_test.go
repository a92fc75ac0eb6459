package nodetest

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/internal/need"
	"hypercache/node/config"
)

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails
	return b
}

func TestBinaryKeysAndValuesOfEverySizePassThroughEveryNode(t *testing.T) {
	c := Start(t, 3, func(f *config.Config) { f.Cluster.AckTimeout = 30 * time.Second })
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patient) // with the race detector, 32 MiB take most of one
	defer cancel()
	for _, size := range []int{0, 1, 63, 4096, 1 << 16, 1<<20 + 1, 32 << 20} {
		key, val := string(randomBytes(min(size, 1<<16))), randomBytes(size)
		for i, n := range c.Nodes() {
			if size > 1<<24 && i != 1 {
				continue // one of these at a time: every buffer on the way holds it
			}
			if err := n.Client().Set(ctx, key, val, 0).Err(); err != nil {
				t.Fatalf("SET of %d bytes through %s: %v", size, n.ID, err)
			}
			for _, m := range c.Nodes() {
				if got, err := m.Client().Get(ctx, key).Bytes(); err != nil || !bytes.Equal(got, val) {
					t.Fatalf("GET of %d bytes, set through %s, through %s: %d bytes, %v", size, n.ID, m.ID, len(got), err)
				}
			}
		}
	}
	big := string(randomBytes(17 << 20))
	r := c.Nodes()[0].Client()
	if err := r.Set(ctx, big, "v", 0).Err(); err != nil {
		t.Fatalf("SET with a key of 17 MiB: %v", err)
	}
	if n, err := r.Del(ctx, big).Result(); err != nil || n != 1 {
		t.Errorf("DEL of a key of 17 MiB: %d, %v", n, err)
	}
	tooBig := make([]byte, 64<<20+1)
	err := c.Nodes()[0].Client().Set(ctx, "k", tooBig, 0).Err()
	if err == nil {
		t.Error("a value above the limit was accepted")
	}
	t.Logf("64 MiB + 1: %v", err)
	c.Nodes()[0].Holds(c.Nodes()[2].Fill("after", 50))
}

// TestTheMapOfSlotsLeavesANodeOutUntilItIsBack asks another one: CLUSTER SLOTS, which leaves out who stops, too, and CLUSTER NODES, which
// tells that a node is down whether or not the topology changes for it.
func TestTheMapOfSlotsLeavesANodeOutUntilItIsBack(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), 3*Patient)
	defer cancel()
	gone, asked := c.Nodes()[2], c.Nodes()[0].Client()
	shown := func() bool {
		//lint:ignore SA1019 clients still send it
		slots, err := asked.ClusterSlots(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		return slices.ContainsFunc(slots, func(s redis.ClusterSlot) bool {
			return slices.ContainsFunc(s.Nodes, func(n redis.ClusterNode) bool { return n.Addr == gone.Config.Network.RESPAddr() })
		})
	}
	down := func() bool {
		nodes, err := asked.ClusterNodes(ctx).Result()
		if err != nil {
			t.Fatal(err)
		}
		return strings.Contains(nodes, ",fail") || strings.Contains(nodes, " fail")
	}
	if !shown() || down() {
		t.Fatalf("a node that runs is in the map %t, is down %t", shown(), down())
	}
	gone.Stop()
	Await(t, func() bool { return !shown() && down() }, func() string { return "the map sends clients to a dead node, or does not say that it is down" })
	gone.Start()
	gone.AwaitReady()
	Await(t, func() bool { return shown() && !down() }, func() string { return "the map does not have the node again" })
}

func TestPipelineThroughANonOwnerKeepsOrder(t *testing.T) {
	c := Start(t, 3, nil)
	for _, n := range c.Nodes() {
		const keys, commands = 97, 10000
		var sum [keys]int
		var ask, want bytes.Buffer
		say := func(args ...string) {
			fmt.Fprintf(&ask, "*%d\r\n", len(args))
			for _, a := range args {
				fmt.Fprintf(&ask, "$%d\r\n%s\r\n", len(a), a)
			}
		}
		for i := range commands {
			k := i * 37 % keys
			key := n.ID + "-" + strconv.Itoa(k)
			switch i % 5 {
			case 0, 1:
				say("INCR", key)
				sum[k]++
				fmt.Fprintf(&want, ":%d\r\n", sum[k])
			case 2:
				say("GET", key)
				if v := strconv.Itoa(sum[k]); sum[k] == 0 {
					want.WriteString("$-1\r\n")
				} else {
					fmt.Fprintf(&want, "$%d\r\n%s\r\n", len(v), v)
				}
			case 3:
				say("ECHO", strconv.Itoa(1000000+i))
				fmt.Fprintf(&want, "$7\r\n%d\r\n", 1000000+i)
			case 4:
				say("EXISTS", key, "absent")
				fmt.Fprintf(&want, ":%d\r\n", min(sum[k], 1))
			}
		}
		conn, err := n.Dial()
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(Patient))
		if _, err := conn.Write(ask.Bytes()); err != nil {
			t.Fatalf("send the pipeline to %s: %v", n.ID, err)
		}
		got := make([]byte, want.Len())
		if have, err := io.ReadFull(conn, got); err != nil {
			t.Fatalf("%s answered %d of %d bytes: %v; last: %q", n.ID, have, len(got), err, got[max(0, have-80):have])
		}
		if !bytes.Equal(got, want.Bytes()) {
			at := 0
			for got[at] == want.Bytes()[at] {
				at++
			}
			t.Errorf("replies of %s differ at %d: %q, want %q", n.ID, at, got[at:min(at+60, len(got))], want.Bytes()[at:min(at+60, len(got))])
		}
		_ = conn.Close()
	}
}

func TestClusterClientsFindEveryOwner(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	for _, n := range c.Nodes() {
		r := redis.NewClusterClient(&redis.ClusterOptions{Addrs: []string{n.Config.Network.RESPAddr()}, MaxRedirects: -1})
		for i := range 300 {
			key := fmt.Sprintf("%s-%d", n.ID, i)
			if err := r.Set(ctx, key, key, 0).Err(); err != nil {
				t.Fatalf("SET by a cluster client of %s: %v", n.ID, err)
			}
			if v, err := r.Get(ctx, key).Result(); err != nil || v != key {
				t.Fatalf("GET by a cluster client of %s: %q, %v", n.ID, v, err)
			}
		}
		shards, err := r.ClusterShards(ctx).Result()
		slots := 0
		for _, s := range shards {
			for _, at := range s.Slots {
				slots += int(at.End - at.Start + 1)
			}
		}
		if err != nil || slots != 16384 {
			t.Errorf("CLUSTER SHARDS of %s covers %d slots, %v", n.ID, slots, err)
		}
		_ = r.Close()
	}
	// What a cluster client sends to the owner is not forwarded.
	sent, total := 0, 0
	for _, n := range c.Nodes() {
		info, err := n.Client().Info(ctx, "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		sent += field(info, "forwarded_commands")
		total += field(info, "total_commands_processed")
	}
	if sent > total/10 {
		t.Errorf("%d of %d commands were forwarded", sent, total)
	}
}

func field(info, name string) (n int) {
	if _, rest, ok := strings.Cut(info, name+":"); ok {
		_, _ = fmt.Sscanf(rest, "%d", &n)
	}
	return n
}

func TestStockSerfListsTheCluster(t *testing.T) {
	serf := need.Program(t, "serf")
	c := Start(t, 3, nil)
	for _, n := range c.Nodes() {
		Await(t, func() bool {
			out, err := exec.Command(serf, "members", "-rpc-addr="+n.Config.Network.RPCAddr()).CombinedOutput()
			return err == nil && strings.Count(string(out), "alive") == 3
		}, func() string { return "serf does not list three members of " + n.ID })
	}
}

func TestHTTPServesBinaryKeysThroughEveryNode(t *testing.T) {
	c := Start(t, 3, nil)
	keys := []string{"plain", "a/b", "..", "sp ace", "uml\xc3\xa4ut", string([]byte{0, 1, 2, 0xff, 0xfe, '%', '/', '?', '#'})}
	for i, key := range keys {
		for j, n := range c.Nodes() {
			path := "/api/cache/" + strings.ReplaceAll(url.PathEscape(key), ".", "%2E")
			val := randomBytes(100 * (i + j))
			if code, body, err := n.HTTP(http.MethodPut, path, val); err != nil || code/100 != 2 {
				t.Fatalf("PUT %q through %s: %d %s %v", key, n.ID, code, body, err)
			}
			for _, m := range c.Nodes() {
				if code, body, err := m.HTTP(http.MethodGet, path, nil); err != nil || code != 200 || !bytes.Equal(body, val) {
					t.Fatalf("GET %q through %s: %d, %d bytes, %v", key, m.ID, code, len(body), err)
				}
			}
			if v, err := c.Nodes()[(j+1)%3].Client().Get(t.Context(), key).Bytes(); err != nil || !bytes.Equal(v, val) {
				t.Errorf("RESP sees %q as %d bytes, %v", key, len(v), err)
			}
			if code, _, err := c.Nodes()[(j+1)%3].HTTP(http.MethodDelete, path, nil); err != nil || code/100 != 2 {
				t.Errorf("DELETE %q: %d, %v", key, code, err)
			}
			if code, _, err := n.HTTP(http.MethodGet, path, nil); err != nil || code != 404 {
				t.Errorf("GET of deleted %q: %d, %v", key, code, err)
			}
		}
	}
}

func TestTTLsSurviveFailover(t *testing.T) {
	c := Start(t, 3, nil)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	r := c.Nodes()[0].Client()
	for i := range 200 {
		if err := r.Set(ctx, fmt.Sprintf("long-%d", i), "x", time.Hour).Err(); err != nil {
			t.Fatal(err)
		}
		if err := r.Set(ctx, fmt.Sprintf("short-%d", i), "x", 2*time.Second).Err(); err != nil {
			t.Fatal(err)
		}
	}
	c.Nodes()[1].Stop()
	for i := range 200 {
		if ttl, err := r.PTTL(ctx, fmt.Sprintf("long-%d", i)).Result(); err != nil || ttl <= 59*time.Minute || ttl > time.Hour {
			t.Fatalf("TTL after a failover: %v, %v", ttl, err)
		}
	}
	c.Nodes()[1].Start()
	c.AwaitReady()
	for _, n := range c.Nodes() {
		n.AwaitKeys(200) // the short ones expire on primaries, which tell the replicas
	}
}

func TestAcksOfOneAndAll(t *testing.T) {
	for _, level := range []string{"one", "all"} {
		t.Run(level, func(t *testing.T) {
			c := Start(t, 3, func(f *config.Config) {
				f.Cluster.WriteAcks, f.Cluster.AckTimeout = level, time.Second
			})
			l := c.Load(2, c.Nodes()...)
			l.Flow(30)
			l.Check(c.Nodes()[2])
			n, away := c.Nodes()[0], c.Nodes()[2]
			away.Stop()
			away.AwaitDown()
			ctx, cancel := context.WithTimeout(context.Background(), Patient)
			defer cancel()
			accepted, refused := 0, 0
			for i := range 20 {
				err := n.Client().Set(ctx, fmt.Sprintf("k-%d", i), "x", 0).Err()
				switch {
				case err == nil:
					accepted++
				case strings.HasPrefix(err.Error(), "NOREPLICAS"):
					refused++
				default:
					t.Errorf("SET with one replica away: %v", err)
				}
				if level == "all" && refused > 2 {
					break
				}
			}
			if level == "one" && refused > 0 || level == "all" && accepted > 0 {
				t.Errorf("%d accepted, %d refused with one replica away", accepted, refused)
			}
			away.Start()
			c.AwaitReady()
			n.Fill("after", 100)
		})
	}
}
