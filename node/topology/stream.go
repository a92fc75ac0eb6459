package topology

import (
	"net"
	"time"

	"github.com/hashicorp/raft"
)

// Stream makes a raft.StreamLayer of a listener and a dial function, so that others need not import raft.
func Stream(ln net.Listener, dial func(addr string, timeout time.Duration) (net.Conn, error)) raft.StreamLayer {
	return streamLayer{ln, dial}
}

type streamLayer struct {
	net.Listener
	dial func(addr string, timeout time.Duration) (net.Conn, error)
}

// Dial implements raft.StreamLayer.
func (s streamLayer) Dial(addr raft.ServerAddress, timeout time.Duration) (net.Conn, error) {
	return s.dial(string(addr), timeout)
}
