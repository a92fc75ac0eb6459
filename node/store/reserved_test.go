package store

import (
	"fmt"
	"testing"

	"hypercache/node/ring"
)

// A collection passes through many size classes while it grows. What it leaves behind in each must not outweigh it.
func TestFewCollectionsHoldLittleMoreMemoryThanTheyUse(t *testing.T) {
	db := newDB(t, Options{})
	for k := range ring.Groups {
		h := db.Shard(k).NewHash([]byte("large"))
		for i := range 600 {
			h.Set(fmt.Appendf(nil, "field:%010d", i*7919), fmt.Appendf(nil, "value:%010d", i))
		}
	}
	used := exactUsed(db)
	if reserved := db.Reserved(); reserved > used*7/2 {
		t.Errorf("%d bytes used, %d reserved", used, reserved)
	}
}
