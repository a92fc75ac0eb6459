package command

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"
)

var _ = addGrammar(`
SETBIT K BO (0|1|0|1|2|x)
SETBIT K BO (0|1)
GETBIT K BO
BITCOUNT K
BITCOUNT K BN BN
BITCOUNT K BN BN (BIT|BYTE|foo)
BITCOUNT K BN (BN|)
BITPOS K (0|1|2|x)
BITPOS K (0|1) BN
BITPOS K (0|1) BN BN
BITPOS K (0|1) BN BN (BIT|BYTE|foo)
BITPOS K (0|1) BN BN BIT
BITOP (AND|OR|XOR|NOT|foo) K K K
BITOP (AND|OR|XOR) K K K K
BITOP NOT K K
BITFIELD K GET BT BF
BITFIELD K SET BT BF BV
BITFIELD K INCRBY BT BF BV
BITFIELD K OVERFLOW (WRAP|SAT|FAIL) INCRBY BT BF BV INCRBY BT BF BV
BITFIELD K OVERFLOW (WRAP|SAT|FAIL|foo) SET BT BF BV GET BT BF OVERFLOW (SAT|FAIL) INCRBY BT BF BV
BITFIELD K OVERFLOW FAIL SET BT BF BV INCRBY BT BF BV
BITFIELD K SET BT BF BV INCRBY BT BF BV SET BT BF BV GET BT BF
BITFIELD K
BITFIELD K (GET|SET|INCRBY|OVERFLOW|foo) BT BF
BITFIELD_RO K GET BT BF GET BT BF
BITFIELD_RO K (GET|SET|INCRBY) BT BF
BITFIELD_RO K SET BT BF BV
`, map[string][]string{
	"BO": {"0", "1", "7", "8", "9", "23", "100", "-1", "x", "4294967296", "#1"},
	"BN": {"0", "1", "2", "3", "7", "8", "9", "30", "100", "-1", "-2", "-9", "-100", "x", "9223372036854775807", "-9223372036854775808"},
	"BT": {"i1", "u1", "i2", "u2", "i8", "u8", "i15", "u31", "i63", "u63", "i64", "u64", "i65", "i0", "x", "I8", "u"},
	"BF": {"0", "1", "3", "7", "8", "31", "100", "#0", "#1", "#2", "-1", "#", "#-1", "x", "4294967296", "#9223372036854775807"},
	"BV": {"0", "1", "-1", "2", "5", "100", "127", "128", "255", "-128", "-129", "9223372036854775807", "-9223372036854775808", "4611686018427387904", "x"},
})

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
