package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// readKeys is how many keys the figures of reads read.
const readKeys = 3000

// reader is GETs of some keys on connections of one kind; MOVED is counted, any other error ends the run.
type reader struct {
	keys     []string
	readonly bool
	moved    *atomic.Int64
}

// benchReads compares what a read costs at each level, at one node of three. The clusters run one after the other.
func benchReads(ctx context.Context, o options, _ *farm) error {
	fmt.Printf("\n## GET at one node of three (RF 3), by read level\n\n| level | P=1 req/s | P=16 req/s | redirected |\n|---|---|---|---|\n")
	return errors.Join(readsOf(ctx, o, "lease"), readsOf(ctx, o, "quorum"))
}

// readsOf starts a cluster with that level and prints a row for each way to read from it.
func readsOf(ctx context.Context, o options, level string) (err error) {
	f, err := newFarm()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, f.stop()) }()
	nodes, err := f.nodes(ctx, o.node, 3, "--cluster.reads="+level)
	if err != nil {
		return err
	}
	own, others, err := readingKeys(nodes.port)
	if err != nil {
		return err
	}
	var moved atomic.Int64
	ways := []struct {
		name string
		r    reader
	}{
		{level, reader{own, false, &moved}}, {level + ", forwarded to the primary", reader{others, false, &moved}},
		{"stale, at a replica (reads: " + level + ")", reader{others, true, &moved}},
	}
	for _, way := range ways {
		var best [2]float64
		redirected := 0.0
		for range o.rounds {
			for i, pipeline := range []int{1, 16} {
				if _, err := way.r.run(ctx, nodes.port, pipeline, o.each/4); err != nil { // the first stale reads are redirected
					return err
				}
				moved.Store(0)
				rate, err := way.r.run(ctx, nodes.port, pipeline, o.each)
				if err != nil {
					return err
				}
				best[i] = max(best[i], rate)
				redirected = max(redirected, float64(moved.Load())/(rate*o.each.Seconds()))
			}
		}
		fmt.Printf("| %s | %.0f | %.0f | %.1f %% |\n", way.name, best[0], best[1], 100*redirected)
	}
	return nil
}

// readingKeys writes keys and tells which of them the node leads.
func readingKeys(port int) (own, others []string, err error) {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return nil, nil, err
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	r := bufio.NewReader(c)
	say := func(command string) (string, error) {
		if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
			return "", err
		}
		return r.ReadString('\n')
	}
	for i := range readKeys {
		key := fmt.Sprintf("key:%d", i)
		for _, command := range []string{"SET " + key + " xxx", "READONLY", "SET " + key + " xxx", "READWRITE"} {
			reply, err := say(command)
			switch {
			case err != nil:
				return nil, nil, err
			case strings.HasPrefix(reply, "-MOVED"):
				others = append(others, key)
			case reply != "+OK\r\n":
				return nil, nil, fmt.Errorf("%s: %s", command, reply)
			}
		}
		if len(others) == 0 || others[len(others)-1] != key {
			own = append(own, key)
		}
	}
	if len(own) == 0 || len(others) == 0 {
		return nil, nil, fmt.Errorf("the node leads %d of %d keys", len(own), readKeys)
	}
	return own, others, nil
}

// run reads for about d and returns the rate.
func (l reader) run(ctx context.Context, port, pipeline int, d time.Duration) (float64, error) {
	errs := make([]error, clients)
	var n atomic.Int64
	var wg sync.WaitGroup
	began := time.Now()
	for i := range clients {
		wg.Go(func() { errs[i] = l.get(ctx, port, pipeline, began.Add(d), &n) })
	}
	wg.Wait()
	return float64(n.Load()) / time.Since(began).Seconds(), errors.Join(errs...)
}

func (l reader) get(ctx context.Context, port, pipeline int, until time.Time, n *atomic.Int64) error {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	_ = c.SetDeadline(until.Add(10 * time.Second))
	r := bufio.NewReaderSize(c, 64<<10)
	if l.readonly {
		if _, err := fmt.Fprint(c, "READONLY\r\n"); err != nil {
			return err
		}
		if _, err := r.ReadString('\n'); err != nil {
			return err
		}
	}
	var out []byte
	for time.Now().Before(until) && ctx.Err() == nil {
		out = out[:0]
		for range pipeline {
			key := l.keys[rand.IntN(len(l.keys))]
			out = fmt.Appendf(out, "*2\r\n$3\r\nGET\r\n$%d\r\n%s\r\n", len(key), key)
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
		for range pipeline {
			line, err := r.ReadSlice('\n')
			switch {
			case err != nil:
				return err
			case string(line) == "$3\r\n":
				if _, err := r.Discard(5); err != nil {
					return err
				}
			case strings.HasPrefix(string(line), "-MOVED"):
				l.moved.Add(1)
			default:
				return fmt.Errorf("GET: %q", line)
			}
		}
		n.Add(int64(pipeline))
	}
	return ctx.Err()
}
