// Package random makes random requests to a Redis server and compares the replies of two servers to them: weighted by the
// number of lines that a command has in the grammar, over a few keys that all types share, with arguments at the edges.
//
// It owns the grammar, and what of a reply is by chance. It leaves to its users which servers are asked, and how.
package random

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"hypercache/node/command/golden"
)

// words are what random requests are made of: few keys, so that commands meet, and values at the edges.
var (
	Keys       = []string{"{k}1", "{k}2", "{k}3", "{k}\x00\xff", "{k}"}
	valueWords = []string{"", "a", "abc", "hello world", "0", "1", "-1", "10", "007", "3.14", "-0.5", "1e3", " 5", "-0",
		"9223372036854775807", "-9223372036854775808", "9223372036854775808", "\x00\r\n\xff", "0.1", "9999", "10000",
		"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "inf", "0x1p3", "1e30", "123456.789"}
	numberWords = []string{"0", "1", "-1", "2", "5", "-5", "100", "x", "", "1.5", "9223372036854775807", "-9223372036854775808",
		"9223372036854775808", "+1", "01", " 1"}
	// Times are far from now on both sides, so that it does not matter when either server gets the request.
	timeMillis = []string{"99999999999999", "88888888888888", "99999999999000", "1", "1000", "0", "-1", "x", "9223372036854775807"}
	timeSecs   = []string{"99999999999", "88888888888", "1", "0", "-1", "x", "9223372036854775807", "9223372036854775"}
	longTimes  = []string{"0", "-1", "x", "9223372036854775807", "-9223372036854775808", ""}
	patterns   = []string{"*", "{k}*", "*1", "{k}?", "{k}[12]", "{k}[^1]", "{k}[a-", "\\{k}*", "{k}[1-3]", "", "**", "?k*", "{k}\\1", "[", "*k*[^\\1]"}
)

// grammar lists the requests of strings and keys; the files of other types append theirs with add. Its parts: K key, V value, N number, M absolute milliseconds, S absolute seconds,
// L relative times that are errors or in the past, P pattern; (a|b) stands for one of its words, maybe none.
var grammar = strings.Split(strings.TrimSpace(`
GET K
SET K V
SET K V (NX|XX|) (GET|) (KEEPTTL|)
SET K V (NX|XX|GET|) PXAT M (NX|XX|GET|KEEPTTL|)
SET K V (NX|XX|GET|) EXAT S (NX|XX|GET|KEEPTTL|)
SET K V (EX|PX) L
SET K V (NX|XX|GET|KEEPTTL|EX|PXAT|foo) (NX|XX|GET|KEEPTTL|EX|PXAT|foo)
SETEX K L V
PSETEX K L V
SETNX K V
GETSET K V
GETDEL K
GETEX K
GETEX K (PERSIST|FOO|NX)
GETEX K PXAT M
GETEX K EXAT S (PERSIST|)
GETEX K (EX|PX) L
APPEND K V
APPEND K V
STRLEN K
GETRANGE K N N
SUBSTR K N N
SETRANGE K (0|1|2|5|100|-1|x|536870912|9223372036854775807) V
INCR K
DECR K
INCRBY K V
DECRBY K V
INCRBY K N
INCRBYFLOAT K V
INCRBYFLOAT K V
MGET K K K
MSET K V K V
MSET K V K
MSETNX K V K V
LCS K K
LCS K K (LEN|IDX|) (WITHMATCHLEN|) (LEN|IDX|foo|)
LCS K K IDX MINMATCHLEN N (WITHMATCHLEN|)
DEL K K
UNLINK K
EXISTS K K K
TOUCH K K
TYPE K
EXPIRE K L (NX|XX|GT|LT|) (NX|XX|GT|LT|foo|)
PEXPIRE K L (NX|XX|GT|LT|)
PEXPIREAT K M (NX|XX|GT|LT|) (NX|XX|GT|LT|)
EXPIREAT K S (NX|XX|GT|LT|)
PEXPIREAT K M
EXPIRETIME K
PEXPIRETIME K
PERSIST K
RENAME K K
RENAMENX K K
COPY K K (REPLACE|DB|foo|) (0|99|REPLACE|)
KEYS P
SCAN 0 COUNT 1000 MATCH P
SCAN 0 (COUNT|MATCH|TYPE) (1000|string|hash) COUNT 1000
FLUSHALL (ASYNC|SYNC|foo|)
GET
SET K
`), "\n")

// Pick returns one of words.
func Pick(rng *rand.Rand, words []string) string { return words[rng.IntN(len(words))] }

// Request makes one random request.
func Request(rng *rand.Rand) [][]byte {
	args := expand(rng, Pick(rng, grammar))
	if string(args[0]) == "FLUSHALL" && rng.IntN(4) > 0 {
		return Request(rng) // too often, and there is nothing left to compare
	}
	return args
}

// expand makes a request of a line of a grammar.
func expand(rng *rand.Rand, line string) (args [][]byte) {
	for word := range strings.FieldsSeq(line) {
		switch word {
		case "K":
			word = Pick(rng, Keys)
		case "V":
			word = Pick(rng, valueWords)
		case "N":
			word = Pick(rng, numberWords)
		case "M":
			word = Pick(rng, timeMillis)
		case "S":
			word = Pick(rng, timeSecs)
		case "L":
			word = Pick(rng, longTimes)
		case "P":
			word = Pick(rng, patterns)
		default:
			if words := moreWords[word]; words != nil {
				word = Pick(rng, words)
			} else if word[0] == '(' {
				if word = Pick(rng, strings.Split(word[1:len(word)-1], "|")); word == "" {
					continue
				}
			}
		}
		args = append(args, []byte(word))
	}
	return args
}

// add adds the requests of a group of commands, one a line, with the words that its own parts stand for.
func add(lines string, parts map[string][]string) bool {
	for line := range strings.SplitSeq(strings.TrimSpace(lines), "\n") {
		grammar = append(grammar, expandPosition(line))
	}
	for part, words := range parts {
		if _, taken := moreWords[part]; taken {
			panic("the part " + part + " of the grammar has words already")
		}
		moreWords[part] = words
	}
	return true
}

var moreWords = map[string][]string{}

// compareAs are the replies whose order is by chance, by the command's name in upper case.
var compareAs = map[string]golden.Mark{"KEYS": golden.Unordered}

// readers are the commands that show the value of each type; a reply of compareAs is sorted.
var readers = map[string][]string{
	"string": {"GET"}, "hash": {"HGETALL"}, "list": {"LRANGE", "0", "-1"}, "set": {"SMEMBERS"},
	"zset": {"ZRANGE", "0", "-1", "WITHSCORES"},
}

// withoutTimes cut out of replies what depends on the time of the request, by the command's name in upper case.
var withoutTimes = map[string]func(reply []byte) []byte{}

// Dump is the state of a server as its replies tell it.
func Dump(do func(args ...string) []byte) string {
	var b strings.Builder
	for _, k := range Keys {
		kind := strings.Trim(string(do("TYPE", k)), "+\r\n")
		fmt.Fprintf(&b, "%q %s %q", k, kind, do("PEXPIRETIME", k))
		if read := readers[kind]; read != nil {
			value := do(append([]string{read[0], k}, read[1:]...)...)
			if kind == "set" || kind == "hash" {
				value = sortReply(value, map[string]int{"set": 1, "hash": 2}[kind])
			}
			fmt.Fprintf(&b, " %q", value)
		}
		if kind == "stream" {
			fmt.Fprintf(&b, " %q", withoutTimes["XINFO"](do("XINFO", "STREAM", k, "FULL", "COUNT", "0")))
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// sortReply sorts an array, set or map by its elements, or by groups of n of them.
func sortReply(reply []byte, n int) []byte {
	all := golden.Elements(reply)
	var groups []string
	for i := 0; i+n <= len(all); i += n {
		groups = append(groups, string(bytes.Join(all[i:i+n], nil)))
	}
	slices.Sort(groups)
	return []byte(strings.Join(groups, ""))
}

var exponent = regexp.MustCompile(`\$\d+\r\n(-?\d(?:\.\d+)?e\+1[78])\r\n`)

// wholeScores writes the scores out that are whole and printed with an exponent.
func wholeScores(reply []byte) []byte {
	return exponent.ReplaceAllFunc(reply, func(b []byte) []byte {
		f, err := strconv.ParseFloat(string(exponent.FindSubmatch(b)[1]), 64)
		if err != nil {
			return b
		}
		digits := strconv.FormatFloat(f, 'f', 0, 64)
		return fmt.Appendf(nil, "$%d\r\n%s\r\n", len(digits), digits)
	})
}

// ClearErrno is a request without effect after which Redis' errno is 0. SORT does not clear it, and takes what an earlier
// command left there for a number of its own that is out of range.
var ClearErrno = [][]byte{[]byte("ZADD"), []byte("{k}errno"), []byte("XX"), []byte("0"), []byte("m")}

// Sorts says whether the request is a SORT, before which ClearErrno must be sent.
func Sorts(args [][]byte) bool { return strings.HasPrefix(strings.ToUpper(string(args[0])), "SORT") }

// sortScan puts the elements of a SCAN reply in order, by groups of n.
func sortScan(reply []byte, n int) []byte {
	parts := golden.Elements(reply)
	if len(parts) != 2 {
		return reply
	}
	return append(bytes.Clone(parts[0]), sortReply(parts[1], n)...)
}

// Compare tells in what a reply differs from the one that redis-server gave, nil if only in what is by chance.
func Compare(args [][]byte, want, got []byte) error {
	name := strings.ToUpper(string(args[0]))
	mark, ok := compareAs[name]
	if !ok {
		mark = golden.Exact
	}
	switch name {
	case "SCAN", "SSCAN":
		want, got = sortScan(want, 1), sortScan(got, 1)
	case "ZSCAN":
		// Whole scores from 1e17 on look different in Redis' two encodings, which random commands need not agree in.
		want, got = wholeScores(sortScan(want, 2)), wholeScores(sortScan(got, 2))
	case "HSCAN":
		want, got = sortScan(want, 2), sortScan(got, 2)
	case "HGETALL":
		want, got = sortReply(want, 2), sortReply(got, 2)
	}
	return golden.Compare(golden.Step{Mark: mark, Reply: WithoutTimes(args, want)}, WithoutTimes(args, got))
}

// WithoutTimes cuts out of a reply what depends on the time of the request.
func WithoutTimes(args [][]byte, reply []byte) []byte {
	if strip := withoutTimes[strings.ToUpper(string(args[0]))]; strip != nil {
		return strip(reply)
	}
	return reply
}
