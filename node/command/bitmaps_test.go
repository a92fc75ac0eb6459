package command

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

// TestLongBitmapsAreCountedAndSearchedByTheWord compares the fast ways with the plain ones.
func TestLongBitmapsAreCountedAndSearchedByTheWord(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	for range 2000 {
		p := make([]byte, 1+rng.IntN(200))
		fill := byte(rng.IntN(2) * 0xff)
		for i := range p {
			if p[i] = fill; rng.IntN(40) == 0 {
				p[i] = byte(rng.Uint32())
			}
		}
		a, b := rng.Int64N(int64(len(p))*8), rng.Int64N(int64(len(p))*8)
		r := bitRange{min(a, b), max(a, b)}
		ones, first := int64(0), [2]int64{-1, -1}
		for at := r.last; at >= r.first; at-- {
			bit := p[at>>3] >> (7 - at&7) & 1
			ones += int64(bit)
			first[bit] = at
		}
		if got := countRange(p, r); got != ones {
			t.Fatalf("%x %v: %d ones, not %d", p, r, got, ones)
		}
		for bit, want := range first {
			if got := findBit(p, byte(bit), r); got != want {
				t.Fatalf("%x %v: the first %d is at %d, not %d", p, r, bit, got, want)
			}
		}
	}
}

func TestBitOpsOfLongStringsOfUnequalLengths(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	ops := map[string]func(a, b byte) byte{
		"and": func(a, b byte) byte { return a & b }, "or": func(a, b byte) byte { return a | b }, "xor": func(a, b byte) byte { return a ^ b },
	}
	for range 500 {
		sources := make([][]byte, 1+rng.IntN(4))
		size := 0
		for i := range sources {
			sources[i] = make([]byte, rng.IntN(100))
			for j := range sources[i] {
				sources[i][j] = byte(rng.Uint32())
			}
			size = max(size, len(sources[i]))
		}
		at := func(i, j int) byte {
			if j < len(sources[i]) {
				return sources[i][j]
			}
			return 0
		}
		for name, op := range ops {
			want := make([]byte, size)
			for j := range want {
				want[j] = at(0, j)
				for i := range sources[1:] {
					want[j] = op(want[j], at(i+1, j))
				}
			}
			if got := combine(name, sources); !bytes.Equal(got, want) {
				t.Fatalf("%s of %x: %x, not %x", name, sources, got, want)
			}
		}
	}
}

func TestLongBitFieldsHaveShortEffects(t *testing.T) {
	h := newHarness(t, false)
	h.keep = true
	words := []string{"BITFIELD", "k"}
	for i := range 2000 {
		words = append(words, "OVERFLOW", []string{"SAT", "FAIL", "WRAP"}[i/700], "INCRBY", "i5", strconv.Itoa(i*7), "11", "SET", "u3", strconv.Itoa(i), "9")
	}
	h.exec(h.open(1, "a", "b"), bytesOf(words))
	h.checkReplica()
	for _, effect := range effectsOf(h) {
		if len(effect) > 1000 {
			t.Errorf("%d words", len(effect))
		}
	}
}

func TestBitmapsAreBounded(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	for _, request := range []string{"SETBIT k 4294967296 1", "BITFIELD k SET u8 4294967289 1", "BITFIELD k SET u8 4294967296 1"} {
		if got := string(h.exec(self, bytesOf(strings.Fields(request)))); got != "-"+errBitOffset+"\r\n" {
			t.Errorf("%s: %q", request, got)
		}
	}
}
