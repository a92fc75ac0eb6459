package nodetest

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"hypercache/node/config"
)

// TestClusterClientsMissNothingOfARoll restarts every node while a stock cluster client reads and writes. The client must
// have learned who has the slots before a node goes: nothing fails, and it dials no node that is not there. There, it would
// hang on a machine that is gone until its dials time out, with every command for a slot that it believes there.
func TestClusterClientsMissNothingOfARoll(t *testing.T) {
	for _, kind := range []struct {
		name string
		keys int // different slots
		set  func(*redis.ClusterOptions)
	}{
		// Told by MOVED, since it is seen that it knows where keys are.
		{"as it comes", 1000, func(*redis.ClusterOptions) {}},
		{"RESP2", 1000, func(o *redis.ClusterOptions) { o.Protocol = 2 }},
		// Told by a push; with few keys it could be any client.
		{"notified", 9, func(o *redis.ClusterOptions) {
			o.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeEnabled}
		}},
		// Told by nobody: the nodes stay until it has asked for the map by itself.
		{"few keys", 9, func(o *redis.ClusterOptions) { o.Protocol, o.ClusterStateReloadInterval = 2, time.Second }},
		// Told by MOVED, as it reads from replicas.
		{"READONLY", 1000, func(o *redis.ClusterOptions) { o.ReadOnly, o.RouteRandomly = true, true }},
	} {
		t.Run(kind.name, func(t *testing.T) {
			c := Start(t, 3, func(f *config.Config) { f.Cluster.Linger = time.Minute })
			var mu sync.Mutex
			var refused []string
			asking := askers{of: map[string]int{}}
			o := redis.ClusterOptions{MaxRedirects: 8, ClusterStateReloadInterval: time.Hour, Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := (&net.Dialer{Timeout: Patient}).DialContext(ctx, network, addr)
				if err != nil && !asking.any(addr) {
					mu.Lock()
					defer mu.Unlock()
					refused = append(refused, err.Error())
				}
				return conn, err
			}}
			for _, n := range c.Nodes() {
				o.Addrs = append(o.Addrs, n.Config.Network.RESPAddr())
			}
			kind.set(&o)
			r := redis.NewClusterClient(&o)
			r.OnNewNode(func(node *redis.Client) { node.AddHook(&asksMap{node.Options().Addr, &asking}) })
			defer func() { _ = r.Close() }()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var load sync.WaitGroup
			var failed []string
			done := 0
			for w := range 4 {
				load.Go(func() {
					pause := time.NewTicker(time.Millisecond)
					defer pause.Stop()
					for i := 0; ctx.Err() == nil; i++ {
						key := fmt.Sprintf("roll:%d:{%d}", w, i%kind.keys)
						err := r.Set(context.WithoutCancel(ctx), key, key, 0).Err()
						if err == nil {
							err = r.Get(context.WithoutCancel(ctx), key).Err()
						}
						if err == redis.Nil && o.ReadOnly {
							err = nil // a replica may be behind
						}
						mu.Lock()
						done++
						if err != nil {
							failed = append(failed, key+": "+err.Error())
						}
						mu.Unlock()
						select {
						case <-ctx.Done():
						case <-pause.C:
						}
					}
				})
			}
			for _, n := range c.Nodes() {
				mu.Lock()
				enough := done + 500
				mu.Unlock()
				Await(t, func() bool { mu.Lock(); defer mu.Unlock(); return done >= enough }, func() string { return "the client stands still" })
				n.Stop()
				n.Start()
				c.AwaitReady()
			}
			cancel()
			load.Wait()
			if done == 0 || len(failed) > 0 {
				t.Errorf("%d operations, failed are %q", done, failed)
			}
			if len(refused) > 0 {
				t.Errorf("%d dials of a node that is not there: %s", len(refused), strings.Join(refused[:min(len(refused), 3)], "; "))
			}
		})
	}
}

// askers counts the requests for the map that are under way, by the node that is asked. A client asks any of the nodes that it
// knows, one that is not there as well as another, and then the next: no command waits for that.
type askers struct {
	mu sync.Mutex
	of map[string]int
}

func (a *askers) add(addr string, n int) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.of[addr] += n
}

func (a *askers) any(addr string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.of[addr] > 0
}

// asksMap tells askers of one node's.
type asksMap struct {
	addr string
	to   *askers
}

func (h *asksMap) DialHook(next redis.DialHook) redis.DialHook { return next }

func (h *asksMap) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		if cmd.Name() == "cluster" {
			h.to.add(h.addr, 1)
			defer h.to.add(h.addr, -1)
		}
		return next(ctx, cmd)
	}
}

func (h *asksMap) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return next
}
