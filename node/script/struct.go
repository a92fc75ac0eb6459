package script

import (
	"encoding/binary"
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// structFunctions are lua-struct's pack, unpack and size.
func structFunctions() map[string]lua.LGFunction {
	return map[string]lua.LGFunction{"pack": structPack, "unpack": structUnpack, "size": structSize}
}

// layout walks through a format string.
type layout struct {
	l     *lua.LState
	name  string // of the function
	f     string
	at    int
	order binary.ByteOrder
	align int
	total int
}

type element struct {
	code byte
	size int
	pad  int // before it
}

func newLayout(l *lua.LState, name string) *layout {
	f, _, _ := strings.Cut(checkString(l, 1), "\x00") // as C sees it
	return &layout{l: l, name: name, f: f, order: binary.LittleEndian, align: 1}
}

func (y *layout) digits(otherwise int) int {
	start, n := y.at, 0
	for y.at < len(y.f) && y.f[y.at] >= '0' && y.f[y.at] <= '9' {
		if n = n*10 + int(y.f[y.at]-'0'); n > maxString {
			y.l.RaiseError("integral size overflow")
		}
		y.at++
	}
	if y.at == start {
		return otherwise
	}
	return n
}

// next returns the next element that takes bytes or values; ok is false at the end.
func (y *layout) next() (e element, ok bool) {
	for y.at < len(y.f) {
		c := y.f[y.at]
		y.at++
		switch c {
		case ' ':
		case '>':
			y.order = binary.BigEndian
		case '<':
			y.order = binary.LittleEndian
		case '!':
			y.align = y.digits(8)
			if y.align <= 0 || y.align&(y.align-1) != 0 {
				y.l.RaiseError("alignment %d is not a power of 2", y.align)
			}
		default:
			e = element{code: c, size: y.size(c)}
			y.pad(&e)
			return e, true
		}
	}
	return e, false
}

func (y *layout) size(c byte) int {
	switch c {
	case 'b', 'B', 'x':
		return 1
	case 'h', 'H':
		return 2
	case 'l', 'L', 'T', 'd':
		return 8
	case 'f':
		return 4
	case 'i', 'I':
		n := y.digits(4)
		if n > 32 {
			y.l.RaiseError("integral size %d is larger than limit of %d", n, 32)
		}
		return n
	case 'c':
		return y.digits(1)
	case 's':
		return 0
	}
	if y.name == "size" && (c|0x20 >= 'a' && c|0x20 <= 'z' || c >= '0' && c <= '9') {
		return 0 // it looks at signs only
	}
	y.l.RaiseError("bad argument #1 to '%s' (invalid format option '%s')", y.name, string([]byte{c}))
	return 0
}

func (y *layout) pad(e *element) {
	if a := min(e.size, y.align); a > 1 && e.code != 'c' && e.code != 's' {
		e.pad = (a - y.total&(a-1)) & (a - 1)
	}
	y.total += e.pad
}

func structPack(l *lua.LState) int {
	y, arg := newLayout(l, "pack"), 1
	l.Push(lua.LNil) // as lua-struct does: what is missing is nil
	var b strings.Builder
	for e, ok := y.next(); ok; e, ok = y.next() {
		b.WriteString(strings.Repeat("\x00", e.pad))
		if e.code != 'x' {
			arg++
		}
		y.packOne(&b, e, arg)
		if y.total = b.Len(); y.total > maxString {
			l.RaiseError(errLength)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

func (y *layout) packOne(b *strings.Builder, e element, arg int) {
	switch e.code {
	case 'x':
		b.WriteByte(0)
	case 'f':
		var t [4]byte
		y.order.PutUint32(t[:], math.Float32bits(float32(checkNumber(y.l, arg))))
		b.Write(t[:])
	case 'd':
		var t [8]byte
		y.order.PutUint64(t[:], math.Float64bits(checkNumber(y.l, arg)))
		b.Write(t[:])
	case 'c', 's':
		s := checkString(y.l, arg)
		if e.code == 's' {
			b.WriteString(s + "\x00")
			return
		}
		if e.size == 0 {
			e.size = len(s)
		}
		if len(s) < e.size {
			y.l.RaiseError("bad argument #%d to 'pack' (string too short)", arg+1)
		}
		b.WriteString(s[:e.size])
	default:
		b.Write(y.integer(checkNumber(y.l, arg), e.size))
	}
}

func (y *layout) integer(f float64, size int) []byte {
	v := toUnsigned(f)
	t := make([]byte, size)
	for i := range size {
		x := byte(0)
		if i < 8 {
			x = byte(v >> (8 * i))
		}
		if y.order == binary.LittleEndian {
			t[i] = x
		} else {
			t[size-1-i] = x
		}
	}
	return t
}

func structSize(l *lua.LState) int {
	y := newLayout(l, "size")
	for e, ok := y.next(); ok; e, ok = y.next() {
		switch {
		case e.code == 's':
			l.ArgError(1, "option 's' has no fixed size")
		case e.code == 'c' && e.size == 0:
			l.ArgError(1, "option 'c0' has no fixed size")
		}
		if y.total += e.size; y.total > maxString {
			l.RaiseError(errLength)
		}
	}
	l.Push(lua.LNumber(y.total))
	return 1
}

func structUnpack(l *lua.LState) int {
	y, s := newLayout(l, "unpack"), checkString(l, 2)
	at := int(optInteger(l, 3, 1)) - 1
	if at == -1 {
		l.ArgError(3, "offset must be 1 or greater")
	}
	y.total = at
	var out []lua.LValue
	for e, ok := y.next(); ok; e, ok = y.next() {
		at = y.total
		y.within(s, at, e.size)
		if e.code == 'c' && e.size == 0 {
			n, isNumber := lua.LNumber(-1), false
			if len(out) > 0 {
				n, isNumber = out[len(out)-1].(lua.LNumber)
			}
			if !isNumber {
				l.RaiseError("format 'c0' needs a previous size")
			}
			e.size, out = int(truncate(float64(n))), out[:len(out)-1]
		}
		y.within(s, at, e.size)
		v, size := y.unpackOne(s[at:], e)
		if v != lua.LNil {
			out = append(out, v)
		}
		y.total = at + size
		if len(out) > maxResults {
			l.RaiseError("too many results to unpack")
		}
	}
	for _, v := range out {
		l.Push(v)
	}
	l.Push(lua.LNumber(y.total + 1))
	return len(out) + 1
}

func (y *layout) within(s string, at, size int) {
	if at < 0 || at > len(s) || size < 0 || size > len(s)-at {
		y.l.RaiseError("bad argument #2 to 'unpack' (data string too short)")
	}
}

func (y *layout) unpackOne(s string, e element) (v lua.LValue, size int) {
	raw := []byte(s[:e.size])
	switch e.code {
	case 'x':
		return lua.LNil, 1
	case 'f':
		return lua.LNumber(math.Float32frombits(y.order.Uint32(raw))), 4
	case 'd':
		return lua.LNumber(math.Float64frombits(y.order.Uint64(raw))), 8
	case 'c':
		return lua.LString(raw), e.size
	case 's':
		end := strings.IndexByte(s, 0)
		if end < 0 {
			y.l.RaiseError("unfinished string in data")
		}
		return lua.LString(s[:end]), end + 1
	}
	var n uint64
	for i := range min(e.size, 8) {
		x := raw[i]
		if y.order == binary.BigEndian {
			x = raw[e.size-1-i]
		}
		n |= uint64(x) << (8 * i)
	}
	if strings.IndexByte("BHLTI", e.code) >= 0 {
		return lua.LNumber(n), e.size
	}
	shift := 64 - 8*min(e.size, 8)
	return lua.LNumber(int64(n<<shift) >> shift), e.size
}
