package script

import (
	"encoding/binary"
	"math"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxMsgpackDepth = 16 // what nests deeper is packed as nil, as lua-cmsgpack does
	maxUnpackDepth  = 3999
)

func (r *Run) msgpackFunctions() map[string]lua.LGFunction {
	return map[string]lua.LGFunction{
		"pack": func(l *lua.LState) int {
			if l.GetTop() == 0 {
				l.RaiseError("bad argument #0 to 'pack' (MessagePack pack needs input.)")
			}
			var b []byte
			for i := 1; i <= l.GetTop(); i++ {
				if b = packValue(b, l.Get(i), 0); len(b) > maxString {
					l.RaiseError(errLength)
				}
			}
			l.Push(lua.LString(b))
			return 1
		},
		"unpack":       func(l *lua.LState) int { return unpackSome(l, 0, 0) },
		"unpack_one":   func(l *lua.LState) int { return unpackSome(l, 1, int(optInteger(l, 2, 0))) },
		"unpack_limit": func(l *lua.LState) int { return unpackSome(l, int(checkInteger(l, 2)), int(optInteger(l, 3, 0))) },
	}
}

func msgpackValues(t *lua.LTable) {
	for name, v := range map[string]string{
		"_NAME": "cmsgpack", "_VERSION": "lua-cmsgpack 0.4.0", "_COPYRIGHT": "Copyright (C) 2012, Salvatore Sanfilippo",
		"_DESCRIPTION": "MessagePack C implementation for Lua",
	} {
		t.RawSetString(name, lua.LString(v))
	}
}

func packValue(b []byte, v lua.LValue, depth int) []byte {
	switch v := v.(type) {
	case lua.LString:
		return append(packHead(b, len(v), 0xa0, 31, 0xd9, 0xda, 0xdb), v...)
	case lua.LBool:
		if v {
			return append(b, 0xc3)
		}
		return append(b, 0xc2)
	case lua.LNumber:
		return packNumber(b, float64(v))
	case *lua.LTable:
		if depth == maxMsgpackDepth {
			return append(b, 0xc0)
		}
		return packTable(b, v, depth+1)
	}
	return append(b, 0xc0)
}

// packHead writes a length: fixed is the code of the short form, up to limit; code8 is 0 where there is none.
func packHead(b []byte, n int, fixed byte, limit int, code8, code16, code32 byte) []byte {
	switch {
	case n <= limit:
		return append(b, fixed|byte(n))
	case n < 1<<8 && code8 != 0:
		return append(b, code8, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, code16), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, code32), uint32(n))
}

func packNumber(b []byte, f float64) []byte {
	n := int64(f)
	if float64(n) != f || f >= math.MaxInt64 || f < math.MinInt64 {
		if float64(float32(f)) == f {
			return binary.BigEndian.AppendUint32(append(b, 0xca), math.Float32bits(float32(f)))
		}
		return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(f))
	}
	switch {
	case n >= 0 && n <= 127, n < 0 && n >= -32:
		return append(b, byte(n))
	case n >= 0 && n <= 0xff:
		return append(b, 0xcc, byte(n))
	case n >= 0 && n <= 0xffff:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(n))
	case n >= 0 && n <= 0xffffffff:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(n))
	case n >= 0:
		return binary.BigEndian.AppendUint64(append(b, 0xcf), uint64(n))
	case n >= -128:
		return append(b, 0xd0, byte(n))
	case n >= -32768:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(n))
	case n >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(n))
}

func packTable(b []byte, t *lua.LTable, depth int) []byte {
	pairs, last, array := 0, 0, true
	t.ForEach(func(k, _ lua.LValue) {
		pairs++
		n, ok := k.(lua.LNumber)
		if !ok || n < 1 || float64(n) != math.Floor(float64(n)) {
			array = false
			return
		}
		last = max(last, int(n))
	})
	if array && last == pairs {
		b = packHead(b, last, 0x90, 15, 0, 0xdc, 0xdd)
		for i := 1; i <= last && len(b) <= maxString; i++ {
			b = packValue(b, t.RawGetInt(i), depth)
		}
		return b
	}
	b = packHead(b, pairs, 0x80, 15, 0, 0xde, 0xdf)
	t.ForEach(func(k, v lua.LValue) {
		if len(b) <= maxString {
			b = packValue(packValue(b, k, depth), v, depth)
		}
	})
	return b
}

// unpackSome decodes limit values from offset on, and returns the next offset first. Without either it decodes all, and returns no
// offset.
func unpackSome(l *lua.LState, limit, offset int) int {
	s := checkString(l, 1)
	switch {
	case limit < 0 || offset < 0:
		l.RaiseError("Invalid request to unpack with offset of %d and limit of %d.", offset, len(s))
	case offset > len(s):
		l.RaiseError("Start offset %d greater than input length %d.", offset, len(s))
	}
	all := limit == 0 && offset == 0
	u := unpacker{l: l, s: s, at: offset}
	var out []lua.LValue
	for u.at < len(s) && (all || len(out) < limit) {
		if out = append(out, u.value(0)); len(out) > maxResults {
			l.RaiseError("stack overflow (too many return values at once; use unpack_one or unpack_limit instead.)")
		}
	}
	pushed := len(out)
	if !all {
		at := u.at
		if at >= len(s) {
			at = -1
		}
		l.Push(lua.LNumber(at))
		pushed++
	}
	for _, v := range out {
		l.Push(v)
	}
	return pushed
}

type unpacker struct {
	l  *lua.LState
	s  string
	at int
}

func (u *unpacker) bytes(n int) string {
	if n < 0 || n > len(u.s)-u.at {
		u.l.RaiseError("Missing bytes in input.")
	}
	u.at += n
	return u.s[u.at-n : u.at]
}

func (u *unpacker) uint(size int) (v uint64) {
	for _, c := range []byte(u.bytes(size)) {
		v = v<<8 | uint64(c)
	}
	return v
}

func (u *unpacker) value(depth int) lua.LValue {
	c := u.bytes(1)[0]
	switch {
	case c <= 0x7f:
		return lua.LNumber(c)
	case c >= 0xe0:
		return lua.LNumber(int8(c))
	case c <= 0x8f:
		return u.pairs(int(c&15), depth)
	case c <= 0x9f:
		return u.list(int(c&15), depth)
	case c <= 0xbf:
		return lua.LString(u.bytes(int(c & 31)))
	}
	switch c {
	case 0xc0:
		return lua.LNil
	case 0xc2, 0xc3:
		return lua.LBool(c == 0xc3)
	case 0xca:
		return lua.LNumber(math.Float32frombits(uint32(u.uint(4))))
	case 0xcb:
		return lua.LNumber(math.Float64frombits(u.uint(8)))
	case 0xcc, 0xcd, 0xce, 0xcf:
		return lua.LNumber(int64(u.uint(1 << (c - 0xcc))))
	case 0xd0, 0xd1, 0xd2, 0xd3:
		bits := 8 << (c - 0xd0)
		return lua.LNumber(int64(u.uint(bits/8)<<(64-bits)) >> (64 - bits))
	case 0xd9, 0xda, 0xdb:
		return lua.LString(u.bytes(int(u.uint(1 << (c - 0xd9)))))
	case 0xdc, 0xdd:
		return u.list(int(u.uint(2<<(c-0xdc))), depth)
	case 0xde, 0xdf:
		return u.pairs(int(u.uint(2<<(c-0xde))), depth)
	}
	u.l.RaiseError("Bad data format in input.")
	return lua.LNil
}

// enter bounds the depth, and a count of elements by the bytes that are left.
func (u *unpacker) enter(n, depth int, kind string) {
	if depth >= maxUnpackDepth {
		u.l.RaiseError("stack overflow (in function mp_decode_to_lua_%s)", kind)
	}
	if n > len(u.s)-u.at {
		u.l.RaiseError("Missing bytes in input.")
	}
}

func (u *unpacker) list(n, depth int) lua.LValue {
	u.enter(n, depth, "array")
	t := u.l.NewTable()
	for i := range n {
		t.RawSetInt(i+1, u.value(depth+1))
	}
	return t
}

func (u *unpacker) pairs(n, depth int) lua.LValue {
	u.enter(n, depth, "hash")
	t := u.l.NewTable()
	for range n {
		k := u.value(depth + 1)
		v := u.value(depth + 1)
		if k == lua.LNil {
			u.l.RaiseError("table index is nil")
		}
		if f, ok := k.(lua.LNumber); ok && f != f {
			u.l.RaiseError("table index is NaN")
		}
		t.RawSet(k, v)
	}
	return t
}
