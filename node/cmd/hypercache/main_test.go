package main

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"hypercache/node/config"
	"hypercache/node/httpapi"
	"hypercache/node/member"
)

// result is what a run of the program left behind.
type result struct {
	code        int
	out, errOut string
}

type fixture struct {
	env     []string
	open    opener
	signals chan os.Signal
	exit    func(int)
}

func (f fixture) run(args ...string) result {
	var out, errOut bytes.Buffer
	p := &program{stdout: &out, stderr: &errOut, env: f.env, search: []string{}, signals: f.signals, open: f.open, exit: f.exit}
	code := p.run(context.Background(), args)
	return result{code, out.String(), errOut.String()}
}

func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.yaml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// fakeNode runs until it is told to stop.
type fakeNode struct {
	run func(ctx context.Context, ready func()) error
}

func (n fakeNode) Run(ctx context.Context, ready func()) error { return n.run(ctx, ready) }

func TestFlagsReachTheConfiguration(t *testing.T) {
	path := file(t, "server: {node_id: from-file}\nnetwork: {resp_port: 1}\n")
	var got config.Config
	f := fixture{open: func(c config.Config, _ *slog.Logger) (node, error) {
		got = c
		return fakeNode{func(context.Context, func()) error { return nil }}, nil
	}}
	for _, args := range [][]string{
		{"--config=" + path, "-node-id", "x", "--network.resp_port=2", "--cluster.inter_node_tls=false"},
		{"serve", "-config", path, "--node-id=x", "-network.resp_port", "2"},
	} {
		if r := f.run(args...); r.code != 0 || got.Server.NodeID != "x" || got.Network.RESPPort != 2 {
			t.Errorf("%v: %+v, %s", args, r, got)
		}
	}
}

func TestExitCodes(t *testing.T) {
	broken := file(t, "network: {resp_port: 0, http_port: x}\nnode_id: y\n")
	f := fixture{open: func(config.Config, *slog.Logger) (node, error) { return nil, errors.New("port 8080 is taken") }}
	for _, tt := range []struct {
		args []string
		code int
		want string
	}{
		{[]string{"--config=" + broken}, 2, "3 problems"},
		{[]string{"--config=/no/such/file.yaml"}, 2, "/no/such/file.yaml"},
		{[]string{"--nonsense"}, 2, "nonsense"},
		{[]string{"dance"}, 2, `no command "dance"`},
		{[]string{"serve", "extra"}, 2, "extra"},
		{nil, 1, "start: port 8080 is taken"},
		{[]string{"help"}, 0, ""},
		{[]string{"--help"}, 0, ""},
		{[]string{"serve", "-h"}, 0, ""},
		{[]string{"config", "check", broken}, 2, "server.node_id"},
		{[]string{"config"}, 2, "config check FILE"},
		{[]string{"config", "check"}, 2, "config check FILE"},
		{[]string{"members", "--addr=127.0.0.1:1"}, 1, "no node answers at http://127.0.0.1:1"},
		{[]string{"members", "--addr=::bad::"}, 2, "not an address"},
		{[]string{"-gossip-members", "--network.rpc_port=1"}, 1, "no seeds to ask"},
	} {
		r := f.run(tt.args...)
		if r.code != tt.code || !strings.Contains(r.errOut, tt.want) {
			t.Errorf("%v: code %d, stderr %q", tt.args, r.code, r.errOut)
		}
		if tt.code == 0 && !strings.Contains(r.out, "sage") {
			t.Errorf("%v: no help in %q", tt.args, r.out)
		}
	}
}

func TestSignalsStopGracefullyThenAtOnce(t *testing.T) {
	socket := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer manager.Close() //nolint:errcheck
	signals, exited := make(chan os.Signal, 2), make(chan int, 1)
	f := fixture{env: []string{"NOTIFY_SOCKET=" + socket}, signals: signals, exit: func(code int) { exited <- code }}
	f.open = func(config.Config, *slog.Logger) (node, error) {
		return fakeNode{func(ctx context.Context, ready func()) error {
			ready()
			signals <- syscall.SIGTERM
			<-ctx.Done()
			signals <- os.Interrupt // while still handing over
			if code := <-exited; code != exitFailure {
				t.Errorf("the second signal exits with %d", code)
			}
			return nil
		}}, nil
	}
	if r := f.run(); r.code != 0 {
		t.Fatalf("%+v", r)
	}
	buf := make([]byte, 256)
	_ = manager.SetReadDeadline(time.Now().Add(10 * time.Second))
	for _, want := range []string{"READY=1", "STOPPING=1"} {
		n, err := manager.Read(buf)
		if err != nil || !strings.HasPrefix(string(buf[:n]), want) {
			t.Errorf("told %q, %v; want %s", buf[:n], err, want)
		}
	}
}

func TestLogsFollowTheConfiguration(t *testing.T) {
	for args, want := range map[string]string{"--logging.format=json": `"level":"WARN","msg":"careful"`, "--logging.level=WARN": "level=WARN msg=careful", "--logging.level=error": ""} {
		f := fixture{open: func(_ config.Config, log *slog.Logger) (node, error) {
			return fakeNode{func(context.Context, func()) error { log.Warn("careful"); return nil }}, nil
		}}
		if r := f.run(args); want == "" && r.errOut != "" || !strings.Contains(r.errOut, want) {
			t.Errorf("%s: %q", args, r.errOut)
		}
	}
}

// answers serves canned bodies by path.
func answers(t *testing.T, bodies map[string]any) (addr string, requests func() []string) {
	t.Helper()
	var mu sync.Mutex
	var seen []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		seen = append(seen, strings.TrimSpace(r.Method+" "+r.URL.RequestURI()+" "+r.Header.Get("Authorization")))
		mu.Unlock()
		body, ok := bodies[r.URL.Path]
		if !ok {
			w.WriteHeader(http.StatusUnauthorized)
			_, _ = w.Write([]byte(`{"error":{"code":"unauthorized","message":"not from there"}}`))
			return
		}
		_ = json.NewEncoder(w).Encode(body)
	}))
	t.Cleanup(s.Close)
	return s.Listener.Addr().String(), func() []string { mu.Lock(); defer mu.Unlock(); return seen }
}

func TestMembersStatusAndDrain(t *testing.T) {
	st := httpapi.Status{
		Health: httpapi.Health{Status: "ok", Node: "n1", Version: "v1", UptimeSec: 75, ClusterSize: 3, Alive: 2, Leader: "n2", Epoch: 9, Roles: httpapi.Roles{Primary: 86, Replica: 170}},
		Ready:  true, Stats: httpapi.Stats{Keys: 12, MemoryUsed: 3 << 20, MemoryMax: 1 << 30},
	}
	bodies := map[string]any{
		"/api/status":          &st,
		"/api/cluster/members": map[string]any{"members": []httpapi.Member{{ID: "n2", Status: "failed", Leader: true, Roles: httpapi.Roles{Primary: 85}}, {ID: "n1", Status: "alive", State: "up", Zone: "z1", RESPAddr: "10.0.1.4:8080"}}},
		"/api/admin/drain":     map[string]string{"status": "drained"},
		"/api/admin/remove":    map[string]string{"status": "removed"},

		"/api/admin/reset-default-user": map[string]string{"status": "reset"},
	}
	addr, requests := answers(t, bodies)
	host, port, _ := net.SplitHostPort(addr)
	f := fixture{env: []string{"BIND_ADDR=" + host, "HYPERCACHE_NETWORK_HTTP_PORT=" + port}}

	r := f.run("members") // finds the address in the configuration
	lines := strings.Split(r.out, "\n")
	if r.code != 0 || len(lines) != 4 || !strings.HasPrefix(lines[1], "n1    alive   up     z1    10.0.1.4:8080  -") || !strings.HasSuffix(lines[2], "leader") {
		t.Errorf("members: %+v", r)
	}
	if r := f.run("members", "--json"); r.code != 0 || !json.Valid([]byte(r.out)) {
		t.Errorf("members --json: %+v", r)
	}
	r = f.run("status", "--addr", addr)
	for _, want := range []string{"n1, version v1, up 1m15s", "ok, ready", "2 of 3 nodes alive, leader n2, epoch 9", "86 primary, 170 replica", "3 MB, of 1 GB"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("status: no %q in\n%s", want, r.out)
		}
	}
	st.Ready, st.Reasons = false, []string{"loading"}
	if r := f.run("status"); r.code != 1 || !strings.Contains(r.out, "not ready: loading") || r.errOut != "" {
		t.Errorf("status of a node that is not ready: %+v", r)
	}
	secret := file(t, "0123456789abcdef\n")
	if r := f.run("drain", "--addr", "http://"+addr+"/", "--secret-file", secret); r.code != 0 || !strings.Contains(r.out, "drained") {
		t.Errorf("drain: %+v", r)
	}
	if seen := requests(); seen[len(seen)-1] != "POST /api/admin/drain Bearer 0123456789abcdef" {
		t.Errorf("drain asked %s", seen[len(seen)-1])
	}
	if r := f.run("remove", "n/3", "--addr", addr); r.code != 0 || !strings.Contains(r.out, "n/3 is no member any more") {
		t.Errorf("remove: %+v", r)
	}
	if seen := requests(); seen[len(seen)-1] != "POST /api/admin/remove?node=n%2F3" {
		t.Errorf("remove asked %q", seen[len(seen)-1])
	}
	if r := f.run("remove", "--addr", addr); r.code != 2 || !strings.Contains(r.errOut, "remove NODE") {
		t.Errorf("a removal of nobody: %+v", r)
	}
	if r := f.run("reset-default-user", "--addr", addr, "--secret-file", secret); r.code != 0 || !strings.Contains(r.out, "the user default may do everything") {
		t.Errorf("reset-default-user: %+v", r)
	}
	if seen := requests(); seen[len(seen)-1] != "POST /api/admin/reset-default-user Bearer 0123456789abcdef" {
		t.Errorf("reset-default-user asked %q", seen[len(seen)-1])
	}
	delete(bodies, "/api/admin/drain")
	if r := f.run("drain"); r.code != 1 || !strings.Contains(r.errOut, "not from there") {
		t.Errorf("a refused drain: %+v", r)
	}
}

func TestConfigCheck(t *testing.T) {
	good := file(t, "server: {node_id: a}\ncluster: {rpc_auth_key: hush}\n")
	t.Setenv("HYPERCACHE_NETWORK_RESP_PORT", "nonsense") // the checker's environment is not the node's
	r := fixture{env: os.Environ()}.run("config", "check", good)
	if r.code != 0 || !strings.Contains(r.out, "node_id: a\n") || !strings.Contains(r.out, "is fine") || strings.Contains(r.out, "hush") {
		t.Errorf("%+v", r)
	}
	var answer struct {
		OK       bool
		Problems []config.Problem
	}
	r = fixture{}.run("config", "check", "--json", file(t, "cluster: {write_acks: some, zone: 3}\ncolour: red\n"))
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil || r.code != 2 || answer.OK || len(answer.Problems) != 3 {
		t.Errorf("%+v %v", r, err)
	}
	r = fixture{}.run("config", "check", good, "--json")
	if err := json.Unmarshal([]byte(r.out), &answer); err != nil || r.code != 0 || !answer.OK {
		t.Errorf("%+v %v", r, err)
	}
}

func TestKeygenMakesWhatTheConfigurationTakes(t *testing.T) {
	var keys struct {
		Key    string `json:"gossip_encrypt_key"`
		Secret string `json:"cluster_secret"`
	}
	r := fixture{}.run("keygen", "--json")
	if err := json.Unmarshal([]byte(r.out), &keys); err != nil || r.code != 0 {
		t.Fatalf("%+v %v", r, err)
	}
	raw, err := base64.StdEncoding.DecodeString(keys.Key)
	if err != nil || len(raw) != 32 {
		t.Fatalf("key %q", keys.Key)
	}
	c := config.Default()
	c.Cluster.GossipEncryptKey = keys.Key
	c.Cluster.SecretFile = file(t, keys.Secret)
	if err := c.Validate(); err != nil {
		t.Fatal(err)
	}
	if s, err := c.Cluster.Secret(); err != nil || string(s) != keys.Secret {
		t.Fatal(err)
	}
	if other := (fixture{}).run("keygen"); strings.Contains(other.out, keys.Key) {
		t.Fatal("the same key twice")
	}
}

func TestVersion(t *testing.T) {
	for _, args := range [][]string{{"version"}, {"--version"}, {"-version"}} {
		if r := (fixture{}).run(args...); r.code != 0 || !strings.HasPrefix(r.out, "hypercache "+nodeVersion()) {
			t.Errorf("%v: %+v", args, r)
		}
	}
	var b build
	if r := (fixture{}).run("version", "--json"); json.Unmarshal([]byte(r.out), &b) != nil || b.Version != nodeVersion() || b.Go == "" {
		t.Errorf("%+v", r)
	}
}

// TestGossipMembers asks a running node, and then, as nobody answers any more,
// looks on through a seed.
func TestGossipMembers(t *testing.T) {
	n, err := member.New(member.Options{NodeID: "real", BindAddr: "127.0.0.1", AdvertiseAddr: "127.0.0.1", Cluster: "hypercache", Tags: member.Tags{RESPAddr: "127.0.0.1:8080", Zone: "z1"}})
	if err != nil {
		t.Fatal(err)
	}
	if err := n.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer n.Close() //nolint:errcheck
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- n.ServeRPC(ln) }()
	port := ln.Addr().(*net.TCPAddr).Port
	f := fixture{env: []string{"BIND_ADDR=127.0.0.1", "SEED_NODES=" + n.Local().GossipAddr, "HYPERCACHE_NETWORK_RPC_PORT=" + strconv.Itoa(port)}}

	r := f.run("-node-id", "debug-node", "-gossip-members")
	if r.code != 0 || !strings.Contains(r.out, "real  alive") || !strings.Contains(r.out, "1 seen by the node at 127.0.0.1:"+strconv.Itoa(port)) {
		t.Errorf("asking: %+v", r)
	}
	_ = ln.Close()
	if err := <-served; err != nil {
		t.Fatal(err)
	}
	r = f.run("-node-id", "debug-node", "-gossip-members")
	if r.code != 0 || !strings.Contains(r.out, "real        alive") || !strings.Contains(r.out, "onlooker") || !strings.Contains(r.out, "2 seen by debug-node, looking on") {
		t.Errorf("looking on: %+v", r)
	}
	for _, m := range n.Members() {
		if m.ID == "debug-node" && (!m.Observer() || m.Status != member.Left && m.Status != member.Leaving) {
			t.Errorf("the onlooker left this behind: %+v", m)
		}
	}
	var list []member.Member
	if r := f.run("-gossip-members", "-json"); json.Unmarshal([]byte(r.out), &list) != nil || len(list) < 2 {
		t.Errorf("json: %+v", r)
	}
}
