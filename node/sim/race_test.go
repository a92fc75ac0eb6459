//go:build race

package sim

// raced: the race detector is on. A run has one goroutine, so that it finds nothing here and makes every seed slow.
const raced = true
