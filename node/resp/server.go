package resp

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"time"
)

// ServerOptions configures a Server.
type ServerOptions struct {
	Addr        string       // host:port to listen on; port 0 takes a free one
	Listener    net.Listener // instead of Addr: a listener of any kind, served by a goroutine per connection
	TLS         *tls.Config  // non-nil: every connection speaks TLS
	Handler     Handler
	Limits      Limits
	MaxClients  int           // open connections; 0 = 10,000
	IdleTimeout time.Duration // a client silent for so long is closed; 0 = never
	Loops       int           // event loops; 0 = GOMAXPROCS
	Logger      *slog.Logger  // nil = discard
}

// Server accepts connections and runs their sessions.
type Server struct{}

func NewServer(o ServerOptions) (*Server, error)    { return &Server{}, nil }
func (s *Server) Serve(ctx context.Context) error   { return nil }
func (s *Server) Addr() net.Addr                    { return nil }
func (s *Server) Close() error                      { return nil }
func (s *Server) EachSession(f func(*Session) bool) {}
