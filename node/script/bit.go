package script

import (
	"fmt"
	"math"
	"math/bits"

	lua "github.com/yuin/gopher-lua"
)

// bitFunctions are LuaBitOp's: on 32 bits, results are signed.
func bitFunctions() map[string]lua.LGFunction {
	fold := func(f func(a, b uint32) uint32) lua.LGFunction {
		return func(l *lua.LState) int {
			v := word(l, 1)
			for i := 2; i <= l.GetTop(); i++ {
				v = f(v, word(l, i))
			}
			return pushWord(l, v)
		}
	}
	shift := func(f func(a uint32, n uint) uint32) lua.LGFunction {
		return func(l *lua.LState) int { return pushWord(l, f(word(l, 1), uint(word(l, 2)&31))) }
	}
	return map[string]lua.LGFunction{
		"tobit":   func(l *lua.LState) int { return pushWord(l, word(l, 1)) },
		"bnot":    func(l *lua.LState) int { return pushWord(l, ^word(l, 1)) },
		"bswap":   func(l *lua.LState) int { return pushWord(l, bits.ReverseBytes32(word(l, 1))) },
		"band":    fold(func(a, b uint32) uint32 { return a & b }),
		"bor":     fold(func(a, b uint32) uint32 { return a | b }),
		"bxor":    fold(func(a, b uint32) uint32 { return a ^ b }),
		"lshift":  shift(func(a uint32, n uint) uint32 { return a << n }),
		"rshift":  shift(func(a uint32, n uint) uint32 { return a >> n }),
		"arshift": shift(func(a uint32, n uint) uint32 { return uint32(int32(a) >> n) }),
		"rol":     shift(func(a uint32, n uint) uint32 { return bits.RotateLeft32(a, int(n)) }),
		"ror":     shift(func(a uint32, n uint) uint32 { return bits.RotateLeft32(a, -int(n)) }),
		"tohex":   toHex,
	}
}

// word reduces a number to 32 bits as LuaBitOp does: it adds 2^52 + 2^51 and takes the low bits of the sum's mantissa. That
// rounds and takes it modulo 2^32 up to 2^51, and has its own way with what is larger.
func word(l *lua.LState, i int) uint32 {
	return uint32(math.Float64bits(checkNumber(l, i) + (1<<52 + 1<<51)))
}

func pushWord(l *lua.LState, v uint32) int {
	l.Push(lua.LNumber(int32(v)))
	return 1
}

func toHex(l *lua.LState) int {
	v, n, format := word(l, 1), 8, "%0*x"
	if l.GetTop() > 1 {
		n = int(int32(word(l, 2)))
	}
	if n < 0 {
		n, format = -n, "%0*X"
	}
	if n = min(n, 8); n < 8 {
		v &= 1<<(4*uint(n)) - 1
	}
	if n <= 0 {
		l.Push(lua.LString(""))
		return 1
	}
	l.Push(lua.LString(fmt.Sprintf(format, n, v)))
	return 1
}
