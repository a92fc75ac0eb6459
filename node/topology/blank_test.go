package topology

import (
	"slices"
	"testing"
)

// TestAVoterThatLostItsDiskHelpsNobodyUntilItIsTakenIn: what is committed is known to the leader and to one follower, which loses its
// disk; the leader stops. The third, which lacks it, must not lead with the vote of an empty log.
func TestAVoterThatLostItsDiskHelpsNobodyUntilItIsTakenIn(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	leader := f.leader()
	late, wiped := ids[(slices.Index(ids, leader)+1)%3], ids[(slices.Index(ids, leader)+2)%3]
	f.kill(late)
	f.eventually("failover", func() bool { return f.served(leader, 3) })
	f.writeAll(leader)
	committed := f.node(leader).top.State().Epoch
	f.eventually("the follower knows", func() bool { return f.node(wiped).top.State().Epoch >= committed })
	f.kill(leader)
	f.kill(wiped)
	f.mu.Lock()
	delete(f.disks, wiped)
	f.mu.Unlock()

	f.start(late, 3)
	f.start(wiped, 3)
	f.meet(late, wiped)
	blank := f.node(wiped).top.raft.transport
	f.eventually("it is asked for its vote", func() bool { return blank.refused.Load() >= 3 || f.leader() != "" })
	if l := f.leader(); l != "" {
		t.Fatalf("%s leads at epoch %d, committed was %d", l, f.node(l).top.State().Epoch, committed)
	}

	f.start(leader, 3)
	f.meet(ids...)
	for _, id := range ids {
		f.eventually("all is back", func() bool { return f.settled(id, 3, ids...) })
	}
	f.eventually("three voters", func() bool { return f.voters() == 3 })
	f.checkNothingLost(f.node(leader).top.State())
	if blank.blank.Load() {
		t.Error("it was taken in and still refuses")
	}
}

// TestANodeThatStoppedBetweenJoiningAndItsFirstRecordIsTakenIn: it knows its cluster and has no log.
func TestANodeThatStoppedBetweenJoiningAndItsFirstRecordIsTakenIn(t *testing.T) {
	f := newFabric(t)
	ids := f.three()
	disk := &fakeDisk{dir: t.TempDir()}
	if err := (identity{NodeID: "n4", ClusterID: f.node("n1").top.State().ClusterID}).write(disk.dir); err != nil {
		t.Fatal(err)
	}
	f.disks["n4"] = disk
	f.start("n4", 3)
	ids = append(ids, "n4")
	f.meet(ids...)
	f.eventually("it has its share", func() bool { return f.settled("n4", 3, ids...) })
}
