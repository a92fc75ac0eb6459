//go:build !race

package sim

import "testing"

// The searches are not for the race detector: a run has one goroutine, so that there is nothing to find, and every seed takes ten
// times as long. make test runs them by themselves.

// near is a seed a little before the first one, counted from 1, that finds the rule missing: counting there would take
// a minute. DESIGN.md has the whole numbers; -first searches from elsewhere.
var near = map[string]uint64{"no-promise-persist": 480, "commit-old-term": 1300, "no-incarnation-check": 5200}

// knockoutBound is how many seeds may pass until the absence of a rule is noticed. Most are found among the first
// hundred, the rarest among the first few thousand.
const knockoutBound = 10000

// TestKnockouts switches one rule off at a time. The seed that finds it is clean without the knock-out. With -clients
// only what clients see counts: they notice the loss too.
func TestKnockouts(t *testing.T) {
	for _, k := range knockouts {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.opts.ClientsOnly = *clientsFlag
			first := *firstFlag
			if first == 1 {
				first = max(first, near[k.name])
			}
			find(t, k.opts, first, knockoutBound)
		})
	}
}

func find(t *testing.T, opts Options, first uint64, bound int) {
	for n := range uint64(bound) {
		seed := first + n
		r := Run(seed, opts)
		if r.Violation == "" || r.Violation[:len(notLive)] == notLive {
			continue
		}
		if clean := Run(seed, Options{ClientsOnly: opts.ClientsOnly, StaleReads: opts.StaleReads}); clean.Violation != "" {
			t.Fatalf("seed %d fails without the knock-out too: %s", seed, clean.Violation)
		}
		t.Logf("%s: found after %d seeds, by %d: %.120s", t.Name(), n+1, seed, r.Violation)
		return
	}
	t.Fatalf("%s: not found in %d seeds", t.Name(), bound)
}

// TestKnockoutsOfStaleReads is TestKnockouts for them.
func TestKnockoutsOfStaleReads(t *testing.T) {
	for _, k := range staleKnockouts {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			k.opts.ClientsOnly = *clientsFlag
			find(t, k.opts, *firstFlag, knockoutBound)
		})
	}
}
