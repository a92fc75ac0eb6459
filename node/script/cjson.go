package script

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

const maxJSONDepth = 1000

// null is what JSON's null is to a script: a light userdata that equals itself.
type null struct{}

func jsonNull(l *lua.LState) lua.LValue {
	u := l.NewUserData()
	u.Value = null{}
	return u
}

func (r *Run) jsonFunctions() map[string]lua.LGFunction {
	return map[string]lua.LGFunction{
		"encode": func(l *lua.LState) int {
			if l.GetTop() != 1 {
				l.RaiseError("bad argument #1 to 'encode' (expected 1 argument)")
			}
			e := jsonEncoder{l: l}
			e.value(l.Get(1), 0)
			l.Push(lua.LString(e.b.String()))
			return 1
		},
		"decode": func(l *lua.LState) int {
			if l.GetTop() != 1 {
				l.RaiseError("bad argument #1 to 'decode' (expected 1 argument)")
			}
			d := jsonDecoder{l: l, s: l.CheckString(1)}
			d.null, _ = r.l.GetField(r.l.GetField(r.l.Env, "cjson"), "null").(*lua.LUserData)
			v := d.value(0)
			if d.space(); d.at < len(d.s) {
				d.fail("the end")
			}
			l.Push(v)
			return 1
		},
	}
}

type jsonEncoder struct {
	l *lua.LState
	b strings.Builder
}

func (e *jsonEncoder) value(v lua.LValue, depth int) {
	if e.b.Len() > maxString {
		e.l.RaiseError(errLength)
	}
	switch v := v.(type) {
	case lua.LString:
		e.text(string(v))
	case lua.LNumber:
		e.number(float64(v))
	case lua.LBool:
		e.b.WriteString(strconv.FormatBool(bool(v)))
	case *lua.LNilType:
		e.b.WriteString("null")
	case *lua.LTable:
		if depth++; depth > maxJSONDepth {
			e.l.RaiseError("Cannot serialise, excessive depth (%d)", depth)
		}
		e.table(v, depth)
	case *lua.LUserData:
		if v.Value == (null{}) {
			e.b.WriteString("null")
			return
		}
		e.l.RaiseError("Cannot serialise userdata: type not supported")
	default:
		e.l.RaiseError("Cannot serialise %s: type not supported", v.Type().String())
	}
}

func (e *jsonEncoder) number(f float64) {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		e.l.RaiseError("Cannot serialise number: must not be NaN or Inf")
	}
	e.b.WriteString(numberText(f))
}

// arrayLen is the length of a table that has only positive integers as keys, -1 for any other and for an empty one.
func (e *jsonEncoder) arrayLen(t *lua.LTable) int {
	last, count := 0, 0
	t.ForEach(func(k, _ lua.LValue) {
		n, ok := k.(lua.LNumber)
		if !ok || n < 1 || float64(n) != math.Floor(float64(n)) || n > math.MaxInt32 {
			last = -1
		}
		if last >= 0 {
			last = max(last, int(n))
		}
		count++
	})
	if last <= 0 {
		return -1
	}
	if last > count*2 && last > 10 {
		e.l.RaiseError("Cannot serialise table: excessively sparse array")
	}
	return last
}

func (e *jsonEncoder) table(t *lua.LTable, depth int) {
	if n := e.arrayLen(t); n > 0 {
		e.b.WriteByte('[')
		for i := 1; i <= n; i++ {
			if i > 1 {
				e.b.WriteByte(',')
			}
			e.value(t.RawGetInt(i), depth)
		}
		e.b.WriteByte(']')
		return
	}
	e.b.WriteByte('{')
	first := true
	t.ForEach(func(k, v lua.LValue) {
		if !first {
			e.b.WriteByte(',')
		}
		first = false
		switch k := k.(type) {
		case lua.LString:
			e.text(string(k))
		case lua.LNumber:
			e.b.WriteByte('"')
			e.number(float64(k))
			e.b.WriteByte('"')
		default:
			e.l.RaiseError("Cannot serialise %s: table key must be a number or string", k.Type().String())
		}
		e.b.WriteByte(':')
		e.value(v, depth)
	})
	e.b.WriteByte('}')
}

var jsonEscapes = map[byte]string{
	'"': `\"`, '\\': `\\`, '/': `\/`, '\b': `\b`, '\f': `\f`, '\n': `\n`, '\r': `\r`, '\t': `\t`,
}

func (e *jsonEncoder) text(s string) {
	e.b.WriteByte('"')
	for i := range len(s) {
		c := s[i]
		if esc := jsonEscapes[c]; esc != "" {
			e.b.WriteString(esc)
		} else if c < ' ' || c == 127 {
			fmt.Fprintf(&e.b, `\u%04x`, c)
		} else {
			e.b.WriteByte(c)
		}
	}
	e.b.WriteByte('"')
}

type jsonDecoder struct {
	l    *lua.LState
	s    string
	at   int
	null *lua.LUserData
}

func (d *jsonDecoder) space() {
	for d.at < len(d.s) && strings.IndexByte(" \t\r\n", d.s[d.at]) >= 0 {
		d.at++
	}
}

func (d *jsonDecoder) fail(expected string) {
	found, at := "invalid token", d.at+1
	if d.at >= len(d.s) {
		found = "T_END"
	} else if kind := jsonTokens[d.s[d.at]]; kind != "" {
		found = kind
	}
	d.l.RaiseError("Expected %s but found %s at character %d", expected, found, at)
}

var jsonTokens = map[byte]string{
	'{': "T_OBJ_BEGIN", '}': "T_OBJ_END", '[': "T_ARR_BEGIN", ']': "T_ARR_END", ':': "T_COLON", ',': "T_COMMA", '"': "T_STRING",
	'0': "T_NUMBER", '1': "T_NUMBER", '2': "T_NUMBER", '3': "T_NUMBER", '4': "T_NUMBER", '5': "T_NUMBER", '6': "T_NUMBER",
	'7': "T_NUMBER", '8': "T_NUMBER", '9': "T_NUMBER", '-': "T_NUMBER",
}

func (d *jsonDecoder) take(c byte) bool {
	d.space()
	if d.at < len(d.s) && d.s[d.at] == c {
		d.at++
		return true
	}
	return false
}

func (d *jsonDecoder) value(depth int) lua.LValue {
	d.space()
	if depth++; depth > maxJSONDepth {
		d.l.RaiseError("Found too many nested data structures (%d)", depth)
	}
	if d.at >= len(d.s) {
		d.fail("value")
	}
	switch c := d.s[d.at]; {
	case c == '{':
		d.at++
		return d.object(depth)
	case c == '[':
		d.at++
		return d.array(depth)
	case c == '"':
		return lua.LString(d.text())
	case d.word("true"):
		return lua.LTrue
	case d.word("false"):
		return lua.LFalse
	case d.word("null"):
		return d.null
	case c == '-' || c >= '0' && c <= '9':
		return d.number()
	}
	d.fail("value")
	return lua.LNil
}

func (d *jsonDecoder) word(w string) bool {
	if !strings.HasPrefix(d.s[d.at:], w) {
		return false
	}
	d.at += len(w)
	return true
}

func (d *jsonDecoder) number() lua.LValue {
	end := d.at
	for end < len(d.s) && strings.IndexByte("+-0123456789.eExXabcdfABCDF", d.s[end]) >= 0 {
		end++
	}
	n, err := strconv.ParseFloat(d.s[d.at:end], 64)
	if err != nil {
		if i, e := strconv.ParseInt(d.s[d.at:end], 0, 64); e == nil {
			n, err = float64(i), nil
		}
	}
	if err != nil && !math.IsInf(n, 0) {
		d.l.RaiseError("Expected value but found invalid number at character %d", d.at+1)
	}
	d.at = end
	return lua.LNumber(n)
}

func (d *jsonDecoder) array(depth int) lua.LValue {
	t := d.l.NewTable()
	if d.take(']') {
		return t
	}
	for i := 1; ; i++ {
		t.RawSetInt(i, d.value(depth))
		if d.take(']') {
			return t
		}
		if !d.take(',') {
			d.fail("comma or array end")
		}
	}
}

func (d *jsonDecoder) object(depth int) lua.LValue {
	t := d.l.NewTable()
	if d.take('}') {
		return t
	}
	for {
		if d.space(); d.at >= len(d.s) || d.s[d.at] != '"' {
			d.fail("object key string")
		}
		key := d.text()
		if !d.take(':') {
			d.fail("colon")
		}
		t.RawSetString(key, d.value(depth))
		if d.take('}') {
			return t
		}
		if !d.take(',') {
			d.fail("comma or object end")
		}
	}
}

func (d *jsonDecoder) text() string {
	start := d.at
	var b strings.Builder
	for d.at++; d.at < len(d.s); d.at++ {
		switch c := d.s[d.at]; {
		case c == '"':
			d.at++
			return b.String()
		case c == '\\':
			d.at++
			if !d.escape(&b) {
				d.l.RaiseError("Expected value but found invalid escape code at character %d", d.at)
			}
		default:
			b.WriteByte(c)
		}
	}
	d.l.RaiseError("Expected value but found unexpected end of string at character %d", max(d.at+1, start))
	return ""
}

func (d *jsonDecoder) escape(b *strings.Builder) bool {
	if d.at >= len(d.s) {
		return false
	}
	c := d.s[d.at]
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return false
		}
		b.WriteByte("\"\\/\b\f\n\r\t"[i])
		return true
	}
	high, ok := d.hex(d.at + 1)
	if !ok {
		return false
	}
	d.at += 4
	if utf16.IsSurrogate(high) {
		low, ok := d.hex(d.at + 3)
		pair := utf16.DecodeRune(high, low)
		if !ok || d.s[d.at+1] != '\\' || d.s[d.at+2] != 'u' || pair == utf8.RuneError {
			return false
		}
		d.at += 6
		high = pair
	}
	b.WriteRune(high)
	return true
}

func (d *jsonDecoder) hex(at int) (rune, bool) {
	if at+4 > len(d.s) {
		return 0, false
	}
	n, err := strconv.ParseUint(d.s[at:at+4], 16, 16)
	return rune(n), err == nil
}
