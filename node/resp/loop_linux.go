package resp

import (
	"fmt"
	"os"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"golang.org/x/sys/unix"
)

// loop serves many plain TCP connections from one goroutine with one epoll instance.
//
// It works in rounds: take the sockets that are ready, read each once into the loop's one read buffer and execute what
// came; then, once for all, RoundEnd; then send each session's replies with one write. A socket is read once per round,
// and a session executes at most one output chunk, so that no client starves the others.
type loop struct {
	linger bool // wait a moment before parking
	srv    *Server
	index  int
	rounds RoundHandler // nil when the handler does not care
	epfd   int
	poller *os.File // epfd, known to the runtime's poller
	wait   syscall.RawConn
	wakefd int // eventfd, edge-triggered and never read

	conns  []*loopConn // by file descriptor
	buf    []byte      // every read goes here
	spare  [][]byte    // output buffers without an owner
	round  []*loopConn // to be flushed at the end of this round
	again  []*loopConn // stalled: they go on in the next round
	events [256]unix.EpollEvent
	now    int64 // nanoseconds on a monotonic clock, once per round
	ending int64 // when to give up on what is owed; 0 = not stopping

	live     atomic.Int64 // connections, with those on their way
	sweepDue atomic.Bool
	sleeping atomic.Bool // the loop waits, or is about to: posting must interrupt it

	mu      sync.Mutex
	arrived []newcomer
	woken   []*loopConn
}

// newcomer is an accepted socket on its way to a loop.
type newcomer struct {
	fd   int
	info ConnInfo
}

// loopConn is one connection of a loop and touched by that loop only, but for wake.
type loopConn struct {
	loop     *loop
	fd       int
	session  *Session
	interest uint32 // what epoll watches
	blocked  bool   // the socket took no more; EPOLLOUT will tell
	eof      bool
	inRound  bool
	heard    int64 // when bytes last came
	progress int64 // when bytes last left, or waiting for that began
	parting  int64 // when to stop reading what a refused client still sends; 0 = it was not refused
}

const (
	readBuffer  = 128 << 10
	firstOutput = 4 << 10
	spareKept   = 64
	// writeLimit bounds one write call. It is a raw system call during which the garbage collector must wait.
	writeLimit = 512 << 10
)

func newLoop(srv *Server, index int) (*loop, error) {
	// With a loop on every processor, one that lingers would keep everything else waiting.
	l := &loop{srv: srv, index: index, buf: make([]byte, readBuffer), linger: srv.opts.Loops < runtime.GOMAXPROCS(0)}
	l.rounds, _ = srv.opts.Handler.(RoundHandler)
	var err error
	if l.epfd, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	if err := unix.SetNonblock(l.epfd, true); err != nil {
		unix.Close(l.epfd)
		return nil, fmt.Errorf("create epoll instance: %w", err)
	}
	l.poller = os.NewFile(uintptr(l.epfd), "epoll")
	if l.wait, err = l.poller.SyscallConn(); err != nil {
		l.poller.Close()
		return nil, fmt.Errorf("poll epoll instance: %w", err)
	}
	if l.wakefd, err = unix.Eventfd(0, unix.EFD_NONBLOCK|unix.EFD_CLOEXEC); err != nil {
		l.poller.Close()
		return nil, fmt.Errorf("create eventfd: %w", err)
	}
	event := unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLET, Fd: int32(l.wakefd)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, l.wakefd, &event); err != nil {
		l.release()
		return nil, fmt.Errorf("watch eventfd: %w", err)
	}
	return l, nil
}

// release closes the loop's own descriptors and the sockets that never reached it.
func (l *loop) release() {
	for _, n := range l.arrived {
		unix.Close(n.fd)
		l.srv.clients.Add(-1)
	}
	unix.Close(l.wakefd)
	l.poller.Close()
}

// adopt hands a new socket to the loop. Any goroutine.
func (l *loop) adopt(n newcomer) {
	l.mu.Lock()
	l.arrived = append(l.arrived, n)
	l.mu.Unlock()
	l.interrupt()
}

// wake is the session's: its head reply may leave, or it was killed. Any goroutine.
func (c *loopConn) wake() {
	l := c.loop
	l.mu.Lock()
	l.woken = append(l.woken, c)
	l.mu.Unlock()
	l.interrupt()
}

// interrupt ends the loop's wait. The loop announces that it is going to sleep and then looks for post once more; posting
// comes before looking whether it sleeps. So one of the two sees the other, and no system call is made for a busy loop.
func (l *loop) interrupt() {
	if l.sleeping.Load() && l.sleeping.CompareAndSwap(true, false) {
		one := [8]byte{1}
		_, _ = rawWrite(l.wakefd, one[:])
	}
}

func (l *loop) run() {
	start := time.Now()
	for {
		n := l.poll()
		l.now = int64(time.Since(start)) + 1
		for i := range l.events[:n] {
			l.handle(&l.events[i])
		}
		l.takePost()
		l.endRound()
		if l.sweepDue.Load() && l.sweepDue.CompareAndSwap(true, false) {
			l.sweep()
		}
		if l.ending != 0 && l.live.Load() == 0 {
			return
		}
	}
}

// poll returns the number of events, waiting for one when there is nothing else to do.
func (l *loop) poll() int {
	n := l.pollNow()
	if n > 0 || len(l.again) > 0 {
		return n
	}
	if !l.linger {
		runtime.Gosched()
	}
	l.sleeping.Store(true)
	defer l.sleeping.Store(false)
	l.mu.Lock()
	post := len(l.arrived) + len(l.woken)
	l.mu.Unlock()
	if post > 0 || l.sweepDue.Load() {
		return l.pollNow()
	}
	if l.linger {
		if n := l.pollFor(lingerTime); n > 0 {
			return n
		}
	}
	return l.block()
}

// lingerTime is how long a loop waits for the next event by itself before it parks. Clients that wait for each reply
// come back within it, and parking costs more than their command: a goroutine switch, a futex, a processor that looks
// for work. While it waits the loop keeps a processor that others might want, and a stop of the world waits for it.
const lingerTime = 100 * time.Microsecond

// pollFor waits up to d for an event without telling the scheduler.
func (l *loop) pollFor(d time.Duration) int {
	ts := unix.Timespec{Nsec: int64(d)}
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT2, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), uintptr(unsafe.Pointer(&ts)), 0, 0)
	if errno == unix.ENOSYS { // before Linux 5.11
		l.linger = false
	}
	if errno != 0 {
		return 0
	}
	return int(n)
}

// block waits for an event. The epoll instance is itself watched by the runtime's poller, so the goroutine parks and its
// processor goes on with other goroutines at once. A blocking epoll_wait would keep the processor until the runtime's
// monitor takes it away, which it does only every 20 µs to 10 ms.
func (l *loop) block() int {
	n := 0
	l.wait.Read(func(uintptr) bool {
		n = l.pollNow()
		return n > 0
	})
	return n
}

func (l *loop) pollNow() int {
	n, _, errno := unix.RawSyscall6(unix.SYS_EPOLL_PWAIT, uintptr(l.epfd),
		uintptr(unsafe.Pointer(&l.events[0])), uintptr(len(l.events)), 0, 0, 0)
	if errno != 0 {
		return 0
	}
	return int(n)
}

// handle serves one event.
func (l *loop) handle(event *unix.EpollEvent) {
	fd := int(event.Fd)
	if fd == l.wakefd || fd >= len(l.conns) {
		return
	}
	c := l.conns[fd]
	if c == nil {
		return
	}
	if event.Events&unix.EPOLLOUT != 0 {
		c.blocked = false
		l.enter(c)
	}
	switch {
	case event.Events&unix.EPOLLIN != 0 && c.interest&unix.EPOLLIN != 0:
		l.read(c)
	case event.Events&(unix.EPOLLERR|unix.EPOLLHUP) != 0:
		// Nobody is there any more to read or to send to.
		l.drop(c)
	}
}

// enter puts the connection into this round.
func (l *loop) enter(c *loopConn) {
	if !c.inRound {
		c.inRound = true
		l.round = append(l.round, c)
	}
}

// read reads once and executes.
func (l *loop) read(c *loopConn) {
	n, errno := rawRead(c.fd, l.buf)
	switch {
	case errno == unix.EAGAIN || errno == unix.EINTR:
		return
	case errno != 0 || c.parting != 0 && (n == 0 || l.now > c.parting):
		l.drop(c)
		return
	case c.parting != 0:
		return // to nobody
	case n == 0:
		c.eof = true
		c.session.Finish()
	default:
		c.heard = l.now
		l.lend(c)
		_ = c.session.Feed(l.buf[:n]) // its error shows in Done
	}
	l.enter(c)
}

func (l *loop) lend(c *loopConn) {
	if !c.session.lacksBuffer() {
		return
	}
	if last := len(l.spare) - 1; last >= 0 {
		c.session.lend(l.spare[last])
		l.spare = l.spare[:last]
		return
	}
	c.session.lend(make([]byte, 0, firstOutput))
}

// takePost handles what other goroutines left.
func (l *loop) takePost() {
	l.mu.Lock()
	if len(l.arrived)+len(l.woken) == 0 {
		l.mu.Unlock()
		return
	}
	arrived := l.arrived
	l.arrived = nil
	// The slice is walked under the lock, which costs wakers little, and then reused.
	for i, c := range l.woken {
		if c.fd >= 0 {
			l.enter(c)
		}
		l.woken[i] = nil
	}
	l.woken = l.woken[:0]
	l.mu.Unlock()
	for _, n := range arrived {
		l.open(n)
	}
}

// open starts the session of a new socket.
func (l *loop) open(n newcomer) {
	c := &loopConn{loop: l, fd: n.fd, heard: l.now, interest: unix.EPOLLIN}
	if l.ending != 0 {
		l.refuse(n)
		return
	}
	event := unix.EpollEvent{Events: c.interest, Fd: int32(n.fd)}
	if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, n.fd, &event); err != nil {
		l.srv.log.Warn("cannot watch a connection", "remote", n.info.RemoteAddr, "err", err)
		l.refuse(n)
		return
	}
	for len(l.conns) <= n.fd {
		l.conns = append(l.conns, nil)
	}
	l.conns[n.fd] = c
	n.info.Loop = l.index + 1
	c.session = NewSession(l.srv.opts.Handler, l.srv.opts.Limits, n.info, c.wake)
	l.srv.opened(c.session)
	l.enter(c)
}

func (l *loop) refuse(n newcomer) {
	unix.Close(n.fd)
	l.live.Add(-1)
	l.srv.clients.Add(-1)
}

// endRound executes what stalled, closes the round for the handler, and sends.
func (l *loop) endRound() {
	again := l.again
	l.again = l.again[len(l.again):]
	for _, c := range again {
		if c.fd >= 0 {
			l.lend(c)
			_ = c.session.Resume()
			l.enter(c)
		}
	}
	if len(l.round) == 0 {
		return
	}
	if l.rounds != nil {
		l.rounds.RoundEnd(l.index)
	}
	for i, c := range l.round {
		l.round[i] = nil
		c.inRound = false
		if c.fd >= 0 {
			l.flush(c)
		}
	}
	l.round = l.round[:0]
	if len(l.again) == 0 {
		l.again = again[:0]
	}
}

// flush sends what may leave, then decides what the connection waits for.
func (l *loop) flush(c *loopConn) {
	s := c.session
	for !c.blocked && !s.killed.Load() {
		out := s.Output()
		if len(out) == 0 {
			break
		}
		part := out[:min(len(out), writeLimit)]
		n, errno := rawWrite(c.fd, part)
		if errno == unix.EINTR {
			continue
		}
		if errno != 0 && errno != unix.EAGAIN {
			l.drop(c)
			return
		}
		c.progress = l.now
		s.Sent(max(n, 0))
		c.blocked = n < len(part)
	}
	if s.Done() {
		if s.Refused() && !c.eof {
			l.part(c)
			return
		}
		l.drop(c)
		return
	}
	if buf := s.reclaim(); cap(buf) > 0 && len(l.spare) < spareKept {
		l.spare = append(l.spare, buf)
	}
	var interest uint32
	switch {
	case s.Paused():
	case s.Stalled():
		l.again = append(l.again, c)
	case !c.eof && !s.ending:
		interest = unix.EPOLLIN
	}
	if c.blocked {
		interest |= unix.EPOLLOUT
	}
	if interest != c.interest {
		c.interest = interest
		event := unix.EpollEvent{Events: interest, Fd: int32(c.fd)}
		if err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, c.fd, &event); err != nil {
			l.drop(c)
		}
	}
}

// part has told a client why it is refused, and reads on for a moment so that the telling arrives.
func (l *loop) part(c *loopConn) {
	if c.parting != 0 {
		return
	}
	c.parting = l.now + int64(partingTime)
	c.interest = unix.EPOLLIN
	event := unix.EpollEvent{Events: c.interest, Fd: int32(c.fd)}
	if unix.Shutdown(c.fd, unix.SHUT_WR) != nil || unix.EpollCtl(l.epfd, unix.EPOLL_CTL_MOD, c.fd, &event) != nil {
		l.drop(c)
	}
}

// drop closes a connection. It may still be listed in the round or as woken; fd tells.
func (l *loop) drop(c *loopConn) {
	l.conns[c.fd] = nil
	unix.Close(c.fd)
	c.fd = -1
	l.live.Add(-1)
	l.srv.closed(c.session)
}

// sweep applies the deadlines, and begins or completes the end.
func (l *loop) sweep() {
	if l.ending == 0 && l.srv.stopping() {
		l.ending = l.now + int64(l.srv.opts.Grace)
		for _, c := range l.conns {
			if c != nil {
				c.session.Finish()
				l.flush(c)
			}
		}
	}
	idle, stuck := int64(l.srv.opts.IdleTimeout), int64(l.srv.opts.WriteTimeout)
	for _, c := range l.conns {
		switch {
		case c == nil:
		case l.ending != 0 && l.now >= l.ending, c.parting != 0 && l.now > c.parting:
			l.drop(c)
		case c.blocked && l.now-c.progress > stuck:
			l.drop(c)
		case c.session.stranger(l.srv.opts.StrangerTimeout):
			l.drop(c)
		case idle > 0 && l.now-c.heard > idle && !c.session.listening && !c.session.overlapped && c.session.Pending() == 0:
			l.drop(c)
		}
	}
}

// rawRead and rawWrite skip the scheduler's bookkeeping for system calls that may block: these sockets never do.
func rawRead(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_READ, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}

func rawWrite(fd int, p []byte) (int, syscall.Errno) {
	n, _, errno := unix.RawSyscall(unix.SYS_WRITE, uintptr(fd), uintptr(unsafe.Pointer(&p[0])), uintptr(len(p)))
	return int(n), errno
}
