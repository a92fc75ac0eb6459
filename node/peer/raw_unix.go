//go:build unix

package peer

import (
	"errors"
	"net"
	"syscall"
)

// rawWriter writes to a socket without ever waiting, from an event loop that must not be parked.
type rawWriter interface {
	// tryWrite returns how much the socket took; a full socket is not an error.
	tryWrite(b []byte) (int, error)
}

type unixWriter struct{ rc syscall.RawConn }

func rawOf(c net.Conn) rawWriter {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return nil
	}
	rc, err := sc.SyscallConn()
	if err != nil {
		return nil
	}
	return unixWriter{rc}
}

func (w unixWriter) tryWrite(b []byte) (n int, err error) {
	cerr := w.rc.Write(func(fd uintptr) bool {
		for len(b) > n {
			var m int
			m, err = syscall.Write(int(fd), b[n:])
			if m > 0 {
				n += m
			}
			if errors.Is(err, syscall.EINTR) {
				continue
			}
			if errors.Is(err, syscall.EAGAIN) {
				err = nil
				return true
			}
			if err != nil {
				return true
			}
		}
		return true // never let the poller wait here
	})
	if err == nil {
		err = cerr
	}
	return n, err
}
