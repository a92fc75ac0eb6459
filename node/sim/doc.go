// Package sim runs whole clusters of 3 to 9 nodes on one thread, a virtual clock and virtual disks, under everything that
// goes wrong at once. One seed is one run, and runs the same way again.
//
// As they are in a node: the replicas (replica.Driver, frames and all), the journal with its recovery and its rewrite,
// the topology's state machine, its controller's decisions (topology.Controller) and its elections, and placement
// (ring.Assign). Modelled: the disks (journal/vfs in memory, cloned as a kill or a power loss leaves them at any
// operation), the wire, clocks, clients, a store of append-only lists, and Raft.
//
// Raft is a log with one leader at a time, which commits what a majority of the voters can be reached for; what a deposed
// leader had under way may be committed by the next one; every node applies the log with a delay of its own. Its
// elections and its files are not simulated: hashicorp/raft cannot be run on one thread.
//
// The package owns the fault model and the checks. Replica streams keep their order, as TCP does: they stall, break,
// are noticed late at one end and overlap with the stream that follows. Calls are lost, repeated and late. Single lost
// and overtaken messages, which no TCP stream has, are what node/replica/sim tries.
package sim
