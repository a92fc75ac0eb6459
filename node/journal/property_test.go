package journal

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"hypercache/node/journal/vfs"
	"hypercache/node/ring"
)

// Any mix of appends, commits, resyncs, rewrites, kills and clean closes replays to the same content and positions.
func TestReplayEqualsTheModel(t *testing.T) {
	rapid.Check(t, func(rt *rapid.T) {
		m := vfs.NewMem()
		policy := rapid.SampledFrom([]Policy{Always, EverySec, No}).Draw(rt, "policy")
		model := &db{}
		var pos [ring.Groups]Position
		open := func() *Journal {
			j, rec, d, err := tryOpen(options(m, policy))
			if err != nil {
				rt.Fatal(err)
			}
			if rec.Positions != pos || !d.equal(model) || len(rec.Spots) > 0 {
				rt.Fatalf("recovery differs: %+v", rec)
			}
			return j
		}
		j := open()
		defer func() { _ = j.Close(false) }()
		if err := errors.Join(j.Complete(allGroupsList()...), j.Settle()); err != nil {
			rt.Fatal(err)
		}
		groups := rapid.SampledFrom([]uint16{0, 1, 128, 255})
		add := func(r Record) {
			j.Append(r)
			if err := model.apply(r); err != nil {
				rt.Fatal(err)
			}
		}
		actions := map[string]func(*rapid.T){
			"append": func(rt *rapid.T) {
				g := groups.Draw(rt, "group")
				if rapid.IntRange(0, 9).Draw(rt, "newTerm") == 0 {
					pos[g].Term++
				}
				pos[g].Seq++
				value := string(rapid.SliceOfN(rapid.Byte(), 0, 300).Draw(rt, "value"))
				add(Record{Group: g, Kind: Effects, Term: pos[g].Term, Seq: pos[g].Seq, Data: appendCmd("k", value)})
			},
			"resync": func(rt *rapid.T) {
				g := groups.Draw(rt, "group")
				pos[g] = Position{pos[g].Term, rapid.Uint64Range(0, 50).Draw(rt, "seq")}
				add(Record{Group: g, Kind: SyncBegin})
				add(Record{Group: g, Kind: Effects, Data: set("k", rapid.String().Draw(rt, "content"))})
				add(Record{Group: g, Kind: SyncEnd, Term: pos[g].Term, Seq: pos[g].Seq})
			},
			"commit": func(rt *rapid.T) {
				if err := j.Commit(j.Stats().Appended); err != nil {
					rt.Fatal(err)
				}
			},
			"rewrite": func(rt *rapid.T) {
				if err := j.Rewrite(t.Context(), model.snapshot(&pos)); err != nil {
					rt.Fatal(err)
				}
			},
			"restart": func(rt *rapid.T) {
				clean := rapid.Bool().Draw(rt, "clean")
				if clean {
					if err := j.Close(true); err != nil {
						rt.Fatal(err)
					}
				} else {
					if err := j.Commit(j.Stats().Appended); err != nil {
						rt.Fatal(err)
					}
					killed := m.Clone()
					_ = j.Close(false)
					m = killed
				}
				j = open()
			},
		}
		rt.Repeat(actions)
	})
}

// A reader that runs every command of the files in the manifest's order and knows nothing of positions, as redis-server does,
// comes to what was appended, whenever the directory is looked at: nothing is in it twice.
func TestTheFilesHaveEachRecordOnceWhileTheyAreRewritten(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, EverySec))
	completeAll(t, j)
	const groups, records = 8, 3000
	var locks [groups]sync.Mutex
	var counts [groups]int // what the store has; a follower's is behind its log
	var logged [groups]Position
	var wg sync.WaitGroup
	for g := range groups {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(g)))
			for range records {
				locks[g].Lock()
				logged[g] = Position{1, logged[g].Seq + 1}
				j.Append(Record{Group: uint16(g), Kind: Effects, Term: 1, Seq: logged[g].Seq, Data: appendCmd(fmt.Sprint(g), "x")})
				if lag := g % 3; rng.IntN(2) == 0 {
					counts[g] = max(counts[g], int(logged[g].Seq)-lag)
				}
				locks[g].Unlock()
				if rng.IntN(20) == 0 {
					if err := j.Commit(j.Stats().Appended); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	snapshot := func(g int, emit func([]byte) error) (term, seq uint64, err error) {
		if g >= groups {
			return 0, 0, nil
		}
		locks[g].Lock()
		defer locks[g].Unlock()
		if n := counts[g]; n > 0 {
			return 1, uint64(n), emit(appendCmd(fmt.Sprint(g), strings.Repeat("x", n)))
		}
		return 0, 0, nil
	}
	done := make(chan struct{})
	go func() { wg.Wait(); close(done) }()
	rewrites := 0
	for running := true; running; rewrites++ {
		if err := j.Rewrite(t.Context(), snapshot); err != nil {
			t.Error(err)
		}
		select {
		case <-done:
			running = false
		default:
		}
	}
	t.Log(rewrites, "rewrites")
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	naive := naively(t, m)
	for g := range groups {
		if got := len(naive[fmt.Sprint(g)]); got != int(logged[g].Seq) {
			t.Errorf("group %d: %d characters for %d records", g, got, logged[g].Seq)
		}
	}
	_, _, d := mustOpen(t, options(m, EverySec))
	for g := range groups {
		if got := len(d[g][fmt.Sprint(g)]); got != int(logged[g].Seq) {
			t.Errorf("group %d: recovery has %d characters for %d records", g, got, logged[g].Seq)
		}
	}
}

// naively runs the commands of all files that the manifest names.
func naively(t *testing.T, m *vfs.Mem) map[string]string {
	t.Helper()
	b, err := m.ReadFile("data/" + aofDir + "/" + manifestName)
	if err != nil {
		t.Fatal(err)
	}
	all := &db{}
	for line := range strings.Lines(string(b)) {
		var name, seq, kind string
		if n, _ := fmt.Sscanf(line, "file %s seq %s type %s", &name, &seq, &kind); n < 3 {
			continue
		}
		content, err := m.ReadFile("data/" + aofDir + "/" + name)
		if err != nil {
			t.Fatal(err)
		}
		for len(content) > 0 {
			end := bytes.IndexByte(content, '\n') + 1
			if content[0] == '#' {
				content = content[end:]
				continue
			}
			next := bytes.Index(content, []byte("\r\n#"))
			data := content
			if next >= 0 {
				data = content[:next+2]
			}
			if err := all.apply(Record{Kind: Effects, Data: data}); err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			content = content[len(data):]
		}
	}
	return all[0]
}

func FuzzParseHeader(f *testing.F) {
	s := newSeal(42)
	f.Add([]byte("#HC:1 3 4 5 E 10 00000000 00000000\r\n"))
	f.Add(s.appendRecord(nil, &Record{Group: 3, Kind: Effects, Term: 1, Seq: 2, Data: []byte("x")}))
	f.Add(s.appendRecord(nil, &Record{Group: 255, Kind: SyncEnd, Term: 1<<64 - 1, Seq: 1<<64 - 1}))
	f.Fuzz(func(t *testing.T, b []byte) {
		h, v := s.parseHeader(b)
		if v != headerOK {
			return
		}
		// Whatever is accepted is exactly what would have been written.
		r := h.Record
		line := b[:h.size]
		again := s.appendHeader(nil, &r, h.sum)
		if h.length == 0 && !bytes.Equal(line, again) {
			t.Fatalf("%q is not canonical: %q", line, again)
		}
	})
}

// A directory of arbitrary bytes never panics, and never yields a record that was not sealed.
func FuzzReplay(f *testing.F) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(f, options(m, Always))
	for seq := uint64(1); seq < 4; seq++ {
		put(f, j, 1, 1, seq, "k", fmt.Sprint(seq))
	}
	m = m.Clone()
	name := "data/" + aofDir + "/" + incrName(1)
	orig, _ := m.ReadFile(name)
	f.Add(0, []byte("x"), true)
	f.Add(60, []byte("#HC:1 3 4 5 E 10 00000000 00000000\r\n"), false)
	f.Add(len(orig), []byte("*1\r\n$4\r\nPING\r\n"), true)
	f.Fuzz(func(t *testing.T, at int, junk []byte, sameBoot bool) {
		c := m.Clone()
		b := append([]byte(nil), orig...)
		at = max(0, min(at, len(b)))
		c.WriteFile(name, append(b[:at:at], append(junk, b[min(len(b), at+len(junk)):]...)...))
		o := options(c, Always)
		if !sameBoot {
			o.BootID = "boot-2"
		}
		j, err := Open(o)
		if err != nil {
			return
		}
		defer j.Close(false)
		_, err = j.Replay(func(r Record) error {
			if !bytes.Contains(orig, r.Data) || r.Group != 1 || r.Seq > 3 {
				t.Fatalf("forged record %+v", r)
			}
			return nil
		})
		_ = err // refusing is fine
	})
}

func TestConcurrentAppendersShareWritesAndKeepTheirOrder(t *testing.T) {
	for _, p := range []Policy{Always, EverySec} {
		m := vfs.NewMem()
		o := options(m, p)
		o.BufferLimit = 20_000
		j, _, _ := mustOpen(t, o)
		completeAll(t, j)
		store := &db{}
		var locks [ring.Groups]sync.Mutex
		var pos [ring.Groups]Position
		const writers, each = 16, 200
		var wg sync.WaitGroup
		for n := range writers {
			wg.Go(func() {
				rng := rand.New(rand.NewPCG(9, uint64(n)))
				for range each {
					g := rng.IntN(8)
					locks[g].Lock()
					pos[g] = Position{1, pos[g].Seq + 1}
					r := Record{Group: uint16(g), Kind: Effects, Term: 1, Seq: pos[g].Seq, Data: appendCmd("k", "abc")}
					if err := store.apply(r); err != nil {
						t.Error(err)
					}
					at := j.Append(r)
					locks[g].Unlock()
					if err := j.Commit(at); err != nil {
						t.Error(err)
					}
				}
			})
		}
		snap := store.snapshot(&pos)
		wg.Go(func() {
			for range 3 {
				if err := j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (uint64, uint64, error) {
					locks[g].Lock()
					defer locks[g].Unlock()
					return snap(g, emit)
				}); err != nil {
					t.Error(err)
				}
			}
		})
		wg.Add(1)
		go func() {
			defer wg.Done()
			for term := uint64(1); term < 20; term++ {
				if err := j.SetPromises(map[uint16]uint64{1: term}); err != nil {
					t.Error(err)
				}
				_, _ = j.Stats(), j.ShouldRewrite()
			}
		}()
		wg.Wait()
		_, rec, d := mustOpen(t, options(m.Clone(), p))
		if !d.equal(store) || rec.Positions != pos || len(rec.Damaged) > 0 {
			t.Fatalf("%s: %+v", p, rec)
		}
		if s := j.Stats(); p == Always && s.Syncs > writers*each {
			t.Fatalf("%d syncs for %d commits", s.Syncs, writers*each)
		}
	}
}

func TestCloseAndAppendMayMeet(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, EverySec))
	var wg sync.WaitGroup
	for g := range 4 {
		wg.Go(func() {
			for seq := uint64(1); ; seq++ {
				if err := j.Commit(j.Append(Record{Group: uint16(g), Kind: Noop, Term: 1, Seq: seq})); err != nil {
					return
				}
			}
		})
	}
	if err := j.Close(true); err != nil {
		t.Fatal(err)
	}
	wg.Wait()
	_, rec, _ := mustOpen(t, options(m.Clone(), EverySec))
	if len(rec.Spots) > 0 || rec.Truncated > 0 {
		t.Fatalf("%+v", rec)
	}
}

func TestEverySecLosesNoMoreThanItsInterval(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, EverySec))
		rng := rand.New(rand.NewPCG(5, 5))
		for seq := uint64(1); seq <= 40; seq++ {
			put(t, j, 1, 1, seq, "k", fmt.Sprint(seq))
			time.Sleep(100 * time.Millisecond) // the bubble's clock: no real time passes
			synctest.Wait()
			o := options(m.PowerLoss(rng), EverySec)
			o.BootID = "boot-2"
			_, rec, _ := mustOpen(t, o)
			if got := rec.Positions[1].Seq; got+10 < seq {
				t.Fatalf("at %d a power loss left %d: more than a second is gone", seq, got)
			}
		}
		if err := j.Close(false); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAFullDiskIsTriedAgainWithoutAnybodyAsking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := vfs.NewMem()
		j, _, _ := mustOpen(t, options(m, Always))
		m.SetHook(func(op vfs.Op, name string) error {
			if op == vfs.OpWrite {
				return &vfs.ShortWrite{Err: syscall.ENOSPC}
			}
			return nil
		})
		if err := j.Commit(j.Append(Record{Group: 1, Kind: Noop, Term: 1, Seq: 1})); err == nil || j.Err() == nil {
			t.Fatal("committed on a full disk")
		}
		m.SetHook(nil)
		time.Sleep(3 * time.Second) // the bubble's clock
		synctest.Wait()
		if err := j.Err(); err != nil {
			t.Fatal(err)
		}
		if err := j.Close(true); err != nil {
			t.Fatal(err)
		}
	})
}
