package cloud

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/pulumi/pulumi/sdk/v3/go/common/resource"
	pulumirpc "github.com/pulumi/pulumi/sdk/v3/proto/go"
	"google.golang.org/grpc"
	"google.golang.org/grpc/stats"
)

// Server serves one provider until it is closed.
type Server struct {
	grpc   *grpc.Server
	cancel context.CancelFunc
	done   chan error
}

// maxMessage is what the CLI allows its plugins, 400 MiB.
const maxMessage = 400 << 20

// Serve answers the Pulumi CLI on l, which it closes in the end. A nil log says nothing.
func Serve(p *Provider, l net.Listener, log *slog.Logger) (*Server, error) {
	if p.Name == "" {
		return nil, errors.New("serve provider: it has no name")
	}
	for token := range p.Kinds {
		if _, ok := p.Shapes.Resources[token]; !ok {
			return nil, fmt.Errorf("serve provider %s: the published SDK has no resource type %s%s",
				p.Name, token, meant(token, maps.Keys(p.Shapes.Resources)))
		}
	}
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &Server{cancel: cancel, done: make(chan error, 1)}
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(maxMessage), grpc.MaxSendMsgSize(maxMessage),
		grpc.StatsHandler(tagConnections{}))
	pulumirpc.RegisterResourceProviderServer(s.grpc, &provider{p: p, log: log, ctx: ctx})
	go func() { s.done <- s.grpc.Serve(l) }()
	return s, nil
}

// Close ends calls under way and waits until the server is gone.
func (s *Server) Close() {
	s.cancel()
	s.grpc.Stop()
	<-s.done
}

// Environment is the value of PULUMI_DEBUG_PROVIDERS that has the CLI attach to the ports instead of starting
// plugins.
func Environment(ports map[string]int) string {
	var list []string
	for _, name := range slices.Sorted(maps.Keys(ports)) {
		list = append(list, name+":"+strconv.Itoa(ports[name]))
	}
	return strings.Join(list, ",")
}

// session is one connection, which is one configured instance of the provider: the CLI dials once for each.
type session struct {
	mu     sync.Mutex
	config resource.PropertyMap
}

func (s *session) set(config resource.PropertyMap) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.config = config
}

func (s *session) get() resource.PropertyMap {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.config == nil {
		return resource.PropertyMap{}
	}
	return s.config
}

type sessionKey struct{}

// tagConnections gives every connection its session.
type tagConnections struct{}

func (tagConnections) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	return context.WithValue(ctx, sessionKey{}, &session{})
}
func (tagConnections) HandleConn(context.Context, stats.ConnStats) {}
func (tagConnections) TagRPC(ctx context.Context, _ *stats.RPCTagInfo) context.Context {
	return ctx
}
func (tagConnections) HandleRPC(context.Context, stats.RPCStats) {}

func sessionOf(ctx context.Context) *session {
	if s, ok := ctx.Value(sessionKey{}).(*session); ok {
		return s
	}
	return &session{}
}
