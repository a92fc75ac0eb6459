package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// probePause is what the prober waits between two round trips: it is to see the servers' pauses, not to be load.
const probePause = time.Millisecond

// pauses is what a client saw of one server in one phase. Of several rounds, the least of each figure counts: what a server
// does itself shows in every round, what the machine does to it does not.
type pauses struct {
	p50, p99, p999, max time.Duration
	rate                float64 // commands per second, probes included
	probes              int
}

func (p pauses) least(q pauses) pauses {
	if p.probes == 0 {
		return q
	}
	return pauses{min(p.p50, q.p50), min(p.p99, q.p99), min(p.p999, q.p999), min(p.max, q.max), max(p.rate, q.rate), p.probes + q.probes}
}

// benchPauses prints the latency of single round trips while a server is busy with other things.
func benchPauses(ctx context.Context, o options, f *farm) error {
	redis, err := f.redis(ctx, "--appendonly", "yes", "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0")
	if err != nil {
		return err
	}
	node, err := f.nodes(ctx, o.node, 1, "--persistence.rewrite_percentage=0", "--cache.max_memory=0")
	if err != nil {
		return err
	}
	fmt.Printf("\n## Pauses: round trips of one client while the server does other things, %d strings of 16+16\n\n", o.keys)
	fmt.Printf("One connection sends a GET or a SET and waits for the reply, again %v later. The load is 4 connections that send\n"+
		"GETs and SETs in pipelines of 64 as fast as they are answered. Append-only files everysec. Of %d rounds of %v the least\n"+
		"of each figure; ms.\n\n", probePause, o.rounds, o.each)
	fmt.Print("| phase | server | p50 | p99 | p99.9 | max | commands/s | ratio of p99.9 | ratio of max |\n|---|---|---|---|---|---|---|---|---|\n")
	for _, p := range []struct {
		name string
		run  func(context.Context, options, group) (pauses, error)
	}{
		{"quiet", quiet}, {"load", loaded}, {"load, rewriting the file", loadedRewriting},
		{"load, evicting (allkeys-lru)", loadedEvicting}, {"load, every key expires within 1 s", loadedExpiring},
		{"load, FLUSHALL", loadedFlushing},
	} {
		if !strings.Contains(p.name, o.data) {
			continue
		}
		var least [2]pauses
		for range o.rounds {
			for i, g := range []group{redis, node} {
				got, err := p.run(ctx, o, g)
				if err != nil {
					return fmt.Errorf("%s, %s: %w", p.name, []string{"redis", "HyperCache"}[i], err)
				}
				least[i] = least[i].least(got)
			}
		}
		for i, name := range []string{"redis", "HyperCache"} {
			l := least[i]
			fmt.Printf("| %s | %s | %s | %s | %s | %s | %.0f |", p.name, name, millis(l.p50), millis(l.p99), millis(l.p999), millis(l.max), l.rate)
			if i == 0 {
				fmt.Print(" | |\n")
				continue
			}
			fmt.Printf(" **%.2f** | **%.2f** |\n", float64(l.p999)/float64(least[0].p999), float64(l.max)/float64(least[0].max))
		}
	}
	return nil
}

func millis(d time.Duration) string { return fmt.Sprintf("%.2f", float64(d)/float64(time.Millisecond)) }

func quiet(ctx context.Context, o options, g group) (pauses, error) {
	if err := fill(ctx, o, g); err != nil {
		return pauses{}, err
	}
	return probed(ctx, o, g, o.each, nil)
}

func loaded(ctx context.Context, o options, g group) (pauses, error) {
	if err := fill(ctx, o, g); err != nil {
		return pauses{}, err
	}
	end, err := drive(ctx, o, g, "key:", o.keys)
	if err != nil {
		return pauses{}, err
	}
	defer end()
	return probed(ctx, o, g, o.each, nil)
}

// loadedRewriting has the file rewritten again as soon as that has ended.
func loadedRewriting(ctx context.Context, o options, g group) (pauses, error) {
	if err := fill(ctx, o, g); err != nil {
		return pauses{}, err
	}
	end, err := drive(ctx, o, g, "key:", o.keys)
	if err != nil {
		return pauses{}, err
	}
	defer end()
	p, err := probed(ctx, o, g, o.each, func(c *wire) error {
		err := c.send(request(nil, "BGREWRITEAOF"), 1)
		if err != nil && strings.Contains(err.Error(), "in progress") {
			return nil
		}
		return err
	})
	if err != nil {
		return p, err
	}
	end()
	return p, settled(ctx, g)
}

// settled waits until no rewrite runs.
func settled(ctx context.Context, g group) error {
	c, err := dial(ctx, g.port)
	if err != nil {
		return err
	}
	defer c.Close()
	for range 600 {
		info, err := c.text("INFO", "persistence")
		if err != nil {
			return err
		}
		if !strings.Contains(info, "aof_rewrite_in_progress:1") && !strings.Contains(info, "aof_rewrite_scheduled:1") {
			return nil
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return errors.New("the rewrite did not end within a minute")
}

// loadedEvicting lets the server hold what it holds and no more, and writes new keys.
func loadedEvicting(ctx context.Context, o options, g group) (pauses, error) {
	if err := fill(ctx, o, g); err != nil {
		return pauses{}, err
	}
	used, err := infoNumber(ctx, g, "memory", "used_memory")
	if err != nil {
		return pauses{}, err
	}
	if err := tell(ctx, g, []string{"CONFIG", "SET", "maxmemory-policy", "allkeys-lru"}, []string{"CONFIG", "SET", "maxmemory", strconv.FormatInt(used, 10)}); err != nil {
		return pauses{}, err
	}
	end, err := drive(ctx, o, g, "new:", 1_000_000_000)
	if err != nil {
		return pauses{}, err
	}
	defer end()
	p, err := probed(ctx, o, g, o.each, nil)
	if err != nil {
		return p, err
	}
	evicted, err := infoNumber(ctx, g, "stats", "evicted_keys")
	if err == nil && evicted < 1000 {
		err = fmt.Errorf("%d keys were evicted: the load does not make the server evict", evicted)
	}
	end()
	return p, errors.Join(err, tell(ctx, g, []string{"CONFIG", "SET", "maxmemory", "0"}, []string{"CONFIG", "SET", "maxmemory-policy", "noeviction"}, []string{"FLUSHALL"}))
}

// loadedExpiring gives every key a time to live that ends within one second of the window.
func loadedExpiring(ctx context.Context, o options, g group) (pauses, error) {
	began := time.Now()
	if err := fill(ctx, o, g); err != nil {
		return pauses{}, err
	}
	at := time.Now().Add(time.Since(began)*3/2 + time.Second)
	err := store(ctx, g, dataset{name: "TTLs", commands: o.keys, add: func(b []byte, i int) []byte {
		end := at.Add(time.Duration(rand.Int64N(int64(time.Second))))
		return request(b, "PEXPIREAT", word("key:", i), strconv.FormatInt(end.UnixMilli(), 10))
	}})
	if err != nil {
		return pauses{}, err
	}
	if time.Now().After(at) {
		return pauses{}, errors.New("the first keys expired before all had their time to live: the machine is too busy")
	}
	if err := pause(ctx, time.Until(at)-500*time.Millisecond); err != nil {
		return pauses{}, err
	}
	end, err := drive(ctx, o, g, "new:", 1000)
	if err != nil {
		return pauses{}, err
	}
	defer end()
	p, err := probed(ctx, o, g, max(o.each, 3*time.Second), nil)
	if err != nil {
		return p, err
	}
	end()
	// Redis takes a minute for ten million.
	return p, within(ctx, 5*time.Minute, "not all keys were deleted that had expired", func() bool {
		n, _ := strconv.Atoi(strings.TrimPrefix(ask(g.port, "DBSIZE"), ":"))
		return n < o.keys/10+5000
	})
}

// loadedFlushing empties the server once within the window.
func loadedFlushing(ctx context.Context, o options, g group) (pauses, error) {
	if err := fill(ctx, o, g); err != nil {
		return pauses{}, err
	}
	end, err := drive(ctx, o, g, "key:", o.keys)
	if err != nil {
		return pauses{}, err
	}
	defer end()
	flushed := make(chan error, 1)
	go func() {
		flushed <- errors.Join(pause(ctx, o.each/4), tell(ctx, g, []string{"FLUSHALL"}))
	}()
	p, err := probed(ctx, o, g, o.each, nil)
	return p, errors.Join(err, <-flushed)
}

// fill makes the server hold keys of 16+16 bytes and nothing else.
func fill(ctx context.Context, o options, g group) error {
	if err := tell(ctx, g, []string{"FLUSHALL"}); err != nil {
		return err
	}
	return store(ctx, g, dataset{name: "strings", commands: o.keys, add: func(b []byte, i int) []byte {
		return request(b, "SET", word("key:", i), word("value:", i))
	}})
}

func tell(ctx context.Context, g group, commands ...[]string) error {
	c, err := dial(ctx, g.port)
	if err != nil {
		return err
	}
	defer c.Close()
	for _, args := range commands {
		if err := c.send(request(nil, args...), 1); err != nil {
			return fmt.Errorf("%s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}

func infoNumber(ctx context.Context, g group, section, name string) (int64, error) {
	c, err := dial(ctx, g.port)
	if err != nil {
		return 0, err
	}
	defer c.Close()
	info, err := c.text("INFO", section)
	if err != nil {
		return 0, err
	}
	_, rest, found := strings.Cut(info, "\n"+name+":")
	if !found {
		return 0, fmt.Errorf("INFO %s has no %s", section, name)
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strconv.ParseInt(strings.TrimSpace(line), 10, 64)
}

// drive starts programs that load the server with GETs and SETs of keys, and returns what ends them. They are processes of
// their own, so that the prober's process has nothing else to do.
func drive(ctx context.Context, o options, g group, prefix string, keys int) (end func(), err error) {
	var procs []*exec.Cmd
	end = func() {
		for _, p := range procs {
			_ = p.Process.Signal(syscall.SIGKILL)
			_ = p.Wait() // it says that it was killed
		}
		procs = nil
	}
	for _, args := range [][]string{{"SET", prefix + "__rand_int__", word("value:", 1)}, {"GET", prefix + "__rand_int__"}} {
		p := exec.CommandContext(ctx, "nice", append([]string{"-n", strconv.Itoa(o.nice), "redis-benchmark", "-p", strconv.Itoa(g.port), "-c", "2",
			"-P", "64", "-r", strconv.Itoa(keys), "-n", "2000000000", "-q"}, args...)...)
		if err := p.Start(); err != nil {
			end()
			return nil, err
		}
		procs = append(procs, p)
	}
	return end, pause(ctx, 300*time.Millisecond)
}

// probed measures round trips for the given time. every is called ten times a second on a connection of its own.
func probed(ctx context.Context, o options, g group, span time.Duration, every func(*wire) error) (pauses, error) {
	c, err := dial(ctx, g.port)
	if err != nil {
		return pauses{}, err
	}
	defer c.Close()
	other, err := dial(ctx, g.port)
	if err != nil {
		return pauses{}, err
	}
	defer other.Close()
	before, err := infoNumber(ctx, g, "stats", "total_commands_processed")
	if err != nil {
		return pauses{}, err
	}
	began := time.Now()
	next := began
	var times []time.Duration
	var b []byte
	for i := 0; time.Since(began) < span; i++ {
		if every != nil && time.Now().After(next) {
			next = next.Add(100 * time.Millisecond)
			if err := every(other); err != nil {
				return pauses{}, err
			}
		}
		b = request(b[:0], "GET", word("key:", rand.IntN(o.keys)))
		if i%2 == 0 {
			b = request(b[:0], "SET", word("probe:", i%100), "x")
		}
		at := time.Now()
		if err := c.send(b, 1); err != nil {
			return pauses{}, err
		}
		times = append(times, time.Since(at))
		if err := pause(ctx, probePause); err != nil {
			return pauses{}, err
		}
	}
	took := time.Since(began)
	after, err := infoNumber(ctx, g, "stats", "total_commands_processed")
	if err != nil {
		return pauses{}, err
	}
	slices.Sort(times)
	at := func(share float64) time.Duration { return times[min(int(share*float64(len(times))), len(times)-1)] }
	return pauses{at(0.5), at(0.99), at(0.999), times[len(times)-1], float64(after-before) / took.Seconds(), len(times)}, nil
}
