package hll

import (
	"encoding/binary"
	"math"
	"math/rand/v2"
	"testing"
)

func numbered(n uint64) []byte { return binary.LittleEndian.AppendUint64(nil, n) }

func TestEstimatesAreNear(t *testing.T) {
	b := New(nil)
	var err error
	for n := 1; n <= 200_000; n++ {
		if b, _, err = Add(b, numbered(uint64(n))); err != nil {
			t.Fatal(err)
		}
		if n&(n-1) != 0 {
			continue
		}
		Forget(b)
		got, err := Count(b)
		if off := math.Abs(float64(got) - float64(n)); err != nil || off > 0.03*float64(n)+1 {
			t.Errorf("%d elements are counted as %d, %v", n, got, err)
		}
	}
	if Encoding(b) != Dense {
		t.Error("200,000 elements are not dense")
	}
}

func TestSparseAndDenseHoldTheSameRegisters(t *testing.T) {
	sparse := New(nil)
	dense, _ := ToDense(nil, sparse)
	for n := range uint64(900) {
		var err error
		if sparse, _, err = Add(sparse, numbered(n)); err != nil {
			t.Fatal(err)
		}
		at, change, size := Probe(dense, numbered(n))
		copy(dense[at:], change[:size])
	}
	if Encoding(sparse) != Sparse {
		t.Fatal("900 elements are not sparse")
	}
	got, err := ToDense(nil, sparse)
	if err != nil || string(Values(nil, got)) != string(Values(nil, dense)) {
		t.Errorf("the registers differ, %v", err)
	}
}

// TestRegistersDoNotTouchTheirNeighbors covers each place of a register in its bytes.
func TestRegistersDoNotTouchTheirNeighbors(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	b, _ := ToDense(nil, New(nil))
	var want Maxima
	for range 200_000 {
		i, v := rng.IntN(Registers), byte(rng.IntN(64))
		if raiseDense(b, i, v) != (v > want[i]) {
			t.Fatalf("register %d, %d over %d", i, v, want[i])
		}
		want[i] = max(want[i], v)
	}
	if string(Values(nil, b)) != string(want[:]) {
		t.Error("registers are not what they were set to")
	}
}

// FuzzCorruptValues feeds everything that looks like a HyperLogLog: nothing may panic.
func FuzzCorruptValues(f *testing.F) {
	f.Add(New(nil), []byte("a"))
	f.Add([]byte("HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80inf"), []byte("41"))
	f.Add([]byte("HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x80\x7f\xfe\xff\xff\xff\x83"), []byte("b"))
	f.Fuzz(func(t *testing.T, b, element []byte) {
		if !Valid(b) {
			return
		}
		b = append([]byte{}, b...)
		Count(b)
		if Encoding(b) == Sparse {
			AppendRuns(nil, b)
		}
		var m Maxima
		m.Merge(b)
		m.Count()
		for i := range 50 {
			after, _, err := Add(b, append(element, byte(i)))
			if err != nil {
				return
			}
			b = after
		}
		m.Raise(b)
		if !Valid(b) {
			t.Fatalf("%q is no longer valid", b)
		}
	})
}
