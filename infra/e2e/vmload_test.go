//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// load is a user's program that reads and writes without a break, with its client's retries on.
type load struct {
	client  *redis.ClusterClient
	cancel  context.CancelFunc
	workers sync.WaitGroup

	mu      sync.Mutex
	acked   map[string]string
	failed  []error
	ops     int
	longest time.Duration // that an operation took, retries included
}

const loadWorkers = 4

func startLoad(client *redis.ClusterClient, prefix string) *load {
	ctx, cancel := context.WithCancel(context.Background())
	l := &load{client: client, cancel: cancel, acked: map[string]string{}}
	for w := range loadWorkers {
		l.workers.Go(func() { l.run(ctx, fmt.Sprintf("%s:%d", prefix, w)) })
	}
	return l
}

// run writes key after key and reads each back. An operation that is under way when the load ends counts for nothing.
func (l *load) run(ctx context.Context, prefix string) {
	pause := time.NewTicker(2 * time.Millisecond)
	defer pause.Stop()
	for i := 0; ; i++ {
		key, value := fmt.Sprintf("%s:%d", prefix, i), fmt.Sprintf("v%d", i)
		began := time.Now()
		err := l.client.Set(ctx, key, value, 0).Err()
		if err == nil {
			var got string
			if got, err = l.client.Get(ctx, key).Result(); err == nil && got != value {
				err = fmt.Errorf("GET %s gave %q after SET %q", key, got, value)
			}
		}
		if ctx.Err() != nil {
			return
		}
		l.note(key, value, err, time.Since(began))
		select {
		case <-pause.C:
		case <-ctx.Done():
			return
		}
	}
}

func (l *load) note(key, value string, err error, took time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.ops += 2
	l.longest = max(l.longest, took)
	if err != nil {
		l.failed = append(l.failed, fmt.Errorf("%s %s, after %v: %w", time.Now().UTC().Format("15:04:05.000"), key, took.Round(time.Millisecond), err))
		return
	}
	l.acked[key] = value
}

// stop ends the load and waits for it.
func (l *load) stop() {
	l.cancel()
	l.workers.Wait()
}

// lost counts acknowledged writes that are not there as they were written. Whether all operations succeed was the load's question:
// here the client may need some attempts, since it dials a VM that has just gone until it learns of it, and each takes a timeout.
func (l *load) lost(ctx context.Context) (int, error) {
	lost := 0
	for key, value := range l.acked {
		got, err := l.client.Get(ctx, key).Result()
		for n := 0; n < 5 && err != nil && err != redis.Nil; n++ {
			got, err = l.client.Get(ctx, key).Result()
		}
		if err != nil && err != redis.Nil {
			return lost, fmt.Errorf("GET %s: %w", key, err)
		}
		if got != value {
			lost++
		}
	}
	return lost, nil
}
