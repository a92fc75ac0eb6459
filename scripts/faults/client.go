//go:build linux

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"time"
)

// opTimeout is how long a client waits for an answer. It is longer than a failover takes, so that a client at a healthy
// node sees the failover as a delay.
const opTimeout = 4 * time.Second

// respClient is one RESP connection without retries, which dials again after a failure, to the node that it is told.
type respClient struct {
	lab *lab
	c   net.Conn
	r   *bufio.Reader
}

func (k *respClient) close() {
	if k.c != nil {
		_ = k.c.Close()
		k.c = nil
	}
}

func (k *respClient) open(ctx context.Context, h *host) error {
	if k.c != nil {
		return nil
	}
	c, err := k.lab.dial(ctx, "tcp", fmt.Sprintf("%s:%d", h.addr, respPort))
	if err != nil {
		return err
	}
	k.c, k.r = c, bufio.NewReader(c)
	return nil
}

func request(b *bytes.Buffer, args ...string) {
	fmt.Fprintf(b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(b, "$%d\r\n%s\r\n", len(a), a)
	}
}

// getAll reads keys in one pipeline; what is absent is "".
func (k *respClient) getAll(ctx context.Context, h *host, keys []string) ([]string, error) {
	if err := k.open(ctx, h); err != nil {
		return nil, err
	}
	_ = k.c.SetDeadline(time.Now().Add(opTimeout))
	var b bytes.Buffer
	for _, key := range keys {
		request(&b, "GET", key)
	}
	if _, err := k.c.Write(b.Bytes()); err != nil {
		return nil, err
	}
	values := make([]string, 0, len(keys))
	for range keys {
		v, err := readReply(k.r)
		if err != nil {
			return nil, err
		}
		values = append(values, string(v))
	}
	return values, nil
}

// do sends one command; values of an integer reply are its digits, a null reply is nil.
func (k *respClient) do(ctx context.Context, h *host, args ...string) (reply []byte, out outcome, err error) {
	if err := k.open(ctx, h); err != nil {
		return nil, refused, err
	}
	_ = k.c.SetDeadline(time.Now().Add(opTimeout))
	var b bytes.Buffer
	request(&b, args...)
	if _, err = k.c.Write(b.Bytes()); err == nil {
		reply, err = readReply(k.r)
	}
	var said replyError
	switch {
	case err == nil:
		return reply, acked, nil
	case errors.As(err, &said):
		return nil, said.outcome(), err
	}
	k.close()
	return nil, unknown, err
}

// replyError is an error reply.
type replyError string

func (e replyError) Error() string { return string(e) }

// outcome tells what an error says about the operation. NOREPLICAS is the one that leaves it open.
func (e replyError) outcome() outcome {
	if strings.HasPrefix(string(e), "NOREPLICAS") {
		return unknown
	}
	return refused
}

func readReply(r *bufio.Reader) ([]byte, error) {
	line, err := r.ReadString('\n')
	if err != nil {
		return nil, err
	}
	line = strings.TrimRight(line, "\r\n")
	switch line[0] {
	case '-':
		return nil, replyError(line[1:])
	case '+', ':':
		return []byte(line[1:]), nil
	case '$':
		n, err := strconv.Atoi(line[1:])
		if err != nil || n < 0 {
			return nil, err
		}
		b := make([]byte, n+2)
		_, err = io.ReadFull(r, b)
		return b[:max(len(b)-2, 0)], err
	}
	return nil, fmt.Errorf("a reply of another kind: %q", line)
}

// put writes a key through HTTP.
func put(ctx context.Context, c *http.Client, h *host, key, value string) (outcome, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodPut, fmt.Sprintf("http://%s:%d/api/cache/%s", h.addr, httpPort, key), strings.NewReader(value))
	if err != nil {
		return refused, err
	}
	r, err := c.Do(req)
	if err != nil {
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return refused, err
		}
		return unknown, err
	}
	body, err := io.ReadAll(io.LimitReader(r.Body, 1<<16))
	_ = r.Body.Close()
	switch {
	case err != nil:
		return unknown, err
	case r.StatusCode < 300:
		return acked, nil
	}
	out := refused
	if bytes.Contains(body, []byte("NOREPLICAS")) || bytes.Contains(body, []byte("may have been applied")) {
		out = unknown
	}
	return out, fmt.Errorf("%s: %s", r.Status, body)
}
