package peer

import (
	"errors"
	"testing"
	"time"
)

// TestASecondNodeWithAnIDIsRefusedWhileTheFirstAnswers and let in once that is gone, as a restart is.
func TestASecondNodeWithAnIDIsRefusedWhileTheFirstAnswers(t *testing.T) {
	fast := func(o *Options) { o.SuspectAfter = 300 * time.Millisecond }
	lb, la := listen(t), listen(t)
	b := open(t, lb, "b", quiet(), fast)
	first := open(t, la, "a", quiet(), func(o *Options) { fast(o); o.Self.Incarnation = 1 })
	b.SetPeers(map[string]string{"a": la.Addr().String()})
	first.SetPeers(map[string]string{"b": lb.Addr().String()})
	standing(t, b, "a")
	standing(t, first, "b")
	twin := open(t, listen(t), "a", quiet(), func(o *Options) { fast(o); o.Self.Incarnation = 2 })
	if _, _, err := twin.dial(t.Context(), lb.Addr().String(), Replica, time.Second); !errors.Is(err, ErrTaken) {
		t.Errorf("the twin is told %v", err)
	}
	if b.Down("a") || first.Down("b") {
		t.Error("the first node was hurt")
	}
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the next process is let in", func() bool {
		c, _, err := twin.dial(t.Context(), lb.Addr().String(), Control, time.Second)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}

// TestATwinThatCameFirstGivesWay to the node that is where membership says.
func TestATwinThatCameFirstGivesWay(t *testing.T) {
	lb, la := listen(t), listen(t)
	b := open(t, lb, "b", quiet(), nil)
	twin := open(t, listen(t), "a", quiet(), func(o *Options) { o.Self.Incarnation = 2 })
	twin.SetPeers(map[string]string{"b": lb.Addr().String()})
	standing(t, twin, "b")
	open(t, la, "a", quiet(), func(o *Options) { o.Self.Incarnation = 1 })
	b.SetPeers(map[string]string{"a": la.Addr().String()})
	standing(t, b, "a")
	eventually(t, "the twin has no stream", func() bool { return twin.Stream("b", Replica) == nil && twin.Stream("b", Control) == nil })
}
