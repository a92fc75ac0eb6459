package cache

import (
	"context"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/resp"
)

func TestAnIsolatedPrimaryExecutesNoWrites(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		var all sync.WaitGroup
		defer all.Wait()
		defer stop()
		var cut atomic.Bool
		x := loneBy(ctx, &all, func(o *Options) { o.Isolated = cut.Load })
		ask := func(line string) (reply string, took time.Duration) {
			began := time.Now()
			k := &client{t: t, wake: make(chan struct{}, 1)}
			k.s = resp.NewSession(x, resp.Limits{}, resp.ConnInfo{}, func() {
				select {
				case k.wake <- struct{}{}:
				default:
				}
			})
			k.s.SetProto(2)
			if k.send(line); len(k.got) == 0 {
				<-k.wake
				k.take()
			}
			return string(k.got), time.Since(began)
		}
		ask("SET k 1")
		cut.Store(true)
		time.Sleep(time.Second)
		if reply, took := ask("GET k"); reply != "$1\r\n1\r\n" || took > 0 {
			t.Errorf("a read: %q after %v", reply, took)
		}
		for _, write := range []string{"SET k 2", "EVAL return(redis.call('INCR',KEYS[1])) 1 k", "DEL k"} {
			if reply, took := ask(write); !strings.HasPrefix(reply, "-CLUSTERDOWN ") || took < 5*time.Second {
				t.Errorf("%s: %q after %v", write, reply, took)
			}
		}
		var reply string
		var took time.Duration
		all.Go(func() { reply, took = ask("INCR k") })
		time.Sleep(3 * time.Second)
		cut.Store(false)
		time.Sleep(time.Second)
		synctest.Wait()
		if reply != ":2\r\n" || took < 3*time.Second || took > 3200*time.Millisecond {
			t.Errorf("once it has contact again: %q after %v", reply, took)
		}
	})
}
