package clock

import (
	"math/rand/v2"
	"testing"
	"time"
)

// world is a few nodes with clocks of their own, some of which step, and a network that loses and delays.
type world struct {
	rng   *rand.Rand
	now   time.Duration // true unix time
	nodes []*machine
}

type machine struct {
	guard Guard
	boot  time.Duration // what its elapsed clock was at time 0
	rate  float64       // of its elapsed clock
	err   time.Duration // of its wall clock
	wrong bool
	cut   bool
	heard map[int]report
	// oddity is how a wrong wall behaves.
	jumps bool
}

func (w *world) elapsed(m *machine) time.Duration {
	return m.boot + time.Duration(float64(w.now-epoch)*m.rate)
}

// epoch is when the simulation begins.
const epoch = 1_800_000_000 * time.Second

func newWorld(seed uint64) *world {
	w := &world{rng: rand.New(rand.NewPCG(seed, 1)), now: epoch}
	for range 3 + w.rng.IntN(3) {
		w.nodes = append(w.nodes, &machine{
			boot: time.Duration(w.rng.Int64N(int64(1000 * time.Hour))), rate: 1 + (w.rng.Float64()-0.5)*2e-4, heard: map[int]report{},
			err: w.small(),
		})
	}
	return w
}

// small is the error of a wall clock that is right.
func (w *world) small() time.Duration {
	return time.Duration(w.rng.Int64N(int64(40*time.Millisecond))) - 20*time.Millisecond
}

// large is one of a wrong clock: some almost right, some by years.
func (w *world) large() time.Duration {
	d := time.Duration(w.rng.Int64N(int64(3 * time.Second)))
	switch w.rng.IntN(4) {
	case 0:
		d = time.Duration(w.rng.Int64N(int64(time.Minute)))
	case 1:
		d = time.Hour
	case 2:
		d = time.Duration(w.rng.Int64N(int64(10000 * time.Hour)))
	}
	if w.rng.IntN(2) == 0 {
		return -d
	}
	return d
}

func (w *world) wrong() (n int) {
	for _, m := range w.nodes {
		if m.wrong {
			n++
		}
	}
	return n
}

// happen does something to somebody. A majority of walls stays right.
func (w *world) happen() {
	m := w.nodes[w.rng.IntN(len(w.nodes))]
	switch w.rng.IntN(6) {
	case 0, 1:
		if m.wrong || w.wrong() < (len(w.nodes)-1)/2 {
			m.wrong, m.err, m.jumps = true, w.large(), w.rng.IntN(4) == 0
		}
	case 2:
		m.wrong, m.err, m.jumps = false, w.small(), false
	case 3:
		m.cut = !m.cut && w.rng.IntN(4) == 0
	case 4: // its process restarts
		m.guard, m.heard = Guard{}, map[int]report{}
	case 5: // everything restarts
		if w.rng.IntN(5) == 0 {
			for _, m := range w.nodes {
				m.guard, m.heard = Guard{}, map[int]report{}
			}
		}
	}
}

func (w *world) step() {
	w.now += every
	for i, m := range w.nodes {
		if m.jumps && w.rng.IntN(5) == 0 {
			m.err = w.large()
		}
		for j, o := range w.nodes {
			if i == j || m.cut || o.cut || w.rng.IntN(10) == 0 {
				continue
			}
			late := time.Duration(w.rng.Int64N(int64(10 * time.Millisecond))) // what a round trip misjudges
			m.heard[j] = report{at: w.elapsed(m), opinion: Opinion{
				Wall: w.now + o.err - late - w.elapsed(m), Guarded: w.elapsed(o) + o.guard.Offset() - late - w.elapsed(m), Steady: o.guard.Steady(),
			}}
		}
	}
	for _, m := range w.nodes {
		in := Input{Elapsed: w.elapsed(m), Wall: w.now + m.err, Nodes: len(w.nodes)}
		for _, r := range m.heard {
			if in.Elapsed-r.at <= fresh {
				in.Peers = append(in.Peers, r.opinion)
			}
		}
		m.guard.Step(in)
	}
}

// TestNothingExpiresEarlyWhileAMajorityIsRight sets keys by the clock of any node that serves and has them expire by that of
// any other: a primary moves. The bound is Tolerance, and what slewing took off the TTL.
func TestNothingExpiresEarlyWhileAMajorityIsRight(t *testing.T) {
	type key struct {
		set, ttl, deadline time.Duration
	}
	var expired, frozen, late int
	worst := time.Duration(0)
	for seed := range uint64(50) {
		w := newWorld(seed)
		var keys []key
		for range 6000 { // ten minutes
			if w.rng.IntN(100) == 0 {
				w.happen()
			}
			w.step()
			for _, m := range w.nodes {
				if m.guard.Frozen() {
					frozen++
					continue
				}
				guarded := w.elapsed(m) + m.guard.Offset()
				if w.rng.IntN(20) == 0 && len(keys) < 200 {
					ttl := time.Duration(1+w.rng.Int64N(240)) * time.Second
					keys = append(keys, key{w.now, ttl, guarded + ttl})
				}
				kept := keys[:0]
				for _, k := range keys {
					if guarded < k.deadline {
						kept = append(kept, k)
						continue
					}
					expired++
					lived := w.now - k.set
					worst = max(worst, k.ttl-lived)
					if early := k.ttl - lived; early > Tolerance+k.ttl/slewDivisor {
						t.Fatalf("seed %d: a key with a TTL of %v was gone after %v", seed, k.ttl, lived)
					}
					if lived > k.ttl+2*Tolerance+k.ttl/slewDivisor {
						late++
					}
				}
				keys = kept
			}
		}
	}
	t.Logf("%d keys expired, %d of them late, the earliest by %v; %d looks at a frozen clock", expired, late, worst, frozen)
	if expired < 10000 || late > expired/20 {
		t.Errorf("%d keys expired, %d of them late", expired, late)
	}
}
