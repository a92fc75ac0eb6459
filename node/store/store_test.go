package store

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"runtime"
	"runtime/debug"
	"strings"
	"sync"
	"testing"

	"hypercache/node/ring"
)

func TestSteadyStateAllocatesNothing(t *testing.T) {
	db := newDB(t, Options{})
	s := db.Shard(1)
	for i := range 5000 {
		s.Set(fmt.Appendf(nil, "key:%d", i), []byte("value"), int64(i%2)*1_000_000)
	}
	key, other, value, long := []byte("key:77"), []byte("key:new"), []byte("other"), bytes.Repeat([]byte("x"), 200)
	rng := rand.New(rand.NewPCG(1, 2))
	for name, op := range map[string]func(){
		"find":         func() { s.Find(key, 1); s.Find(other, 1); s.Peek(key) },
		"overwrite":    func() { s.Set(key, value, 2_000_000) },
		"change size":  func() { s.Set(key, long, 0); s.Set(key, value, 0) },
		"set, delete":  func() { s.Set(other, value, 5000); s.Delete(other) },
		"expire":       func() { s.SetExpire(key, 7000); s.SetExpire(key, 0) },
		"append":       func() { s.Set(key, value, 0); s.Append(key, value); s.SetRange(key, 90, value) },
		"look for old": func() { s.Expired(5, 10, func([]byte) {}) },
		"scan":         func() { s.Scan(0, 10, func(Ref) {}) },
		"random":       func() { s.Random(rng) },
		"only entry": func() {
			alone := db.Shard(9)
			alone.Set(key, value, 9000)
			alone.Delete(key)
		},
	} {
		op()
		if n := testing.AllocsPerRun(200, op); n != 0 {
			t.Errorf("%s allocates %v times", name, n)
		}
	}
}

func TestUsedGoesBackToZeroAndFollowsWhatIsReserved(t *testing.T) {
	for _, size := range []int{0, 16, 100, 700, 3000, 9000} {
		db := newDB(t, Options{})
		n := min(200_000, 24<<20/(size+30))
		value := make([]byte, size)
		key := make([]byte, 16)
		for i := range n {
			k := keyOf(key, i)
			shardOf(db, k).Set(k, value, int64(i%3))
		}
		used, reserved := db.Used(), db.Reserved()
		data := int64(n * (16 + size))
		if used < data || used > reserved+ring.Groups*pageSize || float64(reserved) > 1.08*float64(used)+ring.Groups*36_000 {
			t.Errorf("size %d: data %d, used %d, reserved %d", size, data, used, reserved)
		}
		var sum int64
		for g := range ring.Groups {
			sum += db.Shard(g).Bytes()
		}
		if d := sum - used; d < -ring.Groups*pageSize || d > ring.Groups*pageSize {
			t.Errorf("size %d: shards use %d, DB counts %d", size, sum, used)
		}
		for i := range n {
			k := keyOf(key, i)
			if !shardOf(db, k).Delete(k) {
				t.Fatalf("%s is missing", k)
			}
		}
		if db.Used() != 0 || db.Reserved() != 0 {
			t.Errorf("size %d: %d used and %d reserved without keys", size, db.Used(), db.Reserved())
		}
	}
}

// flush empties the shard and waits for its memory.
func flush(s *Shard) {
	s.Flush()
	for s.Reclaim(1000) {
	}
}

func TestFlushGivesResidentMemoryBack(t *testing.T) {
	db := newDB(t, Options{})
	fill(db, 10, 0)
	big := bytes.Repeat([]byte("x"), 32<<20)
	debug.FreeOSMemory()
	before := resident()
	if before == 0 {
		return // no /proc to ask; the accounting tests cover what is portable
	}
	fill(db, 400_000, 0)
	fill(db, 400_000, 1<<40)
	db.Shard(0).Set([]byte("big"), big, 0)
	grown := resident() - before
	for g := range ring.Groups {
		flush(db.Shard(g))
	}
	debug.FreeOSMemory()
	if left := resident() - before; grown < 50<<20 || left > 8<<20 || db.Used() != 0 || db.Reserved() != 0 {
		t.Errorf("%d bytes of %d stay resident, %d used, %d reserved", left, grown, db.Used(), db.Reserved())
	}
	runtime.KeepAlive(big)
}

func TestEmptyDBTakesNoPages(t *testing.T) {
	if db := newDB(t, Options{}); db.Used() != 0 || db.Reserved() != 0 || len(db.heap.order) != 0 {
		t.Error("an empty DB holds memory")
	}
}

func TestKeysAndValuesOfAllSizesComeBack(t *testing.T) {
	s := newDB(t, Options{}).Shard(2)
	rng := rand.New(rand.NewPCG(3, 4))
	text := func(n int) []byte {
		b := make([]byte, 251) // prime, so that pages differ
		for i := range b {
			b[i] = byte(rng.Uint32())
		}
		return bytes.Repeat(b, n/251+1)[:n]
	}
	for _, at := range []int64{0, 1 << 40} {
		for _, klen := range []int{0, 1, 16, 255, 256, 65535, 65536, 1 << 20} {
			for _, vlen := range []int{0, 1, 255, 256, 8160, 8192, 65535, 65536, maxRun * pageSize, 5 << 20, 32 << 20} {
				if klen > 256 && vlen > 1<<20 && vlen != 5<<20 {
					continue
				}
				k, v := text(klen), text(vlen)
				s.Set(k, v, at)
				r, ok := s.Find(k, 1)
				if !ok || !bytes.Equal(r.Key(), k) || !bytes.Equal(r.Value(), v) || r.ExpireAt() != at {
					t.Fatalf("key of %d with value of %d bytes does not come back", klen, vlen)
				}
				if n := s.Append(k, []byte("tail")); n != vlen+4 {
					t.Fatalf("append to %d = %d", vlen, n)
				}
				if r, _ = s.Find(k, 1); !bytes.Equal(r.Value()[:vlen], v) || string(r.Value()[vlen:]) != "tail" {
					t.Fatalf("append to %d bytes spoils them", vlen)
				}
			}
			check(t, s)
		}
	}
}

func TestAppendingIsAmortised(t *testing.T) {
	db := newDB(t, Options{})
	s := db.Shard(0)
	moves := 0
	var last uint32
	for range 100_000 {
		s.Append([]byte("log"), []byte("0123456789"))
		_, at, _ := s.find([]byte("log"), db.hash([]byte("log")))
		if ref := at.b.refs[at.i]; ref != last {
			moves++
			last = ref
		}
		if capacity := s.slab.capacity(last); capacity > 64 && float64(capacity) > 1.27*float64(s.Len()*10)+1.27*1e6 {
			t.Fatalf("%d bytes reserved", capacity)
		}
	}
	if moves > 120 {
		t.Errorf("100,000 appends moved the value %d times", moves)
	}
}

func TestEncodingFollowsRedis(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	for value, want := range map[string]string{
		"0": "int", "-1": "int", "12345": "int", "9223372036854775807": "int", "-9223372036854775808": "int",
		"9223372036854775808": "embstr", "-9223372036854775809": "embstr", "": "embstr", "-": "embstr", "-0": "embstr",
		"01": "embstr", "+1": "embstr", " 1": "embstr", "1.0": "embstr", "a": "embstr",
		strings.Repeat("a", 44): "embstr", strings.Repeat("a", 45): "raw",
	} {
		s.Set([]byte("k"), []byte(value), 0)
		if r, _ := s.Peek([]byte("k")); r.Encoding() != want {
			t.Errorf("%q is %s, want %s", value, r.Encoding(), want)
		}
		s.Append([]byte("k"), []byte("1"))
		s.SetExpire([]byte("k"), 1<<40) // moves the entry
		if r, _ := s.Peek([]byte("k")); r.Encoding() != "raw" {
			t.Errorf("%q after APPEND is %s", value, r.Encoding())
		}
	}
}

func TestExpiredFindsExactlyWhatHasExpired(t *testing.T) {
	s := newDB(t, Options{}).Shard(0)
	const start = 1_700_000_000_000
	for i := range 10_000 {
		s.Set(fmt.Appendf(nil, "k:%d", i), nil, start+int64(i*37%10_000))
	}
	for i := range 10_000 { // sessions that were prolonged; their place in the heap is still the old one
		if i%2 == 0 {
			s.SetExpire(fmt.Appendf(nil, "k:%d", i), start+50_000)
		}
	}
	if s.Expires() != 10_000 {
		t.Fatalf("expires %d", s.Expires())
	}
	var keys [][]byte
	for now := int64(start); now <= start+10_000; now += 500 {
		for {
			keys = keys[:0]
			s.Expired(now, 20, func(k []byte) { keys = append(keys, bytes.Clone(k)) })
			if len(keys) == 0 {
				break
			}
			for _, k := range keys {
				if r, ok := s.Peek(k); !ok || r.ExpireAt() > now {
					t.Fatalf("%s reported at %d", k, now)
				}
				s.Delete(k)
			}
		}
		s.Range(func(r Ref) bool {
			if r.ExpireAt() <= now {
				t.Fatalf("%s expired at %d and is there at %d", r.Key(), r.ExpireAt(), now)
			}
			return true
		})
	}
	if check(t, s); s.Len() != 5000 || s.Expires() != 5000 {
		t.Errorf("%d left, %d with an expiry", s.Len(), s.Expires())
	}
}

func TestFreedBlocksAreReusedAndSparseSpansGiveTheirPagesBack(t *testing.T) {
	db := newDB(t, Options{})
	s := db.Shard(0)
	set := func(n, size int) {
		for i := range n {
			s.Set(fmt.Appendf(nil, "k:%d", i), make([]byte, size), int64(i%2)<<40)
		}
	}
	set(20_000, 50)
	full := db.Reserved()
	set(20_000, 50)
	if db.Reserved() != full {
		t.Errorf("overwriting took memory: %d, then %d", full, db.Reserved())
	}
	rng := rand.New(rand.NewPCG(1, 1))
	for _, i := range rng.Perm(20_000)[:16_000] { // one in five stays, spread over all pages
		s.Delete(fmt.Appendf(nil, "k:%d", i))
	}
	check(t, s)
	if db.Reserved() > db.Used()*16/10 {
		t.Errorf("%d reserved for %d used", db.Reserved(), db.Used())
	}
}

func TestRandomIsUniform(t *testing.T) {
	s := newDB(t, Options{Seed: 5}).Shard(0)
	rng := rand.New(rand.NewPCG(7, 7))
	if _, ok := s.Random(rng); ok {
		t.Error("an entry from an empty shard")
	}
	const keys, draws = 1000, 200_000 // two segments or three of different depth
	for i := range keys {
		s.Set(fmt.Appendf(nil, "%d", i), nil, 0)
	}
	got := map[string]int{}
	for range draws {
		r, _ := s.Random(rng)
		got[string(r.Key())]++
	}
	chi := 0.0
	for i := range keys {
		d := float64(got[fmt.Sprint(i)]) - draws/keys
		chi += d * d / (draws / keys)
	}
	if chi > keys+6*45 { // mean 999, deviation 45
		t.Errorf("chi squared %f of %d keys", chi, keys)
	}
	for i := 1; i < keys; i++ {
		s.Delete(fmt.Appendf(nil, "%d", i))
	}
	if r, ok := s.Random(rng); !ok || string(r.Key()) != "0" {
		t.Error("the last entry is not found")
	}
}

func TestSlotsAreTold(t *testing.T) {
	db := newDB(t, Options{})
	slot := ring.Slot([]byte("{tag}"))
	s := db.Shard(int(ring.GroupOf(slot)))
	for i := range 10 {
		s.Set(fmt.Appendf(nil, "{tag}%d", i), nil, 0)
	}
	if s.SlotLen(slot) != 10 || s.SlotLen(slot^1) != 0 || len(s.SlotKeys(slot, 4)) != 4 || len(s.SlotKeys(slot, 99)) != 10 {
		t.Error("wrong keys in the slot")
	}
}

func TestShardsShareThePageHeapSafely(t *testing.T) {
	db := newDB(t, Options{MaxMemory: 1})
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			s, rng := db.Shard(g), rand.New(rand.NewPCG(uint64(g), 0))
			for i := range 20_000 {
				s.Set(fmt.Appendf(nil, "%d", rng.IntN(3000)), make([]byte, rng.IntN(1<<rng.IntN(15))), int64(i))
				if rng.IntN(5000) == 0 {
					s.Flush()
				}
				if i%1000 == 0 && s.Len() > 0 && db.Used() > 1<<20 && !db.OverLimit() {
					t.Error("not over the limit")
				}
			}
		})
	}
	wg.Wait()
	for g := range 8 {
		check(t, db.Shard(g))
		flush(db.Shard(g))
	}
	if db.Used() != 0 || db.Reserved() != 0 {
		t.Errorf("%d used, %d reserved", db.Used(), db.Reserved())
	}
}

// A node evicts by what Used says, so close to the limit it must miss nothing, whichever shard it is that changes.
func TestUsedIsExactCloseToTheLimit(t *testing.T) {
	const limit = exactWithin + 8<<20
	db := newDB(t, Options{MaxMemory: limit, Policy: AllKeysRandom})
	rng := rand.New(rand.NewPCG(1, 2))
	key := func() []byte { return fmt.Appendf(nil, "key:%d", rng.IntN(1<<20)) }
	for !db.OverLimit() {
		db.Shard(rng.IntN(ring.Groups)).Set(key(), make([]byte, rng.IntN(100)), 0)
	}
	for range 10_000 {
		s, k := db.Shard(rng.IntN(ring.Groups)), key()
		if s.Set(k, make([]byte, rng.IntN(100)), 0); rng.IntN(2) == 0 {
			s.Delete(k)
		}
		if used, exact := db.Used(), exactUsed(db); used != exact {
			t.Fatalf("%d bytes are used, %d are known of", exact, used)
		}
	}
	// A limit that comes down to what is used is known exactly once the shards were told of it.
	db = newDB(t, Options{})
	for range 20_000 {
		db.Shard(rng.IntN(ring.Groups)).Set(key(), make([]byte, 20), 0)
	}
	if db.Used() == exactUsed(db) {
		t.Fatal("far from the limit, every write is reported: the processors share a word for nothing")
	}
	db.SetMaxMemory(db.Used())
	for g := range ring.Groups {
		db.Shard(g).Reclaim(1)
	}
	if used, exact := db.Used(), exactUsed(db); used != exact {
		t.Fatalf("%d bytes are used, %d are known of", exact, used)
	}
}
