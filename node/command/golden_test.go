package command

import (
	"testing"

	"hypercache/node/command/golden"
)

func TestRepliesAreRedisReplies(t *testing.T) {
	for _, mode := range []golden.Mode{golden.Standalone, golden.Cluster} {
		t.Run(string(mode), func(t *testing.T) {
			h := newHarness(t, mode == golden.Cluster)
			golden.Replay(t, mode, h.listen())
			h.mu.Lock()
			defer h.mu.Unlock()
			h.checkReplica()
		})
	}
}
