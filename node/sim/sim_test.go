package sim

import (
	"flag"
	"os"
	"strings"
	"testing"
	"time"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "TestSeed: replay this seed with a trace")
	ruleFlag    = flag.String("knockout", "", "TestSeed: with this rule switched off")
	cleanFlag   = flag.Bool("clean", false, "TestSeed: with the knock-out's faults, but all rules")
	seedsFlag   = flag.Int("seeds", 0, "TestClusters: how many seeds (0: as many as -batch allows)")
	firstFlag   = flag.Uint64("first", 1, "TestClusters, TestKnockouts: the first seed")
	clientsFlag = flag.Bool("clients", false, "TestKnockouts: check only what clients see")
	limitFlag   = flag.Duration("limit", 0, "TestKnockouts: for how long each")
	mixFlag     = flag.String("mix", "", "other faults than the rule's own, separated by spaces; TestClusters, TestSeed: these and no others")
	batchFlag   = flag.Duration("batch", 10*time.Second, "TestClusters: for how long, without -seeds")
)

// TestSeed replays one seed: go test ./node/sim -run TestSeed -v -args -seed N
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		return
	}
	opts := Options{Mix: strings.Fields(*mixFlag)}
	for _, k := range knockouts {
		if k.name == *ruleFlag {
			if opts = k.options(); *cleanFlag {
				opts = k.clean()
			}
		}
	}
	opts.Trace = os.Stdout
	if r := Run(*seedFlag, opts); r.Violation != "" {
		t.Fatalf("seed %d: %s", r.Seed, r.Violation)
	}
}

// TestClusters runs seeds until its time is over and says what they went through.
func TestClusters(t *testing.T) {
	var total Counts
	start := time.Now()
	n, failed := 0, 0
	for seed := *firstFlag; failed < 20; seed++ {
		if *seedsFlag > 0 && n >= *seedsFlag || *seedsFlag == 0 && time.Since(start) > *batchFlag {
			break
		}
		r := Run(seed, Options{Mix: strings.Fields(*mixFlag)})
		total.Add(r.Counts)
		n++
		if r.Violation != "" {
			failed++
			t.Errorf("seed %d: %.600s\n  replay: go test ./node/sim -run TestSeed -v -args -seed %d", seed, r.Violation, seed)
		}
	}
	t.Logf("%d seeds, %.0f per minute, %.1f hours simulated: %+v", n, float64(n)/time.Since(start).Minutes(), float64(total.Millis)/3.6e6, total)
	if n > 20 && *mixFlag == "" && (total.Acked == 0 || total.Found == 0 || total.Snapshots == 0 || total.Moves == 0 || total.PowerLosses == 0 ||
		total.Failures == 0 || total.NoSpace == 0) {
		t.Errorf("the runs were too quiet to prove anything")
	}
}

// Whoever replays a seed must see what was seen: nothing may hang on the order of a map, or on the machine.
func TestASeedRunsTheSameWayAgain(t *testing.T) {
	for seed := range uint64(6) {
		if a, b := Run(seed, Options{}), Run(seed, Options{}); a != b {
			t.Errorf("seed %d: %+v, then %+v", seed, a, b)
		}
	}
}
