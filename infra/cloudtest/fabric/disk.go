package fabric

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// disk is a sparse file behind a loop device.
type disk struct {
	id, file string

	mu       sync.Mutex
	gib      int
	loop     string // /dev/loopN
	device   device
	attached string // the machine that has it, "" for none
	gone     bool
}

// device is how the kernel knows a block device.
type device struct {
	name         string // as under /dev
	major, minor uint32
}

// CreateDisk makes an empty disk. It takes room on this machine only as it is written to.
func (l *Lab) CreateDisk(ctx context.Context, id string, gib int) error {
	if gib < 1 {
		return fmt.Errorf("create disk %s: %d GiB: want at least 1", id, gib)
	}
	d := &disk{id: id, file: filepath.Join(l.dir, "disk."+id), gib: gib}
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := claim(l, l.disks, "disk", id, d); err != nil {
		return err
	}
	if err := l.createDisk(ctx, d); err != nil {
		d.gone = true
		forget(l, l.disks, id)
		return errors.Join(fmt.Errorf("create disk %s: %w", id, err), l.removeDisk(context.WithoutCancel(ctx), d))
	}
	return nil
}

func (l *Lab) createDisk(ctx context.Context, d *disk) error {
	f, err := os.OpenFile(d.file, os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make its file: %w", err)
	}
	err = errors.Join(f.Truncate(int64(d.gib)<<30), f.Close())
	if err != nil {
		return fmt.Errorf("size its file: %w", err)
	}
	l.loops.Lock()
	defer l.loops.Unlock()
	// Another process may take the free device between losetup's two steps.
	err = await(ctx, 10*time.Second, func() (bool, error) {
		out, err := run(ctx, "losetup", "--find", "--show", d.file)
		d.loop = strings.TrimSpace(out)
		return ctx.Err() != nil, err
	})
	if err != nil {
		return fmt.Errorf("take a loop device: %w", err)
	}
	d.device, err = deviceOf(d.loop)
	return err
}

func deviceOf(loop string) (device, error) {
	name := filepath.Base(loop)
	data, err := os.ReadFile(filepath.Join("/sys/block", name, "dev"))
	if err != nil {
		return device{}, fmt.Errorf("read device number: %w", err)
	}
	major, minor, _ := strings.Cut(strings.TrimSpace(string(data)), ":")
	ma, err1 := strconv.ParseUint(major, 10, 32)
	mi, err2 := strconv.ParseUint(minor, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return device{}, fmt.Errorf("read device number %q of %s: %w", data, loop, err)
	}
	return device{name: name, major: uint32(ma), minor: uint32(mi)}, nil
}

// lockDisk returns a disk that exists, locked.
func (l *Lab) lockDisk(id string) (*disk, error) {
	d, err := find(l, l.disks, "disk", id)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	if d.gone {
		d.mu.Unlock()
		return nil, fmt.Errorf("disk %q: not in lab %s", id, l.name)
	}
	return d, nil
}

// GrowDisk makes a disk larger; a machine that has it sees the new size at once. The file system in it is the guest's to grow.
func (l *Lab) GrowDisk(ctx context.Context, id string, gib int) error {
	d, err := l.lockDisk(id)
	if err != nil {
		return err
	}
	defer d.mu.Unlock()
	if gib < d.gib {
		return fmt.Errorf("grow disk %s: %d GiB is less than the %d that it has", id, gib, d.gib)
	}
	if err := os.Truncate(d.file, int64(gib)<<30); err != nil {
		return fmt.Errorf("grow disk %s: %w", id, err)
	}
	if _, err := run(ctx, "losetup", "--set-capacity", d.loop); err != nil {
		return fmt.Errorf("grow disk %s: %w", id, err)
	}
	d.gib = gib
	return nil
}

// DeleteDisk removes a disk and what is on it. It refuses while a machine has it, running or not.
func (l *Lab) DeleteDisk(ctx context.Context, id string) error {
	d, err := l.lockDisk(id)
	if err != nil {
		return err
	}
	defer d.mu.Unlock()
	if d.attached != "" {
		return fmt.Errorf("delete disk %s: attached to machine %s: detach it first", id, d.attached)
	}
	if err := l.removeDisk(ctx, d); err != nil {
		return fmt.Errorf("delete disk %s: %w", id, err)
	}
	d.gone = true
	forget(l, l.disks, id)
	return nil
}

func (l *Lab) removeDisk(ctx context.Context, d *disk) error {
	if d.loop != "" {
		if err := releaseLoop(ctx, d.loop); err != nil {
			return err
		}
		d.loop = ""
	}
	if err := os.Remove(d.file); err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove its file: %w", err)
	}
	return nil
}

// releaseLoop frees a loop device. The kernel does it when the last mount of it is gone, which is a moment after the
// processes of a machine are.
func releaseLoop(ctx context.Context, loop string) error {
	if _, err := run(ctx, "losetup", "--detach", loop); err != nil {
		return fmt.Errorf("free loop device: %w", err)
	}
	backing := filepath.Join("/sys/block", filepath.Base(loop), "loop/backing_file")
	return await(ctx, 10*time.Second, func() (bool, error) {
		if file, err := os.ReadFile(backing); err == nil {
			return false, fmt.Errorf("free loop device %s: %s is still in use", loop, strings.TrimSpace(string(file)))
		}
		return true, nil
	})
}

// loopsOf maps the loop devices whose file is in a folder of the lab's name to that file.
func loopsOf(lab string) (map[string]string, error) {
	found, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	loops := map[string]string{}
	for _, path := range found {
		data, err := os.ReadFile(path)
		if err != nil {
			continue // freed meanwhile
		}
		file := strings.TrimSuffix(strings.TrimSpace(string(data)), " (deleted)")
		if filepath.Base(filepath.Dir(file)) == labDir(lab) {
			loops["/dev/"+filepath.Base(filepath.Dir(filepath.Dir(path)))] = file
		}
	}
	return loops, nil
}
