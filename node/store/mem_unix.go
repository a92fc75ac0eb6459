//go:build linux || darwin

package store

import (
	"unsafe"

	"golang.org/x/sys/unix"
)

// mapMemory returns n bytes of zeroed memory outside Go's heap, n a multiple of the page size. The kernel commits a
// page when it is first touched.
func mapMemory(n int) ([]byte, error) {
	return unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
}

// unmapMemory gives back what mapMemory returned.
func unmapMemory(b []byte) { _ = unix.Munmap(b) }

// releaseMemory tells the kernel that the content of b is not needed any more; b stays usable.
func releaseMemory(b []byte) { _ = unix.Madvise(b, adviceRelease) }

// mapAligned is mapMemory at a multiple of n, a power of two.
func mapAligned(n int) (addr, error) {
	size := uintptr(n)
	p, err := unix.MmapPtr(-1, 0, nil, 2*size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		return 0, err
	}
	before := -uintptr(p) & (size - 1)
	if before > 0 {
		_ = unix.MunmapPtr(p, before)
	}
	_ = unix.MunmapPtr(unsafe.Add(p, before+size), size-before)
	return addr(uintptr(p) + before), nil
}

// unmapAligned gives back what mapAligned(n) returned.
func unmapAligned(a addr, n int) { _ = unix.MunmapPtr(a.ptr(), uintptr(n)) }
