package resp

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
)

func testLimits() Limits {
	return Limits{MaxArgs: 1000, MaxBulk: 1 << 16, MaxInline: 256, MaxQueryBuffer: 1 << 17}
}

// parsed is what a stream of bytes came to: its commands, and the protocol error that ended it.
func parsed(chunks ...string) (commands []string, failure string) {
	s := newSession(&funcs{command: func(_ *Session, w *Writer, args [][]byte) {
		commands = append(commands, fmt.Sprintf("%q", args))
	}}, testLimits())
	for _, c := range chunks {
		s.Feed([]byte(c))
	}
	return commands, drain(s)
}

func TestCommandsAreParsedAsRedisDoes(t *testing.T) {
	long := strings.Repeat("9", 300)
	for _, c := range []struct{ in, commands, failure string }{
		{"PING\r\n", `["PING"]`, ""},
		{"PING\n\r\n  \n", `["PING"]`, ""},
		{"*1\r\n$4\r\nPING\r\n*2\r\n$3\r\nGET\r\n$0\r\n\r\n", `["PING"] ["GET" ""]`, ""},
		{"*0\r\n*-1\r\n*-10\r\nx\n", `["x"]`, ""},
		{"*2\r\n$1\r\na\r\n$3\r\n\r\n\x00\r\n", `["a" "\r\n\x00"]`, ""},
		{"*1\r\n$4\r\nPI", "", ""},
		{`set "a b" 'c d' "\x41\n\"\q" 'it\'s\n'` + "\n", `["set" "a b" "c d" "A\n\"q" "it's\\n"]`, ""},
		{"a\"b\" ''\n", `["ab" ""]`, ""},
		{`"\xZZ" "\x4"` + "\n", `["xZZ" "x4"]`, ""},
		{"a \"b\n", "", "unbalanced quotes in request"},
		{"a \"b\"c\n", "", "unbalanced quotes in request"},
		{"a 'b'c\n", "", "unbalanced quotes in request"},
		{"a \"b\\\n", "", "unbalanced quotes in request"},
		{"*x\r\n", "", "invalid multibulk length"},
		{"*\r\n", "", "invalid multibulk length"},
		{"*+1\r\n", "", "invalid multibulk length"},
		{"*01\r\n", "", "invalid multibulk length"},
		{"*-0\r\n", "", "invalid multibulk length"},
		{"*1001\r\n", "", "invalid multibulk length"},
		{"*9223372036854775807\r\n", "", "invalid multibulk length"},
		{"*99999999999999999999\r\n", "", "invalid multibulk length"},
		{"*1\r\n$-1\r\n", "", "invalid bulk length"},
		{"*1\r\n$65537\r\n", "", "invalid bulk length"},
		{"*1\r\n$00\r\n", "", "invalid bulk length"},
		{"*1\r\n$9223372036854775807\r\n", "", "invalid bulk length"},
		{"*1\r\n:3\r\n", "", "expected '$', got ':'"},
		{"*1\r\n\r\n", "", "expected '$', got ' '"},
		{"*" + long, "", "too big mbulk count string"},
		{"*1\r\n$" + long, "", "too big bulk count string"},
		{long, "", "too big inline request"},
		{long + "\n", "", "too big inline request"},
		{"PING\n*x\r\nPING\n", `["PING"]`, "invalid multibulk length"},
	} {
		if c.failure != "" {
			c.failure = "-ERR Protocol error: " + c.failure + "\r\n"
		}
		commands, failure := parsed(c.in)
		if got := strings.Join(commands, " "); got != c.commands || failure != c.failure {
			t.Errorf("%q: got %s %q, want %s %q", c.in, got, failure, c.commands, c.failure)
		}
		commands, failure = parsed(strings.Split(c.in, "")...)
		if got := strings.Join(commands, " "); got != c.commands || failure != c.failure {
			t.Errorf("byte by byte %q: got %s %q, want %s %q", c.in, got, failure, c.commands, c.failure)
		}
	}
}

func TestUnauthenticatedClientsHaveSmallBounds(t *testing.T) {
	for in, want := range map[string]string{
		"*11\r\n":           "-ERR Protocol error: unauthenticated multibulk length\r\n",
		"*1\r\n$16385\r\n":  "-ERR Protocol error: unauthenticated bulk length\r\n",
		"*1\r\n$1\r\na\r\n": "+OK\r\n",
	} {
		s := newSession(&funcs{}, Limits{})
		s.Restrict(true)
		s.Feed([]byte(in))
		if got := drain(s); got != want {
			t.Errorf("%q: got %q, want %q", in, got, want)
		}
	}
}

func TestHTTPEndsTheSessionUnanswered(t *testing.T) {
	for _, in := range []string{"POST / HTTP/1.1\r\n", "host: x\r\n", "*1\r\n$4\r\npost\r\n"} {
		s := newSession(&funcs{}, Limits{})
		if err := s.Feed([]byte(in + "PING\r\n")); !errors.Is(err, ErrCrossProtocol) || !s.Done() || s.Pending() != 0 {
			t.Errorf("%q: err %v, done %v", in, err, s.Done())
		}
	}
}

func TestMemoryFollowsWhatArrivedNotWhatWasDeclared(t *testing.T) {
	s := newSession(&funcs{}, Limits{})
	s.Feed([]byte("*1000000\r\n$60000000\r\nabc"))
	if cap(s.in) > 4096 || cap(s.parser.spans) > 64 || cap(s.parser.args) > 64 {
		t.Fatalf("%d bytes, %d spans held", cap(s.in), cap(s.parser.spans))
	}
}

func TestLargeValuesGrowTheBufferAmortisedAndGiveItBack(t *testing.T) {
	const size = 32 << 20
	got := 0
	s := newSession(&funcs{command: func(_ *Session, w *Writer, args [][]byte) { got = len(args[1]); w.OK() }}, Limits{})
	s.Feed([]byte("*2\r\n$1\r\nx\r\n$" + strconv.Itoa(size) + "\r\n"))
	chunk := make([]byte, 64<<10)
	moves, last := 0, 0
	for range size / len(chunk) {
		s.Feed(chunk)
		if cap(s.in) != last {
			moves, last = moves+1, cap(s.in)
		}
	}
	s.Feed([]byte("\r\n"))
	if got != size || moves > 16 || cap(s.in) > keptBuffer || last > size+64 {
		t.Fatalf("got %d bytes in %d moves up to %d; %d kept", got, moves, last, cap(s.in))
	}
}

func TestTheQueryBufferIsBounded(t *testing.T) {
	s := newSession(&funcs{}, Limits{MaxBulk: 1 << 10, MaxQueryBuffer: 1})
	s.Feed([]byte("*1000\r\n"))
	var err error
	for range 1000 {
		if err = s.Feed([]byte("$1000\r\n" + strings.Repeat("x", 1000) + "\r\n")); err != nil {
			break
		}
	}
	if !errors.Is(err, ErrQueryBuffer) || !s.Done() {
		t.Fatal(err)
	}
}

// slowParse is the reference: it looks at the whole stream at once and takes no short cut.
func slowParse(in []byte, l Limits) (commands []string, failure string) {
	line := func(tooLong, invalid string) (n int, state string) {
		i := bytes.IndexByte(in, '\r')
		switch {
		case i > l.MaxInline || (i < 0 && len(in) > l.MaxInline):
			return 0, tooLong
		case i < 0 || i+1 >= len(in):
			return 0, "wait"
		case tooLong == "too big bulk count string" && in[0] != '$':
			return 0, "expected '$', got '" + string(in[:1]) + "'"
		}
		n, err := strconv.Atoi(string(in[1:i]))
		if err != nil || strconv.Itoa(n) != string(in[1:i]) || i > 19+1 {
			return 0, invalid
		}
		in = in[i+2:]
		return n, ""
	}
	for len(in) > 0 {
		if in[0] != '*' {
			i := bytes.IndexByte(in, '\n')
			if i > l.MaxInline || (i < 0 && len(in) > l.MaxInline) {
				return commands, "too big inline request"
			}
			if i < 0 {
				return commands, ""
			}
			p := parser{maxInline: l.MaxInline} // quoting has its own table test
			args, _, err := p.inline(in[:i+1])
			if err != nil {
				return commands, "unbalanced quotes in request"
			}
			if len(args) > 0 {
				commands = append(commands, fmt.Sprintf("%q", args))
			}
			in = in[i+1:]
			continue
		}
		count, state := line("too big mbulk count string", "invalid multibulk length")
		if state == "" && count > l.MaxArgs {
			state = "invalid multibulk length"
		}
		var args [][]byte
		for i := 0; state == "" && i < count; i++ {
			var n int
			if n, state = line("too big bulk count string", "invalid bulk length"); state != "" {
				break
			}
			if n < 0 || n > l.MaxBulk {
				state = "invalid bulk length"
			} else if len(in) < n+2 {
				state = "wait"
			} else {
				args, in = append(args, in[:n]), in[n+2:]
			}
		}
		if state == "wait" {
			return commands, ""
		}
		if state != "" {
			return commands, state
		}
		if count > 0 {
			commands = append(commands, fmt.Sprintf("%q", args))
		}
	}
	return commands, ""
}

func FuzzParserEqualsTheReferenceUnderAnyChunking(f *testing.F) {
	for _, seed := range []string{
		"*1\r\n$9223372036854775807\r\n", "*9223372036854775807\r\n", "*2\r\n$3\r\nGET\r\n$1\r\na\r\nPING\r\n",
		"set \"a\\x41\" 'b'\r\n", "*-1\r\n*0\r\n\r\n", "*1\r\n$x\r\n", "*1\r\nx\r\n", "*3\r\n$1\r\na\r\n$2\r\nbb\r\n$0\r\n\r\n",
		"*1\r\n$+1\r\n", "*1\r\n$-0\r\n", "*000000000001\r\n",
	} {
		for _, cut := range []uint64{0, 1, 3, 0xfeedbeef} {
			f.Add([]byte(seed), cut)
		}
	}
	f.Fuzz(func(t *testing.T, in []byte, cut uint64) {
		if len(in) > 1<<14 {
			return
		}
		want, failure := slowParse(in, testLimits())
		for i, c := range want {
			if l := strings.ToLower(c); strings.HasPrefix(l, `["post"`) || strings.HasPrefix(l, `["host:"`) {
				want, failure = want[:i], ""
				break
			}
		}
		if failure != "" {
			var w Writer
			w.Error("ERR Protocol error: " + failure)
			failure = string(w.Buf)
		}
		var chunks []string
		for rest := string(in); rest != ""; {
			cut = cut*6364136223846793005 + 1442695040888963407
			n := min(len(rest), int(cut>>60)+1)
			chunks, rest = append(chunks, rest[:n]), rest[n:]
		}
		for _, stream := range [][]string{chunks, {string(in)}} {
			got, gotFailure := parsed(stream...)
			if strings.Join(got, " ") != strings.Join(want, " ") || gotFailure != failure {
				t.Fatalf("%q: got %s %q, want %s %q", stream, got, gotFailure, want, failure)
			}
		}
	})
}

func FuzzSessionNeverPanics(f *testing.F) {
	f.Add([]byte("a\nhold\n*1\r\n$1\r\nb\r\n"), uint64(1))
	f.Add([]byte("*1\r\n$9223372036854775807\r\n"), uint64(2))
	f.Add([]byte("*9223372036854775807\r\n"), uint64(3))
	f.Fuzz(func(t *testing.T, in []byte, choice uint64) {
		var tickets []Ticket
		commands := 0
		s := newSession(&funcs{command: func(s *Session, w *Writer, args [][]byte) {
			if len(args[0])%2 == 0 {
				tickets = append(tickets, s.Hold())
			}
			w.Int(int64(commands))
			commands++
		}}, Limits{MaxHeld: 4, OutputChunk: 16, MaxOutput: 64, MaxInline: 128, MaxBulk: 1024, MaxArgs: 64})
		var out []byte
		for len(in) > 0 && !s.Done() {
			n := min(len(in), int(choice%7)+1)
			choice = choice*6364136223846793005 + 1442695040888963407
			s.Feed(in[:n])
			in = in[n:]
			for len(tickets) > 0 && (choice>>33&1 == 0 || s.Paused()) {
				i := int(choice>>40) % len(tickets)
				tickets[i].Release()
				tickets = append(tickets[:i], tickets[i+1:]...)
				b := s.Output()
				out = append(out, b...)
				s.Sent(len(b))
				s.Resume()
			}
		}
		for _, tk := range tickets {
			tk.Release()
		}
		out = append(out, drain(s)...)
		for want := range commands {
			line, rest, _ := bytes.Cut(out, []byte("\r\n"))
			if string(line) != ":"+strconv.Itoa(want) && !s.killed.Load() {
				t.Fatalf("reply %d is %q", want, line)
			}
			out = rest
		}
		s.Close()
	})
}
