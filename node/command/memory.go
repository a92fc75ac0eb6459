package command

import (
	"fmt"
	"strconv"
)

func memoryCommands() []binding {
	return []binding{
		{name: "memory", conn: runContainer},
		{name: "memory|doctor", conn: runMemoryDoctor},
		{name: "memory|help", conn: helpFunc("MEMORY", memoryHelp)},
		{name: "memory|malloc-stats", conn: func(c *ConnCtx) {
			c.W.Verbatim("txt", []byte("Stats not supported for the current allocator"))
		}},
		// Free pages go back to the system by themselves.
		{name: "memory|purge", conn: func(c *ConnCtx) { c.W.OK() }},
		{name: "memory|stats", conn: runMemoryStats},
		{name: "memory|usage", scope: ScopeKey, run: runMemoryUsage},
	}
}

// runMemoryUsage is exact, so SAMPLES is read and not needed.
func runMemoryUsage(c *Ctx) {
	for i := 3; i < len(c.Args); i += 2 {
		if !option(c.Args[i], "samples") || i+1 == len(c.Args) {
			c.W.Error(errSyntax)
			return
		}
		n, ok := c.intArg(i + 1)
		if !ok {
			return
		}
		if n < 0 {
			c.W.Error(errSyntax)
			return
		}
	}
	if r, ok := c.peek(c.Args[2]); ok {
		c.W.Int(r.MemoryUsage())
		return
	}
	c.W.Null()
}

// memoryNumbers are the numbers of INFO memory.
func (c *ConnCtx) memoryNumbers() map[string]int64 {
	numbers := map[string]int64{}
	c.Server.Info("memory", func(field, value string) {
		if n, err := strconv.ParseInt(value, 10, 64); err == nil {
			numbers[field] = n
		}
	})
	return numbers
}

func runMemoryDoctor(c *ConnCtx) {
	m := c.memoryNumbers()
	used, limit := m["used_memory"], m["maxmemory"]
	text := "The data takes no more memory than it may."
	switch {
	case limit > 0 && used > limit:
		text = fmt.Sprintf("The data takes %d bytes of the %d that maxmemory allows: writes are refused or keys are evicted, as maxmemory-policy says.", used, limit)
	case limit > 0 && used > limit/10*9:
		text = fmt.Sprintf("The data takes %d bytes, more than nine tenths of the %d that maxmemory allows.", used, limit)
	}
	c.W.Verbatim("txt", []byte(text))
}

// runMemoryStats has those of Redis' fields that mean something here.
func runMemoryStats(c *ConnCtx) {
	m := c.memoryNumbers()
	fields := [...]struct {
		name string
		n    int64
	}{
		{"total.allocated", m["used_memory"] + m["used_memory_runtime"]},
		{"overhead.total", m["used_memory_runtime"]},
		{"dataset.bytes", m["used_memory_dataset"]},
	}
	c.W.Map(len(fields))
	for _, f := range fields {
		c.W.BulkString(f.name)
		c.W.Int(f.n)
	}
}

var memoryHelp = []string{
	"DOCTOR",
	"    Return memory problems reports.",
	"MALLOC-STATS",
	"    Return internal statistics report from the memory allocator.",
	"PURGE",
	"    Attempt to purge dirty pages for reclamation by the allocator.",
	"STATS",
	"    Return information about the memory usage of the server.",
	"USAGE <key> [SAMPLES <count>]",
	"    Return memory in bytes used by <key> and its value. Nested values are",
	"    sampled up to <count> times (default: 5, 0 means sample all).",
}
