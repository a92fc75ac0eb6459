package store

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"
)

// collections is a shard beside plain Go containers of what it should hold.
type collections struct {
	s      *Shard
	hash   map[string]string
	set    map[string]bool
	zset   map[string]float64
	list   []string
	member *rapid.Generator[string]
}

// members draws strings and integers of all sizes, few enough of them to meet again.
func members() *rapid.Generator[string] {
	text := rapid.Custom(func(t *rapid.T) string {
		n := rapid.SampledFrom([]int{0, 1, 5, 12, 24, 25, 63, 64, 65, 200, 256, 257, 500, 501, 3000, 5000, 12000}).Draw(t, "len")
		return strings.Repeat(string(rune('a'+rapid.IntRange(0, 5).Draw(t, "letter"))), n)
	})
	number := rapid.Custom(func(t *rapid.T) string {
		v := rapid.SampledFrom([]int64{0, 127, 128, 4095, 4096, 1 << 15, 1 << 23, 1 << 31, 1 << 47, 1<<63 - 1}).Draw(t, "near")
		v += rapid.Int64Range(-2, 0).Draw(t, "by")
		return fmt.Sprint(v * rapid.SampledFrom([]int64{1, -1}).Draw(t, "sign"))
	})
	other := rapid.SampledFrom([]string{"-0", "007", "+1", "1.5", "9223372036854775808", "-9223372036854775808", "-", "00"})
	many := rapid.Custom(func(t *rapid.T) string { return fmt.Sprint("m:", rapid.IntRange(0, 900).Draw(t, "i")) })
	return rapid.OneOf(text, number, other, many)
}

var scores = rapid.SampledFrom([]float64{0, 1, -1, 2.5, 0.1, 1e300, -1e300, 100, 127, 128, 1 << 52, 1 << 53, 1e18, inf(1), inf(-1)})

func inf(sign int) float64 { return float64(sign) / zero }

var zero float64

func (m *collections) fields() Fields {
	if r, ok := m.s.Peek([]byte("hash")); ok {
		return r.Fields()
	}
	return m.s.NewHash([]byte("hash"))
}

func (m *collections) members() Members {
	if r, ok := m.s.Peek([]byte("set")); ok {
		return r.Members()
	}
	return m.s.NewSet([]byte("set"))
}

func (m *collections) sorted() SortedSet {
	if r, ok := m.s.Peek([]byte("zset")); ok {
		return r.SortedSet()
	}
	return m.s.NewSortedSet([]byte("zset"))
}

func (m *collections) elements() Elements {
	if r, ok := m.s.Peek([]byte("list")); ok {
		return r.Elements()
	}
	return m.s.NewList([]byte("list"))
}

// some draws a member of the model most of the time.
func (m *collections) some(t *rapid.T, from []string) string {
	if len(from) > 0 && rapid.IntRange(0, 3).Draw(t, "known") > 0 {
		return from[rapid.IntRange(0, len(from)-1).Draw(t, "which")]
	}
	return m.member.Draw(t, "member")
}

func (m *collections) hashActions(do map[string]func(*rapid.T)) {
	set := func(t *rapid.T, h *Fields, f, v string) {
		_, had := m.hash[f]
		if h.Set([]byte(f), []byte(v)) == had {
			t.Fatalf("set %.20q reports new: %v", f, !had)
		}
		m.hash[f] = v
	}
	do["hset"] = func(t *rapid.T) {
		h := m.fields()
		set(t, &h, m.member.Draw(t, "field"), m.member.Draw(t, "value"))
	}
	do["hsetMany"] = func(t *rapid.T) {
		h := m.fields()
		from, n := rapid.IntRange(0, 800).Draw(t, "from"), rapid.IntRange(1, 800).Draw(t, "n")
		for i := from; i < from+n; i++ {
			set(t, &h, fmt.Sprint("m:", i), strings.Repeat("v", i%50))
		}
	}
	do["hsetLong"] = func(t *rapid.T) {
		h := m.fields()
		for i := range rapid.IntRange(1, 40).Draw(t, "n") {
			set(t, &h, fmt.Sprint("m:", i*7), strings.Repeat("l", rapid.SampledFrom([]int{10, 300, 9000}).Draw(t, "len")))
		}
	}
	do["hsetItself"] = func(t *rapid.T) { // arguments in the shard's own memory
		h := m.fields()
		if len(m.hash) > 0 {
			f := m.some(t, slices.Sorted(maps.Keys(m.hash)))
			if v, ok := h.Get([]byte(f)); ok {
				was := string(v)
				h.Set(v, v)
				m.hash[was] = was
			}
		}
	}
	do["hdel"] = func(t *rapid.T) {
		h := m.fields()
		f := m.some(t, slices.Sorted(maps.Keys(m.hash)))
		_, had := m.hash[f]
		if h.Delete([]byte(f)) != had {
			t.Fatalf("delete %.20q, had %v", f, had)
		}
		delete(m.hash, f)
	}
	do["hdelMany"] = func(t *rapid.T) {
		h := m.fields()
		from, n := rapid.IntRange(0, 900).Draw(t, "from"), rapid.IntRange(1, 900).Draw(t, "n")
		for i := from; i < from+n; i++ {
			f := fmt.Sprint("m:", i)
			_, had := m.hash[f]
			if h.Delete([]byte(f)) != had {
				t.Fatalf("delete %q, had %v", f, had)
			}
			delete(m.hash, f)
		}
	}
}

func (m *collections) checkHash(t *rapid.T) {
	h := m.fields()
	if h.Len() != len(m.hash) {
		t.Fatalf("hash of %d fields, want %d", h.Len(), len(m.hash))
	}
	got := map[string]string{}
	h.Each(func(f, v []byte) bool { got[string(f)] = string(v); return true })
	if !maps.Equal(got, m.hash) {
		t.Fatalf("hash differs: %d fields, want %d", len(got), len(m.hash))
	}
	scanned := map[string]string{}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		cursor = h.Scan(cursor, 10, func(f, v []byte) { scanned[string(f)] = string(v) })
	}
	if !maps.Equal(scanned, m.hash) {
		t.Fatalf("scan of the hash differs")
	}
	for f, v := range m.hash {
		if got, ok := h.Get([]byte(f)); !ok || string(got) != v {
			t.Fatalf("field %.20q is %.20q (%v), want %.20q", f, got, ok, v)
		}
	}
	if len(m.hash) > 0 {
		if f, v := h.Random(rand.New(rand.NewPCG(1, 1))); m.hash[string(f)] != string(v) {
			t.Fatalf("random field %q", f)
		}
	}
}

func (m *collections) setActions(do map[string]func(*rapid.T)) {
	add := func(t *rapid.T, h *Members, v string) {
		if h.Add([]byte(v)) == m.set[v] {
			t.Fatalf("add %.20q, had %v", v, m.set[v])
		}
		m.set[v] = true
	}
	do["sadd"] = func(t *rapid.T) { h := m.members(); add(t, &h, m.member.Draw(t, "member")) }
	do["saddInts"] = func(t *rapid.T) {
		h := m.members()
		step := rapid.SampledFrom([]int64{1, -3, 1000, 1 << 40}).Draw(t, "step")
		for i := range rapid.Int64Range(1, 3000).Draw(t, "n") {
			add(t, &h, fmt.Sprint(i*step))
		}
	}
	do["srem"] = func(t *rapid.T) {
		h := m.members()
		v := m.some(t, slices.Sorted(maps.Keys(m.set)))
		if h.Remove([]byte(v)) != m.set[v] {
			t.Fatalf("remove %.20q, had %v", v, m.set[v])
		}
		delete(m.set, v)
	}
	do["sremMost"] = func(t *rapid.T) {
		h := m.members()
		keep := rapid.IntRange(1, 50).Draw(t, "keep")
		for i, v := range slices.Sorted(maps.Keys(m.set)) {
			if i%50 >= keep {
				h.Remove([]byte(v))
				delete(m.set, v)
			}
		}
	}
	do["spop"] = func(t *rapid.T) { // an argument in the shard's own memory
		h := m.members()
		if len(m.set) > 0 {
			v := h.Random(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
			was := string(v)
			if !m.set[was] || !h.Remove(v) {
				t.Fatalf("random member %.20q", was)
			}
			delete(m.set, was)
		}
	}
}

func (m *collections) checkSet(t *rapid.T) {
	h := m.members()
	if h.Len() != len(m.set) {
		t.Fatalf("set of %d, want %d", h.Len(), len(m.set))
	}
	got := map[string]bool{}
	h.Each(func(v []byte) bool { got[string(v)] = true; return true })
	scanned := map[string]bool{}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		cursor = h.Scan(cursor, 10, func(v []byte) { scanned[string(v)] = true })
	}
	if !maps.Equal(got, m.set) || !maps.Equal(scanned, m.set) {
		t.Fatalf("set differs: %d and %d, want %d", len(got), len(scanned), len(m.set))
	}
	for v := range m.set {
		if !h.Has([]byte(v)) {
			t.Fatalf("%.20q is missing", v)
		}
	}
	if h.Has([]byte("absent")) || h.Has([]byte("77777777")) {
		t.Fatalf("the set has what was never added")
	}
}

type pair struct {
	member string
	score  float64
}

func comparePairs(a, b pair) int {
	return cmp.Or(cmp.Compare(a.score, b.score), strings.Compare(a.member, b.member))
}

func (m *collections) ranked() (all []pair) {
	for k, v := range m.zset {
		all = append(all, pair{k, v})
	}
	slices.SortFunc(all, comparePairs)
	return all
}

func (m *collections) zsetActions(do map[string]func(*rapid.T)) {
	set := func(t *rapid.T, z *SortedSet, v string, score float64) {
		_, had := m.zset[v]
		if z.Set([]byte(v), score) == had {
			t.Fatalf("set %.20q, had %v", v, had)
		}
		m.zset[v] = score
	}
	do["zadd"] = func(t *rapid.T) { z := m.sorted(); set(t, &z, m.member.Draw(t, "member"), scores.Draw(t, "score")) }
	do["zaddMany"] = func(t *rapid.T) {
		z := m.sorted()
		from, n := rapid.IntRange(0, 800).Draw(t, "from"), rapid.IntRange(1, 800).Draw(t, "n")
		mod := rapid.SampledFrom([]int{1, 7, 1000}).Draw(t, "scores")
		for i := from; i < from+n; i++ {
			set(t, &z, fmt.Sprint("m:", i), float64(i%mod)/2)
		}
	}
	do["zmove"] = func(t *rapid.T) { // an argument in the shard's own memory
		z := m.sorted()
		if len(m.zset) > 0 {
			v, _ := z.Random(rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1)))
			score := scores.Draw(t, "score")
			m.zset[string(v)] = score
			if z.Set(v, score) {
				t.Fatal("a random member is new")
			}
		}
	}
	do["zrem"] = func(t *rapid.T) {
		z := m.sorted()
		v := m.some(t, slices.Sorted(maps.Keys(m.zset)))
		_, had := m.zset[v]
		if z.Remove([]byte(v)) != had {
			t.Fatalf("remove %.20q, had %v", v, had)
		}
		delete(m.zset, v)
	}
	do["zremMost"] = func(t *rapid.T) {
		z := m.sorted()
		from, n := rapid.IntRange(0, 900).Draw(t, "from"), rapid.IntRange(1, 900).Draw(t, "n")
		for i := from; i < from+n; i++ {
			z.Remove(fmt.Append(nil, "m:", i))
			delete(m.zset, fmt.Sprint("m:", i))
		}
	}
}

func (m *collections) checkZSet(t *rapid.T) {
	z := m.sorted()
	all := m.ranked()
	if z.Len() != len(all) {
		t.Fatalf("sorted set of %d, want %d", z.Len(), len(all))
	}
	var up, down []pair
	z.Each(0, 1, func(v []byte, score float64) bool { up = append(up, pair{string(v), score}); return true })
	z.Each(len(all)-1, -1, func(v []byte, score float64) bool { down = append(down, pair{string(v), score}); return true })
	slices.Reverse(down)
	if !slices.Equal(up, all) || !slices.Equal(down, all) {
		t.Fatalf("order differs: %d up, %d down, want %d", len(up), len(down), len(all))
	}
	scanned := map[string]float64{}
	for cursor, first := uint64(0), true; first || cursor != 0; first = false {
		cursor = z.Scan(cursor, 10, func(v []byte, score float64) { scanned[string(v)] = score })
	}
	if !maps.Equal(scanned, m.zset) {
		t.Fatal("scan of the sorted set differs")
	}
	for i, p := range all {
		score, ok := z.Score([]byte(p.member))
		rank, has := z.Rank([]byte(p.member))
		if !ok || !has || score != p.score || rank != i {
			t.Fatalf("%.20q has score %v and rank %d, want %v and %d", p.member, score, rank, p.score, i)
		}
	}
	calls := 0
	for _, p := range []pair{{"m:3", 0.5}, {"m:3", 1}, {"", inf(-1)}, {"zzz", inf(1)}} {
		got := z.Search(func(v []byte, score float64) bool { calls++; return comparePairs(pair{string(v), score}, p) < 0 })
		if want, _ := slices.BinarySearchFunc(all, p, comparePairs); got != want {
			t.Fatalf("search for %v = %d, want %d", p, got, want)
		}
	}
	if calls > 4*24 {
		t.Fatalf("%d calls for four searches in %d", calls, len(all))
	}
}

func (m *collections) listActions(do map[string]func(*rapid.T)) {
	insert := func(l *Elements, i int, v string) {
		l.Insert(i, []byte(v))
		m.list = slices.Insert(m.list, i, v)
	}
	do["insert"] = func(t *rapid.T) {
		l := m.elements()
		insert(&l, rapid.IntRange(0, len(m.list)).Draw(t, "i"), m.member.Draw(t, "element"))
	}
	do["push"] = func(t *rapid.T) {
		l := m.elements()
		left := rapid.Bool().Draw(t, "left")
		for i := range rapid.IntRange(1, 1500).Draw(t, "n") {
			at := len(m.list)
			if left {
				at = 0
			}
			insert(&l, at, strings.Repeat("e", i%20)+fmt.Sprint(i))
		}
	}
	do["insertMany"] = func(t *rapid.T) {
		l := m.elements()
		at := rapid.IntRange(0, len(m.list)).Draw(t, "i")
		for i := range rapid.IntRange(1, 300).Draw(t, "n") {
			insert(&l, at, fmt.Sprint("in", i))
		}
	}
	do["lset"] = func(t *rapid.T) {
		l := m.elements()
		if len(m.list) > 0 {
			i, v := rapid.IntRange(0, len(m.list)-1).Draw(t, "i"), m.member.Draw(t, "element")
			l.Set(i, []byte(v))
			m.list[i] = v
		}
	}
	do["rotate"] = func(t *rapid.T) { // an argument in the shard's own memory
		l := m.elements()
		if n := len(m.list); n > 0 {
			v := m.list[n-1]
			l.Insert(0, l.At(n-1))
			l.Remove(n, 1)
			m.list = slices.Insert(m.list[:n-1], 0, v)
		}
	}
	do["remove"] = func(t *rapid.T) {
		l := m.elements()
		i := rapid.IntRange(0, len(m.list)).Draw(t, "i")
		n := rapid.IntRange(0, len(m.list)-i).Draw(t, "n")
		l.Remove(i, n)
		m.list = slices.Delete(m.list, i, i+n)
	}
	do["pop"] = func(t *rapid.T) {
		l := m.elements()
		for range rapid.IntRange(0, min(len(m.list), 100)).Draw(t, "n") {
			i := rapid.SampledFrom([]int{0, len(m.list) - 1}).Draw(t, "end")
			l.Remove(i, 1)
			m.list = slices.Delete(m.list, i, i+1)
		}
	}
}

func (m *collections) checkList(t *rapid.T) {
	l := m.elements()
	if l.Len() != len(m.list) {
		t.Fatalf("list of %d, want %d", l.Len(), len(m.list))
	}
	var up, down []string
	at := 0
	l.Each(0, 1, func(i int, e []byte) bool {
		if i != at {
			t.Fatalf("index %d after %d", i, at-1)
		}
		at++
		up = append(up, string(e))
		return true
	})
	l.Each(len(m.list)-1, -1, func(i int, e []byte) bool {
		if at--; i != at {
			t.Fatalf("index %d, want %d", i, at)
		}
		down = append(down, string(e))
		return true
	})
	slices.Reverse(down)
	if !slices.Equal(up, m.list) || !slices.Equal(down, m.list) {
		t.Fatalf("list differs")
	}
	for i := 0; i < len(m.list); i += 1 + len(m.list)/50 {
		if string(l.At(i)) != m.list[i] {
			t.Fatalf("element %d is %.20q, want %.20q", i, l.At(i), m.list[i])
		}
		from := i
		l.Each(i, -1, func(j int, e []byte) bool {
			if j != from || string(e) != m.list[j] {
				t.Fatalf("element %d down from %d is %.20q", j, i, e)
			}
			from--
			return from > i-3
		})
	}
}

func (m *collections) keyActions(do map[string]func(*rapid.T)) {
	do["rename"] = func(t *rapid.T) {
		k := rapid.SampledFrom([]string{"hash", "set", "zset", "list"}).Draw(t, "key")
		if m.s.Rename([]byte(k), []byte("x")) {
			m.s.Rename([]byte("x"), []byte(k))
		}
	}
	do["copy"] = func(t *rapid.T) {
		k := rapid.SampledFrom([]string{"hash", "set", "zset", "list"}).Draw(t, "key")
		if m.s.Copy([]byte(k), []byte("copy")) {
			m.s.Rename([]byte("copy"), []byte(k)) // over the original
		}
	}
	do["expire"] = func(t *rapid.T) {
		k := rapid.SampledFrom([]string{"hash", "set", "zset", "list"}).Draw(t, "key")
		m.s.SetExpire([]byte(k), rapid.Int64Range(0, 1).Draw(t, "at")<<40)
	}
	do["neighbours"] = func(t *rapid.T) { // entries move
		for i := range rapid.IntRange(0, 400).Draw(t, "n") {
			k := fmt.Append(nil, "other", i)
			if i%3 == 0 {
				m.s.Delete(k)
			} else {
				m.s.Set(k, bytes.Repeat([]byte("v"), i), 0)
			}
		}
	}
	do["delete"] = func(t *rapid.T) {
		if rapid.IntRange(0, 3).Draw(t, "really") > 0 {
			return
		}
		switch k := rapid.SampledFrom([]string{"hash", "set", "zset", "list", "all"}).Draw(t, "key"); k {
		case "hash":
			m.s.Delete([]byte(k))
			clear(m.hash)
		case "set":
			m.s.Set([]byte(k), nil, 0)
			m.s.Delete([]byte(k))
			clear(m.set)
		case "zset":
			m.s.NewSortedSet([]byte(k))
			clear(m.zset)
		case "list":
			m.s.Delete([]byte(k))
			m.list = nil
		default:
			m.s.Flush()
			clear(m.hash)
			clear(m.set)
			clear(m.zset)
			m.list = nil
		}
	}
	do["reclaim"] = func(t *rapid.T) { m.s.Reclaim(rapid.IntRange(0, 100).Draw(t, "budget")) }
}

func TestCollectionsBehaveLikeGoContainers(t *testing.T) {
	for _, kind := range []string{"hash", "set", "zset", "list"} {
		t.Run(kind, func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				db := New(Options{Seed: rapid.Uint64Min(1).Draw(t, "seed")})
				defer db.Close()
				m := &collections{s: db.Shard(0), hash: map[string]string{}, set: map[string]bool{}, zset: map[string]float64{},
					member: members()}
				if rapid.IntRange(0, 3).Draw(t, "few pages") == 0 {
					m.s.slab.limit, m.s.parts.limit = 20, 20
				}
				if rapid.Bool().Draw(t, "tiny leaves") { // a few hundred units make a deep tree
					defer tinyLeaves()()
				}
				do := map[string]func(*rapid.T){}
				var same func(*rapid.T)
				switch kind {
				case "hash":
					m.hashActions(do)
					same = m.checkHash
				case "set":
					m.setActions(do)
					same = m.checkSet
				case "zset":
					m.zsetActions(do)
					same = m.checkZSet
				case "list":
					m.listActions(do)
					same = m.checkList
				}
				m.keyActions(do)
				do[""] = func(t *rapid.T) { check(t, m.s); same(t); check(t, m.s) }
				t.Repeat(do)
				m.emptyOut(t, db)
			})
		})
	}
}

// tinyLeaves makes leaves and nodes small until the function that it returns is called.
func tinyLeaves() (restore func()) {
	all := []*layout{hashLayout, setLayout, scoreLayout, orderLayout, listLayout}
	var old []layout
	for _, l := range all {
		old = append(old, *l)
		l.bytes, l.units, l.fork = 120, 9, 9
	}
	return func() {
		for i, l := range all {
			*l = old[i]
		}
	}
}

func (m *collections) emptyOut(t *rapid.T, db *DB) {
	var keys [][]byte
	m.s.Range(func(r Ref) bool { keys = append(keys, bytes.Clone(r.Key())); return true })
	for _, k := range keys {
		m.s.Delete(k)
	}
	for m.s.Reclaim(100) {
	}
	check(t, m.s)
	if db.Used() != 0 || db.Reserved() != 0 {
		t.Fatalf("empty shard uses %d, reserves %d", db.Used(), db.Reserved())
	}
}
