// Package peer carries everything that nodes say to each other over the one internal port, 7373.
//
// It owns the listener and its multiplexing, the authenticated handshake, the streams between nodes, request/reply
// calls, heartbeats and the failure detector built on them. It refuses connections that cannot prove the cluster
// secret, nodes of another cluster, second nodes with one id, frames above the size limit and streams whose reader is too slow. It knows nothing about slots, terms or
// commands: a frame is a type and bytes, and what they mean is left to the packages that register for them.
//
// Traffic is split into classes, each with connections of its own, so that a large value being forwarded never delays
// a heartbeat: [Control] (heartbeats and calls), [Replica] (log records and acknowledgements), [Forward] (client
// commands on their way to a primary) and [Bus] (messages to subscribers). The node that dials owns the direction: it sends requests, the other side
// answers on the same connection.
package peer
