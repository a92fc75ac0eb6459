package main

import (
	"fmt"
	"time"
)

const (
	// ttlEarly is how much before its time a key may be gone: a second by which clocks may differ, and what slewing them and
	// the lab itself take.
	ttlEarly = 1500 * time.Millisecond
	// ttlLate is how long after its time, or after the end of the fault, it may still be there.
	ttlLate = 4 * time.Second
)

// mortal is a key with a TTL, whose SET was acknowledged.
type mortal struct {
	key        string
	ttl        time.Duration
	asked, set time.Time // the SET's call and return
	seen       time.Time // the call of the last GET that found it
	gone       time.Time // the return of the first GET that did not
}

// checkMortals tells which keys were gone too early, or there too late, whatever the order of events within an operation.
func checkMortals(keys []*mortal, healed time.Time) (problems []string) {
	for _, x := range keys {
		if lived := x.gone.Sub(x.asked); !x.gone.IsZero() && lived < x.ttl-ttlEarly {
			problems = append(problems, fmt.Sprintf("%s with a TTL of %v was gone after %v", x.key, x.ttl.Round(time.Millisecond), lived.Round(time.Millisecond)))
		}
		end := x.set.Add(x.ttl)
		if healed.After(end) {
			end = healed
		}
		if over := x.seen.Sub(end); over > ttlLate {
			problems = append(problems, fmt.Sprintf("%s with a TTL of %v was there %v too long", x.key, x.ttl.Round(time.Millisecond), over.Round(time.Millisecond)))
		}
	}
	return problems
}
