package httpapi

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"gopkg.in/yaml.v3"
)

// fakeNode is a cache of strings in a map, with switches for what tests need.
type fakeNode struct {
	mu       sync.Mutex
	values   map[string]string
	ttl      map[string]int64
	failure  string // every command answers this error
	hot      func(args []string) Reply
	reasons  []string
	drained  int
	reset    int
	password string
	removed  []string
	levels   []ReadLevel // of the reads that came
	drain    func(context.Context) error
	block    chan struct{} // when set, the one command that comes waits for it
	entered  chan struct{} // and closes this first
}

// Refuses lets everybody do everything, unless the node has a password: then ann may read with it, and default do all.
func (f *fakeNode) Refuses(who Credentials, args ...[]byte) string {
	switch {
	case f.password == "":
		return ""
	case who.None:
		return "NOAUTH Authentication required."
	case who.Password != f.password:
		return "WRONGPASS invalid username-password pair or user is disabled."
	case who.User == "ann" && string(args[0]) != "GET" && string(args[0]) != "PTTL":
		return "NOPERM this user has no permissions to run the 'set' command"
	}
	return ""
}

func newFake() *fakeNode { return &fakeNode{values: map[string]string{}, ttl: map[string]int64{}} }

func (f *fakeNode) Read(ctx context.Context, level ReadLevel, args ...[]byte) Reply {
	f.mu.Lock()
	f.levels = append(f.levels, level)
	f.mu.Unlock()
	return f.Do(ctx, args...)
}

func (f *fakeNode) Do(ctx context.Context, args ...[]byte) Reply {
	if f.block != nil {
		close(f.entered)
		select {
		case <-f.block:
		case <-ctx.Done():
			return ErrorReply("NOREPLICAS timed out")
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.failure != "" {
		return ErrorReply(f.failure)
	}
	if string(args[0]) == "HOTKEYS" {
		var words []string
		for _, a := range args {
			words = append(words, string(a))
		}
		return f.hot(words)
	}
	key := string(args[1])
	value, found := f.values[key]
	switch string(args[0]) {
	case "GET":
		if !found {
			return Reply{}
		}
		return Reply{Kind: KindBytes, Bytes: []byte(value)}
	case "PTTL":
		if ms, ok := f.ttl[key]; ok {
			return Reply{Kind: KindInt, Int: ms}
		}
		return Reply{Kind: KindInt, Int: -1}
	case "DEL":
		delete(f.values, key)
		delete(f.ttl, key)
		if found {
			return Reply{Kind: KindInt, Int: 1}
		}
		return Reply{Kind: KindInt}
	case "SET":
		delete(f.ttl, key)
		for i := 3; i < len(args); i++ {
			switch string(args[i]) {
			case "PX":
				i++
				f.ttl[key], _ = strconv.ParseInt(string(args[i]), 10, 64)
			case "NX":
				if found {
					return Reply{}
				}
			case "XX":
				if !found {
					return Reply{}
				}
			}
		}
		f.values[key] = string(args[2])
		return Reply{Kind: KindStatus, Bytes: []byte("OK")}
	}
	return ErrorReply("ERR unknown command")
}

func (f *fakeNode) Health() Health {
	return Health{Status: "ok", Node: "n1", Version: "v1", ClusterSize: 3, Alive: 3, Leader: "n1", Epoch: 7, Roles: Roles{Primary: 86, Replica: 170}}
}
func (f *fakeNode) Ready() (bool, []string) { return len(f.reasons) == 0, f.reasons }
func (f *fakeNode) Members() []Member       { return []Member{{ID: "n1", Status: "alive", Self: true}} }
func (f *fakeNode) Topology() Topology {
	return Topology{Epoch: 7, Slots: 16384, Groups: []Group{{Slots: [2]int{0, 63}, Primary: "n1"}}}
}
func (f *fakeNode) Stats() Stats { return Stats{Keys: int64(len(f.values)), CommandsTotal: 5} }
func (f *fakeNode) Remove(_ context.Context, node string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.removed = append(f.removed, node)
	return nil
}
func (f *fakeNode) Drain(ctx context.Context) error {
	f.mu.Lock()
	f.drained++
	f.mu.Unlock()
	if f.drain != nil {
		return f.drain(ctx)
	}
	return nil
}
func (f *fakeNode) Handover(context.Context) error         { return nil }
func (f *fakeNode) ResetDefaultUser(context.Context) error { f.reset++; return nil }

func newTestServer(t *testing.T, f *fakeNode, edit func(*Options)) *Server {
	t.Helper()
	o := Options{Addr: "127.0.0.1:0", Backend: f, MaxValue: 1 << 10}
	if edit != nil {
		edit(&o)
	}
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

type call struct {
	method, path, body string
	header             map[string]string
	peer               string
}

func (c call) do(s *Server) *httptest.ResponseRecorder {
	if c.method == "" {
		c.method = "GET"
	}
	r := httptest.NewRequest(c.method, "http://127.0.0.1:9080"+c.path, strings.NewReader(c.body))
	for k, v := range c.header {
		r.Header.Set(k, v)
	}
	if h := c.header["Host"]; h != "" {
		r.Host = h
	}
	if r.RemoteAddr = c.peer; c.peer == "" {
		r.RemoteAddr = "127.0.0.1:5555"
	}
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	return w
}

func errorCode(w *httptest.ResponseRecorder) string {
	var e apiError
	_ = json.Unmarshal(w.Body.Bytes(), &e)
	return e.Error.Code
}

func TestHealthIsAlwaysOKAndReadyTellsWhyNot(t *testing.T) {
	f := newFake()
	f.reasons = []string{"3 groups are loading"}
	s := newTestServer(t, f, nil)
	w := call{path: "/health"}.do(s)
	var h Health
	if err := json.Unmarshal(w.Body.Bytes(), &h); err != nil || w.Code != 200 || h.Node != "n1" || h.ClusterSize != 3 || h.Roles.Primary != 86 {
		t.Fatalf("%d %s %v", w.Code, w.Body, err)
	}
	if w := (call{path: "/ready"}).do(s); w.Code != 503 || !strings.Contains(w.Body.String(), "3 groups are loading") {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	f.reasons = nil
	if w := (call{path: "/ready"}).do(s); w.Code != 200 || strings.TrimSpace(w.Body.String()) != `{"ready":true,"reasons":[]}` {
		t.Fatalf("%d %s", w.Code, w.Body)
	}
	for path, want := range map[string]string{"/api/status": `"keys":0`, "/api/cluster/members": `"id":"n1"`, "/api/cluster/topology": `"slots":16384`, "/metrics": "hypercache_groups{role=\"primary\"} 86"} {
		if w := (call{path: path}).do(s); w.Code != 200 || !strings.Contains(w.Body.String(), want) {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
	}
	if w := (call{path: "/"}).do(s); w.Code != 404 || errorCode(w) != "not_found" {
		t.Errorf("/: %d %s", w.Code, w.Body)
	}
}

func TestKeysAndValuesAreBinarySafe(t *testing.T) {
	f := newFake()
	s := newTestServer(t, f, nil)
	for path, key := range map[string]string{
		"/api/cache/plain": "plain", "/api/cache/a/b//c": "a/b//c", "/api/cache/a%2Fb%2F%2Fc": "a/b//c", "/api/cache/..": "..",
		"/api/cache/%00%ff%0d%0a": "\x00\xff\r\n", "/api/cache/%252F": "%2F", "/api/cache/a+b%20c": "a+b c", "/api/cache/k%3Fx?ttl=5": "k?x",
	} {
		value := "v\x00\r\n\xff" + key
		if w := (call{method: "PUT", path: path, body: value}).do(s); w.Code != 204 {
			t.Errorf("PUT %s: %d %s", path, w.Code, w.Body)
		}
		if f.values[key] != value {
			t.Errorf("PUT %s stored %q", path, f.values[key])
		}
		if w := (call{path: path}).do(s); w.Code != 200 || w.Body.String() != value || w.Header().Get("Content-Type") != "application/octet-stream" {
			t.Errorf("GET %s: %d %q", path, w.Code, w.Body)
		}
	}
	if got := (call{path: "/api/cache/k%3Fx"}).do(s).Header().Get("X-Cache-TTL-Ms"); got != "5000" {
		t.Errorf("TTL header %q", got)
	}
	if w := (call{method: "HEAD", path: "/api/cache/plain"}).do(s); w.Code != 200 || w.Body.Len() != 0 || w.Header().Get("Content-Length") != "10" {
		t.Errorf("HEAD: %d %v", w.Code, w.Header())
	}
	if w := (call{method: "DELETE", path: "/api/cache/plain"}).do(s); w.Code != 204 {
		t.Errorf("DELETE: %d", w.Code)
	}
	for _, c := range []call{{path: "/api/cache/plain"}, {method: "DELETE", path: "/api/cache/plain"}} {
		if w := c.do(s); w.Code != 404 || errorCode(w) != "not_found" {
			t.Errorf("%v: %d %s", c, w.Code, w.Body)
		}
	}
	if w := (call{path: "/api/cache/"}).do(s); w.Code != 400 {
		t.Errorf("no key: %d", w.Code)
	}
}

func TestJSONInBothDirections(t *testing.T) {
	f := newFake()
	s := newTestServer(t, f, nil)
	asJSON := map[string]string{"Content-Type": "application/json; charset=utf-8"}
	for body, want := range map[string]string{
		`{"value":"text \u00e9"}`: "text é", `{"value":42}`: "42", `{"value":{"a":[1,2]},"ttl":1.5}`: `{"a":[1,2]}`,
		`{"value":"AP8=","encoding":"base64"}`: "\x00\xff", `{"value":""}`: "",
	} {
		if w := (call{method: "PUT", path: "/api/cache/j", body: body, header: asJSON}).do(s); w.Code != 204 || f.values["j"] != want {
			t.Errorf("%s: %d %s, stored %q", body, w.Code, w.Body, f.values["j"])
		}
	}
	f.values["b"], f.ttl["b"] = "\xff\x00", 1500
	w := call{path: "/api/cache/b", header: map[string]string{"Accept": "application/json"}}.do(s)
	if got := strings.TrimSpace(w.Body.String()); got != `{"key":"b","value":"/wA=","encoding":"base64","ttl":1.5}` {
		t.Errorf("got %s", got)
	}
	// What GET gives, PUT takes.
	if w := (call{method: "PUT", path: "/api/cache/c", body: w.Body.String(), header: asJSON}).do(s); w.Code != 204 || f.values["c"] != "\xff\x00" || f.ttl["c"] != 1500 {
		t.Errorf("back: %d %s", w.Code, w.Body)
	}
	if w := (call{path: "/api/cache/b", header: map[string]string{"Accept": "application/octet-stream, application/json"}}).do(s); w.Body.String() != "\xff\x00" {
		t.Errorf("raw asked for first: %q", w.Body)
	}
}

func TestBadRequestsAreNamed(t *testing.T) {
	f := newFake()
	s := newTestServer(t, f, nil)
	put := func(path, body string, header ...string) call {
		c := call{method: "PUT", path: path, body: body, header: map[string]string{}}
		for i := 0; i < len(header); i += 2 {
			c.header[header[i]] = header[i+1]
		}
		return c
	}
	ct, js := "Content-Type", "application/json"
	for _, tt := range []struct {
		c    call
		code int
		name string
	}{
		{put("/api/cache/k", strings.Repeat("x", 1025)), 413, "too_large"},
		{put("/api/cache/k", `{"value":"`+strings.Repeat("x", 1025)+`"}`, ct, js), 413, "too_large"},
		{put("/api/cache/k", `{"value":"`+strings.Repeat("x", 200<<10)+`"}`, ct, js), 413, "too_large"},
		{put("/api/cache/k", "x", ct, "multipart/form-data; boundary=x"), 415, "unsupported_type"},
		{put("/api/cache/k", "x", ct, ";;"), 415, "unsupported_type"},
		{put("/api/cache/k", "x", "Content-Encoding", "gzip"), 415, "unsupported_encoding"},
		{put("/api/cache/k?ttl=soon", "x"), 400, "bad_request"},
		{put("/api/cache/k?ttl=-1", "x"), 400, "bad_request"},
		{put("/api/cache/k?ttl=1e300", "x"), 400, "bad_request"},
		{put("/api/cache/k?ttl=NaN", "x"), 400, "bad_request"},
		{put("/api/cache/k?ttl=1", "x", "X-Cache-TTL", "2"), 400, "bad_request"},
		{put("/api/cache/k", "not json", ct, js), 400, "bad_request"},
		{put("/api/cache/k", `{"ttl":1}`, ct, js), 400, "bad_request"},
		{put("/api/cache/k", `{"value":null}`, ct, js), 400, "bad_request"},
		{put("/api/cache/k", `{"value":"x","tll":1}`, ct, js), 400, "bad_request"},
		{put("/api/cache/k", `{"value":"x"} {}`, ct, js), 400, "bad_request"},
		{put("/api/cache/k", `{"value":5,"encoding":"base64"}`, ct, js), 400, "bad_request"},
		{put("/api/cache/k", "x", "If-Match", `"etag"`), 400, "bad_request"},
		{put("/api/cache/k", "x", "If-Match", "*"), 412, "precondition_failed"},
		{call{method: "POST", path: "/api/cache/k"}, 405, "method_not_allowed"},
		{call{method: "POST", path: "/health"}, 405, "method_not_allowed"},
		{call{path: "/api/admin/drain"}, 405, "method_not_allowed"},
		{call{path: "/nothing"}, 404, "not_found"},
	} {
		if w := tt.c.do(s); w.Code != tt.code || errorCode(w) != tt.name {
			t.Errorf("%s %s %.40q: %d %s; want %d %s", tt.c.method, tt.c.path, tt.c.body, w.Code, w.Body, tt.code, tt.name)
		}
	}
	if len(f.values) != 0 {
		t.Errorf("something was stored: %v", f.values)
	}
	if !s.bodies.TryAcquire(bodiesInFlight * bodyRoom(1<<10)) {
		t.Error("a refused body keeps its share of the memory")
	}
}

func TestCacheErrorsBecomeStatuses(t *testing.T) {
	f := newFake()
	s := newTestServer(t, f, nil)
	for prefix, code := range map[string]int{
		"CLUSTERDOWN": 503, "LOADING": 503, "TRYAGAIN": 503, "MASTERDOWN": 503, "NOREPLICAS": 503, "READONLY": 503, "MISCONF": 503,
		"OOM": 507, "WRONGTYPE": 409, "ERR": 400, "NOAUTH": 401, "NOPERM": 403, "WEIRD": 500,
	} {
		f.failure = prefix + " something happened"
		for _, c := range []call{{path: "/api/cache/k"}, {method: "PUT", path: "/api/cache/k", body: "v"}, {method: "DELETE", path: "/api/cache/k"}} {
			w := c.do(s)
			if w.Code != code || errorCode(w) != prefix || (code == 503) != (w.Header().Get("Retry-After") != "") {
				t.Errorf("%s %s: %d %s", c.method, prefix, w.Code, w.Body)
			}
		}
	}
}

func TestAdminIsForThisMachineOrTheSecret(t *testing.T) {
	f := newFake()
	s := newTestServer(t, f, func(o *Options) { o.Secret = []byte("0123456789abcdef") })
	far := "203.0.113.9:1"
	for _, tt := range []struct {
		why    string
		peer   string
		header map[string]string
		ok     bool
	}{
		{"local", "", nil, true},
		{"local ipv6", "[::1]:1", nil, true},
		{"far", far, nil, false},
		{"far with secret", far, map[string]string{"Authorization": "Bearer 0123456789abcdef"}, true},
		{"far with wrong secret", far, map[string]string{"Authorization": "Bearer 0123456789abcdeF"}, false},
		{"local with wrong secret", "", map[string]string{"Authorization": "Bearer x"}, false},
		{"through a proxy", "", map[string]string{"X-Forwarded-For": "203.0.113.9"}, false},
		{"a page of this node", "", map[string]string{"Sec-Fetch-Site": "same-origin"}, false},
	} {
		before := f.drained
		w := call{method: "POST", path: "/api/admin/drain", peer: tt.peer, header: tt.header}.do(s)
		if ok := w.Code == 200 && f.drained == before+1; ok != tt.ok || !tt.ok && (w.Code != 401 || f.drained != before) {
			t.Errorf("%s: %d %s", tt.why, w.Code, w.Body)
		}
	}
	open := newTestServer(t, newFake(), nil)
	if w := (call{method: "POST", path: "/api/admin/handover", peer: far, header: map[string]string{"Authorization": "Bearer "}}).do(open); w.Code != 401 {
		t.Errorf("an empty token without a secret: %d", w.Code)
	}
	if w := (call{method: "POST", path: "/api/admin/reset-default-user", peer: far}).do(s); w.Code != 401 || f.reset != 0 {
		t.Errorf("a stranger resets the user default: %d %s", w.Code, w.Body)
	}
	if w := (call{method: "POST", path: "/api/admin/reset-default-user"}).do(s); w.Code != 200 || f.reset != 1 {
		t.Errorf("a reset: %d %s", w.Code, w.Body)
	}
	if w := (call{method: "POST", path: "/api/admin/remove"}).do(s); w.Code != 400 || len(f.removed) != 0 {
		t.Errorf("a removal of nobody: %d %s", w.Code, w.Body)
	}
	if w := (call{method: "POST", path: "/api/admin/remove?node=n%2F3", peer: far}).do(s); w.Code != 401 || len(f.removed) != 0 {
		t.Errorf("a stranger removes: %d %s", w.Code, w.Body)
	}
	if w := (call{method: "POST", path: "/api/admin/remove?node=n%2F3"}).do(s); w.Code != 200 || !slices.Equal(f.removed, []string{"n/3"}) {
		t.Errorf("removal: %d %s, of %q", w.Code, w.Body, f.removed)
	}
	f.drain = func(context.Context) error { return errors.New("2 groups have nowhere to go") }
	if w := (call{method: "POST", path: "/api/admin/drain"}).do(s); w.Code != 500 || !strings.Contains(w.Body.String(), "nowhere to go") {
		t.Errorf("a failing drain: %d %s", w.Code, w.Body)
	}
}

func TestPagesOfOtherSitesAreRefused(t *testing.T) {
	s := newTestServer(t, newFake(), func(o *Options) { o.Hosts = []string{"cache.example"} })
	for _, tt := range []struct {
		why    string
		header map[string]string
		code   int
	}{
		{"a program", nil, 204},
		{"a program with any host name", map[string]string{"Host": "balancer.example"}, 204},
		{"own page", map[string]string{"Sec-Fetch-Site": "same-origin", "Origin": "http://127.0.0.1:9080"}, 204},
		{"own page by name", map[string]string{"Sec-Fetch-Site": "same-origin", "Host": "cache.example:9080"}, 204},
		{"other site", map[string]string{"Sec-Fetch-Site": "cross-site"}, 403},
		{"sibling site", map[string]string{"Sec-Fetch-Site": "same-site"}, 403},
		{"other origin", map[string]string{"Origin": "http://evil.example"}, 403},
		{"opaque origin", map[string]string{"Origin": "null"}, 403},
		{"rebound name", map[string]string{"Sec-Fetch-Site": "same-origin", "Host": "evil.example"}, 403},
	} {
		w := call{method: "PUT", path: "/api/cache/k", body: "v", header: tt.header}.do(s)
		if w.Code != tt.code {
			t.Errorf("%s: %d %s", tt.why, w.Code, w.Body)
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" || w.Header().Get("X-Content-Type-Options") != "nosniff" {
			t.Errorf("%s: headers %v", tt.why, w.Header())
		}
	}
}

func TestServeFinishesWhatItBegan(t *testing.T) {
	f := newFake()
	f.block, f.entered = make(chan struct{}), make(chan struct{})
	s := newTestServer(t, f, nil)
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	answer := make(chan string, 1)
	go func() {
		r, _ := http.NewRequestWithContext(t.Context(), "PUT", "http://"+s.Addr()+"/api/cache/k", strings.NewReader("v"))
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			answer <- err.Error()
			return
		}
		_ = resp.Body.Close()
		answer <- resp.Status
	}()
	<-f.entered
	stop()
	// The listener is gone first, then the request may end.
	for {
		c, err := net.Dial("tcp", s.Addr())
		if err != nil {
			break
		}
		_ = c.Close()
	}
	close(f.block)
	if got := <-answer; got != "204 No Content" {
		t.Errorf("the request in flight got %s", got)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestAPortInUseIsAnErrorAtOnce(t *testing.T) {
	s := newTestServer(t, newFake(), nil)
	if _, err := New(Options{Addr: s.Addr(), Backend: newFake()}); err == nil || !strings.Contains(err.Error(), "listen for HTTP") {
		t.Fatalf("got %v", err)
	}
}

func TestConnectionsAreBounded(t *testing.T) {
	s := newTestServer(t, newFake(), func(o *Options) { o.MaxConns = 1 })
	ctx, stop := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- s.Serve(ctx) }()
	get := func(c net.Conn) bool {
		_ = c.SetDeadline(time.Now().Add(300 * time.Millisecond))
		_, _ = io.WriteString(c, "GET /health HTTP/1.1\r\nHost: x\r\n\r\n")
		n, _ := c.Read(make([]byte, 16))
		return n > 0
	}
	first, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if !get(first) {
		t.Fatal("the first connection is not served")
	}
	second, err := net.Dial("tcp", s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if get(second) {
		t.Fatal("more connections are served than allowed")
	}
	_ = first.Close()
	_ = second.SetDeadline(time.Now().Add(10 * time.Second))
	if n, err := second.Read(make([]byte, 16)); n == 0 {
		t.Fatalf("the second was not served after the first left: %v", err)
	}
	_ = second.Close()
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

func TestTheDescriptionNamesEveryRoute(t *testing.T) {
	s := newTestServer(t, newFake(), nil)
	w := call{path: "/api/openapi.yaml"}.do(s)
	var doc struct {
		Paths map[string]map[string]any `yaml:"paths"`
	}
	if err := yaml.Unmarshal(w.Body.Bytes(), &doc); err != nil {
		t.Fatal(err)
	}
	routes := s.routes()
	for _, r := range routes {
		path := r.path
		if path == cachePrefix {
			path += "{key}"
		}
		for method := range r.methods {
			if method == http.MethodHead {
				continue
			}
			if _, ok := doc.Paths[path][strings.ToLower(method)]; !ok {
				t.Errorf("%s %s is not described", method, path)
			}
		}
	}
	if len(doc.Paths) != len(routes) {
		t.Errorf("%d paths described, %d served", len(doc.Paths), len(routes))
	}
}

func FuzzCache(f *testing.F) {
	f.Add("PUT", "k", "application/json", `{"value":1,"ttl":2}`, "1")
	f.Add("GET", "%00%2F..", "application/json", "", "")
	f.Add("PUT", "a//b", "text/plain", "x", "-0")
	f.Fuzz(func(t *testing.T, method, key, ct, body, ttl string) {
		r := &http.Request{Method: method, Header: http.Header{"Content-Type": {ct}, "Accept": {ct}, "X-Cache-Ttl": {ttl}}, Body: io.NopCloser(bytes.NewReader([]byte(body))), ContentLength: -1, RemoteAddr: "1.2.3.4:5", Host: "x"}
		u, err := url.Parse("http://x/api/cache/" + key)
		if err != nil {
			return
		}
		r.URL = u
		node := newFake()
		s, err := New(Options{Listener: noListener{}, Backend: node, MaxValue: 64})
		if err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
		if w.Code >= 500 && w.Code != 503 {
			t.Fatalf("%d %s", w.Code, w.Body)
		}
		for k, v := range node.values {
			if len(v) > 64 {
				t.Fatalf("stored %d bytes under %q", len(v), k)
			}
		}
	})
}

type noListener struct{}

func (noListener) Accept() (net.Conn, error) { return nil, net.ErrClosed }
func (noListener) Close() error              { return nil }
func (noListener) Addr() net.Addr            { return &net.TCPAddr{} }
