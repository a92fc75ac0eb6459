package peer

import (
	"errors"
	"io"
	"log/slog"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

func TestNodesOfDifferentClustersRefuseEachOther(t *testing.T) {
	for _, tt := range []struct {
		dialer, listener string
		refused          bool
	}{{"x", "y", true}, {"x", "x", false}, {"", "y", false}, {"x", "", false}, {"", "", false}} {
		ln := listen(t)
		open(t, ln, "b", quiet(), func(o *Options) { o.Cluster = tt.listener })
		a := open(t, listen(t), "a", quiet(), func(o *Options) { o.Cluster = tt.dialer })
		for _, class := range []Class{Control, Replica, Forward, Bus, raftClass} {
			c, _, err := a.dial(t.Context(), ln.Addr().String(), class, time.Second)
			if c != nil {
				_ = c.Close()
			}
			if errors.Is(err, ErrCluster) != tt.refused || !tt.refused && err != nil {
				t.Errorf("%q to %q, class %d: %v", tt.dialer, tt.listener, class, err)
			}
		}
	}
}

// TestTheListenerRefusesToo has a dialer that does not look at the listener's cluster.
func TestTheListenerRefusesToo(t *testing.T) {
	ln := listen(t)
	open(t, ln, "b", quiet(), func(o *Options) { o.Cluster = "y" })
	a := open(t, listen(t), "a", quiet(), nil)
	h := newHello(Control, Identity{NodeID: "a", cluster: tagOf("x")})
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close() //nolint:errcheck
	if err := c.SetDeadline(time.Now().Add(5 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(append([]byte(magic), h.encode()...)); err != nil {
		t.Fatal(err)
	}
	theirs, err := readHello(c)
	if err != nil {
		t.Fatal(err)
	}
	if err := checkMAC(c, a.opt.Secret, "listener", h, theirs); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(mac(a.opt.Secret, "dialer", h, theirs)); err != nil {
		t.Fatal(err)
	}
	var ok [1]byte
	if n, err := c.Read(ok[:]); err == nil {
		t.Errorf("confirmed: %d bytes", n)
	}
}

func TestStreamsOfAnotherClusterEndOnceTheNodeHasOne(t *testing.T) {
	ln := listen(t)
	b := open(t, ln, "b", quiet(), func(o *Options) { o.Cluster = "y"; o.SuspectAfter = 100 * time.Millisecond })
	a := open(t, listen(t), "a", quiet(), func(o *Options) { o.SuspectAfter = 100 * time.Millisecond })
	a.SetPeers(map[string]string{"b": ln.Addr().String()})
	b.SetPeers(map[string]string{"a": a.ln.Addr().String()})
	standing(t, a, "b")
	a.SetCluster("x")
	eventually(t, "both see nothing of each other", func() bool { return a.Down("b") && b.Down("a") && a.Stream("b", Replica) == nil })
}

// Both ends of a handshake that was under way when the node got its cluster.
func TestAClusterThatIsSetDuringAHandshakeCounts(t *testing.T) {
	ln, gate := listen(t), listen(t)
	defer gate.Close() //nolint:errcheck
	open(t, ln, "b", quiet(), func(o *Options) { o.Cluster = "y" })
	var out buffer
	var opened atomic.Int32
	h := quiet()
	h.Opened = func(*Stream) { opened.Add(1) }
	a := open(t, listen(t), "a", h, func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&out, nil)) })
	waiting, goOn := make(chan struct{}, 64), make(chan struct{})
	go func() {
		for {
			c, err := gate.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close() //nolint:errcheck
				to, err := net.Dial("tcp", ln.Addr().String())
				if err != nil {
					return
				}
				defer to.Close() //nolint:errcheck
				go func() { _, _ = io.Copy(to, c); _ = to.Close() }()
				var hello [1024]byte
				n, _ := to.Read(hello[:])
				_, _ = c.Write(hello[:n])
				waiting <- struct{}{}
				<-goOn // with the last word of the handshake
				_, _ = io.Copy(c, to)
			}()
		}
	}()
	a.SetPeers(map[string]string{"b": gate.Addr().String()})
	for range int(Bus-Control) + 1 {
		<-waiting
	}
	a.SetCluster("x")
	close(goOn)
	eventually(t, "the cluster is refused", func() bool { return strings.Contains(out.String(), "belongs to another cluster") })
	if n := opened.Load(); n != 0 {
		t.Errorf("%d streams were opened", n)
	}
	if s := newStream(nil, Replica, Identity{NodeID: "z", cluster: tagOf("y")}, false); a.addInbound(s) {
		t.Error("a stream from another cluster was taken")
	}
}
