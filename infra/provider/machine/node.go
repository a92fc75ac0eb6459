package machine

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"time"

	"hypercache/infra/provider/ports"
	"hypercache/provisioning/nodeconf"
)

// Spec is what a node shall be.
type Spec struct {
	Name    string
	Address string // IP address that it listens on and is reached by
	RESP    int
	HTTP    int
	Gossip  int
	RPC     int
	TLS     bool // its HTTP interface speaks TLS

	Program       string // path of the node program
	SHA256        string // of the program, in hex
	Config        string // its configuration without secrets
	GossipKey     string
	ClusterSecret string
	Password      string // that clients must give; empty: they need none

	BootstrapExpect int           // how many nodes form a new cluster
	ReadyTimeout    time.Duration // from start to ready
	DrainTimeout    time.Duration // for handing its data over
	StopTimeout     time.Duration // from SIGTERM to SIGKILL
	ForceDelete     bool          // remove it even if its data could not be handed over
}

func (s Spec) httpURL() string {
	scheme := "http"
	if s.TLS {
		scheme = "https"
	}
	return fmt.Sprintf("%s://%s:%d", scheme, s.Address, s.HTTP)
}

func (s Spec) uses() []ports.Use {
	use := func(network string, port int, what string) ports.Use {
		return ports.Use{Network: network, Address: s.Address, Port: port, For: what + " of " + s.Name}
	}
	return []ports.Use{
		use("tcp", s.RESP, "RESP"), use("tcp", s.HTTP, "HTTP"), use("tcp", s.Gossip, "gossip"),
		use("udp", s.Gossip, "gossip"), use("tcp", s.RPC, "internal"),
	}
}

// Status is how a node is doing.
type Status string

// A node runs and serves, runs and does not serve, or does not run.
const (
	Running Status = "running"
	Sick    Status = "sick"
	Stopped Status = "stopped"
)

// Status looks at a node. known is false if the site has no trace of it.
func (s Site) Status(ctx context.Context, name string) (status Status, p Process, known bool, err error) {
	if _, err := os.Stat(s.NodeDir(name)); errors.Is(err, fs.ErrNotExist) {
		return Stopped, Process{}, false, nil
	}
	r, err := s.record(name)
	if errors.Is(err, fs.ErrNotExist) {
		return Stopped, Process{}, true, nil
	}
	if err != nil {
		return "", Process{}, false, err
	}
	if err := s.turnLog(name); err != nil {
		return "", Process{}, false, err
	}
	switch {
	case !r.Process.Alive():
		return Stopped, r.Process, true, nil
	case r.ready(ctx) != nil:
		return Sick, r.Process, true, nil
	}
	return Running, r.Process, true, nil
}

// Start brings up a node that is not running, with whatever data its directory holds. A process of an interrupted earlier
// attempt is replaced. After a failure nothing of the attempt runs; data stays.
func (s Site) Start(ctx context.Context, spec Spec) (Process, error) {
	fresh := false
	if _, err := os.Stat(s.NodeDir(spec.Name)); errors.Is(err, fs.ErrNotExist) {
		fresh = true
	}
	if r, err := s.record(spec.Name); err == nil {
		if _, err := r.Process.stop(ctx, spec.StopTimeout); err != nil {
			return Process{}, err
		}
	}
	if err := ports.Check(spec.uses()); err != nil {
		return Process{}, fmt.Errorf("%s cannot start: %w", spec.Name, err)
	}
	r, err := s.run(ctx, spec)
	if err != nil {
		if fresh && r.Process.PID == 0 {
			err = errors.Join(err, os.RemoveAll(s.NodeDir(spec.Name)))
		}
		return Process{}, err
	}
	return r.Process, nil
}

// run prepares the node's directory, launches the program and waits for it. The record it returns has a process if one was
// ever launched.
func (s Site) run(ctx context.Context, spec Spec) (Record, error) {
	r := Record{Name: spec.Name, HTTP: spec.httpURL()}
	if err := s.prepare(spec); err != nil {
		return r, err
	}
	var err error
	if r.Binary, err = s.install(spec.Program, spec.SHA256); err != nil {
		return r, err
	}
	return s.launchAndWait(ctx, spec, r, func(r Record) error { return s.settle(ctx, spec, r) })
}

// launchAndWait starts the record's program. What it started is stopped again when it does not get ready.
func (s Site) launchAndWait(ctx context.Context, spec Spec, r Record, wait func(Record) error) (Record, error) {
	var logged int64
	if info, err := os.Stat(s.logFile(spec.Name)); err == nil {
		logged = info.Size()
	}
	_, err := s.record(spec.Name)
	first := errors.Is(err, fs.ErrNotExist)
	r.Process, err = launch(ctx, s.logFile(spec.Name), s.NodeDir(spec.Name), r.Binary, "--config="+s.configFile(spec.Name))
	if err == nil {
		err = s.writeRecord(r)
	}
	if err == nil {
		err = wait(r)
	}
	if err == nil {
		return r, nil
	}
	err = fmt.Errorf("%w\nThe last lines of its log:\n%s", err, s.logTail(spec.Name, logged))
	// What was started is stopped even if ctx is over: the caller will not know of it.
	_, stopErr := r.Process.stop(context.WithoutCancel(ctx), spec.StopTimeout)
	err = errors.Join(err, stopErr)
	if first { // it never was a part of the cluster, so others must not wait for it
		err = errors.Join(err, os.Remove(filepath.Join(s.NodeDir(spec.Name), recordFile)))
	}
	return r, err
}

// prepare writes everything the node reads at its start.
func (s Site) prepare(spec Spec) error {
	dir := s.NodeDir(spec.Name)
	if err := os.MkdirAll(s.DataDir(spec.Name), 0o700); err != nil {
		return fmt.Errorf("make directory of %s: %w", spec.Name, err)
	}
	if err := s.turnLog(spec.Name); err != nil {
		return err
	}
	secret := filepath.Join(dir, "secret")
	if err := writeFile(secret, []byte(spec.ClusterSecret+"\n"), 0o600); err != nil {
		return err
	}
	secrets := nodeconf.Secrets{GossipKey: spec.GossipKey, SecretFile: secret}
	password := filepath.Join(dir, "password")
	if spec.Password != "" {
		secrets.PasswordFile = password
		if err := writeFile(password, []byte(spec.Password+"\n"), 0o600); err != nil {
			return err
		}
	}
	text, err := nodeconf.AddSecrets(spec.Config, secrets)
	if err != nil {
		return fmt.Errorf("configure %s: %w", spec.Name, err)
	}
	return writeFile(s.configFile(spec.Name), []byte(text), 0o600)
}

func (s Site) configFile(name string) string { return filepath.Join(s.NodeDir(name), "config.yaml") }

// Restart makes a node what spec says, with its data kept. If it runs, every other node must be ready first. When the new
// one fails, the old program and configuration are started again, and the error tells both.
func (s Site) Restart(ctx context.Context, spec Spec) (Process, error) {
	r, err := s.record(spec.Name)
	if err != nil || !r.Process.Alive() {
		return s.Start(ctx, spec)
	}
	if err := s.othersReady(ctx, spec); err != nil {
		return Process{}, fmt.Errorf("%s is left as it is, because stopping it now would hurt the cluster: %w", spec.Name, err)
	}
	oldConfig, err := os.ReadFile(s.configFile(spec.Name))
	if err != nil {
		return Process{}, fmt.Errorf("keep configuration of %s: %w", spec.Name, err)
	}
	forced, err := r.Process.stop(ctx, spec.StopTimeout)
	if err != nil {
		return Process{}, err
	}
	if forced {
		s.say("%s did not end within %v of SIGTERM and was killed", spec.Name, spec.StopTimeout)
	}
	p, err := s.Start(ctx, spec)
	if err != nil {
		return Process{}, errors.Join(err, s.rollBack(ctx, spec, r, oldConfig))
	}
	return p, s.sweepBinaries()
}

// rollBack starts what ran before a failed Restart. Its result is never nil: it completes the error.
func (s Site) rollBack(ctx context.Context, spec Spec, old Record, oldConfig []byte) error {
	ctx = context.WithoutCancel(ctx) // an interrupted update must not leave a hole in the cluster
	err := writeFile(s.configFile(spec.Name), oldConfig, 0o600)
	if err == nil {
		_, err = s.launchAndWait(ctx, spec, old, func(r Record) error { return s.settle(ctx, spec, r) })
	}
	if err != nil {
		return fmt.Errorf("%s could not be put back to its previous program and configuration either: %w", spec.Name, err)
	}
	return fmt.Errorf("%s runs with its previous program and configuration again", spec.Name)
}

// Remove takes a node away for good: hand over (see the package's text), stop, forget its directory.
func (s Site) Remove(ctx context.Context, spec Spec) error {
	r, err := s.record(spec.Name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if r, err = s.handOver(ctx, spec, r); err != nil {
		if !spec.ForceDelete {
			return fmt.Errorf("%s stays, its data could not be handed over (HYPERCACHE_FORCE_DELETE=1 in the environment gives it up): %w", spec.Name, err)
		}
		s.say("%s goes although its data could not be handed over: %v", spec.Name, err)
	}
	if _, err := r.Process.stop(ctx, spec.StopTimeout); err != nil {
		return err
	}
	if err := os.RemoveAll(s.NodeDir(spec.Name)); err != nil {
		return fmt.Errorf("remove directory of %s: %w", spec.Name, err)
	}
	return s.sweepBinaries()
}

// Destroy ends whatever still runs at the site and removes its directory, and the directories above it that are empty then.
func (s Site) Destroy(ctx context.Context) error {
	records, err := s.Records()
	if err != nil {
		return err
	}
	for _, r := range records {
		if _, err := r.Process.stop(ctx, killGrace); err != nil {
			return err
		}
	}
	if err := os.RemoveAll(s.Dir); err != nil {
		return fmt.Errorf("remove site: %w", err)
	}
	// These fail while other stacks have their sites there, as they should.
	if os.Remove(filepath.Dir(s.Dir)) == nil {
		_ = os.Remove(filepath.Dir(filepath.Dir(s.Dir)))
	}
	return nil
}
