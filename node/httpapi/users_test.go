package httpapi

import (
	"encoding/base64"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
)

func basic(user, password string) map[string]string {
	return map[string]string{"Authorization": "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))}
}

func TestKeysWantAUserWhereThereIsAPassword(t *testing.T) {
	node := newFake()
	node.password = "secret-word"
	node.values["k"] = "v"
	s := newTestServer(t, node, func(o *Options) { o.Secret = []byte("0123456789abcdef") })
	bearer := map[string]string{"Authorization": "Bearer 0123456789abcdef"}
	for _, c := range []struct {
		name   string
		call   call
		status int
		code   string
	}{
		{"nobody reads", call{path: "/api/cache/k"}, http.StatusUnauthorized, "NOAUTH"},
		{"a wrong password", call{path: "/api/cache/k", header: basic("default", "wrong")}, http.StatusUnauthorized, "WRONGPASS"},
		{"no Basic", call{path: "/api/cache/k", header: map[string]string{"Authorization": "Digest x"}}, http.StatusUnauthorized, "NOAUTH"},
		{"a wrong secret", call{path: "/api/cache/k", header: map[string]string{"Authorization": "Bearer 0123456789abcdeF"}}, http.StatusUnauthorized, "NOAUTH"},
		{"the user default", call{path: "/api/cache/k", header: basic("default", "secret-word")}, http.StatusOK, ""},
		{"no name is default", call{path: "/api/cache/k", header: basic("", "secret-word")}, http.StatusOK, ""},
		{"the secret", call{path: "/api/cache/k", header: bearer}, http.StatusOK, ""},
		{"ann reads", call{path: "/api/cache/k", header: basic("ann", "secret-word")}, http.StatusOK, ""},
		{"ann writes", call{method: "PUT", path: "/api/cache/k", body: "w", header: basic("ann", "secret-word")}, http.StatusForbidden, "NOPERM"},
		{"ann deletes", call{method: "DELETE", path: "/api/cache/k", header: basic("ann", "secret-word")}, http.StatusForbidden, "NOPERM"},
		{"nobody asks for hot keys", call{path: "/api/cluster/hotkeys"}, http.StatusUnauthorized, "NOAUTH"},
		{"health is open", call{path: "/health"}, http.StatusOK, ""},
		{"metrics are open", call{path: "/metrics"}, http.StatusOK, ""},
		{"readiness is open", call{path: "/ready"}, http.StatusOK, ""},
		{"members are open", call{path: "/api/cluster/members"}, http.StatusOK, ""},
	} {
		w := c.call.do(s)
		if w.Code != c.status || errorCode(w) != c.code {
			t.Errorf("%s: %d %s, want %d %s", c.name, w.Code, errorCode(w), c.status, c.code)
		}
		if asks := w.Header().Get("WWW-Authenticate") != ""; asks != (c.status == http.StatusUnauthorized) {
			t.Errorf("%s: WWW-Authenticate is %q", c.name, w.Header().Get("WWW-Authenticate"))
		}
	}
	if node.values["k"] != "v" {
		t.Errorf("the value is %q", node.values["k"])
	}
}

// neverRead is a body that must not be asked for.
type neverRead struct{ t *testing.T }

func (b neverRead) Read([]byte) (int, error) {
	b.t.Error("the body was read")
	return 0, io.EOF
}

func TestABodyIsNotReadForNobody(t *testing.T) {
	node := newFake()
	node.password = "secret-word"
	s := newTestServer(t, node, nil)
	r, err := http.NewRequest(http.MethodPut, "http://127.0.0.1:9080/api/cache/k", neverRead{t})
	if err != nil {
		t.Fatal(err)
	}
	r.RemoteAddr = "127.0.0.1:5555"
	w := httptest.NewRecorder()
	s.Handler().ServeHTTP(w, r)
	if w.Code != http.StatusUnauthorized {
		t.Errorf("answered %d", w.Code)
	}
}
