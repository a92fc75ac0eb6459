package store

import (
	"math/rand/v2"
	"testing"
	"unsafe"
)

// TestRunsNeverOverlapAndJoinAgain fills runs with their owner's mark and looks at the marks when they are freed.
func TestRunsNeverOverlapAndJoinAgain(t *testing.T) {
	type run struct {
		a    addr
		n    int
		mark byte
	}
	h := newPageHeap()
	defer h.close()
	rng := rand.New(rand.NewPCG(11, 3))
	var runs []run
	inUse := 0
	for i := range 9_000 {
		if i/1_500%2 == 0 && rng.IntN(3) > 0 || len(runs) == 0 {
			n := 1 + rng.IntN(1+rng.IntN(maxRun+20))
			r := run{h.alloc(n), n, byte(i)}
			for p := range n {
				*(*byte)(unsafe.Add(r.a.ptr(), p*pageSize)) = r.mark
			}
			runs = append(runs, r)
			inUse += n
			continue
		}
		at := rng.IntN(len(runs))
		r := runs[at]
		runs[at] = runs[len(runs)-1]
		runs = runs[:len(runs)-1]
		for p := range r.n {
			if *(*byte)(unsafe.Add(r.a.ptr(), p*pageSize)) != r.mark {
				t.Fatalf("run of %d pages lost page %d", r.n, p)
			}
		}
		h.release(r.a, r.n)
		inUse -= r.n
		if h.inUse.Load() != int64(inUse)*pageSize {
			t.Fatalf("%d bytes in use, want %d pages", h.inUse.Load(), inUse)
		}
	}
	for _, r := range runs {
		h.release(r.a, r.n)
	}
	if len(h.order) != 1 || h.order[0].free != chunkPages || h.order[0].runAt(0) != chunkPages {
		t.Errorf("%d chunks left, the first with %d free pages", len(h.order), h.order[0].free)
	}
}

func TestSizeClassesWasteLittle(t *testing.T) {
	for size := 1; size <= maxBlock; size++ {
		got := classSize[classOf(size)]
		if got < size || got-size > max(unit-1, size/8) {
			t.Fatalf("a block of %d bytes for %d", got, size)
		}
	}
	for cl, size := range classSize[:classes] {
		for kind, least := range map[int]int{cl: 96, cl + smallSpan: 93} {
			if bytes, count := spanBytes[kind], spanCount[kind]; size == 0 || size%unit != 0 || count*size > bytes || count*size*100 < bytes*least {
				t.Errorf("kind %d: %d blocks of %d bytes in %d", kind, count, size, bytes)
			}
		}
	}
}
