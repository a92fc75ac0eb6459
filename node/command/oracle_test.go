package command

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"hypercache/node/command/golden"
	"hypercache/node/command/golden/oracle"
	"hypercache/node/command/golden/random"
)

func randomString(rng *rand.Rand, alphabet string, max int) string {
	b := make([]byte, rng.IntN(max+1))
	for i := range b {
		b[i] = alphabet[rng.IntN(len(alphabet))]
	}
	return string(b)
}

// pipeline sends requests given as words.
func pipeline(t *testing.T, c *oracle.Conn, requests [][]string) [][]byte {
	t.Helper()
	all := make([][][]byte, len(requests))
	for i, r := range requests {
		all[i] = bytesOf(r)
	}
	replies, err := c.Pipeline(all)
	if err != nil {
		t.Fatal(err)
	}
	return replies
}

func TestGlobMatchesAsRedis(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(1, 2))
	const alphabet = "aabbc-[]^*?\\\x80\xff"
	requests := [][]string{{"FLUSHALL"}}
	keys := []string{""}
	for range 60 {
		keys = append(keys, randomString(rng, "aabbc-[]^*?\\\x80\xff", 6))
	}
	slices.Sort(keys)
	keys = slices.Compact(keys)
	for _, k := range keys {
		requests = append(requests, []string{"SET", k, "x"})
	}
	prefix := len(requests)
	var patterns []string
	for range 5000 {
		p := randomString(rng, alphabet, 8)
		if p == "*" {
			continue // answered without matching
		}
		patterns = append(patterns, p)
		requests = append(requests, []string{"KEYS", p})
	}
	for i, reply := range pipeline(t, redis, requests)[prefix:] {
		var want, got []string
		for _, e := range golden.Elements(reply) {
			_, body, _ := strings.Cut(string(e), "\r\n")
			want = append(want, strings.TrimSuffix(body, "\r\n"))
		}
		slices.Sort(want)
		for _, k := range keys {
			if matchGlob([]byte(patterns[i]), []byte(k)) {
				got = append(got, k)
			}
		}
		if !slices.Equal(got, want) {
			t.Fatalf("KEYS %q: got %q, redis-server says %q", patterns[i], got, want)
		}
	}
}

func TestFloatSumsAreRedisSums(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(3, 4))
	number := func() string {
		switch rng.IntN(6) {
		case 0:
			return fmt.Sprintf("%.*f", rng.IntN(18), rng.NormFloat64()*100)
		case 1:
			return fmt.Sprintf("%d.%d", rng.Int64()-rng.Int64(), rng.Uint64())
		case 2:
			return fmt.Sprintf("%ge%d", rng.Float64(), rng.IntN(60)-30)
		case 3:
			return fmt.Sprintf("%de%d", rng.Int64(), rng.IntN(10000)-5000)
		case 4:
			return randomString(rng, "0123456789.e+-", 8)
		}
		return strconv.FormatFloat(rng.NormFloat64(), 'x', -1, 64)
	}
	var requests, pairs [][]string
	for range 1500 {
		a, b := number(), number()
		pairs = append(pairs, []string{a, b})
		requests = append(requests, []string{"SET", "f", a}, []string{"INCRBYFLOAT", "f", b})
	}
	for i, reply := range pipeline(t, redis, requests) {
		if i%2 == 0 {
			continue
		}
		a, b := pairs[i/2][0], pairs[i/2][1]
		sum, errText := addLongDouble([]byte(a), []byte(b))
		got := fmt.Sprintf("$%d\r\n%s\r\n", len(sum), sum)
		if errText != "" {
			got = "-" + errText + "\r\n"
		}
		if got != string(reply) {
			t.Errorf("%q + %q: got %.200q, redis-server says %.200q", a, b, got, reply)
		}
	}
}

func TestLCSIsRedisLCS(t *testing.T) {
	redis := startRedis(t)
	rng := rand.New(rand.NewPCG(5, 6))
	h := newHarness(t, false)
	self := h.open(1, "a", "b")
	var requests [][]string
	for range 1500 {
		requests = append(requests, []string{"MSET", "a", randomString(rng, "abc", 14), "b", randomString(rng, "abc", 14)},
			[]string{"LCS", "a", "b"}, []string{"LCS", "a", "b", "LEN"},
			[]string{"LCS", "a", "b", "IDX", "WITHMATCHLEN", "MINMATCHLEN", strconv.Itoa(rng.IntN(4))})
	}
	for i, want := range pipeline(t, redis, requests) {
		if got := h.exec(self, bytesOf(requests[i])); string(got) != string(want) {
			t.Fatalf("%q after %q: got %q, redis-server says %q", requests[i], requests[max(0, i-3):i], got, want)
		}
	}
}

// TestEffectsLoadAsAppendOnlyFile starts a redis-server on a log of nothing but effects.
func TestEffectsLoadAsAppendOnlyFile(t *testing.T) {
	h := newHarness(t, false)
	h.keep = true
	self := h.open(1, "a", "b")
	rng := rand.New(rand.NewPCG(7, 8))
	for range 20000 {
		h.exec(self, random.Request(rng))
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "appendonly.aof"), h.effects, 0o600); err != nil {
		t.Fatal(err)
	}
	redis := oracle.Serve(t, dir, "--appendonly", "yes").Client(t)
	want := random.Dump(func(args ...string) []byte { return h.exec(self, bytesOf(args)) })
	got := random.Dump(func(args ...string) []byte {
		b, err := redis.Do(args...)
		if err != nil {
			t.Fatal(err)
		}
		return b
	})
	if got != want {
		t.Errorf("redis-server loaded\n%s\nwant\n%s", got, want)
	}
}
