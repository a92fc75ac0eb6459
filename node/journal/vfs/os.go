package vfs

import (
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// OS is the operating system's file system.
type OS struct{}

type osFile struct{ *os.File }

func (f osFile) Size() (int64, error) {
	st, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (f osFile) Sync() error { return datasync(f.File) }

func (f osFile) WriteBack(off, n int64) { writeBack(f.File, off, n) }

func open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag, 0o640)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

// Open implements FS.
func (OS) Open(name string) (File, error) { return open(name, os.O_RDWR) }

// Create implements FS.
func (OS) Create(name string) (File, error) { return open(name, os.O_RDWR|os.O_CREATE|os.O_TRUNC) }

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

const (
	removeBit   = 16 << 20 // bytes: ext4 frees them in less than a millisecond
	removePause = 5 * time.Millisecond
)

// RemoveBitByBit implements FS. It cuts the file off at the end, again and again. If it can't do that, it just removes it.
func (o OS) RemoveBitByBit(name string, stop <-chan struct{}) error {
	if size, alone := soleName(name); alone {
		t := time.NewTimer(removePause)
		defer t.Stop()
		for size -= removeBit; size > 0 && os.Truncate(name, size) == nil; size -= removeBit {
			select {
			case <-stop:
				return o.Remove(name)
			case <-t.C:
				t.Reset(removePause)
			}
		}
	}
	return o.Remove(name)
}

// MkdirAll implements FS; directories are private to the owner and its group.
func (OS) MkdirAll(dir string) error { return os.MkdirAll(dir, 0o750) }

// List implements FS.
func (OS) List(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	slices.Sort(names)
	return names, nil
}

// SyncDir implements FS.
func (OS) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	err = d.Sync()
	if cerr := d.Close(); err == nil {
		err = cerr
	}
	return err
}

// Lock implements FS. The file stays when the lock is released: removing it would let two processes hold two locks of
// one name.
func (OS) Lock(name string) (io.Closer, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, err
	}
	if err := tryLock(f); err != nil {
		held := &LockedError{Name: name, PID: readPID(f)}
		_ = f.Close() // the lock attempt already failed: nothing was written
		if isHeld(err) {
			return nil, held
		}
		return nil, fmt.Errorf("lock %s: %w", name, err)
	}
	// The process id is for the other process' error message only; a lock without it holds as well.
	if err := f.Truncate(0); err == nil {
		_, _ = f.WriteAt([]byte(strconv.Itoa(os.Getpid())+"\n"), 0)
	}
	return f, nil
}

func readPID(f *os.File) int {
	var b [16]byte
	n, _ := f.ReadAt(b[:], 0)
	pid, err := strconv.Atoi(strings.TrimSpace(string(b[:n])))
	if err != nil {
		return 0
	}
	return pid
}
