//go:build race

package store

// slowdown is what the race detector makes of processor time, generously.
const slowdown = 10
