package script

import (
	"crypto/sha1"
	"encoding/hex"
	"sync"

	lua "github.com/yuin/gopher-lua"
)

const (
	maxScripts    = 10_000
	maxCacheBytes = 64 << 20
	// MaxBody is the size of the largest script.
	MaxBody = 4 << 20
)

// Script is a compiled script. It never changes.
type Script struct {
	SHA   string // in hexadecimal
	Body  string
	Flags Flags
	proto *lua.FunctionProto
}

// Flags are what a script's first line (#!lua flags=…) or a function's registration says about it.
type Flags struct {
	Declared   bool // it could have some: where no first line is, Redis' older rules hold
	NoWrites   bool
	AllowOOM   bool
	AllowStale bool
	NoCluster  bool
	CrossSlot  bool
}

// Engine keeps compiled scripts by their SHA1, and states that have run a library. It is safe for concurrent use.
type Engine struct {
	shelf shelf
	mu    sync.RWMutex
	cache map[string]*Script
	order []string // oldest first
	bytes int
}

// New returns an engine without scripts.
func New() *Engine { return &Engine{cache: map[string]*Script{}} }

// SHA is the name of a script.
func SHA(body []byte) string {
	sum := sha1.Sum(body)
	return hex.EncodeToString(sum[:])
}

// Load compiles and keeps a script. problem is the error that Redis answers with, "" if all is well.
func (e *Engine) Load(body []byte) (s *Script, problem string) {
	sha := SHA(body)
	if s := e.Find(sha); s != nil {
		return s, ""
	}
	s, problem = compile(sha, string(body))
	if problem != "" {
		return nil, problem
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	if have := e.cache[sha]; have != nil {
		return have, ""
	}
	e.cache[sha] = s
	e.order = append(e.order, sha)
	e.bytes += len(s.Body)
	for len(e.order) > maxScripts || e.bytes > maxCacheBytes && len(e.order) > 1 {
		e.bytes -= len(e.cache[e.order[0]].Body)
		delete(e.cache, e.order[0])
		e.order = e.order[1:]
	}
	return s, ""
}

// Scripts is how many scripts are kept.
func (e *Engine) Scripts() int {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return len(e.cache)
}

// Find returns the script of a name in lower case, nil if it is not known.
func (e *Engine) Find(sha string) *Script {
	e.mu.RLock()
	defer e.mu.RUnlock()
	return e.cache[sha]
}

// Flush forgets all scripts.
func (e *Engine) Flush() {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.cache, e.order, e.bytes = map[string]*Script{}, nil, 0
}
