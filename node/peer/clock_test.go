package peer

import (
	"encoding/binary"
	"sync"
	"testing"
	"time"
)

// reports is a Clock that says its node's name.
type reports struct {
	name string
	mu   sync.Mutex
	got  map[string]string
	trip time.Duration
}

func (r *reports) Report(b []byte) []byte { return append(b, r.name...) }

func (r *reports) Heard(node string, report []byte, trip time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.got == nil {
		r.got = map[string]string{}
	}
	r.got[node], r.trip = string(report), trip
}

func (r *reports) of(node string) (report string, trip time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.got[node], r.trip
}

func TestAnswersToHeartbeatsCarryTheClock(t *testing.T) {
	ca, cb := &reports{name: "clock of a"}, &reports{name: "clock of b"}
	a, b := pair(t, quiet(), quiet(), func(o *Options) {
		if o.Clock = ca; o.Self.NodeID == "b" {
			o.Clock = cb
		}
	})
	eventually(t, "reports", func() bool {
		ab, trip := ca.of("b")
		ba, _ := cb.of("a")
		return ab == "clock of b" && ba == "clock of a" && trip > 0 && trip < 10*time.Second
	})
	if a.Down("b") || b.Down("a") {
		t.Error("down")
	}
}

// A node whose program knows nothing of clocks sends 8 bytes, expects those back, and repeats whatever it gets.
func TestHeartbeatsOfNodesWithoutClocks(t *testing.T) {
	c := &reports{name: "x"}
	with, without := pair(t, quiet(), quiet(), func(o *Options) {
		if o.Self.NodeID == "a" {
			o.Clock = c
		}
	})
	eventually(t, "answers", func() bool { return !with.Acked("b").IsZero() && !without.Acked("a").IsZero() })
	if report, _ := c.of("b"); report != "" {
		t.Errorf("a report %q from a node without a clock", report)
	}
	before := with.Acked("b")
	var old [8]byte
	binary.BigEndian.PutUint64(old[:], uint64(sinceEpoch()))
	with.control(with.Stream("b", Control), frameHeartbeatAck, old[:])
	if !with.Acked("b").After(before) {
		t.Error("an answer of 8 bytes does not count")
	}
	if s := without.Stream("a", Control); s == nil {
		t.Fatal("no stream")
	}
}
