package server

import (
	"context"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

const (
	tidyEvery = time.Second
	tidyWaste = 512 << 10 // bytes allocated: what a collection gives back is less, and not worth one
	tidyQuiet = 128 << 10 // bytes that a node at rest allocates between two looks
)

// tidyLoop tells clients of slots that have left, takes the samples of INFO, and gives memory back to the kernel while the node is at
// rest: the store's free pages, and what commands left on Go's heap, which the collector would keep until its next run, minutes later on an idle node, and the runtime longer.
func (s *Server) tidyLoop(ctx context.Context) {
	t := time.NewTicker(tidyEvery)
	defer t.Stop()
	var heap goHeap
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
		if !s.draining.Load() {
			s.tellMoves()
			s.cache.Reckon()
		}
		s.usage.sample(time.Now(), s.cache.Stats.Commands.Load(), s.db.Used())
		if quiet := s.db.Tidy(); heap.look() && quiet {
			heap.collected = heap.allocated
			runtime.GC() // the first one only ages what is in pools
			debug.FreeOSMemory()
		}
	}
}

// goHeap watches how much is allocated on Go's heap. What the last collection found alive says nothing about garbage: in the
// middle of a burst the buffers of its requests are alive.
type goHeap struct {
	samples   [2]metrics.Sample
	allocated uint64 // bytes in all, at the last look
	collected uint64 // the same, at the last collection at rest
}

// look reports whether little was allocated since the last look and a collection pays.
func (h *goHeap) look() bool {
	h.samples[0].Name, h.samples[1].Name = "/gc/heap/allocs:bytes", "/gc/heap/live:bytes"
	metrics.Read(h.samples[:])
	return h.pays(h.samples[0].Value.Uint64(), h.samples[1].Value.Uint64())
}

// pays decides by the bytes allocated in all and those alive: a large heap is not walked for little.
func (h *goHeap) pays(allocated, live uint64) bool {
	quiet := allocated-h.allocated < tidyQuiet
	h.allocated = allocated
	return quiet && allocated-h.collected > max(tidyWaste, live/4)
}
