package cache

import "math"

// # Two times
//
// Ticks are milliseconds that never step (clock.Clock.Ticks). All deadlines of requests and waits are ticks, and every
// variable that is called now is one. Unix times are guarded (clock.Clock.Unix): what TTLs and EXPIREAT speak of, and what
// commands get as their clock. They may jump when the cluster's time is corrected; no request then times out or hangs.

// ticks is the present tick.
func (c *Cache) ticks() int64 { return c.opt.Clock.Ticks() }

// latest is when a command that arrives now is given up, if it finds no primary.
func (c *Cache) latest(now int64) int64 {
	return now + c.opt.Wait.Milliseconds() + c.obs.pause.left(now)
}

// untilTick is the tick at which the command that just ran asked to stop waiting, 0 for never: it counted in guarded time.
func (p *part) untilTick(now int64) int64 {
	until := p.ctx.Block.Until
	if until == 0 {
		return 0
	}
	left := max(until-p.ctx.Now, 1)
	if left > math.MaxInt64-now {
		return math.MaxInt64
	}
	return now + left
}
