//go:build !race

package sim

import (
	"strings"
	"testing"
	"time"
)

// The searches are not for the race detector: a run has one goroutine, so that there is nothing to find, and every seed takes ten
// times as long. make test runs them by themselves.

// knockoutBound is how many seeds may pass until the absence of a rule is noticed.
const knockoutBound = 300

// TestKnockouts switches one rule off at a time. The seed that finds it is clean without the knock-out.
func TestKnockouts(t *testing.T) {
	for _, k := range knockouts {
		t.Run(k.name, func(t *testing.T) {
			t.Parallel()
			find(t, k, knockoutBound)
		})
	}
}

func find(t *testing.T, k knockout, bound int) {
	start := time.Now()
	for n := range uint64(bound) {
		seed := *firstFlag + n
		r := Run(seed, k.options())
		if r.Violation == "" || strings.HasPrefix(r.Violation, notLive) {
			if *limitFlag > 0 && time.Since(start) > *limitFlag {
				t.Fatalf("not found in %d seeds and %v", n+1, *limitFlag)
			}
			continue
		}
		if clean := Run(seed, k.clean()); clean.Violation != "" {
			t.Fatalf("seed %d fails without the knock-out too: %.300s", seed, clean.Violation)
		}
		t.Logf("found after %d seeds and %v, by %d: %.120s", n+1, time.Since(start).Round(time.Millisecond), seed, r.Violation)
		return
	}
	t.Fatalf("not found in %d seeds", bound)
}
