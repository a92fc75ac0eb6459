// Package replica is the replication protocol of one slot group: a primary orders records, followers hold them, and a
// record that a majority holds is never lost.
//
// The core (State and Step) is pure: it has no clock, no goroutine and does no I/O. It is given events and answers with
// actions that its driver carries out in order. The simulator in node/replica/sim drives the same code through message
// loss, partitions, crashes and changes of membership.
//
// It owns terms, promises, positions, what counts as committed, and who must be sent what. It refuses everything that
// belongs to a term older than its promise. It leaves to others: who is primary (the topology commits that), the bytes
// of the records and the journal (the driver), and time (the driver's Tick).
//
// DESIGN.md in this folder has the protocol, its invariants and the alternatives that were rejected.
package replica
