package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"
)

// ErrUnreachable is returned by Call where no control stream to the node stands, or it ended before the answer.
var ErrUnreachable = errors.New("node is not reachable")

// notSent is an error of a call that the other node did not get.
type notSent struct{ error }

// NotSent tells that the call was not executed.
func (notSent) NotSent() bool { return true }

func (e notSent) Unwrap() error { return e.error }

// RemoteError is an error that the called node returned.
type RemoteError struct{ Node, Method, Text string }

func (e *RemoteError) Error() string { return fmt.Sprintf("%s on %s: %s", e.Method, e.Node, e.Text) }

const (
	defaultCallTimeout = 5 * time.Second
	// maxCallPayload bounds what waits in front of a heartbeat.
	maxCallPayload = 64 << 20
)

type callResult struct {
	payload []byte
	err     string
	ok      bool
}

// callTable matches answers with calls.
type callTable struct {
	mu   sync.Mutex
	next uint64
	open map[uint64]openCall
}

type openCall struct {
	s      *Stream // who was asked: nobody else can answer
	result chan callResult
}

func (t *callTable) add(s *Stream) (uint64, chan callResult) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.open == nil {
		t.open = map[uint64]openCall{}
	}
	t.next++
	ch := make(chan callResult, 1)
	t.open[t.next] = openCall{s, ch}
	return t.next, ch
}

func (t *callTable) remove(id uint64) {
	t.mu.Lock()
	delete(t.open, id)
	t.mu.Unlock()
}

// settle takes an answer: id, a byte that is 1 for success, the payload or the error's text.
func (t *callTable) settle(s *Stream, body []byte) {
	if len(body) < 9 {
		return
	}
	id := binary.BigEndian.Uint64(body)
	t.mu.Lock()
	call := t.open[id]
	if call.s == s {
		delete(t.open, id)
	}
	t.mu.Unlock()
	if call.s != s {
		return // the caller's deadline has passed
	}
	r := callResult{ok: body[8] == 1}
	if r.ok {
		r.payload = append([]byte(nil), body[9:]...)
	} else {
		r.err = string(body[9:])
	}
	call.result <- r
}

// Call asks a node, this one included, and waits for its answer until ctx ends (5 s where it has no deadline).
// Errors: ErrUnreachable, ctx's, or a *RemoteError with what the node answered.
func (n *Net) Call(ctx context.Context, node, method string, payload []byte) ([]byte, error) {
	if _, ok := ctx.Deadline(); !ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, defaultCallTimeout)
		defer cancel()
	}
	if node == n.opt.Self.NodeID {
		return n.handler.Call(ctx, node, method, payload)
	}
	s := n.Stream(node, Control)
	if s == nil {
		return nil, notSent{fmt.Errorf("call %s on %s: %w", method, node, ErrUnreachable)}
	}
	return n.ask(ctx, s, method, payload)
}

// ask makes a call over a standing stream. ctx has a deadline.
func (n *Net) ask(ctx context.Context, s *Stream, method string, payload []byte) ([]byte, error) {
	node := s.Peer.NodeID
	if len(method) > 255 || len(payload) > maxCallPayload {
		return nil, fmt.Errorf("call %.40s on %s: %d bytes are above the limit of %d", method, node, len(payload), maxCallPayload)
	}
	id, ch := n.calls.add(s)
	defer n.calls.remove(id)
	deadline, _ := ctx.Deadline()
	b, ok := s.Begin(frameCall)
	if !ok {
		return nil, fmt.Errorf("call %s on %s: %w", method, node, ErrUnreachable)
	}
	b = binary.BigEndian.AppendUint64(b, id)
	b = binary.BigEndian.AppendUint32(b, uint32(min(max(time.Until(deadline).Milliseconds(), 1), math.MaxUint32)))
	b = append(b, byte(len(method)))
	b = append(b, method...)
	s.End(append(b, payload...))
	s.Flush()
	select {
	case r := <-ch:
		if !r.ok {
			return nil, &RemoteError{Node: node, Method: method, Text: r.err}
		}
		return r.payload, nil
	case <-s.done:
		return nil, fmt.Errorf("call %s on %s: %w", method, node, ErrUnreachable)
	case <-ctx.Done():
		return nil, fmt.Errorf("call %s on %s: %w", method, node, ctx.Err())
	}
}

// answer runs a call in a goroutine of its own; above maxCalls at once it refuses.
func (n *Net) answer(s *Stream, body []byte) {
	if len(body) < 13 || len(body) < 13+int(body[12]) {
		n.log.Warn("malformed call", "node", s.Peer.NodeID)
		return
	}
	id := binary.BigEndian.Uint64(body)
	timeout := time.Duration(binary.BigEndian.Uint32(body[8:])) * time.Millisecond
	m := int(body[12])
	method := string(body[13 : 13+m])
	payload := append([]byte(nil), body[13+m:]...)
	select {
	case n.slots <- struct{}{}:
	default:
		n.reply(s, id, nil, errors.New("too many calls at once"))
		return
	}
	n.wg.Go(func() {
		defer func() { <-n.slots }()
		ctx, cancel := context.WithTimeout(n.ctx, timeout)
		defer cancel()
		out, err := n.handler.Call(ctx, s.Peer.NodeID, method, payload)
		n.reply(s, id, out, err)
	})
}

func (n *Net) reply(s *Stream, id uint64, payload []byte, err error) {
	if len(payload) > maxCallPayload {
		payload, err = nil, fmt.Errorf("answer of %d bytes is above the limit of %d", len(payload), maxCallPayload)
	}
	b, ok := s.Begin(frameCallReply)
	if !ok {
		return
	}
	b = binary.BigEndian.AppendUint64(b, id)
	if err != nil {
		b = append(append(b, 0), err.Error()...)
	} else {
		b = append(append(b, 1), payload...)
	}
	s.End(b)
	s.Flush()
}
