package virtual

import (
	"container/heap"
	"fmt"
	"io"
	"math/rand/v2"
	"reflect"
)

// Virtual time is counted in microseconds.
const (
	Millisecond = int64(1000)
	Second      = 1000 * Millisecond
)

// World is the time of a run, its chance and its verdict. It begins at Second, so that no time is 0.
type World struct {
	Now    int64
	RNG    *rand.Rand
	Failed string // the first violation, "" while there is none
	Steps  int    // events so far

	trace io.Writer
	order uint64
	queue queue
}

// New returns the world of a seed. Simulators with different streams draw differently from one seed. Traces go to trace, unless
// that is nil.
func New(seed, stream uint64, trace io.Writer) World {
	return World{Now: Second, RNG: rand.New(rand.NewPCG(seed, stream)), trace: trace}
}

// After runs fn when d microseconds have passed. What is due at one time runs in the order of the calls.
func (w *World) After(d int64, fn func()) {
	w.order++
	heap.Push(&w.queue, item{w.Now + d, w.order, fn})
}

// RunUntil lets time pass until t, or until the first violation.
func (w *World) RunUntil(t int64) {
	for w.Failed == "" && len(w.queue) > 0 && w.queue[0].at <= t {
		it := heap.Pop(&w.queue).(item)
		w.Now = it.at
		w.Steps++
		it.fn()
	}
	w.Now = max(w.Now, t)
}

// Between returns a random number of microseconds from lo to hi.
func (w *World) Between(lo, hi int64) int64 { return lo + w.RNG.Int64N(hi-lo+1) }

// Chance is true with probability p.
func (w *World) Chance(p float64) bool { return w.RNG.Float64() < p }

// Fail records the first violation, which ends the run. It begins with its kind.
func (w *World) Fail(kind, format string, args ...any) {
	if w.Failed == "" {
		w.Failed = kind + ": " + fmt.Sprintf(format, args...)
		w.Tracef("VIOLATION %s", w.Failed)
	}
}

// Tracef adds a line to the trace.
func (w *World) Tracef(format string, args ...any) {
	if w.trace != nil {
		_, _ = fmt.Fprintf(w.trace, "%10.3fms  %s\n", float64(w.Now-Second)/1000, fmt.Sprintf(format, args...)) // for a person who reads along
	}
}

// Add adds the fields of d, all of them ints, to those of c.
func Add[C any](c *C, d C) {
	sum, add := reflect.ValueOf(c).Elem(), reflect.ValueOf(d)
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + add.Field(i).Int())
	}
}

type item struct {
	at    int64
	order uint64
	fn    func()
}

type queue []item

func (q queue) Len() int { return len(q) }
func (q queue) Less(i, j int) bool {
	return q[i].at < q[j].at || q[i].at == q[j].at && q[i].order < q[j].order
}
func (q queue) Swap(i, j int) { q[i], q[j] = q[j], q[i] }
func (q *queue) Push(x any)   { *q = append(*q, x.(item)) }
func (q *queue) Pop() any {
	old := *q
	x := old[len(old)-1]
	*q = old[:len(old)-1]
	return x
}
