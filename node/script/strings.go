package script

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const (
	errLength = "string length overflow"
	// maxResults is how many values a function may return.
	maxResults = 8000
)

// valueText is a string or number as text, "" for anything else.
func valueText(v lua.LValue) string {
	switch v := v.(type) {
	case lua.LString:
		return string(v)
	case lua.LNumber:
		return numberText(float64(v))
	}
	return ""
}

func (r *Run) toString(l *lua.LState) int {
	v := l.CheckAny(1)
	if n, ok := v.(lua.LNumber); ok {
		l.Push(lua.LString(numberText(float64(n))))
		return 1
	}
	l.Push(l.ToStringMeta(v))
	return 1
}

// concat is the operator "..", from the right to the left.
func (r *Run) concat(l *lua.LState) int {
	n := l.GetTop()
	right := l.Get(n)
	for i := n - 1; i >= 1; {
		if !joinable(right) || !joinable(l.Get(i)) {
			right = metamethod(l, "__concat", "concatenate", l.Get(i), right, joinable(l.Get(i)))
			i--
			continue
		}
		first, size := i, len(valueText(right))
		for ; first >= 1 && joinable(l.Get(first)); first-- {
			size += len(valueText(l.Get(first)))
		}
		if size > maxString {
			l.RaiseError(errLength)
		}
		var b strings.Builder
		b.Grow(size)
		for j := first + 1; j <= i; j++ {
			b.WriteString(valueText(l.Get(j)))
		}
		b.WriteString(valueText(right))
		right, i = lua.LString(b.String()), first
	}
	l.Push(right)
	return 1
}

func joinable(v lua.LValue) bool { return v.Type() == lua.LTString || v.Type() == lua.LTNumber }

// metamethod calls that of an operator for values one of which is none of its own: b, if fine says that a is one. Without any it
// raises an error that says what was attempted.
func metamethod(l *lua.LState, name, attempt string, a, b lua.LValue, fine bool) lua.LValue {
	f := l.GetMetaField(a, name)
	if f == lua.LNil {
		f = l.GetMetaField(b, name)
	}
	if f == lua.LNil {
		bad := a
		if fine {
			bad = b
		}
		l.RaiseError("attempt to %s a %s value", attempt, bad.Type().String())
	}
	l.Push(f)
	l.Push(a)
	l.Push(b)
	l.Call(2, 1)
	v := l.Get(-1)
	l.Pop(1)
	return v
}

// stringFunctions takes the place of the interpreter's library: that writes numbers in Go's way.
func (r *Run) stringFunctions(t *lua.LTable) {
	t.RawSetString("__index", lua.LNil)
	gmatch := r.l.NewFunction(r.stringGmatch)
	t.RawSetString("gmatch", gmatch)
	t.RawSetString("gfind", gmatch) // Lua 5.0's name
	r.l.SetFuncs(t, map[string]lua.LGFunction{
		"len":     func(l *lua.LState) int { l.Push(lua.LNumber(len(checkString(l, 1)))); return 1 },
		"sub":     stringSub,
		"byte":    stringByte,
		"char":    stringChar,
		"rep":     stringRep,
		"reverse": stringReverse,
		"upper":   func(l *lua.LState) int { return mapBytes(l, &upperCase) },
		"lower":   func(l *lua.LState) int { return mapBytes(l, &lowerCase) },
		"find":    r.stringFind,
		"match":   r.stringMatch,
		"gsub":    r.stringGsub,
		"format":  stringFormat,
		"dump": func(l *lua.LState) int {
			l.RaiseError("unable to dump given function")
			return 0
		},
	})
}

// fromEnd is a position in a text of n bytes; negative ones count from its end.
func fromEnd(at int64, n int) int64 {
	if at < 0 {
		at += int64(n) + 1
	}
	return max(at, 0)
}

func stringSub(l *lua.LState) int {
	s := checkString(l, 1)
	from := max(fromEnd(checkInteger(l, 2), len(s)), 1)
	to := min(fromEnd(optInteger(l, 3, -1), len(s)), int64(len(s)))
	if from > to {
		s, from, to = "", 1, 0
	}
	l.Push(lua.LString(s[from-1 : to]))
	return 1
}

func stringByte(l *lua.LState) int {
	s := checkString(l, 1)
	from := fromEnd(optInteger(l, 2, 1), len(s))
	to := min(fromEnd(optInteger(l, 3, from), len(s)), int64(len(s)))
	from = max(from, 1)
	if from > to {
		return 0
	}
	if to-from >= maxResults {
		l.RaiseError("stack overflow (string slice too long)")
	}
	for _, c := range []byte(s[from-1 : to]) {
		l.Push(lua.LNumber(c))
	}
	return int(to - from + 1)
}

func stringChar(l *lua.LState) int {
	b := make([]byte, l.GetTop())
	for i := range b {
		c := int32(checkInteger(l, i+1))
		if b[i] = byte(c); int32(b[i]) != c {
			l.ArgError(i+1, "invalid value")
		}
	}
	l.Push(lua.LString(b))
	return 1
}

func stringRep(l *lua.LState) int {
	s, n := checkString(l, 1), max(int(int32(checkInteger(l, 2))), 0)
	if len(s) > 0 && n > maxString/len(s) {
		l.RaiseError(errLength)
	}
	if s == "" {
		n = 0
	}
	l.Push(lua.LString(strings.Repeat(s, n)))
	return 1
}

func stringReverse(l *lua.LState) int {
	b := []byte(checkString(l, 1))
	slices.Reverse(b)
	l.Push(lua.LString(b))
	return 1
}

func mapBytes(l *lua.LState, table *[256]byte) int {
	b := []byte(checkString(l, 1))
	for i := range b {
		b[i] = table[b[i]]
	}
	l.Push(lua.LString(b))
	return 1
}

// stringFormat is string.format: C's printf with the conversions that Lua has.
func stringFormat(l *lua.LState) int {
	f := checkString(l, 1)
	var b strings.Builder
	arg := 1
	for i := 0; i < len(f); i++ {
		if f[i] != '%' {
			b.WriteByte(f[i])
			continue
		}
		if i++; i < len(f) && f[i] == '%' {
			b.WriteByte('%')
			continue
		}
		if arg++; arg > l.GetTop() {
			l.ArgError(arg, "no value")
		}
		c, problem := readConversion(f[i:])
		if problem != "" {
			l.RaiseError("%s", problem)
		}
		i += len(c.text)
		formatOne(l, &b, c, arg)
		if b.Len() > maxString {
			l.RaiseError(errLength)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

// conversion is one of a format, such as %-5.1f.
type conversion struct {
	text      string // without the verb
	flags     string
	width     int
	precision int // -1 if there is none
	verb      byte
}

// readConversion reads what follows a percent sign.
func readConversion(f string) (c conversion, problem string) {
	rest := strings.TrimLeft(f, "-+ #0")
	if c.flags = f[:len(f)-len(rest)]; len(c.flags) > 5 {
		return c, "invalid format (repeated flags)"
	}
	c.width, rest = twoDigits(rest)
	c.precision = -1
	if behind, dot := strings.CutPrefix(rest, "."); dot {
		c.precision, rest = twoDigits(behind)
	}
	if rest != "" && rest[0] >= '0' && rest[0] <= '9' {
		return c, "invalid format (width or precision too long)"
	}
	if c.text = f[:len(f)-len(rest)]; rest != "" {
		c.verb = rest[0]
	}
	return c, ""
}

func twoDigits(s string) (n int, rest string) {
	i := 0
	for i < min(len(s), 2) && s[i] >= '0' && s[i] <= '9' {
		n = n*10 + int(s[i]-'0')
		i++
	}
	return n, s[i:]
}

func (c conversion) has(flag string) bool { return strings.Contains(c.flags, flag) }

func formatOne(l *lua.LState, b *strings.Builder, c conversion, arg int) {
	switch c.verb {
	case 'c':
		b.WriteString(cString(c.padded(string([]byte{byte(checkInteger(l, arg))}))))
	case 'd', 'i':
		n := truncate(checkNumber(l, arg))
		b.WriteString(c.integer(magnitude(n), c.sign(n < 0)))
	case 'u', 'o', 'x', 'X':
		b.WriteString(c.integer(toUnsigned(checkNumber(l, arg)), ""))
	case 'e', 'E', 'f', 'g', 'G':
		f := checkNumber(l, arg)
		switch {
		case math.IsNaN(f) || math.IsInf(f, 0):
			b.WriteString(c.notFinite(f))
		case c.precision < 0:
			fmt.Fprintf(b, "%"+c.text+".6"+string(c.verb), f)
		default:
			fmt.Fprintf(b, "%"+c.text+string(c.verb), f)
		}
	case 'q':
		b.WriteString(quote(checkString(l, arg)))
	case 's':
		text := checkString(l, arg)
		if c.precision >= 0 || len(text) < 100 { // a longer one is left as it is
			text = cString(text)
			if c.precision >= 0 {
				text = text[:min(c.precision, len(text))]
			}
			text = c.padded(text)
		}
		b.WriteString(text)
	default:
		l.RaiseError("invalid option '%%%s' to 'format'", cString(string([]byte{c.verb})))
	}
}

// cString is what of a text C sees.
func cString(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return s
}

func magnitude(n int64) uint64 {
	if n < 0 {
		return -uint64(n)
	}
	return uint64(n)
}

func (c conversion) sign(negative bool) string {
	switch {
	case negative:
		return "-"
	case c.has("+"):
		return "+"
	case c.has(" "):
		return " "
	}
	return ""
}

func (c conversion) integer(n uint64, sign string) string {
	base := 10
	switch c.verb {
	case 'o':
		base = 8
	case 'x', 'X':
		base = 16
	}
	digits := strconv.FormatUint(n, base)
	if n == 0 && c.precision == 0 {
		digits = ""
	}
	digits = strings.Repeat("0", max(c.precision-len(digits), 0)) + digits
	switch {
	case !c.has("#"):
	case base == 8 && !strings.HasPrefix(digits, "0"):
		digits = "0" + digits
	case base == 16 && n != 0:
		sign = "0x"
	}
	if c.has("0") && !c.has("-") && c.precision < 0 {
		digits = strings.Repeat("0", max(c.width-len(sign)-len(digits), 0)) + digits
	}
	text := c.padded(sign + digits)
	if c.verb == 'X' {
		text = strings.ToUpper(text)
	}
	return text
}

// notFinite is what C has for a number without digits.
func (c conversion) notFinite(f float64) string {
	text := strings.TrimPrefix(formatG(f, 1), "-")
	text = c.padded(c.sign(math.Signbit(f)) + text)
	if c.verb < 'a' {
		text = strings.ToUpper(text)
	}
	return text
}

func (c conversion) padded(text string) string {
	blanks := strings.Repeat(" ", max(c.width-len(text), 0))
	if c.has("-") {
		return text + blanks
	}
	return blanks + text
}

func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for i := range len(s) {
		switch c := s[i]; c {
		case '"', '\\', '\n':
			b.WriteByte('\\')
			b.WriteByte(c)
		case '\r':
			b.WriteString("\\r")
		case 0:
			b.WriteString("\\000")
		default:
			b.WriteByte(c)
		}
	}
	b.WriteByte('"')
	return b.String()
}

// upperCase and lowerCase are those of C's locale: bytes above 127 stay, whatever they are part of.
var upperCase, lowerCase = func() (up, low [256]byte) {
	for i := range 256 {
		c := byte(i)
		up[i], low[i] = c, c
		switch {
		case c >= 'a' && c <= 'z':
			up[i] = c - 32
		case c >= 'A' && c <= 'Z':
			low[i] = c + 32
		}
	}
	return up, low
}()
