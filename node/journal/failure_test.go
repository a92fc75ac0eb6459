package journal

import (
	"context"
	"errors"
	"math/rand/v2"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

func TestIOErrorsAreFinalAndEndTheVote(t *testing.T) {
	for _, op := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, Always))
		completeAll(t, j)
		m.SetHook(func(o vfs.Op, name string) error {
			if o == op && strings.Contains(name, "incr") {
				return syscall.EIO
			}
			return nil
		})
		pos := j.Append(Record{Group: 1, Kind: Noop, Term: 1, Seq: 1})
		if err := j.Commit(pos); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Fatalf("%s: %v", op, err)
		}
		m.SetHook(nil)
		pos = j.Append(Record{Group: 1, Kind: Noop, Term: 1, Seq: 2})
		if err := j.Commit(pos); !errors.Is(err, ErrFailed) {
			t.Fatalf("%s: later commit: %v", op, err)
		}
		if err := j.SetPromises(map[uint16]uint64{1: 1}); !errors.Is(err, ErrFailed) {
			t.Fatalf("%s: later promise: %v", op, err)
		}
		if err := j.Close(true); err != nil {
			t.Fatal(err)
		}
		// Same boot: but the page cache is not to be trusted.
		_, rec, _ := mustOpen(t, options(m.Clone(), Always))
		if rec.Voter {
			t.Fatalf("%s: voter after a failed disk", op)
		}
	}
}

// A kill leaves what was not synced in the page cache. A start that cannot sync it must not have the next start, which can since
// nothing is dirty any more, vote with what the disk does not have.
func TestAStartThatCannotSyncEndsTheVote(t *testing.T) {
	for _, torn := range []bool{false, true} {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, Always))
		completeAll(t, j)
		left := m
		m.SetHook(func(op vfs.Op, name string) error {
			if op == vfs.OpSync && left == m && strings.Contains(name, "incr") {
				left = m.Clone() // killed between the write and its sync
			}
			return nil
		})
		put(t, j, 1, 1, 1, "k", "v")
		if torn {
			log := "data/appendonlydir/" + incrName(1)
			b, err := left.ReadFile(log)
			if err != nil {
				t.Fatal(err)
			}
			left.WriteFile(log, b[:len(b)-1])
		}
		left.SetHook(func(op vfs.Op, name string) error {
			if op == vfs.OpSync && strings.Contains(name, "incr") {
				return &vfs.FailedSync{Err: syscall.EIO, RNG: rand.New(rand.NewPCG(1, 1))}
			}
			return nil
		})
		j, err := Open(options(left, Always))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.Replay(func(Record) error { return nil }); !errors.Is(err, ErrFailed) || !errors.Is(err, syscall.EIO) {
			t.Errorf("torn %v: a start that could not sync: %v", torn, err)
		}
		if err := j.Close(false); err != nil {
			t.Fatal(err)
		}
		left.SetHook(nil)
		if _, rec, _ := mustOpen(t, options(left, Always)); rec.Voter {
			t.Errorf("torn %v: voter after a start that could not sync", torn)
		}
	}
}

// Between a failed fsync and the next start the disk may come back. The process does not end before its failure is noted.
func TestAFailureIsNotedBeforeTheProcessEnds(t *testing.T) {
	for _, healed := range []vfs.Op{vfs.OpCreate, vfs.OpRemove} { // the state can be written again, or be removed
		synctest.Test(t, func(t *testing.T) {
			m := vfs.NewMem()
			o := options(m, EverySec)
			o.SyncInterval = time.Hour
			j, _, _ := mustOpen(t, o)
			completeAll(t, j)
			put(t, j, 1, 1, 1, "k", "v")
			start := time.Now()
			m.SetHook(func(op vfs.Op, name string) error {
				if time.Since(start) > 3*time.Second && (op == healed || healed == vfs.OpCreate) {
					return nil
				}
				return syscall.EIO
			})
			pos := j.Append(Record{Group: 1, Kind: Noop, Term: 1, Seq: 2})
			if err := j.Commit(pos); !errors.Is(err, ErrFailed) {
				t.Fatal(err)
			}
			if err := j.Close(false); err != nil {
				t.Fatal(err)
			}
			m.SetHook(nil)
			if _, rec, _ := mustOpen(t, o); rec.Voter {
				t.Errorf("voter though the disk had failed, once it can %s again", healed)
			}
		})
	}
}

// A process that is killed when it has named a new increment and not yet synced the old one leaves both. The next one appends to the
// new one, and a power loss must not take the old one's end from before it.
func TestAStartSyncsTheIncrementBeforeTheLast(t *testing.T) {
	m := vfs.NewMem()
	o := options(m, No)
	o.Manual = true
	j, _, _ := mustOpen(t, o)
	completeAll(t, j)
	put(t, j, 1, 1, 1, "k", "v")
	killed := m
	m.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpSync && strings.HasSuffix(name, incrName(1)) && killed == m {
			killed = m.Clone()
		}
		return nil
	})
	if err := j.Rewrite(t.Context(), func(int, func([]byte) error) (uint64, uint64, error) { return 0, 0, nil }); err != nil {
		t.Fatal(err)
	}
	j, rec, _ := mustOpen(t, options(killed, Always))
	if !rec.Voter || rec.Positions[1].Seq != 1 || len(j.manifest.incrs) != 2 {
		t.Fatalf("after the kill: %+v, increments %v", rec.Positions[1], j.manifest.incrs)
	}
	put(t, j, 2, 1, 1, "k", "v")
	for seed := range uint64(20) {
		o := options(killed.PowerLoss(rand.New(rand.NewPCG(seed, 1))), Always)
		o.BootID = "boot-2"
		if _, rec, _ := mustOpen(t, o); !rec.Voter || rec.Positions[1].Seq != 1 || rec.Positions[2].Seq != 1 {
			t.Fatalf("power loss %d: voter %v, with %v and %v of what it had said that it had", seed, rec.Voter, rec.Positions[1], rec.Positions[2])
		}
	}
}

// Whoever says that groups are complete serves clients, and a disk that takes long must not be in their way.
func TestWhatIsCompleteIsNotedWithoutWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		o := options(m, EverySec)
		o.SyncInterval = time.Hour
		j, _, _ := mustOpen(t, o)
		goOn := make(chan struct{})
		m.SetHook(func(op vfs.Op, name string) error {
			if strings.Contains(name, stateName) {
				<-goOn
			}
			return nil
		})
		for _, g := range allGroupsList() {
			if err := j.Complete(g); err != nil { // each would wait for ever
				t.Fatal(err)
			}
		}
		synctest.Wait()
		if _, rec, _ := mustOpen(t, options(m.Clone(), EverySec)); len(rec.Damaged) != ring.Groups {
			t.Errorf("%d groups are not complete, though nothing is written yet", len(rec.Damaged))
		}
		close(goOn)
		synctest.Wait()
		if _, rec, _ := mustOpen(t, options(m.Clone(), EverySec)); !rec.Voter || len(rec.Damaged) != 0 {
			t.Errorf("a moment later: voter %t, not complete %v", rec.Voter, rec.Damaged)
		}
		if err := j.Close(true); err != nil {
			t.Fatal(err)
		}
	})
}

// The copy of what was appended during a rewrite went on for hundreds of milliseconds, and kept a processor for all of them.
func TestARewriteRestsWhileItReads(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		rests := func(manual bool, since time.Time) time.Duration {
			w := &baseWriter{j: &Journal{o: Options{Manual: manual}}, since: since}
			begin := time.Now()
			if err := w.rest(t.Context()); err != nil {
				t.Fatal(err)
			}
			return time.Since(begin)
		}
		if d := rests(false, time.Now().Add(-copyWork)); d != copyRest {
			t.Errorf("after %v of work it sleeps %v, want %v", copyWork, d, copyRest)
		}
		if d := rests(false, time.Now()); d != 0 {
			t.Errorf("it sleeps %v without any work", d)
		}
		if d := rests(true, time.Time{}); d != 0 {
			t.Errorf("it sleeps %v in a simulation", d)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := (&baseWriter{j: &Journal{}}).rest(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("cancelled: %v", err)
		}
	})
}
