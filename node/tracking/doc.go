// Package tracking knows which clients cache which keys (CLIENT TRACKING), and tells them when a key changes.
//
// A Tracker remembers, in a bounded table, who read which key: this node's clients, and other nodes whose clients read
// keys that this node is primary of. Clients that follow prefixes are told of every key that has one. DESIGN.md says why
// no invalidation is missed, however a client and the key's primary are connected.
//
// Finding out that a key changed is left to package cache, the way to other nodes to package pubsub.
package tracking
