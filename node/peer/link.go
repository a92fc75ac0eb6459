package peer

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"syscall"
	"time"
)

// link holds this node's outbound streams to one other node, and what it knows of that node's health.
type link struct {
	id, addr string
	net      *Net
	ctx      context.Context
	cancel   context.CancelFunc
	streams  [Bus + 1]atomic.Pointer[Stream]

	opened  atomic.Int64 // since epoch
	acked   atomic.Int64 // sending time of the newest heartbeat that was answered, since epoch
	heard   atomic.Int64 // arrival of the node's own newest heartbeat, since epoch
	refused atomic.Bool  // the host answers and nobody listens there
}

const (
	frameHeartbeat = 1 + iota
	frameHeartbeatAck
	frameCall
	frameCallReply
)

// A heartbeat is the sender's time (u64, big-endian) and a byte of flags; the answer repeats it and, if the flags ask for it,
// what the node's clock reports comes behind. Nodes that knew the time alone send and repeat 8 bytes.
const (
	heartbeatSize = 8 + 1
	asksForClock  = 1
)

var (
	errOther = errors.New("another node")
	errTLS   = errors.New("TLS")
)

// openLink is called with n.mu held.
func (n *Net) openLink(id, addr string) *link {
	ctx, cancel := context.WithCancel(n.ctx)
	l := &link{id: id, addr: addr, net: n, ctx: ctx, cancel: cancel}
	l.opened.Store(sinceEpoch())
	for _, class := range []Class{Control, Replica, Forward, Bus} {
		n.wg.Go(func() { l.maintain(class) })
	}
	n.wg.Go(l.heartbeats)
	return l
}

// answeredAt is the newest sign of life: an answered heartbeat, or before the first one the opening of the link, so that a
// node that was never reached is down only after SuspectAfter. The node's own heartbeats are none: one that hears nobody
// sends them as well, and does nothing that it is asked to.
func (l *link) answeredAt() time.Time {
	return fromNano(max(l.acked.Load(), l.opened.Load()))
}

// maintain keeps one outbound stream standing.
func (l *link) maintain(class Class) {
	const first, longest = 20 * time.Millisecond, 500 * time.Millisecond
	wait := first
	refusals := 0
	for l.ctx.Err() == nil {
		s, err := l.connect(class)
		if err == nil {
			refusals = 0
			began := time.Now()
			stop := context.AfterFunc(l.ctx, s.Close)
			l.net.run(s)
			stop()
			l.streams[class].CompareAndSwap(s, nil)
			if time.Since(began) > longest {
				wait = first
				continue
			}
			// A node that takes connections only to close them is not asked without a pause.
		} else if class == Control {
			l.noteFailure(err, &refusals)
		}
		select {
		case <-l.ctx.Done():
			return
		case <-time.After(wait):
		}
		wait = min(2*wait, longest)
	}
}

func (l *link) connect(class Class) (*Stream, error) {
	c, id, err := l.net.dial(l.ctx, l.addr, class, dialTimeout)
	if err != nil {
		return nil, err
	}
	if id.NodeID != l.id {
		_ = c.Close()
		return nil, fmt.Errorf("%w: %q answers at the address of %q (%s)", errOther, id.NodeID, l.id, l.addr)
	}
	if err := l.ctx.Err(); err != nil { // another link to the node may stand already: this stream must not take its place
		_ = c.Close()
		return nil, err
	}
	s := newStream(c, class, id, true)
	l.streams[class].Store(s)
	if l.net.cluster.Load().foreign(id.cluster) { // SetCluster came in the middle of the handshake
		l.streams[class].CompareAndSwap(s, nil)
		s.Close()
		return nil, ErrCluster
	}
	if class == Control {
		l.net.closeTwins(id)
		l.refused.Store(false)
	}
	return s, nil
}

// noteFailure tells a dead process from a dead host or network: where the host itself refuses twice in a row, there
// is nothing to wait for.
func (l *link) noteFailure(err error, refusals *int) {
	if !errors.Is(err, syscall.ECONNREFUSED) {
		*refusals = 0
		if errors.Is(err, ErrSecret) && l.net.news("to "+l.id) {
			l.net.log.Warn("cannot join: cluster secrets differ", "node", l.id, "address", l.addr)
		}
		if errors.Is(err, ErrTaken) && l.net.news("to "+l.id) {
			l.net.log.Error("cannot join: another running node has this node's id (server.node_id)", "says", l.id, "address", l.addr)
		}
		if errors.Is(err, ErrCluster) && l.net.news("to "+l.id) {
			l.net.log.Warn("a node belongs to another cluster: nothing is exchanged with it", "peer", l.id, "address", l.addr)
		}
		var unresolved *net.DNSError
		switch {
		case errors.Is(err, errOther), errors.Is(err, errTLS), errors.As(err, &unresolved):
			if l.net.news("to " + l.id) {
				l.net.log.Warn("cannot reach a node", "peer", l.id, "address", l.addr, "error", err)
			}
		}
		return
	}
	*refusals++
	if *refusals >= 2 {
		l.refused.Store(true)
	}
}

// heartbeats sends them on the control stream while it stands.
func (l *link) heartbeats() {
	t := time.NewTicker(l.net.opt.HeartbeatEvery)
	defer t.Stop()
	var on *Stream
	var since time.Time // on stands since then
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-t.C:
		}
		s := l.streams[Control].Load()
		if s == nil {
			continue
		}
		if s != on {
			on, since = s, time.Now()
		}
		if l.net.muted.Load() {
			since = time.Now()
			continue
		}
		if limit := 2 * l.net.opt.SuspectAfter; time.Since(since) > limit && time.Since(fromNano(l.acked.Load())) > limit {
			l.renew() // half-open: only a new connection can tell. The node stays down until it answers.
			continue
		}
		var at [heartbeatSize]byte
		binary.BigEndian.PutUint64(at[:], uint64(sinceEpoch()))
		at[8] = asksForClock
		s.Send(frameHeartbeat, at[:])
	}
}

// renew closes all streams to a node that has been silent, to be dialed again. Those of other classes than the heartbeats'
// fare no better: TCP doubles the time between its attempts, so that after a cut of some seconds a stream would stand still
// for as long again, while the node counts as up.
func (l *link) renew() {
	for class := range l.streams {
		if s := l.streams[class].Load(); s != nil {
			s.Close()
		}
	}
}

func (n *Net) control(s *Stream, typ byte, body []byte) {
	switch typ {
	case frameHeartbeat:
		if l := n.link(s.Peer.NodeID); l != nil {
			l.heard.Store(sinceEpoch())
		}
		if n.muted.Load() {
			return
		}
		if b, ok := s.Begin(frameHeartbeatAck); ok {
			b = append(b, body...)
			if n.opt.Clock != nil && len(body) == heartbeatSize && body[8]&asksForClock != 0 {
				b = n.opt.Clock.Report(b)
			}
			s.End(b)
		}
	case frameHeartbeatAck:
		if l := n.link(s.Peer.NodeID); l != nil && len(body) >= 8 {
			// Never later than now: a time to come would keep a dead node up.
			sent, now := int64(binary.BigEndian.Uint64(body)), sinceEpoch()
			l.acked.Store(max(l.acked.Load(), min(sent, now)))
			l.refused.Store(false)
			if n.opt.Clock != nil && len(body) > heartbeatSize {
				n.opt.Clock.Heard(l.id, body[heartbeatSize:], time.Duration(now-sent))
			}
		}
	case frameCall:
		n.answer(s, body)
	case frameCallReply:
		n.calls.settle(s, body)
	default:
		n.log.Warn("unknown control frame: is that node of another version?", "node", s.Peer.NodeID, "type", typ)
	}
}
