package script

import (
	"crypto/sha1"
	"encoding/hex"
	"math"
	"strings"

	lua "github.com/yuin/gopher-lua"
)

func (r *Run) redisFunctions() map[string]lua.LGFunction {
	yes := func(l *lua.LState) int { l.Push(lua.LTrue); return 1 }
	return map[string]lua.LGFunction{
		"call":               func(l *lua.LState) int { return r.command(l, true) },
		"pcall":              func(l *lua.LState) int { return r.command(l, false) },
		"error_reply":        r.errorReply,
		"status_reply":       r.statusReply,
		"sha1hex":            r.sha1hex,
		"log":                r.log,
		"setresp":            r.setresp,
		"replicate_commands": yes,
		"set_repl":           r.setRepl,
		"acl_check_cmd":      r.aclCheck,
		// There is no debugger: what would stop in it goes on.
		"breakpoint": func(l *lua.LState) int { l.Push(lua.LFalse); return 1 },
		"debug":      func(*lua.LState) int { return 0 },
	}
}

func (r *Run) redisValues(t *lua.LTable) {
	for name, v := range map[string]int{
		"LOG_DEBUG": 0, "LOG_VERBOSE": 1, "LOG_NOTICE": 2, "LOG_WARNING": 3,
		"REPL_NONE": 0, "REPL_AOF": 1, "REPL_SLAVE": 2, "REPL_REPLICA": 2, "REPL_ALL": 3,
		"REDIS_VERSION_NUM": versionNumber(r.Version),
	} {
		t.RawSetString(name, lua.LNumber(v))
	}
	t.RawSetString("REDIS_VERSION", lua.LString(r.Version))
}

func versionNumber(v string) (n int) {
	for part := range strings.SplitSeq(v, ".") {
		x := 0
		for _, c := range part {
			x = x*10 + int(c-'0')
		}
		n = n<<8 | x
	}
	return n
}

// errorTable is an error as scripts see it. What begins with a dash has its own code.
func (r *Run) errorTable(l *lua.LState, text string) *lua.LTable {
	rest, coded := strings.CutPrefix(text, "-")
	code, msg := "ERR", text
	if coded {
		msg = rest
		if c, m, ok := strings.Cut(rest, " "); ok {
			code, msg = c, m
		}
	}
	t := l.NewTable()
	t.RawSetString("err", lua.LString(code+" "+strings.Trim(msg, "\r\n")))
	return t
}

// raise raises an error as a table, without a place in its text.
func (r *Run) raise(l *lua.LState, text string) { l.Error(r.errorTable(l, text), 0) }

func (r *Run) command(l *lua.LState, raise bool) int {
	args, problem := r.arguments(l)
	if problem == "" && r.stopped != "" {
		problem = r.stopped
	}
	var value lua.LValue
	if problem != "" {
		value = r.errorTable(l, problem)
	} else {
		r.call.Buf, r.call.Proto = r.call.Buf[:0], r.proto
		r.Host.Call(args, &r.call)
		value, _ = r.toLua(l, r.call.Buf, 0)
		if cap(r.call.Buf) > 1<<20 {
			r.call.Buf = nil
		}
	}
	if t, ok := value.(*lua.LTable); ok && raise && t.RawGetString("err") != lua.LNil {
		l.Error(t, 0)
	}
	l.Push(value)
	return 1
}

// arguments are those of a command. Numbers are written with all of their digits.
func (r *Run) arguments(l *lua.LState) (args [][]byte, problem string) {
	n := l.GetTop()
	if n == 0 {
		return nil, "Please specify at least one argument for this redis lib call"
	}
	args = make([][]byte, n)
	for i := range n {
		switch v := l.Get(i + 1).(type) {
		case lua.LString:
			args[i] = []byte(v)
		case lua.LNumber:
			args[i] = []byte(formatG(float64(v), 17))
		default:
			return nil, "Lua redis lib command arguments must be strings or integers"
		}
	}
	return args, ""
}

// oneString is the only argument of error_reply and status_reply. What is wrong with it is returned, not raised.
func (r *Run) oneString(l *lua.LState) (text string, problem lua.LValue) {
	s, ok := l.Get(1).(lua.LString)
	if l.GetTop() != 1 || !ok {
		return "", r.errorTable(l, "wrong number or type of arguments")
	}
	return string(s), nil
}

func (r *Run) errorReply(l *lua.LState) int {
	s, reply := r.oneString(l)
	s, _, _ = strings.Cut(s, "\x00") // as C sees it
	if reply == nil {
		reply = r.errorTable(l, "-"+strings.TrimPrefix(s, "-"))
	}
	l.Push(reply)
	return 1
}

func (r *Run) statusReply(l *lua.LState) int {
	s, reply := r.oneString(l)
	if reply == nil {
		reply = field(l, "ok", lua.LString(s))
	}
	l.Push(reply)
	return 1
}

func (r *Run) sha1hex(l *lua.LState) int {
	if l.GetTop() != 1 {
		r.raise(l, "wrong number of arguments")
	}
	sum := sha1.Sum([]byte(valueText(l.Get(1))))
	l.Push(lua.LString(hex.EncodeToString(sum[:])))
	return 1
}

func (r *Run) log(l *lua.LState) int {
	if l.GetTop() < 2 {
		r.raise(l, "redis.log() requires two arguments or more.")
	}
	level, ok := toInt(l.Get(1))
	if !ok {
		r.raise(l, "First argument must be a number (log level).")
	}
	if level < 0 || level > 3 {
		r.raise(l, "Invalid debug level.")
	}
	var b strings.Builder
	for i := 2; i <= l.GetTop(); i++ {
		if word, ok := text(l.Get(i)); ok {
			if i > 2 {
				b.WriteByte(' ')
			}
			b.WriteString(word)
		}
	}
	r.Host.Log(level, b.String())
	return 0
}

// toInt is C's int of a number, or of a text of one.
func toInt(v lua.LValue) (n int, ok bool) {
	f, ok := 0.0, true
	switch v := v.(type) {
	case lua.LNumber:
		f = float64(v)
	case lua.LString:
		f, ok = parseNumber(string(v))
	default:
		return 0, false
	}
	if !(f > math.MinInt32-1 && f < math.MaxInt32+1) {
		f = math.MinInt32 // what C gives
	}
	return int(f), ok
}

func (r *Run) setresp(l *lua.LState) int {
	if l.GetTop() != 1 {
		r.raise(l, "redis.setresp() requires one argument.")
	}
	n, _ := toInt(l.Get(1))
	if n != 2 && n != 3 {
		r.raise(l, "RESP version must be 2 or 3.")
	}
	r.proto = n
	return 0
}

// setRepl changes nothing: replicas without some effects would no longer be copies.
func (r *Run) setRepl(l *lua.LState) int {
	if l.GetTop() != 1 {
		r.raise(l, "redis.set_repl() requires two arguments.")
	}
	if n, _ := toInt(l.Get(1)); n < 0 || n > 3 {
		r.raise(l, "Invalid replication flags. Use REPL_AOF, REPL_REPLICA, REPL_ALL or REPL_NONE.")
	}
	return 0
}

// aclCheck says whether the script's user may run a command.
func (r *Run) aclCheck(l *lua.LState) int {
	args, problem := r.arguments(l)
	if problem != "" {
		r.raise(l, problem)
	}
	allowed, known := r.Host.Allowed(args)
	if !known {
		r.raise(l, "Invalid command passed to redis.acl_check_cmd()")
	}
	l.Push(lua.LBool(allowed))
	return 1
}
