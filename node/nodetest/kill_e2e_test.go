//go:build e2e

package nodetest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// kills is how many nodes are killed; HYPERCACHE_KILLS sets another number for a long run.
func kills(t *testing.T) int {
	if v := os.Getenv("HYPERCACHE_KILLS"); v != "" {
		n, err := strconv.Atoi(v)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	return 6
}

// writer appends unique elements to keys of its own, one key after another, and remembers what was acknowledged.
type writer struct {
	id    int
	r     redis.UniversalClient
	acked map[string]string
	count int
	fails int
	first string
}

func (w *writer) run(ctx context.Context) {
	for i := 0; ctx.Err() == nil; i++ {
		key, value := fmt.Sprintf("w%d-%d", w.id, i), fmt.Sprintf("%d-%d", w.id, i)
		c, cancel := context.WithTimeout(ctx, 10*time.Second)
		err := w.r.Set(c, key, value, 0).Err()
		cancel()
		if err != nil {
			if ctx.Err() == nil {
				w.fails++
				if w.first == "" {
					w.first = err.Error()
				}
			}
			continue
		}
		w.acked[key] = value
		w.count++
	}
}

// TestNoAcknowledgedWriteIsLostWhenNodesAreKilled kills each node in turn under load and counts.
func TestNoAcknowledgedWriteIsLostWhenNodesAreKilled(t *testing.T) {
	redis.SetLogger(silent{}) // a refused connection is what this test makes
	nodes := StartProcesses(t, BuildBinary(t), 3, nil)
	var addrs []string
	for _, n := range nodes {
		addrs = append(addrs, n.Addr())
	}
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	var wg sync.WaitGroup
	var writers []*writer
	probe := newProbe()
	for i := range 6 {
		w := &writer{id: i, acked: map[string]string{}}
		if i%2 == 0 {
			w.r = redis.NewClient(&redis.Options{Addr: addrs[i/2%3], MaxRetries: -1, DisableIdentity: true, DialTimeout: time.Second, DialerRetries: 1})
		} else {
			w.r = redis.NewClusterClient(&redis.ClusterOptions{Addrs: addrs, MaxRetries: -1, MaxRedirects: -1, DisableIdentity: true, DialTimeout: time.Second, DialerRetries: 1})
		}
		defer w.r.Close()
		writers = append(writers, w)
		wg.Go(func() { w.run(ctx) })
	}
	wg.Go(func() { probe.run(ctx, addrs) })
	for k := range kills(t) {
		n := nodes[k%3]
		probe.await(t, 20)
		n.Kill()
		probe.await(t, 20) // writes flow without it
		n.Start()
		n.AwaitReady()
	}
	cancel()
	wg.Wait()
	r := redis.NewClient(&redis.Options{Addr: addrs[0], MaxRetries: 5})
	defer r.Close()
	total, lost, fails, why := 0, 0, 0, map[string]int{}
	for _, w := range writers {
		total += w.count
		fails += w.fails
		if w.first != "" {
			why[strings.SplitN(w.first, " ", 2)[0]]++
		}
		lost += countLost(t, r, w.acked)
	}
	gap, writes, slow := probe.result()
	t.Logf("%d kills, %d acknowledged writes, %d lost, %d refused or unknown %v; longest time without a successful write anywhere %v (%d by the probe; per-key gaps over 1 s: %d)",
		kills(t), total+writes, lost, fails, why, gap.Round(time.Millisecond), writes, slow)
	if lost > 0 {
		t.Errorf("%d acknowledged writes are lost", lost)
	}
	if total == 0 {
		t.Error("nothing was written: the run shows nothing")
	}
}

// TestAClusterThatIsReadySurvivesTheLossOfItsFounder kills the first leader as soon as all nodes say that they are ready.
func TestAClusterThatIsReadySurvivesTheLossOfItsFounder(t *testing.T) {
	redis.SetLogger(silent{})
	bin := BuildBinary(t)
	for range 3 {
		nodes := StartProcesses(t, bin, 3, nil)
		leader := slices.IndexFunc(nodes, func(p *Process) bool { return p.ID == leaderOf(t, p) })
		if leader < 0 {
			t.Fatal("nobody leads the topology")
		}
		nodes[leader].Kill()
		r := redis.NewClient(&redis.Options{Addr: nodes[(leader+1)%3].Addr(), MaxRetries: -1})
		for i := range 20 {
			key := fmt.Sprint("k", i)
			Await(t, func() bool {
				ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
				defer cancel()
				return r.Set(ctx, key, key, 0).Err() == nil
			}, func() string { return "no writes without the founder: " + key })
		}
		_ = r.Close()
		for _, p := range nodes {
			p.Kill()
		}
	}
}

// leaderOf is who leads the topology in a node's view.
func leaderOf(t *testing.T, p *Process) string {
	t.Helper()
	r, err := http.Get("http://" + p.Config.Network.HTTPAddr() + "/health")
	if err != nil {
		t.Fatal(err)
	}
	defer r.Body.Close()
	var h struct{ Leader string }
	if err := json.NewDecoder(r.Body).Decode(&h); err != nil {
		t.Fatal(err)
	}
	return h.Leader
}

type silent struct{}

func (silent) Printf(context.Context, string, ...any) {}

func countLost(t *testing.T, r *redis.Client, acked map[string]string) (lost int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patient)
	defer cancel()
	keys := make([]string, 0, 500)
	check := func() {
		values, err := r.MGet(ctx, keys...).Result()
		if err != nil {
			t.Fatalf("read back: %v", err)
		}
		for i, v := range values {
			if v != acked[keys[i]] {
				lost++
				t.Logf("lost %s: want %s, have %v", keys[i], acked[keys[i]], v)
			}
		}
		keys = keys[:0]
	}
	for k := range acked {
		if keys = append(keys, k); len(keys) == 500 {
			check()
		}
	}
	if len(keys) > 0 {
		check()
	}
	return lost
}

// probe writes to a few fixed keys through all nodes at once and measures, key by key, how long no write succeeded:
// what an application feels that talks to whichever node answers.
type probe struct {
	mu   sync.Mutex
	last []time.Time
	gap  time.Duration
	slow int
	n    int
}

const probeKeys = 24

func newProbe() *probe { return &probe{last: make([]time.Time, probeKeys)} }

func (p *probe) run(ctx context.Context, addrs []string) {
	var wg sync.WaitGroup
	for i := range probeKeys {
		wg.Go(func() {
			var clients []*redis.Client
			for _, a := range addrs {
				c := redis.NewClient(&redis.Options{Addr: a, MaxRetries: -1, DisableIdentity: true, DialTimeout: 200 * time.Millisecond, DialerRetries: 1, ReadTimeout: time.Second, PoolSize: 2})
				defer c.Close()
				clients = append(clients, c)
			}
			for n := 0; ctx.Err() == nil; n++ {
				c, cancel := context.WithTimeout(ctx, time.Second)
				err := clients[(i+n)%len(clients)].Set(c, fmt.Sprintf("probe-%d", i), n, 0).Err()
				cancel()
				p.note(i, err == nil)
				select {
				case <-ctx.Done():
				case <-time.After(5 * time.Millisecond):
				}
			}
		})
	}
	wg.Wait()
}

func (p *probe) note(key int, ok bool) {
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	if !p.last[key].IsZero() {
		gap := now.Sub(p.last[key])
		p.gap = max(p.gap, gap)
		if gap > time.Second {
			p.slow++
		}
	}
	p.last[key] = now
	p.n++
}

// await waits until every key was written again, rounds times over all.
func (p *probe) await(t *testing.T, rounds int) {
	t.Helper()
	p.mu.Lock()
	from, since := p.n, time.Now()
	p.mu.Unlock()
	Await(t, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, at := range p.last {
			if at.Before(since) {
				return false
			}
		}
		return p.n >= from+rounds*probeKeys
	}, func() string { return "writes did not resume" })
}

func (p *probe) result() (time.Duration, int, int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.gap, p.n, p.slow
}
