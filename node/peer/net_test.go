package peer

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"log/slog"
	"math/big"
	"net"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// eventually waits for a condition that other goroutines bring about.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	limit := time.After(20 * time.Second)
	for !cond() {
		select {
		case <-limit:
			t.Fatalf("never: %s", what)
		case <-tick.C:
		}
	}
}

func listen(t *testing.T) net.Listener {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	return ln
}

func echo(_ context.Context, from, method string, payload []byte) ([]byte, error) {
	return []byte(from + " " + method + " " + string(payload)), nil
}

func quiet() Handler {
	return Handler{Frame: func(*Stream, byte, []byte) {}, BatchEnd: func(*Stream) {}, Call: echo}
}

func open(t *testing.T, ln net.Listener, id string, h Handler, change func(*Options)) *Net {
	t.Helper()
	o := Options{
		Self: Identity{NodeID: id, Incarnation: 7}, Secret: []byte("secret"),
		HeartbeatEvery: 5 * time.Millisecond, SuspectAfter: time.Second,
	}
	if change != nil {
		change(&o)
	}
	n := New(ln, h, o)
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

// pair is a and b, each knowing the other.
func pair(t *testing.T, ha, hb Handler, change func(*Options)) (a, b *Net) {
	t.Helper()
	la, lb := listen(t), listen(t)
	a, b = open(t, la, "a", ha, change), open(t, lb, "b", hb, change)
	addrs := map[string]string{"a": la.Addr().String(), "b": lb.Addr().String()}
	a.SetPeers(addrs)
	b.SetPeers(addrs)
	return a, b
}

func standing(t *testing.T, n *Net, id string) {
	t.Helper()
	eventually(t, "all streams to "+id, func() bool {
		return n.Stream(id, Control) != nil && n.Stream(id, Replica) != nil && n.Stream(id, Forward) != nil
	})
}

func TestNodesCallEachOther(t *testing.T) {
	a, b := pair(t, quiet(), quiet(), nil)
	standing(t, a, "b")
	standing(t, b, "a")
	for _, c := range []struct {
		n        *Net
		to, want string
	}{{a, "b", "a hello x"}, {b, "a", "b hello x"}, {a, "a", "a hello x"}} {
		got, err := c.n.Call(t.Context(), c.to, "hello", []byte("x"))
		if err != nil || string(got) != c.want {
			t.Errorf("call to %s: %q, %v", c.to, got, err)
		}
	}
	eventually(t, "heartbeats both ways", func() bool {
		return !a.Acked("b").IsZero() && !a.Heard("b").IsZero() && !a.Down("b") && !b.Down("a")
	})
	if !a.Down("nobody") || a.Down("a") || !a.Acked("nobody").IsZero() || !a.Heard("nobody").IsZero() {
		t.Error("a node that is unknown must be down, and a node never down for itself")
	}
	if _, err := a.Call(t.Context(), "nobody", "hello", nil); !errors.Is(err, ErrUnreachable) {
		t.Errorf("call to an unknown node: %v", err)
	}
}

func TestCallsEndWithTheErrorThatEndedThem(t *testing.T) {
	hold := make(chan struct{})
	hb := quiet()
	hb.Call = func(ctx context.Context, from, method string, p []byte) ([]byte, error) {
		if method == "fail" {
			return nil, errors.New("no such luck")
		}
		select {
		case <-hold:
		case <-ctx.Done():
		}
		return nil, ctx.Err()
	}
	a, b := pair(t, quiet(), hb, nil)
	standing(t, a, "b")
	var remote *RemoteError
	if _, err := a.Call(t.Context(), "b", "fail", nil); !errors.As(err, &remote) || remote.Text != "no such luck" || remote.Node != "b" {
		t.Errorf("remote error: %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := a.Call(ctx, "b", "wait", nil); err == nil {
		t.Error("a call outlived its deadline")
	}
	if _, err := a.Call(t.Context(), "b", strings.Repeat("m", 256), nil); err == nil {
		t.Error("a method that does not fit in a frame was sent")
	}
	// More than maxCalls at once are refused, and what hangs ends with the stream.
	results := make(chan error, maxCalls+1)
	for range maxCalls + 1 {
		go func() {
			_, err := a.Call(t.Context(), "b", "wait", nil)
			results <- err
		}()
	}
	if err := <-results; !errors.As(err, &remote) || !strings.Contains(remote.Text, "too many") {
		t.Errorf("one above the limit: %v", err)
	}
	eventually(t, "all others being answered", func() bool { return len(b.slots) == maxCalls })
	a.Stream("b", Control).Close()
	for range maxCalls {
		if err := <-results; !errors.Is(err, ErrUnreachable) {
			t.Errorf("call on a lost stream: %v", err)
		}
	}
	close(hold)
	a.calls.mu.Lock()
	if n := len(a.calls.open); n != 0 {
		t.Errorf("%d calls are remembered after their end", n)
	}
	a.calls.mu.Unlock()
}

func TestOnlyWhoWasAskedAnswers(t *testing.T) {
	var calls callTable
	asked, other := &Stream{}, &Stream{}
	id, ch := calls.add(asked)
	answer := append([]byte{0, 0, 0, 0, 0, 0, 0, byte(id), 1}, "yes"...)
	calls.settle(other, answer)
	calls.settle(asked, answer[:8])
	select {
	case <-ch:
		t.Fatal("another node's answer was taken")
	default:
	}
	calls.settle(asked, answer)
	if r := <-ch; !r.ok || string(r.payload) != "yes" {
		t.Errorf("%+v", r)
	}
	calls.settle(asked, answer) // twice
}

func TestSecretsMustAgree(t *testing.T) {
	for _, c := range []struct{ dialer, listener string }{{"right", "wrong"}, {"wrong", "right"}, {"", "right"}} {
		ln := listen(t)
		b := open(t, ln, "b", quiet(), func(o *Options) { o.Secret = []byte(c.listener) })
		a := open(t, listen(t), "a", quiet(), func(o *Options) { o.Secret = []byte(c.dialer) })
		if _, _, err := a.dial(t.Context(), ln.Addr().String(), Control, time.Second); !errors.Is(err, ErrSecret) {
			t.Errorf("%+v: %v", c, err)
		}
		if b.Heard("a") != (time.Time{}) {
			t.Error("heard a node without the secret")
		}
	}
}

// A dialer that can't answer the challenge gets nowhere, whatever it sends in place of it.
func TestListenerChecksTheProof(t *testing.T) {
	d, l := net.Pipe()
	defer d.Close()
	errs := make(chan error, 1)
	go func() {
		_, _, err := acceptHandshake(l, Identity{NodeID: "l"}, []byte("secret"), func(Identity) bool { return false })
		errs <- err
	}()
	mine := newHello(Control, Identity{NodeID: "d"})
	_, _ = d.Write(mine.encode())
	theirs, err := readHello(d)
	if err != nil {
		t.Fatal(err)
	}
	var proof [32]byte
	if _, err := io.ReadFull(d, proof[:]); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(proof[:], mac([]byte("secret"), "listener", mine, theirs)) {
		t.Error("the listener's proof is wrong")
	}
	_, _ = d.Write(proof[:]) // reflected: the sides must not be exchangeable
	if err := <-errs; !errors.Is(err, ErrSecret) {
		t.Errorf("a reflected proof: %v", err)
	}
}

func TestHandshakeRefusesTwinsAndUnknownClasses(t *testing.T) {
	ln := listen(t)
	open(t, ln, "b", quiet(), nil)
	twin := open(t, listen(t), "b", quiet(), func(o *Options) { o.Self.Incarnation = 8 })
	if _, _, err := twin.dial(t.Context(), ln.Addr().String(), Control, time.Second); err == nil {
		t.Error("a second node with the same id was let in")
	}
	a := open(t, listen(t), "a", quiet(), nil)
	for _, class := range []Class{0, Bus + 1, 255} {
		if _, _, err := a.dial(t.Context(), ln.Addr().String(), class, time.Second); err == nil {
			t.Errorf("class %d was let in", class)
		}
	}
}

func TestAnotherNodeAtTheAddressIsNotTaken(t *testing.T) {
	ln := listen(t)
	open(t, ln, "c", quiet(), nil)
	a := open(t, listen(t), "a", quiet(), func(o *Options) { o.SuspectAfter = 20 * time.Millisecond })
	a.SetPeers(map[string]string{"b": ln.Addr().String()})
	eventually(t, "b down", func() bool { return a.Down("b") })
	if a.Stream("b", Control) != nil {
		t.Error("a stream to b stands, and c has the other end")
	}
}

// What an operator has got wrong must be told, once.
func TestWhatKeepsNodesApartIsLogged(t *testing.T) {
	ln := listen(t)
	open(t, ln, "c", quiet(), nil)
	var out buffer
	a := open(t, listen(t), "a", quiet(), func(o *Options) {
		o.SuspectAfter, o.Logger = 20*time.Millisecond, slog.New(slog.NewTextHandler(&out, nil))
	})
	a.SetPeers(map[string]string{"b": ln.Addr().String(), "x": "no-such-host.invalid:1"})
	for _, want := range []string{"c\\\" answers at the address of", "no-such-host.invalid"} {
		eventually(t, want, func() bool { return strings.Contains(out.String(), want) })
	}
	if n := strings.Count(out.String(), "cannot reach a node"); n != 2 {
		t.Errorf("%d lines:\n%s", n, out.String())
	}
}

// buffer may be written and read at once.
type buffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (b *buffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.Write(p)
}

func (b *buffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.b.String()
}

func TestMuxTellsClientsApart(t *testing.T) {
	ln := listen(t)
	n := open(t, ln, "b", quiet(), nil)
	dial := func(first string) net.Conn {
		c, err := net.Dial("tcp", ln.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		if _, err := c.Write([]byte(first)); err != nil {
			t.Fatal(err)
		}
		return c
	}
	dial("\x82rest")
	c, err := n.RPCListener().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	got := make([]byte, 5)
	if _, err := io.ReadFull(c, got); err != nil || string(got) != "\x82rest" {
		t.Errorf("Serf's RPC got %q, %v", got, err)
	}
	// What begins like a node but is none is closed.
	for _, garbage := range []string{"HTTP/1.1 200 OK\r\n\r\n", "HCP2" + strings.Repeat("x", 100)} {
		g := dial(garbage)
		_ = g.SetReadDeadline(time.Now().Add(10 * time.Second))
		if _, err := io.ReadAll(g); err != nil && !strings.Contains(err.Error(), "reset") {
			t.Errorf("garbage %.4q was not closed: %v", garbage, err)
		}
	}
	// Raft's connections come authenticated.
	a := open(t, listen(t), "a", quiet(), nil)
	done := make(chan error, 1)
	go func() {
		c, err := a.DialRaft(ln.Addr().String(), time.Second)
		if err == nil {
			_, err = c.Write([]byte("raft"))
			defer c.Close()
		}
		done <- err
	}()
	rc, err := n.RaftListener().Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	if _, err := io.ReadFull(rc, got[:4]); err != nil || string(got[:4]) != "raft" {
		t.Errorf("Raft got %q, %v", got[:4], err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestRPCQueueIsBoundedAndClosed(t *testing.T) {
	l := newQueueListener(&net.TCPAddr{})
	for range cap(l.ch) + 1 {
		_, c := net.Pipe()
		l.offer(c)
	}
	if len(l.ch) != cap(l.ch) {
		t.Errorf("%d connections wait", len(l.ch))
	}
	_ = l.Close()
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) || len(l.ch) != 0 {
		t.Errorf("after Close: %v, %d wait", err, len(l.ch))
	}
	d, c := net.Pipe()
	l.offer(c)
	if _, err := d.Write([]byte("x")); err == nil {
		t.Error("a connection offered after Close stays open")
	}
}

func TestHalfOpenHandshakesEnd(t *testing.T) {
	for name, sent := range map[string]string{"silent": "", "magic only": magic, "half a hello": magic + "\x01\x05ab"} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				ln := newQueueListener(&net.TCPAddr{})
				n := New(ln, quiet(), Options{Self: Identity{NodeID: "b"}})
				d, c := net.Pipe()
				ln.offer(c)
				if sent != "" {
					if _, err := d.Write([]byte(sent)); err != nil {
						t.Fatal(err)
					}
				}
				began := time.Now()
				if _, err := d.Read(make([]byte, 1)); err == nil {
					t.Error("answered")
				}
				if took := time.Since(began); took != handshakeTimeout {
					t.Errorf("closed after %v", took)
				}
				_ = n.Close()
			})
		})
	}
}

// Close must not wait for those who connected and say nothing, nor for a listener that accepts and says nothing.
func TestCloseDoesNotWaitForStrangers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newQueueListener(&net.TCPAddr{})
		n := New(ln, quiet(), Options{Self: Identity{NodeID: "b"}})
		d, c := net.Pipe()
		defer d.Close()
		ln.offer(c)
		synctest.Wait()
		began := time.Now()
		_ = n.Close()
		if took := time.Since(began); took != 0 {
			t.Errorf("Close took %v", took)
		}
	})
	silent := listen(t)
	defer silent.Close()
	accepted := make(chan net.Conn, 8)
	go func() {
		for {
			c, err := silent.Accept()
			if err != nil {
				close(accepted)
				return
			}
			accepted <- c
		}
	}()
	n := New(listen(t), quiet(), Options{Self: Identity{NodeID: "a"}})
	n.SetPeers(map[string]string{"s": silent.Addr().String()})
	c := <-accepted
	defer c.Close()
	began := time.Now()
	_ = n.Close()
	if took := time.Since(began); took > dialTimeout/2 {
		t.Errorf("Close waited %v for a handshake", took)
	}
}

func TestConnectionsBeforeTheProofAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ln := newQueueListener(&net.TCPAddr{})
		n := New(ln, quiet(), Options{Self: Identity{NodeID: "b"}})
		defer n.Close()
		var all []net.Conn
		for range maxGreets {
			d, c := net.Pipe()
			all = append(all, d)
			ln.offer(c)
			synctest.Wait()
		}
		d, c := net.Pipe()
		ln.offer(c)
		synctest.Wait()
		if _, err := d.Write([]byte("H")); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("one above the bound: %v", err)
		}
		for _, d := range all {
			_ = d.Close()
		}
	})
}

func TestDownFollowsTheNode(t *testing.T) {
	la, lb := listen(t), listen(t)
	addr := lb.Addr().String()
	// A refusing host is enough; silence would take an hour.
	a := open(t, la, "a", quiet(), func(o *Options) { o.SuspectAfter = time.Hour })
	b := New(lb, quiet(), Options{Self: Identity{NodeID: "b"}, Secret: []byte("secret"), HeartbeatEvery: 5 * time.Millisecond})
	a.SetPeers(map[string]string{"b": addr})
	standing(t, a, "b")
	if a.Down("b") {
		t.Error("down while it answers")
	}
	_ = b.Close()
	eventually(t, "down by refusal", func() bool { return a.Down("b") })
	eventually(t, "the address is free again", func() bool {
		var err error
		lb, err = net.Listen("tcp", addr)
		return err == nil
	})
	open(t, lb, "b", quiet(), nil)
	eventually(t, "up again", func() bool { return !a.Down("b") && a.Stream("b", Replica) != nil })
}

// A host that takes connections and never answers is down after SuspectAfter, and stays down.
func TestSilenceIsDownAndStaysDown(t *testing.T) {
	silent := listen(t)
	defer silent.Close()
	a := open(t, listen(t), "a", quiet(), func(o *Options) { o.SuspectAfter = 10 * time.Millisecond })
	a.SetPeers(map[string]string{"s": silent.Addr().String()})
	eventually(t, "down by silence", func() bool { return a.Down("s") })

	// One that answers the handshake and then nothing: the stream is opened anew, the verdict is the same.
	mute := listen(t)
	defer mute.Close()
	opened := make(chan struct{}, 1024)
	go func() {
		for {
			c, err := mute.Accept()
			if err != nil {
				return
			}
			go func() {
				pc := &peekConn{Conn: c}
				if pc.expectMagic() == nil {
					if class, _, err := acceptHandshake(c, Identity{NodeID: "m"}, []byte("secret"), func(Identity) bool { return false }); err == nil && class == Control {
						opened <- struct{}{}
					}
				}
				_, _ = io.Copy(io.Discard, c)
				_ = c.Close()
			}()
		}
	}()
	a.SetPeers(map[string]string{"m": mute.Addr().String()})
	<-opened
	eventually(t, "down by silence on a stream that stands", func() bool { return a.Down("m") })
	for range 2 {
		<-opened
		if !a.Down("m") {
			t.Error("a new connection alone made a silent node count as up")
		}
	}
}

func TestSetPeersFollowsTheList(t *testing.T) {
	la, lb := listen(t), listen(t)
	closed := make(chan *Stream, 16)
	ha := quiet()
	ha.Closed = func(s *Stream) {
		if s.Outbound {
			closed <- s
		}
	}
	a := open(t, la, "a", ha, nil)
	open(t, lb, "b", quiet(), nil)
	a.SetPeers(map[string]string{"a": la.Addr().String(), "b": lb.Addr().String()})
	standing(t, a, "b")
	first := a.Stream("b", Replica)
	a.SetPeers(map[string]string{"b": lb.Addr().String()}) // nothing new
	if a.Stream("b", Replica) != first || !first.Alive() {
		t.Error("the same address opened a new stream")
	}
	a.SetPeers(nil)
	for s := range closed {
		if s == first {
			break
		}
	}
	if a.Stream("b", Replica) != nil || first.Alive() || !a.Down("b") {
		t.Error("a stream to a node that is gone stands")
	}
	a.SetPeers(map[string]string{"b": lb.Addr().String()})
	standing(t, a, "b")
}

func certificate(t *testing.T) (server, client *tls.Config) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	cert, _ := x509.ParseCertificate(der)
	pool := x509.NewCertPool()
	pool.AddCert(cert)
	return &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}, &tls.Config{RootCAs: pool}
}

func TestTLS(t *testing.T) {
	server, client := certificate(t)
	with := func(o *Options) { o.Server, o.Client = server, client }
	got := make(chan string, 1)
	hb := quiet()
	hb.Frame = func(s *Stream, typ byte, body []byte) { got <- string(body) }
	a, _ := pair(t, quiet(), hb, with)
	standing(t, a, "b")
	a.Stream("b", Forward).Send(9, []byte("over TLS"))
	if s := <-got; s != "over TLS" {
		t.Errorf("got %q", s)
	}
	if out, err := a.Call(t.Context(), "b", "m", nil); err != nil || string(out) != "a m " {
		t.Errorf("call: %q, %v", out, err)
	}
	// Either side alone with TLS is refused.
	plain := open(t, listen(t), "p", quiet(), nil)
	if _, _, err := plain.dial(t.Context(), a.ln.Addr().String(), Control, time.Second); err == nil {
		t.Error("a node without TLS was let in")
	}
	if _, _, err := a.dial(t.Context(), plain.ln.Addr().String(), Control, 200*time.Millisecond); err == nil {
		t.Error("TLS with a node that has none")
	}
}

func TestCloseLeavesNoGoroutine(t *testing.T) {
	before := runtime.NumGoroutine()
	la, lb := listen(t), listen(t)
	o := Options{Secret: []byte("s"), HeartbeatEvery: time.Millisecond}
	o.Self.NodeID = "a"
	a := New(la, quiet(), o)
	o.Self.NodeID = "b"
	b := New(lb, quiet(), o)
	addrs := map[string]string{"a": la.Addr().String(), "b": lb.Addr().String()}
	a.SetPeers(addrs)
	b.SetPeers(addrs)
	standing(t, a, "b")
	standing(t, b, "a")
	_ = a.Close()
	_ = b.Close()
	a.SetPeers(addrs) // too late: does nothing
	eventually(t, "no goroutine is left", func() bool { return runtime.NumGoroutine() <= before })
	if _, err := a.RPCListener().Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("accept after Close: %v", err)
	}
}

func FuzzHandshake(f *testing.F) {
	f.Add([]byte(nil))
	f.Add(newHello(Control, Identity{NodeID: "a", Incarnation: 1}).encode())
	f.Add([]byte{2, 255, 1})
	f.Fuzz(func(t *testing.T, in []byte) {
		d, l := net.Pipe()
		go func() {
			_, _ = d.Write(in)
			_ = d.SetDeadline(time.Now().Add(5 * time.Millisecond))
			_, _ = io.Copy(io.Discard, d)
			_ = d.Close()
		}()
		if _, _, err := acceptHandshake(l, Identity{NodeID: "l"}, []byte("secret"), func(Identity) bool { return false }); err == nil {
			t.Error("let in without the secret")
		}
		_ = l.Close()
	})
}
