package script

import (
	"strings"
	"time"

	lua "github.com/yuin/gopher-lua"
)

// loading is what a library has registered so far.
type loading struct {
	until time.Time
	list  []Function
	calls map[string]*lua.LFunction
	size  int
	// runtime is what functions will find as globals; the library itself finds less.
	runtime lua.LValue
}

// load runs the library in a new state. While it runs, there are no globals but redis, and in that nothing that would touch
// data. ready ends that.
func (r *Run) load(l *Library, limit time.Duration) (problem string) {
	proto, problem := l.compiled()
	if problem != "" {
		return problem
	}
	r.reset()
	meta := r.l.G.Global.Metatable.(*lua.LTable)
	r.loading = &loading{
		until: time.Now().Add(limit), calls: map[string]*lua.LFunction{}, size: len(l.Code), runtime: meta.RawGetString("__index"),
	}
	meta.RawSetString("__index", r.loadEnvironment())
	fn := r.l.NewFunctionFromProto(proto)
	fn.Env = r.l.Env
	r.l.Push(fn)
	err := r.l.PCall(0, 0, r.l.NewFunction(r.handleError))
	if err != nil {
		text, _ := r.whatFailed(err)
		return "ERR Error registering functions: " + text
	}
	r.l.SetTop(0)
	return ""
}

// ready gives the functions of a loaded library what they may have.
func (r *Run) ready() {
	r.l.G.Global.Metatable.(*lua.LTable).RawSetString("__index", r.loading.runtime)
	redis := r.proxies[r.env.RawGetString("redis").(*lua.LTable)]
	for _, name := range []string{"breakpoint", "debug", "replicate_commands"} { // EVAL's alone
		redis.RawSetString(name, lua.LNil)
	}
	r.functions, r.loading, r.Host = r.loading.calls, nil, nil
}

// loadEnvironment is what a library sees while it is loaded: Redis 7.0 has no more.
func (r *Run) loadEnvironment() *lua.LTable {
	api := r.l.SetFuncs(r.l.NewTable(), map[string]lua.LGFunction{"register_function": r.registerFunction, "log": r.log})
	full := r.proxies[r.env.RawGetString("redis").(*lua.LTable)]
	for _, name := range []string{"LOG_DEBUG", "LOG_VERBOSE", "LOG_NOTICE", "LOG_WARNING", "REDIS_VERSION", "REDIS_VERSION_NUM"} {
		api.RawSetString(name, full.RawGetString(name))
	}
	api.Metatable = r.env.Metatable // says that there is nothing else
	env := r.l.NewTable()
	for _, name := range []string{concatName, moduloName} {
		env.RawSetString(name, r.env.RawGetString(name))
	}
	env.RawSetString("redis", r.protect(api))
	env.Metatable = r.env.Metatable
	return env
}

// registerFunction is redis.register_function, with a name and a function or with a table of named arguments.
func (r *Run) registerFunction(l *lua.LState) int {
	if r.loading == nil {
		r.raise(l, "redis.register_function can only be called on FUNCTION LOAD command")
	}
	var f Function
	var call *lua.LFunction
	var problem string
	switch l.GetTop() {
	case 1:
		f, call, problem = namedArguments(l)
	case 2:
		f, call, problem = placedArguments(l)
	default:
		problem = "wrong number of arguments to redis.register_function"
	}
	if problem == "" {
		problem = r.loading.add(f, call)
	}
	if problem != "" {
		r.raise(l, problem)
	}
	return 0
}

func (d *loading) add(f Function, call *lua.LFunction) (problem string) {
	d.size += len(f.Name) + len(f.Description) + functionBytes
	switch {
	case !goodName(f.Name):
		return errName
	case d.calls[f.Name] != nil:
		return "Function already exists in the library"
	case d.size > MaxLibrary:
		return strings.TrimPrefix(errLibraryBig, "ERR ")
	}
	f.Flags.Declared = true
	d.list = append(d.list, f)
	d.calls[f.Name] = call
	return ""
}

func placedArguments(l *lua.LState) (f Function, call *lua.LFunction, problem string) {
	name, ok := text(l.Get(1))
	if !ok {
		return f, nil, "first argument to redis.register_function must be a string"
	}
	f.Name = name
	if call, ok = l.Get(2).(*lua.LFunction); !ok {
		return f, nil, "second argument to redis.register_function must be a function"
	}
	return f, call, ""
}

// text is a string, or a number as one.
func text(v lua.LValue) (string, bool) {
	switch v := v.(type) {
	case lua.LString:
		return string(v), true
	case lua.LNumber:
		return numberText(float64(v)), true
	}
	return "", false
}

func namedArguments(l *lua.LState) (f Function, call *lua.LFunction, problem string) {
	t, ok := l.Get(1).(*lua.LTable)
	if !ok {
		return f, nil, "calling redis.register_function with a single argument is only applicable to Lua table (representing named arguments)."
	}
	named := false
	t.ForEach(func(k, v lua.LValue) {
		if problem != "" {
			return
		}
		key, ok := text(k)
		if !ok {
			problem = "named argument key given to redis.register_function is not a string"
			return
		}
		switch strings.ToLower(key) {
		case "function_name":
			if f.Name, named = text(v); !named {
				problem = "function_name argument given to redis.register_function must be a string"
			}
		case "description":
			what, ok := text(v)
			if f.Description = []byte(what); !ok {
				problem = "description argument given to redis.register_function must be a string"
			}
		case "callback":
			if call, ok = v.(*lua.LFunction); !ok {
				problem = "callback argument given to redis.register_function must be a function"
			}
		case "flags":
			problem = f.Flags.read(v)
		default:
			problem = "unknown argument given to redis.register_function"
		}
	})
	switch {
	case problem != "":
	case !named:
		problem = "redis.register_function must get a function name argument"
	case call == nil:
		problem = "redis.register_function must get a callback argument"
	}
	return f, call, problem
}

// read takes the list of flags up to its first nil.
func (f *Flags) read(v lua.LValue) (problem string) {
	t, ok := v.(*lua.LTable)
	if !ok {
		return "flags argument to redis.register_function must be a table representing function flags"
	}
	for i := 1; t.RawGetInt(i) != lua.LNil; i++ {
		if name, ok := text(t.RawGetInt(i)); !ok || !f.set(name) {
			return "unknown flag given"
		}
	}
	return ""
}

// Names lists the flags that are set, in Redis' order.
func (f Flags) Names() (names []string) {
	for _, x := range []struct {
		set  bool
		name string
	}{
		{f.NoWrites, "no-writes"}, {f.AllowOOM, "allow-oom"}, {f.AllowStale, "allow-stale"}, {f.NoCluster, "no-cluster"},
		{f.CrossSlot, "allow-cross-slot-keys"},
	} {
		if x.set {
			names = append(names, x.name)
		}
	}
	return names
}

// FunctionFlags are a function's flags by their names; names of newer versions are passed over.
func FunctionFlags(names []string) Flags {
	f := Flags{Declared: true}
	for _, n := range names {
		f.set(n)
	}
	return f
}
