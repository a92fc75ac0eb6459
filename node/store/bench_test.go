package store

import (
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/ring"
)

const benchKeys = 1_000_000

// keyOf writes a 16-byte key for i into dst.
func keyOf(dst []byte, i int) []byte {
	const digits = "0123456789abcdef"
	x := uint64(i) * 0x9e3779b97f4a7c15
	for j := range 16 {
		dst[j] = digits[x>>(4*j)&15]
	}
	return dst[:16]
}

func shardOf(db *DB, key []byte) *Shard { return db.Shard(int(ring.GroupOf(ring.Slot(key)))) }

func filled(b testing.TB, n int, at int64) *DB {
	db := New(Options{Seed: 1})
	b.Cleanup(db.Close)
	fill(db, n, at)
	return db
}

func fill(db *DB, n int, at int64) {
	key, value := make([]byte, 16), []byte("0123456789abcdeF")
	for i := range n {
		k := keyOf(key, i)
		if at != 0 {
			at++
		}
		shardOf(db, k).Set(k, value, at)
	}
}

// each runs fn with keys in a scattered order and the shard of each chosen beforehand, so that the store alone is
// measured.
func each(b *testing.B, n int, at int64, fn func(s *Shard, key []byte)) {
	for _, seeded := range []bool{false, true} {
		name := "maphash"
		if seeded {
			name = "seeded"
		}
		b.Run(name, func(b *testing.B) {
			o := Options{}
			if seeded {
				o.Seed = 1
			}
			db := New(o)
			b.Cleanup(db.Close)
			fill(db, n, at)
			const batch = 1 << 16
			keys, shards := make([]byte, 16*batch), make([]*Shard, batch)
			for i := range batch {
				shards[i] = shardOf(db, keyOf(keys[16*i:], i*7919%n))
			}
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				j := i % batch
				fn(shards[j], keys[16*j:16*j+16])
				i++
			}
		})
	}
}

func BenchmarkFind(b *testing.B) {
	for _, n := range []int{10_000, benchKeys} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			each(b, n, 0, func(s *Shard, k []byte) {
				if r, ok := s.Find(k, 1); !ok || len(r.Value()) != 16 {
					b.Fatal("not found")
				}
			})
		})
	}
}

// BenchmarkGoMap is a yardstick for the machine: a built-in map per group, with the same keys.
func BenchmarkGoMap(b *testing.B) {
	for _, n := range []int{10_000, benchKeys} {
		b.Run(strconv.Itoa(n), func(b *testing.B) {
			var maps [ring.Groups]map[string][16]byte
			for i := range maps {
				maps[i] = map[string][16]byte{}
			}
			key := make([]byte, 16)
			for i := range n {
				k := keyOf(key, i)
				maps[ring.GroupOf(ring.Slot(k))][string(k)] = [16]byte{1}
			}
			const batch = 1 << 16
			keys, of := make([]byte, 16*batch), make([]map[string][16]byte, batch)
			for i := range batch {
				of[i] = maps[ring.GroupOf(ring.Slot(keyOf(keys[16*i:], i*7919%n)))]
			}
			i := 0
			for b.Loop() {
				j := i % batch
				if of[j][string(keys[16*j:16*j+16])][0] != 1 {
					b.Fatal("not found")
				}
				i++
			}
		})
	}
}

func BenchmarkOverwrite(b *testing.B) {
	value := []byte("fedcba9876543210")
	each(b, benchKeys, 0, func(s *Shard, k []byte) { s.Set(k, value, 0) })
}

func BenchmarkOverwriteWithExpiry(b *testing.B) {
	value, at := []byte("fedcba9876543210"), int64(1<<41)
	each(b, benchKeys, 1<<40, func(s *Shard, k []byte) { at++; s.Set(k, value, at) })
}

func BenchmarkFindThenOverwrite(b *testing.B) {
	value := []byte("fedcba9876543210")
	each(b, benchKeys, 0, func(s *Shard, k []byte) { s.Find(k, 1); s.Set(k, value, 0) })
}

func BenchmarkDeleteThenSet(b *testing.B) {
	value := []byte("fedcba9876543210")
	each(b, benchKeys, 0, func(s *Shard, k []byte) { s.Delete(k); s.Set(k, value, 0) })
}

func BenchmarkSetNew(b *testing.B) {
	db := New(Options{})
	b.Cleanup(db.Close)
	key, value := make([]byte, 16), []byte("fedcba9876543210")
	i := 0
	for b.Loop() {
		if i == 4*benchKeys { // keep the memory of a long run bounded
			for g := range ring.Groups {
				db.Shard(g).Flush()
			}
		}
		k := keyOf(key, i)
		shardOf(db, k).Set(k, value, 0)
		i++
	}
}

// BenchmarkMemory prints the resident memory per key beyond key and value, at 1 M keys of 16+16 bytes in 256 shards.
func BenchmarkMemory(b *testing.B) {
	for _, at := range []int64{0, 1 << 41} {
		for _, n := range []int{500_000, 750_000, benchKeys, 1_500_000} {
			b.Run(fmt.Sprintf("ttl=%v/keys=%d", at != 0, n), func(b *testing.B) {
				for b.Loop() { // the time means nothing here
				}
				debug.FreeOSMemory()
				before := resident()
				db := filled(b, n, at)
				runtime.GC()
				debug.FreeOSMemory()
				per := func(bytes int64) float64 { return float64(bytes)/float64(n) - 32 }
				b.ReportMetric(per(resident()-before), "resident-B/key")
				b.ReportMetric(per(db.Used()), "used-B/key")
				b.ReportMetric(per(db.Reserved()), "reserved-B/key")
				b.ReportMetric(0, "ns/op")
			})
		}
	}
}

// resident returns the process's resident memory in bytes, 0 where there is no /proc.
func resident() int64 {
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if f := strings.Fields(line); f[0] == "VmRSS:" {
			kb, _ := strconv.ParseInt(f[1], 10, 64)
			return kb << 10
		}
	}
	return 0
}

// BenchmarkImage copies a shard as large as those of 10 million keys: what a rewrite of the journal holds a group's lock for.
func BenchmarkImage(b *testing.B) {
	db := New(Options{Seed: 1})
	b.Cleanup(db.Close)
	s := db.Shard(0)
	for i := range 10 * benchKeys / ring.Groups {
		k := keyOf(make([]byte, 16), i)
		s.Set(k, k, 0)
	}
	var m Image
	defer m.Close()
	for b.Loop() {
		own, _ := s.ImageSize()
		m.Fit(own)
		m.Take(s)
	}
}
