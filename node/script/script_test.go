package script

import (
	"strings"
	"testing"
	"time"

	"hypercache/node/resp"
)

// host answers every command but nosuch with PONG, has GET, CONFIG, CONFIG GET and the forbidden SET, and stops a script when its time is over.
type host struct {
	calls  [][][]byte
	logged []string
	until  time.Time
}

func (h *host) Call(args [][]byte, w *resp.Writer) {
	h.calls = append(h.calls, args)
	if string(args[0]) == "nosuch" {
		w.Error("ERR Unknown Redis command called from script")
		return
	}
	w.SimpleString("PONG")
}

func (h *host) Allowed(args [][]byte) (allowed, known bool) {
	switch string(args[0]) {
	case "get":
		return true, true
	case "set":
		return false, true
	case "config":
		return true, len(args) == 1 || string(args[1]) == "get"
	}
	return false, false
}
func (h *host) Log(_ int, message string) { h.logged = append(h.logged, message) }
func (h *host) Tick() string {
	if !h.until.IsZero() && time.Now().After(h.until) {
		return "ERR stopped"
	}
	return ""
}

func run(t *testing.T, e *Engine, body string, limit time.Duration) string {
	t.Helper()
	s, problem := e.Load([]byte(body))
	if problem != "" {
		return "-" + problem
	}
	h := &host{}
	if limit > 0 {
		h.until = time.Now().Add(limit)
	}
	w := resp.Writer{Proto: 2}
	r := Run{Script: s, Host: h, Version: "7.0.15"}
	done := make(chan struct{})
	go func() {
		defer close(done)
		r.Do(&w)
	}()
	select {
	case <-done:
	case <-time.After(30 * time.Second):
		t.Fatalf("%s: does not end", body)
	}
	return string(w.Buf)
}

func TestNothingStopsAScriptFromBeingStopped(t *testing.T) {
	for _, body := range []string{
		"while true do end",
		"while true do pcall(function() while true do end end) end",
		"local function f() return f() end return f()",
		"while true do pcall(error, 'x') end",
		"local c = coroutine.create(function() while true do end end) while true do coroutine.resume(c) end",
		"while true do xpcall(function() error('x') end, function() while true do end end) end",
		"while true do pcall(redis.call, 'ping') end",
		"return loadstring('while true do end')()",
		"return pcall(function() while true do end end)",
		"return pcall(string.find, string.rep('a', 200000), '.-.-.-.-.-.-b')",
		"while true do pcall(string.gsub, string.rep('(', 200000), '%b()', '') end",
		"local t = setmetatable({}, {__index = function() while true do end end}) return t.x",
	} {
		if got := run(t, New(), body, 50*time.Millisecond); !strings.HasPrefix(got, "-ERR stopped") {
			t.Errorf("%s: %.200q", body, got)
		}
	}
}

func TestScriptsDoNotGetOut(t *testing.T) {
	for _, body := range []string{
		"return os.execute('true')", "return io.open('/etc/passwd')", "return require('os')", "return loadfile('/etc/passwd')",
		"return dofile('/etc/passwd')", "return debug.getinfo(1)", "return package.path", "return getfenv(1)", "return setfenv",
		"return newproxy()", "return module('x')", "return print('x')", "return channel", "return _printregs()", "return string.dump(error)",
		"return loadstring('\\27Lua')()", "_G.os = 1", "string.rep = 1", "rawset(string, 'rep', 1)", "rawset(_G, 'x', 1)",
		"table.insert(string, 1)", "table.sort(_G)", "setmetatable(string, {})", "getmetatable('').__index = 1",
		"getmetatable(_G).__index = 1", "redis.call = 1", "KEYS = {}",
	} {
		if got := run(t, New(), body, time.Second); !strings.HasPrefix(got, "-") {
			t.Errorf("%s: %.200q", body, got)
		}
	}
}

func TestNothingOfAScriptIsLeftForTheNext(t *testing.T) {
	e := New()
	const look = "local n = 0 for k in pairs(_G) do n = n + 1 end for k in pairs(string) do n = n + 1 end " +
		"return {n, #KEYS, #ARGV, ('x'):rep(2), cjson.encode_max_depth(), tostring(rawget(_G, 'leak')), type(string.leak)}"
	want := run(t, e, look, 0)
	for _, body := range []string{
		"pcall(rawset, _G, 'leak', 1)", "pcall(rawset, string, 'leak', 1)", "pcall(table.insert, string, 1)", "math.randomseed(7)",
		"pcall(setmetatable, 'x', {__index = {rep = 1}})", "pcall(function() string.rep = nil end)", "redis.setresp(3)", "cjson.encode_max_depth(1)",
		"pcall(function() getmetatable('').__index.rep = 1 end)", "KEYS[1] = 1 ARGV[5] = 1", "pcall(setmetatable, _G, nil)",
		"local c = coroutine.create(function() coroutine.yield() end) coroutine.resume(c)", "pcall(setmetatable, print, {})",
		"pcall(table.remove, string)", "pcall(table.sort, _G)", "pcall(setmetatable, 1, {__index = string})", "error('x')",
		"local _, t = pairs(_G) pcall(function() t.leak = 1 end)", "local _, t = pairs(string) pcall(function() t.rep = nil end)",
		"pcall(setmetatable, cjson.null, {})", "for k in pairs(_G) do pcall(rawset, _G, k, nil) end",
	} {
		run(t, e, body, 0)
		if got := run(t, e, look, 0); got != want {
			t.Errorf("after %s: %q, want %q", body, got, want)
		}
	}
}

func TestWhatAScriptTakesIsBounded(t *testing.T) {
	deep := strings.Repeat("{", 100_000) + strings.Repeat("}", 100_000)
	for body, want := range map[string]string{
		"local s = 'x' while true do s = s .. s end":                                                   "string length overflow",
		"return string.rep('x', 1e10)":                                                                 "string length overflow",
		"return string.rep(string.rep('x', 1e6), 1e6)":                                                 "string length overflow",
		"local s, t = string.rep('x', 1e6), {} for i = 1, 1000 do t[i] = s end return table.concat(t)": "string length overflow",
		"return ('%099999999d'):format(1)":                                                             "invalid format",
		"local function f() return 1 + f() end return f()":                                             "stack overflow",
		"return unpack({}, 1, 1e8)":                                                                    "too many results",
		"return " + deep:                                                                               "too many syntax levels",
		"return " + strings.Repeat("-", 100_000) + "1":                                                 "",
		"return " + strings.Repeat("not ", 100_000) + "1":                                              "too many syntax levels",
		"local t = {} t[1] = t return t":                                                               "reached lua stack limit",
		"local t = {} t[1] = t return cjson.encode(t)":                                                 "excessive nesting",
		"return cjson.decode(string.rep('[', 100000))":                                                 "too many nested",
		"return cmsgpack.unpack(string.rep('\\145', 100000))":                                          "stack overflow",
		"return string.find(string.rep('x', 1e6), string.rep('x?', 1e6))":                              "pattern too complex",
		"return string.find('x', string.rep('()', 33))":                                                "too many captures",
		"return string.byte(string.rep('x', 1e6), 1, -1)":                                              "slice too long",
		"return struct.pack('c99999999999', 'x')":                                                      "overflow",
		"return string.gsub(string.rep('x', 1e6), 'x', string.rep('y', 1e6))":                          "string length overflow",
	} {
		if got := run(t, New(), body, time.Minute); !strings.HasPrefix(got, "-") && want != "" || !strings.Contains(got, want) {
			t.Errorf("%.60s: %.200q, want %q", body, got, want)
		}
	}
}

func TestTheCacheKeepsTheNewestScripts(t *testing.T) {
	e := New()
	first, _ := e.Load([]byte("return 0"))
	for i := range maxScripts {
		if _, problem := e.Load([]byte("return 1" + strings.Repeat(" ", i%100) + strings.Repeat("\n", i/100))); problem != "" {
			t.Fatal(problem)
		}
	}
	if e.Find(first.SHA) != nil || len(e.cache) != maxScripts {
		t.Errorf("%d scripts are kept, the oldest: %v", len(e.cache), e.Find(first.SHA) != nil)
	}
}

func BenchmarkShortScript(b *testing.B) {
	e := New()
	s, _ := e.Load([]byte("return redis.call('get', KEYS[1])"))
	h := &host{}
	w := resp.Writer{Proto: 2}
	keys := [][]byte{[]byte("k")}
	b.ReportAllocs()
	for b.Loop() {
		w.Buf, h.calls = w.Buf[:0], h.calls[:0]
		r := Run{Script: s, Keys: keys, Host: h, Version: "7.0.15"}
		r.Do(&w)
	}
}
