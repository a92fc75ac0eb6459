package store

import (
	"fmt"
	"testing"
)

// BenchmarkStreamMemory is the memory of 100,000 entries of one field, and of their delivery to one consumer.
func BenchmarkStreamMemory(b *testing.B) {
	const n = 100_000
	for range b.N {
		db := New(Options{})
		st := db.Shard(0).NewStream([]byte("s"))
		for i := range n {
			st.Add(StreamID{1_700_000_000_000 + uint64(i)*7, 0}, [][]byte{[]byte("field0"), fmt.Appendf(nil, "value-%d-0", i)})
		}
		b.ReportMetric(float64(st.Bytes())/n, "B/entry")
		before := st.Bytes()
		g := st.NewGroup([]byte("g"), StreamID{}, 0)
		c := g.NewConsumer([]byte("c"), 0)
		for i := range n {
			g.Deliver(Delivery{StreamID{1_700_000_000_000 + uint64(i)*7, 0}, 1, 1, c})
		}
		b.ReportMetric(float64(st.Bytes()-before)/n, "B/delivery")
		db.Close()
	}
}
