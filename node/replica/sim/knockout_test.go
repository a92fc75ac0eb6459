package sim

import (
	"testing"

	"hypercache/node/replica"
)

// knockout is a rule switched off.
type knockout struct {
	name string
	opts Options
}

// knockouts lists the rules of the protocol that can be switched off.
var knockouts = []knockout{
	{"quorum-of-one", Options{Rules: replica.Rules{QuorumOfOne: true}}},
	{"no-term-check", Options{Rules: replica.Rules{NoTermCheck: true}}},
	{"ack-before-journal", Options{Rules: replica.Rules{AckBeforeJournal: true}}},
	{"commit-old-term", Options{Rules: replica.Rules{CommitOldTerm: true}}},
	{"no-promise-persist", Options{Rules: replica.Rules{NoPromisePersist: true}}},
	{"voter-with-short-log", Options{Rules: replica.Rules{VoterWithShortLog: true}}},
	{"no-joint-majority", Options{Rules: replica.Rules{NoJointMajority: true}}},
	{"no-joint-config", Options{NoJoint: true}},
	{"serve-before-noop", Options{Rules: replica.Rules{ServeBeforeNoop: true}}},
	{"fence-minority", Options{FenceMinority: true}},
	{"non-contiguous", Options{Rules: replica.Rules{NonContiguous: true}}},
	{"no-incarnation-check", Options{Rules: replica.Rules{NoIncarnationCheck: true}}},
	{"lead-after-restart", Options{Rules: replica.Rules{LeadAfterRestart: true}}},
}

// near is a seed a little before the first one, counted from 1, that finds the rule missing: counting there would take
// minutes with the race detector. DESIGN.md has the whole numbers; -first searches from elsewhere.
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
