package main

import (
	"testing"
	"time"
)

func TestTTLCheckerFindsPlantedFaults(t *testing.T) {
	zero := time.Now()
	at := func(s float64) time.Time { return zero.Add(time.Duration(s * float64(time.Second))) }
	const healed = 20
	for _, c := range []struct {
		name      string
		asked     float64
		set       float64
		seen      float64
		gone      float64 // 0: never seen gone
		problems  int
		ttl, heal float64
	}{
		{"in time", 0, 0.1, 4.9, 5.2, 0, 5, healed},
		{"a second early is within what clocks may differ", 0, 0.1, 3, 4, 0, 5, healed},
		{"early", 0, 0.1, 3, 3.4, 1, 5, healed},
		{"early though the SET took long: it may have happened last", 0, 3, 3, 3.4, 1, 5, healed},
		{"late during the fault", 0, 0.1, 15, 16, 0, 5, healed},
		{"gone soon after the fault", 0, 0.1, 23, 23.5, 0, 5, healed},
		{"there long after the fault", 0, 0.1, 25, 0, 1, 5, healed},
		{"there long after its time", 0, 0.1, 10, 0, 1, 5, 1},
	} {
		x := &mortal{key: "k", ttl: time.Duration(c.ttl * float64(time.Second)), asked: at(c.asked), set: at(c.set), seen: at(c.seen)}
		if c.gone > 0 {
			x.gone = at(c.gone)
		}
		if got := checkMortals([]*mortal{x}, at(c.heal)); len(got) != c.problems {
			t.Errorf("%s: %q", c.name, got)
		}
	}
}
