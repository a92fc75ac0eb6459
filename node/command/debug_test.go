package command

import (
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden/random"
)

// TestDebugAgreesWithRedis compares the digests of random values, and the replies that clients test themselves with.
func TestDebugAgreesWithRedis(t *testing.T) {
	redis := startRedis(t, "--enable-debug-command", "yes")
	rng := rand.New(rand.NewPCG(11, 12))
	for round := range 20 {
		proto := 2 + round%2
		h := newHarness(t, false)
		self := h.open(1, "a", "b")
		self.proto = proto
		requests := [][][]byte{bytesOf([]string{"HELLO", strconv.Itoa(proto)}), bytesOf([]string{"FLUSHALL"})}
		for range 100 {
			if args := random.Request(rng); !expires(args) {
				requests = append(requests, args)
			}
		}
		compared := len(requests)
		for _, line := range []string{"DEBUG FOO", "DEBUG OBJECT", "DEBUG OBJECT nosuch", "DEBUG ERROR text", "DEBUG ERROR -CODE",
			"DEBUG PROTOCOL string", "DEBUG PROTOCOL integer", "DEBUG PROTOCOL double", "DEBUG PROTOCOL null", "DEBUG PROTOCOL array",
			"DEBUG PROTOCOL set", "DEBUG PROTOCOL map", "DEBUG PROTOCOL bignum", "DEBUG PROTOCOL verbatim", "DEBUG PROTOCOL true",
			"DEBUG PROTOCOL false", "DEBUG POPULATE", "DEBUG POPULATE 1 a 2 b", "DEBUG SET-ACTIVE-EXPIRE", "DEBUG SET-ACTIVE-EXPIRE 1 1",
			"DEBUG SET-ACTIVE-EXPIRE 0", "DEBUG SET-ACTIVE-EXPIRE 1", "DEBUG LOG", "DEBUG LOG a b", "DEBUG LOG text", "DEBUG JMAP",
			"DEBUG DICT-RESIZING 0", "DEBUG STRINGMATCH-LEN 3 a*", "DEBUG CLIENT-EVICTION", "DEBUG QUICKLIST-PACKED-THRESHOLD 100b", "DEBUG QUICKLIST-PACKED-THRESHOLD x"} {
			requests = append(requests, bytesOf(strings.Fields(line)))
		}
		requests = append(requests, bytesOf(append([]string{"DEBUG", "DIGEST-VALUE"}, random.Keys...)))
		replies, err := redis.Pipeline(requests)
		if err != nil {
			t.Fatal(err)
		}
		for i, args := range requests[1:] {
			got := h.exec(self, args)
			if want := replies[i+1]; i+1 >= compared && string(got) != string(want) {
				t.Errorf("RESP%d %q: got %q, redis-server says %q", proto, args, got, want)
			}
		}
		if t.Failed() {
			return
		}
	}
}

func TestDebugRefusesWithAReason(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	for name, reason := range debugRefused {
		got := string(h.exec(self, bytesOf([]string{"debug", name, "1"})))
		if want := "-ERR DEBUG " + strings.ToUpper(name) + " is not served: " + reason + "\r\n"; got != want {
			t.Errorf("%s: %q", name, got)
		}
	}
}

// TestProtocolOfTwoPartsAgreesWithRedis: an attribute comes in front of its value, a push in front of the reply.
func TestProtocolOfTwoPartsAgreesWithRedis(t *testing.T) {
	redis := startRedis(t, "--enable-debug-command", "yes")
	for _, proto := range []int{2, 3} {
		h := newHarness(t, false)
		self := h.open(1, "a", "b")
		self.proto = proto
		if _, err := redis.Do("HELLO", strconv.Itoa(proto)); err != nil {
			t.Fatal(err)
		}
		for _, kind := range []string{"attrib", "push", "nonsense"} {
			want, err := redis.Do("DEBUG", "PROTOCOL", kind)
			if err == nil && (want[0] == '|' || want[0] == '>') {
				var more []byte
				more, err = redis.ReadReply()
				want = append(want, more...)
			}
			if err != nil {
				t.Fatal(err)
			}
			if got := h.exec(self, bytesOf([]string{"DEBUG", "PROTOCOL", kind})); string(got) != string(want) {
				t.Errorf("RESP%d %s: got %q, redis-server says %q", proto, kind, got, want)
			}
		}
	}
}

// TestPopulationsAgreeWithRedis in names, in values of every size around those of their texts, and in errors.
func TestPopulationsAgreeWithRedis(t *testing.T) {
	redis := startRedis(t, "--enable-debug-command", "yes")
	for _, line := range []string{"3", "12 p", "0", "3 {x}y 0", "12 p 1", "12 p 7", "12 p 8", "12 p 9", "2 p 1000", "-1", "x", "1 p -1", "1 p x",
		"9223372036854775808"} {
		args := bytesOf(strings.Fields("DEBUG POPULATE " + line))
		if _, err := redis.Do("FLUSHALL"); err != nil {
			t.Fatal(err)
		}
		replies, err := redis.Pipeline([][][]byte{args, bytesOf([]string{"DBSIZE"})})
		if err != nil {
			t.Fatal(err)
		}
		p, problem := ParsePopulation(args, maxPopulateSize)
		if got := map[bool]string{true: "+OK\r\n", false: "-" + problem + "\r\n"}[problem == ""]; got != string(replies[0]) {
			t.Errorf("%s: %q, redis-server says %q", line, got, replies[0])
		}
		if want := ":" + strconv.Itoa(p.Count) + "\r\n"; problem == "" && string(replies[1]) != want {
			t.Errorf("%s: %q keys, redis-server has %q", line, want, replies[1])
		}
		for i := 0; problem == "" && i < p.Count; i++ {
			want, err := redis.Do("GET", string(p.Key(nil, i)))
			if err != nil {
				t.Fatal(err)
			}
			if got := p.Value([]byte("kept"), i)[4:]; string(appendBulk(nil, got)) != string(want) {
				t.Errorf("%s: key %q has %q, redis-server's %q", line, p.Key(nil, i), got, want)
			}
		}
	}
}

// TestALogMessageIsOneShortLine of the node's log, whatever the client sends.
func TestALogMessageIsOneShortLine(t *testing.T) {
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	for message, want := range map[string]string{
		"a test begins":                  "DEBUG LOG: a test begins",
		"two\r\nlines\x1b[0m\x00":        `DEBUG LOG: two\r\nlines\x1b[0m\x00`,
		strings.Repeat("x", 5000):        "DEBUG LOG: " + strings.Repeat("x", maxDebugLog) + "… (cut)",
		strings.Repeat("\x00", 1000):     "DEBUG LOG: " + strings.Repeat(`\x00`, maxDebugLog/4) + "… (cut)",
		strings.Repeat("x", maxDebugLog): "DEBUG LOG: " + strings.Repeat("x", maxDebugLog),
	} {
		h.logged = nil
		if got := string(h.exec(self, bytesOf([]string{"debug", "log", message}))); got != "+OK\r\n" || len(h.logged) != 1 || h.logged[0] != want {
			t.Errorf("%.40q: %q, logged %.80q; want %.80q", message, got, h.logged, want)
		}
	}
}
