package store

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"unsafe"
)

type grainRun struct {
	a    addr
	n    int
	mark byte
}

func (r grainRun) bytes() []byte { return unsafe.Slice((*byte)(r.a.ptr()), r.n) }

// inspectGrains verifies a heap's lists and arenas against the bytes that are handed out.
func inspectGrains(h *grainHeap, inUse int) error {
	free := map[addr]int32{}
	var given int64
	for _, set := range []*bins{&h.dirty, &h.clean} {
		for bin, first := range set.first {
			if (first != 0) != (set.filled[bin/64]>>(bin%64)&1 != 0) {
				return fmt.Errorf("bin %d is not marked as it is", bin)
			}
			for a, prev := first, addr(0); a != 0; prev, a = a, a.run().next {
				r := *a.run()
				if r.prev != prev || binOf(r.n) != bin || *tail(a + addr(r.n)*grain) != r.n || r.clean != (set == &h.clean) {
					return fmt.Errorf("run %+v in bin %d behind %x", r, bin, prev)
				}
				free[a] = r.n
				if from, to := inside(a, r.n); r.clean {
					given += int64(to - from)
				}
			}
		}
	}
	if given != h.given {
		return fmt.Errorf("%d bytes given, counted %d", given, h.given)
	}
	used := 0
	for i, a := range h.arenas {
		r := arenaOf(a)
		if int(r.index) != i || a%arenaBytes != 0 || r.used == 0 && r != h.empty {
			return fmt.Errorf("arena %x has index %d, is %d, with %d used", a, r.index, i, r.used)
		}
		in, edges := r.end-arenaHead, map[int32]bool{}
		for at, n := range free {
			if arenaOf(at) == r {
				in -= n
				edges[grainOf(at)], edges[grainOf(at)+n-1] = true, true
				if next := grainOf(at) + n; next == r.end && r == h.top || next < r.end && free[r.at(next)] != 0 {
					return fmt.Errorf("neighbours are not joined")
				}
			}
		}
		for p := range int32(arenaGrains) {
			if r.edge(p) != edges[p] {
				return fmt.Errorf("edge %d is %v", p, r.edge(p))
			}
		}
		if in != r.used {
			return fmt.Errorf("%d grains used, counted %d", in, r.used)
		}
		used += int(in) * grain
	}
	if used != inUse {
		return fmt.Errorf("%d bytes used, want %d", used, inUse)
	}
	return nil
}

// TestGrainsNeverOverlapAndJoinAgain fills runs with their owner's mark and looks at the marks when they are freed.
func TestGrainsNeverOverlapAndJoinAgain(t *testing.T) {
	var h grainHeap
	defer h.close()
	rng := rand.New(rand.NewPCG(11, 3))
	var runs []grainRun
	inUse := 0
	free := func(at int) {
		r := runs[at]
		runs[at] = runs[len(runs)-1]
		runs = runs[:len(runs)-1]
		for i, c := range r.bytes() {
			if c != r.mark {
				t.Fatalf("run of %d bytes lost byte %d", r.n, i)
			}
		}
		h.release(r.a, r.n)
		inUse -= r.n
	}
	for i := range 40_000 {
		if i/8_000%2 == 0 && rng.IntN(3) > 0 || len(runs) == 0 {
			n := grain * (1 + rng.IntN(1+rng.IntN(exactRuns)))
			r := grainRun{h.alloc(n), n, byte(i)}
			for i := range r.bytes() {
				r.bytes()[i] = r.mark
			}
			runs = append(runs, r)
			inUse += n
		} else {
			free(rng.IntN(len(runs)))
		}
		if i%500 == 0 {
			h.tidy(rng.IntN(200))
		}
		if i%2_000 == 0 {
			if err := inspectGrains(&h, inUse); err != nil {
				t.Fatal(err)
			}
		}
		if held := h.held(); i%2_000 == 300 && held < int64(inUse) {
			t.Fatalf("%d bytes held for %d in use", held, inUse)
		}
	}
	for len(runs) > 0 {
		free(rng.IntN(len(runs)))
	}
	if err := inspectGrains(&h, 0); err != nil {
		t.Fatal(err)
	}
	if h.held() != 0 || len(h.arenas) != 1 {
		t.Errorf("%d bytes held in %d arenas in the end", h.held(), len(h.arenas))
	}
}

// Whole pages between blocks go back to the kernel, and what is there stays.
func TestTidyGivesPagesOfFreeRunsBack(t *testing.T) {
	var h grainHeap
	defer h.close()
	var runs []grainRun
	for i := range 8_000 {
		r := grainRun{h.alloc(4096), 4096, byte(i)}
		for i := range r.bytes() {
			r.bytes()[i] = r.mark
		}
		runs = append(runs, r)
	}
	before := resident()
	kept := 0
	for i, r := range runs {
		if i%16 != 0 {
			h.release(r.a, r.n)
			continue
		}
		kept += r.n
	}
	for h.tidy(100) {
	}
	if held := h.held(); held < int64(kept) || held > int64(kept)*3 {
		t.Errorf("%d bytes held for %d", held, kept)
	}
	if now := resident(); now > before-20<<20 && before > 0 {
		t.Errorf("resident memory %d, then %d", before, now)
	}
	for i := 0; i < len(runs); i += 16 {
		for _, c := range runs[i].bytes() {
			if c != runs[i].mark {
				t.Fatalf("block %d was lost", i)
			}
		}
	}
	if err := inspectGrains(&h, kept); err != nil {
		t.Fatal(err)
	}
}
