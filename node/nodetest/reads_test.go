package nodetest

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/node/config"
)

const readKeys = 300

// staleReads is how many reads the node has answered from its copies.
func (n *Node) staleReads() (count int) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	info, err := n.Client().Info(ctx, "stats").Result()
	if err != nil {
		n.c.t.Fatal(err)
	}
	_, rest, _ := strings.Cut(info, "stale_reads:")
	_, _ = fmt.Sscan(rest, &count)
	return count
}

// TestClusterClientsReadFromReplicas lets a stock client spread its reads over all nodes, which finds the replicas in
// CLUSTER SLOTS and sends READONLY to each.
func TestClusterClientsReadFromReplicas(t *testing.T) {
	for _, reads := range []string{"lease", "quorum"} {
		t.Run(reads, func(t *testing.T) {
			c := Start(t, 3, func(f *config.Config) { f.Cluster.Reads = reads })
			ctx, cancel := context.WithTimeout(context.Background(), Patient)
			defer cancel()
			r := redis.NewClusterClient(&redis.ClusterOptions{
				Addrs: []string{c.Nodes()[0].Config.Network.RESPAddr()}, ReadOnly: true, RouteRandomly: true, DisableIdentity: true,
			})
			defer func() { _ = r.Close() }()
			for i := range readKeys {
				if err := r.Set(ctx, fmt.Sprint("read-", i), i, 0).Err(); err != nil {
					t.Fatal(err)
				}
			}
			Await(t, func() bool {
				for i := range readKeys {
					got, err := r.Get(ctx, fmt.Sprint("read-", i)).Int()
					if err != nil || got != i {
						t.Fatalf("read-%d: %d, %v", i, got, err) // nothing was ever overwritten: even a stale read has it
					}
				}
				for _, n := range c.Nodes() {
					if n.staleReads() < readKeys/3 {
						return false
					}
				}
				return true
			}, func() string { return "replicas answer too few reads" })
		})
	}
}

// TestANodeThatIsLeftAloneAnswersStaleReadsUntilItsBound stops two nodes of three. What the last one holds may be read for
// a while by those who said so, and by nobody else.
func TestANodeThatIsLeftAloneAnswersStaleReadsUntilItsBound(t *testing.T) {
	const bound = 4 * time.Second
	c := Start(t, 3, func(f *config.Config) {
		f.Cluster.MaxStaleness, f.Cluster.AckTimeout, f.Cluster.HandoverTimeout = bound, time.Second, 3*time.Second
	})
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patient)
	defer cancel()
	last := c.Nodes()[2]
	writer := last.Client()
	for i := range readKeys {
		if err := writer.Set(ctx, fmt.Sprint("read-", i), i, 0).Err(); err != nil {
			t.Fatal(err)
		}
	}
	conn := last.Client().Conn()
	defer func() { _ = conn.Close() }()
	if err := conn.ReadOnly(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	answered := func() (n int) {
		p := conn.Pipeline()
		cmds := make([]*redis.StringCmd, readKeys)
		for i := range cmds {
			cmds[i] = p.Get(ctx, fmt.Sprint("read-", i))
		}
		_, _ = p.Exec(ctx)
		for i, cmd := range cmds {
			if got, err := cmd.Int(); err == nil && got == i {
				n++
			} else if err == redis.Nil || err == nil {
				t.Fatalf("read-%d: %d, %v", i, got, err)
			}
		}
		return n
	}
	Await(t, func() bool { return answered() > readKeys/2 && last.staleReads() > readKeys/2 }, func() string { return "the copies never answer" })
	c.Nodes()[0].Stop()
	last.AwaitReady()
	Await(t, func() bool { return answered() == readKeys }, func() string { return "not everything is answered with two nodes" })
	c.Nodes()[1].Stop()
	gone := time.Now()
	if n := answered(); n != readKeys {
		t.Errorf("%v after the others went, %d of %d reads are answered", time.Since(gone), n, readKeys)
	}
	if got := last.staleGet("read-1"); got != "200 1" && time.Since(gone) < bound {
		t.Errorf("over HTTP: %s", got)
	}
	Await(t, func() bool {
		asked := time.Now()
		n := answered()
		if n > 0 && asked.Sub(gone) > bound {
			t.Fatalf("%v after the others went, %d reads are still answered", asked.Sub(gone), n)
		}
		return n == 0
	}, func() string { return "answered for ever" })
	if err := conn.ReadWrite(ctx).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := conn.Get(ctx, "read-1").Result(); err == nil {
		t.Errorf("after READWRITE, without a majority: %q", got)
	}
	if got := last.staleGet("read-1"); !strings.HasPrefix(got, "503") {
		t.Errorf("over HTTP, beyond the bound: %s", got)
	}
}

func (n *Node) staleGet(key string) string {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+n.Config.Network.HTTPAddr()+"/api/cache/"+key+"?reads=stale", nil)
	if err != nil {
		n.c.t.Fatal(err)
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		n.c.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, _ := io.ReadAll(res.Body)
	return fmt.Sprintf("%d %s", res.StatusCode, body)
}
