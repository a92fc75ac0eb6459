package command

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden/random"
	"hypercache/node/resp"
)

// TestSourcesMayBeSetsAndLarge compares combinations and ranges of sets and sorted sets beyond the size up to which Redis
// keeps them as lists.
func TestSourcesMayBeSetsAndLarge(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(11, 12))
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	for _, key := range []string{"{k}s1", "{k}s2"} {
		words := []string{"SADD", key}
		m := h.shard.NewSet([]byte(key))
		for range 150 {
			word := strconv.Itoa(rng.IntN(400))
			words = append(words, word)
			m.Add([]byte(word))
		}
		pipeline(t, redis, [][]string{words})
	}
	keys := []string{"{k}s1", "{k}s2", "{k}z1", "{k}z2", "{k}none"}
	var requests [][]string
	for _, key := range keys[2:4] {
		for range 40 {
			words := []string{"ZADD", key}
			for range 10 {
				words = append(words, strconv.FormatFloat(rng.NormFloat64()*10, 'g', rng.IntN(3)+1, 64), strconv.Itoa(rng.IntN(400)))
			}
			requests = append(requests, words)
		}
	}
	key := func() string { return random.Pick(rng, keys) }
	limit := func() string { return random.Pick(rng, []string{"(", ""}) + strconv.Itoa(rng.IntN(40)-20) }
	for range 2000 {
		switch rng.IntN(5) {
		case 0:
			requests = append(requests, []string{random.Pick(rng, []string{"ZUNION", "ZINTER", "ZDIFF"}), "2", key(), key(), "WITHSCORES"})
		case 1:
			requests = append(requests, []string{random.Pick(rng, []string{"ZUNIONSTORE", "ZINTERSTORE"}), "{k}d", "3", key(), key(), key(),
				"WEIGHTS", "2", "-0.1", "1e3", "AGGREGATE", random.Pick(rng, []string{"SUM", "MIN", "MAX"})}, []string{"ZRANGE", "{k}d", "0", "-1", "WITHSCORES"})
		case 2:
			requests = append(requests, []string{"ZINTERCARD", "2", key(), key(), "LIMIT", strconv.Itoa(rng.IntN(30))},
				[]string{"ZDIFFSTORE", "{k}d", "2", key(), key()})
		case 3:
			requests = append(requests, []string{"ZRANGE", random.Pick(rng, keys[2:4]), limit(), limit(), "BYSCORE",
				"LIMIT", strconv.Itoa(rng.IntN(20)), strconv.Itoa(rng.IntN(50) - 5), "WITHSCORES"},
				[]string{"ZREVRANGE", random.Pick(rng, keys[2:4]), strconv.Itoa(rng.IntN(500) - 250), strconv.Itoa(rng.IntN(500) - 250)})
		case 4:
			requests = append(requests, []string{"ZCOUNT", random.Pick(rng, keys[2:4]), limit(), limit()},
				[]string{"ZRANK", random.Pick(rng, keys[2:4]), strconv.Itoa(rng.IntN(400))})
		}
	}
	for i, want := range pipeline(t, redis, requests) {
		if got := h.exec(self, bytesOf(requests[i])); string(got) != string(want) {
			t.Fatalf("%q: got %.300q, redis-server says %.300q", requests[i], got, want)
		}
	}
}

// tryRun is run with the Ctx for its events and its wish to wait.
func tryRun(h *harness, c *Ctx, words ...string) string {
	args := bytesOf(words)
	spec, errText := Resolve(args)
	if errText != "" {
		h.t.Fatal(errText)
	}
	w := &resp.Writer{Proto: 2}
	c.Spec, c.Args, c.Shard, c.Now, c.W, c.FX = spec, args, h.shard, 1_000_000, w, &Effects{}
	c.Block = Block{}
	c.Run()
	if err := Apply(h.replica, c.FX.Buf); err != nil {
		h.t.Fatal(err)
	}
	return string(w.Buf)
}

func TestBlockingPopsWaitUntilTheirTime(t *testing.T) {
	h := newHarness(t, false)
	for _, words := range []string{"BZPOPMIN no none ", "BZPOPMAX no none "} {
		for timeout, until := range map[string]int64{"0": 0, "1": 1_001_000, "0.0001": 1_000_001, "1.5": 1_001_500, "0x1p1": 1_002_000,
			"9223372036854775": 0, "-0.0001": 0} {
			c := &Ctx{}
			if got := tryRun(h, c, strings.Fields(words+timeout)...); got != "" || !c.Block.Asked || c.Block.Until != until {
				t.Errorf("%s%s: replied %q, asks for %+v, want until %d", words, timeout, got, c.Block, until)
			}
			c = &Ctx{NoBlock: true}
			if got := tryRun(h, c, strings.Fields(words+timeout)...); got != "*-1\r\n" || c.Block.Asked {
				t.Errorf("%s%s where nothing waits: %q", words, timeout, got)
			}
		}
	}
	c := &Ctx{}
	if tryRun(h, c, "BZMPOP", "2", "2", "no", "none", "MIN"); !c.Block.Asked || c.Block.Until != 1_002_000 {
		t.Errorf("BZMPOP asks for %+v", c.Block)
	}
	run(h.shard, 0, nil, "ZADD", "z", "1", "a", "2", "b", "3", "c", "4", "d")
	run(h.replica, 0, nil, "ZADD", "z", "1", "a", "2", "b", "3", "c", "4", "d")
	for _, tt := range []struct{ command, want, effects string }{
		{"BZPOPMIN no z 0", "*3\r\n$1\r\nz\r\n$1\r\na\r\n$1\r\n1\r\n", "[ZREM z a]"},
		{"BZPOPMAX z no 0", "*3\r\n$1\r\nz\r\n$1\r\nd\r\n$1\r\n4\r\n", "[ZREM z d]"},
		{"BZMPOP 0 2 no z MAX COUNT 5", "*2\r\n$1\r\nz\r\n*2\r\n*2\r\n$1\r\nc\r\n$1\r\n3\r\n*2\r\n$1\r\nb\r\n$1\r\n2\r\n", "[DEL z]"},
	} {
		got := tryRun(h, c, strings.Fields(tt.command)...)
		if fx := strings.Join(readable(c.FX), ";"); got != tt.want || fx != tt.effects || c.Block.Asked {
			t.Errorf("%s: %q with effects %s, want %q with %s", tt.command, got, fx, tt.want, tt.effects)
		}
	}
	h.checkReplica()
}

func TestAPopThatWaitedPassesOverOtherTypes(t *testing.T) {
	h := newHarness(t, false)
	run(h.shard, 0, nil, "SET", "a", "no sorted set")
	run(h.shard, 0, nil, "ZADD", "z", "1", "m")
	for _, line := range []string{"BZPOPMIN a z 0", "BZMPOP 0 2 a z MIN"} {
		c := &Ctx{}
		if got := tryRun(h, c, strings.Fields(line)...); got != "-"+errWrongType+"\r\n" {
			t.Errorf("%s at first: %q", line, got)
		}
	}
	c := &Ctx{Waited: true}
	if got := tryRun(h, c, "BZPOPMIN", "a", "z", "0"); got != "*3\r\n$1\r\nz\r\n$1\r\nm\r\n$1\r\n1\r\n" {
		t.Errorf("BZPOPMIN again: %q", got)
	}
	if tryRun(h, c, "BZMPOP", "0", "2", "a", "z", "MIN"); !c.Block.Asked {
		t.Error("BZMPOP does not wait on")
	}
}

func TestSortedSetEffectsNameWhatChanged(t *testing.T) {
	h := newHarness(t, false)
	c := &Ctx{Events: &Events{}}
	for _, tt := range []struct{ command, effects, events string }{
		{"ZADD z 1 a 2 b 3 c", "[ZADD z 1 a 2 b 3 c]", "new z, zadd"},
		{"ZADD z 1 a 5 b 3 c", "[ZADD z 5 b]", "z, zadd"},
		{"ZADD z 1 a", "", ""},
		{"ZADD z NX 9 a 4 d", "[ZADD z 4 d]", "z, zadd"},
		{"ZADD z GT 9 a 3 d", "[ZADD z 9 a]", "z, zadd"},
		{"ZADD z XX INCR 0.1 a", "[ZADD z 9.0999999999999996 a]", "z, zincr"},
		{"ZINCRBY z -inf a", "[ZADD z -inf a]", "z, zincr"},
		{"ZINCRBY z inf a", "", ""},
		{"ZADD n XX 1 a", "", ""},
		{"ZREM z a x", "[ZREM z a]", "zrem z"},
		{"ZRANGESTORE d z 0 1", "[ZADD d 3 c 4 d]", "new d, zrangestore"},
		{"ZUNIONSTORE d 1 z WEIGHTS 2", "[DEL d];[ZADD d 6 c 8 d 10 b]", "d, zunionstore"},
		{"ZREMRANGEBYSCORE d (6 9", "[ZREMRANGEBYSCORE d (6 9]", "d, zremrangebyscore"},
		{"ZADD d 10 a 10 c", "[ZADD d 10 a 10 c]", "d, zadd"},
		{"ZREMRANGEBYLEX d - [b", "[ZREM d a b]", "d, zremrangebylex"},
		{"ZREMRANGEBYRANK d 0 -1", "[ZREMRANGEBYRANK d 0 -1]", "d, zremrangebyrank del"},
		{"ZINTERSTORE z 2 z none", "[DEL z]", "keymiss z, del"},
		{"ZDIFFSTORE d 1 z", "", "keymiss"},
		{"ZADD z 1 a 2 b", "[ZADD z 1 a 2 b]", "new z, zadd"},
		{"ZPOPMAX z", "[ZREM z b]", "zpopmax z"},
		{"ZMPOP 1 z MIN", "[DEL z]", "zpopmin del z"},
	} {
		c.Events.Reset()
		tryRun(h, c, strings.Fields(tt.command)...)
		if fx := strings.Join(readable(c.FX), ";"); fx != tt.effects {
			t.Errorf("%s has the effects %s, want %s", tt.command, fx, tt.effects)
		}
		if got := eventsText(c.Events); got != tt.events {
			t.Errorf("%s has the events %q, want %q", tt.command, got, tt.events)
		}
	}
	h.checkReplica()
}

// eventsText is the names of notifications in order, and with the key alone a change: "z, zadd" is a change and then zadd.
func eventsText(e *Events) string {
	var words []string
	for i, ev := range e.List {
		switch {
		case ev.Name != "":
			words = append(words, ev.Name)
		case i+1 < len(e.List):
			words = append(words, string(ev.Key)+",")
		default:
			words = append(words, string(ev.Key))
		}
	}
	return strings.Join(words, " ")
}

func TestNoEffectOfSortedSetsIsLong(t *testing.T) {
	h := newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	words := []string{"ZADD", "{k}z"}
	members := []string{"ZREM", "{k}z"}
	for i := range 2600 {
		words = append(words, strconv.Itoa(i), fmt.Sprint("m", i))
		if i > 0 {
			members = append(members, fmt.Sprint("m", i))
		}
	}
	for _, cmd := range [][]string{words, {"ZUNIONSTORE", "{k}u", "1", "{k}z"}, {"ZRANGESTORE", "{k}r", "{k}z", "0", "-1"}, members,
		{"ZPOPMIN", "{k}u", "2500"}, {"ZREMRANGEBYLEX", "{k}r", "[m", "[m9"}} {
		if got := h.exec(self, bytesOf(cmd)); got[0] == '-' {
			t.Fatalf("%.50q: %q", cmd, got)
		}
	}
	for _, fx := range effectsOf(h) {
		if len(fx) > 1002 {
			t.Errorf("an effect %s has %d words", fx[0], len(fx))
		}
	}
	h.checkReplica()
}

// TestRandomMembersAreFair also covers each way that the members are found: few of many, most, all, with repetition.
func TestRandomMembersAreFair(t *testing.T) {
	s := newShard()
	const size = 40
	for i := range size {
		run(s, 0, nil, "ZADD", "z", strconv.Itoa(i), strconv.Itoa(i))
	}
	c := &Ctx{Shard: s, W: &resp.Writer{Proto: 2}, RNG: rand.New(rand.NewPCG(1, 2))}
	for _, count := range []int{1, 3, 20, 39, -1, -30} {
		args := bytesOf([]string{"ZRANDMEMBER", "z", strconv.Itoa(count), "WITHSCORES"})
		seen := map[string]int{}
		const runs = 2000
		for range runs {
			c.do(args)
			words := strings.Split(string(c.W.Buf), "\r\n")[1:]
			var got []string
			for i := 1; i < len(words); i += 4 {
				if words[i] != words[i+2] {
					t.Fatalf("%s has the score %s", words[i], words[i+2])
				}
				got = append(got, words[i])
				seen[words[i]]++
			}
			if want := max(count, -count); len(got) != want {
				t.Fatalf("count %d: %d members", count, len(got))
			}
			if slices.Sort(got); count > 0 && len(slices.Compact(got)) != count {
				t.Fatalf("count %d: the members %q are not distinct", count, got)
			}
		}
		want := float64(runs*max(count, -count)) / size
		for i := range size {
			if n := float64(seen[strconv.Itoa(i)]); n < want*0.4-10 || n > want*1.6+10 {
				t.Errorf("count %d: member %d was chosen %v times, want about %v", count, i, n, want)
			}
		}
	}
	c.do(bytesOf([]string{"ZRANDMEMBER", "z", "-9223372036854775807"}))
	if string(c.W.Buf) != "-ERR value is out of range\r\n" {
		t.Errorf("a count without end: %q", c.W.Buf)
	}
}
