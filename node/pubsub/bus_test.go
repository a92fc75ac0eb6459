package pubsub

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"hypercache/node/ring"
)

// pipe is a Link that keeps what is sent.
type pipe struct {
	mu      sync.Mutex
	frames  []frame
	waiting int
	refuses bool
	closed  bool
	flushes int
}

type frame struct {
	typ  byte
	body []byte
}

func (p *pipe) Begin(typ byte) ([]byte, bool) { return []byte{typ}, !p.refuses }
func (p *pipe) End(b []byte) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.frames = append(p.frames, frame{b[0], bytes.Clone(b[1:])})
}
func (p *pipe) Flush()       { p.flushes++ }
func (p *pipe) Close()       { p.closed = true }
func (p *pipe) Waiting() int { return p.waiting }

// take returns what was sent since the last take.
func (p *pipe) take() []frame {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := p.frames
	p.frames = nil
	return all
}

// ears is a Tracking that notes what it is told.
type ears struct {
	tracking bool
	prefixes [][]byte
	heard    []string
	learned  int
}

func (e *ears) Interest() (bool, [][]byte) { return e.tracking, e.prefixes }
func (e *ears) Invalidate(key []byte, client uint64) {
	e.heard = append(e.heard, fmt.Sprintf("%s by %d", key, client))
}
func (e *ears) Flush()   { e.heard = append(e.heard, "flush") }
func (e *ears) Learned() { e.learned++ }

func (e *ears) take() []string {
	all := e.heard
	e.heard = nil
	return all
}

func same(pattern, name []byte) bool {
	p, ok := strings.CutSuffix(string(pattern), "*")
	return string(name) == p || ok && strings.HasPrefix(string(name), p)
}

// end is one node of two.
type end struct {
	name     string
	registry *Registry
	bus      *Bus
	ears     *ears
	out      *pipe // to the other
	answers  *pipe // what it answers on the other's stream
}

func newEnd(name string) *end {
	e := &end{name: name, registry: NewRegistry(same), ears: &ears{}, out: &pipe{}, answers: &pipe{}}
	e.bus = NewBus(e.registry, e.ears)
	return e
}

// connect opens streams both ways.
func connect(a, b *end) {
	for _, p := range [][2]*end{{a, b}, {b, a}} {
		p[0].bus.Up(p[1].name, p[0].out)
		p[1].bus.Accepted(p[0].name)
	}
}

// carry takes every frame to where it belongs, and returns how many there were.
func carry(t *testing.T, a, b *end) (n int) {
	t.Helper()
	for moved := true; moved; {
		moved = false
		for _, p := range [][2]*end{{a, b}, {b, a}} {
			for _, f := range p[0].out.take() {
				if err := p[1].bus.Frame(p[0].name, p[1].answers, f.typ, f.body); err != nil {
					t.Fatalf("frame %d %q from %s: %v", f.typ, f.body, p[0].name, err)
				}
				moved, n = true, n+1
			}
			for _, f := range p[1].answers.take() {
				if err := p[0].bus.Acked(p[1].name, p[0].out, f.typ, f.body); err != nil {
					t.Fatalf("ack of %s: %v", p[1].name, err)
				}
				moved = true
			}
		}
	}
	return n
}

// inbox is a subscriber that keeps what it gets.
func inbox() (*Subscriber, *[]string) {
	var got []string
	return NewSubscriber(func(raw []byte) bool { got = append(got, string(raw)); return true }), &got
}

func pair(t *testing.T) (a, b *end) {
	t.Helper()
	a, b = newEnd("a"), newEnd("b")
	connect(a, b)
	carry(t, a, b)
	a.ears.take()
	b.ears.take()
	return a, b
}

func TestMessageReachesTheSubscribersOfEveryNodeInOrder(t *testing.T) {
	a, b := pair(t)
	here, gotHere := inbox()
	there, gotThere := inbox()
	there.SetProto(3)
	a.registry.Subscribe(here, Channel, "news")
	b.registry.Subscribe(there, Pattern, "ne*")
	for _, text := range []string{"one", "", "\x00\r\n"} {
		if n := a.bus.Publish([]byte("news"), []byte(text)); n != 1 {
			t.Errorf("%d receivers here", n)
		}
	}
	a.bus.Flush()
	if a.out.flushes == 0 {
		t.Error("nothing was flushed")
	}
	carry(t, a, b)
	wantHere := []string{"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\none\r\n", "*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$0\r\n\r\n",
		"*3\r\n$7\r\nmessage\r\n$4\r\nnews\r\n$3\r\n\x00\r\n\r\n"}
	wantThere := []string{">4\r\n$8\r\npmessage\r\n$3\r\nne*\r\n$4\r\nnews\r\n$3\r\none\r\n", ">4\r\n$8\r\npmessage\r\n$3\r\nne*\r\n$4\r\nnews\r\n$0\r\n\r\n",
		">4\r\n$8\r\npmessage\r\n$3\r\nne*\r\n$4\r\nnews\r\n$3\r\n\x00\r\n\r\n"}
	if !slices.Equal(*gotHere, wantHere) || !slices.Equal(*gotThere, wantThere) {
		t.Errorf("here %q\nthere %q", *gotHere, *gotThere)
	}
	if a.bus.Sent.Load() != 3 || b.bus.Received.Load() != 3 || a.bus.Dropped.Load() != 0 {
		t.Errorf("%d sent, %d received, %d dropped", a.bus.Sent.Load(), b.bus.Received.Load(), a.bus.Dropped.Load())
	}
}

func TestShardMessageGoesOnlyToNodesThatAskedForItsGroup(t *testing.T) {
	a, b := pair(t)
	a.bus.PublishShard([]byte("orders"), []byte("1"))
	if n := carry(t, a, b); n != 0 {
		t.Errorf("%d frames to a node without subscribers", n)
	}
	s, got := inbox()
	if !b.registry.Subscribe(s, Shard, "orders") {
		t.Error("the first subscription of a group does not change what the node wants")
	}
	b.bus.Changed(nil)
	carry(t, a, b)
	if b.registry.Subscribe(s, Shard, "orders") {
		t.Error("the same subscription again changes something")
	}
	a.bus.PublishShard([]byte("orders"), []byte("2"))
	other := "x"
	for ring.GroupOf(ring.Slot([]byte(other))) == ring.GroupOf(ring.Slot([]byte("orders"))) {
		other += "x"
	}
	a.bus.PublishShard([]byte(other), []byte("3"))
	if n := carry(t, a, b); n != 1 {
		t.Errorf("%d frames, want the one", n)
	}
	if want := []string{"*3\r\n$8\r\nsmessage\r\n$6\r\norders\r\n$1\r\n2\r\n"}; !slices.Equal(*got, want) {
		t.Errorf("got %q", *got)
	}
	if !b.registry.Leave(s) {
		t.Error("leaving changes nothing")
	}
	b.bus.Changed(nil)
	carry(t, a, b)
	a.bus.PublishShard([]byte("orders"), []byte("4"))
	if n := carry(t, a, b); n != 0 {
		t.Errorf("%d frames after the subscriber left", n)
	}
}

func TestEventsGoOnlyToNodesThatListen(t *testing.T) {
	a, b := pair(t)
	a.bus.Event(true, true, "set", []byte("k"))
	if a.bus.Watched() || carry(t, a, b) != 0 {
		t.Error("an event went to a node that does not listen")
	}
	s, got := inbox()
	b.registry.Subscribe(s, Pattern, "__key*")
	b.bus.Changed(nil)
	carry(t, a, b)
	if !a.bus.Watched() {
		t.Fatal("a does not know that b listens")
	}
	a.bus.Event(true, true, "set", []byte("k\x00"))
	a.bus.Event(false, true, "del", nil)
	carry(t, a, b)
	var names []string
	for _, m := range *got {
		parts := strings.Split(m, "\r\n")
		names = append(names, parts[6]+" "+parts[8])
	}
	if want := []string{"__keyspace@0__:k\x00 set", "__keyevent@0__:set k\x00", "__keyevent@0__:del "}; !slices.Equal(names, want) {
		t.Errorf("events %q", names)
	}
}

func TestSubscriptionIsSettledWhenEveryNodeThatIsReachedKnowsOfIt(t *testing.T) {
	a, b := pair(t)
	settled := 0
	s, _ := inbox()
	a.registry.Subscribe(s, Channel, "__keyspace@0__:k")
	a.bus.Changed(func() { settled++ })
	if settled != 0 {
		t.Fatal("settled before the other node knows")
	}
	carry(t, a, b)
	if settled != 1 {
		t.Fatalf("settled %d times", settled)
	}
	a.bus.Changed(func() { settled++ })
	if settled != 2 {
		t.Error("what changes nothing waits")
	}
	// A node that goes while somebody waits holds nobody up.
	a.registry.Leave(s)
	a.bus.Changed(func() { settled++ })
	a.bus.Down("b", &pipe{}) // an older stream's end
	if settled != 2 {
		t.Error("the end of another stream settles")
	}
	a.bus.Down("b", a.out)
	if settled != 3 || a.bus.Connected("b") {
		t.Error("waits for a node that is gone")
	}
}

func TestSubscriptionWaitsASecondAtMost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, b := pair(t)
		s, _ := inbox()
		settled := false
		b.registry.Subscribe(s, Shard, "orders")
		b.bus.Changed(func() { settled = true }) // and a never answers
		b.bus.Tick(time.Now().Add(settleTime - time.Millisecond))
		if settled {
			t.Error("settled early")
		}
		b.bus.Tick(time.Now().Add(settleTime + time.Millisecond))
		if !settled {
			t.Error("not settled after a second")
		}
		_ = a
	})
}

func TestAcksOfAnOlderStreamDoNotCount(t *testing.T) {
	a, b := newEnd("a"), newEnd("b")
	connect(a, b)
	carry(t, a, b)
	if !a.bus.Connected("b") || !a.bus.Hears("b") {
		t.Fatal("not connected")
	}
	old := a.out
	a.out = &pipe{}
	a.bus.Up("b", a.out)
	if a.bus.Connected("b") {
		t.Error("a new stream is confirmed by the old one's ack")
	}
	if err := a.bus.Acked("b", old, frameAck, binary.LittleEndian.AppendUint64(nil, 99)); err != nil || a.bus.Connected("b") {
		t.Errorf("an ack on the old stream counts (%v)", err)
	}
	for _, bad := range []frame{{frameAck, nil}, {frameAck, make([]byte, 9)}, {frameMessage, make([]byte, 8)}} {
		if a.bus.Acked("b", a.out, bad.typ, bad.body) == nil {
			t.Errorf("the answer %v is accepted", bad)
		}
	}
	carry(t, a, b)
	if !a.bus.Connected("b") {
		t.Error("the new stream is not confirmed")
	}
}

func TestMessagesBeyondTheBoundAreDroppedAndInvalidationsEndTheStream(t *testing.T) {
	a, b := pair(t)
	b.ears.tracking = true
	b.bus.Changed(nil)
	carry(t, a, b)
	a.out.waiting = maxQueued + 1
	a.bus.Publish([]byte("c"), []byte("m"))
	if a.bus.Dropped.Load() != 1 || a.out.closed {
		t.Errorf("%d dropped, closed %v", a.bus.Dropped.Load(), a.out.closed)
	}
	a.bus.Invalidate("b", []byte("k"), 0)
	if a.bus.Dropped.Load() != 2 || !a.out.closed {
		t.Errorf("an invalidation was lost unseen: %d dropped, closed %v", a.bus.Dropped.Load(), a.out.closed)
	}
	if n := carry(t, a, b); n != 0 {
		t.Errorf("%d frames beyond the bound", n)
	}
	a.out.waiting, a.out.refuses = 0, true
	a.bus.Publish([]byte("c"), []byte("m"))
	if a.bus.Dropped.Load() != 3 {
		t.Error("a message that the stream refused is not counted")
	}
	a.bus.Down("b", a.out)
	a.bus.Publish([]byte("c"), []byte("m"))
	if a.bus.Dropped.Load() != 4 {
		t.Error("a message to a node that is away is not counted")
	}
	a.bus.Retain(map[string]string{})
	if a.bus.Publish([]byte("c"), []byte("m")); a.bus.Dropped.Load() != 5 {
		t.Error("a node with a stream to us is forgotten")
	}
	a.bus.Ended("b")
	a.bus.Retain(map[string]string{})
	if a.bus.Publish([]byte("c"), []byte("m")); a.bus.Dropped.Load() != 5 {
		t.Error("a node that left is still written to")
	}
}

func TestInvalidationsNameTheWriterOnlyToItsNode(t *testing.T) {
	a, b := pair(t)
	b.ears.tracking, b.ears.prefixes = true, [][]byte{[]byte("user:")}
	b.bus.Changed(nil)
	carry(t, a, b)
	if !a.bus.Tracked() {
		t.Fatal("a does not know that b has clients that track")
	}
	a.bus.Invalidate("b", []byte("k"), 7)
	a.bus.InvalidatePrefix([]byte("user:1"), "b", 8, nil)
	a.bus.InvalidatePrefix([]byte("user:2"), "c", 9, nil)
	a.bus.InvalidatePrefix([]byte("user:3"), "b", 8, []string{"b"})
	a.bus.InvalidatePrefix([]byte("other"), "b", 8, nil)
	a.bus.FlushTracking()
	carry(t, a, b)
	if got, want := b.ears.take(), []string{"k by 7", "user:1 by 8", "user:2 by 0", "flush"}; !slices.Equal(got, want) {
		t.Errorf("b heard %q", got)
	}
}

func TestMorePrefixesThanTheBoundAreAskedForAsEveryKey(t *testing.T) {
	a, b := pair(t)
	b.ears.tracking = true
	for i := range maxPrefixes + 1 {
		b.ears.prefixes = append(b.ears.prefixes, fmt.Appendf(nil, "p%d:", i))
	}
	b.bus.Changed(nil)
	if f := b.out.frames; len(f) != 1 || len(f[0].body) > 100 {
		t.Fatalf("the interest has %d frames of %d bytes", len(f), len(f[0].body))
	}
	carry(t, a, b)
	a.bus.InvalidatePrefix([]byte("anything"), "", 0, nil)
	carry(t, a, b)
	if got := b.ears.take(); !slices.Equal(got, []string{"anything by 0"}) {
		t.Errorf("b heard %q", got)
	}
	b.ears.prefixes = b.ears.prefixes[:maxPrefixes]
	b.bus.Changed(nil)
	carry(t, a, b)
	a.bus.InvalidatePrefix([]byte("anything"), "", 0, nil)
	a.bus.InvalidatePrefix([]byte("p255:x"), "", 0, nil)
	carry(t, a, b)
	if got := b.ears.take(); !slices.Equal(got, []string{"p255:x by 0"}) {
		t.Errorf("b heard %q", got)
	}
}

func TestEveryLostOrNewLinkFlushesTheTrackingClients(t *testing.T) {
	a, b := newEnd("a"), newEnd("b")
	said := func(what string) {
		t.Helper()
		if got := a.ears.take(); !slices.Contains(got, "flush") {
			t.Errorf("%s: no flush", what)
		}
	}
	a.bus.Accepted("b")
	said("a node opened a stream to us")
	a.bus.Up("b", a.out)
	if len(a.ears.take()) > 0 {
		t.Error("our own stream says nothing yet")
	}
	b.bus.Accepted("a")
	carry(t, a, b)
	said("the node knows what we want")
	a.bus.Down("b", a.out)
	said("our stream ended")
	a.bus.Ended("b")
	said("the node's stream ended")
	if a.ears.learned == 0 {
		t.Error("nobody was told that interests may have changed")
	}
}

func TestInterestRoundTrips(t *testing.T) {
	for _, want := range []interest{
		{}, {keyspace: true}, {tracking: true, prefixes: [][]byte{{}}},
		{keyspace: true, tracking: true, prefixes: [][]byte{[]byte("a"), []byte("\x00\xff")}, shards: [ring.Groups / 8]byte{1, 0, 128}},
	} {
		body := want.encode(nil, 42)
		got, version, err := decodeInterest(body)
		if err != nil || version != 42 || !got.equal(&want) {
			t.Errorf("%+v: %+v, %d, %v", want, got, version, err)
		}
		for n := range body {
			if _, _, err := decodeInterest(body[:n]); err == nil {
				t.Errorf("%+v: %d of %d bytes are accepted", want, n, len(body))
			}
		}
	}
}

// FuzzFrame gives a node anything as a frame: it is refused or understood, and an interest costs no more memory than its
// own length justifies.
func FuzzFrame(f *testing.F) {
	i := interest{keyspace: true, tracking: true, prefixes: [][]byte{[]byte("p")}}
	f.Add(byte(frameInterest), i.encode(nil, 1))
	f.Add(byte(frameMessage), appendMessage(nil, Channel, []byte("c"), []byte("m")))
	f.Add(byte(frameMessage), appendMessage(nil, Shard, []byte("c"), []byte("m")))
	f.Add(byte(frameMessage), []byte{0, 255, 255, 255, 255, 'x'})
	f.Add(byte(frameEvent), []byte{3, 3, 's', 'e', 't', 'k'})
	f.Add(byte(frameInvalidate), make([]byte, 9))
	f.Add(byte(frameFlush), []byte{})
	f.Add(byte(frameAck), make([]byte, 8))
	f.Fuzz(func(t *testing.T, typ byte, body []byte) {
		e := newEnd("a")
		s, got := inbox()
		e.registry.Subscribe(s, Pattern, "*")
		answer := &pipe{}
		err := e.bus.Frame("b", answer, typ, body)
		_ = e.bus.Acked("b", answer, typ, body)
		if err != nil && len(*got) > 0 {
			t.Errorf("a frame that is refused was delivered: %q", *got)
		}
		if typ != frameInterest {
			return
		}
		if answered := len(answer.frames) == 1; answered != (err == nil) {
			t.Errorf("answered %v, error %v", answered, err)
		}
		i, version, err := decodeInterest(body)
		if err != nil {
			return
		}
		size := 0
		for _, p := range i.prefixes {
			size += len(p)
		}
		if size > len(body) || len(i.prefixes) > len(body)/4 {
			t.Errorf("%d prefixes of %d bytes from %d", len(i.prefixes), size, len(body))
		}
		again, v, err := decodeInterest(i.encode(nil, version))
		if err != nil || v != version || !again.equal(&i) {
			t.Errorf("%+v becomes %+v, %v", i, again, err)
		}
	})
}
