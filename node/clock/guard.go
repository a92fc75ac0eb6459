package clock

import (
	"slices"
	"time"
)

const (
	// Tolerance is how far two clocks may be apart and still agree. A wall clock that is further away from the guarded one
	// has stepped. Smaller: a busy network looks like a step. Larger: keys may expire that much early.
	Tolerance = time.Second
	// tight is how close the walls of a majority must be where not all members were heard: among a few, a wrong clock that is
	// almost right could be the median. With it, two nodes that a right majority has set are not further than Tolerance apart.
	tight = Tolerance / 2
	// Stand is how long walls that have stepped must stay where they are before they are followed. A clock that is set
	// wrong is usually put right by NTP or by an operator within seconds; a minute of late expiry harms nobody. A step that
	// lasts a minute is taken for the truth: waiting for ever would keep EXPIREAT wrong for ever.
	Stand = time.Minute
	// slewDivisor makes the rate at which small differences go away: 1/200, 5 ms a second. A TTL is wrong by half a percent
	// while that goes on, at most Tolerance in all.
	slewDivisor = 200
)

// Opinion is what another node said last. Both clocks are given as their distance from this node's elapsed clock.
type Opinion struct {
	Wall, Guarded time.Duration
	Steady        bool // its guarded clock has been compared with a majority's
}

// Input is what Guard decides by.
type Input struct {
	Elapsed time.Duration // since any moment, the same one in all calls
	Wall    time.Duration // since the unix epoch
	// Nodes is how many members the cluster has, this one included; 0 while this node is not a member of any.
	Nodes int
	Peers []Opinion // of other members, none older than a few seconds
}

// Event says what Step decided, for the log.
type Event uint8

// The events. At most one step happens in a Step.
const (
	Nothing  Event = iota
	Joined         // compared for the first time; the clock was set
	Followed       // walls that stood elsewhere were followed
	Adopted        // a majority's guarded clock was taken over
)

// Guard is one node's guarded clock. The zero value is one that has not compared with anybody.
type Guard struct {
	offset  time.Duration // guarded time less elapsed time
	started bool
	steady  bool
	frozen  bool
	last    time.Duration // elapsed, of the last Step
	// Walls have been at pending since.
	waiting        bool
	pending, since time.Duration
}

// Offset is the guarded clock's distance from the elapsed one.
func (g *Guard) Offset() time.Duration { return g.offset }

// Steady says that the clock was compared with a majority's once.
func (g *Guard) Steady() bool { return g.steady }

// Frozen says that nothing must be taken for expired now.
func (g *Guard) Frozen() bool { return g.frozen || !g.steady }

// Step decides what time it is, and by how much the guarded clock jumped, 0 where it was only slewed.
func (g *Guard) Step(in Input) (what Event, jump time.Duration) {
	own := in.Wall - in.Elapsed
	spent := max(in.Elapsed-g.last, 0)
	g.last = in.Elapsed
	if !g.started {
		g.started, g.offset = true, own
	}
	before := g.offset
	if !g.steady {
		if g.join(in, own) {
			g.steady, g.frozen = true, false
			return Joined, g.offset - before
		}
		return Nothing, 0
	}
	what = g.decide(in, own, spent)
	g.frozen = g.alone(in)
	if what == Nothing {
		return Nothing, 0
	}
	return what, g.offset - before
}

// join sets a clock that has not been compared yet. What it says until then is this machine's wall clock, and nobody lives
// by it: the node serves nothing before it has reached the others.
func (g *Guard) join(in Input, own time.Duration) bool {
	need := in.Nodes/2 + 1
	if in.Nodes == 0 || len(in.Peers)+1 < need {
		g.offset = own
		return false
	}
	var steady []time.Duration
	for _, p := range in.Peers {
		if p.Steady {
			steady = append(steady, p.Guarded)
		}
	}
	at, ok := agree(steady, len(steady)/2+1, Tolerance)
	if len(steady) == 0 {
		at, ok = walls(in, own)
	}
	if ok {
		g.offset = at
	}
	return ok
}

func (g *Guard) decide(in Input, own, spent time.Duration) Event {
	if in.Nodes == 0 {
		return Nothing // drained: nothing to live by but the elapsed clock, and nothing to expire
	}
	need := in.Nodes/2 + 1
	wall, wallsAgree := walls(in, own)
	if wallsAgree && near(wall, g.offset) {
		g.waiting = false
		limit := spent / slewDivisor
		g.offset += min(max(wall-g.offset, -limit), limit)
		return Nothing
	}
	if at, ok := agree(g.guards(in), need, Tolerance); ok && !near(at, g.offset) {
		g.waiting = false
		g.offset = at
		return Adopted
	}
	if !wallsAgree {
		g.waiting = false
		return Nothing
	}
	if !g.waiting || !near(wall, g.pending) {
		g.waiting, g.pending, g.since = true, wall, in.Elapsed
	}
	if in.Elapsed-g.since < Stand {
		return Nothing
	}
	g.waiting = false
	g.offset = wall
	return Followed
}

// alone says that others count the time differently, and this node is not with the majority.
func (g *Guard) alone(in Input) bool {
	with, against := 1, 0
	for _, p := range in.Peers {
		switch {
		case !p.Steady:
		case near(p.Guarded, g.offset):
			with++
		default:
			against++
		}
	}
	return against > 0 && with < in.Nodes/2+1
}

// guards are the guarded clocks of all that are steady, this one's too.
func (g *Guard) guards(in Input) []time.Duration {
	all := []time.Duration{g.offset}
	for _, p := range in.Peers {
		if p.Steady {
			all = append(all, p.Guarded)
		}
	}
	return all
}

// walls is what the wall clocks of a majority say.
func walls(in Input, own time.Duration) (at time.Duration, ok bool) {
	all := []time.Duration{own}
	for _, p := range in.Peers {
		all = append(all, p.Wall)
	}
	need := in.Nodes/2 + 1
	if at, ok = agree(all, need, tight); !ok && len(all) >= in.Nodes {
		at, ok = agree(all, need, Tolerance)
	}
	return at, ok
}

func near(a, b time.Duration) bool { return max(a-b, b-a) <= Tolerance }

// agree returns the median of the largest set of clocks that are within a distance of each other, if these are need at
// least. Of two sets or two medians it takes the earlier: late expiry is the lesser evil. It sorts its argument.
func agree(clocks []time.Duration, need int, within time.Duration) (at time.Duration, ok bool) {
	slices.Sort(clocks)
	best, first := 0, 0
	for i, end := 0, 0; i < len(clocks); i++ {
		for end < len(clocks) && clocks[end]-clocks[i] <= within {
			end++
		}
		if end-i > best {
			best, first = end-i, i
		}
	}
	if best == 0 || best < need {
		return 0, false
	}
	return clocks[first+(best-1)/2], true
}
