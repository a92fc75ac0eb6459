//go:build e2e

package nodetest

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
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

// TestIdleNodesRest measures what a node of three costs when nobody asks anything.
func TestIdleNodesRest(t *testing.T) {
	nodes := StartProcesses(t, BuildBinary(t), 3, nil)
	<-time.After(8 * time.Second) // primaries settle
	before := make([]time.Duration, len(nodes))
	for i, p := range nodes {
		before[i] = cpuTime(t, p.PID())
	}
	const span = 10 * time.Second
	<-time.After(span)
	for i, p := range nodes {
		used := cpuTime(t, p.PID()) - before[i]
		share := 100 * float64(used) / float64(span)
		t.Logf("%s: %.1f%% of a core", p.ID, share)
		if share > 6 {
			t.Errorf("%s uses %.1f%% of a core for nothing", p.ID, share)
		}
	}
}

// cpuTime reads what a process has used, in the kernel's ticks of 10 ms.
func cpuTime(t *testing.T, pid int) time.Duration {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(b), ") ")
	f := strings.Fields(rest)
	user, _ := strconv.Atoi(f[11])
	system, _ := strconv.Atoi(f[12])
	return time.Duration(user+system) * 10 * time.Millisecond
}
