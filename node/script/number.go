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
	base := int(optInteger(l, 2, 10))
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
	text := checkString(l, 1)
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

// modulo is the operator %, by the formula of Lua 5.1: it never answers -0, and large quotients round.
func modulo(l *lua.LState) int {
	a, b := l.Get(1), l.Get(2)
	x, first := operand(a)
	y, second := operand(b)
	if first && second {
		whole := float64(math.Floor(x/y) * y) // converted, so that no processor multiplies and subtracts without rounding
		l.Push(lua.LNumber(x - whole))
		return 1
	}
	l.Push(metamethod(l, "__mod", "perform arithmetic on", a, b, first))
	return 1
}

// operand is a value as arithmetic takes it.
func operand(v lua.LValue) (float64, bool) {
	switch v := v.(type) {
	case lua.LNumber:
		return float64(v), true
	case lua.LString:
		return parseNumber(string(v))
	}
	return 0, false
}

// cText is a text as C sees it, without the blanks around it.
func cText(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return strings.Trim(s, spaces)
}

// checkNumber is a function's argument i, a number or a text of one.
func checkNumber(l *lua.LState, i int) float64 {
	switch v := l.Get(i).(type) {
	case lua.LNumber:
		return float64(v)
	case lua.LString:
		if f, ok := parseNumber(string(v)); ok {
			return f
		}
	}
	typeError(l, i, "number")
	return 0
}

// checkString is a function's argument i, a text or a number as one.
func checkString(l *lua.LState, i int) string {
	s, ok := text(l.Get(i))
	if !ok {
		typeError(l, i, "string")
	}
	return s
}

func typeError(l *lua.LState, i int, expected string) {
	got := "no value"
	if i <= l.GetTop() {
		got = l.Get(i).Type().String()
	}
	l.ArgError(i, expected+" expected, got "+got)
}

// checkInteger is a function's argument i as C's ptrdiff_t.
func checkInteger(l *lua.LState, i int) int64 { return truncate(checkNumber(l, i)) }

// optInteger is checkInteger for an argument that may be missing.
func optInteger(l *lua.LState, i int, otherwise int64) int64 {
	if l.Get(i) == lua.LNil {
		return otherwise
	}
	return checkInteger(l, i)
}

// toUnsigned is C's unsigned 64 bit integer of a number.
func toUnsigned(f float64) uint64 {
	if f >= 1<<63 {
		return uint64(truncate(f-1<<63)) ^ 1<<63 // 0 for what is too large
	}
	return uint64(truncate(f))
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

// scanNumber reads the number that s begins with as strtod does, and returns its length, 0 if there is none.
func scanNumber(s string) (f float64, n int) {
	rest := s
	sign := 1.0
	if rest != "" && (rest[0] == '+' || rest[0] == '-') {
		if rest[0] == '-' {
			sign = -1
		}
		rest = rest[1:]
	}
	at := len(s) - len(rest)
	switch {
	case hasFold(rest, "infinity"):
		return math.Copysign(math.Inf(1), sign), at + len("infinity")
	case hasFold(rest, "inf"):
		return math.Copysign(math.Inf(1), sign), at + len("inf")
	case hasFold(rest, "nan"):
		return math.Copysign(math.NaN(), sign), at + len("nan") + nanSuffix(rest[len("nan"):])
	}
	if n = hexLength(rest); n > 0 {
		text := rest[:n]
		if !strings.ContainsAny(text, "pP") {
			text += "p0"
		}
		f, _ = strconv.ParseFloat(text, 64)
		return math.Copysign(f, sign), at + n
	}
	if n = decimalLength(rest, "0123456789", "eE"); n == 0 {
		return 0, 0
	}
	f, _ = strconv.ParseFloat(rest[:n], 64)
	return math.Copysign(f, sign), at + n
}

// nanSuffix is the length of the (…) that may follow a nan.
func nanSuffix(s string) int {
	if s == "" || s[0] != '(' {
		return 0
	}
	n := 1
	for n < len(s) && (s[n] == '_' || hexDigit(s[n]) >= 0 || s[n]|0x20 >= 'a' && s[n]|0x20 <= 'z') {
		n++
	}
	if n == len(s) || s[n] != ')' {
		return 0
	}
	return n + 1
}

func hexLength(s string) int {
	if len(s) < 3 || s[0] != '0' || s[1]|0x20 != 'x' {
		return 0
	}
	n := decimalLength(s[2:], "0123456789abcdefABCDEF", "pP")
	if n == 0 {
		return 0
	}
	return n + 2
}

// decimalLength is how far digits with a point and an exponent reach, 0 without any digit before the exponent.
func decimalLength(s, digits, exponent string) int {
	run := func(from int, of string) int {
		for from < len(s) && strings.IndexByte(of, s[from]) >= 0 {
			from++
		}
		return from
	}
	n := run(0, digits)
	count := n
	if n < len(s) && s[n] == '.' {
		end := run(n+1, digits)
		count += end - n - 1
		n = end
	}
	if count == 0 {
		return 0
	}
	if n < len(s) && strings.IndexByte(exponent, s[n]) >= 0 {
		from := n + 1
		if from < len(s) && (s[from] == '+' || s[from] == '-') {
			from++
		}
		if end := run(from, "0123456789"); end > from {
			n = end
		}
	}
	return n
}

func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
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
