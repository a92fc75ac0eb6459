package store

import (
	"slices"
	"unsafe"
)

// runMax is how many items a run has at most: a change in the middle moves that many, and one word for every run.
const runMax = 128

// ordered is a list of items in order of their IDs, cut into runs, so that a change in the middle of a million moves
// little. With a T without pointers the garbage collector has nothing to look at but the list of runs.
type ordered[T any] struct {
	runs  [][]item[T]
	n     int
	slots int // items that the runs have room for
}

type item[T any] struct {
	v  T // first, where a T of no size takes no room
	id StreamID
}

// spot is where an item is; it holds until the next change. The one behind the last item is {len(runs), 0}.
type spot struct{ run, i int }

// bytes is the memory of the list.
func (o *ordered[T]) bytes() int64 {
	return int64(o.slots)*int64(unsafe.Sizeof(item[T]{})) + int64(cap(o.runs))*int64(unsafe.Sizeof([]item[T]{}))
}

// seek returns the place of the first item whose ID is id or comes after it.
func (o *ordered[T]) seek(id StreamID) spot {
	r, _ := slices.BinarySearchFunc(o.runs, id, func(run []item[T], id StreamID) int { return run[len(run)-1].id.Compare(id) })
	if r == len(o.runs) {
		return spot{r, 0}
	}
	i, _ := slices.BinarySearchFunc(o.runs[r], id, func(it item[T], id StreamID) int { return it.id.Compare(id) })
	return spot{r, i}
}

// at returns the item at p, nil when there is none. The pointer holds until the next change of the list.
func (o *ordered[T]) at(p spot) *item[T] {
	if p.run < 0 || p.run >= len(o.runs) {
		return nil
	}
	return &o.runs[p.run][p.i]
}

// find returns the item with this ID, nil when there is none.
func (o *ordered[T]) find(id StreamID) *item[T] {
	if it := o.at(o.seek(id)); it != nil && it.id == id {
		return it
	}
	return nil
}

func (o *ordered[T]) first() *item[T] { return o.at(spot{}) }

func (o *ordered[T]) last() *item[T] { return o.at(o.prev(o.end())) }

func (o *ordered[T]) end() spot { return spot{len(o.runs), 0} }

func (o *ordered[T]) next(p spot) spot {
	if p.i+1 < len(o.runs[p.run]) {
		return spot{p.run, p.i + 1}
	}
	return spot{p.run + 1, 0}
}

// prev returns the place before p; before the first one there is none.
func (o *ordered[T]) prev(p spot) spot {
	switch {
	case p.i > 0:
		return spot{p.run, p.i - 1}
	case p.run == 0:
		return spot{-1, 0}
	}
	return spot{p.run - 1, len(o.runs[p.run-1]) - 1}
}

// insert puts in an item whose ID is new. Runs that are appended to stay full, those in the middle are halved.
func (o *ordered[T]) insert(id StreamID, v T) *item[T] {
	p := o.seek(id)
	if p.run == len(o.runs) {
		if p.run == 0 || len(o.runs[p.run-1]) == runMax {
			o.runs = append(o.runs, nil)
		} else {
			p.run--
			p.i = len(o.runs[p.run])
		}
	} else if len(o.runs[p.run]) == runMax {
		p = o.halve(p)
	}
	run := o.runs[p.run]
	before := cap(run)
	if len(run) == before {
		run = slices.Grow(run, min(max(len(run), 1), runMax-len(run)))
	}
	run = slices.Insert(run, p.i, item[T]{v, id})
	o.slots += cap(run) - before
	o.runs[p.run] = run
	o.n++
	return &run[p.i]
}

// halve cuts the run of p in two and returns where p is then.
func (o *ordered[T]) halve(p spot) spot {
	run := o.runs[p.run]
	const half = runMax / 2
	tail := slices.Clone(run[half:])
	clear(run[half:])
	o.runs[p.run] = run[:half]
	o.runs = slices.Insert(o.runs, p.run+1, tail)
	o.slots += cap(tail)
	if p.i > half {
		return spot{p.run + 1, p.i - half}
	}
	return p
}

// remove takes out the item at p and returns the place of the one behind it.
func (o *ordered[T]) remove(p spot) spot {
	run := slices.Delete(o.runs[p.run], p.i, p.i+1)
	o.runs[p.run] = run
	o.n--
	switch {
	case len(run) == 0:
		o.slots -= cap(run)
		o.runs = slices.Delete(o.runs, p.run, p.run+1)
		return spot{p.run, 0}
	case p.run+1 < len(o.runs) && len(run)+len(o.runs[p.run+1]) <= runMax/2:
		o.join(p.run)
	case p.run > 0 && len(run)+len(o.runs[p.run-1]) <= runMax/2:
		p = spot{p.run - 1, p.i + len(o.runs[p.run-1])}
		o.join(p.run)
	case len(run) <= cap(run)/4:
		o.fit(p.run, run)
	}
	if p.i == len(o.runs[p.run]) {
		return spot{p.run + 1, 0}
	}
	return p
}

// join appends the run behind r to it.
func (o *ordered[T]) join(r int) {
	next := o.runs[r+1]
	o.slots -= cap(next)
	o.fit(r, append(slices.Clip(o.runs[r]), next...))
	o.runs = slices.Delete(o.runs, r+1, r+2)
}

// fit makes items the run r, in memory of half as much again.
func (o *ordered[T]) fit(r int, items []item[T]) {
	run := append(make([]item[T], 0, len(items)+len(items)/2), items...)
	o.slots += cap(run) - cap(o.runs[r])
	o.runs[r] = run
}

// clone returns a copy whose items are copied by fn.
func (o *ordered[T]) clone(fn func(T) T) ordered[T] {
	c := ordered[T]{n: o.n, runs: make([][]item[T], 0, len(o.runs))}
	for _, from := range o.runs {
		run := append(make([]item[T], 0, len(from)), from...) // slices.Clone may leave more room than the original has
		for i := range run {
			run[i].v = fn(run[i].v)
		}
		c.runs = append(c.runs, run)
		c.slots += cap(run)
	}
	return c
}
