package nodetest

import (
	"context"
	"strconv"
	"testing"
	"time"

	"hypercache/node/config"
)

// prompt is how soon a node must serve that depends on nobody else. On a quiet machine it takes a tenth of it.
const prompt = 3 * time.Second

func TestLoneNodeKeepsEverythingOverARestart(t *testing.T) {
	c := Start(t, 1, nil)
	n := c.Nodes()[0]
	keys := n.Fill("k", 2000)
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	if err := n.Client().Set(ctx, "mortal", "x", time.Hour).Err(); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		n.Stop()
		if took := c.StartAll(); took > prompt {
			t.Errorf("serves after %v", took)
		} else {
			t.Logf("serves after %v", took.Round(time.Millisecond))
		}
		n.Holds(keys)
		if ttl, err := n.Client().PTTL(ctx, "mortal").Result(); err != nil || ttl <= 59*time.Minute || ttl > time.Hour {
			t.Errorf("TTL after the restart: %v, %v", ttl, err)
		}
	}
}

func TestBGREWRITEAOFLeavesTheDataAndNoHistory(t *testing.T) {
	c := Start(t, 1, nil)
	n := c.Nodes()[0]
	ctx, cancel := context.WithTimeout(context.Background(), Patient)
	defer cancel()
	field := func(name string) string {
		info, err := n.Client().InfoMap(ctx, "persistence").Result()
		if err != nil {
			t.Fatal(err)
		}
		return info["Persistence"][name]
	}
	keys := n.Fill("k", 500)
	for range 3 {
		n.Fill("k", 500)
	}
	grown, err := strconv.Atoi(field("aof_current_size"))
	if err != nil {
		t.Fatal(err)
	}
	if said, err := n.Client().BgRewriteAOF(ctx).Result(); err != nil || said != "Background append only file rewriting started" {
		t.Fatalf("BGREWRITEAOF: %q, %v", said, err)
	}
	for field("aof_rewrites") != "1" {
		if ctx.Err() != nil {
			t.Fatal("there was no rewrite")
		}
	}
	if size, _ := strconv.Atoi(field("aof_current_size")); size >= grown {
		t.Errorf("%d bytes after the rewrite, %d before", size, grown)
	}
	n.Stop()
	c.StartAll()
	n.Holds(keys)
}

func TestLoneNodeWithoutPersistenceStartsEmptyAndAtOnce(t *testing.T) {
	c := Start(t, 1, func(f *config.Config) { f.Persistence.Enabled = false })
	n := c.Nodes()[0]
	n.Fill("k", 100)
	n.Stop()
	if took := c.StartAll(); took > prompt {
		t.Errorf("serves after %v", took)
	} else {
		t.Logf("serves after %v", took.Round(time.Millisecond))
	}
	if keys := n.Keys(); keys != 0 {
		t.Errorf("%d keys from nowhere", keys)
	}
	n.Holds(n.Fill("again", 100))
}

func TestFsyncAlwaysWorksInACluster(t *testing.T) {
	c := Start(t, 3, func(f *config.Config) { f.Persistence.Fsync = "always" })
	l := c.Load(2, c.Nodes()...)
	l.Flow(50)
	l.Check(c.Nodes()[1])
	c.StopAll()
	c.StartAll()
	for _, w := range l.workers {
		c.Nodes()[2].Holds(w.acked)
	}
}
