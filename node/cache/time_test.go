package cache

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/clock"
	"hypercache/node/resp"
)

// TestAStepOfTheClockMovesKeysAndNoRequest lets a lone node follow a step of its wall clock, by an hour in each direction,
// while clients wait.
func TestAStepOfTheClockMovesKeysAndNoRequest(t *testing.T) {
	for _, step := range []time.Duration{time.Hour, -time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			ctx, stop := context.WithCancel(context.Background())
			var all sync.WaitGroup
			defer all.Wait()
			defer stop()
			var wall atomic.Int64
			start := time.Now()
			by := clock.New(clock.Options{
				Wall:    func() int64 { return time.Now().UnixNano() + wall.Load() },
				Elapsed: func() time.Duration { return time.Since(start) },
			})
			all.Go(func() { by.Run(ctx) })
			x := loneBy(ctx, &all, func(o *Options) { o.Clock = by })
			open := func(line string) *client {
				k := &client{t: t, wake: make(chan struct{}, 1)}
				k.s = resp.NewSession(x, resp.Limits{}, resp.ConnInfo{}, func() {
					select {
					case k.wake <- struct{}{}:
					default:
					}
				})
				k.s.SetProto(2)
				k.send(line)
				return k
			}
			open("SET k v EX 600")
			wall.Store(int64(step))
			waits := open("BLPOP l 100")
			x.Pause(time.Minute, true)
			paused := open("SET other v")
			began := time.Now()
			<-paused.wake
			if took := time.Since(began); took < time.Minute || took > time.Minute+time.Second {
				t.Errorf("a pause of a minute took %v", took)
			}
			time.Sleep(10 * time.Second) // the step has been followed
			synctest.Wait()
			if off := by.Unix(by.Ticks()) - time.Now().UnixMilli(); off != step.Milliseconds() {
				t.Fatalf("the clock is off by %d ms, want %v", off, step)
			}
			k := open("GET k")
			if k.take(); string(k.got) != map[bool]string{true: "$-1\r\n", false: "$1\r\nv\r\n"}[step > 0] {
				t.Errorf("step %v: %q", step, k.got)
			}
			<-waits.wake
			if took := time.Since(began); took != 100*time.Second {
				t.Errorf("step %v: BLPOP of 100 s took %v", step, took)
			}
		})
	}
}

func TestNothingExpiresWhileClocksDisagree(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, stop := context.WithCancel(context.Background())
		var all sync.WaitGroup
		x := lone(ctx, &all)
		want := func(line, reply string) {
			t.Helper()
			k := &client{t: t, wake: make(chan struct{}, 1)}
			k.s = resp.NewSession(x, resp.Limits{}, resp.ConnInfo{}, func() {})
			k.s.SetProto(2)
			k.send(line)
			if k.take(); string(k.got) != reply {
				t.Errorf("%s: %q", line, k.got)
			}
		}
		want("SET k v EX 1", "+OK\r\n")
		x.db.Freeze(true)
		time.Sleep(time.Minute)
		want("GET k", "$1\r\nv\r\n")
		want("TTL k", ":0\r\n")
		want("STRLEN k", ":1\r\n")
		want("SCAN 0 COUNT 1000", "*2\r\n$1\r\n0\r\n*1\r\n$1\r\nk\r\n")
		want("SETNX k w", ":0\r\n")
		x.db.Freeze(false)
		want("GET k", "$-1\r\n")
		time.Sleep(time.Second)
		if n := x.Stats.Expired.Load(); n != 1 {
			t.Errorf("%d keys expired", n)
		}
		stop()
		all.Wait()
	})
}
