package command

import (
	"fmt"
	"math/rand/v2"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/rdb"
)

// streamsToDump are commands that make streams of all kinds, and their keys.
func streamsToDump() (keys []string, commands [][]string) {
	do := func(line string) { commands = append(commands, strings.Fields(line)) }
	rng := rand.New(rand.NewPCG(3, 4))
	for round := range 8 {
		key := "random" + strconv.Itoa(round)
		keys = append(keys, key)
		ms := uint64(1)
		for i := range 20 << round {
			ms += rng.Uint64() >> (20 + rng.IntN(44))
			add := []string{"XADD", key, fmt.Sprintf("%d-%d", ms, i+1)}
			for f := range 1 + round%2 + rng.IntN(8)/7 {
				add = append(add, "field"+strconv.Itoa(f), strconv.Itoa(i*rng.IntN(1<<20)), "text", randomString(rng, "abc\x00\xff", 90))
			}
			commands = append(commands, add)
		}
	}
	keys = append(keys, "empty", "trimmed", "groups", "gone", "set", "far")
	for i := 1; i <= 250; i++ {
		do(fmt.Sprintf("XADD trimmed %d-%d f %d", i, i, i))
		do(fmt.Sprintf("XADD groups %d-1 f %d g x", i, i))
		do(fmt.Sprintf("XADD gone %d-1 f %d", i, i))
	}
	do("XGROUP CREATE empty g $ MKSTREAM")
	do("XGROUP CREATECONSUMER empty g idle")
	do("XTRIM trimmed MAXLEN 120")
	do("XDEL trimmed 200-200 201-201")
	do("XGROUP CREATE groups first 0 ENTRIESREAD 0")
	do("XGROUP CREATE groups \x00\xff 7-1")
	do("XREADGROUP GROUP first ann COUNT 130 STREAMS groups >")
	do("XREADGROUP GROUP first bob COUNT 30 STREAMS groups >")
	do("XREADGROUP GROUP \x00\xff ann COUNT 3 STREAMS groups >")
	do("XGROUP CREATECONSUMER groups first carl")
	do("XACK groups first 5-1 50-1 131-1")
	do("XCLAIM groups first carl 0 7-1 9-1 TIME 1000 RETRYCOUNT 77")
	do("XGROUP CREATE gone g 0")
	do("XREADGROUP GROUP g c COUNT 200 STREAMS gone >")
	do("XDEL gone 1-1 2-1 100-1 250-1")
	do("XTRIM gone MAXLEN 100")
	do("XADD set 5-5 a b")
	do("XSETID set 9-18446744073709551615 ENTRIESADDED 9223372036854775807 MAXDELETEDID 7-7")
	do("XGROUP CREATE set g 3 ENTRIESREAD 9223372036854775807")
	do("XADD far 0-18446744073709551615 a b")
	do("XADD far 18446744073709551615-0 \xc3\x28 -0 1 9223372036854775808")
	return keys, commands
}

// nodeCounts are what XINFO says of the nodes, which a payload of ours does not keep where entries were deleted.
var nodeCounts = regexp.MustCompile(`(radix-tree-(keys|nodes)\r\n):\d+`)

// TestStreamsCrossOverToRedisAndBack compares all that XINFO shows, times included.
func TestStreamsCrossOverToRedisAndBack(t *testing.T) {
	redis := startRedis(t, "--enable-debug-command", "yes", "--sanitize-dump-payload", "yes")
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	there := func(args ...string) string { return string(pipeline(t, redis, [][]string{args})[0]) }
	here := func(args ...string) string { return string(h.exec(self, bytesOf(args))) }
	shown := func(do func(args ...string) string, key string) string {
		full := do("XINFO", "STREAM", key, "FULL", "COUNT", "0") + do("DEBUG", "DIGEST-VALUE", key)
		if !strings.HasPrefix(key, "random") && !strings.HasPrefix(key, "copy of random") {
			full = nodeCounts.ReplaceAllString(full, "$1")
		}
		return full
	}
	keys, commands := streamsToDump()
	for i, reply := range pipeline(t, redis, commands) {
		if ours := here(commands[i]...); reply[0] == '-' || ours[0] == '-' {
			t.Fatalf("%.100q: %.100s, %.100s", commands[i], reply, ours)
		}
	}
	move := func(key string, from, to func(args ...string) string) {
		t.Helper()
		want := shown(from, key)
		if reply := to("RESTORE", "copy of "+key, "0", bulkContent([]byte(from("DUMP", key))), "REPLACE"); reply != "+OK\r\n" {
			t.Fatalf("%s: %s", key, reply)
		}
		if got := shown(to, "copy of "+key); got != want {
			t.Errorf("%s: %.2000q\nwant %.2000q", key, got, want)
		}
	}
	for _, key := range keys {
		move(key, here, there)
		move(key, there, here)
		move(key, here, here)
	}
	h.checkReplica()
}

func TestRestoreRefusesStreamsThatContradictThemselves(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	h.exec(self, bytesOf([]string{"SET", "k", "old"}))
	id := rdb.StreamID{Ms: 1, Seq: 1}
	ann := rdb.StreamConsumer{Name: []byte("ann")}
	for name, spoil := range map[string]func(v *rdb.StreamValue){
		"":                      func(*rdb.StreamValue) {},
		"entry 0-0":             func(v *rdb.StreamValue) { v.Entries[0].ID = rdb.StreamID{} },
		"entry without fields":  func(v *rdb.StreamValue) { v.Entries[0].Fields = nil },
		"last ID too small":     func(v *rdb.StreamValue) { v.State.LastID = rdb.StreamID{Ms: 1} },
		"same entry twice":      func(v *rdb.StreamValue) { v.Entries = append(v.Entries, v.Entries[0]); v.State.Added = 2 },
		"fewer added than here": func(v *rdb.StreamValue) { v.State.Added = 0 },
		"too many added":        func(v *rdb.StreamValue) { v.State.Added = 1 << 63 },
		"same group twice":      func(v *rdb.StreamValue) { v.Groups = append(v.Groups, v.Groups[0]) },
		"same consumer twice":   func(v *rdb.StreamValue) { v.Groups[0].Consumers = append(v.Groups[0].Consumers, ann) },
		"same delivery twice": func(v *rdb.StreamValue) {
			v.Groups[0].Pending = append(v.Groups[0].Pending, v.Groups[0].Pending[0])
		},
	} {
		v := &rdb.StreamValue{Entries: []rdb.StreamEntry{{ID: id, Fields: bytesOf([]string{"f", "v"})}}}
		v.State = rdb.StreamState{LastID: id, FirstID: id, Added: 1}
		v.Groups = []rdb.StreamGroup{{Name: []byte("g"), LastID: id, Read: 1, Consumers: []rdb.StreamConsumer{ann},
			Pending: []rdb.StreamPending{{ID: id, DeliveredAt: 5, Deliveries: 1}}}}
		spoil(v)
		payload := string(rdb.Seal(rdb.AppendStream(nil, v), 0))
		if name == "" {
			if reply := h.exec(self, bytesOf([]string{"RESTORE", "whole", "0", payload})); string(reply) != "+OK\r\n" {
				t.Errorf("unspoilt: %s", reply)
			}
			continue
		}
		reply := h.exec(self, bytesOf([]string{"RESTORE", "k", "0", payload, "REPLACE"}))
		if got := h.exec(self, bytesOf([]string{"GET", "k"})); string(reply) != "-ERR Bad data format\r\n" || string(got) != "$3\r\nold\r\n" {
			t.Errorf("%s: %q, then %q", name, reply, got)
		}
	}
}
