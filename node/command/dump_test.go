package command

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"hypercache/node/rdb"
	"hypercache/node/resp"
	"hypercache/node/store"
)

var _ = addGrammar(`
RESTORE K (0|99999999999999|1|1000|-1|x|9223372036854775807) (PAYLOAD) (REPLACE|) (ABSTTL|)
RESTORE K (0|99999999999999|88888888888888) PAYLOAD (REPLACE|REPLACE|) ABSTTL (REPLACE|foo|)
RESTORE K 0 PAYLOAD (REPLACE|) IDLETIME (0|1|1000|-1|x|9223372036854775807) (FREQ|IDLETIME|REPLACE|) (1|REPLACE|)
RESTORE K 0 PAYLOAD (REPLACE|) FREQ (0|1|255|256|-1|x) (FREQ|IDLETIME|REPLACE|) (1|REPLACE|)
RESTORE K 0 PAYLOAD
RESTORE K 1 PAYLOAD ABSTTL REPLACE
RESTORE-ASKING K 0 PAYLOAD (REPLACE|)
DUMP {k}none
`, map[string][]string{"PAYLOAD": payloads()})

// payloads are values of every type as payloads, and what is none.
func payloads() []string {
	words := func(s string) (items [][]byte) { return bytesOf(strings.Fields(s)) }
	seal := func(b []byte) string { return string(rdb.Seal(b, 0)) }
	var all []string
	for _, v := range []rdb.Value{
		{Type: rdb.String, Items: words("restored")},
		{Type: rdb.String, Items: words("12345")},
		{Type: rdb.List, Items: words("a b 1 -7 c")},
		{Type: rdb.Set, Items: words("1 2 3")},
		{Type: rdb.Set, Items: words("a 2 3")},
		{Type: rdb.Hash, Items: words("f v g 1")},
		{Type: rdb.ZSet, Items: words("m n"), Scores: []float64{1, 2.5}},
		{Type: rdb.Set, Items: words("a a")}, // not unique
		{Type: rdb.Set},                      // empty
		{Type: rdb.Stream, Stream: &rdb.StreamValue{}},
		{Type: rdb.Stream, Stream: &rdb.StreamValue{
			Entries: []rdb.StreamEntry{{ID: rdb.StreamID{Ms: 1, Seq: 1}, Fields: words("a 1")}, {ID: rdb.StreamID{Ms: 5, Seq: 1}, Fields: words("b 2")}},
			State:   rdb.StreamState{LastID: rdb.StreamID{Ms: 5, Seq: 2}, FirstID: rdb.StreamID{Ms: 1, Seq: 1}, MaxDeleted: rdb.StreamID{Ms: 5}, Added: 7},
			Groups: []rdb.StreamGroup{{Name: []byte("g"), LastID: rdb.StreamID{Ms: 5}, Read: rdb.EntriesReadUnknown,
				Consumers: []rdb.StreamConsumer{{Name: []byte("c"), SeenAt: 1700000000000}, {Name: []byte("c2"), SeenAt: 1700000000001}},
				Pending: []rdb.StreamPending{{ID: rdb.StreamID{Ms: 1, Seq: 1}, Consumer: 1, DeliveredAt: 1000, Deliveries: 3},
					{ID: rdb.StreamID{Ms: 2, Seq: 1}, DeliveredAt: 1000, Deliveries: 1}}}, {Name: []byte("g2"), Read: 2}},
		}},
	} {
		all = append(all, seal(v.Append(nil)))
	}
	damaged := []byte(all[0])
	damaged[3] ^= 1
	return append(all, string(damaged), "", "x", seal(nil), seal([]byte{0}), seal([]byte{99, 1, 'a'}), seal([]byte{1, 0}))
}

// collections makes a key of every type and size class, in a shard and by commands for redis-server.
func collections(s *store.Shard) (keys []string, commands [][]string) {
	add := func(key string, words ...string) {
		keys = append(keys, key)
		switch name := words[0]; name {
		case "SET":
			s.Set([]byte(key), []byte(words[1]), 0)
		case "RPUSH":
			l := s.NewList([]byte(key))
			for i, w := range words[1:] {
				l.Insert(i, []byte(w))
			}
		case "SADD":
			m := s.NewSet([]byte(key))
			for _, w := range words[1:] {
				m.Add([]byte(w))
			}
		case "HSET":
			f := s.NewHash([]byte(key))
			for i := 1; i < len(words); i += 2 {
				f.Set([]byte(words[i]), []byte(words[i+1]))
			}
		case "ZADD":
			z := s.NewSortedSet([]byte(key))
			for i := 1; i < len(words); i += 2 {
				var score float64
				fmt.Sscan(words[i], &score)
				z.Set([]byte(words[i+1]), score)
			}
		}
		commands = append(commands, append([]string{words[0], key}, words[1:]...))
	}
	for _, v := range []string{"", "7", "-300", "99999999", strings.Repeat("long ", 100), "\x00\xff"} {
		add(fmt.Sprintf("string %q", v), "SET", v)
	}
	for _, n := range []int{1, 100, 600, 5000} {
		list, set, ints, hash, zset := []string{"RPUSH"}, []string{"SADD"}, []string{"SADD"}, []string{"HSET"}, []string{"ZADD"}
		for i := range n {
			list = append(list, fmt.Sprint(i, strings.Repeat("x", i%90)))
			set = append(set, fmt.Sprint("m", i))
			ints = append(ints, fmt.Sprint(i*i*i-70))
			hash = append(hash, fmt.Sprint("f", i), strings.Repeat("v", i%70))
			zset = append(zset, fmt.Sprint(float64(i)/8), fmt.Sprint("m", i))
		}
		for i, words := range [][]string{list, set, ints, hash, zset} {
			add(fmt.Sprintf("collection %d of %d", i, n), words...)
		}
	}
	return keys, commands
}

// TestDumpsCrossOverToRedisAndBack compares by Redis' digest: ours restored there with what commands made there.
func TestDumpsCrossOverToRedisAndBack(t *testing.T) {
	redis := startRedis(t, "--enable-debug-command", "yes", "--sanitize-dump-payload", "yes")
	do := func(args ...string) []byte {
		t.Helper()
		reply, err := redis.Do(args...)
		if err != nil || reply[0] == '-' {
			t.Fatalf("%.50q: %.300s, %v", args, reply, err)
		}
		return reply
	}
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	exec := func(args ...string) []byte { return h.exec(self, bytesOf(args)) }
	keys, commands := collections(h.shard)
	for i, key := range keys {
		do(commands[i]...)
		do("RESTORE", "copy", "0", bulkContent(exec("DUMP", key)), "REPLACE")
		if got, want := do("DEBUG", "DIGEST-VALUE", "copy"), do("DEBUG", "DIGEST-VALUE", key); string(got) != string(want) {
			t.Errorf("%s: redis-server has %q of our payload, want %q", key, got, want)
		}
		if got, want := do("OBJECT", "ENCODING", "copy"), do("OBJECT", "ENCODING", key); string(got) != string(want) {
			t.Errorf("%s: encoding %q, want %q", key, got, want)
		}
		if reply := exec("RESTORE", "theirs", "0", bulkContent(do("DUMP", key)), "REPLACE"); string(reply) != "+OK\r\n" {
			t.Fatalf("%s: %s", key, reply)
		}
		ours, _ := h.shard.Peek([]byte(key))
		theirs, _ := h.shard.Peek([]byte("theirs"))
		if contentsOf(ours) != contentsOf(theirs) {
			t.Errorf("%s: %.200s, want %.200s", key, contentsOf(theirs), contentsOf(ours))
		}
	}
	theirs, _ := h.replica.Peek([]byte("theirs"))
	ours, _ := h.shard.Peek([]byte("theirs"))
	if contentsOf(ours) != contentsOf(theirs) {
		t.Error("the replica differs")
	}
}

func bulkContent(reply []byte) string {
	_, rest, _ := strings.Cut(string(reply), "\r\n")
	return strings.TrimSuffix(rest, "\r\n")
}

func TestRestoreKeepsTheClocksOfEviction(t *testing.T) {
	for policy, ask := range map[store.Policy]string{store.AllKeysLRU: "IDLETIME", store.AllKeysLFU: "FREQ"} {
		s := store.New(store.Options{Policy: policy}).Shard(0)
		h := newHarness(t, false)
		h.shard = s
		now := time.Now().UnixMilli()
		h.now = func() int64 { return now }
		self := h.open(1, "a", "b")
		payload := payloads()[0]
		s.SetClock(now)
		for option, want := range map[string]int64{"IDLETIME": 7777, "FREQ": 200} {
			h.exec(self, bytesOf([]string{"RESTORE", "k", "0", payload, "REPLACE", option, fmt.Sprint(want)}))
			r, _ := s.Peek([]byte("k"))
			got := r.IdleSeconds(now)
			if ask == "FREQ" {
				got = int64(r.Freq())
			}
			if option == ask && got != want || option != ask && got == want {
				t.Errorf("%v after %s %d: %s %d", policy, option, want, ask, got)
			}
		}
	}
}

func TestRestoreIsHeardOf(t *testing.T) {
	h := newHarness(t, false)
	run := func(args ...string) (names []string) {
		spec, _ := Resolve(bytesOf(args))
		w, ev := &resp.Writer{Proto: 2}, &Events{}
		(&Ctx{Spec: spec, Args: bytesOf(args), Shard: h.shard, Now: h.now(), W: w, Events: ev}).Run()
		for _, e := range ev.List {
			names = append(names, e.Name)
		}
		return names
	}
	if got := fmt.Sprintf("%q", run("RESTORE", "k", "0", payloads()[0])); got != `["new" "" "restore"]` {
		t.Error(got)
	}
	if got := fmt.Sprintf("%q", run("RESTORE", "k", "1", payloads()[0], "REPLACE", "ABSTTL")); got != `["" "del"]` {
		t.Error(got)
	}
	if got := run("RESTORE", "k", "1", payloads()[0], "REPLACE", "ABSTTL"); got != nil {
		t.Errorf("nothing happened: %q", got)
	}
}

// TestRestoreRefusesFieldsThatRepeat, which Redis does only with sanitize-dump-payload.
func TestRestoreRefusesFieldsThatRepeat(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	h.exec(self, bytesOf([]string{"SET", "k", "old"}))
	v := rdb.Value{Type: rdb.Hash, Items: bytesOf(strings.Fields("f 1 f 2"))}
	reply := h.exec(self, bytesOf([]string{"RESTORE", "k", "0", string(rdb.Seal(v.Append(nil), 0)), "REPLACE"}))
	if got := h.exec(self, bytesOf([]string{"GET", "k"})); string(reply) != "-ERR Bad data format\r\n" || string(got) != "$3\r\nold\r\n" {
		t.Errorf("%q, then %q", reply, got)
	}
}

func TestMigrateIsRefusedWithAReason(t *testing.T) {
	h := newHarness(t, false)
	reply := h.exec(h.open(1, "a", "b"), bytesOf(strings.Fields("MIGRATE h 1 k 0 1")))
	if !strings.Contains(string(reply), "hypercache backup") {
		t.Errorf("%s", reply)
	}
	if got := Keys(Lookup([]byte("migrate")), bytesOf([]string{"MIGRATE", "h", "1", "", "0", "1", "COPY", "KEYS", "a", "b"}), nil); fmt.Sprint(got) != "[8 9]" {
		t.Errorf("keys at %v", got)
	}
}
