package store

import "golang.org/x/sys/unix"

const adviceRelease = unix.MADV_DONTNEED

// adviseHuge asks for huge pages in b: a lookup in a large keyspace touches two random pages, and most of its time is
// the walk of the page table. Nobody forks this process, so the usual reason against huge pages does not apply.
func adviseHuge(b []byte) { _ = unix.Madvise(b, unix.MADV_HUGEPAGE) }

// adviseSmall takes adviseHuge back.
func adviseSmall(b []byte) { _ = unix.Madvise(b, unix.MADV_NOHUGEPAGE) }
