//go:build linux

package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// diskBytes is the size of each node's file system.
const diskBytes = 512 << 20

// disk is a node's file system: ext4 in a file in memory, so that nodes don't wait for each other's writes, and so that it can be
// frozen and can fail, which the kernel has for no file system in memory.
type disk struct {
	dir, image string

	mu    sync.Mutex
	guard *guard // unless nil, it is frozen
}

// openShelf mounts a file system in memory for the images of all disks at dir. What is mounted below it is mounted and unmounted in
// the nodes' mount namespaces, too: otherwise those would keep a disk that was taken out.
func openShelf(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	// Images hold what was written to them only.
	if err := command("mount", "-t", "tmpfs", "-o", "size=90%", "hypercache-faults", dir); err != nil {
		return err
	}
	if err := command("mount", "--make-shared", dir); err != nil {
		return errors.Join(err, command("umount", dir))
	}
	return nil
}

// newDisk makes a file system and mounts it at dir.
func newDisk(dir string) (*disk, error) {
	d := &disk{dir: dir, image: dir + ".img"}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(d.image, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	if err := errors.Join(f.Truncate(diskBytes), f.Close()); err != nil {
		return nil, err
	}
	// No blocks are kept for root, who the nodes are, too.
	if err := command("mkfs.ext4", "-q", "-m", "0", "-E", "nodiscard", d.image); err != nil {
		return nil, err
	}
	return d, d.mount()
}

func (d *disk) mount() error {
	return command("mount", "-o", "loop,errors=remount-ro", d.image, d.dir)
}

// renew has the file system mounted anew, with what has reached the disk. Its node must have ended.
func (d *disk) renew() error {
	if err := command("umount", d.dir); err != nil {
		return err
	}
	return d.mount()
}

// freeze makes whoever writes to the file system wait until thaw.
func (d *disk) freeze() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.guard != nil {
		return nil
	}
	g, err := startGuard(d.dir)
	if err == nil {
		d.guard = g
	}
	return err
}

// thaw ends freeze, if it was called.
func (d *disk) thaw() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.guard == nil {
		return nil
	}
	err := d.guard.release()
	d.guard = nil
	return err
}

// guard is a process that freezes a file system and thaws it when it is told to, or when this program has ended, in whatever way:
// what stays frozen cannot be unmounted, and who writes to it cannot be killed.
type guard struct {
	cmd  *exec.Cmd
	hold io.Closer
	said *strings.Builder
}

// guarded freezes $1 until its input ends.
const guarded = `fsfreeze --freeze "$1" || exit 1; echo frozen; cat >/dev/null; fsfreeze --unfreeze "$1"`

func startGuard(dir string) (*guard, error) {
	g := &guard{cmd: exec.Command("sh", "-c", guarded, "sh", dir), said: &strings.Builder{}}
	g.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // an interrupt from the terminal is for this program alone
	g.cmd.Stderr = g.said
	in, err := g.cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	g.hold = in
	out, err := g.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := g.cmd.Start(); err != nil {
		return nil, fmt.Errorf("freeze %s: %w", dir, err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "frozen\n" {
		return nil, errors.Join(fmt.Errorf("freeze %s: it says %q", dir, line), g.release())
	}
	return g, nil
}

func (g *guard) release() error {
	_ = g.hold.Close() // it tells by its exit code what came of it
	if err := g.cmd.Wait(); err != nil {
		return fmt.Errorf("%s: %w: %s", g.cmd, err, strings.TrimSpace(g.said.String()))
	}
	return nil
}

// ext4Shutdown is EXT4_IOC_SHUTDOWN; noLogFlush has it drop what has not reached the disk.
const (
	ext4Shutdown = 0x8004587d
	noLogFlush   = 2
)

// dies makes every read and write fail with EIO from now on, as when a volume is gone. What was not synced is lost.
func (d *disk) dies() error {
	f, err := os.Open(d.dir)
	if err != nil {
		return err
	}
	defer f.Close()
	how := uint32(noLogFlush)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, f.Fd(), ext4Shutdown, uintptr(unsafe.Pointer(&how))); errno != 0 {
		return fmt.Errorf("shut the file system of %s down: %w", d.dir, errno)
	}
	return nil
}

// errs makes the file system read-only from now on, as ext4 does when it finds an error in itself.
func (d *disk) errs() error {
	source, err := exec.Command("findmnt", "-n", "-o", "SOURCE", d.dir).Output()
	if err != nil {
		return fmt.Errorf("find the device of %s: %w", d.dir, err)
	}
	trigger := filepath.Join("/sys/fs/ext4", filepath.Base(strings.TrimSpace(string(source))), "trigger_fs_error")
	return os.WriteFile(trigger, []byte("a fault run"), 0o200)
}

// exited tells that the node has ended by itself.
func (h *host) exited() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.cmd == nil {
		return true
	}
	var info unix.Siginfo
	err := unix.Waitid(unix.P_PID, h.cmd.Process.Pid, &info, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	return err == nil && info.Signo != 0
}

// exits waits for the node to end by itself.
func (h *host) exits(ctx context.Context, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for !h.exited() {
		if pause(ctx, 20*time.Millisecond) != nil {
			return fmt.Errorf("%s has not ended within %v", h.id, limit)
		}
	}
	h.end(0)
	return nil
}
