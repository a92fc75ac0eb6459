package resp

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestPushesComeBehindTheRepliesOfCommandsThatHadBegun(t *testing.T) {
	var tickets []Ticket
	woken := 0
	s := NewSession(&funcs{command: func(s *Session, w *Writer, args [][]byte) {
		switch string(args[0]) {
		case "hold":
			tickets = append(tickets, s.Hold())
		case "self":
			s.Push([]byte("+pushed\r\n"))
			s.TakePushes()
			tickets = append(tickets, s.Hold())
		}
		w.SimpleString(string(args[0]))
	}}, Limits{}, ConnInfo{ID: 1}, func() { woken++ })
	feed := func(line string) {
		t.Helper()
		if err := s.Feed([]byte(line)); err != nil {
			t.Fatal(err)
		}
	}
	feed("a\nhold\n")
	s.Push([]byte("+push1\r\n"))
	s.Push([]byte("+push2\r\n"))
	if woken != 1 {
		t.Errorf("woken %d times for one queue", woken)
	}
	feed("b\n")
	if got := drain(s); got != "+a\r\n" {
		t.Errorf("before the held reply: %q", got)
	}
	tickets[0].Release()
	if got := drain(s); got != "+hold\r\n+push1\r\n+push2\r\n+b\r\n" {
		t.Errorf("after it: %q", got)
	}
	s.Push([]byte("+push3\r\n"))
	if got := drain(s); got != "+push3\r\n" {
		t.Errorf("a push with nothing else to say: %q", got)
	}
	feed("self\n")
	tickets[1].Reply([]byte("+replaced\r\n"))
	if got := drain(s); got != "+pushed\r\n+replaced\r\n" {
		t.Errorf("a command that pushes to its own connection: %q", got)
	}
}

func TestDiscardedRepliesLeaveNothingBehind(t *testing.T) {
	var tickets []Ticket
	s := newSession(&funcs{command: func(s *Session, w *Writer, args [][]byte) {
		if args[0][0] == 'h' {
			tickets = append(tickets, s.Hold())
		}
		w.SimpleString(string(args[0]))
		if len(args) > 1 {
			s.Discard()
		}
	}}, Limits{})
	if err := s.Feed([]byte("a\nb off\nh1 off\nc\nh2 off\nh3\nd off\n")); err != nil {
		t.Fatal(err)
	}
	tickets[0].Reply([]byte("+never\r\n"))
	tickets[1].Release()
	tickets[2].Release()
	if got := drain(s); got != "+a\r\n+c\r\n+h3\r\n" || s.Pending() != 0 {
		t.Errorf("%q, pending %d", got, s.Pending())
	}
}

func TestAClientThatTakesNoPushesIsClosed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		line := []byte("+" + strings.Repeat("x", 997) + "\r\n")
		l := Limits{MaxPush: 10000, MaxPushSoft: 3000, PushSoftTime: time.Minute}
		s := newSession(&funcs{}, l)
		n := 0
		for s.Push(line) {
			n++
		}
		if n != 10 || !s.Done() {
			t.Errorf("%d pushes were taken, done %t", n, s.Done())
		}
		s = newSession(&funcs{}, l)
		for range 5 {
			s.Push(line)
		}
		time.Sleep(59 * time.Second)
		if !s.Push(line) {
			t.Error("closed before its time above the soft limit was over")
		}
		drain(s)
		s.Push(line)
		time.Sleep(59 * time.Second)
		for range 4 {
			s.Push(line)
		}
		time.Sleep(61 * time.Second)
		if s.Push(line); !s.Done() {
			t.Error("not closed after a minute above the soft limit")
		}
		s = newSession(&funcs{}, l)
		for range 9 {
			s.Push(line)
		}
		s.Output() // taken, and not sent
		s.Push(line)
		if s.Push(line); !s.Done() {
			t.Error("what was taken and not sent does not count")
		}
	})
}
