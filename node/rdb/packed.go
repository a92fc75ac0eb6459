package rdb

import (
	"encoding/binary"
	"errors"
	"math"
	"strconv"
)

// Listpacks, ziplists and intsets: several elements in one string. An element is a string or an integer, which stands
// for its decimal digits.

var (
	errListpack = errors.New("listpack is corrupt")
	errZiplist  = errors.New("ziplist is corrupt")
	errIntset   = errors.New("intset is corrupt")
)

// packed is a container whose elements are taken out one by one.
type packed struct {
	b       []byte // what is left, up to the end byte
	next    func(p *packed) (element []byte, ok bool)
	bad     error
	count   int // elements as the header says, -1 if it does not
	taken   int
	prevLen int // ziplist: bytes of the element before
	digits  [20]byte
}

// element returns the next element, nil at the end; it is valid until the next call. An empty element is not nil.
func (p *packed) element() ([]byte, error) {
	if len(p.b) == 0 {
		if p.count >= 0 && p.count != p.taken {
			return nil, p.bad
		}
		return nil, nil
	}
	e, ok := p.next(p)
	if !ok {
		return nil, p.bad
	}
	p.taken++
	return e, nil
}

// more is element where there must be one.
func (p *packed) more() ([]byte, error) {
	e, err := p.element()
	if err == nil && e == nil {
		err = p.bad
	}
	return e, err
}

// integer is more for an integer.
func (p *packed) integer() (int64, error) {
	e, err := p.more()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseInt(string(e), 10, 64)
	if err != nil {
		return 0, p.bad
	}
	return n, nil
}

func (p *packed) decimal(n int64) []byte { return strconv.AppendInt(p.digits[:0], n, 10) }

// listpack: bytes (4), elements (2, 65535 for "count them"), the elements, 255.
func listpack(b []byte) (*packed, error) {
	if len(b) < 7 || binary.LittleEndian.Uint32(b) != uint32(len(b)) || b[len(b)-1] != 0xff {
		return nil, errListpack
	}
	count := int(binary.LittleEndian.Uint16(b[4:]))
	if count == math.MaxUint16 {
		count = -1
	}
	return &packed{b: b[6 : len(b)-1], next: nextListpack, bad: errListpack, count: count}, nil
}

// lpHead reads the head of an element: size is the bytes of head and content, text says that head bytes are followed by a
// string, else n is the integer.
func lpHead(b []byte) (head, size int, n int64, text, ok bool) {
	c := b[0]
	need := func(k int) bool { return len(b) >= k }
	switch {
	case c < 0x80:
		return 1, 1, int64(c), false, true
	case c < 0xc0:
		return 1, 1 + int(c&0x3f), 0, true, true
	case c < 0xe0:
		if !need(2) {
			return
		}
		v := int64(c&0x1f)<<8 | int64(b[1])
		if v >= 1<<12 {
			v -= 1 << 13
		}
		return 2, 2, v, false, true
	case c < 0xf0:
		if !need(2) {
			return
		}
		return 2, 2 + (int(c&0x0f)<<8 | int(b[1])), 0, true, true
	case c == 0xf0:
		if !need(5) {
			return
		}
		return 5, 5 + int(binary.LittleEndian.Uint32(b[1:])), 0, true, true
	case c >= 0xf1 && c <= 0xf4:
		k := [...]int{2, 3, 4, 8}[c-0xf1]
		if !need(1 + k) {
			return
		}
		return 1 + k, 1 + k, signed(b[1 : 1+k]), false, true
	}
	return
}

// signed is a little-endian integer of 1 to 8 bytes.
func signed(b []byte) int64 {
	var v uint64
	for i, c := range b {
		v |= uint64(c) << (8 * i)
	}
	shift := 64 - 8*len(b)
	return int64(v<<shift) >> shift
}

func nextListpack(p *packed) ([]byte, bool) {
	head, size, n, text, ok := lpHead(p.b)
	if !ok || size > len(p.b) {
		return nil, false
	}
	var back [5]byte
	tail := appendBackLen(back[:0], size)
	if len(p.b) < size+len(tail) || string(p.b[size:size+len(tail)]) != string(tail) {
		return nil, false
	}
	e := p.b[head:size:size]
	if !text {
		e = p.decimal(n)
	}
	p.b = p.b[size+len(tail):]
	return e, true
}

// appendBackLen appends the length of an element as it is read backwards: seven bits a byte, the first byte without the
// top bit. The limits are Redis', one less than they could be.
func appendBackLen(b []byte, n int) []byte {
	bytes := 5
	switch {
	case n <= 127:
		bytes = 1
	case n < 16383:
		bytes = 2
	case n < 2097151:
		bytes = 3
	case n < 268435455:
		bytes = 4
	}
	for i := bytes - 1; i >= 0; i-- {
		c := byte(n>>(7*i)) & 127
		if i < bytes-1 {
			c |= 128
		}
		b = append(b, c)
	}
	return b
}

// ziplist: bytes (4), offset of the last element (4), elements (2, 65535 for "count them"), the elements, 255. Each
// begins with the size of the one before it.
func ziplist(b []byte) (*packed, error) {
	if len(b) < 11 || binary.LittleEndian.Uint32(b) != uint32(len(b)) || b[len(b)-1] != 0xff {
		return nil, errZiplist
	}
	count := int(binary.LittleEndian.Uint16(b[8:]))
	if count == math.MaxUint16 {
		count = -1
	}
	return &packed{b: b[10 : len(b)-1], next: nextZiplist, bad: errZiplist, count: count}, nil
}

func nextZiplist(p *packed) ([]byte, bool) {
	b := p.b
	prev, skip := int(b[0]), 1
	if prev == 254 {
		if len(b) < 5 {
			return nil, false
		}
		prev, skip = int(binary.LittleEndian.Uint32(b[1:])), 5
	}
	if prev != p.prevLen || b[0] == 255 || len(b) <= skip {
		return nil, false
	}
	head, size, n, text, ok := zlHead(b[skip:])
	if !ok || size > len(b)-skip {
		return nil, false
	}
	e := b[skip+head : skip+size : skip+size]
	if !text {
		e = p.decimal(n)
	}
	p.prevLen = skip + size
	p.b = b[skip+size:]
	return e, true
}

// zlHead is lpHead of a ziplist's element, behind the size of the one before.
func zlHead(b []byte) (head, size int, n int64, text, ok bool) {
	c := b[0]
	switch {
	case c < 0x40:
		return 1, 1 + int(c), 0, true, true
	case c < 0x80:
		if len(b) < 2 {
			return
		}
		return 2, 2 + int(c&0x3f)<<8 + int(b[1]), 0, true, true
	case c == 0x80:
		if len(b) < 5 {
			return
		}
		return 5, 5 + int(binary.BigEndian.Uint32(b[1:])), 0, true, true
	case c > 0xf0 && c < 0xfe:
		return 1, 1, int64(c&0x0f) - 1, false, true
	}
	var k int
	switch c {
	case 0xc0:
		k = 2
	case 0xd0:
		k = 4
	case 0xe0:
		k = 8
	case 0xf0:
		k = 3
	case 0xfe:
		k = 1
	default:
		return
	}
	if len(b) < 1+k {
		return
	}
	return 1 + k, 1 + k, signed(b[1 : 1+k]), false, true
}

// eachInt calls fn with the members of an intset: bytes of a member (4), members (4), the members in ascending order.
func eachInt(b []byte, fn func(member []byte) error) error {
	if len(b) < 8 {
		return errIntset
	}
	width, count := uint64(binary.LittleEndian.Uint32(b)), uint64(binary.LittleEndian.Uint32(b[4:]))
	if width != 2 && width != 4 && width != 8 || uint64(len(b)-8) != width*count {
		return errIntset
	}
	var digits [20]byte
	last := int64(math.MinInt64)
	for i := range count {
		n := signed(b[8+i*width : 8+(i+1)*width])
		if i > 0 && n <= last {
			return errIntset
		}
		last = n
		if err := fn(strconv.AppendInt(digits[:0], n, 10)); err != nil {
			return err
		}
	}
	return nil
}

// lpWriter builds a listpack at the end of a buffer.
type lpWriter struct {
	b     []byte
	start int
	n     int
}

func newListpack(b []byte) *lpWriter {
	return &lpWriter{b: append(b, 0, 0, 0, 0, 0, 0), start: len(b)}
}

// size is what the listpack takes so far, its end included.
func (w *lpWriter) size() int { return len(w.b) - w.start + 1 }

// element appends a string, as an integer if it is one in canonical form.
func (w *lpWriter) element(e []byte) {
	if n, ok := canonicalInt(e); ok {
		w.integer(n)
		return
	}
	at := len(w.b)
	switch n := len(e); {
	case n < 64:
		w.b = append(w.b, 0x80|byte(n))
	case n < 4096:
		w.b = append(w.b, 0xe0|byte(n>>8), byte(n))
	default:
		w.b = binary.LittleEndian.AppendUint32(append(w.b, 0xf0), uint32(n))
	}
	w.b = append(w.b, e...)
	w.close(at)
}

func (w *lpWriter) integer(n int64) {
	at := len(w.b)
	switch {
	case n >= 0 && n <= 127:
		w.b = append(w.b, byte(n))
	case n >= -4096 && n <= 4095:
		w.b = append(w.b, 0xc0|byte(n>>8)&0x1f, byte(n))
	case n == int64(int16(n)):
		w.b = append(w.b, 0xf1, byte(n), byte(n>>8))
	case n >= -1<<23 && n < 1<<23:
		w.b = append(w.b, 0xf2, byte(n), byte(n>>8), byte(n>>16))
	case n == int64(int32(n)):
		w.b = binary.LittleEndian.AppendUint32(append(w.b, 0xf3), uint32(n))
	default:
		w.b = binary.LittleEndian.AppendUint64(append(w.b, 0xf4), uint64(n))
	}
	w.close(at)
}

func (w *lpWriter) close(at int) {
	w.b = appendBackLen(w.b, len(w.b)-at)
	w.n++
}

// finish completes the listpack and returns the buffer.
func (w *lpWriter) finish() []byte {
	w.b = append(w.b, 0xff)
	binary.LittleEndian.PutUint32(w.b[w.start:], uint32(len(w.b)-w.start))
	binary.LittleEndian.PutUint16(w.b[w.start+4:], uint16(min(w.n, math.MaxUint16)))
	return w.b
}

// canonicalInt reads an integer in the only form that Redis keeps as one: no plus sign, no leading zero, no "-0".
func canonicalInt(b []byte) (int64, bool) {
	if len(b) == 0 || len(b) > 20 || b[0] == '+' {
		return 0, false
	}
	n, err := strconv.ParseInt(string(b), 10, 64)
	if err != nil {
		return 0, false
	}
	var digits [20]byte
	return n, string(strconv.AppendInt(digits[:0], n, 10)) == string(b)
}
