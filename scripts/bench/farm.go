package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// farm owns the servers of one comparison.
type farm struct {
	dir   string
	procs []*exec.Cmd
}

// group is a set of servers that clients reach through the first one.
type group struct {
	port int
	pids []int
}

func newFarm() (*farm, error) {
	dir, err := os.MkdirTemp("", "hypercache-bench-")
	return &farm{dir: dir}, err
}

func (f *farm) stop() error {
	for _, p := range f.procs {
		_ = p.Process.Signal(syscall.SIGTERM)
	}
	for _, p := range f.procs {
		stop(p)
	}
	return os.RemoveAll(f.dir)
}

// stop ends a server, in 20 s at most.
func stop(p *exec.Cmd) {
	_ = p.Process.Signal(syscall.SIGTERM)
	kill := time.AfterFunc(20*time.Second, func() { _ = p.Process.Kill() })
	_ = p.Wait() // its exit code says that it was told to end
	kill.Stop()
}

func (f *farm) start(ctx context.Context, name string, args ...string) (int, error) {
	cmd := exec.CommandContext(ctx, name, args...)
	log, err := os.Create(filepath.Join(f.dir, fmt.Sprintf("%d.log", len(f.procs))))
	if err != nil {
		return 0, err
	}
	defer log.Close()
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, f.dir
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	f.procs = append(f.procs, cmd)
	return cmd.Process.Pid, nil
}

func freePort() (int, error) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer ln.Close()
	return ln.Addr().(*net.TCPAddr).Port, nil
}

func (f *farm) redis(ctx context.Context, args ...string) (group, error) {
	port, err := freePort()
	if err != nil {
		return group{}, err
	}
	dir := filepath.Join(f.dir, "redis"+strconv.Itoa(port))
	if err := os.Mkdir(dir, 0o700); err != nil {
		return group{}, err
	}
	pid, err := f.start(ctx, "redis-server", append([]string{"--port", strconv.Itoa(port), "--bind", "127.0.0.1", "--save", "", "--dir", dir}, args...)...)
	if err != nil {
		return group{}, err
	}
	return group{port: port, pids: []int{pid}}, await(ctx, func() bool { return ask(port, "PING") == "+PONG" })
}

func (f *farm) redisWithReplicas(ctx context.Context, n int) (group, error) {
	aof := []string{"--appendonly", "yes", "--appendfsync", "everysec"}
	g, err := f.redis(ctx, aof...)
	if err != nil {
		return g, err
	}
	for range n {
		r, err := f.redis(ctx, append(aof, "--replicaof", "127.0.0.1 "+strconv.Itoa(g.port))...)
		if err != nil {
			return g, err
		}
		g.pids = append(g.pids, r.pids...)
	}
	return g, await(ctx, func() bool { return ask(g.port, "WAIT "+strconv.Itoa(n)+" 100") == ":"+strconv.Itoa(n) })
}

// nodes starts a cluster of n nodes and waits until it serves.
func (f *farm) nodes(ctx context.Context, program string, n int, args ...string) (group, error) {
	program, err := filepath.Abs(program)
	if err != nil {
		return group{}, err
	}
	type ports struct{ resp, http, gossip, rpc int }
	all := make([]ports, n)
	var seeds []string
	for i := range all {
		for _, p := range []*int{&all[i].resp, &all[i].http, &all[i].gossip, &all[i].rpc} {
			if *p, err = freePort(); err != nil {
				return group{}, err
			}
		}
		seeds = append(seeds, fmt.Sprintf("127.0.0.1:%d", all[i].gossip))
	}
	g := group{port: all[0].resp}
	for i, p := range all {
		a := []string{
			"--server.node_id=n" + strconv.Itoa(i), "--network.resp_bind_addr=127.0.0.1", "--network.advertise_addr=127.0.0.1",
			fmt.Sprintf("--network.resp_port=%d", p.resp), fmt.Sprintf("--network.http_port=%d", p.http),
			fmt.Sprintf("--network.gossip_port=%d", p.gossip), fmt.Sprintf("--network.rpc_port=%d", p.rpc),
			"--persistence.data_dir=" + filepath.Join(f.dir, "n"+strconv.Itoa(i)),
		}
		if n > 1 {
			a = append(a, "--cluster.seeds="+strings.Join(seeds, ","))
		}
		pid, err := f.start(ctx, program, append(a, args...)...)
		if err != nil {
			return g, err
		}
		g.pids = append(g.pids, pid)
	}
	for _, p := range all {
		if err := await(ctx, func() bool { return ready(p.http) }); err != nil {
			return g, err
		}
	}
	return g, nil
}

func ready(port int) bool {
	c := http.Client{Timeout: time.Second}
	r, err := c.Get(fmt.Sprintf("http://127.0.0.1:%d/ready", port))
	if err != nil {
		return false
	}
	_ = r.Body.Close()
	return r.StatusCode == http.StatusOK
}

func await(ctx context.Context, ok func() bool) error {
	return within(ctx, 30*time.Second, "a server did not come up", ok)
}

// within waits until ok, for most; late is what has happened then.
func within(ctx context.Context, most time.Duration, late string, ok func() bool) error {
	limit := time.After(most)
	for !ok() {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-limit:
			return fmt.Errorf("%s within %v", late, most)
		case <-time.After(50 * time.Millisecond):
		}
	}
	return nil
}

// ask sends one inline command and returns the first line of the reply.
func ask(port int, command string) string {
	c, err := net.DialTimeout("tcp", fmt.Sprintf("127.0.0.1:%d", port), time.Second)
	if err != nil {
		return ""
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(2 * time.Second))
	if _, err := fmt.Fprintf(c, "%s\r\n", command); err != nil {
		return ""
	}
	b := make([]byte, 256)
	n, _ := c.Read(b)
	line, _, _ := bytes.Cut(b[:n], []byte("\r\n"))
	return string(line)
}

// cpu is the CPU time that the group's processes have used.
func (g group) cpu() (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ is 100 on every Linux that Go runs on
	var sum time.Duration
	for _, pid := range g.pids {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return 0, fmt.Errorf("a server has ended: %w", err)
		}
		f := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
		user, _ := strconv.Atoi(f[11])
		sys, _ := strconv.Atoi(f[12])
		sum += time.Duration(user+sys) * tick
	}
	return sum, nil
}
