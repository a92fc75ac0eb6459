package script

import (
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

// toNumber is Lua's tonumber: C's strtod for base 10, strtoul for others. The interpreter's own knows no hexadecimal
// fractions, no infinities, and signs in any base.
func toNumber(l *lua.LState) int {
	base := l.OptInt(2, 10)
	if base == 10 {
		v := l.CheckAny(1)
		if s, ok := v.(lua.LString); ok {
			v = lua.LNil
			if f, ok := parseNumber(string(s)); ok {
				v = lua.LNumber(f)
			}
		}
		if v.Type() != lua.LTNumber {
			v = lua.LNil
		}
		l.Push(v)
		return 1
	}
	text := l.CheckString(1)
	if base < 2 || base > 36 {
		l.ArgError(2, "base out of range")
	}
	if f, ok := parseUnsigned(text, base); ok {
		l.Push(lua.LNumber(f))
	} else {
		l.Push(lua.LNil)
	}
	return 1
}

// cText is a text as C sees it, without the blanks around it.
func cText(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return strings.Trim(s, spaces)
}

// parseNumber reads a number as strtod does; nothing may follow it.
func parseNumber(s string) (f float64, ok bool) {
	s = cText(s)
	digits := strings.TrimLeft(s, "+-")
	if len(s)-len(digits) > 1 || strings.Contains(s, "_") {
		return 0, false
	}
	if len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' && !strings.ContainsAny(digits, "pP") {
		s += "p0"
	}
	f, err := strconv.ParseFloat(s, 64)
	return f, err == nil || f != 0 && math.IsInf(f, 0) // too large
}

// parseUnsigned reads an integer as strtoul does: a sign turns it around modulo 2^64.
func parseUnsigned(s string, base int) (f float64, ok bool) {
	s = cText(s)
	digits, negative := strings.CutPrefix(s, "-")
	if !negative {
		digits = strings.TrimPrefix(s, "+")
	}
	if base == 16 && len(digits) > 2 && digits[0] == '0' && digits[1]|0x20 == 'x' {
		digits = digits[2:]
	}
	for _, c := range []byte(digits) { // what is out of range must be a number all the same
		if _, err := strconv.ParseUint(string(rune(c)), base, 8); err != nil {
			return 0, false
		}
	}
	n, err := strconv.ParseUint(digits, base, 64)
	switch {
	case err != nil && n == math.MaxUint64: // out of range
		return float64(n), true
	case err != nil || digits[0] == '+' || digits[0] == '-':
		return 0, false
	case negative:
		n = -n
	}
	return float64(n), true
}
