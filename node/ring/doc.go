// Package ring decides where keys live: key to slot, slot to group, group to nodes.
//
// It is pure: no clock, no state, no I/O. It owns the arithmetic and nothing else; who is a member is decided by
// membership and topology, and the result counts only once the topology has committed it.
package ring
