package store

import (
	"encoding/binary"
	"math"
	"strconv"
)

// An element is a string or a number in the memory of a collection, with its length in front:
//
//	0xxxxxxx             an integer, 0 to 127
//	10xxxxxx             a string of up to 63 bytes, which follow
//	110xxxxx x           an integer of 13 bits
//	1110xxxx x           a string of up to 4,095 bytes
//	11110000 x x x x     a longer string
//	elemInt16 …          a number in the bytes that follow
//	elemOutside r h      a string in a block of its own, by its reference and the low half of its hash
//
// Equal strings have equal elements (where the same length goes outside), so comparing elements compares strings. Only an
// integer in its shortest form becomes a number. All numbers are little-endian but for those in the first two bytes.
const (
	elemStrShort = 0x80
	elemInt13    = 0xc0
	elemStrMid   = 0xe0
	elemStrLong  = 0xf0
	elemInt16    = 0xf1
	elemInt24    = 0xf2
	elemInt32    = 0xf3
	elemInt48    = 0xf4
	elemInt64    = 0xf5
	elemFloat32  = 0xf6
	elemFloat64  = 0xf7
	elemOutside  = 0xf8

	shortMax     = 1<<6 - 1
	midMax       = 1<<12 - 1
	outsideBytes = 9
)

// appendElement appends b as an element.
func appendElement(dst, b []byte) []byte {
	if v, ok := parseInt(b); ok {
		return appendInt(dst, v)
	}
	switch n := len(b); {
	case n <= shortMax:
		dst = append(dst, elemStrShort|byte(n))
	case n <= midMax:
		dst = append(dst, elemStrMid|byte(n>>8), byte(n))
	default:
		dst = binary.LittleEndian.AppendUint32(append(dst, elemStrLong), uint32(n))
	}
	return append(dst, b...)
}

// appendInt appends an integer as an element.
func appendInt(dst []byte, v int64) []byte {
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(v))
	switch {
	case v >= 0 && v < 1<<7:
		return append(dst, byte(v))
	case v >= -1<<12 && v < 1<<12:
		return append(dst, elemInt13|byte(v>>8)&0x1f, byte(v))
	case v >= math.MinInt16 && v <= math.MaxInt16:
		return append(append(dst, elemInt16), b[:2]...)
	case v >= -1<<23 && v < 1<<23:
		return append(append(dst, elemInt24), b[:3]...)
	case v >= math.MinInt32 && v <= math.MaxInt32:
		return append(append(dst, elemInt32), b[:4]...)
	case v >= -1<<47 && v < 1<<47:
		return append(append(dst, elemInt48), b[:6]...)
	}
	return append(append(dst, elemInt64), b[:]...)
}

// appendScore appends a score, which is no NaN, as an element.
func appendScore(dst []byte, f float64) []byte {
	if f == math.Trunc(f) && math.Abs(f) < 1<<53 && !(f == 0 && math.Signbit(f)) {
		return appendInt(dst, int64(f))
	}
	if g := float32(f); float64(g) == f {
		return binary.LittleEndian.AppendUint32(append(dst, elemFloat32), math.Float32bits(g))
	}
	return binary.LittleEndian.AppendUint64(append(dst, elemFloat64), math.Float64bits(f))
}

var numberBytes = [...]int{1 + 2, 1 + 3, 1 + 4, 1 + 6, 1 + 8, 1 + 4, 1 + 8, outsideBytes}

// elementSize returns the bytes of the element that p begins with.
func elementSize(p []byte) int {
	switch c := p[0]; {
	case c < elemStrShort:
		return 1
	case c < elemInt13:
		return 1 + int(c&shortMax)
	case c < elemStrMid:
		return 2
	case c < elemStrLong:
		return 2 + int(c&0xf)<<8 + int(p[1])
	case c == elemStrLong:
		return 5 + int(binary.LittleEndian.Uint32(p[1:]))
	default:
		return numberBytes[c-elemInt16]
	}
}

// stringAt returns the string that p begins with, false if the element is another.
func stringAt(p []byte) ([]byte, bool) {
	var from int
	switch c := p[0]; {
	case c >= elemStrShort && c < elemInt13:
		from = 1
	case c >= elemStrMid && c < elemStrLong:
		from = 2
	case c == elemStrLong:
		from = 5
	default:
		return nil, false
	}
	n := elementSize(p)
	return p[from:n:n], true
}

// intAt returns the integer that p begins with, which is one.
func intAt(p []byte) int64 {
	c := p[0]
	switch {
	case c < elemStrShort:
		return int64(c)
	case c < elemStrMid:
		return int64(uint64(c&0x1f)<<8|uint64(p[1])) << 51 >> 51
	}
	n := numberBytes[c-elemInt16] - 1
	var b [8]byte
	copy(b[:], p[1:1+n])
	shift := 64 - 8*n
	return int64(binary.LittleEndian.Uint64(b[:])) << shift >> shift
}

// scoreAt returns the number that p begins with.
func scoreAt(p []byte) float64 {
	switch p[0] {
	case elemFloat32:
		return float64(math.Float32frombits(binary.LittleEndian.Uint32(p[1:])))
	case elemFloat64:
		return math.Float64frombits(binary.LittleEndian.Uint64(p[1:]))
	}
	return float64(intAt(p))
}

// parseInt returns the integer that b writes in the only form that Redis keeps as a number: no plus sign, no leading
// zero, no "-0".
func parseInt(b []byte) (v int64, ok bool) {
	digits := b
	if len(b) > 0 && b[0] == '-' {
		digits = b[1:]
	}
	if len(digits) == 0 || len(digits) > 19 || digits[0] == '0' && len(b) > 1 {
		return 0, false
	}
	var u uint64
	for _, c := range digits {
		if c < '0' || c > '9' {
			return 0, false
		}
		u = u*10 + uint64(c-'0')
	}
	if len(digits) < len(b) {
		return -int64(u), u <= 1<<63
	}
	return int64(u), u < 1<<63
}

// textAt returns the text of the element that p begins with. It is in p, in a block of its own or, for an integer, in
// buf.
func (s *Shard) textAt(p, buf []byte) []byte {
	if b, ok := stringAt(p); ok {
		return b
	}
	if p[0] == elemOutside {
		return s.outside(outsideRef(p))
	}
	return appendText(buf, intAt(p))
}

// intText returns the text of an integer, for callers outside.
func (s *Shard) intText(v int64) []byte {
	if cap(s.texts)-len(s.texts) < intText {
		s.texts = make([]byte, 0, textChunk)
	}
	from := len(s.texts)
	s.texts = appendText(s.texts, v)
	return s.texts[from:len(s.texts):len(s.texts)]
}

func appendText(dst []byte, v int64) []byte { return strconv.AppendInt(dst, v, 10) }

const (
	intText   = 20   // bytes of an integer's text at most
	textChunk = 1024 // bytes
)

// text is textAt for callers outside: what it returns keeps until the shard is changed. Texts of integers share chunks of
// Go's heap, one allocation for fifty.
func (s *Shard) text(p []byte) []byte {
	if b, ok := stringAt(p); ok {
		return b
	}
	if p[0] == elemOutside {
		return s.outside(outsideRef(p))
	}
	return s.intText(intAt(p))
}

func outsideRef(p []byte) uint32 { return binary.LittleEndian.Uint32(p[1:]) }

// outside returns the string in the block ref: four bytes of length and the string.
func (s *Shard) outside(ref uint32) []byte {
	b := s.parts.at(ref)
	return b.bytes(4, int(b.u32(0)))
}

// newOutside stores a string in a block of its own.
func (s *Shard) newOutside(text []byte) (ref uint32) {
	ref, b := s.parts.alloc(4 + len(text))
	b.putU32(0, uint32(len(text)))
	copy(b.bytes(4, len(text)), text)
	return ref
}

// appendInline appends text as an element of a tree: in place up to inline bytes, else outside.
func (s *Shard) appendInline(dst, text []byte, inline int, hash uint64) []byte {
	if len(text) <= inline {
		return appendElement(dst, text)
	}
	dst = binary.LittleEndian.AppendUint32(append(dst, elemOutside), s.newOutside(text))
	return binary.LittleEndian.AppendUint32(dst, uint32(hash))
}

// freeOutside frees the block of the element that p begins with, if it has one.
func (s *Shard) freeOutside(p []byte) {
	if p[0] == elemOutside {
		s.parts.free(outsideRef(p))
	}
}

// freeUnits frees the blocks outside that the units of data own and returns their number.
func (s *Shard) freeUnits(data []byte) (n int) {
	for off := 0; off < len(data); off += elementSize(data[off:]) {
		if data[off] == elemOutside {
			s.parts.free(outsideRef(data[off:]))
			n++
		}
	}
	return n
}

// probe is a string to look for among elements.
type probe struct {
	text    []byte
	enc     []byte // as an element, valid until the next probe; nil if it goes outside
	hash    uint64 // if a tree is searched
	outside bool
}

// probe returns the probe for text where strings of more than inline bytes go outside.
func (s *Shard) probe(text []byte, inline int) probe {
	if len(text) > inline {
		return probe{text: text, outside: true}
	}
	s.sought = appendElement(s.sought[:0], text)
	return probe{text: text, enc: s.sought}
}

// matches reports whether p begins with the element of the probe.
func (s *Shard) matches(p []byte, q *probe) bool {
	if !q.outside {
		return len(p) >= len(q.enc) && string(p[:len(q.enc)]) == string(q.enc)
	}
	return p[0] == elemOutside && binary.LittleEndian.Uint32(p[5:]) == uint32(q.hash) &&
		string(s.outside(outsideRef(p))) == string(q.text)
}

// A unit is what a collection counts: one element, or two in hashes (field, value) and sorted sets (member, score). The
// functions below read data, units without a gap.

// unitSize returns the bytes of the unit that p begins with.
func unitSize(p []byte, arity int) int {
	n := elementSize(p)
	if arity == 2 {
		n += elementSize(p[n:])
	}
	return n
}

// lookup returns the offset of the unit whose first element is the probe's.
func (s *Shard) lookup(data []byte, arity int, q *probe) (off int, ok bool) {
	for off < len(data) {
		p := data[off:]
		if s.matches(p, q) {
			return off, true
		}
		off += unitSize(p, arity)
	}
	return 0, false
}

// offsetOf returns where unit i begins.
func offsetOf(data []byte, arity, i int) (off int) {
	for ; i > 0; i-- {
		off += unitSize(data[off:], arity)
	}
	return off
}

// offsets appends where each unit begins.
func offsets(dst []uint16, data []byte, arity int) []uint16 {
	for off := 0; off < len(data); off += unitSize(data[off:], arity) {
		dst = append(dst, uint16(off))
	}
	return dst
}
