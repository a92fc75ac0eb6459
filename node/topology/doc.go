// Package topology decides who is a member of the cluster and which node serves which group, and makes every node
// agree on it.
//
// It owns one Raft group, the state machine that Raft feeds, and the controller that runs on the Raft leader. The
// state is small (members; per group a term, a primary and the replicas; the libraries of functions and the users, of which it
// knows names and sizes only) and is written only when it changes. Reading
// it is a pointer load; a node without a Raft majority keeps the last state it saw and can change nothing.
//
// It refuses to own data: positions, promises and leases belong to the replicas, and the controller asks for them over
// Network. It never elects a primary without a majority of the group's replicas, and never takes a crash for a
// departure: only Drain takes a member out. Discovery is a hint that starts an authenticated call; it is never
// authorization.
//
// # How a primary changes
//
// Every change of primary, planned or not, takes the same four steps, batched over all the groups concerned:
//
//  1. commit {term+1, no primary}: from here nobody can be made primary of the old term;
//  2. fence: replicas durably promise to refuse older terms, and answer with the head of their log;
//  3. choose the highest head among a majority of the replicas (of the old and of the new ones during a change);
//  4. commit the primary, with the rest of the old primary's lease that it has to wait for.
//
// A controller that dies between two steps leaves a group without primary; the next one resumes at step 2. Steps 1 and
// 4 are compare-and-set on the group's epoch, so that a controller that was deposed without noticing changes nothing.
package topology
