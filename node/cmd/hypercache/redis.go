package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"time"

	"hypercache/node/config"
)

// redisFlags say which node restore and backup talk to, by the Redis protocol.
type redisFlags struct {
	addr    string
	user    string
	secrets string // file with passwords
	timeout time.Duration
	src     config.Sources
}

func (p *program) redisFlags(f *flag.FlagSet) *redisFlags {
	r := &redisFlags{src: config.Sources{Env: p.env, Search: p.search}}
	f.StringVar(&r.addr, "addr", "", "Redis-protocol `address` of any node, host:port (default: the one in the configuration, on this machine)")
	f.StringVar(&r.user, "user", "default", "`name` of the user to be, where the cluster has users")
	f.StringVar(&r.secrets, "password-file", "", "`file` whose first line is the password (default: REDISCLI_AUTH in the environment, else the configuration's auth.password_file)")
	f.DurationVar(&r.timeout, "timeout", time.Minute, "how long to wait for an answer, and for a cluster that is not ready")
	f.StringVar(&r.src.Path, "config", "", "configuration `file`; TLS is used with -addr too if it says so")
	return r
}

// redisConn is a connection to a node.
type redisConn struct {
	conn    net.Conn
	r       *bufio.Reader
	w       *bufio.Writer
	timeout time.Duration
	unhook  func() bool
}

func (r *redisFlags) dial(ctx context.Context) (*redisConn, error) {
	addr, secure, passwords := r.addr, (*tls.Config)(nil), config.Auth{PasswordFile: r.secrets}
	if addr == "" || r.src.Path != "" {
		cfg, err := config.Load(r.src)
		if err != nil {
			return nil, err
		}
		if r.user == "default" {
			passwords.PasswordFile = cmp.Or(r.secrets, cfg.Auth.PasswordFile)
		}
		addr = cmp.Or(addr, net.JoinHostPort(dialable(cfg.Network.RESPBindAddr), strconv.Itoa(cfg.Network.RESPPort)))
		if cfg.Network.TLSEnabled {
			if secure, err = trust(cfg.Network); err != nil {
				return nil, err
			}
		}
	}
	if _, _, err := net.SplitHostPort(addr); err != nil {
		return nil, usagef("%s is not an address, want host:port", addr)
	}
	password, err := r.password(passwords)
	if err != nil {
		return nil, err
	}
	dialer := &net.Dialer{Timeout: r.timeout}
	conn, err := dialer.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("no node answers at %s: %w", addr, err)
	}
	if secure != nil {
		conn = tls.Client(conn, secure)
	}
	c := &redisConn{conn: conn, r: bufio.NewReaderSize(conn, 64<<10), w: bufio.NewWriterSize(conn, 64<<10), timeout: r.timeout}
	c.unhook = context.AfterFunc(ctx, func() { _ = conn.Close() })
	if password == "" {
		return c, nil
	}
	if _, err := c.ask("AUTH", r.user, password); err != nil {
		c.close()
		return nil, fmt.Errorf("%s as user %s: %w", addr, r.user, err)
	}
	return c, nil
}

// password is what to authenticate with, "" if none is known.
func (r *redisFlags) password(files config.Auth) (string, error) {
	if r.secrets == "" {
		for _, v := range r.src.Env {
			if password, found := strings.CutPrefix(v, "REDISCLI_AUTH="); found && password != "" {
				return password, nil
			}
		}
	}
	list, err := files.Passwords()
	if err != nil || len(list) == 0 {
		return "", err
	}
	return list[0], nil
}

func (c *redisConn) close() {
	c.unhook()
	_ = c.conn.Close() // nothing is in flight that counts
}

// send puts a command in the buffer; an error of the connection shows in flush.
func (c *redisConn) send(args ...[]byte) {
	_ = c.conn.SetWriteDeadline(time.Now().Add(c.timeout))
	_, _ = fmt.Fprintf(c.w, "*%d\r\n", len(args))
	for _, a := range args {
		_, _ = fmt.Fprintf(c.w, "$%d\r\n", len(a))
		_, _ = c.w.Write(a)
		_, _ = c.w.WriteString("\r\n")
	}
}

func (c *redisConn) flush() error { return c.w.Flush() }

// reply is an answer: an error's text, a status or a bulk string, an integer, or an array.
type reply struct {
	err  string
	text []byte // nil is null
	n    int64
	list []reply
}

const (
	// maxReply is the longest string or array that a node sends.
	maxReply = 1 << 30
	// maxDepth is how deep arrays lie in each other in the answers that are asked for here.
	maxDepth = 3
)

var errReply = errors.New("the answer is not Redis'; is it a HyperCache node?")

func (c *redisConn) receive() (reply, error) {
	_ = c.conn.SetReadDeadline(time.Now().Add(c.timeout))
	return c.read(maxDepth)
}

func (c *redisConn) read(depth int) (reply, error) {
	line, err := c.r.ReadString('\n')
	if err != nil {
		return reply{}, err
	}
	line = strings.TrimRight(line, "\r\n")
	if len(line) < 2 || depth == 0 {
		return reply{}, errReply
	}
	switch line[0] {
	case '+':
		return reply{text: []byte(line[1:])}, nil
	case '-':
		return reply{err: line[1:]}, nil
	}
	n, err := strconv.ParseInt(line[1:], 10, 64)
	if err != nil {
		return reply{}, errReply
	}
	switch {
	case line[0] == ':':
		return reply{n: n}, nil
	case n > maxReply:
		return reply{}, errReply
	case n < 0:
		return reply{}, nil
	case line[0] == '$':
		b, err := io.ReadAll(io.LimitReader(c.r, n+2))
		if err == nil && int64(len(b)) < n+2 {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return reply{}, err
		}
		return reply{text: b[:n:n]}, nil
	case line[0] == '*':
		var list []reply
		for range n {
			r, err := c.read(depth - 1)
			if err != nil {
				return reply{}, err
			}
			list = append(list, r)
		}
		return reply{list: list}, nil
	}
	return reply{}, errReply
}

// ask is one command and its answer; an error reply is an error.
func (c *redisConn) ask(words ...string) (reply, error) {
	args := make([][]byte, len(words))
	for i, w := range words {
		args[i] = []byte(w)
	}
	c.send(args...)
	if err := c.flush(); err != nil {
		return reply{}, err
	}
	r, err := c.receive()
	if err == nil && r.err != "" {
		err = fmt.Errorf("%s: %s", strings.ToUpper(words[0]), r.err)
	}
	return r, err
}

// passing says that an error reply speaks of a state that ends by itself.
func passing(errText string) bool {
	for _, prefix := range []string{"LOADING ", "CLUSTERDOWN ", "TRYAGAIN ", "MASTERDOWN ", "NOREPLICAS ", "BUSY "} {
		if strings.HasPrefix(errText, prefix) {
			return true
		}
	}
	return false
}
