package nodetest

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"hypercache/node/config"
)

func TestWrongSecretIsRefusedAndHarmsNobody(t *testing.T) {
	c := Start(t, 3, nil)
	keys := c.Nodes()[0].Fill("k", 200)
	seen := &Log{}
	secret := filepath.Join(t.TempDir(), "other")
	if err := os.WriteFile(secret, []byte("the wrong secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	seeds := c.seeds()
	stranger := c.add()
	stranger.Log = seen
	stranger.Config.Cluster.SecretFile = secret
	stranger.Config.Cluster.Seeds = seeds
	stranger.Start()
	Await(t, func() bool { return seen.Count("secrets differ") > 0 }, func() string { return "nothing about the secret in the log:\n" + seen.String() })
	<-time.After(2 * time.Second) // many attempts
	if n := seen.Count("secrets differ"); n > 8 {
		t.Errorf("%d lines about the secret in seconds", n)
	}
	if ok, _ := stranger.srv.Ready(); ok {
		t.Error("the stranger serves")
	}
	topology := c.Nodes()[0].Topology()
	if Share(topology, stranger.ID) > 0 {
		t.Error("the stranger holds data")
	}
	for _, n := range c.Nodes()[:3] {
		n.AwaitReady()
		n.Holds(keys)
	}
	c.Nodes()[1].Fill("more", 100)
}

func TestTwoClustersThatMeetStayApart(t *testing.T) {
	name := func(f *config.Config) { f.Cluster.Name = "meeting" }
	a := Start(t, 3, name)
	b := start(t, "other", 1, func(f *config.Config) {
		name(f)
		f.Cluster.SecretFile = a.base.Cluster.SecretFile
	})
	lone := b.Nodes()[0]
	ours, theirs := a.Nodes()[0].Fill("ours", 200), lone.Fill("theirs", 200)
	lone.Stop()
	seen := &Log{}
	lone.Log = seen
	lone.Config.Cluster.Seeds = a.seeds()
	lone.Start()
	Await(t, func() bool { return seen.Count("another cluster") > 0 }, func() string { return "nothing about the other cluster in the log:\n" + seen.String() })
	lone.AwaitReady()
	for _, n := range a.Nodes() {
		n.AwaitReady()
		n.Holds(ours)
		n.AwaitKeys(200)
	}
	lone.Holds(theirs)
	lone.AwaitKeys(200)
}
