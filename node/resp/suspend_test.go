package resp

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"
)

// waiter suspends its sessions on "wait" and answers everything else.
type suspender struct {
	tickets chan Ticket
	gone    chan struct{}
	ran     atomic.Int32
}

func newSuspender() *suspender {
	return &suspender{tickets: make(chan Ticket, 8), gone: make(chan struct{}, 8)}
}

func (p *suspender) command(s *Session, w *Writer, args [][]byte) {
	if string(args[0]) == "wait" {
		t := s.Hold()
		s.Suspend(func() { p.gone <- struct{}{} })
		p.tickets <- t
		return
	}
	p.ran.Add(1)
	w.SimpleString(string(args[0]))
}

func TestASuspendedSessionExecutesNothingAndReadsOn(t *testing.T) {
	p := newSuspender()
	s := newSession(&funcs{command: p.command}, Limits{})
	feed := func(in string) {
		t.Helper()
		if err := s.Feed([]byte(in)); err != nil {
			t.Fatal(err)
		}
	}
	feed("a\nwait\nb\n")
	feed("c\n")
	if got := drain(s); got != "+a\r\n" || s.Stalled() || s.Paused() {
		t.Fatalf("%q, stalled %v, paused %v", got, s.Stalled(), s.Paused())
	}
	if n := p.ran.Load(); n != 1 {
		t.Fatalf("%d commands ran", n)
	}
	(<-p.tickets).Reply([]byte(":1\r\n"))
	if got := drain(s); got != ":1\r\n" || !s.Stalled() {
		t.Fatalf("%q, stalled %v", got, s.Stalled())
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if got := drain(s); got != "+b\r\n+c\r\n" {
		t.Fatalf("%q", got)
	}
	s.Finish()
	s.Close()
	if len(p.gone) > 0 {
		t.Error("gone was called for a session that was not suspended any more")
	}
}

func TestASuspendedSessionTellsOfItsEndOnce(t *testing.T) {
	p := newSuspender()
	s := newSession(&funcs{command: p.command}, Limits{})
	if err := s.Feed([]byte("wait\nwait\nb\n")); err != nil {
		t.Fatal(err)
	}
	s.Finish()
	if len(p.gone) != 1 || s.Done() {
		t.Fatalf("told %d times, done %v", len(p.gone), s.Done())
	}
	(<-p.tickets).Reply([]byte(":1\r\n"))
	if got := drain(s); got != ":1\r\n" {
		t.Fatalf("%q", got)
	}
	_ = s.Resume() // the second one waits after the end
	if len(p.gone) != 2 {
		t.Fatalf("told %d times", len(p.gone))
	}
	(<-p.tickets).Reply([]byte(":2\r\n"))
	got := drain(s)
	_ = s.Resume()
	if got += drain(s); got != ":2\r\n+b\r\n" || !s.Done() {
		t.Fatalf("%q, done %v", got, s.Done())
	}
	s.Close()
	if len(p.gone) != 2 {
		t.Errorf("told %d times", len(p.gone))
	}
}

func TestSuspendedClientsLeave(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		p := newSuspender()
		s := start(ServerOptions{Handler: &funcs{command: p.command}})
		conn := s.dial()
		if _, err := conn.Write([]byte("a\nwait\nb\n")); err != nil {
			t.Fatal(err)
		}
		first := <-p.tickets
		say(t, conn, "c\n", "+a\r\n")
		first.Reply([]byte(":1\r\n"))
		say(t, conn, "", ":1\r\n+b\r\n+c\r\n")
		if _, err := conn.Write([]byte("wait\n")); err != nil {
			t.Fatal(err)
		}
		second := <-p.tickets
		if half, ok := conn.(interface{ CloseWrite() error }); ok {
			if err := half.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			<-p.gone
			second.Reply([]byte(":2\r\n"))
			ended(t, conn, ":2\r\n")
		}
		conn = s.dial()
		if _, err := conn.Write([]byte("wait\n" + strings.Repeat("b\n", 1000))); err != nil {
			t.Fatal(err)
		}
		<-p.tickets
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0)
		}
		conn.Close()
		<-p.gone
	})
}
