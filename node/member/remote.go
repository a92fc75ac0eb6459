package member

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/hashicorp/serf/client"
	"github.com/hashicorp/serf/serf"
)

// Ask lists the members that the node with the given RPC address sees. Key is its
// auth key, empty if it has none. Ctx's deadline bounds the exchange.
func Ask(ctx context.Context, addr, key string) ([]Member, error) {
	timeout := 10 * time.Second
	if d, ok := ctx.Deadline(); ok {
		timeout = time.Until(d)
	}
	if timeout <= 0 {
		return nil, context.DeadlineExceeded
	}
	c, err := client.ClientFromConfig(&client.Config{Addr: addr, AuthKey: key, Timeout: timeout})
	if err != nil {
		return nil, fmt.Errorf("ask %s for its members: %w", addr, err)
	}
	defer func() { _ = c.Close() }() // the answer is in hand
	list, err := c.Members()
	if err != nil {
		return nil, fmt.Errorf("ask %s for its members: %w", addr, err)
	}
	out := make([]Member, 0, len(list))
	for _, m := range list {
		out = append(out, decodeMember(serf.Member{Name: m.Name, Addr: net.IP(m.Addr), Port: m.Port, Tags: m.Tags, Status: parseStatus(m.Status)}))
	}
	slices.SortFunc(out, func(a, b Member) int { return strings.Compare(a.ID, b.ID) })
	return out, nil
}

func parseStatus(s string) serf.MemberStatus {
	for _, known := range []serf.MemberStatus{serf.StatusAlive, serf.StatusLeaving, serf.StatusLeft} {
		if s == known.String() {
			return known
		}
	}
	return serf.StatusFailed
}
