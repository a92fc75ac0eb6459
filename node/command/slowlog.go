package command

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

func recordCommands() []binding {
	return []binding{
		{name: "slowlog", conn: runContainer},
		{name: "slowlog|get", conn: runSlowlogGet},
		{name: "slowlog|help", conn: helpFunc("SLOWLOG", slowlogHelp)},
		{name: "slowlog|len", conn: func(c *ConnCtx) { c.W.Int(int64(c.Server.Record().Slow.Len())) }},
		{name: "slowlog|reset", conn: func(c *ConnCtx) { c.Server.Record().Slow.Reset(); c.W.OK() }},
		{name: "latency", conn: runContainer},
		{name: "latency|doctor", conn: runLatencyDoctor},
		{name: "latency|graph", conn: runLatencyGraph},
		{name: "latency|help", conn: helpFunc("LATENCY", latencyHelp)},
		{name: "latency|histogram", conn: runLatencyHistogram},
		{name: "latency|history", conn: runLatencyHistory},
		{name: "latency|latest", conn: runLatencyLatest},
		{name: "latency|reset", conn: runLatencyReset},
	}
}

// Slowlog keeps the latest commands that took long.
type Slowlog struct {
	slower atomic.Int64 // µs
	mu     sync.Mutex
	limit  int
	next   int64
	list   []slowEntry // oldest first
}

type slowEntry struct {
	id         int64
	at         int64 // unix seconds
	took       time.Duration
	args       []string
	addr, name string
}

// Slow says whether a command that took d is to be added.
func (s *Slowlog) Slow(d time.Duration) bool {
	limit := s.slower.Load()
	return limit >= 0 && d.Microseconds() >= limit
}

const (
	slowArgs  = 32
	slowBytes = 128
)

// Add adds a command, cut as Redis cuts it.
func (s *Slowlog) Add(d time.Duration, args [][]byte, addr, name string) {
	e := slowEntry{at: time.Now().Unix(), took: d, addr: addr, name: name}
	for i, a := range args {
		switch {
		case len(args) > slowArgs && i == slowArgs-1:
			e.args = append(e.args, fmt.Sprintf("... (%d more arguments)", len(args)-slowArgs+1))
		case i >= slowArgs:
		case len(a) > slowBytes:
			e.args = append(e.args, fmt.Sprintf("%s... (%d more bytes)", a[:slowBytes], len(a)-slowBytes))
		default:
			e.args = append(e.args, string(a))
		}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	e.id = s.next
	s.next++
	s.list = append(s.list, e)
	s.trim()
}

func (s *Slowlog) trim() {
	if n := len(s.list) - s.limit; n > 0 {
		s.list = slices.Delete(s.list, 0, n)
	}
}

// Limit is slowlog-max-len.
func (s *Slowlog) Limit(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.limit = n
	s.trim()
}

// Len is how many commands are kept.
func (s *Slowlog) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.list)
}

// Reset forgets them.
func (s *Slowlog) Reset() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = nil
}

func (s *Slowlog) latest(n int) []slowEntry {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := slices.Clone(s.list[max(len(s.list)-n, 0):])
	slices.Reverse(list)
	return list
}

func runSlowlogGet(c *ConnCtx) {
	count := int64(10)
	if len(c.Args) > 3 {
		c.subcommandSyntax()
		return
	}
	if len(c.Args) == 3 {
		n, ok := parseInt(c.Args[2])
		if !ok || n < -1 {
			c.W.Error("ERR count should be greater than or equal to -1")
			return
		}
		if count = n; n == -1 {
			count = 1 << 31
		}
	}
	list := c.Server.Record().Slow.latest(int(min(count, 1<<31)))
	c.W.Array(len(list))
	for _, e := range list {
		c.W.Array(6)
		c.W.Int(e.id)
		c.W.Int(e.at)
		c.W.Int(e.took.Microseconds())
		c.W.Array(len(e.args))
		for _, a := range e.args {
			c.W.BulkString(a)
		}
		c.W.BulkString(e.addr)
		c.W.BulkString(e.name)
	}
}

var slowlogHelp = []string{
	"GET [<count>]",
	"    Return top <count> entries from the slowlog (default: 10, -1 mean all).",
	"    Entries are made of:",
	"    id, timestamp, time in microseconds, arguments array, client IP and port,",
	"    client name",
	"LEN",
	"    Return the length of the slowlog.",
	"RESET",
	"    Reset the slowlog.",
}
