package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// Attachment is a disk that a machine has from its first moment on.
type Attachment struct {
	Disk  string
	Links []string // device links, as of AttachDisk
}

// machine is a container, its namespace, and what the lab does for it there.
type machine struct {
	Machine
	name, namespace, dir string
	caps                 []string
	port                 *port
	services             *services

	made    chan struct{} // closed when CreateMachine is done
	makeErr error         // why it failed; read after made

	mu      sync.Mutex // one change of its state at a time
	volumes []*volume
	on      bool // it was switched on and has not been seen to be off
	pid     int  // of its init, while on
	gone    bool

	filterMu sync.Mutex
	filter   *ruleset
}

const (
	// stopGrace is what the guest's services get to end before the power goes.
	stopGrace = 30 * time.Second
	// initLimit bounds the way from the container's start to systemd as PID 1, milliseconds on an idle machine.
	initLimit = time.Minute
	// watchEvery is how soon a file system that the guest makes has its links, and a machine that switched itself off is noticed.
	watchEvery = 200 * time.Millisecond
)

// CreateMachine makes a machine and switches it on. It returns when systemd runs, long before cloud-init is done: `cloud-init
// status --wait` by Exec waits for that.
func (l *Lab) CreateMachine(ctx context.Context, m Machine, disks ...Attachment) error {
	if m.InstanceID == "" {
		m.InstanceID = m.ID
	}
	if m.Hostname == "" {
		m.Hostname = m.ID
	}
	if err := m.check(disks); err != nil {
		return fmt.Errorf("create machine %s: %w", m.ID, err)
	}
	name := l.objectName("vm", m.ID)
	c := &machine{
		Machine: m, name: name, namespace: name, dir: filepath.Join(l.dir, "vm."+m.ID), caps: l.caps, made: make(chan struct{}),
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := claim(l, l.machines, "machine", m.ID, c); err != nil {
		return err
	}
	defer close(c.made)
	if err := l.build(ctx, c, disks); err != nil {
		c.makeErr = errors.Join(fmt.Errorf("create machine %s: %w", m.ID, err), l.dismantle(context.WithoutCancel(ctx), c))
	}
	return c.makeErr
}

func (m Machine) check(disks []Attachment) error {
	errs := []error{m.Filter.check()}
	if !hostPattern.MatchString(m.Hostname) || len(m.Hostname) > 64 {
		errs = append(errs, fmt.Errorf("host name %q: want up to 64 letters, digits, '-' and dots", m.Hostname))
	}
	if !m.Address.Is4() {
		errs = append(errs, fmt.Errorf("address %v: want an IPv4 address", m.Address))
	}
	if !m.Resolver.Is4() || m.Resolver.IsLoopback() {
		errs = append(errs, fmt.Errorf("resolver %v: want an IPv4 address that the clouds keep for it", m.Resolver))
	}
	for _, d := range disks {
		errs = append(errs, checkLinks(d.Links))
	}
	return errors.Join(errs...)
}

// build makes everything around a machine before it is switched on.
func (l *Lab) build(ctx context.Context, c *machine, disks []Attachment) error {
	for _, d := range disks {
		if _, err := l.take(c, d.Disk, d.Links); err != nil {
			return err
		}
	}
	var err error
	if c.port, err = l.connect(ctx, c.Network, c.Subnet, "machine "+c.ID, c.namespace, c.Address); err != nil {
		return err
	}
	err = ipBatch(ctx, c.namespace,
		"addr replace "+c.Resolver.String()+"/32 dev lo",
		"addr replace "+MetadataAddress+"/32 dev lo",
		"addr replace "+ServiceAddress+"/32 dev lo")
	if err != nil {
		return err
	}
	if err := c.setFilter(ctx, c.Filter, l.stateful); err != nil {
		return err
	}
	if c.services, err = serve(c.namespace, c.Machine, l.authority, l.log); err != nil {
		return err
	}
	if err := c.writeFiles(l.authority.pem); err != nil {
		return err
	}
	if _, err := run(ctx, slices.Concat([]string{"docker", "create"}, c.containerArgs(l), []string{l.image})...); err != nil {
		return fmt.Errorf("make its container: %w", err)
	}
	return c.start(ctx)
}

func (c *machine) containerArgs(l *Lab) []string {
	args := []string{
		"--name", c.name, "--hostname", strings.ToLower(c.shortHostname()), "--tty",
		"--label", labLabel + "=" + l.name, "--label", dirLabel + "=" + l.dir,
		"--network", "none", "--cgroupns", "private", "--stop-signal", "SIGRTMIN+3",
		"--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined",
		// Loop devices have major number 7; which of them appear as nodes is up to the lab.
		"--device-cgroup-rule", "b 7:* rwm",
		"--tmpfs", "/run:mode=755", "--tmpfs", "/tmp:exec,mode=1777",
		"--volume", c.dir + ":/lab/machine:ro", "--volume", namespacePath(c.namespace) + ":/lab/net:ro",
	}
	for _, capability := range c.caps {
		args = append(args, "--cap-add", capability)
	}
	return args
}

func (c *machine) shortHostname() string {
	short, _, _ := strings.Cut(c.Hostname, ".")
	return short
}

// dismantle removes whatever there is of a machine; its disks stay.
func (l *Lab) dismantle(ctx context.Context, c *machine) error {
	errs := []error{removeContainer(ctx, c.name)}
	c.services.close()
	c.services = nil
	if c.port != nil {
		errs = append(errs, c.port.disconnect(ctx, c.namespace))
	}
	if err := os.RemoveAll(c.dir); err != nil {
		errs = append(errs, fmt.Errorf("remove its files: %w", err))
	}
	for _, v := range c.volumes {
		v.disk.release()
	}
	c.volumes, c.on, c.gone = nil, false, true
	forget(l, l.machines, c.ID)
	return errors.Join(errs...)
}

// lockMachine returns a machine that exists, locked.
func (l *Lab) lockMachine(id string) (*machine, error) {
	c, err := find(l, l.machines, "machine", id)
	if err != nil {
		return nil, err
	}
	c.mu.Lock()
	if c.gone {
		c.mu.Unlock()
		return nil, fmt.Errorf("machine %q: not in lab %s", id, l.name)
	}
	return c, nil
}

// readyMachine returns a machine once it is made. It does not wait for what else is being done to it.
func (l *Lab) readyMachine(id string) (*machine, error) {
	c, err := find(l, l.machines, "machine", id)
	if err != nil {
		return nil, err
	}
	<-c.made
	return c, c.makeErr
}

// start switches the machine on.
func (c *machine) start(ctx context.Context) error {
	for _, v := range c.volumes {
		if err := v.rescan(""); err != nil {
			return err
		}
	}
	if err := c.writeDisks(); err != nil {
		return err
	}
	if err := c.port.powerOn(ctx, c.namespace); err != nil {
		return err
	}
	if _, err := run(ctx, "docker", "start", c.name); err != nil {
		return fmt.Errorf("start its container: %w", err)
	}
	c.on = true
	return c.awaitInit(ctx)
}

// awaitInit waits until PID 1 is systemd, and in the machine's network namespace: before, a command by Exec would find itself
// in a container without a network.
func (c *machine) awaitInit(ctx context.Context) error {
	return await(ctx, initLimit, func() (bool, error) {
		out, err := run(ctx, "docker", "inspect", "--format", "{{.State.Running}} {{.State.Pid}}", c.name)
		if err != nil {
			return true, err
		}
		var running bool
		if _, err := fmt.Sscan(out, &running, &c.pid); err != nil {
			return true, fmt.Errorf("read state of container from %q: %w", out, err)
		}
		if !running {
			said, _ := run(ctx, "docker", "logs", "--tail", "20", c.name)
			return true, fmt.Errorf("its container ended at once and said %q", said)
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", c.pid))
		if err != nil || filepath.Base(exe) != "systemd" || !c.alive() {
			return false, fmt.Errorf("wait for init: PID 1 is %q", exe)
		}
		return true, nil
	})
}

// alive reports whether pid is the machine's init: a process in its network namespace. A pid alone may be another's by now.
func (c *machine) alive() bool {
	var here, there unix.Stat_t
	if unix.Stat(namespacePath(c.namespace), &here) != nil {
		return false
	}
	return unix.Stat(fmt.Sprintf("/proc/%d/ns/net", c.pid), &there) == nil && here.Ino == there.Ino && here.Dev == there.Dev
}

// root is where a running machine's files are seen from here.
func (c *machine) root() string { return fmt.Sprintf("/proc/%d/root", c.pid) }

// stop ends the machine: gracefully with a limit, or at once.
func (c *machine) stop(ctx context.Context, graceful bool) error {
	argv := []string{"docker", "kill", "--signal", "KILL", c.name}
	if graceful {
		argv = []string{"docker", "stop", "-t", fmt.Sprint(int(stopGrace.Seconds())), c.name}
	}
	if _, err := run(ctx, argv...); err != nil && !strings.Contains(err.Error(), "is not running") {
		return err
	}
	err := await(ctx, stopGrace, func() (bool, error) {
		out, err := run(ctx, "docker", "inspect", "--format", "{{.State.Running}}", c.name)
		if err == nil && strings.TrimSpace(out) == "true" {
			return false, errors.New("its container still runs")
		}
		return true, err
	})
	if err != nil {
		return err
	}
	c.on, c.pid = false, 0
	return c.port.powerOff(ctx, c.namespace)
}

// change does something to an existing machine and says what failed.
func (l *Lab) change(id, what string, f func(c *machine) error) error {
	c, err := l.lockMachine(id)
	if err != nil {
		return err
	}
	defer c.mu.Unlock()
	if err := f(c); err != nil {
		return fmt.Errorf("%s machine %s: %w", what, id, err)
	}
	return nil
}

// StopMachine shuts a machine down as its power button would; what does not end in 30 s is cut off. Its disks stay attached, its
// root file system stays too.
func (l *Lab) StopMachine(ctx context.Context, id string) error {
	return l.change(id, "stop", func(c *machine) error { return c.stop(ctx, true) })
}

// KillMachine takes a machine's power away.
func (l *Lab) KillMachine(ctx context.Context, id string) error {
	return l.change(id, "kill", func(c *machine) error { return c.stop(ctx, false) })
}

// StartMachine switches a machine on again; one that runs is left alone.
func (l *Lab) StartMachine(ctx context.Context, id string) error {
	return l.change(id, "start", func(c *machine) error {
		if c.on && c.alive() {
			return nil
		}
		return c.start(ctx)
	})
}

// RebootMachine is StopMachine and StartMachine in one.
func (l *Lab) RebootMachine(ctx context.Context, id string) error {
	return l.change(id, "reboot", func(c *machine) error {
		if err := c.stop(ctx, true); err != nil {
			return err
		}
		return c.start(ctx)
	})
}

// DeleteMachine stops a machine and removes it with its root file system. Its disks stay and are free.
func (l *Lab) DeleteMachine(ctx context.Context, id string) error {
	return l.change(id, "delete", func(c *machine) error {
		if err := c.stop(ctx, true); err != nil {
			return err
		}
		return l.dismantle(ctx, c)
	})
}

// take attaches a disk to a machine in the lab's books.
func (l *Lab) take(c *machine, diskID string, links []string) (*volume, error) {
	d, err := l.lockDisk(diskID)
	if err != nil {
		return nil, err
	}
	defer d.mu.Unlock()
	if d.attached != "" {
		return nil, fmt.Errorf("disk %s is attached to machine %s: detach it first", diskID, d.attached)
	}
	for _, other := range c.volumes {
		for _, link := range links {
			if slices.Contains(other.links, link) {
				return nil, fmt.Errorf("device link %s is that of disk %s", link, other.disk.id)
			}
		}
	}
	d.attached = c.ID
	v := &volume{disk: d, links: slices.Clone(links)}
	c.volumes = append(c.volumes, v)
	return v, nil
}

func (d *disk) release() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.attached = ""
}

// AttachDisk gives a machine a disk: in a running one it is there as a block device when the call returns, with the given
// links to it. A disk is attached to one machine at a time.
func (l *Lab) AttachDisk(_ context.Context, machineID, diskID string, links []string) error {
	if err := checkLinks(links); err != nil {
		return fmt.Errorf("attach disk %s: %w", diskID, err)
	}
	return l.change(machineID, "attach disk "+diskID+" to", func(c *machine) error {
		v, err := l.take(c, diskID, links)
		if err != nil {
			return err
		}
		if err := c.plug(v); err != nil {
			return errors.Join(err, c.drop(v))
		}
		return nil
	})
}

// plug shows a volume to the guest, now if it runs or at its next start.
func (c *machine) plug(v *volume) error {
	if err := v.rescan(""); err != nil {
		return err
	}
	if c.on && c.alive() {
		return v.plug(c.root())
	}
	return nil
}

// drop takes a volume from the guest and frees its disk.
func (c *machine) drop(v *volume) error {
	if c.on && c.alive() {
		if err := v.unplug(c.root()); err != nil {
			return err
		}
	}
	c.volumes = slices.DeleteFunc(c.volumes, func(other *volume) bool { return other == v })
	v.disk.release()
	return nil
}

// DetachDisk takes a disk from a machine. It refuses while the guest has it mounted, where a cloud would wait for the guest.
func (l *Lab) DetachDisk(_ context.Context, machineID, diskID string) error {
	return l.change(machineID, "detach disk "+diskID+" from", func(c *machine) error {
		i := slices.IndexFunc(c.volumes, func(v *volume) bool { return v.disk.id == diskID })
		if i < 0 {
			return errors.New("it is not attached there")
		}
		if c.on && c.alive() {
			mounts, err := os.ReadFile(fmt.Sprintf("/proc/%d/mountinfo", c.pid))
			if err != nil {
				return fmt.Errorf("read its mounts: %w", err)
			}
			if at := mountedAt(mounts, c.volumes[i].disk.device); at != "" {
				return fmt.Errorf("mounted at %s: unmount it first", at)
			}
		}
		return c.drop(c.volumes[i])
	})
}

// Exec runs a program inside a running machine and returns its standard output. When ctx ends, it goes on in there.
func (l *Lab) Exec(ctx context.Context, machine string, args ...string) (string, error) {
	c, err := l.readyMachine(machine)
	if err != nil {
		return "", err
	}
	out, err := run(ctx, append([]string{"docker", "exec", c.name}, args...)...)
	if err != nil {
		return out, fmt.Errorf("in machine %s: %w", machine, err)
	}
	return out, nil
}

// Running reports whether a machine is on.
func (l *Lab) Running(ctx context.Context, machine string) (bool, error) {
	c, err := l.readyMachine(machine)
	if err != nil {
		return false, err
	}
	out, err := run(ctx, "docker", "inspect", "--format", "{{.State.Running}}", c.name)
	if err != nil {
		return false, fmt.Errorf("look at machine %s: %w", machine, err)
	}
	return strings.TrimSpace(out) == "true", nil
}

// Console returns what a machine has to say about itself, for the log of a failed test: the console of every boot so far, and of
// a running machine the journal of this boot and the output of cloud-init. What cannot be had is told in its place.
func (l *Lab) Console(ctx context.Context, machine string) string {
	c, err := l.readyMachine(machine)
	if err != nil {
		return err.Error()
	}
	part := func(title string, argv ...string) string {
		out, err := run(ctx, argv...)
		if err != nil {
			out += err.Error()
		}
		return fmt.Sprintf("--- %s: %s\n%s\n", machine, title, strings.TrimSpace(out))
	}
	text := part("console", "docker", "logs", "--tail", "300", c.name)
	if on, err := l.Running(ctx, machine); err != nil || !on {
		return text
	}
	return text +
		part("journal", "docker", "exec", c.name, "journalctl", "--boot", "--no-pager", "--output", "short-monotonic") +
		part("cloud-init", "docker", "exec", c.name, "tail", "-n", "300", "/var/log/cloud-init-output.log")
}

// watch does for every running machine what udev would do when the guest makes a file system, and notices one that
// switched itself off, whose interface must be as deaf as that of any other machine without power.
func (l *Lab) watch(ctx context.Context) {
	defer close(l.watched)
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		l.mu.Lock()
		machines := slices.Collect(maps.Values(l.machines))
		l.mu.Unlock()
		for _, c := range machines {
			if c.mu.TryLock() { // whoever has it looks after it
				c.lookAfter(ctx, l.log)
				c.mu.Unlock()
			}
		}
	}
}

func (c *machine) lookAfter(ctx context.Context, log *slog.Logger) {
	if !c.on || c.gone {
		return
	}
	if !c.alive() {
		c.on, c.pid = false, 0
		log.Info("machine switched itself off", "machine", c.ID)
		if err := c.port.powerOff(ctx, c.namespace); err != nil && ctx.Err() == nil {
			log.Warn("machine that is off still has a network", "machine", c.ID, "err", err)
		}
		return
	}
	for _, v := range c.volumes {
		if err := v.rescan(c.root()); err != nil {
			log.Warn("device links", "machine", c.ID, "disk", v.disk.id, "err", err)
		}
	}
}
