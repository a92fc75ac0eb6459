// Package resp is the wire edge: it turns bytes from clients into commands and replies into bytes.
//
// It owns the bounded request parser, the reply encoder (RESP2 and RESP3), the session that keeps replies in order
// while commands overlap, and the transports: an event loop for plain TCP on Linux, a goroutine per connection for TLS,
// for any net.Listener and for other systems.
//
// It refuses, with Redis' own error texts, whatever exceeds its limits, and never lets memory grow from a length that a
// client merely declared. It leaves to others what commands mean, who may run them, and where their data lives: it
// knows a Handler, nothing else.
package resp
