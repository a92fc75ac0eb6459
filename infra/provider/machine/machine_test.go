package machine

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// cluster is three stand-in nodes that form a cluster when all of them are there, and need two from then on.
type cluster struct {
	t     *testing.T
	site  Site
	specs []Spec
}

// handedOut are the ports that tests of this run already have; tests run one after the other.
var handedOut = map[int]bool{}

// freePort finds a port that a restarted node gets again: below the range that the kernel hands out to connections, where
// one of our own questions to a node may sit.
func freePort(t *testing.T) int {
	t.Helper()
	for range 100 {
		port := 20000 + rand.IntN(12000)
		if handedOut[port] {
			continue
		}
		handedOut[port] = true
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		return port
	}
	t.Fatal("no free port")
	return 0
}

func newCluster(t *testing.T, n int) *cluster {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	sum, err := FileSHA256(exe)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, site: Site{Dir: filepath.Join(t.TempDir(), "local", "stack"), Say: t.Logf}}
	if err := os.MkdirAll(c.site.Dir, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.site.Destroy(context.Background()); err != nil {
			t.Error(err)
		}
	})
	for i := range n {
		c.specs = append(c.specs, Spec{
			Name: fmt.Sprintf("node-%d", i+1), Address: "127.0.0.1", RESP: freePort(t), HTTP: freePort(t), Gossip: freePort(t),
			RPC: freePort(t), Program: exe, SHA256: sum, GossipKey: "Z29zc2lw", ClusterSecret: "whisper",
			BootstrapExpect: min(3, n), ReadyTimeout: 20 * time.Second, DrainTimeout: 10 * time.Second, StopTimeout: 5 * time.Second,
		})
	}
	for i := range c.specs {
		c.configure(i, "")
	}
	return c
}

// configure gives a node its configuration with more lines in the section test.
func (c *cluster) configure(i int, more string) {
	var peers []string
	for _, s := range c.specs {
		peers = append(peers, fmt.Sprint(s.HTTP))
	}
	c.specs[i].Config = fmt.Sprintf("network:\n  http_port: %d\ntest:\n  peers: [%s]\n  quorum: %d\n%s",
		c.specs[i].HTTP, strings.Join(peers, ","), min(3, len(c.specs))/2+1, more)
}

func (c *cluster) start() {
	c.t.Helper()
	for _, s := range c.specs {
		if _, err := c.site.Start(context.Background(), s); err != nil {
			c.t.Fatal(err)
		}
	}
	var names []string
	for _, s := range c.specs {
		names = append(names, s.Name)
	}
	if err := c.site.Gather(context.Background(), names, 10*time.Second); err != nil {
		c.t.Fatal(err)
	}
	if err := c.site.SetRoster(names); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) status(i int) Status {
	c.t.Helper()
	status, _, _, err := c.site.Status(context.Background(), c.specs[i].Name)
	if err != nil {
		c.t.Fatal(err)
	}
	return status
}

func (c *cluster) process(i int) Process {
	c.t.Helper()
	r, err := c.site.record(c.specs[i].Name)
	if err != nil {
		c.t.Fatal(err)
	}
	return r.Process
}

// kill ends a node as a crash would.
func (c *cluster) kill(i int) {
	c.t.Helper()
	p := c.process(i)
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	c.waitGone(p)
}

func (c *cluster) waitGone(p Process) {
	c.t.Helper()
	if err := poll(context.Background(), 5*time.Second, func() error {
		if p.Alive() {
			return fmt.Errorf("pid %d still runs", p.PID)
		}
		return nil
	}); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) drains() string {
	data, _ := os.ReadFile(filepath.Join(c.site.Dir, "drains"))
	return strings.TrimSpace(string(data))
}

func TestNodesFormAClusterAndOutliveNobody(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	for i := range c.specs {
		if got := c.status(i); got != Running {
			t.Errorf("%s is %s", c.specs[i].Name, got)
		}
		p := c.process(i)
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID))
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(string(stat), ") ")
		if parent := strings.Fields(rest)[1]; parent == fmt.Sprint(os.Getpid()) {
			t.Errorf("%s is our child: whoever kills our children kills it", c.specs[i].Name)
		}
		for _, file := range []string{"config.yaml", "secret"} {
			info, err := os.Stat(filepath.Join(c.site.NodeDir(c.specs[i].Name), file))
			if err != nil || info.Mode().Perm() != 0o600 {
				t.Errorf("%s: %v, %v, want mode 0600", file, info, err)
			}
		}
	}
	var all []Process
	for i := range c.specs {
		all = append(all, c.process(i))
	}
	if err := c.site.Destroy(context.Background()); err != nil {
		t.Fatal(err)
	}
	for _, p := range all {
		if p.Alive() {
			t.Errorf("pid %d survived", p.PID)
		}
	}
	if _, err := os.Stat(filepath.Dir(c.site.Dir)); !os.IsNotExist(err) {
		t.Errorf("the site's directory is left: %v", err)
	}
}

func TestTheNodesPasswordIsInAFileOfItsOwn(t *testing.T) {
	c := newCluster(t, 1)
	config := func() string {
		text, err := os.ReadFile(filepath.Join(c.site.NodeDir("node-1"), "config.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	c.start()
	if text := config(); strings.Contains(text, "password") {
		t.Errorf("a node without a password is told of one:\n%s", text)
	}
	c.specs[0].Password = "open-sesame"
	if _, err := c.site.Restart(context.Background(), c.specs[0]); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(c.site.NodeDir("node-1"), "password")
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v, want mode 0600", info, err)
	}
	if text, err := os.ReadFile(file); err != nil || string(text) != "open-sesame\n" {
		t.Errorf("the file reads %q, %v", text, err)
	}
	if text := config(); !strings.Contains(text, "password_file: "+file) || strings.Contains(text, "open-sesame") {
		t.Errorf("the node is configured with\n%s", text)
	}
}

func TestTakenPortIsNamedAndNothingIsLeft(t *testing.T) {
	c := newCluster(t, 1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", c.specs[0].RESP))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = c.site.Start(context.Background(), c.specs[0])
	want := fmt.Sprintf("port %d (RESP of node-1) is taken by", c.specs[0].RESP)
	if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), fmt.Sprint(os.Getpid())) {
		t.Errorf("got %v, want %q and our pid", err, want)
	}
	if _, err := os.Stat(c.site.NodeDir("node-1")); !os.IsNotExist(err) {
		t.Errorf("the node's directory is left: %v", err)
	}
}

func TestNodeThatDiesIsReportedAtOnceWithItsLastWords(t *testing.T) {
	c := newCluster(t, 1)
	c.configure(0, "  die: true\n")
	began := time.Now()
	_, err := c.site.Start(context.Background(), c.specs[0])
	if err == nil || !strings.Contains(err.Error(), "made of cheese") {
		t.Errorf("got %v, want the log's last lines", err)
	}
	if took := time.Since(began); took > c.specs[0].ReadyTimeout/2 {
		t.Errorf("took %v: waited for a process that was gone", took)
	}
	if records, _ := c.site.Records(); len(records) != 0 {
		t.Errorf("records left: %v", records)
	}
}

func TestNodeThatIsNeverReadyIsKilled(t *testing.T) {
	c := newCluster(t, 1)
	c.configure(0, "  never_ready: true\n  deaf_to_term: true\n")
	c.specs[0].ReadyTimeout, c.specs[0].StopTimeout = 500*time.Millisecond, 200*time.Millisecond
	_, err := c.site.Start(context.Background(), c.specs[0])
	if err == nil || !strings.Contains(err.Error(), "node-1 was not ready within 500ms") {
		t.Fatalf("got %v", err)
	}
	if h := portHolder(c.specs[0].HTTP); h != 0 {
		t.Errorf("pid %d still listens", h)
	}
}

func portHolder(port int) int {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		return -1
	}
	_ = l.Close()
	return 0
}

func TestDeadNodeComesBackWithItsData(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	data := filepath.Join(c.site.DataDir("node-2"), "kept")
	if err := os.WriteFile(data, []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.kill(1)
	if got := c.status(1); got != Stopped {
		t.Fatalf("a killed node is %s", got)
	}
	if _, err := c.site.Restart(context.Background(), c.specs[1]); err != nil {
		t.Fatal(err)
	}
	if got := c.status(1); got != Running {
		t.Errorf("the restored node is %s", got)
	}
	if _, err := os.Stat(data); err != nil {
		t.Errorf("its data is gone: %v", err)
	}
}

func TestWholeClusterComesBackOneByOne(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	for i := range c.specs {
		c.kill(i)
	}
	for i, s := range c.specs {
		if _, err := c.site.Restart(context.Background(), s); err != nil {
			t.Fatalf("restore node %d of 3: %v", i+1, err)
		}
	}
	for i := range c.specs {
		if got := c.status(i); got != Running {
			t.Errorf("%s is %s", c.specs[i].Name, got)
		}
	}
}

func TestSickNodeStopsTheRoll(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	c.kill(2)
	before := c.process(0)
	c.specs[0].ReadyTimeout = time.Second
	_, err := c.site.Restart(context.Background(), c.specs[0])
	if err == nil || !strings.Contains(err.Error(), "node-1 is left as it is") || !strings.Contains(err.Error(), "node-3 is not running") {
		t.Errorf("got %v, want a refusal that names the sick node", err)
	}
	if !before.Alive() {
		t.Error("the healthy node was stopped although another was down")
	}
}

func TestBadUpdateIsRolledBack(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	c.configure(1, "  die: true\n")
	_, err := c.site.Restart(context.Background(), c.specs[1])
	if err == nil || !strings.Contains(err.Error(), "made of cheese") || !strings.Contains(err.Error(), "previous program and configuration again") {
		t.Errorf("got %v, want the reason and the roll-back", err)
	}
	if got := c.status(1); got != Running {
		t.Errorf("after the roll-back the node is %s", got)
	}
}

func TestScaleInHandsOverFirst(t *testing.T) {
	c := newCluster(t, 5)
	c.start()
	if err := c.site.SetRoster([]string{"node-1", "node-2", "node-3"}); err != nil {
		t.Fatal(err)
	}
	c.kill(3)
	for _, i := range []int{4, 3} {
		if err := c.site.Remove(context.Background(), c.specs[i]); err != nil {
			t.Fatal(err)
		}
	}
	if want := "node-5\nnode-4"; c.drains() != want {
		t.Errorf("drains %q, want %q: the dead one is started once more", c.drains(), want)
	}
	records, err := c.site.Records()
	if err != nil || len(records) != 3 {
		t.Errorf("left: %v, %v", records, err)
	}
}

func TestNodeStaysWhenItsDataCannotBeHandedOver(t *testing.T) {
	c := newCluster(t, 3)
	c.configure(2, "  drain_fails: true\n")
	c.start()
	err := c.site.Remove(context.Background(), c.specs[2])
	if err == nil || !strings.Contains(err.Error(), "no place for group 7") {
		t.Errorf("got %v, want the drain's words", err)
	}
	if got := c.status(2); got != Running {
		t.Fatalf("the node is %s, want it untouched", got)
	}
	c.specs[2].ForceDelete = true
	if err := c.site.Remove(context.Background(), c.specs[2]); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(c.site.NodeDir("node-3")); !os.IsNotExist(err) {
		t.Error("forceDelete left the node's directory")
	}
}

func TestDeadNodeThatCannotStartKeepsItsData(t *testing.T) {
	c := newCluster(t, 3)
	c.start()
	c.kill(2)
	if err := os.WriteFile(c.site.configFile("node-3"), []byte("test:\n  die: true\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	err := c.site.Remove(context.Background(), c.specs[2])
	if err == nil || !strings.Contains(err.Error(), "node-3 stays") || !strings.Contains(err.Error(), "made of cheese") {
		t.Errorf("got %v, want a refusal with the node's last words", err)
	}
	if _, err := os.Stat(c.site.DataDir("node-3")); err != nil {
		t.Errorf("its data is gone: %v", err)
	}
}

func TestWholeClusterGoesWithoutHandingOver(t *testing.T) {
	c := newCluster(t, 3)
	for i := range c.specs {
		c.configure(i, "  drain_fails: true\n")
	}
	c.start()
	if err := c.site.Disband(); err != nil {
		t.Fatal(err)
	}
	for i := range c.specs {
		if err := c.site.Remove(context.Background(), c.specs[len(c.specs)-1-i]); err != nil {
			t.Fatal(err)
		}
	}
	left, err := filepath.Glob(filepath.Join(c.site.Dir, "*", "*"))
	if err != nil || len(left) != 0 {
		t.Errorf("left: %v, %v", left, err)
	}
}

func TestProgramIsCopiedAndCheckedAndSweptAway(t *testing.T) {
	c := newCluster(t, 1)
	c.start()
	r, err := c.site.record("node-1")
	if err != nil || r.Binary == c.specs[0].Program || !strings.HasPrefix(r.Binary, c.site.Dir) {
		t.Fatalf("runs %s (%v), want a copy under the site", r.Binary, err)
	}
	wrong := c.specs[0]
	wrong.SHA256 = strings.Repeat("0", 64)
	if _, err := c.site.Restart(context.Background(), wrong); err == nil || !strings.Contains(err.Error(), "changed while it was deployed") {
		t.Errorf("a program with another checksum: %v", err)
	}
	stale := filepath.Join(c.site.Dir, "bin", "stale")
	if err := os.MkdirAll(stale, 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := c.site.Restart(context.Background(), c.specs[0]); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(stale); !os.IsNotExist(err) {
		t.Error("an unused copy was kept")
	}
}

func TestLargeLogIsTurnedOver(t *testing.T) {
	c := newCluster(t, 1)
	c.start()
	if err := os.Truncate(c.site.logFile("node-1"), maxLog+1); err != nil {
		t.Fatal(err)
	}
	c.status(0)
	now, err := os.Stat(c.site.logFile("node-1"))
	if err != nil || now.Size() != 0 {
		t.Errorf("log: %v, %v, want it emptied", now, err)
	}
	old, err := os.Stat(c.site.logFile("node-1") + ".1")
	if err != nil || old.Size() != maxLog {
		t.Errorf("log.1: %v, %v, want the last %d bytes", old, err, maxLog)
	}
}

func TestNodesDoNotInheritTheShellsSettings(t *testing.T) {
	got := nodeEnv([]string{"PATH=/bin", "HYPERCACHE_NETWORK_RESP_PORT=1", "NODE_ID=x", "SEED_NODES=y", "PULUMI_HOME=z", "HOME=/h"})
	if want := []string{"PATH=/bin", "HOME=/h"}; !slices.Equal(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestReusedPIDIsAnotherProcess(t *testing.T) {
	p, err := identify(os.Getpid())
	if err != nil || !p.Alive() {
		t.Fatalf("we are %+v, %v", p, err)
	}
	p.Started = "1"
	if p.Alive() {
		t.Error("a process with another start time passes for this one")
	}
}
