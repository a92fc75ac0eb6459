package peer

import (
	"context"
	"fmt"
	"log/slog"
)

// Ask makes one call to the node that listens at addr, over a connection of its own, and waits until ctx ends, which must have a
// deadline. It is for a node that does not take part yet: it needs no Net, nobody counts it as up for it, and the answer is the
// authenticated node's. Of opt, Self, Secret, Cluster, Client and Logger count. Errors are those of Call and of the handshake.
func Ask(ctx context.Context, addr, method string, payload []byte, opt Options) (node string, answer []byte, err error) {
	if opt.Logger == nil {
		opt.Logger = slog.New(slog.DiscardHandler)
	}
	n := &Net{opt: opt, log: opt.Logger}
	n.handler.frame = n.frame
	tag := tagOf(opt.Cluster)
	n.cluster.Store(&tag)
	n.byID.Store(&map[string]*link{})
	c, id, err := n.dial(ctx, addr, Control, dialTimeout)
	if err != nil {
		return "", nil, fmt.Errorf("call %s at %s: %w", method, addr, err)
	}
	s := newStream(c, Control, id, true)
	n.wg.Go(func() { n.run(s) })
	defer n.wg.Wait()
	defer s.Close()
	answer, err = n.ask(ctx, s, method, payload)
	return id.NodeID, answer, err
}
