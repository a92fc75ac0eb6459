package fleet

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"
)

// cluster is some nodes that answer as real ones do.
type cluster struct {
	mu      sync.Mutex
	members []member
	unready map[string]bool
	size    int      // of the founded cluster, 0 before
	drained []string // "node bearer"
	refuse  int      // status of a drain, 0 for success
	nodes   map[string]string
}

func start(t *testing.T, names ...string) *cluster {
	t.Helper()
	c := &cluster{unready: map[string]bool{}, nodes: map[string]string{}}
	for _, name := range names {
		c.members = append(c.members, member{ID: name, Status: "alive", State: "up"})
		s := httptest.NewServer(c.node(name))
		t.Cleanup(s.Close)
		c.nodes[name] = s.URL
	}
	return c
}

func (c *cluster) node(name string) http.Handler {
	mux := http.NewServeMux()
	answer := func(f func(w http.ResponseWriter, r *http.Request)) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			c.mu.Lock()
			defer c.mu.Unlock()
			f(w, r)
		}
	}
	mux.HandleFunc("GET /health", answer(func(w http.ResponseWriter, _ *http.Request) { _ = json.NewEncoder(w).Encode(health{name, c.size}) }))
	mux.HandleFunc("GET /ready", answer(func(w http.ResponseWriter, _ *http.Request) {
		if c.unready[name] {
			http.Error(w, "catching up", http.StatusServiceUnavailable)
		}
	}))
	mux.HandleFunc("GET /api/cluster/members", answer(func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(map[string]any{"members": c.members})
	}))
	mux.HandleFunc("POST /api/admin/drain", answer(func(w http.ResponseWriter, r *http.Request) {
		if c.refuse != 0 {
			http.Error(w, "no", c.refuse)
			return
		}
		c.drained = append(c.drained, name+" "+r.Header.Get("Authorization"))
	}))
	return mux
}

func (c *cluster) fleet() Fleet { return Fleet{Nodes: c.nodes} }

// soon is a limit that a single round of questions fits into.
const soon = 200 * time.Millisecond

func wants(t *testing.T, err error, text string) {
	t.Helper()
	if text == "" && err != nil || text != "" && (err == nil || !strings.Contains(err.Error(), text)) {
		t.Errorf("got %v, want %q", err, text)
	}
}

func TestTheGateLooksAtAllOthersAndNotAtTheNodeItself(t *testing.T) {
	c := start(t, "node-1", "node-2", "node-3")
	for _, tt := range []struct {
		name    string
		members []member
		unready []string
		node    string
		want    string
	}{
		{"all well", c.members, nil, "node-1", ""},
		{"itself sick", c.members, []string{"node-1"}, "node-1", ""},
		{"another not ready", c.members, []string{"node-3"}, "node-1", "catching up"},
		{"another failed in the eyes of gossip", []member{{"node-1", "alive", "up"}, {"node-2", "failed", "up"}, {"node-3", "alive", "up"}}, nil, "node-1", "node-2 is failed"},
		{"a planned one not made yet", []member{{"node-1", "alive", "up"}, {"node-2", "alive", "up"}}, []string{"node-3"}, "node-1", ""},
		{"a member that is not planned is dead", append([]member{{"node-9", "failed", "up"}}, c.members...), nil, "node-1", "node-9 is failed"},
		{"one that left", append([]member{{"node-9", "left", "removed"}}, c.members...), nil, "node-1", ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.mu.Lock()
			c.members, c.unready = tt.members, map[string]bool{}
			for _, name := range tt.unready {
				c.unready[name] = true
			}
			c.mu.Unlock()
			wants(t, c.fleet().OthersReady(context.Background(), tt.node, soon), tt.want)
		})
	}
}

func TestALoneNodeHasNobodyToWaitFor(t *testing.T) {
	wants(t, Fleet{Nodes: map[string]string{"node-1": "http://127.0.0.1:1"}}.OthersReady(context.Background(), "node-1", soon), "")
}

func TestNobodyAnsweringIsNotWell(t *testing.T) {
	f := Fleet{Nodes: map[string]string{"node-1": "http://127.0.0.1:1", "node-2": "http://127.0.0.1:1"}}
	wants(t, f.OthersReady(context.Background(), "node-1", soon), "no node tells who is in the cluster")
}

func TestOnlyTheRightNodeIsReady(t *testing.T) {
	c := start(t, "node-1", "node-2")
	wants(t, c.fleet().NodeReady(context.Background(), "node-1", c.nodes["node-1"], soon), "")
	wants(t, c.fleet().NodeReady(context.Background(), "node-1", c.nodes["node-2"], soon), `is "node-2", not "node-1"`)
	c.unready["node-1"] = true
	err := c.fleet().NodeReady(context.Background(), "node-1", c.nodes["node-1"], soon)
	wants(t, err, "catching up")
	wants(t, err, "hypercache-setup")
}

func TestANodeThatWaitsForOthersNeedOnlyBeAlive(t *testing.T) {
	c := start(t, "node-1", "node-2", "node-3")
	c.unready["node-1"] = true
	gone := "http://127.0.0.1:1"
	for _, tt := range []struct {
		name       string
		size       int
		two, three string
		want       string
	}{
		{"the first founder", 0, gone, gone, ""},
		{"the second founder", 0, c.nodes["node-2"], gone, ""},
		{"the last founder", 0, c.nodes["node-2"], c.nodes["node-3"], "catching up"},
		{"the first of a cluster that is restored", 3, gone, gone, ""},
		{"one of a majority", 3, c.nodes["node-2"], gone, "catching up"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c.size = tt.size
			f := Fleet{Founders: 3, Nodes: map[string]string{"node-1": c.nodes["node-1"], "node-2": tt.two, "node-3": tt.three}}
			wants(t, f.NodeReady(context.Background(), "node-1", c.nodes["node-1"], soon), tt.want)
		})
	}
	wants(t, Fleet{Founders: 3}.NodeReady(context.Background(), "node-1", gone, soon), "connection refused")
}

func TestDrainCarriesTheSecret(t *testing.T) {
	c := start(t, "node-1", "node-2")
	stays := Fleet{Nodes: map[string]string{"node-1": c.nodes["node-1"]}}
	wants(t, stays.Drain(context.Background(), "node-2", c.nodes["node-2"], "s3cret", time.Minute), "")
	if len(c.drained) != 1 || c.drained[0] != "node-2 Bearer s3cret" {
		t.Errorf("drained %q", c.drained)
	}
}

func TestDrainTellsWhatCannotBe(t *testing.T) {
	c := start(t, "node-1", "node-2")
	stays := Fleet{Nodes: map[string]string{"node-1": c.nodes["node-1"]}}
	c.refuse = http.StatusUnauthorized
	wants(t, stays.Drain(context.Background(), "node-2", c.nodes["node-2"], "", time.Minute), "refuses to hand its data over: it answers 401")
	wants(t, stays.Drain(context.Background(), "node-2", "http://127.0.0.1:1", "", soon), "node-2 does not hand its data over")
	c.members = c.members[:1] // it has left before it died
	wants(t, stays.Drain(context.Background(), "node-2", "http://127.0.0.1:1", "", soon), "")
	wants(t, Fleet{Nodes: stays.Nodes, Off: true}.Drain(context.Background(), "node-2", c.nodes["node-2"], "", soon), "healthGate off")
	wants(t, Fleet{}.Drain(context.Background(), "node-2", "http://127.0.0.1:1", "", soon), "")
}

func TestTheProxyIsOnTheWay(t *testing.T) {
	c := start(t, "node-1")
	var seen []string
	proxy := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen = append(seen, r.URL.Host)
		base, _ := url.Parse(c.nodes["node-1"])
		r.URL.Host, r.RequestURI = base.Host, ""
		resp, err := http.DefaultTransport.RoundTrip(r)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		_ = resp.Write(w)
		_ = json.NewEncoder(w).Encode(map[string]string{"node": "node-1"})
	}))
	defer proxy.Close()
	f := Fleet{Nodes: map[string]string{}, Proxy: proxy.URL}
	_ = f.NodeReady(context.Background(), "node-1", "http://10.0.1.4:9080", soon)
	if len(seen) == 0 || seen[0] != "10.0.1.4:9080" {
		t.Errorf("the proxy was asked for %q", seen)
	}
}
