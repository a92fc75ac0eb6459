//go:build !unix

package peer

import "net"

type rawWriter interface {
	tryWrite(b []byte) (int, error)
}

func rawOf(net.Conn) rawWriter { return nil }
