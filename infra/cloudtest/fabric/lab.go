package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Options is what a lab needs to know.
type Options struct {
	// Name tells this lab from others on this machine: up to 31 lower-case letters, digits and '-'. Two labs of one name cannot be
	// open at the same time.
	Name string
	// Dir is where the lab keeps its files, in a folder of its own; disks are sparse files there. Empty: the system's
	// temporary directory.
	Dir string
	// Image is the Docker image of every machine, as package image names it.
	Image string
	// Log gets what the lab does and what it passes over. Nil drops it.
	Log *slog.Logger
}

// Lab is one test's world: everything in it is removed by Close, by its own id, also after a failed test. Its methods may
// be called at the same time; what two calls do to the same machine, disk or network happens one after the other.
type Lab struct {
	name, dir, image string
	log              *slog.Logger
	authority        *authority
	stateful         bool     // this kernel tracks connections
	caps             []string // capabilities of a machine
	held             net.Listener
	stopWatch        context.CancelFunc
	watched          chan struct{}

	mu       sync.Mutex // guards the maps and closed; taken last, held briefly
	networks map[string]*network
	disks    map[string]*disk
	machines map[string]*machine
	hosts    map[string]*Host
	closed   bool

	loops sync.Mutex // finding a free loop device and taking it are two steps
}

// closeLimit bounds the removal of everything.
const closeLimit = 2 * time.Minute

// Open makes an empty lab. It first removes what a lab of the same name left whose process was killed.
func Open(ctx context.Context, o Options) (*Lab, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Dir == "" {
		o.Dir = os.TempDir()
	}
	parent, err := filepath.Abs(o.Dir)
	if err != nil {
		return nil, fmt.Errorf("open lab %s: %w", o.Name, err)
	}
	l := &Lab{
		name: o.Name, dir: filepath.Join(parent, labDir(o.Name)), image: o.Image, log: o.Log.With("lab", o.Name),
		networks: map[string]*network{}, disks: map[string]*disk{}, machines: map[string]*machine{}, hosts: map[string]*Host{},
		watched: make(chan struct{}),
	}
	// The abstract socket is the lock on the name: it vanishes with the process that has it, however that ends.
	l.held, err = net.Listen("unix", "@"+prefix+o.Name)
	if err != nil {
		return nil, fmt.Errorf("open lab %s: another lab of this name is open: %w", o.Name, err)
	}
	if err := l.prepare(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("open lab %s: %w", o.Name, err), l.sweep(context.WithoutCancel(ctx)), l.held.Close())
	}
	watching, stop := context.WithCancel(context.WithoutCancel(ctx))
	l.stopWatch = stop
	go l.watch(watching)
	return l, nil
}

func (o Options) check() error {
	var errs []error
	if !labPattern.MatchString(o.Name) {
		errs = append(errs, fmt.Errorf("lab name %q: want up to 31 lower-case letters, digits and '-'", o.Name))
	}
	if o.Image == "" {
		errs = append(errs, errors.New("lab without an image: want the name that package image gives"))
	}
	if os.Geteuid() != 0 {
		errs = append(errs, errors.New("a lab makes network namespaces and loop devices: run as root"))
	}
	return errors.Join(errs...)
}

func (l *Lab) prepare(ctx context.Context) error {
	if err := l.sweep(ctx); err != nil {
		return fmt.Errorf("remove what an earlier run left: %w", err)
	}
	if err := os.MkdirAll(l.dir, 0o700); err != nil {
		return fmt.Errorf("make the lab's folder: %w", err)
	}
	if _, err := run(ctx, "docker", "image", "inspect", "--format", "{{.Id}}", l.image); err != nil {
		return fmt.Errorf("find image %s: %w", l.image, err)
	}
	var err error
	if l.authority, err = newAuthority(); err != nil {
		return err
	}
	if l.caps, err = machineCapabilities(); err != nil {
		return err
	}
	if l.stateful, err = l.tracksConnections(ctx); err != nil {
		return err
	}
	if !l.stateful {
		l.log.Warn("this kernel has no connection tracking: filters are stateless")
	}
	return nil
}

// CA returns the PEM of the lab's certificate authority, which every machine trusts.
func (l *Lab) CA() []byte { return append([]byte(nil), l.authority.pem...) }

// Close removes everything and returns what could not be removed. It waits for calls that change machines; others must have
// returned. A second call does nothing.
func (l *Lab) Close() error {
	l.mu.Lock()
	closed := l.closed
	l.closed = true
	var machines []*machine
	for _, m := range l.machines {
		machines = append(machines, m)
	}
	l.mu.Unlock()
	if closed {
		return nil
	}
	// The watch touches machines; the machines' own listeners go before the namespaces that they are in; sweep takes the rest
	// in the order of use; the name is free last, when nothing of it is left.
	l.stopWatch()
	<-l.watched
	for _, m := range machines {
		m.mu.Lock()
		m.gone = true
		m.services.close()
		m.mu.Unlock()
	}
	ctx, cancel := context.WithTimeout(context.Background(), closeLimit)
	defer cancel()
	err := l.sweep(ctx)
	if err != nil {
		err = fmt.Errorf("close lab %s: %w", l.name, err)
	}
	return errors.Join(err, l.held.Close())
}

// sweep removes everything of the lab's name: containers, then the namespaces and disks that they used, then files. It goes
// by names and labels and not by what this process remembers, so it serves after a crash and after half-made things too.
func (l *Lab) sweep(ctx context.Context) error {
	dirs, containersErr := l.removeContainers(ctx)
	dirs[l.dir] = true
	var errs []error
	names, err := namespaces(l.name)
	errs = append(errs, containersErr, err)
	for _, name := range names {
		if _, err := run(ctx, "ip", "netns", "delete", name); err != nil {
			errs = append(errs, fmt.Errorf("remove namespace: %w", err))
		}
	}
	loops, err := loopsOf(l.name)
	errs = append(errs, err)
	for loop, file := range loops {
		dirs[filepath.Dir(file)] = true
		if err := releaseLoop(ctx, loop); err != nil {
			errs = append(errs, err)
		}
	}
	for dir := range dirs {
		if filepath.Base(dir) != labDir(l.name) {
			continue // not a folder of ours, whoever says so
		}
		if err := os.RemoveAll(dir); err != nil {
			errs = append(errs, fmt.Errorf("remove the lab's files: %w", err))
		}
	}
	return errors.Join(errs...)
}

// removeContainers removes the lab's containers, all at the same time, and returns the folders that they had files in.
func (l *Lab) removeContainers(ctx context.Context) (map[string]bool, error) {
	dirs := map[string]bool{}
	out, err := run(ctx, "docker", "ps", "--all", "--no-trunc", "--filter", "label="+labLabel+"="+l.name,
		"--format", `{{.ID}} {{.Label "`+dirLabel+`"}}`)
	if err != nil {
		return dirs, fmt.Errorf("list containers: %w", err)
	}
	var (
		wg   sync.WaitGroup
		mu   sync.Mutex
		errs []error
	)
	for line := range strings.Lines(out) {
		id, dir, _ := strings.Cut(strings.TrimSpace(line), " ")
		dirs[dir] = true
		wg.Go(func() {
			if err := removeContainer(ctx, id); err != nil {
				mu.Lock()
				errs = append(errs, err)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return dirs, errors.Join(errs...)
}

func removeContainer(ctx context.Context, id string) error {
	_, err := run(ctx, "docker", "rm", "--force", "--volumes", id)
	if err != nil && !strings.Contains(err.Error(), "No such container") {
		return fmt.Errorf("remove container: %w", err)
	}
	return nil
}

// find looks something up by id in one of the lab's maps.
func find[T any](l *Lab, in map[string]T, what, id string) (T, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	found, ok := in[id]
	if !ok {
		return found, fmt.Errorf("%s %q: not in lab %s", what, id, l.name)
	}
	return found, nil
}

// claim enters something new under its id, before it is made, so that two calls cannot make the same thing.
func claim[T any](l *Lab, in map[string]T, what, id string, thing T) error {
	if err := checkID(what, id); err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return fmt.Errorf("%s %q: lab %s is closed", what, id, l.name)
	}
	if _, taken := in[id]; taken {
		return fmt.Errorf("%s %q: already in lab %s", what, id, l.name)
	}
	in[id] = thing
	return nil
}

func forget[T any](l *Lab, in map[string]T, id string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	delete(in, id)
}
