//go:build linux

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"time"
)

// stepFile is node/clock's StepFile: the environment variable that tells a node of build tag faults where to read what to
// add to its wall clock.
const stepFile = "HYPERCACHE_CLOCK_STEP_FILE"

// build makes the node's program with the hooks that faults need.
func build(ctx context.Context, dir string) (program string, err error) {
	program = filepath.Join(dir, "hypercache")
	cmd := exec.CommandContext(ctx, "go", "build", "-tags", "faults", "-buildvcs=false", "-o", program, "hypercache/node/cmd/hypercache")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build the node: %w: %s", err, out)
	}
	return program, nil
}

// clockFile is what the node reads its wall clock's error from.
func (h *host) clockFile() string { return h.data + ".clock" }

// step puts the host's wall clock off by d from now on. The file is replaced, so the node never reads half a number.
func (h *host) step(d time.Duration) error {
	next := h.clockFile() + ".next"
	if err := os.WriteFile(next, strconv.AppendInt(nil, d.Milliseconds(), 10), 0o600); err != nil {
		return err
	}
	return os.Rename(next, h.clockFile())
}

// notices waits until the node says that it does not follow its wall clock. One that says nothing was built without the tag
// faults, and a run with it would show nothing.
func (h *host) notices(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	c := h.lab.httpClient(time.Second)
	defer c.CloseIdleConnections()
	for {
		var health struct {
			Clock struct{ State string }
		}
		if r, err := c.Get(fmt.Sprintf("http://%s:%d/health", h.addr, httpPort)); err == nil {
			err = json.NewDecoder(io.LimitReader(r.Body, 1<<16)).Decode(&health)
			_ = r.Body.Close()
			if err == nil && health.Clock.State == "guarded" {
				return nil
			}
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("%s does not notice that its clock was set: clock state %q; was it built with -tags faults?", h.id, health.Clock.State)
		}
	}
}

func clockKinds() []kind {
	return []kind{
		{"clock of one node +1 h", 3, stepped(time.Hour)},
		{"clock of one node -1 h", 3, stepped(-time.Hour)},
		{"clock of one node jumps by 30 s every 500 ms", 3, jumping},
		{"clocks of all nodes +1 h", 3, allStepped(time.Hour)},
		{"a node starts with its clock at +2 h", 3, startsWrong},
	}
}

func stepped(by time.Duration) func(context.Context, *lab, *rand.Rand) error {
	return func(ctx context.Context, l *lab, rng *rand.Rand) error {
		h := victim(l, rng)
		return errors.Join(h.step(by), h.notices(ctx), pause(ctx, hold))
	}
}

func allStepped(by time.Duration) func(context.Context, *lab, *rand.Rand) error {
	return func(ctx context.Context, l *lab, _ *rand.Rand) error {
		l.blame(l.all()...)
		for _, h := range l.all() {
			if err := h.step(by); err != nil {
				return err
			}
		}
		return errors.Join(l.all()[0].notices(ctx), pause(ctx, hold))
	}
}

func jumping(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	for i := range int(hold / (500 * time.Millisecond)) {
		by := 30 * time.Second
		if i%2 == 1 {
			by = -by
		}
		if err := errors.Join(h.step(by), pause(ctx, 500*time.Millisecond)); err != nil {
			return err
		}
	}
	return nil
}

func startsWrong(ctx context.Context, l *lab, rng *rand.Rand) error {
	h := victim(l, rng)
	h.end(syscall.SIGKILL)
	if err := errors.Join(h.step(2*time.Hour), h.start()); err != nil {
		return err
	}
	return errors.Join(l.awaitReady(ctx, time.Minute), h.notices(ctx), pause(ctx, hold))
}
