package sim

import (
	"flag"
	"os"
	"slices"
	"testing"
	"time"
)

var (
	seedFlag    = flag.Uint64("seed", 0, "TestSeed: replay this seed with a trace")
	ruleFlag    = flag.String("knockout", "", "TestSeed: with this rule switched off")
	seedsFlag   = flag.Int("seeds", 0, "TestSimulator: how many seeds (0: as many as -batch allows)")
	firstFlag   = flag.Uint64("first", 1, "TestSimulator: the first seed")
	clientsFlag = flag.Bool("clients", false, "TestKnockouts: check only what clients see")
	batchFlag   = flag.Duration("batch", 10*time.Second, "TestSimulator: for how long, without -seeds")
)

// TestSeed replays one seed: go test ./node/replica/sim -run TestSeed -seed=N -v
func TestSeed(t *testing.T) {
	if *seedFlag == 0 {
		return
	}
	opts := Options{Trace: os.Stdout}
	for _, k := range slices.Concat(knockouts, staleKnockouts, []knockout{{"stale", Options{StaleReads: true}}}) {
		if k.name == *ruleFlag {
			opts = k.opts
			opts.Trace = os.Stdout
		}
	}
	if r := Run(*seedFlag, opts); r.Violation != "" {
		t.Fatalf("seed %d: %s", r.Seed, r.Violation)
	}
}

// TestSimulator runs seeds until its time is over and says what they went through.
func TestSimulator(t *testing.T) {
	var total Counts
	start := time.Now()
	n := 0
	for seed := *firstFlag; ; seed++ {
		if *seedsFlag > 0 && n >= *seedsFlag || *seedsFlag == 0 && time.Since(start) > *batchFlag {
			break
		}
		r := Run(seed, Options{})
		total.Add(r.Counts)
		n++
		if r.Violation != "" {
			t.Errorf("seed %d: %s\n  replay: go test ./node/replica/sim -run TestSeed -seed=%d -v", seed, r.Violation, seed)
		}
	}
	t.Logf("%d seeds, %.0f per minute: %+v", n, float64(n)/time.Since(start).Minutes(), total)
	if n > 20 && (total.Acked == 0 || total.Recovered == 0 || total.Installed == 0 || total.ChangesDone == 0) {
		t.Errorf("the runs were too quiet to prove anything")
	}
}
