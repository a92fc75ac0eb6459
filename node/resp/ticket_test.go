package resp

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
)

// holder holds the commands "h n" and answers all with n; others settle its tickets.
type holder struct {
	mu      sync.Mutex
	tickets []heldReply
}

type heldReply struct {
	Ticket
	value string
}

func (h *holder) command(s *Session, w *Writer, args [][]byte) {
	if string(args[0]) == "h" {
		t := s.Hold()
		h.mu.Lock()
		h.tickets = append(h.tickets, heldReply{t, string(args[1])})
		h.mu.Unlock()
		if len(args[1])%2 == 0 {
			w.SimpleString("released" + string(args[1]))
			return
		}
	}
	w.SimpleString(string(args[1]))
}

// settleOne settles a random ticket and reports whether there was one.
func (h *holder) settleOne(rng *rand.Rand) bool {
	h.mu.Lock()
	if len(h.tickets) == 0 {
		h.mu.Unlock()
		return false
	}
	i := rng.IntN(len(h.tickets))
	t := h.tickets[i]
	h.tickets[i] = h.tickets[len(h.tickets)-1]
	h.tickets = h.tickets[:len(h.tickets)-1]
	h.mu.Unlock()
	if len(t.value)%2 == 0 {
		t.Release()
	} else {
		t.Reply([]byte("+replied" + t.value + "\r\n"))
	}
	t.Error("ERR settled twice")
	return true
}

func want(i int, held bool) string {
	v := strconv.Itoa(i)
	switch {
	case held && len(v)%2 == 0:
		return "+released" + v + "\r\n"
	case held:
		return "+replied" + v + "\r\n"
	}
	return "+" + v + "\r\n"
}

// TestManyGoroutinesSettleInAnyOrder runs a transport in small: one goroutine feeds and sends, woken by the session alone,
// while others settle. synctest fails it when a wake is lost: everybody sleeps then.
func TestManyGoroutinesSettleInAnyOrder(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const commands, settlers = 5000, 6
		h := &holder{}
		wakes := make(chan struct{}, 1)
		s := NewSession(&funcs{command: h.command}, Limits{MaxHeld: 37, OutputChunk: 100, MaxOutput: 1000}, ConnInfo{}, func() {
			select {
			case wakes <- struct{}{}:
			default:
			}
		})
		rng := rand.New(rand.NewPCG(1, 2))
		var in, expected strings.Builder
		for i := range commands {
			held := rng.IntN(3) > 0
			fmt.Fprintf(&in, "%s %d\n", map[bool]string{true: "h", false: "i"}[held], i)
			expected.WriteString(want(i, held))
		}
		stop := make(chan struct{})
		work := make(chan struct{}, commands)
		var all sync.WaitGroup
		for i := range settlers {
			all.Go(func() {
				rng := rand.New(rand.NewPCG(uint64(i), 3))
				for {
					select {
					case <-stop:
						return
					case <-work:
						h.settleOne(rng)
					}
				}
			})
		}
		var got bytes.Buffer
		rest := []byte(in.String())
		told := 0
		for got.Len() < expected.Len() {
			if len(rest) > 0 && !s.Stalled() && !s.Paused() {
				n := min(len(rest), rng.IntN(300)+1)
				s.Feed(rest[:n])
				rest = rest[n:]
			}
			h.mu.Lock()
			for n := len(h.tickets); told < n; told++ {
				work <- struct{}{}
			}
			told = 0
			h.mu.Unlock()
			out := s.Output()
			n := min(len(out), rng.IntN(200)+1)
			got.Write(out[:n])
			s.Sent(n)
			s.Resume()
			// Before it sleeps a transport looks at Output once more: Resume may have held replies.
			if len(s.Output()) == 0 && (len(rest) == 0 || s.Paused()) && got.Len() < expected.Len() {
				h.mu.Lock()
				for range h.tickets {
					work <- struct{}{}
				}
				h.mu.Unlock()
				<-wakes
			}
		}
		close(stop)
		all.Wait()
		if got.String() != expected.String() {
			t.Fatal("the replies are not in order")
		}
		if s.overlapped || !s.Idle() {
			t.Fatal("the session is not back on the direct path")
		}
	})
}

func TestTooManyHeldRepliesPauseTheSession(t *testing.T) {
	h := &holder{}
	s := newSession(&funcs{command: h.command}, Limits{MaxHeld: 3})
	s.Feed([]byte("h 1\nh 2\nh 3\nh 4\ni 5\n"))
	if !s.Paused() || !s.Stalled() || len(h.tickets) != 3 {
		t.Fatalf("paused %v with %d tickets", s.Paused(), len(h.tickets))
	}
	h.tickets[0].Release()
	out := drain(s)
	s.Resume()
	if len(h.tickets) != 4 || !s.Paused() {
		t.Fatalf("%d tickets after one was settled, output %q", len(h.tickets), out)
	}
	for _, tk := range h.tickets[1:] {
		tk.Release()
	}
	drain(s)
	s.Resume()
	if got := drain(s); got != "+5\r\n" || s.Paused() || s.Stalled() {
		t.Fatalf("got %q", got)
	}
}

func TestUnsentOutputPausesAndAtLastCloses(t *testing.T) {
	s := newSession(&funcs{command: func(_ *Session, w *Writer, _ [][]byte) { w.Bulk(make([]byte, 100)) }},
		Limits{OutputChunk: 150, MaxOutput: 400, MaxOutputHard: 1000})
	in := strings.Repeat("x\n", 20)
	s.Feed([]byte(in))
	if s.Pending() > 400 || !s.Stalled() || s.Paused() {
		t.Fatalf("a chunk of %d", s.Pending())
	}
	for range 5 {
		s.Resume()
	}
	if !s.Paused() || s.Pending() > 600 {
		t.Fatalf("%d pending", s.Pending())
	}
	total := 0
	for !s.Idle() {
		total += len(drain(s))
		s.Resume()
	}
	if total != 20*len("$100\r\n\r\n")+20*100 {
		t.Fatalf("%d bytes of replies", total)
	}

	s = newSession(&funcs{command: func(_ *Session, w *Writer, _ [][]byte) { w.Bulk(make([]byte, 2000)) }},
		Limits{MaxOutput: 400, MaxOutputHard: 1000})
	if err := s.Feed([]byte("x\n")); err == nil || !s.Done() {
		t.Fatal("the hard limit does not close")
	}
}

func TestCloseAfterReplyWaitsForWhatIsHeld(t *testing.T) {
	h := &holder{}
	s := newSession(&funcs{command: func(s *Session, w *Writer, args [][]byte) {
		if string(args[0]) == "quit" {
			s.CloseAfterReply()
			w.OK()
			return
		}
		h.command(s, w, args)
	}}, Limits{})
	s.Feed([]byte("h 11\nquit\ni 1\n"))
	if s.Done() {
		t.Fatal("done before the held reply left")
	}
	h.tickets[0].Release()
	if got := drain(s); got != "+released11\r\n+OK\r\n" || !s.Done() {
		t.Fatalf("got %q, done %v", got, s.Done())
	}
}

func TestTicketsAreHarmlessAfterTheEnd(t *testing.T) {
	h := &holder{}
	closed := 0
	s := newSession(&funcs{command: h.command, closed: func(*Session) { closed++ }}, Limits{})
	s.Feed([]byte("h 1\nh 2\n"))
	s.Close()
	s.Close()
	h.tickets[0].Release()
	h.tickets[1].Error("ERR late")
	Ticket{}.Release()
	if closed != 1 || !s.Done() && s.Pending() != 0 {
		t.Fatalf("closed %d times", closed)
	}
}

func TestBatchEndComesOncePerFeedAfterItsCommands(t *testing.T) {
	var log []string
	s := newSession(&funcs{
		command:  func(_ *Session, _ *Writer, args [][]byte) { log = append(log, string(args[0])) },
		batchEnd: func(*Session) { log = append(log, "end") },
	}, Limits{})
	for _, p := range []string{"a\nb\nc", "", "\n", "\n", "*1\r\n"} {
		s.Feed([]byte(p))
	}
	if got := strings.Join(log, " "); got != "a b end c end" {
		t.Fatal(got)
	}
}

func TestSteadyStateDoesNotAllocate(t *testing.T) {
	var tickets []Ticket
	s := newSession(&funcs{command: func(s *Session, w *Writer, args [][]byte) {
		if args[0][0] == 'h' {
			tickets = append(tickets, s.Hold())
		}
		w.Bulk(args[1])
	}}, Limits{})
	reply, end := []byte("+replaced\r\n"), []byte("\n")
	for name, in := range map[string]string{
		"direct": strings.Repeat("*2\r\n$1\r\nd\r\n$3\r\nabc\r\n", 50),
		"held":   strings.Repeat("*2\r\n$1\r\nh\r\n$3\r\nabc\r\n*2\r\n$1\r\nd\r\n$3\r\nabc\r\n", 50),
		"inline": strings.Repeat("d 'a b'\n", 50),
		"torn":   strings.Repeat("*2\r\n$1\r\nd\r\n$3\r\nabc\r\n", 50) + "*2\r\n$1\r\nd\r\n$0\r\n\r",
	} {
		p := []byte(in)
		once := func() {
			s.Feed(p)
			for i, tk := range tickets {
				if i%2 == 0 {
					tk.Release()
				} else {
					tk.Reply(reply)
				}
			}
			tickets = tickets[:0]
			s.Sent(len(s.Output()))
			if name == "torn" {
				s.Feed(end)
				s.Sent(len(s.Output()))
			}
		}
		for range 3 {
			once()
		}
		if n := testing.AllocsPerRun(100, once); n > 0 {
			t.Errorf("%s: %v allocations per batch", name, n)
		}
	}
}

func newRand(seed int) *rand.Rand { return rand.New(rand.NewPCG(uint64(seed), 1)) }
