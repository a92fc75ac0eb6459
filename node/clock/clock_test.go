package clock

import (
	"bytes"
	"context"
	"log/slog"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// machineClocks are clocks that a test moves.
type machineClocks struct {
	mu        sync.Mutex
	step      time.Duration // of the wall
	suspended time.Duration
	began     time.Time
}

func (m *machineClocks) options(log *bytes.Buffer) Options {
	m.began = time.Now()
	return Options{
		Wall: func() int64 {
			m.mu.Lock()
			defer m.mu.Unlock()
			return time.Now().Add(m.step + m.suspended).UnixNano()
		},
		Elapsed: func() time.Duration {
			m.mu.Lock()
			defer m.mu.Unlock()
			return time.Since(m.began) + m.suspended
		},
		Logger: slog.New(slog.NewTextHandler(log, nil)),
	}
}

func (m *machineClocks) set(step, suspended time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.step, m.suspended = step, suspended
}

// inBubble runs a test with a clock of which Run is at work.
func inBubble(t *testing.T, test func(m *machineClocks, c *Clock, log *bytes.Buffer), change func(*Options)) {
	synctest.Test(t, func(t *testing.T) {
		m, log := &machineClocks{}, &bytes.Buffer{}
		o := m.options(log)
		if change != nil {
			change(&o)
		}
		c := New(o)
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		wg.Go(func() { c.Run(ctx) })
		synctest.Wait()
		test(m, c, log)
		cancel()
		wg.Wait()
	})
}

func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// off is how far the guarded time is from the machine's true one, which is the bubble's.
func off(c *Clock) time.Duration {
	return time.Duration(c.Unix(c.Ticks())-time.Now().UnixMilli()) * time.Millisecond
}

func TestALoneNodeFollowsAStepAfterAMinute(t *testing.T) {
	inBubble(t, func(m *machineClocks, c *Clock, log *bytes.Buffer) {
		if s := c.Status(); s.Frozen || s.Guarded || off(c) != 0 {
			t.Fatalf("at the start: %+v, off by %v", s, off(c))
		}
		before := c.Ticks()
		m.set(time.Hour, 0)
		pass(Stand - 5*time.Second)
		if s := c.Status(); off(c) != 0 || !s.Guarded || s.Offset != time.Hour {
			t.Errorf("just before a minute: %+v, off by %v", s, off(c))
		}
		pass(10 * time.Second)
		if s := c.Status(); off(c) != time.Hour || s.Guarded || s.Offset != 0 {
			t.Errorf("after a minute: %+v, off by %v", s, off(c))
		}
		if ticks := c.Ticks() - before; ticks != (Stand + 5*time.Second).Milliseconds() {
			t.Errorf("the step moved ticks: %d in 65 s", ticks)
		}
		if n := strings.Count(log.String(), "\n"); n != 2 || !strings.Contains(log.String(), "step=1h0m0s") {
			t.Errorf("the log, of two lines, should tell the size of the step:\n%s", log)
		}
	}, nil)
}

func TestAMachineThatWasSuspendedCountsItsSleep(t *testing.T) {
	inBubble(t, func(m *machineClocks, c *Clock, log *bytes.Buffer) {
		m.set(0, 3*time.Hour)
		pass(2 * every)
		if off(c) != 3*time.Hour || c.Status().Guarded {
			t.Errorf("off by %v of 3h: %+v", off(c), c.Status())
		}
		if log.Len() > 0 {
			t.Errorf("it was taken for a step:\n%s", log)
		}
	}, nil)
}

func TestAWallThatJumpsIsLoggedOnceAMinute(t *testing.T) {
	inBubble(t, func(m *machineClocks, c *Clock, log *bytes.Buffer) {
		for i := range 200 {
			m.set(time.Duration(1-i%2)*30*time.Second, 0)
			pass(500 * time.Millisecond)
		}
		if n := strings.Count(log.String(), "stepped"); n != 2 {
			t.Errorf("%d lines in 100 s:\n%s", n, log)
		}
		if off(c) != 0 {
			t.Errorf("off by %v", off(c))
		}
	}, nil)
}

// told is a report as another node sends it.
func told(steady bool, wall, guarded time.Time) []byte {
	o := New(Options{Wall: wall.UnixNano, Elapsed: func() time.Duration { return 0 }})
	o.steady.Store(steady)
	o.offset.Store(guarded.UnixNano())
	return o.Report(nil)
}

func TestANodeThatStartsWrongTakesThePeersTime(t *testing.T) {
	frozen := []bool{}
	inBubble(t, func(m *machineClocks, c *Clock, log *bytes.Buffer) {
		m.set(-2*time.Hour, 0)
		pass(time.Second)
		if !c.Status().Frozen {
			t.Fatal("it expires keys before it has heard anybody")
		}
		const trip = 40 * time.Millisecond
		now := time.Now().Add(-trip / 2)
		c.Heard("b", told(true, now, now), trip)
		c.Heard("stranger", told(true, now.Add(time.Hour), now.Add(time.Hour)), trip)
		pass(every)
		if s := c.Status(); off(c) != 0 || s.Frozen || !s.Guarded || s.Offset != -2*time.Hour {
			t.Errorf("%+v, off by %v", s, off(c))
		}
		if !strings.Contains(log.String(), "this machine's wall clock is wrong") || !strings.Contains(log.String(), "off_by=-2h0m0s") {
			t.Errorf("it should say so:\n%s", log)
		}
		pass(2 * fresh)
		if off(c) != 0 || c.Status().Frozen {
			t.Errorf("once it hears nobody: off by %v, %+v", off(c), c.Status())
		}
		if len(frozen) != 2 || !frozen[0] || frozen[1] {
			t.Errorf("Freeze was told %v", frozen)
		}
	}, func(o *Options) {
		o.Members = func() ([]string, bool) { return []string{"a", "b", "c"}, true }
		o.Freeze = func(on bool) { frozen = append(frozen, on) }
	})
}

func TestReportsOfNoUseAreIgnored(t *testing.T) {
	now := time.Now()
	good := told(true, now, now)
	for name, c := range map[string]struct {
		report []byte
		trip   time.Duration
	}{
		"empty":                {nil, 0},
		"short":                {good[:reportSize-1], 0},
		"a time out of bounds": {bytes.Repeat([]byte{0xff}, reportSize), 0},
		"slow":                 {good, maxTrip + 1},
		"from the future":      {good, -1},
	} {
		x := New(Options{})
		if x.Heard("b", c.report, c.trip); len(x.heard) != 0 {
			t.Errorf("%s: taken", name)
		}
	}
	x := New(Options{})
	if x.Heard("b", append(good, "more of a later version"...), 0); len(x.heard) != 1 {
		t.Error("a longer report of a later version is not understood")
	}
}

func FuzzHeard(f *testing.F) {
	f.Add(told(true, time.Now(), time.Now()), int64(1000))
	f.Add([]byte{}, int64(-1))
	f.Fuzz(func(t *testing.T, b []byte, trip int64) {
		c := New(Options{Members: func() ([]string, bool) { return []string{"a", "b"}, true }})
		c.Heard("b", b, time.Duration(trip))
		c.look()
		if d := c.Status().Offset; d > 150*365*24*time.Hour || d < -150*365*24*time.Hour {
			t.Errorf("off by %v", d)
		}
	})
}
