//go:build linux

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"
)

const (
	ttlEvery = 50 * time.Millisecond  // between two keys that are set
	ttlLook  = 400 * time.Millisecond // between two looks at all of them
	ttlLeast = time.Second
	ttlMost  = 6 * time.Second
)

// mortals are keys with a TTL that are set while a fault goes on and looked at, through every node in turn, until they are
// gone. All times are of this program's monotonic clock.
type mortals struct {
	lab    *lab
	window int32
	rng    *rand.Rand
	ending context.CancelFunc // of the setting
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu   sync.Mutex
	keys []*mortal
}

func startMortals(ctx context.Context, l *lab, window int32, seed uint64) *mortals {
	ctx, cancel := context.WithCancel(ctx)
	setting, ending := context.WithCancel(ctx)
	m := &mortals{lab: l, window: window, rng: rand.New(rand.NewPCG(seed, uint64(window)<<16)), cancel: cancel, ending: ending}
	m.wg.Go(func() { m.set(setting) })
	m.wg.Go(func() { m.watch(ctx) })
	return m
}

func (m *mortals) set(ctx context.Context) {
	k := respClient{lab: m.lab}
	defer k.close()
	at := int(m.window)
	for i := 0; ctx.Err() == nil; i++ {
		x := &mortal{key: fmt.Sprintf("ttl:%d:%d", m.window, i), ttl: ttlLeast + time.Duration(m.rng.Int64N(int64(ttlMost-ttlLeast)))}
		x.asked = time.Now()
		_, out, _ := k.do(ctx, m.lab.pick(at), "SET", x.key, "x", "PX", fmt.Sprint(x.ttl.Milliseconds()))
		x.set = time.Now()
		if at++; out == acked {
			m.mu.Lock()
			m.keys = append(m.keys, x)
			m.mu.Unlock()
		}
		k.close() // the next one goes to the next node
		if pause(ctx, ttlEvery) != nil {
			return
		}
	}
}

// alive are the keys that were not seen gone.
func (m *mortals) alive() (list []*mortal) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, x := range m.keys {
		if x.gone.IsZero() {
			list = append(list, x)
		}
	}
	return list
}

func (m *mortals) watch(ctx context.Context) {
	k := respClient{lab: m.lab}
	defer k.close()
	for at := 0; pause(ctx, ttlLook) == nil; at++ {
		list := m.alive()
		names := make([]string, len(list))
		for i, x := range list {
			names[i] = x.key
		}
		k.close()
		asked := time.Now()
		values, err := k.getAll(ctx, m.lab.pick(at), names)
		if err != nil {
			continue // nothing was learned
		}
		told := time.Now()
		m.mu.Lock()
		for i, v := range values {
			if v == "" {
				list[i].gone = told
			} else {
				list[i].seen = asked
			}
		}
		m.mu.Unlock()
	}
}

// stop waits for the keys to be gone, no longer than they may take, and judges. It is called once the fault is healed and the
// cluster is ready.
func (m *mortals) stop(ctx context.Context) (keys int, problems []string) {
	m.ending()
	healed := time.Now()
	for len(m.alive()) > 0 && time.Since(healed) < ttlMost+ttlLate+ttlLook {
		if pause(ctx, 100*time.Millisecond) != nil {
			break
		}
	}
	m.cancel()
	m.wg.Wait()
	return len(m.keys), checkMortals(m.keys, healed)
}
