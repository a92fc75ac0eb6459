//go:build e2e && linux

package nodetest

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"hypercache/internal/need"
	"hypercache/node/config"
)

// The requests that freeze and thaw a file system: who writes to it waits, and cannot be killed, as with a volume that hangs.
const (
	fiFreeze = 0xC0045877
	fiThaw   = 0xC0045878
)

// frozenDisk is a file system of its own for one node.
type frozenDisk struct {
	t  *testing.T
	fd int
}

// newDisk makes a file system in a file and mounts it at dir. It is gone with the test.
func newDisk(t *testing.T, dir string) *frozenDisk {
	t.Helper()
	image := dir + ".img"
	run := func(name string, args ...string) {
		t.Helper()
		ctx, cancel := context.WithTimeout(context.Background(), Patient)
		defer cancel()
		if out, err := exec.CommandContext(ctx, name, args...).CombinedOutput(); err != nil {
			t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
		}
	}
	run(need.Program(t, "truncate"), "-s", "96M", image)
	run(need.Program(t, "mkfs.ext4"), "-q", image)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	run(need.Program(t, "mount"), "-o", "loop", image, dir)
	t.Cleanup(func() { run("umount", dir) })
	fd, err := unix.Open(dir, unix.O_RDONLY|unix.O_DIRECTORY, 0)
	if err != nil {
		t.Fatal(err)
	}
	d := &frozenDisk{t, fd}
	t.Cleanup(func() { _ = unix.Close(fd) })
	return d
}

func (d *frozenDisk) set(request uint) {
	d.t.Helper()
	if err := unix.IoctlSetInt(d.fd, request, 0); err != nil {
		d.t.Fatalf("freeze or thaw: %v", err)
	}
}

// TestANodeWhoseDiskHangsLeavesItsPartToTheOthers hangs the disk of the node that leads the topology, for longer than the others need. A
// node that answers and can't write would keep the lead and a third of the slots for as long as that lasts.
func TestANodeWhoseDiskHangsLeavesItsPartToTheOthers(t *testing.T) {
	disks := map[string]*frozenDisk{}
	root := t.TempDir()
	c := Start(t, 3, func(f *config.Config) { f.Persistence.StallTimeout = time.Second })
	for _, n := range c.Nodes() { // in turn, so that everybody has all data again
		n.Stop()
		n.Config.Persistence.DataDir = filepath.Join(root, n.ID, "data")
		disks[n.ID] = newDisk(t, filepath.Join(root, n.ID))
		n.Start()
		c.AwaitReady()
		c.AwaitSettled(n, 3)
	}
	t.Cleanup(func() { // before the disks go
		for _, d := range disks {
			_ = unix.IoctlSetInt(d.fd, fiThaw, 0) // mostly it is thawed
		}
		c.StopAll()
	})
	sick := c.Leader()
	other := c.Other(sick)
	keys := other.Fill("before", 600)
	r := other.Client()
	ctx, cancel := context.WithTimeout(context.Background(), 2*Patient)
	defer cancel()
	disks[sick.ID].set(fiFreeze)
	began := time.Now()
	for i := range 600 { // that is of all nodes
		key := fmt.Sprint("while-", i)
		Await(t, func() bool { return r.Set(ctx, key, value(key), 0).Err() == nil }, func() string { return key + " is not written while a disk hangs" })
		keys = append(keys, key)
	}
	t.Logf("600 keys of all slots are written %v after the disk hung", time.Since(began).Round(time.Millisecond))
	if ok, why := sick.Server().Ready(); ok || !strings.Contains(fmt.Sprint(why), "disk") {
		t.Errorf("the node whose disk hangs is ready: %v %v", ok, why)
	}
	leads := false
	for _, n := range c.Nodes() {
		leads = leads || n != sick && n.Server().LeadsTopology()
	}
	if !leads {
		t.Error("nobody else leads the topology")
	}
	other.Holds(keys)
	disks[sick.ID].set(fiThaw)
	sick.AwaitReady()
	c.AwaitSettled(sick, 3)
	for _, n := range c.Nodes() {
		n.Holds(keys)
	}
}
