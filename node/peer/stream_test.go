package peer

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// tcp returns two ends of a loopback connection.
func tcp(t testing.TB) (a, b net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if a, err = net.Dial("tcp", ln.Addr().String()); err != nil {
		t.Fatal(err)
	}
	if b, err = ln.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = a.Close(); _ = b.Close() })
	return a, b
}

func writing(t testing.TB, c net.Conn) *Stream {
	s := newStream(c, Replica, Identity{NodeID: "other"}, true)
	var wg sync.WaitGroup
	wg.Go(s.writeLoop)
	t.Cleanup(func() { s.Close(); wg.Wait() })
	return s
}

// Many senders flush at once against a small socket buffer, so that direct writes, leftovers and the writer take turns
// all the time: every sender's frames must arrive whole and in its order.
func TestFramesKeepTheirOrderUnderManySenders(t *testing.T) {
	const senders, each = 8, 2000
	a, b := tcp(t)
	_ = a.(*net.TCPConn).SetWriteBuffer(32 << 10)
	_ = b.(*net.TCPConn).SetReadBuffer(32 << 10)
	s := writing(t, a)
	r := newStream(b, Replica, Identity{}, false)
	var next [senders]uint32
	left, batches := senders*each, 0
	done := make(chan error, 1)
	go func() {
		done <- r.readLoop(Handler{
			frame: func(_ *Stream, typ byte, body []byte) {
				if typ == framePing {
					return
				}
				from, seq := body[0], binary.BigEndian.Uint32(body[1:])
				if int(from) >= senders || seq != next[from] || len(body) != 5+int(seq*37)%900 {
					t.Errorf("frame %d of sender %d with %d bytes, want %d", seq, from, len(body), next[from])
					r.Close()
					return
				}
				for _, c := range body[5:] {
					if c != byte(seq) {
						t.Errorf("frame %d of sender %d is damaged", seq, from)
						r.Close()
						return
					}
				}
				next[from]++
				if left--; left == 0 {
					r.Close()
				}
			},
			BatchEnd: func(*Stream) { batches++ },
		})
	}()
	var wg sync.WaitGroup
	for i := range senders {
		wg.Go(func() {
			rng := rand.New(rand.NewPCG(1, uint64(i)))
			for seq := range uint32(each) {
				buf, ok := s.Begin(3)
				if !ok {
					return
				}
				buf = binary.BigEndian.AppendUint32(append(buf, byte(i)), seq)
				s.End(append(buf, bytes.Repeat([]byte{byte(seq)}, int(seq*37)%900)...))
				if rng.IntN(3) > 0 {
					s.Flush()
				}
			}
			s.Flush()
		})
	}
	wg.Wait()
	<-done
	if left != 0 || batches == 0 {
		t.Errorf("%d frames did not arrive; %d batches", left, batches)
	}
}

// partial is a socket that takes a few bytes at a time, then none until somebody waits for it.
type partial struct {
	mu   sync.Mutex
	got  []byte
	take int
}

func (p *partial) tryWrite(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(p.take, len(b))
	p.got = append(p.got, b[:n]...)
	return n, nil
}

type partialConn struct {
	net.Conn
	p *partial
}

func (c partialConn) Write(b []byte) (int, error) {
	c.p.mu.Lock()
	defer c.p.mu.Unlock()
	c.p.got = append(c.p.got, b...)
	return len(b), nil
}
func (c partialConn) SetWriteDeadline(time.Time) error { return nil }
func (c partialConn) Close() error                     { return nil }

// What a direct write left over must leave before anything newer, also if the socket has room again before the writer
// runs.
func TestLeftoversGoFirst(t *testing.T) {
	p := &partial{take: 7}
	s := newStream(partialConn{p: p}, Replica, Identity{}, true)
	s.raw = p
	s.Send(1, []byte("first frame"))
	p.take = 1 << 20
	s.Send(2, []byte("second"))
	s.Send(3, []byte("third"))
	if err := s.drain(); err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x0b\x01first frame\x00\x00\x00\x06\x02second\x00\x00\x00\x05\x03third"
	if string(p.got) != want {
		t.Errorf("left as %q", p.got)
	}
}

func TestLargeFramesAndFramesAcrossBuffers(t *testing.T) {
	a, b := tcp(t)
	s := writing(t, a)
	r := newStream(b, Forward, Identity{}, false)
	sizes := []int{0, 1, readBuffer - headerSize, readBuffer - 1, readBuffer, readBuffer + 1, 3, 5 << 20, 9<<20 + 1, 2}
	got := make(chan error, 1)
	go func() {
		at := 0
		got <- r.readLoop(Handler{BatchEnd: func(*Stream) {}, frame: func(_ *Stream, typ byte, body []byte) {
			if typ == framePing {
				return
			}
			if len(body) != sizes[at] || int(typ) != at+1 || bytes.Count(body, []byte{typ}) != len(body) {
				t.Errorf("frame %d: type %d with %d bytes", at, typ, len(body))
			}
			if at++; at == len(sizes) {
				r.Close()
			}
		}})
	}()
	for i, n := range sizes {
		s.Send(byte(i+1), bytes.Repeat([]byte{byte(i + 1)}, n))
	}
	<-got
}

// trickle gives one byte per read, so that every frame lies across every edge.
type trickle struct {
	net.Conn
	r io.Reader
}

func (c trickle) Read(p []byte) (int, error)      { return c.r.Read(p[:min(len(p), 1)]) }
func (c trickle) SetReadDeadline(time.Time) error { return nil }
func (c trickle) Close() error                    { return nil }

func frame(typ byte, body string) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(body)))
	return append(append(b, typ), body...)
}

func TestReadingByteByByte(t *testing.T) {
	var in []byte
	for i := range 20 {
		in = append(in, frame(byte(i+1), fmt.Sprint("body ", i))...)
	}
	s := newStream(trickle{r: bytes.NewReader(in)}, Forward, Identity{}, false)
	var n, batches int
	_ = s.readLoop(Handler{BatchEnd: func(*Stream) { batches++ }, frame: func(_ *Stream, typ byte, body []byte) {
		if int(typ) != n+1 || string(body) != fmt.Sprint("body ", n) {
			t.Errorf("frame %d: type %d, %q", n, typ, body)
		}
		n++
	}})
	if n != 20 || batches != 20 {
		t.Errorf("%d frames in %d batches", n, batches)
	}
}

// What came behind a frame that made a handler close the stream must not be handled, and what was begun is finished.
func TestNothingIsHandledAfterClose(t *testing.T) {
	in := append(frame(1, "good"), append(frame(2, "bad"), frame(3, "behind")...)...)
	s := newStream(trickle{r: bytes.NewReader(in)}, Replica, Identity{}, false)
	s.conn = wholeConn{bytes.NewReader(in)}
	var seen []byte
	batches := 0
	_ = s.readLoop(Handler{BatchEnd: func(*Stream) { batches++ }, frame: func(s *Stream, typ byte, _ []byte) {
		seen = append(seen, typ)
		if typ == 2 {
			s.Close()
		}
	}})
	if string(seen) != "\x01\x02" || batches != 1 {
		t.Errorf("handled %v in %d batches", seen, batches)
	}
}

type wholeConn struct{ r io.Reader }

func (c wholeConn) Read(p []byte) (int, error)       { return c.r.Read(p) }
func (c wholeConn) Write(p []byte) (int, error)      { return len(p), nil }
func (c wholeConn) Close() error                     { return nil }
func (c wholeConn) LocalAddr() net.Addr              { return nil }
func (c wholeConn) RemoteAddr() net.Addr             { return nil }
func (c wholeConn) SetDeadline(time.Time) error      { return nil }
func (c wholeConn) SetReadDeadline(time.Time) error  { return nil }
func (c wholeConn) SetWriteDeadline(time.Time) error { return nil }

func TestFrameLimits(t *testing.T) {
	s := newStream(wholeConn{bytes.NewReader([]byte{0xff, 0xff, 0xff, 0xff, 1})}, Replica, Identity{}, false)
	if err := s.readLoop(Handler{BatchEnd: func(*Stream) {}, frame: func(*Stream, byte, []byte) { t.Error("handled") }}); err == nil {
		t.Error("a frame of 4 GiB was read")
	}
	// A declared length alone takes little memory.
	s = newStream(wholeConn{bytes.NewReader([]byte{0x20, 0, 0, 0, 1})}, Replica, Identity{}, false)
	if _, err := s.readLarge(s.conn, nil, 512<<20); err == nil {
		t.Error("read what was not there")
	}
	// A frame that no reader takes closes the stream before it is sent, so that lengths never wrap.
	out := newStream(wholeConn{}, Replica, Identity{}, true)
	out.maxBody = 1 << 10
	b, _ := out.Begin(1)
	out.End(append(b, make([]byte, 1<<10+1)...))
	if out.Alive() || len(out.buf) != 0 {
		t.Error("a frame above the limit was queued")
	}
}

// queue adds one frame of n bytes.
func queue(s *Stream, n int, end func([]byte)) {
	b, ok := s.Begin(1)
	if ok {
		end(append(b, make([]byte, n)...))
	}
}

func TestSlowReaderClosesAtTheBound(t *testing.T) {
	const piece, bound = 32 << 10, 256 << 10
	open := func() *Stream {
		s := newStream(wholeConn{}, Replica, Identity{NodeID: "slow"}, true)
		s.bound = bound
		return s
	}
	s := open()
	for range bound/piece + 1 { // one frame is not counted
		queue(s, piece-headerSize, s.End)
	}
	if !s.Alive() {
		t.Fatal("closed below the bound")
	}
	queue(s, 1, s.End)
	if s.Alive() {
		t.Error("open above the bound")
	}
	if _, ok := s.Begin(1); ok || s.Send(1, nil) {
		t.Error("a closed stream takes frames")
	}

	// A large frame does not make what follows it too much, nor do frames whose sender is paced.
	s = open()
	queue(s, bound+piece, s.End)
	queue(s, 1, s.End)
	if !s.Alive() {
		t.Error("a small frame behind a large one closed the stream")
	}
	s = open()
	for range bound/piece + 3 {
		queue(s, piece, s.EndPaced)
	}
	queue(s, 1, s.End)
	if !s.Alive() {
		t.Error("a snapshot closed the stream")
	}
}

func TestAwaitDrainHoldsTheReader(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		s := newStream(a, Forward, Identity{}, false)
		var wg sync.WaitGroup
		wg.Go(s.writeLoop)
		s.Send(1, []byte("in flight"))
		synctest.Wait() // the writer has taken it, and nobody reads
		s.Send(2, []byte("waits"))
		free := make(chan struct{})
		wg.Go(func() { s.AwaitDrain(); close(free) })
		synctest.Wait()
		select {
		case <-free:
			t.Error("did not wait")
		default:
		}
		buf := make([]byte, headerSize+len("in flight"))
		if _, err := io.ReadFull(b, buf); err != nil {
			t.Error(err)
		}
		<-free
		s.Send(3, nil)
		go s.AwaitDrain()
		s.Close() // frees whoever waits
		wg.Wait()
		_ = b.Close()
	})
}

// A stream on which nothing is said stays open by pings, and one whose other side is gone ends within its deadline.
func TestPingsKeepAnIdleStreamAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		frames := Handler{BatchEnd: func(*Stream) {}, frame: func(_ *Stream, typ byte, _ []byte) {
			if typ != framePing {
				t.Errorf("frame of type %d", typ)
			}
		}}
		left, right := newStream(a, Replica, Identity{}, true), newStream(b, Replica, Identity{}, false)
		var wg sync.WaitGroup
		for _, s := range []*Stream{left, right} {
			wg.Go(s.writeLoop)
			wg.Go(func() { s.fail(s.readLoop(frames)) })
		}
		<-time.After(10 * idleTimeout)
		if !left.Alive() || !right.Alive() {
			t.Error("an idle stream was closed")
		}
		left.Close()
		wg.Wait()

		a, b = net.Pipe()
		alone := newStream(a, Replica, Identity{}, true)
		began := time.Now()
		go func() { _, _ = io.Copy(io.Discard, b) }()
		wg.Go(alone.writeLoop)
		alone.fail(alone.readLoop(frames))
		if took := time.Since(began); took != idleTimeout {
			t.Errorf("silence was noticed after %v", took)
		}
		wg.Wait()
		_ = b.Close()
	})
}

func TestReaderThatStandsStillIsGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := net.Pipe()
		s := newStream(a, Replica, Identity{}, true)
		began := time.Now()
		s.Send(1, []byte("nobody reads this"))
		s.writeLoop()
		if took := time.Since(began); took != writeTimeout || s.Alive() {
			t.Errorf("given up after %v", took)
		}
		_ = b.Close()
	})
}

// The writer's deadline must not be left on the socket: a direct write long after would fail by it.
func TestWriterLeavesNoDeadline(t *testing.T) {
	c := &deadlines{}
	s := newStream(c, Replica, Identity{}, true)
	s.Send(1, []byte("x"))
	if err := s.drain(); err != nil || c.sets < 2 || !c.last.IsZero() {
		t.Errorf("after %d deadlines the last is %v: %v", c.sets, c.last, err)
	}
}

type deadlines struct {
	wholeConn
	sets int
	last time.Time
}

func (c *deadlines) SetWriteDeadline(at time.Time) error {
	c.sets++
	c.last = at
	return nil
}

func FuzzFrames(f *testing.F) {
	f.Add([]byte(nil), uint8(1))
	f.Add(append(frame(1, "abc"), frame(0, "")...), uint8(3))
	f.Add([]byte{0, 4, 0, 1, 1}, uint8(200))
	f.Fuzz(func(t *testing.T, in []byte, step uint8) {
		total := 0
		s := newStream(wholeConn{&chopped{in, int(step)}}, Replica, Identity{}, false)
		err := s.readLoop(Handler{BatchEnd: func(*Stream) {}, frame: func(_ *Stream, _ byte, body []byte) {
			total += headerSize + len(body)
		}})
		if err == nil || total > len(in) {
			t.Errorf("%d bytes of frames in %d, %v", total, len(in), err)
		}
	})
}

type chopped struct {
	b    []byte
	step int
}

func (c *chopped) Read(p []byte) (int, error) {
	if len(c.b) == 0 {
		return 0, io.EOF
	}
	n := copy(p[:min(len(p), max(c.step, 1))], c.b)
	c.b = c.b[n:]
	return n, nil
}

func BenchmarkSend(b *testing.B) {
	x, y := tcp(b)
	s := writing(b, x)
	go func() { _, _ = io.Copy(io.Discard, y) }()
	body := make([]byte, 64)
	b.ReportAllocs()
	for b.Loop() {
		for range 32 {
			buf, ok := s.Begin(1)
			if !ok {
				b.Fatal("closed")
			}
			s.End(append(buf, body...))
		}
		s.Flush()
	}
}
