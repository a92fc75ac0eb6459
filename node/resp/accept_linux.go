package resp

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// servePlain serves plain TCP: this goroutine accepts and spreads the connections evenly over the event loops. One
// acceptor rather than SO_REUSEPORT, whose hash leaves one loop with most of a few dozen connections.
func (s *Server) servePlain() error {
	loops := make([]*loop, s.opts.Loops)
	for i := range loops {
		l, err := newLoop(s, i)
		if err != nil {
			for _, l := range loops[:i] {
				l.release()
			}
			s.halt()
			return err
		}
		loops[i] = l
	}
	var running sync.WaitGroup
	for _, l := range loops {
		running.Go(l.run)
	}
	over := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() { s.tick(loops, over) })
	err := s.accept(loops)
	s.halt()
	running.Wait()
	close(over)
	ticking.Wait()
	// Only now nobody posts to them any more.
	for _, l := range loops {
		l.release()
	}
	return err
}

// tick makes the loops look at their deadlines, and tells them of the end, until they are over.
func (s *Server) tick(loops []*loop, over <-chan struct{}) {
	t := time.NewTicker(s.tickEvery())
	defer t.Stop()
	stop := s.stopped.Done()
	for {
		select {
		case <-t.C:
		case <-stop:
			stop = nil
			t.Reset(max(time.Millisecond, s.opts.Grace/8))
		case <-over:
			return
		}
		for _, l := range loops {
			l.sweepDue.Store(true)
			l.interrupt()
		}
	}
}

// tickEvery is a quarter of the shortest deadline, within reason.
func (s *Server) tickEvery() time.Duration {
	shortest := min(s.opts.WriteTimeout, s.opts.StrangerTimeout)
	if s.opts.IdleTimeout > 0 {
		shortest = min(shortest, s.opts.IdleTimeout)
	}
	return max(5*time.Millisecond, min(time.Second, shortest/4))
}

// accept takes connections from the listening socket until the server stops.
func (s *Server) accept(loops []*loop) error {
	listener, ok := s.listener.(*net.TCPListener)
	if !ok {
		return errors.New("serve RESP: the listener has no socket")
	}
	// A second descriptor of the same socket: unlike the listener it lets us call accept4 ourselves, so that the new
	// sockets never become known to the runtime's poller.
	socket, err := listener.File()
	if s.stopping() {
		if err == nil {
			socket.Close()
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("serve RESP: %w", err)
	}
	defer context.AfterFunc(s.stopped, func() { socket.Close() })()
	defer socket.Close()
	raw, err := socket.SyscallConn()
	if err != nil {
		return fmt.Errorf("serve RESP: %w", err)
	}
	for failures := 0; ; {
		var fd int
		var peer unix.Sockaddr
		var failed error
		// The runtime's poller waits for the listening socket; accept4 itself never blocks.
		err := raw.Read(func(lfd uintptr) bool {
			fd, peer, failed = unix.Accept4(int(lfd), unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
			return failed != unix.EAGAIN
		})
		switch {
		case s.stopping():
			if err == nil && failed == nil {
				unix.Close(fd)
			}
			return nil
		case err != nil:
			return err
		case failed == unix.EINTR || failed == unix.ECONNABORTED:
		case failed != nil:
			// Out of descriptors or memory: the connection stays in the backlog, so trying at once would spin.
			failures++
			if !s.acceptBackoff(failures, failed) {
				return nil
			}
		default:
			failures = 0
			s.welcome(fd, peer, loops)
		}
	}
}

// welcome gives a new socket to the loop with the fewest, or turns it away.
func (s *Server) welcome(fd int, peer unix.Sockaddr, loops []*loop) {
	if !s.admit() {
		_, _ = unix.Write(fd, []byte(tooManyClients))
		unix.Close(fd)
		return
	}
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1)
	unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, 300)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, 100)
	unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_KEEPCNT, 3)
	local, _ := unix.Getsockname(fd)
	least := loops[0]
	for _, l := range loops[1:] {
		if l.live.Load() < least.live.Load() {
			least = l
		}
	}
	least.live.Add(1)
	least.adopt(newcomer{fd: fd, info: ConnInfo{
		ID:         s.lastID.Add(1),
		RemoteAddr: hostPort(peer),
		LocalAddr:  hostPort(local),
	}})
}

func hostPort(sa unix.Sockaddr) string {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)).String()
	case *unix.SockaddrInet6:
		addr := netip.AddrFrom16(sa.Addr).Unmap()
		if sa.ZoneId != 0 && addr.Is6() {
			if zone, err := net.InterfaceByIndex(int(sa.ZoneId)); err == nil {
				addr = addr.WithZone(zone.Name)
			}
		}
		return netip.AddrPortFrom(addr, uint16(sa.Port)).String()
	}
	return ""
}
