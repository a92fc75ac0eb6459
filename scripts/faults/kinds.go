//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

// kind is one way in which things go wrong. run makes the fault, holds it and takes it back; whatever it cut is healed by
// the caller too.
type kind struct {
	name string
	// least is how many nodes it takes.
	least int
	run   func(ctx context.Context, l *lab, rng *rand.Rand) error
}

// hold is how long most faults last: longer than a failover.
const hold = 5 * time.Second

func kinds() []kind {
	return append(append(clockKinds(), diskKinds()...), []kind{
		{"nothing (for comparison)", 1, func(ctx context.Context, _ *lab, _ *rand.Rand) error { return pause(ctx, hold) }},
		{"kill -9, restart after 5 s", 3, killed},
		{"kill -9, restart at once", 3, bounced},
		{"power loss: unsynced tail gone, another boot", 3, powerLoss},
		{"pause (SIGSTOP) 5 s", 3, paused},
		{"pauses of 900 ms with 100 ms between", 3, stuttering},
		{"restart by SIGTERM, all nodes in turn", 3, rolling},
		{"one node cut off", 3, cutOff},
		{"halves", 4, halves},
		{"bridge: two sides that only one node links", 3, bridged},
		{"one-way: a node hears nobody", 3, deaf},
		{"one-way: nobody hears a node", 3, mute},
		{"flapping link, 300 ms", 3, flapping},
		{"20 % packet loss", 3, ruled(rules{loss: 0.2})},
		{"delay of 50 to 150 ms", 3, ruled(rules{delay: 50 * time.Millisecond, jitter: 100 * time.Millisecond})},
		{"duplicates and reordering", 3, ruled(rules{duplicate: 0.3, jitter: 20 * time.Millisecond})},
		{"drain, leave, wipe, join again", 4, rejoined},
		{"dead for good, replaced under another address", 4, replaced},
		{"kill -9 of one, another cut off", 5, twoAtOnce},
		{"kill -9 of all", 3, blackout},
	}...)
}

func victim(l *lab, rng *rand.Rand) *host {
	all := l.all()
	h := all[rng.IntN(len(all))]
	l.blame(h)
	return h
}

func killed(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	h.end(syscall.SIGKILL)
	return errors.Join(pause(ctx, hold), h.start())
}

func bounced(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	h.end(syscall.SIGKILL)
	return errors.Join(h.start(), pause(ctx, hold))
}

// powerLoss takes up to 64 KiB from the end of the newest log file: with fsync every second a power loss may take any
// part of what was not synced. With fsync always nothing may go.
func powerLoss(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	h.end(syscall.SIGKILL)
	if l.fsync != "always" {
		if err := h.tear(rng); err != nil {
			return err
		}
	}
	if err := h.reboot(); err != nil {
		return err
	}
	return errors.Join(pause(ctx, hold), h.start())
}

// tear cuts bytes from the end of the newest increment.
func (h *host) tear(rng *rand.Rand) error {
	files, err := filepath.Glob(filepath.Join(h.data, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("%s has no log to tear: %w", h.id, err)
	}
	var newest string
	var at time.Time
	for _, f := range files {
		if info, err := os.Stat(f); err == nil && info.ModTime().After(at) {
			newest, at = f, info.ModTime()
		}
	}
	info, err := os.Stat(newest)
	if err != nil {
		return err
	}
	const keep = 64 // the file's own first line
	return os.Truncate(newest, max(info.Size()-rng.Int64N(64<<10), min(keep, info.Size())))
}

func paused(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	h.signal(syscall.SIGSTOP)
	defer h.signal(syscall.SIGCONT)
	return pause(ctx, hold)
}

func stuttering(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	defer h.signal(syscall.SIGCONT)
	for range 6 {
		h.signal(syscall.SIGSTOP)
		if err := pause(ctx, 900*time.Millisecond); err != nil {
			return err
		}
		h.signal(syscall.SIGCONT)
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func rolling(ctx context.Context, l *lab, _ *rand.Rand) error {
	l.blame(l.all()...)
	for _, h := range l.all() {
		h.end(syscall.SIGTERM)
		if err := h.start(); err != nil {
			return err
		}
		if err := l.awaitReady(ctx, time.Minute); err != nil {
			return err
		}
	}
	return nil
}

// sides are the addresses of one node and of all others.
func sides(l *lab, h *host) (one, others []netip.Addr) {
	for _, o := range l.all() {
		if o == h {
			one = append(one, o.addr)
		} else {
			others = append(others, o.addr)
		}
	}
	return one, others
}

func cutOff(ctx context.Context, l *lab, rng *rand.Rand) error {
	one, others := sides(l, victim(l, rng))
	l.wire.cut(between(one, others)...)
	return pause(ctx, hold)
}

// halved are the addresses in two parts, the second the larger one.
func halved(l *lab, rng *rand.Rand) (a, b []netip.Addr) {
	all := l.all()
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	for i, h := range all {
		if i < len(all)/2 {
			l.blame(h)
			a = append(a, h.addr)
		} else {
			b = append(b, h.addr)
		}
	}
	return a, b
}

func halves(ctx context.Context, l *lab, rng *rand.Rand) error {
	a, b := halved(l, rng)
	l.wire.cut(between(a, b)...)
	return pause(ctx, hold)
}

func bridged(ctx context.Context, l *lab, rng *rand.Rand) error {
	a, b := halved(l, rng)
	l.wire.cut(between(a, b[1:])...)
	return pause(ctx, hold)
}

func deaf(ctx context.Context, l *lab, rng *rand.Rand) error {
	one, others := sides(l, victim(l, rng))
	for _, o := range others {
		l.wire.cut(link{o, one[0]})
	}
	return pause(ctx, hold)
}

func mute(ctx context.Context, l *lab, rng *rand.Rand) error {
	one, others := sides(l, victim(l, rng))
	for _, o := range others {
		l.wire.cut(link{one[0], o})
	}
	return pause(ctx, hold)
}

func flapping(ctx context.Context, l *lab, rng *rand.Rand) error {
	one, others := sides(l, victim(l, rng))
	for range 8 {
		l.wire.cut(between(one, others)...)
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
		l.wire.heal()
		if err := pause(ctx, 300*time.Millisecond); err != nil {
			return err
		}
	}
	return nil
}

func ruled(r rules) func(context.Context, *lab, *rand.Rand) error {
	return func(ctx context.Context, l *lab, _ *rand.Rand) error {
		l.wire.set(r)
		return pause(ctx, hold)
	}
}

func diskFull(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	ballast := filepath.Join(h.data, "ballast")
	defer os.Remove(ballast)
	f, err := os.Create(ballast)
	if err != nil {
		return err
	}
	if err := errors.Join(fill(f), f.Close()); err != nil {
		return err
	}
	return pause(ctx, hold)
}

// fill reserves all space that the file system of f has left. It writes nothing: half a gigabyte written at once would stall
// the fsyncs of all nodes, whose file systems share a disk here, and hide what the full one does.
func fill(f *os.File) error {
	var at int64
	for size := int64(1 << 30); size >= 4096; {
		switch err := syscall.Fallocate(int(f.Fd()), 0, at, size); {
		case err == nil:
			at += size
		case errors.Is(err, syscall.ENOSPC):
			size /= 2
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("fill %s: %w", f.Name(), err)
		}
	}
	return nil
}

// rejoined has a node drained, which gives its data to the others and leaves the cluster; then it joins again, empty.
func rejoined(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if err := h.drain(ctx); err != nil {
		return err
	}
	h.end(syscall.SIGTERM)
	if err := h.wipe(); err != nil {
		return err
	}
	return errors.Join(pause(ctx, time.Second), h.start())
}

func (h *host) drain(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "ip", "netns", "exec", h.namespace, h.lab.program, "drain",
		"-addr", fmt.Sprintf("127.0.0.1:%d", httpPort), "-secret-file", filepath.Join(h.lab.dir, "secret"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("drain %s: %w: %s", h.id, err, out)
	}
	return nil
}

func (h *host) wipe() error {
	entries, err := os.ReadDir(h.data)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(h.data, e.Name())))
	}
	return err
}

// replaced kills a node for good and puts an empty machine with the same id and another address in its place.
func replaced(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	h.end(syscall.SIGKILL)
	if err := pause(ctx, 2*time.Second); err != nil {
		return err
	}
	return l.replace(h)
}

func twoAtOnce(ctx context.Context, l *lab, rng *rand.Rand) error {
	all := l.all()
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	l.blame(all[0], all[1])
	one, others := sides(l, all[1])
	l.wire.cut(between(one, others)...)
	all[0].end(syscall.SIGKILL)
	return errors.Join(pause(ctx, hold), all[0].start())
}

// blackout kills all processes at once: no kernel has failed, so nothing may be lost.
func blackout(_ context.Context, l *lab, _ *rand.Rand) error {
	l.blame(l.all()...)
	var wg sync.WaitGroup
	for _, h := range l.all() {
		wg.Go(func() { h.end(syscall.SIGKILL) })
	}
	wg.Wait()
	var errs []error
	for _, h := range l.all() {
		errs = append(errs, h.start())
	}
	return errors.Join(errs...)
}

// named are the kinds whose name contains one of several texts, which a | parts.
func named(texts string, nodes int) (some []kind) {
	for _, k := range kinds() {
		has := func(text string) bool { return strings.Contains(k.name, text) }
		if slices.ContainsFunc(strings.Split(texts, "|"), has) && k.least <= nodes {
			some = append(some, k)
		}
	}
	return some
}
