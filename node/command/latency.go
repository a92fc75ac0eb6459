package command

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Spikes are what LATENCY tells of: events that took longer than latency-monitor-threshold, the latest 160 of each.
type Spikes struct {
	threshold atomic.Int64 // ms, 0 for never
	mu        sync.Mutex
	events    map[string]*spikes
}

type spikes struct {
	samples []spike
	max     int64
}

type spike struct{ at, ms int64 }

const maxSpikes = 160

// Add notes an event that took d, if that is long enough. Of those in one second the longest counts.
func (s *Spikes) Add(event string, d time.Duration) {
	limit := s.threshold.Load()
	if limit == 0 || d.Milliseconds() < limit {
		return
	}
	now, ms := time.Now().Unix(), d.Milliseconds()
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.events == nil {
		s.events = map[string]*spikes{}
	}
	e := s.events[event]
	if e == nil {
		e = &spikes{}
		s.events[event] = e
	}
	e.max = max(e.max, ms)
	if n := len(e.samples); n > 0 && e.samples[n-1].at == now {
		e.samples[n-1].ms = max(e.samples[n-1].ms, ms)
		return
	}
	e.samples = append(e.samples, spike{now, ms})
	if len(e.samples) > maxSpikes {
		e.samples = slices.Delete(e.samples, 0, 1)
	}
}

// of copies what is known of an event.
func (s *Spikes) of(event string) (samples []spike, longest int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if e := s.events[event]; e != nil {
		return slices.Clone(e.samples), e.max
	}
	return nil, 0
}

func (s *Spikes) names() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(maps.Keys(s.events))
}

// reset forgets the events named, or all, and returns how many there were.
func (s *Spikes) reset(names [][]byte) (n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name := range s.events {
		if len(names) == 0 || slices.ContainsFunc(names, func(b []byte) bool { return string(b) == name }) {
			delete(s.events, name)
			n++
		}
	}
	return n
}

func runLatencyLatest(c *ConnCtx) {
	s := &c.Server.Record().Spikes
	names := s.names()
	c.W.Array(len(names))
	for _, name := range names {
		samples, longest := s.of(name)
		last := spike{}
		if len(samples) > 0 {
			last = samples[len(samples)-1]
		}
		c.W.Array(4)
		c.W.BulkString(name)
		c.W.Int(last.at)
		c.W.Int(last.ms)
		c.W.Int(longest)
	}
}

func runLatencyHistory(c *ConnCtx) {
	samples, _ := c.Server.Record().Spikes.of(string(c.Args[2]))
	c.W.Array(len(samples))
	for _, s := range samples {
		c.W.Array(2)
		c.W.Int(s.at)
		c.W.Int(s.ms)
	}
}

func runLatencyReset(c *ConnCtx) { c.W.Int(c.Server.Record().Spikes.reset(c.Args[2:])) }

// runLatencyGraph draws one column for each sample, four rows high.
func runLatencyGraph(c *ConnCtx) {
	name := string(c.Args[2])
	samples, longest := c.Server.Record().Spikes.of(name)
	if len(samples) == 0 {
		c.W.Error("ERR No samples available for event '" + cstring(c.Args[2], len(c.Args[2])) + "'")
		return
	}
	samples = samples[max(len(samples)-80, 0):]
	low, high := samples[0].ms, samples[0].ms
	for _, s := range samples {
		low, high = min(low, s.ms), max(high, s.ms)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "%s - high %d ms, low %d ms (all time high %d ms)\n%s\n", name, high, low, longest, strings.Repeat("-", 80))
	const rows = 4
	for row := rows - 1; row >= 0; row-- {
		for _, s := range samples {
			level := (s.ms - low) * (rows - 1) / max(high-low, 1)
			switch {
			case level == int64(row):
				b.WriteByte('#')
			case level > int64(row):
				b.WriteByte('|')
			default:
				b.WriteByte(' ')
			}
		}
		b.WriteByte('\n')
	}
	c.W.Verbatim("txt", []byte(b.String()))
}

func runLatencyDoctor(c *ConnCtx) {
	s := &c.Server.Record().Spikes
	if s.threshold.Load() == 0 {
		c.W.Verbatim("txt", []byte("I'm sorry, Dave, I can't do that. Latency monitoring is disabled in this Redis instance. You may "+
			"use \"CONFIG SET latency-monitor-threshold <milliseconds>.\" in order to enable it. If we weren't in a deep space "+
			"mission I'd suggest to take a look at https://redis.io/topics/latency-monitor.\n"))
		return
	}
	var b strings.Builder
	for _, name := range s.names() {
		samples, longest := s.of(name)
		sum := int64(0)
		for _, x := range samples {
			sum += x.ms
		}
		fmt.Fprintf(&b, "%s: %d latency spikes (average %dms). Worst all time event %dms.\n", name, len(samples),
			sum/int64(max(len(samples), 1)), longest)
	}
	if b.Len() == 0 {
		b.WriteString("Dave, no latency spike was observed during the lifetime of this Redis instance, not in the slightest bit. " +
			"I honestly think you ought to sit down calmly, take a stress pill, and think things over.\n")
	}
	c.W.Verbatim("txt", []byte(b.String()))
}

var latencyHelp = []string{
	"DOCTOR",
	"    Return a human readable latency analysis report.",
	"GRAPH <event>",
	"    Return an ASCII latency graph for the <event> class.",
	"HISTORY <event>",
	"    Return time-latency samples for the <event> class.",
	"LATEST",
	"    Return the latest latency samples for all events.",
	"RESET [<event> ...]",
	"    Reset latency data of one or more <event> classes.",
	"    (default: reset all data for all event classes)",
	"HISTOGRAM [COMMAND ...]",
	"    Return a cumulative distribution of latencies in the format of a histogram for the specified command names.",
	"    If no commands are specified then all histograms are replied.",
}
