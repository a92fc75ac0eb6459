package store

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

func encodingOf(t *testing.T, s *Shard, key string) string {
	t.Helper()
	r, ok := s.Peek([]byte(key))
	if !ok {
		t.Fatalf("%s is missing", key)
	}
	return r.Encoding()
}

func TestEncodingsOfCollectionsFollowRedis(t *testing.T) {
	db := newDB(t, Options{})
	s := db.Shard(0)
	h, m, z := s.NewHash([]byte("h")), s.NewSet([]byte("s")), s.NewSortedSet([]byte("z"))
	want := func(key, encoding string) {
		t.Helper()
		if got := encodingOf(t, s, key); got != encoding {
			t.Errorf("%s is %s, want %s", key, got, encoding)
		}
	}
	for i := range 512 {
		h.Set(fmt.Append(nil, i), []byte(strings.Repeat("v", 64)))
		m.Add(fmt.Append(nil, i))
	}
	for i := range 128 {
		z.Set(fmt.Append(nil, i), float64(i))
	}
	want("h", "listpack")
	want("s", "intset")
	want("z", "listpack")
	h.Set([]byte("513"), nil)
	m.Add([]byte("513"))
	z.Set([]byte("129"), 1)
	want("h", "hashtable")
	want("s", "hashtable")
	want("z", "skiplist")
	for i := range 512 {
		h.Delete(fmt.Append(nil, i))
		m.Remove(fmt.Append(nil, i))
		z.Remove(fmt.Append(nil, i))
	}
	for _, k := range []string{"h", "s", "z"} {
		s.Copy([]byte(k), []byte(k+"copy"))
		s.Rename([]byte(k+"copy"), []byte(k+"renamed"))
	}
	want("hrenamed", "hashtable") // once large, always large
	want("srenamed", "hashtable")
	want("zrenamed", "skiplist")

	h, m, z = s.NewHash([]byte("h")), s.NewSet([]byte("s")), s.NewSortedSet([]byte("z"))
	h.Set([]byte("f"), []byte(strings.Repeat("v", 65)))
	m.Add([]byte("01"))
	z.Set([]byte(strings.Repeat("v", 65)), 0)
	want("h", "hashtable")
	want("s", "hashtable")
	want("z", "skiplist")

	limits := DefaultLimits()
	limits.HashEntries, limits.SetEntries, limits.ZSetEntries = 1, 1, 1
	db.SetLimits(limits)
	h, m, z = s.NewHash([]byte("h")), s.NewSet([]byte("s")), s.NewSortedSet([]byte("z"))
	for _, k := range []string{"1", "2"} {
		want("h", "listpack")
		want("s", "intset")
		want("z", "listpack")
		h.Set([]byte(k), nil)
		m.Add([]byte(k))
		z.Set([]byte(k), 0)
	}
	want("h", "hashtable")
	want("s", "hashtable")
	want("z", "skiplist")
	s.NewList([]byte("l"))
	want("l", "quicklist")
}

func TestASmallHashKeepsTheOrderOfItsFields(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	h := s.NewHash([]byte("h"))
	for _, f := range []string{"z", "1", "a", "m"} {
		h.Set([]byte(f), []byte("v"))
	}
	h.Set([]byte("1"), []byte("a longer value"))
	h.Delete([]byte("a"))
	h.Set([]byte("a"), nil)
	var got []string
	h.Each(func(f, _ []byte) bool { got = append(got, string(f)); return true })
	if fmt.Sprint(got) != "[z 1 m a]" {
		t.Errorf("fields in order %v", got)
	}
}

func TestWhatReadsReturnKeepsUntilTheNextChange(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	m := s.NewSet([]byte("s"))
	for i := range 3000 {
		m.Add(fmt.Append(nil, i*1000))
	}
	seen := map[string]bool{}
	var kept [][]byte
	m.Each(func(v []byte) bool { kept = append(kept, v); return true })
	for _, v := range kept {
		seen[string(v)] = true
	}
	if len(seen) != 3000 {
		t.Errorf("%d different members of 3000", len(seen))
	}
}

func TestScanOfACollectionSeesWhatStaysWhileItGrowsAndShrinks(t *testing.T) {
	for seed := range uint64(40) {
		rng := rand.New(rand.NewPCG(seed, 2))
		s := newDB(t, Options{Seed: seed + 1}).Shard(0)
		h := s.NewHash([]byte("h"))
		stay := 1 + rng.IntN(2000)
		for i := range stay {
			h.Set(fmt.Append(nil, "stay:", i), nil)
		}
		moving, seen, grow := 0, map[string]bool{}, seed%2 == 0
		for ; moving < 4000; moving++ {
			h.Set(fmt.Append(nil, "move:", moving), []byte("v"))
		}
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			cursor = h.Scan(cursor, 1+rng.IntN(20), func(f, _ []byte) { seen[string(f)] = true })
			if cursor >= 1<<48 {
				t.Fatalf("cursor %x", cursor)
			}
			for range rng.IntN(200) {
				if rng.IntN(2000) == 0 {
					grow = !grow
				}
				if grow {
					h.Set(fmt.Append(nil, "move:", moving), []byte("v"))
					moving++
				} else if moving > 0 {
					moving--
					h.Delete(fmt.Append(nil, "move:", moving))
				}
			}
		}
		check(t, s)
		for i := range stay {
			if k := fmt.Sprint("stay:", i); !seen[k] {
				t.Fatalf("seed %d: %s stayed and was not seen", seed, k)
			}
		}
	}
}

func TestRandomMembersAreUniform(t *testing.T) {
	for _, n := range []int{5, 100, 5000} {
		s := newDB(t, Options{Seed: 3}).Shard(0)
		m := s.NewSet([]byte("s"))
		for i := range n {
			m.Add(fmt.Append(nil, "member:", i))
		}
		hits, rng := map[string]int{}, rand.New(rand.NewPCG(1, 2))
		for range 100 * n {
			hits[string(m.Random(rng))]++
		}
		var chi float64
		for _, k := range hits {
			chi += float64(k-100) * float64(k-100) / 100
		}
		if len(hits) != n || chi > float64(n)*1.5+15 {
			t.Errorf("%d of %d members, chi squared %.0f", len(hits), n, chi)
		}
	}
}

// TestMemoryUsageAddsUpToBytes compares what single keys say with what their shard counts.
func TestMemoryUsageAddsUpToBytes(t *testing.T) {
	for _, n := range []int{1, 40, 600, 60_000} {
		s := newDB(t, Options{}).Shard(0)
		h, m, z, l := s.NewHash([]byte("h")), s.NewSet([]byte("s")), s.NewSortedSet([]byte("z")), s.NewList([]byte("l"))
		for i := range n {
			v := fmt.Append(nil, "a member of some length:", i)
			h.Set(v, v[:i%20])
			m.Add(v)
			z.Set(v, float64(i))
			l.Insert(i, v)
		}
		var sum int64
		s.Range(func(r Ref) bool { sum += r.MemoryUsage(); return true })
		have := s.Bytes() - int64(s.index.segs[s.index.dir[0]].bytes())
		if d := float64(sum-have) / float64(have); d > 0.03 && sum-have > 100 || d < -0.03 {
			t.Errorf("%d elements: keys use %d, the shard %d", n, sum, have)
		}
	}
}

func TestHandlesOutliveChangesOfOtherKeys(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	h := s.NewHash([]byte("h"))
	h.Set([]byte("f"), []byte("v"))
	for i := range 5000 {
		s.Set(fmt.Append(nil, i), nil, 0)
	}
	if v, ok := h.Get([]byte("f")); !ok || string(v) != "v" {
		t.Errorf("%q, %v", v, ok)
	}
}

func TestObjectsAreAccounted(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	o := &chargedObject{n: 100_000}
	s.create([]byte("a"), Stream, o)
	s.charge(o.n)
	with := s.Bytes()
	s.Copy([]byte("a"), []byte("b"))
	s.Rename([]byte("b"), []byte("c"))
	if r, ok := s.Peek([]byte("c")); !ok || r.Type() != Stream || r.object().(*chargedObject).n != o.n || s.Bytes() < with+o.n {
		t.Error("the copy is lost or not counted")
	}
	s.Delete([]byte("c"))
	if s.Bytes() != with {
		t.Errorf("%d bytes, want %d", s.Bytes(), with)
	}
	s.Set([]byte("a"), nil, 0)
	s.Delete([]byte("a"))
	if s.Bytes() != 0 {
		t.Errorf("%d bytes in an empty shard", s.Bytes())
	}
}

type chargedObject struct{ n int64 }

func (o *chargedObject) Bytes() int64 { return o.n }
func (o *chargedObject) clone() any   { return &chargedObject{o.n} }
