package resp

import (
	"context"
	"crypto/tls"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// stream is a connection served by goroutines of its own: one reads and executes, one sends what tickets let leave. Both
// use the session under mu, which whoever writes to the socket keeps; so a client that does not read stops its own reader.
type stream struct {
	srv     *Server
	conn    net.Conn
	session atomic.Pointer[Session]
	woken   chan struct{} // capacity 1

	mu      sync.Mutex
	changed sync.Cond // after each write and each end
}

const (
	firstRead   = 4 << 10
	largestRead = 64 << 10
	writeAtOnce = 256 << 10 // bytes per write call: each has the whole write timeout
)

// serveStreams accepts from the listener and gives each connection its goroutines.
func (s *Server) serveStreams() error {
	var all sync.WaitGroup
	defer all.Wait()
	for failures := 0; ; {
		conn, err := s.listener.Accept()
		if err != nil {
			if s.stopping() {
				return nil
			}
			if errors.Is(err, net.ErrClosed) {
				s.halt()
				return err
			}
			failures++
			if !s.acceptBackoff(failures, err) {
				return nil
			}
			continue
		}
		failures = 0
		if !s.admit() {
			if s.opts.TLS == nil {
				_ = conn.SetWriteDeadline(time.Now().Add(time.Second))
				_, _ = io.WriteString(conn, tooManyClients)
			}
			conn.Close()
			continue
		}
		all.Go(func() { s.serveStream(conn) })
	}
}

// serveStream runs one admitted connection to its end.
func (s *Server) serveStream(conn net.Conn) {
	defer conn.Close()
	if s.opts.TLS != nil {
		secure := tls.Server(conn, s.opts.TLS)
		ctx, cancel := context.WithTimeout(context.Background(), s.opts.HandshakeTimeout)
		err := secure.HandshakeContext(ctx)
		cancel()
		if err != nil {
			s.clients.Add(-1)
			s.log.Debug("TLS handshake failed", "remote", conn.RemoteAddr().String(), "err", err)
			return
		}
		conn = secure
		defer func() { _ = secure.Close() }()
	}
	c := &stream{srv: s, conn: conn, woken: make(chan struct{}, 1)}
	c.changed.L = &c.mu
	session := NewSession(s.opts.Handler, s.opts.Limits, ConnInfo{
		ID:         s.lastID.Add(1),
		RemoteAddr: conn.RemoteAddr().String(),
		LocalAddr:  conn.LocalAddr().String(),
		TLS:        s.opts.TLS != nil,
	}, c.wake)
	c.session.Store(session)
	s.opened(session)
	finished := make(chan struct{})
	var sender sync.WaitGroup
	sender.Go(func() { c.send(finished) })
	c.receive(session)
	if session.Refused() {
		part(conn)
	}
	c.mu.Lock()
	s.closed(session)
	c.mu.Unlock()
	close(finished)
	sender.Wait()
}

// part closes our half, and reads on for a moment so that what was said last arrives.
func part(conn net.Conn) {
	half, ok := conn.(interface{ CloseWrite() error })
	if !ok || half.CloseWrite() != nil {
		return
	}
	_ = conn.SetReadDeadline(time.Now().Add(partingTime))
	_, _ = io.Copy(io.Discard, conn)
}

// wake is the session's: it tells the sender, and interrupts a blocked read or write of a killed session.
func (c *stream) wake() {
	select {
	case c.woken <- struct{}{}:
	default:
	}
	if session := c.session.Load(); session != nil && session.killed.Load() {
		_ = c.conn.SetDeadline(time.Unix(1, 0))
	}
}

// send lets settled replies leave, and ends the connection when the server stops.
func (c *stream) send(finished <-chan struct{}) {
	session, stop := c.session.Load(), c.srv.stopped.Done()
	var grace <-chan time.Time
	for {
		select {
		case <-finished:
			return
		case <-c.woken:
		case <-stop:
			stop = nil
			t := time.NewTimer(c.srv.opts.Grace)
			defer t.Stop()
			grace = t.C
			// Ends the reader's wait; it finishes the session and waits for what is owed.
			_ = c.conn.SetReadDeadline(time.Unix(1, 0))
		case <-grace:
			session.Kill()
		}
		c.mu.Lock()
		c.flush(session)
		c.changed.Broadcast()
		c.mu.Unlock()
	}
}

// receive reads and executes until the connection is over.
func (c *stream) receive(session *Session) {
	buf := make([]byte, firstRead)
	for {
		if !c.armRead(session) {
			c.finish(session)
			return
		}
		n, err := c.conn.Read(buf)
		c.mu.Lock()
		if n > 0 {
			_ = session.Feed(buf[:n])
			c.round()
		}
		for c.flush(session) && (session.Paused() || session.Stalled()) && !session.Done() {
			c.changed.Wait()
		}
		over := session.Done() || session.ending
		owed := session.overlapped || session.listening || session.Pending() > 0
		c.mu.Unlock()
		idle := errors.Is(err, os.ErrDeadlineExceeded) && owed && !c.srv.stopping() && !session.stranger(c.srv.opts.StrangerTimeout)
		if over || (err != nil && !idle) {
			c.finish(session)
			return
		}
		if n == len(buf) && n < largestRead {
			buf = make([]byte, 4*n)
		}
	}
}

// armRead sets the deadline for the next read; false means that there must be none.
func (c *stream) armRead(session *Session) bool {
	var deadline time.Time
	if c.srv.opts.IdleTimeout > 0 {
		deadline = time.Now().Add(c.srv.opts.IdleTimeout)
	}
	if session.parser.restricted {
		if end := session.restricted.Add(c.srv.opts.StrangerTimeout); deadline.IsZero() || end.Before(deadline) {
			deadline = end
		}
	}
	_ = c.conn.SetReadDeadline(deadline)
	// Looked at after the deadline is set: whoever kills or stops from here on sets a deadline of its own.
	return !session.killed.Load() && !c.srv.stopping()
}

// finish takes no more input and waits until what is owed has left.
func (c *stream) finish(session *Session) {
	c.mu.Lock()
	defer c.mu.Unlock()
	session.Finish()
	for c.flush(session) && !session.Done() {
		c.changed.Wait()
	}
}

// flush sends what may leave and goes on executing what had to wait for it. It returns false when the connection is
// broken. mu is held.
func (c *stream) flush(session *Session) bool {
	for !session.killed.Load() {
		out := session.Output()
		if len(out) == 0 {
			if !session.Stalled() || session.Paused() {
				return true
			}
			_ = session.Resume()
			c.round()
			continue
		}
		_ = c.conn.SetWriteDeadline(time.Now().Add(c.srv.opts.WriteTimeout))
		if session.killed.Load() {
			break
		}
		n, err := c.conn.Write(out[:min(len(out), writeAtOnce)])
		session.Sent(n)
		if err != nil {
			session.Kill()
		}
	}
	c.changed.Broadcast()
	return false
}

// round tells a RoundHandler that this connection's commands were executed.
func (c *stream) round() {
	if h, ok := c.srv.opts.Handler.(RoundHandler); ok {
		h.RoundEnd(-1)
	}
}
