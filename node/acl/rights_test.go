package acl

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"hypercache/node/command"
)

func words(s string) [][]byte {
	var out [][]byte
	for _, w := range strings.Fields(s) {
		out = append(out, []byte(w))
	}
	return out
}

// check says what the rules make of a command: "", or reason and object.
func check(t *testing.T, rules, line string) string {
	t.Helper()
	r, err := None().Change(strings.Fields(rules))
	if err != nil {
		t.Fatalf("%s: %v", rules, err)
	}
	args := words(line)
	spec, problem := command.Resolve(args)
	if problem != "" {
		t.Fatalf("%s: %s", line, problem)
	}
	d := r.Check(spec, args)
	return strings.TrimSpace(d.Reason.String() + " " + d.Object)
}

func TestRulesDecideAboutCommands(t *testing.T) {
	for _, c := range []struct{ rules, line, denied string }{
		{"+get ~*", "get k", ""},
		{"+get ~*", "set k v", "command set"},
		{"+@all -debug ~* &*", "get k", ""},
		{"+@all -debug ~* &*", "debug digest", "command debug"},
		{"+@read ~*", "get k", ""},
		{"+@read ~*", "set k v", "command set"},
		{"+@all -@dangerous ~*", "keys *", "command keys"},
		{"+config|get", "config get maxmemory", ""},
		{"+config|get", "config set maxmemory 1", "command config|set"},
		{"+config -config|set", "config get maxmemory", ""},
		{"+config -config|set", "config set maxmemory 1", "command config|set"},
		{"+select|0", "select 0", ""},
		{"+select|0", "select 1", "command select"},
		{"+select|0 -select", "select 0", "command select"},
		{"-@all", "auth x", ""}, // else nobody could become somebody else
		{"-@all", "ping", "command ping"},
		// Keys, by what is done with them.
		{"+@all ~a*", "get a1", ""},
		{"+@all ~a*", "get b", "key b"},
		{"+@all ~a* ~b", "mget a1 b", ""},
		{"+@all ~a*", "mget a1 b c", "key b"},
		{"+@all %R~r", "get r", ""},
		{"+@all %R~r", "set r 1", "key r"},
		{"+@all %W~w", "set w 1", ""},
		{"+@all %W~w", "set w 1 get", "key w"},
		{"+@all %W~w", "get w", "key w"},
		{"+@all %R~r %W~w", "copy r w", ""},
		{"+@all %R~r %W~w", "copy w r", "key w"},
		{"+@all %R~r %W~w", "bitop and w r r", ""},
		{"+@all %R~r %W~w", "zunionstore w 1 r", ""},
		{"+@all %R~r %W~w", "zunionstore r 1 w", "key r"},
		{"+@all %R~r", "bitfield r get u8 0", ""},
		{"+@all %R~r", "bitfield r set u8 0 1", "key r"},
		{"+@all ~a", "eval x 1 b", "key b"},
		{"+@all ~a", "xread streams a b 0 0", "key b"},
		{"+@all", "dbsize", ""},
		// Channels.
		{"+@all ~* &a*", "publish a1 x", ""},
		{"+@all ~* &a*", "publish b x", "channel b"},
		{"+@all ~* &a*", "subscribe a1 b", "channel b"},
		{"+@all ~* &a*", "psubscribe a*", ""},
		{"+@all ~* &a*", "psubscribe ab*", "channel ab*"},
		{"+@all ~* &a*", "unsubscribe b", ""},
		{"+@all ~* &a*", "spublish b x", "channel b"},
		// One selector must allow all of a command; the refusal that came furthest is told.
		{"+get ~g (+set ~s)", "get g", ""},
		{"+get ~g (+set ~s)", "set s 1", ""},
		{"+get ~g (+set ~s)", "get s", "key s"},
		{"+get ~g (+set ~s)", "set g 1", "key g"},
		{"+get ~g (+set ~s)", "del g", "command del"},
		{"+mget ~a ~b (+mget ~a ~c)", "mget a c", ""},
		{"+mget ~a ~b (+mget ~a ~c)", "mget a b c", "key c"},
		{"+get ~g (+@all ~* &*)", "flushall", ""},
	} {
		if got := check(t, c.rules, c.line); got != c.denied {
			t.Errorf("%s: %s: denied %q, want %q", c.rules, c.line, got, c.denied)
		}
	}
}

func TestRulesAreShownAsRedisDoes(t *testing.T) {
	const hash = "2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b" // of secret
	for _, c := range []struct{ rules, shown string }{
		{"", "off resetchannels -@all"},
		{"on nopass ~* &* +@all", "on nopass ~* &* +@all"},
		{"ON NoPass ALLKEYS AllChannels AllCommands", "on nopass ~* &* +@all"},
		{"reset", "off sanitize-payload resetchannels -@all"},
		{"skip-sanitize-payload", "off skip-sanitize-payload resetchannels -@all"},
		{">secret >secret #" + hash, "off #" + hash + " resetchannels -@all"},
		{"nopass >secret", "off #" + hash + " resetchannels -@all"},
		{">secret nopass", "off nopass resetchannels -@all"},
		{">secret <secret", "off resetchannels -@all"},
		{">secret !" + hash, "off resetchannels -@all"},
		{">secret resetpass", "off resetchannels -@all"},
		{"%R~a %W~a", "off ~a resetchannels -@all"},
		{"%R~r %W~w %RW~x ~y", "off %R~r %W~w ~x ~y resetchannels -@all"},
		{"&a &b &a", "off resetchannels &a &b -@all"},
		{"&a resetchannels allkeys resetkeys", "off resetchannels -@all"},
		{"+@all -get", "off resetchannels +@all -get"},
		{"+@all -get +get", "off resetchannels +@all"},
		{"-@all +config -config|get", "off resetchannels -@all +config -config|get"},
		{"+config|get +config", "off resetchannels -@all +config"},
		{"+GET", "off resetchannels -@all +get"},
		{"+@read +get", "off resetchannels -@all +@read"},
		{"+select|0 +select|1 +SELECT|x", "off resetchannels -@all +select|0 +select|1 +select|x"},
		{"+select|0 +select", "off resetchannels -@all +select"},
		{"+shutdown -save", "off resetchannels -@all"}, // Redis' own, which we do not have
		{"(+get ~x) ( +set  %R~y )", "off resetchannels -@all (~x resetchannels -@all +get) (%R~y resetchannels -@all +set)"},
		{"(+get) clearselectors", "off resetchannels -@all"},
		{"()", "off resetchannels -@all (resetchannels -@all)"},
	} {
		r, err := None().Change(strings.Fields(c.rules))
		if err != nil {
			t.Errorf("%s: %v", c.rules, err)
			continue
		}
		if r.String() != c.shown {
			t.Errorf("%s: shown as %q, want %q", c.rules, r.String(), c.shown)
		}
		again, err := Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Errorf("%s: read back as %v, %v", r.String(), again, err)
		}
	}
}

func TestRulesThatCannotBeAreRefusedAndChangeNothing(t *testing.T) {
	const past = "Adding a pattern after the * pattern (or the '"
	for _, c := range []struct{ rule, why string }{
		{"foo", "Syntax error"}, {"+", "Syntax error"}, {"%~x", "Syntax error"}, {"%X~x", "Syntax error"}, {"%RR~x", "Syntax error"}, {"%Rx", "Syntax error"},
		{"~a\tb", "Syntax error"}, {"&a\nb", "Syntax error"}, {"(on)", "Syntax error"}, {"(>x)", "Syntax error"}, {"(reset)", "Syntax error"}, {"(~x))", "Syntax error"}, {"(~x) +get)", "Syntax error"}, {")", "Syntax error"},
		{"+gett", "Unknown command or category name in ACL"}, {"+@foo", "Unknown command or category name in ACL"},
		{"-select|0", "Unknown command or category name in ACL"}, {"+config|foo", "Unknown command or category name in ACL"},
		{"+nosuch|x", "Unknown command or category name in ACL"}, {"+select|", "Unknown command or category name in ACL"}, {"(+gett)", "Unknown command or category name in ACL"},
		{"+config|get|x", "Allowing first-arg of a subcommand is not supported"},
		{"#zz", errHash.Error()}, {"!zz", errHash.Error()}, {"#" + strings.Repeat("A", 64), errHash.Error()},
		{"<nosuch", errNoPassword.Error()}, {"!" + strings.Repeat("a", 64), errNoPassword.Error()},
	} {
		before := None()
		shown := before.String()
		_, err := before.Change([]string{"on", "+get", c.rule})
		var refused *RuleError
		if !errors.As(err, &refused) || refused.Err.Error() != c.why || refused.Rule != c.rule {
			t.Errorf("%q: %v", c.rule, err)
		}
		if before.String() != shown {
			t.Errorf("%q: changed to %s", c.rule, before)
		}
	}
	for _, rule := range []string{"~x", "%R~x", "&x"} {
		if _, err := Full().Change([]string{rule}); err == nil || !strings.Contains(err.Error(), past) {
			t.Errorf("%q behind everything: %v", rule, err)
		}
	}
	if _, err := None().Change([]string{"(+get", "~x"}); err == nil || err.Error() != "Unmatched parenthesis in acl selector starting at '(+get'." {
		t.Errorf("an open parenthesis: %v", err)
	}
	if _, err := None().Change([]string{"(+get", "(+set", "~x)"}); err == nil || err.Error() != "Unmatched parenthesis in acl selector starting at '(+get'." {
		t.Errorf("an open parenthesis before another: %v", err)
	}
	if _, err := None().Change([]string{"(+get", "~x", "+set)"}); err != nil {
		t.Errorf("a selector in three words: %v", err)
	}
}

func TestAKeptRuleOfALaterBuildAllowsNothing(t *testing.T) {
	r, err := Parse("on nopass ~* resetchannels -@all +@later +frobnicate +get +config|frobnicate (~x resetchannels -@all +frobnicate)")
	if err != nil {
		t.Fatal(err)
	}
	if want := "on nopass ~* resetchannels -@all +@later +frobnicate +get +config|frobnicate (~x resetchannels -@all +frobnicate)"; r.String() != want {
		t.Errorf("kept as %q", r)
	}
	for line, want := range map[string]Reason{"get k": Allowed, "set k v": DeniedCommand, "config get x": DeniedCommand} {
		args := words(line)
		spec, _ := command.Resolve(args)
		if d := r.Check(spec, args); d.Reason != want {
			t.Errorf("%s: %v", line, d)
		}
	}
	if next, err := r.Change([]string{"+set"}); err != nil || !strings.Contains(next.String(), "+frobnicate +get +config|frobnicate +set") {
		t.Errorf("changed to %v, %v", next, err)
	}
	for _, bad := range []string{"on %~x", "on (", "on >", "on nonsense"} {
		if r, err := Parse(bad); err == nil && bad != "on >" {
			t.Errorf("%q is read as %s", bad, r)
		}
	}
}

func TestPasswordsAreAcceptedAsTheRulesSay(t *testing.T) {
	for _, c := range []struct {
		rules, password string
		want            bool
	}{
		{"on >one >two", "one", true}, {"on >one >two", "two", true}, {"on >one", "two", false}, {"on", "", false}, {"on >one", "", false},
		{"off >one", "one", false}, {"on nopass", "anything", true}, {"off nopass", "anything", false}, {"on >", "", true},
	} {
		r, err := None().Change(strings.Fields(c.rules))
		if err != nil {
			t.Fatal(err)
		}
		if got := r.Accepts(c.password); got != c.want {
			t.Errorf("%s with %q: %v", c.rules, c.password, got)
		}
	}
}

func TestSortByOtherKeysWantsAllOfThem(t *testing.T) {
	for _, c := range []struct {
		rules, line string
		want        bool
	}{
		{"+@all ~*", "sort k by w_*", true}, {"+@all ~k", "sort k by w_*", false}, {"+@all %R~*", "sort k get w_*", true},
		{"+@all %W~* ~k", "sort k get w_*", false}, {"+sort ~k (+get ~*)", "sort k get w_*", false}, {"+sort ~k (+sort ~*)", "sort k get w_*", true},
	} {
		r, err := None().Change(strings.Fields(c.rules))
		if err != nil {
			t.Fatal(err)
		}
		args := words(c.line)
		spec, _ := command.Resolve(args)
		if got := r.ReadsEverything(spec, args); got != c.want {
			t.Errorf("%s: %s: %v", c.rules, c.line, got)
		}
	}
}

// TestAnyRulesAreReadBackAsTheyAre changes a user by random rules, and compares what is kept of it with what it was.
func TestAnyRulesAreReadBackAsTheyAre(t *testing.T) {
	some := []string{"on", "off", "nopass", "resetpass", ">pw", "#" + strings.Repeat("ab", 32), "allkeys", "resetkeys", "~a*", "%R~b", "%W~b", "&*",
		"resetchannels", "&ch", "+@all", "-@all", "+@read", "-@dangerous", "+get", "-get", "+config", "-config|set", "+config|get", "+select|0", "-select",
		"+@slow", "-@fast", "(+get ~x)", "(+@write &y %W~z)", "clearselectors", "sanitize-payload", "reset"}
	requests := []string{"get a1", "set b 1", "config get x", "config set x y", "select 0", "select 1", "publish ch x", "keys *", "mget x b"}
	rapid.Check(t, func(t *rapid.T) {
		r := None()
		for _, rule := range rapid.SliceOf(rapid.SampledFrom(some)).Draw(t, "rules") {
			if next, err := r.Change([]string{rule}); err == nil {
				r = next
			}
		}
		again, err := Parse(r.String())
		if err != nil || again.String() != r.String() {
			t.Fatalf("%s is read back as %v, %v", r, again, err)
		}
		for _, line := range requests {
			args := words(line)
			spec, _ := command.Resolve(args)
			if a, b := r.Check(spec, args), again.Check(spec, args); a != b {
				t.Fatalf("%s: %s: %v before, %v after", r, line, a, b)
			}
		}
	})
}

func TestTheBitmapHoldsEveryCommand(t *testing.T) {
	if command.Count() > 64*len(bitmap{}) {
		t.Fatalf("%d commands", command.Count())
	}
	replay := func(rules ...string) *selector {
		s := &selector{rules: rules}
		s.settle()
		return s
	}
	full := replay("+@all")
	if full.commands.len() != command.Count() {
		t.Errorf("+@all allows %d of %d", full.commands.len(), command.Count())
	}
	for _, name := range command.Categories {
		if replay("-@all", "+@"+name).commands.len() == 0 {
			t.Errorf("+@%s allows nothing", name)
		}
	}
	if !slices.Contains(command.Categories, "dangerous") {
		t.Error("no category dangerous")
	}
}

// FuzzRulesAreReadBack takes any text for the rules of a user: it is refused, or read back as it is shown.
func FuzzRulesAreReadBack(f *testing.F) {
	for _, seed := range []string{"on nopass ~* &* +@all", "off #00 %R~a %~b", "(~x +get) ( )", "+a|b|c -@x +@read", "(()) )(", "on (+get", "~* ~*", "+|x -| +@"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, rules string) {
		for name, read := range map[string]func() (*Rights, error){
			"kept":  func() (*Rights, error) { return Parse(rules) },
			"given": func() (*Rights, error) { return None().Change(strings.Split(rules, " ")) },
		} {
			r, err := read()
			if err != nil {
				continue
			}
			again, err := Parse(r.String())
			if err != nil || again.String() != r.String() {
				t.Errorf("%s %q is shown as %q and read back as %v, %v", name, rules, r, again, err)
			}
		}
	})
}
