package topology

import (
	"errors"
	"fmt"
	"os"
	"syscall"
)

const keepSize = 1 // FALLOC_FL_KEEP_SIZE of fallocate(2)

// reserve takes disk space for the first size bytes of a file without changing its length. Raft cannot do without writing
// its term and its log: it panics where it can't, so a disk that clients have filled must not be full for it. File systems
// that can't do that are left alone.
func reserve(name string, size int64) error {
	f, err := os.OpenFile(name, os.O_WRONLY, 0)
	if err != nil {
		return fmt.Errorf("reserve space: %w", err)
	}
	defer func() { _ = f.Close() }() // nothing was written
	for {
		err = syscall.Fallocate(int(f.Fd()), keepSize, 0, size)
		switch {
		case err == nil, errors.Is(err, syscall.EOPNOTSUPP), errors.Is(err, syscall.ENOSYS):
			return nil
		case !errors.Is(err, syscall.EINTR):
			return fmt.Errorf("reserve %d bytes for %s: %w", size, name, err)
		}
	}
}
