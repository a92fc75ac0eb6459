package store

import "golang.org/x/sys/unix"

// adviceRelease: Darwin's MADV_DONTNEED only lowers the priority of the pages, MADV_FREE lets the kernel take them.
const adviceRelease = unix.MADV_FREE
