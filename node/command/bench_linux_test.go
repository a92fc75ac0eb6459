package command

import (
	"bytes"
	"runtime"
	"testing"

	"golang.org/x/sys/unix"
)

// measure runs op and reports the processor's time for it, which a busy machine does not change as much as the clock's.
func measure(b *testing.B, op func()) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	b.ReportAllocs()
	start := threadTime(b)
	for b.Loop() {
		op()
	}
	b.ReportMetric(float64(threadTime(b)-start)/float64(b.N), "cpu-ns/op")
}

func threadTime(b *testing.B) int64 {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		b.Fatal(err)
	}
	return t.Nano()
}

func BenchmarkCommand(b *testing.B) {
	ctx, requests := hot()
	for _, name := range []string{"GET", "SET", "INCR"} {
		b.Run(name, func(b *testing.B) {
			args := requests[name]
			measure(b, func() { ctx.do(args) })
		})
	}
}

func BenchmarkLookup(b *testing.B) {
	for _, name := range []string{"GET", "incrbyfloat"} {
		b.Run(name, func(b *testing.B) {
			word := []byte(name)
			measure(b, func() { Lookup(word) })
		})
	}
}

// BenchmarkStore is what the same work costs in the store alone.
func BenchmarkStore(b *testing.B) {
	s := newShard()
	key, value := []byte("key:000000000001"), []byte("xxxxxxxx")
	s.Set(key, value, 0)
	b.Run("Find", func(b *testing.B) {
		measure(b, func() { s.Find(key, 1) })
	})
	b.Run("Set", func(b *testing.B) {
		measure(b, func() { s.Set(key, value, 0) })
	})
}

func BenchmarkApply(b *testing.B) {
	s := newShard()
	for _, words := range [][]string{{"SET", "key:000000000001", "xxxxxxxx"}, {"INCRBY", "counter:000000000001", "1"}} {
		fx := &Effects{}
		fx.Strings(words...)
		b.Run(words[0], func(b *testing.B) {
			measure(b, func() {
				if err := Apply(s, fx.Buf); err != nil {
					b.Fatal(err)
				}
			})
		})
	}
}

func BenchmarkBitmaps(b *testing.B) {
	p, q := bytes.Repeat([]byte{0x5a}, 1<<20), make([]byte, 1<<20)
	b.Run("count", func(b *testing.B) { b.SetBytes(1 << 20); measure(b, func() { popCount(p) }) })
	b.Run("find", func(b *testing.B) {
		b.SetBytes(1 << 20)
		measure(b, func() { findBit(q, 1, bitRange{0, 1<<23 - 1}) })
	})
	for _, op := range []string{"and", "or", "xor", "not"} {
		b.Run(op, func(b *testing.B) { b.SetBytes(1 << 20); measure(b, func() { combine(op, [][]byte{p, q}) }) })
	}
}
