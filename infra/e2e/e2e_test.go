//go:build e2e

package e2e

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestClusterLivesThroughEverything is one long story, because each chapter needs the cluster of the one before.
func TestClusterLivesThroughEverything(t *testing.T) {
	s := newStack(t, 6000)
	s.up()
	chapters := []struct {
		name string
		run  func(*testing.T, *stack)
	}{
		{"every node answers every key", everyNodeAnswers},
		{"a second up changes nothing", secondUpChangesNothing},
		{"outputs are the contract", outputsAreTheContract},
		{"scale out and in keeps all keys", scaleKeepsAllKeys},
		{"a dead node is noticed and restored", deadNodeIsRestored},
		{"a changed configuration rolls while a client writes", configurationRolls},
		{"a mistake changes nothing", mistakeChangesNothing},
		{"destroy leaves nothing", destroyLeavesNothing},
	}
	for _, c := range chapters {
		if !t.Run(c.name, func(t *testing.T) { s.t = t; c.run(t, s) }) {
			break
		}
	}
	s.t = t
}

func everyNodeAnswers(t *testing.T, s *stack) {
	for i := range 3 {
		if got := s.redis(i, "", "SET", fmt.Sprintf("from-%d", i), "hello"); got != "OK" {
			t.Errorf("SET through node %d: %s", i+1, got)
		}
		for j := range 3 {
			if got := s.redis(j, "", "GET", fmt.Sprintf("from-%d", i)); got != "hello" {
				t.Errorf("GET through node %d of what came through node %d: %q", j+1, i+1, got)
			}
		}
	}
	s.fill()
	out, err := exec.Command("serf", "members", "-rpc-addr=127.0.0.1:"+fmt.Sprint(7373+s.offset)).CombinedOutput()
	if err != nil || strings.Count(string(out), "alive") != 3 {
		t.Errorf("the stock serf program: %v\n%s", err, out)
	}
}

func secondUpChangesNothing(t *testing.T, s *stack) {
	if out, err := s.try("up", "-s", "e2e", "--yes", "--skip-preview", "--expect-no-changes"); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

func outputsAreTheContract(t *testing.T, s *stack) {
	var nodes []map[string]any
	s.output("nodes", &nodes)
	if len(nodes) != 3 {
		t.Fatalf("nodes: %v", nodes)
	}
	for _, key := range []string{"name", "zone", "privateIp", "publicIp", "respPort", "httpPort", "gossipPort", "rpcPort"} {
		if _, ok := nodes[0][key]; !ok {
			t.Errorf("nodes have no %s: %v", key, nodes[0])
		}
	}
	if password := s.password(); password != "" {
		t.Errorf("a local stack has the password %q unasked", password)
	}
	var connect string
	s.output("connect", &connect)
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	words := append(strings.Fields(connect), "PING")
	if out, err := exec.CommandContext(ctx, words[0], words[1:]...).CombinedOutput(); err != nil || strings.TrimSpace(string(out)) != "PONG" {
		t.Errorf("%s PING: %v %s", connect, err, out)
	}
	cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "scripts", "health-check.sh"), s.argument(0), s.argument(1), s.argument(2))
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("health check: %v\n%s", err, out)
	}
}

func (s *stack) argument(i int) string {
	return fmt.Sprintf("127.0.0.1:%d:%d", 8080+s.offset+i, 9080+s.offset+i)
}

func scaleKeepsAllKeys(t *testing.T, s *stack) {
	before := []int{s.record("node-1").Process.PID, s.record("node-2").Process.PID, s.record("node-3").Process.PID}
	s.set("nodeCount", "5")
	s.up()
	s.verify(4)
	s.set("nodeCount", "3")
	out := s.up()
	if !strings.Contains(out, "node-5 hands its data over") || len(s.records()) != 3 {
		t.Errorf("%d nodes are left after\n%s", len(s.records()), out)
	}
	for i := range 3 {
		s.verify(i)
	}
	after := []int{s.record("node-1").Process.PID, s.record("node-2").Process.PID, s.record("node-3").Process.PID}
	if !slices.Equal(before, after) {
		t.Errorf("growing and shrinking restarted nodes that stay: pids %v, then %v", before, after)
	}
}

func deadNodeIsRestored(t *testing.T, s *stack) {
	if err := syscall.Kill(s.record("node-2").Process.PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if out := s.pulumi("refresh", "-s", "e2e", "--yes", "--skip-preview", "--diff"); !strings.Contains(out, `"running" => "stopped"`) {
		t.Errorf("refresh did not notice:\n%s", out)
	}
	s.up()
	s.verify(1)
	if out, err := s.try("up", "-s", "e2e", "--yes", "--skip-preview", "--refresh", "--expect-no-changes"); err != nil {
		t.Errorf("after the repair something is left to do: %v\n%s", err, out)
	}
}

// writer sets counter keys through one node after another until stopped, and reconnects when a connection ends.
type writer struct {
	s        *stack
	acked    []string
	longest  time.Duration
	attempts int
}

func (w *writer) run(ctx context.Context) {
	last := time.Now()
	for i := 0; ctx.Err() == nil; i++ {
		key := fmt.Sprintf("rolled:%d", i)
		w.attempts++
		if w.set(ctx, 8080+w.s.offset+i%3, key) == nil {
			w.acked = append(w.acked, key)
			w.longest = max(w.longest, time.Since(last))
			last = time.Now()
		}
	}
	w.longest = max(w.longest, time.Since(last))
}

func (w *writer) set(ctx context.Context, port int, key string) error {
	d := net.Dialer{Timeout: time.Second}
	c, err := d.DialContext(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(3 * time.Second)); err != nil {
		return err
	}
	if _, err := fmt.Fprintf(c, "SET %s x\r\n", key); err != nil {
		return err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err == nil && line != "+OK\r\n" {
		err = fmt.Errorf("got %q", line)
	}
	return err
}

var updated = regexp.MustCompile(`Node (node-\d) updated`)

func configurationRolls(t *testing.T, s *stack) {
	s.set("logLevel", "debug")
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{s: s}
	done := make(chan struct{})
	go func() { defer close(done); w.run(ctx) }()
	out, err := s.try("up", "-s", "e2e", "--yes", "--skip-preview")
	cancel()
	<-done
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var order []string
	for _, m := range updated.FindAllStringSubmatch(out, -1) {
		order = append(order, m[1])
	}
	if !slices.Equal(order, []string{"node-1", "node-2", "node-3"}) {
		t.Errorf("rolled %v, want one after the other", order)
	}
	t.Logf("%d of %d writes acknowledged, longest gap %v", len(w.acked), w.attempts, w.longest)
	lost := 0
	for chunk := range slices.Chunk(w.acked, 500) {
		if got := s.redis(0, "", append([]string{"EXISTS"}, chunk...)...); got != fmt.Sprint(len(chunk)) {
			lost++
		}
	}
	if lost > 0 || len(w.acked) == 0 {
		t.Errorf("acknowledged writes are missing in %d chunks of 500, of %d writes", lost, len(w.acked))
	}
	s.verify(2)
}

func mistakeChangesNothing(t *testing.T, s *stack) {
	s.set("nodeCount", "0")
	s.set("writeAcks", "most")
	out, err := s.try("up", "-s", "e2e", "--yes", "--skip-preview")
	if err == nil || !strings.Contains(out, "nodeCount") || !strings.Contains(out, "writeAcks") {
		t.Errorf("two mistakes: %v\n%s", err, out)
	}
	s.set("nodeCount", "3")
	s.set("writeAcks", "quorum")
	s.verify(0)
}

func destroyLeavesNothing(t *testing.T, s *stack) {
	all := s.records()
	s.pulumi("destroy", "-s", "e2e", "--yes", "--skip-preview")
	for _, r := range all {
		if r.Process.Alive() {
			t.Errorf("%s, pid %d, still runs", r.Name, r.Process.PID)
		}
	}
	if _, err := os.Stat(filepath.Join(s.dir, ".hypercache")); !os.IsNotExist(err) {
		t.Errorf("files are left: %v", err)
	}
	s.pulumi("stack", "rm", "-s", "e2e", "--yes")
}

// TestALocalStackCanHaveAPassword gives a running cluster a password and takes it away again.
func TestALocalStackCanHaveAPassword(t *testing.T) {
	s := newStack(t, 6400)
	s.up()
	s.redis(0, "", "SET", "kept", "yes")
	for _, tt := range []struct {
		set   string
		wants bool
	}{{"generated", true}, {"none", false}} {
		s.set("password", tt.set)
		preview := s.pulumi("preview", "-s", "e2e", "--diff")
		if strings.Contains(preview, "gossipKey") || strings.Contains(preview, "clusterSecret") || !strings.Contains(preview, "Node::node-2") {
			t.Errorf("%s: the preview shows other secrets as about to change, or no node:\n%s", tt.set, preview)
		}
		s.up()
		password := s.password()
		if wants := len(password) >= 32; wants != tt.wants {
			t.Errorf("%s: the output is %q", tt.set, password)
		}
		if out, err := s.try("up", "-s", "e2e", "--yes", "--skip-preview", "--expect-no-changes"); err != nil {
			t.Errorf("%s: a second up changes something: %v\n%s", tt.set, err, out)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		cmd := exec.CommandContext(ctx, filepath.Join(s.dir, "scripts", "health-check.sh"), s.argument(0), s.argument(1), s.argument(2))
		out, err := as(password, cmd).CombinedOutput()
		if err != nil {
			t.Errorf("%s: health check: %v\n%s", tt.set, err, out)
		}
		cmd = exec.CommandContext(ctx, "redis-cli", append(named(password), "-p", s.resp(1), "GET", "kept")...)
		out, err = as(password, cmd).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "yes" {
			t.Errorf("%s: GET: %v, %s", tt.set, err, out)
		}
		cancel()
		file, err := os.ReadFile(filepath.Join(s.dir, ".hypercache", "local", "e2e", "node-2", "config.yaml"))
		if err != nil || strings.Contains(string(file), "password_file") != tt.wants {
			t.Errorf("%s: node-2 is configured with, %v,\n%s", tt.set, err, file)
		}
	}
	s.pulumi("destroy", "-s", "e2e", "--yes", "--skip-preview")
}

func TestTakenPortIsNamed(t *testing.T) {
	s := newStack(t, 6200)
	l, err := net.Listen("tcp", "127.0.0.1:"+s.resp(0))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	out, err := s.try("up", "-s", "e2e", "--yes", "--skip-preview")
	want := fmt.Sprintf("port %s (RESP of node-1) is taken by", s.resp(0))
	if err == nil || !strings.Contains(out, want) || !strings.Contains(out, fmt.Sprintf("(pid %d)", os.Getpid())) {
		t.Errorf("want %q and our pid, got %v\n%s", want, err, out)
	}
	s.pulumi("destroy", "-s", "e2e", "--yes", "--skip-preview")
	if _, err := os.Stat(filepath.Join(s.dir, ".hypercache")); !os.IsNotExist(err) {
		t.Errorf("files are left: %v", err)
	}
}
