package pubsub

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
)

func TestSubscriberGetsAMessageOnceForItsChannelAndOnceForEachPattern(t *testing.T) {
	r := NewRegistry(same)
	s, got := inbox()
	r.Subscribe(s, Channel, "news")
	r.Subscribe(s, Channel, "news")
	r.Subscribe(s, Pattern, "n*")
	r.Subscribe(s, Pattern, "ne*")
	r.Subscribe(s, Shard, "news")
	if n := r.Publish([]byte("news"), []byte("x")); n != 3 || len(*got) != 3 {
		t.Errorf("%d receivers, %d messages", n, len(*got))
	}
	if n := r.PublishShard([]byte("news"), []byte("x")); n != 1 || len(*got) != 4 {
		t.Errorf("%d receivers of the shard channel, %d messages", n, len(*got))
	}
	if n := r.Publish([]byte("other"), []byte("x")); n != 0 {
		t.Errorf("%d receivers of another channel", n)
	}
}

func TestRegistryCountsWhatPUBSUBAsksFor(t *testing.T) {
	r := NewRegistry(same)
	a, _ := inbox()
	b, _ := inbox()
	for _, s := range []*Subscriber{a, b} {
		r.Subscribe(s, Channel, "one")
		r.Subscribe(s, Pattern, "t*")
	}
	r.Subscribe(a, Channel, "two")
	r.Subscribe(a, Shard, "shard")
	if got := r.Active(Channel, nil); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("channels %q", got)
	}
	if got := r.Active(Channel, []byte("t*")); !slices.Equal(got, []string{"two"}) {
		t.Errorf("channels t*: %q", got)
	}
	if r.Subscribers(Channel, []byte("one")) != 2 || r.Subscribers(Channel, []byte("none")) != 0 || r.Patterns() != 1 {
		t.Errorf("%d subscribers of one, %d patterns", r.Subscribers(Channel, []byte("one")), r.Patterns())
	}
	if c, p, s := r.Lengths(); c != 2 || p != 1 || s != 1 {
		t.Errorf("%d channels, %d patterns, %d shard channels", c, p, s)
	}
	if a.Total() != 4 || a.Count(Channel) != 2 || !a.Subscribed() {
		t.Errorf("a has %d subscriptions, %d channels", a.Total(), a.Count(Channel))
	}
	if got := a.Names(Channel); !slices.Equal(got, []string{"one", "two"}) {
		t.Errorf("a's channels: %q", got)
	}
}

func TestLeavingTakesEverySubscriptionBack(t *testing.T) {
	r := NewRegistry(same)
	s, got := inbox()
	for i := range 10 {
		for k := range kinds {
			r.Subscribe(s, k, fmt.Sprint("c", i))
		}
	}
	r.Subscribe(s, Pattern, "__keyevent@0__:*")
	if !r.Keyspace() {
		t.Error("a pattern of keyspace notifications is not seen as one")
	}
	if !r.Leave(s) || r.Leave(s) {
		t.Error("leaving says nothing, or twice")
	}
	if c, p, sh := r.Lengths(); c+p+sh != 0 || s.Total() != 0 || s.Subscribed() || r.Keyspace() {
		t.Errorf("%d channels, %d patterns, %d shard channels, %d subscriptions are left", c, p, sh, s.Total())
	}
	if n := r.Publish([]byte("c1"), []byte("x")); n != 0 || len(*got) != 0 {
		t.Errorf("%d receivers after leaving", n)
	}
	if _, shards := r.wants(); shards != [32]byte{} {
		t.Errorf("wants %v", shards)
	}
}

func TestOnlySubscriptionsThatMayMatchNotificationsConcernKeys(t *testing.T) {
	for _, c := range []struct {
		kind Kind
		name string
		want bool
	}{
		{Channel, "news", false}, {Channel, "__keyspace@0__:k", true}, {Channel, "__keyevent@0__:set", true},
		{Channel, "__keyspace@1__:k", false}, {Pattern, "*", true}, {Pattern, "", true}, {Pattern, "_*", true},
		{Pattern, "__key*", true}, {Pattern, "__key?pace*", true}, {Pattern, "[_x]*", true}, {Pattern, `\__key*`, true},
		{Pattern, "n*", false}, {Pattern, "__kex*", false},
	} {
		if got := concernsKeys(c.kind, c.name); got != c.want {
			t.Errorf("%v %q: %v", c.kind, c.name, got)
		}
	}
}

func TestSubscribersSeeTheMessagesInTheSameOrder(t *testing.T) {
	r := NewRegistry(same)
	a, gotA := inbox()
	b, gotB := inbox()
	r.Subscribe(a, Channel, "c")
	r.Subscribe(b, Pattern, "c*")
	b.SetProto(3)
	var wg sync.WaitGroup
	for i := range 4 {
		wg.Go(func() {
			for j := range 100 {
				r.Publish([]byte("c"), fmt.Appendf(nil, "%d-%d", i, j))
			}
		})
	}
	wg.Wait()
	if len(*gotA) != 400 || len(*gotB) != 400 {
		t.Fatalf("%d and %d messages", len(*gotA), len(*gotB))
	}
	last := func(s string) string {
		parts := slices.DeleteFunc(strings.Split(s, "\r\n"), func(p string) bool { return p == "" })
		return parts[len(parts)-1]
	}
	for i := range *gotA {
		if last((*gotA)[i]) != last((*gotB)[i]) {
			t.Fatalf("message %d: %q and %q", i, (*gotA)[i], (*gotB)[i])
		}
	}
}
