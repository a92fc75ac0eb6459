package member

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/serf/client"

	"hypercache/internal/need"
)

func serveRPC(t testing.TB, n *Node) string {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- n.ServeRPC(ln) }()
	t.Cleanup(func() {
		_ = ln.Close()
		_ = n.Close()
		if err := <-done; err != nil {
			t.Errorf("ServeRPC: %v", err)
		}
	})
	return ln.Addr().String()
}

func dial(t testing.TB, addr, key string) *client.RPCClient {
	t.Helper()
	c, err := client.ClientFromConfig(&client.Config{Addr: addr, AuthKey: key, Timeout: patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// serfCommand runs Debian's serf against addr.
func serfCommand(t *testing.T, addr string, args ...string) string {
	t.Helper()
	path := need.Program(t, "serf")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	full := append([]string{args[0], "-rpc-addr=" + addr}, args[1:]...)
	out, err := exec.CommandContext(ctx, path, full...).CombinedOutput()
	if err != nil {
		t.Errorf("serf %s: %v\n%s", strings.Join(full, " "), err, out)
	}
	return string(out)
}

func TestStockSerfProgram(t *testing.T) {
	key := bytes.Repeat([]byte{7}, 32)
	nodes := threeNodes(t, func(o *Options) { o.EncryptKey = key })
	addr := serveRPC(t, nodes[0])
	encoded := base64.StdEncoding.EncodeToString(key)
	newKey := base64.StdEncoding.EncodeToString(bytes.Repeat([]byte{8}, 32))
	eventually(t, "a coordinate of b", func() bool { _, ok := nodes[0].serf.GetCachedCoordinate("b"); return ok })
	for _, tt := range []struct {
		args []string
		want []string
	}{
		{[]string{"members"}, []string{"a", "b", "c", "alive", nodes[1].Local().GossipAddr, "zone=z-b"}},
		{[]string{"members", "-name=b", "-status=alive", "-tag", "zone=z-.*"}, []string{"b  "}},
		{[]string{"info"}, []string{"agent:", "name = a", "encrypted = true", "members = 3", "zone = z-a"}},
		{[]string{"rtt", "a", "b"}, []string{"Estimated a <-> b rtt"}},
		{[]string{"tags", "-set", "rack=r7"}, []string{"Successfully updated agent tags"}},
		{[]string{"event", "deploy", "v2"}, []string{"Event 'deploy' dispatched"}},
		{[]string{"query", "-timeout=2s", "anyone"}, []string{"Ack from 'a'", "Ack from 'b'", "Ack from 'c'", "Total Acks: 3"}},
		{[]string{"keys", "-list"}, []string{encoded, "[3/3]"}},
		{[]string{"keys", "-install", newKey}, []string{"Successfully installed"}},
		{[]string{"keys", "-use", newKey}, []string{"Successfully changed primary"}},
		{[]string{"keys", "-remove", encoded}, []string{"Successfully removed"}},
		{[]string{"reachability"}, []string{"Successfully contacted all live nodes"}},
	} {
		out := serfCommand(t, addr, tt.args...)
		for _, want := range tt.want {
			if !strings.Contains(out, want) {
				t.Errorf("serf %s: no %q in\n%s", strings.Join(tt.args, " "), want, out)
			}
		}
		if tt.args[0] == "members" && len(tt.args) > 1 && strings.Contains(out, "a  ") {
			t.Errorf("the filter let others through:\n%s", out)
		}
	}
	eventually(t, "the new tag at c", func() bool {
		for _, m := range nodes[2].Members() {
			if m.Tags["rack"] == "r7" {
				return m.RESPAddr == "127.0.0.1:8080"
			}
		}
		return false
	})
}

func TestClientLibrary(t *testing.T) {
	nodes := threeNodes(t, nil)
	a, b := dial(t, serveRPC(t, nodes[0]), ""), dial(t, serveRPC(t, nodes[1]), "")

	if list, err := a.Members(); err != nil || len(list) != 3 {
		t.Fatalf("members: %v, %v", list, err)
	}
	if list, err := a.MembersFiltered(map[string]string{"zone": "z-[ab]"}, "alive", ""); err != nil || len(list) != 2 {
		t.Fatalf("filtered: %v, %v", list, err)
	}
	if _, err := a.MembersFiltered(nil, "(", ""); err == nil {
		t.Fatal("a broken expression was accepted")
	}
	if stats, err := a.Stats(); err != nil || stats["serf"]["members"] != "3" {
		t.Fatalf("stats: %v, %v", stats, err)
	}
	if _, _, _, err := a.ListKeys(); err == nil || !strings.Contains(err.Error(), "not encrypted") {
		t.Fatalf("keys without encryption: %v", err)
	}
	if err := a.UpdateTags(map[string]string{"resp": "6666"}, nil); err == nil {
		t.Fatal("the address of a node could be forged")
	}
	if err := a.UpdateTags(nil, []string{"zone"}); err == nil {
		t.Fatal("the zone of a node could be removed")
	}
	if err := a.Leave(); err == nil {
		t.Fatal("leave without a handler must be refused")
	}
	if n, err := a.Join([]string{nodes[2].Local().GossipAddr}, false); err != nil || n != 1 {
		t.Fatalf("join: %d, %v", n, err)
	}

	// b listens; a speaks.
	events := make(chan map[string]any, 64)
	handle, err := b.Stream("user:deploy,query:load", events)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Stream("nonsense", make(chan map[string]any, 1)); err == nil {
		t.Fatal("an unknown event was accepted")
	}
	eventually(t, "the stream to be registered", func() bool {
		nodes[1].mu.Lock()
		defer nodes[1].mu.Unlock()
		return len(nodes[1].streams) == 1
	})
	if err := errors.Join(a.UserEvent("other", nil, false), a.UserEvent("deploy", []byte("v2"), false)); err != nil {
		t.Fatal(err)
	}
	e := receive(t, events)
	if text(e["Event"]) != "user" || text(e["Name"]) != "deploy" || text(e["Payload"]) != "v2" {
		t.Fatalf("event %v", e)
	}
	acks, answers := make(chan string, 8), make(chan client.NodeResponse, 8)
	err = a.Query(&client.QueryParam{Name: "load", Payload: []byte("?"), RequestAck: true, Timeout: 5 * time.Second, FilterNodes: []string{"b"}, AckCh: acks, RespCh: answers})
	if err != nil {
		t.Fatal(err)
	}
	q := receive(t, events)
	id, ok := q["ID"].(uint64)
	if !ok {
		id = uint64(q["ID"].(int64)) //nolint:gosec // small and positive
	}
	if err := b.Respond(id, []byte("42")); err != nil {
		t.Fatal(err)
	}
	if err := b.Respond(id+1000, nil); err == nil {
		t.Fatal("answered a query that nobody asked")
	}
	if r := receive(t, answers); r.From != "b" || string(r.Payload) != "42" {
		t.Fatalf("answer %v", r)
	}
	if from := receive(t, acks); from != "b" {
		t.Fatalf("ack from %s", from)
	}
	if err := b.Stop(handle); err != nil {
		t.Fatal(err)
	}

	logs := make(chan string, 512)
	if _, err := b.Monitor("debug", logs); err != nil {
		t.Fatal(err)
	}
	if line := receive(t, logs); !strings.Contains(line, "[") {
		t.Fatalf("log line %q", line)
	}
	if _, err := b.Monitor("debug", make(chan string, 1)); err == nil {
		t.Fatal("a second monitor was accepted")
	}
	// The client panics when it closes while lines arrive, so the node goes first.
	if err := nodes[1].Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the client to notice", b.IsClosed)
}

func receive[T any](t *testing.T, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing came")
		panic("unreachable")
	}
}

func text(v any) string {
	switch v := v.(type) {
	case string:
		return v
	case []byte:
		return string(v)
	}
	return ""
}

func TestLeaveRunsWhatTheNodeSays(t *testing.T) {
	left := make(chan struct{})
	o := options("a")
	var once sync.Once
	o.OnLeave = func(context.Context) error { once.Do(func() { close(left) }); return nil }
	c := dial(t, serveRPC(t, start(t, o)), "")
	if err := c.Leave(); err != nil {
		t.Fatal(err)
	}
	receive(t, left)
}

func TestAuthKeyIsAskedFor(t *testing.T) {
	o := options("a")
	o.RPCAuthKey = "open sesame"
	addr := serveRPC(t, start(t, o))
	if _, err := dial(t, addr, "open sesame").Members(); err != nil {
		t.Fatal(err)
	}
	if _, err := client.ClientFromConfig(&client.Config{Addr: addr, AuthKey: "open sesame!"}); err == nil {
		t.Fatal("a wrong key was accepted")
	}
	c := dial(t, addr, "")
	if _, err := c.Members(); err == nil || err.Error() != "Authentication required" {
		t.Fatalf("without a key: %v", err)
	}
}

func TestPeersFromElsewhereNeedAKey(t *testing.T) {
	n := start(t, options("a"))
	ours, theirs := net.Pipe() // its address is no loopback address
	ln := &oneConn{conn: theirs, closed: make(chan struct{})}
	done := make(chan error, 1)
	go func() { done <- n.ServeRPC(ln) }()
	_ = ours.SetReadDeadline(time.Now().Add(rpcHelloDeadline / 2)) // silence would end it later anyway
	if _, err := ours.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Fatalf("the connection stayed open: %v", err)
	}
	_ = ln.Close()
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

type oneConn struct {
	conn   net.Conn
	closed chan struct{}
	once   sync.Once
}

func (l *oneConn) Accept() (net.Conn, error) {
	if c := l.conn; c != nil {
		l.conn = nil
		return c, nil
	}
	<-l.closed
	return nil, net.ErrClosed
}

func (l *oneConn) Close() error   { l.once.Do(func() { close(l.closed) }); return nil }
func (l *oneConn) Addr() net.Addr { return &net.TCPAddr{} }

func TestPrefaceIsWhatClientsSend(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close() //nolint:errcheck
	go func() { _, _ = client.ClientFromConfig(&client.Config{Addr: ln.Addr().String(), Timeout: time.Second}) }()
	conn, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close() //nolint:errcheck
	first := make([]byte, RPCPrefaceLen)
	if _, err := io.ReadFull(conn, first); err != nil {
		t.Fatal(err)
	}
	if !IsRPC(first) || !IsRPC(first[:1]) || IsRPC(nil) || IsRPC([]byte("\x16\x03\x01")) || IsRPC([]byte("GET / HTT")) {
		t.Fatalf("preface % x", first)
	}
}

// TestHostileBytesEndOnlyTheirConnection feeds what no client sends.
func TestHostileBytesEndOnlyTheirConnection(t *testing.T) {
	n := start(t, options("a"))
	addr := serveRPC(t, n)
	hello := "\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01"
	for name, bytes := range map[string]string{
		"no handshake":   "\x82\xa7Command\xa7members\xa3Seq\x01",
		"unknown":        hello + "\x82\xa7Command\xa4what\xa3Seq\x01",
		"wrong type":     "\x93\x01\x02\x03",
		"huge string":    "\x82\xa7Command\xdb\xff\xff\xff\xff",
		"huge map":       hello + "\x82\xa7Command\xa4tags\xa3Seq\x01\x81\xa4Tags\xdf\xff\xff\xff\xff",
		"deep nesting":   hello + "\x82\xa7Command\xa5event\xa3Seq\x01\x81\xa3Odd" + strings.Repeat("\x91", 10000),
		"large payload":  hello + "\x82\xa7Command\xa5event\xa3Seq\x01\x81\xa7Payload\xc6\x00\x10\x00\x00" + strings.Repeat("x", 1<<20),
		"reserved bytes": "\xc1\xc1\xc1",
	} {
		conn, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := conn.SetDeadline(time.Now().Add(rpcHelloDeadline / 2)); err != nil {
			t.Fatal(err)
		}
		_, _ = io.WriteString(conn, bytes)
		if name == "huge string" || name == "huge map" || name == "wrong type" {
			_ = conn.(*net.TCPConn).CloseWrite()
		}
		if _, err := io.Copy(io.Discard, conn); errors.Is(err, context.DeadlineExceeded) || isTimeout(err) {
			t.Errorf("%s: the connection stays open", name)
		}
		_ = conn.Close()
	}
	if _, err := dial(t, addr, "").Members(); err != nil {
		t.Fatalf("afterwards: %v", err)
	}
}

func isTimeout(err error) bool {
	var ne net.Error
	return errors.As(err, &ne) && ne.Timeout()
}

func FuzzRPC(f *testing.F) {
	n := start(f, options("a"))
	f.Add([]byte("\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01\x82\xa7Command\xa7members\xa3Seq\x01"))
	f.Add([]byte("\x82\xa7Command\xa9handshake\xa3Seq\x00\x81\xa7Version\x01\x82\xa7Command\xa6stream\xa3Seq\x01\x81\xa4Type\xa1*"))
	f.Add([]byte("\x82\xa7Command\xdf\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		ours, theirs := net.Pipe()
		done := make(chan struct{})
		go func() { n.serveConn(n.ctx, theirs); close(done) }()
		go func() { _, _ = io.Copy(io.Discard, ours) }()
		_ = ours.SetWriteDeadline(time.Now().Add(time.Second))
		_, _ = ours.Write(data)
		_ = ours.Close()
		select {
		case <-done:
		case <-time.After(10 * time.Second):
			t.Fatal("the connection does not end")
		}
	})
}

func TestAskListsWhatANodeSees(t *testing.T) {
	nodes := threeNodes(t, func(o *Options) { o.RPCAuthKey = "k" })
	addr := serveRPC(t, nodes[0])
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	list, err := Ask(ctx, addr, "k")
	if err != nil || len(list) != 3 || list[1].ID != "b" || list[1].Status != Alive || list[1].RESPAddr != "127.0.0.1:8080" {
		t.Fatalf("%+v, %v", list, err)
	}
	if _, err := Ask(ctx, addr, "wrong"); err == nil {
		t.Fatal("a wrong key was accepted")
	}
}
