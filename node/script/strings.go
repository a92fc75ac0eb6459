package script

import (
	"fmt"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

const errLength = "string length overflow"

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
			right = r.concatMeta(l, l.Get(i), right)
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

func (r *Run) concatMeta(l *lua.LState, a, b lua.LValue) lua.LValue {
	f := l.GetMetaField(a, "__concat")
	if f == lua.LNil {
		f = l.GetMetaField(b, "__concat")
	}
	if f == lua.LNil {
		bad := a
		if joinable(a) {
			bad = b
		}
		l.RaiseError("attempt to concatenate a %s value", bad.Type().String())
	}
	l.Push(f)
	l.Push(a)
	l.Push(b)
	l.Call(2, 1)
	v := l.Get(-1)
	l.Pop(1)
	return v
}

func (r *Run) tableFunctions(t *lua.LTable) {
	for _, name := range []string{"insert", "remove", "sort"} {
		r.wrap(t, name, r.refuseReadonly)
	}
	t.RawSetString("concat", r.l.NewFunction(r.tableConcat))
}

func (r *Run) tableConcat(l *lua.LState) int {
	t, sep := l.CheckTable(1), l.OptString(2, "")
	from, to := l.OptInt(3, 1), l.OptInt(4, t.Len())
	var b strings.Builder
	for i := from; i <= to; i++ {
		v := t.RawGetInt(i)
		if !joinable(v) {
			l.RaiseError("invalid value (%s) at index %d in table for 'concat'", v.Type().String(), i)
		}
		if b.WriteString(valueText(v)); i < to {
			b.WriteString(sep)
		}
		if b.Len() > maxString {
			l.RaiseError(errLength)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

func (r *Run) stringFunctions(t *lua.LTable) {
	for name, table := range map[string]*[256]byte{"upper": &upperCase, "lower": &lowerCase} {
		t.RawSetString(name, r.l.NewFunction(func(l *lua.LState) int {
			b := []byte(l.CheckString(1))
			for i := range b {
				b[i] = table[b[i]]
			}
			l.Push(lua.LString(b))
			return 1
		}))
	}
	r.wrap(t, "byte", func(l *lua.LState) {
		if l.GetTop() > 1 && l.OptInt(2, 1) == 0 { // before the first is the first
			if l.GetTop() == 2 {
				l.Push(lua.LNumber(0))
			}
			l.Replace(2, lua.LNumber(1))
		}
	})
	r.wrap(t, "find", startWithin)
	r.wrap(t, "match", startWithin)
	t.RawSetString("rep", r.l.NewFunction(func(l *lua.LState) int {
		s, n := l.CheckString(1), max(l.CheckInt(2), 0)
		if len(s) > 0 && n > maxString/len(s) {
			l.RaiseError(errLength)
		}
		if s == "" {
			n = 0
		}
		l.Push(lua.LString(strings.Repeat(s, n)))
		return 1
	}))
	r.wrap(t, "gsub", func(l *lua.LState) {
		if s, ok := l.Get(3).(lua.LString); ok && (len(l.CheckString(1))+1)*(len(s)+1) > maxString {
			l.RaiseError(errLength)
		}
	})
	t.RawSetString("format", r.l.NewFunction(r.format))
	t.RawSetString("dump", r.l.NewFunction(func(l *lua.LState) int {
		l.RaiseError("unable to dump given function")
		return 0
	}))
}

// format is string.format: C's printf with the conversions that Lua has.
func (r *Run) format(l *lua.LState) int {
	f := l.CheckString(1)
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
		start := i
		for i < len(f) && strings.IndexByte("-+ #0123456789.", f[i]) >= 0 {
			i++
		}
		spec := f[start:i]
		if i == len(f) || len(spec) > 8 {
			l.RaiseError("invalid format (width or precision too long)")
		}
		arg++
		r.formatOne(l, &b, spec, f[i], arg)
		if b.Len() > maxString {
			l.RaiseError(errLength)
		}
	}
	l.Push(lua.LString(b.String()))
	return 1
}

func (r *Run) formatOne(l *lua.LState, b *strings.Builder, spec string, verb byte, arg int) {
	width, precision, dot := strings.Cut(strings.TrimLeft(spec, "-+ #0"), ".")
	w, _ := strconv.Atoi(width)
	p, _ := strconv.Atoi(precision)
	if w > 99 || p > 99 {
		l.RaiseError("invalid format (width or precision too long)")
	}
	switch verb {
	case 'c':
		b.WriteByte(byte(l.CheckInt(arg)))
	case 'd', 'i':
		fmt.Fprintf(b, "%"+spec+"d", truncate(float64(l.CheckNumber(arg))))
	case 'u':
		fmt.Fprintf(b, "%"+spec+"d", uint64(truncate(float64(l.CheckNumber(arg)))))
	case 'o', 'x', 'X':
		fmt.Fprintf(b, "%"+spec+string(verb), uint64(truncate(float64(l.CheckNumber(arg)))))
	case 'e', 'E', 'f', 'g', 'G':
		if !dot {
			spec += ".6"
		}
		text := fmt.Sprintf("%"+spec+string(verb), float64(l.CheckNumber(arg)))
		b.WriteString(strings.NewReplacer("+Inf", "inf", "-Inf", "-inf", "NaN", "nan").Replace(text))
	case 'q':
		b.WriteString(quote(l.CheckString(arg)))
	case 's':
		l.CheckAny(arg)
		text := valueText(l.Get(arg))
		if !joinable(l.Get(arg)) {
			text = l.CheckString(arg)
		}
		if dot && p < len(text) {
			text = text[:p]
		}
		if pad := w - len(text); pad > 0 {
			if strings.HasPrefix(spec, "-") {
				text += strings.Repeat(" ", pad)
			} else {
				text = strings.Repeat(" ", pad) + text
			}
		}
		b.WriteString(text)
	default:
		l.RaiseError("invalid option '%%%s' to 'format'", string(verb))
	}
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

// startWithin has a search begin behind the end of the text at most: the interpreter's own would fail.
func startWithin(l *lua.LState) {
	if end := len(l.CheckString(1)) + 1; l.OptInt(3, 1) > end {
		l.Replace(3, lua.LNumber(end))
	}
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
