//go:build e2e

package journal

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/internal/need"
	"hypercache/node/command"
	"hypercache/node/rdb"
	"hypercache/node/ring"
	"hypercache/node/store"
)

// everyType makes keys of every type, small and large.
func everyType(s *store.Shard) {
	for _, n := range []int{1, 70, 1000} {
		name := func(kind string) []byte { return []byte(kind + ":" + strconv.Itoa(n)) }
		s.Set(name("string"), []byte(strings.Repeat("#HC:1 \r\n", n)), 0)
		h := s.NewHash(name("hash"))
		l := s.NewList(name("list"))
		m := s.NewSet(name("set"))
		z := s.NewSortedSet(name("zset"))
		st := s.NewStream(name("stream"))
		group := st.NewGroup([]byte("g"), store.StreamID{Ms: 1}, 0)
		consumer := group.NewConsumer([]byte("c"), 1000)
		for i := range n {
			word := []byte("w" + strconv.Itoa(i))
			h.Set(word, []byte(strconv.Itoa(i*i)))
			l.Insert(i, word)
			m.Add(word)
			z.Set(word, float64(i)/3)
			id := store.StreamID{Ms: uint64(i + 1), Seq: 7}
			st.Add(id, [][]byte{[]byte("field"), word})
			group.Deliver(store.Delivery{ID: id, Time: 1000, Count: 2, Consumer: consumer})
		}
		s.SetExpire(name("hash"), 99999999999999)
	}
}

// readers ask redis-server for a value of each type.
var readers = map[store.Type][]string{
	store.String: {"get"}, store.Hash: {"hgetall"}, store.List: {"lrange", "0", "-1"}, store.Set: {"smembers"},
	store.ZSet:   {"zrange", "0", "-1", "withscores"},
	store.Stream: {"xrange", "-", "+"},
}

// lines is a value as redis-cli shows it, sorted where redis-server has no order.
func lines(t store.Type, out string) string {
	list := strings.Split(strings.TrimSpace(out), "\n")
	if t == store.Hash || t == store.Set {
		slices.Sort(list)
	}
	return strings.Join(list, "\n")
}

func shown(r store.Ref) string {
	var out []string
	switch r.Type() {
	case store.String:
		return strings.TrimSpace(string(r.Value()))
	case store.Hash:
		f := r.Fields()
		f.Each(func(k, v []byte) bool { out = append(out, string(k), string(v)); return true })
	case store.List:
		l := r.Elements()
		l.Each(0, 1, func(_ int, e []byte) bool { out = append(out, string(e)); return true })
	case store.Set:
		m := r.Members()
		m.Each(func(e []byte) bool { out = append(out, string(e)); return true })
	case store.ZSet:
		z := r.SortedSet()
		z.Each(0, 1, func(m []byte, score float64) bool {
			out = append(out, string(m), strconv.FormatFloat(score, 'g', 17, 64))
			return true
		})
	case store.Stream:
		st := r.Stream()
		st.Each(store.StreamID{}, store.MaxStreamID, func(e *store.StreamEntry) bool {
			out = append(out, e.ID.String())
			e.Each(func(field, value []byte) { out = append(out, string(field), string(value)) })
			return true
		})
	}
	return lines(r.Type(), strings.Join(out, "\n"))
}

// TestStockRedisReadsEveryType: as snapshots write it, and as RESTORE's effect does.
func TestStockRedisReadsEveryType(t *testing.T) {
	for _, tool := range []string{"redis-server", "redis-check-aof", "redis-cli"} {
		need.Program(t, tool)
	}
	for _, rewritten := range []bool{false, true} {
		t.Run(fmt.Sprintf("rewritten=%t", rewritten), func(t *testing.T) {
			dir := t.TempDir()
			j, _, _ := mustOpen(t, Options{Dir: dir, Fsync: Always})
			shard := store.New(store.Options{}).Shard(0)
			everyType(shard)
			var groups [ring.Groups]command.Effects
			shard.Range(func(r store.Ref) bool {
				fx := &groups[ring.GroupOf(ring.Slot(r.Key()))]
				command.EncodeEntry(fx, r, func() {})
				value, err := command.AppendValue(nil, r)
				if err != nil {
					t.Fatal(err)
				}
				restored := append([]byte("restored:"), r.Key()...)
				fx = &groups[ring.GroupOf(ring.Slot(restored))]
				fx.Command([]byte("RESTORE"), restored, strconv.AppendInt(nil, r.ExpireAt(), 10), rdb.Seal(value, 0), []byte("REPLACE"), []byte("ABSTTL"))
				return true
			})
			for g := range groups {
				if !rewritten && len(groups[g].Buf) > 0 {
					j.Append(Record{Group: uint16(g), Kind: Effects, Term: 1, Seq: 1, Data: groups[g].Buf})
				}
			}
			if rewritten {
				err := j.Rewrite(t.Context(), func(g int, emit func([]byte) error) (term, seq uint64, err error) {
					return 1, 1, emit(groups[g].Buf)
				})
				if err != nil {
					t.Fatal(err)
				}
			}
			if err := j.Close(true); err != nil {
				t.Fatal(err)
			}
			out, err := exec.Command("redis-check-aof", filepath.Join(dir, aofDir, manifestName)).CombinedOutput()
			if err != nil || !strings.Contains(string(out), "All AOF files and manifest are valid") {
				t.Fatalf("redis-check-aof: %v\n%s", err, out)
			}
			ask := redis(t, dir)
			if got := ask("dbsize"); got != strconv.Itoa(2*shard.Len()) {
				t.Errorf("dbsize %s, want %d", got, 2*shard.Len())
			}
			shard.Range(func(r store.Ref) bool {
				want := shown(r)
				for _, key := range []string{string(r.Key()), "restored:" + string(r.Key())} {
					read := readers[r.Type()]
					if got := lines(r.Type(), ask(append([]string{read[0], key}, read[1:]...)...)); got != want {
						t.Errorf("%s: %.300q, want %.300q", key, got, want)
					}
					if got, want := ask("pexpiretime", key), max(r.ExpireAt(), 0); got != strconv.FormatInt(want, 10) && (want != 0 || got != "-1") {
						t.Errorf("%s expires at %s, want %d", key, got, want)
					}
					if r.Type() != store.Stream {
						continue
					}
					st := r.Stream()
					want := fmt.Sprintf("%d\n%v\n%v\nc\n%d", st.Len(), st.First(), st.Top(), st.Len())
					if got := ask("xpending", key, "g"); got != want {
						t.Errorf("%s has pending %q, want %q", key, got, want)
					}
				}
				return true
			})
		})
	}
}
