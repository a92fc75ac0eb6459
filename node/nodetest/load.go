package nodetest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// Load is clients that write keys of their own, one after another, read earlier ones back, and remember what was
// acknowledged. A value read that is not the one acknowledged is a wrong reply.
type Load struct {
	t       testing.TB
	workers []*worker
	cancel  context.CancelFunc
	wg      sync.WaitGroup
}

type worker struct {
	id   int
	node *Node
	r    *redis.Client
	gate sync.Mutex // held while a command is under way, or while the node is out of service
	rest atomic.Bool
	done atomic.Int64

	mu     sync.Mutex
	acked  []string // keys; a key's value is value(key)
	failed []error
	wrong  []string
	last   time.Time
	gap    time.Duration // longest time between two acknowledged writes
}

func value(key string) string { return "value of " + key }

// Load starts perNode clients at each of nodes.
func (c *Cluster) Load(perNode int, nodes ...*Node) *Load {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	l := &Load{t: c.t, cancel: cancel}
	for _, n := range nodes {
		for range perNode {
			w := &worker{id: len(l.workers), node: n, r: n.Client()}
			l.workers = append(l.workers, w)
		}
	}
	for _, w := range l.workers {
		l.wg.Go(func() { w.run(ctx) })
	}
	c.t.Cleanup(l.Stop)
	l.Flow(20)
	return l
}

func (w *worker) run(ctx context.Context) {
	pace := time.NewTicker(2 * time.Millisecond)
	defer pace.Stop()
	for i := 0; ctx.Err() == nil; i++ {
		w.gate.Lock()
		w.write(fmt.Sprintf("load-%d-%d", w.id, i))
		if i%4 == 3 {
			w.readBack(i)
		}
		w.gate.Unlock()
		select {
		case <-pace.C:
		case <-ctx.Done():
		}
	}
}

func (w *worker) write(key string) {
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	err := w.r.Set(ctx, key, value(key), 0).Err()
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil {
		w.failed = append(w.failed, fmt.Errorf("%s SET %s through %s: %w", time.Now().UTC().Format("15:04:05.000"), key, w.node.ID, err))
		return
	}
	now := time.Now()
	if !w.last.IsZero() {
		w.gap = max(w.gap, now.Sub(w.last))
	}
	w.last = now
	w.acked = append(w.acked, key)
	w.done.Add(1)
}

func (w *worker) readBack(i int) {
	w.mu.Lock()
	if len(w.acked) == 0 {
		w.mu.Unlock()
		return
	}
	key := w.acked[i*7919%len(w.acked)]
	w.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	got, err := w.r.Get(ctx, key).Result()
	w.mu.Lock()
	defer w.mu.Unlock()
	switch {
	case err != nil && !errors.Is(err, redis.Nil):
		w.failed = append(w.failed, fmt.Errorf("GET through %s: %w", w.node.ID, err))
	case got != value(key):
		w.wrong = append(w.wrong, fmt.Sprintf("GET %s through %s: %q, %v", key, w.node.ID, got, err))
	}
}

// Without keeps the clients of n quiet while f runs: what happens to a node's own clients when it stops is not what
// is measured.
func (l *Load) Without(n *Node, f func()) {
	for _, w := range l.workers {
		if w.node == n {
			w.gate.Lock()
			w.rest.Store(true)
			defer w.resume()
		}
	}
	f()
}

func (w *worker) resume() {
	_ = w.r.Close()
	w.r = w.node.Client()
	w.mu.Lock()
	w.last = time.Time{}
	w.mu.Unlock()
	w.rest.Store(false)
	w.gate.Unlock()
}

// Flow waits until every client that is not kept quiet has written n more keys.
func (l *Load) Flow(n int64) {
	l.t.Helper()
	for _, w := range l.workers {
		if w.rest.Load() {
			continue
		}
		from := w.done.Load()
		Await(l.t, func() bool { return w.done.Load() >= from+n }, func() string {
			return fmt.Sprintf("client %d of %s makes no progress", w.id, w.node.ID)
		})
	}
}

// Stop ends the clients.
func (l *Load) Stop() {
	l.cancel()
	l.wg.Wait()
}

// Gap is the longest time that any client waited from one acknowledged write to the next.
func (l *Load) Gap() (longest time.Duration) {
	for _, w := range l.workers {
		w.mu.Lock()
		longest = max(longest, w.gap)
		w.mu.Unlock()
	}
	return longest
}

// Acked counts the acknowledged writes.
func (l *Load) Acked() (n int) {
	for _, w := range l.workers {
		n += int(w.done.Load())
	}
	return n
}

// Check stops the clients, and fails the test for every failed command, wrong reply and lost write. It reads through n.
func (l *Load) Check(n *Node) {
	l.t.Helper()
	l.Stop()
	failed := 0
	for _, w := range l.workers {
		failed += len(w.failed)
		for _, err := range w.failed[:min(len(w.failed), 3)] {
			l.t.Errorf("client %d: %v", w.id, err)
		}
		for _, s := range w.wrong {
			l.t.Errorf("client %d: wrong reply: %s", w.id, s)
		}
		n.Holds(w.acked)
	}
	l.t.Logf("%d writes acknowledged, %d commands failed, longest time without an acknowledged write %v",
		l.Acked(), failed, l.Gap().Round(time.Millisecond))
}

// Fill writes count keys through the node and returns them.
func (n *Node) Fill(prefix string, count int) (keys []string) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	r := n.Client()
	for len(keys) < count {
		p := r.Pipeline()
		for range min(500, count-len(keys)) {
			key := fmt.Sprintf("%s-%d", prefix, len(keys))
			p.Set(ctx, key, value(key), 0)
			keys = append(keys, key)
		}
		if _, err := p.Exec(ctx); err != nil {
			n.c.t.Fatalf("fill through %s: %v", n.ID, err)
		}
	}
	return keys
}

// Holds fails the test unless the node answers every key with its value.
func (n *Node) Holds(keys []string) {
	n.c.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	r := n.Client()
	lost := 0
	for from := 0; from < len(keys); from += 500 {
		part := keys[from:min(from+500, len(keys))]
		values, err := r.MGet(ctx, part...).Result()
		if err != nil {
			n.c.t.Fatalf("read back through %s: %v", n.ID, err)
		}
		for i, v := range values {
			if v != value(part[i]) {
				if lost++; lost <= 3 {
					n.c.t.Errorf("%s through %s: %v", part[i], n.ID, v)
				}
			}
		}
	}
	if lost > 0 {
		n.c.t.Errorf("%d of %d acknowledged writes are lost", lost, len(keys))
	}
}
