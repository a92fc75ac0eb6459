package script

import (
	"strings"

	lua "github.com/yuin/gopher-lua"
)

func (r *Run) tableFunctions(t *lua.LTable) {
	r.wrap(t, "sort", r.refuseReadonly)
	for name, arguments := range map[string]int{"insert": 3, "remove": 2} { // with a place as the second
		r.wrap(t, name, func(l *lua.LState) {
			r.refuseReadonly(l)
			if l.GetTop() >= arguments {
				l.Replace(2, lua.LNumber(checkInteger(l, 2)))
			}
		})
	}
	for name, f := range map[string]lua.LGFunction{
		"concat": r.tableConcat, "foreach": r.forEach, "foreachi": forEachIndex, "setn": setLength,
	} {
		t.RawSetString(name, r.l.NewFunction(f))
	}
}

// forEach is table.foreach, of Lua 5.0: the function's first result that is not nil ends it.
func (r *Run) forEach(l *lua.LState) int {
	t, f := l.CheckTable(1), l.CheckFunction(2)
	if behind := r.proxies[t]; behind != nil {
		t = behind
	}
	for k, v := t.Next(lua.LNil); k != lua.LNil; k, v = t.Next(k) {
		if visit(l, f, k, v) {
			return 1
		}
	}
	return 0
}

func forEachIndex(l *lua.LState) int {
	t, f := l.CheckTable(1), l.CheckFunction(2)
	for i := 1; i <= t.Len(); i++ {
		if visit(l, f, lua.LNumber(i), t.RawGetInt(i)) {
			return 1
		}
	}
	return 0
}

// visit leaves the function's result on the stack if it is not nil.
func visit(l *lua.LState, f *lua.LFunction, k, v lua.LValue) bool {
	l.Push(f)
	l.Push(k)
	l.Push(v)
	l.Call(2, 1)
	if l.Get(-1) != lua.LNil {
		return true
	}
	l.Pop(1)
	return false
}

func setLength(l *lua.LState) int {
	l.CheckTable(1)
	l.RaiseError("'setn' is obsolete")
	return 0
}

func (r *Run) tableConcat(l *lua.LState) int {
	t, sep := l.CheckTable(1), ""
	if l.Get(2) != lua.LNil {
		sep = checkString(l, 2)
	}
	from, to := int(int32(optInteger(l, 3, 1))), int(int32(optInteger(l, 4, int64(t.Len()))))
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
