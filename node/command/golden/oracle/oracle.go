// Package oracle starts the redis-server that says what right is: version 7.0.15, on an ephemeral loopback port, with
// nothing on disk. It is for tests and generators.
package oracle

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/internal/need"
)

// Version is the only redis-server whose replies count.
const Version = "7.0.15"

// Server is a running redis-server.
type Server struct {
	Addr string
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended, with err
	err  error
}

// Start starts redis-server in dir, with extra command-line arguments, and waits until it answers. The caller stops it.
func Start(ctx context.Context, dir string, extra ...string) (*Server, error) {
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return nil, fmt.Errorf("find redis-server: %w", err)
	}
	out, err := exec.CommandContext(ctx, path, "--version").Output()
	if err != nil {
		return nil, fmt.Errorf("ask redis-server for its version: %w", err)
	}
	if !strings.Contains(string(out), "v="+Version+" ") {
		return nil, fmt.Errorf("need redis-server %s, found %s", Version, bytes.TrimSpace(out))
	}
	var last error
	for range 5 { // another process may take the free port between our look and Redis' bind
		s, err := start(ctx, path, dir, extra)
		if err == nil {
			return s, nil
		}
		last = err
	}
	return nil, last
}

// Serve is Start for a test, which has the server until it ends. A machine without redis-server is need.Program's business.
func Serve(t testing.TB, dir string, extra ...string) *Server {
	t.Helper()
	need.Program(t, "redis-server")
	s, err := Start(t.Context(), dir, extra...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Stop)
	return s
}

// Client is Dial for a test, which has the connection until it ends.
func (s *Server) Client(t testing.TB) *Conn {
	t.Helper()
	c, err := s.Dial()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func start(ctx context.Context, path, dir string, extra []string) (*Server, error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	bus, err := freePort() // the default, port+10000, may be out of range
	if err != nil {
		return nil, err
	}
	args := append([]string{"--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--bind", "127.0.0.1",
		"--dir", dir, "--cluster-port", strconv.Itoa(bus)}, extra...)
	cmd := exec.CommandContext(ctx, path, args...)
	var log bytes.Buffer
	cmd.Stdout = &log
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start redis-server: %w", err)
	}
	s := &Server{Addr: "127.0.0.1:" + strconv.Itoa(port), cmd: cmd, done: make(chan struct{})}
	go func() {
		s.err = cmd.Wait()
		close(s.done)
	}()
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for range 500 {
		select {
		case <-s.done:
			return nil, fmt.Errorf("redis-server ended (%v): %s", s.err, log.Bytes())
		case <-tick.C:
		}
		if c, err := s.Dial(); err == nil {
			v, err := c.Do("PING")
			c.Close()
			if err == nil && string(v) == "+PONG\r\n" {
				return s, nil
			}
		}
	}
	s.Stop()
	return nil, errors.New("redis-server does not answer")
}

// Stop ends the server and waits for it; once more does nothing.
func (s *Server) Stop() {
	s.cmd.Process.Kill()
	<-s.done
}

// Dial opens a connection.
func (s *Server) Dial() (*Conn, error) {
	c, err := net.DialTimeout("tcp", s.Addr, 2*time.Second)
	if err != nil {
		return nil, fmt.Errorf("dial redis-server: %w", err)
	}
	return NewConn(c), nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// Conn sends commands and reads replies as they are on the wire.
type Conn struct {
	net.Conn
	r *bufio.Reader
}

// NewConn wraps a connection to any server that speaks RESP.
func NewConn(c net.Conn) *Conn { return &Conn{Conn: c, r: bufio.NewReaderSize(c, 1<<16)} }

// timeout bounds one round trip.
const timeout = 10 * time.Second

// Do sends one command and returns its reply's bytes.
func (c *Conn) Do(args ...string) ([]byte, error) {
	b := make([][]byte, len(args))
	for i, a := range args {
		b[i] = []byte(a)
	}
	return c.DoBytes(b)
}

// DoBytes is Do.
func (c *Conn) DoBytes(args [][]byte) ([]byte, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	if _, err := c.Write(Encode(args)); err != nil {
		return nil, fmt.Errorf("send command: %w", err)
	}
	return c.ReadReply()
}

// Pipeline sends many commands at once and returns their replies.
func (c *Conn) Pipeline(commands [][][]byte) ([][]byte, error) {
	if err := c.SetDeadline(time.Now().Add(timeout)); err != nil {
		return nil, fmt.Errorf("set deadline: %w", err)
	}
	var all []byte
	for _, args := range commands {
		all = append(all, Encode(args)...)
	}
	sent := make(chan error, 1)
	go func() {
		_, err := c.Write(all)
		sent <- err
	}()
	replies := make([][]byte, len(commands))
	var err error
	for i := range replies {
		if replies[i], err = c.ReadReply(); err != nil {
			break
		}
	}
	if werr := <-sent; werr != nil { // the deadline ends the write too
		return nil, fmt.Errorf("send commands: %w", werr)
	}
	return replies, err
}

// Encode is args as a RESP array of bulk strings.
func Encode(args [][]byte) []byte {
	b := fmt.Appendf(nil, "*%d\r\n", len(args))
	for _, a := range args {
		b = fmt.Appendf(b, "$%d\r\n", len(a))
		b = append(append(b, a...), "\r\n"...)
	}
	return b
}

// ReadReply reads the bytes of one complete reply.
func (c *Conn) ReadReply() ([]byte, error) {
	b, err := appendReply(nil, c.r, 0)
	if err != nil {
		return b, fmt.Errorf("read reply: %w", err)
	}
	return b, nil
}

func appendReply(b []byte, r *bufio.Reader, depth int) ([]byte, error) {
	if depth > 32 {
		return b, errors.New("too deep")
	}
	line, err := r.ReadBytes('\n')
	if err != nil {
		return b, err
	}
	b = append(b, line...)
	if len(line) < 3 {
		return b, fmt.Errorf("short line %q", line)
	}
	kind, rest := line[0], string(line[1:len(line)-2])
	switch kind {
	case '+', '-', ':', '_', ',', '#', '(':
		return b, nil
	}
	n, err := strconv.Atoi(rest)
	if err != nil || n > 1<<29 {
		return b, fmt.Errorf("bad length in %q", line)
	}
	if n < 0 {
		return b, nil
	}
	switch kind {
	case '$', '=', '!':
		at := len(b)
		b = append(b, make([]byte, n+2)...)
		_, err := io.ReadFull(r, b[at:])
		return b, err
	case '%', '|':
		n *= 2
	case '*', '~', '>':
	default:
		return b, fmt.Errorf("unknown type in %q", line)
	}
	for range n {
		if b, err = appendReply(b, r, depth+1); err != nil {
			return b, err
		}
	}
	return b, nil
}
