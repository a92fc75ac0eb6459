package command

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
)

// words are what random requests are made of: few keys, so that commands meet, and values at the edges.
var (
	keyWords   = []string{"{k}1", "{k}2", "{k}3", "{k}\x00\xff", "{k}"}
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

// grammar lists the requests of strings and keys; the files of other types append theirs with addGrammar. Its parts: K key, V value, N number, M absolute milliseconds, S absolute seconds,
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

func pick(rng *rand.Rand, words []string) string { return words[rng.IntN(len(words))] }

// request makes one random request.
func request(rng *rand.Rand) [][]byte {
	var args [][]byte
	for word := range strings.FieldsSeq(pick(rng, grammar)) {
		switch word {
		case "K":
			word = pick(rng, keyWords)
		case "V":
			word = pick(rng, valueWords)
		case "N":
			word = pick(rng, numberWords)
		case "M":
			word = pick(rng, timeMillis)
		case "S":
			word = pick(rng, timeSecs)
		case "L":
			word = pick(rng, longTimes)
		case "P":
			word = pick(rng, patterns)
		default:
			if words := moreWords[word]; words != nil {
				word = pick(rng, words)
			} else if word[0] == '(' {
				if word = pick(rng, strings.Split(word[1:len(word)-1], "|")); word == "" {
					continue
				}
			}
		}
		args = append(args, []byte(word))
	}
	if string(args[0]) == "FLUSHALL" && rng.IntN(4) > 0 {
		return request(rng) // too often, and there is nothing left to compare
	}
	return args
}

// addGrammar adds the requests of a group of commands, one a line, with the words that its own parts stand for.
func addGrammar(lines string, parts map[string][]string) bool {
	grammar = append(grammar, strings.Split(strings.TrimSpace(lines), "\n")...)
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

// dump is the state of a server as its replies tell it.
func dump(do func(args ...string) []byte) string {
	var b strings.Builder
	for _, k := range keyWords {
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

// TestRandomCommandsAgreeWithRedis runs random commands here and on a real redis-server, and compares every reply, the
// final states, the replica that had the effects alone, and a redis-server that loads the effects as its log.
// HYPERCACHE_DIFFERENTIAL lengthens the run ("60s"); HYPERCACHE_SEED repeats one.
func TestRandomCommandsAgreeWithRedis(t *testing.T) {
	limit := 5 * time.Second
	if s := os.Getenv("HYPERCACHE_DIFFERENTIAL"); s != "" {
		var err error
		if limit, err = time.ParseDuration(s); err != nil {
			t.Fatal(err)
		}
	}
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("HYPERCACHE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("HYPERCACHE_SEED=%d", seed)
	redis, loaded := startRedis(t), startRedis(t)
	rng := rand.New(rand.NewPCG(seed, 0))
	compared := 0
	for end := time.Now().Add(limit); time.Now().Before(end) && !t.Failed(); {
		compared += compareRun(t, rng, redis, loaded, 2+rng.IntN(2))
	}
	t.Logf("%d commands compared", compared)
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

// clearErrno is a request without effect after which Redis' errno is 0. SORT does not clear it, and takes what an earlier
// command left there for a number of its own that is out of range.
var clearErrno = bytesOf([]string{"ZADD", "{k}errno", "XX", "0", "m"})

func sorts(args [][]byte) bool { return strings.HasPrefix(strings.ToUpper(string(args[0])), "SORT") }

// compareRun is one run of random commands over an empty keyspace in RESP proto.
func compareRun(t *testing.T, rng *rand.Rand, redis, loaded *oracle.Conn, proto int) (compared int) {
	const length = 400
	h := newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	must := func(b []byte, err error) []byte {
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	for _, c := range []*oracle.Conn{redis, loaded} {
		must(c.Do("HELLO", strconv.Itoa(proto)))
		must(c.Do("FLUSHALL"))
		must(c.Do("CONFIG", "SET", "hz", "500")) // waits end in time
	}
	self.proto = proto
	requests := make([][][]byte, length)
	for i := range requests {
		requests[i] = request(rng)
	}
	var sent [][][]byte
	for _, args := range requests {
		if sorts(args) {
			sent = append(sent, clearErrno)
		}
		sent = append(sent, args)
	}
	replies, err := redis.Pipeline(sent)
	if err != nil {
		t.Fatal(err)
	}
	at := 0
	for i, args := range requests {
		if sorts(args) {
			at++
		}
		want := replies[at]
		at++
		got := h.exec(self, args)
		mark, ok := compareAs[strings.ToUpper(string(args[0]))]
		if !ok {
			mark = golden.Exact
		}
		switch strings.ToUpper(string(args[0])) {
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
		if strip := withoutTimes[strings.ToUpper(string(args[0]))]; strip != nil {
			want, got = strip(want), strip(got)
		}
		if err := golden.Compare(golden.Step{Mark: mark, Reply: want}, got); err != nil {
			t.Errorf("%q: %v\nafter %.150q", args, err, requests[max(0, i-12):i])
			return compared
		}
		compared++
	}
	effects := effectsOf(h)
	if replies, err = loaded.Pipeline(effects); err != nil {
		t.Fatal(err)
	}
	for i, reply := range replies {
		if reply[0] == '-' {
			t.Errorf("redis-server refuses the effect %q: %s", effects[i], reply)
		}
	}
	want := dump(func(args ...string) []byte { return must(redis.Do(args...)) })
	if got := dump(func(args ...string) []byte { return h.exec(self, bytesOf(args)) }); got != want {
		t.Errorf("state differs:\n%s\nredis-server:\n%s", got, want)
	}
	if got := dump(func(args ...string) []byte { return must(loaded.Do(args...)) }); got != want {
		t.Errorf("state after loading the effects differs:\n%s\nredis-server:\n%s", got, want)
	}
	h.checkReplica()
	return compared
}

// sortScan puts the elements of a SCAN reply in order, by groups of n.
func sortScan(reply []byte, n int) []byte {
	parts := golden.Elements(reply)
	if len(parts) != 2 {
		return reply
	}
	return append(bytes.Clone(parts[0]), sortReply(parts[1], n)...)
}

func bytesOf(words []string) [][]byte {
	var b [][]byte
	for _, w := range words {
		b = append(b, []byte(w))
	}
	return b
}
