package topology

import (
	"context"
	"errors"
	"io/fs"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/hashicorp/raft"
)

func TestADeadMemberIsRemovedAndItsReplicasAreMadeAnew(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.start("n4", 3)
	ids = append(ids, "n4")
	f.meet(ids...)
	f.eventually("four nodes share", func() bool { return f.settled("n1", 3, ids...) })
	f.writeAll("n1")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	if err := f.node("n1").top.Remove(ctx, "n2"); !errors.Is(err, ErrAlive) {
		t.Errorf("removal of a node that is alive: %v", err)
	}
	f.kill("n2")
	f.kill("n3")
	short, end := context.WithTimeout(t.Context(), 2*time.Second)
	defer end()
	if err := f.node("n1").top.Remove(short, "n2"); err == nil {
		t.Error("a node was removed that half of the groups need")
	}
	f.start("n3", 3)
	f.meet(ids...)
	f.eventually("n3 serves again", func() bool { return f.served("n1", 3) })
	if err := f.node("n4").top.Remove(ctx, "n2"); err != nil {
		t.Fatal(err)
	}
	left := []string{"n1", "n3", "n4"}
	f.eventually("the others hold everything", func() bool { return f.settled("n1", 3, left...) })
	f.checkNothingLost(f.node("n1").top.State())
	f.eventually("three voters", func() bool { return f.voters() == 3 })
	f.start("n2", 3)
	f.meet(ids...)
	f.eventually("the removed node comes back as a new member", func() bool { return f.settled("n1", 3, ids...) })
	f.checkNothingLost(f.node("n1").top.State())
}

// faultyLog is Raft's log on a disk that may fail, or be full.
type faultyLog struct {
	raft.LogStore
	disk *fakeDisk
}

func (l *faultyLog) StoreLogs(logs []*raft.Log) error {
	if err := l.disk.fails.Load(); err != nil {
		return *err
	}
	return l.LogStore.StoreLogs(logs)
}

func (l *faultyLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

// follower is a node that does not lead.
func (f *fabric) follower(ids ...string) string {
	leader := f.leader()
	for _, id := range ids {
		if id != leader {
			return id
		}
	}
	f.t.Fatalf("no other than %s among %v", leader, ids)
	return ""
}

func TestAMemberThatCouldNotWriteRaftsLogHearsOfEverythingAfterwards(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	leader, sick := f.leader(), f.follower(ids...)
	full := &fs.PathError{Op: "write", Path: "raft.db", Err: syscall.ENOSPC}
	f.disks[sick].fails.Store(new(error(full)))
	before := f.node(leader).top.State().Epoch
	f.start("n4", 3)
	ids = append(ids, "n4")
	f.meet(ids...)
	f.eventually("much has changed", func() bool { return f.node(leader).top.State().Epoch > before+20 })
	f.disks[sick].fails.Store(nil)
	f.eventually("four nodes share", func() bool { return f.settled(sick, 3, ids...) })
	f.checkNothingLost(f.node(sick).top.State())
	if err := f.disks[sick].ended.Load(); err != nil {
		t.Errorf("a full disk is fatal: %v", *err)
	}
}

// Raft goes on when its log cannot be written: such a node would look alive, vote for nobody and hear of no change for good.
func TestAMemberWhoseDiskFailsSaysThatItMustEnd(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	sick := f.follower(ids...)
	broken := &fs.PathError{Op: "write", Path: "raft.db", Err: syscall.EIO}
	f.disks[sick].fails.Store(new(error(broken)))
	f.start("n4", 3)
	f.meet(append(ids, "n4")...)
	f.eventually("it is told", func() bool { return f.disks[sick].ended.Load() != nil })
	if err := *f.disks[sick].ended.Load(); !errors.Is(err, syscall.EIO) || !strings.Contains(err.Error(), "topology's log") {
		t.Errorf("it is told %v", err)
	}
	for id, d := range f.disks {
		if err := d.ended.Load(); err != nil && id != sick {
			t.Errorf("%s must end, too: %v", id, *err)
		}
	}
}
