//go:build linux || darwin

package store

import "golang.org/x/sys/unix"

// mapMemory returns n bytes of zeroed memory outside Go's heap, n a multiple of the page size. The kernel commits a
// page when it is first touched.
func mapMemory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(b []byte) { _ = unix.Munmap(b) }

// releaseMemory tells the kernel that the content of b is not needed any more; b stays usable.
func releaseMemory(b []byte) { _ = unix.Madvise(b, adviceRelease) }
