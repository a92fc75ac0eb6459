// Package pubsub knows who subscribed to what on this node, and carries messages between the nodes.
//
// A Registry holds this node's subscriptions to channels, patterns and shard channels, and delivers to them. A Bus is
// this node's end of the streams by which nodes tell each other what was published, what happened to keys, and which
// keys that clients cache have changed; with it each node tells the others what it wants to hear. DESIGN.md says what
// arrives where, in which order, and what may be lost.
//
// It refuses to keep messages for somebody who is not there. Connections, the commands and their replies are left to
// packages resp and command; what a changed key means to whom, to package tracking.
package pubsub
