package member

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/memberlist"
	"github.com/hashicorp/serf/serf"
)

const patience = 30 * time.Second

// eventually waits for a condition that network traffic will bring about.
func eventually(t testing.TB, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("still waiting for: %s", what)
		}
	}
}

func options(id string, seeds ...string) Options {
	return Options{
		NodeID: id, BindAddr: "127.0.0.1", AdvertiseAddr: "127.0.0.1", Cluster: "test", Seeds: seeds,
		Tags: Tags{RPCAddr: "127.0.0.1:7373", RESPAddr: "127.0.0.1:8080", HTTPAddr: "127.0.0.1:9080", Zone: "z-" + id, Version: "v1"},
	}
}

func start(t testing.TB, o Options) *Node {
	t.Helper()
	n, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := n.Start(ctx); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Close() })
	return n
}

func alive(n *Node) (ids []string) {
	for _, m := range n.Members() {
		if m.Status == Alive {
			ids = append(ids, m.ID)
		}
	}
	return ids
}

func threeNodes(t testing.TB, edit func(*Options)) []*Node {
	t.Helper()
	nodes := make([]*Node, 3)
	var seeds []string
	for i, id := range []string{"a", "b", "c"} {
		o := options(id, seeds...)
		if edit != nil {
			edit(&o)
		}
		nodes[i] = start(t, o)
		seeds = []string{nodes[0].Local().GossipAddr}
	}
	for _, n := range nodes {
		eventually(t, "three members", func() bool { return len(alive(n)) == 3 })
	}
	return nodes
}

func TestMembersCarryWhatOthersNeed(t *testing.T) {
	nodes := threeNodes(t, func(o *Options) { o.Tags.TLS = o.NodeID == "b"; o.Observer = o.NodeID == "c" })
	for i, m := range nodes[2].Members() {
		id := string(rune('a' + i))
		if m.ID != id || m.RPCAddr != "127.0.0.1:7373" || m.RESPAddr != "127.0.0.1:8080" || m.HTTPAddr != "127.0.0.1:9080" ||
			m.Zone != "z-"+id || m.Version != "v1" || m.TLS != (id == "b") || m.Observer() != (id == "c") || m.Status != Alive {
			t.Errorf("member %d is %+v", i, m)
		}
	}
}

func TestWatchersHearOfJoinAndLeave(t *testing.T) {
	var mu sync.Mutex
	var seen []Member
	a, err := New(options("a"))
	if err != nil {
		t.Fatal(err)
	}
	a.OnChange(func(list []Member) {
		mu.Lock()
		defer mu.Unlock()
		seen = list
	})
	if err := a.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer a.Close() //nolint:errcheck
	status := func(id string) Status {
		mu.Lock()
		defer mu.Unlock()
		for _, m := range seen {
			if m.ID == id {
				return m.Status
			}
		}
		return ""
	}
	b := start(t, options("b", a.Local().GossipAddr))
	eventually(t, "b alive", func() bool { return status("b") == Alive })
	if err := b.Leave(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "b left", func() bool { return status("b") == Left })
}

func TestADeadNodeIsFailedAndNotLeft(t *testing.T) {
	nodes := threeNodes(t, nil)
	if err := nodes[2].Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "c failed", func() bool {
		for _, m := range nodes[0].Members() {
			if m.ID == "c" {
				return m.Status == Failed
			}
		}
		return false
	})
}

func TestSeedsThatComeLaterAreFound(t *testing.T) {
	// A port that is free now and that the seed takes later.
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	port := ln.Addr().(*net.TCPAddr).Port
	if err := ln.Close(); err != nil {
		t.Fatal(err)
	}
	var log lockedBuffer
	o := options("early", "no-such-name.invalid:7946", ln.Addr().String())
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	early := start(t, o)
	eventually(t, "the first failed attempt", func() bool { return strings.Contains(log.String(), "waiting for seeds") })
	late := options("late")
	late.GossipPort = port
	start(t, late)
	eventually(t, "both", func() bool { return len(alive(early)) == 2 })
}

func TestAnIDComesBackOnAnotherAddress(t *testing.T) {
	edit := func(o *Options) { o.ReclaimAfter = 50 * time.Millisecond }
	nodes := threeNodes(t, edit)
	old := nodes[2].Local().GossipAddr
	if err := nodes[2].Close(); err != nil {
		t.Fatal(err)
	}
	// Two seeds, since gossip learns of the new address from whoever believes it dead.
	again := options("c", nodes[0].Local().GossipAddr, nodes[1].Local().GossipAddr)
	edit(&again)
	n := start(t, again)
	if n.Local().GossipAddr == old {
		t.Fatal("the system handed out a port that was in use a moment ago")
	}
	eventually(t, "c alive on its new address", func() bool {
		for _, m := range nodes[0].Members() {
			if m.ID == "c" {
				return m.Status == Alive && m.GossipAddr == n.Local().GossipAddr
			}
		}
		return false
	})
	select {
	case <-n.Failed():
		t.Fatal("the returning node gave up against its own ghost")
	default:
	}
}

func TestClustersWithOtherNamesOrKeysStayApart(t *testing.T) {
	base := options("a")
	base.EncryptKey = bytes.Repeat([]byte{1}, 32)
	a := start(t, base)
	for name, edit := range map[string]func(*Options){
		"other name": func(o *Options) { o.Cluster = "elsewhere" },
		"other key":  func(o *Options) { o.EncryptKey = bytes.Repeat([]byte{2}, 32) },
		"no key":     func(o *Options) { o.EncryptKey = nil },
	} {
		o := options("x")
		o.EncryptKey = base.EncryptKey
		edit(&o)
		x := start(t, o)
		if _, err := x.serf.Join([]string{a.Local().GossipAddr}, true); err == nil {
			t.Errorf("%s: joined", name)
		}
	}
	o := options("b", a.Local().GossipAddr)
	o.EncryptKey = base.EncryptKey
	start(t, o)
	eventually(t, "the one with name and key", func() bool { return len(alive(a)) == 2 })
}

func TestRotatedKeysSurviveARestart(t *testing.T) {
	file := filepath.Join(t.TempDir(), "keyring")
	k1, k2 := bytes.Repeat([]byte{1}, 32), bytes.Repeat([]byte{2}, 32)
	keys := func(o Options) *memberlist.Keyring {
		conf, ml := serf.DefaultConfig(), memberlist.DefaultLANConfig()
		if err := setKeys(conf, ml, o); err != nil {
			t.Fatal(err)
		}
		return ml.Keyring
	}
	if ring := keys(Options{KeyringFile: file}); ring != nil {
		t.Fatal("keys from nowhere")
	}
	if ring := keys(Options{KeyringFile: file, EncryptKey: k1}); !bytes.Equal(ring.GetPrimaryKey(), k1) {
		t.Fatal("the configured key is not used")
	}
	text, err := json.Marshal([][]byte{k2, k1})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, text, 0o600); err != nil {
		t.Fatal(err)
	}
	if ring := keys(Options{KeyringFile: file, EncryptKey: k1}); !bytes.Equal(ring.GetPrimaryKey(), k2) || !holdsKey(ring, k1) {
		t.Fatal("the rotated key was forgotten")
	}
	k3 := bytes.Repeat([]byte{3}, 32)
	if ring := keys(Options{KeyringFile: file, EncryptKey: k3}); !bytes.Equal(ring.GetPrimaryKey(), k3) || !holdsKey(ring, k2) {
		t.Fatal("a newer configured key was ignored")
	}
	if err := os.WriteFile(file, []byte("junk"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := setKeys(serf.DefaultConfig(), memberlist.DefaultLANConfig(), Options{KeyringFile: file}); err == nil {
		t.Fatal("a damaged keyring was ignored")
	}
}

func TestPortInUseIsReported(t *testing.T) {
	a := start(t, options("a"))
	o := options("b")
	o.GossipPort = int(a.serf.LocalMember().Port)
	b, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close() //nolint:errcheck
	if err := b.Start(t.Context()); err == nil || !strings.Contains(err.Error(), a.Local().GossipAddr) {
		t.Fatalf("got %v", err)
	}
}

func TestTagsFitEvenWhenNamesAreLong(t *testing.T) {
	o := options(strings.Repeat("n", 63))
	o.AdvertiseAddr = strings.Repeat("h", 63) + "." + strings.Repeat("d", 63) + "." + strings.Repeat("e", 60)
	o.Tags = Tags{RPCAddr: o.AdvertiseAddr + ":7373", RESPAddr: o.AdvertiseAddr + ":8080", HTTPAddr: o.AdvertiseAddr + ":9080", Zone: strings.Repeat("z", 63), Version: "v1.22.333-rc.4+build.5", TLS: true}
	size := 0
	for k, v := range encodeTags(o) {
		size += len(k) + len(v) + 4
	}
	if size > memberlist.MetaMaxSize {
		t.Fatalf("%d bytes of tags", size)
	}
	back := decodeMember(serf.Member{Tags: encodeTags(o)})
	if back.RPCAddr != o.Tags.RPCAddr || back.RESPAddr != o.Tags.RESPAddr || back.Zone != o.Tags.Zone {
		t.Fatalf("came back as %+v", back)
	}
}

func TestSerfLinesBecomeRecords(t *testing.T) {
	var log bytes.Buffer
	tap := newLogTap(slog.New(slog.NewTextHandler(&log, nil)))
	tap.logger().Print("[WARN] memberlist: Was able to connect to x over TCP")
	tap.logger().Print("[DEBUG] serf: hidden")
	tap.logger().Print("no level at all")
	got := log.String()
	for _, want := range []string{`level=WARN msg="Was able to connect to x over TCP" component=memberlist`, `level=INFO msg="no level at all" component=serf`} {
		if !strings.Contains(got, want) {
			t.Errorf("missing %s in\n%s", want, got)
		}
	}
	if strings.Contains(got, "hidden") {
		t.Error("debug lines at info level")
	}
}

type lockedBuffer struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (b *lockedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.Write(p)
}

func (b *lockedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.buf.String()
}
