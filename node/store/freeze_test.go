package store

import "testing"

func TestNothingExpiresWhileFrozen(t *testing.T) {
	db := New(Options{})
	t.Cleanup(db.Close)
	s, key := db.Shard(0), []byte("k")
	s.Set(key, []byte("v"), 1000)
	reported := func() (n int) {
		s.Expired(2000, 10, func([]byte) { n++ })
		return n
	}
	for _, frozen := range []bool{true, false, true} {
		db.Freeze(frozen)
		_, found := s.Find(key, 2000)
		r, _ := s.Peek(key)
		if found != frozen || r.Expired(2000) == frozen || reported() == 1 == frozen {
			t.Errorf("frozen %t: found %t, expired %t, %d reported", frozen, found, r.Expired(2000), reported())
		}
		if r.Expired(999) {
			t.Error("expired before its time")
		}
	}
}
