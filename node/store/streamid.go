package store

import (
	"cmp"
	"math"
	"strconv"
)

// StreamID names an entry of a stream. The zero value comes before every entry, which begin with 0-1.
type StreamID struct{ Ms, Seq uint64 }

// MaxStreamID is the last ID there is.
var MaxStreamID = StreamID{math.MaxUint64, math.MaxUint64}

// Compare is negative when a comes before b, 0 when they are equal, positive otherwise.
func (a StreamID) Compare(b StreamID) int {
	if a.Ms != b.Ms {
		return cmp.Compare(a.Ms, b.Ms)
	}
	return cmp.Compare(a.Seq, b.Seq)
}

// IsZero says whether a is 0-0.
func (a StreamID) IsZero() bool { return a == StreamID{} }

// Next returns the ID that follows a; ok is false when there is none.
func (a StreamID) Next() (next StreamID, ok bool) {
	switch {
	case a.Seq < math.MaxUint64:
		return StreamID{a.Ms, a.Seq + 1}, true
	case a.Ms < math.MaxUint64:
		return StreamID{a.Ms + 1, 0}, true
	}
	return StreamID{}, false
}

// Prev returns the ID before a; ok is false when there is none.
func (a StreamID) Prev() (prev StreamID, ok bool) {
	switch {
	case a.Seq > 0:
		return StreamID{a.Ms, a.Seq - 1}, true
	case a.Ms > 0:
		return StreamID{a.Ms - 1, math.MaxUint64}, true
	}
	return MaxStreamID, false
}

// Append appends the ID as clients write it, ms-seq.
func (a StreamID) Append(b []byte) []byte {
	b = append(strconv.AppendUint(b, a.Ms, 10), '-')
	return strconv.AppendUint(b, a.Seq, 10)
}

// String returns the ID as clients write it.
func (a StreamID) String() string { return string(a.Append(nil)) }
