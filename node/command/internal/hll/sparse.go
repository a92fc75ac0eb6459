package hll

import "strconv"

const (
	maxZeros  = 64        // registers of a ZERO
	maxXZeros = Registers // of an XZERO
	maxValues = 4         // of a VAL
)

// run is one of the runs of a sparse value.
type run struct {
	size  int // bytes
	n     int // registers
	value byte
}

// runAt reads the run at b[at]; a byte that is missing at the end counts as 0.
func runAt(b []byte, at int) run {
	c := b[at]
	switch {
	case c&0x80 != 0:
		return run{1, int(c&3) + 1, c>>2&31 + 1}
	case c&0x40 == 0:
		return run{1, int(c) + 1, 0}
	case at+1 < len(b):
		return run{2, int(c&0x3f)<<8 + int(b[at+1]) + 1, 0}
	}
	return run{2, int(c&0x3f)<<8 + 1, 0}
}

// eachRun calls fn with the runs of a sparse value. It fails if they are not those of all registers.
func eachRun(b []byte, fn func(first, n int, value byte)) error {
	first := 0
	for at := headerSize; at < len(b); {
		r := runAt(b, at)
		if first+r.n > Registers {
			return ErrCorrupt
		}
		fn(first, r.n, r.value)
		first += r.n
		at += r.size
	}
	if first != Registers {
		return ErrCorrupt
	}
	return nil
}

func appendZeros(b []byte, n int) []byte {
	switch {
	case n == 0:
		return b
	case n <= maxZeros:
		return append(b, byte(n-1))
	}
	return append(b, 0x40|byte((n-1)>>8), byte(n-1))
}

func appendValues(b []byte, value byte, n int) []byte {
	if n == 0 {
		return b
	}
	return append(b, 0x80|(value-1)<<2|byte(n-1))
}

// raiseSparse is raise for a sparse value, which becomes dense if it has to. It comes to the same bytes as Redis: the run of
// the register is split, and what touches the place is joined.
func raiseSparse(b []byte, register int, value byte) (after []byte, changed bool, err error) {
	if value > sparseMaxValue {
		return promote(b, register, value)
	}
	first, at, before := 0, headerSize, headerSize
	var r run
	for ; at < len(b); at += r.size {
		if r = runAt(b, at); register < first+r.n {
			break
		}
		first += r.n
		before = at
	}
	if at >= len(b) {
		return b, false, ErrCorrupt
	}
	if r.value >= value {
		return b, false, nil
	}
	var room [5]byte
	pieces := split(room[:0], r, register-first, value)
	if grow := len(pieces) - r.size; grow > 0 && len(b)+grow > sparseMax {
		return promote(b, register, value)
	}
	b = replace(b, at, at+r.size, pieces)
	b = join(b, before)
	Forget(b)
	return b, true, nil
}

// split appends a run whose register at place i has another value.
func split(dst []byte, r run, i int, value byte) []byte {
	left, right := i, r.n-i-1
	if r.value == 0 {
		return appendZeros(appendValues(appendZeros(dst, left), value, 1), right)
	}
	return appendValues(appendValues(appendValues(dst, r.value, left), value, 1), r.value, right)
}

// replace puts pieces in place of b[from:to]. Where to is behind the end, at a corrupt last run, the result is cut as well.
func replace(b []byte, from, to int, pieces []byte) []byte {
	n := len(b) + len(pieces) - (to - from)
	end := len(b)
	for len(b) < n {
		b = append(b, 0)
	}
	if to < end {
		copy(b[from+len(pieces):n], b[to:end])
	}
	copy(b[from:n], pieces)
	return b[:n]
}

// joinRuns is how many runs are looked at for equal neighbors: those that a split may have changed.
const joinRuns = 5

// join makes one VAL of two neighbors with the same value, from the run at b[at] on.
func join(b []byte, at int) []byte {
	for i := 0; i < joinRuns && at < len(b); i++ {
		r := runAt(b, at)
		if r.value == 0 || at+1 >= len(b) {
			at += r.size
			continue
		}
		next := runAt(b, at+1)
		if next.value != r.value || r.n+next.n > maxValues {
			at++
			continue
		}
		var one [1]byte
		b = replace(b, at, at+2, appendValues(one[:0], r.value, r.n+next.n))
	}
	return b
}

func promote(b []byte, register int, value byte) (after []byte, changed bool, err error) {
	dense, err := ToDense(nil, b)
	if err != nil {
		return b, false, err
	}
	raiseDense(dense, register, value)
	return dense, true, nil
}

// AppendRuns appends the runs of a sparse value as PFDEBUG DECODE prints them.
func AppendRuns(dst, b []byte) []byte {
	for at := headerSize; at < len(b); {
		r := runAt(b, at)
		if at > headerSize {
			dst = append(dst, ' ')
		}
		switch {
		case r.value > 0:
			dst = strconv.AppendInt(append(dst, "v:"...), int64(r.value), 10)
			dst = strconv.AppendInt(append(dst, ','), int64(r.n), 10)
		case r.size == 2:
			dst = strconv.AppendInt(append(dst, "Z:"...), int64(r.n), 10)
		default:
			dst = strconv.AppendInt(append(dst, "z:"...), int64(r.n), 10)
		}
		at += r.size
	}
	return dst
}
