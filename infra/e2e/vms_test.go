//go:build e2e

package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"hypercache/infra/cloudtest/cloud"
)

// chapter is one thing that must hold of a cluster of VMs. Each needs the cluster that the one before left.
type chapter struct {
	name string
	run  func(*testing.T, *vmStack)
}

// story is the life of a cluster in a cloud.
func story(t *testing.T, s site) {
	v := newVMStack(t, s)
	t.Run("a preview passes the policy pack", func(t *testing.T) { v.t = t; previewPassesThePolicies(t, v) })
	v.t = t
	v.mustUp()
	for _, c := range []chapter{
		{"the post-deployment checklist holds", checklistHolds},
		{"the firewall is the plan's table", firewallIsTheTable},
		{"a second up changes nothing", vmsSecondUpChangesNothing},
		{"data survives a reboot of every VM in turn", rebootsKeepData},
		{"scaling 3 to 5 to 3 under load loses nothing", scalingUnderLoad},
		{"a new binary rolls under load without a failed operation", upgradeUnderLoad},
		{"a VM destroyed behind Pulumi's back is rebuilt with its data", lostVMIsRebuilt},
		{"a node that cannot get healthy stops the roll", sickNodeStopsTheRoll},
		{"destroy leaves nothing", destroyLeavesNothingBehind},
	} {
		if !t.Run(c.name, func(t *testing.T) { v.t = t; c.run(t, v) }) {
			break
		}
	}
	v.t = t
}

// previewPassesThePolicies previews twice: the second time shows how long a warm one takes.
func previewPassesThePolicies(t *testing.T, v *vmStack) {
	out := v.pulumi("preview", "-s", "e2e", "--policy-pack", filepath.Join(v.dir, "infra", "policy"))
	if !strings.Contains(out, "hypercache") || !strings.Contains(out, "Policies:") {
		t.Errorf("the policy pack did not run:\n%s", out)
	}
	v.pulumi("preview", "-s", "e2e")
}

func checklistHolds(t *testing.T, v *vmStack) {
	for _, err := range v.checklist() {
		t.Error(err)
	}
}

func firewallIsTheTable(t *testing.T, v *vmStack) {
	for _, err := range v.firewall() {
		t.Error(err)
	}
}

func vmsSecondUpChangesNothing(t *testing.T, v *vmStack) {
	out, err := v.try("up", "-s", "e2e", "--yes", "--skip-preview", "--expect-no-changes")
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := v.try("refresh", "-s", "e2e", "--yes", "--skip-preview", "--expect-no-changes"); err != nil {
		t.Errorf("refresh finds a difference: %v\n%s", err, out)
	}
}

// fill writes keys and verifies them through every node.
func (v *vmStack) fill(prefix string, keys int) {
	v.t.Helper()
	c := v.client(3)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	for i := range keys {
		if err := c.Set(ctx, fmt.Sprintf("%s:%d", prefix, i), fmt.Sprintf("v%d", i), 0).Err(); err != nil {
			v.t.Fatalf("write key %d: %v", i, err)
		}
	}
}

func (v *vmStack) verify(prefix string, keys int) {
	v.t.Helper()
	c := v.client(3)
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	missing := 0
	for i := range keys {
		if got, err := c.Get(ctx, fmt.Sprintf("%s:%d", prefix, i)).Result(); err != nil || got != fmt.Sprintf("v%d", i) {
			missing++
		}
	}
	if missing > 0 {
		v.t.Errorf("%d of %d keys of %s are missing", missing, keys, prefix)
	}
}

const vmKeys = 1000

func rebootsKeepData(t *testing.T, v *vmStack) {
	v.fill("reboot", vmKeys)
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Minute)
	defer cancel()
	for i := range 3 {
		began := time.Now()
		if err := v.lab.RebootMachine(ctx, v.cloud.machine(fmt.Sprintf("node-%d", i+1))); err != nil {
			t.Fatal(err)
		}
		v.ready(0, 1, 2)
		t.Logf("node-%d rebooted and serves after %v", i+1, time.Since(began).Round(100*time.Millisecond))
	}
	v.verify("reboot", vmKeys)
}

// underLoad runs an up with a load on the first three nodes, and tells what the load met.
func (v *vmStack) underLoad(prefix string, up func()) {
	v.t.Helper()
	c := v.client(3)
	defer c.Close()
	l := startLoad(c, prefix)
	up()
	l.stop()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	lost, err := l.lost(ctx)
	v.t.Logf("%d operations, %d failed, the slowest took %v; %d of %d acknowledged keys lost", l.ops, len(l.failed), l.longest.Round(time.Millisecond), lost, len(l.acked))
	if err != nil || lost > 0 {
		v.t.Errorf("%d acknowledged keys are lost, %v", lost, err)
	}
	if len(l.failed) > 0 {
		v.t.Errorf("%d operations failed:\n%v", len(l.failed), errors.Join(l.failed[:min(len(l.failed), 20)]...))
		v.consoles()
	}
	if len(l.acked) == 0 {
		v.t.Error("the load did nothing")
	}
}

func scalingUnderLoad(t *testing.T, v *vmStack) {
	before := v.ids(3)
	v.underLoad("scale", func() {
		v.set("nodeCount", "5")
		v.mustUp()
		v.set("nodeCount", "3")
		if out := v.mustUp(); !strings.Contains(out, "node-5 hands its data over") {
			t.Errorf("node-5 was not drained:\n%s", out)
		}
	})
	if after := v.ids(3); !slices.Equal(before, after) {
		t.Errorf("growing and shrinking replaced VMs that stay: %v, then %v", before, after)
	}
	if id := v.cloud.machine("node-4"); id != "" {
		t.Errorf("node-4 still has VM %s", id)
	}
	v.verify("reboot", vmKeys)
}

// ids are the VMs of the first nodes.
func (v *vmStack) ids(nodes int) []string {
	var out []string
	for i := range nodes {
		out = append(out, v.cloud.machine(fmt.Sprintf("node-%d", i+1)))
	}
	return out
}

// vms picks the creates and deletes of VMs out of the cloud's record.
func vmEvents(events []cloud.Event) []string {
	var out []string
	for _, e := range events {
		if (e.Stage == cloud.StageCreate || e.Stage == cloud.StageDelete) && (strings.HasSuffix(e.Token, ":Instance") || strings.HasSuffix(e.Token, ":VirtualMachine")) {
			out = append(out, e.Stage+" "+e.Name)
		}
	}
	return out
}

// change makes the binary another one that does the same.
func (v *vmStack) change(path string) {
	v.t.Helper()
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString("another build\n")
		err = firstOf(err, f.Close())
	}
	if err != nil {
		v.t.Fatal(err)
	}
}

func firstOf(errs ...error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

func upgradeUnderLoad(t *testing.T, v *vmStack) {
	before := v.ids(3)
	v.cloud.Provider().ForgetEvents()
	v.change(filepath.Join(v.dir, "bin", "hypercache"))
	v.underLoad("upgrade", func() { v.mustUp() })
	want := []string{
		"delete node-1-vm", "create node-1-vm", "delete node-2-vm", "create node-2-vm", "delete node-3-vm", "create node-3-vm",
	}
	if got := vmEvents(v.cloud.Provider().Events()); !slices.Equal(got, want) {
		t.Errorf("the roll went %q, want %q", got, want)
	}
	for i, id := range v.ids(3) {
		if id == before[i] {
			t.Errorf("node-%d still has VM %s", i+1, id)
		}
	}
	v.verify("reboot", vmKeys)
}

func lostVMIsRebuilt(t *testing.T, v *vmStack) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	lost := v.cloud.machine("node-2")
	if err := v.lab.KillMachine(ctx, lost); err != nil { // its host failed; somebody then cleans up
		t.Fatal(err)
	}
	if err := v.cloud.destroy(ctx, "node-2"); err != nil {
		t.Fatal(err)
	}
	if out := v.pulumi("refresh", "-s", "e2e", "--yes", "--skip-preview"); !strings.Contains(out, "node-2-vm") {
		t.Errorf("refresh did not notice:\n%s", out)
	}
	v.mustUp()
	if now := v.cloud.machine("node-2"); now == "" || now == lost {
		t.Errorf("node-2 has VM %q after %q", now, lost)
	}
	// The node came back with its disk, not by copying from the others.
	log, err := v.lab.Exec(ctx, v.cloud.machine("node-2"), "journalctl", "-u", "hypercache", "--no-pager")
	if err != nil || strings.Contains(log, "it starts over") || !strings.Contains(log, "recovered") {
		t.Errorf("node-2 did not come back with its data:\n%s", log)
	}
	v.verify("reboot", vmKeys)
}

func sickNodeStopsTheRoll(t *testing.T, v *vmStack) {
	binary := filepath.Join(v.dir, "bin", "hypercache")
	good, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	sick, err := os.ReadFile("/bin/false") // a Linux program for these VMs, and no node
	if err != nil {
		t.Fatal(err)
	}
	write := func(program []byte) {
		if err := os.WriteFile(binary, program, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	before := v.ids(3)
	write(sick)
	v.set("readyTimeout", "20") // it never will be
	for attempt := range 2 {    // the second must not take the first's VM as done
		v.cloud.Provider().ForgetEvents()
		out, err := v.try("up", "-s", "e2e", "--yes", "--skip-preview")
		if err == nil || !strings.Contains(out, "node-1 was not ready within 20s") {
			t.Errorf("attempt %d with a sick binary: %v\n%s", attempt+1, err, out)
		}
		for _, e := range vmEvents(v.cloud.Provider().Events()) {
			if !strings.HasSuffix(e, " node-1-vm") {
				t.Errorf("attempt %d touched another: %s", attempt+1, e)
			}
		}
	}
	if after := v.ids(3); !slices.Equal(before[1:], after[1:]) {
		t.Errorf("the others were touched: %v, then %v", before, after)
	}
	v.verify("reboot", vmKeys)
	write(good)
	v.set("readyTimeout", bootLimit)
	v.mustUp()
	v.ready(0, 1, 2)
	v.verify("reboot", vmKeys)
}

func destroyLeavesNothingBehind(t *testing.T, v *vmStack) {
	v.leave()
	v.pulumi("destroy", "-s", "e2e", "--yes", "--skip-preview")
	if left := v.cloud.Leftovers(); len(left) > 0 {
		t.Errorf("the cloud still has %q", left)
	}
	if left := leftBehind(t, "hc"+v.site.cloud[:2]); len(left) > 0 {
		t.Errorf("this machine still has %q", left)
	}
	v.pulumi("stack", "rm", "-s", "e2e", "--yes")
}
