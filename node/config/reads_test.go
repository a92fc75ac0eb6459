package config

import (
	"strings"
	"testing"
	"time"
)

func TestReadLevelsAreSetAndRefused(t *testing.T) {
	c, err := loadText(t, "cluster: {reads: quorum}\n", "HYPERCACHE_CLUSTER_MAX_STALENESS=0")
	if err != nil || c.Cluster.Reads != "quorum" || c.Cluster.MaxStaleness != 0 {
		t.Errorf("%q %v, %v", c.Cluster.Reads, c.Cluster.MaxStaleness, err)
	}
	if c, err = loadText(t, "cluster: {max_staleness: 30s}\n", "HYPERCACHE_CLUSTER_READS=quorum"); err != nil || c.Cluster.Reads != "quorum" || c.Cluster.MaxStaleness != 30*time.Second {
		t.Errorf("%q %v, %v", c.Cluster.Reads, c.Cluster.MaxStaleness, err)
	}
	_, err = loadText(t, "cluster:\n  reads: stale\n  max_staleness: 100ms\n")
	if err == nil {
		t.Fatal("taken")
	}
	for _, want := range []string{
		`node.yaml:2: cluster.reads: "stale" is unknown; want lease, quorum`,
		`node.yaml:3: cluster.max_staleness: 100ms is out of range; want 500ms to 10m`,
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%v\nlacks %s", err, want)
		}
	}
}
