//go:build linux

package main

import (
	"context"
	"fmt"
	"sync"
	"time"
)

// directs are clients, one at each node, that write only what their node is primary of: a connection that sent READONLY is
// told where other keys are. They show for how long a primary that was cut off goes on acknowledging, which clients of any
// key don't: they soon wait for another node. They run where writes are acknowledged by the primary alone.
type directs struct {
	window int32
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	acks   []directAck
	sick   time.Time // last acknowledgement of a node that the fault was about, while it lasted
}

type directAck struct {
	key string
	at  time.Time
}

func startDirects(ctx context.Context, l *lab, window int32) *directs {
	ctx, cancel := context.WithCancel(ctx)
	x := &directs{window: window, cancel: cancel}
	if l.acks != "one" {
		return x
	}
	for i := range l.all() {
		x.wg.Go(func() { x.run(ctx, l, i) })
	}
	return x
}

func (x *directs) run(ctx context.Context, l *lab, node int) {
	k := respClient{lab: l}
	defer k.close()
	for i := 0; ctx.Err() == nil; i++ {
		h := l.pick(node)
		if k.c == nil {
			if _, _, err := k.do(ctx, h, "READONLY"); err != nil {
				k.close()
				_ = pause(ctx, 50*time.Millisecond)
				continue
			}
		}
		key := fmt.Sprintf("direct:%d:%d:%d", x.window, node, i)
		if _, out, _ := k.do(ctx, h, "SET", key, key); out == acked {
			x.mu.Lock()
			x.acks = append(x.acks, directAck{key, time.Now()})
			if !l.healthy(h) {
				x.sick = time.Now()
			}
			x.mu.Unlock()
		}
		_ = pause(ctx, rest)
	}
}

func (x *directs) stop() {
	x.cancel()
	x.wg.Wait()
}

// check reads everything back and returns how much was acknowledged and how much of it is lost.
func (x *directs) check(ctx context.Context, l *lab, spans map[int32]span, tell func(window int32, e exposure)) (acked, gone int, err error) {
	if !x.sick.IsZero() {
		tell(x.window, exposure{sick: x.sick.Sub(spans[x.window].began)})
	}
	r := reader{lab: l}
	r.c.lab = l
	defer r.c.close()
	names := make([]string, len(x.acks))
	for i, a := range x.acks {
		names[i] = a.key
	}
	values, err := r.get(ctx, names)
	if err != nil {
		return 0, 0, err
	}
	for i, a := range x.acks {
		if values[i] != a.key {
			gone++
			by, e := lostAt(spans, x.window, a.at)
			tell(by, e)
		}
	}
	return len(names), gone, nil
}
