//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"hypercache/infra/cloudtest/cloud"
	"hypercache/infra/cloudtest/fabric"
	"hypercache/infra/cloudtest/image"
	"hypercache/infra/cloudtest/randomcloud"
)

// emulated is a cloud of the emulator, as these tests need it.
type emulated interface {
	Provider() *cloud.Provider
	// Leftovers is everything that still exists.
	Leftovers() []string
	// destroy takes a VM away behind Pulumi's back.
	destroy(ctx context.Context, node string) error
	// machine is a node's VM in the lab.
	machine(node string) string
	// network is the network's name in the lab.
	network() string
}

// site is what differs between the clouds for a test.
type site struct {
	cloud, region string
	nodes         []string // planned private addresses, in order
	open          func(t *testing.T, lab *fabric.Lab, dir string) emulated
}

// vmStack is a deployment on the emulator: the stock CLI, our program, and VMs that are containers.
type vmStack struct {
	*stack
	site  site
	lab   *fabric.Lab
	cloud emulated

	wordLock sync.Mutex
	word     string // the password, once it is known

	hostLock sync.Mutex
	network  string       // its name in the lab, once it is there
	host     *fabric.Host // a machine of the operator's, inside the network
}

// bootLimit bounds a VM's way from nothing to serving, in seconds as the program takes it.
const bootLimit = "150"

func newVMStack(t *testing.T, s site) *vmStack {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	name, err := image.Build(ctx, slog.New(slog.NewTextHandler(os.Stderr, nil)))
	if err != nil {
		t.Fatal(err)
	}
	v := &vmStack{stack: newProject(t), site: s}
	v.lab, err = fabric.Open(ctx, fabric.Options{Name: "hc" + s.cloud[:2], Dir: t.TempDir(), Image: name, Log: slog.New(slog.NewTextHandler(io.Discard, nil))})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := v.lab.Close(); err != nil {
			t.Errorf("close the lab: %v", err)
		}
	})
	v.cloud = s.open(t, v.lab, v.dir)
	random, err := randomcloud.New()
	if err != nil {
		t.Fatal(err)
	}
	ports := map[string]int{}
	for _, p := range []*cloud.Provider{v.cloud.Provider(), random} {
		ports[p.Name] = serve(t, p)
	}
	// The program must have all clouds, other than what pulumi-env.sh sets, and reaches nodes as an operator with `ssh -D` would.
	v.env = append(v.env, "PULUMI_DEBUG_PROVIDERS="+cloud.Environment(ports), "GOFLAGS="+strings.TrimPrefix(os.Getenv("GOFLAGS"), "-tags=localonly"))
	v.pulumi("stack", "init", "e2e")
	for key, value := range map[string]string{
		"cloud": s.cloud, "region": s.region, "readyTimeout": bootLimit, "drainTimeout": "120", "healthGateProxy": v.proxy(),
	} {
		v.set(key, value)
	}
	return v
}

func serve(t *testing.T, p *cloud.Provider) int {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server, err := cloud.Serve(p, l, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return l.Addr().(*net.TCPAddr).Port
}

// proxy is an HTTP proxy on loopback that dials from inside the network.
func (v *vmStack) proxy() string {
	p := httptest.NewServer(&httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.Out.URL = r.In.URL },
		Transport: &http.Transport{DialContext: v.dial, DisableKeepAlives: true},
		ErrorLog:  slog.NewLogLogger(slog.DiscardHandler, slog.LevelError),
	})
	v.t.Cleanup(p.Close)
	return p.URL
}

// clientSubnet is a part of the network beside the program's own, where clients are: what is open to them is open by the rules for
// clients alone.
const clientSubnet = "clients"

// inside is the operator's machine in the network. It exists as soon as the network does.
func (v *vmStack) inside() *fabric.Host {
	v.t.Helper()
	h, err := v.insideIfThere()
	if err != nil {
		v.t.Fatal(err)
	}
	return h
}

func (v *vmStack) insideIfThere() (*fabric.Host, error) {
	v.hostLock.Lock()
	defer v.hostLock.Unlock()
	if v.host != nil {
		return v.host, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if v.network == "" {
		v.network = v.cloud.network()
	}
	if err := v.lab.CreateSubnet(ctx, v.network, clientSubnet, netip.MustParsePrefix("10.0.9.0/24")); err != nil {
		return nil, err
	}
	h, err := v.lab.CreateHost(ctx, v.network, "client", netip.MustParseAddr("10.0.9.10"))
	if err != nil {
		return nil, errors.Join(err, v.lab.DeleteSubnet(ctx, v.network, clientSubnet))
	}
	v.host = h
	return h, nil
}

// leave takes the operator's machine out of the network, so that the network can go.
func (v *vmStack) leave() {
	v.hostLock.Lock()
	defer v.hostLock.Unlock()
	if v.host == nil {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if err := errors.Join(v.host.Close(), v.lab.DeleteSubnet(ctx, v.network, clientSubnet)); err != nil {
		v.t.Errorf("take the client out of the network: %v", err)
	}
	v.host = nil
}

func (v *vmStack) dial(ctx context.Context, network, address string) (net.Conn, error) {
	h, err := v.insideIfThere()
	if err != nil {
		return nil, err
	}
	return h.Dial(ctx, network, address)
}

// port is a node's RESP port in the guide's layout.
func port(i int) int { return 8080 + i%3 }

// endpoint is a node's RESP address.
func (v *vmStack) endpoint(i int) string { return fmt.Sprintf("%s:%d", v.site.nodes[i], port(i)) }

// password is that of the stack, which must be up. It is asked for once: a load has no time to run the CLI.
func (v *vmStack) password() string {
	v.t.Helper()
	v.wordLock.Lock()
	defer v.wordLock.Unlock()
	if v.word == "" {
		v.word = v.stack.password()
	}
	return v.word
}

// redisCLI runs redis-cli inside the network against node i.
func (v *vmStack) redisCLI(i int, args ...string) (string, error) {
	h, err := v.insideIfThere()
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	words := append(named(v.password()), "-h", v.site.nodes[i], "-p", fmt.Sprint(port(i)))
	out, err := as(v.password(), h.Command(ctx, "redis-cli", append(words, args...)...)).CombinedOutput()
	return strings.TrimSpace(string(out)), err
}

// stranger is what a client that gives no password is answered.
func (v *vmStack) stranger(i int) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	conn, err := v.dial(ctx, "tcp", v.endpoint(i))
	if err != nil {
		return "", err
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.WriteString(conn, "GET test:key\r\n"); err != nil {
		return "", err
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	return strings.TrimSpace(line), err
}

// client is a cluster client with the retries that users have on.
func (v *vmStack) client(nodes int) *redis.ClusterClient {
	var addrs []string
	for i := range nodes {
		addrs = append(addrs, v.endpoint(i))
	}
	return redis.NewClusterClient(&redis.ClusterOptions{
		Username: "default", Password: v.password(), // an empty one is not given, nor is then the name
		Addrs: addrs, Dialer: v.dial, MaxRedirects: 16, MinRetryBackoff: 20 * time.Millisecond, MaxRetryBackoff: time.Second,
		DialTimeout: 2 * time.Second, ReadTimeout: 6 * time.Second,
	})
}

// get asks a node over HTTP from inside the network, with the password where the path is not open to everybody.
func (v *vmStack) get(i int, path string, into any) error {
	c := http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: v.dial, DisableKeepAlives: true}}
	req, err := http.NewRequest(http.MethodGet, fmt.Sprintf("http://%s:%d%s", v.site.nodes[i], port(i)+1000, path), nil)
	if err != nil {
		return err
	}
	if strings.HasPrefix(path, "/api/") && v.password() != "" {
		req.SetBasicAuth("default", v.password())
	}
	resp, err := c.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return err
	}
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s of node %d: %d %s", path, i+1, resp.StatusCode, body)
	}
	if into == nil {
		return nil
	}
	return json.Unmarshal(body, into)
}

// await repeats a question until it is answered without error, at most for limit.
func (v *vmStack) await(limit time.Duration, what string, ask func() error) {
	v.t.Helper()
	deadline, tick := time.After(limit), time.NewTicker(200*time.Millisecond)
	defer tick.Stop()
	for {
		err := ask()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			v.t.Fatalf("%s: still not after %v: %v", what, limit, err)
		case <-tick.C:
		}
	}
}

// ready waits until nodes are ready.
func (v *vmStack) ready(nodes ...int) {
	v.t.Helper()
	for _, i := range nodes {
		v.await(time.Minute, fmt.Sprintf("node %d is ready", i+1), func() error { return v.get(i, "/ready", nil) })
	}
}

// mustUp is up that tells, when it fails, what the VMs say.
func (v *vmStack) mustUp() string {
	v.t.Helper()
	out, err := v.try("up", "-s", "e2e", "--yes", "--skip-preview")
	if err != nil {
		v.consoles()
		v.t.Fatalf("pulumi up: %v\n%s", err, out)
	}
	return out
}

// consoles logs what the VMs said.
func (v *vmStack) consoles() {
	v.t.Helper()
	for i := range v.site.nodes {
		if id := v.cloud.machine(fmt.Sprintf("node-%d", i+1)); id != "" {
			ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
			v.t.Logf("node-%d:\n%s", i+1, v.lab.Console(ctx, id))
			cancel()
		}
	}
}

// healthCheck runs scripts/health-check.sh inside the network.
func (v *vmStack) healthCheck(nodes int) (string, error) {
	v.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var args []string
	for i := range nodes {
		args = append(args, fmt.Sprintf("%s:%d:%d", v.site.nodes[i], port(i), port(i)+1000))
	}
	cmd := v.inside().Command(ctx, filepath.Join(v.dir, "scripts", "health-check.sh"), args...)
	out, err := as(v.password(), cmd).CombinedOutput()
	return string(out), err
}

// leftBehind is what the emulator's own means show of a lab: containers, namespaces, loop devices.
func leftBehind(t *testing.T, lab string) []string {
	t.Helper()
	var left []string
	for _, words := range [][]string{
		{"docker", "ps", "-a", "--format", "{{.Names}}"}, {"docker", "volume", "ls", "-q"}, {"ip", "netns", "list"}, {"losetup", "-a"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		out, err := exec.CommandContext(ctx, words[0], words[1:]...).Output()
		cancel()
		if err != nil {
			t.Fatalf("%q: %v", words, err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.Contains(line, lab) {
				left = append(left, words[0]+": "+strings.TrimSpace(line))
			}
		}
	}
	return left
}
