package nodetest

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"hypercache/node/config"
)

// Process is a node in a process of its own, which can be killed.
type Process struct {
	ID     string
	Config config.Config

	t    testing.TB
	bin  string
	file string
	cmd  *exec.Cmd
}

// BuildBinary builds the node's program once for the test.
func BuildBinary(t testing.TB) string {
	t.Helper()
	bin := filepath.Join(t.TempDir(), "hypercache")
	cmd := exec.Command("go", "build", "-o", bin, "hypercache/node/cmd/hypercache")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("build the node: %v\n%s", err, out)
	}
	return bin
}

// StartProcesses runs a cluster of n processes of bin and waits until all serve. They end with the test.
func StartProcesses(t testing.TB, bin string, n int, change func(*config.Config)) []*Process {
	t.Helper()
	c := &Cluster{t: t, prefix: "n", dir: t.TempDir()}
	secret := filepath.Join(c.dir, "secret")
	if err := os.WriteFile(secret, []byte("a secret for tests only"), 0o600); err != nil {
		t.Fatal(err)
	}
	c.base = config.Default()
	c.base.Cluster.SecretFile = secret
	if change != nil {
		change(&c.base)
	}
	for range n {
		c.add()
	}
	var all []*Process
	for _, node := range c.nodes {
		if n > 1 {
			node.Config.Cluster.Seeds = c.seeds()
			node.Config.Cluster.BootstrapExpect = min(n, 3)
		}
		p := &Process{ID: node.ID, Config: node.Config, t: t, bin: bin, file: filepath.Join(c.dir, node.ID+".yaml")}
		if err := os.WriteFile(p.file, []byte(node.Config.YAML()), 0o600); err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
	t.Cleanup(func() {
		for _, p := range all {
			p.Kill()
			if t.Failed() {
				log, _ := os.ReadFile(p.file + ".log")
				t.Logf("--- last of %s's log\n%s", p.ID, log[max(0, len(log)-8000):])
			}
		}
	})
	for _, p := range all {
		p.Start()
	}
	for _, p := range all {
		p.AwaitReady()
	}
	return all
}

// Start runs the process.
func (p *Process) Start() {
	p.t.Helper()
	log, err := os.OpenFile(p.file+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		p.t.Fatal(err)
	}
	defer log.Close()
	p.cmd = exec.Command(p.bin, "--config="+p.file)
	p.cmd.Stdout, p.cmd.Stderr = log, log
	if err := p.cmd.Start(); err != nil {
		p.t.Fatal(err)
	}
}

// Kill ends the process as kill -9 does.
func (p *Process) Kill() { p.end(syscall.SIGKILL) }

// Stop ends it as a service manager does.
func (p *Process) Stop() { p.end(syscall.SIGTERM) }

func (p *Process) end(sig syscall.Signal) {
	if p.cmd == nil {
		return
	}
	_ = p.cmd.Process.Signal(sig)
	_ = p.cmd.Wait() // its exit code says that it was killed
	p.cmd = nil
}

// PID returns the process' id.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// AwaitReady waits until the node says that it serves its share.
func (p *Process) AwaitReady() {
	p.t.Helper()
	client := &http.Client{Timeout: 2 * time.Second}
	Await(p.t, func() bool {
		r, err := client.Get("http://" + p.Config.Network.HTTPAddr() + "/ready")
		if err != nil {
			return false
		}
		_ = r.Body.Close()
		return r.StatusCode == http.StatusOK
	}, func() string { return fmt.Sprintf("%s is not ready", p.ID) })
}

// Addr is where the node answers RESP.
func (p *Process) Addr() string {
	return net.JoinHostPort("127.0.0.1", fmt.Sprint(p.Config.Network.RESPPort))
}
