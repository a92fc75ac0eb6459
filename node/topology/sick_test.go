package topology

import (
	"context"
	"errors"
	"sync/atomic"
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

// faultyLog is Raft's log on a disk that may be full.
type faultyLog struct {
	raft.LogStore
	full *atomic.Bool
}

func (l *faultyLog) StoreLogs(logs []*raft.Log) error {
	if l.full.Load() {
		return syscall.ENOSPC
	}
	return l.LogStore.StoreLogs(logs)
}

func (l *faultyLog) StoreLog(log *raft.Log) error { return l.StoreLogs([]*raft.Log{log}) }

func TestAMemberThatCouldNotWriteRaftsLogHearsOfEverythingAfterwards(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	f.writeAll("n1")
	leader := f.leader()
	sick := ids[0]
	if sick == leader {
		sick = ids[1]
	}
	f.disks[sick].full.Store(true)
	before := f.node(leader).top.State().Epoch
	f.start("n4", 3)
	ids = append(ids, "n4")
	f.meet(ids...)
	f.eventually("much has changed", func() bool { return f.node(leader).top.State().Epoch > before+20 })
	f.disks[sick].full.Store(false)
	f.eventually("four nodes share", func() bool { return f.settled(sick, 3, ids...) })
	f.checkNothingLost(f.node(sick).top.State())
}
