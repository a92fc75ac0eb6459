// Package vfs is the part of a file system that the journal needs, small enough to be implemented twice: by the
// operating system, and in memory with crashes and errors for tests.
package vfs

import (
	"errors"
	"fmt"
	"io"
)

// ErrLocked: another process holds the lock.
var ErrLocked = errors.New("in use by another process")

// LockedError names the holder of a lock as far as it is known.
type LockedError struct {
	Name string
	PID  int // 0: unknown
}

func (e *LockedError) Error() string {
	if e.PID == 0 {
		return fmt.Sprintf("%s is in use by another process", e.Name)
	}
	return fmt.Sprintf("%s is in use by process %d", e.Name, e.PID)
}

// Is makes errors.Is(err, ErrLocked) true.
func (e *LockedError) Is(target error) bool { return target == ErrLocked }

// FS is a file system. Names are slash-separated paths. Nothing that it does to a directory (create, rename, remove) is
// durable before SyncDir of that directory; nothing written to a file before its Sync. Safe for concurrent use.
type FS interface {
	// Open opens an existing file for reading and writing.
	Open(name string) (File, error)
	// Create opens name for reading and writing, empty; an existing file is truncated.
	Create(name string) (File, error)
	Rename(from, to string) error
	Remove(name string) error
	// RemoveBitByBit removes a file that nobody reads any more, and takes its time for a large one, so that the file system is not
	// held up: other writes and fsyncs wait while it frees much at once. It hurries once stop is closed. A file of another name
	// too, a hard link, keeps its content.
	RemoveBitByBit(name string, stop <-chan struct{}) error
	MkdirAll(dir string) error
	// List returns the names in dir in order; a missing directory is fs.ErrNotExist.
	List(dir string) ([]string, error)
	SyncDir(dir string) error
	// Lock takes the exclusive lock name until the Closer is closed or the process ends; it fails at once with a
	// *LockedError if another holds it.
	Lock(name string) (io.Closer, error)
}

// File is an open file without a cursor. ReadAt and WriteAt are as in package io; WriteAt may write less and say so.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Truncate(size int64) error
	// Sync returns when content and size are on the disk itself.
	Sync() error
	// WriteBack has the n bytes from off on begin to go to the disk, and does not wait until they are there, but may for the
	// disk's queue. It is a hint, which the next Sync need not have: that has the error if there is one.
	WriteBack(off, n int64)
}
