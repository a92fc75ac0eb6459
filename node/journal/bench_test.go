package journal

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"hypercache/node/journal/vfs"
)

func benchJournal(b *testing.B, p Policy) *Journal {
	o := Options{Dir: b.TempDir(), Fsync: p, BootID: testBoot}
	j, _, _ := mustOpen(b, o)
	return j
}

// BenchmarkAppend measures one 100-byte record into the buffer; the writes that keep the buffer bounded are included.
func BenchmarkAppend(b *testing.B) {
	j := benchJournal(b, No)
	r := Record{Group: 1, Kind: Effects, Term: 3, Data: set("key:000000000001", strings.Repeat("v", 60))}
	b.ReportAllocs()
	b.SetBytes(int64(len(r.Data)))
	var pos int64
	for b.Loop() {
		r.Seq++
		if pos = j.Append(r); r.Seq%1024 == 0 {
			b.StopTimer()
			if err := j.Commit(pos); err != nil {
				b.Fatal(err)
			}
			b.StartTimer()
		}
	}
}

// BenchmarkCommit64 is one pipeline of 64 records given to write(2).
func BenchmarkCommit64(b *testing.B) {
	j := benchJournal(b, EverySec)
	r := Record{Group: 1, Kind: Effects, Term: 3, Data: set("key:000000000001", strings.Repeat("v", 60))}
	b.ReportAllocs()
	for b.Loop() {
		var pos int64
		for range 64 {
			r.Seq++
			pos = j.Append(r)
		}
		if err := j.Commit(pos); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(r.Seq)/b.Elapsed().Seconds(), "records/s")
}

// BenchmarkAlways16 is group commit: 16 goroutines, each waiting for its fsync.
func BenchmarkAlways16(b *testing.B) {
	j := benchJournal(b, Always)
	data := set("key:000000000001", strings.Repeat("v", 60))
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	var wg sync.WaitGroup
	for g := range 16 {
		wg.Go(func() {
			for seq := uint64(1); left.Add(-1) >= 0; seq++ {
				if err := j.Commit(j.Append(Record{Group: uint16(g), Kind: Effects, Term: 1, Seq: seq, Data: data})); err != nil {
					b.Error(err)
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "commits/s")
	b.ReportMetric(float64(b.N)/float64(max(1, j.Stats().Syncs)), "commits/fsync")
}

func BenchmarkReplay(b *testing.B) {
	dir := b.TempDir()
	o := Options{Dir: dir, Fsync: No, BootID: testBoot}
	j, _, _ := mustOpen(b, o)
	for i := range 500_000 {
		j.Append(Record{Group: uint16(i % 256), Kind: Effects, Term: 1, Seq: uint64(i/256 + 1),
			Data: set(fmt.Sprintf("key:%012d", i), strings.Repeat("v", 60))})
	}
	size := j.Stats().Appended
	if err := j.Close(true); err != nil {
		b.Fatal(err)
	}
	b.SetBytes(size)
	for b.Loop() {
		j, err := Open(o)
		if err != nil {
			b.Fatal(err)
		}
		if _, err := j.Replay(func(Record) error { return nil }); err != nil {
			b.Fatal(err)
		}
		if err := j.Close(true); err != nil {
			b.Fatal(err)
		}
	}
}

func TestAppendAndCommitDoNotAllocate(t *testing.T) {
	j, _, _ := mustOpen(t, Options{FS: vfs.OS{}, Dir: t.TempDir(), Fsync: No, BootID: testBoot})
	r := Record{Group: 1, Kind: Effects, Term: 1, Data: set("k", strings.Repeat("v", 100))}
	if n := testing.AllocsPerRun(2000, func() {
		for range 64 {
			r.Seq++
			j.Append(r)
		}
		if err := j.Commit(j.appended); err != nil {
			t.Fatal(err)
		}
	}); n != 0 {
		t.Fatalf("%v allocations per batch", n)
	}
}

// A record far above the chunk size costs its own size once.
func TestALargeRecordIsHeldOnce(t *testing.T) {
	m := vfs.NewMem()
	j, _, _ := mustOpen(t, options(m, No))
	data := set("k", strings.Repeat("x", 40<<20))
	pos := j.Append(Record{Group: 1, Kind: Effects, Term: 1, Seq: 1, Data: data})
	held := 0
	for _, c := range j.buf.chunks {
		held += cap(c)
	}
	if held > len(data)+2*chunkSize {
		t.Fatalf("%d bytes held for %d", held, len(data))
	}
	if err := j.Commit(pos); err != nil {
		t.Fatal(err)
	}
	for _, c := range append(append([][]byte(nil), j.buf.chunks...), j.buf.free...) {
		if cap(c) > chunkSize {
			t.Fatal("the large chunk is kept")
		}
	}
	_, _, d := mustOpen(t, options(m.Clone(), No))
	if len(d[1]["k"]) != 40<<20 {
		t.Fatal("lost")
	}
}
