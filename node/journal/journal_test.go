package journal

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"path"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

const testBoot = "boot-1"

// set returns the effects of SET key value.
func set(key, value string) []byte {
	return fmt.Appendf(nil, "*3\r\n$3\r\nSET\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
}

func appendCmd(key, value string) []byte {
	return fmt.Appendf(nil, "*3\r\n$6\r\nAPPEND\r\n$%d\r\n%s\r\n$%d\r\n%s\r\n", len(key), key, len(value), value)
}

// db is a reference store per group: it runs SET and APPEND, so that a record applied twice or not at all shows.
type db [ring.Groups]map[string]string

func (d *db) apply(r Record) error {
	g := int(r.Group)
	if d[g] == nil {
		d[g] = map[string]string{}
	}
	for b := r.Data; len(b) > 0; {
		var args []string
		rest, n := field(b, '*')
		for range n {
			var size int
			rest, size = field(rest, '$')
			args = append(args, string(rest[:size]))
			rest = rest[size+2:]
		}
		switch args[0] {
		case "SET":
			d[g][args[1]] = args[2]
		case "APPEND":
			d[g][args[1]] += args[2]
		case "DEL":
			delete(d[g], args[1])
		default:
			return fmt.Errorf("unknown command %q", args[0])
		}
		b = rest
	}
	return nil
}

func field(b []byte, lead byte) ([]byte, int) {
	i := bytes.IndexByte(b, '\n')
	n, err := strconv.Atoi(string(b[1 : i-1]))
	if err != nil || b[0] != lead {
		panic(fmt.Sprintf("bad RESP: %q", b))
	}
	return b[i+1:], n
}

func (d *db) snapshot(pos *[ring.Groups]Position) Snapshot {
	return func(g int, emit func([]byte) error) (uint64, uint64, error) {
		for k, v := range d[g] {
			if err := emit(set(k, v)); err != nil {
				return 0, 0, err
			}
		}
		return pos[g].Term, pos[g].Seq, nil
	}
}

func (d *db) equal(o *db) bool {
	for g := range d {
		if len(d[g]) != len(o[g]) {
			return false
		}
		for k, v := range d[g] {
			if o[g][k] != v {
				return false
			}
		}
	}
	return true
}

func options(fsys vfs.FS, p Policy) Options {
	return Options{FS: fsys, Dir: "data", Fsync: p, BootID: testBoot, RewriteMinSize: 1}
}

func mustOpen(t testing.TB, o Options) (*Journal, Recovery, *db) {
	t.Helper()
	j, rec, d, err := tryOpen(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = j.Close(false) })
	return j, rec, d
}

func tryOpen(o Options) (*Journal, Recovery, *db, error) {
	j, err := Open(o)
	if err != nil {
		return nil, Recovery{}, nil, err
	}
	d := &db{}
	rec, err := j.Replay(func(r Record) error { return d.apply(r) })
	if err != nil {
		return nil, rec, nil, errors.Join(err, j.Close(false))
	}
	return j, rec, d, nil
}

func completeAll(t testing.TB, j *Journal) {
	t.Helper()
	if err := errors.Join(j.Complete(allGroupsList()...), j.Settle()); err != nil {
		t.Fatal(err)
	}
}

func allGroupsList() []uint16 { s := allGroups(); return s.list() }

// put appends and commits one SET.
func put(t testing.TB, j *Journal, g uint16, term, seq uint64, key, value string) {
	t.Helper()
	if err := j.Commit(j.Append(Record{Group: g, Kind: Effects, Term: term, Seq: seq, Data: set(key, value)})); err != nil {
		t.Fatal(err)
	}
}

func TestRecordsComeBackInOrderWithTheirPositions(t *testing.T) {
	m := vfs.NewMem()
	j, rec, _ := mustOpen(t, options(m, Always))
	if !rec.Fresh || rec.Voter {
		t.Fatalf("fresh directory: %+v", rec)
	}
	completeAll(t, j)
	want := []Record{
		{Group: 3, Kind: Noop, Term: 1, Seq: 1},
		{Group: 3, Kind: Effects, Term: 1, Seq: 2, Data: set("a", "1")},
		{Group: 255, Kind: Effects, Term: 7, Seq: 1, Data: set("b", strings.Repeat("x", 3<<20))},
		{Group: 0, Kind: SyncBegin, Term: 1},
		{Group: 0, Kind: Effects, Data: set("c", "")},
		{Group: 0, Kind: SyncEnd, Term: 9, Seq: 90},
		{Group: 0, Kind: Effects, Term: 9, Seq: 91, Data: set("d", "#HC:1 \r\n")},
	}
	for _, r := range want {
		j.Append(r)
	}
	if err := j.Commit(j.Stats().Appended); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	j, err := Open(options(m, Always))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(true)
	var got []Record
	rec, err = j.Replay(func(r Record) error {
		r.Data = bytes.Clone(r.Data)
		got = append(got, r)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if !rec.Voter || rec.Fresh || len(rec.Damaged) != 0 || rec.Records != len(want) {
		t.Fatalf("recovery: %+v", rec)
	}
	for i := range want {
		if fmt.Sprint(got[i]) != fmt.Sprint(want[i]) {
			t.Fatalf("record %d: got %.80v want %.80v", i, got[i], want[i])
		}
	}
	if rec.Positions[0] != (Position{9, 91}) || rec.Positions[255] != (Position{7, 1}) {
		t.Fatalf("positions: %v %v", rec.Positions[0], rec.Positions[255])
	}
}

func TestRestartRule(t *testing.T) {
	for _, c := range []struct {
		name   string
		policy Policy
		clean  bool
		boot   string
		voter  bool
	}{
		{"same boot, killed", No, false, testBoot, true},
		{"other boot, killed, everysec", EverySec, false, "boot-2", false},
		{"other boot, killed, no", No, false, "boot-2", false},
		{"other boot, killed, always", Always, false, "boot-2", true},
		{"other boot, clean", EverySec, true, "boot-2", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := vfs.NewMem()
			j, _, _ := mustOpen(t, options(m, c.policy))
			completeAll(t, j)
			put(t, j, 1, 1, 1, "k", "v")
			if c.clean {
				if err := j.Close(true); err != nil {
					t.Fatal(err)
				}
			}
			o := options(m.Clone(), c.policy)
			o.BootID = c.boot
			_, rec, d := mustOpen(t, o)
			if rec.Voter != c.voter || len(rec.Damaged) != 0 || d[1]["k"] != "v" {
				t.Fatalf("voter %t damaged %v db %v", rec.Voter, rec.Damaged, d[1])
			}
		})
	}
}

// A learner that restarts before it has caught up must not become a voter because the second crash was harmless.
func TestALearnerStaysOneOverARestart(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, EverySec))
	completeAll(t, j)
	put(t, j, 1, 1, 1, "k", "v")
	o := options(m.Clone(), EverySec)
	o.BootID = "boot-2"
	j2, rec, _ := mustOpen(t, o)
	if rec.Voter {
		t.Fatal("voter after a power loss")
	}
	// One group is fetched again in full, one catches up by its tail.
	j2.Append(Record{Group: 1, Kind: SyncBegin})
	if err := j2.Commit(j2.Append(Record{Group: 1, Kind: SyncEnd, Term: 1, Seq: 5})); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(j2.Complete(2), j2.Settle()); err != nil {
		t.Fatal(err)
	}
	o.FS = o.FS.(*vfs.Mem).Clone()
	_, rec, _ = mustOpen(t, o)
	if !rec.Voter || len(rec.Damaged) != ring.Groups-2 || rec.Damaged[0] != 0 || rec.Damaged[1] != 3 {
		t.Fatalf("voter %t damaged %v", rec.Voter, rec.Damaged)
	}
}

func TestPromisesSurviveAndNeverFall(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, No))
	if err := j.SetPromises(map[uint16]uint64{0: 3, 255: 9}); err != nil {
		t.Fatal(err)
	}
	if err := j.SetPromises(map[uint16]uint64{0: 2, 7: 1}); err != nil {
		t.Fatal(err)
	}
	j, err := Open(options(m.Clone(), No))
	if err != nil {
		t.Fatal(err)
	}
	defer j.Close(false)
	if p := j.Promises(); p[0] != 3 || p[255] != 9 || p[7] != 1 {
		t.Fatalf("promises: %v", p)
	}
}

func TestADirectoryIsOpenOnce(t *testing.T) {
	for _, fsys := range []vfs.FS{vfs.NewMem(), vfs.OS{}} {
		o := options(fsys, No)
		o.Dir = t.TempDir()
		mustOpen(t, o)
		_, err := Open(o)
		if !errors.Is(err, ErrLocked) {
			t.Fatalf("%T: %v", fsys, err)
		}
		if _, ok := fsys.(vfs.OS); ok && !strings.Contains(err.Error(), "process ") {
			t.Fatalf("pid missing: %v", err)
		}
	}
}

func TestForeignDirectoriesAreRefusedAndUntouched(t *testing.T) {
	own := func(files map[string]string) *vfs.Mem {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, No))
		put(t, j, 1, 1, 1, "k", "v")
		if err := j.Close(true); err != nil {
			t.Fatal(err)
		}
		for name, add := range files {
			b, _ := m.ReadFile(name)
			m.WriteFile(name, append(b, add...))
		}
		return m
	}
	fresh := func(name string) *vfs.Mem {
		m := vfs.NewMem()
		m.WriteFile(name, []byte("x"))
		return m
	}
	manifestOf := own(nil)
	manifestOf.WriteFile("data/appendonlydir/"+manifestName, []byte("file appendonly.aof.1.base.rdb seq 1 type b\n"))
	newer := own(nil)
	newer.WriteFile("data/"+formatName, seal(0).sign([]byte("hypercache-journal 2 00\n"), sumLead))
	for name, m := range map[string]*vfs.Mem{
		"an RDB file":               fresh("data/dump.rdb"),
		"a single append-only file": fresh("data/appendonly.aof"),
		"a Redis directory":         fresh("data/appendonlydir/appendonly.aof.manifest"),
		"a newer format":            newer,
		"a manifest of Redis":       manifestOf,
		"commands of Redis":         own(map[string]string{"data/appendonlydir/" + incrName(1): string(set("a", "b"))}),
		"timestamps of Redis":       own(map[string]string{"data/appendonlydir/" + incrName(1): "#TS:1628217470\r\n"}),
	} {
		t.Run(name, func(t *testing.T) {
			before := content(m)
			_, _, _, err := tryOpen(options(m, No))
			if !errors.Is(err, ErrForeign) {
				t.Fatalf("error %v", err)
			}
			if after := content(m); after != before {
				t.Fatalf("changed:\n%s\n%s", before, after)
			}
		})
	}
}

func content(m *vfs.Mem) string {
	var b strings.Builder
	for _, name := range m.Files() {
		data, _ := m.ReadFile(name)
		fmt.Fprintf(&b, "%s %q\n", name, data)
	}
	return b.String()
}

func TestADamagedFormatFileIsTakenFromTheOthers(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, No))
	put(t, j, 1, 1, 1, "k", "v")
	m = m.Clone()
	m.WriteFile("data/"+formatName, []byte("hypercache-journal 1 junk"))
	_, _, d := mustOpen(t, options(m, No))
	if d[1]["k"] != "v" {
		t.Fatal("lost")
	}
}

func TestLostPromisesMakeALearner(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	put(t, j, 1, 8, 1, "k", "v")
	m = m.Clone()
	m.WriteFile("data/"+promisesName, []byte("junk"))
	j, rec, _ := mustOpen(t, options(m, Always))
	if rec.Voter || !rec.PromisesLost || j.Promises()[1] != 8 {
		t.Fatalf("%+v", rec)
	}
}

func TestDiskFullKeepsRecordsAndResumes(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	put(t, j, 1, 1, 1, "a", "1")
	var injected error = &vfs.ShortWrite{N: 20, Err: syscall.ENOSPC}
	m.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite {
			return injected
		}
		return nil
	})
	for seq := uint64(2); seq < 5; seq++ {
		pos := j.Append(Record{Group: 1, Kind: Effects, Term: 1, Seq: seq, Data: appendCmd("a", fmt.Sprint(seq))})
		if err := j.Commit(pos); !errors.Is(err, ErrDiskFull) || !errors.Is(err, syscall.ENOSPC) {
			t.Fatalf("commit on a full disk: %v", err)
		}
		if !errors.Is(j.Err(), ErrDiskFull) {
			t.Fatalf("Err: %v", j.Err())
		}
		// A kill at this moment finds whole records only.
		_, rec, d := mustOpen(t, options(m.Clone(), Always))
		if d[1]["a"] != "1" || rec.Truncated != 0 || len(rec.Damaged) != 0 {
			t.Fatalf("on disk: %v %+v", d[1], rec)
		}
	}
	m.SetHook(nil)
	if err := j.Commit(j.Stats().Appended); err != nil || j.Err() != nil {
		t.Fatalf("%v %v", err, j.Err())
	}
	_, _, d := mustOpen(t, options(m.Clone(), Always))
	if d[1]["a"] != "1234" {
		t.Fatalf("after the disk had space: %v", d[1])
	}
}

func TestAFullBufferOnAFullDiskFailsTheJournal(t *testing.T) {
	m := vfs.NewMem()
	o := options(m, No)
	o.BufferLimit = 1000
	j, _, _ := mustOpen(t, o)
	m.SetHook(func(op vfs.Op, name string) error {
		if op == vfs.OpWrite && strings.Contains(name, "incr") {
			return syscall.ENOSPC
		}
		return nil
	})
	for seq := uint64(1); seq < 100; seq++ {
		j.Append(Record{Group: 1, Kind: Effects, Term: 1, Seq: seq, Data: set("k", "v")})
	}
	if !errors.Is(j.Err(), ErrFailed) || j.Stats().Pending > 2100 {
		t.Fatalf("%v, %d pending", j.Err(), j.Stats().Pending)
	}
}

func TestAppendWaitsOnlyAtTheBound(t *testing.T) {
	m := vfs.NewMem()
	o := options(m, No)
	o.BufferLimit = 10_000
	j, _, _ := mustOpen(t, o)
	value := strings.Repeat("v", 900)
	for seq := uint64(1); seq <= 1000; seq++ {
		j.Append(Record{Group: 1, Kind: Effects, Term: 1, Seq: seq, Data: set("k", value)})
		if p := j.Stats().Pending; p > 11_000 {
			t.Fatalf("%d bytes pending", p)
		}
	}
}

func TestRewriteKeepsContentAndShrinks(t *testing.T) {
	m := vfs.NewMem()
	j, _, d := mustOpen(t, options(m, Always))
	completeAll(t, j)
	var pos [ring.Groups]Position
	write := func(j *Journal, n int) {
		for i := range n {
			g := i % 5
			pos[g].Term = 1
			pos[g].Seq++
			r := Record{Group: uint16(g), Kind: Effects, Term: 1, Seq: pos[g].Seq, Data: appendCmd("k", "x")}
			if err := d.apply(r); err != nil {
				t.Fatal(err)
			}
			if err := j.Commit(j.Append(r)); err != nil {
				t.Fatal(err)
			}
		}
	}
	write(j, 1000)
	if !j.ShouldRewrite() {
		t.Fatal("no rewrite due")
	}
	if j.RewriteAt(-1, 0); j.ShouldRewrite() {
		t.Fatal("a rewrite is due that was switched off")
	}
	if j.RewriteAt(1, j.Size()+1); j.ShouldRewrite() {
		t.Fatal("a rewrite is due below the least size")
	}
	if j.RewriteAt(1, j.Size()); !j.ShouldRewrite() {
		t.Fatal("no rewrite due any more")
	}
	before := j.Size()
	snap := d.snapshot(&pos)
	if err := j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
		if g == 2 {
			write(j, 17) // some groups before their snapshot, some after
		}
		return snap(g, emit)
	}); err != nil {
		t.Fatal(err)
	}
	write(j, 7)
	if j.Size() >= before {
		t.Fatalf("%d bytes before, %d after", before, j.Size())
	}
	got, rec, _ := mustOpenDB(t, m.Clone())
	if !rec.Voter || len(rec.Damaged) > 0 || !got.equal(d) || rec.Positions != pos || rec.Skipped > 0 {
		t.Fatalf("recovery %+v\ngot %v\nwant %v", rec, got[:5], d[:5])
	}
	if len(m.Files()) != 7 { // lock is no file of Mem
		t.Logf("files: %v", m.Files())
	}
	for _, name := range m.Files() {
		if name == path.Join("data", aofDir, incrName(1)) {
			t.Fatal("old increment is still there")
		}
	}
}

func mustOpenDB(t testing.TB, m *vfs.Mem) (*db, Recovery, *Journal) {
	t.Helper()
	j, rec, d := mustOpen(t, options(m, Always))
	return d, rec, j
}

// A replica's store lags behind its log: what the snapshot lacks must survive the deletion of the old files, twice.
func TestRewriteKeepsTheTailThatTheStoreLacks(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	store := &db{}
	var pos [ring.Groups]Position
	want := &db{}
	for seq := uint64(1); seq <= 10; seq++ {
		r := Record{Group: 4, Kind: Effects, Term: 2, Seq: seq, Data: appendCmd("k", fmt.Sprint(seq))}
		if err := j.Commit(j.Append(r)); err != nil {
			t.Fatal(err)
		}
		_ = want.apply(r)
		if seq <= 6 {
			_ = store.apply(r)
			pos[4] = Position{2, seq}
		}
	}
	for round := range 2 {
		if err := j.Rewrite(t.Context(), store.snapshot(&pos)); err != nil {
			t.Fatal(err)
		}
		got, rec, _ := mustOpenDB(t, m.Clone())
		if !got.equal(want) || len(rec.Damaged) > 0 || rec.Positions[4] != (Position{2, 10}) {
			t.Fatalf("round %d: got %v want %v: %+v", round, got[4], want[4], rec)
		}
	}
}

// Only the first emit is under the group's lock: what is appended between it and the last one counts once, after the content.
func TestRewriteKeepsWhatIsAppendedWhileAGroupIsEncoded(t *testing.T) {
	for _, fed := range []bool{false, true} {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, Always))
		completeAll(t, j)
		put(t, j, 4, 1, 1, "k", "a")
		if err := j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
			if g != 4 {
				return 0, 0, nil
			}
			err := emit(nil)
			late := []Record{{Group: 4, Term: 1, Seq: 2, Kind: Effects, Data: appendCmd("k", "b")}, {Group: 4, Term: 1, Seq: 3, Kind: Effects, Data: appendCmd("k", "c")}}
			if fed {
				late = []Record{{Group: 4, Kind: SyncBegin}, {Group: 4, Kind: Effects, Data: set("k", "abc")}, {Group: 4, Kind: SyncEnd, Term: 1, Seq: 3}}
			}
			for _, r := range late {
				j.Append(r)
			}
			return 1, 1, errors.Join(err, emit(set("k", "a")))
		}); err != nil {
			t.Fatal(err)
		}
		got, rec, _ := mustOpenDB(t, m.Clone())
		if got[4]["k"] != "abc" || rec.Positions[4] != (Position{1, 3}) || len(rec.Damaged) > 0 {
			t.Errorf("fed %v: %v at %+v, damaged %v", fed, got[4], rec.Positions[4], rec.Damaged)
		}
	}
}

// A resync that ends below the log's head (a deposed primary) must not be mistaken for old records.
func TestRewriteAroundAResyncToALowerPosition(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	put(t, j, 4, 5, 100, "k", "old")
	store := &db{}
	store[4] = map[string]string{"k": "old"}
	var pos [ring.Groups]Position
	pos[4] = Position{5, 100}
	resync := func() {
		for _, r := range []Record{
			{Group: 4, Kind: SyncBegin},
			{Group: 4, Kind: Effects, Data: set("k", "new")},
			{Group: 4, Kind: SyncEnd, Term: 5, Seq: 90},
		} {
			j.Append(r)
			_ = store.apply(r)
		}
		pos[4] = Position{5, 90}
	}
	snap := store.snapshot(&pos)
	for name, at := range map[string]int{"before the group's snapshot": 3, "after it": 5} {
		if err := j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
			if g == at {
				resync()
			}
			return snap(g, emit)
		}); err != nil {
			t.Fatal(err)
		}
		if err := j.Commit(j.Stats().Appended); err != nil {
			t.Fatal(err)
		}
		got, rec, _ := mustOpenDB(t, m.Clone())
		if got[4]["k"] != "new" || rec.Positions[4] != (Position{5, 90}) || len(rec.Damaged) > 0 {
			t.Fatalf("%s: %v %+v", name, got[4], rec.Positions[4])
		}
	}
}

func TestRewriteWaitsForAResyncToEnd(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	j.Append(Record{Group: 9, Kind: SyncBegin})
	ctx, cancel := context.WithCancel(t.Context())
	err := j.Rewrite(ctx, func(g int, emit func([]byte) error) (uint64, uint64, error) {
		if g == 255 {
			cancel()
		}
		return 0, 0, nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("rewrite over an open resync: %v", err)
	}
	err = j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
		if g == 255 {
			j.Append(Record{Group: 9, Kind: SyncEnd, Term: 3, Seq: 3})
		}
		if g == 9 {
			return 3, 3, nil
		}
		return 0, 0, nil
	})
	if err != nil {
		t.Fatal(err)
	}
	_, rec, _ := mustOpenDB(t, m.Clone())
	if len(rec.Damaged) > 0 || rec.Positions[9] != (Position{3, 3}) {
		t.Fatalf("%+v", rec)
	}
}

func TestAnUnfinishedResyncIsDamage(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	completeAll(t, j)
	j.Append(Record{Group: 9, Kind: SyncBegin})
	if err := j.Commit(j.Append(Record{Group: 9, Kind: Effects, Data: set("a", "b")})); err != nil {
		t.Fatal(err)
	}
	_, rec, j2 := mustOpenDB(t, m.Clone())
	if !rec.Voter || len(rec.Damaged) != 1 || rec.Damaged[0] != 9 {
		t.Fatalf("%+v", rec)
	}
	_ = j2
}

func TestLogsSpeakThroughTheInjectedLogger(t *testing.T) {
	var buf bytes.Buffer
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, Always))
	put(t, j, 1, 1, 1, "k", "v")
	m = m.Clone()
	name := path.Join("data", aofDir, incrName(1))
	b, _ := m.ReadFile(name)
	m.WriteFile(name, b[:len(b)-3])
	o := options(m, Always)
	o.Logger = slog.New(slog.NewTextHandler(&buf, nil))
	_, rec, _ := mustOpen(t, o)
	if rec.Truncated == 0 || !strings.Contains(buf.String(), "torn tail truncated") || !strings.Contains(buf.String(), "offset=") {
		t.Fatalf("%+v\n%s", rec, buf.String())
	}
}

// The node watches this from another goroutine while the disk holds up whoever writes.
func TestADiskThatHangsShows(t *testing.T) {
	for _, hung := range []vfs.Op{vfs.OpWrite, vfs.OpSync} {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, Always))
		entered, release := make(chan struct{}), make(chan struct{})
		var once sync.Once
		m.SetHook(func(op vfs.Op, _ string) error {
			if op == hung {
				once.Do(func() { close(entered); <-release })
			}
			return nil
		})
		if j.Stalled() != 0 {
			t.Error("it stalls before anything is written")
		}
		done := make(chan error, 1)
		go func() {
			done <- j.Commit(j.Append(Record{Group: 1, Kind: Effects, Term: 1, Seq: 1, Data: []byte("x")}))
		}()
		<-entered
		if first := j.Stalled(); first == 0 || j.Stalled() < first {
			t.Errorf("a %s that hangs does not show: %v, %v", hung, first, j.Stalled())
		}
		close(release)
		if err := <-done; err != nil || j.Stalled() != 0 {
			t.Errorf("after the %s: %v, %v", hung, err, j.Stalled())
		}
	}
}
