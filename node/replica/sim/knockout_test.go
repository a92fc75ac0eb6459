package sim

import (
	"testing"

	"hypercache/node/replica"
)

// knockouts lists the rules of the protocol, each with how many seeds may pass until its absence is noticed: by the
// checkers that look into the logs, and by clients alone (0: not asked, a client need not see it).
var knockouts = []struct {
	name           string
	opts           Options
	bound, clients int
}{
	{"quorum-of-one", Options{Rules: replica.Rules{QuorumOfOne: true}}, 50, 50},
	{"no-term-check", Options{Rules: replica.Rules{NoTermCheck: true}}, 50, 200},
	{"ack-before-journal", Options{Rules: replica.Rules{AckBeforeJournal: true}}, 200, 500},
	{"commit-old-term", Options{Rules: replica.Rules{CommitOldTerm: true}}, 500, 2000},
	{"no-promise-persist", Options{Rules: replica.Rules{NoPromisePersist: true}}, 500, 2000},
	{"voter-with-short-log", Options{Rules: replica.Rules{VoterWithShortLog: true}}, 100, 300},
	{"no-joint-majority", Options{Rules: replica.Rules{NoJointMajority: true}}, 500, 2000},
	{"no-joint-config", Options{NoJoint: true}, 500, 2000},
	{"serve-before-noop", Options{Rules: replica.Rules{ServeBeforeNoop: true}}, 500, 500},
	{"fence-minority", Options{FenceMinority: true}, 50, 100},
	{"non-contiguous", Options{Rules: replica.Rules{NonContiguous: true}}, 50, 200},
	{"no-incarnation-check", Options{Rules: replica.Rules{NoIncarnationCheck: true}}, 5000, 0},
	{"lead-after-restart", Options{Rules: replica.Rules{LeadAfterRestart: true}}, 100, 500},
}

// TestKnockouts switches one rule off at a time. The same seeds without the knock-out are clean.
func TestKnockouts(t *testing.T) {
	for _, k := range knockouts {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			find(t, k.opts, k.bound)
		})
		if k.clients > 0 {
			t.Run(k.name+"/clients", func(t *testing.T) {
				t.Parallel()
				k.opts.ClientsOnly = true
				find(t, k.opts, k.clients)
			})
		}
	}
}

func find(t *testing.T, opts Options, bound int) {
	for seed := range uint64(bound) {
		r := Run(seed+1, opts)
		if r.Violation == "" || r.Violation[:len(notLive)] == notLive {
			continue
		}
		if clean := Run(seed+1, Options{ClientsOnly: opts.ClientsOnly}); clean.Violation != "" {
			t.Fatalf("seed %d fails without the knock-out too: %s", seed+1, clean.Violation)
		}
		t.Logf("%s: found by seed %d: %.120s", t.Name(), seed+1, r.Violation)
		return
	}
	t.Fatalf("%s: not found in %d seeds", t.Name(), bound)
}
