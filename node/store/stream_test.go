package store

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// streamModel is a stream as a plain list.
type streamModel struct {
	ids   []StreamID
	words map[StreamID][]string
	state StreamState
}

func wordsOf(e *StreamEntry) (words []string) {
	e.Each(func(field, value []byte) { words = append(words, string(field), string(value)) })
	return words
}

func (m *streamModel) compare(t *rapid.T, st *Entries) {
	var ids []StreamID
	st.Each(StreamID{}, MaxStreamID, func(e *StreamEntry) bool {
		ids = append(ids, e.ID)
		if words := wordsOf(e); !slices.Equal(words, m.words[e.ID]) {
			t.Fatalf("%v has %q, want %q", e.ID, words, m.words[e.ID])
		}
		return true
	})
	if !slices.Equal(ids, m.ids) || st.Len() != len(ids) || st.State() != m.state {
		t.Fatalf("%d entries %v in state %v, want %v, %v", st.Len(), ids, st.State(), m.ids, m.state)
	}
	var back []StreamID
	st.EachBack(StreamID{}, MaxStreamID, func(e *StreamEntry) bool { back = append(back, e.ID); return true })
	slices.Reverse(back)
	if !slices.Equal(back, ids) {
		t.Fatalf("backwards %v, want %v", back, ids)
	}
}

func TestStreamBehavesLikeAList(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := New(Options{})
		defer db.Close()
		s := db.Shard(0)
		st := s.NewStream([]byte("s"))
		m := &streamModel{words: map[StreamID][]string{}}
		word := rapid.OneOf(rapid.String(), rapid.Map(rapid.Int64(), func(n int64) string { return fmt.Sprint(n) }),
			rapid.SampledFrom([]string{"", "-0", "01", "127", "128", "-1", "-128", "9223372036854775808", string(make([]byte, 5000))}))
		some := func() StreamID {
			if len(m.ids) == 0 {
				return StreamID{1, 1}
			}
			return rapid.SampledFrom(m.ids).Draw(t, "id")
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { m.compare(t, &st) },
			"add many": func(t *rapid.T) {
				for range rapid.IntRange(1, 150).Draw(t, "n") {
					id, _ := m.state.Last.Next()
					if rapid.Bool().Draw(t, "later") {
						id = StreamID{id.Ms + uint64(rapid.IntRange(1, 1<<40).Draw(t, "ms")), uint64(rapid.IntRange(0, 5).Draw(t, "seq"))}
					}
					words := rapid.SliceOfN(word, 2, 2).Draw(t, "words")
					if rapid.Bool().Draw(t, "more") {
						words = append(words, "f", word.Draw(t, "word"))
					}
					var raw [][]byte
					for _, w := range words {
						raw = append(raw, []byte(w))
					}
					st.Add(id, raw)
					m.ids = append(m.ids, id)
					m.words[id] = words
					m.state.Last = id
					m.state.Added++
				}
			},
			"delete": func(t *rapid.T) {
				id := some()
				i, found := slices.BinarySearchFunc(m.ids, id, StreamID.Compare)
				if got := st.Delete(id); got != found || st.Has(id) {
					t.Fatalf("Delete(%v) is %v, want %v", id, got, found)
				}
				if found {
					m.ids = slices.Delete(m.ids, i, i+1)
					if id.Compare(m.state.MaxDeleted) > 0 {
						m.state.MaxDeleted = id
					}
				}
			},
			"trim": func(t *rapid.T) {
				n := rapid.IntRange(0, len(m.ids)).Draw(t, "stay")
				if got, want := st.Trim(StreamTrim{MaxLen: int64(n)}), len(m.ids)-n; got != want {
					t.Fatalf("trimmed %d, want %d", got, want)
				}
				m.ids = m.ids[len(m.ids)-n:]
			},
			"trim by ID": func(t *rapid.T) {
				id := some()
				i, _ := slices.BinarySearchFunc(m.ids, id, StreamID.Compare)
				if got := st.Trim(StreamTrim{ByID: true, MinID: id}); got != i {
					t.Fatalf("trimmed %d, want %d", got, i)
				}
				m.ids = m.ids[i:]
			},
			"trim about": func(t *rapid.T) {
				n := rapid.IntRange(0, len(m.ids)).Draw(t, "stay")
				got := st.Trim(StreamTrim{MaxLen: int64(n), Approx: true})
				if left := len(m.ids) - got; left < n || left >= n+DefaultLimits().StreamEntries && n < len(m.ids) {
					t.Fatalf("trimmed %d of %d to about %d", got, len(m.ids), n)
				}
				m.ids = m.ids[got:]
			},
			"copy": func(t *rapid.T) {
				s.Copy([]byte("s"), []byte("copy"))
				s.Delete([]byte("s"))
				s.Rename([]byte("copy"), []byte("s"))
				r, _ := s.Peek([]byte("s"))
				before := st
				st = r.Stream()
				if before.o == st.o {
					t.Fatal("the copy is the original")
				}
			},
		})
	})
}

func TestGroupsRememberDeliveries(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		db := New(Options{})
		defer db.Close()
		s := db.Shard(0)
		st := s.NewStream([]byte("s"))
		empty := st.Bytes()
		g := st.NewGroup([]byte("g"), StreamID{}, -1)
		pending := map[StreamID]Delivery{}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) {
				left := map[string]int{}
				for id, want := range pending {
					if d, ok := g.Find(id); !ok || d != want {
						t.Fatalf("delivery %v, want %v", d, want)
					}
					left[want.Consumer.Name()]++
				}
				n, last := 0, StreamID{}
				for d, ok := g.From(last); ok; d, ok = g.From(last) {
					n++
					last, _ = d.ID.Next()
				}
				slots := 0
				for _, run := range g.pending.runs {
					slots += cap(run)
				}
				if slots != g.pending.slots || slots > 4*n+runMax {
					t.Fatalf("%d slots for %d deliveries, counted as %d", slots, n, g.pending.slots)
				}
				if n != len(pending) || g.Pending() != n {
					t.Fatalf("%d deliveries, Pending is %d, want %d", n, g.Pending(), len(pending))
				}
				for _, c := range g.Consumers() {
					if c.Pending() != left[c.Name()] {
						t.Fatalf("%s has %d deliveries, want %d", c.Name(), c.Pending(), left[c.Name()])
					}
				}
			},
			"deliver many": func(t *rapid.T) {
				name := []byte(rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "consumer"))
				c := g.Consumer(name)
				if c == nil {
					c = g.NewConsumer(name, 0)
				}
				from := uint64(rapid.IntRange(0, 400).Draw(t, "from"))
				for i := range uint64(rapid.IntRange(1, 200).Draw(t, "n")) {
					d := Delivery{StreamID{from + i, 1}, int64(from), int64(i), c}
					g.Deliver(d)
					pending[d.ID] = d
				}
			},
			"forget many": func(t *rapid.T) {
				from := uint64(rapid.IntRange(0, 600).Draw(t, "from"))
				for i := range uint64(rapid.IntRange(1, 200).Draw(t, "n")) {
					id := StreamID{from + i, 1}
					_, want := pending[id]
					if got := g.Forget(id); got != want {
						t.Fatalf("Forget(%v) is %v, want %v", id, got, want)
					}
					delete(pending, id)
				}
			},
			"remove consumer": func(t *rapid.T) {
				if len(g.Consumers()) == 0 {
					return
				}
				c := rapid.SampledFrom(g.Consumers()).Draw(t, "consumer")
				g.RemoveConsumer(c)
				for id, d := range pending {
					if d.Consumer == c {
						delete(pending, id)
					}
				}
			},
			"copy": func(t *rapid.T) {
				bytes := st.Bytes()
				s.Copy([]byte("s"), []byte("copy"))
				s.Rename([]byte("copy"), []byte("s"))
				r, _ := s.Peek([]byte("s"))
				st = r.Stream()
				g = st.Group([]byte("g"))
				for id, d := range pending {
					d.Consumer = g.Consumer([]byte(d.Consumer.Name()))
					pending[id] = d
				}
				if st.Bytes() > bytes {
					t.Fatalf("the copy takes %d bytes, the original %d", st.Bytes(), bytes)
				}
			},
		})
		st.RemoveGroup(g)
		if st.Bytes() != empty {
			t.Fatalf("%d bytes after the last group, %d before the first", st.Bytes(), empty)
		}
	})
}
