package command

import (
	"bytes"
	"fmt"
	"maps"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// Record is what a node remembers of the commands that it ran: counts and times, slow ones, spikes. It is safe for
// concurrent use.
type Record struct {
	Slow    Slowlog
	Spikes  Spikes
	exact   atomic.Bool
	mu      sync.Mutex
	sets    []*StatSet
	errors  map[string]uint64
	percent []float64
}

// NewRecord returns an empty record with Redis' defaults.
func NewRecord() *Record {
	r := &Record{errors: map[string]uint64{}, percent: []float64{50, 99, 99.9}}
	r.Slow.slower.Store(10000)
	r.Slow.limit = 128
	return r
}

// Exact says whether every command has to be timed by itself: somebody wants to know about times below a millisecond.
func (r *Record) Exact() bool { return r.exact.Load() }

// SetThresholds are slowlog-log-slower-than (µs, negative for never) and latency-monitor-threshold (ms, 0 for never).
func (r *Record) SetThresholds(slower, spike int64) {
	r.Slow.slower.Store(slower)
	r.Spikes.threshold.Store(spike)
	r.exact.Store(slower >= 0 && slower < 1000 || spike > 0)
}

// Thresholds are as set last.
func (r *Record) Thresholds() (slower, spike int64) {
	return r.Slow.slower.Load(), r.Spikes.threshold.Load()
}

// The histograms have four buckets for each power of two of nanoseconds: a time is known to a quarter of itself.
const histBuckets = 4 * 44

func bucketOf(ns uint64) int {
	if ns < 4 {
		return int(ns)
	}
	top := bits.Len64(ns) - 1
	return min(4*(top-1)+int(ns>>(top-2)&3), histBuckets-1)
}

// bucketEnd is the largest time in a bucket.
func bucketEnd(i int) uint64 {
	if i < 4 {
		return uint64(i)
	}
	top := i/4 + 1
	return (uint64(4+i%4)+1)<<(top-2) - 1
}

type cmdStat struct {
	calls, nanos, failed atomic.Uint64
	hist                 [histBuckets]atomic.Uint64
}

// StatSet counts the commands of one event loop: nobody else writes to it, so that counting costs no loop another's
// cache line.
type StatSet struct {
	bySpec [1 << tableBits]atomic.Pointer[cmdStat]
}

// NewSet adds a set of counts.
func (r *Record) NewSet() *StatSet {
	s := &StatSet{}
	r.mu.Lock()
	r.sets = append(r.sets, s)
	r.mu.Unlock()
	return s
}

func (s *StatSet) of(spec *Spec) *cmdStat {
	at := &s.bySpec[spec.number]
	c := at.Load()
	for c == nil {
		at.CompareAndSwap(nil, &cmdStat{})
		c = at.Load()
	}
	return c
}

// Ran counts n runs of a command that took d together.
func (s *StatSet) Ran(spec *Spec, n uint64, d time.Duration) {
	c := s.of(spec)
	c.calls.Add(n)
	c.nanos.Add(uint64(d))
	c.hist[bucketOf(uint64(d)/n)].Add(n)
}

// Failed counts a run that ended in an error.
func (s *StatSet) Failed(spec *Spec) { s.of(spec).failed.Add(1) }

// Error counts an error reply by its first word.
func (r *Record) Error(reply []byte) {
	end := bytes.IndexAny(reply, " \r")
	if end < 2 {
		return
	}
	word := string(reply[1:end])
	r.mu.Lock()
	defer r.mu.Unlock()
	if _, known := r.errors[word]; known || len(r.errors) < 128 {
		r.errors[word]++
	}
}

// Reset forgets counts and errors (CONFIG RESETSTAT).
func (r *Record) Reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.sets {
		for i := range s.bySpec {
			s.bySpec[i].Store(nil)
		}
	}
	clear(r.errors)
}

// total is what all sets counted of one command.
type total struct {
	spec                 *Spec
	calls, nanos, failed uint64
	hist                 [histBuckets]uint64
}

func (r *Record) totals() (all []total) {
	r.mu.Lock()
	sets := slices.Clone(r.sets)
	r.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		t := total{spec: byName[name]}
		for _, s := range sets {
			c := s.bySpec[t.spec.number].Load()
			if c == nil {
				continue
			}
			t.calls += c.calls.Load()
			t.nanos += c.nanos.Load()
			t.failed += c.failed.Load()
			for i := range c.hist {
				t.hist[i] += c.hist[i].Load()
			}
		}
		if t.calls > 0 {
			all = append(all, t)
		}
	}
	return all
}

// percentile is the time in µs that p percent of the runs did not exceed.
func (t *total) percentile(p float64) float64 {
	var all, sum uint64
	for _, n := range t.hist {
		all += n
	}
	want := p / 100 * float64(all)
	for i, n := range t.hist {
		if sum += n; n > 0 && float64(sum) >= want {
			return float64(bucketEnd(i)) / 1000
		}
	}
	return 0
}

// Info adds the fields of the sections commandstats, latencystats and errorstats.
func (r *Record) Info(section string, add func(field, value string)) {
	switch section {
	case "commandstats":
		for _, t := range r.totals() {
			usec := t.nanos / 1000
			add("cmdstat_"+t.spec.Name, fmt.Sprintf("calls=%d,usec=%d,usec_per_call=%.2f,rejected_calls=0,failed_calls=%d",
				t.calls, usec, float64(t.nanos)/1000/float64(t.calls), t.failed))
		}
	case "latencystats":
		for _, t := range r.totals() {
			text := ""
			for i, p := range r.percent {
				if i > 0 {
					text += ","
				}
				text += fmt.Sprintf("p%g=%.3f", p, t.percentile(p))
			}
			add("latency_percentiles_usec_"+t.spec.Name, text)
		}
	case "errorstats":
		r.mu.Lock()
		defer r.mu.Unlock()
		for _, word := range slices.Sorted(maps.Keys(r.errors)) {
			add("errorstat_"+word, fmt.Sprintf("count=%d", r.errors[word]))
		}
	}
}

// writeHistogram is one command's entry of LATENCY HISTOGRAM: how many runs took at most so many microseconds.
func (t *total) writeHistogram(c *ConnCtx) {
	var pairs [][2]int64
	sum, last, next := uint64(0), uint64(0), 0
	for us := uint64(1); sum < t.calls && next < histBuckets; us *= 2 {
		for next < histBuckets && bucketEnd(next) < us*1000 {
			sum += t.hist[next]
			next++
		}
		if sum > last {
			pairs = append(pairs, [2]int64{int64(us), int64(sum)})
		}
		last = sum
	}
	c.W.Map(2)
	c.W.BulkString("calls")
	c.W.Int(int64(t.calls))
	c.W.BulkString("histogram_usec")
	c.W.Map(len(pairs))
	for _, p := range pairs {
		c.W.Int(p[0])
		c.W.Int(p[1])
	}
}

func runLatencyHistogram(c *ConnCtx) {
	var list []total
	for _, t := range c.Server.Record().totals() {
		name := t.spec.Name
		wanted := len(c.Args) == 2 || slices.ContainsFunc(c.Args[2:], func(a []byte) bool {
			container, _, _ := strings.Cut(name, "|")
			return equalFold(a, name) || equalFold(a, container)
		})
		if wanted {
			list = append(list, t)
		}
	}
	c.W.Map(len(list))
	for i := range list {
		c.W.BulkString(list[i].spec.Name)
		list[i].writeHistogram(c)
	}
}
