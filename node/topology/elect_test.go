package topology

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// hung is a network on which one node answers at once, and another one takes calls and answers none until it is down.
type hung struct {
	mu   sync.Mutex
	dead bool
	gone chan struct{} // closed when calls to the dead node fail; nil: they do not
}

func (h *hung) Call(ctx context.Context, node, _ string, _ []byte) ([]byte, error) {
	if node == "b" {
		return Encode(FenceAnswer{}), nil
	}
	select {
	case <-ctx.Done():
		return nil, ctx.Err()
	case <-h.gone:
		return nil, errors.New("not reachable")
	}
}

func (h *hung) Down(node string) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return node == "a" && h.dead
}

// TestAnElectionDoesNotWaitForANodeThatDiesMeanwhile has a node die while it is asked to hand over, by a cut, which leaves the call
// without an answer, or by its end, which fails the call once the node counts as down.
func TestAnElectionDoesNotWaitForANodeThatDiesMeanwhile(t *testing.T) {
	for name, fails := range map[string]bool{"cut off": false, "ended": true} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := &hung{}
				if fails {
					h.gone = make(chan struct{})
				}
				top := &Topology{o: Options{NodeID: "c", Network: h, Timing: Timing{Tick: 50 * time.Millisecond, Call: 5 * time.Second}}}
				r := &reign{t: top, ctx: t.Context(), log: slog.New(slog.DiscardHandler)}
				began := time.Now()
				time.AfterFunc(time.Second, func() {
					h.mu.Lock()
					h.dead = true
					h.mu.Unlock()
					if fails {
						close(h.gone)
					}
				})
				r.callAll(map[string]*FenceCall{"a": {}, "b": {}}, nil, false)
				if took := time.Since(began); took < time.Second || took > 1100*time.Millisecond {
					t.Errorf("it went on after %v; the node was down after 1s", took)
				}
				top.running.Wait()
			})
		})
	}
}
