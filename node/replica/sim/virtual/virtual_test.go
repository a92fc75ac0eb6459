package virtual

import (
	"slices"
	"strings"
	"testing"
)

func TestEventsRunInTheOrderOfTheirTimeAndThenOfTheirCalls(t *testing.T) {
	w := New(1, 2, nil)
	var ran []string
	add := func(d int64, name string) { w.After(d, func() { ran = append(ran, name) }) }
	add(2*Millisecond, "c")
	add(Millisecond, "a")
	add(Millisecond, "b")
	add(Second, "late")
	w.After(0, func() { add(Millisecond, "b2") })
	w.RunUntil(Second + 5*Millisecond)
	if want := []string{"a", "b", "b2", "c"}; !slices.Equal(ran, want) || w.Now != Second+5*Millisecond {
		t.Errorf("ran %v by %d, want %v", ran, w.Now, want)
	}
}

func TestTheFirstViolationEndsTheRun(t *testing.T) {
	var trace strings.Builder
	w := New(1, 2, &trace)
	w.After(1, func() { w.Fail(LostWrite, "append %d", 7) })
	w.After(2, func() { w.Fail(StaleRead, "another") })
	w.RunUntil(2 * Second)
	if w.Failed != "lost-write: append 7" || w.Steps != 1 || !strings.Contains(trace.String(), "VIOLATION lost-write: append 7") {
		t.Errorf("%q after %d steps, trace %q", w.Failed, w.Steps, trace.String())
	}
}

// Every case is a read that comes after appends 1 and 2 were acknowledged and [1 2] was read; the mark is from before or after that.
func TestHistoryJudgesReads(t *testing.T) {
	for _, c := range []struct {
		name  string
		list  []uint32
		early bool // the read was invoked before anything else
		want  string
	}{
		{"the same", []uint32{1, 2}, false, ""},
		{"longer", []uint32{1, 2, 9}, false, ""},
		{"shorter, begun before", []uint32{1}, true, ""},
		{"shorter, begun after", []uint32{1}, false, StaleRead},
		{"another order", []uint32{2, 1}, true, DirtyRead},
		{"another value", []uint32{1, 3}, true, DirtyRead},
	} {
		var h History
		early := h.Mark()
		h.Acked = append(h.Acked, 1, 2)
		if kind, what := h.Saw([]uint32{1, 2}, h.Mark()); kind != "" {
			t.Fatal(kind, what)
		}
		from := h.Mark()
		if c.early {
			from = early
		}
		if kind, what := h.Saw(c.list, from); kind != c.want {
			t.Errorf("%s: %q (%s), want %q", c.name, kind, what, c.want)
		}
	}
}

func TestHistoryKnowsWhatIsLost(t *testing.T) {
	h := History{Acked: []uint32{1, 2}}
	if kind, _ := h.Saw([]uint32{1}, h.Mark()); kind != LostWrite {
		t.Errorf("a read without an acknowledged append: %q", kind)
	}
	if id, lost := h.Lost(); !lost || id != 2 {
		t.Errorf("lost %d, %v", id, lost)
	}
	h.Acked = append(h.Acked, 3)
	h.Extend([]uint32{1, 2, 3})
	if id, lost := h.Lost(); lost {
		t.Errorf("%d is said to be lost", id)
	}
}

func TestAddAddsEveryField(t *testing.T) {
	type counts struct{ A, B int }
	c := counts{1, 2}
	Add(&c, counts{10, 20})
	if c != (counts{11, 22}) {
		t.Error(c)
	}
}
