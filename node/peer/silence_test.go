package peer

import (
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// A host that takes connections, proves itself and then says nothing: all streams to it are dialed again, since those that
// stood during a cut would stand still for long after it.
func TestAllStreamsToASilentNodeAreRenewed(t *testing.T) {
	mute := listen(t)
	defer mute.Close()
	opened := make(chan Class, 1024)
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			go func() {
				pc := &peekConn{Conn: c}
				if pc.expectMagic() == nil {
					if class, _, err := acceptHandshake(c, Identity{NodeID: "m"}, []byte("secret"), func(Identity) bool { return false }); err == nil {
						opened <- class
					}
				}
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	a := open(t, listen(t), "a", quiet(), func(o *Options) { o.SuspectAfter = 20 * time.Millisecond })
	a.SetPeers(map[string]string{"m": mute.Addr().String()})
	times := map[Class]int{}
	late := time.After(10 * time.Second)
	for times[Control] < 2 || times[Replica] < 2 || times[Forward] < 2 || times[Bus] < 2 {
		select {
		case class := <-opened:
			times[class]++
		case <-late:
			t.Fatalf("opened: %v", times)
		}
	}
}

// A node that sends heartbeats and answers none hears nobody: it counts as down.
func TestANodeThatHearsNobodyIsDown(t *testing.T) {
	a, b := pair(t, quiet(), quiet(), func(o *Options) { o.SuspectAfter = 50 * time.Millisecond })
	standing(t, a, "b")
	eventually(t, "answers", func() bool { return !a.Acked("b").IsZero() })
	l := a.link("b")
	l.opened.Store(1)
	l.acked.Store(1)
	l.heard.Store(sinceEpoch() + int64(time.Hour))
	if down := time.Since(l.answeredAt()) > 50*time.Millisecond; !down {
		t.Error("its heartbeats alone keep it up")
	}
	eventually(t, "up again with its next answer", func() bool { return !a.Down("b") && !b.Down("a") })
}

// A muted node is down for the others and they for it, its Raft connections end, and calls to it are still answered.
func TestAMutedNodeLooksDead(t *testing.T) {
	a, b := pair(t, quiet(), quiet(), func(o *Options) { o.SuspectAfter = 100 * time.Millisecond })
	standing(t, a, "b")
	standing(t, b, "a")
	c, err := b.DialRaft(a.ln.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "both up", func() bool { return !a.Down("b") && !b.Down("a") })
	b.Mute(true)
	eventually(t, "both down", func() bool { return a.Down("b") && b.Down("a") })
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, net.ErrClosed) {
		t.Errorf("a connection of its Raft: %v", err)
	}
	if _, err := b.DialRaft(a.ln.Addr().String(), time.Second); !errors.Is(err, errMuted) {
		t.Errorf("another connection of its Raft: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	eventually(t, "a call that is answered", func() bool { _, err := a.Call(ctx, "b", "m", []byte("x")); return err == nil })
	b.Mute(false)
	eventually(t, "both up again", func() bool { return !a.Down("b") && !b.Down("a") })
	c, err = b.DialRaft(a.ln.Addr().String(), time.Second)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}
