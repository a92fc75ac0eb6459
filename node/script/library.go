package script

import (
	"slices"
	"strings"
	"sync"
	"time"

	lua "github.com/yuin/gopher-lua"

	"hypercache/node/resp"
)

const (
	libraryChunk = "user_function"
	// MaxLibrary bounds what Library.Size counts.
	MaxLibrary = 1 << 20
	// loadLimit is how long a library may run when it is loaded first, Redis' own; reloadLimit is how long it may run in the
	// states that are made later, maybe on slower nodes: there it is too late to refuse it.
	loadLimit   = 500 * time.Millisecond
	reloadLimit = 5 * time.Second
	// functionBytes is what a function counts for besides its names.
	functionBytes = 64
)

// Errors of a library's first line and of its functions, in Redis' words.
const (
	errNoMetadata  = "ERR Missing library metadata"
	errMetadata    = "ERR Invalid library metadata"
	errNoName      = "ERR Library name was not given"
	errTwoNames    = "ERR Invalid metadata value, name argument was given multiple times"
	errName        = "Library names can only contain letters, numbers, or underscores(_) and must be at least one character long"
	errNoFunctions = "ERR No functions registered"
	errLibraryBig  = "ERR The library is too large: its code with the names and descriptions of its functions may have 1048576 bytes"
	errChanged     = "ERR The library does not register this function again: what it registers must not depend on when it is loaded"
)

// Function is what a library says about one of its functions.
type Function struct {
	Name string
	// Description is nil if there is none.
	Description []byte
	Flags       Flags
}

// Library is the code of some functions. It is safe for concurrent use.
//
// Each Lua state that runs one of the functions has run the library first, so that the library's local variables last from
// one call to the next, in that state: as with Redis, they are no place for data.
type Library struct {
	Name string
	// Code is the whole text, its first line included.
	Code string
	// Functions are in order of name.
	Functions []Function

	engine *Engine
	mu     sync.Mutex
	proto  *lua.FunctionProto // nil until it is needed
}

// Size is what counts as the library's size: the code, and the names and descriptions of its functions.
func (l *Library) Size() int {
	n := len(l.Code)
	for i := range l.Functions {
		n += len(l.Functions[i].Name) + len(l.Functions[i].Description) + functionBytes
	}
	return n
}

// LibraryName reads the first line of a library, "#!lua name=…". problem is Redis' error, "" if all is well.
func LibraryName(code string) (name, problem string) {
	name, _, problem = splitLibrary(code)
	return name, problem
}

// splitLibrary leaves the first line's end in the body, so that lines keep their numbers.
func splitLibrary(code string) (name, body, problem string) {
	if !strings.HasPrefix(code, "#!") {
		return "", "", errNoMetadata
	}
	end := strings.IndexAny(code, "\n\x00")
	if end < 0 || code[end] == 0 {
		return "", "", errMetadata
	}
	words, ok := splitWords(code[:end])
	if !ok || len(words) == 0 {
		return "", "", errMetadata
	}
	given := false
	for _, w := range words[1:] {
		if len(w) < 5 || !strings.EqualFold(w[:5], "name=") {
			return "", "", "ERR Invalid metadata value given: " + w
		}
		if given {
			return "", "", errTwoNames
		}
		name, given = w[5:], true
	}
	switch engine := words[0][min(2, len(words[0])):]; {
	case !given:
		return "", "", errNoName
	case !goodName(name):
		return "", "", "ERR " + errName
	case !strings.EqualFold(engine, "lua"):
		return "", "", "ERR Engine '" + engine + "' not found"
	}
	return name, code[end:], ""
}

func goodName(name string) bool {
	for _, c := range []byte(name) {
		if c != '_' && (c < '0' || c > '9') && (c|0x20 < 'a' || c|0x20 > 'z') {
			return false
		}
	}
	return name != ""
}

// LoadLibrary compiles a library and runs it, which registers its functions. log takes what it logs. problem is the error that
// Redis answers with, "" if all is well.
func (e *Engine) LoadLibrary(code []byte, version string, log func(level int, message string)) (l *Library, problem string) {
	l = &Library{Code: string(code), engine: e}
	var body string
	if l.Name, body, problem = splitLibrary(l.Code); problem != "" {
		return nil, problem
	}
	if len(code) > MaxLibrary {
		return nil, errLibraryBig
	}
	if problem = l.compile(body); problem != "" {
		return nil, problem
	}
	m := newMachine(version)
	m.Host = loadHost{log}
	problem = m.load(l, loadLimit)
	if problem == "" && len(m.loading.list) == 0 {
		problem = errNoFunctions
	}
	if problem != "" {
		m.l.Close()
		return nil, problem
	}
	l.Functions = m.loading.list
	slices.SortFunc(l.Functions, func(a, b Function) int { return strings.Compare(a.Name, b.Name) })
	m.ready()
	e.shelf.put(l, m)
	return l, ""
}

// Declare returns a library that LoadLibrary, maybe of another node, has accepted. It is compiled when it is called first.
func (e *Engine) Declare(name, code string, functions []Function) *Library {
	return &Library{Name: name, Code: code, Functions: functions, engine: e}
}

// Retain forgets the states of all libraries but these.
func (e *Engine) Retain(list []*Library) { e.shelf.retain(list) }

type loadHost struct{ log func(int, string) }

func (loadHost) Call([][]byte, *resp.Writer)  {} // there is no redis.call
func (loadHost) Allowed([][]byte) (_, _ bool) { return false, false }
func (loadHost) Tick() string                 { return "" }
func (h loadHost) Log(level int, message string) {
	if h.log != nil {
		h.log(level, message)
	}
}

func (l *Library) compile(body string) (problem string) {
	proto, err := compileChunk(body, libraryChunk)
	if err != nil {
		return "ERR Error compiling function: " + err.Error()
	}
	l.proto = proto
	return ""
}

// compiled returns the code; it was compiled on another node, or before a restart.
func (l *Library) compiled() (proto *lua.FunctionProto, problem string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.proto == nil {
		_, body, problem := splitLibrary(l.Code)
		if problem == "" {
			problem = l.compile(body)
		}
		if problem != "" {
			return nil, problem
		}
	}
	return l.proto, ""
}

// run calls the function that r names.
func (l *Library) run(r *Run, w *resp.Writer) {
	m, problem := l.machine(r)
	if problem != "" {
		w.Error(problem)
		return
	}
	m.Library, m.Function, m.Keys, m.Args, m.Host = l, r.Function, r.Keys, r.Args, r.Host
	done := m.callFunction(w)
	m.Library, m.Keys, m.Args, m.Host = nil, nil, nil, nil
	if done && m.untouched() {
		l.engine.shelf.put(l, m)
		return
	}
	m.l.Close()
}

// machine returns a state that has run the library.
func (l *Library) machine(r *Run) (m *Run, problem string) {
	if m = l.engine.shelf.take(l); m != nil {
		return m, ""
	}
	m = newMachine(r.Version)
	m.Host = r.Host
	if problem = m.load(l, reloadLimit); problem != "" {
		m.l.Close()
		return nil, problem
	}
	m.ready()
	return m, ""
}

func (r *Run) callFunction(w *resp.Writer) bool {
	fn := r.functions[r.Function]
	if fn == nil {
		w.Error(errChanged)
		return false
	}
	r.reset()
	return r.answer(w, fn, r.list(r.Keys), r.list(r.Args))
}

// shelf keeps states that have run a library for the next call, up to maxShelf of all libraries together.
type shelf struct {
	mu   sync.Mutex
	list []shelved // the last one that was put is the last
}

type shelved struct {
	library *Library
	machine *Run
}

const maxShelf = 64

// take returns the state that was put last, so that calls one after another have the same.
func (s *shelf) take(l *Library) *Run {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := len(s.list) - 1; i >= 0; i-- {
		if s.list[i].library == l {
			m := s.list[i].machine
			s.list = slices.Delete(s.list, i, i+1)
			return m
		}
	}
	return nil
}

func (s *shelf) put(l *Library, m *Run) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.list) == maxShelf {
		s.list[0].machine.l.Close()
		s.list = slices.Delete(s.list, 0, 1)
	}
	s.list = append(s.list, shelved{l, m})
}

func (s *shelf) retain(keep []*Library) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.list = slices.DeleteFunc(s.list, func(x shelved) bool {
		gone := !slices.Contains(keep, x.library)
		if gone {
			x.machine.l.Close()
		}
		return gone
	})
}
