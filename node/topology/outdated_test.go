package topology

import (
	"fmt"
	"testing"
)

func TestADirectoryIsOutdatedIfItLacksTheNewestKnownRun(t *testing.T) {
	for _, tt := range []struct {
		name    string
		old     Member
		earlier []string
		cluster string
		want    bool
	}{
		{"the last run is noted", Member{Run: "r2"}, []string{"r1", "r2"}, "c", false},
		{"the last run is missing", Member{Run: "r2"}, []string{"r1"}, "c", true},
		{"runs that nobody heard of came after it", Member{Run: "r1"}, []string{"r1", "r2", "r3"}, "c", false},
		{"an older program noted none", Member{Run: "r2"}, nil, "c", false},
		{"an empty disk", Member{Run: "r2"}, nil, "", false},
		{"the same process", Member{Run: "now"}, []string{"r1"}, "c", false},
		{"drained before", Member{Run: "r2", Status: Removed}, []string{"r1"}, "c", false},
		{"a recovered topology knows no run", Member{}, []string{"r1"}, "c", false},
	} {
		ans := helloAnswer{Member: Member{ID: "n", Run: "now"}, Cluster: tt.cluster, Earlier: tt.earlier}
		if got := outdated(tt.old, &ans); got != tt.want {
			t.Errorf("%s: %t", tt.name, got)
		}
	}
}

func TestRunsAreNotedBeforeAnybodyHearsOfThemAndBounded(t *testing.T) {
	dir := t.TempDir()
	if err := (identity{NodeID: "n", ClusterID: "c", Runs: []string{"r"}}).write(dir); err != nil {
		t.Fatal(err)
	}
	for i := range 2 * maxRuns {
		id, err := readIdentity(dir)
		if err != nil {
			t.Fatal(err)
		}
		run := fmt.Sprint(i)
		earlier, err := id.started(dir, run)
		if err != nil || len(earlier) == 0 {
			t.Fatalf("%v, %v", earlier, err)
		}
		kept, err := readIdentity(dir)
		if err != nil || len(kept.Runs) > maxRuns+1 || kept.Runs[len(kept.Runs)-1] != run {
			t.Fatalf("%d runs, %v", len(kept.Runs), err)
		}
	}
	var none identity
	if earlier, err := none.started(t.TempDir(), "r"); err != nil || earlier != nil {
		t.Errorf("a node of no cluster: %v, %v", earlier, err)
	}
}
