package resp

import "testing"

// funcs is a Handler of function fields; nil ones do nothing.
type funcs struct {
	open     func(*Session)
	command  func(*Session, *Writer, [][]byte)
	batchEnd func(*Session)
	closed   func(*Session)
}

func (f *funcs) Open(s *Session) {
	if f.open != nil {
		f.open(s)
	}
}

func (f *funcs) Command(s *Session, w *Writer, args [][]byte) {
	if f.command != nil {
		f.command(s, w, args)
		return
	}
	w.OK()
}

func (f *funcs) BatchEnd(s *Session) {
	if f.batchEnd != nil {
		f.batchEnd(s)
	}
}

func (f *funcs) Closed(s *Session) {
	if f.closed != nil {
		f.closed(s)
	}
}

// echo answers with its first argument's bulk string.
func echo(_ *Session, w *Writer, args [][]byte) { w.Bulk(args[len(args)-1]) }

func drain(s *Session) string {
	var all []byte
	for {
		out := s.Output()
		if len(out) == 0 {
			return string(all)
		}
		all = append(all, out...)
		s.Sent(len(out))
	}
}

func newSession(h Handler, l Limits) *Session {
	return NewSession(h, l, ConnInfo{ID: 1}, func() {})
}

func TestRepliesLeaveInOrderWhileCommandsOverlap(t *testing.T) {
	var tickets []Ticket
	s := newSession(&funcs{command: func(s *Session, w *Writer, args [][]byte) {
		if string(args[0]) == "hold" {
			w.SimpleString("own")
			tickets = append(tickets, s.Hold())
			w.SimpleString("own2")
			return
		}
		w.SimpleString(string(args[0]))
	}}, Limits{})
	if err := s.Feed([]byte("a\nhold\nb\nhold\nc\nhold\nd\n")); err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct {
		settle func()
		want   string
	}{
		{func() {}, "+a\r\n"},
		{func() { tickets[2].Error("ERR no") }, ""},
		{func() { tickets[0].Release() }, "+own\r\n+own2\r\n+b\r\n"},
		{func() { tickets[0].Error("ERR twice") }, ""},
		{func() { tickets[1].Reply([]byte(":7\r\n")) }, ":7\r\n+c\r\n-ERR no\r\n+d\r\n"},
	} {
		step.settle()
		if got := drain(s); got != step.want {
			t.Fatalf("got %q, want %q", got, step.want)
		}
	}
	if s.overlapped || s.Pending() != 0 {
		t.Fatal("the session did not return to the direct path")
	}
}
