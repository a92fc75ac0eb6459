package member

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync/atomic"

	"github.com/hashicorp/serf/serf"
)

// eventStream carries cluster events to one client. Gossip never waits for it:
// what does not fit is dropped and counted.
type eventStream struct {
	filters []eventFilter
	events  chan serf.Event
	dropped atomic.Int64
	cancel  context.CancelFunc
}

// offer is called with the Node's lock held and must not block.
func (s *eventStream) offer(e serf.Event) {
	if !slices.ContainsFunc(s.filters, func(f eventFilter) bool { return f.matches(e) }) {
		return
	}
	select {
	case s.events <- e:
	default:
		s.dropped.Add(1)
	}
}

func (c *rpcConn) stream(seq uint64) error {
	var req streamRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	filters, err := parseFilters(req.Type)
	switch {
	case err != nil:
	case c.streams[seq] != nil:
		err = errStreamExists
	case len(c.streams) >= maxRPCStreams:
		err = fmt.Errorf("at most %d streams for each connection", maxRPCStreams)
	}
	if sendErr := c.send(seq, err, nil); err != nil || sendErr != nil {
		return sendErr
	}
	// Registered after the answer: the client takes the first message for it.
	ctx, cancel := context.WithCancel(c.ctx)
	s := &eventStream{filters: filters, events: make(chan serf.Event, streamBuffer), cancel: cancel}
	c.streams[seq] = s
	c.node.mu.Lock()
	c.node.streams[s] = struct{}{}
	c.node.mu.Unlock()
	c.wg.Go(func() { c.pump(ctx, seq, s) })
	return nil
}

func (c *rpcConn) pump(ctx context.Context, seq uint64, s *eventStream) {
	for {
		select {
		case e := <-s.events:
			if n := s.dropped.Swap(0); n > 0 {
				c.node.log.Warn("serf rpc: a slow client missed events", "peer", c.conn.RemoteAddr(), "missed", n)
			}
			if c.send(seq, nil, c.record(e)) != nil {
				_ = c.conn.Close() // wakes the reader, which tidies up
				return
			}
		case <-ctx.Done():
			return
		}
	}
}

func (c *rpcConn) record(e serf.Event) any {
	switch e := e.(type) {
	case serf.MemberEvent:
		return &memberEventRecord{Event: e.String(), Members: rpcMembers(e.Members)}
	case serf.UserEvent:
		return &userEventRecord{Event: "user", LTime: e.LTime, Name: e.Name, Payload: e.Payload, Coalesce: e.Coalesce}
	case *serf.Query:
		return &queryEventRecord{Event: "query", ID: c.remember(e), LTime: e.LTime, Name: e.Name, Payload: e.Payload}
	}
	return &userEventRecord{Event: e.EventType().String()}
}

// monitor carries log lines to one client; slow ones lose lines.
type monitor struct {
	level  slog.Level
	lines  chan string
	cancel context.CancelFunc
}

// offer is called with the tap's lock held and must not block.
func (m *monitor) offer(line logLine) {
	if line.level < m.level {
		return
	}
	select {
	case m.lines <- line.text:
	default:
	}
}

func (c *rpcConn) startMonitor(seq uint64) error {
	var req monitorRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	level, known := parseLevel(req.LogLevel)
	var err error
	switch {
	case !known:
		err = fmt.Errorf("Unknown log level: %.20s", req.LogLevel)
	case c.monitor != nil:
		err = errMonitorExists
	}
	if sendErr := c.send(seq, err, nil); err != nil || sendErr != nil {
		return sendErr
	}
	ctx, cancel := context.WithCancel(c.ctx)
	m := &monitor{level: level, lines: make(chan string, streamBuffer+recentLines), cancel: cancel}
	c.monitor, c.monitorSeq = m, seq
	c.node.lines.attach(m)
	c.wg.Go(func() {
		for {
			select {
			case text := <-m.lines:
				if c.send(seq, nil, &logRecord{text}) != nil {
					_ = c.conn.Close()
					return
				}
			case <-ctx.Done():
				return
			}
		}
	})
	return nil
}

func (c *rpcConn) stop(seq uint64) error {
	var req stopRequest
	if err := c.dec.Decode(&req); err != nil {
		return err
	}
	if c.monitor != nil && c.monitorSeq == req.Stop {
		c.dropMonitor()
	}
	if s := c.streams[req.Stop]; s != nil {
		c.dropStream(req.Stop, s)
	}
	return c.send(seq, nil, nil)
}

func (c *rpcConn) dropMonitor() {
	c.node.lines.detach(c.monitor)
	c.monitor.cancel()
	c.monitor = nil
}

func (c *rpcConn) dropStream(seq uint64, s *eventStream) {
	c.node.mu.Lock()
	delete(c.node.streams, s)
	c.node.mu.Unlock()
	s.cancel()
	delete(c.streams, seq)
}

func (c *rpcConn) dropStreams() {
	for seq, s := range c.streams {
		c.dropStream(seq, s)
	}
	if c.monitor != nil {
		c.dropMonitor()
	}
}
