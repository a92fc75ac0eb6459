package journal

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

// workload is a scripted run whose file system is cloned at every operation. It knows what was acknowledged.
type workload struct {
	t      *testing.T
	j      *Journal
	m      *vfs.Mem
	store  db
	pos    [ring.Groups]Position
	issued [ring.Groups][]string // the values of the group's key after each record
	acked  [ring.Groups]int      // how many records of the group were acknowledged
}

var crashGroups = []uint16{0, 7, 255}

// write appends one record to each group and commits them together.
func (w *workload) write(size int) {
	var last int64
	for _, g := range crashGroups {
		p := &w.pos[g]
		p.Term = 1 + p.Seq/8
		p.Seq++
		chunk := fmt.Sprintf("%d.", p.Seq) + strings.Repeat("x", size)
		r := Record{Group: g, Kind: Effects, Term: p.Term, Seq: p.Seq, Data: appendCmd("k", chunk)}
		if p.Seq%16 == 0 {
			r = Record{Group: g, Kind: Noop, Term: p.Term, Seq: p.Seq}
		}
		if err := w.store.apply(r); err != nil {
			w.t.Error(err)
		}
		w.issued[g] = append(w.issued[g], w.store[g]["k"])
		last = w.j.Append(r)
	}
	if err := w.j.Commit(last); err != nil {
		w.t.Error(err)
	}
	for _, g := range crashGroups {
		w.acked[g] = len(w.issued[g])
	}
	if w.pos[0].Seq%3 == 0 {
		w.j.Tick()
	}
}

// fetch replaces a group's content by what a primary sent, in n pieces, two records on.
func (w *workload) fetch(g uint16, n int) {
	p := &w.pos[g]
	p.Seq += 2
	list := []Record{
		{Group: g, Kind: SyncBegin, Term: p.Term, Seq: p.Seq},
		{Group: g, Kind: Effects, Term: p.Term, Seq: p.Seq, Data: set("k", "fetched.")},
	}
	for i := range n {
		list = append(list, Record{Group: g, Kind: Effects, Term: p.Term, Seq: p.Seq, Data: appendCmd("k", fmt.Sprintf("piece %d.", i))})
	}
	for _, r := range append(list, Record{Group: g, Kind: SyncEnd, Term: p.Term, Seq: p.Seq}) {
		if err := w.store.apply(r); err != nil {
			w.t.Error(err)
		}
		w.j.Append(r)
	}
}

func (w *workload) run() {
	for i := range 12 {
		w.write(i * 40)
	}
	w.rewrite()
	for range 5 {
		w.write(10)
	}
	w.rewrite()
	w.write(700)
}

func (w *workload) rewrite() {
	snap := w.store.snapshot(&w.pos)
	if err := w.j.Rewrite(w.t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
		if g == 1 || g == 200 {
			w.write(30)
		}
		return snap(g, emit)
	}); err != nil {
		w.t.Error(err)
	}
}

// check recovers m and holds it against the run so far: every group has a prefix of what was issued, and with all set
// every acknowledged record.
func (w *workload) check(m *vfs.Mem, boot string, p Policy, all bool, what string) {
	w.t.Helper()
	o := options(m, p)
	o.BootID = boot
	j, rec, d, err := tryOpen(o)
	if err != nil {
		w.t.Fatalf("%s: %v", what, err)
	}
	defer j.Close(false)
	if len(rec.Spots) > 0 || all && (!rec.Voter || len(rec.Damaged) > 0) {
		w.t.Fatalf("%s: voter %t damaged %v spots %+v", what, rec.Voter, rec.Damaged, rec.Spots)
	}
	for _, g := range crashGroups {
		n := int(rec.Positions[g].Seq)
		if n > len(w.issued[g]) || all && n < w.acked[g] {
			w.t.Fatalf("%s: group %d ends at %d, acknowledged %d, issued %d", what, g, n, w.acked[g], len(w.issued[g]))
		}
		want := ""
		if n > 0 {
			want = w.issued[g][n-1]
		}
		if d[g]["k"] != want {
			w.t.Fatalf("%s: group %d at %d holds %.60q, want %.60q", what, g, n, d[g]["k"], want)
		}
	}
	// What recovery left must be good for the next run and the next recovery.
	before := rec.Positions
	if err := j.Commit(j.Append(Record{Group: 5, Kind: Noop, Term: 99, Seq: 1})); err != nil {
		w.t.Fatalf("%s: append after recovery: %v", what, err)
	}
	j2, rec2, d2, err := tryOpen(options(m.Clone(), p))
	if err != nil {
		w.t.Fatalf("%s: second recovery: %v", what, err)
	}
	defer j2.Close(false)
	before[5] = Position{99, 1}
	if rec2.Positions != before || !d2.equal(d) || rec2.Truncated != 0 || len(rec2.Spots) > 0 {
		w.t.Fatalf("%s: second recovery differs: %+v", what, rec2)
	}
}

func TestCrashAtEveryOperation(t *testing.T) {
	for _, p := range []Policy{Always, EverySec, No} {
		t.Run(p.String(), func(t *testing.T) {
			m := vfs.NewMem()
			o := options(m, p)
			o.SyncInterval = time.Hour // the script ticks
			j, _, _ := mustOpen(t, o)
			completeAll(t, j)
			w := &workload{t: t, j: j, m: m}
			rng := rand.New(rand.NewPCG(1, uint64(p)))
			var mu sync.Mutex
			points, kinds := 0, map[vfs.Op]int{}
			m.SetHook(func(op vfs.Op, name string) error {
				mu.Lock()
				defer mu.Unlock()
				points++
				kinds[op]++
				what := fmt.Sprintf("point %d before %s %s", points, op, name)
				// A killed process loses nothing that was committed, whatever the policy.
				w.check(m.Clone(), testBoot, p, true, what+", killed")
				for n := range 4 {
					w.check(m.PowerLoss(rng), "boot-2", p, p == Always, fmt.Sprintf("%s, power loss %d", what, n))
				}
				return nil
			})
			w.run()
			m.SetHook(nil)
			w.check(m.Clone(), testBoot, p, true, "end")
			for _, op := range []vfs.Op{vfs.OpCreate, vfs.OpWrite, vfs.OpSync, vfs.OpRename, vfs.OpRemove, vfs.OpSyncDir} {
				if kinds[op] == 0 {
					t.Errorf("the script never did a %s", op)
				}
			}
			t.Logf("%d points", points)
		})
	}
}

// The very first start can be cut short as well.
func TestCrashWhileTheDirectoryIsCreated(t *testing.T) {
	m := vfs.NewMem()
	rng := rand.New(rand.NewPCG(2, 2))
	m.SetHook(func(op vfs.Op, name string) error {
		for n := range 6 {
			c := m.Clone()
			if n > 0 {
				c = m.PowerLoss(rng)
			}
			j, rec, _, err := tryOpen(options(c, Always))
			if err != nil {
				t.Fatalf("before %s %s: %v\n%s", op, name, err, content(c))
			}
			if rec.Voter && len(rec.Damaged) != ring.Groups {
				t.Fatalf("before %s %s: votes with an empty log", op, name)
			}
			_ = j.Close(false)
		}
		return nil
	})
	mustOpen(t, options(m, Always))
}

// Every write, sync, rename … of a rewrite may fail for lack of space: the rewrite fails, the journal goes on.
func TestRewriteSurvivesAFullDiskAnywhere(t *testing.T) {
	for point := 1; ; point++ {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, Always))
		completeAll(t, j)
		w := &workload{t: t, j: j, m: m}
		w.write(5)
		n, hit := 0, false
		m.SetHook(func(op vfs.Op, name string) error {
			if op != vfs.OpWrite && op != vfs.OpCreate {
				return nil
			}
			if n++; n == point {
				hit = true
				return &vfs.ShortWrite{N: 7, Err: syscall.ENOSPC}
			}
			return nil
		})
		err := j.Rewrite(t.Context(), w.store.snapshot(&w.pos))
		m.SetHook(nil)
		if !hit {
			if err != nil {
				t.Fatal(err)
			}
			return
		}
		if err == nil {
			t.Fatalf("point %d: rewrite succeeded on a full disk", point)
		}
		if j.Err() != nil {
			t.Fatalf("point %d: %v", point, j.Err())
		}
		w.write(5)
		w.rewrite()
		w.check(m.Clone(), testBoot, Always, true, fmt.Sprintf("point %d", point))
	}
}

// flipTarget is a directory with every kind of file and record.
func flipTarget(t *testing.T) (*vfs.Mem, *workload) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	if err := j.SetPromises(map[uint16]uint64{7: 77}); err != nil {
		t.Fatal(err)
	}
	w := &workload{t: t, j: j, m: m}
	w.write(3)
	w.rewrite()
	w.write(4)
	w.fetch(7, 3)
	w.write(5)
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	return m, w
}

// One flipped bit anywhere: either nothing of it matters, or the group is reported, or the start is refused. What is
// served for a group that is not reported is what was written.
func TestEveryBitFlipIsDetected(t *testing.T) {
	m, w := flipTarget(t)
	rng := rand.New(rand.NewPCG(3, 3))
	outcomes := map[string]int{}
	for _, name := range m.Files() {
		orig, _ := m.ReadFile(name)
		for i := range orig {
			if strings.Contains(name, "base") && i%7 != 0 && i < len(orig)-600 {
				continue // 256 brackets of the same shape
			}
			c := m.Clone()
			b := append([]byte(nil), orig...)
			b[i] ^= 1 << rng.IntN(8)
			c.WriteFile(name, b)
			what := fmt.Sprintf("%s byte %d", name, i)
			j, rec, d, err := tryOpen(options(c, Always))
			if err != nil {
				outcomes["refused "+name]++
				continue
			}
			damaged := map[uint16]bool{}
			for _, g := range rec.Damaged {
				damaged[g] = true
			}
			if rec.Voter && j.Promises()[7] != 77 {
				t.Fatalf("%s: promise lost", what)
			}
			for g := range ring.Groups {
				if damaged[uint16(g)] || !rec.Voter {
					continue
				}
				if d[g]["k"] != w.store[g]["k"] || rec.Positions[g] != w.pos[g] {
					t.Fatalf("%s: group %d serves %.40q at %v, want %.40q at %v", what, g, d[g]["k"], rec.Positions[g],
						w.store[g]["k"], w.pos[g])
				}
			}
			switch {
			case !rec.Voter:
				outcomes["learner "+name]++
			case len(rec.Damaged) > 0:
				outcomes["damaged "+name]++
			default:
				outcomes["harmless "+name]++
			}
			_ = j.Close(false)
		}
	}
	for k, n := range outcomes {
		t.Log(n, k)
	}
}

func TestCorruptionIsReportedSetAsideAndForgottenOnlyAfterAResync(t *testing.T) {
	m, w := flipTarget(t)
	name := "data/" + aofDir + "/" + incrName(3)
	b, _ := m.ReadFile(name)
	i := strings.Index(string(b), "#HC:1 7 ")
	i += strings.Index(string(b[i:]), "APPEND")
	b[i] ^= 1
	m.WriteFile(name, b)
	for start := range 2 {
		j, rec, _ := mustOpen(t, options(m.Clone(), Always))
		if !rec.Voter || len(rec.Damaged) != 1 || rec.Damaged[0] != 7 || !slices.Equal(rec.Holes, rec.Damaged) || len(rec.Spots) < 1 || rec.Spots[0].Group != 7 {
			t.Fatalf("start %d: %+v", start, rec)
		}
		if !j.ShouldRewrite() {
			t.Fatal("no rewrite due")
		}
	}
	j, _, _ := mustOpen(t, options(m, Always))
	// The rewrite removes the evidence, not the verdict.
	if err := j.Rewrite(t.Context(), w.store.snapshot(&w.pos)); err != nil {
		t.Fatal(err)
	}
	if _, err := m.ReadFile("data/" + aofDir + "/damaged-" + incrName(3)); err != nil {
		t.Fatal("the corrupt file was not set aside")
	}
	j2, rec, _ := mustOpen(t, options(m.Clone(), Always))
	if len(rec.Spots) != 0 || len(rec.Damaged) != 1 || rec.Damaged[0] != 7 {
		t.Fatalf("after the rewrite: %+v", rec)
	}
	j2.Append(Record{Group: 7, Kind: SyncBegin})
	j2.Append(Record{Group: 7, Kind: SyncEnd, Term: 9, Seq: 9})
	if err := j2.Close(true); err != nil {
		t.Fatal(err)
	}
	_, rec, _ = mustOpen(t, Options{FS: j2.o.FS, Dir: "data", BootID: testBoot})
	if len(rec.Damaged) != 0 || !rec.Voter {
		t.Fatalf("after the resync: %+v", rec)
	}
}

// The record after the lost one is of a new term, the one after that is contiguous to it.
func TestARecordLostAtTheEndOfATermIsMissed(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	for _, pos := range []Position{{1, 1}, {2, 2}, {2, 3}, {3, 4}, {3, 5}} {
		put(t, j, 7, pos.Term, pos.Seq, "k", fmt.Sprint(pos.Seq))
	}
	put(t, j, 8, 1, 1, "k", "1")
	put(t, j, 8, 1, 2, "k", "2")
	name := "data/" + aofDir + "/" + incrName(1)
	b, _ := m.ReadFile(name)
	if !m.Flip(name, int64(strings.Index(string(b), "#HC:1 7 2 3 ")+len("#HC:1 ")), 2) {
		t.Fatal("no such record")
	}
	_, rec, _ := mustOpen(t, options(m.Clone(), Always))
	if !rec.Voter || !slices.Contains(rec.Holes, 7) || !slices.Contains(rec.Damaged, 7) {
		t.Fatalf("holes %v, damaged %d", rec.Holes, len(rec.Damaged))
	}
}
