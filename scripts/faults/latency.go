//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"hypercache/node/ring"
)

const (
	movedKeys    = 200_000
	movedBytes   = 100
	probeClients = 10
	probeEvery   = 20 * time.Millisecond // of each client: 500 SETs a second
	quietTime    = 10 * time.Second
	slowSET      = 20 * time.Millisecond
	stillFor     = time.Second // without a group on the move
)

// phase is a part of a run whose latencies are told apart.
type phase struct {
	name string
	run  func(ctx context.Context) error
}

// probes are clients that set keys at a fixed pace at nodes that nothing is done to. A latency counts from when its SET was
// due, so that one slow answer shows in those that had to wait behind it.
type probes struct {
	lab    *lab
	phase  atomic.Int32
	cancel context.CancelFunc
	wg     sync.WaitGroup
	mu     sync.Mutex
	took   map[int32][]time.Duration
	failed map[int32]int
	each   io.Writer // unless nil, a line for every SET
}

// latencies measures how long SETs take while nodes leave, join and are replaced.
func (l *lab) latencies(ctx context.Context, o options) error {
	if o.nodes < 4 {
		return fmt.Errorf("latencies of a drain: %d nodes are too few, want 4 at least", o.nodes)
	}
	if err := l.preload(ctx); err != nil {
		return fmt.Errorf("preload: %w", err)
	}
	rng := rand.New(rand.NewPCG(o.seed, 0))
	all := l.all()
	first, second := all[rng.IntN(len(all)/2)], all[len(all)/2+rng.IntN((len(all)+1)/2)]
	quiet := func(ctx context.Context) error { return pause(ctx, quietTime) }
	phases := []phase{
		{"quiet", quiet},
		{"a node drains and leaves", func(ctx context.Context) error { l.blame(first); return first.drain(ctx) }},
		{"it joins again, empty", func(ctx context.Context) error {
			l.blame(first)
			first.end(syscall.SIGTERM)
			if err := first.wipe(); err != nil {
				return err
			}
			if err := first.start(); err != nil {
				return err
			}
			return l.awaitStill(ctx)
		}},
		{"a node is killed, to be replaced", func(ctx context.Context) error {
			l.blame(second)
			second.end(syscall.SIGKILL)
			return pause(ctx, 2*time.Second)
		}},
		{"it is replaced under another address", func(ctx context.Context) error {
			l.blame(second)
			if err := l.replace(second); err != nil {
				return err
			}
			return l.awaitStill(ctx)
		}},
		{"quiet again", quiet},
	}
	phases = slices.DeleteFunc(phases, func(p phase) bool {
		return p.name != "quiet" && !slices.ContainsFunc(strings.Split(o.only, "|"), func(s string) bool { return strings.Contains(p.name, s) })
	})
	if err := l.awaitStill(ctx); err != nil {
		return err
	}
	each, err := samples(o.samples)
	if err != nil {
		return err
	}
	p := l.probe(ctx, each)
	var took []time.Duration
	for i := 0; i < len(phases) && err == nil; i++ {
		p.phase.Store(int32(i))
		began := time.Now()
		if err = phases[i].run(ctx); err != nil {
			err = fmt.Errorf("%s: %w", phases[i].name, err)
		}
		took = append(took, time.Since(began))
		l.heal()
		fmt.Fprintf(os.Stderr, "%s: %v\n", phases[i].name, took[i].Round(time.Millisecond))
	}
	p.cancel()
	p.wg.Wait()
	if err == nil {
		p.report(phases, took)
	}
	if each != nil {
		err = errors.Join(err, each.Flush(), each.file.Close())
	}
	return err
}

// sampleFile is written through a buffer, so that the disk is not in a client's way.
type sampleFile struct {
	*bufio.Writer
	file *os.File
}

// samples opens the file that gets a line for every SET, if there is to be one.
func samples(name string) (*sampleFile, error) {
	if name == "" {
		return nil, nil
	}
	f, err := os.Create(name)
	if err != nil {
		return nil, err
	}
	s := &sampleFile{bufio.NewWriterSize(f, 1<<20), f}
	fmt.Fprintln(s, "due,ms,group,node,phase,outcome")
	return s, nil
}

func (p *probes) report(phases []phase, took []time.Duration) {
	fmt.Printf("\n| %d keys of %d bytes; %d SETs a second at nodes that nothing is done to | lasted | SETs | failed | p50 | p99 | max | over 20 ms |\n|---|---|---|---|---|---|---|---|\n",
		movedKeys, movedBytes, int(time.Second/probeEvery)*probeClients)
	for i, ph := range phases {
		list := p.took[int32(i)]
		slices.Sort(list)
		first, _ := slices.BinarySearch(list, slowSET)
		slow := len(list) - first
		at := func(q float64) float64 {
			if len(list) == 0 {
				return 0
			}
			return list[min(int(q*float64(len(list))), len(list)-1)].Seconds() * 1000
		}
		fmt.Printf("| %s | %.1f s | %d | %d | %.2f ms | %.2f ms | %.1f ms | %d |\n", ph.name, took[i].Seconds(), len(list), p.failed[int32(i)], at(0.5), at(0.99), at(1), slow)
	}
}

func (l *lab) probe(ctx context.Context, each *sampleFile) *probes {
	ctx, cancel := context.WithCancel(ctx)
	p := &probes{lab: l, cancel: cancel, took: map[int32][]time.Duration{}, failed: map[int32]int{}}
	if each != nil {
		p.each = each
	}
	for i := range probeClients {
		p.wg.Go(func() { p.run(ctx, i) })
	}
	return p
}

// healthyFrom is the first node from the at-th one on that nothing is done to.
func (l *lab) healthyFrom(at int) *host {
	for i := range l.all() {
		if h := l.pick(at + i); l.healthy(h) {
			return h
		}
	}
	return l.pick(at)
}

func (p *probes) run(ctx context.Context, client int) {
	k := respClient{lab: p.lab}
	defer k.close()
	var on *host
	value := strings.Repeat("p", movedBytes)
	due := time.Now().Add(probeEvery * time.Duration(client) / probeClients)
	for n := 0; pause(ctx, max(time.Until(due), 0)) == nil; n++ {
		if h := p.lab.healthyFrom(client); h != on {
			k.close()
			on = h
		}
		phase := p.phase.Load()
		key := fmt.Sprintf("moved:%d", (n*probeClients+client)*7919%movedKeys)
		_, out, _ := k.do(ctx, on, "SET", key, value)
		took := time.Since(due)
		p.mu.Lock()
		if p.each != nil {
			fmt.Fprintf(p.each, "%s,%.3f,%d,%s,%d,%d\n", due.Format("15:04:05.000000"), took.Seconds()*1000, ring.GroupOf(ring.Slot([]byte(key))), on.id, phase, out)
		}
		if out == acked {
			p.took[phase] = append(p.took[phase], took)
		} else {
			p.failed[phase]++
		}
		p.mu.Unlock()
		due = due.Add(probeEvery)
	}
}

// preload sets the keys that are going to be moved, in pipelines.
func (l *lab) preload(ctx context.Context) error {
	k := respClient{lab: l}
	defer k.close()
	value := strings.Repeat("v", movedBytes)
	const batch = 1000
	for from := 0; from < movedKeys; from += batch {
		var b bytes.Buffer
		for i := from; i < from+batch; i++ {
			request(&b, "SET", fmt.Sprintf("moved:%d", i), value)
		}
		if err := k.open(ctx, l.pick(from/batch)); err != nil {
			return err
		}
		_ = k.c.SetDeadline(time.Now().Add(10 * opTimeout))
		if _, err := k.c.Write(b.Bytes()); err != nil {
			return err
		}
		for range batch {
			if _, err := readReply(k.r); err != nil {
				return err
			}
		}
	}
	return nil
}

// awaitStill waits until every node is ready and no group has been on the move for a while.
func (l *lab) awaitStill(ctx context.Context) error {
	if err := l.awaitReady(ctx, 2*time.Minute); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	c := l.httpClient(2 * time.Second)
	defer c.CloseIdleConnections()
	var since time.Time
	for {
		moving, err := l.moving(func(h *host) (io.ReadCloser, error) {
			r, err := c.Get(fmt.Sprintf("http://%s:%d/api/cluster/topology", h.addr, httpPort))
			if err != nil {
				return nil, err
			}
			return r.Body, nil
		})
		switch {
		case err != nil || moving > 0:
			since = time.Time{}
		case since.IsZero():
			since = time.Now()
		case time.Since(since) > stillFor:
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("groups still move: %d, %w", moving, err)
		}
	}
}

// moving counts the groups whose replicas change, or lack one, as the last node sees it.
func (l *lab) moving(get func(*host) (io.ReadCloser, error)) (n int, err error) {
	all := l.all()
	body, err := get(all[len(all)-1])
	if err != nil {
		return 0, err
	}
	defer body.Close()
	var t struct {
		Groups []struct {
			Learner        string
			Next, Replicas []string
		}
	}
	if err := json.NewDecoder(io.LimitReader(body, 16<<20)).Decode(&t); err != nil {
		return 0, err
	}
	for _, g := range t.Groups {
		if g.Learner != "" || len(g.Next) > 0 || len(g.Replicas) < 3 {
			n++
		}
	}
	return n, nil
}
