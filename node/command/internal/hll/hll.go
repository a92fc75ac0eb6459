// Package hll holds HyperLogLogs in the bytes in which redis-server holds them, so that the value of a key may come from
// there and go there: 16,384 registers of 6 bits behind a header of 16 bytes.
//
//	"HYLL" encoding 0 0 0 cardinality×8 (little endian; the top bit says that it is out of date)
//
// A dense value has the registers in a row, the low bits first. A sparse one has runs of them:
//
//	00llllll           l+1 registers of 0 (ZERO)
//	01llllll llllllll  l+1 registers of 0 (XZERO)
//	1vvvvvll           l+1 registers of v+1 (VAL)
//
// It owns that format, the hash of elements, and the estimate. It refuses to store the estimate in the header, as Redis does
// when it counts: a read would become a write. It leaves keys, effects and replies to others.
package hll

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
)

// Registers is how many there are.
const Registers = 1 << indexBits

const (
	indexBits = 14
	hashBits  = 64 - indexBits // those that are counted in

	headerSize = 16
	denseSize  = headerSize + Registers*6/8

	// sparseMax is the size up to which a value stays sparse, Redis' hll-sparse-max-bytes. It is fixed, since every node that
	// repeats an addition has to come to the same bytes.
	sparseMax = 3000
	// sparseMaxValue is the largest value of a register in a sparse value.
	sparseMaxValue = 32

	encodingAt    = 4
	cardinalityAt = 8
	staleAt       = 15
	staleBit      = 0x80
)

// The encodings, as the header has them.
const (
	Dense  = 0
	Sparse = 1
)

// ErrCorrupt says that the runs of a sparse value are not those of all registers.
var ErrCorrupt = errors.New("corrupt HyperLogLog")

// New appends an empty value to dst.
func New(dst []byte) []byte {
	dst = append(dst, "HYLL\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00"...)
	return appendZeros(dst, Registers)
}

// Valid reports whether b looks like a HyperLogLog. The runs of a sparse one are looked at when they are used.
func Valid(b []byte) bool {
	return len(b) >= headerSize && string(b[:4]) == "HYLL" && b[encodingAt] <= Sparse &&
		(b[encodingAt] != Dense || len(b) == denseSize)
}

// Encoding is Dense or Sparse.
func Encoding(b []byte) int { return int(b[encodingAt]) }

// Forget marks the cardinality in the header as out of date.
func Forget(b []byte) { b[staleAt] |= staleBit }

// place is the register of an element, and the value that the element gives it.
func place(element []byte) (register int, value byte) {
	h := murmur(element)
	return int(h & (Registers - 1)), byte(bits.TrailingZeros64(h>>indexBits|1<<hashBits) + 1)
}

// murmur is MurmurHash64A with Redis' seed.
func murmur(b []byte) uint64 {
	const (
		m    = 0xc6a4a7935bd1e995
		seed = 0xadc83b19
	)
	h := seed ^ uint64(len(b))*m
	for ; len(b) >= 8; b = b[8:] {
		k := binary.LittleEndian.Uint64(b) * m
		h = (h ^ (k^k>>47)*m) * m
	}
	if len(b) > 0 {
		for i, c := range b {
			h ^= uint64(c) << (8 * i)
		}
		h *= m
	}
	h = (h ^ h>>47) * m
	return h ^ h>>47
}

// Add adds an element to the value b, which it may change or replace, and reports whether that changed a register.
func Add(b, element []byte) (after []byte, changed bool, err error) {
	register, value := place(element)
	return raise(b, register, value)
}

// raise gives a register a value unless it has a larger one.
func raise(b []byte, register int, value byte) (after []byte, changed bool, err error) {
	if Encoding(b) == Dense {
		changed = raiseDense(b, register, value)
		return b, changed, nil
	}
	return raiseSparse(b, register, value)
}

func raiseDense(b []byte, register int, value byte) bool {
	if denseAt(b, register) >= value {
		return false
	}
	at, shift := bitAt(register)
	b[at] = b[at]&^(63<<shift) | value<<shift
	if shift > 2 {
		b[at+1] = b[at+1]&^(63>>(8-shift)) | value>>(8-shift)
	}
	return true
}

// bitAt is the byte that a register begins in, and its lowest bit there.
func bitAt(register int) (at int, shift uint) {
	bit := register * 6
	return headerSize + bit/8, uint(bit % 8)
}

func denseAt(b []byte, register int) byte {
	at, shift := bitAt(register)
	v := b[at] >> shift
	if shift > 2 {
		v |= b[at+1] << (8 - shift)
	}
	return v & 63
}

// Probe is what adding an element to a dense value changes: the bytes at an offset, none if nothing.
func Probe(b, element []byte) (at int, change [2]byte, n int) {
	register, value := place(element)
	if denseAt(b, register) >= value {
		return 0, change, 0
	}
	at, shift := bitAt(register)
	n = copy(change[:], b[at:])
	change[0] = change[0]&^(63<<shift) | value<<shift
	if shift > 2 {
		change[1] = change[1]&^(63>>(8-shift)) | value>>(8-shift)
	}
	return at, change, n
}

// Stale returns the offset and value of the header's byte by which Forget marks b.
func Stale(b []byte) (at int, value byte) { return staleAt, b[staleAt] | staleBit }

// Maxima are the largest values of the registers of several HyperLogLogs.
type Maxima [Registers]byte

// Merge takes in the registers of b.
func (m *Maxima) Merge(b []byte) error {
	if Encoding(b) == Dense {
		for i := range m {
			m[i] = max(m[i], denseAt(b, i))
		}
		return nil
	}
	return eachRun(b, func(first, n int, value byte) {
		for i := first; i < first+n; i++ {
			m[i] = max(m[i], value)
		}
	})
}

// Raise gives the registers of b, which it may change or replace, at least these values.
func (m *Maxima) Raise(b []byte) (after []byte, err error) {
	for i, value := range m {
		if value == 0 {
			continue
		}
		if b, _, err = raise(b, i, value); err != nil {
			return b, err
		}
	}
	return b, nil
}

// Count is the estimate for the union that m stands for.
func (m *Maxima) Count() uint64 {
	var h histogram
	for _, value := range m {
		h[value]++
	}
	return h.estimate()
}

// Count is the estimate of the number of elements that were added: the one in the header if it is up to date.
func Count(b []byte) (uint64, error) {
	if b[staleAt]&staleBit == 0 {
		return binary.LittleEndian.Uint64(b[cardinalityAt:]), nil
	}
	var h histogram
	if Encoding(b) == Dense {
		for i := range Registers {
			h[denseAt(b, i)]++
		}
		return h.estimate(), nil
	}
	err := eachRun(b, func(_, n int, value byte) { h[value] += n })
	return h.estimate(), err
}

// histogram is how many registers have each value.
type histogram [64]int

// estimate is the estimator of Otmar Ertl, "New cardinality estimation algorithms for HyperLogLog sketches"
// (arXiv:1702.01284), algorithm 6.
func (h *histogram) estimate() uint64 {
	const (
		m     = float64(Registers)
		alpha = 0.721347520444481703680 // 1 / (2 ln 2)
	)
	z := m * tau((m-float64(h[hashBits+1]))/m)
	for k := hashBits; k >= 1; k-- {
		z = (z + float64(h[k])) * 0.5
	}
	z += float64(m * sigma(float64(h[0])/m))
	n := math.Round(alpha * m * m / z)
	if n < 0 || n >= 1<<63 {
		return 1 << 63 // only bytes that no elements make come here
	}
	return uint64(n)
}

func sigma(x float64) float64 {
	if x == 1 {
		return math.Inf(1)
	}
	for y, z := 1.0, x; ; y += y {
		x *= x
		before := z
		if z += float64(x * y); z == before {
			return z
		}
	}
}

func tau(x float64) float64 {
	if x == 0 || x == 1 {
		return 0
	}
	for y, z := 0.5, 1-x; ; y *= 0.5 {
		x = math.Sqrt(x)
		before := z
		if z -= float64(float64((1-x)*(1-x)) * y); z == before {
			return z / 3
		}
	}
}

// ToDense appends to dst the dense value that has the registers and the header of b.
func ToDense(dst, b []byte) ([]byte, error) {
	start := len(dst)
	dst = append(dst, make([]byte, denseSize)...)
	dense := dst[start:]
	copy(dense, b[:headerSize])
	dense[encodingAt] = Dense
	err := eachRun(b, func(first, n int, value byte) {
		for i := first; i < first+n && value > 0; i++ {
			raiseDense(dense, i, value)
		}
	})
	return dst, err
}

// Values appends the registers of a dense value.
func Values(dst, b []byte) []byte {
	for i := range Registers {
		dst = append(dst, denseAt(b, i))
	}
	return dst
}
