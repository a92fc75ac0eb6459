package sim

import (
	"testing"
	"time"

	"hypercache/node/replica"
)

// TestStaleReadsAreCommittedAndWithinTheirBound runs seeds whose clients read from every node.
func TestStaleReadsAreCommittedAndWithinTheirBound(t *testing.T) {
	var total Counts
	start := time.Now()
	for n := 0; *seedsFlag > 0 && n < *seedsFlag || *seedsFlag == 0 && time.Since(start) < *batchFlag/2; n++ {
		seed := *firstFlag + uint64(n)
		r := Run(seed, Options{StaleReads: true})
		total.Add(r.Counts)
		if r.Violation != "" {
			t.Errorf("seed %d: %s\n  replay: go test ./node/replica/sim -run TestSeed -seed=%d -knockout=stale -v", seed, r.Violation, seed)
		}
	}
	t.Logf("%+v", total)
	if total.StaleReads == 0 || total.StaleRefused == 0 {
		t.Errorf("%d stale reads were answered and %d refused: the runs prove nothing", total.StaleReads, total.StaleRefused)
	}
}

// staleKnockouts are the rules of stale reads that can be switched off.
var staleKnockouts = []knockout{
	{"stale-tell-unconfirmed", Options{StaleReads: true, Rules: replica.Rules{TellUnconfirmed: true}}},
	{"stale-unapplied", Options{StaleReads: true, Rules: replica.Rules{FreshUnapplied: true}}},
	{"stale-stamp-on-arrival", Options{StaleReads: true, StampOnArrival: true}},
	{"stale-uncommitted", Options{StaleReads: true, ReadUncommitted: true}},
}
