package topology

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
)

// What libraries of functions and users have in common: a change of them is asked for by a client, done once however often it is
// asked for, refused by the state machine alone, and waited for on every node.

const (
	// maxDone is how many changes of a kind are known again when they are asked for again.
	maxDone = 64
	// spreadTimeout bounds how long a change waits for nodes that do not have it yet.
	spreadTimeout = 2 * time.Second
)

// ErrUnknownOutcome says that a change was asked for and no answer came: it may be done, or may yet be.
var ErrUnknownOutcome = errors.New("topology: the outcome of the change is not known")

// remember returns the newest of the done changes, and one more.
func remember[T any](done []T, one T) []T {
	return append(slices.Clone(done[max(0, len(done)-maxDone+1):]), one)
}

// askForChange asks the leader for a change, which has an ID, until there is an answer. Errors: ErrNoLeader, when nothing was changed and
// there is nobody who could; ErrUnknownOutcome; ErrClosed.
func (t *Topology) askForChange(ctx context.Context, method string, change any) (nodeAnswer, error) {
	tick := time.NewTicker(t.o.Timing.Tick)
	defer tick.Stop()
	unknown := false
	for {
		ans, err := t.askLeader(ctx, method, change)
		if err == nil {
			return ans, nil
		}
		unknown = unknown || errors.Is(err, ErrUnknownOutcome)
		if !unknown && t.outvoted() {
			return nodeAnswer{}, ErrNoLeader
		}
		select {
		case <-ctx.Done():
			if unknown {
				return nodeAnswer{}, fmt.Errorf("%w: %w", ErrUnknownOutcome, ctx.Err())
			}
			return nodeAnswer{}, fmt.Errorf("%w: %w", ErrNoLeader, ctx.Err())
		case <-t.ctx.Done():
			return nodeAnswer{}, ErrClosed
		case <-tick.C:
		}
	}
}

// handleChange answers a call for a change, which is read into the part of c where it belongs.
func (t *Topology) handleChange(payload []byte, c *command, part any) ([]byte, error) {
	if err := Decode(payload, part); err != nil {
		return nil, err
	}
	ans, err := t.leadChange(c)
	if err != nil {
		return nil, err
	}
	return Encode(ans), nil
}

// leadChange makes a change, as the leader. What changes nothing is not committed. That it does not, or is refused, rests on the newest
// state, since a leader that was deposed without noticing asks the others first.
func (t *Topology) leadChange(c *command) (nodeAnswer, error) {
	if !t.leads() {
		return nodeAnswer{Code: codeNotLeader, Leader: t.Leader()}, nil
	}
	st := t.State()
	c.Version = c.version()
	if res := st.apply(c); res.state == st {
		if err := t.await(t.raft.raft.VerifyLeader()); err != nil {
			return nodeAnswer{Code: codeNotLeader}, nil
		}
		return changeAnswer(res), nil
	}
	res, err := t.commit(c)
	if err != nil {
		return nodeAnswer{}, err
	}
	return changeAnswer(res), nil
}

func changeAnswer(res applied) nodeAnswer {
	a := nodeAnswer{Done: true, Epoch: res.state.Epoch, Deleted: res.deleted}
	switch {
	case res.refused != nil:
		a.Problem, a.Name = string(res.refused.Problem), octets(res.refused.Name)
	case res.refusedUsers != nil:
		a.Problem, a.Name = string(res.refusedUsers.Problem), octets(res.refusedUsers.Name)
	}
	return a
}

// leads reports whether this node leads and has applied everything that was committed before.
func (t *Topology) leads() bool {
	r := t.reign.Load()
	if r == nil || !t.IsLeader() {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.ready
}

type reachedCall struct {
	Epoch uint64 `json:"epoch"`
}

// awaitEverywhere returns when every member that is up acts on the state of epoch or a later one, at the latest after
// spreadTimeout. What was changed is for the log.
func (t *Topology) awaitEverywhere(ctx context.Context, epoch uint64, changed string) {
	ctx, cancel := context.WithTimeout(ctx, spreadTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for id, m := range t.State().Members {
		if m.Status == Removed || t.down(id) {
			continue
		}
		wg.Go(func() {
			if err := t.call(ctx, id, methodReached, reachedCall{epoch}, &struct{}{}); err != nil {
				t.log.Warn("a node does not act on a change yet", "peer", id, "changed", changed, "error", err)
			}
		})
	}
	wg.Wait()
}

// told is the newest epoch that the subscribers know.
type told struct {
	mu    sync.Mutex
	epoch uint64
	next  chan struct{} // closed when epoch grows
}

func (d *told) note(epoch uint64) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if epoch <= d.epoch {
		return
	}
	d.epoch = epoch
	if d.next != nil {
		close(d.next)
		d.next = nil
	}
}

// await returns when the subscribers know epoch, or ctx ends.
func (d *told) await(ctx context.Context, epoch uint64) error {
	for {
		d.mu.Lock()
		if d.epoch >= epoch {
			d.mu.Unlock()
			return nil
		}
		if d.next == nil {
			d.next = make(chan struct{})
		}
		next := d.next
		d.mu.Unlock()
		select {
		case <-next:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}
