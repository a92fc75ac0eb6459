package peer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// Class is a kind of traffic; each has connections of its own.
type Class uint8

// The classes of traffic between nodes.
const (
	Control Class = 1 + iota // heartbeats and calls: small, never queued behind data
	Replica                  // log records to followers, acknowledgements back
	Forward                  // client commands to a primary, replies back
	raftClass
	Bus // messages to subscribers and news of changed keys: what is lost is not sent again
)

const (
	headerSize = 5 // length of the body (uint32), type

	// maxFrame bounds one frame: the largest value Redis knows (512 MB) and its command around it.
	maxFrame = 640 << 20
	// MaxBody is the largest body of a frame. A stream is closed rather than sending a larger one.
	MaxBody = maxFrame
	// maxBuffered bounds what waits for a slow reader, beyond the largest frame and what is being written already. A
	// stream that passes it is closed: the other side catches up from the log when it is back, so that one slow node
	// can't take the others' memory.
	maxBuffered = 256 << 20
	// maxDirect is how much a Flush writes itself; more is left to the stream's writer, so that an event loop is not
	// kept busy for one reader.
	maxDirect = 1 << 20
	// keepBuffer is the largest buffer that a stream keeps between frames.
	keepBuffer = 1 << 20

	readBuffer   = 256 << 10 // the most that a stream's reader keeps; see reader
	writeTimeout = 10 * time.Second
	idleTimeout  = 20 * time.Second
)

// framePing keeps an idle stream within its read deadline. It is never given to a handler.
const framePing = 0

var errClosed = errors.New("stream is closed")

// Stream is one connection between two nodes. Sending is safe for concurrent use; frames are received by one
// goroutine, in order.
type Stream struct {
	// Peer is the node at the other end, as the handshake proved it.
	Peer Identity
	// Class is what the stream carries.
	Class Class
	// Outbound tells that this node dialed, so it sends requests and receives answers.
	Outbound bool
	// User belongs to the handler.
	User any

	bound, maxBody int // maxBuffered and MaxBody, but for tests

	conn  net.Conn
	raw   rawWriter // nil where the connection has no plain descriptor (TLS)
	wake  chan struct{}
	done  chan struct{}
	alive atomic.Bool

	mu      sync.Mutex
	buf     []byte // frames not yet handed to a write
	spare   []byte // the buffer written last, to be used again
	out     []byte // what a direct write left over; written before buf
	writing bool   // somebody is between taking buf and having written it
	start   int    // where the frame being built begins
	largest int    // of the frames in buf
	paced   int    // bytes of buf that don't count for maxBuffered
	err     error
	drained sync.Cond // told when buf was taken, and at the end
}

func newStream(c net.Conn, class Class, peer Identity, outbound bool) *Stream {
	s := &Stream{
		Peer: peer, Class: class, Outbound: outbound,
		bound: maxBuffered, maxBody: MaxBody,
		conn: c, raw: rawOf(c), wake: make(chan struct{}, 1), done: make(chan struct{}),
	}
	s.drained.L = &s.mu
	s.alive.Store(true)
	return s
}

// Begin starts a frame and returns the buffer to append its body to; End must follow, with nothing else in between.
// It holds the stream's lock until then. On a stream that is closed it returns false, and End must not be called.
func (s *Stream) Begin(typ byte) ([]byte, bool) {
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, false
	}
	s.start = len(s.buf)
	return append(s.buf, 0, 0, 0, 0, typ), true
}

// End finishes the frame begun by Begin. It leaves with the next Flush.
func (s *Stream) End(b []byte) { s.end(b, false) }

// EndPaced is End for frames that the sender sends only so many of until the reader has confirmed them, however slow
// it is. They don't count for the bound on what may wait.
func (s *Stream) EndPaced(b []byte) { s.end(b, true) }

func (s *Stream) end(b []byte, paced bool) {
	n := len(b) - s.start
	if n-headerSize > s.maxBody {
		s.mu.Unlock() // buf is as it was before Begin
		s.fail(fmt.Errorf("frame of %d bytes is above the limit of %d", n-headerSize, s.maxBody))
		return
	}
	binary.BigEndian.PutUint32(b[s.start:], uint32(n-headerSize))
	s.buf = b
	if paced {
		s.paced += n
	} else {
		s.largest = max(s.largest, n)
	}
	waiting := len(b) - s.paced - s.largest
	s.mu.Unlock()
	if waiting > s.bound {
		s.fail(fmt.Errorf("%s does not read: %d MiB are waiting", s.Peer.NodeID, waiting>>20))
	}
}

// Waiting is how many bytes are queued and not taken for a write yet.
func (s *Stream) Waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.buf)
}

// AwaitDrain waits until everything queued is on its way to the socket, or the stream has ended. A reader whose peer
// asks for more than it takes back stands still with it; the writer's deadline bounds that.
func (s *Stream) AwaitDrain() {
	s.Flush()
	s.mu.Lock()
	defer s.mu.Unlock()
	for len(s.buf) > 0 && s.err == nil {
		s.drained.Wait()
	}
}

// Send queues one frame and flushes.
func (s *Stream) Send(typ byte, body []byte) bool {
	b, ok := s.Begin(typ)
	if !ok {
		return false
	}
	s.End(append(b, body...))
	s.Flush()
	return true
}

// Flush starts writing what is queued. It never blocks: what the socket does not take at once is left to the stream's
// writer.
func (s *Stream) Flush() {
	s.mu.Lock()
	if s.writing || s.err != nil || len(s.buf) == 0 {
		s.mu.Unlock()
		return
	}
	// What an earlier write left over goes first, and only the writer has it.
	if s.raw == nil || len(s.out) > 0 || len(s.buf) > maxDirect {
		s.mu.Unlock()
		s.wakeWriter()
		return
	}
	s.writing = true
	b := s.takeLocked()
	s.mu.Unlock()

	n, err := s.raw.tryWrite(b)

	s.mu.Lock()
	if err == nil && n == len(b) && len(s.buf) == 0 {
		s.recycleLocked(b)
		s.writing = false
		s.mu.Unlock()
		return
	}
	if n < len(b) {
		s.out = append(s.out[:0:0], b[n:]...)
	}
	s.recycleLocked(b)
	s.writing = false
	s.mu.Unlock()
	if err != nil {
		s.fail(err)
		return
	}
	s.wakeWriter()
}

func (s *Stream) wakeWriter() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// takeLocked hands out what is queued and puts the spare buffer in its place.
func (s *Stream) takeLocked() []byte {
	b := s.buf
	s.buf, s.spare = s.spare[:0], nil
	s.largest, s.paced = 0, 0
	s.drained.Broadcast()
	return b
}

func (s *Stream) recycleLocked(b []byte) {
	if cap(b) <= keepBuffer {
		s.spare = b[:0]
	}
}

// writeLoop writes what direct writes left over. It is owned by the stream's reader, which ends it by closing.
func (s *Stream) writeLoop() {
	ping := time.NewTicker(idleTimeout / 4)
	defer ping.Stop()
	for {
		select {
		case <-s.done:
			return
		case <-s.wake:
		case <-ping.C:
			b, ok := s.Begin(framePing)
			if !ok {
				return
			}
			s.End(b)
		}
		if err := s.drain(); err != nil {
			s.fail(err)
			return
		}
	}
}

func (s *Stream) drain() error {
	for {
		s.mu.Lock()
		if s.writing || (len(s.out) == 0 && len(s.buf) == 0) {
			s.mu.Unlock()
			return nil // whoever writes now wakes this loop if anything is left
		}
		s.writing = true
		left := s.out
		s.out = nil
		b := s.takeLocked()
		s.mu.Unlock()

		err := s.write(left)
		if err == nil {
			err = s.write(b)
		}
		if err == nil {
			// A deadline left behind would fail a direct write long after.
			err = s.conn.SetWriteDeadline(time.Time{})
		}
		s.mu.Lock()
		s.recycleLocked(b)
		s.writing = false
		s.mu.Unlock()
		if err != nil {
			return err
		}
	}
}

func (s *Stream) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	// A deadline for every MiB, so that a large frame over a slow link is not taken for a dead peer.
	for len(b) > 0 {
		part := b[:min(len(b), 1<<20)]
		if err := s.conn.SetWriteDeadline(time.Now().Add(writeTimeout)); err != nil {
			return err
		}
		n, err := s.conn.Write(part)
		if err != nil {
			return err
		}
		b = b[n:]
	}
	return nil
}

// readLoop gives every frame to h until the connection ends, and returns why it ended.
func (s *Stream) readLoop(h Handler) error {
	br := newReader(s.conn)
	var large []byte
	open := false // frames handled since the last BatchEnd
	defer func() {
		if open { // what they began must be finished, whatever became of the connection
			h.BatchEnd(s)
		}
	}()
	for {
		if !frameBuffered(br) {
			if open {
				open = false
				h.BatchEnd(s)
			}
			if err := s.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
				return err
			}
		}
		if !s.alive.Load() {
			return errClosed // a handler closed it: what was read behind that frame must not be handled
		}
		head, err := br.peek(headerSize)
		if err != nil {
			return err
		}
		n := int(binary.BigEndian.Uint32(head))
		typ := head[4]
		if n > MaxBody {
			return fmt.Errorf("frame of %d bytes is above the limit of %d", n, MaxBody)
		}
		br.discard(headerSize)
		var body []byte
		if n <= readBuffer {
			if body, err = br.peek(n); err != nil {
				return err
			}
			open = open || typ != framePing
			h.frame(s, typ, body)
			br.discard(n)
		} else {
			if large, err = s.readLarge(br, large[:0], n); err != nil {
				return err
			}
			open = open || typ != framePing
			h.frame(s, typ, large)
			if cap(large) > keepBuffer {
				large = nil
			}
		}
	}
}

// readLarge grows the buffer as bytes arrive, never from the declared length alone.
func (s *Stream) readLarge(r io.Reader, b []byte, n int) ([]byte, error) {
	const step = 4 << 20
	for len(b) < n {
		part := min(step, n-len(b))
		b = append(b, make([]byte, part)...)
		if err := s.conn.SetReadDeadline(time.Now().Add(idleTimeout)); err != nil {
			return b, err
		}
		if _, err := io.ReadFull(r, b[len(b)-part:]); err != nil {
			return b, err
		}
	}
	return b, nil
}

func frameBuffered(br *reader) bool {
	if br.buffered() < headerSize {
		return false
	}
	head, err := br.peek(headerSize)
	return err == nil && br.buffered() >= headerSize+int(binary.BigEndian.Uint32(head))
}

func (s *Stream) fail(err error) {
	s.mu.Lock()
	if s.err == nil {
		s.err = err
		s.alive.Store(false)
		close(s.done)
		s.buf, s.spare, s.out = nil, nil, nil
		s.drained.Broadcast()
	}
	s.mu.Unlock()
	_ = s.conn.Close()
}

// Alive tells whether the stream still stands, as far as this side knows.
func (s *Stream) Alive() bool { return s.alive.Load() }

// Close ends the stream; its reader returns.
func (s *Stream) Close() { s.fail(errClosed) }
