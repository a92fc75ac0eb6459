package peer

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"
)

// asker is a node that does not take part yet.
func asker() Options {
	return Options{Self: Identity{NodeID: "a", Incarnation: 9}, Secret: []byte("secret"), Cluster: "ours"}
}

func TestANodeAsksBeforeItTakesPart(t *testing.T) {
	ln := listen(t)
	b := open(t, ln, "b", quiet(), func(o *Options) { o.Cluster = "ours" })
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	node, got, err := Ask(ctx, ln.Addr().String(), "hello", []byte("x"), asker())
	if err != nil || node != "b" || string(got) != "a hello x" {
		t.Errorf("%q from %q, %v", got, node, err)
	}
	if !b.Down("a") || !b.Heard("a").IsZero() {
		t.Error("who only asks counts as up")
	}
	eventually(t, "the connection is gone", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.inbound) == 0
	})
	foreign := asker()
	foreign.Cluster = "theirs"
	if _, _, err := Ask(ctx, ln.Addr().String(), "hello", nil, foreign); !errors.Is(err, ErrCluster) {
		t.Errorf("a node of another cluster: %v", err)
	}
	stranger := asker()
	stranger.Secret = []byte("another")
	if _, _, err := Ask(ctx, ln.Addr().String(), "hello", nil, stranger); err == nil {
		t.Error("answered without the secret")
	}
}

func TestAskingWhoIsNotThereEnds(t *testing.T) {
	ln := listen(t)
	addr := ln.Addr().String()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := Ask(ctx, addr, "hello", nil, asker()); err == nil { // connected, and nobody answers
		t.Error("no error from a node that says nothing")
	}
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel = context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, _, err := Ask(ctx, addr, "hello", nil, asker()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody listens: %v", err)
	}
	slow := quiet()
	slow.Call = func(ctx context.Context, _, _ string, _ []byte) ([]byte, error) { <-ctx.Done(); return nil, ctx.Err() }
	ln = listen(t)
	open(t, ln, "b", slow, nil)
	ctx, cancel = context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, _, err := Ask(ctx, ln.Addr().String(), "hello", nil, asker()); err == nil {
		t.Error("an answer from a node that has none")
	}
}
