package command

import (
	"bytes"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"hypercache/node/command/golden/random"
	"hypercache/node/resp"
	"hypercache/node/store"
)

// clocked runs commands at times of its own, and repeats their effects on a replica.
type clocked struct {
	*harness
	clock int64
	block Block
}

func newClocked(t *testing.T) *clocked {
	c := &clocked{harness: newHarness(t, false), clock: 1000}
	c.now = func() int64 { return c.clock }
	return c
}

// do runs a command given as one line and returns its reply as one line.
func (h *clocked) do(line string) string {
	h.t.Helper()
	return h.run(bytesOf(strings.Fields(line)))
}

func (h *clocked) run(args [][]byte) string {
	h.t.Helper()
	spec, errText := Resolve(args)
	if errText != "" {
		h.t.Fatal(errText)
	}
	fx := &Effects{}
	c := &Ctx{Spec: spec, Args: args, Shard: h.shard, Now: h.clock, W: &resp.Writer{}, FX: fx}
	c.Run()
	h.block = c.Block
	if err := Apply(h.replica, fx.Buf); err != nil {
		h.t.Fatalf("%q: %v", args, err)
	}
	h.effects = append(h.effects, fx.Buf...)
	return strings.ReplaceAll(strings.TrimSuffix(string(c.W.Buf), "\r\n"), "\r\n", " ")
}

func (h *clocked) want(line, reply string) {
	h.t.Helper()
	if got := h.do(line); got != reply {
		h.t.Errorf("%s: got %q, want %q", line, got, reply)
	}
}

func TestIDsOfTheClockNeverGoBack(t *testing.T) {
	h := newClocked(t)
	h.want("XADD s * a b", "$6 1000-0")
	h.want("XADD s * a b", "$6 1000-1")
	h.clock = 900
	h.want("XADD s * a b", "$6 1000-2")
	h.clock = 1001
	h.want("XADD s * a b", "$6 1001-0")
	h.want("XADD s 2000-* a b", "$6 2000-0")
	h.want("XADD s * a b", "$6 2000-1")
	if bytes.Contains(h.effects, []byte("*\r\na\r\n")) {
		t.Errorf("an effect leaves the ID open: %q", h.effects)
	}
	h.checkReplica()
}

func TestIdleTimesCountFromTheLastDelivery(t *testing.T) {
	h := newClocked(t)
	h.do("XADD s 1-1 a b")
	h.do("XADD s 2-1 a b")
	h.do("XGROUP CREATE s g 0")
	h.do("XREADGROUP GROUP g c COUNT 1 STREAMS s >")
	h.clock = 1500
	h.do("XREADGROUP GROUP g c STREAMS s >")
	h.clock = 1700
	h.want("XPENDING s g - + 10", "*2 *4 $3 1-1 $1 c :700 :1 *4 $3 2-1 $1 c :200 :1")
	h.want("XPENDING s g IDLE 201 - + 10", "*1 *4 $3 1-1 $1 c :700 :1")
	h.want("XINFO CONSUMERS s g", "*1 *6 $4 name $1 c $7 pending :2 $4 idle :200")
	h.want("XAUTOCLAIM s g d 201 0 JUSTID", "*3 $3 0-0 *1 $3 1-1 *0")
	h.want("XCLAIM s g d 201 2-1", "*0")
	h.want("XCLAIM s g d 200 2-1 IDLE 50", "*1 *2 $3 2-1 *2 $1 a $1 b")
	h.want("XPENDING s g - + 10", "*2 *4 $3 1-1 $1 d :0 :1 *4 $3 2-1 $1 d :50 :2")
	h.want("XCLAIM s g d 0 2-1 TIME 99999 JUSTID", "*1 $3 2-1") // nothing was delivered in the future
	h.clock = 1800
	h.do("XREADGROUP GROUP g d STREAMS s 0")
	h.want("XPENDING s g - + 10", "*2 *4 $3 1-1 $1 d :0 :2 *4 $3 2-1 $1 d :0 :3")
	h.checkReplica()
}

func TestWhoOnlyRepeatedEffectsCountsConsumersAsSeenWhenAsked(t *testing.T) {
	h := newClocked(t)
	h.do("XGROUP CREATE s g 0 MKSTREAM")
	h.do("XGROUP CREATECONSUMER s g c")
	h.shard, h.clock = h.replica, 5000
	h.want("XINFO CONSUMERS s g", "*1 *6 $4 name $1 c $7 pending :0 $4 idle :0")
	h.clock = 5100
	h.want("XINFO CONSUMERS s g", "*1 *6 $4 name $1 c $7 pending :0 $4 idle :100")
}

func TestXReadThatWaitsKeepsWhereTheStreamEnded(t *testing.T) {
	h := newClocked(t)
	h.do("XADD s 5-1 a b")
	h.want("XREAD BLOCK 100 STREAMS s t $ $", "")
	first := h.block
	if !first.Asked || first.Until != 1100 || string(bytes.Join(first.Args, []byte(" "))) != "XREAD BLOCK 100 STREAMS s t 5-1 0-0" {
		t.Fatalf("asked for %+v, %q", first, first.Args)
	}
	h.do("XADD s 5-2 c d")
	if got, want := h.run(first.Args), "*1 *2 $1 s *1 *2 $3 5-2 *2 $1 c $1 d"; got != want {
		t.Errorf("the repeated run replied %q, want %q", got, want)
	}
	h.want("XREAD BLOCK 0 STREAMS s 9", "")
	if !h.block.Asked || h.block.Until != 0 || h.block.Args != nil {
		t.Errorf("asked for %+v", h.block)
	}
	h.do("XGROUP CREATE s g $")
	h.want("XREADGROUP GROUP g c BLOCK 7 STREAMS s >", "")
	if !h.block.Asked || h.block.Until != 1007 || h.block.Args != nil {
		t.Errorf("asked for %+v", h.block)
	}
}

// TestSnapshotsOfStreamsAreComplete makes streams by random commands, deliveries of deleted entries included, and compares
// what their snapshot makes, here and in a redis-server.
func TestSnapshotsOfStreamsAreComplete(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(9, 10))
	streams := 0
	for range 300 {
		h := newHarness(t, false)
		self := h.open(1, "a", "b")
		for range 300 {
			if args := random.Request(rng); args[0][0] == 'X' {
				h.exec(self, args)
			}
		}
		snapshot := &Effects{}
		h.shard.Range(func(r store.Ref) bool {
			streams++
			EncodeEntry(snapshot, r, func() {})
			return true
		})
		copied := store.New(store.Options{}).Shard(0)
		if err := Apply(copied, snapshot.Buf); err != nil {
			t.Fatalf("%v in %q", err, snapshot.Buf)
		}
		if got, want := contents(copied), contents(h.shard); !slices.Equal(got, want) {
			t.Fatalf("the snapshot makes\n%q\nof\n%q", got, want)
		}
		if _, err := redis.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
		all := &harness{effects: snapshot.Buf}
		replies, err := redis.Pipeline(effectsOf(all))
		if err != nil {
			t.Fatal(err)
		}
		for i, reply := range replies {
			if reply[0] == '-' {
				t.Fatalf("redis-server refuses %q: %s", effectsOf(all)[i], reply)
			}
		}
		h.shard.Range(func(r store.Ref) bool {
			args := []string{"XINFO", "STREAM", string(r.Key()), "FULL", "COUNT", "0"}
			want, err := redis.Do(args...)
			if err != nil {
				t.Fatal(err)
			}
			// The nodes of a snapshot are new: nothing in them is deleted.
			cut := func(b []byte) string {
				_, b, _ = bytes.Cut(random.WithoutTimes(bytesOf([]string{"XINFO"}), b), []byte("last-generated-id"))
				return string(b)
			}
			if got := h.exec(self, bytesOf(args)); cut(got) != cut(want) {
				t.Fatalf("redis-server has\n%q\nwant\n%q", want, got)
			}
			return true
		})
	}
	t.Logf("%d streams", streams)
}
