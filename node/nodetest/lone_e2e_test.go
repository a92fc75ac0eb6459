//go:build e2e

package nodetest

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

func TestLoneNodeThatIsKilledKeepsWhatItAcknowledged(t *testing.T) {
	p := StartProcesses(t, BuildBinary(t), 1, nil)[0]
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patient)
	defer cancel()
	written := 0
	for range 5 {
		r := redis.NewClient(&redis.Options{Addr: p.Addr(), MaxRetries: -1, DisableIdentity: true})
		for until := written + 2000; written < until; written++ {
			if err := r.Set(ctx, strconv.Itoa(written), value(strconv.Itoa(written)), 0).Err(); err != nil {
				t.Fatal(err)
			}
		}
		_ = r.Close()
		p.Kill()
		began := time.Now()
		p.Start()
		p.AwaitReady()
		t.Logf("serves %v after the start", time.Since(began).Round(time.Millisecond))
		if took := time.Since(began); took > prompt {
			t.Errorf("serves after %v", took)
		}
	}
	r := redis.NewClient(&redis.Options{Addr: p.Addr()})
	defer r.Close()
	for i := range written {
		key := strconv.Itoa(i)
		if v, err := r.Get(ctx, key).Result(); err != nil || v != value(key) {
			t.Fatalf("%s: %q, %v", key, v, err)
		}
	}
}
