//go:build !race

package replica

import (
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// The walks are not for the race detector: there is one goroutine. make test runs them by themselves.

// walk takes random choices until nothing more can happen or something is wrong; a rare one, one time in so many.
func (w *modelWorld) walk(rng *rand.Rand, chance int) (wrong string, steps int) {
	for all := w.choices(); len(all) > 0 && w.wrong == ""; all = w.choices() {
		next := all[rng.IntN(len(all))]
		if next.rare && rng.IntN(chance) > 0 && slices.ContainsFunc(all, func(c choice) bool { return !c.rare }) {
			continue
		}
		next.do(w)
		steps++
	}
	return w.wrong, steps
}

// knockoutWalks bounds the random walks through the model, of which one must end in a wrong state. A violation has many
// ways to it; a search in order may stay away from all of them for long.
const knockoutWalks = 400_000

// TestSmallModelFindsKnockouts switches one rule off at a time: the same model then has a state that is wrong. The rules
// that it takes longer runs to miss (commit-old-term, no-incarnation-check, the joint configuration) are the simulator's.
func TestSmallModelFindsKnockouts(t *testing.T) {
	for _, k := range []struct {
		name     string
		rules    Rules
		minority bool
		b        bounds
		chance   int // walks take a rare choice one time in so many
	}{
		{"quorum-of-one", Rules{QuorumOfOne: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1}, 6},
		{"no-term-check", Rules{NoTermCheck: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1}, 1},
		{"ack-before-journal", Rules{AckBeforeJournal: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1, Kills: 1}, 6},
		{"no-promise-persist", Rules{NoPromisePersist: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1, Kills: 1}, 6},
		{"voter-with-short-log", Rules{VoterWithShortLog: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1, Powers: 1}, 6},
		{"serve-before-noop", Rules{ServeBeforeNoop: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1}, 6},
		{"fence-minority", Rules{}, true, bounds{Nodes: 3, Terms: 2, Writes: 1}, 6},
		{"non-contiguous", Rules{NonContiguous: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1, Breaks: 1}, 6},
		{"lead-after-restart", Rules{LeadAfterRestart: true}, false, bounds{Nodes: 3, Terms: 2, Writes: 1, Kills: 1}, 6},
	} {
		t.Run(k.name, func(t *testing.T) {
			began := time.Now()
			start := func() *modelWorld {
				w := newModelWorld(k.b, k.rules)
				w.minority = k.minority
				return w
			}
			rng := rand.New(rand.NewPCG(7, 0))
			for n := 1; n <= knockoutWalks; n++ {
				if wrong, steps := start().walk(rng, k.chance); wrong != "" {
					t.Logf("walk %d, %d steps, %v: %s", n, steps, time.Since(began).Round(time.Millisecond), wrong)
					return
				}
			}
			t.Errorf("not found by %d walks", knockoutWalks)
		})
	}
}
