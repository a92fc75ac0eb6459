//go:build linux

package main

import (
	"fmt"
	"time"
)

// moment is when an operation was acknowledged, zero if it was not.
type moment struct{ at time.Time }

// span is when a window's fault began and ended.
type span struct{ began, healed time.Time }

// exposure is what acknowledgements by the primary alone cost in one kind of fault.
type exposure struct {
	before time.Duration // the oldest lost write was acknowledged so long before the fault began
	after  time.Duration // the last lost one so long after it began
	sick   time.Duration // a node that the fault was about went on acknowledging for so long
}

func (e *exposure) add(o exposure) {
	e.before, e.after, e.sick = max(e.before, o.before), max(e.after, o.after), max(e.sick, o.sick)
}

// lostAt tells which fault a write was lost by, and how far from its beginning it had been acknowledged: by the one of its
// window, or, if that was over, by the next.
func lostAt(spans map[int32]span, window int32, at time.Time) (by int32, e exposure) {
	s := spans[window]
	if next, ok := spans[window+1]; ok && !s.healed.IsZero() && at.After(s.healed) {
		return window + 1, exposure{before: max(next.began.Sub(at), 0)}
	}
	return window, exposure{after: max(at.Sub(s.began), 0)}
}

// reportWindows prints what was lost under acknowledgements by the primary alone, which promises nothing else.
func reportWindows(results map[string]*result, names []string) {
	fmt.Printf("\n| fault | acknowledged | lost | oldest lost, before the fault | last lost, after its beginning | last acknowledgement by a sick node, after its beginning |\n|---|---|---|---|---|---|\n")
	for _, name := range names {
		r := results[name]
		fmt.Printf("| %s | %d | %d | %.2f s | %.2f s | %.2f s |\n", name, r.verdict.Acked, r.verdict.Lost, r.exposure.before.Seconds(), r.exposure.after.Seconds(), r.exposure.sick.Seconds())
	}
}
