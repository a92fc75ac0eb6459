package script

import (
	lua "github.com/yuin/gopher-lua"
)

const errReadonly = "Attempt to modify a readonly table"

// baseNames are the functions of the base library that scripts may have.
var baseNames = []string{
	"assert", "error", "getmetatable", "ipairs", "loadstring", "load", "next", "pairs", "pcall", "rawequal", "rawget",
	"rawset", "select", "setmetatable", "tonumber", "tostring", "type", "unpack", "xpcall",
}

// sandbox fills the state with what a script sees. The libraries and the environment are
// proxies: empty tables in front of the real ones, so that every assignment to them is noticed and refused.
func (r *Run) sandbox() {
	l := r.l
	r.proxies = map[*lua.LTable]*lua.LTable{}
	for _, open := range []lua.LGFunction{lua.OpenBase, lua.OpenTable, lua.OpenString, lua.OpenMath, lua.OpenCoroutine} {
		l.Push(l.NewFunction(open))
		l.Call(0, 0)
	}
	all := l.G.Global
	env := l.NewTable()
	for _, name := range baseNames {
		env.RawSetString(name, all.RawGetString(name))
	}
	env.RawSetString("_VERSION", lua.LString("Lua 5.1"))
	env.RawSetString(concatName, l.NewFunction(r.concat))
	env.RawSetString(moduloName, l.NewFunction(modulo))
	r.replaceBase(env)
	for name, change := range map[string]func(*lua.LTable){
		"table": r.tableFunctions, "string": r.stringFunctions, "math": r.mathFunctions, "coroutine": r.coroutineFunctions,
	} {
		lib := all.RawGetString(name).(*lua.LTable)
		change(lib)
		env.RawSetString(name, r.protect(lib))
	}
	for name, functions := range map[string]map[string]lua.LGFunction{
		"redis": r.redisFunctions(), "cmsgpack": r.msgpackFunctions(), "bit": bitFunctions(),
		"struct": structFunctions(),
	} {
		lib := l.SetFuncs(l.NewTable(), functions)
		switch name {
		case "redis":
			r.redisValues(lib)
		case "cmsgpack":
			msgpackValues(lib)
		}
		env.RawSetString(name, r.protect(lib))
	}
	env.RawSetString("cjson", r.protect(r.jsonLibrary(&r.json)))
	text, shown := l.NewTable(), l.NewTable() // the interpreter's own metatable of strings is the library
	text.RawSetString("__index", env.RawGetString("string"))
	shown.RawSetString("__index", env.RawGetString("string"))
	text.RawSetString("__metatable", r.protect(shown))
	l.SetMetatable(lua.LString(""), text)
	proxy := r.protect(env)
	env.RawSetString("_G", proxy)
	absent := l.NewTable()
	absent.RawSetString("__index", l.NewFunction(func(l *lua.LState) int {
		l.RaiseError("Script attempted to access nonexistent global variable '%s'", lua.LVAsString(l.Get(2)))
		return 0
	}))
	env.Metatable = absent
	l.G.Global = proxy
	l.Env = proxy
	r.env = env
}

// protect returns a table that looks like t and can't be changed.
func (r *Run) protect(t *lua.LTable) *lua.LTable {
	proxy, meta := r.l.NewTable(), r.l.NewTable()
	meta.RawSetString("__index", t)
	meta.RawSetString("__newindex", r.l.NewFunction(func(l *lua.LState) int {
		l.RaiseError(errReadonly)
		return 0
	}))
	meta.RawSetString("__metatable", lua.LFalse)
	proxy.Metatable = meta
	r.proxies[proxy] = t
	return proxy
}

func (r *Run) list(words [][]byte) *lua.LTable {
	t := r.l.CreateTable(len(words), 0)
	for i, w := range words {
		t.RawSetInt(i+1, lua.LString(w))
	}
	return t
}

// wrap puts a check in front of a function of the interpreter.
func (r *Run) wrap(t *lua.LTable, name string, check func(l *lua.LState)) {
	old := t.RawGetString(name).(*lua.LFunction)
	t.RawSetString(name, r.l.NewFunction(func(l *lua.LState) int {
		check(l)
		return old.GFunction(l)
	}))
}

// refuseReadonly refuses changes of a protected table by functions that pass over metatables.
func (r *Run) refuseReadonly(l *lua.LState) {
	if t, ok := l.Get(1).(*lua.LTable); ok && r.proxies[t] != nil {
		r.raise(l, errReadonly)
	}
}

func (r *Run) replaceBase(env *lua.LTable) {
	r.wrap(env, "rawset", r.refuseReadonly)
	r.wrap(env, "setmetatable", func(l *lua.LState) {
		l.CheckTable(1)
		r.refuseReadonly(l)
	})
	through := func(l *lua.LState) {
		if t, ok := l.Get(1).(*lua.LTable); ok && r.proxies[t] != nil {
			l.Replace(1, r.proxies[t])
		}
	}
	r.wrap(env, "rawget", through)
	r.wrap(env, "next", through)
	r.wrap(env, "error", func(l *lua.LState) {
		if l.GetTop() == 0 {
			l.Push(lua.LNil)
		}
		if n, ok := l.Get(1).(lua.LNumber); ok { // which gets its place in front as a text does
			l.Replace(1, lua.LString(numberText(float64(n))))
		}
	})
	r.plainErrors(env)
	next := env.RawGetString("next")
	for name, f := range map[string]lua.LGFunction{
		"pairs": func(l *lua.LState) int {
			t := l.CheckTable(1) // the proxy, which next looks through: a script must not get hold of what is behind it
			l.Push(next)
			l.Push(t)
			l.Push(lua.LNil)
			return 3
		},
		"tostring":       r.toString,
		"tonumber":       toNumber,
		"loadstring":     r.loadString,
		"load":           r.loadFunction,
		"collectgarbage": func(l *lua.LState) int { l.Push(lua.LNumber(0)); return 1 },
		"gcinfo":         func(l *lua.LState) int { l.Push(lua.LNumber(0)); l.Push(lua.LNumber(0)); return 2 },
	} {
		env.RawSetString(name, r.l.NewFunction(f))
	}
	r.wrap(env, "unpack", func(l *lua.LState) {
		if int(optInteger(l, 3, 0))-int(optInteger(l, 2, 1)) > maxResults || l.GetTop() < 3 && l.CheckTable(1).Len() > maxResults {
			l.RaiseError("too many results to unpack")
		}
	})
}

// plainErrors has pcall give the text of an error that is a table with one, as Redis does, and others in Lua's words.
func (r *Run) plainErrors(env *lua.LTable) {
	pcall := env.RawGetString("pcall").(*lua.LFunction)
	env.RawSetString("pcall", r.l.NewFunction(func(l *lua.LState) int {
		n := pcall.GFunction(l)
		if n != 2 || l.Get(-2) != lua.LFalse {
			return n
		}
		switch e := l.Get(-1).(type) {
		case *lua.LTable:
			if text, ok := e.RawGetString("err").(lua.LString); ok {
				l.Pop(1)
				l.Push(text)
			}
		case lua.LString:
			l.Pop(1)
			l.Push(lua.LString(luaMessage(string(e))))
		}
		return n
	}))
}

// loadString is load for text; there is no loading of bytecode.
func (r *Run) loadString(l *lua.LState) int {
	return r.loadText(l, checkString(l, 1), l.OptString(2, checkString(l, 1)))
}

func (r *Run) loadFunction(l *lua.LState) int {
	f, name := l.CheckFunction(1), l.OptString(2, "=(load)")
	text := ""
	for {
		l.Push(f)
		l.Call(0, 1)
		piece, ok := l.Get(-1).(lua.LString)
		l.Pop(1)
		if !ok || piece == "" {
			break
		}
		if text += string(piece); len(text) > MaxBody {
			break
		}
	}
	return r.loadText(l, text, name)
}

func (r *Run) loadText(l *lua.LState, text, name string) int {
	if len(text) > MaxBody {
		l.Push(lua.LNil)
		l.Push(lua.LString("the chunk is too large"))
		return 2
	}
	switch {
	case name == "":
		name = `[string ""]`
	case name[0] == '=' || name[0] == '@':
		name = name[1:]
	default:
		name = `[string "` + name + `"]`
	}
	proto, err := compileChunk(text, name)
	if err != nil {
		l.Push(lua.LNil)
		l.Push(lua.LString(err.Error()))
		return 2
	}
	fn := l.NewFunctionFromProto(proto)
	fn.Env = r.l.Env
	l.Push(fn)
	return 1
}

// coroutineFunctions gives every coroutine the hook: the context that it would get has one of its own.
func (r *Run) coroutineFunctions(t *lua.LTable) {
	create := t.RawGetString("create").(*lua.LFunction)
	t.RawSetString("create", r.l.NewFunction(func(l *lua.LState) int {
		n := create.GFunction(l)
		l.Get(-1).(*lua.LState).SetContext(hook{r})
		return n
	}))
	t.RawSetString("wrap", lua.LNil)
}
