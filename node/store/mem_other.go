//go:build !linux && !darwin

package store

import (
	"sync"
	"unsafe"
)

// held keeps memory alive that is referred to by address only.
var held sync.Map

// mapMemory returns n zeroed bytes of Go's heap, for systems without anonymous mappings.
func mapMemory(n int) ([]byte, error) {
	b := make([]byte, n)
	held.Store(unsafe.SliceData(b), b)
	return b, nil
}

func unmapMemory(b []byte) { held.Delete(unsafe.SliceData(b)) }

func releaseMemory([]byte) {}

func mapAligned(n int) (addr, error) {
	b := make([]byte, 2*n)
	a := addr(uintptr(unsafe.Pointer(unsafe.SliceData(b)))+uintptr(n)-1) &^ addr(n-1)
	held.Store(a, b)
	return a, nil
}

func unmapAligned(a addr, _ int) { held.Delete(a) }
