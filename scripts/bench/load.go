package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

const (
	clients  = 50
	keyspace = 100000
)

// load runs about n requests of one kind, pipelined, and returns requests per second.
type load func(ctx context.Context, g group, test string, pipeline, n int) (float64, error)

type side struct {
	name  string
	group group
	load  load
}

type figure struct {
	rate float64
	cpu  time.Duration
}

// compare prints a table of both sides and their ratios.
func compare(ctx context.Context, o options, sides []side, tests []string) error {
	fmt.Printf("| P | command | %s req/s | %s req/s | ratio | %s CPU | %s CPU | ratio |\n|---|---|---|---|---|---|---|---|\n",
		sides[0].name, sides[1].name, sides[0].name, sides[1].name)
	for _, pipeline := range []int{1, 16, 64} {
		for _, test := range tests {
			var best [2]figure
			for range o.rounds {
				for i, s := range sides {
					f, err := measure(ctx, o, s, test, pipeline)
					if err != nil {
						return fmt.Errorf("%s, %s, P=%d: %w", s.name, test, pipeline, err)
					}
					best[i].rate = max(best[i].rate, f.rate)
					if best[i].cpu == 0 || f.cpu < best[i].cpu {
						best[i].cpu = f.cpu
					}
				}
			}
			a, b := best[0], best[1]
			fmt.Printf("| %d | %s | %.0f | %.0f | **%.2f** | %.2f µs | %.2f µs | %.2f |\n", pipeline, strings.ToUpper(test),
				a.rate, b.rate, b.rate/a.rate, micros(a.cpu), micros(b.cpu), micros(b.cpu)/micros(a.cpu))
		}
	}
	return nil
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }

// measure sizes the run by a short one first.
func measure(ctx context.Context, o options, s side, test string, pipeline int) (figure, error) {
	rate, err := s.load(ctx, s.group, test, pipeline, 5000*min(pipeline, 16))
	if err != nil {
		return figure{}, err
	}
	n := max(int(rate*o.each.Seconds()), clients*pipeline)
	before, err := s.group.cpu()
	if err != nil {
		return figure{}, err
	}
	if rate, err = s.load(ctx, s.group, test, pipeline, n); err != nil {
		return figure{}, err
	}
	after, err := s.group.cpu()
	return figure{rate: rate, cpu: (after - before) / time.Duration(n)}, err
}

func redisBenchmark(ctx context.Context, g group, test string, pipeline, n int) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	out, err := exec.CommandContext(ctx, "redis-benchmark", "-p", strconv.Itoa(g.port), "-t", test, "-c", strconv.Itoa(clients),
		"-r", strconv.Itoa(keyspace), "-n", strconv.Itoa(n), "-P", strconv.Itoa(pipeline), "--csv").Output()
	if err != nil {
		return 0, fmt.Errorf("redis-benchmark: %w", err)
	}
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	fields := strings.Split(lines[len(lines)-1], ",")
	if len(fields) < 2 {
		return 0, fmt.Errorf("redis-benchmark printed %q", out)
	}
	return strconv.ParseFloat(strings.Trim(fields[1], `"`), 64)
}

// waits says where Redis is asked to wait for a replica.
type waits int

const (
	never       waits = iota
	perPipeline       // one WAIT 1 behind all SETs of a pipeline: the client learns of all of them at once
	perSET            // a WAIT 1 behind every SET: each reply promises what ours does
)

const waitOne = "*3\r\n$4\r\nWAIT\r\n$1\r\n1\r\n$1\r\n0\r\n"

// pipelined is a load of SETs from this process, for what redis-benchmark can't do.
func pipelined(wait waits) load {
	return func(ctx context.Context, g group, _ string, pipeline, n int) (float64, error) {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
		defer cancel()
		var left atomic.Int64
		left.Store(int64(n))
		errs := make([]error, clients)
		var wg sync.WaitGroup
		began := time.Now()
		for i := range clients {
			wg.Go(func() { errs[i] = setter(ctx, g.port, pipeline, wait, &left) })
		}
		wg.Wait()
		return float64(n) / time.Since(began).Seconds(), errors.Join(errs...)
	}
}

func setter(ctx context.Context, port, pipeline int, wait waits, left *atomic.Int64) error {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	deadline, _ := ctx.Deadline()
	_ = c.SetDeadline(deadline)
	r := bufio.NewReaderSize(c, 64<<10)
	var out []byte
	for left.Add(-int64(pipeline)) >= 0 {
		out = out[:0]
		replies := pipeline
		for i := range pipeline {
			out = fmt.Appendf(out, "*3\r\n$3\r\nSET\r\n$16\r\nkey:%012d\r\n$3\r\nxxx\r\n", rand.IntN(keyspace))
			if wait == perSET || wait == perPipeline && i == pipeline-1 {
				out = append(out, waitOne...)
				replies++
			}
		}
		if _, err := c.Write(out); err != nil {
			return err
		}
		for range replies {
			line, err := r.ReadSlice('\n')
			if err != nil {
				return err
			}
			if bytes.HasPrefix(line, []byte("-")) {
				return fmt.Errorf("the server answered %q", line)
			}
		}
	}
	return nil
}
