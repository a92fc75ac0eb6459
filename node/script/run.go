package script

import (
	"context"
	"errors"
	"math"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"

	"hypercache/node/resp"
)

const (
	maxCalls    = 2048
	maxRegistry = 1 << 20
	maxString   = 64 << 20
	// tickEvery is how many instructions pass between two calls of Host.Tick.
	tickEvery = 512
)

// Host is what a script runs in. Its methods are called by the goroutine that runs the script.
type Host interface {
	// Call executes one command and writes its reply, in RESP2 or RESP3 as w.Proto says. An error reply is what redis.call
	// raises.
	Call(args [][]byte, w *resp.Writer)
	// Allowed says whether the script's user may run a command, and whether there is such a command.
	Allowed(args [][]byte) (allowed, known bool)
	// Tick is called every few hundred instructions. A text ends the script with that error, whatever the script does
	// about it.
	Tick() (stop string)
	// Log takes a line of redis.log.
	Log(level int, message string)
}

// Run is one execution: of Script, or of Function of Library.
type Run struct {
	Script   *Script
	Library  *Library
	Function string
	Keys     [][]byte
	Args     [][]byte
	Host     Host
	// Version is what redis.REDIS_VERSION says.
	Version string

	l       *lua.LState
	proto   int // of redis.call's replies: redis.setresp
	stopped string
	ticks   int
	ran     int // instructions, about
	env     *lua.LTable
	proxies map[*lua.LTable]*lua.LTable
	rng     random
	json    jsonSettings // of the global cjson
	// jsonNull is cjson.null.
	jsonNull *lua.LUserData
	call     resp.Writer
	// Of a state that has a library.
	loading   *loading // while the library runs
	functions map[string]*lua.LFunction
}

// hook is the context of a script's state. The interpreter calls Done before every instruction.
type hook struct{ r *Run }

var closed = func() chan struct{} { c := make(chan struct{}); close(c); return c }()

var errStopped = errors.New("script stopped")

func (h hook) Deadline() (time.Time, bool) { return time.Time{}, false }
func (h hook) Value(any) any               { return nil }
func (h hook) Err() error                  { return errStopped }
func (h hook) Done() <-chan struct{} {
	r := h.r
	if r.ticks--; r.ticks > 0 {
		return nil
	}
	if r.stopped == "" {
		r.ticks = tickEvery
		r.ran += tickEvery
		if r.stopped = r.tick(); r.stopped == "" {
			return nil
		}
	}
	r.ticks = 0
	return closed
}

func (r *Run) tick() (stop string) {
	if r.loading != nil && time.Now().After(r.loading.until) {
		return "ERR FUNCTION LOAD timeout"
	}
	return r.Host.Tick()
}

// pause is for library functions that take long: it ends the script if its time is over.
func (r *Run) pause(l *lua.LState) {
	if r.stopped == "" {
		r.stopped = r.tick()
	}
	if r.stopped != "" {
		r.ticks = 0 // the next instruction ends it, whoever catches the error
		l.RaiseError("%s", r.stopped)
	}
}

var _ context.Context = hook{}

// machines are Runs whose state is made: making one costs far more than most scripts.
var machines sync.Pool

// reusable is after how many instructions a state is not used again: its stacks may have grown.
const reusable = 100 * tickEvery

// Do runs the script or the function and writes its reply to w.
func (r *Run) Do(w *resp.Writer) {
	if r.Library != nil {
		r.Library.run(r, w)
		return
	}
	m, ok := machines.Get().(*Run)
	if !ok {
		m = newMachine(r.Version)
	}
	m.Script, m.Keys, m.Args, m.Host = r.Script, r.Keys, r.Args, r.Host
	done := m.do(w)
	m.Script, m.Keys, m.Args, m.Host = nil, nil, nil, nil
	if done && m.untouched() {
		machines.Put(m)
		return
	}
	m.l.Close()
}

func newMachine(version string) *Run {
	r := &Run{Version: version}
	r.l = lua.NewState(lua.Options{
		CallStackSize: maxCalls, RegistrySize: 256, RegistryMaxSize: maxRegistry, RegistryGrowStep: 1024,
		SkipOpenLibs: true, MinimizeStackMemory: true,
	})
	r.sandbox()
	r.l.SetContext(hook{r})
	return r
}

// reset is the beginning of every execution.
func (r *Run) reset() {
	r.proto, r.ticks, r.ran, r.stopped = 2, tickEvery, 0, ""
	r.rng, r.json = anyRandom(), defaultJSON()
}

// do runs the script and says whether it ended well.
func (r *Run) do(w *resp.Writer) bool {
	r.reset()
	r.env.RawSetString("KEYS", r.list(r.Keys))
	r.env.RawSetString("ARGV", r.list(r.Args))
	fn := r.l.NewFunctionFromProto(r.Script.proto)
	fn.Env = r.l.Env
	return r.answer(w, fn)
}

// answer calls fn and writes what it returns.
func (r *Run) answer(w *resp.Writer, fn *lua.LFunction, args ...lua.LValue) bool {
	r.l.Push(fn)
	for _, a := range args {
		r.l.Push(a)
	}
	if err := r.l.PCall(len(args), 1, r.l.NewFunction(r.handleError)); err != nil {
		r.fail(w, err)
		return false
	}
	if r.stopped != "" { // and the error was caught by the last that it called
		r.fail(w, errStopped)
		return false
	}
	mark := len(w.Buf)
	problem := r.reply(w, r.l.Get(-1), 0)
	r.l.SetTop(0)
	if problem != "" {
		w.Buf = w.Buf[:mark]
		w.Error(problem)
	}
	return problem == ""
}

// untouched says that the script left its environment as it was: another may have it. Everything that could be changed is
// refused already; this is the second look.
func (r *Run) untouched() bool {
	for proxy := range r.proxies {
		if k, _ := proxy.Next(lua.LNil); k != lua.LNil || proxy.Len() > 0 {
			return false
		}
	}
	return r.ran < reusable
}

// handleError makes an error a table with its place, as Redis' own handler does.
func (r *Run) handleError(l *lua.LState) int {
	t, ok := l.Get(1).(*lua.LTable)
	if !ok {
		t = l.NewTable()
		t.RawSetString("err", lua.LString("ERR "+luaMessage(l.ToStringMeta(l.Get(1)).String())))
	}
	for level := 1; ; level++ {
		d, ok := l.GetStack(level)
		if !ok {
			break
		}
		if _, err := l.GetInfo("Sl", d, lua.LNil); err == nil && d.What != "G" && d.CurrentLine > 0 {
			t.RawSetString("source", lua.LString("@"+d.Source))
			t.RawSetString("line", lua.LNumber(d.CurrentLine))
			break
		}
	}
	l.Push(t)
	return 1
}

// fail writes the reply of a script that ended with an error.
func (r *Run) fail(w *resp.Writer, err error) {
	msg, place := r.whatFailed(err)
	if place != "" {
		name := r.Function
		if r.Script != nil {
			name = r.Script.SHA
		}
		place = " script: " + name + ", on " + place + "."
	}
	w.Error(msg + place)
}

// whatFailed is an error's text and its place.
func (r *Run) whatFailed(err error) (msg, place string) {
	msg = "ERR " + err.Error()
	var api *lua.ApiError
	if errors.As(err, &api) {
		if t, ok := api.Object.(*lua.LTable); ok {
			msg = "ERR unknown error"
			if text, ok := t.RawGetString("err").(lua.LString); ok {
				msg, _, _ = strings.Cut(string(text), "\x00")
			}
			source, line := t.RawGetString("source"), t.RawGetString("line")
			if source != lua.LNil && line != lua.LNil {
				place = lua.LVAsString(source) + ":" + numberText(float64(line.(lua.LNumber)))
			}
		} else {
			msg = "ERR " + luaMessage(lua.LVAsString(api.Object))
		}
	}
	if r.stopped != "" {
		msg = r.stopped
	}
	return msg, place
}

var (
	indexing    = regexp.MustCompile(`attempt to index a non-table object\((\w+)\) with key '.*'`)
	badArgument = regexp.MustCompile(`bad argument #(\d+) to ([^' ]+) \(`)
	arithmetic  = regexp.MustCompile(`cannot perform (\w+) operation between (\w+) and (\w+)`)
)

// luaMessage puts the interpreter's messages into Lua's words.
func luaMessage(s string) string {
	if m := indexing.FindStringSubmatchIndex(s); m != nil {
		return s[:m[0]] + "attempt to index a " + s[m[2]:m[3]] + " value" + s[m[1]:]
	}
	if m := arithmetic.FindStringSubmatchIndex(s); m != nil {
		kind := s[m[4]:m[5]]
		if kind == "number" {
			kind = s[m[6]:m[7]]
		}
		return s[:m[0]] + "attempt to perform arithmetic on a " + kind + " value" + s[m[1]:]
	}
	s = badArgument.ReplaceAllString(s, "bad argument #$1 to '$2' (")
	return strings.Replace(s, "attempt to call a non-function object", "attempt to call a nil value", 1)
}

// numberText is a number as Lua writes it: %.14g.
func numberText(f float64) string { return formatG(f, 14) }

// formatG is C's %.<precision>g.
func formatG(f float64, precision int) string {
	switch {
	case f != f && math.Signbit(f):
		return "-nan"
	case f != f:
		return "nan"
	case f > 1.7976931348623157e308:
		return "inf"
	case f < -1.7976931348623157e308:
		return "-inf"
	}
	return strconv.FormatFloat(f, 'g', precision, 64)
}
