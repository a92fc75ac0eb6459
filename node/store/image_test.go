package store

import (
	"bytes"
	"fmt"
	"maps"
	"testing"
)

// contents describes every entry that a walk sees.
func contents(walk func(func(Ref) bool)) map[string]string {
	all := map[string]string{}
	walk(func(r Ref) bool {
		var b []byte
		switch r.Type() {
		case String:
			b = append(b, r.Value()...)
		case Hash:
			f := r.Fields()
			f.Each(func(field, value []byte) bool { b = fmt.Appendf(b, "%s=%s,", field, value); return true })
		case List:
			l := r.Elements()
			l.Each(0, 1, func(_ int, e []byte) bool { b = fmt.Appendf(b, "%s,", e); return true })
		case Set:
			m := r.Members()
			m.Each(func(e []byte) bool { b = fmt.Appendf(b, "%s,", e); return true })
		case ZSet:
			z := r.SortedSet()
			z.Each(0, 1, func(m []byte, score float64) bool { b = fmt.Appendf(b, "%s=%v,", m, score); return true })
		}
		all[string(r.Key())] = fmt.Sprintf("%v until %d: %s", r.Type(), r.ExpireAt(), b)
		return true
	})
	return all
}

// fillKinds makes n entries of each kind, some of them with blocks of their own and some that are trees.
func fillKinds(s *Shard, n int) {
	for i := range n {
		s.Set(fmt.Appendf(nil, "s%d", i), bytes.Repeat([]byte{'a' + byte(i%26)}, i*i%20_000), int64(i%3)<<40)
		key := func(kind byte) []byte { return fmt.Appendf([]byte{kind}, "%d", i) }
		units := i%7*40 + 1
		element := func(j int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%d", j), 1+j%5*30) }
		h := s.NewHash(key('h'))
		for j := range units {
			h.Set(element(j), element(j))
		}
		l := s.NewList(key('l'))
		for j := range units {
			l.Insert(j, element(j))
		}
		m := s.NewSet(key('m'))
		for j := range units {
			m.Add(element(j))
		}
		z := s.NewSortedSet(key('z'))
		for j := range units {
			z.Set(element(j), float64(j))
		}
	}
}

func TestAnImageKeepsWhatTheShardHeld(t *testing.T) {
	db := newDB(t, Options{})
	s, other := db.Shard(3), db.Shard(4)
	var m Image
	defer m.Close()
	fillKinds(other, 20)
	for round := range 3 {
		fillKinds(s, 60)
		for i := range 30 {
			s.Delete(fmt.Appendf(nil, "h%d", i*(round+1))) // free blocks, and graves
		}
		want := contents(s.Range)
		m.Take(s)
		s.Flush()
		for s.Reclaim(1 << 20) {
		}
		fillKinds(s, 90)
		if got := contents(m.Range); len(want) < 200 || !maps.Equal(got, want) {
			t.Fatalf("round %d: the image has %d entries, the shard had %d, or they differ", round, len(got), len(want))
		}
		check(t, s)
		if m.Take(other); len(contents(m.Range)) != other.Len() {
			t.Fatalf("round %d: another, smaller shard's image has other entries", round)
		}
	}
}

func TestAnImageGivesItsEntriesAFewAtATime(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	var m Image
	defer m.Close()
	for _, n := range []int{0, 1, 50, 2000} {
		s.Flush()
		for i := range n {
			s.Set(fmt.Appendf(nil, "%d", i), []byte("v"), 0)
		}
		m.Take(s)
		for round := range 2 {
			seen := map[string]bool{}
			for {
				few := 0
				more := m.Next(func(r Ref) { seen[string(r.Key())] = true; few++ })
				if few > bucketSlots {
					t.Fatalf("%d entries at once", few)
				}
				if !more {
					break
				}
			}
			if want := n * (1 - round); len(seen) != want {
				t.Errorf("%d entries, %d seen in walk %d", n, len(seen), round)
			}
		}
	}
}

func TestAnImageHasStreamsOfItsOwn(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	var m Image
	defer m.Close()
	gone := s.NewStream([]byte("gone"))
	gone.Add(StreamID{1, 1}, [][]byte{[]byte("f"), []byte("v")})
	s.Delete([]byte("gone"))
	st := s.NewStream([]byte("x"))
	for i := range uint64(500) {
		st.Add(StreamID{i + 1, 0}, [][]byte{[]byte("f"), []byte("before")})
	}
	used := s.charged
	m.Take(s)
	if s.charged != used {
		t.Errorf("%d bytes charged, %d before the image", s.charged, used)
	}
	st.Add(StreamID{9999, 0}, [][]byte{[]byte("f"), []byte("behind")})
	st.Delete(StreamID{1, 0})
	n := 0
	for m.Next(func(r Ref) {
		copied := r.Stream()
		copied.Each(StreamID{}, MaxStreamID, func(e *StreamEntry) bool {
			if e.ID.Ms != uint64(n+1) {
				t.Fatalf("entry %d has the ID %v", n, e.ID)
			}
			n++
			return true
		})
	}) {
	}
	if n != 500 {
		t.Errorf("the image has %d of 500 entries", n)
	}
}
