package command

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
	"hypercache/node/command/golden/random"
)

// TestEventsAreRedisNotifications compares the notifications of random commands, one command at a time, and checks that
// each key that a command changed was said to have changed.
func TestEventsAreRedisNotifications(t *testing.T) {
	srv := oracle.Serve(t, t.TempDir(), "--notify-keyspace-events", "AEmn")
	redis, listener := srv.Client(t), srv.Client(t)
	for _, pattern := range []string{"__keyevent@0__:*", "mark"} {
		if _, err := listener.Do("PSUBSCRIBE", pattern); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	t.Logf("seed %d", seed)
	rng := rand.New(rand.NewPCG(seed, 0))
	for range 40 {
		compareEvents(t, rng, redis, listener)
		if t.Failed() {
			return
		}
	}
}

func compareEvents(t *testing.T, rng *rand.Rand, redis, listener *oracle.Conn) {
	h := newHarness(t, false)
	h.events = &Events{}
	self := h.open(1, "a", "b")
	requests := [][][]byte{{[]byte("FLUSHALL")}}
	for len(requests) < 200 {
		if args := random.Request(rng); !expires(args) {
			requests = append(requests, args)
		}
	}
	var marked [][][]byte
	for _, args := range requests {
		if random.Sorts(args) {
			marked = append(marked, random.ClearErrno)
		}
		marked = append(marked, args, bytesOf([]string{"PUBLISH", "mark", ""}))
	}
	if _, err := redis.Pipeline(marked); err != nil {
		t.Fatal(err)
	}
	for i, args := range requests {
		want := notifications(t, listener)
		before := contents(h.shard)
		h.events.Reset()
		reply := h.exec(self, args)
		var got, changed []string
		for _, e := range h.events.List {
			switch {
			case e.Name != "":
				got = append(got, fmt.Sprintf("%s %q", e.Name, e.Key))
			case e.Key == nil:
				changed = append(changed, "all")
			default:
				changed = append(changed, fmt.Sprintf("%q", e.Key))
			}
		}
		if random.Sorts(args) { // looks keys up in the order of a set
			slices.Sort(got)
			slices.Sort(want)
		}
		if reply[0] == '-' { // whether the key or another argument is looked at first
			miss := func(e string) bool { return strings.HasPrefix(e, "keymiss") }
			got, want = slices.DeleteFunc(got, miss), slices.DeleteFunc(want, miss)
		}
		if strings.HasPrefix(strings.ToUpper(string(args[0])), "XREAD") { // Redis looks twice, and says so twice
			slices.Sort(want)
			slices.Sort(got)
			got, want = slices.Compact(got), slices.Compact(want)
		}
		if !slices.Equal(got, want) {
			t.Errorf("%q: events %s, redis-server's %s\nafter %.150q", args, got, want, requests[max(0, i-12):i])
			return
		}
		if name := strings.ToUpper(string(args[0])); name == "XGROUP" || name == "XACK" || name == "XSETID" || strings.HasSuffix(name, "CLAIM") || name == "XREADGROUP" || name == "PFDEBUG" {
			continue // groups are no part of the value that others watch, in Redis either, and an encoding is none
		}
		for _, key := range changedKeys(before, contents(h.shard)) {
			if !slices.Contains(changed, key) && !slices.Contains(changed, "all") {
				t.Errorf("%q: nobody was told that %s changed", args, key)
			}
		}
	}
}

// expires says that a request makes a key whose time is over already: when redis-server notices is by chance.
func expires(args [][]byte) bool {
	for i := 2; i+1 < len(args); i++ {
		if w := strings.ToUpper(string(args[i])); w == "PXAT" || w == "EXAT" {
			return true
		}
	}
	return false
}

// notifications reads up to the next mark.
func notifications(t *testing.T, c *oracle.Conn) (all []string) {
	t.Helper()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	for {
		message, err := c.ReadReply()
		if err != nil {
			t.Fatal(err)
		}
		parts := texts(t, message) // pmessage, pattern, channel, payload
		if len(golden.Elements(message)) != 4 {
			t.Fatalf("%q", message)
		}
		name, isEvent := strings.CutPrefix(parts[2], "__keyevent@0__:")
		if !isEvent {
			return all
		}
		all = append(all, fmt.Sprintf("%s %q", name, parts[3]))
	}
}

// changedKeys are the keys of lines that are in one of two contents only.
func changedKeys(before, after []string) (keys []string) {
	for _, pair := range [2][2][]string{{before, after}, {after, before}} {
		for _, line := range pair[0] {
			if !slices.Contains(pair[1], line) {
				key, _, _ := strings.Cut(line, "=")
				keys = append(keys, key)
			}
		}
	}
	return keys
}

func TestWritesTellOfExpiredKeys(t *testing.T) {
	h := newHarness(t, false)
	now := int64(1000)
	h.now = func() int64 { return now }
	self := h.open(1, "a", "b")
	for _, request := range []string{"DEL k", "APPEND k x", "SET k v", "SET k v NX", "SETEX k 10 v", "MSET k v", "HSET k f v", "SADD k m"} {
		now = 1000
		h.events = nil
		h.exec(self, bytesOf([]string{"SET", "k", "old", "PXAT", "2000"}))
		h.events, now = &Events{}, 3000
		h.exec(self, bytesOf(strings.Fields(request)))
		if len(h.events.List) < 2 || h.events.List[0].Name != "expired" || string(h.events.List[0].Key) != "k" ||
			h.events.List[1].Name != "" {
			t.Errorf("%s: %+v", request, h.events.List)
		}
		h.exec(self, bytesOf([]string{"DEL", "k"}))
	}
}
