package resp

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// transports runs a test over the event loops and over a goroutine per connection, plain and with TLS.
func transports(t *testing.T, test func(t *testing.T, start func(ServerOptions) *server)) {
	for _, kind := range []string{"loop", "stream", "tls"} {
		t.Run(kind, func(t *testing.T) {
			test(t, func(o ServerOptions) *server { return startServer(t, kind, o) })
		})
	}
}

type server struct {
	*Server
	t    *testing.T
	tls  *tls.Config
	over chan error
}

func startServer(t *testing.T, kind string, o ServerOptions) *server {
	t.Helper()
	out := &server{t: t, over: make(chan error, 1)}
	switch kind {
	case "stream":
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		o.Listener = l
	case "tls":
		o.TLS, out.tls = certificates(t)
		o.Addr = "127.0.0.1:0"
	default:
		o.Addr = "127.0.0.1:0"
	}
	srv, err := NewServer(o)
	if err != nil {
		t.Fatal(err)
	}
	out.Server = srv
	go func() { out.over <- srv.Serve(context.Background()) }()
	t.Cleanup(func() {
		srv.Close()
		if err := <-out.over; err != nil {
			t.Errorf("serve: %v", err)
		}
		if n := srv.Clients(); n != 0 {
			t.Errorf("%d clients are still counted", n)
		}
	})
	return out
}

func certificates(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour),
		IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

// dial connects; every read and write of the test has a deadline.
func (s *server) dial() net.Conn {
	s.t.Helper()
	conn, err := net.Dial("tcp", s.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if s.tls != nil {
		config := s.tls.Clone()
		config.ServerName = "127.0.0.1"
		return tls.Client(conn, config)
	}
	return conn
}

func say(t *testing.T, conn net.Conn, in, want string) {
	t.Helper()
	if _, err := io.WriteString(conn, in); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if _, err := io.ReadFull(conn, got); err != nil || string(got) != want {
		t.Fatalf("%.60q: got %.60q (%v), want %.60q", in, got, err, want)
	}
}

func ended(t *testing.T, conn net.Conn, want string) {
	t.Helper()
	got, err := io.ReadAll(conn)
	if nerr, ok := err.(net.Error); ok && nerr.Timeout() {
		t.Fatal("the connection is still open")
	}
	if string(got) != want {
		t.Fatalf("last words %q, want %q", got, want)
	}
}

func TestClientsAreServedAndClosed(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		s := start(ServerOptions{Handler: &funcs{command: func(s *Session, w *Writer, args [][]byte) {
			switch string(args[0]) {
			case "quit":
				s.CloseAfterReply()
			case "kill":
				s.Kill()
			}
			echo(s, w, args)
		}}})
		conn := s.dial()
		say(t, conn, "*2\r\n$1\r\nx\r\n$3\r\nabc\r\nx y\r\n", "$3\r\nabc\r\n$1\r\ny\r\n")
		for _, c := range "*1\r\n$2\r\nok\r\n" {
			if _, err := io.WriteString(conn, string(c)); err != nil {
				t.Fatal(err)
			}
		}
		say(t, conn, "", "$2\r\nok\r\n")
		say(t, conn, "x 1\nquit\nx 2\n", "$1\r\n1\r\n")
		ended(t, conn, "$4\r\nquit\r\n")

		conn = s.dial()
		say(t, conn, "x 1\n", "$1\r\n1\r\n")
		io.WriteString(conn, "*x\r\n")
		ended(t, conn, "-ERR Protocol error: invalid multibulk length\r\n")

		conn = s.dial()
		io.WriteString(conn, "kill\nx 2\n")
		ended(t, conn, "")
	})
}

func TestLargeValuesPassBothWays(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		s := start(ServerOptions{Handler: &funcs{command: echo}})
		conn := s.dial()
		value := bytes.Repeat([]byte("0123456789abcdef"), 2<<20)
		go func() {
			fmt.Fprintf(conn, "*2\r\n$1\r\nx\r\n$%d\r\n%s\r\n", len(value), value)
			io.WriteString(conn, "x after\n")
		}()
		say(t, conn, "", "$"+strconv.Itoa(len(value))+"\r\n"+string(value)+"\r\n$5\r\nafter\r\n")
	})
}

func TestAClientThatIsStillSendingSeesWhyItIsRefused(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		s := start(ServerOptions{Handler: &funcs{command: echo}, Limits: Limits{MaxBulk: 1 << 20}})
		conn := s.dial()
		tooMuch := append([]byte("*2\r\n$1\r\nx\r\n$67108864\r\n"), make([]byte, 64<<20)...)
		if _, err := conn.Write(tooMuch); err != nil {
			t.Fatalf("the connection broke while sending: %v", err)
		}
		ended(t, conn, "-ERR Protocol error: invalid bulk length\r\n")
	})
}

func TestAPipelineOfLargeRepliesStaysBounded(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		value := bytes.Repeat([]byte("v"), 100<<10)
		var most int
		s := start(ServerOptions{Handler: &funcs{command: func(s *Session, w *Writer, args [][]byte) {
			w.Bulk(value)
			most = max(most, s.Pending())
		}}})
		conn := s.dial()
		const n = 1000
		if _, err := io.WriteString(conn, strings.Repeat("x\n", n)); err != nil {
			t.Fatal(err)
		}
		r := bufio.NewReader(conn)
		one := "$" + strconv.Itoa(len(value)) + "\r\n" + string(value) + "\r\n"
		got := make([]byte, len(one))
		for i := range n {
			if _, err := io.ReadFull(r, got); err != nil || string(got) != one {
				t.Fatal(i, err)
			}
		}
		s.Close()
		if limit := DefaultLimits().MaxOutput + 2*len(value); most > limit {
			t.Fatalf("%d bytes of output gathered, want at most %d", most, limit)
		}
	})
}

func TestHeldRepliesLeaveWhenSettled(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		h := &holder{}
		s := start(ServerOptions{Handler: &funcs{command: h.command}, Limits: Limits{MaxHeld: 20}})
		stop := make(chan struct{})
		var all sync.WaitGroup
		for i := range 3 {
			all.Go(func() {
				rng := newRand(i)
				for {
					select {
					case <-stop:
						return
					default:
						h.settleOne(rng)
					}
				}
			})
		}
		var clients sync.WaitGroup
		for range 4 {
			conn := s.dial()
			clients.Go(func() {
				var in, expected strings.Builder
				for i := range 2000 {
					fmt.Fprintf(&in, "%s %d\n", []string{"h", "h", "i"}[i%3], i)
					expected.WriteString(want(i, i%3 < 2))
				}
				go io.WriteString(conn, in.String())
				got := make([]byte, expected.Len())
				if _, err := io.ReadFull(conn, got); err != nil || string(got) != expected.String() {
					t.Errorf("wrong replies (%v)", err)
				}
			})
		}
		clients.Wait()
		close(stop)
		all.Wait()
	})
}

func TestTooManyClientsAreToldSo(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		s := start(ServerOptions{Handler: &funcs{command: echo}, MaxClients: 1})
		first := s.dial()
		say(t, first, "x\n", "$1\r\nx\r\n")
		second := s.dial()
		if s.tls != nil {
			if _, err := second.Read(make([]byte, 1)); err == nil {
				t.Fatal("served")
			}
		} else {
			ended(t, second, tooManyClients)
		}
		say(t, first, "x\n", "$1\r\nx\r\n")
		if n, all := s.Rejected(), s.Accepted(); n != 1 || all < 1 {
			t.Errorf("%d of %d connections were rejected", n, all)
		}
	})
}

func TestDeadlinesCloseIdleAndStuckClients(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		closed := make(chan error, 2)
		s := start(ServerOptions{
			Handler: &funcs{
				command: func(_ *Session, w *Writer, _ [][]byte) { w.Bulk(make([]byte, 20<<20)) },
				closed:  func(s *Session) { closed <- s.Err() },
			},
			IdleTimeout: 100 * time.Millisecond, WriteTimeout: 100 * time.Millisecond,
		})
		idle := s.dial()
		if s.tls != nil {
			idle.(*tls.Conn).Handshake()
		}
		ended(t, idle, "")
		<-closed
		stuck := s.dial() // asks for more than the sockets hold and never reads
		io.WriteString(stuck, "x\n")
		<-closed
	})
}

// A client that never says who it is does not keep its place by talking.
func TestADeadlineClosesClientsThatStayRestricted(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		s := start(ServerOptions{
			Handler: &funcs{
				open: func(s *Session) { s.Restrict(true) },
				command: func(s *Session, w *Writer, args [][]byte) {
					if string(args[0]) == "auth" {
						s.Restrict(false)
					}
					w.OK()
				},
			},
			StrangerTimeout: 200 * time.Millisecond,
		})
		known, stranger := s.dial(), s.dial()
		say(t, known, "auth\n", "+OK\r\n")
		_ = stranger.SetDeadline(time.Now().Add(30 * time.Second))
		began, replies := time.Now(), 0
		for reply := make([]byte, 5); ; replies++ {
			if _, err := io.WriteString(stranger, "x\n"); err != nil {
				break
			}
			if _, err := io.ReadFull(stranger, reply); err != nil {
				break
			}
		}
		if took := time.Since(began); took < 200*time.Millisecond || took > 20*time.Second || replies == 0 {
			t.Errorf("a stranger was closed after %v and %d replies", took, replies)
		}
		say(t, known, "x\n", "+OK\r\n")
	})
}

func TestHalfClosedClientsGetTheirReplies(t *testing.T) {
	for _, kind := range []string{"loop", "stream"} {
		t.Run(kind, func(t *testing.T) {
			h := &holder{}
			s := startServer(t, kind, ServerOptions{Handler: &funcs{command: h.command}})
			conn := s.dial()
			io.WriteString(conn, "h 1\ni 2\n")
			conn.(*net.TCPConn).CloseWrite()
			for rng := newRand(1); !h.settleOne(rng); {
				s.EachSession(func(*Session) bool { return true })
			}
			ended(t, conn, want(1, true)+want(2, false))
		})
	}
}

func TestKillFromOutsideAndCloseEndConnections(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		h := &holder{}
		s := start(ServerOptions{Handler: &funcs{command: h.command}, Grace: 50 * time.Millisecond})
		conn := s.dial()
		say(t, conn, "i 1\n", "+1\r\n")
		s.EachSession(func(session *Session) bool { session.Kill(); return true })
		s.EachSession(func(*Session) bool { t.Error("a killed session counts as open"); return true })
		ended(t, conn, "")

		idle, owed := s.dial(), s.dial()
		say(t, idle, "i 1\n", "+1\r\n")
		say(t, owed, "i 1\nh 2\n", "+1\r\n")
		s.Close()
		ended(t, idle, "")
		ended(t, owed, "")
	})
}

func TestHTTPIsLoggedOnce(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		var mu sync.Mutex
		var log bytes.Buffer
		s := start(ServerOptions{Handler: &funcs{}, Logger: slog.New(slog.NewTextHandler(lockedWriter{&mu, &log}, nil))})
		for range 3 {
			conn := s.dial()
			io.WriteString(conn, "POST / HTTP/1.1\r\nHost: x\r\n\r\n")
			ended(t, conn, "")
		}
		s.Close()
		mu.Lock()
		defer mu.Unlock()
		if n := strings.Count(log.String(), "cross-protocol"); n != 1 {
			t.Fatalf("logged %d times: %s", n, log.String())
		}
	})
}

type lockedWriter struct {
	mu *sync.Mutex
	w  io.Writer
}

func (l lockedWriter) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.w.Write(p)
}

// roundHandler notes how many commands were executed before each RoundEnd.
type roundHandler struct {
	funcs
	mu     sync.Mutex
	rounds int
}

func (h *roundHandler) RoundEnd(int) {
	h.mu.Lock()
	h.rounds++
	h.mu.Unlock()
}

func TestRoundsEndBeforeRepliesLeave(t *testing.T) {
	transports(t, func(t *testing.T, start func(ServerOptions) *server) {
		h := &roundHandler{}
		s := start(ServerOptions{Handler: h})
		conn := s.dial()
		for i := range 20 {
			say(t, conn, "x\n", "+OK\r\n")
			h.mu.Lock()
			if h.rounds <= i {
				t.Fatal("a reply left before its round's end")
			}
			h.mu.Unlock()
		}
	})
}

func TestAPortInUseShowsAtOnce(t *testing.T) {
	s := startServer(t, "loop", ServerOptions{Handler: &funcs{}})
	if _, err := NewServer(ServerOptions{Addr: s.Addr().String(), Handler: &funcs{}}); err == nil {
		t.Fatal("no error")
	}
}
