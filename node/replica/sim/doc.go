// Package sim runs the replication core (node/replica) under everything that goes wrong: one seed, one thread, one
// virtual clock. It models what surrounds the core (journal, network, topology, clients) and checks after every step
// that nothing acknowledged is lost and that clients see one linear history.
//
// It owns the fault model and the checkers. It does not model leases: a primary confirms each read with a majority.
// With Options.StaleReads some clients read from every node, within a bound on the age of what they see.
// A lost data directory is not modelled either: a node without its promises is a new node.
package sim
