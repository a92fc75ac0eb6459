package script

import (
	"bytes"
	"math"
	"strconv"
	"strings"

	lua "github.com/yuin/gopher-lua"

	"hypercache/node/resp"
)

const maxNesting = 100 // of what a script returns, and of replies

var crlf = []byte("\r\n")

// toLua converts the RESP value that b begins with, and returns what follows it.
func (r *Run) toLua(l *lua.LState, b []byte, depth int) (value lua.LValue, rest []byte) {
	end := bytes.Index(b, crlf)
	if end < 1 || depth > maxNesting {
		return lua.LNil, nil
	}
	kind, line := b[0], string(b[1:end])
	rest = b[end+2:]
	switch kind {
	case ':':
		n, _ := strconv.ParseFloat(line, 64)
		return lua.LNumber(n), rest
	case '$', '=':
		return r.stringToLua(l, kind, line, rest)
	case '+':
		return field(l, "ok", lua.LString(line)), rest
	case '-':
		t := r.errorTable(l, "-"+line)
		t.RawSetString("ignore_error_stats_update", lua.LTrue) // a command has counted it
		return t, rest
	case '_':
		return lua.LNil, rest
	case '#':
		return lua.LBool(line == "t"), rest
	case ',':
		n, _ := strconv.ParseFloat(line, 64)
		return field(l, "double", lua.LNumber(n)), rest
	case '(':
		return field(l, "big_number", lua.LString(line)), rest
	}
	return r.aggregateToLua(l, kind, line, rest, depth)
}

func field(l *lua.LState, name string, v lua.LValue) *lua.LTable {
	t := l.CreateTable(0, 1)
	t.RawSetString(name, v)
	return t
}

func (r *Run) stringToLua(l *lua.LState, kind byte, line string, b []byte) (lua.LValue, []byte) {
	n, err := strconv.Atoi(line)
	if err != nil || n < 0 {
		return lua.LFalse, b
	}
	if n+2 > len(b) {
		return lua.LNil, nil
	}
	text, rest := string(b[:n]), b[n+2:]
	if kind == '$' || n < 4 {
		return lua.LString(text), rest
	}
	v := l.CreateTable(0, 2)
	v.RawSetString("format", lua.LString(text[:3]))
	v.RawSetString("string", lua.LString(text[4:]))
	return field(l, "verbatim_string", v), rest
}

func (r *Run) aggregateToLua(l *lua.LState, kind byte, line string, b []byte, depth int) (lua.LValue, []byte) {
	n, err := strconv.Atoi(line)
	if err != nil || n < 0 {
		return lua.LFalse, b
	}
	t := l.CreateTable(min(n, len(b)), 0)
	next := func() (v lua.LValue) {
		v, b = r.toLua(l, b, depth+1)
		return v
	}
	for i := range n {
		switch kind {
		case '%':
			k := next()
			if v := next(); k != lua.LNil {
				t.RawSet(k, v)
			}
		case '~':
			if v := next(); v != lua.LNil {
				t.RawSet(v, lua.LTrue)
			}
		default:
			t.RawSetInt(i+1, next())
		}
	}
	switch kind {
	case '%':
		return field(l, "map", t), b
	case '~':
		return field(l, "set", t), b
	}
	return t, b
}

// reply writes what a script returned. Numbers lose their fraction, arrays end at the first nil. problem is an error that
// stands for the whole reply.
func (r *Run) reply(w *resp.Writer, v lua.LValue, depth int) (problem string) {
	if depth > maxNesting {
		return "ERR reached lua stack limit"
	}
	switch v := v.(type) {
	case lua.LString:
		w.BulkString(string(v))
	case lua.LNumber:
		w.Int(truncate(float64(v)))
	case lua.LBool:
		switch {
		case r.proto == 3:
			w.Bool(bool(v))
		case bool(v):
			w.Int(1)
		default:
			w.Null()
		}
	case *lua.LTable:
		return r.tableReply(w, v, depth)
	default:
		w.Null()
	}
	return ""
}

func truncate(f float64) int64 {
	switch {
	case f >= math.MaxInt64, f <= math.MinInt64, f != f:
		return math.MinInt64 // what C gives
	}
	return int64(f)
}

func (r *Run) tableReply(w *resp.Writer, t *lua.LTable, depth int) (problem string) {
	if s, ok := t.RawGetString("err").(lua.LString); ok {
		w.Error(oneLine(string(s)))
		return ""
	}
	if s, ok := t.RawGetString("ok").(lua.LString); ok {
		w.SimpleString(oneLine(string(s)))
		return ""
	}
	if n, ok := t.RawGetString("double").(lua.LNumber); ok {
		w.Double(float64(n))
		return ""
	}
	if m, ok := t.RawGetString("map").(*lua.LTable); ok {
		return r.pairsReply(w, m, depth, true)
	}
	if s, ok := t.RawGetString("set").(*lua.LTable); ok {
		return r.pairsReply(w, s, depth, false)
	}
	if s, ok := t.RawGetString("big_number").(lua.LString); ok {
		w.BigNumber(oneLine(string(s)))
		return ""
	}
	if v, ok := t.RawGetString("verbatim_string").(*lua.LTable); ok {
		text, isText := v.RawGetString("string").(lua.LString)
		format, isFormat := v.RawGetString("format").(lua.LString)
		if isText && isFormat && len(format) >= 3 {
			w.Verbatim(string(format[:3]), []byte(text))
			return ""
		}
	}
	n := 0
	for t.RawGetInt(n+1) != lua.LNil {
		n++
	}
	w.Array(n)
	for i := range n {
		if problem := r.reply(w, t.RawGetInt(i+1), depth+1); problem != "" {
			return problem
		}
	}
	return ""
}

func (r *Run) pairsReply(w *resp.Writer, t *lua.LTable, depth int, values bool) (problem string) {
	n := 0
	t.ForEach(func(lua.LValue, lua.LValue) { n++ })
	if values {
		w.Map(n)
	} else {
		w.Set(n)
	}
	t.ForEach(func(k, v lua.LValue) {
		if problem == "" {
			problem = r.reply(w, k, depth+1)
		}
		if problem == "" && values {
			problem = r.reply(w, v, depth+1)
		}
	})
	return problem
}

// oneLine is s without line ends, byte for byte.
// oneLine is what of a text may be a status or an error: up to a zero byte, as C has it, on one line.
func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\x00")
	return lineEnds.Replace(s)
}

var lineEnds = strings.NewReplacer("\r", " ", "\n", " ")
