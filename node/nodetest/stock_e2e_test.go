//go:build e2e

package nodetest

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/internal/need"
	"hypercache/node/config"
)

// stockRedis serves a copy of the data directory with redis-server and returns a client.
func stockRedis(t *testing.T, dir string) *redis.Client {
	t.Helper()
	need.Program(t, "redis-server")
	copied := t.TempDir()
	if err := os.CopyFS(filepath.Join(copied, "appendonlydir"), os.DirFS(filepath.Join(dir, "appendonlydir"))); err != nil {
		t.Fatal(err)
	}
	port := fmt.Sprint(freePort(t))
	cmd := exec.Command("redis-server", "--port", port, "--bind", "127.0.0.1", "--dir", copied, "--appendonly", "yes", "--save", "",
		"--enable-debug-command", "local", "--logfile", filepath.Join(copied, "log"))
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	r := redis.NewClient(&redis.Options{Addr: net.JoinHostPort("127.0.0.1", port), Protocol: 2, DisableIdentity: true})
	t.Cleanup(func() { _ = r.Close() })
	Await(t, func() bool { return r.Ping(context.Background()).Err() == nil }, func() string {
		log, _ := os.ReadFile(filepath.Join(copied, "log"))
		return fmt.Sprintf("redis-server does not serve the directory: %s", log)
	})
	return r
}

// digests returns Redis' digest of every key's value.
func digests(t *testing.T, r *redis.Client) map[string]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	keys, err := r.Keys(ctx, "*").Result()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for part := range slices.Chunk(keys, 500) {
		p := r.Pipeline()
		for _, key := range part {
			p.Do(ctx, "debug", "digest-value", key)
		}
		cmds, err := p.Exec(ctx)
		if err != nil {
			t.Fatal(err)
		}
		for i, key := range part {
			all[key] = fmt.Sprint(cmds[i].(*redis.Cmd).Val())
		}
	}
	return all
}

func sameDigests(t *testing.T, ours, theirs map[string]string) {
	t.Helper()
	wrong := 0
	for key, sum := range ours {
		if theirs[key] != sum {
			wrong++
		}
	}
	for key := range maps.Keys(theirs) {
		if _, found := ours[key]; !found {
			wrong++
		}
	}
	if wrong > 0 || len(ours) == 0 {
		t.Errorf("redis-server reads %d of %d keys otherwise", wrong, len(ours))
	}
}

// counting writes what shows when it is applied twice or not at all, in pipelines, until ctx ends or the node does.
func counting(ctx context.Context, addr string, seed uint64, written *atomic.Int64) {
	r := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DisableIdentity: true})
	defer r.Close()
	rng := rand.New(rand.NewPCG(seed, 1))
	for ctx.Err() == nil {
		p := r.Pipeline()
		for range 50 {
			n := rng.IntN(2000)
			switch rng.IntN(8) {
			case 0, 1:
				p.IncrBy(ctx, fmt.Sprintf("counter-%d", n), int64(n))
			case 2, 3:
				p.Append(ctx, fmt.Sprintf("string-%d", n%500), fmt.Sprintf("%d,", n))
			case 4:
				p.RPush(ctx, fmt.Sprintf("list-%d", n%500), n)
			case 5:
				p.HIncrBy(ctx, fmt.Sprintf("hash-%d", n%300), fmt.Sprint(n%7), 1)
			case 6:
				p.LPop(ctx, fmt.Sprintf("list-%d", n%500))
			default:
				p.Del(ctx, fmt.Sprintf("string-%d", n%500))
			}
		}
		if cmds, err := p.Exec(ctx); err == nil || err == redis.Nil {
			written.Add(int64(len(cmds)))
		} else if ctx.Err() == nil {
			return
		}
	}
}

// rewriting has the log rewritten again and again.
func rewriting(ctx context.Context, addr string) (rounds int) {
	r := redis.NewClient(&redis.Options{Addr: addr, MaxRetries: -1, DisableIdentity: true})
	defer r.Close()
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if r.BgRewriteAOF(ctx).Err() == nil {
			rounds++
		}
		select {
		case <-ctx.Done():
			return rounds
		case <-tick.C:
		}
	}
}

func TestStockRedisReadsExactlyWhatAKilledNodeHeldWhileItsLogWasRewritten(t *testing.T) {
	bin := BuildBinary(t)
	for _, fsync := range []string{"everysec", "always"} {
		t.Run(fsync, func(t *testing.T) {
			p := StartProcesses(t, bin, 1, func(f *config.Config) { f.Persistence.Fsync = fsync })[0]
			for round := range 4 {
				ctx, cancel := context.WithCancel(context.Background())
				var wg sync.WaitGroup
				var written atomic.Int64
				rounds := 0
				for i := range 4 {
					wg.Go(func() { counting(ctx, p.Addr(), uint64(4*round+i), &written) })
				}
				wg.Go(func() { rounds = rewriting(ctx, p.Addr()) })
				Await(t, func() bool { return written.Load() > 40_000 }, func() string { return "no writes" })
				p.Kill() // in the middle of a rewrite, nearly always
				cancel()
				wg.Wait()
				theirs := digests(t, stockRedis(t, p.Config.Persistence.DataDir))
				p.Start()
				p.AwaitReady()
				r := redis.NewClient(&redis.Options{Addr: p.Addr(), DisableIdentity: true})
				ours := digests(t, r)
				_ = r.Close()
				t.Logf("%d commands, %d rewrites asked for, %d keys", written.Load(), rounds, len(ours))
				sameDigests(t, ours, theirs)
			}
		})
	}
}

func TestStockRedisReadsExactlyAReplicaThatWasFedWhileItsLogWasRewritten(t *testing.T) {
	c := Start(t, 1, pair)
	first := c.Nodes()[0]
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var written atomic.Int64
	addr := func(n *Node) string { return n.Client().Options().Addr }
	for i := range 2 {
		wg.Go(func() { counting(ctx, addr(first), uint64(i), &written) })
	}
	Await(t, func() bool { return written.Load() > 20_000 }, func() string { return "no writes" })
	second := c.Add()
	wg.Go(func() { rewriting(ctx, addr(second)) })
	wg.Go(func() { rewriting(ctx, addr(first)) })
	second.AwaitReady()
	c.AwaitSettled(first, 2)
	cancel()
	wg.Wait()
	ours := digests(t, first.Client())
	for _, n := range []*Node{second, first} {
		n.Stop()
		sameDigests(t, ours, digests(t, stockRedis(t, n.Config.Persistence.DataDir)))
	}
	t.Logf("%d commands, %d keys", written.Load(), len(ours))
}
