package command

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestLongPushesAreSeveralEffects(t *testing.T) {
	h := newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	args := []string{"LPUSH", "k"}
	for i := range 2*effectItems + 1 {
		args = append(args, fmt.Sprint(i))
	}
	if got := string(h.exec(self, bytesOf(args))); got != ":2001\r\n" {
		t.Fatal(got)
	}
	effects := effectsOf(h)
	if len(effects) != 3 || len(effects[0]) != effectItems+2 || len(effects[2]) != 3 {
		t.Errorf("%d effects", len(effects))
	}
	h.checkReplica()
}

// events are what a command said of keys, as text.
func events(h *harness, line string) []string {
	e := &Events{}
	args := bytesOf(strings.Fields(line))
	spec, _ := Resolve(args)
	ctx := &Ctx{Spec: spec, Args: args, Shard: h.shard, Now: h.now(), Events: e, W: h.writer()}
	ctx.Run()
	var out []string
	for _, x := range e.List {
		if x.Name == "" {
			x.Name = "*"
		}
		out = append(out, x.Name+" "+string(x.Key))
	}
	return out
}

func TestListCommandsTellWhatTheyDo(t *testing.T) {
	h := newHarness(t, false)
	for _, c := range []struct{ line, want string }{
		{"RPUSH a 1 2 3 4", "new a,* a,rpush a"},
		{"LPUSHX a 0", "* a,lpush a"},
		{"LPUSHX b 0", ""},
		{"LPOP a", "lpop a,* a"},
		{"LSET a 0 x", "* a,lset a"},
		{"LINSERT a BEFORE x y", "* a,linsert a"},
		{"LINSERT a BEFORE nix y", ""},
		{"LREM a 0 y", "* a,lrem a"},
		{"LREM a 0 nix", ""},
		{"LTRIM a 0 1", "ltrim a,* a"},
		{"LMOVE a b LEFT RIGHT", "new b,* b,rpush b,lpop a,* a"},
		{"LMOVE b b LEFT RIGHT", "* b,rpush b,lpop b,* b"},
		{"BRPOPLPUSH a b 0", "* b,lpush b,rpop a,del a,* a"},
		{"BLPOP nix 0", ""},
		{"BLMPOP 0 2 nix b RIGHT COUNT 5", "rpop b,del b,* b"},
		{"LRANGE b 0 -1", "keymiss b"},
	} {
		if got := strings.Join(events(h, c.line), ","); got != c.want {
			t.Errorf("%s: %s, want %s", c.line, got, c.want)
		}
	}
}

func TestRepeatedRunsTakeOtherTypesForNothing(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	for _, line := range []string{"SET s x", "RPUSH l 1 2 3"} {
		h.exec(self, bytesOf(strings.Fields(line)))
	}
	for _, c := range []struct {
		line         string
		first, again string
	}{
		{"BLPOP s l 0", "-" + errWrongType + "\r\n", "*2\r\n$1\r\nl\r\n$1\r\n1\r\n"},
		{"BLMPOP 0 2 s l LEFT", "-" + errWrongType + "\r\n", "*2\r\n$1\r\nl\r\n*1\r\n$1\r\n2\r\n"},
		{"BLMOVE s l LEFT LEFT 0", "-" + errWrongType + "\r\n", ""},
		{"BLMOVE l s LEFT LEFT 0", "-" + errWrongType + "\r\n", "-" + errWrongType + "\r\n"},
	} {
		args := bytesOf(strings.Fields(c.line))
		spec, _ := Resolve(args)
		for i, want := range []string{c.first, c.again} {
			w := h.writer()
			ctx := &Ctx{Spec: spec, Args: args, Shard: h.shard, Now: h.now(), W: w, Waited: i > 0}
			if ctx.Run(); string(w.Buf) != want || ctx.Block.Asked != (want == "") {
				t.Errorf("%s, waited %v: %q, asks %v", c.line, i > 0, w.Buf, ctx.Block.Asked)
			}
		}
	}
}

func TestWhereNobodyWaitsTheReplyIsThatOfAWaitInVain(t *testing.T) {
	h := newHarness(t, false)
	for line, want := range map[string]string{
		"BLPOP a b 0": "*-1\r\n", "BRPOP a 0": "*-1\r\n", "BLMPOP 0 1 a LEFT": "*-1\r\n",
		"BLMOVE a b LEFT LEFT 0": "$-1\r\n", "BRPOPLPUSH a b 0": "$-1\r\n",
	} {
		args := bytesOf(strings.Fields(line))
		spec, _ := Resolve(args)
		w := h.writer()
		ctx := &Ctx{Spec: spec, Args: args, Shard: h.shard, W: w, NoBlock: true}
		if ctx.Run(); string(w.Buf) != want || ctx.Block.Asked {
			t.Errorf("%s: %q", line, w.Buf)
		}
	}
}

func TestTimeoutsNeverRoundToForEver(t *testing.T) {
	for arg, want := range map[string]int64{
		"0": 0, "0.0": 0, "1": 1000, "1.5": 1500, "0.0001": 1, "0.0011": 2, "1e-300": 1, "-1": -1000, "-0.5": -500, "3600": 3600000,
	} {
		if ms, ok := parseTimeout([]byte(arg)); ms != want || !ok {
			t.Errorf("%s: %d ms, %v", arg, ms, ok)
		}
	}
}

func TestKeysOfListCommands(t *testing.T) {
	for line, want := range map[string][]int{
		"BLPOP a b c 0": {1, 2, 3}, "LMPOP 2 a b LEFT": {2, 3}, "BLMPOP 0 1 a LEFT": {3}, "BLMOVE a b LEFT LEFT 0": {1, 2},
		"LMPOP 9 a b LEFT": nil,
	} {
		args := bytesOf(strings.Fields(line))
		spec, _ := Resolve(args)
		if got := Keys(spec, args, nil); !slices.Equal(got, want) {
			t.Errorf("%s: %v", line, got)
		}
	}
}
