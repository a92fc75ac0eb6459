package httpapi

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"golang.org/x/sync/semaphore"
)

// Bounds that are the same for every node.
const (
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 2 * time.Minute // a whole request, body included
	writeTimeout      = 2 * time.Minute
	idleTimeout       = 2 * time.Minute
	maxHeaderBytes    = 64 << 10 // a percent-encoded key has to fit
	commandTimeout    = 15 * time.Second
	adminTimeout      = 30 * time.Minute
	shutdownTimeout   = 10 * time.Second

	defaultMaxValue = 64 << 20
	defaultMaxConns = 1024
	// bodiesInFlight is how many bodies of the largest size may be in memory at
	// once; more wait. Without it a thousand uploads would need 64 GB.
	bodiesInFlight = 4
)

// Options are what a Server needs. Backend is required.
type Options struct {
	Addr     string       // host:port to listen on; port 0 takes a free one
	Listener net.Listener // used instead of Addr when set
	TLS      *tls.Config  // nil serves plain HTTP
	Backend  Backend
	Secret   []byte // bearer token of admin routes; nil: only this machine may use them
	Version  string
	// Hosts are names under which browsers may address this node, beside IP
	// addresses and localhost. Others are refused to browsers, because a name that
	// a stranger controls can be made to point here.
	Hosts    []string
	MaxValue int64 // largest value in bytes; 0 means 64 MiB
	MaxConns int   // 0 means 1024
	// Registry gets the node's metrics and is what /metrics shows; nil makes one.
	Registry *prometheus.Registry
	Logger   *slog.Logger // nil discards
}

// Server serves one listener. Its methods are safe for concurrent use.
type Server struct {
	opts    Options
	backend Backend
	log     *slog.Logger
	ln      net.Listener
	http    *http.Server
	bodies  *semaphore.Weighted
	metrics *metrics
	hosts   map[string]bool
}

// New listens at once, so that a port in use is an error here.
func New(o Options) (*Server, error) {
	if o.Logger == nil {
		o.Logger = slog.New(slog.DiscardHandler)
	}
	if o.MaxValue <= 0 {
		o.MaxValue = defaultMaxValue
	}
	if o.MaxConns <= 0 {
		o.MaxConns = defaultMaxConns
	}
	if o.Registry == nil {
		o.Registry = prometheus.NewRegistry()
	}
	s := &Server{opts: o, backend: o.Backend, log: o.Logger, bodies: semaphore.NewWeighted(bodiesInFlight * bodyRoom(o.MaxValue)), hosts: map[string]bool{}}
	for _, h := range o.Hosts {
		s.hosts[h] = true
	}
	var err error
	if s.metrics, err = newMetrics(o.Registry, o.Backend); err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	s.http = &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: readHeaderTimeout,
		ReadTimeout:       readTimeout,
		WriteTimeout:      writeTimeout,
		IdleTimeout:       idleTimeout,
		MaxHeaderBytes:    maxHeaderBytes,
		TLSConfig:         o.TLS,
		ErrorLog:          slog.NewLogLogger(o.Logger.Handler(), slog.LevelDebug),
	}
	if s.ln = o.Listener; s.ln == nil {
		if s.ln, err = net.Listen("tcp", o.Addr); err != nil {
			return nil, fmt.Errorf("listen for HTTP: %w", err)
		}
	}
	s.ln = &limitListener{Listener: s.ln, slots: make(chan struct{}, o.MaxConns), done: make(chan struct{})}
	return s, nil
}

// bodyRoom is the room that a body of a value of n bytes may take: JSON escapes and
// base64 make it longer.
func bodyRoom(n int64) int64 { return 2*n + 64<<10 }

// Addr is the address it listens on.
func (s *Server) Addr() string { return s.ln.Addr().String() }

// Handler is the whole API, for tests and for embedding.
func (s *Server) Handler() http.Handler { return s.http.Handler }

// Serve answers requests until ctx ends; then it stops listening, lets requests
// that are being served finish for up to ten seconds, and returns.
func (s *Server) Serve(ctx context.Context) error {
	served := make(chan error, 1)
	go func() {
		if s.opts.TLS != nil {
			served <- s.http.ServeTLS(s.ln, "", "")
			return
		}
		served <- s.http.Serve(s.ln)
	}()
	select {
	case err := <-served:
		if errors.Is(err, http.ErrServerClosed) {
			return nil
		}
		return fmt.Errorf("serve HTTP: %w", err)
	case <-ctx.Done():
	}
	grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTimeout)
	defer cancel()
	err := s.http.Shutdown(grace)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-served
	if err != nil {
		return fmt.Errorf("stop HTTP: %w", err)
	}
	return nil
}

// Close drops the listener and every connection at once.
func (s *Server) Close() error {
	return errors.Join(s.http.Close(), ignoreClosed(s.ln.Close()))
}

func ignoreClosed(err error) error {
	if errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// limitListener hands out a bounded number of connections; further ones wait in
// the kernel's queue.
type limitListener struct {
	net.Listener
	slots chan struct{}
	done  chan struct{}
	once  sync.Once
}

func (l *limitListener) Accept() (net.Conn, error) {
	select {
	case l.slots <- struct{}{}:
	case <-l.done:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.slots
		return nil, err
	}
	return &limitedConn{Conn: c, release: func() { <-l.slots }}, nil
}

func (l *limitListener) Close() error {
	l.once.Do(func() { close(l.done) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
