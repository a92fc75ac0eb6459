package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

type modelEntry struct {
	value string
	at    int64
	raw   bool
}

type model struct {
	s   *Shard
	m   map[string]modelEntry
	now int64
}

// key draws from few keys of many lengths, so that operations meet.
func (m *model) key(t *rapid.T) string {
	n := rapid.IntRange(0, 60).Draw(t, "key")
	if n == 60 {
		return strings.Repeat("k", 300)
	}
	return strings.Repeat("k", n%7) + fmt.Sprint(n/4)
}

func (m *model) value(t *rapid.T) string {
	n := rapid.SampledFrom([]int{0, 1, 3, 20, 44, 45, 200, 255, 256, 300, 5000, 8100, 9000, 66000, 70000}).Draw(t, "len")
	return strings.Repeat(rapid.SampledFrom([]string{"0", "7", "x"}).Draw(t, "fill"), n)
}

func (m *model) expiry(t *rapid.T) int64 {
	return rapid.SampledFrom([]int64{0, m.now - 1, m.now + 1, m.now + 5000, m.now + 1_000_000, 1<<63 - 1}).Draw(t, "at")
}

func (m *model) live(k string) bool {
	e, ok := m.m[k]
	return ok && (e.at == 0 || e.at > m.now)
}

func (m *model) encoding(e modelEntry) string {
	switch {
	case e.raw:
		return "raw"
	case isCanonicalInt([]byte(e.value)):
		return "int"
	case len(e.value) <= 44:
		return "embstr"
	}
	return "raw"
}

func (m *model) compare(t *rapid.T, r Ref) {
	e, ok := m.m[string(r.Key())]
	if !ok || string(r.Value()) != e.value || r.ExpireAt() != e.at || r.Type() != String || r.Encoding() != m.encoding(e) {
		t.Fatalf("entry %q: %d bytes at %d %s, want %d bytes at %d %s (known %v)", r.Key(), len(r.Value()), r.ExpireAt(),
			r.Encoding(), len(e.value), e.at, m.encoding(e), ok)
	}
}

func (m *model) actions() map[string]func(*rapid.T) {
	s := m.s
	return map[string]func(*rapid.T){
		"set": func(t *rapid.T) {
			k, v, at := m.key(t), m.value(t), m.expiry(t)
			s.Set([]byte(k), []byte(v), at)
			m.m[k] = modelEntry{v, at, false}
		},
		"setMany": func(t *rapid.T) {
			from, n, at := rapid.IntRange(0, 3000).Draw(t, "from"), rapid.IntRange(1, 2000).Draw(t, "n"), m.expiry(t)
			for i := from; i < from+n; i++ {
				k, v := fmt.Sprintf("many:%d", i), strings.Repeat("v", i%40)
				s.Set([]byte(k), []byte(v), at+at&1*int64(i))
				m.m[k] = modelEntry{v, at + at&1*int64(i), false}
			}
		},
		"deleteMany": func(t *rapid.T) {
			from, n := rapid.IntRange(0, 3000).Draw(t, "from"), rapid.IntRange(1, 2000).Draw(t, "n")
			for i := from; i < from+n; i++ {
				k := fmt.Sprintf("many:%d", i)
				_, want := m.m[k]
				if got := s.Delete([]byte(k)); got != want {
					t.Fatalf("delete %q = %v", k, got)
				}
				delete(m.m, k)
			}
		},
		"copy": func(t *rapid.T) { // arguments that alias the shard
			from, to := m.key(t), m.key(t)
			if r, ok := s.Peek([]byte(from)); ok {
				e := m.m[from]
				s.Set([]byte(to), r.Value(), e.at)
				m.m[to] = modelEntry{e.value, e.at, false}
			}
		},
		"appendToItself": func(t *rapid.T) {
			k := m.key(t)
			if r, ok := s.Peek([]byte(k)); ok && len(r.Value()) < 1<<20 {
				e := m.m[k]
				s.Append(r.Key(), r.Value())
				m.m[k] = modelEntry{e.value + e.value, e.at, true}
			}
		},
		"append": func(t *rapid.T) {
			k, v := m.key(t), m.value(t)
			e, ok := m.m[k]
			m.m[k] = modelEntry{e.value + v, e.at, ok}
			if got := s.Append([]byte(k), []byte(v)); got != len(e.value+v) {
				t.Fatalf("append = %d", got)
			}
		},
		"setRange": func(t *rapid.T) {
			k, v, off := m.key(t), m.value(t), rapid.IntRange(0, 400).Draw(t, "off")
			e := m.m[k]
			got := s.SetRange([]byte(k), off, []byte(v))
			if v != "" {
				b := []byte(e.value)
				if n := off + len(v); n > len(b) {
					b = append(b, make([]byte, n-len(b))...)
				}
				copy(b[off:], v)
				m.m[k] = modelEntry{string(b), e.at, true}
				e = m.m[k]
			}
			if got != len(e.value) {
				t.Fatalf("setrange = %d, want %d", got, len(e.value))
			}
		},
		"setExpire": func(t *rapid.T) {
			k, at := m.key(t), m.expiry(t)
			e, want := m.m[k]
			if got := s.SetExpire([]byte(k), at); got != want {
				t.Fatalf("setexpire = %v", got)
			}
			if want {
				e.at = at
				m.m[k] = e
			}
		},
		"delete": func(t *rapid.T) {
			k := m.key(t)
			_, want := m.m[k]
			if got := s.Delete([]byte(k)); got != want {
				t.Fatalf("delete = %v", got)
			}
			delete(m.m, k)
		},
		"find": func(t *rapid.T) {
			k := m.key(t)
			r, ok := s.Find([]byte(k), m.now)
			if ok != m.live(k) {
				t.Fatalf("find %q = %v", k, ok)
			}
			if ok {
				m.compare(t, r)
			}
		},
		"time": func(t *rapid.T) { m.now += rapid.Int64Range(0, 20_000).Draw(t, "ms") },
		"expire": func(t *rapid.T) {
			for {
				var keys [][]byte
				s.Expired(m.now, 50, func(k []byte) { keys = append(keys, bytes.Clone(k)) })
				for _, k := range keys {
					if m.live(string(k)) || !s.Delete(k) {
						t.Fatalf("reported %q", k)
					}
					delete(m.m, string(k))
				}
				if len(keys) == 0 {
					break
				}
			}
			for k, e := range m.m {
				late := dueOf(e.at) < dueOf(m.now) || s.expiry.n <= repairsSpare // see Expired
				if !m.live(k) && late {
					t.Fatalf("%q has expired and was not reported", k)
				}
			}
		},
		"flush": func(t *rapid.T) {
			if rapid.IntRange(0, 9).Draw(t, "really") == 0 {
				if n := s.Flush(); n != len(m.m) {
					t.Fatalf("flush = %d", n)
				}
				clear(m.m)
			}
		},
		"": func(t *rapid.T) {
			check(t, s)
			if s.Len() != len(m.m) {
				t.Fatalf("len %d, want %d", s.Len(), len(m.m))
			}
			n := 0
			s.Range(func(r Ref) bool { m.compare(t, r); n++; return true })
			if n != len(m.m) {
				t.Fatalf("range saw %d of %d", n, len(m.m))
			}
		},
	}
}

func TestShardBehavesLikeAMap(t *testing.T) {
	for _, policy := range []Policy{NoEviction, VolatileLFU} {
		t.Run(policy.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				db := New(Options{Seed: rapid.Uint64Min(1).Draw(t, "seed"), Policy: policy})
				defer db.Close()
				m := &model{s: db.Shard(0), m: map[string]modelEntry{}, now: 1_700_000_000_000}
				if rapid.Bool().Draw(t, "few pages") { // references run out: small blocks become big ones
					m.s.slab.limit = 20
				}
				t.Repeat(m.actions())
				for k := range m.m {
					m.s.Delete([]byte(k))
				}
				for m.s.Reclaim(1000) { // Flush leaves the big ones to it
				}
				if db.Used() != 0 || db.Reserved() != 0 {
					t.Fatalf("empty shard uses %d, reserves %d", db.Used(), db.Reserved())
				}
			})
		})
	}
}

func TestScanSeesWhatStaysThroughoutWhileTheIndexGrowsAndShrinks(t *testing.T) {
	for seed := range uint64(60) {
		rng := rand.New(rand.NewPCG(seed, 1))
		s := newDB(t, Options{Seed: seed + 1}).Shard(0)
		stay := rng.IntN(3000)
		for i := range stay {
			s.Set(fmt.Appendf(nil, "stay:%d", i), nil, 0)
		}
		moving := 0
		for ; moving < rng.IntN(9000); moving++ {
			s.Set(fmt.Appendf(nil, "move:%d", moving), []byte("v"), 0)
		}
		seen := map[string]bool{}
		grow := seed%2 == 0
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			cursor = s.Scan(cursor, 1+rng.IntN(20), func(r Ref) { seen[string(r.Key())] = true })
			if cursor >= 1<<48 {
				t.Fatalf("cursor %x", cursor)
			}
			for range rng.IntN(200) {
				if rng.IntN(5000) == 0 {
					grow = !grow
				}
				if grow {
					s.Set(fmt.Appendf(nil, "move:%d", moving), []byte("v"), 0)
					moving++
				} else if moving > 0 {
					moving--
					s.Delete(fmt.Appendf(nil, "move:%d", moving))
				}
			}
		}
		check(t, s)
		for i := range stay {
			if k := fmt.Sprintf("stay:%d", i); !seen[k] {
				t.Fatalf("seed %d: %s stayed and was not seen", seed, k)
			}
		}
	}
}

func TestScanOfAQuietShardSeesEveryKeyOnceAndEnds(t *testing.T) {
	s := newDB(t, Options{}).Shard(3)
	for _, n := range []int{0, 1, 5, 700, 20_000} {
		for i := range n {
			s.Set(fmt.Appendf(nil, "key:%d", i), nil, 0)
		}
		seen, calls := map[string]int{}, 0
		for cursor, first := uint64(0), true; first || cursor != 0; first = false {
			cursor = s.Scan(cursor, 100, func(r Ref) { seen[string(r.Key())]++ })
			calls++
		}
		if len(seen) != n || calls > n/80+10 {
			t.Fatalf("%d of %d keys in %d calls", len(seen), n, calls)
		}
		for k, times := range seen {
			if times != 1 {
				t.Fatalf("%s seen %d times", k, times)
			}
		}
	}
}
