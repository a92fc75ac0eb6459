//go:build linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"
)

const (
	respPort, httpPort = 8080, 9080
	clientHost         = 2
	firstHost          = 10
)

// lab is a cluster of real processes: each node has a network namespace and a small file system of its own.
type lab struct {
	name    string // prefix of the namespaces
	dir     string
	program string
	acks    string
	fsync   string
	stall   time.Duration
	trace   bool // tell of every operation that was not acknowledged, or late
	begun   time.Time
	wire    *wire
	mu      sync.Mutex
	nodes   []*host         // under mu; only replace changes it once the lab is open
	sick    map[string]bool // under mu; ids of the nodes that the present fault is about
	next    int             // number of the next host
	spaces  []string
	shelf   bool    // of disks, is mounted
	made    []*disk // all that are mounted, also of nodes that were replaced
}

// host is one node's machine.
type host struct {
	lab       *lab
	id, zone  string
	namespace string
	addr      netip.Addr
	data      string
	disk      *disk
	bootID    string // file that the node sees as the kernel's boot id
	boots     int

	mu  sync.Mutex
	cmd *exec.Cmd
}

func openLab(ctx context.Context, o options) (*lab, error) {
	if os.Geteuid() != 0 {
		return nil, errors.New("network namespaces need root")
	}
	dir, err := os.MkdirTemp("", "hypercache-faults-")
	if err != nil {
		return nil, err
	}
	l := &lab{
		name: fmt.Sprintf("hcf%d", os.Getpid()), dir: dir, acks: o.acks, fsync: o.fsync, stall: o.stall, trace: o.trace, begun: time.Now(),
		wire: newWire(o.seed), next: firstHost, sick: map[string]bool{},
	}
	if o.program == "" {
		l.program, err = build(ctx, dir)
	} else {
		l.program, err = filepath.Abs(o.program)
	}
	if err != nil {
		return l, err
	}
	if err := os.WriteFile(filepath.Join(dir, "secret"), []byte("a secret for fault runs only"), 0o600); err != nil {
		return l, err
	}
	if err := openShelf(l.shelfDir()); err != nil {
		return l, err
	}
	l.shelf = true
	if err := l.space("client"); err != nil {
		return l, err
	}
	if err := l.wire.attach(l.name+"-client", hostAddr(clientHost), false); err != nil {
		return l, err
	}
	for i := range o.nodes {
		h, err := l.addHost(fmt.Sprintf("n%d", i+1), fmt.Sprintf("z%d", i%3+1))
		if err != nil {
			return l, err
		}
		l.mu.Lock()
		l.nodes = append(l.nodes, h)
		l.mu.Unlock()
	}
	for _, h := range l.all() {
		if err := h.start(); err != nil {
			return l, err
		}
	}
	return l, l.awaitReady(ctx, time.Minute)
}

// space makes a network namespace.
func (l *lab) space(name string) error {
	full := l.name + "-" + name
	if err := ip("netns", "add", full); err != nil {
		return err
	}
	l.spaces = append(l.spaces, full)
	return nil
}

func (l *lab) shelfDir() string { return filepath.Join(l.dir, "disks") }

// addHost makes a machine that is not switched on yet.
func (l *lab) addHost(id, zone string) (*host, error) {
	name := fmt.Sprintf("h%d", l.next)
	h := &host{lab: l, id: id, zone: zone, namespace: l.name + "-" + name, addr: hostAddr(l.next), data: filepath.Join(l.shelfDir(), name)}
	l.next++
	h.bootID = h.data + ".boot"
	if err := l.space(name); err != nil {
		return nil, err
	}
	if err := l.wire.attach(h.namespace, h.addr, true); err != nil {
		return nil, err
	}
	var err error
	if h.disk, err = newDisk(h.data); err != nil {
		return nil, err
	}
	l.made = append(l.made, h.disk)
	return h, h.reboot()
}

// reboot makes the node believe in another boot of its kernel.
func (h *host) reboot() error {
	h.boots++
	id := fmt.Sprintf("%08d-0000-4000-8000-%012d\n", h.boots, h.addr.As4()[3])
	return os.WriteFile(h.bootID, []byte(id), 0o600)
}

// all is the nodes as they are now.
func (l *lab) all() []*host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.nodes)
}

// blame says which nodes the present fault is about; heal says that there is none, puts clocks right and thaws disks.
func (l *lab) blame(sick ...*host) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range sick {
		l.sick[h.id] = true
	}
}

func (l *lab) heal() {
	l.wire.heal()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, h := range l.nodes {
		_ = os.Remove(h.clockFile()) // mostly there is none
		if err := h.disk.thaw(); err != nil {
			fmt.Fprintln(os.Stderr, "faults:", err)
		}
	}
	clear(l.sick)
}

func (l *lab) healthy(h *host) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return !l.sick[h.id]
}

// pick is one of the nodes.
func (l *lab) pick(i int) *host {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.nodes[i%len(l.nodes)]
}

// replace has a new, empty machine with another address take a node's place and id.
func (l *lab) replace(old *host) error {
	h, err := l.addHost(old.id, old.zone)
	if err != nil {
		return err
	}
	l.mu.Lock()
	l.nodes[slices.Index(l.nodes, old)] = h
	l.mu.Unlock()
	return h.start()
}

func (l *lab) seeds() string {
	var all []string
	for _, h := range l.all() {
		all = append(all, h.addr.String()+":7946")
	}
	return strings.Join(all, ",")
}

// start runs the node. The boot id of its host is mounted over the kernel's, in a mount namespace that ends with it.
func (h *host) start() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	l := h.lab
	log, err := os.OpenFile(filepath.Join(l.dir, h.id+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{
		"netns", "exec", h.namespace, "sh", "-c", `mount --bind "$1" /proc/sys/kernel/random/boot_id && shift && exec "$@"`, "sh", h.bootID,
		l.program, "--server.node_id=" + h.id, "--cluster.zone=" + h.zone, "--network.advertise_addr=" + h.addr.String(),
		"--network.resp_bind_addr=0.0.0.0", "--network.http_bind_addr=0.0.0.0", "--cluster.seeds=" + l.seeds(),
		"--cluster.bootstrap_expect=3", "--cluster.replication_factor=3", "--cluster.write_acks=" + l.acks,
		"--cluster.secret_file=" + filepath.Join(l.dir, "secret"), "--persistence.data_dir=" + h.data,
		"--persistence.fsync=" + l.fsync, "--persistence.stall_timeout=" + l.stall.String(),
		"--persistence.rewrite_min_size=16mb", "--cache.max_memory=2gb",
	}
	h.cmd = exec.Command("ip", args...)
	h.cmd.Env = append(os.Environ(), stepFile+"="+h.clockFile())
	h.cmd.Stdout, h.cmd.Stderr, h.cmd.Dir = log, log, l.dir
	return h.cmd.Start()
}

// signal sends a signal to the node, if it runs.
func (h *host) signal(s syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd != nil {
		_ = h.cmd.Process.Signal(s)
	}
}

// end sends a signal that ends the node, and waits for its end, a minute at most.
func (h *host) end(s syscall.Signal) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return
	}
	_ = h.cmd.Process.Signal(s)
	kill := time.AfterFunc(time.Minute, func() { _ = h.cmd.Process.Kill() })
	_ = h.cmd.Wait() // its exit code says that it was told to end
	kill.Stop()
	h.cmd = nil
}

// close ends everything that the lab made.
func (l *lab) close() error {
	var errs []error
	for _, d := range l.made {
		errs = append(errs, d.thaw()) // nobody who writes to it could be killed
	}
	for _, h := range l.all() {
		h.signal(syscall.SIGCONT)
		h.end(syscall.SIGKILL)
	}
	l.wire.close()
	for _, d := range l.made {
		errs = append(errs, command("umount", d.dir))
	}
	if l.shelf {
		errs = append(errs, command("umount", l.shelfDir()))
	}
	for _, s := range l.spaces {
		errs = append(errs, ip("netns", "del", s))
	}
	return errors.Join(errs...)
}

// dial connects from the clients' host.
func (l *lab) dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = within(l.name+"-client", func() error {
		d := net.Dialer{Timeout: time.Second}
		c, err = d.DialContext(ctx, network, address)
		return err
	})
	return c, err
}

func (l *lab) httpClient(timeout time.Duration) *http.Client {
	return &http.Client{Timeout: timeout, Transport: &http.Transport{DialContext: l.dial, MaxIdleConnsPerHost: 4}}
}

// readiness is what the nodes say that are not ready, "" if all are.
func (l *lab) readiness(c *http.Client) string {
	var b strings.Builder
	for _, h := range l.all() {
		r, err := c.Get(fmt.Sprintf("http://%s:%d/ready", h.addr, httpPort))
		if err != nil {
			fmt.Fprintf(&b, "%s: %v\n", h.id, err)
			continue
		}
		body, _ := io.ReadAll(io.LimitReader(r.Body, 1<<16))
		_ = r.Body.Close()
		if r.StatusCode != http.StatusOK {
			fmt.Fprintf(&b, "%s: %s\n", h.id, body)
		}
	}
	return b.String()
}

// awaitReady waits until every node serves its share.
func (l *lab) awaitReady(ctx context.Context, limit time.Duration) error {
	c := l.httpClient(2 * time.Second)
	defer c.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		said := l.readiness(c)
		if said == "" {
			return nil
		}
		if pause(ctx, 100*time.Millisecond) != nil {
			return fmt.Errorf("not ready after %v:\n%s", limit, said)
		}
	}
}

func pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
