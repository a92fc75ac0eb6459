package machine

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Process identifies a process for good: a pid alone is reused, together with the start time it is not, within a boot.
type Process struct {
	PID     int    `json:"pid"`
	Started string `json:"started"` // clock ticks since boot, from /proc/PID/stat
	Boot    string `json:"boot"`    // the kernel's boot id
}

// pollEvery is the rhythm of every wait in this package.
const pollEvery = 50 * time.Millisecond

// launchScript starts "$@" in the background and prints its pid. The shell ends at once, so the node's parent is init and
// not the provider: the Pulumi CLI kills the children of its plugins when it is done.
const launchScript = `"$@" </dev/null >>"$HYPERCACHE_LOG" 2>&1 & echo $!`

// launch starts a program that outlives us, in a session of its own, with its output appended to logFile.
func launch(ctx context.Context, logFile, dir string, argv ...string) (Process, error) {
	cmd := exec.CommandContext(ctx, "/bin/sh", append([]string{"-c", launchScript, "sh"}, argv...)...)
	cmd.Dir = dir
	cmd.Env = append(nodeEnv(os.Environ()), "HYPERCACHE_LOG="+logFile)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	out, err := cmd.Output()
	if err != nil {
		return Process{}, fmt.Errorf("start %s: %w", argv[0], err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return Process{}, fmt.Errorf("start %s: the shell said %q instead of a pid", argv[0], out)
	}
	return identify(pid)
}

// nodeEnv is env without what would change a node's configuration behind the plan's back. The node's own variables without
// the HYPERCACHE_ prefix are the guide's container variables.
func nodeEnv(env []string) []string {
	var out []string
	for _, kv := range env {
		name, _, _ := strings.Cut(kv, "=")
		switch {
		case strings.HasPrefix(name, "HYPERCACHE_"), strings.HasPrefix(name, "PULUMI_"):
		case name == "NODE_ID", name == "BIND_ADDR", name == "ADVERTISE_ADDR", name == "SEED_NODES":
		default:
			out = append(out, kv)
		}
	}
	return out
}

// identify completes a pid to a Process. A process that has already ended has no start time and is not alive.
func identify(pid int) (Process, error) {
	boot, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return Process{}, fmt.Errorf("read boot id: %w", err)
	}
	p := Process{PID: pid, Boot: strings.TrimSpace(string(boot))}
	_, p.Started = stat(pid)
	return p, nil
}

// stat returns whether a process still has a thread that is not finished, and its start time; none if there is no such process.
func stat(pid int) (runs bool, started string) {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return false, ""
	}
	// The second field is the name in parentheses and may hold anything; fields count from behind it.
	_, rest, found := bytes.Cut(data[bytes.LastIndexByte(data, '(')+1:], []byte(") "))
	fields := bytes.Fields(rest)
	if !found || len(fields) < 20 {
		return false, ""
	}
	state, threads := string(fields[0]), string(fields[17])
	// The first thread of a killed process is a zombie at once, while the others may still hold its ports.
	runs = state != "X" && (state != "Z" || threads != "1" && threads != "0")
	return runs, string(fields[19])
}

// Alive reports whether exactly this process still runs. A zombie does not.
func (p Process) Alive() bool {
	if p.PID <= 0 || p.Started == "" {
		return false
	}
	now, err := identify(p.PID)
	if err != nil || now != p {
		return false
	}
	runs, _ := stat(p.PID)
	return runs
}

// stop asks the process to end and kills it after grace. It returns when the process is gone; forced tells that it had to
// be killed.
func (p Process) stop(ctx context.Context, grace time.Duration) (forced bool, err error) {
	if !p.Alive() {
		return false, nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGTERM); err != nil && !errors.Is(err, syscall.ESRCH) {
		return false, fmt.Errorf("stop pid %d: %w", p.PID, err)
	}
	gone := func() error {
		if p.Alive() {
			return fmt.Errorf("pid %d still runs", p.PID)
		}
		return nil
	}
	if poll(ctx, grace, gone) == nil {
		return false, nil
	}
	if err := syscall.Kill(p.PID, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		return true, fmt.Errorf("kill pid %d: %w", p.PID, err)
	}
	// The kill is done whatever becomes of ctx; only the kernel can delay the end now.
	if err := poll(context.WithoutCancel(ctx), killGrace, gone); err != nil {
		return true, fmt.Errorf("kill pid %d: %w", p.PID, err)
	}
	return true, nil
}

const killGrace = 10 * time.Second

// poll calls try until it succeeds, at most for limit; its error is try's last one. fatal errors end it at once.
func poll(ctx context.Context, limit time.Duration, try func() error) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for {
		err := try()
		var f fatal
		if err == nil || errors.As(err, &f) {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return err
		}
	}
}

// fatal marks an error that waiting cannot heal.
type fatal struct{ error }

func (f fatal) Unwrap() error { return f.error }
