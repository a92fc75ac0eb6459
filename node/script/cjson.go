package script

import (
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	lua "github.com/yuin/gopher-lua"
)

// jsonStack is how many values lua-cjson may have on its stack: it bounds the depth, whatever the settings allow.
const jsonStack = 8000

// jsonSettings are what a script may set of one cjson. Those of the global one last until the script ends.
type jsonSettings struct {
	sparseConvert, sparseRatio, sparseSafe int
	encodeDepth, decodeDepth               int
	precision                              int
	encodeInvalid, decodeInvalid           int // of invalidChoices
	keepBuffer                             int // without effect: encoders have no buffer to keep
}

func defaultJSON() jsonSettings {
	return jsonSettings{
		sparseRatio: 2, sparseSafe: 10, encodeDepth: 1000, decodeDepth: 1000, precision: 14, decodeInvalid: 1, keepBuffer: 1,
	}
}

var (
	switchChoices  = []string{"off", "on"}
	invalidChoices = []string{"off", "on", "null"}
)

const invalidAsNull = 2

// null is what JSON's null is to a script: a light userdata that equals itself.
type null struct{}

// jsonLibrary is a cjson with settings of its own.
func (r *Run) jsonLibrary(c *jsonSettings) *lua.LTable {
	if r.jsonNull == nil {
		r.jsonNull = r.l.NewUserData()
		r.jsonNull.Value = null{}
	}
	t := r.l.SetFuncs(r.l.NewTable(), r.jsonFunctions(c))
	t.RawSetString("null", r.jsonNull)
	t.RawSetString("_NAME", lua.LString("cjson"))
	t.RawSetString("_VERSION", lua.LString("2.1.0"))
	return t
}

func (r *Run) jsonFunctions(c *jsonSettings) map[string]lua.LGFunction {
	number := func(setting *int, low, high int) lua.LGFunction {
		return func(l *lua.LState) int { mostArguments(l, 1); return integerOption(l, 1, setting, low, high) }
	}
	choice := func(setting *int, choices []string) lua.LGFunction {
		return func(l *lua.LState) int { mostArguments(l, 1); return choiceOption(l, 1, setting, choices) }
	}
	return map[string]lua.LGFunction{
		"encode": func(l *lua.LState) int {
			oneArgument(l, "encode")
			e := jsonEncoder{l: l, c: c}
			e.value(l.Get(1), 0, 1)
			l.Push(lua.LString(e.b.String()))
			return 1
		},
		"decode": func(l *lua.LState) int {
			oneArgument(l, "decode")
			d := jsonDecoder{l: l, c: c, null: r.jsonNull}
			l.Push(d.decode(checkString(l, 1)))
			return 1
		},
		"encode_sparse_array": func(l *lua.LState) int {
			mostArguments(l, 3)
			return choiceOption(l, 1, &c.sparseConvert, switchChoices) + integerOption(l, 2, &c.sparseRatio, 0, math.MaxInt32) +
				integerOption(l, 3, &c.sparseSafe, 0, math.MaxInt32)
		},
		"encode_max_depth":        number(&c.encodeDepth, 1, math.MaxInt32),
		"decode_max_depth":        number(&c.decodeDepth, 1, math.MaxInt32),
		"encode_number_precision": number(&c.precision, 1, 14),
		"encode_keep_buffer":      choice(&c.keepBuffer, switchChoices),
		"encode_invalid_numbers":  choice(&c.encodeInvalid, invalidChoices),
		"decode_invalid_numbers":  choice(&c.decodeInvalid, switchChoices),
		"new": func(l *lua.LState) int {
			c := defaultJSON()
			l.Push(r.jsonLibrary(&c))
			return 1
		},
	}
}

func oneArgument(l *lua.LState, name string) {
	if l.GetTop() != 1 {
		l.RaiseError("bad argument #1 to '%s' (expected 1 argument)", name)
	}
}

// mostArguments refuses what is behind the nth argument, and has the ones before it be there.
func mostArguments(l *lua.LState, n int) {
	if l.GetTop() > n {
		l.ArgError(n+1, "found too many arguments")
	}
	l.SetTop(n)
}

// integerOption sets what argument i says, if it is there, and returns the setting to the script.
func integerOption(l *lua.LState, i int, setting *int, low, high int) int {
	if l.Get(i) != lua.LNil {
		n := int(int32(checkInteger(l, i)))
		if n < low || n > high {
			l.ArgError(1, fmt.Sprintf("expected integer between %d and %d", low, high))
		}
		*setting = n
	}
	l.Push(lua.LNumber(*setting))
	return 1
}

// choiceOption is integerOption for one of some names. The first two are false and true, too.
func choiceOption(l *lua.LState, i int, setting *int, choices []string) int {
	if on, ok := l.Get(i).(lua.LBool); ok {
		*setting = 0
		if on {
			*setting = 1
		}
	} else if l.Get(i) != lua.LNil {
		name := checkString(l, i)
		n := slices.Index(choices, name)
		if n < 0 {
			l.ArgError(i, "invalid option '"+name+"'")
		}
		*setting = n
	}
	if *setting > 1 {
		l.Push(lua.LString(choices[*setting]))
	} else {
		l.Push(lua.LBool(*setting == 1))
	}
	return 1
}

type jsonEncoder struct {
	l *lua.LState
	c *jsonSettings
	b strings.Builder
}

// value writes v, which is depth tables deep; lua-cjson would have that many values on its stack.
func (e *jsonEncoder) value(v lua.LValue, depth, stack int) {
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
		if depth++; depth > e.c.encodeDepth || stack+3 > jsonStack {
			e.l.RaiseError("Cannot serialise, excessive nesting (%d)", depth)
		}
		e.table(v, depth, stack)
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
		switch e.c.encodeInvalid {
		case 0:
			e.l.RaiseError("Cannot serialise number: must not be NaN or Inf")
		case invalidAsNull:
			e.b.WriteString("null")
			return
		}
		if f != f {
			e.b.WriteString("nan") // of any sign
			return
		}
	}
	e.b.WriteString(formatG(f, e.c.precision))
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
	if e.c.sparseRatio > 0 && last > count*e.c.sparseRatio && last > e.c.sparseSafe {
		if e.c.sparseConvert == 0 {
			e.l.RaiseError("Cannot serialise table: excessively sparse array")
		}
		return -1
	}
	return last
}

func (e *jsonEncoder) table(t *lua.LTable, depth, stack int) {
	if n := e.arrayLen(t); n > 0 {
		e.b.WriteByte('[')
		for i := 1; i <= n; i++ {
			if i > 1 {
				e.b.WriteByte(',')
			}
			e.value(t.RawGetInt(i), depth, stack+1)
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
		e.value(v, depth, stack+2)
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

// jsonKind is a token's name in error messages. What can't be a token is its own.
type jsonKind string

const (
	jsonObject  jsonKind = "T_OBJ_BEGIN"
	jsonArray   jsonKind = "T_ARR_BEGIN"
	jsonString  jsonKind = "T_STRING"
	jsonNumber  jsonKind = "T_NUMBER"
	jsonBoolean jsonKind = "T_BOOLEAN"
	jsonNil     jsonKind = "T_NULL"
	jsonEnd     jsonKind = "T_END"
	jsonInvalid jsonKind = "invalid token"
	jsonNoDigit jsonKind = "invalid number"
	jsonCut     jsonKind = "unexpected end of string"
	jsonEscape  jsonKind = "invalid escape code"
	jsonUnicode jsonKind = "invalid unicode escape code"
)

var jsonMarks = map[byte]jsonKind{
	'{': jsonObject, '}': "T_OBJ_END", '[': jsonArray, ']': "T_ARR_END", ':': "T_COLON", ',': "T_COMMA", 0: jsonEnd,
}

// jsonDecoder reads s as a C string: it ends at the first zero byte.
type jsonDecoder struct {
	l    *lua.LState
	c    *jsonSettings
	null *lua.LUserData
	s    string
	at   int

	// The token that was read last, where it begins or is wrong, and its value.
	kind  jsonKind
	start int
	value lua.LValue
}

func (d *jsonDecoder) decode(s string) lua.LValue {
	if len(s) >= 2 && (s[0] == 0 || s[1] == 0) {
		d.l.RaiseError("JSON parser does not support UTF-16 or UTF-32")
	}
	d.s, _, _ = strings.Cut(s, "\x00")
	d.next()
	v := d.process(0, 1)
	if d.next(); d.kind != jsonEnd {
		d.fail("the end")
	}
	return v
}

func (d *jsonDecoder) fail(expected string) {
	d.l.RaiseError("Expected %s but found %s at character %d", expected, string(d.kind), d.start+1)
}

func (d *jsonDecoder) peek(at int) byte {
	if at < len(d.s) {
		return d.s[at]
	}
	return 0
}

// next reads a token.
func (d *jsonDecoder) next() {
	for strings.IndexByte(" \t\n\r", d.peek(d.at)) >= 0 {
		d.at++
	}
	d.start = d.at
	c := d.peek(d.at)
	if d.kind = jsonMarks[c]; d.kind != "" {
		d.at++
		return
	}
	switch {
	case c == '"':
		d.text()
	case c == '-' || c >= '0' && c <= '9':
		if d.kind = jsonNoDigit; d.c.decodeInvalid == 1 || !d.notJSON() {
			d.number()
		}
	case d.word("true", jsonBoolean, lua.LTrue), d.word("false", jsonBoolean, lua.LFalse), d.word("null", jsonNil, d.null):
	case d.c.decodeInvalid == 1 && d.notJSON():
		d.number()
	default:
		d.kind = jsonInvalid
	}
}

func (d *jsonDecoder) word(w string, kind jsonKind, v lua.LValue) bool {
	if !strings.HasPrefix(d.s[d.at:], w) {
		return false
	}
	d.at += len(w)
	d.kind, d.value = kind, v
	return true
}

// notJSON says that what begins here may be a number to C, and is none to JSON.
func (d *jsonDecoder) notJSON() bool {
	if d.peek(d.at) == '+' {
		return true
	}
	s := strings.TrimPrefix(d.s[d.at:], "-")
	if len(s) > 1 && s[0] == '0' {
		return s[1]|0x20 == 'x' || s[1] >= '0' && s[1] <= '9'
	}
	return hasFold(s, "inf") || hasFold(s, "nan")
}

func (d *jsonDecoder) number() {
	f, n := scanNumber(d.s[d.at:])
	if d.kind = jsonNumber; n == 0 {
		d.kind = jsonNoDigit
	}
	d.at += n
	d.value = lua.LNumber(f)
}

// process makes a value of the token that was read.
func (d *jsonDecoder) process(depth, stack int) lua.LValue {
	switch d.kind {
	case jsonString, jsonNumber, jsonBoolean, jsonNil:
		return d.value
	case jsonArray:
		d.descend(depth+1, stack+2)
		return d.array(depth+1, stack)
	case jsonObject:
		d.descend(depth+1, stack+3)
		return d.object(depth+1, stack)
	}
	d.fail("value")
	return lua.LNil
}

func (d *jsonDecoder) descend(depth, stack int) {
	if depth > d.c.decodeDepth || stack > jsonStack {
		d.l.RaiseError("Found too many nested data structures (%d) at character %d", depth, d.at)
	}
}

func (d *jsonDecoder) array(depth, stack int) lua.LValue {
	t := d.l.NewTable()
	if d.next(); d.kind == "T_ARR_END" {
		return t
	}
	for i := 1; ; i++ {
		t.RawSetInt(i, d.process(depth, stack+1))
		switch d.next(); d.kind {
		case "T_ARR_END":
			return t
		case "T_COMMA":
			d.next()
		default:
			d.fail("comma or array end")
		}
	}
}

func (d *jsonDecoder) object(depth, stack int) lua.LValue {
	t := d.l.NewTable()
	if d.next(); d.kind == "T_OBJ_END" {
		return t
	}
	for {
		if d.kind != jsonString {
			d.fail("object key string")
		}
		key := d.value
		if d.next(); d.kind != "T_COLON" {
			d.fail("colon")
		}
		d.next()
		t.RawSet(key, d.process(depth, stack+2))
		switch d.next(); d.kind {
		case "T_OBJ_END":
			return t
		case "T_COMMA":
			d.next()
		default:
			d.fail("comma or object end")
		}
	}
}

// text reads a string. What is wrong in it is where the token begins.
func (d *jsonDecoder) text() {
	var b strings.Builder
	for d.at++; ; d.at++ {
		switch c := d.peek(d.at); c {
		case 0:
			d.kind, d.start = jsonCut, d.at
			return
		case '"':
			d.at++
			d.kind, d.value = jsonString, lua.LString(b.String())
			return
		case '\\':
			if d.kind = d.escape(&b); d.kind != "" {
				d.start = d.at
				return
			}
		default:
			b.WriteByte(c)
		}
	}
}

// escape reads an escape up to its last byte, and says what is wrong with it.
func (d *jsonDecoder) escape(b *strings.Builder) (wrong jsonKind) {
	c := d.peek(d.at + 1)
	if c != 'u' {
		i := strings.IndexByte(`"\/bfnrt`, c)
		if i < 0 {
			return jsonEscape
		}
		b.WriteByte("\"\\/\b\f\n\r\t"[i])
		d.at++
		return ""
	}
	r, ok := d.hex(d.at + 2)
	size := len(`\u0000`)
	if ok && utf16.IsSurrogate(r) {
		low, isHex := d.hex(d.at + size + 2)
		r = utf16.DecodeRune(r, low)
		ok = isHex && r != utf8.RuneError && d.s[d.at+size:d.at+size+2] == `\u`
		size *= 2
	}
	if !ok {
		return jsonUnicode
	}
	b.WriteRune(r)
	d.at += size - 1
	return ""
}

func (d *jsonDecoder) hex(at int) (rune, bool) {
	if at+4 > len(d.s) {
		return 0, false
	}
	n, err := strconv.ParseUint(d.s[at:at+4], 16, 16)
	return rune(n), err == nil
}
