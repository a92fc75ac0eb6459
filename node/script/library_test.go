package script

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"hypercache/node/resp"
)

func load(t *testing.T, e *Engine, body string) *Library {
	t.Helper()
	l, problem := e.LoadLibrary([]byte("#!lua name=lib\n"+body), "7.0.15", nil)
	if problem != "" {
		t.Fatalf("%s: %s", body, problem)
	}
	return l
}

func call(l *Library, name string, h *host, args ...string) string {
	w := resp.Writer{Proto: 2}
	r := Run{Library: l, Function: name, Host: h, Version: "7.0.15"}
	for _, a := range args {
		r.Args = append(r.Args, []byte(a))
	}
	r.Do(&w)
	return string(w.Buf)
}

func TestFirstLinesAreReadAsRedisReadsThem(t *testing.T) {
	for line, want := range map[string]string{
		`#!lua name=a`: "a", `#!LUA  NAME=a_1 `: "a_1", `#!"lua" 'name=b'`: "b", `#!lua "name=\x61\x62"`: "ab", `#!lua name="a"b`: "-ERR Invalid",
		`#!lua name='a`: "-ERR Invalid", `#!lua "name=a\"`: "-ERR Invalid", `#!lua 'name=a\'b'`: "-ERR Library names", `#!lua`: "-ERR Library name was",
		"#!lua name=a\x00": "-ERR Invalid", `!lua name=a`: "-ERR Missing", `#!`: "-ERR Library name was", `#!js name=a`: "-ERR Engine 'js'",
		`#!lua name=é`: "-ERR Library names", `#!lua name=a flags=x`: "-ERR Invalid metadata value given: flags=x",
		`#!lua name=a NAME=b`: "-ERR Invalid metadata value, name",
	} {
		got, problem := LibraryName(line + "\nrest")
		if problem != "" {
			got = "-" + problem
		}
		if got != want && (want[0] != '-' || !strings.HasPrefix(got, want)) {
			t.Errorf("%q: %s, want %s", line, got, want)
		}
	}
}

func FuzzLibraryName(f *testing.F) {
	f.Add("#!lua name=a\nx")
	f.Add("#!lua \"name=\\x61\" 'b\\''\n")
	f.Fuzz(func(t *testing.T, code string) {
		name, problem := LibraryName(code)
		if (problem == "") != goodName(name) {
			t.Errorf("%q: name %q, problem %q", code, name, problem)
		}
	})
}

func TestLibrariesThatDoNotEndOrFillTheMemoryAreRefused(t *testing.T) {
	for body, want := range map[string]string{
		"while true do end": "FUNCTION LOAD timeout",
		"local i = 0 while true do i = i + 1 redis.register_function('f' .. i, function() end) end": "too large",
		"local s = 'x' while true do s = s .. s end":                                                "string length overflow",
		"redis.register_function('f', function() end) --" + strings.Repeat("x", MaxLibrary):         "too large",
		"local function f() return 1 + f() end f()":                                                 "stack overflow",
	} {
		began := time.Now()
		_, problem := New().LoadLibrary([]byte("#!lua name=lib\n"+body), "7.0.15", nil)
		// On a busy machine the time may be over first.
		refused := strings.Contains(problem, want) || strings.Contains(problem, "FUNCTION LOAD timeout")
		if !refused || time.Since(began) > 20*time.Second {
			t.Errorf("%.60s: %.200s after %v", body, problem, time.Since(began))
		}
	}
}

func TestALocalVariableLastsFromCallToCallAndIsNotShared(t *testing.T) {
	e := New()
	l := load(t, e, "local n = 0 redis.register_function('n', function() n = n + 1 return n end) redis.register_function('bad', function() error('x') end)")
	other := load(t, e, "local n = 10 redis.register_function('n', function() n = n + 1 return n end)")
	for i := range 3 {
		if got := call(l, "n", &host{}) + call(other, "n", &host{}); got != fmt.Sprintf(":%d\r\n:%d\r\n", i+1, i+11) {
			t.Errorf("call %d: %q", i, got)
		}
	}
	call(l, "bad", &host{})
	if got := call(l, "n", &host{}); got != ":1\r\n" {
		t.Errorf("after an error the state begins anew, got %q", got)
	}
}

func TestALibraryOfAnotherNodeIsCompiledWhenItIsCalled(t *testing.T) {
	e := New()
	first := load(t, New(), "redis.register_function('f', function(k, a) return a[1] end)")
	l := e.Declare(first.Name, first.Code, first.Functions)
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for i := range 50 {
				if got, want := call(l, "f", &host{}, fmt.Sprint(i)), fmt.Sprintf("$%d\r\n%d\r\n", len(fmt.Sprint(i)), i); got != want {
					t.Errorf("%q, want %q", got, want)
				}
			}
		})
	}
	wg.Wait()
	e.Retain(nil)
	if n := len(e.shelf.list); n != 0 {
		t.Errorf("%d states of a library that is gone are kept", n)
	}
	for range 2 * maxShelf {
		call(load(t, e, "redis.register_function('f', function() end)"), "f", &host{})
	}
	if n := len(e.shelf.list); n > maxShelf {
		t.Errorf("%d states are kept", n)
	}
}

func TestWhoEndsACallEndsTheLoadingThatItWaitsFor(t *testing.T) {
	l := New().Declare("lib", "#!lua name=lib\nwhile true do end", []Function{{Name: "f"}})
	h := &host{until: time.Now().Add(50 * time.Millisecond)}
	if got := call(l, "f", h); !strings.HasPrefix(got, "-ERR Error registering functions: ERR stopped") {
		t.Errorf("%q", got)
	}
	l = New().Declare("lib", "#!lua name=lib\nredis.register_function('g', function() end)", []Function{{Name: "f"}})
	if got := call(l, "f", &host{}); !strings.HasPrefix(got, "-"+errChanged) {
		t.Errorf("a function that is not registered again: %q", got)
	}
}

func TestFunctionsDoNotGetOut(t *testing.T) {
	for _, body := range []string{
		"os.execute('true')", "redis.call = 1", "_G.x = 1", "rawset(_G, 'x', 1)", "string.rep = nil", "setmetatable(_G, {})",
		"redis.register_function('later', function() end)", "return KEYS", "getmetatable('').__index = 1", "rawset(redis, 'call', 1)",
	} {
		l := load(t, New(), "redis.register_function('f', function() "+body+" end)")
		if got := call(l, "f", &host{}); !strings.HasPrefix(got, "-") {
			t.Errorf("%s: %q", body, got)
		}
		if got := call(load(t, New(), "redis.register_function('f', function() return redis.call('ping') end)"), "f", &host{}); got != "+PONG\r\n" {
			t.Errorf("after %s: %q", body, got)
		}
	}
	for _, body := range []string{"redis.call('ping')", "x = 1", "local s = string", "redis.x = 1", "local c = redis.pcall", "local k = KEYS", "local p = pcall"} {
		if _, problem := New().LoadLibrary([]byte("#!lua name=lib\n"+body), "7.0.15", nil); !strings.HasPrefix(problem, "ERR Error registering functions: ") {
			t.Errorf("loading %s: %s", body, problem)
		}
	}
}
