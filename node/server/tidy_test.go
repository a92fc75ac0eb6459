package server

import "testing"

func TestGarbageIsCollectedAtRestIfItIsWorthIt(t *testing.T) {
	const mib = 1 << 20
	var h goHeap
	for i, c := range []struct {
		allocated, live uint64
		pays            bool
	}{
		{20 * mib, 2 * mib, false}, // a burst that has just ended
		{20*mib + 1000, 2 * mib, true},
		{20*mib + 2000, 2 * mib, false}, // collected
		{21 * mib, 2 * mib, false},      // busy again
		{21*mib + 1000, 5 * mib, false}, // a large heap is not walked for little
		{21*mib + 2000, 3 * mib, true},
		{21*mib + 3000, 1000, false},
		{21*mib + 3000 + tidyWaste, 1000, false}, // not at rest
		{21*mib + 3001 + tidyWaste, 1000, true},
	} {
		if got := h.pays(c.allocated, c.live); got != c.pays {
			t.Errorf("look %d: %v", i, got)
		} else if got {
			h.collected = h.allocated
		}
	}
	if h.look(); h.samples[0].Value.Uint64() == 0 {
		t.Error("the runtime does not tell")
	}
}
