// Package cache is the one door to the data: every command, from whatever connection, goes through it.
//
// It decides where a command runs: here, under its group's lock; on another node, over a forward stream; on several,
// with the replies merged; or later, when no primary is known yet. It holds back replies until enough replicas have the
// write, keeps the order of each connection's commands while primaries move, lets commands wait for their keys (BLPOP) and
// wakes them, and runs expiry and eviction, which are the primary's business alone. It refuses commands whose keys lie in different slots where no merge is possible.
//
// A transaction (MULTI … EXEC) and a script run at the primary of their slot as one op: under the group's lock, with all
// effects in one record. tx.go, watch.go and script.go begin with how, and at what cost.
//
// A connection that sent READONLY may be answered from this node's own copy of a group; reads.go says when, and what the
// read levels are.
//
// What a command does is left to package command, what a record's fate is to package replica, who is primary to
// package topology.
package cache
