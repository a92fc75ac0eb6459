package main

import (
	"fmt"
	"net"
	"strings"
	"time"
)

// notifier tells systemd how far the service is, by its datagram protocol. The nil
// notifier, for a process that nobody supervises, says nothing.
type notifier struct{ socket string }

func newNotifier(env []string) (*notifier, error) {
	for _, kv := range env {
		if socket, ok := strings.CutPrefix(kv, "NOTIFY_SOCKET="); ok && socket != "" {
			if socket[0] != '/' && socket[0] != '@' {
				return nil, fmt.Errorf("NOTIFY_SOCKET %q is neither a path nor an abstract name", socket)
			}
			return &notifier{socket}, nil
		}
	}
	return nil, nil
}

// send is best effort: a supervisor that cannot be reached must not stop the node.
func (n *notifier) send(state string) {
	if n == nil {
		return
	}
	conn, err := net.DialTimeout("unixgram", n.socket, time.Second)
	if err != nil {
		return
	}
	defer conn.Close() //nolint:errcheck // a datagram has left or has not
	_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
	_, _ = conn.Write([]byte(state))
}
