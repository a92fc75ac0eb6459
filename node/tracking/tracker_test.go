package tracking

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"hypercache/node/pubsub"
)

// far is a Bus that notes what other nodes are told.
type far struct {
	said    []string
	hears   bool
	tracked bool
}

func (f *far) Invalidate(node string, key []byte, client uint64) {
	f.said = append(f.said, fmt.Sprintf("%s: %s by %d", node, key, client))
}
func (f *far) InvalidatePrefix(key []byte, by string, client uint64, told []string) {
	f.said = append(f.said, fmt.Sprintf("prefix %s by %s/%d but %s", key, by, client, strings.Join(told, " ")))
}
func (f *far) FlushTracking()    { f.said = append(f.said, "flush") }
func (f *far) Hears(string) bool { return f.hears }
func (f *far) Tracked() bool     { return f.tracked }
func (f *far) take() []string    { all := f.said; f.said = nil; return all }

// bench is a tracker with its bus.
type bench struct {
	*Tracker
	bus    *far
	wanted bool
	next   uint64
}

func newBench() *bench {
	b := &bench{bus: &far{hears: true}}
	b.Tracker = New(func(w bool) { b.wanted = w })
	b.Connect(b.bus)
	return b
}

// ear is a client and what it was told: "k" for a key, "all" for everything.
type ear struct {
	*Client
	sub  *pubsub.Subscriber
	deaf bool
	raw  []string
}

func (b *bench) client(o Options) *ear {
	b.next++
	e := newEar()
	e.Client = NewClient(b.next, e.sub)
	e.SetMode(o, nil)
	b.Start(e.Client)
	return e
}

func newEar() *ear {
	e := &ear{}
	e.sub = pubsub.NewSubscriber(func(raw []byte) bool {
		e.raw = append(e.raw, string(raw))
		return !e.deaf
	})
	e.sub.SetProto(3)
	return e
}

func (e *ear) take() (keys []string) {
	for _, raw := range e.raw {
		parts := strings.Split(strings.TrimSuffix(raw, "\r\n"), "\r\n")
		if last := parts[len(parts)-1]; last == "_" {
			keys = append(keys, "all")
		} else {
			keys = append(keys, last)
		}
	}
	e.raw = nil
	return keys
}

func (e *ear) expect(t *testing.T, what string, want ...string) {
	t.Helper()
	if got := e.take(); !slices.Equal(got, want) {
		t.Errorf("%s: told %q, want %q", what, got, want)
	}
}

func TestClientIsToldOnceOfAKeyThatItRead(t *testing.T) {
	b := newBench()
	c := b.client(Options{})
	if !b.wanted {
		t.Error("nobody is told that changes matter")
	}
	b.Reading(c.Client, []byte("k"), "", true)
	b.Reading(c.Client, []byte("k"), "", true)
	b.Changed([]byte("other"), Writer{})
	c.expect(t, "another key")
	b.Changed([]byte("k"), Writer{Client: c.ID})
	if want := []string{">2\r\n$10\r\ninvalidate\r\n*1\r\n$1\r\nk\r\n"}; !slices.Equal(c.raw, want) {
		t.Errorf("raw %q", c.raw)
	}
	c.expect(t, "its own write", "k")
	b.Changed([]byte("k"), Writer{})
	c.expect(t, "a change of what it no longer has")
	if b.Keys() != 0 {
		t.Errorf("%d keys are remembered", b.Keys())
	}
	b.Stop(c.Client)
	if b.wanted || b.Clients() != 0 {
		t.Error("changes still matter")
	}
}

func TestClientThatLeftIsNotTold(t *testing.T) {
	b := newBench()
	c, d := b.client(Options{}), b.client(Options{BCast: true, Prefixes: []string{""}})
	b.Reading(c.Client, []byte("k"), "", true)
	b.Stop(c.Client)
	b.Stop(d.Client)
	b.Changed([]byte("k"), Writer{})
	b.Flush()
	c.expect(t, "after leaving")
	d.expect(t, "after leaving")
	if b.Keys() != 0 {
		t.Errorf("%d keys are remembered for nobody", b.Keys())
	}
}

func TestNOLOOPHidesOnlyTheClientsOwnWrites(t *testing.T) {
	b := newBench()
	c, other := b.client(Options{NoLoop: true}), b.client(Options{})
	follower := b.client(Options{NoLoop: true, BCast: true, Prefixes: []string{"k"}})
	read := func() {
		b.Reading(c.Client, []byte("k"), "", true)
		b.Reading(other.Client, []byte("k"), "", true)
	}
	read()
	b.Changed([]byte("k"), Writer{Client: c.ID})
	c.expect(t, "its own write")
	other.expect(t, "the other's write", "k")
	follower.expect(t, "the other's write", "k")
	read()
	b.Changed([]byte("k"), Writer{Node: "n2", Client: c.ID})
	c.expect(t, "the write of another node's client of the same number", "k")
	read()
	b.Changed([]byte("k"), Writer{Client: follower.ID})
	c.expect(t, "the follower's write", "k")
	other.take()
	follower.take()
	b.Changed([]byte("k"), Writer{Client: follower.ID})
	follower.expect(t, "its own write")
}

func TestBCASTFollowsPrefixesAndNeedsNoTable(t *testing.T) {
	b := newBench()
	c := b.client(Options{BCast: true, Prefixes: []string{"user:", "x"}})
	b.Reading(c.Client, []byte("elsewhere"), "", true)
	if b.Keys() != 0 {
		t.Error("the table has what BCAST does not need")
	}
	for _, key := range []string{"user:1", "user", "x", "ax", "user:1"} {
		b.Changed([]byte(key), Writer{Node: "n2", Client: 9})
	}
	c.expect(t, "followed keys", "user:1", "x", "user:1")
	if got := b.bus.take(); len(got) != 5 || got[0] != "prefix user:1 by n2/9 but " {
		t.Errorf("other nodes: %q", got)
	}
	tracking, prefixes := b.Interest()
	if !tracking || len(prefixes) != 2 || string(prefixes[0]) != "user:" || string(prefixes[1]) != "x" {
		t.Errorf("interest %v %q", tracking, prefixes)
	}
}

// The options OPTIN and OPTOUT are the commands' business; what was not noted is not told.
func TestOnlyReadsThatWereNotedAreTold(t *testing.T) {
	for _, o := range []Options{{OptIn: true}, {OptOut: true}} {
		b := newBench()
		c := b.client(o)
		b.Reading(c.Client, []byte("noted"), "", true)
		b.Changed([]byte("noted"), Writer{})
		b.Changed([]byte("not noted"), Writer{})
		c.expect(t, fmt.Sprintf("%+v", o), "noted")
		if got := *c.Options(); got.OptIn != o.OptIn || got.OptOut != o.OptOut {
			t.Errorf("options %+v", got)
		}
	}
}

func TestREDIRECTTellsTheOtherConnectionAndSaysWhenItIsGone(t *testing.T) {
	b := newBench()
	c := b.client(Options{})
	target := newEar()
	c.SetMode(Options{Redirect: 42}, target.sub)
	b.Reading(c.Client, []byte("k"), "", true)
	b.Changed([]byte("k"), Writer{})
	target.expect(t, "RESP3", "k")
	c.expect(t, "what is redirected")

	target.sub.SetProto(2)
	b.Reading(c.Client, []byte("k"), "", true)
	b.Changed([]byte("k"), Writer{})
	target.expect(t, "RESP2 without a subscription")
	pubsub.NewRegistry(func(_, _ []byte) bool { return false }).Subscribe(target.sub, pubsub.Channel, InvalidateChannel)
	b.Reading(c.Client, []byte("k"), "", true)
	b.Changed([]byte("k"), Writer{})
	if want := []string{"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*1\r\n$1\r\nk\r\n"}; !slices.Equal(target.raw, want) {
		t.Errorf("RESP2: %q", target.raw)
	}
	target.take()
	b.Flush()
	if want := []string{"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n*-1\r\n"}; !slices.Equal(target.raw, want) &&
		!slices.Equal(target.raw, []string{"*3\r\n$7\r\nmessage\r\n$20\r\n__redis__:invalidate\r\n$-1\r\n"}) {
		t.Errorf("RESP2, everything: %q", target.raw)
	}

	target.deaf = true
	if c.Broken() {
		t.Error("broken already")
	}
	for range 2 {
		b.Reading(c.Client, []byte("k"), "", true)
		b.Changed([]byte("k"), Writer{})
	}
	if want := []string{">2\r\n$21\r\ntracking-redir-broken\r\n:42\r\n"}; !slices.Equal(c.raw, want) || !c.Broken() {
		t.Errorf("broken %v, told %q", c.Broken(), c.raw)
	}
	c.take()
	c.SetMode(Options{}, nil)
	if c.Broken() {
		t.Error("still broken in a new mode")
	}
	b.Reading(c.Client, []byte("k"), "", true)
	b.Changed([]byte("k"), Writer{})
	c.expect(t, "without the redirection", "k")
}

func TestRESP2WithoutRedirectionHearsNothing(t *testing.T) {
	b := newBench()
	c := b.client(Options{})
	c.sub.SetProto(2)
	b.Reading(c.Client, []byte("k"), "", true)
	b.Changed([]byte("k"), Writer{})
	b.Flush()
	c.expect(t, "RESP2")
}

func TestTableIsBoundedAndTellsWhoseKeyHadToGo(t *testing.T) {
	b := newBench()
	b.Limit(10)
	c := b.client(Options{NoLoop: true})
	for i := range 100 {
		b.Reading(c.Client, fmt.Appendf(nil, "k%d", i), "", true)
		if b.Keys() > 10 {
			t.Fatalf("%d keys are remembered", b.Keys())
		}
	}
	told := c.take()
	if len(told) != 90 {
		t.Fatalf("%d evictions were told", len(told))
	}
	for i := range 100 { // what was not thrown out is still there, once
		b.Changed(fmt.Appendf(nil, "k%d", i), Writer{})
	}
	told = append(told, c.take()...)
	slices.Sort(told)
	if n := len(slices.Compact(told)); n != 100 || b.Keys() != 0 {
		t.Errorf("%d of 100 keys were told of, %d are remembered", n, b.Keys())
	}
	b.Limit(0)
	for i := range 100 {
		b.ReadingFor("n2", fmt.Appendf(nil, "k%d", i))
	}
	if len(c.take()) > 0 || b.Keys() != 100 {
		t.Errorf("no limit, but %d keys", b.Keys())
	}
	b.bus.take()
	b.Limit(30) // lowered
	if b.Keys() != 30 || len(b.bus.take()) != 70 {
		t.Errorf("%d keys after lowering the limit", b.Keys())
	}
}

func TestKeyMayHaveManyHoldersAndEachIsToldOnce(t *testing.T) {
	b := newBench()
	var all []*ear
	for range 3 * fewHolders {
		c := b.client(Options{})
		all = append(all, c)
		b.Reading(c.Client, []byte("k"), "", true)
		b.Reading(c.Client, []byte("k"), "", true)
	}
	for range 3 {
		b.ReadingFor("n2", []byte("k"))
	}
	if b.Keys() != 1 {
		t.Errorf("%d keys", b.Keys())
	}
	b.Changed([]byte("k"), Writer{Node: "n2", Client: 5})
	for _, c := range all {
		c.expect(t, "a holder", "k")
	}
	if got, want := b.bus.take(), []string{"n2: k by 5", "prefix k by n2/5 but n2"}; !slices.Equal(got, want) {
		t.Errorf("other nodes: %q", got)
	}
}

func TestReadFromAPrimaryThatCannotReachUsIsInvalidAtOnce(t *testing.T) {
	b := newBench()
	c := b.client(Options{})
	b.bus.hears = false
	b.Reading(c.Client, []byte("k"), "n2", false)
	c.expect(t, "no stream from the primary", "k")
	b.Reading(c.Client, []byte("k"), "me", true)
	c.expect(t, "its own key")
}

func TestNewsOfAnOwnWriteKeepsTheNote(t *testing.T) {
	b := newBench()
	c := b.client(Options{NoLoop: true})
	b.Reading(c.Client, []byte("k"), "n2", false)
	b.Invalidate([]byte("k"), c.ID)
	c.expect(t, "its own write, by another node")
	b.Invalidate([]byte("k"), 0)
	c.expect(t, "the next write", "k")
	b.Invalidate([]byte("k"), 0)
	c.expect(t, "a key that it no longer has")
}

func TestEmptiedGroupsAreToldOfTogether(t *testing.T) {
	b := newBench()
	c := b.client(Options{})
	b.FlushDue()
	c.expect(t, "nothing was emptied")
	b.Reading(c.Client, []byte("k"), "", true)
	for g := range 256 {
		b.Emptied(g)
	}
	if b.Keys() != 0 {
		t.Errorf("%d keys of empty groups", b.Keys())
	}
	b.FlushDue()
	b.FlushDue()
	c.expect(t, "emptied", "all")
	if got := b.bus.take(); !slices.Equal(got, []string{"flush"}) {
		t.Errorf("other nodes: %q", got)
	}
}

func TestMovedGroupInvalidatesWhatItsClientsRead(t *testing.T) {
	b := newBench()
	c := b.client(Options{})
	b.Reading(c.Client, []byte("{a}1"), "n2", false)
	b.Reading(c.Client, []byte("{a}2"), "n2", false)
	b.ReadingFor("n3", []byte("{a}1"))
	b.Reading(c.Client, []byte("elsewhere"), "n2", false)
	b.Moved(groupOf([]byte("{a}1")))
	got := c.take()
	slices.Sort(got)
	if !slices.Equal(got, []string{"{a}1", "{a}2"}) || b.Keys() != 1 {
		t.Errorf("told %q, %d keys are left", got, b.Keys())
	}
}

func TestChangesMatterWhileAnotherNodeTracks(t *testing.T) {
	b := newBench()
	b.bus.tracked = true
	b.Learned()
	if !b.wanted {
		t.Error("another node's clients do not count")
	}
	b.bus.tracked = false
	b.Learned()
	if b.wanted {
		t.Error("nobody tracks, but changes matter")
	}
}

func TestTrackerServesManyAtOnce(t *testing.T) {
	b := newBench()
	b.Limit(50)
	var wg sync.WaitGroup
	for i := range 4 {
		c := NewClient(uint64(i+1), pubsub.NewSubscriber(func([]byte) bool { return true }))
		c.SetMode(Options{BCast: i == 0, Prefixes: []string{"k1"}}, nil)
		wg.Go(func() {
			for j := range 300 {
				key := fmt.Appendf(nil, "k%d", j%70)
				b.Start(c)
				b.Reading(c, key, "", true)
				b.Tracker.table.take(groupOf(key), key)
				b.Invalidate(key, uint64(i))
				if j%50 == 0 {
					b.Flush()
					b.Moved(j % 256)
				}
			}
			b.Stop(c)
		})
	}
	wg.Wait()
	if b.Clients() != 0 || b.Keys() > 50 {
		t.Errorf("%d clients, %d keys", b.Clients(), b.Keys())
	}
}
