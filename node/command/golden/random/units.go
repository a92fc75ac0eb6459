package random

import (
	"bytes"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"hypercache/node/command/golden"
)

// IsPush says that a unit of what a server sends is no reply to one request: a push, or what RESP2 has in its place.
func IsPush(unit []byte) bool {
	if unit[0] == '>' {
		return true
	}
	if unit[0] != '*' {
		return false
	}
	all := golden.Elements(unit)
	if len(all) != 3 && len(all) != 4 || all[0][0] != '$' {
		return false
	}
	switch strings.Split(string(all[0]), "\r\n")[1] {
	case "message", "pmessage", "smessage", "subscribe", "psubscribe", "ssubscribe", "unsubscribe", "punsubscribe", "sunsubscribe":
		return true
	}
	return false
}

// ComparePushes compares what came to one connection within one step. Invalidations are compared one key at a time, in any
// order, since Redis collects them.
func ComparePushes(want, got [][]byte) error {
	w, g := normalPushes(want), normalPushes(got)
	if !slices.EqualFunc(w, g, bytes.Equal) {
		return fmt.Errorf("pushes differ: got %.600q, redis-server %.600q", g, w)
	}
	return nil
}

// Pushes is how many pushes there are among what came, as ComparePushes counts them.
func Pushes(units [][]byte) int {
	return len(normalPushes(slices.DeleteFunc(slices.Clone(units), func(u []byte) bool { return !IsPush(u) })))
}

func normalPushes(units [][]byte) (plain [][]byte) {
	var keys [][]byte
	for _, u := range units {
		all := golden.Elements(u)
		if len(all) != 2 || !bytes.Contains(all[0], []byte("invalidate")) {
			plain = append(plain, u)
			continue
		}
		each := golden.Elements(all[1])
		if each == nil {
			each = [][]byte{all[1]} // everything
		}
		keys = append(keys, each...)
	}
	sortPatterns(plain)
	slices.SortFunc(keys, bytes.Compare)
	return append(plain, slices.CompactFunc(keys, bytes.Equal)...)
}

// sortPatterns puts the messages that one client gets of one PUBLISH, for several patterns, in the patterns' order: a hash
// table has the order in Redis.
func sortPatterns(units [][]byte) {
	of := func(u []byte) (message string) {
		if all := golden.Elements(u); len(all) == 4 && bytes.Contains(all[0], []byte("pmessage")) {
			message = string(all[2]) + string(all[3])
		}
		return message
	}
	for i := 0; i < len(units); i++ {
		end := i + 1
		for m := of(units[i]); m != "" && end < len(units) && of(units[end]) == m; end++ {
		}
		slices.SortFunc(units[i:end], bytes.Compare)
		i = end - 1
	}
}

var (
	luaWords  = regexp.MustCompile(`(-ERR Error compiling script \(new function\)|-ERR user_script:\d+:)[^\r]*`)
	inner     = regexp.MustCompile(`\$\d+\r\nuser_script:\d+:[^\r]*`)
	notNumber = regexp.MustCompile(`\$4\r\n-nan\r\n`)
)

// CompareAnswer is Compare for a reply within a session. queued are the requests that an EXEC answers to.
func CompareAnswer(args [][]byte, queued [][][]byte, want, got []byte) error {
	name := strings.ToUpper(string(args[0]))
	if name == "EXEC" && len(want) > 0 && want[0] == '*' {
		w, g := golden.Elements(want), golden.Elements(got)
		if len(w) == len(queued) && len(g) == len(w) {
			for i := range w {
				if err := CompareAnswer(queued[i], nil, w[i], g[i]); err != nil {
					return fmt.Errorf("EXEC's %q: %w", queued[i], err)
				}
			}
			return nil
		}
	}
	if name == "PUBSUB" && len(args) > 1 && strings.HasSuffix(string(args[1]), "CHANNELS") {
		return golden.Compare(golden.Step{Mark: golden.Unordered, Reply: want}, got)
	}
	if strings.HasPrefix(name, "EVAL") || name == "SCRIPT" {
		want, got = scriptError(want), scriptError(got)
	}
	return Compare(args, want, got)
}

// scriptError cuts out of errors what Lua says in its own words, and the sign of what is no number.
func scriptError(reply []byte) []byte {
	reply = notNumber.ReplaceAll(reply, []byte("$$3\r\nnan\r\n"))
	if len(reply) > 0 && reply[0] == '-' {
		return luaWords.ReplaceAll(reply, []byte("$1"))
	}
	return inner.ReplaceAll(reply, []byte("user_script:"))
}
