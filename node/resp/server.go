package resp

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"runtime"
	"sync"
	"sync/atomic"
	"time"
)

// partingTime is how long a client whose protocol was refused may go on sending what nobody reads, in order to see the refusal.
const partingTime = 2 * time.Second

// ServerOptions configures a Server. Zero fields mean the default.
type ServerOptions struct {
	Addr     string       // host:port to listen on; port 0 takes a free one
	Listener net.Listener // instead of Addr: a listener of any kind, served by a goroutine per connection
	TLS      *tls.Config  // non-nil: every connection speaks TLS
	Handler  Handler
	Limits   Limits

	MaxClients       int           // open connections, default 10,000; more are told so and closed
	IdleTimeout      time.Duration // a client silent for so long, and owed nothing, is closed; 0 = never
	StrangerTimeout  time.Duration // a client that is restricted for so long, whatever it sends, is closed; default 1 min
	WriteTimeout     time.Duration // a client that takes nothing of its replies for so long is closed; default 30 s
	HandshakeTimeout time.Duration // for TLS; default 5 s
	Grace            time.Duration // how long Close waits for replies that are owed; default 1 s
	Loops            int           // event loops, default GOMAXPROCS; a loop serves many connections with one goroutine
	Logger           *slog.Logger  // nil = discard
}

// Server accepts connections and runs their sessions: plain TCP in event loops (on Linux), all others with a goroutine per
// connection. NewServer listens, Serve serves, once. Methods are safe for concurrent use.
type Server struct {
	opts     ServerOptions
	listener net.Listener
	log      *slog.Logger

	stopped context.Context // ends when the server is to stop
	cancel  context.CancelFunc
	started atomic.Bool
	done    chan struct{} // closed when Serve is over

	lastID    atomic.Uint64
	clients   atomic.Int64
	rejected  atomic.Uint64
	lastNoise atomic.Int64 // unix time of the last warning about a foreign protocol

	mu       sync.Mutex
	sessions map[uint64]*Session
}

// NewServer listens on o.Addr (or takes o.Listener), so that a port in use shows here.
func NewServer(o ServerOptions) (*Server, error) {
	if o.Handler == nil {
		return nil, errors.New("serve RESP: no handler")
	}
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	o.Limits = o.Limits.withDefaults()
	setDefault(&o.MaxClients, 10000)
	setDefault(&o.StrangerTimeout, time.Minute)
	setDefault(&o.WriteTimeout, 30*time.Second)
	setDefault(&o.HandshakeTimeout, 5*time.Second)
	setDefault(&o.Grace, time.Second)
	setDefault(&o.Loops, runtime.GOMAXPROCS(0))
	s := &Server{
		opts: o, listener: o.Listener, log: o.Logger,
		done:     make(chan struct{}),
		sessions: map[uint64]*Session{},
	}
	s.stopped, s.cancel = context.WithCancel(context.Background())
	if s.listener == nil {
		l, err := net.Listen("tcp", o.Addr)
		if err != nil {
			return nil, fmt.Errorf("serve RESP: %w", err)
		}
		s.listener = l
	}
	return s, nil
}

func setDefault[T int | time.Duration](field *T, value T) {
	if *field <= 0 {
		*field = value
	}
}

// Serve accepts and serves until ctx ends or Close is called; then it closes like Close and returns nil. It returns an
// error when accepting has become impossible. To be called once.
func (s *Server) Serve(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("serve RESP: served already")
	}
	defer close(s.done)
	forget := context.AfterFunc(ctx, s.halt)
	defer forget()
	if s.opts.Listener == nil && s.opts.TLS == nil {
		return s.servePlain()
	}
	return s.serveStreams()
}

// Addr returns the address that the server listens on.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// Close stops accepting, lets replies leave that are owed, for at most Grace, closes every connection and returns when
// Serve is over.
func (s *Server) Close() error {
	s.halt()
	if s.started.Load() {
		<-s.done
	}
	return nil
}

func (s *Server) halt() {
	s.cancel()
	s.listener.Close()
}

func (s *Server) stopping() bool { return s.stopped.Err() != nil }

// Clients returns the number of open connections.
func (s *Server) Clients() int { return int(s.clients.Load()) }

// Accepted returns how many connections there have been.
func (s *Server) Accepted() uint64 { return s.lastID.Load() }

// Rejected returns how many there were beyond MaxClients.
func (s *Server) Rejected() uint64 { return s.rejected.Load() }

// EachSession calls f for every open session until it returns false; one that was killed is open no more, even where its
// connection is about to be closed. f runs on the caller's goroutine: of the session it may use only what is safe from any (ID,
// addresses, Kill).
func (s *Server) EachSession(f func(*Session) bool) {
	s.mu.Lock()
	all := make([]*Session, 0, len(s.sessions))
	for _, session := range s.sessions {
		all = append(all, session)
	}
	s.mu.Unlock()
	for _, session := range all {
		if !session.killed.Load() && !f(session) {
			return
		}
	}
}

// Session returns the open session with this number, or nil.
func (s *Server) Session(id uint64) *Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.sessions[id]
}

const tooManyClients = "-ERR max number of clients reached\r\n"

// admit counts a new connection, or refuses it.
func (s *Server) admit() bool {
	if s.clients.Add(1) > int64(s.opts.MaxClients) {
		s.clients.Add(-1)
		s.rejected.Add(1)
		return false
	}
	return true
}

// opened registers a session of an admitted connection, closed forgets it.
func (s *Server) opened(session *Session) {
	s.mu.Lock()
	s.sessions[session.ID()] = session
	s.mu.Unlock()
}

func (s *Server) closed(session *Session) {
	s.mu.Lock()
	delete(s.sessions, session.ID())
	s.mu.Unlock()
	s.clients.Add(-1)
	session.Close()
	s.report(session)
}

// report logs why a session ended when it is worth an operator's attention.
func (s *Server) report(session *Session) {
	err := session.Err()
	if err == nil {
		return
	}
	if !errors.Is(err, ErrCrossProtocol) {
		s.log.Debug("client closed", "id", session.ID(), "remote", session.RemoteAddr(), "err", err)
		return
	}
	now := time.Now().Unix()
	if last := s.lastNoise.Load(); now-last >= 60 && s.lastNoise.CompareAndSwap(last, now) {
		s.log.Warn("HTTP on the RESP port: possible cross-protocol attack, connection closed", "remote", session.RemoteAddr())
	}
}

// acceptBackoff waits after a failed accept, longer each time in a row. It returns false when the server stops.
func (s *Server) acceptBackoff(failures int, err error) bool {
	if failures == 1 {
		s.log.Warn("accept failed, backing off", "err", err)
	}
	t := time.NewTimer(min(5*time.Millisecond<<min(failures-1, 10), time.Second))
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-s.stopped.Done():
		return false
	}
}
