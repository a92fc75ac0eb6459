package member

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/hashicorp/go-msgpack/v2/codec"
	"github.com/hashicorp/serf/serf"
)

// Bounds of one RPC server and its connections.
const (
	maxRPCConns      = 64
	maxRPCRequest    = 64 << 10 // bytes of header and body together
	maxRPCStreams    = 16       // per connection
	maxRPCQueries    = 16       // of each kind, per connection
	rpcHelloDeadline = 10 * time.Second
	rpcIdleDeadline  = 10 * time.Minute
	rpcWriteDeadline = 10 * time.Second
	rpcLeaveDeadline = 15 * time.Minute
	streamBuffer     = 256
	maxQueryTimeout  = 5 * time.Minute
)

// ServeRPC answers the stock serf command on the connections that ln hands over,
// until ln closes or the Node does; it returns when all its connections have
// ended. Without an auth key only loopback peers are served; with one, every peer
// has to present it first. Call it after Start.
func (n *Node) ServeRPC(ln net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(n.ctx)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = ln.Close() })
	defer stop()

	slots := make(chan struct{}, maxRPCConns)
	for backoff := 5 * time.Millisecond; ; {
		conn, err := ln.Accept()
		if err != nil {
			if ctx.Err() != nil || errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) {
				return nil
			}
			// Out of descriptors, most likely: waiting is all there is to do.
			n.log.Warn("serf rpc: accept failed", "error", err)
			if !pause(ctx, ctx, backoff) {
				return nil
			}
			backoff = min(2*backoff, time.Second)
			continue
		}
		backoff = 5 * time.Millisecond
		if n.opts.RPCAuthKey == "" && !isLoopback(conn.RemoteAddr()) {
			n.log.Warn("serf rpc: refused a peer that is not on this machine; set cluster.rpc_auth_key to allow it", "peer", conn.RemoteAddr())
			_ = conn.Close()
			continue
		}
		select {
		case slots <- struct{}{}:
		default:
			n.log.Warn("serf rpc: too many connections", "limit", maxRPCConns)
			_ = conn.Close()
			continue
		}
		wg.Go(func() {
			defer func() { <-slots }()
			n.serveConn(ctx, conn)
		})
	}
}

func isLoopback(a net.Addr) bool {
	ap, err := netip.ParseAddrPort(a.String())
	return err == nil && ap.Addr().Unmap().IsLoopback()
}

// rpcConn is one client. The goroutine that reads requests owns all fields but
// those under mu and the writer under sendMu.
type rpcConn struct {
	node   *Node
	ctx    context.Context
	conn   net.Conn
	budget *budgetReader
	dec    *codec.Decoder

	sendMu sync.Mutex
	out    *bufio.Writer
	enc    *codec.Encoder

	wg          sync.WaitGroup
	greeted     bool
	authed      bool
	streams     map[uint64]*eventStream
	monitor     *monitor
	monitorSeq  uint64
	querySlots  chan struct{}
	mu          sync.Mutex
	pending     map[uint64]*serf.Query // queries from the cluster that the client may answer
	lastPending uint64
}

func (n *Node) serveConn(ctx context.Context, conn net.Conn) {
	ctx, cancel := context.WithCancel(ctx)
	c := &rpcConn{
		node: n, ctx: ctx, conn: conn,
		budget:     &budgetReader{r: conn},
		out:        bufio.NewWriter(conn),
		streams:    map[uint64]*eventStream{},
		pending:    map[uint64]*serf.Query{},
		querySlots: make(chan struct{}, maxRPCQueries),
		authed:     n.opts.RPCAuthKey == "",
	}
	h := newHandle()
	c.dec = codec.NewDecoder(bufio.NewReader(c.budget), h)
	c.enc = codec.NewEncoder(c.out, h)
	// Closing the connection is what wakes a blocked read.
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer func() {
		cancel()
		stop()
		_ = conn.Close()
		c.dropStreams()
		c.wg.Wait()
	}()
	for {
		if err := c.request(); err != nil {
			if !errors.Is(err, io.EOF) && ctx.Err() == nil {
				n.log.Debug("serf rpc: connection ends", "peer", conn.RemoteAddr(), "error", err)
			}
			return
		}
	}
}

// request serves one request. An error ends the connection.
func (c *rpcConn) request() error {
	c.budget.left = maxRPCRequest
	if err := c.conn.SetReadDeadline(c.readDeadline()); err != nil {
		return err
	}
	var h requestHeader
	if err := c.dec.Decode(&h); err != nil {
		return err
	}
	// The rest of a request that has begun must not trickle in for minutes.
	if err := c.conn.SetReadDeadline(time.Now().Add(rpcHelloDeadline)); err != nil {
		return err
	}
	if !c.greeted && h.Command != "handshake" {
		_ = c.send(h.Seq, errHandshakeRequired, nil)
		return errHandshakeRequired
	}
	if !c.authed && h.Command != "handshake" && h.Command != "auth" {
		// The body is not read, so the connection cannot go on.
		_ = c.send(h.Seq, errAuthRequired, nil)
		return errAuthRequired
	}
	command, ok := rpcCommands[h.Command]
	if !ok {
		_ = c.send(h.Seq, errUnsupportedCommand, nil)
		return fmt.Errorf("%w: %.40q", errUnsupportedCommand, h.Command)
	}
	return command(c, h.Seq)
}

// readDeadline gives newcomers little time and watchers, who only listen, none.
func (c *rpcConn) readDeadline() time.Time {
	switch {
	case !c.greeted || !c.authed:
		return time.Now().Add(rpcHelloDeadline)
	case len(c.streams) > 0 || c.monitor != nil:
		return time.Time{}
	}
	return time.Now().Add(rpcIdleDeadline)
}

// send writes a header and, if there is one, a body. Safe for concurrent use.
func (c *rpcConn) send(seq uint64, err error, body any) error {
	h := responseHeader{Seq: seq}
	if err != nil {
		h.Error = err.Error()
	}
	c.sendMu.Lock()
	defer c.sendMu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(rpcWriteDeadline)); err != nil {
		return err
	}
	if err := c.enc.Encode(&h); err != nil {
		return err
	}
	if body != nil {
		if err := c.enc.Encode(body); err != nil {
			return err
		}
	}
	return c.out.Flush()
}

// budgetReader fails once a request has taken more bytes than it may.
type budgetReader struct {
	r    io.Reader
	left int
}

var errRequestTooLarge = errors.New("request too large")

func (b *budgetReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errRequestTooLarge
	}
	if len(p) > b.left {
		p = p[:b.left]
	}
	n, err := b.r.Read(p)
	b.left -= n
	return n, err
}

// sameKey compares without telling by its duration how much of the key was right.
func sameKey(a, b string) bool {
	x, y := sha256.Sum256([]byte(a)), sha256.Sum256([]byte(b))
	return subtle.ConstantTimeCompare(x[:], y[:]) == 1
}
