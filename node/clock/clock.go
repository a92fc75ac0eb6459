package clock

import (
	"context"
	"encoding/binary"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

const (
	// every is the time between two looks at the clocks. A machine that was suspended counts the time of its sleep after
	// that long, and expires late until then.
	every = 100 * time.Millisecond
	// fresh is how old what another node said may be and still count.
	fresh = 5 * time.Second
	// maxTrip is the longest round trip that an estimate is made of: it may be wrong by half of it. A report that took
	// longer than quick replaces one that is not older than stale only if there is none.
	maxTrip = 500 * time.Millisecond
	quick   = 100 * time.Millisecond
	stale   = 2 * time.Second
	// sayAgain is the least time between two warnings of one kind: a clock may jump several times a second.
	sayAgain = time.Minute

	reportSize = 1 + 8 + 8
	flagSteady = 1
)

// Options configure a Clock. Zero values take the defaults named.
type Options struct {
	// Members are the ids of the cluster's nodes; self is whether this one is among them. It must not block. nil: this node
	// is alone.
	Members func() (ids []string, self bool)
	// Freeze is told whether nothing may expire: at New, and whenever that changes. It must not block.
	Freeze func(on bool)
	Logger *slog.Logger
	// Wall (unix ns) and Elapsed are the machine's clocks. Elapsed counts suspension where the system can tell.
	Wall    func() int64
	Elapsed func() time.Duration
}

// Clock is a node's guarded clock. Its methods are safe for concurrent use; those that tell the time read one atomic.
type Clock struct {
	opt    Options
	log    *slog.Logger
	base   time.Time
	first  int64        // unix ms of base, so that ticks are never 0
	offset atomic.Int64 // ns: guarded time less the time since base
	steady atomic.Bool
	status atomic.Pointer[Status]

	kick  chan struct{} // there may be something to compare with
	mu    sync.Mutex
	guard Guard
	heard map[string]report
	said  map[string]time.Duration // elapsed, when a kind of warning was given
	far   bool                     // the wall is not where the guarded clock is
}

type report struct {
	at      time.Duration // elapsed
	opinion Opinion
}

// Status is what operators see.
type Status struct {
	Offset time.Duration // the wall clock's distance from the guarded one
	// Guarded says that the wall clock is further away than Tolerance and not followed, Frozen that nothing expires.
	Guarded, Frozen bool
}

// New returns a clock that starts as the wall clock says. Until Run has compared it, it is frozen; a clock that is never
// run goes on by the monotonic clock.
func New(o Options) *Clock {
	if o.Members == nil {
		o.Members = func() ([]string, bool) { return nil, true }
	}
	if o.Freeze == nil {
		o.Freeze = func(bool) {}
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.Wall == nil {
		o.Wall = wall
	}
	if o.Elapsed == nil {
		o.Elapsed = elapsed()
	}
	c := &Clock{opt: o, log: o.Logger, base: time.Now(), heard: map[string]report{}, said: map[string]time.Duration{}, kick: make(chan struct{}, 1)}
	c.first = c.base.UnixMilli()
	c.offset.Store(o.Wall())
	c.status.Store(&Status{Frozen: true})
	o.Freeze(true)
	return c
}

// Ticks are milliseconds that never step, for deadlines of requests: they mean nothing to anybody but this process.
func (c *Clock) Ticks() int64 { return c.first + time.Since(c.base).Milliseconds() }

// Unix is the guarded time at a tick, in unix ms.
func (c *Clock) Unix(tick int64) int64 {
	return (time.Duration(tick-c.first)*time.Millisecond + time.Duration(c.offset.Load())).Milliseconds()
}

// UnixMicro is the guarded time now.
func (c *Clock) UnixMicro() int64 {
	return (time.Since(c.base) + time.Duration(c.offset.Load())).Microseconds()
}

// Status is how the clock does.
func (c *Clock) Status() Status { return *c.status.Load() }

// Run compares the clocks until ctx ends.
func (c *Clock) Run(ctx context.Context) {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		c.look()
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		case <-c.kick:
		}
	}
}

// Compare has Run look again at once if the clock has not been compared with the cluster's yet: call it when the members
// have changed. It does not block.
func (c *Clock) Compare() {
	if c.steady.Load() {
		return
	}
	select {
	case c.kick <- struct{}{}:
	default:
	}
}

// Steady says that the clock has been compared with the cluster's, so that keys expire.
func (c *Clock) Steady() bool { return c.steady.Load() }

// read takes the machine's clocks at about the same moment: again, if the process was held up in between.
func (c *Clock) read() (since, elapsed, wall time.Duration) {
	for range 3 {
		since = time.Since(c.base)
		elapsed, wall = c.opt.Elapsed(), time.Duration(c.opt.Wall())
		if time.Since(c.base)-since < time.Millisecond {
			break
		}
	}
	return since, elapsed, wall
}

func (c *Clock) look() {
	members, self := c.opt.Members()
	c.mu.Lock()
	defer c.mu.Unlock()
	since, elapsed, wall := c.read()
	in := Input{Elapsed: elapsed, Wall: wall, Peers: c.peers(members, elapsed)}
	if self {
		in.Nodes = max(len(members), 1)
	}
	what, jump := c.guard.Step(in)
	c.offset.Store(int64(c.guard.Offset() + elapsed - since))
	c.steady.Store(c.guard.Steady())
	was := c.Status()
	now := Status{Offset: wall - elapsed - c.guard.Offset(), Frozen: c.guard.Frozen()}
	now.Guarded = c.guard.Steady() && !near(now.Offset, 0)
	c.status.Store(&now)
	if now.Frozen != was.Frozen {
		c.opt.Freeze(now.Frozen)
	}
	c.tell(what, jump, was, now, elapsed)
}

// peers are the members' fresh reports. Those of others, and old ones, are forgotten.
func (c *Clock) peers(members []string, now time.Duration) (list []Opinion) {
	kept := make(map[string]report, len(c.heard))
	for _, id := range members {
		if r, ok := c.heard[id]; ok && now-r.at <= fresh {
			kept[id] = r
			list = append(list, r.opinion)
		}
	}
	c.heard = kept
	return list
}

// tell logs what is new.
func (c *Clock) tell(what Event, jump time.Duration, was, now Status, elapsed time.Duration) {
	switch {
	case what == Joined && !near(jump, 0):
		c.log.Warn("this machine's wall clock is wrong: the cluster's time is used", "off_by", now.Offset)
		c.far = true
	case what == Joined:
		c.log.Debug("clock compared with the cluster's", "corrected_by", jump)
	case what == Followed:
		c.log.Warn("the clock follows the wall clocks, which stand elsewhere", "step", jump, "stood_for", Stand)
	case what == Adopted:
		c.log.Warn("the clock follows the cluster's", "step", jump)
	}
	switch {
	case !now.Guarded:
		c.far = false
	case !c.far:
		c.far = true
		c.warn("step", elapsed, "the wall clock has stepped: it is not followed", "step", now.Offset)
	}
	switch {
	case now.Frozen && !was.Frozen:
		c.warn("frozen", elapsed, "clocks of nodes disagree, and this one's is not the majority's: nothing expires here", "wall_off_by", now.Offset)
	case was.Frozen && !now.Frozen && what != Joined:
		c.log.Info("clocks of nodes agree again: keys expire")
	}
}

func (c *Clock) warn(kind string, now time.Duration, msg string, args ...any) {
	if last, ok := c.said[kind]; ok && now-last < sayAgain {
		return
	}
	c.said[kind] = now
	c.log.Warn(msg, args...)
}

// Report appends what this node tells another about its clocks.
//
//	flags u8 (1: steady), wall clock u64, guarded clock u64, both unix microseconds, little-endian
func (c *Clock) Report(b []byte) []byte {
	var flags byte
	if c.steady.Load() {
		flags = flagSteady
	}
	b = append(b, flags)
	b = binary.LittleEndian.AppendUint64(b, uint64(c.opt.Wall()/1000))
	return binary.LittleEndian.AppendUint64(b, uint64(c.UnixMicro()))
}

// Heard takes another node's report, which answers a question sent a round trip ago. What can't be understood is ignored:
// a node of another version has no opinion.
func (c *Clock) Heard(node string, b []byte, trip time.Duration) {
	defer c.Compare()
	if len(b) < reportSize || trip < 0 || trip > maxTrip {
		return
	}
	const most = uint64(1) << 62 / 1000 // what fits a Duration, with room for differences
	wall, guarded := binary.LittleEndian.Uint64(b[1:]), binary.LittleEndian.Uint64(b[9:])
	if wall > most || guarded > most {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := c.opt.Elapsed()
	if old, ok := c.heard[node]; ok && trip > quick && now-old.at < stale {
		return
	}
	then := now - trip/2
	c.heard[node] = report{at: now, opinion: Opinion{
		Wall: time.Duration(wall)*time.Microsecond - then, Guarded: time.Duration(guarded)*time.Microsecond - then,
		Steady: b[0]&flagSteady != 0,
	}}
}
