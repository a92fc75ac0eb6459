// Package nodetest runs clusters for tests: real nodes in one process, on loopback ports of their own.
//
// It owns the nodes' directories, ports and life; a cluster stops with its test. It is imported by tests only.
package nodetest
