//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
)

func diskKinds() []kind {
	return []kind{
		{"disk full on one node", 3, diskFull},
		{"disk of one node hangs for 5 s", 3, hung(1, hold)},
		{"disk of one node hangs for 700 ms, three times", 3, hung(3, 700*time.Millisecond)},
		{"disk of one node is slow: it hangs for 150 of every 300 ms", 3, slowed},
		{"disks of all nodes hang for 5 s", 3, allHung},
		{"disk of one node fails: EIO", 3, failing((*disk).dies)},
		{"disk of one node becomes read-only", 3, failing((*disk).errs)},
	}
}

// hung has one node's disk hang for a while, some times with a second between.
func hung(times int, lasts time.Duration) func(context.Context, *lab, *rand.Rand) error {
	return func(ctx context.Context, l *lab, rng *rand.Rand) error {
		h := victim(l, rng)
		return l.looked(ctx, func() error {
			for i := range times {
				if i > 0 {
					if err := pause(ctx, time.Second); err != nil {
						return err
					}
				}
				if err := errors.Join(h.disk.freeze(), pause(ctx, lasts), h.disk.thaw()); err != nil {
					return err
				}
			}
			return nil
		})
	}
}

func slowed(ctx context.Context, l *lab, rng *rand.Rand) error {
	const hangs, answers = 150 * time.Millisecond, 150 * time.Millisecond
	h := victim(l, rng)
	return l.looked(ctx, func() error {
		for began := time.Now(); time.Since(began) < hold; {
			if err := errors.Join(h.disk.freeze(), pause(ctx, hangs), h.disk.thaw(), pause(ctx, answers)); err != nil {
				return err
			}
		}
		return nil
	})
}

func allHung(ctx context.Context, l *lab, _ *rand.Rand) error {
	l.blame(l.all()...)
	return l.looked(ctx, func() error {
		err := l.disks((*disk).freeze)
		if err == nil {
			err = pause(ctx, hold)
		}
		return errors.Join(err, l.disks((*disk).thaw))
	})
}

// disks does the same to all disks at once.
func (l *lab) disks(do func(*disk) error) error {
	all := l.all()
	errs := make([]error, len(all))
	var wg sync.WaitGroup
	for i, h := range all {
		wg.Go(func() { errs[i] = do(h.disk) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// endsWithin is for how long a process may go on that met a failed disk: it answers nobody any more, and tries for 10 s to have the
// disk take a note of that.
const endsWithin = 15 * time.Second

// failing breaks a node's disk for good. The node must end, for whoever supervises it, and not run on it again. In the end the
// volume is back, with what was synced: with another boot of its machine, or, every other time, under the same one.
func failing(breaks func(*disk) error) func(context.Context, *lab, *rand.Rand) error {
	return func(ctx context.Context, l *lab, rng *rand.Rand) error {
		h := victim(l, rng)
		began := time.Now()
		if err := breaks(h.disk); err != nil {
			return err
		}
		if err := h.exits(ctx, endsWithin); err != nil {
			return fmt.Errorf("its disk fails: %w", err)
		}
		fmt.Fprintf(os.Stderr, "%s ended %v after its disk had failed\n", h.id, time.Since(began).Round(time.Millisecond))
		for time.Since(began) < hold {
			if err := h.start(); err != nil {
				return err
			}
			if err := h.exits(ctx, endsWithin); err != nil {
				return fmt.Errorf("it is started on a disk that fails: %w", err)
			}
			if err := pause(ctx, time.Second); err != nil {
				return err
			}
		}
		h.end(syscall.SIGKILL)
		err := h.disk.renew()
		if err == nil && rng.IntN(2) == 0 {
			err = h.reboot()
		}
		return errors.Join(err, h.start())
	}
}

// lookers are clients, one at each node, that read keys which nobody writes while a fault goes on.
type lookers struct {
	answered, failed [2]atomic.Int64 // at nodes that the fault is about, at healthy ones
	mu               sync.Mutex
	longest          [2]time.Duration // without an answer
	wg               sync.WaitGroup
}

const (
	lookKeys  = 100 // of all slots, so of all nodes
	lookEvery = 10 * time.Millisecond
)

// looked does what a fault does and says what reads came to meanwhile.
func (l *lab) looked(ctx context.Context, fault func() error) error {
	k := respClient{lab: l}
	for i := range lookKeys {
		if _, _, err := k.do(ctx, l.pick(0), "SET", fmt.Sprint("look:", i), "x"); err != nil {
			k.close()
			return fmt.Errorf("write what is to be read while a disk hangs: %w", err)
		}
	}
	k.close()
	x := &lookers{}
	looking, cancel := context.WithCancel(ctx)
	for i := range l.all() {
		x.wg.Go(func() { x.look(looking, l, l.pick(i)) })
	}
	err := fault()
	cancel()
	x.wg.Wait()
	for i, at := range []string{"nodes whose disk hangs", "healthy nodes"} {
		fmt.Fprintf(os.Stderr, "reads while it lasted, at %s: %d answered, %d not, longest without an answer %v\n", at, x.answered[i].Load(), x.failed[i].Load(), x.longest[i].Round(time.Millisecond))
	}
	return err
}

func (x *lookers) look(ctx context.Context, l *lab, h *host) {
	k := respClient{lab: l}
	defer k.close()
	at := 0
	if l.healthy(h) {
		at = 1
	}
	last := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		_, out, _ := k.do(ctx, h, "GET", fmt.Sprint("look:", i%lookKeys))
		if ctx.Err() == nil && out != acked {
			x.failed[at].Add(1)
			k.close()
		}
		x.mu.Lock()
		x.longest[at] = max(x.longest[at], time.Since(last))
		x.mu.Unlock()
		if out == acked {
			x.answered[at].Add(1)
			last = time.Now()
		}
		_ = pause(ctx, lookEvery)
	}
}
