package httpapi

import (
	"encoding/json"
	"net/http"
	"reflect"
	"testing"
)

func TestHotKeysAreListedWithWhereTheyAreServed(t *testing.T) {
	f := newFake()
	text := func(s string) Reply { return Reply{Kind: KindBytes, Bytes: []byte(s)} }
	entry := func(key, rate, excess string) Reply {
		return Reply{Kind: KindArray, Array: []Reply{text(key), text(rate), text(excess)}}
	}
	f.hot = func(args []string) Reply {
		if len(args) > 1 && args[2] == "x" {
			return ErrorReply("ERR COUNT must be an integer from 1 to 1000")
		}
		if len(args) > 1 && args[2] != "2" {
			t.Errorf("asked %q", args)
		}
		return Reply{Kind: KindArray, Array: []Reply{entry("user:1", "1234.5", "0"), entry("a/\xff", "7", "0.5")}}
	}
	s := newTestServer(t, f, nil)
	for path, code := range map[string]int{
		"/api/cluster/hotkeys": 200, "/api/cluster/hotkeys?count=2": 200, "/api/cluster/hotkeys?count=x": 400,
	} {
		w := call{path: path}.do(s)
		if w.Code != code {
			t.Errorf("%s: %d %s", path, w.Code, w.Body)
		}
		if code != http.StatusOK {
			continue
		}
		var body struct {
			Keys []HotKey `json:"keys"`
		}
		if err := json.Unmarshal(w.Body.Bytes(), &body); err != nil {
			t.Fatal(err)
		}
		want := []HotKey{{"user:1", "/api/cache/user:1", 1234.5, 0}, {"a/�", "/api/cache/a%2F%FF", 7, 0.5}}
		if !reflect.DeepEqual(body.Keys, want) {
			t.Errorf("%s: %+v", path, body.Keys)
		}
	}
	f.hot = func([]string) Reply { return ErrorReply("CLUSTERDOWN Hash slot has no primary that serves now") }
	if w := (call{path: "/api/cluster/hotkeys"}).do(s); w.Code != http.StatusServiceUnavailable {
		t.Errorf("without a primary: %d %s", w.Code, w.Body)
	}
}
