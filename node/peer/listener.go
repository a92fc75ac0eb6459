package peer

import (
	"errors"
	"io"
	"net"
	"sync"
)

// queueListener is a net.Listener whose connections the mux hands over. A full queue refuses: whoever should accept
// is not keeping up, and waiting here would stop everybody else.
type queueListener struct {
	addr net.Addr
	ch   chan net.Conn
	done chan struct{}
	once sync.Once
}

func newQueueListener(addr net.Addr) *queueListener {
	return &queueListener{addr: addr, ch: make(chan net.Conn, 64), done: make(chan struct{})}
}

func (l *queueListener) offer(c net.Conn) {
	select {
	case <-l.done:
		_ = c.Close()
		return
	default:
	}
	select {
	case l.ch <- c:
	default:
		_ = c.Close()
		return
	}
	select {
	case <-l.done:
		l.clear() // Close may have looked before this connection was there
	default:
	}
}

// Accept implements net.Listener.
func (l *queueListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.ch:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener; connections that nobody accepted are closed.
func (l *queueListener) Close() error {
	l.once.Do(func() { close(l.done) })
	l.clear()
	return nil
}

func (l *queueListener) clear() {
	for {
		select {
		case c := <-l.ch:
			_ = c.Close()
		default:
			return
		}
	}
}

// Addr implements net.Listener.
func (l *queueListener) Addr() net.Addr { return l.addr }

// peekConn gives back the first byte that was read to tell the protocols apart.
type peekConn struct {
	net.Conn
	first byte
	held  bool
}

func (c *peekConn) peek() (byte, error) {
	var b [1]byte
	if _, err := io.ReadFull(c.Conn, b[:]); err != nil {
		return 0, err
	}
	c.first, c.held = b[0], true
	return c.first, nil
}

// Read implements net.Conn.
func (c *peekConn) Read(p []byte) (int, error) {
	if !c.held || len(p) == 0 {
		return c.Conn.Read(p)
	}
	p[0], c.held = c.first, false
	return 1, nil
}

// plain returns the connection itself once the first byte has been read again.
func (c *peekConn) plain() net.Conn {
	if c.held {
		return c
	}
	return c.Conn
}

func (c *peekConn) expectMagic() error {
	var b [len(magic)]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	if string(b[:]) != magic {
		return errors.New("not a node of this kind")
	}
	return nil
}
