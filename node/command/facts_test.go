package command

import (
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
)

func startRedis(t *testing.T, extra ...string) *oracle.Conn {
	t.Helper()
	return oracle.Serve(t, t.TempDir(), extra...).Client(t)
}

// laterThanOracle are the commands that redis-server 7.0.15 has not.
var laterThanOracle = []string{"client|setinfo", "client|no-touch", "client|maint_notifications", "hotkeys"}

// TestCommandTableIsRedisTable asks a live server, so that a stale facts.resp3 fails.
func TestCommandTableIsRedisTable(t *testing.T) {
	redis := startRedis(t)
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	for _, proto := range []string{"2", "3"} {
		if _, err := redis.Do("HELLO", proto); err != nil {
			t.Fatal(err)
		}
		self.proto, _ = strconv.Atoi(proto)
		for name := range byName {
			if slices.Contains(laterThanOracle, name) {
				continue
			}
			for _, sub := range []string{"INFO", "DOCS"} {
				want, err := redis.Do("COMMAND", sub, name)
				if err != nil {
					t.Fatal(err)
				}
				got := h.exec(self, [][]byte{[]byte("COMMAND"), []byte(sub), []byte(name)})
				if w, g := canonical(want, name), canonical(got, name); w != g {
					t.Errorf("RESP%s COMMAND %s %s:\n got %q\nwant %q", proto, sub, name, g, w)
				}
			}
		}
	}
}

// canonical drops the subcommands that we have not or Redis has not, and sorts the others: Redis' order is by chance.
func canonical(reply []byte, name string) string {
	if s := byName[name]; s == nil || !s.Container {
		return string(reply)
	}
	outer := golden.Elements(reply)
	if len(outer) == 2 { // DOCS: name, map
		return string(outer[0]) + canonicalDocs(outer[1])
	}
	fields := golden.Elements(outer[0])
	var kept []string
	for _, sub := range golden.Elements(fields[infoSubcommands]) {
		if known(bulkText(golden.Elements(sub)[0])) {
			kept = append(kept, string(sub))
		}
	}
	slices.Sort(kept)
	out := strings.Join(kept, "")
	for _, f := range fields[:infoSubcommands] {
		out += string(f)
	}
	return out
}

func canonicalDocs(docs []byte) string {
	fields := golden.Elements(docs)
	out := ""
	for i := 0; i < len(fields); i += 2 {
		if bulkText(fields[i]) != "subcommands" {
			out += string(fields[i]) + string(fields[i+1])
			continue
		}
		subs := golden.Elements(fields[i+1])
		var kept []string
		for j := 0; j < len(subs); j += 2 {
			if known(bulkText(subs[j])) {
				kept = append(kept, string(subs[j])+string(subs[j+1]))
			}
		}
		slices.Sort(kept)
		out += strings.Join(kept, "")
	}
	return out
}

func known(sub string) bool { return byName[sub] != nil && !slices.Contains(laterThanOracle, sub) }

func bulkText(b []byte) string { return strings.Split(string(b), "\r\n")[1] }

func TestEveryCommandHasItsFunction(t *testing.T) {
	for name, s := range byName {
		switch {
		case s.Scope == ScopeNode:
			if s.run != nil || s.conn != nil {
				t.Errorf("%s has a function that nobody calls", name)
			}
		case s.Scope == ScopeConn && s.conn == nil, s.Scope != ScopeConn && s.run == nil:
			t.Errorf("%s has no function", name)
		case (s.Scope == ScopeScatter || s.Scope == ScopeCluster) != (s.Merge != MergeNone):
			t.Errorf("%s: scope %d does not go with merge %d", name, s.Scope, s.Merge)
		case (s.Scope == ScopeKey || s.Scope == ScopeScatter) != (s.FirstKey > 0 || s.keys != nil) && s.Flags&FlagPubSub == 0:
			t.Errorf("%s: scope %d does not go with first key %d", name, s.Scope, s.FirstKey)
		case s.Write != (s.Flags&FlagWrite != 0):
			t.Errorf("%s: Write is %v", name, s.Write)
		}
	}
}

func TestLookupFindsEveryNameInAnyCase(t *testing.T) {
	for _, s := range specs {
		upper := strings.ToUpper(s.Name)
		mixed := strings.ToUpper(s.Name[:1]) + s.Name[1:]
		for _, name := range []string{s.Name, upper, mixed} {
			if Lookup([]byte(name)) != s {
				t.Errorf("Lookup(%q) is not %s", name, s.Name)
			}
		}
		for i := range s.Name {
			for _, bit := range []byte{0x20, 0x40, 0x80, 0x01} {
				b := []byte(s.Name)
				b[i] ^= bit
				if got := Lookup(b); got != nil && !strings.EqualFold(got.Name, string(b)) {
					t.Errorf("Lookup(%q) is %s", b, got.Name)
				}
			}
		}
	}
	for _, name := range []string{"", "ge", "gett", "xget", strings.Repeat("x", 16), strings.Repeat("x", 17), strings.Repeat("get", 1000)} {
		if s := Lookup([]byte(name)); s != nil {
			t.Errorf("Lookup(%q) is %s", name, s.Name)
		}
	}
}

// TestFactsAreInOrderOfName, which InRedis searches by.
func TestFactsAreInOrderOfName(t *testing.T) {
	if !slices.IsSortedFunc(facts, func(a, b fact) int { return strings.Compare(a.name, b.name) }) {
		t.Error("go generate ./node/command must write them in order of name")
	}
	for _, name := range []string{"acl", "ACL|LOAD", "shutdown", "xtrim", "module|list"} {
		if !InRedis(name) {
			t.Errorf("%s is not found", name)
		}
	}
	for _, name := range []string{"", "acl|", "nosuch", "zzz"} {
		if InRedis(name) {
			t.Errorf("%q is found", name)
		}
	}
}
